"""Answers that are made while they are sent: generators, iterators, pipes and files."""

from __future__ import annotations

import io
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest

from quick_server import (
    PreventDefaultResponse,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    Response,
    create_server,
)
from tests.harness import PATIENCE, Client, Running
from tests.integration.forms import until
from tests.integration.logs import Log

Req = QuickServerRequestHandler
Serve = Callable[[QuickServer], Running]

KIB, MIB = 1024, 1024 * 1024
GET = "GET /s HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def server() -> Iterator[QuickServer]:
    made = create_server(("127.0.0.1", 0))
    yield made
    made.server_close()


class Source:
    """An iterator that tells what becomes of it: pieces taken, threads, steps at once, its end."""

    def __init__(self, pieces: Iterable[str | bytes]) -> None:
        self._pieces = iter(pieces)
        self._one = threading.Lock()
        self.taken = 0
        self.size = 0
        self.threads: set[threading.Thread] = set()
        self.overlapped = False
        self.closed = threading.Event()
        self.closed_by: threading.Thread | None = None

    def __iter__(self) -> Source:
        return self

    def __next__(self) -> str | bytes:
        if not self._one.acquire(blocking=False):
            self.overlapped = True
            raise RuntimeError("two steps at once")
        try:
            assert not self.closed.is_set(), "a step after the end"
            self.threads.add(threading.current_thread())
            piece = next(self._pieces)
            self.taken += 1
            self.size += len(piece)
            return piece
        finally:
            self._one.release()

    def close(self) -> None:
        self.overlapped |= not self._one.acquire(blocking=False)
        self.closed_by = threading.current_thread()
        self.closed.set()


def endless(size: int) -> Iterator[bytes]:
    while True:
        yield bytes(size)


def stream(server: QuickServer, *sources: object, mask: str = "/s") -> None:
    """A text handler that returns these, one per request, the last one again and again."""
    waiting = list(sources)

    @server.text_get(mask)
    def fun(req: Req, args: ReqArgs) -> object:
        return waiting.pop(0) if len(waiting) > 1 else waiting[0]


def receive(client: Client, marker: bytes) -> bytes:
    """What has come when the marker is there."""
    while marker not in client.rest:
        assert client._fill(), f"no {marker!r} in {client.rest!r}"
    return client.rest


def ends_early(client: Client) -> bool:
    """Whether the connection ends without the last chunk, or with a reset."""
    try:
        client.at_end()
    except ConnectionError:
        return True
    return not client.rest.endswith(b"\r\n0\r\n\r\n")


# ---- generators and iterators -----------------------------------------------------------------


def test_a_generator_of_text_and_bytes(server: QuickServer, serve: Serve) -> None:
    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> Iterator[str | bytes]:
        yield "ü "
        yield b"\x00\xff"
        yield " end"

    answer = serve(server).get("/s")
    assert (answer.status, answer.body) == (200, "ü ".encode() + b"\x00\xff end")
    assert answer.get("transfer-encoding") == "chunked"
    assert answer.get("content-length") is None
    assert answer.get("content-type") == "text/plain; charset=utf-8"


@pytest.mark.parametrize("method", ["get", "post", "put", "delete", "patch"])
def test_any_method(server: QuickServer, serve: Serve, method: str) -> None:
    getattr(server, f"text_{method}")("/s")(lambda req, args: iter(["a", "b"]))
    assert serve(server).request(method.upper(), "/s").body == b"ab"


@pytest.mark.parametrize("kind", ["text", "json"])
def test_a_response_with_an_iterator(server: QuickServer, serve: Serve, kind: str) -> None:
    pieces = ['{"a":', "1}"]
    getattr(server, f"{kind}_get")("/s")(
        lambda req, args: Response(iter(pieces), 202, "application/x-thing")
    )
    answer = serve(server).get("/s")
    assert (answer.status, answer.body) == (202, b'{"a":1}')
    assert answer.get("content-type") == "application/x-thing"
    assert answer.get("transfer-encoding") == "chunked"


