"""Calls at moments to come: timers that are made, moved and cancelled all the time.

Loop thread. Owns the heap; what time it is, and when to look, is the loop's. A server moves its timers
with each request and nearly never lets one run out, so moving one away, or cancelling it, leaves the
old entry where it is. Stale entries are thrown away when they come up, or are the greater part.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from .log import log_exception

Callback = Callable[[], object]

_FEW = 64  # stale entries that nobody minds


class Timer:
    """A call at a moment to come. Made by `Reactor.call_at`.

    Moving the moment further away costs an assignment: the heap keeps the old entry, which puts
    itself back when it comes up. That is what most timers of a server do, with each request.
    """

    __slots__ = ("_callback", "_scheduled", "_timers", "when")

    def __init__(self, timers: Timers, when: float, callback: Callback) -> None:
        self._timers = timers
        self._callback: Callback | None = callback
        self._scheduled = when
        self.when = when

    @property
    def active(self) -> bool:
        """Whether the call is still to come."""
        return self._callback is not None

    def cancel(self) -> None:
        """The call will not happen. Harmless when it has, or was cancelled before."""
        if self._callback is not None:
            self._callback = None
            self._timers._note_stale()

    def move(self, when: float) -> None:
        """Sets another moment; a timer that has run or was cancelled stays so."""
        self.when = when
        if when < self._scheduled and self._callback is not None:
            self._scheduled = when
            self._timers._push(self)
            self._timers._note_stale()

    def stale(self, entry_when: float) -> bool:
        """Whether an entry of the heap for that moment means nothing any more."""
        return self._callback is None or entry_when != self._scheduled

    def _fire(self, entry_when: float) -> None:
        if self.when > entry_when:
            self._scheduled = self.when
            self._timers._push(self)
            return
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class Timers:
    """The timers of one loop."""

    __slots__ = ("_sequence", "_stale", "heap")

    def __init__(self) -> None:
        self.heap: list[tuple[float, int, Timer]] = []
        """The entries, the earliest first; some are stale."""
        self._sequence = 0
        self._stale = 0

    def add(self, when: float, callback: Callback) -> Timer:
        """Runs `callback` at that moment of the loop's clock."""
        timer = Timer(self, when, callback)
        self._push(timer)
        return timer

    def run(self, now: float) -> None:
        """Runs those that are due; what one of them raises is logged."""
        for _ in range(len(self.heap)):  # those that a callback adds wait for the next time
            if not self.heap or self.heap[0][0] > now:
                break
            when, _sequence, timer = heapq.heappop(self.heap)
            if timer.stale(when):
                self._stale -= 1
                continue
            try:
                timer._fire(when)
            except Exception:
                log_exception("a timer of the event loop failed")

    def settle(self, *, thorough: bool) -> bool:
        """Sees to it that no sleep ends for a timer that was cancelled; returns whether one is left.

        If `thorough`, nor for one that was moved away: a busy loop does not sleep long, and its timers
        move all the time.
        """
        heap = self.heap
        while heap:
            when, _sequence, timer = heap[0]
            if timer.stale(when):
                heapq.heappop(heap)
                self._stale -= 1
            elif thorough and timer.when > when:
                heapq.heappop(heap)
                timer._scheduled = timer.when
                self._push(timer)
            else:
                break
        return bool(heap)

    def clear(self) -> None:
        """Forgets them all."""
        self.heap.clear()

    def _push(self, timer: Timer) -> None:
        self._sequence += 1
        heapq.heappush(self.heap, (timer._scheduled, self._sequence, timer))

    def _note_stale(self) -> None:
        """Throws stale entries away once they are the greater part: clients come and go quickly."""
        self._stale += 1
        if self._stale > _FEW and self._stale > len(self.heap) // 2:
            self.heap = [entry for entry in self.heap if not entry[2].stale(entry[0])]
            heapq.heapify(self.heap)
            self._stale = 0
