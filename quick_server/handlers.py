"""A user's function called for a request, and its result made a response.

`HandlerCall` runs on a pool thread; it gets everything it needs when it is made, and gives back one
outcome. Whatever a handler raises or returns, the outcome is a complete and clean response: headers
that were queued before a failure are not part of it, and nothing of an exception is sent.
"""

from __future__ import annotations

import functools
import io
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

from .cache import CachePlan, ResultCache
from .events import EVENT_STREAM, EventChannel
from .exchange import Exchange
from .jsontext import JsonText, json_bytes, json_dumps
from .log import log_failure, quote
from .mediatypes import content_type
from .middleware import MiddlewareF, wrap
from .pool import Job
from .producer import FilePieces, IteratorPieces
from .protocol.conditional import Validators, content_tag, file_outcome, precondition, tag_line
from .protocol.encoding import compress, gains, wanted
from .protocol.errors import error_outcome
from .protocol.messages import FileBody, Outcome, Pieces, ProtocolError, RequestHead, StreamBody
from .protocol.writer import field_line
from .request import Content, QuickServerRequestHandler, final_status, make_args
from .responses import MultipartResponse, PreventDefaultResponse, Response
from .routes import Match

if TYPE_CHECKING:
    from .request import ReqArgs
    from .server import QuickServer

ReqF = Callable[[QuickServerRequestHandler, "ReqArgs"], Any]
"""A handler."""

Kind = Literal["json", "text", "events", "worker"]

_JSON = "application/json"
_TYPES = {
    "json": _JSON,
    "text": "text/plain; charset=utf-8",
    "events": EVENT_STREAM,
    "worker": _JSON,
}
_NO_STREAMS = (str, bytes, bytearray, memoryview, dict, set, frozenset)
_NOT_KEPT = (Response, MultipartResponse)
_VARY = b"Vary: Accept-Encoding\r\n"


class Handler:
    """A function that answers requests, and how to turn its result into content."""

    __slots__ = ("_around", "_own", "call", "function", "kind")

    def __init__(
        self, function: Callable[..., Any], kind: Kind, around: Sequence[MiddlewareF] = ()
    ) -> None:
        """`around` is the middleware of the block in which it was registered."""
        self.function = function
        self.kind = kind
        self._around = tuple(around)
        self._own: tuple[MiddlewareF, ...] = ()
        self.call = wrap(self.inner, self._around)
        """The function behind its middleware."""

    @property
    def inner(self) -> Callable[..., Any]:
        """What the middleware is wrapped around."""
        return self.function

    def put_behind(self, middleware: MiddlewareF) -> None:
        """Adds middleware of its own, in front of what was added before."""
        self._own = (middleware, *self._own)
        self.call = wrap(self.inner, self._around + self._own)


