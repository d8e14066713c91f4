"""The event loop: timers, descriptors, calls from other threads, and how long it sleeps."""

from __future__ import annotations

import gc
import io
import os
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quick_server.reactor import READ, WRITE, Reactor
from quick_server.timers import Timer
from tests.harness import PATIENCE
from tests.unit.fakes import Clock, SleeplessSelector, turn_until

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


@pytest.fixture
def pairs() -> Iterator[Callable[[], Pair]]:
    with ExitStack() as stack:

        def make() -> Pair:
            near, far = socket.socketpair()
            return stack.enter_context(near), stack.enter_context(far)

        yield make


def turns(reactor: Reactor, count: int = 3) -> None:
    for _ in range(count):
        reactor.turn(0)


def fail() -> None:
    raise ValueError("out of order")


# ---- timers -----------------------------------------------------------------------------------


def test_timers_run_in_the_order_of_their_moments(sleepless: Reactor, clock: Clock) -> None:
    ran: list[int] = []
    for delay in (3, 1, 2):
        sleepless.call_later(delay, partial(ran.append, delay))
    clock.advance(10)
    sleepless.turn()
    assert ran == [1, 2, 3]


def test_timers_of_one_moment_run_in_the_order_they_were_made(sleepless: Reactor, clock: Clock) -> None:
    ran: list[int] = []
    when = clock.now + 1
    for number in range(20):
        sleepless.call_at(when, partial(ran.append, number))
    clock.advance(1)
    sleepless.turn()
    assert ran == list(range(20))


def test_a_timer_runs_at_its_moment_and_once(sleepless: Reactor, clock: Clock) -> None:
    ran: list[float] = []
    timer = sleepless.call_at(clock.now + 2, lambda: ran.append(sleepless.now()))
    clock.advance(1.999)
    turns(sleepless)
    assert ran == []
    assert timer.active
    clock.advance(0.001)
    turns(sleepless)
    assert ran == [clock.now]
    assert not timer.active


def test_a_timer_that_a_timer_adds_waits_for_the_next_turn(sleepless: Reactor, clock: Clock) -> None:
    ran: list[float] = []

    def again() -> None:
        ran.append(clock.now)
        sleepless.call_at(clock.now, again)

    again()
    for count in (2, 3, 4):
        sleepless.turn()
        assert len(ran) == count


def test_a_cancelled_timer_does_not_run(sleepless: Reactor, clock: Clock) -> None:
    timer = sleepless.call_later(1, fail)
    timer.cancel()
    timer.cancel()
    assert not timer.active
    clock.advance(2)
    turns(sleepless)


def test_a_timer_can_be_cancelled_by_one_that_runs_before_it(
    sleepless: Reactor, clock: Clock, log: io.StringIO
) -> None:
    def cancel() -> None:
        victim.cancel()

    sleepless.call_later(1, cancel)
    victim = sleepless.call_later(2, fail)
    clock.advance(3)
    turns(sleepless)
    assert log.getvalue() == ""


def test_a_timer_may_cancel_itself_while_it_runs(
    sleepless: Reactor, clock: Clock, log: io.StringIO
) -> None:
    def cancel() -> None:
        timer.cancel()

    timer = sleepless.call_later(1, cancel)
    clock.advance(1)
    turns(sleepless)
    assert log.getvalue() == ""


@pytest.mark.parametrize("moves", [(5,), (1,), (5, 1), (1, 5), (9, 8, 7, 6, 5), (1, 9, 5), (5, 5)])
def test_a_moved_timer_runs_at_the_last_moment_that_was_set(
    sleepless: Reactor, clock: Clock, moves: tuple[int, ...]
) -> None:
    start = clock.now
    ran: list[float] = []
    timer = sleepless.call_at(start + 3, lambda: ran.append(clock.now - start))
    for moment in moves:
        timer.move(start + moment)
    for _ in range(12):
        turns(sleepless)
        clock.advance(1)
    assert ran == [moves[-1]]


