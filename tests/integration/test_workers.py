"""Workers over real connections: what clients ask, what is computed where, and what becomes of it."""

from __future__ import annotations

import itertools
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from quick_cache import QuickCache  # type: ignore[import-untyped] # it has none

import quick_server.protocol.worker as protocol
from quick_server import (
    BaseWorker,
    DefaultWorker,
    PreventDefaultResponse,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    ReqNext,
    Response,
    WorkerDeath,
    WorkerTask,
    create_server,
    get_worker_check,
    is_worker_alive,
    progress,
    track,
)
from quick_server.jobs import JobSpec
from quick_server.workers import Result
from tests.harness import PATIENCE, Answer, Client, Running, running
from tests.integration.logs import Log
from tests.unit.jobbench import Call

T = TypeVar("T")
Req = QuickServerRequestHandler
Message = dict[str, Any]
Serve = Callable[[QuickServer], Running]

LONG = 30_000  # milliseconds that a client waits; no test does, when things work
RESET = struct.pack("ii", 1, 0)
THREADS = 8  # that the pool has for handlers

RUNNING = {"done": False, "result": None, "continue": True}
STOPPED = {"done": True, "result": None, "continue": False}
UNKNOWN = {"done": False, "result": None, "continue": False}


# ---- what tests do with a server --------------------------------------------------------------


def on_loop(server: QuickServer, function: Callable[[], T]) -> T:
    """What the function returns on the thread of the loop."""
    found: list[T] = []
    called = threading.Event()

    def call() -> None:
        found.append(function())
        called.set()

    server._reactor.call_from_thread(call)
    assert called.wait(PATIENCE)
    return found[0]


def until(server: QuickServer, condition: Callable[[], object]) -> None:
    """Returns when the loop finds that the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not on_loop(server, condition):
        assert time.monotonic() < deadline, "what the test waits for did not happen"


def let_it_see(server: QuickServer) -> None:
    """Returns when the server has seen what its clients have done by now."""
    for _ in range(2):
        on_loop(server, bool)


def until_waiting(server: QuickServer, count: int) -> None:
    """Returns when so many calls are held back."""
    jobs = server._table._jobs
    until(server, lambda: sum(len(job.waiters) for job in jobs.values()) == count)


def until_states(server: QuickServer, *expected: str) -> None:
    """Returns when the jobs are in these states, the oldest first."""
    until(server, lambda: [state.state for state in server._table.states()] == [*expected])


def job_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "quick_server job" in thread.name]


def await_no_job_threads() -> None:
    for thread in job_threads():
        thread.join(PATIENCE)
        assert not thread.is_alive()


@dataclass
class Asker:
    """A client of workers, with a connection."""

    client: Client
    path: str = "/work"
    kind: str = "application/json"
    """What its messages are said to be."""

    def send(self, action: str, token: object = None, *, wait: float = 0, payload: Any = None) -> None:
        """Sends a message; its answer is to be read."""
        message: Message = {"action": action, "wait": wait}
        if token is not None:
            message["token"] = token
        if payload is not None:
            message["payload"] = payload
        self.send_body(json.dumps(message).encode())

    def send_body(self, body: bytes) -> None:
        head = f"POST {self.path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
        head += f"Content-Type: {self.kind}\r\n\r\n"
        self.client.send(head.encode() + body)

    def message(self) -> Message:
        """Reads an answer that is a message."""
        answer = self.client.answer()
        assert answer.status == 200, answer.body
        assert answer.get("content-type") == "application/json"
        message: Message = json.loads(answer.body)
        assert set(message) >= {"token", "done", "result", "continue"}
        return message

    def ask(self, action: str, token: object = None, **more: Any) -> Answer:
        self.send(action, token, **more)
        return self.client.answer()

    def start(self, payload: Any = None, **more: Any) -> Message:
        self.send("start", payload=payload, **more)
        return self.message()

    def start_slow(self, payload: Any = None) -> str:
        """Starts a job that does not end before it may: its token."""
        message = self.start(payload)
        token: str = message["token"]
        assert {**message, "token": token, **RUNNING} == message
        return token

    def get(self, token: object, wait: float = 0) -> Message:
        self.send("get", token, wait=wait)
        return self.message()

    def stop(self, token: object) -> Message:
        self.send("stop", token)
        return self.message()

    def result(self, message: Message) -> Any:
        """Follows a job to its end: what it has returned."""
        deadline = time.monotonic() + PATIENCE
        while not message["done"]:
            assert message["continue"], "the job is not known"
            assert time.monotonic() < deadline, "the job does not end"
            message = self.get(message["token"], LONG)
        assert message["result"] is not None, "the job was stopped"
        if not message["continue"]:
            return json.loads(message["result"])
        pieces = []
        for token in message["result"]:
            self.send("cargo", token)
            piece = self.message()
            assert piece == {"token": token, **STOPPED, "result": piece["result"]}
            pieces.append(piece["result"])
        return json.loads("".join(pieces))

    def compute(self, payload: Any = None) -> Any:
        """What a job of this payload returns."""
        return self.result(self.start(payload))


def asker(run: Running, path: str = "/work") -> Asker:
    return Asker(run.connect(), path)


class Work:
    """A job that takes until it may go on, and then returns what it was started with."""

    def __init__(self) -> None:
        self.calls: list[Message] = []
        self.begun = threading.Semaphore(0)
        self.may_go_on = threading.Event()
        self.ended = threading.Semaphore(0)
        self.how: list[str] = []

    def __call__(self, post: Message) -> Message:
        self.calls.append(post)
        self.begun.release()
        try:
            while not self.may_go_on.wait(0.005):
                pass
            self.how.append("returned")
            return post
        except WorkerDeath:
            self.how.append("died")
            raise
        finally:
            self.ended.release()

    def await_begun(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.begun.acquire(timeout=PATIENCE)

    def await_ended(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.ended.acquire(timeout=PATIENCE)


class Blocked:
    """A handler that holds its thread until it may go on."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.may_go_on = threading.Event()

    def __call__(self, req: Req, args: ReqArgs) -> str:
        self.begun.release()
        assert self.may_go_on.wait(PATIENCE)
        return "done"

    def keep_busy(self, run: Running, count: int) -> list[Client]:
        """So many requests, all of which are being handled."""
        clients = [run.connect().send("GET /blocked HTTP/1.1\r\nHost: localhost\r\n\r\n")]
        clients += [
            run.connect().send("GET /blocked HTTP/1.1\r\nHost: localhost\r\n\r\n")
            for _ in range(count - 1)
        ]
        for _ in range(count):
            assert self.begun.acquire(timeout=PATIENCE)
        return clients


@pytest.fixture
def server(log: Log) -> Iterator[QuickServer]:
    made = create_server(("127.0.0.1", 0))
    yield made
    made.server_close()


@pytest.fixture
def work(server: QuickServer) -> Iterator[Work]:
    """The job at `/work`."""
    made = Work()
    server.json_worker("/work")(made)
    yield made
    made.may_go_on.set()


