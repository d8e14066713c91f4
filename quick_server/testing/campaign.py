"""One run of the fuzzer over a server: which route when, for how long, and what becomes of findings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from hypothesis import strategies as st

from ..pool import SerialLane
from ..protocol.target import parse_target
from .corpus import corpus, plain
from .findings import LEAKS, Finding, Findings, Kind, Report
from .judge import Judge
from .leaks import Gauge, LeakSearch
from .request import Request, Sent, names_in, size_of
from .search import Search
from .strategies import anywhere, requests_to
from .surface import Route
from .wire import wire_bytes

if TYPE_CHECKING:
    from ..server import QuickServer

_SAMPLES = 12  # requests of each route that are repeated, to see what they leave behind
_QUICK = 0.2  # seconds; what takes longer is not repeated
_SHRINK_SECONDS = 10.0  # for each finding
_SUSPECTS = 3  # requests of each route behind which there was more of something
_MOST_WAITING = 2.0  # times `hang`: what a route may take for answers that are known not to come soon
_ANYWHERE = Route("*", "(anywhere)")
_WIRE = Route("*", "(broken bytes)")


class Plan(NamedTuple):
    """What `fuzz_server` was asked for; times are seconds."""

    examples: int
    seconds: float
    slow: float
    hang: float
    seed: int
    elsewhere: bool
    leaks: bool


class Campaign:
    """Goes through the routes; each gets a fair share of the time that is left."""

    def __init__(self, server: QuickServer, judge: Judge, plan: Plan, temporary: str) -> None:
        """`temporary` is where temporary files are while it runs."""
        self._server = server
        self._judge = judge
        self._plan = plan
        self._temporary = temporary
        self._findings = Findings()
        self._samples: dict[Route, dict[tuple[object, ...], Request]] = {}
        self._gauge = Gauge(temporary)
        self._waited = 0.0  # for slow answers of the route that is being asked
        self._is_stuck = False  # the whole server
        self._asked: list[str] = []
        self._unasked: list[str] = []
        self._allowed: frozenset[str] = frozenset()
        self._began = time.monotonic()
        self._ended = self._began

    def run(self, routes: Sequence[Route]) -> None:
        """Asks for everything, then confirms what was found."""
        self._allowed = frozenset(route.name for route in routes)
        elsewhere = [_ANYWHERE, _WIRE] if self._plan.elsewhere else []
        if self._server.scheme == "https":
            elsewhere = elsewhere[:1]  # nobody can say there that nothing more comes: silence is right
        ahead = [*routes, *elsewhere]
        deadline = self._began + self._plan.seconds
        while ahead:
            now = time.monotonic()
            share = (deadline - now) / len(ahead)
            route = ahead.pop(0)
            if share <= 0 or self._is_stuck:
                self._unasked.append(route.name)
                continue
            self._asked.append(route.name)
            self._ask_for(route, routes, now + share)
        if not self._is_stuck:
            self._confirm(routes)
            if self._plan.leaks:
                self._look_for_leaks()
        self._ended = time.monotonic()

    def report(self, url: str) -> Report:
        """What has come of it; the server of its commands is at `url`."""
        return Report(
            url,
            tuple(sorted(self._findings, key=lambda finding: self._asked.index(finding.route))),
            self._judge.requests,
            self._ended - self._began,
            self._plan.seed,
            tuple(self._asked),
            tuple(self._unasked),
        )

    # asking ---------------------------------------------------------------------------------------

    def _ask_for(self, route: Route, routes: Sequence[Route], deadline: float) -> None:
        self._waited = 0.0
        strategy: st.SearchStrategy[Sent]
        if route is _WIRE:
            faulty = {finding.route for finding in self._findings}
            fine = [plain(other) for other in routes if other.name not in faulty]
            strategy = wire_bytes(*([st.sampled_from(fine)] if fine else []))
        elif route is _ANYWHERE:
            strategy = anywhere()
        else:
            strategy = requests_to(route)
            self._ask_one_by_one(route, deadline)
        search = Search(self._findings, deadline, _SHRINK_SECONDS)
        search.run(
            strategy,
            lambda sent, quarry: self._ask(route, cast("Sent", sent), quarry),
            self._plan.examples,
            self._plan.seed,
        )

    def _ask_one_by_one(self, route: Route, deadline: float) -> None:
        """What can be said in advance; it gets half of the time."""
        deadline = (time.monotonic() + deadline) / 2
        for request in corpus(route):
            finding = self._ask(route, request, None)
            if finding is not None:
                self._findings.add(finding)
            if time.monotonic() > deadline:
                return

    def _ask(self, route: Route, sent: Sent, quarry: Finding | None) -> Finding | None:
        """What is wrong with the answer; None, too, if this is better not sent."""
        if self._is_stuck or not self._may_be_sent(route, sent):
            return None
        if quarry is None and self._waited > _MOST_WAITING * self._plan.hang:
            return None
        known = {finding.kind for finding in self._findings if finding.route == route.name}
        hunted = quarry.kind if quarry is not None else None
        patience = 2 * self._plan.slow if Kind.HANG in known else self._plan.hang
        timed = Kind.SLOW not in known or hunted is Kind.SLOW
        began = time.monotonic()
        finding = self._judge.ask(route, sent, min(patience, self._plan.hang), timed=timed)
        took = time.monotonic() - began
        if quarry is None and took > self._plan.slow:
            self._waited += took
        if finding is None:
            self._keep_sample(route, sent)
        elif finding.kind is Kind.HANG:
            self._replace_thread()
        return finding if route is not _WIRE or not self._is_known(finding) else None

    def _may_be_sent(self, route: Route, sent: Sent) -> bool:
        """Whether it goes to a route that may be asked, and to no upstream."""
        if isinstance(sent, bytes):
            return not self._server._proxies.states()
        target = parse_target(sent.target)
        if target is None or target.segments is None:
            return True
        method = "GET" if sent.method == "HEAD" else sent.method
        match = self._server.routes.find(method, target.segments)
        if match is None:
            return not self._server._proxies.states()
        if route is _ANYWHERE:
            return False  # that route had its turn
        return any(
            handler is match.route and f"{method} {mask}" in self._allowed
            for method, mask, _, handler in self._server.routes.listing()
        )

    def _keep_sample(self, route: Route, sent: Sent) -> None:
        """A few requests: the shortest of each sort, and those that may have left something behind."""
        if isinstance(sent, bytes) or self._judge.latest.seconds > _QUICK:
            return
        samples = self._samples.setdefault(route, {})
        for kind in self._gauge.rose():
            samples.setdefault((kind, sum(kind in sort for sort in samples) % _SUSPECTS), sent)
        names = frozenset(name for name in names_in(sent) if name.lstrip("?") in route.words)
        sort = sent.method, self._judge.latest.status, names
        known = samples.get(sort)
        if known is None and len(samples) >= _SAMPLES:
            return
        if known is None or size_of(sent) < size_of(known):
            samples[sort] = sent

    def _is_known(self, finding: Finding | None) -> bool:
        """Whether its exception is that of another finding."""
        if finding is None or finding.trace is None:
            return False
        places = {other.trace.place for other in self._findings if other.trace is not None}
        return finding.trace.place in places

    def _replace_thread(self) -> None:
        """A handler that does not come back keeps its thread; the others shall have enough of them."""
        if isinstance(self._server._lane, SerialLane):
            self._is_stuck = True  # no other handler is called before that one returns
        else:
            self._server.threads += 1

    # afterwards -----------------------------------------------------------------------------------

    def _confirm(self, routes: Sequence[Route]) -> None:
        """Sends the requests of findings again, one by one."""
        by_name = {route.name: route for route in (*routes, _ANYWHERE, _WIRE)}
        for finding in self._findings:
            if finding.kind is Kind.SLOW or finding.kind in LEAKS:
                continue  # that was measured more than once
            again = self._judge.ask(by_name[finding.route], finding.sent)
            if again is not None and again.kind is Kind.HANG:
                self._replace_thread()
            if again is None or again.key != finding.key:
                self._findings.doubt(finding)

    def _look_for_leaks(self) -> None:
        samples = {
            route: sorted(requests.values(), key=size_of) for route, requests in self._samples.items()
        }
        for finding in LeakSearch(self._judge.repeat, self._temporary).look(samples):
            self._findings.add(finding)
