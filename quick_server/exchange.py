"""One request and its answer: a state table.

    RECEIVING ──whole body──▶ RUNNING ──outcome──▶ SENDING ──sent──▶ DONE
    RECEIVING ──outcome (nobody needs the body)──▶ SENDING        any ──lost──▶ DONE

Loop thread. Owns what has arrived of the body, and sees to it that there is one answer: an outcome
that comes when the client is gone, or when there has been an answer, is given up here and nowhere
else. It reaches the wire only through its `Channel`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, auto
from typing import Protocol

from .pool import Job, Lane, PoolFullError
from .protocol.errors import error_outcome
from .protocol.messages import Outcome, RequestHead


class Phase(IntEnum):
    """How far a request has come."""

    RECEIVING = auto()
    RUNNING = auto()
    SENDING = auto()
    DONE = auto()


class Event(IntEnum):
    """What moves it on."""

    BODY_COMPLETE = auto()
    ANSWERED = auto()
    SENT = auto()
    LOST = auto()


TRANSITIONS: dict[tuple[Phase, Event], Phase] = {
    (Phase.RECEIVING, Event.BODY_COMPLETE): Phase.RUNNING,
    (Phase.RECEIVING, Event.ANSWERED): Phase.SENDING,
    (Phase.RUNNING, Event.ANSWERED): Phase.SENDING,
    (Phase.SENDING, Event.SENT): Phase.DONE,
    (Phase.RECEIVING, Event.LOST): Phase.DONE,
    (Phase.RUNNING, Event.LOST): Phase.DONE,
    (Phase.SENDING, Event.LOST): Phase.DONE,
    (Phase.DONE, Event.LOST): Phase.DONE,
}


class Channel(Protocol):
    """What an exchange needs of its connection."""

    def send_continue(self) -> None:
        """Asks the client for the body it is waiting with."""

    def send_interim(self, data: bytes) -> None:
        """Sends a head that comes before that of the answer."""

    def peer_has_left(self) -> bool:
        """Whether the client has ended its side, or is gone, where that has not been read."""

    def resume_body(self) -> None:
        """Reads on, now that there is room for more of the body."""

    def send(self, outcome: Outcome) -> None:
        """Sends the answer; `Exchange.sent` follows."""

    def dispose(self, outcome: Outcome) -> None:
        """Gives back what an answer that nobody will get holds."""


class BodySink(Protocol):
    """Who takes a request's body. Loop thread."""

    limit: int
    """Bytes that the body may have; past it 413."""

    is_greedy: bool
    """Whether large pieces are better than small ones: it keeps or stores them all anyway."""

    @property
    def has_room(self) -> bool:
        """Whether it takes more now; if not, it calls `Exchange.resume_body` later."""

    def piece(self, data: bytes) -> None:
        """Takes a piece."""

    def complete(self) -> None:
        """The body is there as a whole."""

    def give_up(self) -> None:
        """It will not be: the client is gone, or has been answered."""


class Watcher(Protocol):
    """Who wants to know how an exchange goes on. Loop thread."""

    def peer_ended(self) -> None:
        """The client has ended its side while it waits for the answer."""

    def ended(self, *, delivered: bool) -> None:
        """It is over: the answer has been handed to the kernel as a whole, or never will be."""