@pytest.fixture
def blocked(server: QuickServer) -> Iterator[Blocked]:
    """The handler at `/blocked`."""
    made = Blocked()
    server.text_get("/blocked")(made)
    yield made
    made.may_go_on.set()


@pytest.fixture
def patient_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start waits for a fast job, however slow the machine."""
    monkeypatch.setattr(protocol, "START_WAIT", PATIENCE)


@pytest.fixture
def hasty_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A start does not wait for anything, so that slow jobs need no time."""
    monkeypatch.setattr(protocol, "START_WAIT", 0.0)


def echo(post: Message) -> Message:
    return post


# ---- jobs -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient_starts")
def test_a_fast_job_answers_at_once(serve: Serve, server: QuickServer) -> None:
    server.json_worker("/work")(echo)
    client = asker(serve(server))
    message = client.start({"a": ["ü", 1.5, None]})
    token = message["token"]
    assert message == {"token": token, "done": True, "continue": False, "result": message["result"]}
    assert json.loads(message["result"]) == {"a": ["ü", 1.5, None]}
    assert client.get(token) == {"token": token, **UNKNOWN}


def test_a_slow_job(serve: Serve, server: QuickServer, work: Work) -> None:
    client = asker(serve(server))
    token = client.start_slow({"n": 1})
    message = client.get(token)
    assert message == {"token": token, **RUNNING, "progress": {"done": 0, "total": None, "text": ""}}
    work.may_go_on.set()
    until_states(server, "finished")
    message = client.get(token)
    assert message == {"token": token, "done": True, "continue": False, "result": '{"n":1}'}
    assert client.get(token) == {"token": token, **UNKNOWN}


@pytest.mark.usefixtures("patient_starts")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (False, "false"),
        ("", '""'),
        ([], "[]"),
        (float("nan"), '"NaN"'),
        ((1, float("inf")), '[1,"Infinity"]'),
        ('"\\\n\u2028ü\U0001f600', '"\\"\\\\\\n\u2028ü\U0001f600"'),
        ("\ud800", '"\\ud800"'),
    ],
    ids=repr,
)
def test_a_result_is_json_in_a_string(
    serve: Serve, server: QuickServer, value: object, text: str
) -> None:
    server.json_worker("/work")(lambda post: value)
    assert asker(serve(server)).start()["result"] == text


@pytest.mark.usefixtures("patient_starts")
def test_a_job_without_a_payload(serve: Serve, server: QuickServer) -> None:
    server.json_worker("/work")(echo)
    assert asker(serve(server)).compute() == {}


