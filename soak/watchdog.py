"""How long the loop was blocked, and by what.

A turn of the loop lasts from the moment that its selector returns to its next call. `WatchedSelector`
stands in for the selector of a reactor and takes the time of each; nothing of the server is changed.

The machine is shared, and its noise is none of the server's faults. So a turn is judged by

    blocked = wall - (the loop's thread waited for a core)
                   - (it slept, and another thread of this process waited for a core meanwhile)
                   - (the hypervisor took the core away)

The second of these is there for locks, the interpreter's above all: whoever holds one may itself have
been put aside by the kernel. All are upper bounds (they count from a look before the turn to a look
behind it), so what is called blocked was. What remains is computing on the loop, a call that waits, or
another thread that keeps the interpreter to itself; all three are what clients feel.

A turn calls back for each descriptor that is ready. When the machine has kept a server from running for
a while, many are, and their turn is long although nothing in it does anything wrong. So it is one
callback that may not take over 50 ms. A thread looks each 10 ms which the loop is in; see `Stay`.

The interpreter may also be held while the loop is in its selector, where that cannot be told from
waiting for clients. There that thread is the probe: if neither it nor the loop got to run, the
interpreter was held, and the culprit is who computed the most meanwhile.

Two threads, as whoever asks the system for something has to wait for the interpreter again: the sampler
only looks at stacks, the accountant reads what the kernel says, and judges. Linux only
(`/proc/self/task/*/schedstat`: time on a core, and time in line for one).
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

from quick_server.reactor import Reactor

LIMIT = 0.05
"""Seconds that the loop may be blocked."""
_LOOK = 0.01  # seconds between looks
_DEPTH = 8  # frames of a stack that are told
_HISTORY = 300  # looks that are remembered: three seconds and more
_POLLS = 512


class Stall(NamedTuple):
    """The loop was blocked. Times are seconds."""

    kind: str
    """`turn`, or `interpreter` when it could not even begin one."""
    blocked: float
    wall: float
    """Of the whole turn."""
    computing: float
    """Of it, on a core."""
    noise: float
    """Of it, for what the machine is to blame."""
    culprit: str

    @property
    def is_certain(self) -> bool:
        """Whether it would be one if the noise were twice as much: that is an estimate, too."""
        return self.blocked - self.noise > LIMIT


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


class Sample(NamedTuple):
    """Where the loop was at a moment of a turn."""

    at: float
    callback: object
    """The frame of the callback that the loop is in, None between two."""
    where: str


class Stay(NamedTuple):
    """How many seconds the loop may have been in one callback, by when it was seen there."""

    least: float
    """From the first to the last time."""
    most: float
    """From when it was last seen elsewhere before to when it was next seen elsewhere."""
    where: str


class _Silence(NamedTuple):
    """The sampler was not let run, to be judged at the next look."""

    since: float
    until: float
    where: dict[int, str]
    """All threads at its end, by the system's number."""


