"""The event loop: descriptors, timers and calls from other threads. It knows no HTTP.

Owns the selector, the timer heap and the wake-up socket. All of it lives on the thread that calls
`run` (the loop thread); only `call_from_thread`, `stop` and `is_loop_thread` may be used elsewhere.
It never blocks but in the selector, and there only while nothing is due: no timeout is ever shorter
than the next timer, so an idle server sleeps. Who has more to do than a turn may take goes on in the
next one (`go_on`), and other threads get to run in between.

One turn:

1. run the timers that are due
2. run the hooks that close a turn (`before_poll`), so that what was gathered leaves as one batch
3. wait for descriptors: not at all if calls are waiting, until the next timer otherwise
4. run the callback of each ready descriptor, if it is still registered
5. run the calls that were waiting when this step began; those they add wait for the next turn

A callback that raises is logged, and the turn goes on.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from .log import log_exception
from .timers import Callback, Timer, Timers

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

_BREATH = 20e-6
"""Seconds for other threads. Given away for no longer than a poll takes, the interpreter is back before
a thread that waits for it has woken up: it would wait for as long as there is more to do."""

ReadyCallback = Callable[[int], object]


class Reactor:
    """A single-threaded event loop over `selectors`.

    `clock` gives seconds that never go back; tests pass one of their own.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        selector: selectors.BaseSelector | None = None,
    ) -> None:
        self._clock = clock
        self._selector = selector or selectors.DefaultSelector()
        self._timers = Timers()
        self._registered: dict[int, selectors.SelectorKey] = {}
        self._calls: deque[Callback] = deque()
        self._before_poll: list[Callback] = []
        self._quiet = True  # whether the last turn found little to do
        self._going_on = False  # whether somebody in `_calls` goes on with what took a turn before
        self._polling = self._stopping = False
        self._thread: int | None = None
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self.register(self._wake_receiver, READ, self._on_wake)

    # any thread -----------------------------------------------------------------------------------

    def call_from_thread(self, callback: Callback) -> None:
        """Runs `callback` on the loop thread soon. Cost: a byte only if the loop may be asleep."""
        self._calls.append(callback)
        # The loop says that it polls *before* it looks at the queue, we look *after* appending:
        # one of the two sees the other, so no call is left lying.
        if self._polling:
            self._polling = False
            self._wake()

    def stop(self) -> None:
        """Makes `run` return after the current turn."""
        self._stopping = True
        self._wake()

    def is_loop_thread(self) -> bool:
        """Whether the caller is on the thread that runs the loop."""
        return self._thread == threading.get_ident()

    @property
    def running(self) -> bool:
        """Whether a thread is in `run`."""
        return self._thread is not None

    @property
    def wake_descriptor(self) -> int:
        """Where a byte wakes the loop up, for `signal.set_wakeup_fd`."""
        return self._wake_sender.fileno()

    def descriptors(self) -> list[int]:
        """Every descriptor that the loop has to do with, its own included."""
        own = getattr(self._selector, "fileno", self._wake_sender.fileno)()  # that of `select` has none
        return [*self._registered, self._wake_sender.fileno(), own]

    def _wake(self) -> None:
        try:
            self._wake_sender.send(b"\0")
        except OSError:
            pass  # full: a wake-up is on its way; closed: nobody to wake

    # loop thread ----------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds on the loop's clock."""
        return self._clock()

    def call_soon(self, callback: Callback) -> None:
        """Runs `callback` in step 5 of this turn, or of the next when that step has begun."""
        self._calls.append(callback)

    def go_on(self, callback: Callback) -> None:
        """Runs `callback` in the next turn, for who has had its share of this one.

        Other descriptors come first, and other threads.
        """
        self._going_on = True
        self._calls.append(callback)

    def call_at(self, when: float, callback: Callback) -> Timer:
        """Runs `callback` once `now()` has reached `when`."""
        return self._timers.add(when, callback)

    def call_later(self, delay: float, callback: Callback) -> Timer:
        """Runs `callback` in `delay` seconds."""
        return self.call_at(self._clock() + delay, callback)

    def before_poll(self, callback: Callback) -> None:
        """Runs `callback` in step 2 of every turn."""
        self._before_poll.append(callback)

    def register(self, sock: Any, events: int, callback: ReadyCallback) -> None:
        """Calls `callback(mask)` whenever `sock` is ready for one of `events`."""
        key = self._selector.register(sock, events, callback)
        self._registered[key.fd] = key

    def modify(self, sock: Any, events: int, callback: ReadyCallback) -> None:
        """Changes what a registered `sock` waits for."""
        key = self._selector.modify(sock, events, callback)
        self._registered[key.fd] = key

    def unregister(self, sock: Any) -> None:
        """Ends the registration; its callback is not called any more, even in this turn."""
        key = self._selector.unregister(sock)
        del self._registered[key.fd]

    def run(self) -> None:
        """Turns until `stop`. The calling thread is the loop thread meanwhile."""
        assert self._thread is None, "the loop is running already"
        self._thread = threading.get_ident()
        try:
            while not self._stopping:
                self.turn()
        finally:
            self._stopping = False
            self._thread = None

    def turn(self, patience: float | None = None) -> None:
        """One turn; waits for at most `patience` seconds (None: as long as nothing happens)."""
        timers = self._timers
        if timers.heap:
            timers.run(self._clock())
        for hook in self._before_poll:
            self._guard(hook)
        self._polling = True
        if self._going_on:
            self._going_on = False
            time.sleep(_BREATH)
        if self._calls or self._stopping:
            patience = 0.0
        elif timers.settle(thorough=self._quiet):
            remaining = max(0.0, timers.heap[0][0] - self._clock())
            patience = remaining if patience is None else min(patience, remaining)
        ready = self._selector.select(patience)
        self._quiet = len(ready) <= 1
        self._polling = False
        registered = self._registered
        for key, mask in ready:
            # An earlier callback of this turn may have closed this one, or its descriptor may
            # already belong to a newcomer: only the very registration that became ready is called.
            if registered.get(key.fd) is key:
                try:
                    key.data(mask)
                except Exception:
                    log_exception("a callback of the event loop failed")
        calls = self._calls
        for _ in range(len(calls)):
            self._guard(calls.popleft())

    def close(self) -> None:
        """Gives back the selector and the wake-up socket. Not while `run` runs."""
        assert self._thread is None, "the loop is still running"
        self._selector.close()
        self._wake_receiver.close()
        self._wake_sender.close()
        self._timers.clear()
        self._calls.clear()
        self._before_poll.clear()

    def _guard(self, callback: Callback) -> None:
        try:
            callback()
        except Exception:
            log_exception("a call on the event loop failed")

    def _on_wake(self, _mask: int) -> None:
        try:
            self._wake_receiver.recv(4096)
        except BlockingIOError:
            pass
