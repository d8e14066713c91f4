"""Running a script anew: under a supervisor, and in place of itself."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import pexpect
import pytest

from tests.harness import PATIENCE, Answer, Client
from tests.integration.scripts import Script, environment
from tests.ports import vacant_port

Launch = Callable[..., Script]

HEAD = """\
import os, sys, threading
import quick_server as qs
from quick_server import create_server, msg
"""
SERVER = """\
# before
server = create_server(("127.0.0.1", 0))

@server.text_get("/restart", 0)
def restart(req, args):
    server.restart()
    return "restarting"

@server.text_get("/pid", 0)
def pid(req, args):
    return str(os.getpid())

@server.text_get("/slow", 0)
def slow(req, args):
    print("entered", flush=True)
    with open("gate") as gate:
        return gate.read()

"""
SERVE = """\
# ready
print("run", os.getpid(), qs.is_original(), qs.has_been_restarted(), flush=True)
print("port", server.server_address[1], flush=True)
try:
    server.serve_forever()
finally:
    server.server_close()
    print("finally", flush=True)
print("behind", flush=True)
"""
PLAIN = HEAD + SERVER + SERVE
SUPERVISED = HEAD + "qs.setup_restart()\n" + SERVER + SERVE

RUN = r"(?m)^run (\d+) (True|False) (True|False)$"


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """`launch(text, *arguments)` runs a script in a process of its own."""
    with ExitStack() as stack:

        def begin(text: str, *arguments: str, prefix: tuple[str, ...] = (), **variables: str) -> Script:
            (tmp_path / "script.py").write_text(text)
            script = Script.python(
                *prefix, "script.py", *arguments, cwd=tmp_path, prefix=(), **variables
            )
            stack.callback(script.dispose)
            return script

        yield begin


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What `/slow` waits for: text that is written into this pipe."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def nth(script: Script, pattern: str, number: int) -> re.Match[str]:
    """The match of that number (from 0 on), as soon as it is there."""
    script.wait_for(f"(?s)(?:{pattern}.*?){{{number + 1}}}".replace("(?m)^", r"(?:\A|(?<=\n))"))
    return list(re.finditer(pattern, script.output))[number]


def run_of(script: Script, number: int) -> int:
    """The process of a run, as soon as it is there."""
    deadline = time.monotonic() + PATIENCE
    while len(found := re.findall(RUN, script.output)) <= number:
        assert script._read(deadline), f"run {number} did not begin:\n{script.output}"
    return int(found[number][0])


def ask(port: int, path: str) -> Answer:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        return Client(sock).request("GET", path, Connection="close")


def free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
            sock.listen()
        except OSError:
            return False
    return True


both = pytest.mark.parametrize("text", [PLAIN, SUPERVISED], ids=["alone", "supervised"])


# ---- another run ------------------------------------------------------------------------------


@both
def test_a_restart(launch: Launch, text: str) -> None:
    script = launch(text)
    first, port = run_of(script, 0), script.port
    answer = ask(port, "/restart")
    assert (answer.body, answer.get("connection")) == (b"restarting", "close")
    second = run_of(script, 1)
    assert int(ask(port, "/pid").body) == second
    script.signal(signal.SIGTERM)
    assert script.ended() == 0
    alone = text is PLAIN
    assert re.findall(RUN, script.output) == [
        (str(first), str(alone), "False"),
        (str(second), str(alone), "True"),
    ]
    assert (first == second) is alone
    assert re.findall(r"(?m)^port (\d+)$", script.output) == [str(port)] * 2
    assert re.findall(r"(?m)^(?:finally|behind)$", script.output) == ["finally", "behind"] * 2
    assert "Traceback" not in script.output


@both
def test_the_command_line_is_kept_whatever_the_folder(launch: Launch, text: str) -> None:
    tell = 'print("args", sys.argv[1:], sys.flags.optimize, os.getcwd(), flush=True)\nos.chdir("/")\n'
    script = launch(text.replace("# before\n", tell), "a b", "*", "", prefix=("-O",))
    run_of(script, 0)
    ask(script.port, "/restart")
    run_of(script, 1)
    told = re.findall("(?m)^args (.*)$", script.output)
    assert told[0].startswith("['a b', '*', ''] 1 ")
    assert told[1] == told[0]


@both
def test_a_module(tmp_path: Path, text: str) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(text)
    script = Script.python("-m", "package", cwd=tmp_path)
    try:
        run_of(script, 0)
        ask(script.port, "/restart")
        assert int(ask(script.port, "/pid").body) == run_of(script, 1)
    finally:
        script.dispose()


@both
def test_exit_handlers_run_once(launch: Launch, text: str) -> None:
    early = 'import atexit\natexit.register(print, "early", flush=True)\n'
    script = launch(early + text.replace("try:", 'atexit.register(print, "late")\ntry:'))
    ask(script.port, "/restart")
    run_of(script, 1)
    assert re.findall("(?m)^(?:early|late)$", script.output) == ["late", "early"]


def test_without_a_supervisor_of_ours_there_is_the_exit_code(launch: Launch) -> None:
    """Somebody else may watch over the script, and say so."""
    setup = "qs.set_restart_exit_code(7)\nqs.setup_restart()\n"
    script = launch(HEAD + setup + SERVER + SERVE, QUICK_SERVER_RESTART="7")
    ask(script.port, "/restart")
    assert script.ended() == 7


def test_a_script_that_ends_with_the_exit_code(launch: Launch) -> None:
    script = launch(
        HEAD + "qs.set_restart_exit_code(9)\nqs.setup_restart()\n"
        'print(os.environ["QUICK_SERVER_RESTART"], os.environ.get("QUICK_SERVER_SUBSEQ"))\n'
        "sys.exit(3 if qs.has_been_restarted() else 9)\n"
    )
    assert script.ended() == 3
    assert script.output == "9 None\n9 1\n"


def test_a_restart_that_cannot_be(launch: Launch) -> None:
    broken = PLAIN.replace(
        "server =", 'qs.set_error_exit_code(5)\nsys.executable = "/nothing"\nserver ='
    )
    script = launch(broken)
    ask(script.port, "/restart")
    assert script.ended() == 5
    assert re.findall("(?m)^.*cannot restart.*$", script.output) == [
        "[SERVER] cannot restart: [Errno 2] No such file or directory: '/nothing'"
    ]


def test_a_supervisor_that_cannot_run_anything(launch: Launch) -> None:
    script = launch(
        HEAD + 'sys.executable = "/nothing"\nqs.set_error_exit_code(6)\nqs.setup_restart()\n'
    )
    assert script.ended() == 6
    assert script.output == "[SERVER] cannot run /nothing: No such file or directory\n"


@both
def test_servers_in_threads(launch: Launch, text: str) -> None:
    """One asks for the restart; the other is in a thread that nobody ends."""
    more = (
        'other = create_server(("127.0.0.1", 0))\n'
        '@other.text_get("/pid", 0)\ndef pid(req, args):\n    return str(os.getpid())\n'
        "threading.Thread(target=other.serve_forever, daemon=True).start()\n"
        'print("other", other.server_address[1])\n'
    )
    script = launch(text.replace("# ready\n", more))
    ports = [script.port, int(script.wait_for(r"(?m)^other (\d+)$")[1])]
    ask(ports[0], "/restart")
    second = run_of(script, 1)
    assert [int(ask(port, "/pid").body) for port in ports] == [second] * 2


def test_a_signal_ends_what_was_to_restart(launch: Launch, gate: Path) -> None:
    script = launch(SUPERVISED)
    port = script.port
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        client = Client(sock).send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        script.wait_for("entered")
        ask(port, "/restart")
        script.signal(signal.SIGTERM)
        script.refuses(port)
        gate.write_text("done")
        assert client.answer().body == b"done"
    assert script.ended() == 0
    assert len(re.findall(RUN, script.output)) == 1


# ---- connections ------------------------------------------------------------------------------


@both
def test_who_connects_meanwhile_is_served_by_the_next_run(
    launch: Launch, gate: Path, text: str
) -> None:
    held = 'if qs.has_been_restarted():\n    open("gate").read()\n'
    script = launch(text.replace("# before\n", held))
    port = script.port
    ask(port, "/restart")
    script.wait_for("behind")
    with ExitStack() as stack:
        early = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
            for _ in range(50)
        ]
        for sock in early:
            sock.sendall(b"GET /pid HTTP/1.1\r\nHost: localhost\r\n\r\n")
        gate.write_text("go on")
        second = run_of(script, 1)
        assert {int(Client(sock).answer().body) for sock in early} == {second}


def test_an_ended_server_has_no_port(launch: Launch, gate: Path) -> None:
    """Although the supervisor has held the socket: the run is the second."""
    script = launch(SUPERVISED)
    port = script.port
    ask(port, "/restart")
    run_of(script, 1)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        client = Client(sock).send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        script.wait_for("entered")
        script.signal(signal.SIGTERM)
        script.refuses(port)
        assert free(port)
        gate.write_text("done")
        assert client.answer().body == b"done"
    assert script.ended() == 0


@both
def test_another_address_at_the_same_port(launch: Launch, text: str) -> None:
    port = vacant_port()
    address = f'("127.0.0.2" if qs.has_been_restarted() else "0.0.0.0", {port})'
    script = launch(text.replace('("127.0.0.1", 0)', address))
    ask(script.port, "/restart")
    run_of(script, 1)
    with socket.create_connection(("127.0.0.2", port), PATIENCE) as sock:
        assert Client(sock).request("GET", "/pid").status == 200
    script.refuses(port)


@both
def test_what_the_next_run_does_not_want_is_closed(launch: Launch, text: str) -> None:
    address = '("127.0.0.1", 0) if not qs.has_been_restarted() else ("127.0.0.3", 0)'
    script = launch(text.replace('("127.0.0.1", 0)', address))
    port = script.port
    ask(port, "/restart")
    run_of(script, 1)
    script.refuses(port)
    assert free(port)


TELL = """\
import os, quick_server
links = [f"/proc/self/fd/{n}" for n in os.listdir("/proc/self/fd") if int(n) > 2]
found = [os.readlink(link) for link in links if os.path.exists(link)]
print("child", quick_server.is_original(), quick_server.has_been_restarted(),
      [name for name in found if "socket" in name or "memfd" in name], flush=True)