@pytest.mark.parametrize(
    "pieces",
    [[], [""], ["", b"", ""], ["", "a", "", b"", "b", ""]],
    ids=["none", "empty", "all-empty", "some-empty"],
)
def test_empty_pieces_end_nothing(server: QuickServer, serve: Serve, pieces: list[str | bytes]) -> None:
    server.text_get("/s")(lambda req, args: iter(pieces))
    client = serve(server).connect()
    for _ in range(2):
        answer = client.request("GET", "/s")
        assert (answer.status, answer.body) == (200, b"ab" if "a" in pieces else b"")


def test_large_and_many_pieces(server: QuickServer, serve: Serve) -> None:
    pieces = [os.urandom(size) for size in (1, 3 * MIB, 70_000, 1)] + [b"x"] * 500
    stream(server, Source(pieces))
    assert serve(server).get("/s").body == b"".join(pieces)


def test_http_1_0_reads_until_the_end(server: QuickServer, serve: Serve) -> None:
    stream(server, iter(["one ", "two"]))
    head, _, body = (
        serve(server).raw("GET /s HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").partition(b"\r\n\r\n")
    )
    assert body == b"one two"
    assert b"transfer-encoding" not in head.lower()
    assert b"content-length" not in head.lower()
    assert b"connection: keep-alive" not in head.lower()


def test_no_tag_and_no_304_for_what_is_not_known_yet(server: QuickServer, serve: Serve) -> None:
    server.text_get("/s")(lambda req, args: iter(["a"]))
    answer = serve(server).get("/s", If_None_Match="*")
    assert (answer.status, answer.body, answer.get("etag")) == (200, b"a", None)


def test_headers_sent_before_the_first_piece(server: QuickServer, serve: Serve) -> None:
    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> Iterator[str]:
        req.send_header("X-One", "1")
        yield "a"

    assert serve(server).get("/s").get("x-one") == "1"


@pytest.mark.parametrize("code", [201, 404])
def test_a_code_sent_before(server: QuickServer, serve: Serve, code: int) -> None:
    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> Iterator[str]:
        req.send_response(code)
        return iter(["a"])

    answer = serve(server).get("/s")
    assert (answer.status, answer.body) == (code, b"a")


def test_the_connection_goes_on_after_a_stream(server: QuickServer, serve: Serve) -> None:
    server.text_get("/s")(lambda req, args: iter(["a", "b"]))
    server.text_get("/t")(lambda req, args: "plain")
    client = serve(server).connect()
    for _ in range(3):
        assert client.request("GET", "/s").body == b"ab"
        assert client.request("GET", "/t").body == b"plain"
    client.send(GET * 3 + GET.replace("/s", "/t"))
    assert [client.answer().body for _ in range(4)] == [b"ab", b"ab", b"ab", b"plain"]


# ---- HEAD -------------------------------------------------------------------------------------


def test_a_head_pulls_nothing(server: QuickServer, serve: Serve) -> None:
    source = Source(["a", "b"])
    stream(server, source)
    client = serve(server).connect()
    answer = client.request("HEAD", "/s")
    assert (answer.status, answer.get("content-type")) == (200, "text/plain; charset=utf-8")
    assert source.closed.wait(PATIENCE)
    assert source.taken == 0
    assert client.request("HEAD", "/nothing").status == 404


def test_no_content_pulls_nothing(server: QuickServer, serve: Serve) -> None:
    source = Source(["a", "b"])
    stream(server, Response(source, 204))
    client = serve(server).connect()
    assert client.request("GET", "/s").status == 204
    assert source.closed.wait(PATIENCE)
    assert client.request("GET", "/nothing").status == 404


# ---- as it is produced ------------------------------------------------------------------------


