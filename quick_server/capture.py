"""Whatever the process prints, on its way to the terminal.

While a prompt is shown, the standard output and standard error of the process are the far end of a
terminal pair, so that what children and native code print can be shown above the prompt, and still
believes to be in a terminal. What Python prints takes a shorter way (`_Tap`), and so do the lines of
the log; thus the order of things that one thread says is kept. Owns the pair, and one thread.

The thread takes what arrives, and hands it to the loop. Whoever prints faster than the terminal takes
it waits for that, as anywhere; but a terminal that takes nothing at all holds nobody up for long, and
the loop never: what is printed then is dropped, and counted.
"""

from __future__ import annotations

import fcntl
import io
import os
import pty
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

_PIECE = 64 * 1024
_STREAMS = (("stdout", 1), ("stderr", 2))
_MOST_HELD = 512 * 1024  # bytes that wait for the loop
_AT_ONCE = 0.05  # seconds until the thread has ended, unless children are still there
_PATIENCE = 1.0  # seconds that printing waits for room, and the end for what is on its way


class Piece(NamedTuple):
    """Something that was printed."""

    data: bytes
    is_line: bool = False
    """Whether it is a line of its own, whatever row is unfinished."""


class Capture:
    """Standard output and error of the process, from `Capture(...)` until `end`.

    `arrived` is called, on any thread, when `take` has something to return that was not there before.
    `may_wait` tells whether the calling thread may be kept waiting for room.
    """

    def __init__(
        self,
        descriptors: tuple[int, ...],
        arrived: Callable[[], object],
        may_wait: Callable[[], bool] = lambda: True,
    ) -> None:
        """Loop thread: takes over `descriptors`, which are those of one terminal. Raises OSError."""
        self._arrived = arrived
        self._may_wait = may_wait
        self._has_room = threading.Condition()
        self._held: list[Piece] = []
        self._size = 0  # bytes in it
        self._dropped = 0
        self._told = False
        self._ending = False
        self._descriptors = descriptors
        self._near, far = pty.openpty()
        tty.setraw(far)  # bytes pass as they are
        self._stop_reader, self._stop_writer = os.pipe()
        _flush()
        self._originals = [os.dup(descriptor) for descriptor in descriptors]
        self.resize(self._originals[0])
        for descriptor in descriptors:
            os.dup2(far, descriptor)
        os.close(far)
        self._taps = [_Tap(name, self) for name, number in _STREAMS if number in descriptors]
        self._drained = threading.Event()
        _captures.add(self)
        self._thread = threading.Thread(target=self._run, name="quick_server output", daemon=True)
        self._thread.start()

    # any thread -----------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        """Puts a line behind what was printed so far, or above the row that is not finished yet."""
        self._put(Piece(line.encode("utf-8", "replace") + b"\n", is_line=True))

    def _put(self, piece: Piece) -> None:
        waits = self._may_wait()
        with self._has_room:
            if waits and not self._dropped:  # else nobody fetches: this would be so, too
                self._has_room.wait_for(self._fits, _PATIENCE)
            if self._dropped or self._size >= _MOST_HELD:
                self._dropped += len(piece.data)
            else:
                self._held.append(piece)
                self._size += len(piece.data)
            told, self._told = self._told, True
        if not told:
            self._arrived()

    def _fits(self) -> bool:
        """With the lock."""
        return self._size < _MOST_HELD or self._ending

    # loop thread ----------------------------------------------------------------------------------

    def take(self) -> tuple[list[Piece], int]:
        """What was printed since the last call, and how many bytes behind it had to be dropped."""
        with self._has_room:
            self._told = False
            held, self._held = self._held, []
            dropped, self._dropped, self._size = self._dropped, 0, 0
            self._has_room.notify_all()
            return held, dropped

    def resize(self, terminal: int) -> None:
        """Tells who asks how large the terminal is."""
        try:
            size = fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self._near, termios.TIOCSWINSZ, size)
        except OSError:
            pass  # the terminal is gone

    def end(self) -> None:
        """Puts everything back; what was printed until now can still be taken.

        Children that still hold the far end go on printing, straight to the terminal.
        """
        with self._has_room:
            self._ending = True
            self._has_room.notify_all()
        for tap in self._taps:
            tap.end()
        for descriptor, original in zip(self._descriptors, self._originals, strict=True):
            os.dup2(original, descriptor)
        os.write(self._stop_writer, b"\0")
        self._drained.wait(_PATIENCE)
        self._thread.join(_AT_ONCE)
        os.close(self._stop_reader)
        os.close(self._stop_writer)

    # capture thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._hand_on()
            self._drained.set()
            while data := os.read(self._near, _PIECE):  # of children that are still there
                os.write(self._originals[0], data)
        except OSError:  # nobody holds the far end any more, or the terminal is gone
            pass
        self._drained.set()
        _captures.discard(self)
        for descriptor in (self._near, *self._originals):
            os.close(descriptor)

    def _hand_on(self) -> None:
        poll = select.poll()
        poll.register(self._near, select.POLLIN)
        poll.register(self._stop_reader, select.POLLIN)
        stopping = False
        while True:
            ready = dict(poll.poll(0 if stopping else None))
            stopping = stopping or self._stop_reader in ready
            if self._near in ready:
                self._put(Piece(os.read(self._near, _PIECE)))
            elif stopping:
                return

    def leave_to_parent(self) -> None:
        """In a fork: it prints into the far end, as any child does; all else is its parent's."""
        for tap in self._taps:
            tap.let_through()
        os.close(self._near)


_captures: set[Capture] = set()


def _forget() -> None:
    while _captures:
        _captures.pop().leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


class _Tap(io.RawIOBase):
    """What `sys.stdout` or `sys.stderr` writes to while it is caught."""

    def __init__(self, name: str, capture: Capture) -> None:
        """Takes the place of that stream, unless somebody else already has."""
        super().__init__()
        self._name = name
        self._capture: Capture | None = capture
        self._before: TextIO | None = getattr(sys, name)
        if self._before is None or self._before is not getattr(sys, f"__{name}__"):
            self._before = None
            return
        self._descriptor: int = self._before.fileno()
        self._stream = io.TextIOWrapper(
            io.BufferedWriter(self),
            encoding=self._before.encoding,
            errors=self._before.errors,
            line_buffering=True,
            write_through=getattr(self._before, "write_through", False),
        )
        setattr(sys, name, self._stream)

    def end(self) -> None:
        """Gives the place back. Who has kept the stream may go on writing to it."""
        if self._before is None:
            return
        _flush()
        self.let_through()
        if getattr(sys, self._name) is self._stream:
            setattr(sys, self._name, self._before)

    def let_through(self) -> None:
        """From now on it writes to its descriptor."""
        self._capture = None

    def writable(self) -> bool:
        """It is."""
        return True

    def isatty(self) -> bool:
        """It is one."""
        return True

    def fileno(self) -> int:
        """The descriptor of the stream whose place it has."""
        return self._descriptor

    def write(self, data: Buffer, /) -> int:
        """Takes all of it."""
        taken = bytes(data)
        capture = self._capture
        if capture is None:
            return os.write(self._descriptor, taken)
        capture._put(Piece(taken))
        return len(taken)


def _flush() -> None:
    """What Python still holds belongs to the place that it was printed to."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # none, broken or closed: nothing to lose