"""


@both
def test_processes_that_a_script_starts_know_nothing_of_it(
    launch: Launch, text: str, tmp_path: Path
) -> None:
    (tmp_path / "tell.py").write_text(TELL)
    start = (
        'import subprocess\nsubprocess.run([sys.executable, "tell.py"], check=True, close_fds=False)\n'
    )
    script = launch(text.replace("# before\n", start))
    ask(script.port, "/restart")
    run_of(script, 1)
    assert re.findall("(?m)^child .*$", script.output) == ["child True False []"] * 2


@both
def test_a_script_within_a_script_has_runs_of_its_own(
    launch: Launch, text: str, tmp_path: Path
) -> None:
    (tmp_path / "inner.py").write_text(
        text.replace('"run"', '"inner"').replace('"port"', '"inner port"')
    )
    start = "import subprocess\ninner = subprocess.Popen([sys.executable, 'inner.py'])\n"
    end = "inner.terminate()\ninner.wait()\n"
    script = launch(text.replace("# before\n", start) + end)
    ask(int(script.wait_for(r"inner port (\d+)")[1]), "/restart")
    nth(script, r"inner port (\d+)", 1)
    assert re.findall(r"inner \d+ \w+ (\w+)", script.output) == ["False", "True"]
    script.signal(signal.SIGTERM)
    assert script.ended() == 0


def test_processes_of_multiprocessing_do_not_supervise(launch: Launch) -> None:
    script = launch(
        HEAD + "import multiprocessing\nqs.setup_restart()\n"
        "def work(number):\n    return number + 1\n"
        'if __name__ == "__main__":\n'
        '    with multiprocessing.get_context("spawn").Pool(1) as pool:\n'
        '        print("found", pool.map(work, [1]))\n'
    )
    assert script.ended() == 0
    assert "found [2]" in script.output


# ---- input ------------------------------------------------------------------------------------

LINES = """
from quick_server import handover

