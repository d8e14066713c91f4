"""Cases 56 to 60: input that is missing or odd, and the end of a server, of its runs and of its log."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from string import Template

import pytest

from quick_server.settings import Settings
from tests.faults.conftest import Observed
from tests.faults.peers import alone
from tests.faults.processes import (
    Served,
    cpu_seconds,
    descriptors,
    descriptors_at_rest,
    ends,
    in_background,
    serving,
    threads,
    until,
)
from tests.harness import PATIENCE, Client
from tests.integration.scripts import Script
from tests.wire import origins

NO_CONSOLE = "no command loop - use CTRL-C to terminate"

# A command, a page that takes its time, and one that is held until SIGUSR1.
PAGES = """
import signal

gate = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: gate.set())


@server.cmd()
def note(args):
    msg("noted {0}", " ".join(args))


@server.text_get("/moment")
def moment(req, args):
    threading.Event().wait(0.3)
    return "a moment later"


@server.text_get("/held")
def held(req, args):
    print("holding", flush=True)
    gate.wait(20)
    return "held"
"""


def held(served: Served) -> Client:
    """A client whose request is being answered."""
    before = served.read_output().count("holding")
    client = served.connect().send("GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n")
    until(lambda: served.read_output().count("holding") > before, "the handler has begun")
    return client


# ---- 56 and 57: the console ---------------------------------------------------------------------

INPUTS = {
    "at its end": "exec {} </dev/null",
    "closed": "exec {} <&-",
    "for writing only": "exec {} 0>unread",  # what nohup gives in the place of a terminal
    "a pipe at its end": "exec {} < <(:)",
}


@pytest.mark.peers  # they have no console
@pytest.mark.parametrize("source", INPUTS)
def test_56_no_input(tmp_path: Path, source: str) -> None:
    """Without standard input the console is off, which is said once; that costs no processor time."""
    shell = ["bash", "-c", INPUTS[source].format('"$@"'), "bash"]
    with serving(tmp_path, PAGES, prefix=shell) as served:
        served.wait_for(NO_CONSOLE)
        assert served.get("/hello") == b"hello"
        before = cpu_seconds(served.pid)
        assert served.get("/moment") == b"a moment later"
        assert cpu_seconds(served.pid) - before < 0.1
        served.signal(signal.SIGTERM)
        assert served.ended() == 0
        assert served.output.count(NO_CONSOLE) == 1


ODD = {
    "binary": b"\xff\xfe\x00\x80\x1b[31m\x9b",
    "not UTF-8": b"\xed\xa0\x80 \xe2\x80\xae",
    "a null byte": b"\x00",
    "300 KB": b"x" * 300_000,
    "300 KB of words": b"x y " * 75_000,
    "300 KB of null bytes": b"\x00" * 300_000,
}


@pytest.mark.peers
def test_57_odd_lines(tmp_path: Path) -> None:
    """A binary or endless line is one short line of the log, escaped; the console goes on."""
    with serving(tmp_path, PAGES, stdin=subprocess.PIPE) as served:
        served.type(b"note the beginning\n")
        served.wait_for("noted the beginning\n")
        for name, line in ODD.items():
            before = len(served.read_output())
            served.type(line + f"\nnote {name}\n".encode())
            served.wait_for(f"noted {name}\n")
            said = served.output[before:].split("\n")
            assert len(said) == 3, name  # what was odd, what was noted, and nothing behind it
            assert 0 < len(said[0]) < 600
            assert said[0].isprintable()
        assert served.get("/hello") == b"hello"


# ---- 58: the end --------------------------------------------------------------------------------


def end(served: Served, how: str) -> None:
    """Asks the server to end, in that way."""
    if how == "quit":
        served.type(b"quit\n")
    else:
        served.signal(signal.Signals[how])


WAYS = pytest.mark.parametrize("how", ["quit", "SIGTERM", "SIGINT"])


@WAYS
def test_58_the_end(tmp_path: Path, how: str) -> None:
    """`quit`, SIGTERM, SIGINT: no more is accepted, idle connections end, requests are answered."""
    with serving(tmp_path, PAGES, stdin=subprocess.PIPE) as served:
        idle, used = served.connect(), served.connect()
        assert used.request("GET", "/hello").body == b"hello"
        client, port = held(served), served.port
        end(served, how)
        served.refuses(port)
        assert idle.at_end()
        assert used.at_end()
        served.signal(signal.SIGUSR1)
        answer = client.answer()
        assert (answer.body, answer.get("connection")) == (b"held", "close")
        assert client.at_end()
        assert served.ended() == 0
        assert "Traceback" not in served.output


def test_58_requests_that_take_too_long(tmp_path: Path) -> None:
    """Requests that are not answered within `shutdown_timeout` (10 s) are given up; it ends with 0."""
    assert Settings().shutdown_timeout == 10
    with serving(tmp_path, PAGES + "server.shutdown_timeout = 0.3\n") as served:
        client = held(served)
        served.signal(signal.SIGTERM)
        assert served.ended(within=5) == 0
        ends(client)
        assert client.rest == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_58_a_second_signal(tmp_path: Path, number: signal.Signals) -> None:
    """A second signal ends it at once."""
    with serving(tmp_path, PAGES) as served:
        client, port = held(served), served.port
        served.signal(number)
        served.refuses(port)
        served.signal(number)
        assert served.ended(within=5) == 0
        ends(client)
        assert client.rest == b""


GRACEFUL = {"nginx": signal.SIGQUIT}  # SIGTERM for the others


def test_58_a_request_that_is_half_there(
    origin_name: str, tmp_path: Path, observed: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request of which half the body is there at the signal is read and answered; then it ends."""
    text = origins.NGINX_CONFIGURATION.template.replace("master_process off;", "worker_processes 1;")
    monkeypatch.setattr(origins, "NGINX_CONFIGURATION", Template(text))  # else it just ends
    with alone(origin_name, tmp_path) as origin:
        used, client = origin.connect(), origin.connect()
        assert used.request("GET", "/hello").body == b"hello"
        client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nabc")
        assert used.request("GET", "/hello").body == b"hello"  # by now that has been read
        os.kill(origin.pid, GRACEFUL.get(origin_name, signal.SIGTERM))
        idle = (
            "idle ones are closed" if ends(used, within=2) and not used.rest else "idle ones are kept"
        )
        heard = "cut off"
        with suppress(AssertionError, OSError):
            answer = client.send("def").answer()
            heard = f"{answer.status}, {answer.get('connection')}"
        client.close()
        used.close()
        ended = has_ended(origin.pid, within=5)
        observed(f"{heard}, {idle}, {'ends' if ended else 'does not end'}")
        assert (heard, idle, ended) == ("200, close", "idle ones are closed", True)


