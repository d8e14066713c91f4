"""What a running server can tell about itself.

Loop thread. Counts requests, and looks at the parts when somebody asks; it changes none of them.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from .connection import ConnectionState, Service
from .jobs import JobTable
from .pool import Pool
from .reactor import Reactor

_SPAN = 10  # seconds over which requests a second are told


class Status(NamedTuple):
    """How a server is doing. Times are seconds, sizes bytes."""

    uptime: float
    requests: int
    """Since the start."""
    rate: float
    """Requests a second, over the last moments."""
    connections: int
    threads_busy: int
    threads: int
    waiting: int
    """Handlers and file reads that no thread has taken yet."""
    jobs: dict[str, int]
    """How many there are of each state."""
    memory: int | None
    """Of the process; None where the system does not tell."""
    descriptors: int | None
    """That the process has open; None where the system does not tell."""


class Vitals:
    """Counts what happens, and tells how things are."""

    def __init__(self, reactor: Reactor, service: Service, pool: Pool, table: JobTable) -> None:
        self._reactor = reactor
        self._service = service
        self._pool = pool
        self._table = table
        self._began = reactor.now()
        self.requests = 0
        """That have ended."""
        self._second = 0  # the one that is being counted
        self._counts = [0] * (_SPAN + 1)  # of that one and those before it, in turns

    def begin(self) -> None:
        """The server begins to serve."""
        self._began = self._reactor.now()

    def count(self) -> None:
        """A request has ended."""
        self.requests += 1
        second = int(self._reactor.now())
        if second != self._second:
            self._advance(second)
        self._counts[second % len(self._counts)] += 1

    def status(self) -> Status:
        """How things are."""
        now = self._reactor.now()
        self._advance(int(now))
        current = self._counts[int(now) % len(self._counts)]  # not over yet
        earlier = sum(self._counts) - current
        span = min(_SPAN, now - self._began)
        jobs: dict[str, int] = {}
        for job in self._table.states():
            jobs[job.state] = jobs.get(job.state, 0) + 1
        return Status(
            uptime=now - self._began,
            requests=self.requests,
            rate=(earlier if span == _SPAN else earlier + current) / max(span, 1.0),
            connections=len(self._service.connections),
            threads_busy=self._pool.busy,
            threads=self._pool.most_threads,
            waiting=self._pool.waiting,
            jobs=jobs,
            memory=_memory(),
            descriptors=_descriptors(),
        )

    def connections(self) -> list[ConnectionState]:
        """Every connection, the oldest first."""
        now = self._reactor.now()
        states = [connection.state(now) for connection in self._service.connections]
        return sorted(states, key=lambda state: -state.age)

    def _advance(self, second: int) -> None:
        size = len(self._counts)
        for passed in range(max(self._second + 1, second - size + 1), second + 1):
            self._counts[passed % size] = 0
        self._second = second


def _memory() -> int | None:
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def _descriptors() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return None