def read():
    data = handover.take_input()
    while True:
        line, end, data = data.partition(b"\\n")
        if not end:
            data = line + os.read(0, 65536)
            continue
        print("line", line.decode(), flush=True)
        if line == b"restart":
            handover.keep_input(data)
            server.restart()
            return
        if line == b"quit":
            server.done = True
            return

threading.Thread(target=read, daemon=True).start()
"""


@both
def test_input_that_was_read_ahead(tmp_path: Path, text: str) -> None:
    (tmp_path / "script.py").write_text(text.replace("try:", LINES + "try:", 1))
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=environment(),
        input=f"{'x' * 60000}\nrestart\none\nrestart\ntwo\nquit\nthree\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    found = re.findall("(?m)^line (.*)$", done.stdout)
    assert found == ["x" * 60000, "restart", "one", "restart", "two", "quit"]


# ---- signals ----------------------------------------------------------------------------------


THREAD = "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
THREADED = SUPERVISED.replace("qs.setup", THREAD + "qs.setup")

modes = pytest.mark.parametrize("text", [SUPERVISED, THREADED], ids=["", "threads"])
ending = pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name
)


@pytest.mark.parametrize(
    ("text", "number", "whom"),
    [
        (SUPERVISED, signal.SIGINT, "supervisor"),
        (SUPERVISED, signal.SIGINT, "all"),
        (SUPERVISED, signal.SIGTERM, "supervisor"),
        (SUPERVISED, signal.SIGTERM, "all"),
        (SUPERVISED, signal.SIGHUP, "supervisor"),
        (THREADED, signal.SIGTERM, "supervisor"),
        (THREADED, signal.SIGTERM, "all"),
    ],
)
def test_a_signal_is_one_signal(
    launch: Launch, gate: Path, text: str, number: signal.Signals, whom: str
) -> None:
    """Service managers, and shells with `kill %1`, signal all processes at once."""
    script = launch(text)
    port = script.port
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        client = Client(sock).send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        script.wait_for("entered")
        if whom == "all":
            os.killpg(script.process.pid, number)
        else:
            script.signal(number)
        script.refuses(port)
        gate.write_text("done")
        assert client.answer().body == b"done"
    assert script.ended() == 0


@ending
def test_all_get_a_signal_while_there_is_nothing_to_do(launch: Launch, number: signal.Signals) -> None:
    """The script may end before the supervisor has passed the signal on."""
    script = launch(SUPERVISED)
    assert ask(script.port, "/pid").status == 200
    os.killpg(script.process.pid, number)
    assert script.ended() == 0
    assert "behind" in script.output


LATE = """\
import time
class Late:
    def __del__(self, sleep=time.sleep, write=os.write):
        write(1, b"taken apart\\n")
        sleep(0.5)
