"""The fuzzer where things are not as usual: scripts that leave, threads that stay, jobs that go on."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from quick_server.testing import Kind, Request, command
from quick_server.testing.client import Answer, Client
from quick_server.testing.journal import Journal
from quick_server.testing.judge import Judge
from quick_server.testing.surface import Route
from tests.harness import PATIENCE

# scripts that leave, and what they leave behind -------------------------------------------------------

SERVES = """\
import sys
from quick_server import create_server
server = create_server(("", 80))
server.add_json_get_mask("/length", lambda req, args: 1)
server.serve_forever()
server.server_close()
sys.exit("that is all")
"""


def test_a_script_may_leave_once_it_was_fuzzed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "server.py"
    script.write_text(SERVES)
    assert command.main(["--examples", "1", "--no-wire", "--no-leaks", str(script)]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("nothing found: ")
    assert "the script has ended" not in said.err


@pytest.mark.parametrize("leaving", ["", "0"])
def test_a_script_that_leaves_in_peace_but_serves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], leaving: str
) -> None:
    script = tmp_path / "server.py"
    script.write_text(f"raise SystemExit({leaving})")
    assert command.main([str(script)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "quick-server fuzz: the script has not called serve_forever()\n"


class _Left(BaseException):
    """The process would have ended, with this code."""


def _leave(code: int) -> None:
    raise _Left(code)


def test_a_thread_that_stays_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_LEAVING", 0.0)
    monkeypatch.setattr(os, "_exit", _leave)
    over = threading.Event()
    thread = threading.Thread(target=over.wait, daemon=False)
    thread.start()
    try:
        with pytest.raises(_Left) as left:
            command._leave_threads_behind(7)
    finally:
        over.set()
        thread.join(PATIENCE)
    assert left.value.args == (7,)


class _Ending(threading.Thread):
    """Ends as soon as somebody waits for it."""

    def __init__(self) -> None:
        self.over = threading.Event()
        super().__init__(target=self.over.wait, daemon=False)

    def join(self, timeout: float | None = None) -> None:
        self.over.set()
        super().join(PATIENCE)


def test_threads_that_end_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "_exit", _leave)
    threads = [_Ending(), _Ending()]
    for thread in threads:
        thread.start()
    try:
        command._leave_threads_behind(7)
        assert not any(thread.is_alive() for thread in threads)
    finally:
        for thread in threads:
            thread.join()


# what is made of answers ------------------------------------------------------------------------------


class _Scripted(Client):
    """Answers are given; what is sent is kept."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0))
        self._answers = list(answers)
        self.sent: list[bytes] = []

    def exchange(self, data: bytes, patience: float, *, head_only: bool = False) -> Answer:
        self.sent.append(data)
        return self._answers.pop(0)


def _judge(client: Client) -> Judge:
    return Judge(client, Journal(), slow=1.0, hang=10.0)


ROUTE = Route("GET", "/a")
WORKER = Route("POST", "/work", kind="worker")
START = Request("POST", "/work", body=b'{"action": "start"}')


@pytest.mark.parametrize(
    ("seconds", "detail"),
    [((3.0, 0.5), None), ((3.0, 2.0, 1.0), None), ((3.0, 2.0, 4.0), "2.0 s")],
)
def test_only_what_is_slow_each_time_is_slow(seconds: tuple[float, ...], detail: str | None) -> None:
    client = _Scripted(*(Answer(200, taken) for taken in seconds))
    finding = _judge(client).ask(ROUTE, Request("GET", "/a"))
    assert len(client.sent) == len(seconds)
    assert (finding and (finding.kind, finding.detail)) == (detail and (Kind.SLOW, detail))


@pytest.mark.parametrize(
    ("told", "stops"),
    [
        (b'{"token": "t1", "continue": true}', [b'{"action": "stop", "token": "t1"}']),
        (b'{"token": "t1", "continue": false}', []),
        (b'{"token": "t1"}', []),
        (b"[1]", []),
        (b"no JSON", []),
    ],
)
def test_only_a_job_that_goes_on_is_stopped(told: bytes, stops: list[bytes]) -> None:
    client = _Scripted(Answer(200, body=told), Answer(200, body=b"{}"))
    judge = _judge(client)
    assert judge.ask(WORKER, START) is None
    assert client.sent == [START._replace(body=body).to_bytes() for body in (START.body, *stops)]
    assert judge.requests == 1 + len(stops)


def test_bytes_that_nobody_takes() -> None:
    with socket.socket() as sock:  # it does not listen
        sock.bind(("127.0.0.1", 0))
        finding = _judge(Client(sock.getsockname())).ask(ROUTE, b"\0")
    assert finding is not None
    assert (finding.kind, finding.sent, finding.patience) == (Kind.DROPPED, b"\0", 10.0)
