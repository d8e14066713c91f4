"""Upstreams that refuse, lie, hang and die: one answer for one request, and never half of one."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from quick_server import QuickServer, create_server
from tests.harness import PATIENCE, Client, Running
from tests.integration.logs import Log
from tests.integration.upstreams import Line, Scripted, deaf, limited, refusing

Serve = Callable[[QuickServer], Running]

GET = "GET /up/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
OLD = "GET /up/x HTTP/1.0\r\n\r\n"
KEPT = "GET /up/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
POST = "POST /up/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
OK = b"HTTP/1.1 200 OK\r\n"


def all_of(client: Client) -> tuple[bytes, bool]:
    """What comes until the connection ends, and whether it was reset."""
    try:
        client.at_end()
    except ConnectionError:
        return client.rest, True
    return client.rest, False


def goes_on(client: Client, upstream: Scripted) -> None:
    """The client's connection can be used for another request, which has a new one upstream."""
    client.send(GET)
    line, asked = upstream.take()
    assert asked.line.startswith("GET ")
    line.answer(b"next")
    answer = client.answer()
    assert (answer.status, answer.body) == (200, b"next")
    assert not client.rest


# ---- no answer ----------------------------------------------------------------------------------


def test_refused(server: QuickServer, serve: Serve, log: Log) -> None:
    run = serve(server)
    with refusing() as port:
        server.bind_proxy("/gone/", f"http://127.0.0.1:{port}/secret-path")
        client = run.connect()
        for _ in range(2):  # the client's connection is kept
            answer = client.request("GET", "/gone/x")
            assert answer.status == 502
            text = answer.body.decode()
            assert "/gone/" in text
            assert str(port) not in text
            assert "127.0.0.1" not in text
            assert "secret-path" not in text
        log.wait_for(rf"upstream http://127\.0\.0\.1:{port} .*GET /gone/x")
        server.set_debug_proxy(True)
        assert f"127.0.0.1:{port}" in client.request("GET", "/gone/x").body.decode()


def test_errors_for_programs(server: QuickServer, serve: Serve) -> None:
    with refusing() as port:
        server.bind_proxy("/gone/", f"http://127.0.0.1:{port}")
        answer = serve(server).get("/gone/x", Accept="application/json")
    assert answer.status == 502
    assert answer.get("content-type") == "application/json"


def test_an_unknown_name(server: QuickServer, serve: Serve) -> None:
    server.bind_proxy("/gone/", "http://no-such-name.invalid/")
    answer = serve(server).get("/gone/x")
    assert answer.status == 502
    assert b"invalid" not in answer.body


def test_refused_with_content(server: QuickServer, serve: Serve, upstream: Scripted) -> None:
    with refusing() as port:
        server.bind_proxy("/gone/", f"http://127.0.0.1:{port}")
        client = serve(server).connect().send(POST.replace("/up/", "/gone/"))
        assert client.answer().status == 502
        goes_on(client, upstream)


def test_an_upstream_that_comes_back(server: QuickServer, serve: Serve) -> None:
    run = serve(server)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        server.bind_proxy("/late/", f"http://127.0.0.1:{sock.getsockname()[1]}")
        client = run.connect()
        assert client.request("GET", "/late/x").status == 502
        sock.listen()
        client.send(GET.replace("/up/", "/late/"))
        line = Scripted(sock).accept()
        line.head()
        line.answer(b"here I am")
        assert client.answer().body == b"here I am"
        line.close()


