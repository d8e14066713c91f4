"""Bounded threads for what would block the loop: handlers and files.

Owns its threads, the queue of jobs and the queue of outcomes. The loop thread submits jobs and
takes outcomes; a pool thread only runs `job.run()`, and touches nothing else of the server.

Facts: a lock, a wake-up and a thread switch cost more than a small handler. Consequence: both ways
go in batches. The jobs that one turn of the loop made ready are queued under one lock at the end of
that turn; the outcomes that are there when the loop looks come back under one wake-up.

A job that holds its thread never keeps others waiting: while jobs are queued, one more thread is on
its way (`_called`), and that one calls the next when it arrives. It can only arrive once the thread at
work lets go of the interpreter, because its job blocks or takes long; a batch of small jobs is done by
then. For the same reason the outcomes of a batch need no wake-up each: who is on its way will see to
those that were left.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from .log import log_exception, log_server
from .reactor import Reactor

_RETRY_AFTER = 0.1  # seconds

ThreadFactory = Callable[..., threading.Thread]
"""Called like `threading.Thread(target=..., args=...)`; makes the threads of the pool."""


class Job:
    """Work for a pool thread whose outcome comes back to the loop."""

    __slots__ = ()

    def run(self) -> Any:
        """Pool thread: does the work; its return value is the outcome. It must not raise."""
        raise NotImplementedError

    def deliver(self, outcome: Any) -> None:
        """Loop thread: takes the outcome (None if `run` raised, which is logged)."""

    def dropped(self) -> None:
        """Closing thread: the pool was closed before the job was run."""


class Errand(Job):
    """A call whose outcome interests nobody."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function

    def run(self) -> None:
        """Pool thread."""
        self._function()

    def dropped(self) -> None:
        """It is done all the same: it may give something back."""
        self.run()


class Lane(Protocol):
    """A way into the pool."""

    def submit(self, job: Job) -> None:
        """Queues `job`. Raises PoolFullError."""


class PoolFullError(Exception):
    """More jobs are waiting than the pool may hold."""


