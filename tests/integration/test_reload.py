"""Runs that start anew when their source files change."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness import PATIENCE, Client
from tests.integration.scripts import Script, environment

Launch = Callable[[], Script]

SCRIPT = """\
import quick_server as qs
qs.setup_restart(reload=True)
import helper

server = qs.create_server(("127.0.0.1", 0))

@server.text_get("/value", 0)
def value(req, args):
    return str(helper.VALUE)

@server.text_get("/load", 0)
def load(req, args):
    import later
    return str(later.VALUE)

print("port", server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """`launch()` runs the script that is there."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "helper.py").write_text("VALUE = 1\n")
    (tmp_path / "later.py").write_text("VALUE = 10\n")
    with ExitStack() as stack:

        def begin() -> Script:
            script = Script.python("script.py", cwd=tmp_path)
            stack.callback(script.dispose)
            return script

        yield begin


def get(port: int, path: str) -> str:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        return Client(sock).request("GET", path, Connection="close").body.decode()


def becomes(port: int, path: str, value: str) -> None:
    """Waits until the answer is that one; nobody is refused meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while (found := get(port, path)) != value:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def serving(script: Script) -> int:
    """The port, once it is served."""
    get(script.port, "/value")
    return script.port


def runs(script: Script) -> int:
    return len(re.findall("(?m)^port ", script.output))


def ended(script: Script) -> None:
    script.interrupt()
    assert script.ended() == 0
    assert "Traceback" not in script.output


def test_a_module_that_changes(launch: Launch, tmp_path: Path) -> None:
    script = launch()
    port = serving(script)
    assert get(port, "/value") == "1"
    (tmp_path / "helper.py").write_text("VALUE = 22\n")
    becomes(port, "/value", "22")
    script.wait_for(re.escape("[SERVER] helper.py changed: restarting"))
    (tmp_path / "script.py").write_text(SCRIPT.replace("helper.VALUE", "helper.VALUE + 1"))
    becomes(port, "/value", "23")
    script.wait_for(re.escape("[SERVER] script.py changed: restarting"))
    ended(script)
    assert runs(script) == 3


def test_a_module_that_is_imported_later(launch: Launch, tmp_path: Path) -> None:
    script = launch()
    port = serving(script)
    (tmp_path / "later.py").write_text("VALUE = 20\n")  # nobody has asked for it yet
    assert get(port, "/load") == "20"
    time.sleep(1.1)  # two looks
    (tmp_path / "later.py").write_text("VALUE = 300\n")
    becomes(port, "/load", "300")
    script.wait_for(re.escape("[SERVER] later.py changed: restarting"))
    ended(script)
    assert runs(script) == 2


def test_a_save_in_steps_and_a_save_of_nothing(launch: Launch, tmp_path: Path) -> None:
    script = launch()
    port = serving(script)
    (tmp_path / "helper.py").touch()
    os.utime(tmp_path / "script.py", (1, 1))
    time.sleep(1.1)  # would be found by now
    for step in ("", "VALUE =", "VALUE = 2", "VALUE = 2\n", "VALUE = 33\n"):
        (tmp_path / "helper.new").write_text(step)
        (tmp_path / "helper.new").rename(tmp_path / "helper.py")
        time.sleep(0.05)
    becomes(port, "/value", "33")
    ended(script)
    assert runs(script) == 2


@pytest.mark.parametrize(
    ("file", "broken"),
    [
        ("helper.py", "VALUE = = 1\n"),
        ("script.py", "import quick_server, nothing_here\n"),
    ],
    ids=["syntax", "import"],
)
def test_a_run_that_fails(launch: Launch, tmp_path: Path, file: str, broken: str) -> None:
    script = launch()
    port = serving(script)
    good = (tmp_path / file).read_text()
    (tmp_path / file).write_text(broken)
    script.wait_for(r"the script has failed \(exit code 1\); waiting")
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as early:
        early.sendall(b"GET /value HTTP/1.1\r\nHost: localhost\r\n\r\n")
        (tmp_path / file).write_text(good.replace("1\n", "4\n"))
        assert Client(early).answer().status == 200
    script.wait_for(rf"{file} changed: starting again")
    script.interrupt()
    assert script.ended() == 0


def test_a_first_run_that_fails(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "helper.py").unlink()
    script = launch()
    script.wait_for("waiting until")
    (tmp_path / "helper.py").write_text("VALUE = 5\n")  # a new file counts
    script.wait_for(r"helper\.py changed: starting again")
    assert get(script.port, "/value") == "5"
    script.interrupt()
    assert script.ended() == 0


def test_a_signal_ends_the_waiting(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("1 / 0\n")
    script = launch()
    script.wait_for("waiting until")
    script.interrupt()
    assert script.ended() == 1


@pytest.mark.parametrize(("end", "code"), [("sys.exit(1)", 1), ("sys.exit(0)", 0), ("sys.exit(7)", 7)])
def test_a_run_that_wants_to_end(launch: Launch, tmp_path: Path, end: str, code: int) -> None:
    (tmp_path / "script.py").write_text("import sys\n" + SCRIPT.replace("import helper", end))
    script = launch()
    assert script.ended() == code
    assert script.output == ""


def test_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("here")
    script = Script.python("-m", "quick_server", "-p", "0", "--reload", cwd=tmp_path)
    try:
        port = int(script.wait_for(r"localhost:(\d+)")[1])
        assert get(port, "/data.txt") == "here"
        with socket.create_connection(("127.0.0.1", port)) as taken:
            other = Script.python("-m", "quick_server", "-p", str(port), "--reload", cwd=tmp_path)
            taken.close()
        try:
            assert other.ended() == 1
            assert len(other.output.splitlines()) == 1
        finally:
            other.dispose()
        script.signal(signal.SIGTERM)
        assert script.ended() == 0
    finally:
        script.dispose()


def test_nothing_is_watched_without_a_supervisor(tmp_path: Path) -> None:
    """Somebody else may supervise, who knows nothing of reloading."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "helper.py").write_text("VALUE = 1\n")
    variables = environment(QUICK_SERVER_RESTART="42")
    script = Script([sys.executable, "script.py"], tmp_path, env=variables)
    try:
        assert get(script.port, "/value") == "1"
        threads = os.listdir(f"/proc/{script.process.pid}/task")
        names = [Path(f"/proc/{script.process.pid}/task/{t}/comm").read_text() for t in threads]
        assert not [name for name in names if "reload" in name]
        script.signal(signal.SIGTERM)
        assert script.ended() == 0
    finally:
        script.dispose()
