"""Request heads: bytes to a verdict, by h11 and by the rules that h11 leaves to us.

Facts: h11 accepts bare line feeds, folded lines, control bytes, any HTTP version, any target for
any method, any content of Host, and Transfer-Encoding beside Content-Length. It measures a head only
while it is incomplete. Parsing one costs it 20 to 90 microseconds.

Consequence: `HeadScanner` walks over the raw bytes and stops at the first thing that no head may
contain; `parse_head` has h11 read what passed and then checks what the fields say; `HeadMemo`
remembers verdicts, because clients send the same head, the same headers, or all but one of them, again
and again. A memo changes nothing but the time: it holds only what both h11 and our rules accepted.

The scanner reports the *earliest* trouble in the stream, so that it makes no difference in which
pieces the bytes arrive.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal, TypeAlias, TypeVar

import h11

from ..limits import Limits
from .grammar import FIELD_VALUE, ILLEGAL, TOKEN
from .messages import Headers, ProtocolError, RequestHead
from .target import Target, parse_target

_Key = TypeVar("_Key", bytes, str)
_Known = TypeVar("_Known")
_Framing: TypeAlias = tuple[int, bool, bool, Literal["none", "continue", "unknown"]]
"""Of a head: content length, chunked, keep-alive, expectation."""

_REQUEST_LINE = re.compile(TOKEN + rb" [\x21-\x7e]+ HTTP/1\.[01]\r\n")
_ORIGIN_LINE = re.compile(rb"(" + TOKEN + rb") (/[\x21-\x7e]*) HTTP/1\.1\r\n")
_OTHER_VERSION = re.compile(TOKEN + rb" [\x21-\x7e]+ HTTP/[0-9]\.[0-9]\r\n")
_FIELD_LINE = re.compile(TOKEN + rb":" + FIELD_VALUE + rb"\r\n")
_HEAD = re.compile(
    TOKEN + rb" [\x21-\x7e]+ HTTP/1\.[01]\r\n(?:" + TOKEN + rb":" + FIELD_VALUE + rb"\r\n)*\r\n"
)

_DECISIVE = frozenset(("host", "content-length", "transfer-encoding", "connection", "expect"))

_LENGTH_FIELD = re.compile(rb"\r\ncontent-length:", re.IGNORECASE)
_CODING_FIELD = re.compile(rb"\r\ntransfer-encoding:([^\r]*)", re.IGNORECASE)

# Names, IPv4 and bracketed IPv6 with an optional port: no user, path, comma, blank or escape.
_HOST_LENGTH = 261  # RFC 1035 section 2.3.4, and a port
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~-]+)(?::[0-9]{0,5})?")

_LENGTH_DIGITS = 18  # more than any storage holds, and safely an integer everywhere


class HeadScanner:
    """Walks over a head as it arrives and raises ProtocolError at the first illegal byte.

    One scanner per message; `scan` is called with the whole of what is there so far. A scanner of
    responses overrides what is said here about the first line.
    """

    __slots__ = ("_fields", "_limits", "_line", "_seen")

    whole = _HEAD
    """What matches a head without fault."""
    start = "the request line"
    """What its first line is called."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._line = 0  # where the first line begins that is not complete yet
        self._seen = 0  # up to where that line has been looked at
        self._fields = -1  # complete field lines; -1 before the request line

    def scan(self, buffer: bytes) -> int:
        """The length of the head in `buffer`, or 0 while it is incomplete."""
        if self._seen == 0 and (
            whole := self.whole.match(buffer)
        ):  # nearly always: one piece, no fault
            end = whole.end()
            line = buffer.index(b"\r\n")
            fields = buffer.count(b"\r\n", 0, end) - 2
            limits = self._limits
            if end <= limits.head and line <= limits.request_line and fields <= limits.fields:
                return end
        while end := buffer.find(b"\n", self._seen) + 1:
            raw_line = buffer[self._line : end]
            self._check_part(buffer, end)
            self._line = self._seen = end
            if raw_line == b"\r\n" and self._fields >= 0:
                return end
            self._check_line(raw_line)
        self._check_part(buffer, len(buffer))
        self._seen = max(self._line, len(buffer) - 1)  # a CR at the end is judged with what follows
        return 0

    def _check_part(self, buffer: bytes, end: int) -> None:
        """Judges the bytes up to `end`, whether or not their line is complete."""
        limits = self._limits
        if self._fields < 0:
            most, status, what = self._line + limits.request_line, 414, self.start
            most += 2  # its line end does not count
        else:
            most, status, what = limits.head, 431, "the head"
        illegal = ILLEGAL.search(buffer, max(self._line, self._seen - 1), min(end, most))
        if illegal:
            byte = illegal.group()[0]
            raise ProtocolError(400, f"the head has an illegal byte (0x{byte:02x})")
        if end > most:
            raise ProtocolError(status, f"{what} is too long")

    def _check_line(self, line: bytes) -> None:
        """Judges a complete line."""
        if self._fields < 0:
            self.check_start(line)
        elif not _FIELD_LINE.fullmatch(line):
            raise ProtocolError(400, "that is not a header field")
        self._fields += 1
        if self._fields > self._limits.fields:
            raise ProtocolError(431, "too many header fields")

    def check_start(self, line: bytes) -> None:
        """Judges the first line, which is complete."""
        if _REQUEST_LINE.fullmatch(line):
            return
        if _OTHER_VERSION.fullmatch(line):
            raise ProtocolError(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
        raise ProtocolError(400, "that is not a request line")


class HeadMemo:
    """The verdicts on heads that came before; bounded both ways.

    `get` knows whole heads by their exact bytes. `combine` knows header blocks, so that a new path or
    query with headers that were seen before needs no h11 either. `recognise` knows what heads say about
    their own message, so that a new cookie or request id needs none.

    Why that is nothing but a memo: of a request line both take just what h11's grammar, which is ours
    too, takes. Nothing about the headers depends on that line but the version and an absolute target,
    and both are used for HTTP/1.1 and targets that start with a slash only. Of the field lines h11 and
    our rules look at those in `_DECISIVE`, and these must be the same to the byte; every other one has
    to have the form that the scanner has checked, and is taken as it stands.

    Full, a memo starts anew: cheaper than keeping an order, and the clients of the moment are back with
    their next request.
    """

    __slots__ = ("_blocks", "_framings", "_known", "_most_entries", "get", "most_bytes")

    def __init__(self, most_entries: int = 1024, most_bytes: int = 2048) -> None:
        self._known: dict[bytes, RequestHead] = {}
        self._blocks: dict[bytes, RequestHead] = {}
        self._framings: dict[str, _Framing] = {}
        self._most_entries = most_entries
        self.most_bytes = most_bytes
        """Of a head that is kept; `get` knows none that is longer."""
        self.get: Callable[[bytes], RequestHead | None] = self._known.get
        """The verdict on exactly these bytes, or None."""

    def combine(self, buffer: bytes, limits: Limits) -> tuple[RequestHead, int] | None:
        """The verdict on the head that `buffer` starts with, and its length; None if it is new."""
        found = _ORIGIN_LINE.match(buffer)
        if found is None:
            return None
        start = found.end() - 2
        end = buffer.find(b"\r\n\r\n", start) + 4
        known = self._blocks.get(buffer[start:end])
        if known is None or start > limits.request_line or end > limits.head:
            return None
        line = _take_line(found)
        if line is None:
            return None
        head = known._replace(method=line[0], target=line[1])
        if not head.target.query:  # a query is likely to be another one the next time
            self.remember(buffer[:end], head)
        return head, end

    def recognise(self, raw: bytes) -> RequestHead | None:
        """The verdict on a whole head that has passed the scanner; None if none like it came before."""
        found = _ORIGIN_LINE.match(raw)
        if found is None:
            return None
        fields, framing = _take_fields(raw)
        known = self._framings.get(framing)
        line = _take_line(found) if known is not None else None
        if known is None or line is None:
            return None
        conditional = any(name.startswith("if-") for name, _value in fields)
        length, chunked, keep_alive, expectation = known
        return RequestHead(
            *line, "1.1", Headers(fields), length, chunked, keep_alive, expectation, conditional
        )

    def remember(self, raw: bytes, head: RequestHead) -> None:
        """Keeps an accepted head, unless it is unusually long."""
        if len(raw) > self.most_bytes:
            return
        self._keep(self._known, raw, head)
        if head.version == "1.1" and head.target.host is None:
            self._keep(self._blocks, raw[raw.index(b"\r\n") :], head)

    def learn(self, raw: bytes, head: RequestHead) -> None:
        """Keeps what a head, as h11 has read it, says about its message."""
        fields, framing = _take_fields(raw)
        plain = head.headers.fields == tuple(fields)  # h11 drops a Content-Length that came twice
        if plain and len(framing) < self.most_bytes and _ORIGIN_LINE.match(raw):
            known = (head.content_length, head.chunked, head.keep_alive, head.expectation)
            self._keep(self._framings, framing, known)

    def _keep(self, memo: dict[_Key, _Known], key: _Key, known: _Known) -> None:
        if len(memo) >= self._most_entries:
            memo.clear()
        memo[key] = known


def _take_line(found: re.Match[bytes]) -> tuple[str, Target] | None:
    """Method and target of what `_ORIGIN_LINE` has found, if our rules allow them."""
    method, raw = found.groups()
    target = parse_target(raw.decode("ascii"))
    return None if target is None or method == b"CONNECT" else (method.decode("ascii"), target)


def _take_fields(raw: bytes) -> tuple[list[tuple[str, str]], str]:
    """The fields of a head, and the lines among them that say something about the message."""
    fields, framing = [], ""
    for line in raw.decode("latin-1").split("\r\n")[1:-2]:
        name, _, value = line.partition(":")
        name = name.lower()
        fields.append((name, value.strip(" \t")))
        if name in _DECISIVE:
            framing += line + "\n"
    return fields, framing


def blank_lines(buffer: bytes) -> int:
    r"""How many blank lines stand before a request.

    >>> blank_lines(b"\r\nGET / HTTP/1.1")
    1
    """
    count = 0
    while buffer.startswith(b"\r\n", 2 * count):
        count += 1
    return count


def parse_head(raw: bytes) -> RequestHead:
    """The verdict on one whole head that has passed the scanner.

    Raises ProtocolError with the status that RFC 9112 asks for.
    """
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=len(raw) + 1)
    connection.receive_data(raw)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise ProtocolError(_refusal(error, raw), str(error)) from None
    assert isinstance(event, h11.Request)
    fields = [(name.decode("ascii"), value.decode("latin-1")) for name, value in event.headers]
    version: Literal["1.0", "1.1"] = "1.1" if event.http_version == b"1.1" else "1.0"
    headers = Headers(fields)
    target = _check_target(event.method.decode("ascii"), event.target.decode("ascii"))
    host = target.host if target.host is not None else headers.get("host")
    if host is not None and (len(host) > _HOST_LENGTH or not _HOST.fullmatch(host)):
        raise ProtocolError(400, "the host is not a valid name or address")
    if target.host is not None:  # RFC 9112 section 3.2.2: the target's authority counts
        headers = Headers([field for field in fields if field[0] != "host"] + [("host", host or "")])
    content_length, chunked = check_framing(headers, version)
    return RequestHead(
        method=event.method.decode("ascii"),
        target=target,
        version=version,
        headers=headers,
        content_length=content_length,
        chunked=chunked,
        keep_alive=stays_open(headers, version),
        expectation=_expectation(headers, version),
        conditional=any(name.startswith("if-") for name in headers),
    )


