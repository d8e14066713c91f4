"""Cases 61 to 70: too many clients, slow ones, broken ones, and threads that are all busy."""

from __future__ import annotations

import json
import re
import resource
import select
import selectors
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from quick_server.limits import Limits
from tests.certificates import Authority, Issued
from tests.faults.conftest import Observed
from tests.faults.peers import alone
from tests.faults.processes import (
    KIB,
    MIB,
    Served,
    cpu_seconds,
    descriptors,
    descriptors_at_rest,
    ends,
    memory,
    reset,
    serving,
    small_client,
    threads,
    until,
)
from tests.harness import Client
from tests.integration.upstreams import in_kernel, scripted
from tests.wire.origins import Origin

GET = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"
SLOW = "GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n"
THREADS = 8  # that handlers have

# `/held` is answered once SIGUSR1 has come, `/begun` tells how many wait for it.
HELD = """
import signal

gate = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: gate.set())
begun = []


@server.text_get("/held")
def held(req, args):
    print("holding", flush=True)
    gate.wait(20)
    return "held"
"""


def hold(served: Served, count: int) -> list[Client]:
    """So many clients whose requests have threads of the pool."""
    before = served.read_output().count("holding")
    clients = [served.connect().send(SLOW) for _ in range(count)]
    until(lambda: served.read_output().count("holding") == before + count, "all have begun")
    return clients


# ---- 61 and 62: too many connections ------------------------------------------------------------


def test_61_no_descriptors_left(origin_name: str, tmp_path: Path, observed: Observed) -> None:
    """Out of descriptors accepting rests, 0.1 s at a time, with one log line; who idles makes room."""
    assert 0.1 <= Limits().accept_pause <= 1
    with alone(origin_name, tmp_path) as origin, ExitStack() as stack:
        resource.prlimit(origin.pid, resource.RLIMIT_NOFILE, (60, 60))
        clients = [stack.enter_context(closing(origin.connect())) for _ in range(100)]
        for client in clients:
            client.send(GET)
        select.select([], [], [], 0.5)  # by now those are answered that can be
        spent = cpu_seconds(origin.pid)
        said, began = origin.output.read_bytes().count(b"\n"), time.monotonic()
        select.select([], [], [], 2)
        passed = time.monotonic() - began
        share = (cpu_seconds(origin.pid) - spent) / passed
        lines = origin.output.read_bytes().count(b"\n") - said
        served = sum(_is_answered(client) for client in clients)
        for client in clients:
            client.close()
        recovers = any(_answers(origin) for _ in range(3))
        log = "logs a flood" if lines > passed + 1 else "quiet"
        goes_on = "recovers" if recovers else "does not recover"
        observed(
            f"{'rests' if share < 0.05 else 'spins'}, {log}, {goes_on}; {served} of 100 are served"
        )
        assert share < 0.05
        assert lines <= passed + 1
        assert recovers
        assert 40 < served < 60


def _is_answered(client: Client) -> bool:
    """Whether an answer is there, and the connection goes on."""
    try:
        while select.select([client.sock], [], [], 0)[0]:
            if not client._fill():
                return False
    except ConnectionError:
        return False
    return client.rest.endswith(b"hello")


def _answers(origin: Origin) -> bool:
    """Whether a client that comes now gets an answer within a few seconds."""
    client = origin.connect()
    client.sock.settimeout(3)
    try:
        return client.request("GET", "/hello").body == b"hello"
    except (AssertionError, OSError):
        return False
    finally:
        client.close()


def test_62_the_longest_idle_connection_makes_room(tmp_path: Path) -> None:
    """`max_connections` is reached: the connection that is idle the longest makes room."""
    assert Limits().max_connections == 16384
    with serving(tmp_path, limits={"max_connections": 4}) as served:
        clients = [served.connect() for _ in range(4)]
        order = (2, 0, 3, 1)
        for number in order:
            assert clients[number].request("GET", "/hello").body == b"hello"
        half = clients[2].send(GET[:20])  # the first of them is idle no longer
        for number in (0, 3):
            assert served.connect().request("GET", "/hello").body == b"hello"
            assert clients[number].at_end()
        assert half.send(GET[20:]).answer().body == b"hello"
        assert clients[1].request("GET", "/hello").body == b"hello"


