"""The life of a connection: how long it is kept, in which order it answers, and how it ends."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs, create_server
from tests.harness import PATIENCE, Answer, Client, Running
from tests.integration.logs import Log

Serve = Callable[[QuickServer], Running]

GET = b"GET /ok HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
DROPPED = 64 * 1024  # bytes of a body nobody reads, for which the connection is kept


@dataclass
class Target:
    """A running server; `/slow` answers once `release` is set."""

    run: Running
    seen: list[object] = field(default_factory=list)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    release: threading.Event = field(default_factory=threading.Event)

    def connect(self) -> Client:
        return self.run.connect()

    def a_turn_later(self) -> None:
        """Returns once the server has dealt with all that was sent before."""
        assert self.run.get("/ok").status == 200
        assert self.run.get("/ok").status == 200


@pytest.fixture
def target(serve: Serve) -> Iterator[Target]:
    server = create_server(("127.0.0.1", 0))
    made = Target(Running(server))

    @server.text_get("/ok", 0)
    def ok(req: QuickServerRequestHandler, args: ReqArgs) -> str:
        return "ok"

    @server.text_get("/number/:n", 0)
    def number(req: QuickServerRequestHandler, args: ReqArgs) -> str:
        made.seen.append(args["segments"]["n"])
        return args["segments"]["n"]

    @server.json_post("/echo", 0)
    def echo(req: QuickServerRequestHandler, args: ReqArgs) -> object:
        made.seen.append(args["post"])
        return args["post"]

    @server.text_get("/slow", 0)
    def slow(req: QuickServerRequestHandler, args: ReqArgs) -> str:
        made.entered.release()
        assert made.release.wait(PATIENCE)
        return "slow"

    @server.text_get("/broken", 0)
    def broken(req: QuickServerRequestHandler, args: ReqArgs) -> str:
        req.send_header("X-Queued", "yes")
        raise ValueError("on purpose")

    @server.text_get("/smuggled")
    @server.text_post("/smuggled")
    def smuggled(req: QuickServerRequestHandler, args: ReqArgs) -> str:
        made.seen.append("smuggled")
        return "smuggled"

    made.run = serve(server)
    yield made
    made.release.set()


def closes(answer: Answer) -> bool:
    options = (answer.get("connection") or "").lower().split(",")
    return "close" in [option.strip() for option in options]


def request(
    method: str, path: str, *fields: str, body: bytes = b"", version: str = "1.1", length: int = -1
) -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *fields]
    if body or length >= 0:
        lines.append(f"Content-Length: {len(body) if length < 0 else length}")
    return "\r\n".join([*lines, "", ""]).encode() + body


# ---- keep-alive -------------------------------------------------------------------------------


def test_http_1_1_stays_open(target: Target) -> None:
    client = target.connect()
    for _ in range(50):
        answer = client.send(GET).answer()
        assert (answer.version, answer.status, answer.body) == ("HTTP/1.1", 200, b"ok")
        assert not closes(answer)


@pytest.mark.parametrize(
    "field_",
    ["Connection: close", "Connection: Close", "connection: foo, close", "Connection: close,foo"],
)
def test_http_1_1_closes_when_asked(target: Target, field_: str) -> None:
    client = target.connect().send(request("GET", "/ok", field_) + SMUGGLED)
    answer = client.answer()
    assert (answer.status, answer.body) == (200, b"ok")
    assert closes(answer)
    assert client.at_end()
    assert target.seen == []


def test_close_in_a_second_field(target: Target) -> None:
    client = target.connect().send(request("GET", "/ok", "Connection: foo", "Connection: close"))
    assert closes(client.answer())
    assert client.at_end()


def test_http_1_0_closes(target: Target) -> None:
    client = target.connect().send(request("GET", "/ok", version="1.0") + SMUGGLED)
    answer = client.answer()
    assert (answer.status, answer.body) == (200, b"ok")
    assert answer.get("transfer-encoding") is None
    assert client.at_end()
    assert target.seen == []


def test_http_1_0_keep_alive_is_honoured_or_declined(target: Target) -> None:
    client = target.connect().send(request("GET", "/ok", "Connection: keep-alive", version="1.0"))
    answer = client.answer()
    assert answer.status == 200
    if (answer.get("connection") or "").lower() == "keep-alive":
        again = client.send(request("GET", "/ok", version="1.0")).answer()
        assert (again.status, again.body) == (200, b"ok")
    assert client.at_end()


def test_every_answer_has_a_date_and_a_server(target: Target) -> None:
    client = target.connect()
    for path in ("/ok", "/nothing", "/broken"):
        answer = client.request("GET", path)
        assert (answer.get("date") or "").endswith(" GMT")
        assert len(answer.all("date")) == len(answer.all("server")) == 1


def test_idle_connections_take_no_place_from_others(target: Target) -> None:
    idle = [target.connect() for _ in range(200)]
    assert target.run.get("/ok").status == 200
    for client in idle:
        client.send(GET)
    assert [client.answer().body for client in idle] == [b"ok"] * 200


# ---- pipelining -------------------------------------------------------------------------------


def test_a_thousand_pipelined_requests_are_answered_in_order(target: Target) -> None:
    client = target.connect()
    client.send(b"".join(request("GET", f"/number/{n}") for n in range(1000)))
    assert [client.answer().body for _ in range(1000)] == [b"%d" % n for n in range(1000)]
    assert target.seen == [str(n) for n in range(1000)]


def test_pipelined_bodies_of_both_kinds(target: Target) -> None:
    chunked = request("POST", "/echo", "Content-Type: application/json", "Transfer-Encoding: chunked")
    sized = [
        request("POST", "/echo", "Content-Type: application/json", body=b"[%d]" % n) for n in range(20)
    ]
    data = b"".join(s + chunked + b"3\r\n[-1\r\n1\r\n]\r\n0\r\n\r\n" for s in sized)
    client = target.connect().send(data)
    bodies = [client.answer().body for _ in range(40)]
    assert [body.strip() for body in bodies] == [
        text for n in range(20) for text in (b"[%d]" % n, b"[-1]")
    ]


def test_a_pipelined_request_waits_for_the_one_before(target: Target) -> None:
    client = target.connect().send(request("GET", "/slow") + request("GET", "/number/2"))
    assert target.entered.acquire(timeout=PATIENCE)
    target.a_turn_later()
    assert target.seen == []
    target.release.set()
    assert (client.answer().body, client.answer().body) == (b"slow", b"2")


def test_a_slow_handler_holds_up_nobody_else(target: Target) -> None:
    slow = [target.connect().send(request("GET", "/slow")) for _ in range(4)]
    for _ in slow:
        assert target.entered.acquire(timeout=PATIENCE)
    assert target.run.get("/ok").body == b"ok"
    target.release.set()
    assert [client.answer().body for client in slow] == [b"slow"] * 4


def test_more_slow_requests_than_threads_are_all_answered(target: Target) -> None:
    slow = [target.connect().send(request("GET", "/slow")) for _ in range(30)]
    assert target.entered.acquire(timeout=PATIENCE)
    target.release.set()
    assert [client.answer().body for client in slow] == [b"slow"] * 30


def test_a_client_that_does_not_read_is_not_worked_for(serve: Serve) -> None:
    """Answers that cannot be sent are not computed ahead: the pipeline stands still."""
    server = create_server(("127.0.0.1", 0))
    computed: list[int] = []

    @server.text_get("/large", 0)
    def large(req: QuickServerRequestHandler, args: ReqArgs) -> bytes:
        computed.append(len(computed))
        return b"x" * 1_000_000

    run = serve(server)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.settimeout(PATIENCE)
        sock.connect(run.address)
        client = Client(sock).send(request("GET", "/large") * 100)
        for _ in range(300):
            assert run.get("/nothing").status == 404
        assert 1 <= len(computed) <= 20  # what fits into the kernel's buffers, and a little
        assert [len(client.answer().body) for _ in range(100)] == [1_000_000] * 100
    assert len(computed) == 100


# ---- HEAD -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/ok", "/nothing", "/echo", "/broken"])
def test_head_is_get_without_the_body(target: Target, path: str) -> None:
    client = target.connect()
    head = client.request("HEAD", path)
    get = client.request("GET", path)
    assert head.status == get.status
    assert head.get("content-type") == get.get("content-type")
    if path != "/broken":  # whose page has an id of its own
        assert head.get("content-length") == get.get("content-length")
    assert client.request("GET", "/ok").body == b"ok"


def test_head_requests_in_a_pipeline(target: Target) -> None:
    client = target.connect().send((request("HEAD", "/ok") + GET) * 10)
    for _ in range(10):
        assert client.answer(head_only=True).get("content-length") == "2"
        assert client.answer().body == b"ok"


# ---- half-closed clients ----------------------------------------------------------------------


def test_a_half_closed_client_gets_its_answer(target: Target) -> None:
    client = target.connect().send(GET).half_close()
    assert client.answer().body == b"ok"
    assert client.at_end()


def test_a_half_closed_client_gets_every_pipelined_answer(target: Target) -> None:
    client = target.connect().send(GET * 50).half_close()
    assert [client.answer().body for _ in range(50)] == [b"ok"] * 50
    assert client.at_end()


def test_a_client_that_half_closes_while_the_handler_works(target: Target) -> None:
    client = target.connect().send(request("GET", "/slow") + GET)
    assert target.entered.acquire(timeout=PATIENCE)
    client.half_close()
    target.a_turn_later()
    target.release.set()
    assert (client.answer().body, client.answer().body) == (b"slow", b"ok")
    assert client.at_end()


def test_a_client_that_leaves_while_the_handler_works(target: Target, log: Log) -> None:
    client = target.connect().send(request("GET", "/slow"))
    assert target.entered.acquire(timeout=PATIENCE)
    client.close()
    target.a_turn_later()
    target.release.set()
    target.a_turn_later()
    assert "Traceback" not in log.text


def test_a_client_that_says_nothing(target: Target, log: Log) -> None:
    for _ in range(20):
        target.connect().close()
    client = target.connect().half_close()
    assert client.at_end()
    target.a_turn_later()
    assert "Traceback" not in log.text


# ---- bodies that end early --------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(request("POST", "/echo", length=10, body=b"12345"), id="length"),
        pytest.param(request("POST", "/echo", length=10), id="length-nothing"),
        pytest.param(
            request("POST", "/echo", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n", id="chunked"
        ),
        pytest.param(
            request("POST", "/echo", "Transfer-Encoding: chunked") + b"5\r\nhel", id="in-a-chunk"
        ),
        pytest.param(
            request("POST", "/echo", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n0\r\n",
            id="before-the-trailers-end",
        ),
    ],
)
def test_a_body_that_ends_early_reaches_no_handler(target: Target, data: bytes) -> None:
    client = target.connect().send(data).half_close()
    client.at_end()
    assert client.rest == b"" or client.rest.startswith(b"HTTP/1.1 400 ")
    assert client.rest.count(b"HTTP/1.1 ") <= 1
    target.a_turn_later()
    assert target.seen == []


# ---- Expect -----------------------------------------------------------------------------------

EXPECT = "Expect: 100-continue"


def test_a_bare_100_comes_when_the_body_is_wanted(target: Target) -> None:
    client = target.connect()
    client.send(request("POST", "/echo", "Content-Type: application/json", EXPECT, length=3))
    assert client._exactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    target.a_turn_later()
    assert (client.rest, target.seen) == (b"", [])
    assert client.send(b"[1]").answer().body.strip() == b"[1]"
    assert client.request("GET", "/ok").body == b"ok"


@pytest.mark.parametrize("value", ["100-Continue", "100-CONTINUE"])
def test_the_expectation_in_any_case(target: Target, value: str) -> None:
    client = target.connect()
    client.send(request("POST", "/echo", f"Expect: {value}", length=2))
    assert client.answer().status == 100
    assert client.send(b"{}").answer().status == 200


def test_a_100_before_a_chunked_body(target: Target) -> None:
    client = target.connect()
    json = "Content-Type: application/json"
    client.send(request("POST", "/echo", json, EXPECT, "Transfer-Encoding: chunked"))
    assert client.answer().status == 100
    assert client.send(b"3\r\n[1]\r\n0\r\n\r\n").answer().body.strip() == b"[1]"


def test_a_body_that_does_not_wait(target: Target) -> None:
    json = "Content-Type: application/json"
    client = target.connect().send(request("POST", "/echo", json, EXPECT, body=b"[1]") + GET)
    answer = client.answer()
    if answer.status == 100:
        answer = client.answer()
    assert answer.body.strip() == b"[1]"
    assert client.answer().body == b"ok"


def test_no_100_without_a_body(target: Target) -> None:
    assert target.connect().send(request("GET", "/ok", EXPECT)).answer().status == 200
    assert target.connect().send(request("POST", "/echo", EXPECT, length=0)).answer().status == 200


def test_no_100_for_http_1_0(target: Target) -> None:
    data = request("POST", "/echo", EXPECT, body=b"{}", version="1.0")
    assert target.connect().send(data).answer().status == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(request("POST", "/echo", EXPECT, length=50 * 1024**2 + 1), 413, id="too-large"),
        pytest.param(request("POST", "/nothing", EXPECT, length=len(SMUGGLED)), 404, id="unknown"),
        pytest.param(request("PUT", "/echo", EXPECT, length=len(SMUGGLED)), 405, id="wrong-method"),
        pytest.param(request("POST", "/echo", "Expect: 200-ok", length=len(SMUGGLED)), 417, id="other"),
        pytest.param(
            request("POST", "/echo", "Expect: 100-continue, x", length=len(SMUGGLED)),
            417,
            id="more-than-100",
        ),
        pytest.param(request("GET", "/ok", EXPECT, length=len(SMUGGLED)), 200, id="not-wanted"),
    ],
)
def test_no_100_for_a_body_that_is_not_wanted(target: Target, data: bytes, status: int) -> None:
    client = target.connect().send(data)
    answer = client.answer()
    assert answer.status == status
    # whether the client sends its body now or not: those bytes are a body or nothing
    client.send(SMUGGLED)
    if closes(answer):
        assert client.at_end()
    else:
        assert client.request("GET", "/ok").body == b"ok"
    assert target.seen == []


# ---- bodies nobody reads ----------------------------------------------------------------------


def lines(size: int) -> bytes:
    """A body that looks like requests."""
    return (SMUGGLED * (size // len(SMUGGLED) + 1))[:size]


UNREAD = [
    pytest.param("GET", "/ok", 200, id="get"),
    pytest.param("GET", "/nothing", 404, id="get-unknown"),
    pytest.param("POST", "/nothing", 404, id="post-unknown"),
    pytest.param("PUT", "/echo", 405, id="wrong-method"),
    pytest.param("DELETE", "/nothing", 404, id="delete-unknown"),
    pytest.param("HEAD", "/ok", 200, id="head"),
    pytest.param("FROB", "/nothing", 404, id="unknown-method"),
]


@pytest.mark.parametrize("size", [1, 1000, DROPPED])
@pytest.mark.parametrize(("method", "path", "status"), UNREAD)
def test_a_small_unread_body_is_dropped(
    target: Target, method: str, path: str, status: int, size: int
) -> None:
    client = target.connect().send(request(method, path, body=lines(size)) + GET)
    answer = client.answer(head_only=method == "HEAD")
    assert answer.status == status
    assert not closes(answer)
    assert client.answer().body == b"ok"
    assert target.seen == []


@pytest.mark.parametrize(("method", "path", "status"), UNREAD)
def test_a_large_unread_body_ends_the_connection(
    target: Target, method: str, path: str, status: int
) -> None:
    client = target.connect().send(request(method, path, body=lines(DROPPED + 1)) + SMUGGLED)
    answer = client.answer(head_only=method == "HEAD")
    assert answer.status == status
    assert closes(answer)
    assert client.at_end()
    assert target.seen == []


@pytest.mark.parametrize("pieces", [1, 10])
def test_a_small_unread_chunked_body_is_dropped(target: Target, pieces: int) -> None:
    chunk = b"%x\r\n%s\r\n" % (len(SMUGGLED), SMUGGLED)
    head = request("POST", "/nothing", "Transfer-Encoding: chunked")
    client = target.connect().send(head + chunk * pieces + b"0\r\n\r\n" + GET)
    assert client.answer().status == 404
    assert client.answer().body == b"ok"
    assert target.seen == []


def test_a_large_unread_chunked_body_ends_the_connection(target: Target) -> None:
    chunk = b"%x\r\n%s\r\n" % (len(SMUGGLED) * 100, SMUGGLED * 100)
    head = request("POST", "/nothing", "Transfer-Encoding: chunked")
    client = target.connect().send(head + chunk * 30 + b"0\r\n\r\n" + SMUGGLED)
    assert client.answer().status == 404
    assert client.at_end()
    assert target.seen == []


def test_an_unread_body_in_slow_pieces(target: Target) -> None:
    body = lines(DROPPED)
    client = target.connect().send(request("GET", "/ok", length=len(body)))
    assert client.answer().body == b"ok"
    for start in range(0, len(body), 8192):
        client.send(body[start : start + 8192])
        target.a_turn_later()
    assert client.send(GET).answer().body == b"ok"
    assert target.seen == []


# ---- lingering close --------------------------------------------------------------------------


def answer_while_uploading(client: Client, data: bytes, more: bytes) -> Answer:
    """Keeps sending from a thread until the answer is there, as an uploading client does."""
    answered = threading.Event()
    trouble: list[OSError] = []

    def upload() -> None:
        try:
            client.send(data)
            while not answered.is_set():
                client.send(more)
        except OSError as error:
            trouble.append(error)

    thread = threading.Thread(target=upload)
    thread.start()
    try:
        answer = client.answer()
    finally:
        answered.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not trouble, "the server reset the connection while it was sending"
    return answer


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(request("POST", "/echo", length=10**9), 413, id="too-large"),
        pytest.param(request("POST", "/nothing", length=10**9), 404, id="unknown"),
        pytest.param(request("PUT", "/echo", length=10**9), 405, id="wrong-method"),
        pytest.param(request("POST", "/echo", "X : y", length=10**9), 400, id="malformed"),
        pytest.param(request("POST", "/echo", "Expect: x", length=10**9), 417, id="expectation"),
        pytest.param(request("GET", "/ok", length=10**9), 200, id="unread"),
    ],
)
def test_an_answer_during_an_upload_is_read(target: Target, data: bytes, status: int) -> None:
    client = target.connect()
    answer = answer_while_uploading(client, data, b"x" * 65536)
    assert answer.status == status
    assert closes(answer)
    assert client.at_end()


def test_a_chunked_upload_without_end_is_refused(target: Target) -> None:
    target.run.server.max_file_size = 100_000
    client = target.connect()
    head = request("POST", "/echo", "Transfer-Encoding: chunked")
    answer = answer_while_uploading(client, head, b"2000\r\n" + b"x" * 8192 + b"\r\n")
    assert answer.status == 413
    assert closes(answer)
    assert client.at_end()
    assert target.seen == []


def test_a_large_wanted_body_arrives_whole(target: Target) -> None:
    text = b'"' + b"x" * 5_000_000 + b'"'
    client = target.connect()
    answer = client.request("POST", "/echo", text, Content_Type="application/json")
    assert answer.body.strip() == text
    assert client.request("GET", "/ok").body == b"ok"


def test_the_server_gives_up_on_a_client_that_never_closes(target: Target) -> None:
    """After the answer and two seconds of lingering the connection is gone for good."""
    client = target.connect().send(request("POST", "/echo", length=10**9))
    started = time.monotonic()
    assert client.answer().status == 413
    assert client.at_end()
    assert time.monotonic() - started < 1.0

    def keep_sending() -> None:
        while time.monotonic() - started < PATIENCE:
            client.send(b"x")
            target.run.get("/ok")

    with pytest.raises(ConnectionError):
        keep_sending()
    assert time.monotonic() - started < 5.0


# ---- handlers that fail -----------------------------------------------------------------------


def test_a_handler_that_raises_gives_a_clean_500(target: Target) -> None:
    client = target.connect()
    answer = client.request("GET", "/broken")
    assert answer.status == 500
    assert answer.get("x-queued") is None
    assert len(answer.all("content-type")) == len(answer.all("content-length")) == 1
    if not closes(answer):
        assert client.request("GET", "/ok").body == b"ok"
    assert target.run.get("/ok").body == b"ok"


def test_many_failures_cost_no_thread(target: Target) -> None:
    client = target.connect()
    for _ in range(50):
        if closes(client.request("GET", "/broken")):
            client = target.connect()
    assert target.run.get("/ok").body == b"ok"


def test_an_answer_that_breaks_off_is_not_completed(serve: Serve) -> None:
    """An error after the head was sent shows as an aborted connection, never as a whole answer."""

    class Breaks:
        """A readable whose second piece fails."""

        def __init__(self) -> None:
            self.pieces = 0
            self.closed = False

        def read(self, size: int = -1) -> bytes:
            self.pieces += 1
            if self.pieces > 1:
                raise OSError("the disk went away")
            return b"x" * (size if size > 0 else 100_000)

        def close(self) -> None:
            self.closed = True

    server = create_server(("127.0.0.1", 0))
    made: list[Breaks] = []

    @server.text_get("/breaks", 0)
    def breaks(req: QuickServerRequestHandler, args: ReqArgs) -> object:
        made.append(Breaks())
        return made[0]

    run = serve(server)
    client = run.connect().send(request("GET", "/breaks") + SMUGGLED)
    try:
        answer = client.answer()
    except (AssertionError, ConnectionError):
        assert b"smuggled" not in client.rest  # aborted in the middle
    else:
        assert answer.status == 500 or made[0].pieces == 1
    assert made


# ---- a stop -----------------------------------------------------------------------------------


def test_a_stop_ends_idle_connections(target: Target) -> None:
    used, fresh = target.connect(), target.connect()
    assert used.request("GET", "/ok").status == 200
    target.a_turn_later()  # by now the fresh one is accepted too
    target.run.server.done = True
    assert used.at_end()
    assert fresh.at_end()


def test_a_stop_lets_requests_in_flight_finish(target: Target) -> None:
    client = target.connect().send(request("GET", "/slow"))
    assert target.entered.acquire(timeout=PATIENCE)
    idle = target.connect()
    target.a_turn_later()
    target.run.server.done = True
    assert idle.at_end()
    target.release.set()
    answer = client.answer()
    assert (answer.status, answer.body) == (200, b"slow")
    assert closes(answer)
    assert client.at_end()
