"""Cases 37 to 48: upstreams that fail, lie and stall, clients that leave, and what passes between."""

from __future__ import annotations

import hashlib
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quick_server.limits import Limits
from tests.faults.processes import (
    KIB,
    MIB,
    Served,
    ends,
    memory,
    reset,
    reset_peak,
    serving,
    small_client,
    until,
)
from tests.harness import Client
from tests.integration.upstreams import (
    LEAVING,
    Line,
    Scripted,
    deaf,
    flood,
    in_kernel,
    refusing,
    scripted,
)

MOST = 64 * MIB  # more than all buffers of the kernel on the way hold
AHEAD = 256 * KIB  # bytes that may wait in the proxy, each way
GET = "GET /up/x HTTP/1.1\r\nHost: localhost\r\n\r\n"
POST = "POST /up/x HTTP/1.1\r\nHost: localhost\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = (
    "GET /up/chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
)
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
BIND = """
@server.text_get("/bind/:port", 0)
def bind(req, args):
    server.bind_proxy("/up/", f"http://127.0.0.1:{args['segments']['port']}/base")
    return "bound"
"""
SHORT = {"connect_timeout": 0.4, "first_byte_timeout": 0.4, "tunnel_idle": 0.4}


@pytest.fixture
def upstream() -> Iterator[Scripted]:
    with scripted() as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that passes on to whichever upstream it is told."""
    with serving(tmp_path_factory.mktemp("proxy"), BIND) as served:
        yield served


@pytest.fixture
def proxy(shared: Served, upstream: Scripted) -> Iterator[Served]:
    """`/up/` is the upstream's `/base/`."""
    shared.get(f"/bind/{upstream.port}")
    before = len(shared.read_output())
    yield shared
    shared.close_clients()
    assert "Traceback" not in shared.read_output()[before:]


@pytest.fixture
def client(proxy: Served) -> Client:
    return proxy.connect()


def bound_to(port: int) -> str:
    return f'server.bind_proxy("/up/", "http://127.0.0.1:{port}")'


def goes_on(client: Client, upstream: Scripted) -> None:
    """The client's connection carries another request, which is answered by the upstream."""
    client.send(GET)
    line, _ = upstream.take()
    line.answer(b"next")
    assert client.answer().body == b"next"
    assert not client.rest


