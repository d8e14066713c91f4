"""Tokens through a real server: what clients send, servers at one Redis, and a Redis that is away."""

from __future__ import annotations

import dbm.dumb
import json
import re
import shelve
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from quick_server import (
    DefaultTokenHandler,
    QuickServer,
    TokenHandler,
    create_server,
    worker_request,
)
from tests.harness import PATIENCE, Answer, Running
from tests.integration.logs import Log
from tests.integration.redisserver import RedisServer
from tests.unit.test_tokens import in_threads

TEXT = (Path(__file__).parent / "seed_tokens.rst.txt").read_text()
BLOCKS = [
    textwrap.dedent(block) for block in re.findall(r"\.\. code:: python\n\n((?: {4}.*\n|\n)+)", TEXT)
]
Serve = Callable[[QuickServer], Running]
LOOPBACK = ("127.0.0.1", 0)


@pytest.fixture
def redis_server(tmp_path: Path, log: Log) -> Iterator[RedisServer]:
    found = RedisServer(tmp_path)
    yield found
    found.dispose()


def add_handlers(server: QuickServer) -> QuickServer:
    """A session that clients count their visits in."""

    @server.json_post("/begin")
    def begin(req: Any, args: Any) -> Any:
        return server.create_token()

    @server.json_post("/visit")
    def visit(req: Any, args: Any) -> Any:
        with server.get_token_obj(args["post"]["token"]) as obj:
            obj["visits"] = obj.get("visits", 0) + 1
            return obj

    @server.json_post("/look")
    def look(req: Any, args: Any) -> Any:
        return server.get_token_obj(args["post"]["token"], readonly=True)

    @server.json_post("/left")
    def left(req: Any, args: Any) -> Any:
        return {"left": server.get_token_ttl(args["post"]["token"])}

    @server.json_post("/end")
    def end(req: Any, args: Any) -> Any:
        return server.get_token_obj(args["post"]["token"], expire=0)

    return server


def ask(run: Running, target: str, **post: Any) -> Answer:
    body = json.dumps(post).encode()
    return run.request("POST", target, body, content_type="application/json")


