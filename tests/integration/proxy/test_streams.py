"""Content that passes while it is made: at once, at the pace of the slower side; and tunnels."""

from __future__ import annotations

import hashlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest

from quick_server import QuickServer, create_server
from quick_server.proxy import Forwarding
from tests.harness import PATIENCE, Client, Running
from tests.integration.forms import until
from tests.integration.logs import Log
from tests.integration.upstreams import LEAVING, Line, Scripted, flood, in_kernel, limited

Serve = Callable[[QuickServer], Running]

KIB, MIB = 1024, 1024 * 1024
MOST = 64 * MIB  # more than all buffers on the way hold
AHEAD = 256 * KIB  # bytes that may wait in the proxy, each way
GET = "GET /up/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = "POST /up/x HTTP/1.1\r\nHost: localhost\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = (
    "GET /up/chat HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\n"
    "Upgrade: websocket\r\nSec-WebSocket-Key: abc\r\n\r\n"
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: def\r\n\r\n"
)


def receive(client: Client, marker: bytes) -> bytes:
    """What has come when the marker is there; it is taken."""
    while marker not in client.rest:
        assert client._fill(), f"no {marker!r} in {client.rest!r}"
    taken, client.rest = client.rest, b""
    return taken


def exactly(client: Client, size: int) -> bytes:
    return client._exactly(size)


def reset(client: Client) -> None:
    """Ends the connection with RST."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def ends_early(client: Client) -> bool:
    """Whether the connection ends without the last chunk, or with a reset."""
    try:
        client.at_end()
    except ConnectionError:
        return True
    return not client.rest.endswith(b"0\r\n\r\n")


WAYS_TO_LEAVE: dict[str, Callable[[Client], None]] = {"closes": Client.close, "resets": reset}


# ---- at once ------------------------------------------------------------------------------------

PIECES = {
    "chunked": (OK + CHUNKED, b"5\r\nfirst\r\n", b"6\r\nsecond\r\n0\r\n\r\n"),
    "sized": (OK + b"Content-Length: 11\r\n\r\n", b"first", b"second"),
    "until the end": (b"HTTP/1.0 200 OK\r\n\r\n", b"first", b"second"),
    "events": (
        OK + b"Content-Type: text/event-stream\r\n" + CHUNKED, b"d\r\ndata: first\n\n\r\n",
        b"e\r\ndata: second\n\n\r\n0\r\n\r\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PIECES)
def test_each_piece_of_an_answer_passes_at_once(client: Client, upstream: Scripted, kind: str) -> None:
    head, first, second = PIECES[kind]
    client.send(GET)
    line, _ = upstream.take()
    line.send(head)
    receive(client, b"\r\n\r\n")
    line.send(first)
    assert b"first" in receive(client, b"first")
    line.send(second)
    line.half_close()
    assert b"second" in receive(client, b"second")


def test_a_byte_passes_within_50_ms(client: Client, upstream: Scripted) -> None:
    client.send(GET)
    line, _ = upstream.take()
    line.send(OK + CHUNKED)
    receive(client, b"\r\n\r\n")
    took = []
    for _ in range(10):
        began = time.monotonic()
        line.send(b"1\r\nx\r\n")
        receive(client, b"1\r\nx\r\n")
        took.append(time.monotonic() - began)
    assert min(took) < 0.05  # others use this machine, too


@pytest.mark.parametrize("cut", [1, 2, 7])
def test_an_answer_in_small_pieces(client: Client, upstream: Scripted, cut: int) -> None:
    raw = OK + b"X-A: 1\r\n" + CHUNKED + b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nT: 1\r\n\r\n"
    client.send(GET)
    line, _ = upstream.take()
    line.send(*(raw[at : at + cut] for at in range(0, len(raw), cut)))
    answer = client.answer()
    assert (answer.body, answer.get("x-a")) == (b"hello!", "1")


def test_a_sized_upload_goes_up_while_it_arrives(client: Client, upstream: Scripted) -> None:
    client.send(f"{POST}Content-Length: 11\r\n\r\n")
    line, asked = upstream.take()
    assert asked.get("content-length") == "11"
    for piece in (b"a", b"bcd", b"efghijk"):
        client.send(piece)
        assert line.exactly(len(piece)) == piece
    line.answer(b"fine")
    assert client.answer().body == b"fine"


def test_an_upload_in_chunks_goes_up_while_it_arrives(client: Client, upstream: Scripted) -> None:
    client.send(f"{POST}Transfer-Encoding: chunked\r\n\r\n")
    line, asked = upstream.take()
    assert asked.get("transfer-encoding") == "chunked"
    for piece in (b"a", b"bcd", b"efghijk"):
        client.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        assert line.chunk() == piece
    client.send("0\r\n\r\n")
    assert line.chunk() == b""
    line.answer(b"fine")
    assert client.answer().body == b"fine"


def test_part_of_a_chunk_goes_up_at_once(client: Client, upstream: Scripted) -> None:
    client.send(f"{POST}Transfer-Encoding: chunked\r\n\r\n6\r\nabc")
    line, _ = upstream.take()
    assert line.chunk() == b"abc"
    client.send("def\r\n0\r\n\r\n")
    assert line.chunk() == b"def"
    assert line.chunk() == b""
    line.answer()
    assert client.answer().status == 200


# ---- at the pace of the slower ------------------------------------------------------------------


def pattern(size: int) -> bytes:
    """Bytes that tell where they are."""
    return b"".join(hashlib.sha256(b"%d" % at).digest() for at in range(size // 32))


def small_client(run: Running) -> Client:
    """One that the kernel keeps little for."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
    sock.settimeout(PATIENCE)
    sock.connect(run.address)
    client = Client(sock)
    run.clients.append(client)
    return client


