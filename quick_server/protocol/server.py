"""The server's side of one connection: bytes in, events out.

Theory. A connection is a series of requests; each is a head and perhaps content. What is legal next
is the state:

    HEAD ──head without content──────────────▶ COMPLETE ──next_request()──▶ HEAD
    HEAD ──head with content──▶ SIZED | CHUNKED ──its end──▶ COMPLETE
    any ──ProtocolError──▶ BROKEN          HEAD ──end of input──▶ CLOSED

In COMPLETE nothing is parsed: requests that were sent ahead wait as bytes, so that they are answered
one at a time and in order. BROKEN and CLOSED are final: what arrives later is never read as a
request.

Loop thread; pure. h11 is asked for each distinct head once (`HeadMemo`), and for chunked content; a
connection without either has no `h11.Connection`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TypeAlias

from ..limits import Limits
from .chunks import ChunkedBody
from .heads import HeadMemo, HeadScanner, blank_lines, parse_head
from .messages import ProtocolError, RequestHead


class Signal(Enum):
    """Events without a content of their own."""

    NEED_DATA = auto()
    """Nothing more until bytes arrive."""
    END = auto()
    """The content of the current request is complete."""
    PAUSED = auto()
    """The current request is complete; `next_request` makes the next one readable."""
    CLOSED = auto()
    """The client has ended the connection between two requests."""


Event: TypeAlias = RequestHead | bytes | Signal
"""A head, a piece of its content, or a signal. A head without content is not followed by END."""


class State(Enum):
    """Where in a request the connection is."""

    HEAD = auto()
    SIZED = auto()
    CHUNKED = auto()
    COMPLETE = auto()
    BROKEN = auto()
    CLOSED = auto()


_LOGGED = 256  # bytes of a broken request
_BLANK_LINES = 4  # before a request line; RFC 9112 section 2.2 asks to ignore at least one
_HEAD, _SIZED, _CHUNKED, _COMPLETE, _BROKEN, _CLOSED = State  # globals: no attribute on each event


class ServerProtocol:
    """Parses what one client sends. `receive` bytes, then pull `next_event` until it has no more."""

    __slots__ = (
        "_blank",
        "_buffer",
        "_chunked",
        "_ended",
        "_limits",
        "_memo",
        "_remaining",
        "_scanner",
        "_unread_line",
        "state",
    )

    def __init__(self, limits: Limits, memo: HeadMemo) -> None:
        self._limits = limits
        self._memo = memo
        self._buffer = b""
        self._ended = False
        self._scanner: HeadScanner | None = None
        self._chunked: ChunkedBody | None = None
        self._remaining = 0
        self._unread_line = b""
        self._blank = 0  # lines skipped before the next request
        self.state = _HEAD

    def receive(self, data: bytes) -> None:
        """Takes bytes from the client; b"" is the end of its stream."""
        if not data:
            self._ended = True
        elif self.state not in (_BROKEN, _CLOSED):
            self._buffer = self._buffer + data if self._buffer else data

    def known_head(self, data: bytes) -> RequestHead | None:
        """The head that `data` is, if it is one that came before, whole, and with nothing before it.

        The short way for what clients send nearly always: `receive` and `next_event` in one. None
        leaves everything as it was.
        """
        if self._buffer or self.state is not _HEAD:
            return None
        head = self._memo.get(data)
        return None if head is None else self._begin(head, data)

    @property
    def waiting(self) -> int:
        """Bytes that have not been parsed yet."""
        return len(self._buffer)

    @property
    def request_line(self) -> str:
        """The beginning of what could not be read, or has not come whole, for the log."""
        line = self._unread_line or self._buffer[:_LOGGED].partition(b"\r\n")[0]
        return line.decode("latin-1")

    @property
    def ended(self) -> bool:
        """Whether the client will send nothing more."""
        return self._ended

    @property
    def unread(self) -> int | None:
        """Bytes of the current content that are still to come; None if only its end will tell."""
        if self.state is _CHUNKED:
            return None
        return self._remaining if self.state is _SIZED else 0

    @property
    def announced(self) -> int:
        """Bytes of the current content that are known to be there or to come."""
        return self._chunked.announced if self._chunked is not None else 0

    def next_event(self) -> Event:
        """The next event; ProtocolError if the client broke the rules, and again ever after."""
        state = self.state
        try:
            if state is _HEAD:
                return self._next_head()
            if state is _SIZED:
                return self._next_sized()
            if state is _CHUNKED:
                return self._next_chunked()
        except ProtocolError:
            self.state = _BROKEN
            self._unread_line = self._buffer[:_LOGGED].partition(b"\r\n")[0]
            self._buffer = b""
            self._chunked = None
            raise
        if state is _BROKEN:
            raise ProtocolError(400, "nothing can be read after an error")
        return Signal.PAUSED if state is _COMPLETE else Signal.CLOSED

    def take_rest(self) -> bytes:
        """What has come behind the last request, which no longer is HTTP."""
        rest, self._buffer = self._buffer, b""
        return rest

    def next_request(self) -> None:
        """The current request has been answered, and its content was read: on to the next."""
        assert self.state is _COMPLETE, self.state
        self.state = _HEAD

    def _next_head(self) -> Event:
        buffer = self._buffer
        memo = self._memo
        head = memo.get(buffer) if len(buffer) <= memo.most_bytes else None  # else: many requests
        if head is not None:
            self._buffer = b""
            self._scanner = None
            return self._begin(head, buffer)
        if self._scanner is None and buffer.startswith(b"\r\n"):
            count = blank_lines(buffer)
            buffer = self._buffer = buffer[2 * count :]
            self._blank += count
            if self._blank > _BLANK_LINES:
                raise ProtocolError(400, "too many blank lines before a request")
        if not buffer or buffer == b"\r":
            return self._no_head_yet()
        if self._scanner is None:
            combined = memo.combine(buffer, self._limits)
            if combined is not None:
                head, end = combined
                self._buffer = buffer[end:]
                return self._begin(head, buffer[:end])
            self._scanner = HeadScanner(self._limits)
        end = self._scanner.scan(buffer)
        if not end:
            return self._no_head_yet()
        self._scanner = None
        raw = buffer[:end]
        head = memo.get(raw)
        if head is None:
            head = memo.recognise(raw)
            if head is None:
                head = parse_head(raw)
                memo.learn(raw, head)
            memo.remember(raw, head)
        self._buffer = buffer[end:]
        return self._begin(head, raw)

    def _no_head_yet(self) -> Event:
        if not self._ended:
            return Signal.NEED_DATA
        if self._scanner is not None or self._buffer:
            raise ProtocolError(400, "the request ended in the middle of its head")
        self.state = _CLOSED
        return Signal.CLOSED

    def _begin(self, head: RequestHead, raw: bytes) -> RequestHead:
        self._blank = 0
        if head.chunked:
            self._chunked = ChunkedBody(raw, self._limits)
            self.state = _CHUNKED
        elif head.content_length:
            self._remaining = head.content_length
            self.state = _SIZED
        else:
            self.state = _COMPLETE
        return head

    def _next_sized(self) -> Event:
        buffer = self._buffer
        if not self._remaining:
            self.state = _COMPLETE
            return Signal.END
        if not buffer:
            return self._no_body_yet()
        piece, self._buffer = buffer[: self._remaining], buffer[self._remaining :]
        self._remaining -= len(piece)
        return piece

    def _next_chunked(self) -> Event:
        body = self._chunked
        assert body is not None
        piece = body.next_piece()
        if piece == b"" and self._buffer:
            taken = body.feed(self._buffer)
            self._buffer = self._buffer[taken:]
            piece = body.next_piece()
            if piece == b"" and self._buffer:  # framing without content so far: go on
                return b""
        if piece is None:
            self._chunked = None
            self.state = _COMPLETE
            return Signal.END
        return piece or self._no_body_yet()

    def _no_body_yet(self) -> Event:
        if self._ended:
            raise ProtocolError(400, "the request ended in the middle of its body")
        return Signal.NEED_DATA
