"""The upstream's side of one connection: bytes of responses in, events out.

Theory. A connection is a series of exchanges; each is what `begin` announces, any interim responses,
and one final response:

    IDLE ──begin()──▶ HEAD ──interim head──▶ HEAD
    HEAD ──final head──▶ SIZED | CHUNKED | UNTIL_CLOSE ──its end──▶ IDLE | SPENT
    HEAD ──101 that was asked for──▶ SWITCHED
    any ──ProtocolError──▶ BROKEN

SPENT, SWITCHED and BROKEN are final. An upstream is trusted no more than a client: whatever could be
read in two ways is an error, and bytes that nobody asked for end the connection's use, so that they
never become a part of a later answer.

Facts: h11 takes about 100 microseconds for a response, and the same about its form as for requests is
true: see `heads`. Consequence: the scanner walks over the bytes of every head; h11 judges the status
line and those field lines that frame the message, which are the same for most responses, and its
verdict on them is kept. Every other field has the form that the scanner has checked, and is taken as it
stands.

Loop thread; pure.
"""

from __future__ import annotations

import re
from enum import Enum, auto
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

import h11

from ..limits import KIB, Limits
from .chunks import ChunkedBody
from .grammar import FIELD_VALUE, TOKEN
from .heads import HeadScanner, check_framing, stays_open
from .messages import Headers, ProtocolError

_HEAD_SIZE = 64 * KIB  # more than servers send by default, which is 8 to 32 KiB
_FIELDS = 200
_INTERIM = 16  # responses before the final one
_WINDOW = 64 * KIB  # bytes that the chunk decoder is shown at a time
_NO_LIMIT = 1 << 62

_STATUS_LINE = rb"HTTP/1\.[01] [1-5][0-9]{2}(?: " + FIELD_VALUE + rb")?\r\n"
_START = re.compile(_STATUS_LINE)
_OTHER_VERSION = re.compile(rb"HTTP/[0-9]+(?:\.[0-9]+)?(?: [^\r]*)?\r\n")
_RESPONSE = re.compile(_STATUS_LINE + rb"(?:" + TOKEN + rb":" + FIELD_VALUE + rb"\r\n)*\r\n")

_DECISIVE = frozenset(("connection", "content-length", "transfer-encoding"))
_LENGTH = re.compile(r"[0-9]{1,18}")
_REMEMBERED = 512  # characters of framing lines that are worth to be kept
_CHUNKED_HEAD = b"POST / HTTP/1.1\r\nHost: upstream\r\nTransfer-Encoding: chunked\r\n\r\n"


class TruncatedError(ProtocolError):
    """The upstream closed the connection in the middle of content whose head was handed out."""


class UnansweredError(ProtocolError):
    """The upstream closed the connection without a single byte since `begin`."""


class ResponseHead(NamedTuple):
    """A response without its content, checked."""

    status: int
    """200 to 599; 101 if it was asked for; another 1xx: an interim response."""
    version: Literal["1.0", "1.1"]
    fields: tuple[tuple[str, str], ...]
    """In order, duplicates kept, names as they were written."""
    length: int | None
    """Bytes of content that follow. None: nobody knows before `ClientSignal.END`."""
    keep_alive: bool
    """Whether the connection can be used again once the content is complete."""

    @property
    def content_length(self) -> int | None:
        """What Content-Length says, which for HEAD and 304 is not what follows; None without one."""
        for name, value in self.fields:
            if name.lower() == "content-length":
                return int(value.partition(",")[0])
        return None


class ClientSignal(Enum):
    """Events without a content of their own."""

    NEED_DATA = auto()
    """Nothing more until bytes arrive."""
    END = auto()
    """The response is complete. Follows every final head but 101, whether or not it had content."""
    SWITCHED = auto()
    """The upstream speaks another protocol from here on; `rest` is what has come of it."""


ClientEvent: TypeAlias = ResponseHead | bytes | ClientSignal


class _State(Enum):
    IDLE = auto()
    HEAD = auto()
    SIZED = auto()
    CHUNKED = auto()
    UNTIL_CLOSE = auto()
    SWITCHED = auto()
    SPENT = auto()
    BROKEN = auto()


