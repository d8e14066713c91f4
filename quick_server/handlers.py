"""A user's function called for a request, and its result made a response.

`HandlerCall` runs on a pool thread; it gets everything it needs when it is made, and gives back one
outcome. Whatever a handler raises or returns, the outcome is a complete and clean response: headers
that were queued before a failure are not part of it, and nothing of an exception is sent.
"""

from __future__ import annotations

import io
import os
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from .exchange import Exchange
from .log import escape, log_exception
from .protocol.conditional import content_tag, matches, validators
from .protocol.cookies import parse_cookies
from .protocol.errors import error_outcome
from .protocol.forms import known_charset, media_type, parse_form, parse_json, parse_query
from .protocol.jsontext import json_bytes
from .protocol.messages import FileBody, Outcome, ProtocolError, RequestHead
from .protocol.writer import field_line
from .request import QuickServerRequestHandler, ReqArgs, final_status
from .responses import PreventDefaultResponse, Response
from .routes import Match

if TYPE_CHECKING:
    from .server import QuickServer

ReqF = Callable[[QuickServerRequestHandler, ReqArgs], Any]
"""A handler."""

_JSON_TYPE = field_line("Content-Type", "application/json")
_TEXT_TYPE = field_line("Content-Type", "text/plain; charset=utf-8")
_TYPES = {"json": _JSON_TYPE, "text": _TEXT_TYPE}


@dataclass(frozen=True, slots=True)
class Handler:
    """A function that answers requests, and how to turn its result into content."""

    function: ReqF
    kind: Literal["json", "text"]


class HandlerCall:
    """One call of a handler: a job for the pool."""

    __slots__ = ("_body", "_exchange", "_head", "_match", "_server", "deliver")

    def __init__(
        self, server: QuickServer, exchange: Exchange, match: Match[Handler], body: bytes
    ) -> None:
        self._server = server
        self._exchange = exchange
        self._head = exchange.head
        self._match = match
        self._body = body
        self.deliver = exchange.answer

    def run(self) -> Outcome:
        """Pool thread: from arguments to a response."""
        head = self._head
        req = QuickServerRequestHandler(head, self._exchange.client, self._server)
        try:
            try:
                result = self._match.route.function(req, self._arguments())
            except PreventDefaultResponse as stop:
                return _prevented(stop, req, head)
            return self._respond(req, result)
        except ProtocolError as error:
            return error_outcome(error.status, error.message, head)
        except BaseException:  # a handler that calls sys.exit must not end a thread of the pool
            number = secrets.token_hex(4)
            log_exception(f'error {number} in "{escape(head.request_line)}"')
            return error_outcome(500, f"the server failed to answer (error {number})", head)

    def _arguments(self) -> ReqArgs:
        target, match = self._head.target, self._match
        cookies = self._head.headers.get("cookie")
        return {
            "paths": list(match.rest),
            "query": parse_query(target.query) if target.query else {},
            "post": self._post() if self._body else {},
            "files": {},
            "fragment": target.fragment,
            "segments": match.segments,
            "meta": {},
            "cookie": parse_cookies(cookies) if cookies is not None else None,
        }

    def _post(self) -> Any:
        kind, parameters = media_type(self._head.headers.get("content-type", ""))
        charset = known_charset(parameters.get("charset", "utf-8"))
        if kind == "application/json" or kind.endswith("+json"):
            return parse_json(self._body, charset)
        if kind == "application/x-www-form-urlencoded":
            return parse_form(self._body, charset)
        return {}

    def _respond(self, req: QuickServerRequestHandler, result: Any) -> Outcome:
        head = self._head
        if req.error is not None:
            return _as_asked(req, head)
        code, ctype = 200, None
        if isinstance(result, Response):
            code, ctype, result = result.code, result.ctype, result.response
        code = final_status(code if req.code is None else req.code)
        if result is None:
            return error_outcome(404, "", head)
        kind = self._match.route.kind
        body = json_bytes(result) if kind == "json" else _content(result)
        fields = req.fields
        if code == 200 and isinstance(body, bytes) and head.method in ("GET", "HEAD"):
            tag = content_tag(body)
            fields += validators(tag, self._server.max_age)
            known = head.headers.get("if-none-match")
            if known is not None and matches(known, tag):
                return Outcome(304, fields)
        fields += _TYPES[kind] if ctype is None else field_line("Content-Type", ctype)
        return Outcome(code, fields, body)


def _prevented(
    stop: PreventDefaultResponse, req: QuickServerRequestHandler, head: RequestHead
) -> Outcome:
    """The answer of a handler that ended early."""
    if stop.code is None:
        return _as_asked(req, head)
    return error_outcome(final_status(stop.code), stop.message or "", head)


def _as_asked(req: QuickServerRequestHandler, head: RequestHead) -> Outcome:
    """What a handler asked for that wants nothing more to be sent."""
    if req.error is not None:
        return error_outcome(*req.error, head, req.fields)
    if req.code is not None:
        return Outcome(req.code, req.fields)
    return Outcome(500, silent=True)


def _content(result: Any) -> bytes | FileBody:
    """The content of a text answer."""
    if isinstance(result, bytes):
        return result
    if isinstance(result, str):
        return result.encode("utf-8", "surrogatepass")
    if isinstance(result, bytearray | memoryview):
        return bytes(result)
    if hasattr(result, "read"):
        with result:
            return _file_content(result)
    raise TypeError(f"a text handler returns str, bytes or a file, not {type(result).__name__}")


def _file_content(file: Any) -> bytes | FileBody:
    """A file's content from where it stands: a real file is sent by the kernel, others are read."""
    try:
        descriptor = file.fileno()
    except (AttributeError, io.UnsupportedOperation):
        descriptor = -1
    if descriptor < 0 or hasattr(file, "encoding") or not stat.S_ISREG(os.fstat(descriptor).st_mode):
        content = file.read()
        return content.encode() if isinstance(content, str) else bytes(content)
    start = file.tell()
    return FileBody(os.dup(descriptor), start, max(0, os.fstat(descriptor).st_size - start))
