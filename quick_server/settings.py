"""The settings of a server, each with its default.

They may be changed at any time, from any thread; they count from the next request on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Literal

from .accesslog import SlowReport
from .limits import MIB


class Settings:
    """What callers set on a server as plain attributes."""

    def __init__(self) -> None:
        self.base_path = os.path.abspath(os.curdir)
        """Where relative folders and files are looked for."""
        self.directory_listing = False
        """Whether a folder without an index shows what is in it."""
        self.favicon_everywhere = True
        """Whether `favicon_fallback` holds for every `…/favicon.ico`, and not just for the root's."""
        self.favicon_fallback: str | None = None
        """A file that stands in for every favicon that does not exist."""
        self.follow_symlinks = False
        """Whether symbolic links may lead out of a bound folder."""
        self.max_age = 0
        """Seconds that clients may use an answer without asking again."""
        self.max_file_size = 50 * MIB
        """Bytes of one uploaded file, or of the whole of another body; over it 413."""
        self.access_log = True
        """Whether requests are logged at all; `log off` and `log on` in the console change it."""
        self.suppress_noise = False
        """Whether requests that went well (200 and 304) are kept out of the log."""
        self.report_slow_requests: bool | SlowReport | tuple[float, SlowReport] = False
        """True: log what takes over 5 s. A callable: call it with (method, path), and with the
        duration in seconds and whether the request is complete if it takes those too. A pair
        `(seconds, callable)`: the same with another patience."""
        self.compress = True
        """Whether JSON and text over 1 KiB is sent gzip-encoded to clients that accept it."""
        self.cross_origin: bool | Sequence[str] = False
        """Whether pages of other origins may read what is answered (CORS). A list of origins, such as
        `["https://app.example"]`, lets just those, and lets them send credentials."""
        self.allowed_hosts: Sequence[str] = []
        """Names besides localhost and IP addresses under which a server on loopback may be asked, and
        whose pages may send requests that change something; `["*"]` for any."""
        self.max_workers = 32
        """How many jobs are computed at the same time; more wait in line."""
        self.max_chunk_size = 10 * MIB
        """Characters of a job's result that one answer carries; a longer one is sent in pieces."""
        self.verbose_workers = False
        """Whether the log tells what becomes of each job."""
        self.heartbeat = 15.0
        """Seconds of silence after which an event stream shows that it is alive."""
        self.shutdown_timeout = 10.0
        """Seconds that requests in flight get to finish when the server ends."""
        self.shutdown_latency = 0.1
        """Seconds that closing connections, and requests on their way, get when the server ends."""
        self.no_command_loop = False
        """Whether standard input is left alone: there is no console."""
        self.console: Literal["auto", "plain"] = "auto"
        """How the console works on a terminal: with line editing where readline is there, or plain."""
        self.prompt = "> "
        """What the console shows in front of the line that is typed."""
        self.history_file = ".cmd_history"
        """Where the console keeps what was typed, relative to `base_path`; "" for nowhere."""