def _refusal(error: h11.RemoteProtocolError, raw: bytes) -> int:
    """501 for a transfer coding below chunked that we do not know, 400 for everything else.

    Where chunked is not the last coding, nobody knows where the content ends (RFC 9112 section 6.3).
    """
    if error.error_status_hint != 501 or b" HTTP/1.0\r\n" in raw or _LENGTH_FIELD.search(raw):
        return 400
    fields = b",".join(_CODING_FIELD.findall(raw)).lower()
    codings = [coding.strip(b" \t") for coding in fields.split(b",")]
    return 501 if codings[-1] == b"chunked" and codings.count(b"chunked") == 1 else 400


def _check_target(method: str, raw: str) -> Target:
    if raw == "*" and method == "OPTIONS":
        return Target(raw, raw, "", "", (), is_text=True)
    target = parse_target(raw)
    if target is None or method == "CONNECT":
        raise ProtocolError(400, "the request target is not a path")
    return target


def check_framing(headers: Headers, version: str) -> tuple[int, bool]:
    """How long the content is, and whether it is chunked (RFC 9112 section 6.3).

    What could be read in two ways is a ProtocolError.
    """
    coding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if coding is not None:
        if version == "1.0":
            raise ProtocolError(400, "Transfer-Encoding needs HTTP/1.1")
        if length is not None:
            raise ProtocolError(400, "Transfer-Encoding and Content-Length exclude each other")
        if coding.lower() != "chunked":
            raise ProtocolError(501, "only the transfer coding chunked is known")
        return 0, True
    if length is None:
        return 0, False
    if not length.isascii() or not length.isdigit() or len(length) > _LENGTH_DIGITS:
        raise ProtocolError(400, "Content-Length is not a length")
    return int(length), False


def stays_open(headers: Headers, version: str) -> bool:
    """Whether the sender of a head lets the connection go on (RFC 9112 section 9.3)."""
    options = [option.strip().lower() for option in headers.get("connection", "").split(",")]
    if "close" in options:
        return False
    return version == "1.1" or "keep-alive" in options


def _expectation(headers: Headers, version: str) -> Literal["none", "continue", "unknown"]:
    expect = headers.get("expect")
    if expect is None or version == "1.0":  # RFC 9110 section 10.1.1: 1.0 clients do not mean it
        return "none"
    return "continue" if expect.strip().lower() == "100-continue" else "unknown"