def test_a_piece_arrives_before_the_next_is_there(server: QuickServer, serve: Serve) -> None:
    pieces: SimpleQueue[str] = SimpleQueue()

    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> Iterator[str]:
        while piece := pieces.get(timeout=PATIENCE):
            yield piece

    client = serve(server).connect().send(GET)
    for piece in ("<one>", "<two>", "<three>"):
        pieces.put(piece)
        receive(client, piece.encode())
    pieces.put("")
    assert client.answer().body == b"<one><two><three>"


def slow_connection(run: Running) -> Client:
    """A client and a server whose kernel buffers hold very little between them."""
    run.server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * KIB)
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
    sock.connect(run.address)
    client = Client(sock)
    run.clients.append(client)
    return client


BUFFERS = 128 * KIB  # what both kernels hold at most of a slow connection


@pytest.mark.parametrize("size", [1 * KIB, 16 * KIB, 100 * KIB])
def test_at_most_256_kib_ahead_of_the_client(server: QuickServer, serve: Serve, size: int) -> None:
    source = Source(endless(size))
    stream(server, source)
    server.text_get("/t")(lambda req, args: "plain")
    run = serve(server)
    client = slow_connection(run).send(GET)
    until(lambda: source.size > 128 * KIB, "the stream begins")
    other = run.connect()
    for _ in range(300):  # steps of the pool, each of which the stream could have used as well
        other.request("GET", "/t")
    assert source.size <= 256 * KIB + BUFFERS
    assert not source.closed.is_set()
    client.close()
    assert source.closed.wait(PATIENCE)


def test_what_the_client_takes_is_made(server: QuickServer, serve: Serve) -> None:
    """All of it arrives, in order."""
    pieces = [bytes((i % 256,)) * 10_000 for i in range(400)]
    source = Source(pieces)
    stream(server, source)
    client = slow_connection(serve(server)).send(GET)
    body = client.answer().body
    assert body == b"".join(pieces)
    assert source.closed.wait(PATIENCE)


def test_the_maker_is_never_far_ahead(server: QuickServer, serve: Serve) -> None:
    source = Source([b"x" * 10_000] * 400)
    stream(server, source)
    client = slow_connection(serve(server)).send(GET)
    read = 0
    while read < 3_000_000:
        read += len(client.sock.recv(1000))
        assert source.size <= read + 256 * KIB + BUFFERS
    client.close()
    assert source.closed.wait(PATIENCE)


def test_steps_never_overlap(server: QuickServer, serve: Serve) -> None:
    sources = [Source([b"x" * 1000] * 200) for _ in range(5)]
    stream(server, *sources, sources[0])
    run = serve(server)
    clients = [run.connect().send(GET) for _ in sources]
    for client in clients:
        assert len(client.answer().body) == 200_000
    assert not any(source.overlapped for source in sources)
    loop = {thread for thread in threading.enumerate() if thread.name == "server under test"}
    assert not any(source.threads & loop for source in sources)


def test_steps_of_all_streams_in_turn_without_parallel(serve: Serve) -> None:
    """With `parallel=False` no two pieces of users' code overlap: steps, ends and handlers."""
    server = create_server(("127.0.0.1", 0), parallel=False)
    busy = threading.Lock()
    overlaps = []

    def alone() -> None:
        if not busy.acquire(blocking=False):
            overlaps.append(1)
            return
        os.sched_yield()
        busy.release()

    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> Iterator[bytes]:
        alone()
        try:
            for _ in range(50):
                alone()
                yield b"x" * 5000
        finally:
            alone()

    @server.text_get("/t")
    def other(req: Req, args: ReqArgs) -> str:
        alone()
        return "plain"

    run = serve(server)
    clients = [run.connect().send(GET) for _ in range(10)]
    plain = run.connect()
    for _ in range(50):
        assert plain.request("GET", "/t").body == b"plain"
    for client in clients[:5]:
        assert len(client.answer().body) == 250_000
    for client in clients[5:]:
        client.close()
    assert plain.request("GET", "/t").body == b"plain"
    assert not overlaps


