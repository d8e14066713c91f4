"""Jobs outside of threads of their own: processes, executors, a cluster."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import quick_server
from quick_server import QuickServer, create_server
from quick_server.testclient import TestClient

SERVER = os.getpid()


def where(post: dict[str, Any]) -> dict[str, Any]:
    """Fails as it is told to, or says what it was given and whether this is another process."""
    if post.get("raise"):
        raise ValueError("as told")
    if post.get("tea"):
        raise quick_server.PreventDefaultResponse(418, "tea")
    return {"elsewhere": os.getpid() != SERVER, "n": post.get("n")}


class Work:
    """A server with one worker, and what clients do to it."""

    def __init__(self, server: QuickServer, client: TestClient) -> None:
        self.server = server
        self.client = client

    def ask(self, **message: Any) -> Any:
        """The answer to a message, or its status if that is not 200."""
        answer = self.client.post("/work", json=message)
        return answer.json() if answer.status == 200 else answer.status

    def start(self, payload: dict[str, Any]) -> Any:
        """Starts a job and follows it to its end; its result, or the status."""
        answer = self.ask(action="start", payload=payload, wait=20_000)
        while isinstance(answer, dict) and answer["continue"]:
            answer = self.ask(action="get", token=answer["token"], wait=20_000)
        return json.loads(answer["result"]) if isinstance(answer, dict) else answer

    def wait_until(self, holds: Callable[[list[str]], bool]) -> None:
        """Asks for the states of the jobs until they are as they should be."""
        done = threading.Event()
        for _ in range(1000):
            if holds([state.state for state in self.server._table.states()]):
                return
            done.wait(0.01)
        raise AssertionError("it does not come to that")


@contextmanager
def working(executor: Any, function: Callable[[dict[str, Any]], Any] = where) -> Iterator[Work]:
    """A server whose worker computes with that executor."""
    server = create_server(("127.0.0.1", 0))
    try:
        server.json_worker("/work", executor=executor)(function)
        with server.running():
            yield Work(server, server.test_client())
    finally:
        server.server_close()


def process_pool() -> Executor:
    return ProcessPoolExecutor(1, mp_context=get_context("fork"))


@pytest.fixture(params=["process", "threads", "processes"])
def work(request: pytest.FixtureRequest) -> Iterator[Work]:
    if request.param == "process":
        with working("process") as found:
            yield found
        return
    executor = ThreadPoolExecutor(2) if request.param == "threads" else process_pool()
    with executor, working(executor) as found:
        yield found


def test_results_and_failures(work: Work, capfd: pytest.CaptureFixture[str]) -> None:
    assert work.start({"n": 7})["n"] == 7
    assert work.start({"raise": True}) == 500
    assert work.start({"tea": True}) == 418
    assert "ValueError: as told" in "".join(capfd.readouterr())
    assert work.start({"n": "é\n" * 100_000})["n"] == "é\n" * 100_000


def test_a_process_finds_what_the_script_has_loaded() -> None:
    loaded = {"rows": [1, 2, 3]}
    with working("process", lambda post: {**where(post), **loaded}) as work:
        assert work.start({}) == {"elsewhere": True, "n": None, "rows": [1, 2, 3]}


def test_progress_of_a_process(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def job(_post: dict[str, Any]) -> int:
        quick_server.progress(3, 10, "half-way")
        return len(gate.read_bytes())  # until somebody has written

    with working("process", job) as work:
        answer = work.ask(action="start", payload={})
        while answer["progress"]["done"] != 3:
            answer = work.ask(action="get", token=answer["token"], wait=10_000)
        assert answer["progress"] == {"done": 3, "total": 10, "text": "half-way"}
        gate.write_bytes(b"abc")
        answer = work.ask(action="get", token=answer["token"], wait=20_000)
        assert answer["result"] == "3"


def test_stopping_ends_a_process_whatever_it_does(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def stubborn(_post: dict[str, Any]) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        gate.write_text(str(os.getpid()))
        while True:
            signal.pause()

    with working("process", stubborn) as work:
        answer = work.ask(action="start", payload={})
        pid = int(gate.read_text())
        os.kill(pid, 0)
        assert work.ask(action="stop", token=answer["token"])["done"]
        ended = threading.Event()
        for _ in range(1000):
            if not work.server._table._begun:
                break
            ended.wait(0.01)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_process_that_dies(capfd: pytest.CaptureFixture[str]) -> None:
    def die(_post: dict[str, Any]) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with working("process", die) as work:
        assert work.start({}) == 500
    assert "died: signal 9" in "".join(capfd.readouterr())


def test_a_process_that_exits(capfd: pytest.CaptureFixture[str]) -> None:
    with working("process", lambda _post: os._exit(7)) as work:
        assert work.start({}) == 500
    assert "died: exit code 7" in "".join(capfd.readouterr())


@pytest.fixture
def reaped() -> Iterator[None]:
    """The kernel takes processes away when they end, and nobody gets to know how."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("reaped")
