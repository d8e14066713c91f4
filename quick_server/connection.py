"""One client's connection: stream, protocol, exchange and answering put together.

Loop thread. Owns the stream, the parser, the current exchange and one timer. Requests are taken one
at a time: while one is answered, what the client sends ahead waits, first in the parser's buffer and
then, reading paused, in the kernel. The timer guards whatever the connection is waiting for; what
that is says `_Wait`. How answers are sent is `answering.py`'s.

Everything ends in `lost`, once.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple, TypeAlias

from .answering import Answering
from .exchange import Exchange, Phase
from .limits import Limits
from .pool import Lane
from .producer import Producer, Takeover
from .protocol.errors import error_outcome
from .protocol.heads import HeadMemo
from .protocol.messages import Outcome, ProtocolError, RequestHead
from .protocol.server import ServerProtocol, Signal, State
from .protocol.writer import CONTINUE, ResponseWriter
from .reactor import Reactor
from .stream import Stream

_EVENTS_PER_TURN = 64  # of one connection, so that a flood of small chunks or requests lets others by
_TOO_LATE = "the request took too long to arrive"
_PLAIN = "this port speaks HTTPS: the address begins with https://"
_LOOKS = 6  # in the time that a client has to take some of its answer


@dataclass
class Service:
    """What all connections of a server share."""

    reactor: Reactor
    limits: Limits
    memo: HeadMemo
    writer: ResponseWriter
    dispatch: Callable[[Exchange], object]
    """Decides who answers an exchange, without blocking."""
    finished: Callable[[Exchange, int], object]
    """An exchange was answered with so many bytes of content, or its client went away."""
    lane: Lane
    """Where users' code runs."""
    malformed: Callable[[tuple[str, int], str, Outcome, str], object]
    """A client sent what is not HTTP, and was told so."""
    draining: bool = False
    """The server is about to end: no connection goes on after its answer."""
    connections: set[Connection] = field(default_factory=set)


class ConnectionState(NamedTuple):
    """What a connection is doing. Times are seconds."""

    client: tuple[str, int]
    age: float
    requests: int
    waits_for: str
    """`head`, `idle`, `body`, `answer`, `write` or `linger`."""
    request: str
    """The line of the request that is being answered, or nothing."""
    since: float
    """How long that has been going on."""


class _Wait(Enum):
    """What the connection's timer guards."""

    HEAD = auto()
    IDLE = auto()
    BODY = auto()
    ANSWER = auto()
    WRITE = auto()
    LINGER = auto()


MakeStream: TypeAlias = "Callable[[Reactor, socket.socket, Connection, Limits], Stream]"

_HEAD, _IDLE, _BODY, _ANSWER, _WRITE, _LINGER = _Wait


