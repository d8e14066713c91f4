"""Signals while a loop runs: each becomes a call on the loop.

Main thread only, as that is where Python runs signal handlers; a loop in another thread gets none and
leaves those of the process alone. The handler itself does nothing but queue the call.

Facts: a supervisor passes on the signals that it gets, as it may be the only one to get them. But
CTRL-C, `kill -- -group` and service managers signal all processes at once, so one event may arrive
twice, and a second signal has a meaning of its own. Consequence: the supervisor says through its
channel that it passes one on *before* it does, and `is_news` counts: events are as many as came by the
way that brought more.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from . import handover
from .reactor import Reactor

OnSignal = Callable[[int], object]
"""Called with the signal's number."""

ENDING: tuple[int, ...] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
"""What ends a server: CTRL-C, being asked to, and a terminal that goes away."""


_arrived: Counter[int] = Counter()
_known: Counter[int] = Counter()


def is_news(number: int) -> bool:
    """Whether the signal that has just arrived is not one that came by another way before.

    Main thread; to be asked once for each.
    """
    _arrived[number] += 1
    forwarded = handover.forwarded(number)
    events = max(forwarded, _arrived[number] - forwarded)
    if events <= _known[number]:
        return False
    _known[number] = events
    return True


def _ignore_echoes() -> None:
    """At exit: an interpreter that takes itself apart has no handlers, and an echo would kill it."""
    for number in ENDING:
        if _arrived[number] > handover.forwarded(number):
            signal.signal(number, signal.SIG_IGN)


if handover.supervised():
    atexit.register(_ignore_echoes)


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
        if is_news(number):
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
            _put_back(number, previous[number])
        signal.set_wakeup_fd(previous_descriptor)


def _put_back(number: int, previous: Any) -> None:
    """Sets the disposition that was before.

    With a supervisor, what ended the loop may still come by the other way: the default dispositions,
    which would not let the script clean up, are for what is news.
    """
    is_default = previous in (signal.SIG_DFL, signal.default_int_handler)
    if number not in ENDING or not is_default or not handover.supervised():
        signal.signal(number, previous)
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if not is_news(number):
            return
        if previous is signal.default_int_handler:
            signal.default_int_handler(number, frame)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(number, handle)