def test_somebody_else_takes_processes_away(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def job(post: dict[str, Any]) -> dict[str, Any]:
        if post.get("exit"):
            os._exit(7)
        if post.get("wait"):
            gate.write_text("begun")
            signal.pause()
        return where(post)

    with working("process", job) as work:
        assert work.start({"n": 1}) == {"elsewhere": True, "n": 1}
        assert work.start({"exit": True}) == 500
        work.ask(action="start", payload={"wait": True})
        assert gate.read_text() == "begun"
    assert "died: exit code 0" in "".join(capfd.readouterr())


def test_no_more_processes(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """Limits of processes do not hold for root, so that the refusal itself is made up."""

    def refuse() -> int:
        raise BlockingIOError(errno.EAGAIN, "as told")

    with working("process") as work:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fork", refuse)
            assert work.start({}) == 503
        assert work.start({"n": 1}) == {"elsewhere": True, "n": 1}
    assert "no process for the job '/work': as told" in "".join(capfd.readouterr())


def test_a_system_that_cannot_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    server = create_server(("127.0.0.1", 0))
    try:
        monkeypatch.delattr(os, "fork")
        with pytest.raises(RuntimeError, match="a system that can fork"):
            server.json_worker("/work", executor="process")(where)
    finally:
        server.server_close()


def test_progress_that_no_json_can_say(tmp_path: Path) -> None:
    def job(_post: dict[str, Any]) -> int:
        quick_server.progress(1, 2, object())  # type: ignore[arg-type] # that is the point
        return 1

    with working("process", job) as work:
        assert work.start({}) == 1


def test_processes_end_with_the_server(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def endless(_post: dict[str, Any]) -> None:
        gate.write_text(str(os.getpid()))
        while True:
            signal.pause()

    with working("process", endless) as work:
        work.ask(action="start", payload={})
        pid = int(gate.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_process_holds_none_of_the_servers_descriptors() -> None:
    def sockets(_post: dict[str, Any]) -> list[str]:
        links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        return [os.readlink(link) for link in links if os.path.lexists(link)]

    with working("process", sockets) as work:
        mine = os.readlink(f"/proc/self/fd/{work.server.socket.fileno()}")
        found = work.start({})
        assert mine.startswith("socket:")
        assert mine not in found
        assert not [name for name in found if "eventpoll" in name]


def test_an_executor_that_is_closed(capfd: pytest.CaptureFixture[str]) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    with working(executor) as work:
        assert work.start({}) == 503
    assert "does not take the job" in "".join(capfd.readouterr())


def test_progress_and_stop_reach_threads_of_an_executor() -> None:
    begun = threading.Event()

    def job(_post: dict[str, Any]) -> None:
        begun.set()
        quick_server.progress(1, 2)
        wait = threading.Event()
        while quick_server.is_worker_alive():
            wait.wait(0.01)

    with ThreadPoolExecutor(1) as executor, working(executor, job) as work:
        answer = work.ask(action="start", payload={})
        assert begun.wait(20)
        answer = work.ask(action="get", token=answer["token"], wait=1)
        assert answer["progress"]["total"] == 2
        assert work.ask(action="stop", token=answer["token"])["done"]


def test_what_is_no_executor() -> None:
    server = create_server(("127.0.0.1", 0))
    try:
        with pytest.raises(ValueError, match="process"):
            server.json_worker("/work", executor="thread")(where)  # type: ignore[arg-type]
    finally:
        server.server_close()


CLUSTER = """
import json, os, sys, warnings
from distributed import Client, LocalCluster
from quick_server import PreventDefaultResponse, create_server

def main(gate):
    here, offset = os.getpid(), 40
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0")
    client = Client(cluster)
    server = create_server(("127.0.0.1", 0))

    @server.json_worker("/work", executor=client.get_executor())
    def work(post):
        if post.get("wait"):
            open(gate).read()
        if post.get("raise"):
            raise ValueError("as told")
        if post.get("tea"):
            raise PreventDefaultResponse(418, "tea")
        return {"elsewhere": os.getpid() != here, "sum": offset + post["n"]}

    def ask(**message):
        answer = asking.post("/work", json=message)
        return answer.json() if answer.status == 200 else answer.status

    with server.running():
        asking = server.test_client()
        print(ask(action="start", payload={"n": 2}, wait=30000)["result"])
        print(ask(action="start", payload={"raise": True}, wait=30000))
        print(ask(action="start", payload={"tea": True}, wait=30000))
        token = ask(action="start", payload={"wait": True, "n": 0})["token"]
        print(ask(action="stop", token=token)["done"])
        open(gate, "w").close()  # it may go on: what it returns is nobody's business any more
        print(ask(action="get", token=token)["result"])
        print(ask(action="start", payload={"n": 3}, wait=30000)["result"])
    client.close()
    cluster.close()

if __name__ == "__main__":
    main(sys.argv[1])
"""


def test_a_cluster(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    script = tmp_path / "on_a_cluster.py"
    script.write_text(CLUSTER)
    done = subprocess.run(
        [sys.executable, str(script), str(gate)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=tmp_path,
    )
    assert done.stdout.splitlines() == [
        '{"elsewhere":true,"sum":42}',
        "500",
        "418",
        "True",
        "None",
        '{"elsewhere":true,"sum":43}',
    ], done.stderr
    assert "ValueError: as told" in done.stderr