class Connection:
    """A client's connection, from accept to its end."""

    __slots__ = (
        "_advancing",
        "_answering",
        "_began",
        "_client",
        "_count",
        "_exchange",
        "_protocol",
        "_scheduled",
        "_service",
        "_skipping",
        "_stream",
        "_taken_at",
        "_takeover",
        "_timer",
        "_unread_room",
        "_untaken",
        "_wait",
    )

    def __init__(
        self,
        service: Service,
        sock: socket.socket,
        client: tuple[str, int],
        make_stream: MakeStream = Stream,
    ) -> None:
        self._service = service
        self._client = client
        self._protocol = ServerProtocol(service.limits, service.memo)
        self._exchange: Exchange | None = None
        self._takeover: Takeover | None = None  # who gets what the client sends, if that is not HTTP
        self._advancing = False
        self._scheduled = False  # whether `_advance` goes on in the next turn
        self._skipping = False  # the rest of a body whose request has been answered
        self._unread_room = service.limits.unread_body  # of a body that nobody wants
        self._untaken = 0  # bytes in the kernel when the client was last seen to take some,
        self._taken_at = 0.0  # which was then
        self._wait = _HEAD
        reactor = service.reactor
        self._began = reactor.now()
        self._count = 0  # of requests
        self._timer = reactor.call_at(self._began + service.limits.head_timeout, self._on_timer)
        service.connections.add(self)
        self._stream = make_stream(reactor, sock, self, service.limits)
        self._answering = Answering(self._stream, service.writer, service.lane, service.limits, self)

    @property
    def closing(self) -> bool:
        """Whether all that is left is to see the client go."""
        return self._stream.closing and not self._stream.pending

    @property
    def idle_since(self) -> float | None:
        """Since when it has waited for the first byte of a request; None: it is at something."""
        limits = self._service.limits
        if self._exchange is not None or self._protocol.waiting or self._stream.closing:
            return None
        if self._wait is _IDLE:
            return self._timer.when - limits.idle_timeout
        return self._timer.when - limits.head_timeout if self._wait is _HEAD else None

    def leave(self) -> bool:
        """Makes room for another connection, unless a request has arrived; returns whether it does."""
        self._stream.read_now()
        if not self._stream.closed and self.idle_since is None:
            return False
        self._stream.drop()
        return True

    def state(self, now: float) -> ConnectionState:
        """What goes on here."""
        exchange = self._exchange
        line = exchange.head.request_line if exchange is not None else ""
        since = exchange.started if exchange is not None else now
        doing = self._wait.name.lower()
        return ConnectionState(self._client, now - self._began, self._count, doing, line, now - since)

    def shut_down(self, patience: float) -> None:
        """The server ends: idle connections go, others after their answer.

        A request that has reached this machine is answered, and so is one that is on its way: idle
        means that none arrives within `patience` seconds.
        """
        producer = self._answering.producer
        if producer is not None:
            producer.shut_down()
            return
        if self._exchange is None and not self._stream.closed and not self._stream.closing:
            self._stream.read_now()
        if self._exchange is not None or self._stream.closed or self._stream.closing:
            return
        if patience and self._wait in (_HEAD, _IDLE):
            self._await(self._wait, patience)
        else:
            self._stream.drop()

    def abandon(self) -> None:
        """Ends the connection now; an answer under way is cut off in a way that the client can tell."""
        if self._exchange is None or self.closing:
            self._stream.drop()
        else:
            self._stream.abort()

    # from the stream ------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes from the client, b"" at their end."""
        if self._takeover is not None:
            self._takeover.receive(data)
            return
        exchange = self._exchange
        if exchange is None and not self._scheduled:
            head = self._protocol.known_head(data)
            if head is not None:
                self._begin(head)
                return
        self._protocol.receive(data)
        if exchange is None or exchange.wants_body:
            self._advance()
        elif data:  # sent ahead: no more of that until there is an answer
            self._stream.pause_reading()
        elif self._answering.producer is not None:
            self._answering.producer.peer_ended()
        else:
            exchange.peer_ended()

    def spoke_plainly(self) -> None:
        """The client began with plain HTTP where TLS is spoken."""
        self._send_unasked(error_outcome(400, _PLAIN, close=True), _PLAIN)

    def drained(self) -> None:
        """What had to wait is out."""
        if self._stream.closing:
            self._await(_LINGER, self._service.limits.linger_timeout)
        elif self._answering.producer is not None:
            self._wait = _ANSWER
            self._answering.producer.resume()
        elif self._exchange is not None and self._exchange.phase is Phase.SENDING:
            self.answer_is_out()

    def progressed(self) -> None:
        """The client takes its answer, slowly."""
        self._await_taking()
        if self._answering.producer is not None:
            self._answering.producer.resume()

    def lost(self) -> None:
        """The connection is closed: everything that belongs to it ends here."""
        self._timer.cancel()
        self._service.connections.discard(self)
        self._answering.lost()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lost()
            self._service.finished(exchange, self._answering.size)

    # requests -------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Acts on what the parser has, until it has no more, or a request is being answered."""
        if self._advancing or self._scheduled:
            return  # further up the stack the loop below is at work, or it goes on next turn
        self._advancing = True
        try:
            for _ in range(_EVENTS_PER_TURN):
                if not self._step():
                    break
            else:
                self._scheduled = True
                self._stream.pause_reading()
                self._service.reactor.go_on(self._advance_again)
        except ProtocolError as error:
            self._on_protocol_error(error)
        finally:
            self._advancing = False

    def _advance_again(self) -> None:
        self._scheduled = False
        self._advance()

    def _step(self) -> bool:
        """Takes one event; False when there is nothing to do now."""
        exchange = self._exchange
        if exchange is not None and not exchange.wants_body:
            return False
        if self._stream.closed or self._stream.closing:
            return False
        event = self._protocol.next_event()
        if exchange is not None and exchange.head.chunked:
            exchange.body_announced(self._protocol.announced)
        if type(event) is RequestHead:
            self._begin(event)
        elif type(event) is bytes:
            if event:  # else it was framing alone
                self._on_body(event)
        elif event is Signal.END:
            if exchange is not None:
                exchange.body_complete()
                if self._exchange is exchange and not self._protocol.waiting:
                    self._stream.resume_reading()  # it may have been paused, and the client may leave
            else:
                self._next_request()
        elif event is Signal.NEED_DATA:
            self._await_data()
            return False
        else:
            assert event is Signal.CLOSED, event
            self._stream.drop()
            return False
        return True

    def _begin(self, head: RequestHead) -> None:
        service = self._service
        self._answering.size = 0
        self._count += 1
        self._wait = _ANSWER  # its timer is left as it is; `_on_timer` knows better
        self._exchange = exchange = Exchange(head, self._client, self, service.reactor.now())
        if head.has_body:
            self._unread_room = service.limits.unread_body
        if self._protocol.ended:  # told to the exchange before; and this one may wait long for nobody
            exchange.peer_ended()
        service.dispatch(exchange)

    def _on_body(self, data: bytes) -> None:
        if self._exchange is not None:
            self._exchange.body_piece(data)
            return
        self._unread_room -= len(data)  # it has been answered already
        if self._unread_room < 0:
            self._linger()

    def _await_data(self) -> None:
        """Nothing to do until bytes arrive: sets the deadline that they have."""
        limits = self._service.limits
        self._stream.resume_reading()
        if self._protocol.state is not State.HEAD:
            exchange = self._exchange
            is_greedy = exchange is None or exchange.is_greedy
            self._stream.read_size = limits.body_chunk if is_greedy else limits.read_chunk
            self._await(_BODY, limits.body_timeout)
        elif self._protocol.waiting:
            if self._wait is not _HEAD:  # else it is one deadline for the whole head
                self._await(_HEAD, limits.head_timeout)
        elif self._wait is not _HEAD and self._wait is not _IDLE:
            self._await(_IDLE, limits.idle_timeout)

    def _next_request(self) -> None:
        self._skipping = False
        self._stream.read_size = self._service.limits.read_chunk
        self._protocol.next_request()
        self._wait = _ANSWER

    def _on_protocol_error(self, error: ProtocolError) -> None:
        """The client broke the rules: tell it, if it has no answer yet, and close."""
        exchange = self._exchange
        head = exchange.head if exchange is not None else None
        outcome = error_outcome(error.status, error.message, head, close=True)
        if exchange is not None:
            exchange.answer(outcome)
        elif self._skipping:  # that request has had its answer
            self._linger()
        else:
            self._send_unasked(outcome, error.message)

    def _send_unasked(self, outcome: Outcome, why: str) -> None:
        """An error page for what is no request."""
        line = self._protocol.request_line
        wants_content = not line.startswith("HEAD ")  # of errors neither (RFC 9110 section 9.3.2)
        self._answering.send_unasked(outcome, with_content=wants_content)
        self._service.malformed(self._client, line, outcome, why)
        self._linger()

    # for the exchange -----------------------------------------------------------------------------

    def send_continue(self) -> None:
        """Asks for the body, unless some of it is there already (RFC 9110 section 10.1.1)."""
        if not self._protocol.waiting:
            self._stream.write(CONTINUE)

    def peer_has_left(self) -> bool:
        """Whether the client has ended its side, or is gone, where that has not been read."""
        return self._stream.peer_has_left()

    def send_interim(self, data: bytes) -> None:
        """Sends a head that comes before that of the answer."""
        self._stream.write(data)

    def resume_body(self) -> None:
        """There is room for more of the body."""
        self._advance()

    def dispose(self, outcome: Outcome) -> None:
        """Closes what an answer that nobody will get holds."""
        self._answering.dispose(outcome)

    def send(self, outcome: Outcome) -> None:
        """Frames and sends the answer to the current exchange."""
        exchange = self._exchange
        assert exchange is not None
        if outcome.silent:
            self._stream.drop()
            return
        head = exchange.head
        keep = head.keep_alive and not outcome.close and self._may_go_on(head)
        self._answering.send(outcome, exchange, keep)

    def _may_go_on(self, head: RequestHead) -> bool:
        """Whether the rest of this request can be skipped, so that the next one can be read."""
        if self._service.draining:
            return False
        if self._protocol.state is State.COMPLETE:
            return True
        if head.expectation != "none":  # will the body come or not? Only closing is unambiguous
            return False
        unread = self._protocol.unread
        return unread is None or unread <= self._unread_room

    # for its answers ------------------------------------------------------------------------------

    def answer_takes_over(self, takeover: Takeover) -> None:
        """From now on what the client sends is for `takeover`, and it says when that is read."""
        self._takeover = takeover
        self._stream.resume_reading()

    def answer_began(self, producer: Producer) -> None:
        """Tells it what has come before it could be told."""
        if self._takeover is not None:
            rest = self._protocol.take_rest()
            if rest:
                self._takeover.receive(rest)
        if self._service.draining and self._answering.producer is producer:
            producer.shut_down()

    def answer_waits(self) -> None:
        """The client has to take some of its answer first."""
        if self._wait is not _WRITE:
            self._await_taking()

    def answer_is_out(self) -> None:
        """On to the next request, or to the end."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:  # the client went away while we wrote; `lost` saw to it
            return
        exchange.sent()
        self._service.finished(exchange, self._answering.size)
        if not self._answering.keep or self._service.draining:
            self._linger()
            return
        protocol = self._protocol
        self._skipping = protocol.state is not State.COMPLETE
        if not self._skipping:
            self._next_request()
            if not protocol.waiting and not protocol.ended:  # nearly always: nothing to act on yet
                self._stream.resume_reading()
                self._await(_IDLE, self._service.limits.idle_timeout)
                return
        self._advance()

    # time -----------------------------------------------------------------------------------------

    def _await(self, what: _Wait, seconds: float) -> None:
        self._wait = what
        self._timer.move(self._service.reactor.now() + seconds)

    def _await_taking(self) -> None:
        """The client has to take some of its answer."""
        self._untaken = self._stream.unacknowledged()
        self._taken_at = self._service.reactor.now()
        self._await(_WRITE, self._service.limits.write_timeout / _LOOKS)

    def _look_what_was_taken(self) -> None:
        """The kernel tells of room only when a third of its buffer is free: megabytes, for the slow."""
        if self._stream.unacknowledged() < self._untaken:
            self._await_taking()
        elif self._service.reactor.now() - self._taken_at < self._service.limits.write_timeout:
            self._await(_WRITE, self._service.limits.write_timeout / _LOOKS)
        else:
            self._stream.abort()

    def _linger(self) -> None:
        """Half-closes, then read and drop for a while, so that the answer is read and not reset."""
        limits = self._service.limits
        self._stream.close()
        if self._stream.pending:
            self._await_taking()
        elif not self._stream.closed:
            self._await(_LINGER, limits.linger_timeout)

    def _on_timer(self) -> None:
        limits = self._service.limits
        waited_for = self._wait
        self._timer = self._service.reactor.call_later(limits.linger_timeout, self._on_timer)
        unwanted = self._exchange is not None and not self._exchange.wants_body
        if waited_for is _ANSWER or (waited_for is _BODY and unwanted):
            self._timer.move(self._service.reactor.now() + limits.idle_timeout)
        elif waited_for is _LINGER:
            self._stream.drop()
        elif waited_for is _WRITE:
            self._look_what_was_taken()
        elif waited_for is _BODY:
            if self._exchange is not None:
                self._exchange.refuse(408, _TOO_LATE, close=True)
            else:  # it has had its answer
                self._linger()
        elif waited_for is _HEAD and self._protocol.waiting:
            self._send_unasked(error_outcome(408, _TOO_LATE, close=True), _TOO_LATE)
        else:
            self._stream.drop()
