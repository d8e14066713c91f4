"""`req` and `args`: a request as handlers see it.

Lives on the pool thread that runs the handler, for as long as that takes. What a handler does to its
answer (headers, a code, an error) is only noted here; the caller of the handler sends it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypedDict, cast

from .limits import Limits
from .log import elapsed_string, size_string
from .protocol.cookies import parse_cookies
from .protocol.forms import parse_body, parse_query
from .protocol.messages import Headers, RequestHead
from .protocol.target import Target
from .protocol.writer import field_line
from .routes import Match

if TYPE_CHECKING:
    from http.cookies import SimpleCookie

    from .server import QuickServer
    from .uploads import Form, UploadedFile


class ReqArgs(TypedDict):
    """The arguments of a request."""

    paths: list[str]
    """The path's segments beyond the mask, decoded."""
    query: dict[str, str | bool]
    """The query: decoded; a name without `=` is True, the last of equal names wins."""
    post: Any
    """The body: a JSON value, or the fields of a form; {} if there is none, or of another type."""
    files: dict[str, UploadedFile]
    """Uploaded files by field name."""
    fragment: str
    """The target's fragment, which clients do not send as a rule."""
    segments: dict[str, str]
    """What the mask's `:name` segments stand for."""
    meta: dict[str, Any]
    """Empty at first; for middleware to pass things on."""
    cookie: SimpleCookie | None
    """The request's cookies."""


class Content:
    """The content of a request: its bytes, or the form that was made of them."""

    __slots__ = ("body", "form")

    def __init__(self, body: bytes | bytearray = b"", form: Form | None = None) -> None:
        self.body = body
        self.form = form

    def release(self, file: object) -> None:
        """Leaves an uploaded file to the answer, which it is a part of."""
        if self.form is not None:
            self.form.release(file)

    def close(self) -> None:
        """Closes uploaded files."""
        if self.form is not None:
            self.form.close()


EMPTY = Content()


class _LazyCookies(dict[str, Any]):
    """Arguments whose cookies are taken apart when somebody looks."""

    __slots__ = ("_field",)

    def __init__(self, field: str, arguments: dict[str, Any]) -> None:
        super().__init__(arguments)
        self._field = field

    def __missing__(self, name: str) -> Any:
        if name != "cookie":
            raise KeyError(name)
        cookies = self[name] = parse_cookies(self._field)
        return cookies

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def __contains__(self, name: object) -> bool:
        return name == "cookie" or super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        self["cookie"]
        return super().__iter__()

    def __len__(self) -> int:
        self["cookie"]
        return super().__len__()

    def keys(self) -> Any:
        self["cookie"]
        return super().keys()

    def values(self) -> Any:
        self["cookie"]
        return super().values()

    def items(self) -> Any:
        self["cookie"]
        return super().items()


def make_args(
    target: Target, headers: Headers, match: Match[Any], content: Content, limits: Limits
) -> ReqArgs:
    """The arguments of a request. ProtocolError 400 for a body that is not what it claims to be."""
    form = content.form
    if form is not None:
        post: Any = form.fields
    else:
        post = parse_body(headers, content.body, limits) if content.body else {}
    arguments = {
        "paths": list(match.rest),
        "query": parse_query(target.query) if target.query else {},
        "post": post,
        "files": {} if form is None else dict(form.files),
        "fragment": target.fragment,
        "segments": dict(match.segments) if match.segments else {},
        "meta": {},
    }
    cookies = headers.get("cookie")
    if cookies is None:
        arguments["cookie"] = None
        return cast("ReqArgs", arguments)
    return cast("ReqArgs", _LazyCookies(cookies, arguments))


