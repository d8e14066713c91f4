"""Answers on their way to one client: head, content and framing.

Loop thread. Owns the producer of content that is made while it is sent, and is its outlet. Which
request is answered, how long the client may take and what follows is the connection's: it is told when
an answer is out as a whole, and when the client has to take some of it first.
"""

from __future__ import annotations

import time
from typing import Protocol

from .exchange import Exchange
from .limits import Limits
from .pool import Lane
from .producer import Producer, StreamedAnswer, Takeover, dispose
from .protocol.messages import FileBody, OpenEnded, Outcome, RequestHead, StreamBody, length_of
from .protocol.writer import LAST_CHUNK, ResponseWriter, has_content
from .stream import Stream

_ONE_SEND = 64 * 1024  # a body up to here is copied behind its head: cheaper than a second buffer


class Recipient(Protocol):
    """What answers need of their connection."""

    def answer_is_out(self) -> None:
        """The answer has been handed to the kernel as a whole."""

    def answer_waits(self) -> None:
        """The client has to take some of it first."""

    def answer_takes_over(self, takeover: Takeover) -> None:
        """What the client sends is no HTTP from now on, and for `takeover`, which is about to start."""

    def answer_began(self, producer: Producer) -> None:
        """`producer` has started, and may have ended."""


class Answering:
    """Sends one answer at a time."""

    __slots__ = (
        "_chunking",
        "_lane",
        "_limits",
        "_recipient",
        "_stream",
        "_writer",
        "keep",
        "producer",
        "size",
    )

    def __init__(
        self, stream: Stream, writer: ResponseWriter, lane: Lane, limits: Limits, recipient: Recipient
    ) -> None:
        self._stream = stream
        self._writer = writer
        self._lane = lane
        self._limits = limits
        self._recipient = recipient
        # of the current answer
        self.keep = True
        """Whether it lets the connection go on."""
        self.size = 0
        """Bytes of content that have been sent, or are waiting to be."""
        self.producer: Producer | None = None
        """Who makes the content, if that has not ended."""
        self._chunking = False  # whether that is framed in chunks

    def send(self, outcome: Outcome, exchange: Exchange, keep: bool) -> None:
        """Sends the answer to a request; `keep` is whether the connection could go on behind it.

        Whatever is raised, a closed file's ValueError for instance, the connection is aborted before.
        """
        self.keep = keep
        try:
            body = outcome.body
            if isinstance(body, OpenEnded) and has_content(outcome, exchange.head):
                self._begin(body, outcome, exchange)
            elif self._write(outcome, exchange):
                self._recipient.answer_is_out()
            elif not self._stream.closed:
                self._recipient.answer_waits()
        except Exception:
            self._stream.abort()
            raise

    def send_unasked(self, outcome: Outcome, *, with_content: bool) -> None:
        """Sends an error page for what is no request; the connection ends behind it."""
        self.keep = False
        if with_content:
            self._write(outcome, None)
        else:
            self._stream.write(self._head(outcome, None))

    def dispose(self, outcome: Outcome) -> None:
        """Closes what an answer that nobody will get holds."""
        body = outcome.body
        for part in body if isinstance(body, tuple) else (body,):
            if isinstance(part, FileBody):
                part.file.close()
            elif isinstance(part, StreamBody):
                dispose(part.rest, self._lane)
            elif isinstance(part, Producer) and part is not self.producer:
                part.stop()

    def lost(self) -> None:
        """The connection is closed."""
        producer, self.producer = self.producer, None
        if producer is not None:
            producer.stop()

    def _write(self, outcome: Outcome, exchange: Exchange | None) -> bool:
        """Writes an answer whose content is there; returns whether all went out."""
        head = self._head(outcome, exchange)
        body = outcome.body
        request = exchange.head if exchange is not None else None
        if not has_content(outcome, request) or isinstance(body, OpenEnded):
            self.dispose(outcome)
            return self._stream.write(head)
        if type(body) is bytes and len(body) <= _ONE_SEND:
            self.size = len(body)
            return self._stream.write(head + body)
        self.size = length_of(body)
        return self._stream.write(head, *(body if isinstance(body, tuple) else (body,)))

    def _head(self, outcome: Outcome, exchange: Exchange | None) -> bytes:
        request: RequestHead | None = None
        if exchange is not None:
            request = exchange.head
            if exchange.fields:
                outcome = outcome._replace(fields=outcome.fields + exchange.fields)
        return self._writer.head(outcome, request, self.keep, time.time())

    # content that is made while it is sent --------------------------------------------------------

    def _begin(self, body: OpenEnded, outcome: Outcome, exchange: Exchange) -> None:
        has_no_length = body.length is None
        self._chunking = has_no_length and exchange.head.version == "1.1" and outcome.status != 101
        if has_no_length and not self._chunking:  # its end is that of the connection
            self.keep = False
        is_out = self._stream.write(self._head(outcome, exchange))
        producer = body
        if isinstance(body, StreamBody):
            producer = StreamedAnswer(body, self._lane, self._limits.stream_ahead)
        assert isinstance(producer, Producer)
        if self._stream.closed:
            producer.stop()
            return
        self.producer = producer
        if not is_out:  # what was answered before fills the kernel
            self._recipient.answer_waits()
        if isinstance(producer, Takeover):
            self._recipient.answer_takes_over(producer)
        producer.start(self)
        self._recipient.answer_began(producer)

    @property
    def unsent(self) -> int:
        """Bytes that the client has yet to take."""
        return self._stream.unsent

    def send_piece(self, data: bytes) -> None:
        """Sends a piece of content, as a chunk where the client knows them."""
        self.size += len(data)
        if self._chunking:
            is_out = self._stream.write(b"%x\r\n" % len(data), data, b"\r\n")
        else:
            is_out = self._stream.write(data)
        if not is_out:
            self._recipient.answer_waits()

    def end_content(self, *, complete: bool) -> None:
        """The content has ended as it should, or has to be cut off."""
        producer, self.producer = self.producer, None
        if not complete:
            self._stream.abort()
        elif producer is None:
            return
        elif self._write_end():
            self._recipient.answer_is_out()
        else:
            self._recipient.answer_waits()

    def _write_end(self) -> bool:
        """Marks the end of the content; returns whether all went out."""
        if self._chunking:
            return self._stream.write(LAST_CHUNK)
        return not self._stream.pending

    def pause_reading(self) -> None:
        """No more is wanted from the client for now."""
        self._stream.pause_reading()

    def resume_reading(self) -> None:
        """More is wanted."""
        self._stream.resume_reading()

    def finish(self) -> None:
        """Ends our side of the connection once all is sent; the client may go on."""
        self._stream.end()
