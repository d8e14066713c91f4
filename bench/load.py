"""Methods under load: small requests, big answers, big uploads, one client beside busy ones.

The servers of a work are all up at once and are measured in turn.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from bench import measure, wrk
from bench.client import HEADER_LINES, Request, ask, check, connect, upload, warm_up
from bench.field import SMALL_PAGE, Field, take_in_turn
from bench.model import (
    CPU,
    MEMORY_BEFORE,
    MEMORY_GROWTH,
    P99,
    P99_ALONE,
    P99_DOWNLOADS,
    P99_PIPELINE,
    RATE,
    SLOW_CPU,
    SLOW_RATE,
    SLOWDOWN,
    THROUGHPUT,
    Reading,
    Result,
    UnfitError,
)
from bench.process import Server

MEGA = 1e6
MICRO = 1e6
MILLI = 1e3


@dataclass(frozen=True, slots=True)
class Requests:
    """Small requests, as many as the server can answer to some connections."""

    request: Request
    script: str | None = None
    arguments: tuple[str, ...] = ()
    connections: int = 32

    def measure(self, field: Field, result: Result) -> None:
        """Rounds of wrk, with the CPU time that each took."""
        seconds = field.plan.seconds
        take_in_turn(
            field, result, self.request, lambda server: self.take(server, seconds), prepare=warm_up
        )

    def take(self, server: Server, seconds: int) -> Reading:
        """One run of wrk against one server."""
        before = measure.cpu_seconds(server.process.pid)
        load = wrk.run(
            server.address + self.request.path,
            seconds,
            connections=self.connections,
            headers=HEADER_LINES,
            script=self.script,
            arguments=self.arguments,
        )
        used = measure.cpu_seconds(server.process.pid) - before
        return {
            RATE: load.requests / load.seconds,
            CPU: used / load.requests * MICRO,
            P99: load.p99_seconds * MILLI,
        }


@dataclass(frozen=True, slots=True)
class Bodies:
    """Big answers: counted by their bytes, for few of them fit into a round."""

    request: Request
    connections: int

    def measure(self, field: Field, result: Result) -> None:
        """Rounds of wrk, with the CPU time and the memory that each took."""
        seconds = field.plan.seconds
        take_in_turn(field, result, self.request, lambda server: self.take(server, seconds))

    def take(self, server: Server, seconds: int) -> Reading:
        """One run of wrk against one server."""
        pid = server.process.pid
        size = check(server, self.request)
        with measure.Memory(pid) as memory:
            before = measure.cpu_seconds(pid)
            load = wrk.run(
                server.address + self.request.path,
                seconds,
                connections=self.connections,
                headers=HEADER_LINES,
            )
            used = measure.cpu_seconds(pid) - before
        answers = load.received / size
        return {
            THROUGHPUT: load.received / load.seconds / MEGA,
            SLOW_RATE: answers / load.seconds,
            SLOW_CPU: used / answers * MILLI,
            P99: load.p99_seconds * MILLI,
            MEMORY_BEFORE: memory.before / MEGA,
            MEMORY_GROWTH: memory.growth / MEGA,
        }


@dataclass(frozen=True, slots=True)
class Upload:
    """One big file in a multipart form, which the server spools to disk."""

    path: str

    def measure(self, field: Field, result: Result) -> None:
        """Rounds of one upload each."""
        size = field.plan.upload_bytes
        take_in_turn(
            field,
            result,
            SMALL_PAGE,
            lambda server: self.take(server, size),
            rounds=field.plan.upload_rounds,
        )

    def take(self, server: Server, size: int) -> Reading:
        """One upload to one server."""
        pid = server.process.pid
        with measure.Memory(pid) as memory:
            before = measure.cpu_seconds(pid)
            seconds = upload(server, self.path, size)
            used = measure.cpu_seconds(pid) - before
        return {
            THROUGHPUT: size / seconds / MEGA,
            SLOW_CPU: used * MILLI,
            MEMORY_BEFORE: memory.before / MEGA,
            MEMORY_GROWTH: memory.growth / MEGA,
        }


@dataclass(frozen=True, slots=True)
class Tail:
    """A fast handler, alone and while some threads are held by slow ones."""

    fast: Request
    slow: Request
    holders: int = 4

    def measure(self, field: Field, result: Result) -> None:
        """Rounds of two runs of wrk: alone, then beside the slow handlers."""
        seconds = field.plan.seconds
        take_in_turn(
            field, result, self.fast, lambda server: self.take(server, seconds), prepare=warm_up
        )

    def take(self, server: Server, seconds: int) -> Reading:
        """The 99th percentile without and with slow handlers beside it."""
        fast = Requests(self.fast)
        alone = fast.take(server, seconds)[P99]
        with self.slow_handlers(server):
            beside = fast.take(server, seconds)[P99]
        return {SLOWDOWN: beside / alone, P99: beside, P99_ALONE: alone}

    @contextmanager
    def slow_handlers(self, server: Server) -> Iterator[None]:
        """Keeps some clients asking for the slow handler; they end with their current answer."""
        check(server, self.slow)
        over = threading.Event()
        clients = [
            threading.Thread(target=self.keep_asking, args=(server, over)) for _ in range(self.holders)
        ]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            over.set()
            for client in clients:
                client.join()

    def keep_asking(self, server: Server, over: threading.Event) -> None:
        """One client: the slow handler again and again."""
        with suppress(OSError, UnfitError):
            connection = connect(server)
            while not over.is_set():
                ask(connection, self.slow)
            connection.close()


@dataclass(frozen=True, slots=True)
class Polite:
    """One client that waits for each answer: alone, and beside greedy ones that never pause."""

    request: Request
    download: Request
    downloaders: int = 4
    ahead: int = 64

    def measure(self, field: Field, result: Result) -> None:
        """Rounds of three runs of wrk: alone, beside a pipeline of requests, beside downloads."""
        seconds = field.plan.seconds

        def prepare(server: Server, request: Request) -> None:
            warm_up(server, request)
            check(server, self.download)

        take_in_turn(
            field, result, self.request, lambda server: self.take(server, seconds), prepare=prepare
        )

    def take(self, server: Server, seconds: int) -> Reading:
        """The 99th percentile of the polite client in each company."""
        polite = Requests(self.request, connections=1)
        alone = polite.take(server, seconds)[P99]
        with greedy(1, lambda over: self.keep_pipelining(server, over)):
            pipeline = polite.take(server, seconds)[P99]
        with greedy(self.downloaders, lambda over: self.keep_downloading(server, over)):
            downloads = polite.take(server, seconds)[P99]
        return {P99_ALONE: alone, P99_PIPELINE: pipeline, P99_DOWNLOADS: downloads}

    def keep_pipelining(self, server: Server, over: threading.Event) -> int:
        """Sends requests whether or not they are answered; returns the bytes that came back."""
        lines = [f"GET {self.request.path} HTTP/1.1", "Host: 127.0.0.1", *HEADER_LINES, "", ""]
        requests = "\r\n".join(lines).encode() * self.ahead
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sender = threading.Thread(target=keep_sending, args=(sock, requests))
            sender.start()
            try:
                return drain(sock, over)
            finally:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
                sender.join()

    def keep_downloading(self, server: Server, over: threading.Event) -> int:
        """Takes the file again and again; returns the bytes that came."""
        lines = [f"GET {self.download.path} HTTP/1.1", "Host: 127.0.0.1", *HEADER_LINES, "", ""]
        request = "\r\n".join(lines).encode()
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(request * self.ahead)  # more than there is time for
            return drain(sock, over)


@contextmanager
def greedy(count: int, act: Callable[[threading.Event], int]) -> Iterator[None]:
    """Keeps clients at it until the block is left; ``act`` returns what one of them got.

    Raises:
        UnfitError: if one got nothing, and so was no burden.
    """
    over = threading.Event()
    gains: list[int] = []
    clients = [threading.Thread(target=lambda: gains.append(act(over))) for _ in range(count)]
    for client in clients:
        client.start()
    try:
        yield
    finally:
        over.set()
        for client in clients:
            client.join()
    if len(gains) < count or not all(gains):
        raise UnfitError("a greedy client got nothing")


def keep_sending(sock: socket.socket, data: bytes) -> None:
    """Sends the same bytes without pause until the connection ends."""
    with suppress(OSError):
        while True:
            sock.sendall(data)


def drain(sock: socket.socket, over: threading.Event) -> int:
    """Takes whatever comes until ``over``, or the end; returns how many bytes that were."""
    buffer = bytearray(1 << 20)
    taken = 0
    while not over.is_set() and (size := sock.recv_into(buffer)):
        taken += size
    return taken
