"""`QuickServer`: settings, registration, dispatch and life. The only file that knows all parts.

Settings may be changed at any time, from any thread; they count from the next request on. Everything
else named `_on_…` or `_dispatch…` runs on the loop thread.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from socket import socket as Socket  # noqa: N812 (`socket` is one of the server's own names)
from typing import TYPE_CHECKING, Any, TypeAlias

from .accesslog import AccessLog, SlowReport, SlowRequests
from .connection import Connection, Service
from .events import EVENT_FIELDS, EventChannel, EventStream
from .exchange import Exchange
from .handlers import EventCall, Handler, HandlerCall
from .lifecycle import ending_signals
from .limits import MIB, Limits
from .listener import Listener, listen
from .lookups import FileLookup, PreMiddlewareCall, answer_nothing_found
from .mirror import Mirrors
from .origin import cors_fields, host_name, is_foreign, is_own_host, preflight_fields
from .pool import Lane, Pool, SerialLane, ThreadFactory
from .protocol.forms import media_type
from .protocol.heads import HeadMemo
from .protocol.messages import Outcome, ProtocolError
from .protocol.writer import ResponseWriter, field_line
from .reactor import Reactor
from .registration import Registration
from .request import EMPTY, Content
from .routes import Match
from .static import DEFAULT_WHITE, FileServer, SpecialFile
from .version import __version__

PostFileLens: TypeAlias = dict[str, int]
"""Sizes of uploaded files by field name."""

if TYPE_CHECKING:
    from .testclient import TestClient

_QUEUED_REPORTS = 1000
_MULTIPART = "multipart/form-data"
PACKAGE_FOLDER = os.path.dirname(os.path.abspath(__file__))


class QuickServer(Registration):
    """A server for files and functions. Made by `create_server`.

    >>> server = create_server(("", 8080))  # doctest: +SKIP
    >>> server.bind_path("/", "www")  # doctest: +SKIP
    >>> server.serve_forever()  # doctest: +SKIP
    """

    def __init__(
        self,
        address: tuple[str, int],
        parallel: bool = True,
        thread_factory: ThreadFactory | None = None,
    ) -> None:
        """Listens on `address`; see `create_server`. Raises OSError if that cannot be had."""
        super().__init__()
        self.base_path = os.path.abspath(os.curdir)
        """Where relative folders and files are looked for."""
        self.directory_listing = False
        """Whether a folder without an index shows what is in it."""
        self.favicon_everywhere = True
        """Whether `favicon_fallback` holds for every `…/favicon.ico`, and not just for the root's."""
        self.favicon_fallback: str | None = None
        """A file that stands in for every favicon that does not exist."""
        self.follow_symlinks = False
        """Whether symbolic links may lead out of a bound folder."""
        self.max_age = 0
        """Seconds that clients may use an answer without asking again."""
        self.max_file_size = 50 * MIB
        """Bytes of one uploaded file, or of the whole of another body; over it 413."""
        self.suppress_noise = False
        """Whether requests that went well (200 and 304) are kept out of the log."""
        self.report_slow_requests: bool | SlowReport | tuple[float, SlowReport] = False
        """True: log what takes over 5 s. A callable: call it with (method, path), and with the
        duration in seconds and whether the request is complete if it takes those too. A pair
        `(seconds, callable)`: the same with another patience."""
        self.compress = True
        """Whether JSON and text over 1 KiB is sent gzip-encoded to clients that accept it."""
        self.cross_origin: bool | Sequence[str] = False
        """Whether pages of other origins may read what is answered (CORS). A list of origins, such as
        `["https://app.example"]`, lets just those, and lets them send credentials."""
        self.allowed_hosts: Sequence[str] = []
        """Names besides localhost and IP addresses under which a server on loopback may be asked, and
        whose pages may send requests that change something; `["*"]` for any."""
        self.heartbeat = 15.0
        """Seconds of silence after which an event stream shows that it is alive."""
        self.shutdown_timeout = 10.0
        """Seconds that requests in flight get to finish when the server ends."""
        self.shutdown_latency = 0.1
        """Seconds that closing connections get when the server ends."""

        self.limits = limits = Limits()
        self._is_local = host_name(address[0] or "localhost") == "localhost"
        self._done = False
        self._closed = False
        self._served = False
        self._running = threading.Lock()  # held while serve_forever runs
        self._reactor = Reactor()
        try:
            self._sockets = listen(*address, limits.backlog)
        except BaseException:
            self._reactor.close()
            raise
        self._address: tuple[Any, ...] = self._sockets[0].getsockname()
        self._listeners: list[Listener] = []
        self._latency_began = False
        self._pool = Pool(self._reactor, limits.threads, limits.queued_jobs, thread_factory)
        self._lane: Lane = self._pool if parallel else SerialLane(self._pool)
        self._files = FileServer(self, limits)
        self._mirrors = Mirrors(self._reactor, self._pool.submit)
        self._access = AccessLog(self, self._reactor)
        # A thread of their own, made when needed: the pool may be what is slow.
        self._reports = Pool(self._reactor, 1, _QUEUED_REPORTS, thread_factory)
        self._slow = SlowRequests(self, self._reactor, self._reports)
        self._service = Service(
            reactor=self._reactor,
            limits=limits,
            memo=HeadMemo(),
            writer=ResponseWriter(f"quick_server/{__version__}"),
            lane=self._lane,
            dispatch=self._dispatch,
            finished=self._on_finished,
            malformed=self._access.malformed,
        )

    # settings -------------------------------------------------------------------------------------

    @property
    def server_address(self) -> tuple[Any, ...]:
        """The address that the (first) listening socket is bound to: host and port."""
        return self._address

    @property
    def socket(self) -> Socket:
        """The (first) listening socket."""
        return self._sockets[0]

    @property
    def threads(self) -> int:
        """How many handlers and file reads run at the same time at most (default 8)."""
        return self._pool.most_threads

    @threads.setter
    def threads(self, count: int) -> None:
        self._pool.most_threads = count

    @property
    def done(self) -> bool:
        """Whether the server has ended or is about to.

        Setting it True, from any thread, ends it: requests that are being answered get their answer,
        then `serve_forever` returns.
        """
        return self._done

    @done.setter
    def done(self, done: bool) -> None:
        self._done = done
        if done:
            self._reactor.call_from_thread(self._begin_end)

    def update_version_string(self, version: str) -> None:
        """Puts `version`, such as `app/1.2`, in front of the Server header field."""
        self._service.writer = ResponseWriter(f"{version} quick_server/{__version__}")

    # files ----------------------------------------------------------------------------------------

    def bind_path(self, name: str, folder: str) -> None:
        """Serves `folder` (relative to `base_path`) for paths that start with `name`.

        It is looked in before the folders that were bound earlier. ValueError unless `name` starts
        and ends with a slash.
        """
        self._files.bind(name, self._absolute(folder))

    def bind_path_fallback(self, name: str, folder: str) -> None:
        """Like `bind_path`, but looked in after all others."""
        self._files.bind(name, self._absolute(folder), fallback=True)

    def add_file_patterns(self, patterns: Iterable[str], blacklist: bool) -> None:
        """Adds shell-style patterns such as `*.key` to the black or to the white list.

        They are compared with absolute paths. Without a white list every file is served; the black
        list beats the white list.
        """
        self._files.add_patterns(patterns, black=blacklist)

    def add_default_white_list(self) -> None:
        """Restricts files to the types that web pages are made of."""
        self._files.add_patterns(DEFAULT_WHITE, black=False)

    def set_file_fallback_hook(self, hook: Callable[[str], str | None] | None) -> None:
        """Has `hook(path)` name a file where the answer would be 404; None for no such file.

        What it returns is a path as in a request (`/index.html`), or that of a file in one of the
        bound folders. Single-page applications answer every path with their index that way.
        """
        self._files.fallback_hook = hook

    def link_empty_favicon_fallback(self) -> None:
        """Answers requests for favicons that do not exist with an empty icon."""
        self.favicon_fallback = os.path.join(PACKAGE_FOLDER, "assets", "empty.ico")

    def add_special_file(
        self, mask: str, path: str, from_quick_server: bool, ctype: str | None = None
    ) -> None:
        """Serves one file at the path `mask`, whatever the lists say.

        `path` is relative to `base_path`, or to the package itself with `from_quick_server`; `ctype`
        replaces the Content-Type that its name implies.
        """
        place = self._source(path, from_quick_server)
        self._files.add_special(mask, SpecialFile(place, ctype))

    def mirror_file(self, path_to: str, path_from: str, from_quick_server: bool = True) -> None:
        """Makes a file appear at `path_to`.

        As a link or, where that is impossible, as a copy that follows the changes of the original
        while the server runs.
        """
        place, source = self._absolute(path_to), self._source(path_from, from_quick_server)
        self._mirrors.add(place, source)
        self._files.allow_link(place, source)

    def _absolute(self, path: str) -> str:
        return os.path.normpath(os.path.join(self.base_path, path))

    def _source(self, path: str, from_quick_server: bool) -> str:
        return os.path.join(PACKAGE_FOLDER, path) if from_quick_server else self._absolute(path)

    # dispatch: loop thread ------------------------------------------------------------------------

    def _dispatch(self, exchange: Exchange) -> None:
        """Takes a request in: may it be asked at all? Then pre-middleware, if there is any."""
        head = exchange.head
        if self.report_slow_requests:
            self._slow.watch(exchange)
        if self.cross_origin:
            exchange.fields = cors_fields(head.headers, self.cross_origin)
        if self._is_local and not is_own_host(head.headers.get("host"), self.allowed_hosts):
            exchange.refuse(421, "this server has no such name; see allowed_hosts")
        elif self.cross_origin is not True and is_foreign(
            head, self.allowed_hosts, self.cross_origin or ()
        ):
            exchange.refuse(403, "another site's pages may not change anything here")
        elif head.expectation == "unknown":
            exchange.refuse(417, "only the expectation 100-continue can be met")
        elif self._pre_middleware:
            call = PreMiddlewareCall(self, exchange, self._pre_middleware, self._route)
            exchange.submit(call, self._lane)
        else:
            self._route(exchange)

    def _route(self, exchange: Exchange) -> None:
        """Decides who answers. The order: handlers, files that exist, 405 or 404."""
        head = exchange.head
        target = head.target
        if head.method == "OPTIONS" and self._answer_options(exchange):
            return
        if target.segments is None:
            exchange.refuse(404, "the path leaves the root")
            return
        method = "GET" if head.method == "HEAD" else head.method
        match = self.routes.find(method, target.segments)
        if match is None:
            self._look_for_file(exchange)
        elif target.is_text:
            self._call_handler(exchange, match)
        else:
            exchange.refuse(400, "the path is not UTF-8")

    def _answer_options(self, exchange: Exchange) -> bool:
        """Answers what concerns the server as a whole, and preflights (with `cross_origin`)."""
        headers = exchange.head.headers
        if exchange.head.target.raw == "*":
            exchange.answer(Outcome(204, field_line("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE")))
        elif self.cross_origin and "access-control-request-method" in headers:
            exchange.answer(Outcome(204, preflight_fields(headers)))
        else:
            return False
        return True

    def _call_handler(self, exchange: Exchange, match: Match[Handler]) -> None:
        """Has the handler called, once there is as much of the body as it wants."""

        def call(content: Content) -> None:
            if match.route.kind == "events":
                job = self._event_call(exchange, match, content)
            else:
                job = HandlerCall(self, exchange, match, content)
            if not exchange.submit(job, self._lane):
                content.close()

        head = exchange.head
        if head.method in ("GET", "HEAD"):
            call(EMPTY)  # content of a GET has no meaning (RFC 9110 section 9.3.1): it is left unread
        elif head.has_body and head.headers.get("content-type", "").lower().startswith(_MULTIPART):
            self._receive_form(exchange, call)
        else:
            exchange.gather(self.max_file_size, lambda body: call(Content(body)))

    def _receive_form(self, exchange: Exchange, call: Callable[[Content], None]) -> None:
        from .uploads import Upload, make_form  # with the first form: not every server gets one

        try:
            _, parameters = media_type(exchange.head.headers["content-type"])
            form = make_form(parameters, self.max_file_size)
        except ProtocolError as error:
            exchange.refuse(error.status, error.message)
            return
        exchange.receive(Upload(exchange, self._pool, form, lambda form: call(Content(form=form))))

    def _event_call(self, exchange: Exchange, match: Match[Handler], content: Content) -> HandlerCall:
        channel = EventChannel(self._reactor, exchange.head.headers.get("last-event-id"))
        stream = EventStream(channel, self._reactor, self._lane, self.heartbeat)
        opened = Outcome(200, EVENT_FIELDS, stream)
        call = EventCall(self, exchange, match, content, channel, opened)
        channel.opener = call.open
        return call

    def _look_for_file(self, exchange: Exchange) -> None:
        allowed = self.routes.methods(exchange.head.target.segments or ())
        if "GET" in allowed:
            allowed.add("HEAD")
        if self._files.any:
            exchange.submit(FileLookup(self._files, exchange, allowed), self._pool)
        else:
            answer_nothing_found(exchange, allowed)

    def _on_finished(self, exchange: Exchange, size: int) -> None:
        self._access.finished(exchange, size)
        self._slow.finished(exchange)

    # life -----------------------------------------------------------------------------------------

    def serve_forever(self) -> None:
        """Serves until `done` is set, or SIGINT or SIGTERM arrives; then returns.

        The end: nothing more is accepted, idle connections are closed, and requests in flight have
        10 s to get their answer. A second signal ends it at once. In a thread other than the main
        thread there is no signal handling. Raises RuntimeError if it runs already or has ended.
        """
        if self._closed and not self._served:
            return  # closed from another thread before this one got here
        if self._closed or not self._running.acquire(blocking=False):
            raise RuntimeError("this server is closed, or being served in another thread")
        self._served = True
        try:
            if not self._listeners:
                self._listeners = [
                    Listener(self._reactor, sock, self.limits, self._on_connection)
                    for sock in self._sockets
                ]
            with ending_signals(self._reactor, self._on_signal):
                self._reactor.run()
        finally:
            self._done = True
            self._running.release()

    def server_close(self) -> None:
        """Gives back everything: sockets, connections, threads. Ends serving first if need be.

        A handler that does not come to an end is left behind in its (daemon) thread.
        """
        if self._closed:
            return
        self.done = True
        if self._reactor.is_loop_thread() or self._pool.is_pool_thread():
            return  # whoever called `serve_forever` closes when it returns
        with self._running:
            self._closed = True
            for connection in list(self._service.connections):
                connection.abandon()
            for listener in self._listeners:
                listener.close()
            for sock in self._sockets:
                sock.close()
            self._reports.close(self.limits.join_timeout)
            self._pool.close(self.limits.join_timeout)
            self._reactor.close()

    def test_client(self) -> TestClient:
        """A client that sends requests without a network, whether or not the server runs."""
        from .testclient import TestClient

        return TestClient(self, self._connect)

    def running(self) -> AbstractContextManager[str]:
        """`with server.running() as url:` serves in a background thread, for tests and notebooks.

        At the end of the block the server is closed and its threads are gone.
        """
        from .testclient import running

        return running(self)

    def _connect(self, sock: Socket) -> bool:
        """Takes a connected socket for a client's; returns whether the loop runs already."""
        client = ("127.0.0.1", 0)
        if self._reactor.running:
            self._reactor.call_from_thread(lambda: self._on_connection(sock, client))
            return True
        self._on_connection(sock, client)
        return False

    def wait_until_running(self) -> None:
        """Waits until another thread has begun to serve."""
        begun = threading.Event()
        self._reactor.call_from_thread(begun.set)
        begun.wait()

    def turn(self, patience: float) -> None:
        """One turn of a loop that nobody runs, waiting for at most so many seconds; for tests."""
        with self._running:
            self._reactor.turn(patience)

    def _on_connection(self, sock: Socket, address: Any) -> None:
        Connection(self._service, sock, address[:2])

    def _on_signal(self) -> None:
        if self._service.draining:
            self._reactor.stop()
        self._done = True
        self._begin_end()

    def _begin_end(self) -> None:
        """Stops accepting and lets what is under way finish."""
        if self._service.draining:
            return
        self._service.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self._service.connections):
            connection.shut_down()
        self._reactor.call_later(self.shutdown_timeout, self._reactor.stop)
        self._reactor.before_poll(self._look_for_end)

    def _look_for_end(self) -> None:
        connections = self._service.connections
        if not connections:
            self._reactor.stop()
        elif not self._latency_began and all(connection.closing for connection in connections):
            self._latency_began = True
            self._reactor.call_later(self.shutdown_latency, self._reactor.stop)


def create_server(
    address: tuple[str, int],
    parallel: bool = True,
    thread_factory: ThreadFactory | None = None,
) -> QuickServer:
    """A server that listens on `address`, a pair of host and port.

    Host '' is localhost on every loopback family that the machine has, '0.0.0.0' and '::' are all
    interfaces; port 0 picks a free port, which `server.server_address` tells. `parallel=False` never
    runs two handlers at the same time, for code that is not thread-safe. `thread_factory` is called
    like `threading.Thread` to make the pool's threads.

    Raises OSError, naming the address, if it cannot be listened on.
    """
    return QuickServer(address, parallel, thread_factory)