class Pool:
    """At most `threads` daemon threads, started when they are needed."""

    def __init__(
        self,
        reactor: Reactor,
        threads: int,
        capacity: int,
        thread_factory: ThreadFactory | None = None,
        name: str = "pool",
    ) -> None:
        """`name` is part of the names of its threads."""
        if threads < 1:
            raise ValueError(f"a pool needs at least one thread, not {threads}")
        self._reactor = reactor
        self.most_threads = threads
        self.capacity = capacity
        self._make_thread = thread_factory or threading.Thread
        self._name = name
        self._threads: list[threading.Thread] = []
        self._batch: list[Job] = []  # loop thread only, until the turn ends
        self._jobs: deque[Job] = deque()
        self._outcomes: deque[tuple[Job, Any]] = deque()
        self._collecting = False  # whether the loop has been asked to collect outcomes
        self._sleepers: list[threading.Lock] = []  # each held; releasing it wakes its thread
        self._called = False  # whether a thread has been woken or started, and is yet to arrive
        self._closing = False
        self._retrying = self._said = False
        self._abandoned = False  # nobody collects outcomes any more
        self._lock = threading.Lock()
        self._hooked = False

    # loop thread ----------------------------------------------------------------------------------

    def submit(self, job: Job) -> None:
        """Queues `job`; it reaches a thread at the end of this turn.

        Raises PoolFullError when as many jobs wait as the pool may hold.
        """
        batch = self._batch
        if len(self._jobs) + len(batch) >= self.capacity or self._closing:
            raise PoolFullError
        batch.append(job)
        if not self._hooked:
            self._hook()

    def readmit(self, job: Job) -> None:
        """Queues a job that has a place in the pool already, whatever else waits."""
        if self._closing:
            raise PoolFullError
        self._batch.append(job)
        if not self._hooked:
            self._hook()

    def _hook(self) -> None:
        self._hooked = True
        self._reactor.before_poll(self._flush)

    @property
    def waiting(self) -> int:
        """Jobs that no thread has taken yet."""
        return len(self._jobs) + len(self._batch)

    @property
    def busy(self) -> int:
        """Threads that are at a job, or about to take one."""
        return len(self._threads) - len(self._sleepers)

    def is_pool_thread(self) -> bool:
        """Whether the caller is on one of the pool's threads."""
        return threading.current_thread() in self._threads

    def _flush(self) -> None:
        if not self._batch:
            return
        batch, self._batch = self._batch, []
        with self._lock:
            self._jobs.extend(batch)
            self._call_a_thread()

    def _collect(self) -> None:
        self._collecting = False  # before the queue is emptied: who comes later asks again
        outcomes = self._outcomes
        for _ in range(len(outcomes)):
            job, outcome = outcomes.popleft()
            try:
                job.deliver(outcome)
            except Exception:
                log_exception("an outcome could not be delivered")

    def _retry(self) -> None:
        """A thread could not be started: the others go on, and there is another try in a moment."""
        if self._retrying:
            return
        self._retrying = True
        if not self._said:
            self._said = True
            log_server("cannot start another thread; trying again until it works")
        self._reactor.call_later(_RETRY_AFTER, self._call_again)

    def _call_again(self) -> None:
        self._retrying = False
        with self._lock:
            if self._jobs:
                self._call_a_thread()

    def close(self, patience: float) -> bool:
        """Ends the threads; jobs that nobody took are dropped.

        Waits up to `patience` seconds for jobs that are being run. Returns whether all have ended:
        a thread cannot be killed, so one that hangs stays behind, as a daemon.
        """
        with self._lock:
            self._closing = True
            dropped = [*self._jobs, *self._batch]
            self._jobs.clear()
            while self._sleepers:
                self._sleepers.pop().release()
        self._batch.clear()
        for job in dropped:
            try:
                job.dropped()
            except Exception:
                log_exception("a job of the pool could not be dropped")
        deadline = self._reactor.now() + patience
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - self._reactor.now()))
        self._abandoned = True
        self._collect()
        return not any(thread.is_alive() for thread in self._threads)

    # loop thread or pool thread, with the lock ----------------------------------------------------

    def _call_a_thread(self) -> None:
        """Makes sure that somebody will look at the queue."""
        if self._called:
            return
        if self._sleepers:
            self._called = True
            self._sleepers.pop().release()  # the last to fall asleep: its stack is still at hand
        elif len(self._threads) < self.most_threads and not self._closing:
            self._called = True
            try:
                thread = self._make_thread(target=self._work, args=())
                thread.daemon = True
                thread.name = f"quick_server {self._name} {len(self._threads) + 1}"
                thread.start()
            except Exception:  # the system has no more of them, or the factory fails
                self._called = False
                self._tell_loop()  # of what was left to who does not come
                if not self._retrying:
                    self._reactor.call_from_thread(self._retry)
            else:
                self._threads.append(thread)

    # pool threads ---------------------------------------------------------------------------------

    def _work(self) -> None:
        asleep = threading.Lock()
        asleep.acquire()
        while True:
            self._called = False  # here we are
            self._tell_loop()
            while (job := self._take(asleep)) is not None:
                try:
                    outcome = job.run()
                except BaseException:
                    log_exception("a job of the pool failed")
                    outcome = None
                self._outcomes.append((job, outcome))
                if self._abandoned:
                    self._collect()
                    return
                del job, outcome  # a sleeping thread keeps nothing alive
                if not (self._called and self._jobs):  # else who is on its way tells it
                    self._tell_loop()
            if self._closing:
                return
            asleep.acquire()

    def _take(self, asleep: threading.Lock) -> Job | None:
        """A job; None if there is none: whoever brings one releases `asleep`."""
        with self._lock:
            jobs = self._jobs
            if jobs:
                job = jobs.popleft()
                if jobs:
                    self._call_a_thread()
                return job
            if not self._closing:
                self._sleepers.append(asleep)
            return None

    def _tell_loop(self) -> None:
        """Has the loop collect what is there, unless it is about to."""
        if self._outcomes and not self._collecting:
            self._collecting = True
            self._reactor.call_from_thread(self._collect)


class SerialLane(Job):
    """A way into a pool on which one job runs at a time, in order. Loop thread."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiting: deque[Job] = deque()
        self._current: Job | None = None

    def submit(self, job: Job) -> None:
        """Queues `job` behind those of this lane. Raises PoolFullError as the pool does."""
        if self._current is not None:
            if len(self._waiting) >= self._pool.capacity:
                raise PoolFullError
            self._waiting.append(job)
            return
        self._pool.submit(self)
        self._current = job

    def run(self) -> Any:
        """Pool thread: runs the lane's current job."""
        assert self._current is not None
        return self._current.run()

    def dropped(self) -> None:
        """Closing thread: nothing on the lane was run."""
        jobs = [self._current, *self._waiting]
        self._current = None
        self._waiting.clear()
        for job in jobs:
            if job is not None:
                job.dropped()

    def deliver(self, outcome: Any) -> None:
        """Loop thread: hands the outcome on and starts the next job."""
        job, self._current = self._current, None
        if self._waiting:
            self._current = self._waiting.popleft()
            try:
                self._pool.readmit(self)
            except PoolFullError:  # it closes
                self.dropped()
        assert job is not None
        job.deliver(outcome)
