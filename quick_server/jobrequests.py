"""Requests to workers: from the message of a client to an action on the job table.

Loop thread, except for what `run` does. A short message is read right here, so that following a job
never waits for the pool, however busy that is. The pool reads long ones, asks the middleware, and
looks for a result that is known already.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .cache import CacheKey, CachePlan, ResultCache
from .exchange import Exchange
from .handlers import Handler, HandlerCall
from .jobs import JobSpec, JobTable
from .limits import KIB
from .middleware import MiddlewareF
from .pool import Job, Lane
from .protocol.errors import error_outcome
from .protocol.forms import parse_json
from .protocol.messages import Outcome, ProtocolError
from .protocol.worker import Action, cut, parse_action
from .request import EMPTY, ReqArgs
from .routes import Match
from .workers import BaseWorker, Result, WorkerF

if TYPE_CHECKING:
    from .server import QuickServer

_SHORT = 16 * KIB  # of a message; to read one takes less than handing it over
_ACCEPTED = object()  # what is behind the middleware of a worker


class WorkerHandler(Handler):
    """A worker's function. The middleware around it is asked about every message of a client."""

    __slots__ = ("plan", "spec")

    def __init__(
        self,
        mask: str,
        function: WorkerF,
        worker: BaseWorker,
        plan: CachePlan,
        around: Sequence[MiddlewareF],
    ) -> None:
        super().__init__(function, "worker", around)
        self.spec = JobSpec(mask, function, worker)
        self.plan = plan

    @property
    def inner(self) -> Any:
        """What the middleware is wrapped around."""
        return _accept


def _accept(*_: Any) -> Any:
    return _ACCEPTED


class JobRequests:
    """Takes the requests for the job table."""

    def __init__(self, server: QuickServer, table: JobTable, cache: ResultCache, lane: Lane) -> None:
        """`lane` is where users' code runs."""
        self._server = server
        self._table = table
        self._cache = cache
        self._lane = lane

    def take(self, exchange: Exchange, match: Match[Handler], body: bytes | bytearray) -> None:
        """Takes a message in."""
        handler = match.route
        assert isinstance(handler, WorkerHandler)
        if len(body) > _SHORT or handler.call is not _accept:
            call = _MessageCall(self, self._server, exchange, match, body)
            exchange.submit(call, self._lane)
            return
        try:
            message = parse_json(body, nesting=self._server.limits.json_nesting)
            action = to_action(match, message, len(body))
        except ProtocolError as error:
            exchange.refuse(error.status, error.message)
        else:
            self.act(exchange, handler, action)

    def act(self, exchange: Exchange, handler: WorkerHandler, action: Action) -> None:
        """Does what the message asks for."""
        if action.name != "start":
            self._table.act(exchange, action)
        elif handler.plan.cache_id is None:
            self._table.start(exchange, action, handler.spec)
        else:
            look = _CacheLook(self._table, self._cache, exchange, handler, action)
            exchange.submit(look, self._lane)


def to_action(match: Match[Handler], message: Any, size: int) -> Action:
    """The action of a message; what the mask's segments stand for becomes part of the payload."""
    action = parse_action(message)._replace(size=size)
    action.payload.update(match.segments)
    return action


class _MessageCall(HandlerCall):
    """A message that is read in the pool, and goes through the middleware if there is any.

    What the middleware sees as `args["post"]` is the very message that is then acted on.
    """

    __slots__ = ("_action", "_body", "_message", "_requests")

    def __init__(
        self,
        requests: JobRequests,
        server: QuickServer,
        exchange: Exchange,
        match: Match[Handler],
        body: bytes | bytearray,
    ) -> None:
        super().__init__(server, exchange, match, EMPTY)
        self._requests = requests
        self._body = body
        self._message: Any = None
        self._action: Action | None = None

    def run(self) -> Outcome:
        """Pool thread."""
        try:
            self._message = parse_json(self._body, nesting=self._server.limits.json_nesting)
            if self._match.route.call is _accept:
                return self._respond(_ACCEPTED)
        except ProtocolError as error:
            return error_outcome(error.status, error.message, self._head)
        return super().run()

    def deliver(self, outcome: Outcome) -> None:
        """Loop thread."""
        if self._action is None:
            super().deliver(outcome)
            return
        handler = self._match.route
        assert isinstance(handler, WorkerHandler)
        self._exchange.fields += self._req.fields
        self._requests.act(self._exchange, handler, self._action)

    def _is_wanted(self) -> bool:
        """Who leaves a page stops its jobs, and does not wait for the answer."""
        stops = isinstance(self._message, dict) and self._message.get("action") == "stop"
        return stops or super()._is_wanted()

    def _call(self, args: ReqArgs) -> Any:
        self._req.content = self._body
        args["post"] = self._message
        return super()._call(args)

    def _respond(self, result: Any) -> Outcome:
        if result is not _ACCEPTED or self._req.error is not None:
            return super()._respond(result)
        self._action = to_action(self._match, self._message, len(self._body))
        return Outcome(200)


class _CacheLook(Job):
    """What comes before a computation: the look whether its result is known already."""

    __slots__ = ("_action", "_cache", "_exchange", "_handler", "_key", "_longest", "_table")

    def __init__(
        self,
        table: JobTable,
        cache: ResultCache,
        exchange: Exchange,
        handler: WorkerHandler,
        action: Action,
    ) -> None:
        self._table = table
        self._cache = cache
        self._exchange = exchange
        self._handler = handler
        self._action = action
        self._key: CacheKey | None = None
        self._longest = table.longest_piece

    def run(self) -> Result | None:
        """Pool thread: the result, if it is known."""
        self._key = self._cache.key(self._handler.plan, self._action.payload)
        text = self._cache.load(self._key) if self._key is not None else None
        return None if text is None else Result(cut(text, self._longest))

    def deliver(self, result: Result | None) -> None:
        """Loop thread."""
        spec = self._handler.spec
        if not self._exchange.alive:
            return  # nobody has been told of the job
        if result is not None:
            self._table.start_with(self._exchange, spec, result)
        else:
            keep = (self._cache, self._key) if self._key is not None else None
            self._table.start(self._exchange, self._action, spec, keep)