def test_many_clients_have_many_jobs(serve: Serve, server: QuickServer) -> None:
    server.json_worker("/work")(echo)
    run = serve(server)
    wrong: list[object] = []

    def ask(client: Asker, who: int) -> None:
        for number in range(25):
            payload = {"who": who, "number": number}
            if (result := client.compute(payload)) != payload:
                wrong.append((payload, result))

    threads = [threading.Thread(target=ask, args=(asker(run), who)) for who in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not wrong
    assert on_loop(server, server._table.states) == []
    await_no_job_threads()


@pytest.mark.usefixtures("patient_starts")
def test_messages_are_answered_in_order(serve: Serve, server: QuickServer) -> None:
    """Sent ahead on one connection."""
    server.json_worker("/work")(echo)
    client = asker(serve(server))
    for number in range(50):
        client.send("start", payload={"n": number})
        client.send("get", number)
    for number in range(50):
        assert json.loads(client.message()["result"]) == {"n": number}
        assert client.message() == {"token": str(number), **UNKNOWN}


def test_tokens_may_be_numbers(serve: Serve, server: QuickServer, work: Work) -> None:
    """Clients of old convert them; they are exact as numbers of JavaScript."""
    server.max_chunk_size = 4
    client = asker(serve(server))
    token = client.start_slow({"n": 1})
    assert int(token) == float(token) < 2**53
    assert client.get(int(token))["token"] == token
    work.may_go_on.set()
    message = client.get(int(token), LONG)
    cargo = message["result"]
    assert [json.loads(client.ask("cargo", int(one)).body)["result"] for one in cargo] == [
        '{"n"',
        ":1}",
    ]
    assert client.stop(int(token)) == {"token": token, **UNKNOWN}


def test_segments_overwrite_the_payload(serve: Serve, server: QuickServer) -> None:
    server.json_worker("/pre/:name/:kind/work")(echo)
    client = asker(serve(server), "/pre/gr%C3%B6%C3%9Fe%2F/b/work?name=query")
    assert client.compute({"name": "mine", "of": 1}) == {"name": "größe/", "kind": "b", "of": 1}


def test_a_worker_that_is_registered_while_the_server_runs(serve: Serve, server: QuickServer) -> None:
    run = serve(server)
    server.json_worker("/work")(echo)
    assert asker(run).compute({"n": 1}) == {"n": 1}


def test_a_server_that_nobody_runs(server: QuickServer) -> None:
    server.json_worker("/work")(echo)
    client = server.test_client()
    message = client.post("/work", json={"action": "start", "payload": {"n": 1}}).json()
    while not message["done"]:
        message = client.post(
            "/work", json={"action": "get", "token": message["token"], "wait": LONG}
        ).json()
    assert json.loads(message["result"]) == {"n": 1}


def test_handlers_that_never_overlap(serve: Serve, log: Log) -> None:
    """Workers go on beside them."""
    server = create_server(("127.0.0.1", 0), parallel=False)
    blocked = Blocked()
    server.text_get("/blocked")(blocked)
    server.json_worker("/work")(echo)
    run = serve(server)
    (client,) = blocked.keep_busy(run, 1)
    assert asker(run).compute({"n": 1}) == {"n": 1}
    blocked.may_go_on.set()
    assert client.answer().body == b"done"


# ---- waiting ----------------------------------------------------------------------------------


def test_who_waits_is_answered_at_the_end(serve: Serve, server: QuickServer, work: Work) -> None:
    client = asker(serve(server))
    token = client.start_slow({"n": 1})
    client.send("get", token, wait=LONG)
    until_waiting(server, 1)
    work.may_go_on.set()
    assert client.message()["result"] == '{"n":1}'


def test_waiting_costs_no_thread(serve: Serve, server: QuickServer, work: Work) -> None:
    run = serve(server)
    token = asker(run).start_slow()
    waiting = [asker(run) for _ in range(50)]
    before = set(threading.enumerate())
    for client in waiting:
        client.send("get", token, wait=LONG)
    until_waiting(server, 50)
    assert set(threading.enumerate()) == before
    work.may_go_on.set()
    assert {client.message()["result"] for client in waiting} == {"{}"}


def test_a_wait_has_an_end(serve: Serve, server: QuickServer, work: Work) -> None:
    client = asker(serve(server))
    token = client.start_slow()
    assert client.get(token, 1) == client.get(token)


def test_a_client_that_leaves_while_it_waits(serve: Serve, server: QuickServer, work: Work) -> None:
    """It asks again, and has lost nothing."""
    run = serve(server)
    client = asker(run)
    token = client.start_slow({"n": 1})
    client.send("get", token, wait=LONG)
    until_waiting(server, 1)
    client.client.close()
    until_waiting(server, 0)
    work.may_go_on.set()
    until_states(server, "finished")
    assert asker(run).get(token)["result"] == '{"n":1}'


def test_a_client_that_ends_its_side_while_it_waits(
    serve: Serve, server: QuickServer, work: Work
) -> None:
    run = serve(server)
    client = asker(run)
    token = client.start_slow({"n": 1})
    client.send("get", token, wait=LONG)
    until_waiting(server, 1)
    client.client.half_close()
    assert client.message()["continue"] is True
    assert client.client.at_end()
    work.may_go_on.set()
    assert asker(run).get(token, LONG)["result"] == '{"n":1}'


def test_a_client_that_left_before_its_message_was_read(
    serve: Serve, server: QuickServer, work: Work
) -> None:
    """The middleware took its time over it. Nobody may wait for a client of which that is known."""
    entered, may_go_on = threading.Event(), threading.Event()

    def slowly(req: Req, args: ReqArgs, okay: ReqNext) -> ReqNext:
        if args["post"]["action"] == "get":
            entered.set()
            assert may_go_on.wait(PATIENCE)
        return okay

    server.threads = 1  # so that requests are handled in the order in which they come
    server.middleware(slowly)(work)
    server.text_get("/okay")(lambda req, args: "okay")
    run = serve(server)
    client = asker(run)
    token = client.start_slow({"n": 1})
    client.send("get", token, wait=LONG)
    assert entered.wait(PATIENCE)
    client.client.close()
    let_it_see(server)
    may_go_on.set()
    assert run.get("/okay").body == b"okay"
    work.may_go_on.set()
    work.await_ended()
    await_no_job_threads()
    let_it_see(server)
    assert asker(run).get(token)["result"] == '{"n":1}'


def test_a_client_that_left_before_its_start_was_read(
    serve: Serve, server: QuickServer, work: Work
) -> None:
    """Nobody could ever ask for what would be computed."""
    entered, may_go_on = threading.Event(), threading.Event()

    def slowly(req: Req, args: ReqArgs, okay: ReqNext) -> ReqNext:
        entered.set()
        assert may_go_on.wait(PATIENCE)
        return okay

    server.threads = 1
    server.middleware(slowly)(work)
    server.text_get("/okay")(lambda req, args: "okay")
    run = serve(server)
    client = asker(run)
    client.send("start")
    assert entered.wait(PATIENCE)
    client.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.client.close()
    let_it_see(server)
    may_go_on.set()
    assert run.get("/okay").body == b"okay"
    until_states(server)
    await_no_job_threads()


def test_a_client_that_left_before_its_stop_was_read(
    serve: Serve, server: QuickServer, work: Work, blocked: Blocked
) -> None:
    """A page that is left, for instance: what it has said last counts."""
    server.threads = 1
    server.middleware(lambda req, args, okay: okay)(work)
    server.text_get("/okay")(lambda req, args: "okay")
    run = serve(server)
    client = asker(run)
    token = client.start_slow()
    (busy,) = blocked.keep_busy(run, 1)
    client.send("stop", token)
    let_it_see(server)
    client.client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.client.close()
    let_it_see(server)
    blocked.may_go_on.set()
    assert busy.answer().body == b"done"
    assert run.get("/okay").body == b"okay"
    until_states(server)
    work.await_ended()
    assert work.how == ["died"]


def test_progress_is_told_to_who_waits(serve: Serve, server: QuickServer) -> None:
    steps, over = [threading.Event() for _ in range(4)], threading.Event()

    @server.json_worker("/work")
    def work(post: Message) -> str:
        for number, step in enumerate(steps):
            assert step.wait(PATIENCE)
            progress(number, 4, f"step {number}")
        assert over.wait(PATIENCE)
        return "done"

    client = asker(serve(server))
    message = client.start()
    for number, step in enumerate(steps):
        step.set()
        while message["progress"]["text"] != f"step {number}":
            message = client.get(message["token"], LONG)
        assert message["progress"] == {"done": number, "total": 4, "text": f"step {number}"}
    over.set()
    assert client.result(message) == "done"


@pytest.mark.parametrize(
    ("make_items", "total", "told"),
    [
        (lambda: [7, 8, 9], None, 3),
        (lambda: range(3), 5, 5),
        (lambda: iter("abc"), None, None),
        (lambda: iter("abc"), 3, 3),
    ],
)
def test_tracked_items(
    serve: Serve,
    server: QuickServer,
    make_items: Callable[[], Any],
    total: float | None,
    told: float | None,
) -> None:
    at, may_go_on = threading.Semaphore(0), threading.Semaphore(0)

    @server.json_worker("/work")
    def work(post: Message) -> list[object]:
        seen = []
        for item in track(make_items(), total, "going"):
            at.release()
            assert may_go_on.acquire(timeout=PATIENCE)
            seen.append(item)
        at.release()
        assert may_go_on.acquire(timeout=PATIENCE)
        return seen

    client = asker(serve(server))
    message = client.start()
    for number in range(4):
        assert at.acquire(timeout=PATIENCE)
        message = client.get(message["token"])
        assert message["progress"] == {"done": number, "total": told, "text": "going"}
        may_go_on.release()
    assert client.result(message) == [*make_items()]


def test_progress_may_be_told_as_often_as_one_likes(serve: Serve, server: QuickServer) -> None:
    @server.json_worker("/work")
    def work(post: Message) -> int:
        for number in range(100_000):
            progress(number, 100_000, "counting")
        return number

    assert asker(serve(server)).compute() == 99_999


def test_outside_of_a_job() -> None:
    progress(1, 2, "nobody listens")
    assert list(track([1, 2])) == [1, 2]
    assert is_worker_alive()
    assert get_worker_check()()


# ---- jobs that fail ---------------------------------------------------------------------------


@pytest.mark.usefixtures("patient_starts")
def test_a_job_that_raises(serve: Serve, server: QuickServer, log: Log) -> None:
    @server.json_worker("/work")
    def work(post: Message) -> None:
        raise ValueError("the secret")

    answer = asker(serve(server)).ask("start")
    assert answer.status == 500
    assert b"secret" not in answer.body
    log.wait_for(r'(?s)the job "/work" failed.*Traceback.*ValueError: the secret')
    assert on_loop(server, server._table.states) == []


@pytest.mark.usefixtures("patient_starts")
@pytest.mark.parametrize(
    ("function", "line"),
    [
        (lambda post: sys.exit(3), "SystemExit: 3"),
        (lambda post: object(), "TypeError: .*object"),
        (lambda post: {"a": [1, b"bytes"]}, "TypeError: .*bytes"),
        (lambda post: post["nothing"], "KeyError: 'nothing'"),
        (lambda post: exec("raise KeyboardInterrupt"), "KeyboardInterrupt"),
        (lambda: None, "TypeError: .* positional argument"),
    ],
)
def test_jobs_that_fail_otherwise(
    serve: Serve, server: QuickServer, log: Log, function: Any, line: str
) -> None:
    server.json_worker("/work")(function)
    server.json_worker("/echo")(echo)
    run = serve(server)
    answer = asker(run).ask("start")
    assert answer.status == 500
    log.wait_for(f"(?s)Traceback.*{line}")
    assert asker(run, "/echo").compute({"n": 1}) == {"n": 1}


@pytest.mark.usefixtures("patient_starts")
@pytest.mark.parametrize(("code", "status"), [(418, 418), (404, 404), (503, 503), (None, 500)])
def test_a_job_that_says_how_it_fails(
    serve: Serve, server: QuickServer, log: Log, code: int | None, status: int
) -> None:
    @server.json_worker("/work")
    def work(post: Message) -> None:
        raise PreventDefaultResponse(code, "short & stout")

    answer = asker(serve(server)).ask("start")
    assert answer.status == status
    assert b"short &amp; stout" in answer.body
    assert "Traceback" not in log.text


def test_a_failure_is_told_to_who_waits(serve: Serve, server: QuickServer, work: Work) -> None:
    @server.json_worker("/fails")
    def fails(post: Message) -> None:
        work({})
        raise PreventDefaultResponse(418, "short")

    run = serve(server)
    client = asker(run, "/fails")
    token = client.start_slow()
    client.send("get", token, wait=LONG)
    until_waiting(server, 1)
    work.may_go_on.set()
    assert client.client.answer().status == 418
    assert client.get(token) == {"token": token, **UNKNOWN}


@pytest.mark.usefixtures("patient_starts")
def test_an_error_page_for_programs(serve: Serve, server: QuickServer) -> None:
    @server.json_worker("/work")
    def work(post: Message) -> None:
        raise PreventDefaultResponse(418, "short")

    body = b'{"action": "start"}'
    answer = serve(server).request("POST", "/work", body, Accept="application/json")
    assert answer.status == 418
    assert json.loads(answer.body)["message"] == "short"


# ---- stopping ---------------------------------------------------------------------------------


def test_death_comes_in_the_midst_of_a_loop(serve: Serve, server: QuickServer, log: Log) -> None:
    """And makes room for the next."""
    begun, ended = threading.Event(), threading.Event()
    seen: list[str] = []

    @server.json_worker("/loop")
    def loop(post: Message) -> None:
        begun.set()
        try:
            while True:
                for _ in itertools.count():
                    pass
        except Exception:
            seen.append("an Exception")
        except WorkerDeath:
            seen.append("death")
            raise
        finally:
            ended.set()

    server.max_workers = 1
    server.json_worker("/work")(echo)
    run = serve(server)
    client = asker(run, "/loop")
    token = client.start_slow()
    assert begun.wait(PATIENCE)
    assert client.stop(token) == {"token": token, **STOPPED}
    assert client.get(token) == {"token": token, **UNKNOWN}
    assert ended.wait(PATIENCE)
    assert seen == ["death"]
    assert asker(run).compute({"n": 1}) == {"n": 1}
    await_no_job_threads()
    assert "Traceback" not in log.text


def test_a_job_that_does_not_die(serve: Serve, server: QuickServer, log: Log) -> None:
    """It keeps its place, and what comes of it is nobody's."""
    stubborn = Work()

    @server.json_worker("/stubborn")
    def work(post: Message) -> Message:
        while True:
            try:
                return stubborn(post)
            except WorkerDeath:
                pass

    server.max_workers = 1
    server.json_worker("/work")(echo)
    run = serve(server)
    client, other = asker(run, "/stubborn"), asker(run)
    token = client.start_slow()
    client.stop(token)
    stubborn.await_ended()
    stubborn.await_begun(2)
    message = other.start({"n": 1})
    nothing = {"done": 0, "total": None, "text": ""}
    assert message == {"token": message["token"], **RUNNING, "progress": nothing, "queue": 0}
    stubborn.may_go_on.set()
    assert other.result(message) == {"n": 1}
    assert client.get(token) == {"token": token, **UNKNOWN}
    assert stubborn.how == ["died", "returned"]


def test_who_waits_hears_of_the_stop(serve: Serve, server: QuickServer, work: Work) -> None:
    run = serve(server)
    client, other = asker(run), asker(run)
    token = client.start_slow()
    client.send("get", token, wait=LONG)
    until_waiting(server, 1)
    assert other.stop(token) == {"token": token, **STOPPED}
    assert client.message() == {"token": token, **STOPPED}
    work.await_ended()
    assert work.how == ["died"]


@pytest.mark.usefixtures("hasty_starts")
def test_death_reaches_nobody_else(serve: Serve, server: QuickServer, log: Log) -> None:
    """Jobs are stopped at any moment of their short lives: there it is raised, or nowhere."""

    @server.json_worker("/work")
    def work(post: Message) -> list[int]:
        return list(track(range(50 * post["n"])))

    client = asker(serve(server))
    answers = []
    for number in range(300):
        token = client.start({"n": number % 20})["token"]
        answers.append(client.stop(token))
        assert client.get(token) == {"token": token, **UNKNOWN}
    assert {**answers[0], "token": ""} == {"token": "", **STOPPED}
    until(server, lambda: not server._table._begun)
    await_no_job_threads()
    assert client.compute({"n": 1}) == list(range(50))
    assert "Traceback" not in log.text


def test_jobs_that_ask_whether_they_are_wanted(serve: Serve, log: Log) -> None:
    """From their own thread, and from those that work for them. Nothing is raised."""
    server = create_server(("127.0.0.1", 0), soft_worker_death=True)
    begun, ended = threading.Event(), threading.Event()
    seen: list[object] = []

    @server.json_worker("/work")
    def work(post: Message) -> None:
        check = get_worker_check()
        unwanted = threading.Event()

        def help_out() -> None:
            begun.set()
            while check():
                pass
            seen.append(is_worker_alive())  # of this thread, which is in no job
            unwanted.set()

        assert is_worker_alive()
        helper = threading.Thread(target=help_out)
        helper.start()
        try:
            assert unwanted.wait(PATIENCE)
            helper.join(PATIENCE)
            seen.append(is_worker_alive())
        except WorkerDeath:
            seen.append("death")
        finally:
            ended.set()

    client = asker(serve(server))
    token = client.start_slow()
    assert begun.wait(PATIENCE)
    assert not ended.is_set()
    client.stop(token)
    assert ended.wait(PATIENCE)
    assert seen == [True, False]
    await_no_job_threads()


# ---- where jobs are computed ------------------------------------------------------------------


class Marked(threading.Thread):
    """A thread of the user's own kind."""


class Unwilling:
    """Makes threads, or not."""

    def __init__(self) -> None:
        self.refuses = False

    def __call__(self, **arguments: Any) -> threading.Thread:
        if self.refuses:
            raise RuntimeError("no more threads")
        return threading.Thread(**arguments)


def name_of_the_thread(post: Message) -> list[object]:
    thread = threading.current_thread()
    return [type(thread).__name__, thread.name, thread.daemon]


def test_the_thread_factory_makes_the_threads_of_jobs(serve: Serve, log: Log) -> None:
    server = create_server(("127.0.0.1", 0), thread_factory=Marked)
    server.json_worker("/work")(name_of_the_thread)
    assert asker(serve(server)).compute() == ["Marked", "quick_server job /work", True]


def test_no_thread_for_a_job(serve: Serve, log: Log) -> None:
    factory = Unwilling()
    server = create_server(("127.0.0.1", 0), thread_factory=factory)
    server.json_worker("/work")(echo)
    client = asker(serve(server))
    assert client.compute({"n": 1}) == {"n": 1}
    factory.refuses = True
    assert client.ask("start").status == 503
    factory.refuses = False
    assert client.compute({"n": 2}) == {"n": 2}
    assert on_loop(server, server._table.states) == []
    log.wait_for("RuntimeError: no more threads")


class Unstartable(threading.Thread):
    """What a thread is where the system has no more of them."""

    def start(self) -> None:
        raise RuntimeError("can't start new thread")


def test_a_thread_that_cannot_begin_is_none(server: QuickServer, log: Log) -> None:
    worker = DefaultWorker(server, Unstartable)
    task = WorkerTask("/work", echo, {}, lambda task, result: None, 100)
    with pytest.raises(RuntimeError, match="can't start"):
        worker.start(task)
    worker.stop(task)
    worker.close(1)


def own_task(function: Callable[[Message], Any]) -> tuple[WorkerTask, list[Result]]:
    """A task, and what became of it."""
    found: list[Result] = []
    task = WorkerTask("/work", function, {"n": 1}, lambda task, result: found.append(result), 100)
    return task, found


def test_a_task_that_nobody_wants_any_more_is_not_begun(server: QuickServer) -> None:
    calls: list[Message] = []
    worker = DefaultWorker(server)
    task, found = own_task(calls.append)
    task.alive = False
    worker.start(task)
    worker.close(PATIENCE)
    assert found == [Result()]
    assert not calls


def test_what_has_ended_cannot_be_stopped(server: QuickServer) -> None:
    """The death of a task does not reach what its thread is at after it."""
    worker = DefaultWorker(server)
    task, found = own_task(echo)
    worker.start(task)
    worker.close(PATIENCE)
    worker.stop(task)
    assert [result.error for result in found] == [None]
    assert json.loads(json.loads(found[0].pieces[0])) == {"n": 1}


def test_a_store_that_is_broken_fails_the_job(server: QuickServer, log: Log) -> None:
    class Broken:
        def store(self, key: object, text: str) -> None:
            raise OSError("no space")

    worker = DefaultWorker(server)
    task, found = own_task(echo)
    task.keep_in(Broken(), "key")
    worker.start(task)
    worker.close(PATIENCE)
    assert [result.error is not None and result.error[0] for result in found] == [500]
    log.wait_for("OSError: no space")


class OwnWorker(BaseWorker):
    """Has what it is to compute computed by the test."""

    def __init__(self, server: QuickServer) -> None:
        super().__init__(server)
        self.tasks: list[WorkerTask] = []
        self.begun = threading.Semaphore(0)
        self.stopped: list[bool] = []
        self.closed: list[float] = []

    def start(self, task: WorkerTask) -> None:
        self.tasks.append(task)
        self.begun.release()

    def stop(self, task: WorkerTask) -> None:
        self.stopped.append(task.alive)

    def close(self, patience: float) -> None:
        self.closed.append(patience)

    def task(self, number: int) -> WorkerTask:
        assert self.begun.acquire(timeout=PATIENCE)
        return self.tasks[number]


def test_a_worker_of_the_users_own(serve: Serve, log: Log) -> None:
    made: list[OwnWorker] = []

    def make(server: QuickServer) -> OwnWorker:
        made.append(OwnWorker(server))
        return made[-1]

    server = create_server(("127.0.0.1", 0), worker_constructor=make)
    server.json_worker("/work/:name")(lambda post: [post, threading.current_thread().name])
    (worker,) = made
    assert worker.server is server
    run = serve(server)
    client = asker(run, "/work/a")
    token = client.start_slow({"n": 1})
    task = worker.task(0)
    assert (task.name, task.payload, task.alive) == ("/work/:name", {"n": 1, "name": "a"}, True)
    task.finish(task.run())
    expected = [{"n": 1, "name": "a"}, threading.current_thread().name]
    assert client.result(client.get(token, LONG)) == expected
    other = client.start_slow()
    client.stop(other)
    assert worker.stopped == [False]
    assert worker.task(1).run().error is None  # it may be computed nevertheless
    worker.tasks[1].finish(worker.tasks[1].run())
    until(server, lambda: not server._table._begun)
    server.server_close()
    assert len(worker.closed) == 1


# ---- many jobs, and little room ---------------------------------------------------------------


def test_more_jobs_than_may_run(serve: Serve, server: QuickServer, work: Work) -> None:
    server.max_workers = 2
    run = serve(server)
    clients = [asker(run) for _ in range(5)]
    for number, client in enumerate(clients):
        client.send("start", payload={"n": number})
        until(server, lambda number=number: len(server._table.states()) == number + 1)  # type: ignore[misc]
    messages = [client.message() for client in clients]
    work.await_begun(2)
    assert [message.get("queue") for message in messages] == [None, None, 0, 1, 2]
    assert [post["n"] for post in work.calls] in ([0, 1], [1, 0])
    work.may_go_on.set()
    results = [client.result(message) for client, message in zip(clients, messages, strict=True)]
    assert [result["n"] for result in results] == list(range(5))
    assert len(work.calls) == 5


@pytest.mark.usefixtures("hasty_starts")
def test_a_line_that_is_too_long(serve: Serve, server: QuickServer, work: Work) -> None:
    server.limits = server.limits._replace(jobs_in_line=2)
    server.max_workers = 1
    client = asker(serve(server))
    tokens = [client.start_slow() for _ in range(3)]
    answer = client.ask("start")
    assert answer.status == 503
    assert answer.get("retry-after") == "1"
    client.stop(tokens[1])
    client.start_slow()
    assert client.ask("start").status == 503


def test_jobs_are_followed_while_all_threads_are_busy(
    serve: Serve, server: QuickServer, work: Work, blocked: Blocked
) -> None:
    server.max_chunk_size = 3
    run = serve(server)
    busy = blocked.keep_busy(run, THREADS)
    assert server._pool.waiting == 0
    client = asker(run)
    token, other = client.start_slow({"n": 1}), client.start_slow()
    assert client.get(token)["continue"] is True
    assert client.get("1") == {"token": "1", **UNKNOWN}
    assert client.stop(other) == {"token": other, **STOPPED}
    client.send("get", token, wait=LONG)
    until_waiting(server, 1)
    work.may_go_on.set()
    assert client.result(client.message()) == {"n": 1}
    assert client.ask("cargo", "1").status == 404
    assert client.compute({"n": 2}) == {"n": 2}
    blocked.may_go_on.set()
    assert [one.answer().body for one in busy] == [b"done"] * THREADS


@pytest.mark.usefixtures("hasty_starts")
def test_requests_are_answered_while_all_workers_are_busy(
    serve: Serve, server: QuickServer, work: Work
) -> None:
    server.text_get("/okay")(lambda req, args: "okay")
    run = serve(server)
    client = asker(run)
    assert server.max_workers == 32
    for _ in range(33):
        client.start_slow()
    work.await_begun(32)
    for _ in range(2 * THREADS):
        assert run.get("/okay").body == b"okay"
    assert len(work.calls) == 32
    until_states(server, *["running"] * 32, "in line")


def test_ten_thousand_jobs_leave_nothing(server: QuickServer) -> None:
    """Started, computed, and their results read, a few hundred at a time."""
    table = server._table
    spec = JobSpec("/work", echo, server._workers[0])
    for start in range(0, 10_000, 250):
        calls = []
        for number in range(start, start + 250):
            calls.append(Call())
            message = {"action": "start", "payload": {"n": number}}
            table.start(calls[-1].exchange, protocol.parse_action(message), spec)
        deadline = time.monotonic() + PATIENCE
        while not all(call.answered for call in calls):
            assert time.monotonic() < deadline
            server.turn(0.01)
        for number, call in enumerate(calls, start):
            message = call.message
            while not message["done"]:
                get = {"action": "get", "token": message["token"], "wait": LONG}
                call = Call()
                table.act(call.exchange, protocol.parse_action(get))
                while not call.answered:
                    server.turn(0.01)
                message = call.message
            assert message["result"] == f'{{"n":{number}}}'
    await_no_job_threads()
    assert not table.states()
    for left in (table._jobs, table._line, table._begun, table._by_key, table._kept):
        assert not left
    assert table._kept_bytes == 0


# ---- what is let in ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 20_000], ids=["short", "long"])
def test_malformed_messages(serve: Serve, server: QuickServer, size: int) -> None:
    """Each is told so, whether it is read by the loop or in the pool, and the connection goes on."""
    server.json_worker("/work")(echo)
    client = asker(serve(server))
    pad = " " * size
    for body in (
        " ",
        "{",
        "[]",
        '"start"',
        "null",
        "\ufffd",
        "{}",
        '{"action": "begin"}',
        '{"action": ["start"]}',
        '{"action": "start", "payload": []}',
        '{"action": "start", "payload": {"n": NaN}}',
        '{"action": "start", "payload": {"n": 1e999}}',
        '{"action": "start", "payload": {"n": %s}}' % ("[" * 101 + "]" * 101),
        '{"action": "start", "wait": "1"}',
        '{"action": "start", "wait": -1}',
        '{"action": "get"}',
        '{"action": "get", "token": "a"}',
        '{"action": "get", "token": 1.5}',
        '{"action": "stop", "token": null}',
        '{"action": "cargo", "token": "-1"}',
    ):
        client.send_body((pad + body).encode())
        answer = client.client.answer()
        assert answer.status == 400, body
    client.send_body(pad.encode() + b"\xff{}")
    assert client.client.answer().status == 400
    client.send_body(b"")
    assert client.client.answer().status == 400
    assert client.compute({"n": 1}) == {"n": 1}


@pytest.mark.parametrize("size", [0, 20_000], ids=["short", "long"])
def test_a_wait_of_more_digits_than_a_float_has(serve: Serve, server: QuickServer, size: int) -> None:
    server.json_worker("/work")(echo)
    client = asker(serve(server))
    message = '{"action": "get", "token": 1, "wait": 1%s}' % ("0" * 400)
    client.send_body((" " * size + message).encode())
    assert client.client.answer().status in (200, 400)


@pytest.mark.parametrize("size", [10_000, 16_300, 16_400, 100_000, 3_000_000])
def test_large_messages(serve: Serve, server: QuickServer, size: int) -> None:
    """Those over 16 KiB are read in the pool."""
    server.json_worker("/work")(lambda post: len(post["text"]))
    assert asker(serve(server)).compute({"text": "ü" * (size // 6)}) == size // 6


def test_messages_that_are_too_large(serve: Serve, server: QuickServer) -> None:
    server.max_file_size = 1000
    server.json_worker("/work")(echo)
    run = serve(server)
    assert asker(run).compute({"n": 1}) == {"n": 1}
    assert asker(run).ask("start", payload={"text": "x" * 1000}).status == 413


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
def test_only_a_post_is_a_message(serve: Serve, server: QuickServer, method: str) -> None:
    server.json_worker("/work")(echo)
    answer = serve(server).request(method, "/work")
    assert answer.status == 405
    assert answer.get("allow") == "POST"


def test_pages_of_other_sites_are_refused(serve: Serve, server: QuickServer, work: Work) -> None:
    run = serve(server)
    token = asker(run).start_slow()
    for message in ({"action": "start"}, {"action": "stop", "token": token}):
        body = json.dumps(message).encode()
        answer = run.request("POST", "/work", body, Origin="https://evil.example")
        assert answer.status == 403
    body = json.dumps({"action": "get", "token": token}).encode()
    assert run.request("POST", "/work", body, Origin="http://localhost:3000").status == 200
    assert len(work.calls) == 1
    until_states(server, "running")


def test_pages_that_may_read_may_read_every_answer(
    serve: Serve, server: QuickServer, work: Work
) -> None:
    server.cross_origin = True
    run = serve(server)

    def ask(message: Message) -> Answer:
        body = json.dumps(message).encode()
        answer = run.request("POST", "/work", body, Origin="https://app.example")
        assert answer.get("access-control-allow-origin") == "*"
        return answer

    token = json.loads(ask({"action": "start"}).body)["token"]
    assert ask({"action": "get", "token": token, "wait": 1}).status == 200
    assert ask({"action": "cargo", "token": token}).status == 404
    assert ask({"action": "gat"}).status == 400
    assert ask({"action": "stop", "token": token}).status == 200


# ---- middleware -------------------------------------------------------------------------------


class Guard:
    """Middleware that asks for a key, and keeps what it was asked about."""

    def __init__(self) -> None:
        self.asked: list[Message] = []

    def __call__(self, req: Req, args: ReqArgs, okay: ReqNext) -> object:
        self.asked.append(args["post"])
        req.send_header("X-Guard", "was here")
        if req.headers.get("x-key") != "right":
            return Response({"refused": True}, 403)
        return okay


def register_in_a_block(server: QuickServer, guard: Guard, work: Callable[[Message], Any]) -> None:
    with server.middlewares(guard):
        server.json_worker("/work")(work)


def register_above(server: QuickServer, guard: Guard, work: Callable[[Message], Any]) -> None:
    server.middleware(guard)(server.json_worker("/work")(work))


def register_below(server: QuickServer, guard: Guard, work: Callable[[Message], Any]) -> None:
    server.json_worker("/work")(server.middleware(guard)(work))


Register = Callable[[QuickServer, Guard, Callable[[Message], Any]], None]
registrations = pytest.mark.parametrize(
    "register", [register_in_a_block, register_above, register_below]
)


@registrations
def test_middleware_is_asked_about_every_message(
    serve: Serve, server: QuickServer, register: Register
) -> None:
    guard, work = Guard(), Work()
    register(server, guard, work)
    server.max_chunk_size = 4
    run = serve(server)

    def ask(key: str = "right", **message: Any) -> Answer:
        body = json.dumps(message).encode()
        kind = "application/json"
        answer = run.request("POST", "/work", body, X_Key=key, Content_Type=kind)
        assert guard.asked[-1] == message
        assert answer.get("x-guard") == "was here"
        if key != "right":
            assert answer.status == 403
            assert json.loads(answer.body) == {"refused": True}
        return answer

    ask("wrong", action="start", payload={"n": 0})
    token = json.loads(ask(action="start", payload={"n": 1}).body)["token"]
    ask("wrong", action="stop", token=token)
    ask("wrong", action="get", token=token, wait=LONG)
    assert work.calls == [{"n": 1}]
    work.may_go_on.set()
    message = json.loads(ask(action="get", token=token, wait=LONG).body)
    while not message["done"]:
        message = json.loads(ask(action="get", token=token, wait=LONG).body)
    cargo = message["result"]
    ask("wrong", action="cargo", token=cargo[0])
    pieces = [json.loads(ask(action="cargo", token=one).body)["result"] for one in cargo]
    assert "".join(pieces) == '{"n":1}'
    assert ask(action="stop", token=token).status == 200


@registrations
def test_middleware_does_not_stand_between_a_job_and_its_payload(
    serve: Serve, server: QuickServer, register: Register
) -> None:
    guard = Guard()
    register(server, guard, echo)
    body = json.dumps({"action": "start", "payload": {"n": [1]}, "wait": LONG}).encode()
    run = serve(server)
    message = json.loads(run.request("POST", "/work", body, X_Key="right").body)
    while not message["done"]:
        body = json.dumps({"action": "get", "token": message["token"], "wait": LONG}).encode()
        message = json.loads(run.request("POST", "/work", body, X_Key="right").body)
    assert json.loads(message["result"]) == {"n": [1]}


KINDS = (
    "application/json; charset=utf-8",
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=a",
    "nonsense",
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_is_one_whatever_it_is_said_to_be(
    serve: Serve, server: QuickServer, kind: str
) -> None:
    server.json_worker("/work")(echo)
    client = Asker(serve(server).connect(), kind=kind)
    assert client.compute({"n": 1}) == {"n": 1}
    assert client.compute({"text": "x" * 20_000}) == {"text": "x" * 20_000}


@pytest.mark.parametrize("kind", KINDS)
def test_middleware_sees_the_message_whatever_it_is_said_to_be(
    serve: Serve, server: QuickServer, work: Work, kind: str
) -> None:
    """Else it would judge something else than what is done."""
    seen: list[object] = []

    def look(req: Req, args: ReqArgs, okay: ReqNext) -> object:
        seen.append(args["post"])
        return okay

    server.middleware(look)(work)
    client = Asker(serve(server).connect(), kind=kind)
    token = client.start_slow({"n": 1})
    client.stop(token)
    assert [message.get("action") for message in seen if isinstance(message, dict)] == ["start", "stop"]


@pytest.mark.parametrize(
    ("function", "status"),
    [
        (lambda req, args, okay: None, 404),
        (lambda req, args, okay: {"mine": 1}, 200),
        (lambda req, args, okay: ReqNext(), 500),
        (lambda req, args, okay: 1 / 0, 500),
        (lambda req, args, okay: req.send_error(402), 402),
    ],
)
def test_other_answers_of_middleware(
    serve: Serve, server: QuickServer, work: Work, function: Any, status: int
) -> None:
    server.middleware(function)(work)
    answer = asker(serve(server)).ask("start")
    assert answer.status == status
    assert not work.calls
    if status == 200:
        assert json.loads(answer.body) == {"mine": 1}


def test_middleware_that_raises(serve: Serve, server: QuickServer, work: Work) -> None:
    def refuse(req: Req, args: ReqArgs, okay: ReqNext) -> object:
        raise PreventDefaultResponse(401, "who are you")

    server.middleware(refuse)(work)
    answer = asker(serve(server)).ask("start")
    assert answer.status == 401
    assert b"who are you" in answer.body
    assert not work.calls


def test_pre_middleware(serve: Serve, server: QuickServer) -> None:
    paths: list[str] = []

    def guard(req: Req, path: str, cookie: object) -> None:
        paths.append(path)
        req.send_header("X-Guard", "was here")
        if req.headers.get("x-key") != "right":
            raise PreventDefaultResponse(401, "who are you")

    server.add_pre_middleware(guard)
    server.json_worker("/work")(echo)
    run = serve(server)
    body = b'{"action": "start", "payload": {"n": 1}}'
    assert run.request("POST", "/work?a=1", body).status == 401
    answer = run.request("POST", "/work?a=1", body, X_Key="right")
    assert answer.status == 200
    assert answer.get("x-guard") == "was here"
    assert paths == ["/work?a=1"] * 2


# ---- long results -----------------------------------------------------------------------------


def test_a_result_in_pieces(serve: Serve, server: QuickServer) -> None:
    server.max_chunk_size = 7
    value = ["größer", {"\U0001f600": list(range(10)), "quoted": '"\\'}]
    server.json_worker("/work")(lambda post: value)
    client = asker(serve(server))
    message = client.start(wait=LONG)
    while not message["done"]:
        message = client.get(message["token"], LONG)
    assert message["continue"] is True
    assert len(message["result"]) > 5
    assert client.result(message) == value
    assert client.ask("cargo", message["result"][0]).status == 404


def test_thirty_megabytes(serve: Serve, server: QuickServer) -> None:
    """In pieces of 10 MiB, as it is by default."""
    value = ["ü" * 1000, *(str(number) for number in range(3)), "x" * 30_000_000]
    server.json_worker("/work")(lambda post: value)
    client = asker(serve(server))
    message = client.start(wait=LONG)
    while not message["done"]:
        message = client.get(message["token"], LONG)
    assert len(message["result"]) == 3
    assert client.result(message) == value
    assert server._table._kept_bytes == 0


# ---- shared and cached results ----------------------------------------------------------------


def identity(post: Message) -> Message | None:
    """What makes results the same; of some there is nothing."""
    return {"n": post["n"]} if post.get("n") else None


@pytest.fixture
def cached(server: QuickServer, tmp_path: Path) -> Iterator[Work]:
    """The job at `/cached`, of which results are kept."""
    server.cache = QuickCache(quota=500, ram_quota=100, temp=str(tmp_path / "cache"))
    made = Work()
    server.json_worker("/cached", cache_id=identity)(made)
    yield made
    made.may_go_on.set()


def test_a_result_is_computed_once(serve: Serve, server: QuickServer, cached: Work) -> None:
    """Whoever asks for it later has it with the answer to the start."""
    cached.may_go_on.set()
    client = asker(serve(server), "/cached")
    assert client.compute({"n": 1, "who": "a"}) == {"n": 1, "who": "a"}
    message = client.start({"n": 1, "who": "b"})
    assert message["done"] is True
    assert json.loads(message["result"]) == {"n": 1, "who": "a"}
    assert len(cached.calls) == 1
    assert client.compute({"n": 2}) == {"n": 2}
    assert len(cached.calls) == 2


def test_a_long_result_is_computed_once(serve: Serve, server: QuickServer, cached: Work) -> None:
    cached.may_go_on.set()
    server.max_chunk_size = 3
    client = asker(serve(server), "/cached")
    results = [client.compute({"n": 1, "text": "größer"}) for _ in range(3)]
    assert results == [{"n": 1, "text": "größer"}] * 3
    assert len(cached.calls) == 1


def test_a_result_without_an_id_is_not_kept(serve: Serve, server: QuickServer, cached: Work) -> None:
    cached.may_go_on.set()
    client = asker(serve(server), "/cached")
    for _ in range(3):
        assert client.compute({"n": 0}) == {"n": 0}
    assert len(cached.calls) == 3


def test_a_failure_is_not_kept(serve: Serve, server: QuickServer, cached: Work) -> None:
    calls: list[Message] = []

    @server.json_worker("/fails", cache_id=identity)
    def fails(post: Message) -> None:
        calls.append(post)
        raise PreventDefaultResponse(418, "short")

    client = asker(serve(server), "/fails")
    for number in range(1, 4):
        answer = client.ask("start", payload={"n": 1})
        while answer.status == 200:
            answer = client.ask("get", json.loads(answer.body)["token"], wait=LONG)
        assert answer.status == 418
        assert len(calls) == number


@pytest.mark.parametrize("with_cache", [True, False])
def test_simultaneous_jobs_share_a_computation(
    serve: Serve, server: QuickServer, cached: Work, with_cache: bool
) -> None:
    if not with_cache:
        server.cache = None
    run = serve(server)
    clients = [asker(run, "/cached") for _ in range(4)]
    for client in clients:
        client.send("start", payload={"n": 1})
    tokens = [client.message()["token"] for client in clients]
    assert len(set(tokens)) == 4
    until_states(server, *["running"] * 4)
    clients[0].stop(tokens[0])
    cached.may_go_on.set()
    for client, token in zip(clients[1:], tokens[1:], strict=True):
        assert client.result(client.get(token, LONG)) == {"n": 1}
    assert clients[0].get(tokens[0]) == {"token": tokens[0], **UNKNOWN}
    assert len(cached.calls) == 1
    assert cached.how == ["returned"]


def test_a_shared_computation_ends_with_the_last_who_wants_it(
    serve: Serve, server: QuickServer, cached: Work
) -> None:
    client = asker(serve(server), "/cached")
    tokens = [client.start_slow({"n": 1}) for _ in range(3)]
    for token in tokens:
        assert cached.how == []
        client.stop(token)
    cached.await_ended()
    assert cached.how == ["died"]
    cached.may_go_on.set()
    assert client.compute({"n": 1}) == {"n": 1}
    assert len(cached.calls) == 2


def test_workers_do_not_share_with_each_other(serve: Serve, server: QuickServer) -> None:
    gates = {path: Work() for path in ("/a", "/b")}
    for path, work in gates.items():
        server.json_worker(path, cache_id=identity)(work)
    run = serve(server)
    clients = {path: asker(run, path) for path in gates}
    tokens = {path: client.start_slow({"n": 1}) for path, client in clients.items()}
    for path, work in gates.items():
        work.may_go_on.set()
        assert clients[path].result(clients[path].get(tokens[path], LONG)) == {"n": 1}
        assert len(work.calls) == 1


def test_an_id_that_fails_costs_no_answer(serve: Serve, server: QuickServer, log: Log) -> None:
    server.json_worker("/work", cache_id=lambda post: {"n": post["nothing"]})(echo)
    client = asker(serve(server))
    assert client.compute({"n": 1}) == {"n": 1}
    log.wait_for("KeyError: 'nothing'")


# ---- the end of the server --------------------------------------------------------------------


@pytest.mark.parametrize("soft", [False, True])
def test_the_server_ends_while_jobs_run(log: Log, soft: bool) -> None:
    server = create_server(("127.0.0.1", 0), soft_worker_death=soft)
    begun, ended = threading.Semaphore(0), threading.Semaphore(0)

    @server.json_worker("/work")
    def work(post: Message) -> None:
        try:
            begun.release()
            while True:
                if soft and not is_worker_alive():  # who is ended the hard way does not ask
                    break
        finally:
            ended.release()

    server.max_workers = 3
    with running(server) as run:
        clients = [asker(run) for _ in range(5)]
        for client in clients:
            client.send("start")
        for _ in range(3):
            assert begun.acquire(timeout=PATIENCE)
        for client in clients:
            client.message()
    for _ in range(3):
        assert ended.acquire(timeout=PATIENCE)
    assert not begun.acquire(blocking=False)
    await_no_job_threads()
    assert "Traceback" not in log.text


class Lingering(threading.Thread):
    """A thread whose end takes until somebody waits for it."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.may_end = threading.Event()

    def run(self) -> None:
        super().run()
        self.may_end.wait(PATIENCE)

    def join(self, timeout: float | None = None) -> None:
        self.may_end.set()
        super().join(timeout)


def test_the_end_of_the_server_waits_for_threads_that_have_just_finished(log: Log) -> None:
    server = create_server(("127.0.0.1", 0), thread_factory=Lingering)
    server.json_worker("/work")(echo)
    with running(server) as run:
        client = asker(run)
        assert [client.compute({"n": number})["n"] for number in range(5)] == list(range(5))
        assert len(job_threads()) == 5
    assert not [thread for thread in threading.enumerate() if isinstance(thread, Lingering)]


def test_who_waits_is_answered_when_the_server_ends(
    serve: Serve, server: QuickServer, work: Work
) -> None:
    client = asker(serve(server))
    token = client.start_slow()
    client.send("get", token, wait=LONG)
    until_waiting(server, 1)
    server.done = True
    assert client.message()["continue"] is True
    assert client.client.at_end()


def test_the_log_tells_what_becomes_of_jobs(
    serve: Serve, server: QuickServer, work: Work, log: Log
) -> None:
    server.verbose_workers = True
    client = asker(serve(server))
    token = client.start_slow()
    client.stop(token)
    log.wait_for(r'(?s)the job "/work" .*: started.*the job "/work" .*: stopped')
    assert token not in log.text