class ClientProtocol:
    """Parses what one upstream sends. `begin`, then `receive` bytes and pull `next_event`."""

    __slots__ = (
        "_buffer",
        "_chunked",
        "_ended",
        "_interim",
        "_keep_alive",
        "_limits",
        "_method",
        "_remaining",
        "_scanner",
        "_start",
        "_state",
        "_touched",
        "_upgrade",
    )

    def __init__(self, limits: Limits) -> None:
        # Chunks may be as small as the upstream likes: streams have one for each of their words.
        self._limits = limits._replace(head=_HEAD_SIZE, fields=_FIELDS, chunk_overhead=_NO_LIMIT)
        self._buffer = b""
        self._start = 0  # where in the buffer begins what has not been read
        self._ended = False
        self._state = _State.IDLE
        # of the current exchange
        self._method = ""
        self._upgrade = False
        self._touched = False  # whether anything has arrived
        self._interim = 0
        self._keep_alive = False
        self._remaining = 0
        self._scanner: HeadScanner | None = None
        self._chunked: ChunkedBody | None = None

    def begin(self, method: str, *, upgrade: bool) -> None:
        """A request is about to be sent; `upgrade`: it asks to switch protocols."""
        assert self.idle, self._state
        assert method != "CONNECT"  # its answer has no content, and is no answer
        self._state = _State.HEAD
        self._method = method
        self._upgrade = upgrade
        self._touched = False
        self._interim = 0

    def receive(self, data: bytes) -> None:
        """Takes bytes from the upstream; b"" is the end of its stream."""
        if not data:
            self._ended = True
        elif self._state is _State.IDLE:
            self._state = _State.SPENT
        elif self._state is not _State.SPENT and self._state is not _State.BROKEN:
            self._touched = True
            self._buffer = self._buffer[self._start :] + data if self._buffer else data
            self._start = 0

    @property
    def rest(self) -> bytes:
        """After SWITCHED: the bytes behind the head that have arrived by now."""
        return self._buffer[self._start :] if self._state is _State.SWITCHED else b""

    @property
    def idle(self) -> bool:
        """Whether another `begin` may follow: nothing is missing, nothing came unasked, no end."""
        return self._state is _State.IDLE and not self._ended

    def next_event(self) -> ClientEvent:
        """The next event.

        Raises ProtocolError (502) if the upstream broke the rules, and again ever after. Content that
        came before the fault has been handed out then: a response whose head is out can only be
        aborted.
        """
        state = self._state
        try:
            if state is _State.HEAD:
                return self._next_head()
            if state is _State.SIZED:
                return self._next_sized()
            if state is _State.CHUNKED:
                return self._next_chunked()
            if state is _State.UNTIL_CLOSE:
                return self._next_until_close()
        except ProtocolError:
            self._state = _State.BROKEN
            self._forget()
            raise
        if state is _State.SWITCHED:
            return ClientSignal.SWITCHED
        if state is _State.IDLE:
            return ClientSignal.NEED_DATA
        if state is _State.SPENT:
            raise ProtocolError(502, "the upstream's connection is used up")
        raise ProtocolError(502, "nothing can be read after an error")

    def _next_head(self) -> ClientEvent:
        buffer = self._buffer
        if self._start:
            buffer = self._buffer = buffer[self._start :]
            self._start = 0
        if self._scanner is None:
            self._scanner = _ResponseScanner(self._limits)
        try:
            end = self._scanner.scan(buffer)
            if not end:
                return self._no_head_yet()
            head, chunked = _read_head(buffer[:end])
        except ProtocolError as error:
            raise _as_upstream(error) from None
        self._scanner = None
        self._start = end
        if head.status < 200:
            return self._on_interim(head._replace(length=0))
        return self._on_final(head, chunked)

    def _no_head_yet(self) -> ClientSignal:
        if not self._ended:
            return ClientSignal.NEED_DATA
        if self._touched:
            raise ProtocolError(502, "the upstream closed the connection without a whole answer")
        raise UnansweredError(502, "the upstream closed the connection without an answer")

    def _on_interim(self, head: ResponseHead) -> ResponseHead:
        if head.version == "1.0":
            raise ProtocolError(502, "the upstream's HTTP/1.0 has no interim responses")
        if head.status == 101:
            if not self._upgrade:
                raise ProtocolError(502, "the upstream switched protocols without being asked to")
            if not any(name.lower() == "upgrade" for name, _value in head.fields):
                raise ProtocolError(502, "the upstream does not say to which protocol it switched")
            self._state = _State.SWITCHED
        self._interim += 1
        if self._interim > _INTERIM:
            raise ProtocolError(502, "the upstream sends too many interim responses")
        return head

    def _on_final(self, head: ResponseHead, chunked: bool) -> ResponseHead:
        if self._method == "HEAD" or head.status in (204, 304):  # RFC 9112 section 6.3
            if head.status == 204 and (chunked or head.length):  # does it know that?
                head = head._replace(keep_alive=False)
            head = head._replace(length=0)
            self._state = _State.SIZED
            self._remaining = 0
        elif chunked:
            self._chunked = ChunkedBody(_CHUNKED_HEAD, self._limits)
            self._state = _State.CHUNKED
        elif head.length is None:
            head = head._replace(keep_alive=False)
            self._state = _State.UNTIL_CLOSE
        else:
            self._state = _State.SIZED
            self._remaining = head.length
        self._keep_alive = head.keep_alive
        return head

    def _next_sized(self) -> ClientEvent:
        if not self._remaining:
            return self._end()
        if not self._buffer:
            return self._no_content_yet()
        piece = self._take(self._remaining)
        self._remaining -= len(piece)
        return piece or self._no_content_yet()

    def _next_until_close(self) -> ClientEvent:
        piece = self._take(len(self._buffer))
        if piece:
            return piece
        return self._end() if self._ended else ClientSignal.NEED_DATA

    def _next_chunked(self) -> ClientEvent:
        body = self._chunked
        assert body is not None
        try:
            piece = body.next_piece()
            while piece == b"" and self._start < len(self._buffer):
                self._start += body.feed(self._buffer[self._start : self._start + _WINDOW])
                piece = body.next_piece()
        except ProtocolError as error:
            raise _as_upstream(error) from None
        if piece is None:
            return self._end()
        return piece or self._no_content_yet()

    def _take(self, most: int) -> bytes:
        """At most so many of the bytes that are there; they are copied only if there are more."""
        buffer, start = self._buffer, self._start
        end = min(start + most, len(buffer))
        if end == len(buffer):
            self._buffer = b""
            self._start = 0
        else:
            self._start = end
        return buffer[start:end]

    def _no_content_yet(self) -> ClientSignal:
        if self._ended:
            raise TruncatedError(502, "the upstream closed the connection in the middle of its answer")
        return ClientSignal.NEED_DATA

    def _end(self) -> ClientSignal:
        clean = self._keep_alive and self._start == len(self._buffer)
        self._state = _State.IDLE if clean else _State.SPENT
        self._forget()
        return ClientSignal.END

    def _forget(self) -> None:
        """Lets go of all that belonged to the exchange."""
        self._buffer = b""
        self._start = 0
        self._scanner = None
        self._chunked = None


