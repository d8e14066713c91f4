"""Standard input while the console reads it: `input()` in a command or handler gets the next line.

The console and a function that asks something would else read the same descriptor side by side, and
each get part of what is typed. While a console is open, `sys.stdin` is an `Answers`; the thread that
reads from it waits for a line, which is then no command.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable

_LOOK_EVERY = 0.5  # seconds

Answer = Callable[[str | None], object]
"""Takes the line that was asked for; None when there are no more lines."""


class Answers(io.TextIOBase):
    """Any thread but the loop's may read lines from it. It has no descriptor."""

    def __init__(
        self, ask: Callable[[Answer], object], is_open: Callable[[], bool], *, is_terminal: bool
    ) -> None:
        """`ask(answer)` has `answer` called with the next line; it returns at once.

        Once `is_open()` is False it may not be called any more.
        """
        super().__init__()
        self._ask = ask
        self._is_open = is_open
        self._is_terminal = is_terminal

    def readable(self) -> bool:
        """It is."""
        return True

    def isatty(self) -> bool:
        """Whether somebody types the answers."""
        return self._is_terminal

    def readline(self, _size: int | None = -1, /) -> str:  # type: ignore[override] # as in typeshed: its base is one of bytes
        """Waits for the next line; it ends with a line feed. Nothing at the end of input."""
        answered = threading.Event()
        answers: list[str | None] = []

        def answer(line: str | None) -> None:
            answers.append(line)
            answered.set()

        self._ask(answer)
        while not answered.wait(_LOOK_EVERY):
            if not self._is_open():
                return ""
        line = answers[0]
        return "" if line is None else line + "\n"

    def read(self, _size: int | None = -1, /) -> str:
        """Waits for the end of input."""
        return "".join(iter(self.readline, ""))
