"""Cases 37 to 48: upstreams that fail, lie and stall, clients that leave, and what passes between."""

from __future__ import annotations

import hashlib
import select
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from quick_server.limits import Limits
from tests.faults.conftest import Observed
from tests.faults.peers import Proxy, proxying
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
)
from tests.harness import PATIENCE, Client
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

pytestmark = pytest.mark.peers("nginx")  # the others are no proxies

HELD_BACK = 5.0  # seconds until what does not come counts as held back; with ours it comes
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
def shared(origin_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served | None]:
    """A server of ours that passes on to whichever upstream it is told; None if a peer is asked."""
    if origin_name != "quick_server":
        yield None
        return
    with serving(tmp_path_factory.mktemp("proxy"), BIND) as served:
        yield served


@pytest.fixture
def proxy(
    origin_name: str, shared: Served | None, tmp_path: Path, upstream: Scripted
) -> Iterator[Proxy]:
    """`/up/` is the upstream's `/base/`."""
    if shared is None:
        with proxying(origin_name, tmp_path, upstream.port) as peer:
            yield peer
        return
    shared.get(f"/bind/{upstream.port}")
    before = len(shared.read_output())
    yield shared
    shared.close_clients()
    assert "Traceback" not in shared.read_output()[before:]


@pytest.fixture
def client(proxy: Proxy) -> Client:
    return proxy.connect()


@contextmanager
def otherwise(observed: Observed, what: str) -> Iterator[None]:
    """If what is done here fails, that was observed."""
    try:
        yield
    except BaseException:
        observed(what)
        raise


def status_of(client: Client) -> str:
    """The status of the next answer, or what came instead."""
    try:
        return str(client.answer().status)
    except ValueError:
        return "what it sent, without a head"
    except (AssertionError, OSError):
        return "no answer"


def goes_on(client: Client, upstream: Scripted) -> None:
    """The client's connection carries another request, which is answered by the upstream."""
    client.send(GET)
    line, _ = upstream.take()
    line.answer(b"next")
    assert client.answer().body == b"next"
    assert not client.rest


def keeps(client: Client, upstream: Scripted) -> str:
    """What becomes of the client's connection, in a word."""
    try:
        goes_on(client, upstream)
    except (AssertionError, OSError, ValueError):
        return "closes"
    return "keeps"


def arrives(client: Client, marker: bytes) -> bool:
    """Whether those bytes come, if not at once."""
    client.sock.settimeout(HELD_BACK)
    try:
        while marker not in client.rest:
            if not client._fill():
                return False
    except TimeoutError:
        return False
    finally:
        client.sock.settimeout(PATIENCE)
    return True


def whole(received: bytes) -> bool:
    """Whether a client could take that for a complete answer."""
    head, _, content = received.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        return content.endswith(b"0\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return not lengths or len(content) >= int(lengths[0].partition(b":")[2])


# ---- 37: no answer ----------------------------------------------------------------------------


def test_37_an_upstream_that_refuses(origin_name: str, tmp_path: Path, observed: Observed) -> None:
    """Nobody listens where the upstream should be: 502."""
    with refusing() as port, proxying(origin_name, tmp_path, port) as proxy:
        heard = status_of(proxy.connect().send(GET))
    observed(heard)
    assert heard == "502"


NO_ANSWERS = {
    "text": b"hello, how are you?\r\n\r\n",
    "tls": b"\x16\x03\x01\x00\x00\xff\r\n\r\n",
    "a bad field": OK + b"Content-Length : 0\r\n\r\n",
    "nothing": b"",
    "half a head": OK + b"Content-Length: 5\r\n",
}


@pytest.mark.parametrize("kind", NO_ANSWERS)
def test_37_an_upstream_that_sends_no_head(
    client: Client, upstream: Scripted, kind: str, observed: Observed
) -> None:
    """Garbage, half a head, or an end before it: 502, and the client's connection is kept."""
    client.send(GET)
    line, _ = upstream.take()
    line.send(NO_ANSWERS[kind]).half_close()
    heard = f"{status_of(client)}, {keeps(client, upstream)}"
    observed(heard)
    assert heard == "502, keeps"


def test_37_an_upstream_that_does_not_accept(
    origin_name: str, tmp_path: Path, observed: Observed
) -> None:
    """Connecting takes too long: 504."""
    with deaf() as port, proxying(origin_name, tmp_path, port, SHORT) as proxy:
        heard = status_of(proxy.connect().send(GET))
    observed(heard)
    assert heard == "504"


@pytest.mark.parametrize("begins", [b"", OK], ids=["nothing", "half a head"])
def test_37_an_upstream_that_does_not_answer(
    origin_name: str, tmp_path: Path, upstream: Scripted, begins: bytes, observed: Observed
) -> None:
    """No head comes in time: 504, and what the upstream says later is nobody's answer."""
    with proxying(origin_name, tmp_path, upstream.port, SHORT) as proxy:
        client = proxy.connect().send(GET)
        line, _ = upstream.take()
        line.send(begins)
        heard = f"{status_of(client)}, {keeps(client, upstream)}"
        observed(heard)
        assert heard == "504, keeps"
        line.ends()


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
    client: Client, upstream: Scripted, kind: str, ending: str, observed: Observed
) -> None:
    """The upstream dies in a body: the client's connection is aborted, and nothing follows."""
    client.send(GET + GET)
    line, _ = upstream.take()
    line.send(HALVES[kind])
    passed_on = arrives(client, b"hello")
    if ending == "resets":
        line.reset()
    else:
        line.close()
    was_clean = ends(client)
    answers = client.rest.count(b"HTTP/1.1 ")
    aborted = not was_clean or not whole(client.rest)
    heard = ("aborted" if aborted else "looks complete") if answers else "no answer"
    observed(heard if passed_on else f"{heard}, what came before is held back")
    assert (answers, aborted, passed_on) == (1, True, True)
    assert client.rest.endswith((b"hello", b"hello\r\n"))