class Exchange:
    """The life of one request; `started` is a moment on the loop's clock."""

    __slots__ = (
        "_channel",
        "_peer_ended",
        "_sink",
        "_watcher",
        "client",
        "fields",
        "head",
        "outcome",
        "phase",
        "started",
        "upstream_time",
    )

    def __init__(
        self, head: RequestHead, client: tuple[str, int], channel: Channel, started: float
    ) -> None:
        self.head = head
        self.client = client
        self.started = started
        self.phase = Phase.RECEIVING
        self.outcome: Outcome | None = None
        self.fields = b""
        """Field lines that the answer carries whatever it is."""
        self.upstream_time: float | None = None
        """Seconds until an upstream began to answer, if one was asked."""
        self._channel = channel
        self._sink: BodySink | None = None
        self._watcher: Watcher | None = None
        self._peer_ended = False

    # for whoever answers --------------------------------------------------------------------------

    def gather(self, limit: int, then: Callable[[bytes | bytearray], object]) -> None:
        """Has the body collected and calls `then(body)`; past `limit` bytes the answer is 413."""
        if self.head.has_body:
            self.receive(_Gathering(limit, then))
        else:
            self._move(Event.BODY_COMPLETE)
            then(b"")

    def receive(self, sink: BodySink) -> None:
        """Has the body handed to `sink` as it arrives."""
        head = self.head
        if head.content_length > sink.limit:
            sink.give_up()
            self.refuse(413, too_large(sink.limit), close=True)
            return
        self._sink = sink
        if head.expectation == "continue":
            self._channel.send_continue()
        self._channel.resume_body()  # it may be a while since the head was read

    @property
    def alive(self) -> bool:
        """Whether the client still waits for an answer."""
        return self.phase < Phase.SENDING

    def resume_body(self) -> None:
        """There is room again in the sink that had none."""
        if self._sink is not None:
            self._channel.resume_body()

    def watch(self, watcher: Watcher) -> None:
        """Has `watcher` told what becomes of this; it takes the place of the one before."""
        self._watcher = watcher
        if self._peer_ended:
            watcher.peer_ended()

    def peer_has_left(self) -> bool:
        """Whether the client has ended its side, or is gone, behind what it has sent ahead."""
        return self._channel.peer_has_left()

    def inform(self, head: bytes) -> None:
        """Sends the head of an interim response (1xx), if that may still be sent."""
        if self.alive and self.head.version == "1.1":
            self._channel.send_interim(head)

    def submit(self, job: Job, lane: Lane) -> bool:
        """Has the job run in the pool; it hands its outcome to `answer`.

        If the pool is full the answer is 503, and the job was not taken: False.
        """
        try:
            lane.submit(job)
        except PoolFullError:
            self.refuse(503, "the server is busy, try again in a moment", b"Retry-After: 1\r\n")
            return False
        return True

    def answer(self, outcome: Outcome) -> None:
        """Sends the answer, unless the client is gone or was answered: then it is given up."""
        if self.phase >= Phase.SENDING:
            self._channel.dispose(outcome)
            return
        self._move(Event.ANSWERED)
        self.outcome = outcome
        self._give_up_body()
        self._channel.send(outcome)

    def refuse(
        self, status: int, message: str = "", fields: bytes = b"", *, close: bool = False
    ) -> None:
        """Answers with an error page."""
        self.answer(error_outcome(status, message, self.head, fields, close=close))

    # for the connection ---------------------------------------------------------------------------

    @property
    def is_greedy(self) -> bool:
        """Whether the body had better arrive in large pieces."""
        return self._sink is None or self._sink.is_greedy

    @property
    def wants_body(self) -> bool:
        """Whether somebody takes the body now; else it is left unread until there is an answer."""
        return self._sink is not None and self._sink.has_room

    def body_announced(self, size: int) -> None:
        """The body has at least that many bytes, here or to come."""
        if self._sink is not None and size > self._sink.limit:
            self.refuse(413, too_large(self._sink.limit), close=True)

    def body_piece(self, data: bytes) -> None:
        """Takes a piece of the body."""
        if self._sink is not None:
            self._sink.piece(data)

    def body_complete(self) -> None:
        """The body is there as a whole."""
        sink, self._sink = self._sink, None
        if sink is not None:
            self._move(Event.BODY_COMPLETE)
            sink.complete()

    def sent(self) -> None:
        """The answer is on its way as a whole."""
        self._move(Event.SENT)
        self._end_watch(delivered=True)

    def lost(self) -> None:
        """The client is gone."""
        self._move(Event.LOST)
        self._give_up_body()
        self._end_watch(delivered=False)

    def peer_ended(self) -> None:
        """The client has ended its side, and may still take the answer."""
        self._peer_ended = True
        if self._watcher is not None:
            self._watcher.peer_ended()

    def _end_watch(self, *, delivered: bool) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.ended(delivered=delivered)

    def _give_up_body(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.give_up()

    def _move(self, event: Event) -> None:
        self.phase = TRANSITIONS[self.phase, event]


class _Gathering:
    """Collects a body in memory."""

    __slots__ = ("_body", "_then", "limit")

    has_room = is_greedy = True

    def __init__(self, limit: int, then: Callable[[bytes | bytearray], object]) -> None:
        self.limit = limit
        self._then = then
        self._body = bytearray()  # a list of many small pieces would take many times their size

    def piece(self, data: bytes) -> None:
        self._body += data

    def complete(self) -> None:
        self._then(self._body)

    def give_up(self) -> None:
        self._body.clear()


def too_large(limit: int) -> str:
    """What a 413 says."""
    return f"the content is too large: at most {limit} bytes are taken here"