def has_ended(pid: int, within: float) -> bool:
    """Whether that process, a child of ours, ends in that time."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.01)
    return False


# ---- 59: restarts -------------------------------------------------------------------------------

RESTARTS = """
@server.text_get("/restart")
def restart(req, args):
    server.restart()
    return "restarting"


@server.text_get("/pid")
def pid(req, args):
    return str(os.getpid())
"""


def restarted(served: Served) -> int:
    """Has the script run again; the process of the next run."""
    before = served.get("/pid")
    assert served.get("/restart") == b"restarting"
    until(lambda: served.get("/pid") != before, "the next run")
    return int(served.get("/pid"))


def at_rest(served: Served, run: int) -> tuple[int, int]:
    """Descriptors of the supervisor and of the run, once the latter has seen its clients go."""
    served.close_clients()
    return descriptors(served.pid), descriptors_at_rest(run)


def test_59_restarts_under_load(tmp_path: Path) -> None:
    """Restarted under load it has the same port, no request fails, and no descriptor is leaked."""
    failures: list[str] = []
    answered, over = [0], threading.Event()

    def ask(port: int) -> None:
        while not over.wait(0.003):
            try:
                with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
                    answer = Client(sock).request("GET", "/pid", Connection="close")
                assert answer.status == 200
                answered[0] += 1
            except Exception as error:
                failures.append(repr(error))

    with serving(tmp_path, RESTARTS, supervised=True) as served:
        port = served.port
        run = restarted(served)
        known = at_rest(served, run)  # from the first restart on the supervisor holds the port, too
        with in_background(lambda: ask(port), over.set), in_background(lambda: ask(port), over.set):
            for _ in range(2):
                run, asked = restarted(served), answered[0]
                until(lambda: answered[0] > asked + 20, "some load")  # noqa: B023
        assert failures == []
        assert set(re.findall(r"(?m)^port (\d+)$", served.read_output())) == {str(port)}
        until(lambda: at_rest(served, run) == known, "nothing is left open")
        assert threads(served.pid) == 1
        served.signal(signal.SIGTERM)
        assert served.ended() == 0
        assert "Traceback" not in served.output


def test_59_a_port_in_use(tmp_path: Path) -> None:
    """A port in use: one line that names the address, and exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        script = Script.python("-m", "quick_server", "-a", "127.0.0.1", "-p", str(port), cwd=tmp_path)
        try:
            assert script.ended() == 1
        finally:
            script.dispose()
    assert len(script.output.splitlines()) == 1
    assert f"127.0.0.1:{port}" in script.output


# ---- 60: the log --------------------------------------------------------------------------------

LOGS = {
    "nobody reads it any more": "exec {} 2> >(read line)",  # EPIPE behind the first line
    "the disk is full": "exec {} 2>/dev/full",  # ENOSPC
}


@pytest.mark.parametrize("log", LOGS)
def test_60_the_log_cannot_be_written(tmp_path: Path, log: str) -> None:
    """The log's end goes away (EPIPE), or the disk is full (ENOSPC): serving goes on."""
    shell = ["bash", "-c", LOGS[log].format('"$@"'), "bash"]
    with serving(tmp_path, PAGES, prefix=shell) as served:
        client = served.connect()
        for _ in range(50):
            assert client.request("GET", "/hello").body == b"hello"
            assert client.request("GET", "/nothing").status == 404
        before = cpu_seconds(served.pid)
        assert served.get("/moment") == b"a moment later"
        assert cpu_seconds(served.pid) - before < 0.1
        served.signal(signal.SIGTERM)
        assert served.ended() == 0