def test_39_answers_that_nobody_asked_for(
    client: Client, upstream: Scripted, observed: Observed
) -> None:
    """Two answers to one request: the client gets the first, and the next request one of its own."""
    client.send(GET)
    line, _ = upstream.take()
    line.send(OK + b"Content-Length: 5\r\n\r\nfirst" + OK + b"Content-Length: 6\r\n\r\nforged")
    heard = f"{client.answer().body.decode()}, {keeps(client, upstream)}"
    observed(heard)
    assert heard == "first, keeps"
    line.ends()  # that connection may carry no other request


def test_39_as_many_answers_as_requests(client: Client, upstream: Scripted, observed: Observed) -> None:
    """Pipelined requests of which the first fails have one answer each, in order."""
    client.send(GET * 3)
    with otherwise(observed, "the others are not passed on"):
        upstream.take()[0].send(NO_ANSWERS["a bad field"])
        for body in (b"second", b"third"):
            upstream.next_request()[0].answer(body)
    answers = [client.answer() for _ in range(3)]
    heard = ", ".join(f"{answer.status}" for answer in answers)
    observed(heard)
    assert heard == "502, 200, 200"
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


def those_passed_on(names: set[str]) -> str:
    """Which fields of one hop are among them."""
    found = sorted(names & {name.lower() for name in HOP_BY_HOP})
    return f"passes on {', '.join(found) or 'none'}"


def test_40_fields_of_one_hop_of_a_request(
    client: Client, upstream: Scripted, observed: Observed
) -> None:
    """Hop-by-hop fields of a request, and those that Connection names, do not reach the upstream."""
    head = f"GET /up/x HTTP/1.1\r\nHost: localhost\r\nConnection: x-mine\r\n{FIELDS}X-Kept: 1\r\n"
    client.send(f"{head}\r\n")
    line, asked = upstream.take()
    names = {name for name, _ in asked.fields}
    observed(those_passed_on(names))
    assert those_passed_on(names) == "passes on none"
    assert "x-kept" in names
    line.answer()
    assert client.answer().status == 200


def test_40_fields_of_one_hop_of_an_answer(
    client: Client, upstream: Scripted, observed: Observed
) -> None:
    """Hop-by-hop fields of an answer, and those that Connection names, do not reach the client."""
    client.send(GET)
    line, _ = upstream.take()
    line.answer(b"hi", fields=f"Connection: x-mine, close\r\n{FIELDS}X-Kept: 1\r\n".encode())
    answer = client.answer()
    names = {name.lower() for name, _ in answer.headers}
    observed(those_passed_on(names))
    assert those_passed_on(names) == "passes on none"
    assert (answer.body, "x-kept" in names) == (b"hi", True)
    goes_on(client, upstream)  # `close` was about the other connection


