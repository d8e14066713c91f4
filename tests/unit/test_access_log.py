"""The access log, and the reports of slow requests, alone."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from quick_server.accesslog import AccessLog, SlowRequests
from quick_server.exchange import Exchange
from quick_server.pool import Pool
from quick_server.protocol.messages import Outcome
from quick_server.reactor import Reactor
from tests.unit.fakes import Clock, turn_until
from tests.unit.jobbench import Call

PATIENCE = 5.0  # seconds until a request is slow
CLIENT = ("127.0.0.1", 1)
Report = tuple[object, ...]


@dataclass
class Settings:
    access_log: bool = True
    suppress_noise: bool = False
    report_slow_requests: bool | Callable[..., Any] | tuple[float, Callable[..., Any]] = True


@pytest.fixture
def settings() -> Settings:
    return Settings()


@pytest.fixture
def access(settings: Settings, sleepless: Reactor, log: io.StringIO) -> AccessLog:
    return AccessLog(settings, sleepless)


@pytest.fixture
def slow(settings: Settings, reactor: Reactor, log: io.StringIO) -> Iterator[SlowRequests]:
    pool = Pool(reactor, 1, 1)
    yield SlowRequests(settings, reactor, pool)
    pool.close(1)


def begun(reactor: Reactor) -> Exchange:
    """A request that begins now."""
    exchange = Call().exchange
    exchange.started = reactor.now()
    return exchange


def answered(reactor: Reactor, status: int) -> Exchange:
    exchange = begun(reactor)
    exchange.answer(Outcome(status))
    return exchange


def advance(reactor: Reactor, clock: Clock, seconds: float) -> None:
    """Time passes, and what is due then happens."""
    clock.advance(seconds)
    reactor.turn(0)


# ---- one line for each request ----------------------------------------------------------------


def test_a_line_says_what_and_how_long(
    access: AccessLog, sleepless: Reactor, clock: Clock, log: io.StringIO
) -> None:
    exchange = answered(sleepless, 404)
    clock.advance(0.25)
    access.finished(exchange, 2048)
    exchange.upstream_time = 0.125
    access.finished(exchange, 2048)
    first, second = log.getvalue().splitlines()
    assert first.startswith("127.0.0.1 [")
    assert first.endswith('"POST /work HTTP/1.1" 404 (250.00ms)')
    assert second.endswith('"POST /work HTTP/1.1" 404 (250.00ms, upstream 125.00ms)')


def test_what_had_no_answer_has_no_line(
    access: AccessLog, sleepless: Reactor, log: io.StringIO
) -> None:
    access.finished(begun(sleepless), 0)
    assert not log.getvalue()


@pytest.mark.parametrize("status", [200, 304])
def test_noise_is_left_out_where_wanted(
    access: AccessLog, settings: Settings, sleepless: Reactor, log: io.StringIO, status: int
) -> None:
    settings.suppress_noise = True
    access.finished(answered(sleepless, status), 0)
    assert not log.getvalue()
    access.finished(answered(sleepless, 500), 0)
    assert " 500 " in log.getvalue()


@pytest.mark.parametrize(
    ("quiet", "lines"), [("/work", 0), ("/wor", 1), ("/work/below", 1), ("/other", 1)]
)
def test_quiet_paths(
    access: AccessLog, sleepless: Reactor, log: io.StringIO, quiet: str, lines: int
) -> None:
    access.quiet_paths = ("/nothing", quiet)
    access.finished(answered(sleepless, 404), 0)
    assert len(log.getvalue().splitlines()) == lines


def test_no_log_where_none_is_wanted(
    access: AccessLog, settings: Settings, sleepless: Reactor, log: io.StringIO
) -> None:
    page = Outcome(400, b"", b"page")
    access.malformed(CLIENT, "\x16\x03", page, "an illegal byte")
    assert log.getvalue().endswith("400 (an illegal byte)\n")
    assert "\x16" not in log.getvalue()
    before = log.getvalue()
    settings.access_log = False
    access.malformed(CLIENT, "\x16\x03", page, "an illegal byte")
    access.finished(answered(sleepless, 404), 0)
    assert log.getvalue() == before


# ---- slow requests ----------------------------------------------------------------------------


def test_a_slow_request_is_told_of_twice(
    slow: SlowRequests, reactor: Reactor, clock: Clock, log: io.StringIO
) -> None:
    exchange = begun(reactor)
    slow.watch(exchange)
    advance(reactor, clock, PATIENCE - 1)
    assert not log.getvalue()
    advance(reactor, clock, 1)
    assert log.getvalue().endswith('request takes longer than expected: "POST /work"\n')
    clock.advance(2)
    slow.finished(exchange)
    assert log.getvalue().endswith('request took longer than expected: "POST /work" (7.00s)\n')
    slow.finished(exchange)
    assert len(log.getvalue().splitlines()) == 2


def test_each_request_has_its_own_time(
    slow: SlowRequests, reactor: Reactor, clock: Clock, log: io.StringIO
) -> None:
    first, quick, last = begun(reactor), begun(reactor), begun(reactor)
    slow.watch(first)
    advance(reactor, clock, 3)
    last.started = quick.started = reactor.now()
    slow.watch(quick)
    slow.watch(last)
    advance(reactor, clock, 2)
    assert len(log.getvalue().splitlines()) == 1
    slow.finished(quick)
    slow.finished(first)
    assert len(log.getvalue().splitlines()) == 2
    advance(reactor, clock, 2.9)
    assert len(log.getvalue().splitlines()) == 2
    advance(reactor, clock, 0.1)
    assert len(log.getvalue().splitlines()) == 3
    slow.finished(last)
    assert len(log.getvalue().splitlines()) == 4


def test_what_has_ended_is_not_slow(
    slow: SlowRequests, reactor: Reactor, clock: Clock, log: io.StringIO
) -> None:
    """Also if whoever should have said so could not."""
    exchange = begun(reactor)
    slow.watch(exchange)
    exchange.lost()
    advance(reactor, clock, PATIENCE)
    slow.finished(exchange)
    assert not log.getvalue()


def three(told: list[Report]) -> Callable[..., Any]:
    return lambda method, path, duration: told.append((method, path, duration))


def four(told: list[Report]) -> Callable[..., Any]:
    return lambda method, path, duration, complete: told.append((method, path, duration, complete))


def many(told: list[Report]) -> Callable[..., Any]:
    return lambda *arguments: told.append(arguments)


def opaque(told: list[Report]) -> Callable[..., Any]:
    class Opaque:
        __signature__ = 1  # nothing that `inspect` could read

        def __call__(self, *arguments: object) -> None:
            told.append(arguments)

    return Opaque()


BEGINS, ENDS = ("POST", "/work", 1.0, False), ("POST", "/work", 3.0, True)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (three, [BEGINS[:3]]),
        (four, [BEGINS, ENDS]),
        (many, [BEGINS, ENDS]),
        (opaque, [BEGINS[:2]]),
    ],
)
def test_a_report_gets_what_it_takes(
    settings: Settings,
    slow: SlowRequests,
    reactor: Reactor,
    clock: Clock,
    log: io.StringIO,
    make: Callable[[list[Report]], Callable[..., Any]],
    expected: list[Report],
) -> None:
    """The second time is told only to those who can tell it from the first."""
    told: list[Report] = []
    settings.report_slow_requests = (1.0, make(told))
    exchange = begun(reactor)
    slow.watch(exchange)
    advance(reactor, clock, 1)
    turn_until(reactor, lambda: told)
    advance(reactor, clock, 2)
    slow.finished(exchange)
    turn_until(reactor, lambda: len(told) == len(expected))
    assert told == expected
    assert not log.getvalue()


def test_a_report_that_fails_is_logged(
    settings: Settings, slow: SlowRequests, reactor: Reactor, clock: Clock, log: io.StringIO
) -> None:
    def fail(method: str, path: str) -> None:
        raise RuntimeError("on purpose")

    settings.report_slow_requests = fail
    slow.watch(begun(reactor))
    advance(reactor, clock, PATIENCE)
    turn_until(reactor, lambda: "on purpose" in log.getvalue())
    assert "report_slow_requests failed" in log.getvalue()


def test_reports_that_are_slow_themselves_are_left_out(
    settings: Settings, slow: SlowRequests, reactor: Reactor, clock: Clock, log: io.StringIO
) -> None:
    told: list[Report] = []
    settings.report_slow_requests = many(told)
    for _ in range(3):
        slow.watch(begun(reactor))
    advance(reactor, clock, PATIENCE)
    turn_until(reactor, lambda: told)
    assert log.getvalue().count("report_slow_requests is too slow itself") == 2
    assert len(told) == 1