def value(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return json.loads(answer.body)


# ---- in memory --------------------------------------------------------------------------------------


def test_the_snippets_run_as_printed(serve: Serve) -> None:
    server = create_server(LOOPBACK)
    names: dict[str, Any] = {"server": server}
    assert len(BLOCKS) == 2
    for block in BLOCKS:
        exec(compile(block, "script", "exec"), names)
    [token] = server.get_tokens()
    handler = names["json_request"]
    server.add_json_post_mask("/answer", lambda req, args: {"obj": handler(req, args)})
    run = serve(server)
    assert value(ask(run, "/answer", token=token)) == {"obj": None}
    assert server.get_token_ttl(token) is None
    assert ask(run, "/json_request", token=token).status == 404  # as it returns None
    assert ask(run, "/json_request", token="new").status == 404
    assert server.get_tokens() == [token, "new"]


def test_a_session(serve: Serve) -> None:
    run = serve(add_handlers(create_server(LOOPBACK)))
    token = value(ask(run, "/begin"))
    assert value(ask(run, "/look", token=token)) == {}
    assert value(ask(run, "/visit", token=token)) == {"visits": 1}
    assert value(ask(run, "/visit", token=token)) == {"visits": 2}
    assert 3590 < value(ask(run, "/left", token=token))["left"] <= 3600
    assert value(ask(run, "/end", token=token)) == {}
    assert value(ask(run, "/left", token=token)) == {"left": 0}
    assert value(ask(run, "/visit", token=token)) == {"visits": 1}


@pytest.mark.parametrize("target", ["/visit", "/look", "/left", "/end"])
@pytest.mark.parametrize(
    "token", [None, 7, 1e300, True, [], ["a"], {"a": 1}, "", "a" * 201, "\ud800" * 201]
)
def test_what_cannot_be_a_token_is_a_400(target: str, token: Any) -> None:
    server = add_handlers(create_server(LOOPBACK))
    answer = server.test_client().post(target, body=json.dumps({"token": token}).encode(), headers=JSON)
    server.server_close()
    assert (answer.status, answer.json()["message"]) == (400, "that is not a token")
    assert server.get_tokens() == []


JSON = {"Content-Type": "application/json", "Accept": "application/json"}


def test_visits_at_the_same_time_are_all_counted(serve: Serve) -> None:
    run = serve(add_handlers(create_server(LOOPBACK)))

    def visit() -> None:
        client = run.connect()
        for _ in range(100):
            body = b'{"token": "a"}'
            assert client.request("POST", "/visit", body, content_type="application/json").status == 200

    with in_threads(*[visit] * 4):
        pass
    assert value(ask(run, "/look", token="a")) == {"visits": 400}


# ---- a store of somebody's own ----------------------------------------------------------------------


class Shelf(TokenHandler):
    """Tokens in a file, each with the time when it is over."""

    def __init__(self, path: Path) -> None:
        found: Any = dbm.dumb.open(str(path))  # noqa: SIM115 (`close` closes it)
        self.shelf: shelve.Shelf[Any] = shelve.Shelf(found)  # other databases are bound to a thread
        self.mutex = threading.RLock()
        self.locks: dict[str, threading.Lock] = {}

    def lock(self, key: str) -> AbstractContextManager[Any]:
        with self.mutex:
            return self.locks.setdefault(key, threading.Lock())

    def ttl(self, key: str) -> float | None:
        with self.mutex:
            end = self.shelf[key][0] if key in self.shelf else 0
            return None if end is None else max(0, end - time.time())

    def flush_old_tokens(self) -> None:
        with self.mutex:
            for key in [key for key in self.shelf if self.ttl(key) == 0]:
                del self.shelf[key]

    def add_token(self, key: str, expire: float | None) -> dict[str, Any]:
        with self.mutex:
            _, obj = self.shelf.get(key, (None, {}))
            self.shelf[key] = (None if expire is None else time.time() + expire, obj)
            return dict(obj)

    def put_token(self, key: str, obj: dict[str, Any]) -> None:
        with self.mutex:
            if key in self.shelf:
                self.shelf[key] = (self.shelf[key][0], obj)

    def delete_token(self, key: str) -> None:
        with self.mutex:
            self.shelf.pop(key, None)

    def get_tokens(self) -> list[str]:
        with self.mutex:
            return list(self.shelf)

    def close(self) -> None:
        self.shelf.close()


def test_a_store_in_a_file_survives_the_server(serve: Serve, tmp_path: Path) -> None:
    server = add_handlers(create_server(LOOPBACK, token_handler=Shelf(tmp_path / "tokens")))
    with server.running() as url:
        run = Running(server)
        token = value(ask(run, "/begin"))
        with in_threads(*[lambda: ask(run, "/visit", token=token)] * 10):
            pass
        assert url.startswith("http")
    again = add_handlers(create_server(LOOPBACK, token_handler=Shelf(tmp_path / "tokens")))
    run = serve(again)
    assert value(ask(run, "/visit", token=token)) == {"visits": 11}
    assert again.get_tokens() == [token]


# ---- in Redis ---------------------------------------------------------------------------------------


def test_two_servers_share_one_redis(serve: Serve, redis_server: RedisServer) -> None:
    runs = [
        serve(add_handlers(create_server(LOOPBACK, token_handler=redis_server.handler())))
        for _ in range(2)
    ]
    token = value(ask(runs[0], "/begin"))

    def visit(run: Running) -> None:
        for _ in range(25):
            value(ask(run, "/visit", token=token))

    with in_threads(*[lambda run=run: visit(run) for run in runs * 2]):
        pass
    assert value(ask(runs[0], "/look", token=token)) == {"visits": 100}
    assert value(ask(runs[1], "/end", token=token)) == {}
    assert value(ask(runs[0], "/left", token=token)) == {"left": 0}


def test_a_job_in_a_process_uses_the_tokens_of_its_client(
    serve: Serve, redis_server: RedisServer
) -> None:
    server = create_server(LOOPBACK, token_handler=redis_server.handler())

    @server.json_worker("/work", executor="process")
    def work(post: Any) -> Any:
        with server.get_token_obj(post["token"]) as obj:
            obj["worked"] = obj.get("worked", 0) + 1
        return dict(obj)

    token = server.create_token()
    with server.get_token_obj(token) as obj:
        obj["worked"] = 1
    run = serve(server)
    assert worker_request(f"{run.url}/work", {"token": token}) == {"worked": 2}
    assert worker_request(f"{run.url}/work", {"token": token}) == {"worked": 3}
    assert server.get_token_obj(token) == {"worked": 3}


@pytest.mark.parametrize("store", ["memory", "Redis"])
def test_a_job_that_is_stopped_while_it_waits_keeps_nobody_out(
    serve: Serve, redis_server: RedisServer, store: str
) -> None:
    handler = redis_server.handler() if store == "Redis" else DefaultTokenHandler()
    server = create_server(LOOPBACK, token_handler=handler)
    jobs: list[threading.Thread] = []

    @server.json_worker("/work")
    def work(post: Any) -> None:
        jobs.append(threading.current_thread())
        with server.get_token_obj("a"):
            pass

    def waits() -> bool:
        frame = sys._current_frames().get(jobs[0].ident or 0) if jobs else None
        return frame is not None and frame.f_code.co_name == "acquire"

    run = serve(server)
    with server.get_token_obj("a"):
        token = value(ask(run, "/work", action="start", payload={}))["token"]
        deadline = time.monotonic() + PATIENCE
        while not waits():
            assert time.monotonic() < deadline
            time.sleep(0.001)
        ask(run, "/work", action="stop", token=token)
    jobs[0].join(PATIENCE)
    with server.get_token_obj("a") as obj:  # in this thread, which is not the job's
        obj["n"] = 1


def test_a_redis_that_is_away_costs_answers_and_not_the_server(
    serve: Serve, redis_server: RedisServer, log: Log
) -> None:
    server = add_handlers(create_server(LOOPBACK, token_handler=redis_server.handler(timeout=0.5)))
    server.add_text_get_mask("/other", lambda req, args: "fine")
    run = serve(server)
    token = value(ask(run, "/begin"))

    redis_server.stand_still()
    statuses: list[int] = []
    start = time.monotonic()
    with in_threads(*[lambda: statuses.append(ask(run, "/visit", token=token).status)] * 24):
        assert run.get("/other").body == b"fine"
    assert statuses == [503] * 24
    assert time.monotonic() - start < 3  # 8 at a time, 0.5 s each, and those that come then not at all
    redis_server.go_on()
    assert value(ask(run, "/visit", token=token))["visits"] >= 1

    redis_server.end()
    for target in ("/begin", "/visit", "/look", "/left", "/end"):
        answer = ask(run, target, token=token)
        assert answer.status == 503
        assert b"tokens cannot be had at the moment" in answer.body
    redis_server.start()
    assert value(ask(run, "/visit", token=token)) == {"visits": 1}
    said = [line for line in log.text.splitlines() if "Redis" in line]
    assert [line.startswith("[SERVER] no Redis") for line in said] in ([True, False] * 2, [True, False])
    assert "Traceback" not in log.text


@pytest.mark.parametrize("token", [None, 7, ["a"], "", "a" * 201, "a" * 200, "\ud800", "*", "\0"])
def test_no_token_is_a_500_with_redis(redis_server: RedisServer, token: Any, log: Log) -> None:
    server = add_handlers(create_server(LOOPBACK, token_handler=redis_server.handler()))
    client = server.test_client()
    expected = 200 if isinstance(token, str) and 0 < len(token) <= 200 else 400
    for target in ("/visit", "/look", "/left", "/end"):
        answer = client.post(target, body=json.dumps({"token": token}).encode(), headers=JSON)
        assert answer.status == expected
    server.server_close()