def test_40_who_asks_is_appended(client: Client, upstream: Scripted, observed: Observed) -> None:
    """X-Forwarded-For, -Proto and -Host are appended to what the client has sent of them."""
    client.send(
        "GET /up/x HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 1.1.1.1\r\n"
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: outer.example\r\n\r\n"
    )
    line, asked = upstream.take()
    told = {name: asked.all(f"x-forwarded-{name}") for name in ("for", "proto", "host")}
    appended = [name for name, values in told.items() if "," in "".join(values)]
    observed(f"appended: {', '.join(appended) or 'none'}")
    assert told["for"] == ["1.1.1.1, 127.0.0.1"]
    assert told["proto"] == ["https, http"]
    assert told["host"] == ["outer.example, localhost"]
    line.answer()
    assert client.answer().status == 200


def test_40_duplicates_are_kept(client: Client, upstream: Scripted, observed: Observed) -> None:
    """Fields of the same name pass both ways as they came, in their order."""
    client.send(f"{GET[:-2]}Cookie: a=b\r\nX-A: 1\r\nCookie: c=d\r\n\r\n")
    line, asked = upstream.take()
    line.answer(fields=b"Set-Cookie: e=f\r\nX-B: 1\r\nSet-Cookie: g=h\r\n")
    found = (asked.all("cookie"), client.answer().all("set-cookie"))
    observed(f"{found[0]} up, {found[1]} down")
    assert found == (["a=b", "c=d"], ["e=f", "g=h"])


@pytest.mark.parametrize("status", ["301 Moved Permanently", "302 Found", "307 Temporary Redirect"])
def test_41_redirects(client: Client, upstream: Scripted, status: str, observed: Observed) -> None:
    """A redirect is passed on as it is, and not followed."""
    client.send(GET)
    line, _ = upstream.take()
    line.answer(status=status, fields=b"Location: http://other.example/x\r\n")
    answer = client.answer()
    observed(f"{answer.status} to {answer.get('location')}")
    assert (answer.status, answer.get("location")) == (int(status[:3]), "http://other.example/x")
    assert upstream.is_quiet


RESOLVED = {"/up/a/../b": "/base/b", "/up/./a": "/base/a", "/other/../up/a": "/base/a"}


@pytest.mark.parametrize("target", RESOLVED)
def test_42_dot_segments(client: Client, upstream: Scripted, target: str, observed: Observed) -> None:
    """Dot segments are resolved before it is decided whose path that is."""
    client.send(GET.replace("/up/x", target))
    with otherwise(observed, "not passed on"):
        line, asked = upstream.take()
    observed(asked.target)
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
def test_42_paths_that_leave_the_prefix(
    client: Client, upstream: Scripted, target: str, observed: Observed
) -> None:
    """What leaves the prefix when decoded: 400; by plain dot segments: 404; neither gets upstream."""
    client.send(GET.replace("/up/x", target))
    if upstream.sock in select.select([client.sock, upstream.sock], [], [], PATIENCE)[0]:
        observed(f"passed on as {upstream.take()[1].target}")
    else:
        observed(heard := status_of(client))
        assert heard == str(ESCAPING[target])
    assert upstream.is_quiet
    assert not upstream.lines


# ---- 43 and 44: the pace of the slower, and its end -------------------------------------------

PIECE = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(1536))


def test_43_a_stream_passes_at_once(client: Client, upstream: Scripted, observed: Observed) -> None:
    """Each byte of a stream is with the client within 50 ms."""
    client.send(GET)
    line, _ = upstream.take()
    line.send(OK + CHUNKED)
    took = []
    for number in range(10):
        began = time.monotonic()
        line.send(b"1\r\n%d\r\n" % number)
        with otherwise(observed, "held back"):
            assert arrives(client, b"1\r\n%d\r\n" % number)
        took.append(time.monotonic() - began)
    observed("within 50 ms" if min(took) < 0.05 else "later")
    assert min(took) < 0.05  # others use this machine, too


def test_43_a_slow_client(proxy: Proxy, upstream: Scripted, observed: Observed) -> None:
    """A client that reads nothing pauses the upstream: at most 256 KiB wait in the proxy."""
    before = reset_peak(proxy.pid)
    with small_client(proxy.port) as client:
        client.send(GET)
        line, _ = upstream.take()
        sent = line.send(OK + b"Content-Length: %d\r\n\r\n" % (1 << 40)).flood(PIECE, MOST)
        waiting = sent - in_kernel(upstream.port, proxy.port)
        observed(ahead(sent, waiting))
        assert sent < MOST
        assert waiting <= AHEAD
    assert memory(proxy.pid, "VmHWM") - before < 4 * MIB