def whole(received: bytes) -> bool:
    """Whether a client could take that for a complete answer."""
    head, _, content = received.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        return content.endswith(b"0\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return not lengths or len(content) >= int(lengths[0].partition(b":")[2])


# ---- 37: no answer ----------------------------------------------------------------------------


def test_37_an_upstream_that_refuses(tmp_path: Path) -> None:
    """Nobody listens where the upstream should be: 502."""
    with refusing() as port, serving(tmp_path, bound_to(port)) as proxy:
        assert proxy.connect().request("GET", "/up/x").status == 502


NO_ANSWERS = {
    "text": b"hello, how are you?\r\n\r\n",
    "tls": b"\x16\x03\x01\x00\x00\xff\r\n\r\n",
    "a bad field": OK + b"Content-Length : 0\r\n\r\n",
    "nothing": b"",
    "half a head": OK + b"Content-Length: 5\r\n",
}


@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_37_an_upstream_that_sends_no_head(client: Client, upstream: Scripted, kind: str) -> None:
    """Garbage, half a head, or an end before it: 502, and the client's connection is kept."""
    client.send(GET)
    line, _ = upstream.take()
    line.send(NO_ANSWERS[kind]).half_close()
    assert client.answer().status == 502
    goes_on(client, upstream)


def test_37_an_upstream_that_does_not_accept(tmp_path: Path) -> None:
    """Connecting takes too long: 504."""
    with deaf() as port, serving(tmp_path, bound_to(port), **SHORT) as proxy:
        assert proxy.connect().request("GET", "/up/x").status == 504


@pytest.mark.parametrize("begins", [b"", OK])
def test_37_an_upstream_that_does_not_answer(tmp_path: Path, upstream: Scripted, begins: bytes) -> None:
    """No head comes in time: 504, and what the upstream says later is nobody's answer."""
    with serving(tmp_path, bound_to(upstream.port), **SHORT) as proxy:
        client = proxy.connect().send(GET)
        line, _ = upstream.take()
        line.send(begins)
        assert client.answer().status == 504
        line.ends()
        goes_on(client, upstream)


def test_37_how_long_an_upstream_has() -> None:
    """An upstream has 5 s to accept a connection and 60 s to begin its answer."""
    assert (Limits().connect_timeout, Limits().first_byte_timeout) == (5, 60)


# ---- 38 and 39: one whole answer, or none -----------------------------------------------------

HALVES = {
    "sized": OK + b"Content-Length: 10\r\n\r\nhello",
    "chunked": OK + CHUNKED + b"5\r\nhello\r\n",
    "within a chunk": OK + CHUNKED + b"9\r\nhello",
    "damaged": OK + CHUNKED + b"5\r\nhello\r\n-5\r\n",
}


@pytest.mark.parametrize("ending", ["closes", "resets"])
@pytest.mark.parametrize("kind", HALVES)
def test_38_an_upstream_that_dies_in_its_answer(
    client: Client, upstream: Scripted, kind: str, ending: str
) -> None:
    """The upstream dies in a body: the client's connection is aborted, and nothing follows."""
    client.send(GET + GET)
    line, _ = upstream.take()
    line.send(HALVES[kind])
    until(lambda: client._fill() and b"hello" in client.rest, "the half has come")
    if ending == "resets":
        line.reset()
    else:
        line.close()
    was_clean = ends(client)
    assert client.rest.count(b"HTTP/1.1 ") == 1
    assert client.rest.endswith(b"hello") or client.rest.endswith(b"hello\r\n")
    assert not was_clean or not whole(client.rest)


def test_39_answers_that_nobody_asked_for(client: Client, upstream: Scripted) -> None:
    """Two answers to one request: the client gets the first, and the next request one of its own."""
    client.send(GET)
    line, _ = upstream.take()
    line.send(OK + b"Content-Length: 5\r\n\r\nfirst" + OK + b"Content-Length: 6\r\n\r\nforged")
    assert client.answer().body == b"first"
    line.ends()  # that connection may carry no other request
    goes_on(client, upstream)


def test_39_as_many_answers_as_requests(client: Client, upstream: Scripted) -> None:
    """Pipelined requests of which the first fails have one answer each, in order."""
    client.send(GET * 3)
    upstream.take()[0].send(b"garbage\r\n\r\n")
    line, _ = upstream.take()
    line.answer(b"second")
    line.head()
    line.answer(b"third", fields=b"Connection: close\r\n")
    answers = [client.answer() for _ in range(3)]
    assert [answer.status for answer in answers] == [502, 200, 200]
    assert [answer.body for answer in answers[1:]] == [b"second", b"third"]
    client.half_close()
    assert client.at_end()


# ---- 40 to 42: fields, redirects, paths -------------------------------------------------------

HOP_BY_HOP = {
    "Keep-Alive": "timeout=5",
    "Proxy-Connection": "keep-alive",
    "Proxy-Authenticate": "Basic",
    "Proxy-Authorization": "Basic eDp5",
    "TE": "trailers",
    "Trailer": "X-Sum",
    "Upgrade": "h2c",
    "X-Mine": "1",
}
FIELDS = "".join(f"{name}: {value}\r\n" for name, value in HOP_BY_HOP.items())


def test_40_fields_of_one_hop_of_a_request(client: Client, upstream: Scripted) -> None:
    """Hop-by-hop fields of a request, and those that Connection names, do not reach the upstream."""
    client.send(
        f"GET /up/x HTTP/1.1\r\nHost: localhost\r\nConnection: x-mine\r\n{FIELDS}X-Kept: 1\r\n\r\n"
    )
    line, asked = upstream.take()
    names = {name for name, _ in asked.fields}
    assert "x-kept" in names
    assert not names & {name.lower() for name in HOP_BY_HOP}
    line.answer()
    assert client.answer().status == 200


def test_40_fields_of_one_hop_of_an_answer(client: Client, upstream: Scripted) -> None:
    """Hop-by-hop fields of an answer, and those that Connection names, do not reach the client."""
    client.send(GET)
    line, _ = upstream.take()
    line.answer(b"hi", fields=f"Connection: x-mine, close\r\n{FIELDS}X-Kept: 1\r\n".encode())
    answer = client.answer()
    names = {name.lower() for name, _ in answer.headers}
    assert answer.body == b"hi"
    assert "x-kept" in names
    assert not names & {name.lower() for name in HOP_BY_HOP} - {"connection"}
    goes_on(client, upstream)  # `close` was about the other connection


def test_40_who_asks_is_appended(client: Client, upstream: Scripted) -> None:
    """X-Forwarded-For, -Proto and -Host are appended to what the client has sent of them."""
    client.send(
        "GET /up/x HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 1.1.1.1\r\n"
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: outer.example\r\n\r\n"
    )
    line, asked = upstream.take()
    assert asked.all("x-forwarded-for") == ["1.1.1.1, 127.0.0.1"]
    assert asked.all("x-forwarded-proto") == ["https, http"]
    assert asked.all("x-forwarded-host") == ["outer.example, localhost"]
    line.answer()
    assert client.answer().status == 200


def test_40_duplicates_are_kept(client: Client, upstream: Scripted) -> None:
    """Fields of the same name pass both ways as they came, in their order."""
    client.send("GET /up/x HTTP/1.1\r\nHost: localhost\r\nCookie: a=b\r\nX-A: 1\r\nCookie: c=d\r\n\r\n")
    line, asked = upstream.take()
    assert asked.all("cookie") == ["a=b", "c=d"]
    line.answer(fields=b"Set-Cookie: e=f\r\nX-B: 1\r\nSet-Cookie: g=h\r\n")
    assert client.answer().all("set-cookie") == ["e=f", "g=h"]


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
def test_41_redirects(client: Client, upstream: Scripted, status: str) -> None:
    """A redirect is passed on as it is, and not followed."""
    client.send(GET)
    line, _ = upstream.take()
    line.answer(status=status, fields=f"Location: {upstream.url}/elsewhere\r\n".encode())
    answer = client.answer()
    assert (answer.status, answer.get("location")) == (int(status[:3]), f"{upstream.url}/elsewhere")
    assert upstream.is_quiet


RESOLVED = {"/up/a/../b": "/base/b", "/up/./a": "/base/a", "/other/../up/a": "/base/a"}


@pytest.mark.parametrize("target", RESOLVED)
def test_42_dot_segments(client: Client, upstream: Scripted, target: str) -> None:
    """Dot segments are resolved before it is decided whose path that is."""
    client.send(GET.replace("/up/x", target))
    line, asked = upstream.take()
    assert asked.target == RESOLVED[target]
    line.answer()
    assert client.answer().status == 200


ESCAPING = {
    "/up/..%2fsecret": 400,
    "/up/%2e%2e%2fsecret": 400,
    "/up/a/..%2f..%2f..%2fsecret": 400,
    "/up/..%5csecret": 400,
    "/up/../secret": 404,  # resolved: somebody else's path, of whom there is none
    "/up/%2e%2e/secret": 404,
}


@pytest.mark.parametrize("target", ESCAPING)
def test_42_paths_that_leave_the_prefix(client: Client, upstream: Scripted, target: str) -> None:
    """What leaves the prefix when decoded: 400; by plain dot segments: 404; neither gets upstream."""
    assert client.request("GET", target).status == ESCAPING[target]
    assert upstream.is_quiet


# ---- 43 and 44: the pace of the slower, and its end -------------------------------------------

PIECE = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(1536))


