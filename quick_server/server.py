"""`QuickServer`: all parts put together, and its life. The only file that knows all parts.

Callers use it from any thread; what is under the banner "loop thread" runs only there.
"""

from __future__ import annotations

import functools
import itertools
import signal
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from socket import socket as Socket  # noqa: N812 (`socket` is one of the server's own names)
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from . import handover, lifecycle, shutdown
from .accesslog import AccessLog, SlowRequests
from .binding import FileBinding
from .builtin import add_commands
from .cache import ResultCache
from .capacity import Capacity
from .connection import Connection, Service
from .console import Console
from .dispatch import Dispatcher
from .exchange import Exchange
from .https import Https
from .jobrequests import JobRequests
from .jobs import JobTable
from .limits import Limits
from .listener import Listener, is_loopback, listen, stop_listening
from .mirror import Mirrors
from .pool import Lane, Pool, SerialLane, ThreadFactory
from .protocol.heads import HeadMemo
from .protocol.writer import ResponseWriter
from .proxies import Proxies
from .reactor import Reactor
from .registration import Registration
from .settings import Settings
from .signals import ENDING, signals_on_loop
from .static import FileServer
from .tokenobjects import TokenHandler
from .tokens import DefaultTokenHandler, Tokens
from .upstreams import Upstreams
from .version import __version__
from .vitals import Vitals
from .workers import BaseWorker, DefaultWorker

PostFileLens: TypeAlias = dict[str, int]
"""Sizes of uploaded files by field name."""

if TYPE_CHECKING:
    import ssl
    from concurrent.futures import Executor

    from .testclient import TestClient

_QUEUED_REPORTS = 1000
_NAME_THREADS = 4
_QUEUED_NAMES = 1000
_PATIENCE = 1.0  # seconds beyond `shutdown_timeout` until a server that does not end is given up
_numbers = itertools.count()