def test_streams_that_nobody_reads_hold_no_thread(server: QuickServer, serve: Serve) -> None:
    server.threads = 2
    sources = [Source(endless(32 * KIB)) for _ in range(30)]
    stream(server, *sources)
    server.text_get("/t")(lambda req, args: "plain")
    run = serve(server)
    clients = [slow_connection(run).send(GET) for _ in sources]
    until(lambda: all(source.size > 128 * KIB for source in sources), "all streams begin")
    threads = threading.active_count()
    assert run.get("/t").body == b"plain"
    assert threading.active_count() == threads
    assert len(set().union(*(source.threads for source in sources))) <= 2
    for client in clients:
        client.close()
    for source in sources:
        assert source.closed.wait(PATIENCE)


def test_many_streams_with_few_threads(server: QuickServer, serve: Serve) -> None:
    server.threads = 2
    server.text_get("/s")(lambda req, args: iter([b"x" * 1000] * 100))
    run = serve(server)
    clients = [run.connect().send(GET) for _ in range(100)]
    assert [len(client.answer().body) for client in clients] == [100_000] * 100


# ---- clients that leave -----------------------------------------------------------------------


def test_a_generator_is_closed_when_the_client_leaves(server: QuickServer, serve: Serve) -> None:
    ended: SimpleQueue[tuple[str, threading.Thread]] = SimpleQueue()

    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> Iterator[bytes]:
        try:
            while True:
                yield bytes(10_000)
        except GeneratorExit:
            ended.put(("closed", threading.current_thread()))
            raise

    run = serve(server)
    client = run.connect().send(GET)
    receive(client, b"\r\n\r\n")
    client.close()
    how, thread = ended.get(timeout=PATIENCE)
    assert how == "closed"
    assert "pool" in thread.name
    assert run.get("/nothing").status == 404


def test_a_generator_is_closed_after_the_step_under_way(server: QuickServer, serve: Serve) -> None:
    in_step, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> Iterator[bytes]:
        try:
            yield b"first"
            in_step.set()
            go_on.wait(PATIENCE)
            yield b"second"
        finally:
            ended.set()

    run = serve(server)
    client = run.connect().send(GET)
    receive(client, b"first")
    assert in_step.wait(PATIENCE)
    client.close()
    assert run.get("/nothing").status == 404
    assert not ended.is_set()
    go_on.set()
    assert ended.wait(PATIENCE)


def test_an_iterator_is_closed_at_its_end_too(server: QuickServer, serve: Serve) -> None:
    source = Source(["a", "b"])
    stream(server, source)
    assert serve(server).get("/s").body == b"ab"
    assert source.closed.wait(PATIENCE)
    assert source.closed_by is not None
    assert "pool" in source.closed_by.name
    assert not source.overlapped


def test_an_end_that_fails_is_logged(server: QuickServer, serve: Serve, log: Log) -> None:
    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> Iterator[str]:
        try:
            yield "a"
            yield "b" * MIB
            yield from iter(lambda: "c" * MIB, "")
        finally:
            raise ValueError("the end went wrong")

    run = serve(server)
    client = run.connect().send(GET)
    receive(client, b"a\r\n")
    client.close()
    log.wait_for("the end went wrong")
    assert run.get("/nothing").status == 404


def test_a_half_closed_client_gets_the_whole_stream(server: QuickServer, serve: Serve) -> None:
    pieces: SimpleQueue[str] = SimpleQueue()

    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> Iterator[str]:
        while piece := pieces.get(timeout=PATIENCE):
            yield piece

    client = serve(server).connect().send(GET).half_close()
    for piece in ("<one>", "<two>"):
        pieces.put(piece)
        receive(client, piece.encode())
    pieces.put("")
    assert client.answer().body == b"<one><two>"


