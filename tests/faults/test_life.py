"""Cases 58 to 60: the end of a server, of its runs and of its log."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from bench.environment import PYTHON
from quick_server.settings import Settings
from tests.faults.conftest import Observed
from tests.faults.messages import ask
from tests.faults.peers import alone
from tests.faults.processes import (
    Served,
    cpu_seconds,
    descriptors,
    descriptors_at_rest,
    ends,
    exit_code,
    in_background,
    serving,
    threads,
    until,
)
from tests.faults.talk import Talk
from tests.harness import PATIENCE, Client
from tests.integration.scripts import Script, environment
from tests.nginx import NGINX, ONE_PROCESS, nginx_command
from tests.wire.origins import Origin

# ---- 58: the end --------------------------------------------------------------------------------

IN_ORDER = {"nginx": {"main": ""}}
"""nginx as the system runs it, with a process above the one that serves: the latter alone just ends."""
GRACEFUL = {"nginx": signal.SIGQUIT}
"""What asks for an end in order, if that is not SIGTERM."""
BY_SIGNAL = ("waitress", "uvicorn")  # they end as if they had not caught it, which is no fault
BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])


@contextmanager
def held(origin: Origin) -> Iterator[Client]:
    """A client whose request is being answered."""
    with closing(origin.connect()) as client:
        client.send("GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: origin.notes.count("held"), "the function has begun")
        yield client


def idle_ones(*clients: Client) -> str:
    """What becomes of connections without a request."""
    closed = [ends(client, within=2) and not client.rest for client in clients]
    return "idle ones are closed" if all(closed) else "idle ones are kept"


def heard(client: Client, expected: bytes = b"held") -> str:
    """What the request that was in flight is answered; nothing more is wanted then."""
    client.sock.settimeout(5)
    try:
        answer = client.answer()
        ended = client.at_end()
    except TimeoutError:
        return "no answer"
    except (AssertionError, OSError):
        return "cut off"
    finally:
        client.close()
    whole = "" if answer.body == expected and ended else ", not as it should be"
    return f"{answer.status}, {answer.get('connection')}{whole}"


def refuses(origin: Origin) -> bool:
    """Whether it soon accepts no more connections."""
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        try:
            origin.connect().close()
        except ConnectionError:
            return True
        time.sleep(0.005)
    return False


def fate(origin: Origin, number: signal.Signals) -> str:
    """How the process ends."""
    code = exit_code(origin.pid, within=5)
    if code == 0 or (code == -number and origin.name in BY_SIGNAL):
        return "ends"
    return "still runs after 5 s" if code is None else f"ends with {code}"


@BOTH
def test_58_the_end(
    origin_name: str, tmp_path: Path, observed: Observed, number: signal.Signals
) -> None:
    """SIGTERM, SIGINT: no more is accepted, idle connections end, requests are answered; it ends."""
    with alone(origin_name, tmp_path, **IN_ORDER.get(origin_name, {})) as origin, ExitStack() as stack:
        idle, used = [stack.enter_context(closing(origin.connect())) for _ in range(2)]
        assert used.request("GET", "/hello").body == b"hello"
        client = stack.enter_context(held(origin))
        os.kill(origin.pid, number)
        accepts = "no more is accepted" if refuses(origin) else "more is accepted"
        rest = idle_ones(idle, used)
        origin.notes.open()
        said, end = heard(client), fate(origin, number)
        observed(f"{said}; {rest}; {accepts}; {end}")
        expected = ("200, close", "idle ones are closed", "no more is accepted", "ends")
        assert (said, rest, accepts, end) == expected
        assert "Traceback" not in origin.output.read_text()


SHORT: dict[str, dict[str, Any]] = {
    "quick_server": {"options": ["shutdown_timeout=0.3"]},
    "nginx": {"main": "worker_shutdown_timeout 300ms;"},
    "waitress": {},  # it has no option
    "uvicorn": {"options": ["--timeout-graceful-shutdown=1"]},
}


def test_58_requests_that_take_too_long(origin_name: str, tmp_path: Path, observed: Observed) -> None:
    """Requests that are not answered within `shutdown_timeout` (10 s) are given up; then it ends."""
    assert Settings().shutdown_timeout == 10
    with alone(origin_name, tmp_path, **SHORT[origin_name]) as origin, held(origin) as client:
        number = GRACEFUL.get(origin_name, signal.SIGTERM)
        os.kill(origin.pid, number)
        waits = exit_code(origin.pid, within=0.1) is None
        end, said = fate(origin, number), heard(client)
        observed(f"{said}; {end}" if waits else "ends without waiting for them")
        assert waits
        assert (end, said) == ("ends", "cut off")
        assert client.rest == b""


@BOTH
def test_58_a_second_signal(
    origin_name: str, tmp_path: Path, observed: Observed, number: signal.Signals
) -> None:
    """A second signal ends it at once."""
    made = IN_ORDER.get(origin_name, {})
    with alone(origin_name, tmp_path, **made) as origin, held(origin) as client:
        os.kill(origin.pid, GRACEFUL.get(origin_name, number))
        refuses(origin)
        waits = exit_code(origin.pid, within=0) is None
        os.kill(origin.pid, number)
        end, said = fate(origin, number), heard(client)
        observed(f"{said}; {end}" if waits else "the first one does that")
        assert waits
        assert (end, said) == ("ends", "cut off")
        assert client.rest == b""


def test_58_a_request_that_is_half_there(origin_name: str, tmp_path: Path, observed: Observed) -> None:
    """A request of which half the body is there at the signal is read and answered; then it ends."""
    with alone(origin_name, tmp_path, **IN_ORDER.get(origin_name, {})) as origin, ExitStack() as stack:
        used, client = [stack.enter_context(closing(origin.connect())) for _ in range(2)]
        assert used.request("GET", "/hello").body == b"hello"
        client.send("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nabc")
        assert used.request("GET", "/hello").body == b"hello"  # by now that has been read
        number = GRACEFUL.get(origin_name, signal.SIGTERM)
        os.kill(origin.pid, number)
        rest = idle_ones(used)
        with suppress(OSError):
            client.send("def")
        said, end = heard(client, b"abcdef"), fate(origin, number)
        observed(f"{said}; {rest}; {end}")
        assert (said, rest, end) == ("200, close", "idle ones are closed", "ends")


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


STARTS: dict[str, Callable[[Path, int], list[str]]] = {
    "quick_server": lambda folder, port: [
        *(sys.executable, "-W", "error", "-m", "quick_server", "-a", "127.0.0.1", "-p", str(port))
    ],
    "nginx": lambda folder, port: nginx_command(
        folder, f"server {{ listen 127.0.0.1:{port}; }}", ONE_PROCESS
    ),
    "waitress": lambda folder, port: [
        *(str(PYTHON), "-m", "waitress", f"--listen=127.0.0.1:{port}", "tests.wire.wsgi:application")
    ],
    "uvicorn": lambda folder, port: [
        *(str(PYTHON), "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port)),
        *("--log-level", "warning", "tests.wire.asgi:application"),
    ],
}
"""Their command lines."""


def test_59_a_port_in_use(origin_name: str, tmp_path: Path, observed: Observed) -> None:
    """A port in use: one line that names the address, and exit code 1."""
    if origin_name == "nginx" and NGINX is None:
        pytest.skip("nginx is not installed")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = STARTS[origin_name](tmp_path, port)
        script = Script(command, tmp_path, env=environment(WIRE_ROOT=str(tmp_path)))
        try:
            code = script.ended()
        finally:
            script.dispose()
    lines = script.output.splitlines()
    what = "a traceback, " if "Traceback" in script.output else ""
    address = "with" if re.search(rf"127\.0\.0\.1\W+{port}\b", script.output) else "without"
    observed(f"{what}{len(lines)} lines {address} the address, exit code {code}")
    assert (len(lines), code) == (1, 1)
    assert f"127.0.0.1:{port}" in script.output


# ---- 60: the log --------------------------------------------------------------------------------

LOGS = {
    "nobody reads it any more": "exec {} {}> >(read line)",  # EPIPE behind the first line
    "the disk is full": "exec {} {}>/dev/full",  # ENOSPC
}
TALKATIVE = {
    "nginx": ["access_log /dev/stderr; error_log stderr info;"],
    "uvicorn": ["--log-level=info", "--access-log"],
}
"""So that each request has a line; waitress has lines for functions that raise alone."""
WRITES_TO = {"uvicorn": 1}
"""The descriptor of that log, if it is not standard error."""


@pytest.mark.parametrize("log", LOGS)
def test_60_the_log_cannot_be_written(
    origin_name: str, tmp_path: Path, observed: Observed, log: str
) -> None:
    """The log's end goes away (EPIPE), or the disk is full (ENOSPC): serving goes on."""
    shell = ["bash", "-c", LOGS[log].format('"$@"', WRITES_TO.get(origin_name, 2)), "bash"]
    with (
        alone(origin_name, tmp_path, options=TALKATIVE.get(origin_name, ()), prefix=shell) as origin,
        closing(origin.connect()) as client,
    ):
        talk = Talk(origin)
        for _ in range(50):
            assert client.request("GET", "/hello").body == b"hello"
            assert client.request("GET", "/nothing").status == 404
            assert ask(talk, "/raises").statuses[:1] == [500]
        before = cpu_seconds(origin.pid)
        select.select([], [], [], 0.3)
        spent = cpu_seconds(origin.pid) - before
        assert client.request("GET", "/hello").body == b"hello"
        os.kill(origin.pid, signal.SIGTERM)
        end = fate(origin, signal.SIGTERM)
        observed(f"serving goes on, {end}")
        assert spent < 0.1
        assert end == "ends"