PATTERN = pattern(48 * KIB)


FLOODS = {
    "chunked": (OK + CHUNKED, b"%x\r\n%s\r\n" % (len(PATTERN), PATTERN)),
    "until the end": (b"HTTP/1.0 200 OK\r\n\r\n", PATTERN),
    "sized": (OK + b"Content-Length: %d\r\n\r\n" % (1 << 40), PATTERN),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_a_slow_client_pauses_the_upstream(
    server: QuickServer, serve: Serve, upstream: Scripted, kind: str
) -> None:
    run = serve(server)
    client = small_client(run).send(GET)
    line, _ = upstream.take()
    head, piece = FLOODS[kind]
    sent = line.send(head).flood(piece, MOST)
    assert sent < MOST, "nothing paused it"
    waiting = len(head) + sent - in_kernel(upstream.port, run.address[1])
    assert -64 * KIB < waiting <= AHEAD, "bytes wait in the proxy"
    # It goes on when the client does, and nothing is lost or comes twice.
    pieces = sent // len(piece) + 20
    sender = threading.Thread(target=send_rest, args=(line.sock, piece, sent, pieces))
    sender.start()
    receive_head(client)
    received = 0
    while received < pieces * len(PATTERN):
        data = client._exactly(int(client._line(), 16)) if kind != "sized" else exactly_some(client)
        if kind != "sized":
            assert client._line() == ""
        assert data == repeated(received, len(data))
        received += len(data)
    sender.join()
    assert received == pieces * len(PATTERN)


def send_rest(sock: socket.socket, piece: bytes, at: int, pieces: int) -> None:
    """Sends what is missing of so many pieces."""
    view = memoryview(piece)
    while at < pieces * len(piece):
        at += sock.send(view[at % len(piece) :])


def test_small_chunks_wait_in_the_kernel_too(
    server: QuickServer, serve: Serve, upstream: Scripted
) -> None:
    """Each costs much more to handle than to send: they must not pile up while others are handled."""
    run = serve(server)
    client = small_client(run).send(GET)
    line, _ = upstream.take()
    piece = b"1\r\nx\r\n" * 8192
    sender = threading.Thread(target=flood, args=(line.send(OK + CHUNKED).sock, piece, 4 * MIB))
    sender.start()
    most = 0
    while sender.is_alive():
        most = max(most, server_memory(server))
        sender.join(0.01)
    assert most <= AHEAD
    client.close()
    line.ends()


def server_memory(server: QuickServer) -> int:
    """Bytes that the proxy's exchanges hold: what has not been parsed, and what has not been sent."""
    total = 0
    for connection in list(server._service.connections):
        producer = connection._answering.producer
        if isinstance(producer, Forwarding):
            total += len(producer._protocol._buffer) - producer._protocol._start
            total += connection._answering.unsent
    return total


def receive_head(client: Client) -> None:
    while client._line():
        pass


def exactly_some(client: Client) -> bytes:
    if not client.rest:
        client._fill()
    data, client.rest = client.rest, b""
    return data


def repeated(start: int, size: int) -> bytes:
    """That part of the pattern, which goes on for ever."""
    start %= len(PATTERN)
    return (PATTERN * ((start + size) // len(PATTERN) + 1))[start : start + size]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_slow_upstream_pauses_the_client(
    server: QuickServer, serve: Serve, upstream: Scripted, chunked: bool
) -> None:
    upstream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * KIB)
    run = serve(server)
    piece = b"%x\r\n%s\r\n" % (len(PATTERN), PATTERN) if chunked else PATTERN
    pieces = MOST // len(piece)
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {pieces * len(piece)}"
    client = run.connect().send(f"{POST}{framing}\r\n\r\n")
    line, _ = upstream.take()
    taken = len(line.rest)
    sent = flood(client.sock, piece, pieces * len(piece))
    assert sent < pieces * len(piece), "nothing paused it"
    waiting = sent - taken - in_kernel(upstream.port, run.address[1])
    assert -64 * KIB < waiting <= AHEAD, "bytes wait in the proxy"

    sender = threading.Thread(target=send_rest, args=(client.sock, piece, sent, pieces))
    sender.start()
    received, got = 0, hashlib.sha256()
    wanted = hashlib.sha256(PATTERN * pieces).digest()
    while received < pieces * len(PATTERN):
        data = line.chunk() if chunked else line.exactly(1) + line.rest
        if not chunked:
            line.rest = b""
        got.update(data)
        received += len(data)
    sender.join()
    if chunked:
        client.send("0\r\n\r\n")
        assert line.chunk() == b""
    assert got.digest() == wanted
    line.answer(b"fine")
    assert client.answer().body == b"fine"


def test_one_that_reads_nothing_does_not_stall_others(
    server: QuickServer, serve: Serve, upstream: Scripted
) -> None:
    run = serve(server)
    slow, quick = small_client(run).send(GET), run.connect()
    line, _ = upstream.take()
    line.send(b"HTTP/1.0 200 OK\r\n\r\n")
    line.flood(PATTERN, MOST)
    quick.send(GET)
    other, _ = upstream.take()
    other.answer(b"quick")
    assert quick.answer().body == b"quick"
    slow.close()


def test_a_client_that_takes_nothing_for_too_long(
    upstream: Scripted, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited(monkeypatch, write_timeout=0.3)
    server = create_server(("127.0.0.1", 0))
    server.bind_proxy("/up/", upstream.url)
    small_client(serve(server)).send(GET)
    line, _ = upstream.take()
    line.send(b"HTTP/1.0 200 OK\r\n\r\n")
    try:
        assert line.flood(PATTERN, MOST) < MOST
    except ConnectionError:  # it has ended already
        return
    line.ends()


# ---- early answers ------------------------------------------------------------------------------


def test_an_early_answer_is_relayed(client: Client, upstream: Scripted) -> None:
    client.send(f"{POST}Content-Length: 10000000\r\n\r\nhello")
    line, _ = upstream.take()
    line.answer(b"too much", "413 Content Too Large", b"Connection: close\r\n")
    answer = client.answer()
    assert (answer.status, answer.body) == (413, b"too much")
    assert answer.get("connection") == "close"
    assert client.at_end()
    line.ends()


def test_an_early_answer_and_the_rest_of_the_chunks(client: Client, upstream: Scripted) -> None:
    client.send(f"{POST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    line, _ = upstream.take()
    line.answer(b"too much", "413 Content Too Large", b"Connection: close\r\n")
    assert client.answer().body == b"too much"
    assert b"0\r\n\r\n" not in line.ends()  # that would be a whole request
    client.send(b"3\r\nabc\r\n0\r\n\r\n" + GET.encode())
    other, asked = upstream.take()
    assert asked.line.startswith("GET ")
    other.answer(b"next")
    assert client.answer().body == b"next"


def test_an_early_answer_and_a_short_rest(client: Client, upstream: Scripted) -> None:
    client.send(f"{POST}Content-Length: 100\r\n\r\n")
    line, _ = upstream.take()
    line.answer(b"no", "403 Forbidden")
    assert client.answer().body == b"no"
    assert line.ends() == b""  # half a request: it can carry no other
    client.send(b"x" * 100 + GET.encode())
    other, asked = upstream.take()
    assert asked.line.startswith("GET ")
    other.answer(b"next")
    assert client.answer().body == b"next"


def test_an_early_answer_while_the_upstream_takes_nothing(
    server: QuickServer, serve: Serve, upstream: Scripted
) -> None:
    run = serve(server)
    client = run.connect().send(f"{POST}Content-Length: {MOST}\r\n\r\n")
    line, _ = upstream.take()
    flood(client.sock, PATTERN, MOST // 2)
    line.answer(b"full", "507 Insufficient Storage", b"Connection: close\r\n").half_close()
    assert client.answer().body == b"full"


@pytest.mark.xfail(reason="once an answer has begun, the rest of the request's content stays here")
def test_an_upstream_that_answers_while_it_reads(client: Client, upstream: Scripted) -> None:
    """Both at the same time: the rest of the upload still counts, as the answer may be made of it."""
    client.send(f"{POST}Content-Length: 6\r\n\r\nabc")
    line, _ = upstream.take()
    assert line.exactly(3) == b"abc"
    line.send(OK + b"Content-Length: 6\r\n\r\nabc")
    receive(client, b"abc")
    client.send("def")
    assert line.exactly(3) == b"def"
    line.send(b"def")
    assert receive(client, b"def") == b"def"


# ---- tunnels ------------------------------------------------------------------------------------


def tunnel(client: Client, upstream: Scripted, ahead: bytes = b"", back: bytes = b"") -> Line:
    """What a 101 makes of two connections; `ahead` and `back` come together with the heads."""
    client.send(UPGRADE.encode() + ahead)
    line, asked = upstream.take()
    assert asked.line == "GET /base/chat HTTP/1.1"
    assert [value.lower() for value in asked.all("connection")] == ["upgrade"]
    assert asked.all("upgrade") == ["websocket"]
    assert asked.all("sec-websocket-key") == ["abc"]
    line.send(SWITCHING + back)
    answer = client.answer()
    assert answer.status == 101
    assert (answer.get("upgrade"), answer.get("connection")) == ("websocket", "Upgrade")
    assert answer.get("sec-websocket-accept") == "def"
    assert answer.get("content-length") is None
    assert answer.get("transfer-encoding") is None
    return line


def test_a_tunnel(client: Client, upstream: Scripted) -> None:
    line = tunnel(client, upstream)
    for data in (b"\x00\xff", b"GET / HTTP/1.1\r\n\r\n", b"0\r\n\r\n", b"x" * 5000):
        client.send(data)
        assert line.exactly(len(data)) == data
        line.send(data)
        assert exactly(client, len(data)) == data
    client.close()
    line.ends(LEAVING)


def test_bytes_that_come_with_the_heads(client: Client, upstream: Scripted) -> None:
    line = tunnel(client, upstream, b"hello up there", b"hello down there")
    assert line.exactly(14) == b"hello up there"
    assert exactly(client, 16) == b"hello down there"


def test_half_closing_passes_through(client: Client, upstream: Scripted) -> None:
    line = tunnel(client, upstream)
    client.send(b"last words").half_close()
    assert line.ends() == b"last words"
    line.send(b"an ", b"answer")
    assert exactly(client, 9) == b"an answer"
    line.half_close()
    assert client.at_end()


def test_half_closing_passes_through_the_other_way(client: Client, upstream: Scripted) -> None:
    line = tunnel(client, upstream)
    line.send(b"last words").half_close()
    assert not client.at_end()
    assert client.rest == b"last words"
    client.send(b"an answer")
    assert line.exactly(9) == b"an answer"
    client.half_close()
    assert line.ends() == b""


def test_half_closed_together_with_the_head(client: Client, upstream: Scripted) -> None:
    client.send(UPGRADE)
    line, _ = upstream.take()
    line.send(SWITCHING + b"bye").half_close()
    assert client.answer().status == 101
    assert not client.at_end()
    assert client.rest == b"bye"
    client.send(b"still here")
    assert line.exactly(10) == b"still here"
    client.close()
    line.ends(LEAVING)


def test_a_client_that_left_during_an_earlier_answer_has_left(
    client: Client, upstream: Scripted
) -> None:
    request = b"GET /up/%d HTTP/1.1\r\nHost: localhost\r\n\r\n"
    client.send(request % 1 + request % 2).half_close()
    line, _ = upstream.take()
    line.answer(b"one")
    assert client.answer().body == b"one"
    line, asked = upstream.next_request()
    assert asked.target.endswith("/2")
    assert line.ends(LEAVING) == b""


def test_a_reset_ends_a_tunnel_both_ways(server: QuickServer, serve: Serve, upstream: Scripted) -> None:
    run = serve(server)
    client = run.connect()
    line = tunnel(client, upstream)
    line.reset()
    assert ends_early(client)
    client = run.connect()
    line = tunnel(client, upstream)
    reset(client)
    line.ends(LEAVING)


def test_an_idle_tunnel_ends(
    upstream: Scripted, serve: Serve, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    limited(monkeypatch, tunnel_idle=0.4)
    server = create_server(("127.0.0.1", 0))
    server.bind_proxy("/up/", f"{upstream.url}/base")
    client = serve(server).connect()
    line = tunnel(client, upstream)
    for number in range(6):  # longer than that in all; either side's bytes count
        assert not select.select([client.sock, line.sock], [], [], 0.15)[0]
        if number % 2:
            client.send(b"x")
            assert line.exactly(1) == b"x"
        else:
            line.send(b"y")
            assert exactly(client, 1) == b"y"
    try:
        assert client.at_end()
    except ConnectionError:
        pass
    assert line.ends() == b""


def test_a_tunnels_pace_is_that_of_the_slower(
    server: QuickServer, serve: Serve, upstream: Scripted
) -> None:
    run = serve(server)
    client = small_client(run)
    line = tunnel(client, upstream)
    sent = line.flood(PATTERN, MOST)
    assert sent < MOST
    assert sent - in_kernel(upstream.port, run.address[1]) <= AHEAD
    received = 0
    while received < sent:
        data = exactly_some(client)
        assert data == repeated(received, len(data))
        received += len(data)
    sent = flood(client.sock, PATTERN, MOST)
    assert sent < MOST
    assert sent - in_kernel(upstream.port, run.address[1]) <= AHEAD
    received = 0
    while received < sent:
        data = line.exactly(1) + line.rest
        line.rest = b""
        assert data == repeated(received, len(data))
        received += len(data)


def test_an_upgrade_that_is_refused(client: Client, upstream: Scripted) -> None:
    client.send(UPGRADE)
    line, _ = upstream.take()
    line.answer(b"no", "426 Upgrade Required", b"Upgrade: other\r\nConnection: Upgrade\r\n")
    answer = client.answer()
    assert (answer.status, answer.body, answer.get("upgrade")) == (426, b"no", "other")
    client.send(GET)  # still HTTP on both connections
    assert line.head().line.startswith("GET ")
    line.answer(b"fine")
    assert client.answer().body == b"fine"


@pytest.mark.parametrize("protocol", ["h2c", "HTTP/2.0", "TLS/1.0", "websocket, h2c"])
def test_protocols_that_carry_requests_are_not_asked_for(
    client: Client, upstream: Scripted, protocol: str
) -> None:
    client.send(UPGRADE.replace("websocket", protocol))
    line, asked = upstream.take()
    assert asked.get("upgrade") is None
    line.send(SWITCHING)
    assert client.answer().status == 502
    line.ends()


def test_nobody_switches_unasked(client: Client, upstream: Scripted) -> None:
    client.send(GET)
    line, _ = upstream.take()
    line.send(SWITCHING)
    assert client.answer().status == 502
    line.ends()


def test_a_tunnel_ends_with_the_server(server: QuickServer, serve: Serve, upstream: Scripted) -> None:
    client = serve(server).connect()
    line = tunnel(client, upstream)
    server.done = True
    line.ends()
    try:
        client.at_end()
    except ConnectionError:
        pass


def test_what_is_sent_last_passes_before_a_close(client: Client, upstream: Scripted) -> None:
    line = tunnel(client, upstream)
    line.send(PATTERN * 20).close()
    assert exactly(client, 20 * len(PATTERN)) == PATTERN * 20
    assert client.at_end()


# ---- clients that leave -------------------------------------------------------------------------


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE)
def test_leaving_before_the_first_byte(client: Client, upstream: Scripted, leave: str) -> None:
    client.send(GET)
    line, _ = upstream.take()
    WAYS_TO_LEAVE[leave](client)
    assert line.ends(LEAVING) == b""


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE)
def test_leaving_after_sending_ahead(client: Client, upstream: Scripted, leave: str) -> None:
    client.send(GET)
    line, _ = upstream.take()
    client.send(GET)
    until(lambda: not in_kernel(client.sock.getsockname()[1]), "the second request is read")
    WAYS_TO_LEAVE[leave](client)
    assert line.ends(LEAVING) == b""


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE)
def test_leaving_with_an_upload_that_is_complete(
    client: Client, upstream: Scripted, leave: str
) -> None:
    client.send(f"{POST}Content-Length: 5\r\n\r\nhello")
    line, _ = upstream.take()
    assert line.exactly(5) == b"hello"
    WAYS_TO_LEAVE[leave](client)
    assert line.ends(LEAVING) == b""


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE)
@pytest.mark.parametrize("framing", ["Content-Length: 50", "Transfer-Encoding: chunked"])
def test_leaving_in_the_middle_of_an_upload(
    client: Client, upstream: Scripted, leave: str, framing: str, log: Log
) -> None:
    client.send(f"{POST}{framing}\r\n\r\n5\r\nhello\r\n")
    line, asked = upstream.take()
    chunked = asked.get("transfer-encoding") is not None
    assert line.chunk() == b"hello" if chunked else line.exactly(5)
    WAYS_TO_LEAVE[leave](client)
    rest = line.ends(LEAVING)
    assert b"0\r\n\r\n" not in rest  # that would be a whole request


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE)
@pytest.mark.parametrize("kind", PIECES)
def test_leaving_in_the_middle_of_an_answer(
    client: Client, upstream: Scripted, leave: str, kind: str
) -> None:
    head, first, _ = PIECES[kind]
    client.send(GET)
    line, _ = upstream.take()
    line.send(head, first)
    receive(client, b"first")
    WAYS_TO_LEAVE[leave](client)
    assert line.ends(LEAVING) == b""


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE)
def test_leaving_without_having_read(
    server: QuickServer, serve: Serve, upstream: Scripted, leave: str
) -> None:
    client = small_client(serve(server)).send(GET)
    line, _ = upstream.take()
    line.send(b"HTTP/1.0 200 OK\r\n\r\n")
    line.flood(PATTERN, MOST)
    WAYS_TO_LEAVE[leave](client)
    assert line.ends(LEAVING) == b""


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE)
def test_leaving_while_the_upstream_takes_nothing(
    server: QuickServer, serve: Serve, upstream: Scripted, leave: str
) -> None:
    client = serve(server).connect().send(f"{POST}Content-Length: {MOST}\r\n\r\n")
    line, _ = upstream.take()
    flood(client.sock, PATTERN, MOST // 2)
    began = time.monotonic()
    WAYS_TO_LEAVE[leave](client)
    if leave == "resets":  # with FIN, what the client has sent is read first
        line.ends(LEAVING)
        assert time.monotonic() - began < LEAVING
    else:
        line.ends()


@pytest.mark.parametrize("leave", WAYS_TO_LEAVE)
def test_leaving_while_waiting_for_continue(client: Client, upstream: Scripted, leave: str) -> None:
    client.send(f"{POST}Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
    line, _ = upstream.take()
    WAYS_TO_LEAVE[leave](client)
    assert line.ends(LEAVING) == b""


def test_half_closed_clients_get_their_answer(client: Client, upstream: Scripted) -> None:
    client.send(GET).half_close()
    line, _ = upstream.take()
    line.answer(b"here you are")
    assert client.answer().body == b"here you are"
    assert client.at_end()


def test_half_closed_clients_get_a_stream_that_flows(client: Client, upstream: Scripted) -> None:
    client.send(GET).half_close()
    line, _ = upstream.take()
    line.send(OK + CHUNKED)
    for _ in range(8):  # longer than it takes to tell that one has gone
        assert not select.select([line.sock], [], [], 0.25)[0]
        line.send(b"1\r\nx\r\n")
    line.send(b"0\r\n\r\n")
    assert client.answer().body == b"x" * 8


def test_the_other_requests_go_on_when_one_client_leaves(
    server: QuickServer, serve: Serve, upstream: Scripted
) -> None:
    run = serve(server)
    first, second = run.connect().send(GET), run.connect()
    line, _ = upstream.take()
    second.send(GET)
    other, _ = upstream.take()
    first.close()
    assert line.ends(LEAVING) == b""
    other.answer(b"fine")
    assert second.answer().body == b"fine"


# ---- the server ends ----------------------------------------------------------------------------


def test_an_answer_under_way_is_completed(
    server: QuickServer, serve: Serve, upstream: Scripted
) -> None:
    client = serve(server).connect().send(GET)
    line, _ = upstream.take()
    line.send(OK + CHUNKED + b"5\r\nfirst\r\n")
    receive(client, b"first")
    server.done = True
    line.send(b"6\r\nsecond\r\n0\r\n\r\n")
    assert receive(client, b"0\r\n\r\n").endswith(b"second\r\n0\r\n\r\n")
    assert client.at_end()


def test_an_answer_that_takes_too_long_is_cut_off(
    server: QuickServer, serve: Serve, upstream: Scripted
) -> None:
    server.shutdown_timeout = 0.3
    client = serve(server).connect().send(GET)
    line, _ = upstream.take()
    line.send(OK + CHUNKED + b"5\r\nfirst\r\n")
    receive(client, b"first")
    server.server_close()
    line.ends()
    assert ends_early(client)


def test_a_tunnel_goes_on_behind_what_was_sent_too_early(client: Client, upstream: Scripted) -> None:
    """A client that does not wait for the 101: its connection was not read on meanwhile."""
    client.send(UPGRADE)
    line, _ = upstream.take()
    client.send("early")
    until(lambda: not in_kernel(client.sock.getsockname()[1]), "it is read")
    line.send(SWITCHING)
    assert client.answer().status == 101
    assert line.exactly(5) == b"early"
    client.send("later")
    assert line.exactly(5) == b"later"


def test_a_tunnel_whose_client_ended_its_side_before_it_began(
    client: Client, upstream: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quick_server.proxy._LOOK_EVERY", 0.005)
    client.send(UPGRADE + "all").half_close()
    line, _ = upstream.take()
    line.send(SWITCHING)
    assert client.answer().status == 101
    assert line.exactly(3) == b"all"
    began = time.monotonic()
    while time.monotonic() - began < 0.1:  # many times as long as a client is waited for here
        line.send(b"tick")
        assert receive(client, b"tick") == b"tick"


def test_an_early_answer_of_an_upstream_that_is_gone_by_then(
    client: Client, upstream: Scripted
) -> None:
    """It does not read the rest: what it said arrives before the reset, and counts."""
    client.send(f"{POST}Content-Length: 1000000\r\n\r\n" + "x" * 100_000)
    line, _ = upstream.take()
    line.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
    line.sock.close()  # with bytes unread, which resets
    answer = client.answer()
    assert (answer.status, answer.body) == (413, b"big")