late = Late()
"""


def test_an_echo_reaches_an_interpreter_that_takes_itself_apart(launch: Launch) -> None:
    script = launch(SUPERVISED.replace("# ready", LATE))
    assert ask(script.port, "/pid").status == 200
    script.signal(signal.SIGSTOP)
    os.killpg(script.process.pid, signal.SIGTERM)
    script.wait_for("taken apart")
    script.signal(signal.SIGCONT)
    assert script.ended() == 0


def test_a_second_signal_ends_it_at_once(launch: Launch, gate: Path) -> None:
    script = launch(SUPERVISED)
    port = script.port
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        script.wait_for("entered")
        # Not to the group: a second signal may meet the first on its way, and be one with it.
        for _ in range(2):
            script.signal(signal.SIGTERM)
            script.refuses(port)
        assert script.ended(within=5.0) == 0


@modes
def test_the_code_of_a_run_that_was_killed(launch: Launch, text: str) -> None:
    script = launch(text)
    os.kill(run_of(script, 0), signal.SIGKILL)
    assert script.ended() == 128 + signal.SIGKILL


@modes
def test_a_run_that_is_stopped_by_itself(launch: Launch, text: str) -> None:
    """SIGSTOP is no key: who sends it to one process means that one, and will continue it."""
    script = launch(text)
    pid, port = run_of(script, 0), script.port
    os.kill(pid, signal.SIGSTOP)
    until_state(pid, "T")
    os.kill(pid, signal.SIGCONT)
    assert ask(port, "/pid").body == str(pid).encode()
    until_state(script.process.pid, "S")


def until_state(pid: int, state: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != state:
        assert time.monotonic() < deadline
        os.sched_yield()


@modes
def test_other_signals_reach_the_script(launch: Launch, text: str) -> None:
    heard = 'import signal\nsignal.signal(signal.SIGUSR1, lambda *_: print("heard", flush=True))\n'
    script = launch(text.replace("# ready\n", heard))
    run_of(script, 0)
    script.signal(signal.SIGUSR1)
    script.wait_for("heard")


LOOP = HEAD + THREAD + 'qs.setup_restart()\nprint("run", flush=True)\nsys.exit(42)\n'


@pytest.mark.parametrize(
    ("text", "number", "longest"),
    [(LOOP.replace(THREAD, ""), signal.SIGINT, 2), (LOOP, signal.SIGTERM, 1)],
    ids=["", "threads"],
)
def test_runs_in_quick_succession_are_slowed_down(
    launch: Launch, text: str, number: signal.Signals, longest: int
) -> None:
    script = launch(text)
    script.wait_for(rf"in {longest} s")  # between two runs
    begun = time.monotonic()
    script.signal(number)
    assert script.ended() == 0
    assert time.monotonic() - begun < 1.5
    said = re.findall(r"(?m)^run$|in \d+ s", script.output)
    assert said == ["run", "run", "run", "in 1 s", "run", "in 2 s"][: 2 + 2 * longest]


def test_an_ignored_signal_stays_ignored(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SUPERVISED)
    script = Script.python("script.py", cwd=tmp_path, prefix=("nohup",))
    try:
        port = script.port
        os.killpg(script.process.pid, signal.SIGHUP)
        assert ask(port, "/restart").status == 200
        run_of(script, 1)
        os.killpg(script.process.pid, signal.SIGHUP)
        assert ask(port, "/pid").status == 200
    finally:
        script.dispose()


# ---- the terminal -----------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[pexpect.spawn]:
    """An interactive shell on a terminal."""
    os.mkfifo(tmp_path / "gate")
    child = pexpect.spawn(
        "bash",
        ["--norc", "--noprofile", "-i"],
        cwd=str(tmp_path),
        env=environment(PS1="$ ", TERM="dumb", HISTFILE=""),
        encoding="utf-8",
        timeout=PATIENCE,
    )
    child.expect_exact("$ ")
    yield child
    child.close(force=True)


def run_in(shell: pexpect.spawn, tmp_path: Path, text: str) -> tuple[int, int]:
    """The process and the port of a script that is started there."""
    (tmp_path / "script.py").write_text(text)
    shell.sendline(f"{sys.executable} script.py; echo code $?")
    shell.expect(r"run (\d+) .*port (\d+)\r?\n")
    return int(shell.match[1]), int(shell.match[2])


@pytest.mark.parametrize("text", [PLAIN, SUPERVISED, THREADED], ids=["alone", "supervised", "threads"])
def test_ctrl_c_is_one_signal(shell: pexpect.spawn, tmp_path: Path, text: str) -> None:
    _, port = run_in(shell, tmp_path, text)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        client = Client(sock).send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        shell.expect("entered")
        shell.sendintr()
        shell.expect_exact("^C")
        (tmp_path / "gate").write_text("done")
        assert client.answer().body == b"done"
    shell.expect("code 0\r\n")


QUEUE = """\
from quick_server.signalqueue import SignalQueue
queue = SignalQueue()
print("ready", flush=True)
while True:
    print(queue.next(), flush=True)
