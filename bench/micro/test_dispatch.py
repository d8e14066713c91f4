"""From a request to its answer: the call of a handler, and all there is around it."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.field import PAGE
from bench.micro.measure import Benchmark
from bench.micro.samples import HEAD, REQUEST, head
from quick_server import QuickServer
from quick_server.exchange import Exchange
from quick_server.handlers import HandlerCall
from quick_server.limits import Limits
from quick_server.pool import Job
from quick_server.protocol.heads import HeadMemo, parse_head
from quick_server.protocol.messages import Outcome
from quick_server.protocol.server import ServerProtocol
from quick_server.protocol.writer import ResponseWriter
from quick_server.request import EMPTY, make_args

pytestmark = pytest.mark.benchmark(group="dispatch")

LIMITS = Limits()
NOW = 1_700_000_000.0
CLIENT = ("127.0.0.1", 0)
PATIENCE = 10.0  # seconds
SETTLED = 0.1  # seconds; a younger file is not remembered
ONE_ANSWER = 1 << 16  # bytes that no answer here reaches
ANSWER = b'{"hello":"world"}'


def run_at_once(job: Job) -> None:
    """Takes the place of the pool."""
    job.deliver(job.run())


class Wire:
    """Takes the place of a connection: frames the answer, and keeps it."""

    def __init__(self) -> None:
        self.writer = ResponseWriter("quick_server/1.0")
        self.sent = b""

    def send(self, outcome: Outcome) -> None:
        """The answer as it would leave."""
        assert isinstance(outcome.body, bytes)
        self.sent = self.writer.head(outcome, REQUEST, True, NOW) + outcome.body

    def send_continue(self) -> None:
        """Nobody waits for it."""

    def peer_has_left(self) -> bool:
        return False

    def send_interim(self, data: bytes) -> None:
        """Nor for that."""

    def resume_body(self) -> None:
        """There is none."""

    def dispose(self, outcome: Outcome) -> None:
        """Every answer is sent."""


@pytest.fixture
def client(server: QuickServer) -> Iterator[socket.socket]:
    """The far end of a connection to `server`."""
    near, far = socket.socketpair()
    with far:
        server._connect(near)
        far.setblocking(False)
        yield far


def ask(server: QuickServer, client: socket.socket, raw: bytes) -> bytes:
    """Sends a request, and turns the loop until its answer is there."""
    client.send(raw)
    while True:
        server.turn(PATIENCE)
        try:
            return client.recv(ONE_ANSWER)
        except BlockingIOError:
            continue


def test_arguments(benchmark: Benchmark, server: QuickServer) -> None:
    """`args` of a request with a query."""
    request = parse_head(head("/api/hello?name=ada&page=2"))
    match = server.routes.find("GET", ("api", "hello"))
    assert match is not None
    args = benchmark(make_args, request.target, request.headers, match, EMPTY, Limits())
    assert args["query"] == {"name": "ada", "page": "2"}


def test_handler_call(benchmark: Benchmark, server: QuickServer) -> None:
    """What a thread of the pool does: arguments, the function, its result made an outcome."""
    match = server.routes.find("GET", ("api", "hello"))
    assert match is not None
    exchange = Exchange(REQUEST, CLIENT, Wire(), NOW)
    outcome = benchmark(lambda: HandlerCall(server, exchange, match, EMPTY).run())
    assert outcome.body == ANSWER


def test_without_socket_and_pool(
    benchmark: Benchmark, server: QuickServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything of ours: bytes in, a handler called, bytes out."""
    monkeypatch.setattr(server._pool, "submit", run_at_once)
    dispatch = server._service.dispatch
    memo = HeadMemo()
    memo.remember(HEAD, REQUEST)
    protocol = ServerProtocol(LIMITS, memo)
    wire = Wire()

    def answer() -> bytes:
        request = protocol.known_head(HEAD)
        assert request is not None
        exchange = Exchange(request, CLIENT, wire, NOW)
        dispatch(exchange)
        exchange.sent()
        protocol.next_request()
        return wire.sent

    assert benchmark(answer).endswith(ANSWER)


def test_without_pool(benchmark: Benchmark, server: QuickServer, client: socket.socket) -> None:
    """A request that the loop itself answers, with 404, over a socket pair."""
    raw = head("/nothing")
    assert benchmark(ask, server, client, raw).startswith(b"HTTP/1.1 404 ")


def test_whole(benchmark: Benchmark, server: QuickServer, client: socket.socket) -> None:
    """A request that a handler answers, over a socket pair and through the pool."""
    assert benchmark(ask, server, client, HEAD).endswith(ANSWER)


def test_whole_10k_file(
    benchmark: Benchmark, server: QuickServer, client: socket.socket, tmp_path: Path
) -> None:
    """A request for a file that is in memory, over a socket pair and through the pool."""
    (tmp_path / "page.html").write_bytes(PAGE)
    server.bind_path("/", str(tmp_path))
    server.add_default_white_list()
    time.sleep(SETTLED)
    assert benchmark(ask, server, client, head("/page.html")).endswith(PAGE)