def ahead(sent: int, waiting: int) -> str:
    """How far one side is ahead of the other."""
    if sent >= MOST:
        return f"not paused within {MOST // MIB} MiB"
    return "at most 256 KiB" if waiting <= AHEAD else f"{waiting / MIB:.1f} MiB wait"


def test_43_a_slow_upstream(proxy: Proxy, upstream: Scripted, observed: Observed) -> None:
    """An upstream that reads nothing pauses the client: at most 256 KiB wait in the proxy."""
    before = reset_peak(proxy.pid)
    client = proxy.connect().send(f"{POST}Content-Length: {MOST + 1}\r\n\r\n")
    sent = flood(client.sock, PIECE, MOST)
    with otherwise(observed, ahead(sent, 0)):
        assert sent < MOST
        line, _ = upstream.take()
    waiting = sent - len(line.rest) - in_kernel(upstream.port, proxy.port)
    observed(ahead(sent, waiting))
    assert waiting <= AHEAD
    assert memory(proxy.pid, "VmHWM") - before < 4 * MIB


LEFT_AT = {"while it waits": b"", "in the answer": OK + CHUNKED + b"5\r\nhello\r\n"}


@pytest.mark.parametrize("when", LEFT_AT)
@pytest.mark.parametrize("how", ["closes", "resets"])
def test_44_a_client_that_leaves(
    client: Client, upstream: Scripted, when: str, how: str, observed: Observed
) -> None:
    """The client leaves: within a second the upstream's connection is closed."""
    client.send(GET)
    line, _ = upstream.take()
    line.send(LEFT_AT[when])
    with otherwise(observed, "what the upstream has sent is held back"):
        assert not LEFT_AT[when] or arrives(client, b"hello")
    if how == "resets":
        reset(client)
    else:
        client.close()
    with otherwise(observed, "not within a second"):
        assert line.ends(LEAVING) == b""
    observed("closed")


# ---- 45: tunnels ------------------------------------------------------------------------------


def tunnel(client: Client, upstream: Scripted) -> Line:
    """The upstream's end of what a 101 makes of two connections."""
    client.send(UPGRADE)
    line, asked = upstream.take()
    assert asked.all("upgrade") == ["websocket"]
    line.send(SWITCHING)
    answer = client.answer()
    assert (answer.status, answer.get("upgrade")) == (101, "websocket")
    return line


def test_45_a_tunnel(client: Client, upstream: Scripted, observed: Observed) -> None:
    """After a 101 bytes pass both ways as they are."""
    with otherwise(observed, "no tunnel"):
        line = tunnel(client, upstream)
        for data in (b"\x00\xff", b"GET / HTTP/1.1\r\n\r\n", b"x" * 5000):
            client.send(data)
            assert line.exactly(len(data)) == data
            line.send(data)
            assert client._exactly(len(data)) == data
    observed("a tunnel")


def test_45_one_side_of_a_tunnel_ends(client: Client, upstream: Scripted, observed: Observed) -> None:
    """A half-close passes through a tunnel, and the other direction goes on."""
    line = tunnel(client, upstream)
    client.send(b"last words").half_close()
    with otherwise(observed, "does not pass"):
        assert line.ends() == b"last words"
    with otherwise(observed, "ends both directions"):
        line.send(b"an answer")
        assert client._exactly(9) == b"an answer"
    observed("passes")
    line.half_close()
    assert client.at_end()


def test_45_an_idle_tunnel(
    origin_name: str, tmp_path: Path, upstream: Scripted, observed: Observed
) -> None:
    """A tunnel through which nothing passes for 10 minutes, or what the limit says, is closed."""
    assert Limits().tunnel_idle == 600
    with proxying(origin_name, tmp_path, upstream.port, SHORT) as proxy:
        client = proxy.connect()
        line = tunnel(client, upstream)
        with otherwise(observed, "is closed although bytes of one direction pass"):
            for _ in range(4):  # longer than that in all
                assert not select.select([client.sock, line.sock], [], [], 0.15)[0]
                client.send(b"x")
                assert line.exactly(1) == b"x"
        ends(client)
        observed("is closed")
        assert (client.rest, line.ends()) == (b"", b"")


# ---- 46 to 48: early answers, answers without content, trying again ---------------------------


