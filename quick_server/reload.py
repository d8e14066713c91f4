"""Source files that change: of a run that serves, and of one that has failed.

`Watch` compares files with how they were, whenever it is asked, on the thread that asks. `Watcher` is
the daemon thread that asks in a run. It reads the status of each file twice a second, and their content
only when that is another: what was saved unchanged does not count, and a save in several steps counts
once.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import NamedTuple

from .log import escape, log_exception, log_server

_EVERY = 0.5  # seconds between looks
_SOON = 0.1  # when something is about to change: an editor may not be done yet
_SHARE = 0.05  # of a processor, at most
_SHOWN = 3

_FOREIGN = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class _Status(NamedTuple):
    """What changes when a file does."""

    inode: int
    size: int
    modified: int


_NEVER: tuple[_Status | None, int] = (None, -2)  # no file's status and checksum


class Watch:
    """Files, and what was in them when they were first seen.

    `files` tells which, at each look. With `since` (in nanoseconds, as files have it) one that was
    written later has changed when it is first seen, and so has one that is not there at the first look.
    """

    def __init__(self, files: Callable[[], Iterable[str]], since: int | None = None) -> None:
        self._files = files
        self._since = since
        self._known: dict[str, tuple[_Status | None, int]] = {}
        self._doubtful: dict[str, _Status | None] = {}
        self._first = True
        self._begun = time.time_ns()

    @property
    def in_doubt(self) -> bool:
        """Whether something has another status than before, and may have changed."""
        return bool(self._doubtful)

    @property
    def patience(self) -> float:
        """Seconds until the next look is due."""
        return _SOON if self._doubtful else _EVERY

    def look(self) -> list[str]:
        """The files that have changed, once all that change have come to rest; else none."""
        before, self._doubtful = self._doubtful, {}
        for path in {*self._files(), *before}:
            status = _status(path)
            if path not in self._known:
                self._note(path, status)
            if self._known[path][0] != status:
                self._doubtful[path] = status
        self._first = False
        if not self._doubtful or self._doubtful != before:
            return []
        changed = []
        for path, status in self._doubtful.items():
            content = _checksum(path)
            if content != self._known[path][1]:
                changed.append(path)
            self._known[path] = status, content
        self._doubtful = {}
        return sorted(changed)

    def expect(self, path: str, modified: int, size: int) -> None:
        """Notes a file that was read when it had that time (in whole seconds) and size.

        If that is not so any more, and it was written since we are here, it has changed.
        """
        status = _status(path)
        is_same = status and (status.modified // 10**9 & 0xFFFFFFFF, status.size) == (modified, size)
        if status is None or is_same or status.modified < self._begun:
            self._known[path] = status, _checksum(path)
        else:
            self._known[path] = _NEVER

    def knows(self, path: str) -> bool:
        """Whether that file has been seen."""
        return path in self._known

    def _note(self, path: str, status: _Status | None) -> None:
        if self._since is not None and status and (not self._first or status.modified > self._since):
            self._known[path] = _NEVER
        else:
            self._known[path] = status, _checksum(path)


class Watcher:
    """Calls `on_change` in a thread of its own when a source file of this process has changed."""

    def __init__(self, on_change: Callable[[], object]) -> None:
        self._on_change = on_change
        self._watch = Watch(self.files)
        self._thread: threading.Thread | None = None
        self._watch.look()  # the script has been read just now

    def files(self) -> list[str]:
        """The source files of what is loaded, and of what could not be."""
        return sorted({*map(str, source_files()), *_failed()})

    def start(self) -> None:
        """Watches from now on; harmless when it does."""
        if self._thread is None:
            self._look()
            self._thread = threading.Thread(target=self._run, name="quick_server reload", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            begun = time.monotonic()
            try:
                changed = self._look()
            except Exception:
                log_exception("source files are not watched any more")
                return
            if changed:
                log_server(f"{shown(changed)} changed: restarting")
                self._on_change()
                return
            took = time.monotonic() - begun
            time.sleep(max(self._watch.patience, took / _SHARE))

    def _look(self) -> list[str]:
        """New modules are first seen as they were when they were compiled, if that can be told."""
        for module in list(sys.modules.values()):
            path = _source_of(module)
            if path is None or self._watch.knows(path):
                continue
            compiled = _compiled_from(module)
            if compiled is not None:
                self._watch.expect(path, *compiled)
        return self._watch.look()


def source_files() -> Iterator[str]:
    """The source files of all modules that are neither the standard library's nor installed."""
    for module in list(sys.modules.values()):
        path = _source_of(module)
        if path is not None:
            yield path


def beside(script: str) -> list[str]:
    """A script, and the Python files in its folder."""
    folder = os.path.dirname(os.path.abspath(script))
    try:
        names = os.listdir(folder)
    except OSError:
        names = []
    return [script, *(os.path.join(folder, name) for name in names if name.endswith(".py"))]


def shown(paths: list[str]) -> str:
    """Paths for people."""
    names = [escape(os.path.relpath(path)) for path in paths[:_SHOWN]]
    more = len(paths) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _attributes(module: ModuleType) -> dict[str, object]:
    """A module's own names; a lazy one is not loaded for it."""
    try:
        found: dict[str, object] = object.__getattribute__(module, "__dict__")
    except AttributeError:
        return {}
    return found


def _source_of(module: ModuleType) -> str | None:
    """The path of its source, if it is a module of the user's."""
    path = _attributes(module).get("__file__")
    if not isinstance(path, str) or not path.endswith((".py", ".pyw")):
        is_script = module is sys.modules.get("__main__") and isinstance(path, str)
        return os.path.abspath(str(path)) if is_script else None
    path = os.path.abspath(path)
    if path.startswith(_STANDARD) or any(part in path for part in _FOREIGN):
        return None
    return path


_STANDARD = os.path.dirname(os.path.abspath(os.__file__)) + os.sep


def _compiled_from(module: ModuleType) -> tuple[int, int] | None:
    """The time and size of its source when it was compiled (PEP 552)."""
    cached = _attributes(module).get("__cached__")
    try:
        with open(str(cached), "rb") as file:
            head = file.read(16)
    except OSError:
        return None
    if len(head) < 16 or head[4:8] != b"\0\0\0\0":
        return None
    return int.from_bytes(head[8:12], "little"), int.from_bytes(head[12:16], "little")


def _failed() -> Iterator[str]:
    """The files in which what was not caught has happened."""
    failure = getattr(sys, "last_value", None)
    if isinstance(failure, SyntaxError) and failure.filename:
        yield os.path.abspath(failure.filename)
    trace = getattr(sys, "last_traceback", None)
    while trace is not None:
        path = os.path.abspath(trace.tb_frame.f_code.co_filename)
        if os.path.isfile(path) and not path.startswith(_STANDARD):
            yield path
        trace = trace.tb_next


def _status(path: str) -> _Status | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return _Status(found.st_ino, found.st_size, found.st_mtime_ns)


def _checksum(path: str) -> int:
    try:
        with open(path, "rb") as file:
            return zlib.crc32(file.read())
    except (OSError, ValueError):
        return -1
