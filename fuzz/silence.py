"""A log that nobody reads: thousands of requests on purpose wrong would fill it."""

from __future__ import annotations


class Silence:
    """Takes text and forgets it."""

    def write(self, text: str, /) -> None: ...

    def flush(self) -> None: ...


SILENCE = Silence()
