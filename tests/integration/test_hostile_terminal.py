"""Terminals that take nothing, are not there, or come and go; and signals at bad moments."""

from __future__ import annotations

import os
import signal
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from tests.harness import PATIENCE, Client
from tests.integration.scripts import environment

SCRIPT = """\
import os, signal, sys, threading, time
from quick_server import add_shutdown_hook, create_server, msg, setup_shutdown

server = create_server(("127.0.0.1", 0))
server.history_file = ""


@server.text_get("/hello")
def hello(req, args):
    return "hello"


@server.cmd()
def slow(args):
    while not release.wait(0.01):
        pass


@server.cmd()
def note(args):
    print("noted", *args, flush=True)


def complete_many(args, text):
    return [f"{text}{n:05}" for n in range(8000)]


@server.cmd(complete=complete_many)
def many(args):
    pass


@server.text_get("/release")
def let_go(req, args):
    release.set()
    return "released"


release = threading.Event()
leaves_at_once = False
%s
print("port", server.server_address[1], flush=True)
try:
    server.serve_forever()
finally:
    server.server_close()
if leaves_at_once:
    os._exit(7)
print("the end", flush=True)
"""


class Hostile:
    """A script on a terminal that is read only when a test says so."""

    def __init__(self, folder: Path, more: str, prefix: tuple[str, ...] = ()) -> None:
        (folder / "script.py").write_text(SCRIPT % more)
        variables = environment(TERM="xterm", LANG="C.UTF-8", HOME=str(folder))
        variables.pop("PYTHONUNBUFFERED")
        command = [*prefix, sys.executable, "script.py"]
        self.child = pexpect.spawn(
            command[0], command[1:], env=variables, cwd=str(folder), timeout=PATIENCE, encoding="utf-8"
        )
        self.child.expect(r"port (\d+)")
        self.port = int(self.child.match[1])

    def get(self, path: str) -> bytes:
        import socket

        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as sock:
            return Client(sock).request("GET", path).body

    def ended(self) -> tuple[int | None, int | None]:
        """Exit code and signal, within the time that a test has."""
        self.child.expect(pexpect.EOF)
        self.child.wait()
        return self.child.exitstatus, self.child.signalstatus

    def modes(self) -> int:
        return int(termios.tcgetattr(self.child.child_fd)[3])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Hostile]]:
    started: list[Hostile] = []

    def begin(more: str = "", prefix: tuple[str, ...] = ()) -> Hostile:
        started.append(Hostile(tmp_path, more, prefix))
        return started[-1]

    yield begin
    for hostile in started:
        hostile.child.close(force=True)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_a_terminal_that_takes_nothing(start: Callable[..., Hostile]) -> None:
    """Thousands of words are listed, and nobody reads them."""
    hostile = start()
    hostile.child.expect("> ")
    hostile.child.send("many \t\t\t")
    for _ in range(20):
        assert hostile.get("/hello") == b"hello"
    hostile.child.expect("00001")
    hostile.child.send("\x15note it\r")
    hostile.child.expect("noted it\r\n")


def test_it_ends_although_somebody_prints_to_a_terminal_that_takes_nothing(
    start: Callable[..., Hostile],
) -> None:
    hostile = start(
        "def print_much():\n"
        "    while True:\n"
        "        print('x' * 1000)\n"
        "@server.text_get('/flood')\n"
        "def flood(req, args):\n"
        "    threading.Thread(target=print_much, daemon=True).start()\n"
        "    return 'begun'\n"
        "leaves_at_once = True  # Python itself would wait for what is being printed\n"
    )
    hostile.child.expect("> ")
    assert hostile.get("/flood") == b"begun"
    for _ in range(20):
        assert hostile.get("/hello") == b"hello"
    hostile.child.kill(signal.SIGTERM)
    until(lambda: not hostile.child.isalive())
    assert hostile.child.exitstatus == 7  # it came behind `server_close`


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_right_behind_the_first_prompt(
    start: Callable[..., Hostile], number: signal.Signals
) -> None:
    hostile = start()
    before = hostile.modes()
    hostile.child.expect("> ")
    hostile.child.kill(number)
    assert hostile.ended() == (0, None)
    assert "the end" in (hostile.child.before or "")
    assert before & termios.ICANON


