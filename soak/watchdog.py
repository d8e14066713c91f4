"""How long the loop was blocked, and by what.

A turn of the loop lasts from the moment that its selector returns to its next call. `WatchedSelector`
stands in for the selector of a reactor and takes the time of each; nothing of the server is changed.

The machine is shared, and its noise is none of the server's faults. So a turn is judged by

    blocked = wall - (the loop's thread waited for a core)
                   - (it slept, and another thread of this process waited for a core meanwhile)
                   - (the hypervisor took the core away)

The second term is there for locks, the interpreter's above all: whoever holds one may itself have been
put aside by the kernel. All of them are upper bounds (they count from the look before the turn to the
look behind it), so what is called blocked was. What remains is computing on the loop, a call that
waits, or another thread that keeps the interpreter to itself; all three are what clients feel.

That last one also happens while the loop is in its selector, where it cannot be told from waiting for
clients. So the watchdog's own thread, which wants to run every 10 ms, is the probe: if neither it
nor the loop got to run for that long, the interpreter was held.

The culprit of a turn is where the loop was while it lasted; that of a held interpreter is the thread
that computed the most meanwhile. Linux only (`/proc/self/task/*/schedstat`: time on a core, and time
in line for one).
"""

from __future__ import annotations

import os
import selectors
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from types import FrameType
from typing import Any, NamedTuple

LIMIT = 0.05
"""Seconds that the loop may be blocked."""
_LOOK = 0.01  # seconds between looks
_SUSPICIOUS = LIMIT / 2  # a turn of this age is looked into
_DEPTH = 8  # frames of a stack that are told
_HISTORY = 1000  # looks that are remembered: ten seconds
_POLLS = 512


class Stall(NamedTuple):
    """The loop was blocked. Times are seconds."""

    kind: str
    """`turn`, or `interpreter` when it could not even begin one."""
    blocked: float
    wall: float
    computing: float
    """Of it, on a core."""
    noise: float
    """Of it, for what the machine is to blame."""
    culprit: str


class _Thread(NamedTuple):
    """What the kernel says of a thread: seconds on a core, seconds in line for one."""

    computing: float
    queued: float


class _Turn(NamedTuple):
    """A turn that took long, to be judged at the next look."""

    number: int
    begun: float
    ended: float
    before: _Thread
    after: _Thread


class _Look(NamedTuple):
    """What was known at a moment."""

    at: float
    loop: float
    """Seconds that the loop's thread was in line, ever."""
    others: float
    """The same of all other threads together."""
    stolen: float


class WatchedSelector(selectors.BaseSelector):
    """A selector that tells a watchdog when it is asked, and when it returns."""

    def __init__(self, selector: selectors.BaseSelector, watchdog: Watchdog) -> None:
        self._selector = selector
        self._watchdog = watchdog

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._watchdog.turn_ends()
        try:
            return self._selector.select(timeout)
        finally:
            self._watchdog.turn_begins()

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._selector.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._selector.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._selector.get_map()

    def fileno(self) -> int:
        return int(self._selector.fileno())  # type: ignore[attr-defined] # the kind that Linux has

    def close(self) -> None:
        self._selector.close()
        self._watchdog.stop()