GARBAGE = {
    "text": b"hello, how are you?\r\n\r\n",
    "binary": b"\x16\x03\x01\x00\x00\xff\r\n\r\n",
    "version 2": b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "version 0.9": b"HTTP/0.9 200 OK\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "status 42": b"HTTP/1.1 42 OK\r\n\r\n",
    "status 099": b"HTTP/1.1 099 OK\r\n\r\n",
    "status 600": b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
    "folded": OK + b"X: 1\r\n  2\r\nContent-Length: 0\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "bare carriage return": OK + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
    "null byte": OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "blank before colon": OK + b"Content-Length : 0\r\n\r\n",
    "no colon": OK + b"nothing\r\nContent-Length: 0\r\n\r\n",
    "no name": OK + b": x\r\nContent-Length: 0\r\n\r\n",
    "TE and CL": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "CL and TE": OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "two lengths in one": OK + b"Content-Length: 3, 4\r\n\r\nabcd",
    "negative length": OK + b"Content-Length: -1\r\n\r\n",
    "signed length": OK + b"Content-Length: +1\r\n\r\na",
    "hex length": OK + b"Content-Length: 0x1\r\n\r\na",
    "empty length": OK + b"Content-Length:\r\n\r\n",
    "huge length": OK + b"Content-Length: 9999999999999999999999\r\n\r\n",
    "unknown coding": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "endless head": OK + b"X: " + b"y" * 200_000,
    "endless fields": OK + b"X: y\r\n" * 5000,
    "endless interim": b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100 + OK + b"Content-Length: 0\r\n\r\n",
    "interim in 1.0": b"HTTP/1.0 100 Continue\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n",
    "nothing": b"",
    "half a head": OK + b"Content-Length: 5\r\n",
    "half a status line": b"HTTP/1.1 2",
    "interim and nothing": b"HTTP/1.1 103 Early Hints\r\n\r\n",
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_what_is_no_answer_is_a_502(client: Client, upstream: Scripted, kind: str) -> None:
    client.send(GET)
    line, _ = upstream.take()
    try:
        line.send(GARBAGE[kind]).half_close()
    except ConnectionError:
        pass  # it has seen enough
    answer = client.answer()
    interim = 0
    while answer.status == 103:
        answer, interim = client.answer(), interim + 1
    assert interim < 20
    assert answer.status == 502
    assert b"/up/" in answer.body
    assert upstream.authority.encode() not in answer.body
    line.ends()
    goes_on(client, upstream)


@pytest.mark.parametrize("request_", [OLD, KEPT, POST, "HEAD" + GET[3:], "PUT" + POST[4:]])
@pytest.mark.parametrize("raw", [b"", b"garbage\r\n\r\n", OK])
def test_one_502_whatever_was_asked(
    client: Client, upstream: Scripted, request_: str, raw: bytes
) -> None:
    client.send(request_)
    line, asked = upstream.take()
    line.content(asked)
    line.send(raw).half_close()
    assert client.answer(head_only=request_.startswith("HEAD")).status == 502
    if request_ is not OLD:
        client.send(GET)
        line, _ = upstream.take()
        line.answer(b"next")
        assert client.answer().body == b"next"
    assert upstream.is_quiet
    client.half_close()
    assert client.at_end()


def test_reset_before_the_head(client: Client, upstream: Scripted) -> None:
    client.send(GET)
    upstream.take()[0].reset()
    assert client.answer().status == 502
    goes_on(client, upstream)


def test_an_answer_before_the_request(client: Client, upstream: Scripted) -> None:
    """What is there as soon as the connection is cannot be the answer to a request, but may pass."""
    client.send(GET)
    line = upstream.accept()
    line.answer(b"early")
    line.head()
    assert client.answer().status in (200, 502)
    goes_on_with_its_own(client, upstream, line)


def goes_on_with_its_own(client: Client, upstream: Scripted, line: Line) -> None:
    """The next request gets its own answer, on whichever connection."""
    line.close()
    goes_on(client, upstream)


# ---- time ---------------------------------------------------------------------------------------


def patient(monkeypatch: pytest.MonkeyPatch, upstream: Scripted, **limits: float) -> QuickServer:
    limited(monkeypatch, **limits)
    server = create_server(("127.0.0.1", 0))
    server.bind_proxy("/up/", f"{upstream.url}/base")
    server.shutdown_timeout = 2.0
    return server


def test_connecting_takes_too_long(
    monkeypatch: pytest.MonkeyPatch, upstream: Scripted, serve: Serve
) -> None:
    server = patient(monkeypatch, upstream, connect_timeout=0.3)
    with deaf() as port:
        server.bind_proxy("/deaf/", f"http://127.0.0.1:{port}")
        run = serve(server)
        stuck = run.connect().send(GET.replace("/up/", "/deaf/"))
        quick = run.connect().send(GET)  # nobody waits for others
        line, _ = upstream.take()
        line.answer(b"quick")
        assert quick.answer().body == b"quick"
        answer = stuck.answer()
        assert answer.status == 504
        assert b"/deaf/" in answer.body
        assert str(port).encode() not in answer.body
        stuck.send(GET)
        line.head()
        line.answer(b"next")
        assert stuck.answer().body == b"next"


def test_leaving_while_it_connects(
    monkeypatch: pytest.MonkeyPatch, upstream: Scripted, serve: Serve, log: Log
) -> None:
    server = patient(monkeypatch, upstream, connect_timeout=0.5)
    with deaf() as port:
        server.bind_proxy("/deaf/", f"http://127.0.0.1:{port}")
        serve(server).connect().send(GET.replace("/up/", "/deaf/")).close()
        deadline = time.monotonic() + PATIENCE
        while server._service.connections:
            assert time.monotonic() < deadline


@pytest.mark.parametrize("request_", [GET, POST, KEPT])
def test_no_first_byte_in_time(
    monkeypatch: pytest.MonkeyPatch, upstream: Scripted, serve: Serve, request_: str
) -> None:
    client = serve(patient(monkeypatch, upstream, first_byte_timeout=0.3)).connect().send(request_)
    line, asked = upstream.take()
    line.content(asked)
    answer = client.answer()
    assert answer.status == 504
    assert b"/up/" in answer.body
    line.ends()  # what it says now is nobody's answer
    goes_on(client, upstream)


def test_half_a_head_and_then_nothing(
    monkeypatch: pytest.MonkeyPatch, upstream: Scripted, serve: Serve
) -> None:
    client = serve(patient(monkeypatch, upstream, first_byte_timeout=0.3)).connect().send(GET)
    line, _ = upstream.take()
    line.send(OK)
    assert client.answer().status == 504
    line.ends()


def test_a_slow_upload_is_not_too_late(
    monkeypatch: pytest.MonkeyPatch, upstream: Scripted, serve: Serve
) -> None:
    client = serve(patient(monkeypatch, upstream, first_byte_timeout=0.4)).connect()
    client.send("POST /up/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\n")
    line, _ = upstream.take()
    for _ in range(6):
        client.sock.settimeout(0.15)
        with pytest.raises(TimeoutError):
            client.sock.recv(1)
        client.sock.settimeout(PATIENCE)
        client.send("x")
        assert line.exactly(1) == b"x"
    line.answer(b"fine")
    assert client.answer().body == b"fine"


def test_silence_in_the_middle_of_an_answer(
    monkeypatch: pytest.MonkeyPatch, upstream: Scripted, serve: Serve
) -> None:
    client = serve(patient(monkeypatch, upstream, upstream_silence=0.3)).connect().send(GET)
    line, _ = upstream.take()
    line.send(OK + b"Content-Length: 10\r\n\r\nhello")
    received, was_reset = all_of(client)
    assert received.endswith(b"\r\n\r\nhello")
    assert was_reset
    line.ends()


# ---- half an answer -----------------------------------------------------------------------------

BROKEN_OFF = {
    "sized": OK + b"Content-Length: 10\r\n\r\nhello",
    "sized, no content": OK + b"Content-Length: 10\r\n\r\n",
    "chunked": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    "within a chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhello",
    "no last chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    "within trailers": OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n",
    "no chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n",
}
DAMAGED = {
    "no size": b"hello\r\n",
    "negative size": b"-5\r\nhello\r\n",
    "signed size": b"+5\r\nhello\r\n",
    "prefixed size": b"0x5\r\nhello\r\n",
    "blank size": b" 5\r\nhello\r\n",
    "no line end": b"5\r\nhello5\r\nhello\r\n",
    "bare line feed": b"5\nhello\n",
    "huge size": b"ffffffffffffffffffffff\r\nhello\r\n",
    "endless extension": b"5;" + b"x" * 100_000,
    "endless trailers": b"0\r\n" + b"X: y\r\n" * 100_000,
    "bad trailer": b"0\r\nno field\r\n\r\n",
}


def looks_complete(request: str, received: bytes) -> bool:
    """Whether a client could take that for all there is, if its connection just ended."""
    head, _, content = received.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        return content.endswith(b"0\r\n\r\n")
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            return len(content) >= int(line.partition(b":")[2])
    return True


@pytest.mark.parametrize("request_", [GET, OLD, KEPT, POST], ids=["GET", "1.0", "1.0 kept", "POST"])
@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("kind", BROKEN_OFF)
def test_an_answer_that_breaks_off_is_never_completed(
    client: Client, upstream: Scripted, kind: str, ending: str, request_: str, log: Log
) -> None:
    client.send(request_)
    line, asked = upstream.take()
    line.content(asked)
    line.send(BROKEN_OFF[kind])
    while b"\r\n\r\n" not in client.rest:
        assert client._fill()
    getattr(line, ending)()
    received, was_reset = all_of(client)
    assert received.count(b"HTTP/1.1 ") == 1
    assert received.startswith(b"HTTP/1.1 200 ")
    assert was_reset or not looks_complete(request_, received), received
    log.wait_for("broke the connection off in the middle of its answer")


@pytest.mark.parametrize("request_", [GET, OLD], ids=["GET", "1.0"])
def test_a_reset_instead_of_the_end(client: Client, upstream: Scripted, request_: str) -> None:
    client.send(request_)
    line, _ = upstream.take()
    line.send(b"HTTP/1.0 200 OK\r\n\r\nhello")
    while b"hello" not in client.rest:
        assert client._fill()
    line.reset()
    received, was_reset = all_of(client)
    assert was_reset or not looks_complete(request_, received)


@pytest.mark.parametrize("request_", [GET, OLD], ids=["GET", "1.0"])
@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_chunks_are_never_completed(
    client: Client, upstream: Scripted, kind: str, request_: str
) -> None:
    client.send(request_)
    line, _ = upstream.take()
    try:
        line.send(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n", DAMAGED[kind], b"0\r\n\r\n")
    except ConnectionError:
        pass
    received, was_reset = all_of(client)
    assert received.count(b"HTTP/1.1 ") <= 1
    assert was_reset or (received and not looks_complete(request_, received)), received
    line.ends()


def test_pipelined_requests_behind_a_broken_answer(client: Client, upstream: Scripted) -> None:
    """They get nothing: who reads could take it for the rest of the first."""
    client.send(GET + GET)
    line, _ = upstream.take()
    line.send(OK + b"Content-Length: 10\r\n\r\nhello").half_close()
    received, _ = all_of(client)
    assert received.count(b"HTTP/1.1 ") <= 1
    assert upstream.is_quiet


def test_pipelined_requests_behind_a_502(client: Client, upstream: Scripted) -> None:
    client.send(GET + GET + GET)
    upstream.take()[0].send(b"garbage\r\n\r\n")
    assert client.answer().status == 502
    line, _ = upstream.take()
    line.answer(b"second")
    assert client.answer().body == b"second"
    line.head()
    line.answer(b"third")
    assert client.answer().body == b"third"


# ---- trying again -------------------------------------------------------------------------------


def kept(client: Client, upstream: Scripted) -> Line:
    """A connection to the upstream that has carried a request and is kept."""
    client.send(GET)
    line, _ = upstream.take()
    line.answer(b"first")
    assert client.answer().body == b"first"
    return line


REPEATABLE = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"]
BARE = "{} /up/again HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("method", REPEATABLE)
def test_what_may_be_repeated_is_when_a_kept_connection_dies(
    client: Client, upstream: Scripted, method: str, ending: str
) -> None:
    line = kept(client, upstream)
    client.send(BARE.format(method))
    line.head()  # it has arrived, but nothing shows that anybody has seen it
    getattr(line, ending)()
    other, asked = upstream.take()
    assert asked.line == f"{method} /base/again HTTP/1.1"
    other.answer()
    assert client.answer(head_only=method == "HEAD").status == 200
    assert upstream.is_quiet


def test_a_kept_connection_that_ended_meanwhile(client: Client, upstream: Scripted) -> None:
    for number in range(3):
        kept(client, upstream).close()
        client.send(POST)  # has not been sent anywhere yet, so this is no repetition
        line, asked = upstream.take()
        line.content(asked)
        line.answer(b"%d" % number)
        assert client.answer().body == b"%d" % number
        line.close()


NOT_REPEATED = {
    "POST": BARE.format("POST"),
    "PATCH": BARE.format("PATCH"),
    "BREW": BARE.format("BREW"),
    "POST with content": POST,
    "PUT with content": "PUT" + POST[4:],
    "GET with content": "GET" + POST[4:],
    "chunks": (
        "PUT /up/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        "5\r\nhello\r\n0\r\n\r\n"
    ),
}  # fmt: skip


@pytest.mark.parametrize("ending", ["close", "reset"])
@pytest.mark.parametrize("kind", NOT_REPEATED)
def test_what_may_not_be_repeated_never_comes_twice(
    client: Client, upstream: Scripted, kind: str, ending: str
) -> None:
    line = kept(client, upstream)
    client.send(NOT_REPEATED[kind])
    line.content(line.head())
    getattr(line, ending)()
    assert client.answer().status == 502
    assert upstream.is_quiet
    assert len(upstream.lines) == 1


@pytest.mark.parametrize("raw", [b"H", b"\r", OK, b"HTTP/1.1 103 Early Hints\r\n\r\n"])
def test_a_single_byte_is_an_answer_that_began(client: Client, upstream: Scripted, raw: bytes) -> None:
    line = kept(client, upstream)
    client.send(GET)
    line.head()
    line.send(raw).half_close()
    answer = client.answer()
    assert (client.answer() if answer.status == 103 else answer).status == 502
    assert len(upstream.lines) == 1
    assert upstream.is_quiet


def test_once_is_enough(client: Client, upstream: Scripted) -> None:
    line = kept(client, upstream)
    client.send(GET)
    line.head()
    line.close()
    upstream.take()[0].close()  # a connection of its own dies, too
    assert client.answer().status == 502
    assert upstream.is_quiet
    assert len(upstream.lines) == 2


def test_a_new_connection_is_not_tried_again(client: Client, upstream: Scripted) -> None:
    client.send(GET)
    upstream.take()[0].close()
    assert client.answer().status == 502
    assert upstream.is_quiet
    assert len(upstream.lines) == 1


def test_several_kept_connections_that_died(
    server: QuickServer, serve: Serve, upstream: Scripted
) -> None:
    run = serve(server)
    clients = [run.connect().send(GET) for _ in range(4)]
    lines = [upstream.take()[0] for _ in clients]
    for line in lines:
        line.answer(b"first")
    for client in clients:
        assert client.answer().body == b"first"
    for client in clients:
        client.send(GET)
    for line in lines:
        line.head()
        line.close()
    for _ in clients:
        upstream.take()[0].answer(b"second")
    for client in clients:
        assert client.answer().body == b"second"
    assert upstream.is_quiet


def test_the_upstream_restarts(server: QuickServer, serve: Serve, upstream: Scripted) -> None:
    run = serve(server)
    client = run.connect()
    line = kept(client, upstream)
    line.close()
    port = upstream.port
    upstream.sock.close()
    assert client.request("GET", "/up/x").status == 502
    upstream.sock = socket.create_server(("127.0.0.1", port))
    goes_on(client, upstream)
