"""The loop and what it waits for: calls, timers, and descriptors that come, go and are told of wrongly.

The clock stands still, creeps and jumps, as coarse clocks and suspended machines have it; it never goes
back. Nothing may run early, twice, or for somebody who is gone, and all that is due must run.
"""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable
from itertools import count
from threading import Thread
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import quick_server
from fuzz.faults import FaultySelector, Wake, wakes
from fuzz.profile import examples
from quick_server.reactor import READ, WRITE, Reactor
from quick_server.timers import Timer
from tests.unit.fakes import Clock

pytestmark = pytest.mark.timeout(0)

MOST_TURNS = 300
MOST_PAIRS = 6
delays = st.sampled_from([-1.0, 0.0, 0.0, 1e-9, 0.5, 1.0, 1.0, 7.0, 1e6])
masks = st.sampled_from([READ, READ, WRITE, READ | WRITE])


class CallbackError(Exception):
    """What callbacks raise that ought not to."""


class Watched:
    """A registration and its two sockets."""

    def __init__(self, mask: int) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.mask = mask
        self.told = 0
        self.sent = 0
        self.read = 0
        self.is_over = False


class Loop(RuleBasedStateMachine):
    """A reactor and what ought to happen on it."""

    def __init__(self) -> None:
        super().__init__()
        self.log = io.StringIO()
        quick_server.set_log_file(self.log)
        self.numbers = count()
        self.raised = 0
        self.timers: dict[int, Timer] = {}
        self.due: dict[int, float] = {}
        """Those that are still to run, and when."""
        self.late: set[tuple[int, float]] = set()
        """Those that did not run in the last turn, although they were due."""
        self.called: list[int] = []
        self.wanted_calls: list[int] = []
        self.watched: list[Watched] = []
        self.to_do: list[Callable[[], object]] = []
        """For the next callback, whichever that is."""

    @initialize(wakes=wakes)
    def begin(self, wakes: list[Wake]) -> None:
        self.clock = Clock()
        self.selector = FaultySelector(wakes)
        self.reactor = Reactor(self.clock, self.selector)

    def teardown(self) -> None:
        try:
            if hasattr(self, "reactor"):
                self.finish()
        finally:
            quick_server.set_log_file(None)

    def finish(self) -> None:
        self.selector.calm()
        self.to_do.clear()
        for watched in self.watched:
            watched.mask = READ  # what is writable always would keep the loop awake
            self.reactor.modify(watched.near, READ, self.callback_of(watched))
        for _ in range(MOST_TURNS):
            self.turn_once()
            if self.selector.asleep:
                break
        else:
            raise AssertionError("the loop is busy without an end")
        assert self.called == self.wanted_calls
        assert all(when > self.clock.now for when in self.due.values())
        for watched in list(self.watched):
            assert watched.read == watched.sent
            self.drop(watched)
        self.clock.advance(1e9)
        for _ in range(MOST_TURNS):
            self.turn_once()
        assert not self.due
        assert not any(timer.active for timer in self.timers.values())
        assert len(self.selector.get_map()) == 1
        assert self.log.getvalue().count("Traceback") == self.raised
        self.reactor.close()

    def act(self) -> None:
        """What every callback does: something else, and it may fail at that."""
        to_do, self.to_do = self.to_do, []
        for action in to_do:
            action()

    # timers -----------------------------------------------------------------------------------------

    def fire(self, number: int) -> None:
        assert self.due.pop(number) <= self.clock.now, "a timer runs early"
        assert not self.timers[number].active
        self.act()

    def new_timer(self, delay: float) -> None:
        number = next(self.numbers)
        self.due[number] = self.clock.now + delay
        self.timers[number] = self.reactor.call_later(delay, lambda: self.fire(number))

    @rule(delay=delays, later=st.booleans())
    def make_timer(self, delay: float, later: bool) -> None:
        self.do(lambda: self.new_timer(delay), later=later)

    @precondition(lambda self: self.timers)
    @rule(data=st.data(), delay=delays, later=st.booleans())
    def move_timer(self, data: st.DataObject, delay: float, later: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.timers)))

        def move() -> None:
            self.timers[number].move(self.clock.now + delay)
            if number in self.due:
                self.due[number] = self.clock.now + delay

        self.do(move, later=later)

    @precondition(lambda self: self.timers)
    @rule(data=st.data(), later=st.booleans())
    def cancel_timer(self, data: st.DataObject, later: bool) -> None:
        number = data.draw(st.sampled_from(sorted(self.timers)))

        def cancel() -> None:
            self.timers[number].cancel()
            self.due.pop(number, None)

        self.do(cancel, later=later)

    @rule(seconds=st.sampled_from([0.0, 1e-9, 0.25, 0.5, 1.0, 10.0, 1e7]))
    def let_time_pass(self, seconds: float) -> None:
        self.clock.advance(seconds)

    # calls ------------------------------------------------------------------------------------------

    @rule(from_thread=st.booleans(), later=st.booleans())
    def call(self, from_thread: bool, later: bool) -> None:
        def call() -> None:
            number = next(self.numbers)
            self.wanted_calls.append(number)

            def called() -> None:
                self.called.append(number)
                self.act()

            if from_thread:
                thread = Thread(target=self.reactor.call_from_thread, args=(called,))
                thread.start()
                thread.join()
            else:
                self.reactor.call_soon(called)

        self.do(call, later=later)

    @rule()
    def fail(self) -> None:
        def fail() -> None:
            self.raised += 1
            raise CallbackError

        self.to_do.append(fail)

    # descriptors ------------------------------------------------------------------------------------

    def callback_of(self, watched: Watched) -> Callable[[int], None]:
        def ready(mask: int) -> None:
            assert not watched.is_over, "nobody is there any more"
            assert mask & watched.mask == mask != 0, "that was not waited for"
            watched.told += 1
            if mask & READ:
                try:
                    watched.read += len(watched.near.recv(100))
                except BlockingIOError:
                    pass
            self.act()

        return ready

    @precondition(lambda self: len(self.watched) < MOST_PAIRS)
    @rule(mask=masks, later=st.booleans())
    def register(self, mask: int, later: bool) -> None:
        def register() -> None:
            watched = Watched(mask)
            self.watched.append(watched)
            self.reactor.register(watched.near, mask, self.callback_of(watched))

        self.do(register, later=later)

    @precondition(lambda self: self.watched)
    @rule(data=st.data(), mask=masks, later=st.booleans())
    def modify(self, data: st.DataObject, mask: int, later: bool) -> None:
        watched = data.draw(st.sampled_from(self.watched))

        def modify() -> None:
            if not watched.is_over:
                watched.mask = mask
                self.reactor.modify(watched.near, mask, self.callback_of(watched))

        self.do(modify, later=later)

    @precondition(lambda self: self.watched)
    @rule(data=st.data(), later=st.booleans(), heir=st.booleans())
    def unregister(self, data: st.DataObject, later: bool, heir: bool) -> None:
        """Its descriptor may get a new owner at once, as numbers are used again."""
        watched = data.draw(st.sampled_from(self.watched))

        def unregister() -> None:
            if not watched.is_over:
                self.drop(watched)
                if heir:
                    new = Watched(READ)
                    self.watched.append(new)
                    self.reactor.register(new.near, READ, self.callback_of(new))

        self.do(unregister, later=later)

    def drop(self, watched: Watched) -> None:
        watched.is_over = True
        self.watched.remove(watched)
        self.reactor.unregister(watched.near)
        watched.near.close()
        watched.far.close()

    @precondition(lambda self: self.watched)
    @rule(data=st.data(), size=st.sampled_from([1, 100, 150]))
    def send(self, data: st.DataObject, size: int) -> None:
        watched = data.draw(st.sampled_from(self.watched))
        watched.sent += watched.far.send(bytes(size))

    # turns ------------------------------------------------------------------------------------------

    def do(self, action: Callable[[], object], *, later: bool) -> None:
        """Now, or in the midst of the next callback."""
        if later:
            self.to_do.append(action)
        else:
            action()

    @rule(times=st.integers(1, 5))
    def turn(self, times: int) -> None:
        for _ in range(times):
            self.turn_once()

    def turn_once(self) -> None:
        """What is due when it begins runs in it, or in the next if callbacks add to it meanwhile."""
        due = {(number, when) for number, when in self.due.items() if when <= self.clock.now}
        calls = len(self.wanted_calls)
        self.reactor.turn()
        late = due & set(self.due.items())
        assert not late & self.late, "timers that are due do not run"
        self.late = late
        assert self.called == self.wanted_calls[: len(self.called)]
        assert len(self.called) >= calls, "a call waits for longer than a turn"

    @invariant()
    def timers_know_whether_they_are_to_run(self) -> None:
        for number, timer in self.timers.items():
            assert timer.active == (number in self.due)


def test_descriptors_are_given_back() -> None:
    before = len(os.listdir("/proc/self/fd"))
    loop = Loop()
    loop.begin([])
    loop.register(READ, False)
    loop.teardown()
    assert len(os.listdir("/proc/self/fd")) == before


TestLoop: Any = Loop.TestCase
TestLoop.settings = settings(examples(0.5), stateful_step_count=40)