def test_62_nobody_is_idle(tmp_path: Path) -> None:
    """`max_connections` is reached and none is idle: who connects waits, which is logged once."""
    with serving(tmp_path, HELD, limits={"max_connections": 3}) as served:
        holding = hold(served, 3)
        waiting = served.connect().send(GET)
        served.wait_for("cannot accept connections: there are as many as there may be")
        before = cpu_seconds(served.pid)
        assert not select.select([waiting.sock], [], [], 1)[0]
        assert cpu_seconds(served.pid) - before < 0.1
        served.signal(signal.SIGUSR1)
        assert waiting.answer().body == b"hello"
        assert {client.answer().body for client in holding[1:]} == {b"held"}
        assert served.read_output().count("cannot accept connections") == 1


# ---- 63 and 64: slow senders and slow readers ---------------------------------------------------

SHORT = {"head_timeout": 0.6, "body_timeout": 0.6, "idle_timeout": 0.6, "write_timeout": 0.6}
SOONEST = 0.5  # seconds after which what takes 0.6 s may happen
NGINX_SHORT = "client_header_timeout 600ms; client_body_timeout 600ms; keepalive_timeout 600ms;"
IMPATIENT = {
    "nginx": [NGINX_SHORT],
    "waitress": ["--channel-timeout=1", "--cleanup-interval=1"],
    "uvicorn": ["--timeout-keep-alive=1"],  # it has no other
}
"""The shortest timeouts that there are options for."""


@pytest.fixture(scope="module")
def impatient(
    origin_name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Client]]:
    """A server whose timeouts are all short; connects to it."""
    folder = tmp_path_factory.mktemp("impatient")
    if origin_name == "quick_server":
        echo = 'server.text_post("/echo")(lambda req, args: req.body())'
        with serving(folder, echo, limits=SHORT) as served:
            yield served.connect
    else:
        with alone(origin_name, folder, options=IMPATIENT[origin_name]) as origin:
            yield origin.connect


@pytest.fixture
def slow(impatient: Callable[[], Client]) -> Iterator[Client]:
    """A client that is going to be slow."""
    client = impatient()
    yield client
    client.close()


def fate(client: Client) -> str:
    """What becomes of a connection on which nothing more is sent."""
    client.sock.settimeout(5)
    try:
        while client._fill():
            pass
        end = "closed"
    except TimeoutError:
        end = "still open after 5 s"
    except ConnectionError:
        end = "reset"
    answer = re.match(rb"HTTP/1\.1 (\d+)", client.rest)
    return f"{answer[1].decode()}, {end}" if answer else end


def test_63_how_long_a_sender_has() -> None:
    """10 s for a whole head, 30 s of silence within a body, 60 s for a kept connection."""
    limits = Limits()
    assert (limits.head_timeout, limits.body_timeout, limits.idle_timeout) == (10, 30, 60)


def test_63_no_byte(slow: Client, origin_name: str, observed: Observed) -> None:
    """A connection on which nothing comes is closed after 10 s, without an answer."""
    began = time.monotonic()
    observed(heard := fate(slow))
    assert heard == "closed"
    assert time.monotonic() - began > SOONEST


def test_63_half_a_head(slow: Client, origin_name: str, observed: Observed) -> None:
    """Half a head: 408 and closed after 10 s."""
    began = time.monotonic()
    observed(heard := fate(slow.send(GET[:30])))
    assert heard == "408, closed"
    assert b"connection: close" in slow.rest.lower()
    assert time.monotonic() - began > SOONEST


def test_63_a_head_that_drips(slow: Client, origin_name: str, observed: Observed) -> None:
    """A head that comes byte by byte has 10 s in all: 408 and closed."""
    began = time.monotonic()
    for byte in GET[:-2] + "X-Long: " + "x" * 40:
        if select.select([slow.sock], [], [], 0.05)[0]:
            heard = fate(slow)
            break
        slow.send(byte)
    else:
        heard = f"nothing while it drips, then {fate(slow)}"
    observed(heard)
    assert heard == "408, closed"
    assert time.monotonic() - began > SOONEST


