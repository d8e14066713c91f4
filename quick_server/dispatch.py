"""Who answers a request: the order of things, and what is refused before anything is asked.

Loop thread; nothing here blocks. Each exchange passes through `Dispatcher.dispatch` once: it is
refused, or its pre-middleware is run, then a handler called, a file looked for, or an upstream asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .accesslog import SlowRequests
from .events import EVENT_FIELDS, EventChannel, EventStream
from .exchange import Exchange
from .handlers import EventCall, Handler, HandlerCall
from .jobrequests import JobRequests
from .lookups import FileLookup, PreMiddlewareCall, answer_nothing_found
from .origin import cors_fields, is_foreign, is_own_host, preflight_fields
from .pool import Lane, Pool
from .protocol.forms import media_type
from .protocol.messages import Outcome, ProtocolError
from .protocol.writer import field_line
from .proxies import Proxies
from .reactor import Reactor
from .request import EMPTY, Content
from .routes import Match
from .static import FileServer

if TYPE_CHECKING:
    from .server import QuickServer

_MULTIPART = "multipart/form-data"


class Dispatcher:
    """Decides, by the server's settings and routes as they are at that moment."""

    def __init__(
        self,
        server: QuickServer,
        reactor: Reactor,
        pool: Pool,
        lane: Lane,
        files: FileServer,
        slow: SlowRequests,
        jobs: JobRequests,
        proxies: Proxies,
        *,
        is_local: bool,
    ) -> None:
        """`lane` is where users' code runs; `is_local` says that only loopback is listened on."""
        self._server = server
        self._reactor = reactor
        self._pool = pool
        self._lane = lane
        self._files = files
        self._slow = slow
        self._jobs = jobs
        self._proxies = proxies
        self.is_local = is_local

    def dispatch(self, exchange: Exchange) -> None:
        """Takes a request in: may it be asked at all? Then pre-middleware, if there is any."""
        server = self._server
        head = exchange.head
        if server.report_slow_requests:
            self._slow.watch(exchange)
        if server.cross_origin:
            exchange.fields = cors_fields(head.headers, server.cross_origin)
        if self.is_local and not is_own_host(head.headers.get("host"), server.allowed_hosts):
            exchange.refuse(421, "this server has no such name; see allowed_hosts")
        elif is_foreign(head, server.allowed_hosts, server.cross_origin):
            exchange.refuse(403, "another site's pages may not change anything here")
        elif head.expectation == "unknown":
            exchange.refuse(417, "only the expectation 100-continue can be met")
        elif server.pre_middleware:
            call = PreMiddlewareCall(server, exchange, server.pre_middleware, self._route)
            exchange.submit(call, self._lane)
        else:
            self._route(exchange)

    def _route(self, exchange: Exchange) -> None:
        """Decides who answers. The order: handlers, files that exist, upstreams, 405 or 404."""
        server = self._server
        head = exchange.head
        target = head.target
        if head.method == "OPTIONS" and self._answer_options(exchange):
            return
        if target.segments is None:
            exchange.refuse(404, "the path leaves the root")
            return
        method = "GET" if head.method == "HEAD" else head.method
        match = server.routes.find(method, target.segments)
        if match is None:
            self._look_for_file(exchange)
        elif target.is_text:
            self._call_handler(exchange, match)
        else:
            exchange.refuse(400, "the path is not UTF-8")

    def _answer_options(self, exchange: Exchange) -> bool:
        """Answers what concerns the server as a whole, and preflights (with `cross_origin`)."""
        server = self._server
        headers = exchange.head.headers
        if exchange.head.target.raw == "*":
            exchange.answer(Outcome(204, field_line("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE")))
        elif server.cross_origin and "access-control-request-method" in headers:
            exchange.answer(Outcome(204, preflight_fields(headers)))
        else:
            return False
        return True

    def _call_handler(self, exchange: Exchange, match: Match[Handler]) -> None:
        """Has the handler called, once there is as much of the body as it wants."""
        head = exchange.head
        if head.method == "GET" or head.method == "HEAD":
            # Content of a GET has no meaning (RFC 9110 section 9.3.1): it is left unread.
            self._call(exchange, match, EMPTY)
        elif match.route.kind == "worker":
            limit = self._server.max_file_size
            exchange.gather(limit, lambda body: self._jobs.take(exchange, match, body))
        elif head.has_body and head.headers.get("content-type", "").lower().startswith(_MULTIPART):
            self._receive_form(exchange, lambda content: self._call(exchange, match, content))
        else:
            limit = self._server.max_file_size
            exchange.gather(limit, lambda body: self._call(exchange, match, Content(body)))

    def _call(self, exchange: Exchange, match: Match[Handler], content: Content) -> None:
        if match.route.kind == "events":
            job = self._event_call(exchange, match, content)
        else:
            job = HandlerCall(self._server, exchange, match, content)
        if not exchange.submit(job, self._lane):
            content.close()

    def _receive_form(self, exchange: Exchange, call: Callable[[Content], None]) -> None:
        server = self._server
        from .uploads import Upload, make_form  # with the first form: not every server gets one

        try:
            _, parameters = media_type(exchange.head.headers["content-type"])
            form = make_form(parameters, server.max_file_size, server.limits)
        except ProtocolError as error:
            exchange.refuse(error.status, error.message)
            return
        exchange.receive(Upload(exchange, self._pool, form, lambda form: call(Content(form=form))))

    def _event_call(self, exchange: Exchange, match: Match[Handler], content: Content) -> HandlerCall:
        server = self._server
        channel = EventChannel(
            self._reactor, exchange.head.headers.get("last-event-id"), server.limits.event_ahead
        )
        stream = EventStream(channel, self._reactor, self._lane, server.heartbeat)
        opened = Outcome(200, EVENT_FIELDS, stream)
        call = EventCall(server, exchange, match, content, channel, opened)
        channel.opener = call.open
        return call

    def _look_for_file(self, exchange: Exchange) -> None:
        server = self._server
        allowed = server.routes.methods(exchange.head.target.segments or ())
        if "GET" in allowed:
            allowed.add("HEAD")
        if self._files.any:
            lookup = FileLookup(self._files, exchange, allowed, self._forward)
            exchange.submit(lookup, self._pool)
        else:
            self._forward(exchange, allowed)

    def _forward(self, exchange: Exchange, allowed: set[str]) -> None:
        """Nothing here answers: an upstream does, if one stands behind that path."""
        if exchange.alive and not self._proxies.forward(exchange):
            answer_nothing_found(exchange, allowed)