class _ResponseScanner(HeadScanner):
    """Walks over the head of a response."""

    __slots__ = ()

    whole = _RESPONSE
    start = "the status line"

    def check_start(self, line: bytes) -> None:
        if _START.fullmatch(line):
            return
        if _OTHER_VERSION.fullmatch(line) and not line.startswith((b"HTTP/1.0 ", b"HTTP/1.1 ")):
            raise ProtocolError(502, "that is not HTTP/1.0 or HTTP/1.1")
        raise ProtocolError(502, "that is not a status line")


def _as_upstream(error: ProtocolError) -> ProtocolError:
    """What is wrong with a message is, of a response, the upstream's fault."""
    if error.status == 502:
        return error
    return ProtocolError(502, f"the upstream's answer cannot be read: {error.message}")


def _read_head(raw: bytes) -> tuple[ResponseHead, bool]:
    """A head that has passed the scanner, and whether what follows is chunked, if anything does."""
    start, *lines = raw[:-4].decode("latin-1").split("\r\n")
    fields: list[tuple[str, str]] = []
    framing = ""
    lengths: list[str] = []
    for line in lines:
        name, _, value = line.partition(":")
        value = value.strip(" \t")
        fields.append((name, value))
        lower = name.lower()
        if lower == "content-length":
            lengths.append(value)
        elif lower in _DECISIVE:
            framing += line + "\r\n"
    length = None
    if len(lengths) == 1 and _LENGTH.fullmatch(lengths[0]):  # whatever it is, h11 says the same
        length = int(lengths[0])
        lengths = ["1"]
    framing += "".join(f"Content-Length: {value}\r\n" for value in lengths)
    judge = _judge if len(framing) < _REMEMBERED else _judge.__wrapped__
    version, said, chunked, keep_alive = judge(start[:12], framing)
    head = ResponseHead(
        int(start[9:12]), version, tuple(fields), said if length is None else length, keep_alive
    )
    return head, chunked


@lru_cache(maxsize=1024)
def _judge(start: str, framing: str) -> tuple[Literal["1.0", "1.1"], int | None, bool, bool]:
    """Version, length, chunked and keep-alive by a status line and the field lines that frame.

    Pure, hence remembered. ProtocolError if h11 or our rules refuse them.
    """
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=_ASKED))
    connection.receive_data(f"{start} \r\n{framing}\r\n".encode("latin-1"))
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise ProtocolError(502, f"the upstream's answer cannot be read: {error}") from None
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    headers = Headers((name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers)
    version: Literal["1.0", "1.1"] = "1.1" if event.http_version == b"1.1" else "1.0"
    length, chunked = check_framing(headers, version)
    known = length if "content-length" in headers else None
    return version, known, chunked, stays_open(headers, version)


_ASKED = [("Host", "upstream"), ("Connection", "Upgrade"), ("Upgrade", "anything")]  # so 101 is fine