class Watchdog:
    """Takes the time of each turn of one loop."""

    def __init__(self) -> None:
        self.turns = 0
        self.worst = 0.0
        """Seconds that any turn took, the machine's noise included."""
        self.worst_blocked = 0.0
        """Without it; of those turns that took longer than `LIMIT`."""
        self.stalls: list[Stall] = []
        self._loop_thread: int | None = None
        self._schedstat = -1  # descriptor of the loop thread's
        self._stat = os.open("/proc/stat", os.O_RDONLY | os.O_CLOEXEC)
        self._tick = os.sysconf("SC_CLK_TCK")
        self._begun: float | None = None
        self._before = _Thread(0, 0)
        self._polled_at = 0.0
        self._polls: deque[tuple[float, float]] = deque(maxlen=_POLLS)
        self._long_turns: deque[_Turn] = deque()
        self._where: dict[int, str] = {}  # turn to stacks of the loop
        self._known: dict[int, _Thread] = {}
        self._queued = {True: 0.0, False: 0.0}  # whether it is the loop's thread
        self._history: deque[_Look] = deque(maxlen=_HISTORY)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def watch(self, reactor: Any) -> None:
        """Stands in for the selector of a reactor that does not run yet."""
        reactor._selector = WatchedSelector(reactor._selector, self)

    def stop(self) -> None:
        """Ends the watching."""
        self._stopped.set()
        self._thread.join()
        for descriptor in (self._schedstat, self._stat):
            if descriptor >= 0:
                os.close(descriptor)

    # loop thread ----------------------------------------------------------------------------------

    def turn_ends(self) -> None:
        """The selector is asked."""
        now = time.monotonic()
        begun, self._begun = self._begun, None
        self._polled_at = now
        if begun is None:
            if self._schedstat < 0:
                self._loop_thread = threading.get_ident()
                path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
                self._schedstat = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            return
        wall = now - begun
        self.turns += 1
        if wall > self.worst:
            self.worst = wall
        if wall > LIMIT:
            self._long_turns.append(_Turn(self.turns, begun, now, self._before, self._of_loop()))

    def turn_begins(self) -> None:
        """The selector has returned."""
        self._before = self._of_loop()
        now = time.monotonic()
        self._polls.append((self._polled_at, now))
        self._begun = now

    def _of_loop(self) -> _Thread:
        return _parsed(os.pread(self._schedstat, 100, 0))

    # the watchdog's thread ------------------------------------------------------------------------

    def _watch(self) -> None:
        own = threading.get_native_id()
        while True:
            asked = time.monotonic()
            if self._stopped.wait(_LOOK):
                return
            woken = time.monotonic()
            busiest = self._look(own)
            if woken - asked - _LOOK > LIMIT:
                self._judge_silence(asked + _LOOK, woken, busiest)
            self._look_into_turn(woken)
            while self._long_turns and self._long_turns[0].ended <= self._history[-1].at:
                self._judge(self._long_turns.popleft())

    def _look(self, own: int) -> tuple[float, str]:
        """Notes what the threads did since the last look; returns how much the busiest, and where."""
        frames = sys._current_frames()  # first of all: whoever held the interpreter is still there
        names = {thread.native_id: thread for thread in threading.enumerate()}
        known: dict[int, _Thread] = {}
        most, busiest = -1.0, "nowhere"
        for entry in os.listdir("/proc/self/task"):
            number = int(entry)
            try:
                with open(f"/proc/self/task/{entry}/schedstat", "rb") as file:
                    now = _parsed(file.read())
            except (OSError, ValueError):  # it has ended
                continue
            known[number] = now
            before = self._known.get(number, _Thread(0, 0))
            thread = names.get(number)
            is_loop = thread is not None and thread.ident == self._loop_thread
            self._queued[is_loop] += now.queued - before.queued
            if number != own and now.computing - before.computing > most:
                most = now.computing - before.computing
                where = _stack(frames.get(thread.ident or 0)) if thread is not None else "a thread of C"
                busiest = f"{thread.name if thread is not None else number}: {where}"
        self._known = known
        queued = self._queued
        self._history.append(_Look(time.monotonic(), queued[True], queued[False], self._stolen()))
        return most, busiest

    def _stolen(self) -> float:
        """Seconds that the hypervisor has taken, ever."""
        return int(os.pread(self._stat, 200, 0).split(b"\n", 1)[0].split()[8]) / self._tick

    def _noise(self, begun: float, ended: float) -> tuple[float, float, float]:
        """Seconds that the loop, and others, were in line, and that were stolen, at most."""
        first = self._history[0]
        for look in reversed(self._history):
            if look.at <= begun:
                first = look
                break
        last = next((look for look in self._history if look.at >= ended), self._history[-1])
        stolen = last.stolen - first.stolen
        return (
            last.loop - first.loop,
            last.others - first.others,
            stolen + 1 / self._tick if stolen else 0.0,
        )

    def _look_into_turn(self, now: float) -> None:
        begun, number = self._begun, self.turns + 1
        if begun is None or now - begun < _SUSPICIOUS:
            return
        where = _stack(sys._current_frames().get(self._loop_thread or 0))
        self._where.setdefault(number, where)

    def _judge(self, turn: _Turn) -> None:
        wall = turn.ended - turn.begun
        computing = turn.after.computing - turn.before.computing
        queued = turn.after.queued - turn.before.queued
        _loop, others, stolen = self._noise(turn.begun, turn.ended)
        noise = noise_of(wall, computing, queued, others, stolen)
        where = self._where.pop(turn.number, "it was over before the watchdog could look")
        self._note(Stall("turn", wall - noise, wall, computing, noise, where))
        self._where.clear()

    def _judge_silence(self, since: float, until: float, busiest: tuple[float, str]) -> None:
        """Neither the watchdog nor the loop, which was in its selector, got to run."""
        computing, where = busiest
        if computing < (until - since) / 2:
            where = f"somebody who has ended or waits, the busiest of all others is {where}"
        polls = list(self._polls)
        if self._begun is None:
            polls.append((self._polled_at, until))
        wall = max((min(end, until) - max(begin, since) for begin, end in polls), default=0.0)
        noise = sum(self._noise(since, until))
        self._note(Stall("interpreter", wall - noise, wall, computing, noise, where))

    def _note(self, stall: Stall) -> None:
        self.worst_blocked = max(self.worst_blocked, stall.blocked)
        if stall.blocked > LIMIT:
            self.stalls.append(stall)


def noise_of(wall: float, computing: float, queued: float, others: float, stolen: float) -> float:
    """Seconds of a turn for what the machine is to blame, given how long the loop and others queued."""
    asleep = max(0.0, wall - computing - queued)
    return queued + min(asleep, others) + stolen


def _parsed(line: bytes) -> _Thread:
    computing, queued, _slices = line.split()
    return _Thread(int(computing) / 1e9, int(queued) / 1e9)


def _stack(frame: FrameType | None) -> str:
    """Where a thread is, the innermost call first."""
    calls: list[str] = []
    while frame is not None and len(calls) < _DEPTH:
        code = frame.f_code
        calls.append(f"{code.co_qualname} ({os.path.basename(code.co_filename)}:{frame.f_lineno})")
        frame = frame.f_back
    return " < ".join(calls) or "nowhere"
