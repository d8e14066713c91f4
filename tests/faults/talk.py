"""Sends bytes, hears all that comes back, and says it in few words: "400, closes"."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.harness import PATIENCE
from tests.wire.origins import Origin

SILENCE = 1.5
"""Seconds without a byte until a peer counts as one that waits; ours has all the time it may need."""
PROBE = b"GET /hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
"""Sent behind other bytes: who answers it has kept the connection, and closes it then."""
PAUSE = b""
"""Among pieces: go on once something has come back, or after a silence."""


@dataclass
class Heard:
    """What came back on one connection until its end."""

    raw: bytes
    end: str
    """`closes`, `resets`, or `waits`: nothing for a while, neither an answer nor the end."""
    statuses: list[int] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    probed: bool = False
    early: bytes = b""
    """What had come at the last pause."""

    @property
    def kept(self) -> bool:
        """Whether the probe behind the request was answered."""
        return self.probed and len(self.statuses) > 1 and self.bodies[-1] == b"hello"

    def __str__(self) -> str:
        """Statuses in order and what became of the connection."""
        statuses = self.statuses[:-1] if self.kept else self.statuses
        end = "keeps" if self.kept else self.end
        if end == "closes" and statuses and not self.announced:
            end = "closes without saying so"
        if len(statuses) > 4 and len(set(statuses)) == 1:
            return f"{len(statuses)} times {statuses[0]}, {end}"
        return ", ".join([*map(str, statuses), end] if statuses else ["no answer", end])

    @property
    def announced(self) -> bool:
        """Whether the last answer says that the connection ends."""
        said = (self.header("connection", -1) or "").lower()
        return said == "close" or (self.heads[-1].startswith(b"HTTP/1.0") and said != "keep-alive")

    def header(self, name: str, answer: int = 0) -> str | None:
        """The field of that name in that answer."""
        found = re.search(rb"(?mi)^%b:[ \t]*(.*?)\r?$" % name.encode(), self.heads[answer])
        return found[1].decode("latin-1") if found else None


class Talk:
    """`talk(b"…")` sends bytes on a connection of their own; what was heard is kept."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.heard: list[Heard] = []
        self.uncounted = False
        """Whether others have sent something meanwhile, so that nobody knows how many lines are due."""

    @property
    def finals(self) -> int:
        """Answers and connections without one: what a log may have a line for."""
        return sum(max(1, sum(s >= 200 for s in heard.statuses)) for heard in self.heard)

    def __call__(
        self,
        *pieces: bytes,
        probe: bool = False,
        half_close: bool = False,
        heads_only: Iterable[int] = (),
    ) -> Heard:
        """Sends the pieces and reads until the connection ends, or until nothing more comes.

        `probe`: asks for `/hello` behind them. `half_close`: says then that no more will come.
        `heads_only`: which answers (0 is the first) are to HEAD requests.
        """
        with socket.create_connection(self.origin.address) as sock:
            sock.settimeout(PATIENCE if self.origin.name == "quick_server" else SILENCE)
            end, early = "closes", b""
            try:
                for piece in [*pieces, PROBE] if probe else pieces:
                    if piece is PAUSE:
                        early += sock.recv(65536)
                    sock.sendall(piece)
                if half_close:
                    sock.shutdown(socket.SHUT_WR)
            except (BrokenPipeError, ConnectionResetError):
                end = "resets"  # what was said before may still be there to be read
            except TimeoutError:
                pass
            raw, end = _read(sock, end)
        heard = Heard(early + raw, end, probed=probe, early=early)
        _parse(heard, set(heads_only))
        self.heard.append(heard)
        return heard


def _read(sock: socket.socket, end: str) -> tuple[bytes, str]:
    raw = bytearray()
    try:
        while data := sock.recv(65536):
            raw += data
    except TimeoutError:
        return bytes(raw), "waits"
    except ConnectionResetError:
        return bytes(raw), "resets"
    return bytes(raw), end


def _parse(heard: Heard, heads_only: set[int]) -> None:
    rest = heard.raw
    while match := re.match(rb"HTTP/1\.[01] (\d{3})[^\n]*\n(?:[^\r\n]+\r?\n)*\r?\n", rest):
        status, head, rest = int(match[1]), match[0], rest[match.end() :]
        number = sum(status >= 200 for status in heard.statuses)
        heard.statuses.append(status)
        heard.heads.append(head)
        if status < 200 or status in (204, 304) or number in heads_only:
            heard.bodies.append(b"")
            continue
        body, rest = _body(head, rest)
        heard.bodies.append(body)


def _body(head: bytes, rest: bytes) -> tuple[bytes, bytes]:
    if found := re.search(rb"(?mi)^content-length:[ \t]*(\d+)", head):
        length = int(found[1])
        return rest[:length], rest[length:]
    if not re.search(rb"(?mi)^transfer-encoding:[ \t]*chunked", head):
        return rest, b""
    body = b""
    while match := re.match(rb"([0-9a-fA-F]+)[^\n]*\n", rest):
        size, rest = int(match[1], 16), rest[match.end() :]
        if not size:
            return body, rest.partition(b"\r\n")[2]
        body, rest = body + rest[:size], rest[size + 2 :]
    return body, rest