def test_43_a_stream_passes_at_once(client: Client, upstream: Scripted) -> None:
    """Each byte of a stream is with the client within 50 ms."""
    client.send(GET)
    line, _ = upstream.take()
    took = []
    line.send(OK + CHUNKED)
    for _ in range(10):
        began = time.monotonic()
        line.send(b"1\r\nx\r\n")
        until(lambda: client._fill() and client.rest.endswith(b"1\r\nx\r\n"), "a byte")
        client.rest = b""
        took.append(time.monotonic() - began)
    assert min(took) < 0.05  # others use this machine, too


def test_43_a_slow_client(proxy: Served, upstream: Scripted) -> None:
    """A client that reads nothing pauses the upstream: at most 256 KiB wait in the proxy."""
    before = reset_peak(proxy.pid)
    with small_client(proxy.port) as client:
        client.send(GET)
        line, _ = upstream.take()
        sent = line.send(OK + b"Content-Length: %d\r\n\r\n" % (1 << 40)).flood(PIECE, MOST)
        assert sent < MOST
        assert sent - in_kernel(upstream.port, proxy.port) <= AHEAD
    assert memory(proxy.pid, "VmHWM") - before < 4 * MIB


def test_43_a_slow_upstream(proxy: Served, upstream: Scripted) -> None:
    """An upstream that reads nothing pauses the client: at most 256 KiB wait in the proxy."""
    before = reset_peak(proxy.pid)
    client = proxy.connect().send(f"{POST}Content-Length: {MOST}\r\n\r\n")
    line, _ = upstream.take()
    sent = flood(client.sock, PIECE, MOST)
    assert sent < MOST
    assert sent - len(line.rest) - in_kernel(upstream.port, proxy.port) <= AHEAD
    assert memory(proxy.pid, "VmHWM") - before < 4 * MIB