def test_lines_typed_behind_restart_are_for_the_next_run_only(start: Callable[..., Hostile]) -> None:
    hostile = start()
    hostile.child.expect("> ")
    hostile.child.send("slow\rrestart\rnote once\r")
    hostile.child.expect("note once")
    assert hostile.get("/release") == b"released"
    hostile.child.expect(r"port (\d+)")
    hostile.child.expect("noted once\r\n")
    hostile.child.send("quit\r")
    hostile.ended()
    assert "noted once" not in (hostile.child.before or "")


def test_lines_typed_behind_quit_are_nobodys(start: Callable[..., Hostile]) -> None:
    hostile = start()
    hostile.child.expect("> ")
    hostile.child.send("slow\rquit\rnote never\r")
    hostile.child.expect("note never")
    assert hostile.get("/release") == b"released"
    assert hostile.ended() == (0, None)
    assert "noted never" not in (hostile.child.before or "")


def test_no_place_for_terminals(start: Callable[..., Hostile]) -> None:
    """As in some containers: plain lines are read then."""
    import shutil
    import subprocess

    if os.getuid() or shutil.which("unshare") is None:
        pytest.skip("needs root and unshare")
    mount = "mount -t tmpfs none /dev/pts"
    if subprocess.run(["unshare", "-m", "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("may not mount here")
    hostile = start(prefix=("unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh"))
    hostile.child.expect("lines cannot be edited here")
    assert hostile.get("/hello") == b"hello"
    hostile.child.send("note plain\n")
    hostile.child.expect("noted plain")
    hostile.child.send("quit\n")
    assert hostile.ended() == (0, None)


def test_a_signal_handler_that_logs(start: Callable[..., Hostile]) -> None:
    """It may come in between a line of the log that the same thread writes."""
    hostile = start(
        "from quick_server import set_log_file\n"
        "server.no_command_loop = True\n"
        "set_log_file(open('log', 'w'))\n"
        "signal.signal(signal.SIGUSR1, lambda number, frame: msg('signalled'))\n"
    )
    for _ in range(200):
        hostile.child.kill(signal.SIGUSR1)
        assert hostile.get("/hello") == b"hello"
    hostile.child.kill(signal.SIGTERM)
    assert hostile.ended() == (0, None)


def test_children_go_on_printing_behind_the_end_of_the_console(start: Callable[..., Hostile]) -> None:
    hostile = start(
        "import subprocess\n"
        "@server.cmd()\n"
        "def child(args):\n"
        "    subprocess.Popen(['sh', '-c', 'read line < gate; echo still here'])\n"
        "import os\nos.mkfifo('gate')\n"
    )
    hostile.child.expect("> ")
    hostile.child.send("child\r")
    hostile.child.expect("child\r\n")
    until(lambda: _readers(hostile.child.pid))
    hostile.child.send("\x04")
    hostile.child.expect("no command loop")
    gate = Path(f"/proc/{hostile.child.pid}/cwd/gate")
    gate.write_text("go\n")
    hostile.child.expect("still here")
    assert hostile.get("/hello") == b"hello"


def _readers(pid: int) -> list[str]:
    tasks = Path(f"/proc/{pid}/task")
    return [name for task in tasks.iterdir() for name in (task / "children").read_text().split()]


def test_forks_print_above_the_line(start: Callable[..., Hostile]) -> None:
    """They inherit what catches the output of their parent, and nobody who would fetch it."""
    hostile = start(
        "@server.cmd()\n"
        "def fork(args):\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        print('printed', 'by a fork', flush=True)\n"
        "        msg('{0} by a fork', 'said')\n"
        "        os._exit(0)\n"
        "    os.waitpid(pid, 0)\n"
    )
    hostile.child.expect("> ")
    hostile.child.send("fork\r")
    hostile.child.expect("printed by a fork\r\n")
    hostile.child.expect("said by a fork\r\n")
    hostile.child.send("note on\r")
    hostile.child.expect("noted on\r\n")
