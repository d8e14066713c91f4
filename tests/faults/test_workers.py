"""Cases 49 to 54: tokens, threads, lines, stops and results of jobs."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

import quick_server.jobs
from quick_server.limits import Limits
from tests.faults.processes import MIB, Served, memory, reset, serving, threads, until
from tests.harness import Answer, Client

pytestmark = pytest.mark.peers()  # they have no workers

UNKNOWN = {"done": False, "result": None, "continue": False}
STOPPED = {"done": True, "result": None, "continue": False}
LONG = 20_000  # milliseconds that a client waits; no test does, when things work
POOL = 8  # threads that handlers have, of which each is made when it is needed

# What jobs do, by `kind`; `/open` lets those go on that wait.
WORK = """
import secrets
import quick_server.jobs as jobs
from quick_server import WorkerDeath, is_worker_alive

gate = threading.Event()
ways = []
randbelow = secrets.randbelow
drawn = []
secrets.randbelow = lambda most: drawn.append(randbelow(most)) or drawn[-1]


def wait(post):
    while not gate.wait(0.005):
        pass
    return "waited"


def stubborn(post):
    ways.append("begun")
    while not gate.is_set():
        try:
            wait(post)
        except WorkerDeath:
            ways.append("survived")
    return "late"


def polite(post):
    while is_worker_alive():
        gate.wait(0.005)
    ways.append("left")


KINDS = {
    "echo": lambda post: post.get("value"),
    "long": lambda post: wait(post) and "x" * post["size"],
    "wait": wait,
    "stubborn": stubborn,
    "polite": polite,
}


@server.json_worker("/work")
def work(post):
    return KINDS[post["kind"]](post)


@server.text_get("/open")
def open_gate(req, args):
    gate.set()
    return "open"


@server.json_get("/threads")
def tell_threads(req, args):
    return [thread.name for thread in threading.enumerate() if "quick_server job" in thread.name]


@server.json_get("/drawn")
def tell_drawn(req, args):
    return [str(1 + number) for number in drawn]


@server.json_get("/ways")
def tell_ways(req, args):
    return ways
"""


def message(action: str, token: str | None = None, **more: Any) -> bytes:
    """A request that carries that message."""
    said = {"action": action, **more} | ({"token": token} if token is not None else {})
    return posted(json.dumps(said).encode())


def posted(body: bytes) -> bytes:
    head = f"POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def tell(client: Client, action: str, token: str | None = None, **more: Any) -> dict[str, Any]:
    """What a worker answers to that message."""
    answer = client.send(message(action, token, **more)).answer()
    assert answer.status == 200, answer
    told: dict[str, Any] = json.loads(answer.body)
    return told


def start(client: Client, kind: str, **payload: Any) -> str:
    """The token of a job that is not finished at once."""
    told = tell(client, "start", payload={"kind": kind, **payload})
    assert told["continue"], told
    token: str = told["token"]
    return token


def job_threads(served: Served) -> int:
    return len(json.loads(served.get("/threads")))


def start_many(served: Served, count: int, kind: str = "wait") -> list[dict[str, Any]]:
    """Starts jobs from as many connections at the same time; what they were told, in order."""
    clients = []
    for _ in range(count):
        clients.append(served.connect().send(message("start", payload={"kind": kind})))
        until(lambda: served.get("/hello"), "the start has been read")
    return [json.loads(client.answer().body) for client in clients]


def result(client: Client, token: str) -> Any:
    """What comes of a job in the end."""
    told = tell(client, "get", token, wait=LONG)
    assert told["done"], told
    return json.loads(told["result"])


def compute(client: Client, value: Any) -> Any:
    """The result of a job that is finished at once, as it comes with the answer to its start."""
    told = tell(client, "start", payload={"kind": "echo", "value": value}, wait=LONG)
    return json.loads(told["result"])


# ---- 49: tokens ---------------------------------------------------------------------------------


def test_49_tokens_come_from_secrets(tmp_path: Path) -> None:
    """A job's token is a number below 2^53 that `secrets` has drawn."""
    with serving(tmp_path, WORK) as served:
        client = served.connect()
        started = [tell(client, "start", payload={"kind": "echo"}) for _ in range(20)]
        tokens = [told["token"] for told in started]
        assert json.loads(served.get("/drawn")) == tokens
    assert len(set(tokens)) == 20
    assert all(0 < int(token) < 2**53 for token in tokens)


