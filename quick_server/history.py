"""The lines that were typed, kept in a file.

Loading and adding block; a line is appended when it is typed, so that it is there whatever ends the
process. One line at a time: the lanes of the console see to that.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

from .log import escape, log_server

_MOST = 1000  # lines that are kept
_LARGEST = 1024 * 1024  # bytes of the file that are read


class History:
    """The history in the file `path`, which need not exist; an empty path keeps none."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._said = False

    def load(self) -> list[str]:
        """The latest lines, oldest first. A file that has become long is shortened to them."""
        if not self._path:
            return []
        try:
            with open(self._path, "rb", opener=_open) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    return []
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _LARGEST))
                text = file.read(_LARGEST).decode("utf-8", "replace")
        except (OSError, ValueError):
            return []
        found = text.replace("\0", "").splitlines()
        lines = [line for line in found if line.strip()][-_MOST:]
        if len(found) > 2 * _MOST or size > _LARGEST:
            self._shorten(lines)
        return lines

    def add(self, line: str) -> None:
        """Adds a line. A file that cannot be written is said once."""
        if not self._path:
            return
        try:
            with open(self._path, "ab", buffering=0, opener=_open) as file:
                _keep_private(file.fileno())
                file.write(line.encode("utf-8", "replace") + b"\n")
        except (OSError, ValueError) as error:
            if not self._said:
                self._said = True
                reason = error.strerror if isinstance(error, OSError) else error
                log_server(f"the history is not kept in {escape(self._path)}: {reason}")

    def _shorten(self, lines: list[str]) -> None:
        new = f"{self._path}.{os.urandom(6).hex()}"  # a name that nobody can have put a link at
        try:
            with open(new, "xb", opener=_open) as file:
                file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))
            os.replace(new, self._path)
        except (OSError, ValueError):  # it stays long
            with suppress(OSError):
                os.remove(new)


def _keep_private(descriptor: int) -> None:
    """Takes a file that was there before from other users. OSError if it is another user's."""
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) & 0o077:
        os.fchmod(descriptor, 0o600)


def _open(path: str, flags: int) -> int:
    """What is typed is nobody else's business; and a pipe that nobody reads must not be waited for."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