def test_46_an_answer_while_the_client_uploads(
    client: Client, upstream: Scripted, observed: Observed
) -> None:
    """An answer that comes before the upload has ended is relayed at once."""
    client.send(f"{POST}Content-Length: 10000000\r\n\r\nhello")
    with otherwise(observed, "the upstream is not asked before the upload has ended"):
        assert select.select([upstream.sock], [], [], HELD_BACK)[0]
    line, _ = upstream.take()
    line.answer(b"too much", "413 Content Too Large", b"Connection: close\r\n")
    answer = client.answer()
    observed(f"{answer.status}")
    assert (answer.status, answer.body) == (413, b"too much")


BODILESS = {
    "HEAD": ("HEAD", b"200 OK\r\nContent-Length: 500"),
    "204": ("GET", b"204 No Content"),
    "304": ("GET", b"304 Not Modified\r\nContent-Length: 500"),
}


@pytest.mark.parametrize("kind", BODILESS)
def test_47_answers_without_content(
    client: Client, upstream: Scripted, kind: str, observed: Observed
) -> None:
    """Answers to HEAD, 204 and 304 are complete with their head: both connections go on at once."""
    method, start = BODILESS[kind]
    client.send(GET.replace("GET", method))
    line, _ = upstream.take()
    line.send(b"HTTP/1.1 " + start + b"\r\n\r\n")
    with otherwise(observed, "the answer does not come"):
        assert client.answer(head_only=True).status == int(start[:3])
    with otherwise(observed, "the next request does not come on that connection"):
        client.send(GET)
        assert line.head().line.startswith("GET ")
        line.answer(b"next")
        assert client.answer().body == b"next"
    observed("both go on")


def test_47_two_framings_of_an_answer(client: Client, upstream: Scripted, observed: Observed) -> None:
    """An upstream's answer with Transfer-Encoding and Content-Length is a 502."""
    client.send(GET)
    line, _ = upstream.take()
    line.send(OK + b"Content-Length: 5\r\n" + CHUNKED + b"0\r\n\r\n")
    observed(heard := status_of(client))
    assert heard == "502"
    line.ends()
    goes_on(client, upstream)


def used(client: Client, upstream: Scripted) -> Line:
    """A connection to the upstream that has carried a request and is kept."""
    client.send(GET)
    line, _ = upstream.take()
    line.answer(b"first")
    assert client.answer().body == b"first"
    return line


def told(client: Client, upstream: Scripted) -> str:
    """What the client gets, and whether the upstream was asked once more, which leaves it again."""
    again = upstream.sock in select.select([client.sock, upstream.sock], [], [], PATIENCE)[0]
    if again:
        upstream.take()[0].close()
    return f"{status_of(client)}{', sent twice' if again else ''}"


def test_48_a_reused_connection_that_dies(
    client: Client, upstream: Scripted, observed: Observed
) -> None:
    """A GET on a reused connection that dies before a byte of the answer is sent once more."""
    line = used(client, upstream)
    client.send(GET)
    line.head()
    line.close()
    with otherwise(observed, "not sent again"):
        other, _ = upstream.take()
    observed("sent once more")
    other.answer(b"second")
    assert client.answer().body == b"second"
    assert upstream.is_quiet


NOT_REPEATED = {
    "a POST with a body": f"{POST}Content-Length: 5\r\n\r\nhello",
    "a PUT with a body": "PUT" + POST[4:] + "Content-Length: 5\r\n\r\nhello",
    "a POST without a body": f"{POST}Content-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("kind", NOT_REPEATED)
def test_48_what_is_not_sent_twice(
    client: Client, upstream: Scripted, kind: str, observed: Observed
) -> None:
    """A request with a body, or that may change something, is never sent twice: 502."""
    line = used(client, upstream)
    client.send(NOT_REPEATED[kind])
    line.content(line.head())
    line.close()
    observed(heard := told(client, upstream))
    assert heard == "502"
    assert upstream.is_quiet


def test_48_a_new_connection_that_dies(client: Client, upstream: Scripted, observed: Observed) -> None:
    """A request on a connection of its own is not sent again: 502."""
    client.send(GET)
    upstream.take()[0].close()
    observed(heard := told(client, upstream))
    assert heard == "502"
    assert upstream.is_quiet


def test_48_an_answer_that_began(client: Client, upstream: Scripted, observed: Observed) -> None:
    """Nothing is sent again once a byte of the answer has come: 502."""
    line = used(client, upstream)
    client.send(GET)
    line.head()
    line.send(b"H").half_close()
    observed(heard := told(client, upstream))
    assert heard == "502"
    assert upstream.is_quiet
