"""A log that a test can wait for: lines may be written after the answer is there."""

from __future__ import annotations

import io
import re
import threading

from tests.harness import PATIENCE


class Log(io.StringIO):
    """What `set_log_file` gets in the integration tests."""

    def __init__(self) -> None:
        super().__init__()
        self._written = threading.Condition()

    def write(self, text: str) -> int:
        with self._written:
            size = super().write(text)
            self._written.notify_all()
        return size

    @property
    def text(self) -> str:
        with self._written:
            return self.getvalue()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match of the pattern, as soon as it is written."""
        with self._written:
            self._written.wait_for(lambda: re.search(pattern, self.getvalue()), PATIENCE)
            found = re.search(pattern, self.getvalue())
        assert found, f"no {pattern!r} in the log:\n{self.getvalue()}"
        return found