# ---- failures ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [ValueError("hush"), SystemExit("hush"), KeyboardInterrupt("hush")])
def test_a_failure_before_the_first_piece_is_a_clean_500(
    server: QuickServer, serve: Serve, log: Log, error: BaseException
) -> None:
    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> Iterator[str]:
        req.send_header("X-Mine", "1")
        if error:
            raise error
        yield "never"

    client = serve(server).connect()
    answer = client.request("GET", "/s")
    assert answer.status == 500
    assert answer.get("x-mine") is None
    assert b"hush" not in answer.body
    log.wait_for("hush")
    assert client.request("GET", "/nothing").status == 404


@pytest.mark.parametrize("code", [401, 404, 500])
def test_a_stream_that_is_prevented_before_the_first_piece(
    server: QuickServer, serve: Serve, log: Log, code: int
) -> None:
    """`PreventDefaultResponse` ends a request from anywhere."""

    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> Iterator[str]:
        if code:
            raise PreventDefaultResponse(code, "the message")
        yield "never"

    answer = serve(server).get("/s")
    assert answer.status == code
    assert b"the message" in answer.body
    assert "Traceback" not in log.text


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_later_failure_aborts_the_connection(
    server: QuickServer, serve: Serve, log: Log, version: str
) -> None:
    """The client must not take what it has for the whole; without framing only a reset tells."""
    read = threading.Event()

    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> Iterator[str]:
        yield "first"
        read.wait(PATIENCE)
        raise ValueError("went wrong")

    run = serve(server)
    client = run.connect().send(GET.replace("1.1", version))
    receive(client, b"first")
    read.set()
    if version == "1.1":
        assert ends_early(client)
    else:
        with pytest.raises(ConnectionResetError):
            client.at_end()
    assert b"went wrong" not in client.rest
    log.wait_for("(?s)Traceback.*went wrong")
    assert run.get("/nothing").status == 404


@pytest.mark.parametrize("piece", [1, None, ["a"], {"a": 1}], ids=["int", "none", "list", "dict"])
def test_a_first_piece_that_is_no_text(
    server: QuickServer, serve: Serve, log: Log, piece: object
) -> None:
    server.text_get("/s")(lambda req, args: iter([piece]))
    assert serve(server).get("/s").status == 500
    log.wait_for(type(piece).__name__)


def test_a_later_piece_that_is_no_text(server: QuickServer, serve: Serve, log: Log) -> None:
    server.text_get("/s")(lambda req, args: iter(["a", 1]))
    assert ends_early(serve(server).connect().send(GET))
    log.wait_for("int")


def test_an_error_asked_for_instead_of_the_stream(server: QuickServer, serve: Serve) -> None:
    source = Source(["a"])

    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> object:
        req.send_error(409, "the message")
        return source

    assert serve(server).get("/s").status == 409
    assert source.taken == 0
    assert source.closed.wait(PATIENCE)


# ---- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "content"),
    [
        (io.BytesIO(b"\x00\xff" * 100_000), b"\x00\xff" * 100_000),
        (io.StringIO("größe" * 1000), "größe".encode() * 1000),
        (io.BytesIO(b""), b""),
    ],
    ids=["bytes", "text", "empty"],
)
def test_readable_objects(server: QuickServer, serve: Serve, file: io.IOBase, content: bytes) -> None:
    stream(server, file)
    assert serve(server).get("/s").body == content
    until(lambda: file.closed, "the object is closed")


def test_an_object_with_no_more_than_a_read(server: QuickServer, serve: Serve) -> None:
    class Readable:
        left = 5

        def read(self, size: int) -> bytes:
            assert size > 0
            self.left -= 1
            return b"x" * size if self.left > 0 else b""

    stream(server, Readable())
    body = serve(server).get("/s").body
    assert body
    assert not body.strip(b"x")