class _Look(NamedTuple):
    """What the kernel said of all threads, by the system's number, from one moment to another."""

    begun: float
    ended: float
    threads: dict[int, _Thread]
    stolen: float
    """Seconds that the hypervisor has taken, ever."""


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
        self.worst_without_noise = 0.0
        """Without it; of those turns that took longer than `LIMIT`."""
        self.stalls: list[Stall] = []
        self._loop_thread = 0
        self._loop_number = 0  # the same by the system's count
        self._schedstat = -1  # descriptor of the loop thread's
        self._stat = os.open("/proc/stat", os.O_RDONLY | os.O_CLOEXEC)
        self._tick = os.sysconf("SC_CLK_TCK")
        self._begun: float | None = None
        self._before = _Thread(0, 0)
        self._polled_at = 0.0
        self._polls: deque[tuple[float, float]] = deque(maxlen=_POLLS)
        self._long_turns: deque[_Turn] = deque()
        self._samples: dict[int, list[Sample]] = {}  # by turn
        self._silences: deque[_Silence] = deque()
        self._looks = deque([self._look()], maxlen=_HISTORY)
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"watchdog's {work.__name__}", daemon=True)
            for work in (self.sampler, self.accountant)
        ]
        for thread in self._threads:
            thread.start()

    def watch(self, reactor: Any) -> None:
        """Stands in for the selector of a reactor that does not run yet."""
        reactor._selector = WatchedSelector(reactor._selector, self)

    def stop(self) -> None:
        """Ends the watching."""
        self._stopped.set()
        for thread in self._threads:
            thread.join()
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
                self._loop_number = threading.get_native_id()
                path = f"/proc/self/task/{self._loop_number}/schedstat"
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

    # the sampler ----------------------------------------------------------------------------------

    def sampler(self) -> None:
        """Looks where the loop is."""
        while True:
            asked = time.monotonic()
            if self._stopped.wait(_LOOK):
                return
            woken = time.monotonic()
            frames = sys._current_frames()
            if woken - asked - _LOOK > LIMIT:  # whoever held the interpreter is still there
                threads = [
                    (thread.native_id, thread.name, thread.ident) for thread in threading.enumerate()
                ]
                where = {n or 0: f"{name}: {_stack(frames.get(i or 0))}" for n, name, i in threads}
                self._silences.append(_Silence(asked + _LOOK, woken, where))
            self._look_into_turn(woken, frames.get(self._loop_thread))

    def _look_into_turn(self, now: float, frame: FrameType | None) -> None:
        begun, number = self._begun, self.turns + 1
        if not self._long_turns:
            self._samples = {number: self._samples.get(number, [])}
        if begun is not None:
            sample = Sample(now, _callback(frame), _stack(frame))
            self._samples.setdefault(number, []).append(sample)

    # the accountant -------------------------------------------------------------------------------

    def accountant(self) -> None:
        """Notes what the threads do, and judges what was long once it knows of all of it."""
        while not self._stopped.wait(_LOOK):
            look = self._look()
            self._looks.append(look)
            known_since = self._looks[0].ended
            while self._long_turns and self._long_turns[0].ended <= look.begun:
                if self._long_turns[0].begun >= known_since:
                    self._judge(self._long_turns[0])
                self._long_turns.popleft()  # now its samples may go
            while self._silences and self._silences[0].until <= look.begun:
                silence = self._silences.popleft()
                if silence.since >= known_since:
                    self._judge_silence(silence)

    def _look(self) -> _Look:
        begun = time.monotonic()
        threads = {}
        for entry in os.listdir("/proc/self/task"):
            try:
                with open(f"/proc/self/task/{entry}/schedstat", "rb") as file:
                    threads[int(entry)] = _parsed(file.read())
            except (OSError, ValueError):  # it has ended
                continue
        stolen = int(os.pread(self._stat, 200, 0).split(b"\n", 1)[0].split()[8]) / self._tick
        return _Look(begun, time.monotonic(), threads, stolen)

    def _between(self, begun: float, ended: float) -> tuple[dict[int, _Thread], float]:
        """What each thread did, and how many seconds were stolen, at most."""
        first, last = self._looks[0], self._looks[-1]
        for look in self._looks:
            if look.ended <= begun:
                first = look
            if look.begun >= ended:
                last = look
                break
        nothing = _Thread(0, 0)
        done = {}
        for number, now in last.threads.items():
            before = first.threads.get(number, nothing)
            done[number] = _Thread(now.computing - before.computing, now.queued - before.queued)
        stolen = last.stolen - first.stolen
        return done, stolen + 1 / self._tick if stolen else 0.0

    def _judge(self, turn: _Turn) -> None:
        wall = turn.ended - turn.begun
        computing = turn.after.computing - turn.before.computing
        queued = turn.after.queued - turn.before.queued
        done, stolen = self._between(turn.begun, turn.ended)
        others = sum(did.queued for number, did in done.items() if number != self._loop_number)
        noise = noise_of(wall, computing, queued, others, stolen)
        self.worst_without_noise = max(self.worst_without_noise, wall - noise)
        # That it was not seen elsewhere says little if the sampler itself was in line.
        blind = queued + others + stolen
        blocked, where = max(
            (max(stay.least - noise, stay.most - blind), stay.where)
            for stay in stays(turn.begun, turn.ended, self._samples.get(turn.number, []))
        )
        self._note(Stall("turn", blocked, wall, computing, noise, where))

    def _judge_silence(self, silence: _Silence) -> None:
        since, until = silence.since, silence.until
        polls = list(self._polls)
        if self._begun is None:
            polls.append((self._polled_at, until))
        wall = max((min(end, until) - max(begin, since) for begin, end in polls), default=0.0)
        done, stolen = self._between(since, until)
        noise = sum(did.queued for did in done.values()) + stolen
        computing, busiest = max((did.computing, number) for number, did in done.items())
        where = silence.where.get(busiest, "a thread that is not Python's")
        if computing < wall / 2:
            where = f"somebody who has ended, or waited; who computed the most is {where}"
        self._note(Stall("interpreter", wall - noise, wall, computing, noise, where))

    def _note(self, stall: Stall) -> None:
        if stall.blocked > LIMIT:
            self.stalls.append(stall)


def noise_of(wall: float, computing: float, queued: float, others: float, stolen: float) -> float:
    """Seconds of a turn for what the machine is to blame, given how long the loop and others queued."""
    asleep = max(0.0, wall - computing - queued)
    return queued + min(asleep, others) + stolen


def stays(begun: float, ended: float, samples: list[Sample]) -> list[Stay]:
    """How long the loop was in each callback of a turn that it was seen in."""
    if not samples:
        return [Stay(0.0, ended - begun, "it was over before anybody could look")]
    found = []
    first = 0
    for index, sample in enumerate(samples):
        following = samples[index + 1] if index + 1 < len(samples) else None
        if following and sample.callback is not None and following.callback is sample.callback:
            continue
        since = samples[first - 1].at if first else begun
        until = following.at if following else ended
        where = samples[(first + index) // 2].where
        found.append(Stay(sample.at - samples[first].at, until - since, where))
        first = index + 1
    return found


def _parsed(line: bytes) -> _Thread:
    computing, queued, _slices = line.split()
    return _Thread(int(computing) / 1e9, int(queued) / 1e9)


def _callback(frame: FrameType | None) -> FrameType | None:
    """The frame of what the reactor has called."""
    called = None
    while frame is not None and frame.f_code is not Reactor.turn.__code__:
        if not frame.f_code.co_qualname.startswith(("Reactor.", "Timer.")):
            called = frame
        frame = frame.f_back
    return called


def _stack(frame: FrameType | None) -> str:
    """Where a thread is, the innermost call first."""
    calls: list[str] = []
    while frame is not None and len(calls) < _DEPTH:
        code = frame.f_code
        calls.append(f"{code.co_qualname} ({os.path.basename(code.co_filename)}:{frame.f_lineno})")
        frame = frame.f_back
    return " < ".join(calls) or "nowhere"
