"""One request and its answer: a state table.

    RECEIVING ──whole body──▶ RUNNING ──outcome──▶ SENDING ──sent──▶ DONE
    RECEIVING ──outcome (nobody needs the body)──▶ SENDING        any ──lost──▶ DONE

Loop thread. Owns what has arrived of the body, and sees to it that there is one answer: an outcome
that comes when the client is gone, or when there has been an answer, is given up here and nowhere
else. It reaches the wire only through its `Channel`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import IntEnum, auto
from typing import Protocol

from .pool import Job, Lane, PoolFullError
from .protocol.errors import error_outcome
from .protocol.messages import FileBody, Outcome, RequestHead


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

    def send(self, outcome: Outcome) -> None:
        """Sends the answer; `Exchange.sent` follows."""


class Exchange:
    """The life of one request; `started` is a moment on the loop's clock."""

    __slots__ = (
        "_channel",
        "_limit",
        "_pieces",
        "_then",
        "client",
        "head",
        "outcome",
        "phase",
        "started",
    )

    def __init__(
        self, head: RequestHead, client: tuple[str, int], channel: Channel, started: float
    ) -> None:
        self.head = head
        self.client = client
        self.started = started
        self.phase = Phase.RECEIVING
        self.outcome: Outcome | None = None
        self._channel = channel
        self._pieces: list[bytes] = []
        self._limit = 0  # bytes that the body may have
        self._then: Callable[[bytes], object] | None = None  # who wants the body

    # for whoever answers --------------------------------------------------------------------------

    def gather(self, limit: int, then: Callable[[bytes], object]) -> None:
        """Has the body collected and calls `then(body)`; past `limit` bytes the answer is 413."""
        head = self.head
        if not head.has_body:
            self._move(Event.BODY_COMPLETE)
            then(b"")
            return
        if head.content_length > limit:
            self.refuse(413, too_large(limit), close=True)
            return
        self._limit = limit
        self._then = then
        if head.expectation == "continue":
            self._channel.send_continue()

    def submit(self, job: Job, lane: Lane) -> None:
        """Has the job run in the pool; it hands its outcome to `answer`. 503 if the pool is full."""
        try:
            lane.submit(job)
        except PoolFullError:
            busy = "the server is busy, try again in a moment"
            self.refuse(503, busy, b"Retry-After: 1\r\n")

    def answer(self, outcome: Outcome) -> None:
        """Sends the answer, unless the client is gone or was answered: then it is given up."""
        if self.phase >= Phase.SENDING:
            release(outcome)
            return
        self._move(Event.ANSWERED)
        self.outcome = outcome
        self._then = None
        self._pieces.clear()
        self._channel.send(outcome)

    def refuse(
        self, status: int, message: str = "", fields: bytes = b"", *, close: bool = False
    ) -> None:
        """Answers with an error page."""
        self.answer(error_outcome(status, message, self.head, fields, close=close))

    # for the connection ---------------------------------------------------------------------------

    @property
    def wants_body(self) -> bool:
        """Whether somebody waits for the body; else it is left unread until there is an answer."""
        return self._then is not None

    def body_announced(self, size: int) -> None:
        """The body has at least that many bytes, here or to come."""
        if self._then is not None and size > self._limit:
            self.refuse(413, too_large(self._limit), close=True)

    def body_piece(self, data: bytes) -> None:
        """Takes a piece of the body that somebody wants."""
        self._pieces.append(data)

    def body_complete(self) -> None:
        """The body is there as a whole."""
        then, self._then = self._then, None
        if then is not None:
            body = b"".join(self._pieces)
            self._pieces.clear()
            self._move(Event.BODY_COMPLETE)
            then(body)

    def sent(self) -> None:
        """The answer is on its way as a whole."""
        self._move(Event.SENT)

    def lost(self) -> None:
        """The client is gone."""
        self._move(Event.LOST)
        self._then = None
        self._pieces.clear()

    def _move(self, event: Event) -> None:
        self.phase = TRANSITIONS[self.phase, event]


def too_large(limit: int) -> str:
    """What a 413 says."""
    return f"the content is too large: at most {limit} bytes are taken here"


def release(outcome: Outcome) -> None:
    """Gives back what an answer that nobody will get holds."""
    if isinstance(outcome.body, FileBody):
        os.close(outcome.body.descriptor)
