"""The thread pool: bounds, batches, order, and how it ends."""

from __future__ import annotations

import io
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from quick_server.pool import Errand, Job, Pool, PoolFullError, SerialLane
from quick_server.reactor import Reactor
from tests.harness import PATIENCE
from tests.unit.fakes import Clock, SleeplessSelector, turn_until

MakePool = Callable[..., Pool]


@dataclass(eq=False)
class Work(Job):
    """A job whose function returns the outcome; `taken` gets what was delivered."""

    function: Callable[[], object]
    taken: list[object]
    thread: int | None = None
    """Where `deliver` was called."""
    drops: int = 0
    """How often it was told that nobody runs it."""

    def run(self) -> object:
        return self.function()

    def dropped(self) -> None:
        self.drops += 1

    def deliver(self, outcome: object) -> None:
        self.thread = threading.get_ident()
        self.taken.append(outcome)


def giving(value: object) -> Callable[[], object]:
    """A function with that outcome."""
    return lambda: value


@dataclass
class Gate:
    """A function that tells when it has begun, and ends when it is let."""

    name: str = "gate"
    begun: threading.Event = field(default_factory=threading.Event)
    open: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> str:
        self.begun.set()
        assert self.open.wait(PATIENCE)
        return self.name

    def wait_begun(self) -> None:
        assert self.begun.wait(PATIENCE)


@dataclass
class Factory:
    """Makes threads, and remembers them and how it was called."""

    kind: type[threading.Thread] = threading.Thread
    threads: list[threading.Thread] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, **arguments: Any) -> threading.Thread:
        self.calls.append(arguments)
        thread = self.kind(**arguments)
        self.threads.append(thread)
        return thread


class CountingReactor(Reactor):
    """Counts how often another thread asks for the loop."""

    asked = 0

    def call_from_thread(self, callback: Callable[[], object]) -> None:
        self.asked += 1
        super().call_from_thread(callback)


@pytest.fixture
def reactor(clock: Clock) -> Iterator[CountingReactor]:
    reactor = CountingReactor(clock)
    yield reactor
    reactor.close()


@pytest.fixture
def make_pool(reactor: CountingReactor) -> Iterator[MakePool]:
    """`make_pool(threads=…, capacity=…, thread_factory=…)`; the pool ends with the test."""
    pools: list[Pool] = []

    def make(threads: int = 1, capacity: int = 1000, thread_factory: Factory | None = None) -> Pool:
        pools.append(Pool(reactor, threads, capacity, thread_factory))
        return pools[-1]

    yield make
    for pool in pools:
        assert pool.close(PATIENCE), "a thread of the pool did not end"


@pytest.fixture
def taken() -> list[object]:
    return []


# ---- threads ----------------------------------------------------------------------------------