class QuickServerRequestHandler:
    """One request: what it asks, and how to shape its answer."""

    __slots__ = ("_fields", "_head", "client_address", "close", "code", "content", "error", "server")

    def __init__(self, head: RequestHead, client_address: tuple[str, int], server: QuickServer) -> None:
        self._head = head
        self.client_address = client_address
        """Address and port of the client."""
        self.server = server
        """The server that received the request."""
        self._fields: list[tuple[str, bytes]] = []
        self.content: bytes | bytearray = b""
        self.close = False
        """Whether the connection ends with the answer."""
        self.code: int | None = None
        """The status that `send_response` asked for."""
        self.error: tuple[int, str] | None = None
        """The code and message that `send_error` asked for."""

    @property
    def command(self) -> str:
        """The method, `GET` for example."""
        return self._head.method

    @property
    def path(self) -> str:
        """The request target as the client sent it: path and query, encoded."""
        return self._head.target.raw

    @property
    def headers(self) -> Headers:
        """The header fields; names compare without case."""
        return self._head.headers

    @property
    def request_version(self) -> str:
        """`HTTP/1.1` or `HTTP/1.0`."""
        return f"HTTP/{self._head.version}"

    @property
    def requestline(self) -> str:
        """The request line, as the access log shows it."""
        return self._head.request_line

    @property
    def untouched(self) -> bool:
        """Whether the handler, and what is around it, asked for nothing but that its result is sent."""
        return not self._fields and self.code is None and self.error is None

    @property
    def bare(self) -> bool:
        """Whether the handler asked for no header field."""
        return not self._fields

    @property
    def fields(self) -> bytes:
        """The header field lines that the handler asked for."""
        return b"".join([line for _name, line in self._fields]) if self._fields else b""

    def fields_without(self, name: str) -> bytes:
        """The same, less those of that (lower-case) name."""
        return b"".join([line for known, line in self._fields if known != name])

    def has_field(self, name: str) -> bool:
        """Whether the handler asked for a header field of that (lower-case) name."""
        return self.field(name) is not None

    def field(self, name: str) -> str | None:
        """The value of the last header field of that (lower-case) name that the handler asked for."""
        for known, line in reversed(self._fields):
            if known == name:
                return line[len(name) + 2 : -2].decode("latin-1")
        return None

    def body(self) -> bytes:
        """The content of the request as it came; empty for a multipart form, which is not kept."""
        return bytes(self.content)

    def send_header(self, name: str, value: object, replace: bool = False) -> None:
        """Adds a header field to the answer, or with `replace` takes the place of those of that name.

        `Connection: close` ends the connection with the answer. Raises ValueError for a name or value
        that HTTP does not allow (RFC 9110 section 5), line breaks above all, and for the fields with
        which the server frames the message.
        """
        key, text = name.lower(), str(value)
        if key == "connection" and text.strip().lower() == "close":
            self.close = True
            return
        line = field_line(name, text)
        if replace:
            self._fields = [field for field in self._fields if field[0] != key]
        self._fields.append((key, line))

    def add_line(self, name: str, line: bytes) -> None:
        """Adds a finished header field line; `name` is its name in lower case."""
        self._fields.append((name, line))

    def send_cookie(self, cookie: SimpleCookie) -> None:
        """Adds a Set-Cookie field for each cookie in `cookie` (RFC 6265 section 4.1)."""
        for morsel in cookie.values():
            self.send_header("Set-Cookie", morsel.OutputString())

    def send_response(self, code: int, message: str | None = None) -> None:  # noqa: ARG002
        """Sets the status of the answer. The reason phrase is always the standard one."""
        self.code = final_status(code)

    def send_error(self, code: int, message: str | None = None) -> None:
        """Makes the answer an error page, whatever the handler returns after that."""
        self.error = (final_status(code), message or "")

    def get_original_host(self) -> tuple[str, str]:
        """Protocol and host that the client believes to talk to.

        They come from the Origin field, else from Forwarded (RFC 7239), else from Host and from what
        the server itself speaks.
        """
        headers = self._head.headers
        protocol, separator, host = headers.get("origin", "").partition("://")
        if separator and host:
            return protocol, host
        first = headers.get("forwarded", "").split(",")[0]
        pairs = [part.partition("=") for part in first.split(";")]
        forwarded = {name.strip().lower(): value.strip().strip('"') for name, _, value in pairs}
        protocol = forwarded.get("proto") or self.server.scheme
        return protocol, forwarded.get("host") or headers.get("host") or ""

    def convert_argmap(self, query: str | dict[str, str | bool]) -> dict[str, str | bool]:
        """A query string as a dict, the way `args["query"]` is made; a dict stays as it is."""
        return parse_query(query) if isinstance(query, str) else query

    def log_elapsed_time_string(self, elapsed: float) -> str:
        """Milliseconds for people."""
        return elapsed_string(elapsed)

    def log_size_string(self, size: float) -> str:
        """Bytes for people."""
        return size_string(size)


def final_status(code: int) -> int:
    """The code, if it can end a request: interim ones (1xx) would leave the client waiting.

    Raises ValueError otherwise, and TypeError for what is no whole number.
    """
    code = operator.index(code)
    if not 200 <= code <= 999:
        raise ValueError(f"{code} is not a final HTTP status")
    return code