LEFT_AT = {"while it waits": b"", "in the answer": OK + CHUNKED + b"5\r\nhello\r\n"}


@pytest.mark.parametrize("when", LEFT_AT)
@pytest.mark.parametrize("how", ["closes", "resets"])
def test_44_a_client_that_leaves(client: Client, upstream: Scripted, when: str, how: str) -> None:
    """The client leaves: within a second the upstream's connection is closed."""
    client.send(GET)
    line, _ = upstream.take()
    line.send(LEFT_AT[when])
    if LEFT_AT[when]:
        until(lambda: client._fill() and b"hello" in client.rest, "the answer has begun")
    if how == "resets":
        reset(client)
    else:
        client.close()
    assert line.ends(LEAVING) == b""


# ---- 45: tunnels ------------------------------------------------------------------------------


def tunnel(client: Client, upstream: Scripted) -> Line:
    client.send(UPGRADE)
    line, asked = upstream.take()
    assert asked.all("upgrade") == ["websocket"]
    line.send(SWITCHING)
    answer = client.answer()
    assert (answer.status, answer.get("upgrade")) == (101, "websocket")
    return line


def test_45_a_tunnel(client: Client, upstream: Scripted) -> None:
    """After a 101 bytes pass both ways as they are."""
    line = tunnel(client, upstream)
    for data in (b"\x00\xff", b"GET / HTTP/1.1\r\n\r\n", b"x" * 5000):
        client.send(data)
        assert line.exactly(len(data)) == data
        line.send(data)
        assert client._exactly(len(data)) == data


def test_45_one_side_of_a_tunnel_ends(client: Client, upstream: Scripted) -> None:
    """A half-close passes through a tunnel, and the other direction goes on."""
    line = tunnel(client, upstream)
    client.send(b"last words").half_close()
    assert line.ends() == b"last words"
    line.send(b"an answer")
    assert client._exactly(9) == b"an answer"
    line.half_close()
    assert client.at_end()


def test_45_an_idle_tunnel(tmp_path: Path, upstream: Scripted) -> None:
    """A tunnel through which nothing passes for 10 minutes, or what the limit says, is closed."""
    assert Limits().tunnel_idle == 600
    with serving(tmp_path, bound_to(upstream.port), **SHORT) as proxy:
        client = proxy.connect()
        line = tunnel(client, upstream)
        for _ in range(4):  # longer than that in all
            assert not select.select([client.sock, line.sock], [], [], 0.15)[0]
            client.send(b"x")
            assert line.exactly(1) == b"x"
        ends(client)
        assert (client.rest, line.ends()) == (b"", b"")


