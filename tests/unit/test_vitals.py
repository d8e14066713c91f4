"""What a server tells about itself."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from quick_server.connection import ConnectionState
from quick_server.jobs import JobTable
from quick_server.pool import Pool
from quick_server.reactor import Reactor
from quick_server.vitals import Vitals
from tests.unit.fakes import Clock


@pytest.fixture
def vitals(sleepless: Reactor) -> Iterator[Vitals]:
    pool = Pool(sleepless, 4, 10)
    service: Any = SimpleNamespace(connections=set())
    table = cast("JobTable", SimpleNamespace(states=list))
    yield Vitals(sleepless, service, pool, table)
    pool.close(1)


def test_at_the_start(vitals: Vitals) -> None:
    status = vitals.status()
    assert (status.uptime, status.requests, status.rate, status.connections) == (0, 0, 0, 0)
    assert (status.threads_busy, status.threads, status.waiting, status.jobs) == (0, 4, 0, {})
    assert status.memory is None or status.memory > 1_000_000
    assert status.descriptors is None or status.descriptors > 3


def test_requests_a_second_are_those_of_the_last_moments(vitals: Vitals, clock: Clock) -> None:
    for _ in range(30):
        for _ in range(5):
            vitals.count()
        clock.advance(1)
    assert vitals.status().rate == 5
    assert vitals.status().requests == 150
    clock.advance(5)
    assert vitals.status().rate == 2.5
    clock.advance(5)
    assert vitals.status().rate == 0
    assert vitals.status().requests == 150
    assert vitals.status().uptime == 40


def test_a_young_server_counts_what_there_was(vitals: Vitals, clock: Clock) -> None:
    for _ in range(6):
        vitals.count()
    assert vitals.status().rate == 6
    clock.advance(3)
    assert vitals.status().rate == 2


def test_a_long_silence_leaves_nothing_of_before(vitals: Vitals, clock: Clock) -> None:
    for _ in range(11):
        vitals.count()
        clock.advance(1)
    clock.advance(11 * 1000)
    vitals.count()
    clock.advance(1)
    assert vitals.status().rate == 0.1


def test_connections_come_the_oldest_first(sleepless: Reactor) -> None:
    def connection(age: float) -> Any:
        state = ConnectionState(("127.0.0.1", 1), age, 1, "idle", "", 0.0)
        return SimpleNamespace(state=lambda now: state)

    service: Any = SimpleNamespace(connections=[connection(age) for age in (1.0, 3.0, 2.0)])
    vitals = Vitals(sleepless, service, cast("Pool", None), cast("JobTable", None))
    assert [state.age for state in vitals.connections()] == [3.0, 2.0, 1.0]


def test_without_descriptors_it_tells_the_rest(vitals: Vitals) -> None:
    vitals.count()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        status = vitals.status()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert (status.requests, status.memory, status.descriptors) == (1, None, None)