class CachedHandler(Handler):
    """A function whose plain results are kept; any other result is answered, and not kept."""

    __slots__ = ("_plan", "_results")

    def __init__(
        self,
        function: Callable[..., Any],
        kind: Kind,
        around: Sequence[MiddlewareF],
        plan: CachePlan,
        results: ResultCache,
    ) -> None:
        self._plan = plan
        self._results = results
        super().__init__(function, kind, around)

    @property
    def inner(self) -> Callable[..., Any]:
        """What the middleware is wrapped around: the look whether the result is known."""
        return self._answer

    def _answer(self, req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        key = self._results.key(self._plan, args)
        text = self._results.load(key) if key is not None else None
        if text is None:
            before = req.fields
            result = self.function(req, args)
            if key is None or req.error is not None or req.code is not None or req.fields != before:
                return result
            if self.kind == "json":
                if result is None or isinstance(result, _NOT_KEPT) or hasattr(result, "read"):
                    return result
                text = json_dumps(result)
            elif isinstance(result, str):
                text = result
            else:
                return result
            self._results.store(key, text)
        return JsonText(text) if self.kind == "json" else text


class HandlerCall(Job):
    """One call of a handler: a job for the pool."""

    __slots__ = ("_content", "_exchange", "_head", "_match", "_req", "_server")

    def __init__(
        self, server: QuickServer, exchange: Exchange, match: Match[Handler], content: Content
    ) -> None:
        self._server = server
        self._exchange = exchange
        self._head = exchange.head
        self._match = match
        self._content = content
        self._req = QuickServerRequestHandler(exchange.head, exchange.client, server)

    def run(self) -> Outcome:
        """Pool thread: from arguments to a response."""
        head, req = self._head, self._req
        if not self._is_wanted():  # the client went away while this waited in line
            self._content.close()
            return Outcome(500, silent=True)
        try:
            try:
                args = make_args(
                    head.target, head.headers, self._match, self._content, self._server.limits
                )
                req.content = self._content.body
                outcome = self._respond(self._call(args))
            except PreventDefaultResponse as stop:
                outcome = prevented(stop, req, head)
        except ProtocolError as error:
            outcome = error_outcome(error.status, error.message, head)
        except BaseException:  # a handler that calls sys.exit must not end a thread of the pool
            outcome = failed(head)
        if isinstance(outcome.body, StreamBody):  # what makes it may still read uploaded files
            outcome.body.rest = _Closing(outcome.body.rest, self._content)
        else:
            self._content.close()
        return outcome

    def deliver(self, outcome: Outcome) -> None:
        """Loop thread."""
        self._exchange.answer(outcome)

    def dropped(self) -> None:
        """The pool closed before the handler was called."""
        self._content.close()

    def _is_wanted(self) -> bool:
        return self._exchange.alive

    def _call(self, args: ReqArgs) -> Any:
        return self._match.route.call(self._req, args)

    def _respond(self, result: Any) -> Outcome:
        try:
            return self._make_outcome(result)
        except BaseException:
            _close(result.response if isinstance(result, Response) else result)
            raise

    def _make_outcome(self, result: Any) -> Outcome:
        req, head, kind = self._req, self._head, self._match.route.kind
        if type(result) is _MOSTLY[kind] and req.untouched:
            return self._send_bytes(_ENCODE[kind](result), 200, _TYPES[kind])
        code, ctype, wrapped = 200, None, False
        if isinstance(result, Response):
            code, ctype, result = result.code, result.ctype, result.response
            wrapped = True
        if req.error is not None:
            _close(result)
            return as_asked(req, head)
        if result is None:
            return error_outcome(404, "", head)
        code = final_status(code if req.code is None else req.code)
        if ctype is not None:
            req.send_header("Content-Type", ctype, replace=True)
        if isinstance(result, MultipartResponse):
            return self._send_pieces(result.pieces(), code, result.ctype)
        if hasattr(result, "read"):
            return self._send_file(result, code)
        if isinstance(result, JsonText):
            return self._send_bytes(result.encode(), code, _JSON)
        if _is_stream(result, kind, wrapped=wrapped):
            return self._send_pieces(IteratorPieces(iter(result)), code, _TYPES["text"])
        return self._send_bytes(_ENCODE[kind](result), code, _TYPES[kind])

    def _send_bytes(self, body: bytes, code: int, default_type: str) -> Outcome:
        req, head, server = self._req, self._head, self._server
        bare = req.bare
        ctype = default_type if bare else self._typed(default_type)
        fields, pack = b"", False
        if server.compress and gains(body, ctype) and not req.has_field("content-encoding"):
            fields = _VARY
            pack = wanted(head.headers.get("accept-encoding"), "gzip") > 0
        if code == 200 and (head.method == "GET" or head.method == "HEAD"):
            tag = content_tag(body)
            if pack:
                tag = f'{tag[:-1]}-gzip"'
            if bare or not req.has_field("cache-control"):
                fields += b"Cache-Control: max-age=%d\r\n" % server.max_age
            fields += tag_line(tag)
            verdict = precondition(head, Validators(tag)) if head.conditional else None
            if verdict == 304:
                return Outcome(304, req.fields_without("content-type") + fields)
            if verdict == 412:
                return error_outcome(412, "this is another state by now", head)
        if pack:
            body = compress(body)
            fields += b"Content-Encoding: gzip\r\n"
        own = _type_line(ctype) if bare else req.fields
        return Outcome(code, own + fields, body, req.close)

    def _typed(self, default: str) -> str:
        """The Content-Type of the answer: the handler's own, else the default, which is added."""
        own = self._req.field("content-type")
        if own is None:
            self._req.add_line("content-type", _type_line(default))
        return default if own is None else own

    def _send_file(self, file: Any, code: int) -> Outcome:
        """A file from where it stands: a real one is sent by the kernel, any other piece by piece."""
        req, head = self._req, self._head
        self._content.release(file)
        try:
            status = os.fstat(file.fileno())
            is_real = stat.S_ISREG(status.st_mode) and not hasattr(file, "encoding")
        except (AttributeError, io.UnsupportedOperation):
            is_real = False
        if not is_real:
            return self._send_pieces(FilePieces(file), code, _TYPES["text"])
        name = getattr(file, "name", None)
        ctype = self._typed(content_type(name) if isinstance(name, str) else _TYPES["text"])
        start = file.tell()
        body = FileBody(file, start, max(0, status.st_size - start))
        if code != 200 or head.method not in ("GET", "HEAD"):
            return Outcome(code, req.fields, body, req.close)
        tag = f'"{status.st_size:x}-{status.st_mtime_ns:x}-{start:x}"'
        # A change in the future has its time changed to this moment (RFC 9110 section 8.8.2.1).
        validators = Validators(tag, min(status.st_mtime, time.time()))
        fields = req.fields_without("content-type") + validators.fields(self._server.max_age)
        verdict = precondition(head, validators)
        if verdict is not None:
            file.close()
            return Outcome(304, fields) if verdict == 304 else error_outcome(412, "", head)
        outcome = file_outcome(head, fields, ctype, body, validators, self._server.limits.ranges)
        if isinstance(outcome.body, bytes):  # the range that was asked for is not there
            file.close()
        return outcome

    def _send_pieces(self, pieces: Pieces, code: int, default_type: str) -> Outcome:
        """The first step happens here, so that a stream which fails at once is a clean 500."""
        try:
            first = None if self._head.method == "HEAD" else pieces.next_piece()
        except BaseException:
            pieces.close()
            raise
        self._typed(default_type)
        return Outcome(code, self._req.fields, StreamBody(first, pieces), self._req.close)


class _Closing:
    """The pieces of an answer, with uploaded files that are needed until the last one."""

    __slots__ = ("_content", "_pieces", "next_piece")

    def __init__(self, pieces: Pieces, content: Content) -> None:
        self._pieces = pieces
        self._content = content
        self.next_piece = pieces.next_piece

    def close(self) -> None:
        """Closes both."""
        self._pieces.close()
        self._content.close()


class EventCall(HandlerCall):
    """The call of a handler that gets a channel: the stream opens when it returns, or first sends."""

    __slots__ = ("_channel", "_open")

    def __init__(
        self,
        server: QuickServer,
        exchange: Exchange,
        match: Match[Handler],
        content: Content,
        channel: EventChannel,
        opened: Outcome,
    ) -> None:
        super().__init__(server, exchange, match, content)
        self._channel = channel
        self._open = opened

    def run(self) -> Outcome:
        """Pool thread: an error page, or the open stream."""
        outcome = super().run()
        if outcome.body is not self._open.body:
            self._channel._abandon()
        return outcome

    def open(self) -> None:
        """Loop thread: something was sent before the handler has returned."""
        if not self._channel.closed:
            self._exchange.answer(self._opened())

    def _opened(self) -> Outcome:
        return self._open._replace(fields=self._req.fields + self._open.fields)

    def _call(self, args: ReqArgs) -> Any:
        return self._match.route.call(self._req, args, self._channel)

    def _respond(self, result: Any) -> Outcome:
        if self._req.error is not None or isinstance(result, Response):
            return super()._respond(result)
        return self._opened()


def failed(head: RequestHead) -> Outcome:
    """500 for the exception being handled: the page and the log share an id, and nothing else."""
    number = os.urandom(4).hex()
    log_failure(f"error {number} in {quote(head.request_line)}")
    return error_outcome(500, f"the server failed to answer (error {number})", head)


def prevented(
    stop: PreventDefaultResponse, req: QuickServerRequestHandler, head: RequestHead
) -> Outcome:
    """The answer of a handler that ended early."""
    if stop.code is None:
        return as_asked(req, head)
    fields = req.fields_without("content-type")  # WWW-Authenticate, for instance
    return error_outcome(final_status(stop.code), stop.message or "", head, fields)


def as_asked(req: QuickServerRequestHandler, head: RequestHead) -> Outcome:
    """What a handler asked for that wants nothing more to be sent."""
    if req.error is not None:
        return error_outcome(*req.error, head, req.fields)
    if req.code is not None:
        return Outcome(req.code, req.fields)
    return Outcome(500, silent=True)


@functools.lru_cache(maxsize=64)
def _type_line(ctype: str) -> bytes:
    return field_line("Content-Type", ctype)


def _is_stream(result: Any, kind: Kind, *, wrapped: bool) -> bool:
    """Whether a result is sent piece by piece.

    Any iterable of a text handler that is no content itself is; of a JSON handler only an iterator in
    a `Response` is, as JSON has lists of its own.
    """
    if kind == "json" or kind == "worker":
        return wrapped and isinstance(result, Iterator)
    return isinstance(result, Iterable) and not isinstance(result, _NO_STREAMS)


def _text_bytes(result: Any) -> bytes:
    """The content of a text answer."""
    if isinstance(result, str):
        return result.encode("utf-8", "replace")
    if isinstance(result, bytes | bytearray | memoryview):
        return bytes(result)
    raise TypeError(
        f"a text handler returns str, bytes, a file or an iterator, not {type(result).__name__}"
    )


_ENCODE = {"json": json_bytes, "text": _text_bytes, "events": _text_bytes, "worker": json_bytes}
_MOSTLY: dict[str, type] = {
    "json": dict,
    "text": str,
    "events": str,
    "worker": dict,
}  # what handlers return as a rule


def _close(result: Any) -> None:
    close = getattr(result, "close", None)
    if callable(close):
        close()