# ---- 46 to 48: early answers, answers without content, trying again ---------------------------


def test_46_an_answer_while_the_client_uploads(client: Client, upstream: Scripted) -> None:
    """An answer that comes before the upload has ended is relayed at once."""
    client.send(f"{POST}Content-Length: 10000000\r\n\r\nhello")
    line, _ = upstream.take()
    line.answer(b"too much", "413 Content Too Large", b"Connection: close\r\n")
    answer = client.answer()
    assert (answer.status, answer.body) == (413, b"too much")


BODILESS = {
    "HEAD": ("HEAD", b"200 OK\r\nContent-Length: 500"),
    "204": ("GET", b"204 No Content"),
    "304": ("GET", b"304 Not Modified\r\nContent-Length: 500"),
}


@pytest.mark.parametrize("kind", BODILESS)
def test_47_answers_without_content(client: Client, upstream: Scripted, kind: str) -> None:
    """Answers to HEAD, 204 and 304 are complete with their head: both connections go on at once."""
    method, start = BODILESS[kind]
    client.send(GET.replace("GET", method))
    line, _ = upstream.take()
    line.send(b"HTTP/1.1 " + start + b"\r\n\r\n")
    assert client.answer(head_only=True).status == int(start[:3])
    client.send(GET)
    assert line.head().line.startswith("GET ")  # on the same connection
    line.answer(b"next")
    assert client.answer().body == b"next"


def test_47_two_framings_of_an_answer(client: Client, upstream: Scripted) -> None:
    """An upstream's answer with Transfer-Encoding and Content-Length is a 502."""
    client.send(GET)
    line, _ = upstream.take()
    line.send(OK + b"Content-Length: 5\r\n" + CHUNKED + b"0\r\n\r\n")
    assert client.answer().status == 502
    line.ends()
    goes_on(client, upstream)


def used(client: Client, upstream: Scripted) -> Line:
    """A connection to the upstream that has carried a request and is kept."""
    client.send(GET)
    line, _ = upstream.take()
    line.answer(b"first")
    assert client.answer().body == b"first"
    return line


def test_48_a_reused_connection_that_dies(client: Client, upstream: Scripted) -> None:
    """A GET on a reused connection that dies before a byte of the answer is sent once more."""
    line = used(client, upstream)
    client.send(GET)
    line.head()
    line.close()
    other, _ = upstream.take()
    other.answer(b"second")
    assert client.answer().body == b"second"
    assert upstream.is_quiet


NOT_REPEATED = {
    "a body": f"{POST}Content-Length: 5\r\n\r\nhello",
    "a PUT with a body": "PUT" + POST[4:] + "Content-Length: 5\r\n\r\nhello",
    "a POST without a body": f"{POST}Content-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("kind", NOT_REPEATED)
def test_48_what_is_not_sent_twice(client: Client, upstream: Scripted, kind: str) -> None:
    """A request with a body, or that may change something, is never sent twice: 502."""
    line = used(client, upstream)
    client.send(NOT_REPEATED[kind])
    line.content(line.head())
    line.close()
    assert client.answer().status == 502
    assert upstream.is_quiet
    assert len(upstream.lines) == 1


def test_48_a_new_connection_that_dies(client: Client, upstream: Scripted) -> None:
    """A request on a connection of its own is not sent again: 502."""
    client.send(GET)
    upstream.take()[0].close()
    assert client.answer().status == 502
    assert upstream.is_quiet
    assert len(upstream.lines) == 1


def test_48_an_answer_that_began(client: Client, upstream: Scripted) -> None:
    """Nothing is sent again once a byte of the answer has come: 502."""
    line = used(client, upstream)
    client.send(GET)
    line.head()
    line.send(b"H").half_close()
    assert client.answer().status == 502
    assert upstream.is_quiet
    assert len(upstream.lines) == 1