"""


def test_keys_are_told_from_signals(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(QUEUE)
    script = pexpect.spawn(
        sys.executable, ["script.py"], cwd=str(tmp_path), env=environment(), timeout=PATIENCE
    )
    try:
        script.expect("ready")
        for key, number in [
            ("\x03", signal.SIGINT),
            ("\x1a", signal.SIGTSTP),
            ("\x1c", signal.SIGQUIT),
        ]:
            script.send(key)
            script.expect(rf"number={int(number)}, is_key=True")
            script.kill(number)
            script.expect(rf"number={int(number)}, is_key=False")
    finally:
        script.close(force=True)


def test_ctrl_c_before_the_server_serves(shell: pexpect.spawn, tmp_path: Path) -> None:
    """No handler of ours is there; a signal too many would break off the cleaning up."""
    text = HEAD + (
        "import time\nqs.setup_restart()\n"
        'try:\n    print("run 1 x port 2", flush=True)\n    time.sleep(30)\n'
        'finally:\n    time.sleep(0.3)\n    print("cleaned", "up", flush=True)\n'
    )
    run_in(shell, tmp_path, text)
    shell.sendintr()
    shell.expect("cleaned up")
    shell.expect("code 130\r\n")


@pytest.mark.parametrize("text", [SUPERVISED, THREADED], ids=["", "threads"])
def test_ctrl_z_and_fg(shell: pexpect.spawn, tmp_path: Path, text: str) -> None:
    _, port = run_in(shell, tmp_path, text)
    for _ in range(2):
        shell.send("\x1a")
        shell.expect("Stopped")
        shell.expect_exact("$ ")
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
            sock.settimeout(0.1)
            with pytest.raises(TimeoutError):
                Client(sock).request("GET", "/pid")
        shell.sendline("fg")
        assert ask(port, "/pid").status == 200
    shell.sendintr()
    shell.expect_exact("$ ")


def test_a_supervisor_that_is_continued_alone(shell: pexpect.spawn, tmp_path: Path) -> None:
    """It continues its child."""
    pid, port = run_in(shell, tmp_path, SUPERVISED)
    shell.send("\x1a")
    shell.expect_exact("$ ")
    supervisor = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(supervisor, signal.SIGCONT)
    assert ask(port, "/pid").status == 200
    shell.sendline("fg")
    shell.expect("script.py")
    shell.sendintr()
    shell.expect_exact("$ ")


def test_a_killed_run_leaves_a_terminal_in_order(shell: pexpect.spawn, tmp_path: Path) -> None:
    raw = "import tty\ntty.setraw(0)\n"
    pid, _ = run_in(shell, tmp_path, SUPERVISED.replace("# ready\n", raw))
    os.kill(pid, signal.SIGKILL)
    shell.expect("code 137\r\n")
    shell.expect_exact("$ ")
    shell.sendline("cat")
    shell.sendline("whole lines")
    shell.expect("whole lines\r\nwhole lines\r\n")


def test_in_the_background_the_terminal_is_left_alone(shell: pexpect.spawn, tmp_path: Path) -> None:
    """Else the supervisor would be stopped."""
    (tmp_path / "script.py").write_text(SUPERVISED)
    shell.sendline(f"{sys.executable} script.py &")
    shell.expect(r"run (\d+) .*port (\d+)\r\n")
    port = int(shell.match[2])
    ask(port, "/restart")
    shell.expect(r"run (\d+) ")
    shell.sendline("kill %1; wait %1; echo code $?")
    shell.expect("code 0\r\n")


# ---- under load -------------------------------------------------------------------------------


def look(pid: int) -> tuple[int, int, int]:
    """Descriptors, threads, and KiB of memory of a process."""
    proc = Path(f"/proc/{pid}")
    resident = re.search(r"VmRSS:\s+(\d+)", (proc / "status").read_text())
    assert resident is not None
    return len(list((proc / "fd").iterdir())), len(list((proc / "task").iterdir())), int(resident[1])


class Load:
    """Clients that connect anew for each request, and count what they get."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._ended = threading.Event()
        self.answers = 0
        self.trouble: list[str] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(3)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _run(self) -> None:
        while not self._ended.wait(0.003):
            try:
                answer = ask(self._port, "/pid")
                assert answer.status == 200
                assert answer.body.isdigit()
                self.answers += 1
            except Exception as trouble:
                self.trouble.append(repr(trouble))


