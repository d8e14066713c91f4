"""Methods for proxies: what an upstream on the load's core answers, through the servers."""

import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from statistics import median, quantiles
from typing import Self

from bench import measure
from bench.client import HEADER_LINES, Request, check, warm_up
from bench.field import Field, interleave, take_in_turn
from bench.load import Bodies, Requests
from bench.model import (
    EVENT_RATE,
    FIRST_BYTE,
    MEMORY,
    MEMORY_EACH,
    THREADS,
    Reading,
    Result,
    UnfitError,
)
from bench.peers import PEERS
from bench.process import LOAD_CORE, Server

KILO = 1e3
MEGA = 1e6
MILLI = 1e3

FIRST_BYTES = 15
SETTLE = 0.3
TICKS = 20
PATIENCE = 30.0
TICK = Request("/tick", b"ok")


@contextmanager
def behind(field: Field, result: Result, name: str) -> Iterator[Field | None]:
    """The field with that server as upstream, or None, and a note, where it is not installed."""
    missing = PEERS[name].missing(field.installed)
    if missing:
        result.notes.append(f"not measured: {missing}, the upstream, is not installed")
        yield None
        return
    with field.start(name, core=LOAD_CORE) as upstream:
        yield replace(field, upstream=upstream.address)


@dataclass(frozen=True, slots=True)
class Proxied:
    """Files of an nginx under load, and how long the first byte takes without any."""

    load: Requests | Bodies

    def measure(self, field: Field, result: Result) -> None:
        """Rounds of wrk, each behind some requests alone."""
        seconds = field.plan.seconds
        prepare = warm_up if isinstance(self.load, Requests) else None
        with behind(field, result, "nginx") as proxied:
            if proxied is not None:
                take_in_turn(
                    proxied,
                    result,
                    self.load.request,
                    lambda server: self.take(server, seconds),
                    prepare=prepare,
                )

    def take(self, server: Server, seconds: int) -> Reading:
        """One run of wrk against one proxy."""
        waited = [first_byte(server, self.load.request) for _ in range(FIRST_BYTES)]
        return {FIRST_BYTE: median(waited) * MILLI, **self.load.take(server, seconds)}


def ask(server: Server, request: Request) -> tuple[socket.socket, float]:
    """Asks on a new connection; returns it and the time until the first byte of the answer."""
    lines = [f"GET {request.path} HTTP/1.1", "Host: 127.0.0.1", *HEADER_LINES, "", ""]
    sock = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    start = time.perf_counter()
    try:
        sock.sendall("\r\n".join(lines).encode())
        if not sock.recv(1, socket.MSG_PEEK):
            raise UnfitError(f"{request.path} was not answered")
    except BaseException:
        sock.close()
        raise
    return sock, time.perf_counter() - start


def first_byte(server: Server, request: Request) -> float:
    """The time until the first byte of an answer, whose rest nobody takes."""
    sock, seconds = ask(server, request)
    sock.close()
    return seconds


@dataclass(frozen=True, slots=True)
class Events:
    """Event streams that stay, each with an event of a few bytes at every tick of their source.

    Memory once taken is seldom given back, so each round is a fresh process.
    """

    count: int

    def measure(self, field: Field, result: Result) -> None:
        """Rounds of a fresh process of each proxy."""
        with behind(field, result, "source") as proxied:
            if proxied is not None:
                interleave(
                    proxied.entrants(result),
                    field.plan.idle_rounds,
                    lambda name: self.take(proxied, name),
                    result,
                )

    def take(self, field: Field, name: str) -> Reading:
        """Opens the streams, then measures how long events take to all of them."""
        source = int(field.upstream.rpartition(":")[2])
        with field.start(name) as server, ExitStack() as stack:
            check(server, Request("/", b"ok"))
            pid = server.process.pid
            time.sleep(SETTLE)
            before = measure.resident_bytes(pid)
            streams, waited = [], []
            for _ in range(self.count):
                sock, seconds = ask(server, Request("/events", b""))
                streams.append(stack.enter_context(sock))
                waited.append(seconds)
            time.sleep(SETTLE)
            listener = stack.enter_context(Listener(streams))
            listener.drain()
            with_streams = measure.resident_bytes(pid)
            start = time.perf_counter()
            for number in range(TICKS):
                tick(source)
                listener.wait_for_event(f"data: {number % 10}\n\n".encode())
            seconds = time.perf_counter() - start
            return {
                EVENT_RATE: self.count * TICKS / seconds,
                FIRST_BYTE: quantiles(waited, n=100)[98] * MILLI,
                MEMORY_EACH: (with_streams - before) / self.count / KILO,
                MEMORY: with_streams / MEGA,
                THREADS: measure.threads(pid),
            }


def tick(port: int) -> None:
    """Has the source send an event to each stream; asked directly."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(b"GET /tick HTTP/1.1\r\n\r\n")
        if not sock.recv(1024):
            raise UnfitError("the source has gone")


class Listener:
    """Reads many streams at once."""

    def __init__(self, streams: list[socket.socket]) -> None:
        self._selector = selectors.DefaultSelector()
        self._count = len(streams)
        for sock in streams:
            sock.setblocking(False)
            self._selector.register(sock, selectors.EVENT_READ)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()

    def drain(self) -> None:
        """Takes what has come so far."""
        while ready := self._selector.select(0):
            for key, _ in ready:
                take(key.fileobj)

    def wait_for_event(self, event: bytes) -> None:
        """Until that has come on each stream.

        Raises:
            UnfitError: if it does not, or a stream ends.
        """
        waiting = self._count
        deadline = time.monotonic() + PATIENCE
        while waiting:
            ready = self._selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise UnfitError(f"{waiting:,} of {self._count:,} streams had no event")
            for key, _ in ready:
                waiting -= event in take(key.fileobj)


def take(sock: object) -> bytes:
    """What a stream has; raises `UnfitError` at its end."""
    assert isinstance(sock, socket.socket)
    data = sock.recv(65536)
    if not data:
        raise UnfitError("a stream has ended")
    return data
