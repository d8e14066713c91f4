"""What functions of origins tell their tests, and wait for: in files, as who is busy answers nobody.

They lie beside the folder that is served. This is of the standard library alone: peers have no more.
"""

from __future__ import annotations

from pathlib import Path

MOST = 20.0
"""Seconds that a function waits at most."""
PIECE = 16 * 1024
"""Bytes that a stream goes on by."""


class Notes:
    """The files of one process with functions; `folder` is where they are."""

    def __init__(self, folder: Path) -> None:
        self._calls = folder / "calls"
        self._gate = folder / "gate"

    def note(self, what: str) -> None:
        """That function is called, or goes on."""
        with self._calls.open("a") as file:
            file.write(f"{what}\n")

    def count(self, what: str) -> int:
        """How often that was noted."""
        return self._calls.read_text().splitlines().count(what) if self._calls.exists() else 0

    def open(self) -> None:
        """Whoever is held goes on."""
        self._gate.touch()

    @property
    def is_open(self) -> bool:
        return self._gate.exists()
