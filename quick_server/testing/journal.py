"""What the server logs while it is fuzzed: the tracebacks, and where in the user's code they began.

Any thread writes; the fuzzer reads.
"""

from __future__ import annotations

import os
import re
import sysconfig
import threading
from collections import deque
from typing import NamedTuple

_PACKAGE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_MOST_KEPT = 1000  # tracebacks
_FRAME = re.compile(r'^ *File "(?P<file>.+?)", line (?P<line>\d+), in (?P<name>.+)$', re.MULTILINE)
_NUMBER = re.compile(r"\(error ([0-9a-f]{8})\)")
_FOREIGN = tuple(
    os.path.join(folder, "")
    for folder in (_PACKAGE, *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib", "platlib")))
)


class Trace(NamedTuple):
    """A traceback of the log."""

    title: str
    """What the log says in front of it."""
    text: str
    """The traceback, without the frames of this package if there are others."""
    place: str
    """File, line and function of the innermost frame in code that is the user's own."""
    error: str
    """The exception: its last line, `KeyError: 'n'`."""


class Journal:
    """A log file that keeps tracebacks, and nothing else."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._traces: deque[Trace] = deque(maxlen=_MOST_KEPT)

    def write(self, text: str) -> None:
        """One entry of the log."""
        if not text.startswith("[SERVER] ") or "\n  Traceback (" not in text:
            return
        trace = read_trace(text)
        with self._lock:
            self._traces.append(trace)

    def flush(self) -> None:
        """Nothing is held back."""

    def forget(self) -> None:
        """Drops what was logged up to now."""
        with self._lock:
            self._traces.clear()

    def latest(self) -> Trace | None:
        """The last traceback that was logged."""
        with self._lock:
            return self._traces[-1] if self._traces else None

    def of_page(self, page: bytes) -> Trace | None:
        """The traceback that belongs to an error page, by the number that both carry."""
        found = _NUMBER.search(page.decode("utf-8", "replace"))
        if found is None:
            return None
        with self._lock:
            return next((t for t in reversed(self._traces) if found[1] in t.title), None)


def read_trace(entry: str) -> Trace:
    """Takes an entry of the log apart: a title, and a traceback that is indented by two."""
    title, *lines = entry.rstrip("\n").split("\n")
    text = "\n".join(line.removeprefix("  ") for line in lines)
    frames = list(_FRAME.finditer(text))
    own = [frame for frame in frames if is_own(frame["file"])]
    place, error = "", ""
    if frames:
        inner = (own or frames)[-1]
        place = f"{os.path.basename(inner['file'])}:{inner['line']} in {inner['name']}"
        behind = text[frames[-1].end() :].split("\n")
        error = next((line for line in behind if line and not line.startswith(" ")), "")
    shown = _without_ours(text) if own else text
    return Trace(title.removeprefix("[SERVER] "), shown, place, error)


def _without_ours(text: str) -> str:
    kept: list[str] = []
    is_ours = False
    for line in text.split("\n"):
        frame = _FRAME.match(line)
        if frame is not None:
            is_ours = frame["file"].startswith(_PACKAGE)
        elif not line.startswith("    "):  # what is deeper belongs to the frame
            is_ours = False
        if not is_ours:
            kept.append(line)
    return "\n".join(kept)


def is_own(file: str) -> bool:
    """Whether a source file is the user's: not the package's, nor Python's, nor an installed one."""
    return not file.startswith(("<frozen", *_FOREIGN))