@contextmanager
def wrk(port: int) -> Iterator[Callable[[], str]]:
    """Clients that keep their connections, if there is a program for that; then what it has to say."""
    found = shutil.which("wrk")
    if found is None:
        yield lambda: ""
        return
    command = [found, "-t1", "-c4", "-d60s", f"http://127.0.0.1:{port}/pid"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:

        def end() -> str:
            process.send_signal(signal.SIGINT)
            return process.communicate(timeout=PATIENCE)[0]

        try:
            yield end
        finally:
            process.kill()


@pytest.mark.parametrize(("text", "times"), [(PLAIN, 5), (SUPERVISED, 50)], ids=["alone", "supervised"])
def test_restarts_under_load(launch: Launch, text: str, times: int) -> None:
    script = launch(text.replace("# ready", "server.suppress_noise = True"))
    port = script.port
    found = []
    with Load(port) as load, wrk(port) as said_by_wrk:
        for number in range(times):
            assert ask(port, "/restart").body == b"restarting"
            run_of(script, number + 1)
            while int(ask(port, "/pid").body) != run_of(script, number + 1):
                pass
            before = load.answers
            while load.answers < before + 20 and not load.trouble:
                time.sleep(0.01)
            if number in (1, times - 1):
                found.append((look(script.process.pid), look(run_of(script, number + 1))))
        assert not re.search("connect [1-9]", said_by_wrk())
    assert load.trouble == []
    assert "again and again" not in script.output
    for first, last in zip(*found, strict=True):
        assert last[0] <= first[0] + 6  # connections come and go
        assert last[1] <= first[1] + 6  # so do threads of the pool
        assert last[2] <= first[2] + 1024
    script.signal(signal.SIGTERM)
    assert script.ended() == 0
    assert "Traceback" not in script.output
