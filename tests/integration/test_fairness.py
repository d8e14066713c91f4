"""Work is bounded per turn: whoever keeps the server busy keeps nobody else waiting.

A server that nobody runs is turned by hand. What is asserted are turns, requests and bytes, never
time: a polite client has its answer after a turn or two, while the greedy one has got only what so
many turns may give it, and is far from its end.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs, create_server
from tests.harness import PATIENCE, Client
from tests.integration.logs import Log
from tests.unit.fakes import tcp_pair

Req = QuickServerRequestHandler

TURNS = 2  # after which a polite client has its answer, whatever others do
EVENTS = 64  # of one connection at a time; at most twice a turn, as the rest may go on in its end
SLICE = 512 * 1024  # bytes of a file in one turn
HEAD = 1024  # bytes that no head of an answer here reaches
BUFFER = 1 << 20  # or whatever the system allows

POLITE = b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n"  # answered by the loop itself


@dataclass
class Greedy:
    """Sends all it can and takes all there is, whenever it may."""

    sock: socket.socket
    unsent: memoryview
    answers: bytearray = field(default_factory=bytearray)

    def act(self) -> None:
        try:
            while self.unsent:
                self.unsent = self.unsent[self.sock.send(self.unsent) :]
        except BlockingIOError:
            pass
        try:
            while data := self.sock.recv(BUFFER):
                self.answers += data
        except BlockingIOError:
            pass


@dataclass
class ByHand:
    """A server whose loop is turned by the test; turns are counted."""

    server: QuickServer
    stack: ExitStack
    turns: int = 0

    def turn(self, patience: float = 0) -> None:
        self.turns += 1
        self.server.turn(patience)

    def until(self, condition: Callable[[], object]) -> None:
        """Turns until the condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "what the test waits for did not happen"
            self.turn(0.01)

    def connect(self) -> socket.socket:
        """A client: what it sends is there with the next turn, and so are its answers."""
        ours, theirs = socket.socketpair()
        self.stack.enter_context(ours)
        ours.settimeout(PATIENCE)
        self.server._connect(theirs)
        return ours

    def greedy(self, data: bytes = b"") -> Greedy:
        """A client with wide buffers, which wants to send `data`."""
        near, far = self.stack.enter_context(tcp_pair())
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        far.setblocking(False)
        self.server._connect(near)
        return Greedy(far, memoryview(data))

    def ask_politely(self, meanwhile: Callable[[], object] = bool) -> None:
        """A new client asks and has its answer after a few turns, between which `meanwhile` runs."""
        client = self.connect()
        client.sendall(POLITE)
        for _ in range(TURNS):
            self.turn()
            meanwhile()
        ready, _, _ = select.select([client], [], [], 0)
        assert ready, f"no answer after {TURNS} turns"
        assert Client(client).answer().status == 204


@pytest.fixture
def by_hand(log: Log) -> Iterator[ByHand]:
    server = create_server(("127.0.0.1", 0))
    with ExitStack() as stack:
        try:
            yield ByHand(server, stack)
        finally:
            server.server_close()


def test_thousands_of_pipelined_requests(by_hand: ByHand, log: Log) -> None:
    count = 5000
    greedy = by_hand.greedy(b"HEAD /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n" * count)

    def answered() -> int:
        return log.text.count('"HEAD /nothing')

    greedy.act()
    by_hand.until(answered)
    by_hand.ask_politely(greedy.act)
    assert 0 < answered() <= 2 * EVENTS * by_hand.turns
    assert answered() < count / 4

    def finished() -> bool:
        greedy.act()
        return greedy.answers.count(b"HTTP/1.1 404 ") == count

    by_hand.until(finished)
    assert by_hand.turns > count / (2 * EVENTS)


def test_a_body_of_thousands_of_tiny_chunks(by_hand: ByHand) -> None:
    count = 5000

    @by_hand.server.text_post("/count")
    def size(req: Req, args: ReqArgs) -> str:
        return f"{len(req.body())} bytes"

    head = b"POST /count HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    greedy = by_hand.greedy(head + b"1\r\nx\r\n" * count + b"0\r\n\r\n")
    greedy.act()
    assert not greedy.unsent
    by_hand.turn(PATIENCE)  # it is at it
    by_hand.ask_politely(greedy.act)
    begun = by_hand.turns
    assert not greedy.answers

    def finished() -> bool:
        greedy.act()
        return greedy.answers.endswith(b"5000 bytes")

    by_hand.until(finished)
    assert by_hand.turns > count / (2 * EVENTS) > 5 * begun


def test_thousands_of_calls_of_a_handler(by_hand: ByHand) -> None:
    """One thread: calls are in the order in which they were queued, whatever the system schedules."""
    count = 3000
    calls = []
    by_hand.server.threads = 1

    @by_hand.server.text_get("/call/:who")
    def call(req: Req, args: ReqArgs) -> str:
        calls.append(args["segments"]["who"])
        return "called"

    greedy = by_hand.greedy(b"GET /call/greedy HTTP/1.1\r\nHost: localhost\r\n\r\n" * count)

    def answered(sock: socket.socket) -> bool:
        greedy.act()
        try:
            return bool(sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False

    greedy.act()
    by_hand.until(lambda: len(calls) > 10)
    polite = by_hand.connect()
    before = len(calls)
    polite.sendall(b"GET /call/polite HTTP/1.1\r\nHost: localhost\r\n\r\n")
    polite.setblocking(False)
    by_hand.until(lambda: answered(polite))
    # One call of the greedy client may be under way, and one be queued with the outcome of that.
    assert calls[before:].index("polite") <= 1
    assert len(calls) - before <= 3
    assert calls.count("greedy") < count


def test_a_download_as_fast_as_it_can(by_hand: ByHand, www: Path) -> None:
    size = 256 * SLICE
    with (www / "big.bin").open("wb") as file:
        file.truncate(size)
    by_hand.server.bind_path("/", str(www))
    by_hand.server.add_file_patterns(["*.bin"], blacklist=False)
    greedy = by_hand.greedy().sock
    greedy.settimeout(PATIENCE)
    greedy.sendall(b"GET /big.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    taken = 0

    def take() -> None:
        nonlocal taken
        with suppress(ConnectionError):  # the test has failed
            while data := greedy.recv(BUFFER):
                taken += len(data)

    reader = threading.Thread(target=take, name="greedy client")
    reader.start()
    by_hand.stack.callback(reader.join)
    by_hand.until(lambda: taken)
    by_hand.ask_politely()
    assert 0 < taken <= HEAD + SLICE * by_hand.turns
    assert taken < size
    by_hand.until(lambda: taken > size)
    assert by_hand.turns >= size / SLICE
