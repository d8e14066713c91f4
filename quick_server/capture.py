"""Whatever the process prints, on its way to the terminal.

While a prompt is shown, the standard output and standard error of the process are the far end of a
terminal pair, so that prints of any thread, of children and of native code can be shown above the
prompt, and still believe to be in a terminal. Owns that pair and one thread.

The thread takes what is printed, whatever else happens, and hands it to the loop. Whoever prints faster
than the terminal takes it waits for that, as anywhere; but a terminal that takes nothing at all holds
nobody up for long: what is printed then is dropped, and counted. Lines of the log that the loop writes
do not take this way, as it could come to wait for itself.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable

_PIECE = 64 * 1024
_MOST_HELD = 512 * 1024  # bytes that wait for the loop
_PATIENCE = 1.0  # seconds that printing waits for room, and the end for the thread


class Capture:
    """Standard output and error of the process, from `Capture(...)` until `end`.

    `arrived` is called on the capture's thread when `take` has something to return that was not there
    before.
    """

    def __init__(self, descriptors: tuple[int, ...], arrived: Callable[[], object]) -> None:
        """Loop thread: takes over `descriptors`, which are those of one terminal. Raises OSError."""
        self._arrived = arrived
        self._lock = threading.Lock()
        self._has_room = threading.Condition(self._lock)
        self._held = bytearray()
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
        self._thread = threading.Thread(target=self._run, name="quick_server output", daemon=True)
        self._thread.start()

    # loop thread ----------------------------------------------------------------------------------

    def take(self) -> tuple[bytes, int]:
        """What was printed since the last call, and how many bytes behind it had to be dropped."""
        with self._lock:
            self._told = False
            data, dropped = bytes(self._held), self._dropped
            self._held.clear()
            self._dropped = 0
            self._has_room.notify()
            return data, dropped

    def resize(self, terminal: int) -> None:
        """Tells who asks how large the terminal is."""
        try:
            size = fcntl.ioctl(terminal, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self._near, termios.TIOCSWINSZ, size)
        except OSError:
            pass  # the terminal is gone

    def end(self) -> None:
        """Puts everything back; what was printed until now can still be taken."""
        _flush()
        for descriptor, original in zip(self._descriptors, self._originals, strict=True):
            os.dup2(original, descriptor)
            os.close(original)
        with self._lock:
            self._ending = True
            self._has_room.notify()
        os.write(self._stop_writer, b"\0")
        self._thread.join(_PATIENCE)
        for descriptor in (self._near, self._stop_reader, self._stop_writer):
            os.close(descriptor)

    # capture thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._near, select.POLLIN)
        poll.register(self._stop_reader, select.POLLIN)
        stopping = False
        while True:
            ready = dict(poll.poll(0 if stopping else None))
            stopping = stopping or self._stop_reader in ready
            if self._near in ready:
                try:
                    data = os.read(self._near, _PIECE)
                except OSError:  # nobody holds the far end any more
                    return
                self._hold(data)
            elif stopping:
                return

    def _hold(self, data: bytes) -> None:
        with self._lock:
            if not self._dropped:  # else nobody fetches: this would be so, too
                self._has_room.wait_for(self._fits, _PATIENCE)
            if self._dropped or len(self._held) >= _MOST_HELD:
                self._dropped += len(data)
            else:
                self._held += data
            told, self._told = self._told, True
        if not told:
            self._arrived()

    def _fits(self) -> bool:
        """With the lock."""
        return len(self._held) < _MOST_HELD or self._ending


def _flush() -> None:
    """What Python still holds belongs to the place that it was printed to."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass  # none, broken or closed: nothing to lose
