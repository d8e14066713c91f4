"""Requests that an upstream answers.

Loop thread; nothing here waits. A `Forwarding` is one exchange on its way: it takes the request's body
as it arrives and hands it up, takes the answer as it arrives and hands it down, and lets neither side
run ahead by more than a bound. Which upstream is asked is the business of `proxies.py`.

    CONNECTING ──connected──▶ ASKING ──head of the answer──▶ ANSWERING ──its end──▶ DONE
        ▲                        │                               (101: a tunnel)
        └─a kept connection died─┘        any ──client gone, error──▶ DONE

There is one answer for one request. What goes wrong before it has begun is a 502 or 504; what goes
wrong behind that aborts the client's connection, so that nobody takes half an answer for a whole one.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import NamedTuple

from .exchange import Exchange
from .limits import Limits
from .log import escape, log_server
from .producer import Outlet, Producer, Takeover
from .protocol.client import ClientProtocol, ClientSignal, ResponseHead, TruncatedError
from .protocol.errors import error_outcome
from .protocol.forwarding import Route, response_fields
from .protocol.messages import Outcome, ProtocolError
from .protocol.writer import LAST_CHUNK, has_content, status_line
from .reactor import Reactor
from .timers import Timer
from .upstreams import Attempt, ConnectError, Link, Origin, Upstreams

_IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"))
_ANY_LENGTH = 1 << 62
_CORS = "access-control-"
_EVENTS_PER_TURN = 64
_LOOK_EVERY = 0.4  # seconds; a client that has left for two looks is gone


class Upstream(NamedTuple):
    """What stands behind a path."""

    route: Route
    origin: Origin
    segments: tuple[str, ...]
    """Of the prefix."""


class Phase(Enum):
    """How far a forwarded request has come."""

    CONNECTING = auto()
    ASKING = auto()
    ANSWERING = auto()
    DONE = auto()


class Event(Enum):
    """What moves it on."""

    CONNECTED = auto()
    DIED = auto()
    ANSWERED = auto()
    ENDED = auto()


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.CONNECTING, Event.CONNECTED): Phase.ASKING,
    (Phase.ASKING, Event.DIED): Phase.CONNECTING,
    (Phase.ASKING, Event.ANSWERED): Phase.ANSWERING,
    (Phase.CONNECTING, Event.ENDED): Phase.DONE,
    (Phase.ASKING, Event.ENDED): Phase.DONE,
    (Phase.ANSWERING, Event.ENDED): Phase.DONE,
}


class UpstreamRequest(NamedTuple):
    """What is asked of an upstream."""

    head: bytes
    """As it goes over the wire."""
    upgrade: bool
    """Whether it asks for another protocol."""
    scheme: str
    """By which the client has come here."""
    decides_origins: bool
    """Whether it is said here which pages may read the answer (CORS), and not by the upstream."""


Report = Callable[[Exchange, Upstream, str], object]


class Forwarding(Producer):
    """One exchange that an upstream answers.

    It is the sink of the request's body, the producer of the answer's content, and the user of one
    connection to the upstream.
    """

    limit = _ANY_LENGTH
    is_greedy = False

    def __init__(
        self,
        exchange: Exchange,
        upstream: Upstream,
        request: UpstreamRequest,
        reactor: Reactor,
        upstreams: Upstreams,
        limits: Limits,
        report: Report | None,
    ) -> None:
        """`report` is told how it went, for debugging."""
        self._exchange = exchange
        self._upstream = upstream
        self._request = request
        self._reactor = reactor
        self._upstreams = upstreams
        self._limits = limits
        self._report = report
        self._protocol = ClientProtocol(limits)
        self.length: int | None = None
        # of the way up
        self._phase = Phase.CONNECTING
        self._attempt: Attempt | None = None
        self._link: Link | None = None
        self._body_begun = self._body_complete = False
        self._silent = True  # nothing has come of the upstream on this connection
        self._reused = self._keep = False  # whether it has been used before, and can be again
        # of the way down
        self._outlet: Outlet | None = None
        self._advancing = self._scheduled = False
        self._switched = False
        self._client_ended = self._upstream_ended = False  # of a tunnel
        self._peer_ended = False
        self._sent = 0
        self._sent_before = 0
        self._had_left = False
        self._looking: Timer | None = None  # for the client
        self._timer: Timer | None = None

    def begin(self) -> None:
        """Asks for a connection."""
        self._exchange.watch(self)
        if self._phase is Phase.CONNECTING:  # else the client was gone already
            self._looking = self._reactor.call_later(_LOOK_EVERY, self._look_for_client)
            self._connect(fresh=False)

    def _connect(self, *, fresh: bool) -> None:
        self._attempt = self._upstreams.connect(self._upstream.origin, self._on_link, fresh=fresh)

    def _move(self, event: Event) -> None:
        self._phase = TRANSITIONS[self._phase, event]

    # asking ---------------------------------------------------------------------------------------

    def _on_link(self, link: Link | ConnectError) -> None:
        self._attempt = None
        if isinstance(link, ConnectError):
            if link.timed_out:
                self._fail(504, "could not be reached in time", link.why)
            else:
                self._fail(502, "cannot be reached", link.why)
            return
        self._move(Event.CONNECTED)
        head = self._exchange.head
        self._link = link
        self._reused, self._silent = link.reused, True
        self._protocol.begin(head.method, upgrade=self._request.upgrade)
        link.attach(self)
        link.stream.reads_on = True  # an answer may be there before the request is
        link.stream.write(self._request.head)
        if link.stream.closed:  # it died under the write, and `lost` has seen to it
            return
        if not head.has_body:
            self._body_complete = True
            self._await_answer()
        elif head.expectation == "continue":
            self._wait(self._limits.continue_timeout, self._begin_body)
        else:
            self._begin_body()

    def _begin_body(self) -> None:
        """The upstream wants the content, or has not said otherwise in time."""
        if self._body_begun or self._phase is not Phase.ASKING or not self._exchange.head.has_body:
            return
        self._body_begun = True
        self._await_answer()
        self._exchange.receive(self)

    def _await_answer(self) -> None:
        self._wait(self._limits.first_byte_timeout, self._on_too_late)

    def _on_too_late(self) -> None:
        if self._phase is Phase.ASKING:
            self._fail(504, "did not answer in time")

    # the request's body (a sink)

    @property
    def has_room(self) -> bool:
        """Whether the upstream keeps up."""
        return self._link is not None and self._link.stream.unsent <= self._limits.stream_ahead

    def piece(self, data: bytes) -> None:
        """A piece of the content."""
        if self._link is None or self._phase is not Phase.ASKING:
            return
        self._prolong(self._limits.first_byte_timeout)
        if self._exchange.head.chunked:
            self._link.stream.write(b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._link.stream.write(data)

    def complete(self) -> None:
        """All of it has been handed up."""
        self._body_complete = True
        if self._link is not None and self._exchange.head.chunked and self._phase is Phase.ASKING:
            self._link.stream.write(LAST_CHUNK)

    def give_up(self) -> None:
        """There has been an answer before it was complete, or the client is gone."""

    # from the upstream ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer, b"" at their end."""
        if self._switched:
            self._pass_on(data)
            return
        if data:
            self._silent = False
        elif self._may_try_again():
            self._try_again()
            return
        self._protocol.receive(data)
        self._advance()

    def drained(self) -> None:
        """The upstream has taken all that there was."""
        self._resume_client()

    def progressed(self) -> None:
        """It takes some."""
        self._resume_client()

    def lost(self) -> None:
        """The connection is gone."""
        if self._link is None:  # given up by us
            return
        if self._may_try_again():
            self._try_again()
        elif self._switched:
            self._finish(complete=False)
        elif self._phase is Phase.ANSWERING:
            self._cut_off()
        else:
            self._fail(502, "broke the connection off before it answered")

    def _resume_client(self) -> None:
        if not self.has_room:
            return
        if self._switched and self._outlet is not None:
            self._outlet.resume_reading()
        elif self._phase is Phase.ASKING:
            self._exchange.resume_body()

    def _may_try_again(self) -> bool:
        """A kept connection may have been closed just when it was used; nobody has seen the request."""
        head = self._exchange.head
        if self._phase is not Phase.ASKING or not self._reused or not self._silent:
            return False
        return not head.has_body and head.method in _IDEMPOTENT

    def _try_again(self) -> None:
        self._move(Event.DIED)
        self._protocol = ClientProtocol(self._limits)
        self._let_go(reusable=False)
        self._connect(fresh=True)

    def _advance(self) -> None:
        """Acts on what has come, as far as the client takes it."""
        if self._advancing or self._scheduled:
            return
        self._advancing = True
        try:
            for _ in range(_EVENTS_PER_TURN):
                if not self._step():
                    return
            self._scheduled = True
            if self._link is not None:  # small pieces take longer to handle than to send
                self._link.stream.pause_reading()
            self._reactor.go_on(self._advance_again)
        except TruncatedError:
            self._cut_off()
        except ProtocolError as error:
            if self._phase is Phase.ANSWERING:
                self._cut_off()
            else:
                self._fail(502, error.message)
        finally:
            self._advancing = False

    def _advance_again(self) -> None:
        self._scheduled = False
        self._advance()

    def _step(self) -> bool:
        """Takes one event; False if there is nothing to do now."""
        link = self._link
        if link is None or self._phase is Phase.DONE:
            return False
        if self._phase is Phase.ANSWERING and (
            self._outlet is None or self._outlet.unsent > self._limits.stream_ahead
        ):
            link.stream.pause_reading()
            return False
        event = self._protocol.next_event()
        if isinstance(event, ResponseHead):
            self._on_head(event)
        elif isinstance(event, bytes):
            if event and self._outlet is not None:
                self._prolong(self._silence)
                self._sent += len(event)
                self._outlet.send_piece(event)
        elif event is ClientSignal.END:
            self._complete()
            return False
        elif event is ClientSignal.SWITCHED:
            self._switch()
            return False
        else:
            link.stream.resume_reading()
            return False
        return True

    # answering --------------------------------------------------------------------------------------

    def _on_head(self, head: ResponseHead) -> None:
        exchange = self._exchange
        if head.status < 200 and head.status != 101:
            if head.status == 100:
                self._begin_body()
            else:
                exchange.inform(status_line(head.status) + self._fields(head) + b"\r\n")
            return
        self._move(Event.ANSWERED)
        self._keep = head.keep_alive
        exchange.upstream_time = self._reactor.now() - exchange.started
        if self._report is not None:
            self._report(exchange, self._upstream, str(head.status))
        self.length = head.content_length if exchange.head.method == "HEAD" else head.length
        body = Tunnel(self) if head.status == 101 else self
        self._wait(self._silence, self._on_silence)
        outcome = Outcome(head.status, self._fields(head), body, relayed=True)
        exchange.answer(outcome)
        if self._outlet is None and self._phase is Phase.ANSWERING:  # nobody takes content
            whole = not has_content(outcome, exchange.head)
            whole = whole and self._protocol.next_event() is ClientSignal.END
            self._end(reusable=whole and self._may_keep())

    @property
    def _silence(self) -> float:
        """Seconds that the upstream may be silent. What it does not get of the request it may await."""
        limits = self._limits
        return limits.upstream_silence if self._body_complete else limits.body_timeout

    def _fields(self, head: ResponseHead) -> bytes:
        request = self._exchange.head
        client = (self._request.scheme, request.headers.get("host", ""))
        if self._request.decides_origins:
            own = tuple(field for field in head.fields if not field[0].lower().startswith(_CORS))
            head = head._replace(fields=own)
        return response_fields(self._upstream.route, head, client)

    def start(self, outlet: Outlet) -> None:
        """The head is on its way to the client."""
        self._outlet = outlet
        self._advance()

    def resume(self) -> None:
        """The client has taken some."""
        if self._switched:
            if (
                self._link is not None
                and self._outlet is not None
                and self._outlet.unsent <= self._limits.stream_ahead
            ):
                self._link.stream.resume_reading()
        else:
            self._advance()

    def shut_down(self) -> None:
        """The server ends: the client may have the rest in the time that there is."""
        if self._switched:
            self._finish(complete=True)

    def stop(self) -> None:
        """The client is gone, or takes no content."""
        self._outlet = None
        if self._phase is Phase.ANSWERING and not self._advancing:
            self._end(reusable=False)

    def _complete(self) -> None:
        """The upstream's answer is there as a whole."""
        outlet = self._outlet
        self._end(reusable=self._may_keep())
        if outlet is not None:
            outlet.end_content(complete=True)

    def _may_keep(self) -> bool:
        broken = self._link is not None and self._link.stream.broken
        return self._keep and self._body_complete and self._protocol.idle and not broken

    def _finish(self, *, complete: bool) -> None:
        outlet = self._outlet
        self._end(reusable=False)
        if outlet is not None:
            outlet.end_content(complete=complete)

    def _cut_off(self) -> None:
        """The answer cannot be completed: the client must be able to tell."""
        self._say("broke the connection off in the middle of its answer")
        self._finish(complete=False)

    # a tunnel ---------------------------------------------------------------------------------------

    def _switch(self) -> None:
        """What follows is no HTTP: bytes pass as they come, both ways."""
        self._switched = True
        self._wait(self._limits.tunnel_idle, self._on_silence)
        if self._protocol.rest:
            self._pass_on(self._protocol.rest)
        if self._peer_ended:
            self.pass_up(b"")
        if self._link is not None:
            self._link.stream.resume_reading()

    def _pass_on(self, data: bytes) -> None:
        """From the upstream to the client."""
        outlet, link = self._outlet, self._link
        if outlet is None or link is None:
            return
        self._prolong(self._limits.tunnel_idle)
        if not data:
            self._upstream_ended = True
            outlet.finish()
            self._look_for_both_ends()
            return
        outlet.send_piece(data)
        if self._outlet is not None and outlet.unsent > self._limits.stream_ahead:
            link.stream.pause_reading()

    def pass_up(self, data: bytes) -> None:
        """From the client to the upstream."""
        outlet, link = self._outlet, self._link
        if link is None:
            return
        self._prolong(self._limits.tunnel_idle)
        if not data:
            self._client_ended = True
            link.stream.end()
            self._look_for_both_ends()
            return
        link.stream.write(data)
        if (
            outlet is not None
            and self._link is not None
            and link.stream.unsent > self._limits.stream_ahead
        ):
            outlet.pause_reading()

    def _look_for_both_ends(self) -> None:
        if self._client_ended and self._upstream_ended:
            self._finish(complete=True)

    # the exchange (a watcher)

    def peer_ended(self) -> None:
        """The client has ended its side: it has gone away, unless it takes what comes."""
        self._peer_ended = True

    def ended(self, *, delivered: bool) -> None:
        """It is over."""
        if self._phase is not Phase.DONE and not (delivered and self._phase is Phase.ANSWERING):
            self._end(reusable=False)

    def _look_for_client(self) -> None:
        """Has it left? Its end alone does not tell; but that it takes nothing for a while does."""
        if self._phase is Phase.DONE or self._switched:
            return
        left = self._peer_ended or self._exchange.peer_has_left()
        if left and self._had_left and self._sent == self._sent_before:
            self._exchange.answer(Outcome(499, silent=True))
            self._finish(complete=False)
            return
        self._had_left, self._sent_before = left, self._sent
        self._looking = self._reactor.call_later(_LOOK_EVERY, self._look_for_client)

    # ending -----------------------------------------------------------------------------------------

    def _on_silence(self) -> None:
        if self._switched:
            self._finish(complete=True)
        else:
            self._cut_off()

    def _fail(self, status: int, why: str, details: str = "") -> None:
        """There will be no answer of the upstream's. What its address is only the log tells."""
        self._say(f"{why} ({details})" if details else why)
        route = self._upstream.route
        where = f" ({address_of(route)})" if self._report is not None else ""
        message = f"the upstream behind {route.prefix}{where} {why}"
        self._end(reusable=False)
        close = self._body_begun and not self._body_complete
        self._exchange.answer(error_outcome(status, message, self._exchange.head, close=close))

    def _say(self, why: str) -> None:
        address = address_of(self._upstream.route)
        log_server(f"upstream {address} {escape(why)}: {escape(self._exchange.head.request_line)}")

    def _end(self, *, reusable: bool) -> None:
        """Everything of this ends here, once."""
        if self._phase is Phase.DONE:
            return
        self._move(Event.ENDED)
        self._outlet = None
        for timer in (self._timer, self._looking):
            if timer is not None:
                timer.cancel()
        if self._attempt is not None:
            self._attempt.cancel()
            self._attempt = None
        self._let_go(reusable=reusable)

    def _let_go(self, *, reusable: bool) -> None:
        link, self._link = self._link, None
        if link is None:
            return
        if reusable:
            link.release()
        else:
            link.drop()

    def _wait(self, seconds: float, then: Callable[[], object]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._reactor.call_later(seconds, then)

    def _prolong(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.move(self._reactor.now() + seconds)


class Tunnel(Takeover):
    """An upstream's 101: from now on both sides speak something else."""

    def __init__(self, forwarding: Forwarding) -> None:
        self._forwarding = forwarding

    def start(self, outlet: Outlet) -> None:
        """The head is on its way."""
        self._forwarding.start(outlet)

    def receive(self, data: bytes) -> None:
        """Bytes from the client."""
        self._forwarding.pass_up(data)

    def resume(self) -> None:
        """The client has taken some."""
        self._forwarding.resume()

    def shut_down(self) -> None:
        """The server ends: so does the tunnel."""
        self._forwarding.shut_down()

    def stop(self) -> None:
        """The client is gone."""
        self._forwarding.stop()


def address_of(route: Route) -> str:
    """Where the upstream is, for people."""
    if route.socket_path is not None:
        return f"unix:{escape(route.socket_path)}"
    host = f"[{route.host}]" if ":" in route.host else route.host
    return f"{route.scheme}://{host}:{route.port}"