def test_from_where_a_readable_stands(server: QuickServer, serve: Serve) -> None:
    file = io.BytesIO(b"0123456789")
    file.seek(4)
    stream(server, file)
    assert serve(server).get("/s").body == b"456789"


def test_a_pipe_is_sent_as_it_is_written(server: QuickServer, serve: Serve) -> None:
    reading, writing = os.pipe()
    stream(server, os.fdopen(reading, "rb"))
    with os.fdopen(writing, "wb", buffering=0) as pipe:
        pipe.write(b"<one>")
        client = serve(server).connect().send(GET)
        receive(client, b"<one>")
        pipe.write(b"<two>")
        receive(client, b"<two>")
    assert client.answer().body == b"<one><two>"


@pytest.mark.parametrize("size", [0, 10, 70_000, 20 * MIB], ids=["0", "10", "70000", "20MiB"])
@pytest.mark.parametrize("buffering", [0, -1], ids=["raw", "buffered"])
def test_a_real_file(
    server: QuickServer, serve: Serve, tmp_path: Path, size: int, buffering: int
) -> None:
    content = os.urandom(size)
    (tmp_path / "data.bin").write_bytes(content)
    opened = []

    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> object:
        opened.append((tmp_path / "data.bin").open("rb", buffering=buffering))
        return opened[-1]

    client = serve(server).connect()
    for _ in range(2):
        answer = client.request("GET", "/s")
        assert answer.body == content
        assert answer.get("content-length") == str(size)
    until(lambda: all(file.closed for file in opened), "the files are closed")


def test_from_where_a_real_file_stands(server: QuickServer, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"0123456789")

    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> object:
        file = (tmp_path / "data.bin").open("rb")
        assert file.read(4) == b"0123"
        return file

    assert serve(server).get("/s").body == b"456789"


def test_a_text_file(server: QuickServer, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes("größe\n".encode("latin-1"))
    server.text_get("/s")(lambda req, args: (tmp_path / "text").open(encoding="latin-1"))
    assert serve(server).get("/s").body == "größe\n".encode()


def test_a_client_that_leaves_a_real_file(server: QuickServer, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(20 * MIB))
    opened = []

    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> object:
        opened.append((tmp_path / "data.bin").open("rb"))
        return opened[-1]

    run = serve(server)
    client = run.connect().send(GET)
    receive(client, b"\r\n\r\n")
    client.close()
    until(lambda: opened[0].closed, "the file is closed")
    assert run.get("/nothing").status == 404


def test_a_head_of_a_real_file(server: QuickServer, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"0123456789")
    opened = []

    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> object:
        opened.append((tmp_path / "data.bin").open("rb"))
        return opened[-1]

    answer = serve(server).request("HEAD", "/s")
    assert (answer.status, answer.get("content-length")) == (200, "10")
    until(lambda: opened[0].closed, "the file is closed")


# ---- the end of the server --------------------------------------------------------------------


def test_a_stream_may_finish_when_the_server_ends(server: QuickServer, serve: Serve) -> None:
    pieces: SimpleQueue[str] = SimpleQueue()

    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> Iterator[str]:
        while piece := pieces.get(timeout=PATIENCE):
            yield piece

    client = serve(server).connect().send(GET)
    pieces.put("<one>")
    receive(client, b"<one>")
    server.done = True
    pieces.put("<two>")
    receive(client, b"<two>")
    pieces.put("")
    assert client.answer().body == b"<one><two>"


def test_an_endless_stream_is_cut_off_when_the_server_ends(server: QuickServer, serve: Serve) -> None:
    server.shutdown_timeout = 0.05
    source = Source(endless(10_000))
    stream(server, source)
    client = serve(server).connect().send(GET)
    receive(client, b"\r\n\r\n")
    began = time.monotonic()
    server.server_close()
    assert time.monotonic() - began < PATIENCE / 2
    assert source.closed.is_set()
    assert ends_early(client)