class QuickServer(Registration, FileBinding, Tokens, Https, Settings):
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
        token_handler: TokenHandler | None = None,
        worker_constructor: Callable[[QuickServer], BaseWorker] | None = None,
        soft_worker_death: bool = False,
    ) -> None:
        """Listens on `address`; see `create_server`. Raises OSError if that cannot be had."""
        self._cache: Any = None
        self._results = ResultCache(self)
        Registration.__init__(self)
        Tokens.__init__(self, DefaultTokenHandler() if token_handler is None else token_handler)
        Https.__init__(self)
        Settings.__init__(self)
        self._limits = limits = Limits()
        self._asked = address
        self._number = next(_numbers)  # tells servers for the same address apart
        self._done = False
        self._restarting = False
        self._signalled = False
        self._closed = False
        self._served = False
        self._running = threading.Lock()  # held while serve_forever runs
        self._reactor = Reactor()
        try:
            self._sockets = listen(*lifecycle.listens_at(address), limits.backlog)
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
        self._reports = Pool(self._reactor, 1, _QUEUED_REPORTS, thread_factory, name="reports")
        self._slow = SlowRequests(self, self._reactor, self._reports)
        # Names are looked up in threads of their own: those of the pool may all be busy.
        self._names = Pool(self._reactor, _NAME_THREADS, _QUEUED_NAMES, name="names")
        self._upstreams = Upstreams(self._reactor, self._names, limits)
        self._proxies = Proxies(self, self._reactor, self._upstreams)
        self._table = JobTable(self, self._reactor)
        make_worker = worker_constructor or functools.partial(
            DefaultWorker, thread_factory=thread_factory, soft_death=soft_worker_death
        )
        self._workers: list[BaseWorker] = [make_worker(self)]
        self._console = Console(self, self.commands, self._reactor, None if parallel else self._lane)
        self._dispatcher = Dispatcher(
            self,
            self._reactor,
            self._pool,
            self._lane,
            self._files,
            self._slow,
            JobRequests(self, self._table, self._results, self._lane),
            self._proxies,
            is_local=is_loopback(self._address[0]),
        )
        self._service = Service(
            reactor=self._reactor,
            limits=limits,
            memo=HeadMemo(),
            writer=ResponseWriter(f"quick_server/{__version__}"),
            lane=self._lane,
            dispatch=self._dispatcher.dispatch,
            finished=self._on_finished,
            malformed=self._access.malformed,
        )
        self._vitals = Vitals(self._reactor, self._service, self._pool, self._table)
        add_commands(self, self._reactor, self._vitals, self._table, self._files, self._proxies)

    # settings -------------------------------------------------------------------------------------

    @property
    def server_address(self) -> tuple[Any, ...]:
        """The address that the (first) listening socket is bound to: host and port."""
        return self._address

    @property
    def socket(self) -> Socket:
        """The (first) listening socket.

        Assigning one that `ssl` has wrapped (`context.wrap_socket(server.socket, server_side=True)`)
        turns HTTPS on, with its context, for all of them; the socket itself is unwrapped, as handshakes
        are ours to make. Any other listening TCP socket takes the place of those that there are.

        Raises TypeError or ValueError for what is no such socket, RuntimeError once `serve_forever` was
        called.
        """
        return self._sockets[0]

    @socket.setter
    def socket(self, sock: Socket) -> None:
        if self._served or self._closed:
            raise RuntimeError("the listening socket can be changed before serve_forever only")
        sock = self._adopt(sock)
        sock.setblocking(False)
        others = self._sockets[1:]
        if sock.getsockname() != self._address:  # else it is the one that we made
            for other in self._sockets:
                if other is not sock:
                    stop_listening(other)
            others = []
        self._sockets = [sock, *others]
        self._address = sock.getsockname()
        self._dispatcher.is_local = is_loopback(self._address[0])

    @property
    def limits(self) -> Limits:
        """Every size and timeout. One cannot be changed alone: assign a changed copy.

        >>> server.limits = server.limits._replace(head_timeout=5, body_timeout=15)  # doctest: +SKIP

        What is assigned counts for connections that are accepted from then on. Raises ValueError if it
        allows no thread at all.
        """
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        if limits.threads < 1:
            raise ValueError(f"a server needs at least one thread, not {limits.threads}")
        if limits.backlog != self._limits.backlog and not self._done:
            for sock in self._sockets:
                sock.listen(limits.backlog)
        self._limits = limits
        self._service.limits = limits
        self._files.limits = limits
        self._upstreams.limits = limits
        self._pool.most_threads = limits.threads
        self._pool.capacity = limits.queued_jobs

    @property
    def threads(self) -> int:
        """How many handlers and file reads run at the same time at most (default 8)."""
        return self._limits.threads

    @threads.setter
    def threads(self, count: int) -> None:
        self.limits = self._limits._replace(threads=count)

    @property
    def cache(self) -> Any:
        """A `QuickCache` for the results of functions that have a `cache_id` (default None)."""
        return self._cache

    @cache.setter
    def cache(self, cache: Any) -> None:
        self._cache = cache
        if cache is not None:
            self._results.adopt(cache)

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

    def bind_proxy(
        self,
        name: str,
        url: str,
        *,
        verify: bool | ssl.SSLContext = True,
        preserve_host: bool = False,
        rewrite: bool = False,
    ) -> None:
        """Has the upstream at `url` answer what begins with `name` and nothing here answers.

        `name` begins and ends with a slash; the rest of the path is put behind `url`, which is that of
        an HTTP or HTTPS server, or `unix:/path.sock:/prefix`. The upstream's certificate is verified,
        unless `verify` is False or a context that says otherwise. With `preserve_host` the upstream
        gets the client's Host instead of its own; with `rewrite` redirects and cookies that point to
        the upstream are made to point here. ValueError if `name` or `url` is not as it should be.
        """
        self._proxies.bind(name, url, verify=verify, preserve_host=preserve_host, rewrite=rewrite)

    def set_debug_proxy(self, is_debug: bool) -> None:
        """Whether each exchange with an upstream is logged, and error pages tell its address."""
        self._proxies.debug = is_debug

    def set_common_invalid_paths(self, paths: Iterable[str]) -> None:
        """Keeps requests for these paths, and for what is below them, out of the log.

        Robots ask every server for the same few things that are not there.
        """
        self._access.quiet_paths = tuple(path.rstrip("/") for path in paths)

    def update_version_string(self, version: str) -> None:
        """Puts `version`, such as `app/1.2`, in front of the Server header field."""
        self._service.writer = ResponseWriter(f"{version} quick_server/{__version__}")

    # loop thread ----------------------------------------------------------------------------------

    def _on_finished(self, exchange: Exchange, size: int) -> None:
        self._vitals.count()
        self._access.finished(exchange, size)
        self._slow.finished(exchange)

    def _worker_for(self, executor: Literal["process"] | Executor | None) -> BaseWorker:
        if executor is None:
            return self._workers[0]
        worker: BaseWorker
        if isinstance(executor, str):
            from .processes import ProcessWorker

            if executor != "process":
                raise ValueError(f'an executor is "process" or an object, not {executor!r}')
            worker = ProcessWorker(self, self._reactor, self._pool)
        else:
            from .executors import ExecutorWorker

            worker = ExecutorWorker(self, executor, self._reactor, self._pool)
        self._workers.append(worker)
        return worker

    # life -----------------------------------------------------------------------------------------

    def serve_forever(self) -> None:
        """Serves until `done` is set, or SIGINT, SIGTERM or SIGHUP arrives; then returns.

        The end: nothing more is accepted, idle connections are closed, and requests in flight have
        10 s to get their answer. A second signal ends it at once. In a thread other than the main
        thread there is no signal handling. Raises RuntimeError if it runs already or has ended, and
        SystemExit after a signal if `setup_shutdown` was called.
        """
        if not lifecycle.given_away(self):
            self._run()

    def _run(self) -> None:
        """What `serve_forever` says, whoever stands in for it."""
        if self._closed and not self._served:
            return  # closed from another thread before this one got here
        if self._closed or self._served or not self._running.acquire(blocking=False):
            raise RuntimeError("this server is closed, or being served in another thread")
        self._served = True
        try:
            self._serve()
        finally:
            self._running.release()
        if self._signalled and shutdown.is_set_up():
            shutdown.finish()

    def _serve(self) -> None:
        capacity = Capacity(self._service)
        self._listeners = [
            Listener(self._reactor, sock, self._limits, self._on_connection, capacity)
            for sock in self._sockets
        ]
        lifecycle.serving(self)
        self._vitals.begin()
        try:
            with signals_on_loop(self._reactor, dict.fromkeys(ENDING, self._on_signal)):
                if threading.current_thread() is threading.main_thread():
                    self._console.open(handover.take_input())
                with signals_on_loop(self._reactor, self._console.signals):
                    self._reactor.run()
        finally:
            self._done = True
            self._console.close()
            if self._vitals.requests:
                lifecycle.answered()

    def restart(self) -> None:
        """Ends the server as `done = True` does, and has the script run again once it has ended.

        What comes behind `serve_forever()` in the script is run first. The port stays open meanwhile:
        who connects is answered by the next run. With `setup_restart` the process ends with the restart
        exit code; without it, it is replaced by the next run at its end.
        """
        lifecycle.want_restart()
        self._restarting = True
        self.done = True

    def register_shutdown(self) -> None:
        """Adds a shutdown hook that ends this server, and waits until its requests are answered.

        For servers in a thread of their own; see `setup_shutdown`.
        """
        shutdown.add_shutdown_hook(self._end_and_wait)

    def _end_and_wait(self) -> None:
        self.done = True
        if self._running.acquire(timeout=self.shutdown_timeout + _PATIENCE):
            self._running.release()

    def server_close(self) -> None:
        """Gives back everything: sockets, connections, threads. Ends serving first if need be.

        A handler that does not come to an end is left behind in its (daemon) thread.
        """
        if self._closed:
            return
        self.done = True
        if (
            self._reactor.is_loop_thread()
            or self._pool.is_pool_thread()
            or self._console.is_own_thread()
        ):
            return  # whoever called `serve_forever` closes when it returns
        with self._running:
            self._closed = True
            self._table.close(self._workers, self._limits.join_timeout)
            for connection in list(self._service.connections):
                connection.abandon()
            for listener in self._listeners:
                listener.close()
            for sock in self._sockets:
                stop_listening(sock)
            self._upstreams.close()
            self._names.close(self._limits.join_timeout)
            self._console.join(self._limits.join_timeout)
            self._reports.close(self._limits.join_timeout)
            self._pool.close(self._limits.join_timeout)
            self._reactor.close()
            self._close_tokens()

    def test_client(self) -> TestClient:
        """A client that sends requests without a network, whether or not the server runs."""
        from .testclient import TestClient

        return TestClient(self, self._connect)

    def running(self) -> AbstractContextManager[str]:
        """`with server.running() as url:` serves in a background thread, for tests and notebooks.

        At the end of the block the server is closed and its threads are gone. Raises RuntimeError if it
        is closed, or runs already.
        """
        from .testclient import running

        if self._closed or self._reactor.running:
            raise RuntimeError("this server is closed, or runs already")
        return running(self)

    def _connect(self, sock: Socket) -> bool:
        """Takes a connected socket for a client's; returns whether the loop runs already."""
        if self._closed:
            sock.close()
            raise RuntimeError("this server is closed")
        client = ("127.0.0.1", 0)
        if self._reactor.running:
            self._reactor.call_from_thread(lambda: Connection(self._service, sock, client))
            return True
        Connection(self._service, sock, client)
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
        Connection(self._service, sock, address[:2], self._make_stream)

    def _on_signal(self, number: int) -> None:
        if number == signal.SIGINT and self._console.interrupt():
            return
        self._signalled = True
        if self._service.draining and not self._restarting:
            self._reactor.stop()
        self._restarting = False  # somebody wants this to end
        lifecycle.cancel_restart()
        self._done = True
        self._begin_end()

    def _begin_end(self) -> None:
        """Stops accepting and lets what is under way finish."""
        if self._service.draining:
            return
        self._service.draining = True
        unused = self._console.close()
        if self._restarting:
            handover.keep(*self._asked, self._number, self._sockets)
            handover.keep_input(unused)
        for listener in self._listeners:
            listener.close()
        self._table.shut_down()
        for connection in list(self._service.connections):
            # each by itself, as it may begin a last request
            self._reactor.call_soon(functools.partial(connection.shut_down, self.shutdown_latency))
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
    token_handler: TokenHandler | None = None,
    worker_constructor: Callable[[QuickServer], BaseWorker] | None = None,
    soft_worker_death: bool = False,
) -> QuickServer:
    """A server that listens on `address`, a pair of host and port.

    Host '' is localhost on every loopback family that the machine has, '0.0.0.0' and '::' are all
    interfaces; port 0 picks a free port, which `server.server_address` tells. `parallel=False` never
    runs two handlers at the same time, for code that is not thread-safe. `thread_factory` is called
    like `threading.Thread` to make the pool's threads, and those of jobs. `token_handler` keeps the
    tokens, which are else kept in memory: a `RedisTokenHandler`, or a `TokenHandler` of your own.

    `worker_constructor(server)` makes a `BaseWorker` of your own, which then computes the jobs of
    `json_worker`. With `soft_worker_death` a job that is stopped has to ask `is_worker_alive`; else
    `WorkerDeath` is raised inside it.

    Raises OSError, naming the address, if it cannot be listened on.
    """
    return QuickServer(
        address,
        parallel,
        thread_factory,
        token_handler,
        worker_constructor,
        soft_worker_death,
    )
