"""What seldom happens to a job's process, and to a script whose folder is gone."""

from __future__ import annotations

import atexit
import importlib.util
import io
import json
import os
import signal
import socket
import struct
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest

from quick_server import PreventDefaultResponse, handover, lifecycle, supervisor
from quick_server.pool import Pool, PoolFullError
from quick_server.processes import ProcessWorker, _Child, _Process
from quick_server.reactor import READ, Reactor
from quick_server.workers import Progress, Result, WorkerArgs, WorkerTask
from tests.harness import PATIENCE
from tests.unit.fakes import tcp_pair

_HEAD = struct.Struct(">cI")


def _nothing(_args: WorkerArgs) -> None:
    return None


def _refuses(_args: WorkerArgs) -> None:
    raise PreventDefaultResponse(409, "taken")


class _Subject:
    """A task's process of which nothing has been forked yet, and what is told of it."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.results: list[Result] = []
        self.gone: set[WorkerTask] = set()
        self.task = WorkerTask(
            "job", _nothing, {}, lambda _task, result: self.results.append(result), 99
        )
        self.process = _Process(self.task, reactor, Pool(reactor, 1, 1), self.gone.add)

    def listen(self, sock: socket.socket, *command: str) -> int:
        """Its process runs this program, and speaks through `sock`."""
        pid = os.posix_spawn("/bin/sh", ["sh", "-c", *command], {"PATH": os.defpath}) if command else 0
        sock.setblocking(False)
        self.process._sock = sock
        self.process._listen(pid)
        return pid


@pytest.fixture
def subject(reactor: Reactor, log: io.StringIO) -> _Subject:
    return _Subject(reactor)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(PATIENCE)
    with ours, theirs:
        yield ours, theirs


# ---- the server's side ------------------------------------------------------------------------


def test_a_job_that_finds_no_place_in_the_pool_is_not_remembered(reactor: Reactor) -> None:
    server: Any = None
    worker = ProcessWorker(server, reactor, Pool(reactor, 1, 0))
    task = WorkerTask("job", _nothing, {}, lambda *_: None, 99)
    with pytest.raises(PoolFullError):
        worker.start(task)
    worker.stop(task)  # there is nothing to stop
    assert worker._children == {}


def test_a_job_that_was_stopped_before_its_turn_gets_no_process(
    subject: _Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fork() -> NoReturn:
        pytest.fail("there is a process")

    monkeypatch.setattr(os, "fork", fork)
    subject.task.alive = False
    subject.process.fork()
    subject.reactor.turn(0)
    assert (subject.results, subject.gone) == ([Result()], {subject.task})


def test_a_job_that_is_stopped_while_it_is_forked_is_asked_to_end(
    subject: _Subject, pair: tuple[socket.socket, socket.socket]
) -> None:
    subject.task.alive = False
    pid = subject.listen(pair[0], "exec sleep 60")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    subject.process.bury()  # although it was waited for already
    assert pair[0].fileno() == -1


@pytest.mark.parametrize("kind", [b"r", b"e"])
def test_what_cannot_be_read_fails_the_job(subject: _Subject, log: io.StringIO, kind: bytes) -> None:
    subject.process._conclude(kind, b"\xff")
    subject.reactor.turn(0)
    assert subject.results == [Result(error=(500, "the job failed; see the server's log"))]
    assert 'the job "job" failed' in log.getvalue()


def test_a_false_alarm_changes_nothing(
    subject: _Subject, pair: tuple[socket.socket, socket.socket]
) -> None:
    subject.listen(pair[0])
    subject.process._on_ready(READ)
    assert pair[0].fileno() in subject.reactor.descriptors()
    pair[1].send(_HEAD.pack(b"p", 3) + b"[7]")
    subject.reactor.turn(PATIENCE)
    assert subject.task.progress == Progress(7)
    assert subject.results == []


def test_a_connection_that_breaks_is_the_end_of_the_process(
    subject: _Subject, log: io.StringIO
) -> None:
    with tcp_pair() as (ours, theirs):
        pid = subject.listen(ours, "exit 3")
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        theirs.close()  # resets it
        subject.reactor.turn(PATIENCE)
        assert ours.fileno() == -1
    assert subject.results == [Result(error=(500, "the process of the job died"))]
    assert subject.gone == {subject.task}
    assert "exit code 3" in log.getvalue()


def test_nothing_is_done_to_a_process_that_is_not_there(
    subject: _Subject, pair: tuple[socket.socket, socket.socket]
) -> None:
    subject.process._sock = pair[0]
    subject.process.bury()
    assert pair[0].fileno() == -1
    subject.process._listen(0)  # that comes too late
    subject.process.stop()
    subject.process._look(0.1)
    assert (subject.reactor._timers.heap, subject.results, subject.gone) == ([], [], set())


# ---- the process itself -----------------------------------------------------------------------


def test_a_job_may_tell_nonsense_of_itself(pair: tuple[socket.socket, socket.socket]) -> None:
    child = _Child(pair[0], [])
    nonsense: Any = object()
    child.progress = Progress(nonsense)
    assert child.progress == (nonsense, None, "")
    kind, length = _HEAD.unpack(pair[1].recv(_HEAD.size))
    assert (kind, json.loads(pair[1].recv(length))) == (b"p", [0, None, ""])


def test_a_job_that_refuses_tells_its_status_and_no_trace(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    task = WorkerTask("job", _refuses, {}, lambda *_: None, 99)
    kind, content = _Child(pair[0], [])._compute(task)
    assert (kind, json.loads(content)) == (b"e", [409, "taken", ""])


# ---- a script whose folder is gone ------------------------------------------------------------


class _ReplacedError(Exception):
    """Another program runs in the place of this one."""


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`lifecycle`, as it is in a script that was started in a folder that was removed."""

    def removed() -> NoReturn:
        raise FileNotFoundError

    def no_way(folder: str) -> NoReturn:
        pytest.fail(f"went to {folder!r}")

    spec = importlib.util.spec_from_file_location("quick_server._lifecycle_again", lifecycle.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getcwd", removed)
        spec.loader.exec_module(module)
    with monkeypatch.context() as patch:
        patch.setattr(os, "chdir", no_way)
        patch.delenv("QUICK_SERVER_RESTART", raising=False)
        yield module
    atexit.unregister(module._at_exit)


def test_such_a_script_is_supervised_where_it_is(
    homeless: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Supervisor:
        def __init__(self, _command: object, environment: dict[str, str], *_rest: object) -> None:
            self._code = int(environment["QUICK_SERVER_RESTART"])

        def run(self) -> int:
            return self._code

    monkeypatch.setattr(supervisor, "Supervisor", Supervisor)
    homeless.set_restart_exit_code(77)
    with pytest.raises(SystemExit) as end:
        homeless.setup_restart()
    assert end.value.code == 77


def test_such_a_script_runs_again_where_it_is(homeless: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[dict[str, str]] = []

    def execve(_path: str, _command: list[str], environment: dict[str, str]) -> NoReturn:
        run.append(environment)
        raise _ReplacedError

    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(_ReplacedError):
        homeless._run_again()
    os.close(json.loads(run[0][handover.VARIABLE])["note"])
    assert run[0]["QUICK_SERVER_SUBSEQ"] == "1"


def test_a_script_is_watched_once(homeless: Any) -> None:
    homeless._watch()
    watcher = homeless._watching
    homeless._watch()
    assert watcher is not None
    assert homeless._watching is watcher
