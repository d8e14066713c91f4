"""Lines from a descriptor, such as standard input when it is no terminal, or a plain one.

Loop thread. Owns what was read and is not a line yet, or a line that nobody wanted so far. It never
sets the descriptor non-blocking: whoever started us shares it.

Facts: epoll refuses regular files and `/dev/null`; those are always ready, and are read in pieces, one
a turn. Reading a terminal from the background stops the process; and nobody tells a process that it was
brought to the front.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Protocol

from .reactor import READ, Reactor
from .timers import Timer

LOOK_EVERY = 0.5  # seconds between two looks whether we are in the foreground
_PIECE = 16 * 1024
_LONGEST = 64 * 1024  # bytes of a line that are kept; more characters than a command may have


class LinesOwner(Protocol):
    """What a source of lines calls, on the loop thread."""

    def line_typed(self, line: str) -> None:
        """A line arrived."""

    def input_ended(self) -> None:
        """There will be no more lines."""


class LineReader:
    """Reads lines as long as they are wanted: one after the other, and no further than needed."""

    def __init__(
        self, reactor: Reactor, descriptor: int, owner: LinesOwner, earlier: bytes = b""
    ) -> None:
        """`earlier` is what was read of the input before."""
        self._reactor = reactor
        self._descriptor = descriptor
        self._owner = owner
        self._unused = earlier
        self._too_long = False  # the rest of a line whose beginning was delivered
        self._ended = self._closed = False
        self._paused = True
        self._always_ready = False
        self._watching = False
        self._looking: Timer | None = None  # for the foreground
        self.is_terminal = os.isatty(descriptor)

    @property
    def signals(self) -> dict[int, Callable[[int], object]]:
        """The signals that matter here, and what is to be called for them on the loop."""
        return {signal.SIGCONT: lambda _number: self._watch()} if self.is_terminal else {}

    @property
    def unused(self) -> bytes:
        """What was read and not delivered."""
        return self._unused

    def pause(self) -> None:
        """No line is wanted now."""
        self._paused = True
        self._watch()

    def resume(self) -> None:
        """Lines are wanted."""
        if self._paused:
            self._paused = False
            self._reactor.call_soon(self._deliver)

    def close(self) -> None:
        """Ends it; the descriptor stays open."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        self._watch()

    def _watch(self) -> None:
        wanted = not (self._paused or self._ended or self._closed)
        if wanted and self.is_terminal and not in_foreground():
            wanted = False
            if self._looking is None or not self._looking.active:
                self._looking = self._reactor.call_later(LOOK_EVERY, self._watch)
        if self._always_ready:
            if wanted:
                self._reactor.go_on(self._read)
        elif wanted != self._watching:
            self._watching = wanted
            if not wanted:
                self._reactor.unregister(self._descriptor)
                return
            try:
                self._reactor.register(self._descriptor, READ, lambda _mask: self._read())
            except OSError:  # PermissionError: a file. Others: it is closed, as reading will show
                self._watching = False
                self._always_ready = True
                self._reactor.call_soon(self._read)

    def _read(self) -> None:
        if self._paused or self._ended or self._closed:
            return
        if self.is_terminal and not in_foreground():
            self._watch()
            return
        try:
            data = os.read(self._descriptor, _PIECE)
        except OSError:
            data = b""
        self._unused += data
        if not data:
            self._ended = True
            if self._unused:
                self._unused += b"\n"  # the last line has no end of its own
        self._deliver()

    def _deliver(self) -> None:
        """Delivers lines while they are wanted, then reads on."""
        while self._unused and not (self._paused or self._closed):
            line, newline, rest = self._unused.partition(b"\n")
            if not newline and len(line) < _LONGEST:
                break
            self._unused = rest
            was_too_long, self._too_long = self._too_long, not newline
            if not was_too_long:
                self._owner.line_typed(line.removesuffix(b"\r").decode("utf-8", "backslashreplace"))
        if self._paused or self._closed:
            return
        if self._ended and not self._unused:
            self._owner.input_ended()
        self._watch()


def in_foreground() -> bool:
    """Whether we may use the terminal that standard input is."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return True  # not the terminal that controls us: nobody would stop us
