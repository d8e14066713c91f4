"""One line for each request: when, how much, what, with which result, how long it took.

Loop thread. Also watches for slow requests, with a single timer that runs only while a request does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from .exchange import Exchange, Phase
from .log import (
    elapsed_string,
    escape,
    log_failure,
    log_server,
    quote,
    size_string,
    timestamp,
    write_line,
)
from .pool import Errand, Lane, PoolFullError
from .protocol.messages import Outcome
from .reactor import Reactor
from .timers import Timer

SlowReport: TypeAlias = Callable[..., Any]
_DEFAULT_PATIENCE = 5.0
_NOISE = frozenset((200, 304))


class LogSettings(Protocol):
    """The settings that this file reads."""

    access_log: bool
    suppress_noise: bool
    report_slow_requests: bool | SlowReport | tuple[float, SlowReport]


class AccessLog:
    """Writes the access log."""

    def __init__(self, settings: LogSettings, reactor: Reactor) -> None:
        self._settings = settings
        self._reactor = reactor
        self.quiet_paths: tuple[str, ...] = ()
        """Paths that are left out, with all that is below them."""

    def finished(self, exchange: Exchange, size: int) -> None:
        """A request has its answer, or its client is gone."""
        outcome = exchange.outcome
        settings = self._settings
        if outcome is None or not settings.access_log:
            return
        if settings.suppress_noise and outcome.status in _NOISE:
            return
        path = exchange.head.target.path
        if any(path == quiet or path.startswith(quiet + "/") for quiet in self.quiet_paths):
            return
        elapsed = elapsed_string((self._reactor.now() - exchange.started) * 1000)
        if exchange.upstream_time is not None:
            elapsed += f", upstream {elapsed_string(exchange.upstream_time * 1000)}"
        line = quote(exchange.head.request_line)
        self._write(exchange.client, size, f"{line} {outcome.status} ({elapsed})")

    def malformed(self, client: tuple[str, int], line: str, outcome: Outcome, why: str) -> None:
        """A client sent what is no request; `line` is how it began."""
        if self._settings.access_log:
            self._write(client, len(outcome.body), f"{quote(line)} {outcome.status} ({escape(why)})")  # type: ignore[arg-type] # error pages are bytes

    def _write(self, client: tuple[str, int], size: int, rest: str) -> None:
        write_line(f"{client[0]} [{timestamp(time.time())}] {size_string(size)} {rest}")


class SlowRequests:
    """Reports requests that take longer than `report_slow_requests` says.

    `lane` is where users' reports run.
    """

    def __init__(self, settings: LogSettings, reactor: Reactor, lane: Lane) -> None:
        self._settings = settings
        self._reactor = reactor
        self._lane = lane
        self._watched: dict[Exchange, float] = {}  # to when it becomes slow, oldest first
        self._slow: set[Exchange] = set()
        self._timer: Timer | None = None

    def watch(self, exchange: Exchange) -> None:
        """A request begins."""
        patience, _report = self._setting()
        self._watched[exchange] = exchange.started + patience
        if self._timer is None:
            self._timer = self._reactor.call_later(patience, self._look)

    def finished(self, exchange: Exchange) -> None:
        """A request ends."""
        if not self._watched and not self._slow:
            return
        self._watched.pop(exchange, None)
        if exchange in self._slow:
            self._slow.discard(exchange)
            self._report(exchange, complete=True)

    def _setting(self) -> tuple[float, SlowReport | None]:
        setting = self._settings.report_slow_requests
        if isinstance(setting, tuple):
            return setting
        return _DEFAULT_PATIENCE, setting if callable(setting) else None

    def _look(self) -> None:
        now = self._reactor.now()
        self._timer = None
        for exchange, slow_at in list(self._watched.items()):
            if exchange.phase is Phase.DONE:
                del self._watched[exchange]
            elif slow_at > now:
                self._timer = self._reactor.call_at(slow_at, self._look)
                return
            else:
                del self._watched[exchange]
                self._slow.add(exchange)
                self._report(exchange, complete=False)

    def _report(self, exchange: Exchange, *, complete: bool) -> None:
        _patience, report = self._setting()
        head = exchange.head
        duration = self._reactor.now() - exchange.started
        if report is not None:
            self._call(report, (head.method, head.target.raw, duration, complete))
            return
        what = quote(f"{head.method} {head.target.raw}")
        if complete:
            log_server(f"request took longer than expected: {what} ({elapsed_string(duration * 1000)})")
        else:
            log_server(f"request takes longer than expected: {what}")

    def _call(self, report: SlowReport, arguments: tuple[str, str, float, bool]) -> None:
        count = _accepted(report)
        if arguments[3] and count < len(arguments):
            return  # it cannot tell the second report from the first

        def call() -> None:
            try:
                report(*arguments[:count])
            except Exception:
                log_failure("report_slow_requests failed")

        try:
            self._lane.submit(Errand(call))
        except PoolFullError:
            log_server("report_slow_requests is too slow itself: a report is left out")


def _accepted(report: SlowReport) -> int:
    """How many of (method, path, duration, complete) the callable takes."""
    import inspect

    try:
        parameters = inspect.signature(report).parameters.values()
    except (TypeError, ValueError):
        return 2
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 4
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return max(2, min(4, len(positional)))