def test_49_nothing_about_other_jobs(tmp_path: Path) -> None:
    """A token that never was, one that was read and one that was stopped are told apart by nobody."""
    with serving(tmp_path, WORK + "server.verbose_workers = True\n") as served:
        mine, theirs = served.connect(), served.connect()
        running, stopped = start(theirs, "wait"), start(theirs, "wait")
        read: str = tell(theirs, "start", payload={"kind": "echo"}, wait=LONG)["token"]
        tell(theirs, "stop", stopped)
        for token in (read, stopped, "1"):
            assert tell(mine, "get", token) == {"token": token, **UNKNOWN}
            cargo = mine.send(message("cargo", token)).answer()
            assert (cargo.status, running.encode() in cargo.body) == (404, False)
        for token in (running, read, stopped):
            assert token not in served.read_output()


# ---- 50: finished jobs --------------------------------------------------------------------------


def test_50_finished_jobs_hold_no_thread(tmp_path: Path) -> None:
    """A job that has finished holds no thread, whether or not anybody reads its result."""
    with serving(tmp_path, WORK) as served:
        client = served.connect()
        tokens = [told["token"] for told in start_many(served, 20)]
        assert job_threads(served) == 20
        most = threads(served.pid)
        served.get("/open")
        until(lambda: job_threads(served) == 0, "the jobs' threads have ended")
        assert threads(served.pid) <= most - 20 + POOL
        assert {result(client, token) for token in tokens} == {"waited"}


def test_50_results_expire(tmp_path: Path) -> None:
    """A result that nobody reads goes after two minutes, by a timer; the log tells."""
    assert Limits().result_timeout == 120
    with serving(tmp_path, WORK, limits={"result_timeout": 0.3}) as served:
        client = served.connect()
        token = start(client, "wait")
        served.get("/open")
        served.wait_for('nobody has read the result of the job "/work"')
        assert job_threads(served) == 0
        assert tell(client, "get", token) == {"token": token, **UNKNOWN}


# ---- 51: many jobs ------------------------------------------------------------------------------


def test_51_more_jobs_than_may_run(tmp_path: Path) -> None:
    """`max_workers` jobs run, a thousand more wait in line, past them 503 with Retry-After."""
    assert Limits().jobs_in_line == 1000
    setup = WORK + "server.max_workers = 3\n"
    with serving(tmp_path, setup, limits={"jobs_in_line": 20}) as served:
        client = served.connect()
        told = start_many(served, 23)
        assert [answer.get("queue") for answer in told] == [None] * 3 + list(range(20))
        assert job_threads(served) == 3
        refused = client.send(message("start", payload={"kind": "wait"})).answer()
        assert (refused.status, refused.get("retry-after")) == (503, "1")
        tell(client, "stop", told[10]["token"])
        assert tell(client, "get", told[22]["token"])["queue"] == 18  # those behind have moved up
        served.get("/open")
        assert result(client, told[22]["token"]) == "waited"