def test_63_a_body_that_stalls(slow: Client, origin_name: str, observed: Observed) -> None:
    """A body of which nothing comes for 30 s: 408 and closed."""
    slow.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
    for _ in range(5):  # longer than that in all: going on slowly is fine
        if select.select([slow.sock], [], [], 0.2)[0]:
            break
        slow.send("x")
        began = time.monotonic()
    observed(heard := fate(slow))
    assert heard == "408, closed"
    assert b"connection: close" in slow.rest.lower()
    assert time.monotonic() - began > SOONEST


def test_63_a_kept_connection(slow: Client, origin_name: str, observed: Observed) -> None:
    """A kept connection without a request is closed after 60 s, without an answer."""
    assert slow.request("GET", "/hello").body == b"hello"
    began = time.monotonic()
    observed(heard := fate(slow))
    assert heard == "closed"
    assert time.monotonic() - began > SOONEST


ENDLESS = """
produced = 0


@server.text_get("/endless")
def endless(req, args):
    global produced
    while True:
        produced += 16384
        yield b"x" * 16384


@server.text_get("/produced")
def tell_produced(req, args):
    return str(produced)
"""


def test_64_a_slow_reader(tmp_path: Path) -> None:
    """A client that reads nothing of a stream: at most 256 KiB wait for it in memory."""
    with serving(tmp_path, ENDLESS) as served, small_client(served.port) as client:
        before = memory(served.pid)
        client.send("GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        seen = [0, -1]
        until(lambda: _stands_still(served, seen), "the stream is paused")
        assert 0 < seen[0] - in_kernel(client.sock.getsockname()[1]) <= 256 * KIB
        assert memory(served.pid) - before < 4 * MIB


def _stands_still(served: Served, seen: list[int]) -> bool:
    """Whether nothing has been produced since the last look, some time ago."""
    time.sleep(0.1)
    seen[:] = [int(served.get("/produced")), seen[0]]
    return seen[0] == seen[1]


def test_64_a_reader_that_stalls(tmp_path: Path) -> None:
    """A client that takes nothing for 30 s is aborted."""
    assert Limits().write_timeout == 30
    with serving(tmp_path, ENDLESS, limits=SHORT) as served, small_client(served.port) as client:
        client.send("GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for _ in range(3):  # longer than that in all
            select.select([], [], [], 0.3)
            taken = 0
            while taken < 4 * MIB:
                taken += len(client.sock.recv(64 * KIB))
        before = descriptors(served.pid)
        until(lambda: descriptors(served.pid) < before, "it has been given up")
        assert not ends(client)
        assert served.get("/hello") == b"hello"


# ---- 65 and 66: many clients --------------------------------------------------------------------


def test_65_a_thousand_idle_connections(origin_name: str, tmp_path: Path, observed: Observed) -> None:
    """A thousand idle connections take no thread, no processor time, and at most 10 KB each."""
    with alone(origin_name, tmp_path) as origin, ExitStack() as stack:
        for _ in range(50):
            assert _answers(origin)
        before = threads(origin.pid), memory(origin.pid)
        clients = [stack.enter_context(closing(origin.connect())) for _ in range(1000)]
        answered = _answered([client.sock for client in clients[::2]])  # the others send nothing yet
        each = (memory(origin.pid) - before[1]) / 1000
        more = threads(origin.pid) - before[0]
        spent = cpu_seconds(origin.pid)
        select.select([], [], [], 0.5)
        spent = cpu_seconds(origin.pid) - spent
        served = "" if answered == 500 else f"{answered} of 500 answered, "
        observed(f"{served}{each / 1000:.0f} KB each, {'no' if more <= THREADS else more} thread")
        assert answered == 500
        assert more <= THREADS  # of the pool, made when they are needed
        assert each < 10_000
        assert spent < 0.1


def test_66_a_burst_of_connections(origin_name: str, tmp_path: Path, observed: Observed) -> None:
    """Three hundred that connect at once are all answered within a second."""
    assert Limits().backlog == 1024
    with alone(origin_name, tmp_path) as origin, ExitStack() as stack:
        assert _answers(origin)
        socks = [stack.enter_context(closing(socket.socket())) for _ in range(300)]
        began = time.monotonic()
        for sock in socks:
            sock.setblocking(False)
            sock.connect_ex(origin.address)
        answered = _answered(socks)
        took = time.monotonic() - began
        observed(
            "all within a second" if answered == 300 and took < 1 else f"{answered} in {took:.1f} s"
        )
        assert answered == 300
        assert took < 8  # a second when nobody else uses this machine


def _answered(socks: list[socket.socket]) -> int:
    """How many of them get an answer to a request, if not at once."""
    answered = 0
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            selector.register(sock, selectors.EVENT_WRITE)
        while answered < len(socks) and (ready := selector.select(5)):
            for key, events in ready:
                assert isinstance(key.fileobj, socket.socket)
                sock = key.fileobj
                if events & selectors.EVENT_WRITE:
                    sock.send(GET.encode())
                    selector.modify(sock, selectors.EVENT_READ)
                    continue
                selector.unregister(sock)
                try:
                    answered += b" 200 " in sock.recv(65536)
                except ConnectionError:
                    pass
    return answered


# ---- 67: TLS ------------------------------------------------------------------------------------


@pytest.fixture
def https(tmp_path: Path, issued: Issued) -> Iterator[Served]:
    with serving(tmp_path, f"server.use_tls({str(issued.both)!r})") as served:
        yield served
        assert "Traceback" not in served.read_output()


def secure(served: Served, authority: Authority) -> Client:
    """A connection on which the handshake is done."""
    client = served.connect()
    client.sock = authority.trusted().wrap_socket(client.sock, server_hostname="localhost")
    return client


def client_hello() -> bytes:
    """How a TLS connection begins."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_67_broken_handshakes(https: Served, authority: Authority) -> None:
    """TLS clients that stall, talk nonsense or reset in the handshake: others do not notice."""
    hello = client_hello()
    begins = [b"", hello[:1], hello[: len(hello) // 2], hello, b"\x16" + b"\xff" * 99, b"\0\1"]
    clients = [https.connect() for _ in range(60)]
    for number, client in enumerate(clients):
        client.send(begins[number % len(begins)])
        if number % 4 == 0:
            reset(client)
    began = time.monotonic()
    for _ in range(5):
        other = secure(https, authority)
        assert other.request("GET", "/hello").body == b"hello"
        other.close()
    assert time.monotonic() - began < 5
    before = cpu_seconds(https.pid)
    assert not select.select([clients[3].sock], [], [], 0.0)[1]
    select.select([], [], [], 0.5)
    assert cpu_seconds(https.pid) - before < 0.1


def test_67_a_handshake_that_stalls(tmp_path: Path, issued: Issued) -> None:
    """A handshake has the 10 s that a head has."""
    tls = f"server.use_tls({str(issued.both)!r})"
    with serving(tmp_path, tls, limits=SHORT) as served:
        began = time.monotonic()
        assert served.connect().send(client_hello()[:100]).at_end()
        assert time.monotonic() - began > SOONEST


def test_67_plain_http(https: Served) -> None:
    """Plain HTTP where TLS is spoken: a 400 that says so."""
    answer = https.connect().send(GET).answer()
    assert (answer.status, b"this port speaks HTTPS" in answer.body) == (400, True)


def test_67_pending_bytes(https: Served, authority: Authority) -> None:
    """Requests that come in one TLS record are all answered: nothing is left lying in the library."""
    client = secure(https, authority).send(GET * 200)  # 8 KB: one record, and one `recv`
    assert [client.answer().body for _ in range(200)] == [b"hello"] * 200


# ---- 68: all threads busy -----------------------------------------------------------------------

WORKER = """
@server.json_worker("/work")
def work(post):
    return post.get("n")


@server.cmd()
def note(args):
    msg("noted {0}", " ".join(args))
"""


def test_68_all_threads_are_busy(tmp_path: Path) -> None:
    """All pool threads are busy: console, upstreams and workers answer; what waits is served later."""
    with scripted() as upstream:
        setup = f'{HELD}{WORKER}server.bind_proxy("/up/", "{upstream.url}")'
        with serving(tmp_path, setup, stdin=subprocess.PIPE) as served:
            holding = hold(served, THREADS)
            waiting = served.connect().send(GET)
            served.type(b"note the console\n")
            served.wait_for("noted the console")
            proxied = served.connect().send(GET.replace("/hello", "/up/x"))
            line, _ = upstream.take()
            line.answer(b"proxied")
            assert proxied.answer().body == b"proxied"
            start = {"action": "start", "payload": {"n": 1}, "wait": 20_000}
            told = served.connect().request("POST", "/work", json.dumps(start).encode())
            assert json.loads(told.body)["result"] == "1"
            assert not select.select([waiting.sock], [], [], 0)[0]
            served.signal(signal.SIGUSR1)
            assert waiting.answer().body == b"hello"
            assert {client.answer().body for client in holding} == {b"held"}


def test_68_the_queue_is_bounded(tmp_path: Path) -> None:
    """Behind 4,096 requests that wait for a thread, or what the limit says, more are a 503."""
    assert Limits().queued_jobs == 4096
    with serving(tmp_path, HELD, limits={"threads": 2, "queued_jobs": 5}) as served:
        holding = hold(served, 2)
        clients = [served.connect().send(GET) for _ in range(9)]
        refused: list[Client] = []

        def all_are_there() -> bool:
            left = [client.sock for client in clients]
            ready = select.select(left, [], [], 0.05)[0]
            refused[:] = [client for client in clients if client.sock in ready]
            return len(refused) == 4

        until(all_are_there, "more than may wait are refused")
        assert {client.answer().status for client in refused} == {503}
        served.signal(signal.SIGUSR1)
        assert {client.answer().body for client in clients if client not in refused} == {b"hello"}
        assert {client.answer().body for client in holding} == {b"held"}


# ---- 69 and 70: clients that are gone -----------------------------------------------------------


def test_69_resets_right_after_accept(origin_name: str, tmp_path: Path, observed: Observed) -> None:
    """A thousand that connect and reset at once: not a word in the log, no spin, nothing left open."""
    with alone(origin_name, tmp_path) as origin:
        assert _answers(origin)
        before = descriptors_at_rest(origin.pid)
        known = len(origin.output.read_text().splitlines())
        for _ in range(1000):
            reset(origin.connect())
        assert _answers(origin)
        left = descriptors_at_rest(origin.pid) - before
        spent = cpu_seconds(origin.pid)
        select.select([], [], [], 0.5)
        spent = cpu_seconds(origin.pid) - spent
        lines = origin.output.read_text().splitlines()[known:]
        said = [line for line in lines if "GET /hello" not in line]
        observed(
            f"{'rests' if spent < 0.1 else 'spins'}, {len(said)} lines in the log, {left} left open"
        )
        assert said == []
        assert left <= 0
        assert spent < 0.1


CLOSERS = """
import socket

closers = set()
close = socket.socket.close


def noted_close(sock):
    closers.add(threading.current_thread().name)
    close(sock)


socket.socket.close = noted_close


@server.json_get("/closers")
def tell_closers(req, args):
    return [*closers]
"""


def test_70_late_outcomes(tmp_path: Path) -> None:
    """What is ready when its client has gone is dropped, whoever has the descriptor by then."""
    with serving(tmp_path, HELD) as served:
        served.get("/hello")
        before = descriptors_at_rest(served.pid)
        for client in hold(served, THREADS):
            reset(client)
        until(lambda: descriptors(served.pid) <= before, "their connections are closed")
        others = [served.connect() for _ in range(THREADS)]
        until(lambda: descriptors(served.pid) >= before + THREADS, "others have their descriptors")
        served.signal(signal.SIGUSR1)
        for other in others:
            assert other.request("GET", "/hello").body == b"hello"
            assert not other.rest
        assert b"held" not in served.read_output().encode()
        assert "Traceback" not in served.output


def test_70_only_the_loop_closes(tmp_path: Path) -> None:
    """Sockets are closed on the loop's thread, and on no other."""
    with serving(tmp_path, HELD + CLOSERS) as served:
        for _ in range(20):
            served.get("/hello")
        for client in hold(served, THREADS):
            reset(client)
        served.signal(signal.SIGUSR1)
        answered = served.connect().send(GET.replace("1.1", "1.0"))
        assert answered.answer().body == b"hello"
        assert json.loads(served.get("/closers")) == ["MainThread"]
