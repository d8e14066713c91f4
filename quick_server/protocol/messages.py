"""The messages of HTTP as immutable values: request heads, header fields, outcomes.

Everything here may be shared between threads, and between requests whose heads are alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, Protocol, TypeAlias, TypeVar, overload

from .target import Target

_T = TypeVar("_T")

REASONS: dict[int, str] = {
    100: "Continue",
    101: "Switching Protocols",
    102: "Processing",
    103: "Early Hints",
    200: "OK",
    201: "Created",
    202: "Accepted",
    203: "Non-Authoritative Information",
    204: "No Content",
    205: "Reset Content",
    206: "Partial Content",
    207: "Multi-Status",
    208: "Already Reported",
    226: "IM Used",
    300: "Multiple Choices",
    301: "Moved Permanently",
    302: "Found",
    303: "See Other",
    304: "Not Modified",
    305: "Use Proxy",
    307: "Temporary Redirect",
    308: "Permanent Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    407: "Proxy Authentication Required",
    408: "Request Timeout",
    409: "Conflict",
    410: "Gone",
    411: "Length Required",
    412: "Precondition Failed",
    413: "Content Too Large",
    414: "URI Too Long",
    415: "Unsupported Media Type",
    416: "Range Not Satisfiable",
    417: "Expectation Failed",
    418: "I'm a Teapot",
    421: "Misdirected Request",
    422: "Unprocessable Content",
    423: "Locked",
    424: "Failed Dependency",
    425: "Too Early",
    426: "Upgrade Required",
    428: "Precondition Required",
    429: "Too Many Requests",
    431: "Request Header Fields Too Large",
    451: "Unavailable For Legal Reasons",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
    506: "Variant Also Negotiates",
    507: "Insufficient Storage",
    508: "Loop Detected",
    510: "Not Extended",
    511: "Network Authentication Required",
}
"""The standard reason phrases (IANA's registry of status codes)."""


class ProtocolError(Exception):
    """A request that cannot be served as it is: `status` is the 4xx or 5xx that says so.

    Raised by the parser it also means that nothing more of the connection can be trusted.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Headers(Mapping[str, str]):
    """Header fields in the order they came; names compare without case (RFC 9110 section 5.1).

    Several fields of one name read as one, joined by commas (section 5.3); `get_all` tells them
    apart.

    >>> Headers([("Accept", "text/html"), ("accept", "*/*")])["ACCEPT"]
    'text/html, */*'
    """

    __slots__ = ("_fields", "_index")

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields = tuple(fields)
        self._index: dict[str, str] = {}
        for name, value in self._fields:
            name = name.lower()
            known = self._index.get(name)
            if known is not None:
                value = known + ("; " if name == "cookie" else ", ") + value
            self._index[name] = value

    def __getitem__(self, name: str) -> str:
        return self._index[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._index)

    def __len__(self) -> int:
        return len(self._index)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._index

    def __repr__(self) -> str:
        return f"Headers({list(self._fields)!r})"

    @overload
    def get(self, name: str, /) -> str | None: ...
    @overload
    def get(self, name: str, /, default: str | _T) -> str | _T: ...
    def get(self, name: str, /, default: object = None) -> object:
        """The value of that field, or `default`."""
        return self._index.get(name.lower(), default)

    def get_all(self, name: str) -> list[str]:
        """The values of every field of that name."""
        name = name.lower()
        return [value for known, value in self._fields if known.lower() == name]

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """All fields, in order, duplicates included."""
        return self._fields


class RequestHead(NamedTuple):
    """A request without its content, checked: what h11 and our own rules agreed on."""

    method: str
    target: Target
    version: Literal["1.0", "1.1"]
    headers: Headers
    content_length: int
    """0 if there is no content."""
    chunked: bool
    keep_alive: bool
    """Whether the client lets the connection go on after the answer (RFC 9112 section 9.3)."""
    expectation: Literal["none", "continue", "unknown"]
    """The Expect field (RFC 9110 section 10.1.1)."""
    conditional: bool = True
    """Whether there may be a precondition (RFC 9110 section 13.1)."""

    @property
    def has_body(self) -> bool:
        """Whether content follows the head."""
        return self.chunked or self.content_length > 0

    @property
    def request_line(self) -> str:
        """The first line as it came, for the log."""
        return f"{self.method} {self.target.raw} HTTP/{self.version}"


class OpenFile(Protocol):
    """A file that the kernel can send by itself."""

    def fileno(self) -> int:
        """Its descriptor."""

    def close(self) -> object:
        """Gives the descriptor back; harmless the second time."""


class Pieces(Protocol):
    """Content that comes piece by piece, from a pool thread."""

    def next_piece(self) -> bytes | None:
        """Pool thread: the next piece; None at the end."""

    def close(self) -> None:
        """Pool thread: nothing more is wanted."""


class OpenEnded:
    """Content that is made while it is sent."""

    __slots__ = ()

    length: int | None = None
    """How many bytes it will have, where somebody knows that before."""


class StreamBody(OpenEnded):
    """Content that an iterator makes.

    `first` is the piece that is there already, None for content without any.
    """

    __slots__ = ("first", "rest")

    def __init__(self, first: bytes | None, rest: Pieces) -> None:
        self.first = first
        self.rest = rest


class FileBody:
    """A part of an open regular file. Whoever holds this closes the file: the loop, once it is sent."""

    __slots__ = ("file", "length", "offset")

    def __init__(self, file: OpenFile, offset: int, length: int) -> None:
        self.file = file
        self.offset = offset
        self.length = length


Body: TypeAlias = bytes | FileBody | tuple[bytes | FileBody, ...] | OpenEnded


def length_of(body: Body) -> int:
    """The bytes that a body of known length has; 0 if nobody knows."""
    if isinstance(body, bytes):
        return len(body)
    if isinstance(body, FileBody):
        return body.length
    if isinstance(body, OpenEnded):
        return body.length or 0
    return sum(map(length_of, body))


class Outcome(NamedTuple):
    """A response before it is framed: what the pool hands to the loop.

    `fields` holds finished field lines that were checked where they entered; framing (length,
    connection, date) is the business of whoever sends it.
    """

    status: int
    fields: bytes = b""
    body: Body = b""
    close: bool = False
    """The connection must not go on after this."""
    silent: bool = False
    """There is no answer at all: the connection just ends."""
    relayed: bool = False
    """It comes from an upstream, which has said who it is and when: no Server and no Date of ours."""
