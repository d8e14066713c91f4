"""What the log of a server may say while clients like these are at it."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

_ACCESS = re.compile(r'([\d.]+) \[[^]]+\] [\d.]+ \w+ "(.*)" (\d{3}) \(.*\)')
_EXPECTED = re.compile(
    r"\[SERVER\] (upstream http://127\.0\.0\.1:\d+ .*: \S+ /(up|down)/\S+ HTTP/1\.1"
    r"|no command loop .*"
    r"|removing old cache file: .*"
    r'|nobody has read the result of the job "/job/\w+")'
)
_NEVER = ("500", "503")
_MOST_COMPLAINTS = 50


class Log:
    """The growing log of one server."""

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._file = path.open("rb")
        self._rest = b""
        self.lines: Counter[str] = Counter()
        """Access lines by the address of the client."""
        self.size = 0
        self.wrong: list[str] = []

    def read(self) -> None:
        """Looks at what was written since the last time."""
        data = self._file.read()
        self.size += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._judge(line.decode("utf-8", "replace"))

    def close(self) -> None:
        """Looks no more."""
        self._file.close()

    def _judge(self, line: str) -> None:
        access = _ACCESS.fullmatch(line)
        if access is not None:
            self.lines[access[1]] += 1
            if access[3] not in _NEVER:
                return
        elif _EXPECTED.fullmatch(line):
            return
        if len(self.wrong) < _MOST_COMPLAINTS:
            self.wrong.append(f"the log of {self._name}: {line[:500]}")