def test_moving_a_timer_that_has_run_or_was_cancelled_changes_nothing(
    sleepless: Reactor, clock: Clock
) -> None:
    ran: list[str] = []
    done = sleepless.call_later(1, lambda: ran.append("done"))
    cancelled = sleepless.call_later(1, lambda: ran.append("cancelled"))
    cancelled.cancel()
    clock.advance(1)
    turns(sleepless)
    for timer in (done, cancelled):
        timer.move(clock.now + 1)
        timer.move(clock.now - 1)
    clock.advance(5)
    turns(sleepless)
    assert ran == ["done"]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("make"), st.integers(0, 9), st.just(0)),
            st.tuples(st.just("move"), st.integers(0, 9), st.integers(0, 9)),
            st.tuples(st.just("cancel"), st.integers(0, 9), st.just(0)),
            st.tuples(st.just("wait"), st.integers(0, 3), st.just(0)),
        ),
        max_size=60,
    )
)
def test_timers_agree_with_a_plain_list(steps: list[tuple[str, int, int]]) -> None:
    """Whatever is made, moved and cancelled: what is due has run, nothing else, in order."""
    clock = Clock(0.0)
    reactor = Reactor(clock, SleeplessSelector())
    timers: list[Timer] = []
    planned: dict[int, float] = {}  # what is still to run, and when
    ran: list[int] = []
    try:
        for step, number, moment in steps:
            which = number % len(timers) if timers else -1
            if step == "make":
                index = len(timers)
                planned[index] = clock.now + number
                timers.append(reactor.call_later(number, partial(ran.append, index)))
            elif step == "wait":
                clock.advance(number)
                due = [index for index, when in planned.items() if when <= clock.now]
                for _ in range(len(timers) + 1):
                    reactor.turn()
                assert sorted(ran) == sorted(due)
                assert [planned[index] for index in ran] == sorted(planned[index] for index in due)
                for index in due:
                    del planned[index]
                ran.clear()
            elif timers and step == "move":
                timers[which].move(clock.now + moment)
                if which in planned:
                    planned[which] = clock.now + moment
            elif timers:
                timers[which].cancel()
                planned.pop(which, None)
            assert [timer.active for timer in timers] == [i in planned for i in range(len(timers))]
    finally:
        reactor.close()


def timers_in_memory() -> int:
    return sum(type(thing) is Timer for thing in gc.get_objects())


def test_a_hundred_thousand_short_lived_timers_take_no_room(sleepless: Reactor, clock: Clock) -> None:
    ran: list[str] = []
    sleepless.call_later(1, lambda: ran.append("first"))
    before = timers_in_memory()
    for _ in range(100_000):
        sleepless.call_later(60, fail).cancel()
    assert timers_in_memory() - before < 200
    sleepless.call_later(2, lambda: ran.append("last"))
    clock.advance(100)
    turns(sleepless)
    assert ran == ["first", "last"]


def test_a_hundred_thousand_timers_that_are_cancelled_together_leave_no_more(
    sleepless: Reactor, clock: Clock
) -> None:
    before = timers_in_memory()
    timers = [sleepless.call_later(60, fail) for _ in range(100_000)]
    while timers:
        timers.pop().cancel()
    assert timers_in_memory() - before < 200
    clock.advance(100)
    turns(sleepless)


def test_a_timer_that_is_moved_nearer_all_the_time_takes_no_room(
    sleepless: Reactor, clock: Clock
) -> None:
    ran: list[float] = []
    timer = sleepless.call_later(1_000_000, lambda: ran.append(clock.now))
    start, before = clock.now, sys.getrefcount(timer)
    for seconds in range(100_000, 0, -1):
        timer.move(start + seconds)
    assert sys.getrefcount(timer) - before < 200
    for _ in range(3):
        clock.advance(1)
        turns(sleepless)
    assert ran == [start + 1]


