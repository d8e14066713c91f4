"""The lines that were typed, kept in a file.

Loading and adding block; a line is appended when it is typed, so that it is there whatever ends the
process. One line at a time: the lanes of the console see to that.
"""

from __future__ import annotations

import os

from .log import log_server

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
            with open(self._path, "rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _LARGEST))
                found = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []
        lines = [line for line in found if line.strip()][-_MOST:]
        if len(found) > 2 * _MOST or size > _LARGEST:
            self._shorten(lines)
        return lines

    def add(self, line: str) -> None:
        """Adds a line. A file that cannot be written is said once."""
        if not self._path:
            return
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            descriptor = os.open(self._path, flags, 0o600)  # what is typed is nobody else's business
            try:
                os.write(descriptor, line.encode("utf-8", "replace") + b"\n")
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._said:
                self._said = True
                log_server(f"the history is not kept in {self._path}: {error.strerror}")

    def _shorten(self, lines: list[str]) -> None:
        new = f"{self._path}.{os.getpid()}"
        shortened = History(new)
        shortened.add("\n".join(lines))
        try:
            os.replace(new, self._path)
        except OSError:
            pass  # it stays long