def test_threads_are_started_when_there_is_work(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    factory = Factory()
    pool = make_pool(threads=4, thread_factory=factory)
    reactor.turn(0)
    assert factory.threads == []
    pool.submit(Work(giving(1), taken))
    assert factory.threads == []  # the batch leaves at the end of the turn
    turn_until(reactor, lambda: taken)
    assert len(factory.threads) == 1
    assert taken == [1]


def test_no_more_threads_than_were_asked_for(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    factory = Factory()
    pool = make_pool(threads=3, thread_factory=factory)
    gates = [Gate(str(number)) for number in range(8)]
    for gate in gates:
        pool.submit(Work(gate, taken))
    reactor.turn(0)
    for gate in gates[:3]:
        gate.wait_begun()  # three at a time, for none of them ends yet
    assert pool.waiting == 5
    assert not any(gate.begun.is_set() for gate in gates[3:])
    for gate in gates:
        gate.open.set()
    turn_until(reactor, lambda: len(taken) == 8)
    assert len(factory.threads) == 3


def test_a_pool_needs_a_thread(reactor: Reactor) -> None:
    with pytest.raises(ValueError, match="at least one thread, not 0"):
        Pool(reactor, 0, 10)


def test_the_factory_is_called_like_thread(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    factory = Factory()
    pool = make_pool(threads=1, thread_factory=factory)
    pool.submit(Work(threading.current_thread, taken))
    turn_until(reactor, lambda: taken)
    assert [sorted(call) for call in factory.calls] == [["args", "target"]]
    assert taken == factory.threads
    assert factory.threads[0].daemon
    assert factory.threads[0].name == "quick_server pool 1"


def test_the_pool_knows_its_threads(reactor: Reactor, make_pool: MakePool, taken: list[object]) -> None:
    pool = make_pool()
    pool.submit(Work(pool.is_pool_thread, taken))
    turn_until(reactor, lambda: taken)
    assert taken == [True]
    assert not pool.is_pool_thread()


class Unstartable(threading.Thread):
    """A thread for which the system has no room."""

    def start(self) -> None:
        raise RuntimeError("can't start new thread")


def test_a_pool_without_any_thread_tries_until_it_has_one(
    reactor: Reactor, clock: Clock, make_pool: MakePool, taken: list[object], log: io.StringIO
) -> None:
    factory = Factory(Unstartable)
    pool = make_pool(threads=2, thread_factory=factory)
    pool.submit(Work(giving(1), taken))
    for _ in range(5):
        reactor.turn(0)
        clock.advance(1)
    assert taken == []
    factory.kind = threading.Thread
    turn_until(reactor, lambda: taken)
    assert taken == [1]
    assert log.getvalue().count("cannot start another thread") == 1


def test_the_tries_do_not_multiply_with_what_waits(
    reactor: Reactor, clock: Clock, make_pool: MakePool, taken: list[object], log: io.StringIO
) -> None:
    factory = Factory(Unstartable)
    pool = make_pool(threads=2, thread_factory=factory)
    for number in range(50):
        pool.submit(Work(giving(number), taken))
        reactor.turn(0)
    reactor.turn(0)
    factory.threads.clear()
    clock.advance(1)
    for _ in range(3):
        reactor.turn(0)
    assert len(factory.threads) <= 2


def test_a_thread_that_cannot_be_started_costs_no_job(
    reactor: Reactor,
    make_pool: MakePool,
    taken: list[object],
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does it end the thread that asked for it: that one does all the work."""
    died: list[str] = []

    def on_death(arguments: threading.ExceptHookArgs) -> None:
        died.append(repr(arguments.exc_value))
        reactor.call_from_thread(lambda: None)

    monkeypatch.setattr(threading, "excepthook", on_death)
    factory = Factory()
    pool = make_pool(threads=4, thread_factory=factory)
    gate = Gate()
    pool.submit(Work(gate, taken))
    reactor.turn(0)
    gate.wait_begun()
    factory.kind = Unstartable
    for number in range(3):
        pool.submit(Work(giving(number), taken))
    reactor.turn(0)
    gate.open.set()
    turn_until(reactor, lambda: len(taken) == 4 or died)
    assert died == []
    assert taken == ["gate", 0, 1, 2]


# ---- batches and order ------------------------------------------------------------------------


def test_many_outcomes_come_under_one_wake_up(
    reactor: CountingReactor, make_pool: MakePool, taken: list[object]
) -> None:
    pool = make_pool(threads=1)
    first, last = Gate("first"), Gate("last")
    pool.submit(Work(first, taken))
    for number in range(100):
        pool.submit(Work(giving(number), taken))
    pool.submit(Work(last, taken))
    reactor.turn(0)
    first.open.set()
    last.wait_begun()  # the outcomes of all that came before it are there
    assert reactor.asked == 1
    assert taken == []
    reactor.turn(0)
    assert taken == ["first", *range(100)]
    last.open.set()
    turn_until(reactor, lambda: len(taken) == 102)
    assert reactor.asked == 2


def test_jobs_are_taken_and_delivered_in_order(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    pool = make_pool(threads=1)
    ran: list[int] = []

    def run(number: int) -> int:
        ran.append(number)
        return number

    for number in range(50):
        pool.submit(Work(partial(run, number), taken))
        if number % 10 == 9:
            reactor.turn(0)
    turn_until(reactor, lambda: len(taken) == 50)
    assert ran == list(range(50))
    assert taken == list(range(50))


def test_outcomes_are_delivered_on_the_loop_thread(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    pool = make_pool()
    work = Work(threading.get_ident, taken)
    pool.submit(work)
    turn_until(reactor, lambda: taken)
    assert work.thread == threading.get_ident()
    assert taken != [threading.get_ident()]


def test_a_job_that_holds_its_thread_keeps_none_waiting(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    pool = make_pool(threads=2)
    stuck = Gate("stuck")
    pool.submit(Work(stuck, taken))
    for number in range(10):
        pool.submit(Work(giving(number), taken))
    turn_until(reactor, lambda: len(taken) == 10)
    assert taken == list(range(10))
    stuck.open.set()
    turn_until(reactor, lambda: len(taken) == 11)


def test_threads_that_sleep_are_woken_for_the_whole_batch(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    """Each round all threads must come, or its barrier never falls."""
    threads = 4
    pool = make_pool(threads=threads)
    for _ in range(200):
        together = threading.Barrier(threads)
        for _ in range(threads):
            pool.submit(Work(partial(together.wait, PATIENCE), taken))
        turn_until(reactor, lambda: len(taken) == threads)
        taken.clear()


def test_jobs_that_an_outcome_submits_are_run(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    pool = make_pool(threads=1)

    class Chain(Work):
        def deliver(self, outcome: object) -> None:
            super().deliver(outcome)
            if len(taken) < 20:
                pool.submit(Chain(lambda: len(taken), taken))

    pool.submit(Chain(lambda: 0, taken))
    turn_until(reactor, lambda: len(taken) == 20)
    assert taken == list(range(20))


def test_an_idle_pool_does_not_wake_the_loop(
    sleepless: Reactor, selector: SleeplessSelector, taken: list[object]
) -> None:
    pool = Pool(sleepless, 2, 10)
    pool.submit(Work(giving(1), taken))
    turn_until(sleepless, lambda: taken)
    selector.patience.clear()
    for _ in range(3):
        sleepless.turn()
    assert pool.close(PATIENCE)
    assert selector.patience == [None] * 3


def test_a_sleeping_thread_keeps_nothing_alive(reactor: Reactor, make_pool: MakePool) -> None:
    class Thing:
        """An outcome whose end can be seen."""

    pool = make_pool(threads=1)
    taken: list[object] = []
    work = Work(Thing, taken)
    pool.submit(work)
    turn_until(reactor, lambda: taken)
    ends = weakref.ref(work), weakref.ref(taken[0])
    del work
    taken.clear()
    deadline = time.monotonic() + PATIENCE
    while any(end() is not None for end in ends):  # until the thread has fallen asleep
        assert time.monotonic() < deadline, "the pool still holds what it has delivered"


# ---- bounds -----------------------------------------------------------------------------------


def test_a_full_pool_says_so(reactor: Reactor, make_pool: MakePool, taken: list[object]) -> None:
    pool = make_pool(threads=1, capacity=2)
    gate = Gate()
    pool.submit(Work(gate, taken))
    reactor.turn(0)
    gate.wait_begun()
    pool.submit(Work(giving(1), taken))  # what runs does not wait, so it is not counted
    pool.submit(Work(giving(2), taken))
    with pytest.raises(PoolFullError):
        pool.submit(Work(giving(3), taken))
    reactor.turn(0)
    with pytest.raises(PoolFullError):  # in the queue they count as in the batch
        pool.submit(Work(giving(4), taken))
    assert pool.waiting == 2
    gate.open.set()
    turn_until(reactor, lambda: len(taken) == 3)
    pool.submit(Work(giving(5), taken))
    turn_until(reactor, lambda: len(taken) == 4)
    assert taken == ["gate", 1, 2, 5]


# ---- trouble ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_job_that_raises_is_logged_and_others_go_on(
    reactor: Reactor,
    make_pool: MakePool,
    taken: list[object],
    log: io.StringIO,
    kind: type[BaseException],
) -> None:
    def fail() -> None:
        raise kind("no luck")

    factory = Factory()
    pool = make_pool(threads=1, thread_factory=factory)
    pool.submit(Work(giving(1), taken))
    pool.submit(Work(fail, taken))
    pool.submit(Work(giving(3), taken))
    turn_until(reactor, lambda: len(taken) == 3)
    assert taken == [1, None, 3]
    assert len(factory.threads) == 1
    assert log.getvalue().count("Traceback") == 1
    assert f"{kind.__name__}: no luck" in log.getvalue()


def test_an_outcome_that_cannot_be_delivered_is_logged_and_others_are(
    reactor: Reactor, make_pool: MakePool, taken: list[object], log: io.StringIO
) -> None:
    class Undeliverable(Work):
        def deliver(self, outcome: object) -> None:
            raise ValueError("nobody home")

    pool = make_pool(threads=1)
    pool.submit(Undeliverable(lambda: 1, taken))
    pool.submit(Work(giving(2), taken))
    turn_until(reactor, lambda: taken)
    assert taken == [2]
    assert log.getvalue().count("ValueError: nobody home") == 1


# ---- the end ----------------------------------------------------------------------------------


def test_close_ends_the_threads_that_sleep(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    factory = Factory()
    pool = make_pool(threads=3, thread_factory=factory)
    gates = [Gate() for _ in range(3)]
    for gate in gates:
        gate.open.set()
        pool.submit(Work(gate, taken))
    turn_until(reactor, lambda: len(taken) == 3)
    assert pool.close(PATIENCE)
    assert not any(thread.is_alive() for thread in factory.threads)
    assert pool.close(0)
    with pytest.raises(PoolFullError):
        pool.submit(Work(giving(4), taken))


def test_close_before_the_first_job(make_pool: MakePool) -> None:
    assert make_pool(threads=3).close(0)


def test_close_waits_for_what_runs_and_delivers_it_and_drops_what_waits(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    gate = Gate("ran to its end")
    ran: list[str] = []

    class Obliging(threading.Thread):
        """Lets the job end once somebody waits for its thread."""

        def join(self, timeout: float | None = None) -> None:
            gate.open.set()
            super().join(timeout)

    pool = make_pool(threads=1, thread_factory=Factory(Obliging))
    pool.submit(Work(gate, taken))
    pool.submit(Work(lambda: ran.append("queued"), taken))
    reactor.turn(0)
    gate.wait_begun()
    pool.submit(Work(lambda: ran.append("batch"), taken))
    assert pool.waiting == 2
    assert pool.close(PATIENCE)
    assert taken == ["ran to its end"]
    assert pool.waiting == 0
    reactor.turn(0)
    assert ran == []


def test_close_tells_those_whom_it_drops(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    pool = make_pool(threads=1)
    gate = Gate()
    running, queued, batched = (Work(function, taken) for function in (gate, giving(1), giving(2)))
    pool.submit(running)
    pool.submit(queued)
    reactor.turn(0)
    gate.wait_begun()
    pool.submit(batched)
    assert not pool.close(0)
    assert [work.drops for work in (running, queued, batched)] == [0, 1, 1]
    gate.open.set()
    assert pool.close(PATIENCE)
    assert [work.drops for work in (running, queued, batched)] == [0, 1, 1]
    assert taken == ["gate"]


def test_close_is_not_kept_from_its_work_by_one_that_cannot_be_dropped(
    make_pool: MakePool, taken: list[object], log: io.StringIO
) -> None:
    class Undroppable(Work):
        def dropped(self) -> None:
            raise ValueError("not like that")

    pool = make_pool(threads=1)
    other = Work(giving(2), taken)
    pool.submit(Undroppable(giving(1), taken))
    pool.submit(other)
    assert pool.close(PATIENCE)
    assert other.drops == 1
    assert log.getvalue().count("ValueError: not like that") == 1


def test_an_errand_is_run_by_the_pool_or_by_who_closes_it(
    reactor: Reactor, make_pool: MakePool
) -> None:
    ran: list[int] = []
    pool = make_pool(threads=1)
    pool.submit(Errand(lambda: ran.append(threading.get_ident())))
    turn_until(reactor, lambda: ran)
    pool.submit(Errand(lambda: ran.append(threading.get_ident())))
    pool.close(PATIENCE)
    assert len(ran) == 2
    assert ran[0] != threading.get_ident() == ran[1]


def test_close_gives_up_on_what_hangs_and_still_delivers_it_late(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    factory = Factory()
    pool = make_pool(threads=2, thread_factory=factory)
    hung = Gate("hung")
    work = Work(hung, taken)
    pool.submit(work)
    reactor.turn(0)
    hung.wait_begun()
    assert not pool.close(0)
    assert taken == []
    hung.open.set()
    for thread in factory.threads:
        thread.join(PATIENCE)
    assert taken == ["hung"]
    assert work.thread == factory.threads[0].ident
    reactor.turn(0)
    assert taken == ["hung"]


def test_close_on_a_thread_of_the_pool_does_not_wait_for_itself(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    factory = Factory()
    pool = make_pool(threads=1, thread_factory=factory)
    pool.submit(Work(lambda: pool.close(PATIENCE), taken))
    reactor.turn(0)
    for thread in factory.threads:
        thread.join(PATIENCE)
    assert taken == [False]


# ---- one at a time ----------------------------------------------------------------------------


@dataclass
class Alone:
    """Notices whether two of its calls overlap."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    overlapped: bool = False
    order: list[int] = field(default_factory=list)

    def call(self, number: int) -> int:
        if not self.lock.acquire(blocking=False):
            self.overlapped = True
            return number
        try:
            self.order.append(number)
        finally:
            self.lock.release()
        return number


def test_a_lane_runs_one_job_at_a_time_in_order(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    pool = make_pool(threads=4)
    lane, alone = SerialLane(pool), Alone()
    for number in range(100):
        lane.submit(Work(partial(alone.call, number), taken))
    turn_until(reactor, lambda: len(taken) == 100)
    assert taken == list(range(100))
    assert alone.order == list(range(100))
    assert not alone.overlapped


def test_the_next_job_of_a_lane_waits_for_the_one_before(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    pool = make_pool(threads=4)
    lane = SerialLane(pool)
    first, second = Gate("first"), Gate("second")
    lane.submit(Work(first, taken))
    lane.submit(Work(second, taken))
    reactor.turn(0)
    first.wait_begun()
    pool.submit(Work(giving("beside"), taken))  # the pool itself goes on
    turn_until(reactor, lambda: taken == ["beside"])
    assert not second.begun.is_set()
    first.open.set()
    second.open.set()
    turn_until(reactor, lambda: len(taken) == 3)
    assert taken == ["beside", "first", "second"]


def test_a_lane_is_bounded_like_its_pool(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    lane, gate = SerialLane(make_pool(threads=1, capacity=2)), Gate()
    lane.submit(Work(gate, taken))
    reactor.turn(0)
    lane.submit(Work(giving(1), taken))
    lane.submit(Work(giving(2), taken))
    with pytest.raises(PoolFullError):
        lane.submit(Work(giving(3), taken))
    gate.open.set()
    turn_until(reactor, lambda: len(taken) == 3)
    lane.submit(Work(giving(4), taken))
    turn_until(reactor, lambda: len(taken) == 4)
    assert taken == ["gate", 1, 2, 4]


def test_a_lane_that_finds_the_pool_full_can_be_used_later(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    pool = make_pool(threads=1, capacity=1)
    lane = SerialLane(pool)
    pool.submit(Work(giving("pool"), taken))
    with pytest.raises(PoolFullError):
        lane.submit(Work(giving("refused"), taken))
    turn_until(reactor, lambda: taken)
    lane.submit(Work(giving("lane"), taken))
    turn_until(reactor, lambda: len(taken) == 2)
    assert taken == ["pool", "lane"]


def test_a_lane_survives_a_job_that_raises(
    reactor: Reactor, make_pool: MakePool, taken: list[object], log: io.StringIO
) -> None:
    def fail() -> None:
        raise ValueError("no luck")

    lane = SerialLane(make_pool(threads=2))
    lane.submit(Work(fail, taken))
    lane.submit(Work(giving(2), taken))
    turn_until(reactor, lambda: len(taken) == 2)
    assert taken == [None, 2]
    assert log.getvalue().count("ValueError: no luck") == 1


def test_a_lane_survives_an_outcome_that_cannot_be_delivered(
    reactor: Reactor, make_pool: MakePool, taken: list[object], log: io.StringIO
) -> None:
    class Undeliverable(Work):
        def deliver(self, outcome: object) -> None:
            raise ValueError("nobody home")

    lane = SerialLane(make_pool(threads=2))
    lane.submit(Undeliverable(lambda: 1, taken))
    lane.submit(Work(giving(2), taken))
    lane.submit(Work(giving(3), taken))
    turn_until(reactor, lambda: len(taken) == 2)
    assert taken == [2, 3]
    assert log.getvalue().count("ValueError: nobody home") == 1


def test_a_lane_goes_on_when_others_fill_the_pool_in_between(
    reactor: Reactor, make_pool: MakePool, taken: list[object], log: io.StringIO
) -> None:
    """No outcome is lost, nothing overlaps, the order stays, and the lane is not stuck."""
    pool = make_pool(threads=1, capacity=1)
    lane = SerialLane(pool)
    first, other = Gate("first"), Gate("other")
    lane.submit(Work(first, taken))
    reactor.turn(0)
    first.wait_begun()
    lane.submit(Work(giving("second"), taken))
    pool.submit(Work(other, taken))
    reactor.turn(0)
    first.open.set()
    other.wait_begun()  # the only thread has gone on to it: the lane's first outcome is there
    pool.submit(Work(giving("one more"), taken))  # and now the pool is full
    reactor.turn(0)
    other.open.set()
    assert taken == ["first"]
    turn_until(reactor, lambda: "other" in taken and "one more" in taken)
    lane.submit(Work(giving("third"), taken))
    turn_until(reactor, lambda: "third" in taken)
    assert [name for name in taken if name in ("first", "second", "third")] == [
        "first",
        "second",
        "third",
    ]
    assert log.getvalue() == ""


def test_what_runs_on_a_lane_is_delivered_when_the_pool_closes(
    reactor: Reactor, make_pool: MakePool, taken: list[object], log: io.StringIO
) -> None:
    """An outcome may hold a descriptor: whoever waits behind it must not cost it its delivery."""
    pool = make_pool(threads=1)
    lane, gate = SerialLane(pool), Gate("ran to its end")
    lane.submit(Work(gate, taken))
    lane.submit(Work(giving("dropped"), taken))
    reactor.turn(0)
    gate.wait_begun()
    gate.open.set()
    assert pool.close(PATIENCE)
    assert taken == ["ran to its end"]
    assert log.getvalue() == ""


def test_what_waits_on_a_lane_is_told_that_it_is_dropped(
    reactor: Reactor, make_pool: MakePool, taken: list[object]
) -> None:
    pool = make_pool(threads=1)
    running, untaken = SerialLane(pool), SerialLane(pool)
    gate = Gate("ran to its end")
    works = [Work(giving(number), taken) for number in range(4)]
    current = Work(gate, taken)
    running.submit(current)
    for work in works[:2]:
        running.submit(work)
    reactor.turn(0)
    gate.wait_begun()
    for work in works[2:]:
        untaken.submit(work)
    reactor.turn(0)
    gate.open.set()
    assert pool.close(PATIENCE)
    assert taken == ["ran to its end"]
    assert [work.drops for work in works] == [1] * 4
    assert current.drops == 0