def test_a_timer_that_is_moved_away_all_the_time_takes_no_room(
    sleepless: Reactor, clock: Clock
) -> None:
    timer = sleepless.call_later(1, fail)
    before = sys.getrefcount(timer)
    for _ in range(10_000):
        clock.advance(0.5)
        timer.move(clock.now + 1)
        sleepless.turn()
    assert sys.getrefcount(timer) == before


# ---- calls from other threads -----------------------------------------------------------------


def in_thread(work: Callable[[], object]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_many_calls_wake_the_loop_up_with_one_byte(
    sleepless: Reactor, selector: SleeplessSelector
) -> None:
    ran: list[int] = []
    bytes_sent: list[int] = []

    def calls() -> None:
        for number in range(1000):
            sleepless.call_from_thread(partial(ran.append, number))

    def meanwhile() -> None:
        in_thread(calls)
        bytes_sent.append(selector.wake_up_bytes())

    selector.meanwhile = meanwhile
    sleepless.turn()
    assert bytes_sent == [1]
    assert ran == list(range(1000))
    assert selector.wake_up_bytes() == 0


def test_calls_to_a_loop_that_is_awake_send_nothing(
    sleepless: Reactor, selector: SleeplessSelector
) -> None:
    ran: list[int] = []
    in_thread(lambda: sleepless.call_from_thread(lambda: ran.append(1)))
    assert selector.wake_up_bytes() == 0
    sleepless.turn()
    assert ran == [1]
    assert selector.patience == [0.0]


def test_every_sleep_is_ended_anew(sleepless: Reactor, selector: SleeplessSelector) -> None:
    sent: list[int] = []

    def meanwhile() -> None:
        in_thread(lambda: sleepless.call_from_thread(lambda: None))
        sent.append(selector.wake_up_bytes())

    for _ in range(5):
        selector.meanwhile = meanwhile
        sleepless.turn()
    assert sent == [1] * 5


def test_calls_of_many_threads_run_once_each_and_in_the_order_of_each_thread(
    reactor: Reactor,
) -> None:
    threads, calls = 8, 1000
    ran: list[tuple[int, int]] = []
    start = threading.Barrier(threads)

    def deliver(thread: int, number: int) -> None:
        assert reactor.is_loop_thread()
        ran.append((thread, number))

    def work(thread: int) -> None:
        start.wait(PATIENCE)
        for number in range(calls):
            reactor.call_from_thread(partial(deliver, thread, number))

    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for worker in workers:
        worker.start()

    def look() -> None:
        if len(ran) >= threads * calls:
            reactor.stop()

    reactor.before_poll(look)
    reactor.run()
    for worker in workers:
        worker.join(PATIENCE)
    reactor.turn(0)
    assert len(ran) == threads * calls
    for thread in range(threads):
        assert [number for who, number in ran if who == thread] == list(range(calls))


def test_no_call_is_left_lying_while_the_loop_sleeps(reactor: Reactor) -> None:
    """Each call is made while the loop falls asleep after the one before."""
    missed: list[int] = []

    def work() -> None:
        for number in range(2000):
            arrived = threading.Event()
            reactor.call_from_thread(arrived.set)
            if not arrived.wait(PATIENCE):
                missed.append(number)
                break
        reactor.stop()

    worker = threading.Thread(target=work)
    worker.start()
    reactor.run()
    worker.join(PATIENCE)
    assert missed == []


def test_a_call_that_a_call_adds_waits_for_the_next_turn(
    sleepless: Reactor, selector: SleeplessSelector
) -> None:
    ran = 0

    def again() -> None:
        nonlocal ran
        ran += 1
        sleepless.call_soon(again)

    again()
    for count in (2, 3, 4):
        sleepless.turn()
        assert ran == count
    assert selector.patience == [0.0] * 3


def test_descriptors_get_their_turn_while_calls_add_calls(sleepless: Reactor, pair: Pair) -> None:
    near, far = pair
    got: list[bytes] = []

    def again() -> None:
        sleepless.call_soon(again)

    again()
    sleepless.register(near, READ, lambda _mask: got.append(near.recv(10)))
    far.send(b"hello")
    turn_until(sleepless, lambda: got)
    sleepless.unregister(near)
    assert got == [b"hello"]


def test_other_threads_run_between_the_turns_of_one_who_goes_on(reactor: Reactor) -> None:
    """A poll alone gives the interpreter away for too short a time for anybody to wake up."""
    asked, answers = threading.Semaphore(0), 0
    turns_left, rounds = 4000, 20

    def answering() -> None:
        nonlocal answers
        for _ in range(rounds):
            asked.acquire()
            answers += 1

    def go_on() -> None:
        nonlocal turns_left
        turns_left -= 1
        seen.add(answers)
        if len(seen) > rounds or not turns_left:
            reactor.stop()
            return
        asked.release()
        sum(range(2000))  # a share of work
        reactor.go_on(go_on)

    seen: set[int] = set()
    thread = threading.Thread(target=answering)
    thread.start()
    reactor.go_on(go_on)
    reactor.run()
    asked.release(rounds)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert len(seen) > rounds / 2, f"{len(seen)} answers were seen while they came"


# ---- descriptors ------------------------------------------------------------------------------


def test_a_ready_descriptor_is_reported_until_it_is_unregistered(
    sleepless: Reactor, pair: Pair
) -> None:
    near, far = pair
    masks: list[int] = []
    sleepless.register(near, READ, masks.append)
    sleepless.turn()
    assert masks == []
    far.send(b"x")
    turns(sleepless, 2)
    assert masks == [READ, READ]
    sleepless.unregister(near)
    turns(sleepless)
    assert masks == [READ, READ]


def test_a_registration_can_be_changed(sleepless: Reactor, pair: Pair) -> None:
    near, far = pair
    seen: list[tuple[str, int]] = []
    sleepless.register(near, READ, lambda mask: seen.append(("read", mask)))
    sleepless.modify(near, WRITE, lambda mask: seen.append(("write", mask)))
    far.send(b"x")
    sleepless.turn()
    sleepless.modify(near, READ | WRITE, lambda mask: seen.append(("both", mask)))
    sleepless.turn()
    sleepless.unregister(near)
    assert seen == [("write", WRITE), ("both", READ | WRITE)]


def test_what_an_earlier_callback_closed_is_not_called(
    sleepless: Reactor, pairs: Callable[[], Pair]
) -> None:
    """Three are ready, and whichever comes first closes the two others."""
    called: list[socket.socket] = []
    ready: list[socket.socket] = []

    def first(sock: socket.socket, _mask: int) -> None:
        called.append(sock)
        for other in ready:
            if other is not sock:
                sleepless.unregister(other)
                other.close()

    for _ in range(3):
        near, far = pairs()
        ready.append(near)
        sleepless.register(near, READ, partial(first, near))
        far.send(b"x")
    sleepless.turn()
    assert len(called) == 1
    sleepless.unregister(called[0])


def test_a_newcomer_with_the_same_descriptor_is_not_called_for_what_was_before(
    sleepless: Reactor, pairs: Callable[[], Pair]
) -> None:
    called: list[str] = []
    ready: dict[str, socket.socket] = {}
    newcomer: list[socket.socket] = []
    quiet, speaker = pairs()

    def first(name: str, _mask: int) -> None:
        called.append(name)
        if newcomer:
            return
        other = next(sock for key, sock in ready.items() if key != name)
        sleepless.unregister(other)
        number = other.detach()
        os.dup2(quiet.fileno(), number)  # closes what was there: the number now is a newcomer's
        newcomer.append(socket.socket(fileno=number))
        sleepless.register(newcomer[0], READ, lambda _mask: called.append("newcomer"))

    for name in ("a", "b"):
        near, far = pairs()
        ready[name] = near
        sleepless.register(near, READ, partial(first, name))
        far.send(b"x")
    with ExitStack() as stack:
        sleepless.turn()
        stack.enter_context(newcomer[0])
        assert len(called) == 1
        sleepless.unregister(ready[called[0]])
        speaker.send(b"x")
        sleepless.turn()
        assert called[1:] == ["newcomer"]
        sleepless.unregister(newcomer[0])


# ---- the turn ---------------------------------------------------------------------------------


def test_a_turn_goes_timers_hooks_descriptors_calls(
    sleepless: Reactor, clock: Clock, pair: Pair
) -> None:
    near, far = pair
    steps: list[str] = []
    sleepless.call_soon(lambda: steps.append("call"))
    sleepless.register(near, READ, lambda _mask: steps.append("descriptor"))
    sleepless.before_poll(lambda: steps.append("hook"))
    sleepless.call_at(clock.now, lambda: steps.append("timer"))
    far.send(b"x")
    sleepless.turn()
    sleepless.unregister(near)
    assert steps == ["timer", "hook", "descriptor", "call"]


def test_a_call_of_a_descriptors_callback_runs_in_the_same_turn(sleepless: Reactor, pair: Pair) -> None:
    near, far = pair
    ran: list[int] = []
    sleepless.register(near, READ, lambda _mask: sleepless.call_soon(lambda: ran.append(1)))
    far.send(b"x")
    sleepless.turn()
    sleepless.unregister(near)
    assert ran == [1]


def test_whatever_raises_is_logged_and_the_turn_goes_on(
    sleepless: Reactor, clock: Clock, pairs: Callable[[], Pair], log: io.StringIO
) -> None:
    ran: list[str] = []

    def broken(what: str) -> Callable[..., None]:
        def run(*_mask: int) -> None:
            raise ValueError(f"trouble with the {what}")

        return run

    socks = [pairs() for _ in range(4)]
    sleepless.call_at(clock.now, broken("timer"))
    sleepless.call_at(clock.now, lambda: ran.append("timer"))
    sleepless.before_poll(broken("hook"))
    sleepless.before_poll(lambda: ran.append("hook"))
    for near, far in socks[1:3]:
        sleepless.register(near, READ, lambda _mask: ran.append("descriptor"))
        far.send(b"x")
    for near, far in (socks[0], socks[3]):
        sleepless.register(near, READ, broken("descriptor"))
        far.send(b"x")
    sleepless.call_soon(broken("call"))
    sleepless.call_soon(lambda: ran.append("call"))
    sleepless.turn()
    for near, _far in socks:
        sleepless.unregister(near)
    assert ran == ["timer", "hook", "descriptor", "descriptor", "call"]
    text = log.getvalue()
    for what, times in (("timer", 1), ("hook", 1), ("descriptor", 2), ("call", 1)):
        assert text.count(f"ValueError: trouble with the {what}") == times
    assert text.count("Traceback") == 5


def test_what_raises_does_not_end_run(reactor: Reactor, log: io.StringIO) -> None:
    reactor.call_soon(fail)
    reactor.call_soon(lambda: reactor.call_soon(reactor.stop))
    reactor.run()
    assert log.getvalue().count("ValueError: out of order") == 1


def test_an_interrupt_does_end_run(reactor: Reactor) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    reactor.call_soon(interrupt)
    with pytest.raises(KeyboardInterrupt):
        reactor.run()
    assert not reactor.running
    reactor.call_soon(reactor.stop)
    reactor.run()


# ---- sleeping ---------------------------------------------------------------------------------


def test_an_idle_loop_sleeps_without_an_end(sleepless: Reactor, selector: SleeplessSelector) -> None:
    turns_taken = 3
    for _ in range(turns_taken):
        sleepless.turn()
    assert selector.patience == [None] * turns_taken


def test_the_loop_sleeps_exactly_until_the_next_timer(
    sleepless: Reactor, selector: SleeplessSelector, clock: Clock
) -> None:
    sleepless.call_later(5, lambda: None)
    sleepless.call_later(3, lambda: None)
    sleepless.turn()
    clock.advance(1)
    sleepless.turn()
    clock.advance(2)
    sleepless.turn()
    clock.advance(2)
    sleepless.turn()
    assert selector.patience == [3.0, 2.0, 2.0, None]


def test_an_overdue_timer_is_not_slept_for(
    sleepless: Reactor, selector: SleeplessSelector, clock: Clock
) -> None:
    ran: list[int] = []
    sleepless.before_poll(lambda: clock.advance(10))  # time passes between the timers and the sleep
    sleepless.call_later(5, lambda: ran.append(1))
    sleepless.turn()
    assert (selector.patience, ran) == ([0.0], [])
    sleepless.turn()
    assert (selector.patience, ran) == ([0.0, None], [1])


def test_the_caller_of_a_turn_may_have_less_patience(
    sleepless: Reactor, selector: SleeplessSelector
) -> None:
    sleepless.turn(7)
    sleepless.call_later(3, lambda: None)
    sleepless.turn(7)
    sleepless.turn(2)
    sleepless.call_soon(lambda: None)
    sleepless.turn(2)
    assert selector.patience == [7, 3.0, 2, 0.0]


def test_what_a_hook_calls_is_not_slept_over(sleepless: Reactor, selector: SleeplessSelector) -> None:
    ran: list[int] = []

    def hook() -> None:
        if not ran:
            sleepless.call_soon(lambda: ran.append(1))

    sleepless.before_poll(hook)
    sleepless.turn()
    sleepless.turn()
    assert ran == [1]
    assert selector.patience == [0.0, None]


def test_a_timer_that_moved_away_ends_one_sleep_at_most(
    sleepless: Reactor, selector: SleeplessSelector, clock: Clock
) -> None:
    timer = sleepless.call_later(1, lambda: None)
    timer.move(clock.now + 100)
    sleepless.turn()
    clock.advance(1)
    sleepless.turn()
    assert selector.patience[1:] == [99.0]


def test_a_cancelled_timer_ends_no_sleep(sleepless: Reactor, selector: SleeplessSelector) -> None:
    sleepless.call_later(1, fail).cancel()
    sleepless.turn()
    sleepless.call_later(5, fail)
    sleepless.call_later(2, fail).cancel()
    sleepless.turn()
    assert selector.patience == [None, 5.0]


def test_a_byte_at_the_wake_up_descriptor_wakes_the_loop(
    sleepless: Reactor, selector: SleeplessSelector
) -> None:
    os.write(sleepless.wake_descriptor, b"\2\15")
    assert selector.wake_up_bytes() == 2
    sleepless.turn()
    assert selector.wake_up_bytes() == 0


# ---- run and stop -----------------------------------------------------------------------------


def test_stop_from_another_thread_ends_the_sleep(reactor: Reactor) -> None:
    for _ in range(50):
        stopper = threading.Thread(target=reactor.stop)
        reactor.call_soon(stopper.start)
        reactor.run()
        stopper.join(PATIENCE)


def test_stop_while_the_loop_sleeps_is_a_byte(sleepless: Reactor, selector: SleeplessSelector) -> None:
    sent: list[int] = []

    def meanwhile() -> None:
        in_thread(sleepless.stop)
        sent.append(selector.wake_up_bytes())

    selector.meanwhile = meanwhile
    sleepless.run()
    assert sent == [1]
    assert selector.patience == [None]


def test_stop_before_run_ends_it_before_its_first_turn(
    sleepless: Reactor, selector: SleeplessSelector
) -> None:
    sleepless.call_soon(fail)
    sleepless.stop()
    sleepless.run()
    assert selector.patience == []


def test_a_stopped_loop_can_run_again(sleepless: Reactor) -> None:
    ran: list[int] = []
    sleepless.stop()
    sleepless.run()
    sleepless.call_soon(lambda: ran.append(1))
    sleepless.call_soon(sleepless.stop)
    sleepless.run()
    assert ran == [1]


def test_stop_within_a_turn_finishes_the_turn(sleepless: Reactor) -> None:
    ran: list[str] = []
    sleepless.call_soon(sleepless.stop)
    sleepless.call_soon(lambda: ran.append("this turn"))
    sleepless.call_soon(lambda: sleepless.call_soon(lambda: ran.append("next turn")))
    sleepless.run()
    assert ran == ["this turn"]


def test_more_wake_ups_than_the_socket_holds_are_no_trouble(
    sleepless: Reactor, selector: SleeplessSelector
) -> None:
    for _ in range(5000):
        sleepless.stop()
    assert 0 < selector.wake_up_bytes() < 5000
    sleepless.run()
    ran: list[int] = []
    sleepless.call_from_thread(lambda: ran.append(1))
    sleepless.turn()
    assert ran == [1]
    sleepless.turn()
    assert selector.wake_up_bytes() == 0


def test_the_loop_knows_its_thread(reactor: Reactor) -> None:
    seen: dict[str, object] = {}

    def inside() -> None:
        seen["inside"] = (reactor.running, reactor.is_loop_thread())
        in_thread(lambda: seen.update(outside=(reactor.running, reactor.is_loop_thread())))
        reactor.stop()

    reactor.call_soon(inside)
    assert not reactor.running
    assert not reactor.is_loop_thread()
    reactor.run()
    assert seen == {"inside": (True, True), "outside": (True, False)}
    assert not reactor.running
    assert not reactor.is_loop_thread()


def test_a_running_loop_can_neither_be_run_nor_closed(reactor: Reactor, log: io.StringIO) -> None:
    reactor.call_soon(reactor.run)
    reactor.call_soon(reactor.close)
    reactor.call_soon(reactor.stop)
    reactor.run()
    assert log.getvalue().count("AssertionError: the loop is running already") == 1
    assert log.getvalue().count("AssertionError: the loop is still running") == 1


# ---- the end ----------------------------------------------------------------------------------


class Thing:
    """Something whose end can be seen."""

    def use(self, *_anything: object) -> None:
        """What callbacks refer to."""


def test_a_closed_loop_holds_nothing(clock: Clock) -> None:
    before = os.listdir("/proc/self/fd")
    reactor = Reactor(clock)
    things = [Thing() for _ in range(3)]
    reactor.call_soon(things[0].use)
    reactor.call_later(5, things[1].use)
    reactor.before_poll(things[2].use)
    ends = [weakref.ref(thing) for thing in things]
    reactor.close()
    del things
    gc.collect()
    assert [end() for end in ends] == [None] * 3
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_threads_may_still_call_a_closed_loop(clock: Clock) -> None:
    reactor = Reactor(clock)
    reactor.close()
    in_thread(reactor.stop)
    in_thread(lambda: reactor.call_from_thread(fail))
    assert reactor.wake_descriptor == -1


def test_a_timer_may_be_cancelled_and_moved_after_the_end(clock: Clock) -> None:
    reactor = Reactor(clock)
    timers = [reactor.call_later(5, fail) for _ in range(500)]
    reactor.close()
    for timer in timers:
        timer.move(clock.now + 9)
        timer.cancel()


@pytest.mark.parametrize("ended", ["cancelled", "run"])
def test_a_timer_that_is_over_holds_nothing(sleepless: Reactor, clock: Clock, ended: str) -> None:
    thing = Thing()
    end = weakref.ref(thing)
    timer = sleepless.call_later(1, thing.use)
    del thing
    if ended == "cancelled":
        timer.cancel()
    else:
        clock.advance(1)
        sleepless.turn()
    assert end() is None