def test_51_requests_are_not_starved(tmp_path: Path) -> None:
    """Jobs have threads of their own: with all of them busy every request is answered at once."""
    with serving(tmp_path, WORK) as served:
        start_many(served, 32 + 5)  # `max_workers` and more
        others = [served.connect() for _ in range(16)]
        began = time.monotonic()
        for other in others:
            other.send("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert {other.answer().body for other in others} == {b"hello"}
        assert time.monotonic() - began < 5
        served.get("/open")


# ---- 52: stops ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wait", "polite"])
def test_52_a_job_that_cooperates(tmp_path: Path, kind: str) -> None:
    """A stopped job that runs Python code, or asks whether it is wanted, ends within a second."""
    setup = WORK + "server.max_workers = 1\n"
    with serving(tmp_path, setup, made=f"soft_worker_death={kind == 'polite'}") as served:
        client = served.connect()
        token, next_token = start(client, kind), start(client, "echo", value=1)  # in line
        began = time.monotonic()
        assert tell(client, "stop", token) == {"token": token, **STOPPED}
        assert result(client, next_token) == 1  # its place is free
        assert time.monotonic() - began < 1 + 2  # others use this machine, too


def test_52_a_stubborn_job(tmp_path: Path) -> None:
    """A job that survives its stop keeps its place and is logged; its late result is dropped."""
    assert quick_server.jobs._STUBBORN == 5
    setup = WORK + "server.max_workers = 1\njobs._STUBBORN = 0.3\n"
    with serving(tmp_path, setup) as served:
        client = served.connect()
        token = start(client, "stubborn")
        until(lambda: json.loads(served.get("/ways")) == ["begun"], "it has begun")
        assert tell(client, "stop", token) == {"token": token, **STOPPED}
        next_token = start(client, "echo", value=1)
        served.wait_for('the job "/work" was stopped, and goes on nevertheless')
        assert tell(client, "get", next_token)["queue"] == 0  # still in line
        served.get("/open")
        assert result(client, next_token) == 1
        assert tell(client, "get", token) == {"token": token, **UNKNOWN}
        assert json.loads(served.get("/ways"))[:2] == ["begun", "survived"]


# ---- 53: malformed messages ---------------------------------------------------------------------

MALFORMED = [
    b"",
    b"{",
    b"[]",
    b"\xff{}",
    b'{"action": "begin"}',
    b'{"action": ["start"]}',
    b'{"action": "start", "payload": []}',
    b'{"action": "start", "payload": {"n": NaN}}',
    b'{"action": "start", "wait": -1}',
    b'{"action": "get"}',
    b'{"action": "get", "token": "a"}',
    b'{"action": "get", "token": 1.5}',
    b'{"action": "stop", "token": null}',
    b'{"action": "cargo", "token": "-1"}',
]


def test_53_malformed_messages(tmp_path: Path) -> None:
    """A malformed action, token or payload is a 400, and the connection is kept."""
    with serving(tmp_path, WORK) as served:
        client = served.connect()

        def answer_to(body: bytes) -> Answer:
            return client.send(posted(body)).answer()

        assert {answer_to(body).status for body in MALFORMED} == {400}
        assert compute(client, 1) == 1
        assert "Traceback" not in served.read_output()


# ---- 54: results that do not arrive -------------------------------------------------------------


def test_54_a_client_that_left_while_it_waited(tmp_path: Path) -> None:
    """A client is gone when its result is there: the next `get` has it."""
    with serving(tmp_path, WORK) as served:
        client = served.connect()
        token = start(client, "wait")
        client.send(message("get", token, wait=LONG))
        reset(client)
        served.get("/open")
        assert result(served.connect(), token) == "waited"


def test_54_a_client_that_left_while_it_was_told(tmp_path: Path) -> None:
    """A client leaves in the middle of a long result: the next `get` has all of it."""
    with serving(tmp_path, WORK) as served:
        token = start(served.connect(), "long", size=6 * MIB)  # once `/open` lets it
        served.get("/open")
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
            sock.settimeout(10)
            sock.connect(("127.0.0.1", served.port))
            client = Client(sock).send(message("get", token, wait=LONG))
            until(lambda: client._fill() and b"xxx" in client.rest, "the result has begun")
            reset(client)
        other = served.connect()
        assert result(other, token) == "x" * 6 * MIB
        assert tell(other, "get", token) == {"token": token, **UNKNOWN}  # read once is enough


def test_54_cargo_is_bounded(tmp_path: Path) -> None:
    """Results that nobody reads take at most 1 GiB: past it the oldest is dropped."""
    assert Limits().kept_results == 1024 * MIB
    with serving(tmp_path, WORK, limits={"kept_results": 5 * MIB}) as served:
        client = served.connect()
        tokens = [start(client, "long", size=2 * MIB) for _ in range(8)]
        before = memory(served.pid)
        served.get("/open")
        served.wait_for("(?s)(too much is kept .*?: the oldest is dropped.*?){6}")
        told = [tell(client, "get", token) for token in tokens]
        assert sum(answer == {"token": answer["token"], **UNKNOWN} for answer in told) == 6
        assert sum(answer["done"] and len(answer["result"]) > 2 * MIB for answer in told) == 2
        assert memory(served.pid) - before < 40 * MIB
