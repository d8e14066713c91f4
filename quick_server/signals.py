"""Signals while a loop runs: each becomes a call on the loop.

Main thread only, as that is where Python runs signal handlers; a loop in another thread gets none and
leaves those of the process alone. The handler itself does nothing but queue the call.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from .reactor import Reactor

OnSignal = Callable[[int], object]
"""Called with the signal's number."""

ENDING: tuple[int, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""What ends a server: CTRL-C, being asked to, and a terminal that goes away."""


@contextmanager
def signals_on_loop(reactor: Reactor, callbacks: Mapping[int, OnSignal]) -> Iterator[None]:
    """While the block runs, each of these signals calls its callback on the loop.

    A signal that is ignored stays so: `nohup` asks for that with SIGHUP, and a shell with SIGINT for
    what it starts in the background. In any thread but the main thread nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: FrameType | None) -> None:
        callback = callbacks[number]
        reactor.call_from_thread(lambda: callback(number))

    previous = {number: signal.getsignal(number) for number in callbacks}
    # None: the handler is not one of Python's, and could not be put back
    ours = [number for number in callbacks if previous[number] not in (signal.SIG_IGN, None)]
    # Without it a signal that arrives just before the loop goes to sleep would wait for an event.
    previous_descriptor = signal.set_wakeup_fd(reactor.wake_descriptor, warn_on_full_buffer=False)
    try:
        for number in ours:
            signal.signal(number, handle)
        yield
    finally:
        for number in ours:
            signal.signal(number, previous[number])
        signal.set_wakeup_fd(previous_descriptor)
