"""Commands that do not come from a terminal with line editing: pipes, files, nothing at all."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from quick_server import QuickServer, builtin, create_server
from tests.harness import PATIENCE
from tests.integration.logs import Log
from tests.integration.scripts import Script
from tests.integration.terminals import (
    CTRL_C,
    CTRL_D,
    CTRL_Z,
    SERVE,
    Piped,
    Scripts,
    Terminal,
    cpu_seconds,
    get,
)

END = "no command loop - use CTRL-C to terminate"


def told(run: Script, since: str = "port") -> list[str]:
    """The lines behind the one that starts with `since`, without what `msg` puts in front."""
    lines = run.output.splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(since))
    return [re.sub(r"^script\.py \(\d+\): ", "", line) for line in lines[begin + 1 :]]


def answered(run: Script, lines: str | bytes) -> list[str]:
    """Types the lines and then `quit`; all that the script said, once it has ended."""
    assert isinstance(run, Piped)
    assert run.port
    run.type(lines)
    run.type("quit\n")
    assert run.ended() == 0
    assert "\x1b" not in run.output
    return told(run)


# ---- where lines come from ----------------------------------------------------------------------


def test_commands_from_a_pipe(scripts: Scripts) -> None:
    run = scripts.piped()
    run.type("name\nname you and me\n")
    run.wait_for("hi nobody\n")
    run.wait_for("hi you and me\n")
    assert get(run.port, "/hello").body == b"hello"
    run.type("name a")  # no line yet
    assert get(run.port, "/hello").body == b"hello"
    assert "hi a" not in run.output
    run.type("gain\n")
    run.wait_for("hi again\n")
    assert answered(run, "name once more\n")[-2:] == ["hi once more", "closed"]


@pytest.mark.parametrize("source", ["pipe", "file", "socket"])
def test_the_end_of_the_input_ends_the_console_only(scripts: Scripts, source: str) -> None:
    text = b"name first\nname \xc3\xbc\nname last"  # a last line without an end counts
    if source == "pipe":
        reader, writer = os.pipe()
        os.write(writer, text)
        os.close(writer)
        run = scripts.reading(reader)
        os.close(reader)
    elif source == "file":
        (scripts.folder / "commands").write_bytes(text)
        with open(scripts.folder / "commands", "rb") as file:
            run = scripts.reading(file)
    else:
        far, near = socket.socketpair()
        with far, near:
            run = scripts.reading(far)
            near.sendall(text)
    run.wait_for(re.escape(END))
    assert [line for line in told(run) if line.startswith("hi")] == ["hi first", "hi ü", "hi last"]
    assert_idle(run)


def assert_idle(run: Script) -> None:
    """It answers, costs no processor time, has said once that the console is gone, and can be ended."""
    assert get(run.port, "/hello").body == b"hello"
    before = cpu_seconds(run.process.pid)
    assert get(run.port, "/moment").body == b"a moment later"
    assert cpu_seconds(run.process.pid) - before < 0.1
    run.signal(signal.SIGINT)
    assert run.ended() == 0
    assert run.output.count(END) == 1
    assert "Traceback" not in run.output


WITHOUT = {
    "nothing": "exec {} </dev/null",
    "closed": "exec {} <&-",
    "for writing only": "exec {} 0>unread",  # what nohup gives in the place of a terminal
    "a pipe that is closed": "exec {} < <(:)",
}


@pytest.mark.parametrize("source", WITHOUT)
def test_no_input(scripts: Scripts, source: str) -> None:
    prefix = ["bash", "-c", WITHOUT[source].format('"$@"'), "bash"]
    run = scripts.reading(subprocess.DEVNULL, prefix)
    run.wait_for(re.escape(END))
    assert_idle(run)


def test_a_silent_pipe_costs_nothing(scripts: Scripts) -> None:
    run = scripts.piped()
    assert get(run.port, "/hello").body == b"hello"
    before = cpu_seconds(run.process.pid)
    assert get(run.port, "/moment").body == b"a moment later"
    assert cpu_seconds(run.process.pid) - before < 0.1
    assert END not in run.output
    run.signal(signal.SIGTERM)
    assert run.ended() == 0


def test_standard_input_stays_as_it_was(scripts: Scripts) -> None:
    """Whoever started the script shares it: it must not become non-blocking."""
    run = scripts.piped()
    run.type("name\n")
    run.wait_for("hi nobody\n")
    flags = Path(f"/proc/{run.process.pid}/fdinfo/0").read_text()
    found = re.search(r"flags:\s*(\d+)", flags)
    assert found is not None
    assert not int(found[1], 8) & os.O_NONBLOCK


READ_ON = """\
try:
    server.serve_forever()
finally:
    server.server_close()
print("left:", repr(sys.stdin.readline()), flush=True)
"""
IN_A_THREAD = """\
thread = threading.Thread(target=server.serve_forever)
thread.start()
line = sys.stdin.readline()
print("left:", repr(line), flush=True)
server.done = True
thread.join()
server.server_close()
"""


def test_without_a_command_loop_the_input_is_left_alone(scripts: Scripts) -> None:
    run = scripts.piped("server.no_command_loop = True", serve=READ_ON)
    run.type("quit\nname\n")
    run.wait_for(re.escape(END))
    assert_idle(run)
    assert told(run)[-1] == r"left: 'quit\n'"


def test_a_server_in_another_thread_has_no_console(scripts: Scripts) -> None:
    run = scripts.piped(serve=IN_A_THREAD)
    assert get(run.port, "/hello").body == b"hello"
    run.type("quit\n")
    assert run.ended() == 0
    assert r"left: 'quit\n'" in told(run)


def test_a_server_that_is_not_told_to_read_does_not(serve: Callable[..., Any]) -> None:
    """In the thread of a test: nothing is taken from what the test's own standard input is."""
    reader, writer = os.pipe()
    stdin = os.dup(0)
    try:
        os.dup2(reader, 0)
        os.write(writer, b"quit\n")
        run = serve(create_server(("127.0.0.1", 0)))
        assert run.get("/nothing").status == 404
        assert os.read(0, 100) == b"quit\n"
    finally:
        os.dup2(stdin, 0)
        for descriptor in (reader, writer, stdin):
            os.close(descriptor)


def test_many_lines_at_once(scripts: Scripts) -> None:
    (scripts.folder / "commands").write_text("".join(f"name {number}\n" for number in range(2000)))
    with open(scripts.folder / "commands", "rb") as file:
        run = scripts.reading(file)
    run.wait_for(re.escape(END))
    assert [line for line in told(run) if line.startswith("hi")] == [f"hi {n}" for n in range(2000)]


# ---- what lines mean ----------------------------------------------------------------------------

COMMANDS = """
@server.cmd(no_replace=True)
def as_it_is(args):
    msg("as it is {0}", len(args))

@server.cmd(argc=2)
def two_words(args):
    msg("two words {0}", " and ".join(args))

def method(args):
    msg("method {0}", " ".join(args))

server.add_cmd_method("cache_clear_all", method)
server.add_cmd_method("exact", method, argc=1)
assert name(["from Python"]) is None  # a decorator returns the function
server.handle_cmd("name from handle_cmd")
"""


def test_what_lines_mean(scripts: Scripts) -> None:
    run = scripts.piped(COMMANDS)
    lines = {
        "name # a comment": "hi nobody",
        "name a#b": "hi a",
        "\t name \t spaced   out ": "hi spaced out",
        "name windows\r": "hi windows",
        "name ü 漢字 😀": "hi ü 漢字 😀",
        "as_it_is": "as it is 0",
        "two words a b": "two words a and b",
        "cache": "cache with 0 argument(s)",
        "cache x": "cache with 1 argument(s)",
        "cache clear x": "cleared x",
        "cache clear all": "method ",
        "cache clear all x y": "method x y",
        "exact x": "method x",
    }
    nothing = ["", "   ", "# just a comment", "#", "\r"]
    said = answered(run, "\n".join([*lines, *nothing]) + "\n")
    assert run.output.startswith(("script.py", "hi")) or "hi from handle_cmd" in run.output
    assert "hi from Python" in run.output
    assert said == [*lines.values(), "closed"]


def test_what_is_wrong_with_a_line(scripts: Scripts) -> None:
    run = scripts.piped(COMMANDS)
    said = answered(run, "nonsense\nas it is\ncache clear\ntwo words a\nexact\njobs nonsense\ntwo\n")
    assert len(said) == 8
    unknown, underscores, argument, two, exact, jobs, half, _ = said
    for text in ("nonsense", "help", "quit", "restart", "name", "cache", "two", "as_it_is"):
        assert text in unknown
    assert "'as it is'" in underscores
    for text in ("'cache clear'", "1 argument", "0", "second", "section"):
        assert text in argument
    assert "2 argument" in two
    assert "1 argument" in exact
    assert "stop" in jobs
    assert "words" in half


def test_help_has_a_line_for_each_command(scripts: Scripts) -> None:
    run = scripts.piped(COMMANDS)
    said = answered(run, "help\n")[:-1]
    lines = {re.split(r"\s{2,}", line.strip())[0]: line for line in said}
    assert len(lines) == len(said)
    assert "Says hello." in lines["name"]
    assert "Clears a section of the cache." in lines["cache clear"]
    assert {"as_it_is", "two words", "cache clear all"} <= set(lines)
    for name in ("help", "restart", "quit", "status", "conns", "routes", "jobs", "jobs stop"):
        assert re.search(r"\w+\.$", lines[name]), f"{name} is not explained"
    assert any(name.startswith("log") for name in lines)
    assert any(name.startswith("tls") for name in lines)


def test_status(scripts: Scripts) -> None:
    run = scripts.piped()
    client = run.connect()
    assert client.request("GET", "/hello").status == 200
    said = "\n".join(answered(run, "status\n")).lower()
    for word in ("up", "connection", "request", "job", "thread|pool", r"\d\s*[kmg]i?b|memory"):
        assert re.search(word, said), f"no {word!r} in:\n{said}"
    assert re.search(r"\b1\b.{0,20}connection|connections?\W+.{0,12}\b1\b", said), said


def test_connections_and_routes(scripts: Scripts) -> None:
    run = scripts.piped()
    first, second = run.connect(), run.connect()
    for client in (first, second):
        assert client.request("GET", "/hello").status == 200
    run.type("conns\nroutes\nname done\n")
    run.wait_for("hi done")
    said = "\n".join(told(run))
    for client in (first, second):
        host, port = client.sock.getsockname()
        assert re.search(rf"{re.escape(host)}\D{port}\b", said), said
    assert re.search(r"GET.*/hello\b|/hello\b.*GET", said)
    assert re.search(r"GET.*/say/:how/:text|/say/:how/:text.*GET", said)


def test_the_access_log_on_and_off(scripts: Scripts) -> None:
    run = scripts.piped()
    get(run.port, "/nothing?1")
    run.type("log off\nname off\n")
    run.wait_for("hi off")
    get(run.port, "/nothing?2")
    run.type("log on\nname on\n")
    run.wait_for("hi on")
    get(run.port, "/nothing?3")
    run.wait_for(r"/nothing\?3")
    said = answered(run, "log\nlog sideways\n")
    assert [number for number in "123" if f"/nothing?{number} " in run.output] == ["1", "3"]
    for line in said[-3:-1]:
        assert "on" in line
        assert "off" in line


JOB = """
@server.json_worker("/job")
def job(post):
    msg("job begun")
    gate.wait(20)
    return 1
"""


def test_jobs(scripts: Scripts) -> None:
    run = scripts.piped(JOB, serve="server.max_workers = 1\n" + READ_ON)
    run.type("jobs\njobs stop 123\n")
    run.wait_for("no job")
    run.wait_for("123")
    client = run.connect()
    answer = client.request("POST", "/job", b'{"action": "start", "payload": {}}')
    found = re.search(rb'"token":\s*"(\d+)"', answer.body)
    assert found is not None, answer
    token = found[1].decode()
    run.wait_for("job begun")
    run.type(f"jobs\njobs stop {token}\nname stopped\n")
    run.wait_for("hi stopped")
    assert re.search(rf"{token}.*running.*/job", run.output)
    asked = client.request("POST", "/job", f'{{"action": "get", "token": "{token}"}}'.encode())
    assert b'"continue":false' in asked.body.replace(b" ", b"")
    os.kill(run.process.pid, signal.SIGUSR1)  # the gate
    run.type("quit\n")
    run.end_input()
    assert run.ended() == 0


def test_certificates_are_loaded_again_only_where_there_are_any(scripts: Scripts) -> None:
    run = scripts.piped()
    said = answered(run, "tls reload\nname after\n")
    assert said[-2:] == ["hi after", "closed"]
    assert re.search("HTTPS|TLS|certificate", said[0])
    assert len(said) == 3


def test_certificates_are_loaded_again(scripts: Scripts) -> None:
    pytest.importorskip("cryptography")
    from tests.certificates import Authority

    issued = Authority(scripts.folder).issue("localhost")
    run = scripts.piped(f"server.use_tls({str(issued.certificate)!r}, {str(issued.key)!r})")
    run.type("tls reload\n")
    run.wait_for("new connections get the certificates as they are now\n")


ROUTES = """
class Callable:
    def __call__(self, req, args):
        return "called"

server.add_text_get_mask("/called", Callable())
server.bind_proxy("/up/", "http://127.0.0.1:9")
"""


def test_routes_of_all_kinds(scripts: Scripts) -> None:
    run = scripts.piped(ROUTES)
    run.type("routes\n")
    run.wait_for(r"(?m)^  GET     /called/…  text  Callable$")
    run.wait_for(r"(?m)^  \*       /up/…  proxy  http://127\.0\.0\.1:9$")
    assert get(run.port, "/up/x").status == 502
    run.type("routes\n")
    run.wait_for(r"/up/…  proxy  .*:9  0 in use, 0 idle; 0 s ago: .*refused")


def test_a_long_list_is_cut(log: Log) -> None:
    server = create_server(("127.0.0.1", 0))
    for number in range(150):
        server.add_text_get_mask(f"/{number}", lambda _req, _args: "")
    server.handle_cmd("routes")
    server.server_close()
    lines = log.text.splitlines()
    assert len(lines) == 101
    assert all("GET " in line for line in lines[:100])
    assert lines[100].strip() == "… and 50 more"


def test_a_loop_that_is_busy_is_not_waited_for(
    serve: Callable[[QuickServer], Any], log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtin, "_PATIENCE", 0.05)
    run = serve(create_server(("127.0.0.1", 0)))
    begun, gate = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        gate.wait(PATIENCE)

    run.server._reactor.call_from_thread(hold)
    assert begun.wait(PATIENCE)
    run.server.handle_cmd("status")
    gate.set()
    assert "TimeoutError: the server does not answer" in log.text


# ---- odd input ----------------------------------------------------------------------------------

ODD = {
    "binary": b"\xff\xfe\x00\x80\x1b[31m\x9b\n",
    "control bytes": b"name \x1b]0;title\x07 \x08\x0b\x85 \n",
    "surrogates": b"\xed\xa0\x80 \xe2\x80\xae\n",
    "nul": b"\x00\n",
    "long": b"x" * 300_000 + b"\n",
    "long with spaces": b"x y " * 75_000 + b"\n",
    "long and without letters": b"\x00" * 300_000 + b"\n",
    "long name": b"name " + b"x" * 300_000 + b"\n",
}


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Piped]:
    """A script that several tests type at."""
    with ExitStack() as stack:
        yield Scripts(tmp_path_factory.mktemp("patient"), stack).piped()


@pytest.mark.parametrize("what", ODD)
def test_an_odd_line_is_one_line_of_the_log(patient: Piped, what: str) -> None:
    assert patient.port
    before = len(patient.output)
    patient.type(ODD[what] + f"name after {what}\n".encode())
    patient.wait_for(f"hi after {what}\n")
    line, after, _ = patient.output[before:].split("\n")
    assert after.endswith(f"hi after {what}")
    if what == "control bytes":  # it is a command, which gets what was typed
        assert "hi " in line
        return
    assert 0 < len(line) < 600
    assert line.isprintable()


def test_a_line_without_end_is_not_kept(scripts: Scripts) -> None:
    run = scripts.piped()
    assert get(run.port, "/hello").body == b"hello"
    before = most_memory(run.process.pid)
    for _ in range(300):
        run.type(b"x" * 100_000)
    assert get(run.port, "/hello").body == b"hello"
    assert most_memory(run.process.pid) - before < 5_000_000
    said = answered(run, "\nname after\n")
    assert said[-2:] == ["hi after", "closed"]
    assert [line for line in said if "SERVER" in line] == ["[SERVER] that is too long for a command"]


def most_memory(pid: int) -> int:
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def test_an_endless_line_at_the_end_of_the_input(scripts: Scripts) -> None:
    run = scripts.piped()
    run.type(b"name first\n" + b"x" * 300_000)
    run.end_input()
    run.wait_for(re.escape(END))
    first, line, end = told(run)[:3]
    assert (first, len(line) < 600) == ("hi first", True)
    assert END in end
    assert_idle(run)


# ---- how commands run ---------------------------------------------------------------------------


def test_a_slow_command_blocks_nothing(scripts: Scripts) -> None:
    run = scripts.piped()
    run.type("nap\nname after\nhelp\n")
    run.wait_for("napping")
    for number in range(20):
        assert get(run.port, "/hello").body == b"hello"
        get(run.port, f"/nothing?{number}")
    run.wait_for(r"/nothing\?19 ")
    assert "hi after" not in run.output  # one at a time, in order
    assert "Says hello." not in run.output
    run.signal(signal.SIGUSR1)
    run.wait_for("Says hello.")
    assert re.search("awake(?s:.*)hi after(?s:.*)Says hello", run.output)


def test_lines_wait_in_the_pipe_for_their_turn(scripts: Scripts) -> None:
    run = scripts.piped()
    run.type("nap\n")
    run.wait_for("napping")
    assert run.process.stdin is not None
    pipe = run.process.stdin.fileno()
    os.set_blocking(pipe, False)
    taken = 0
    for _ in range(30):
        try:
            while taken < 1_000_000:
                taken += os.write(pipe, b"# nothing to be done\n" * 100)
        except BlockingIOError:
            assert get(run.port, "/hello").body == b"hello"  # it had the opportunity to read on
    assert taken < 200_000
    run.signal(signal.SIGUSR1)
    run.wait_for("awake")
    os.set_blocking(pipe, True)
    assert answered(run, "\nname after\n")[-2:] == ["hi after", "closed"]


def test_quitting_waits_for_its_turn(scripts: Scripts) -> None:
    run = scripts.piped()
    run.type("nap\nquit\n")
    run.wait_for("napping")
    assert get(run.port, "/hello").body == b"hello"
    run.signal(signal.SIGUSR1)
    assert run.ended() == 0
    assert told(run)[-2:] == ["awake", "closed"]


@pytest.mark.parametrize("parallel", [True, False])
def test_the_end_does_not_wait_for_a_command_that_hangs(scripts: Scripts, parallel: bool) -> None:
    run = scripts.piped("server.shutdown_timeout = 0.3", parallel=parallel)
    run.type("nap\n")
    run.wait_for("napping")
    run.signal(signal.SIGTERM)
    assert run.ended(within=5) == 0
    assert told(run)[-1] == "closed"


def test_the_console_answers_while_all_threads_are_busy(scripts: Scripts) -> None:
    run = scripts.piped("server.threads = 2")
    hanging = [run.connect().send("GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(8)]
    run.wait_for("hanging(?s:.*)hanging")
    run.type("name while all are busy\nstatus\nconns\nhelp\njobs\n")
    run.wait_for("hi while all are busy")
    run.wait_for("Says hello.(?s:.*)no jobs")
    run.signal(signal.SIGUSR1)
    assert [client.answer().body for client in hanging] == [b"hung"] * 8


def test_commands_and_handlers_that_may_not_overlap(scripts: Scripts) -> None:
    run = scripts.piped(parallel=False)
    hanging = run.connect().send("GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
    run.wait_for("hanging")
    run.type("name after the handler\n")
    assert get(run.port, "/nothing?1").status == 404  # files go on beside it
    run.wait_for(r"/nothing\?1 ")
    assert "hi after" not in run.output
    run.signal(signal.SIGUSR1)
    assert hanging.answer().body == b"hung"
    run.wait_for("hi after the handler")


def test_handlers_wait_for_a_command_that_they_may_not_overlap(scripts: Scripts) -> None:
    run = scripts.piped(parallel=False)
    run.type("nap\n")
    run.wait_for("napping")
    waiting = run.connect().send("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for number in range(3):
        assert get(run.port, f"/nothing?{number}").status == 404
    run.wait_for(r"/nothing\?2 ")
    waiting.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        waiting.sock.recv(1)
    waiting.sock.settimeout(PATIENCE)
    run.signal(signal.SIGUSR1)
    assert waiting.answer().body == b"hello"


def test_nothing_overlaps(scripts: Scripts) -> None:
    counting = """
inside = most = 0

def enter(*_):
    global inside, most
    inside += 1
    most = max(most, inside)
    threading.Event().wait(0.002)
    inside -= 1
    return "left"

server.add_text_get_mask("/enter", enter)
server.add_cmd_method("enter", enter)
server.add_cmd_method("most", lambda args: msg("most {0}", most))
"""
    run = scripts.piped(counting, parallel=False)
    run.type("enter\n" * 100)
    clients = [run.connect() for _ in range(4)]
    for _ in range(25):
        for client in clients:
            client.send("GET /enter HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert [client.answer().body for client in clients] == [b"left"] * 4
    run.type("most\n")
    assert run.wait_for(r"most (\d+)")[1] == "1"


HANDLED = """
quick_server.set_global_error_handler(lambda error: msg("handled {0!r}", error))

@server.cmd()
def leaves(args):
    sys.exit(3)

@server.cmd()
def interrupts(args):
    raise KeyboardInterrupt
"""


def test_what_a_command_raises(scripts: Scripts) -> None:
    run = scripts.piped(HANDLED)
    said = answered(run, "fails\nname after\nleaves\ninterrupts\nname still\n")
    assert said[-2:] == ["hi still", "closed"]
    text = "\n".join(said)
    assert text.count("Traceback") == 3
    assert "ValueError: the command broke" in text
    assert "'fails'" in text
    assert said.count("handled ValueError('the command broke')") == 1
    assert said.index("hi after") > said.index("handled ValueError('the command broke')")


def test_commands_from_python(log: Log) -> None:
    """`handle_cmd` does what is typed, in the thread that calls it, whether or not the server runs."""
    server = create_server(("127.0.0.1", 0))
    threads: list[tuple[str, threading.Thread]] = []

    @server.cmd()
    def note(args: list[str]) -> None:
        threads.append((" ".join(args), threading.current_thread()))

    server.handle_cmd("note a b # c")
    server.handle_cmd("nonsense")
    server.handle_cmd("")
    server.server_close()
    assert threads == [("a b", threading.current_thread())]
    assert "'nonsense'" in log.text


def test_quit_from_python(serve: Callable[[QuickServer], Any]) -> None:
    run = serve(create_server(("127.0.0.1", 0)))
    client = run.connect()
    assert client.request("GET", "/nothing").status == 404
    run.server.handle_cmd("quit")
    assert client.at_end()
    assert run.server.done


# ---- terminals without line editing -------------------------------------------------------------

NO_READLINE = "raise ImportError('there is none here')\n"
LIBEDIT = """
'''Importing this module enables command line editing using libedit readline.'''
backend = "editline"
"""


@pytest.fixture(params=["setting", "no module", "libedit"])
def plain(scripts: Scripts, request: pytest.FixtureRequest) -> Callable[..., Terminal]:
    """`plain(setup)` starts a script on a terminal where lines cannot be edited."""

    def begin(setup: str = "", **options: Any) -> Terminal:
        if request.param == "setting":
            return scripts.terminal('server.console = "plain"\n' + setup, **options)
        # not in PYTHONPATH, which is where the package comes from
        text = NO_READLINE if request.param == "no module" else LIBEDIT
        (scripts.folder / "readline.py").write_text(text)
        return scripts.terminal(setup, **options)

    return begin


def test_a_plain_terminal(plain: Callable[..., Terminal]) -> None:
    terminal = plain()
    assert terminal.get("/hello").body == b"hello"
    assert terminal.modes == terminal.before  # the kernel's own line editing
    terminal.run("name you", "hi you\r")
    terminal.run("cache clear x", "cleared x\r")
    terminal.send("name ab\x7fc")
    terminal.run("", "hi ac\r")
    terminal.run("quit", "closed\r")
    assert terminal.ended() == 0
    terminal.is_sane()
    assert "Traceback" not in terminal.screen.raw


def test_the_end_of_a_plain_terminal(scripts: Scripts) -> None:
    terminal = scripts.terminal('server.console = "plain"')
    terminal.run("name you", "hi you\r")
    terminal.send(CTRL_D)
    terminal.expect(re.escape(END))
    assert terminal.get("/hello").body == b"hello"
    before = cpu_seconds(terminal.pid)
    assert terminal.get("/moment").body == b"a moment later"
    assert cpu_seconds(terminal.pid) - before < 0.1
    terminal.send(CTRL_C)
    assert terminal.ended() == 0
    terminal.is_sane()


JOBS = """set -m
"$@" &
read -r
fg
fg
echo "ended with $?"
"""


def test_a_plain_terminal_and_the_jobs_of_a_shell(scripts: Scripts) -> None:
    """Started in the background, brought to the front, stopped, and brought back."""
    prefix = ["bash", "-c", JOBS, "bash"]
    terminal = scripts.terminal('server.console = "plain"', prefix=prefix)
    assert terminal.get("/hello").body == b"hello"
    before = cpu_seconds(terminal.pid)
    assert terminal.get("/moment").body == b"a moment later"
    assert cpu_seconds(terminal.pid) - before < 0.1
    terminal.send("\r")
    terminal.expect('"\\$@"\r\n')  # `fg` names the job
    terminal.run("name you", "hi you\r")
    terminal.send(CTRL_Z)
    terminal.expect('"\\$@"\r\n')
    terminal.run("name you again", "hi you again\r")
    terminal.send("quit\r")
    terminal.expect("ended with 0")
    assert terminal.ended() == 0
    terminal.is_sane()


def test_a_command_that_asks(scripts: Scripts) -> None:
    run = scripts.piped()
    said = answered(run, "ask\nname\nname you\n")
    assert said[0].startswith("well? ")
    assert said[0].endswith("you said 'name'")
    assert said[1:] == ["hi you", "closed"]


def test_interrupting_a_command_that_asks(scripts: Scripts) -> None:
    terminal = scripts.terminal()
    terminal.send("ask\r")
    terminal.shows("well? ")
    terminal.send("half" + CTRL_C)
    terminal.expect("EOFError")
    terminal.shows("> ")
    terminal.run("name you", "hi you\r\n")


READS = """
@server.cmd()
def everything(args):
    msg("read {0!r}", sys.stdin.read())
"""


def test_a_command_that_reads_everything(scripts: Scripts) -> None:
    run = scripts.piped(READS)
    run.type("everything\nname\n\nname you\n")
    run.end_input()
    run.wait_for(re.escape(r"read 'name\n\nname you\n'"))


ASKS_ON_THE_LOOP = """
def ask_there():
    try:
        input()
    except RuntimeError as error:
        msg("refused: {0}", error)

@server.cmd()
def there(args):
    server._reactor.call_from_thread(ask_there)
"""


def test_the_thread_that_serves_may_not_ask(scripts: Scripts) -> None:
    run = scripts.piped(ASKS_ON_THE_LOOP)
    run.type("there\n")
    run.wait_for("refused: the thread that serves cannot wait for a line")
    assert get(run.port, "/hello").status == 200


ASKS_AFTERWARDS = """
kept = sys.stdin
@server.cmd()
def keep(args):
    global kept
    kept = sys.stdin
"""
READ_AFTERWARDS = SERVE + "print('afterwards', repr(kept.readline()), flush=True)\n"


def test_who_asks_behind_the_end_gets_nothing(scripts: Scripts) -> None:
    run = scripts.piped(ASKS_AFTERWARDS, serve=READ_AFTERWARDS)
    run.type("keep\nquit\n")
    run.wait_for("afterwards ''")


@pytest.mark.parametrize("supervised", [False, True])
def test_what_follows_a_restart_is_for_the_next_run(scripts: Scripts, supervised: bool) -> None:
    (scripts.folder / "commands").write_text("name one\nrestart\nname two\nquit\nname three\n")
    with open(scripts.folder / "commands", "rb") as file:
        run = scripts.reading(file, first="quick_server.setup_restart()" if supervised else "")
    assert run.ended() == 0
    said = [line for line in told(run) if line.startswith(("hi", "port", "closed"))]
    assert [line.split(" ")[0] for line in said] == ["hi", "closed", "port", "hi", "closed"]
    assert said[3] == "hi two"


def test_the_prompt_of_a_plain_terminal(scripts: Scripts) -> None:
    terminal = scripts.terminal('server.console = "plain"\nserver.prompt = "srv: "')
    terminal.shows("srv: ")
    terminal.send("name you\r")
    terminal.until(lambda: "hi you" in terminal.screen.raw, "no answer")
    terminal.shows("srv: ")


# ---- colour -------------------------------------------------------------------------------------

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def talk(terminal: Terminal) -> None:
    """Makes it say something of every kind."""
    for target in ("/hello", "/nothing", "/exit", "/say/print/printed"):
        terminal.get(target)
    for line in ("help", "status", "routes", "nonsense", "fails"):
        terminal.send(line + "\r")
    terminal.send("quit\r")
    assert terminal.ended() == 0


def test_colour_on_a_terminal(scripts: Scripts) -> None:
    terminal = scripts.terminal()
    talk(terminal)
    assert COLOUR.search(terminal.screen.raw)


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_it_is_not_wanted(scripts: Scripts, env: dict[str, str]) -> None:
    terminal = scripts.terminal(env=env)
    talk(terminal)
    assert not COLOUR.search(terminal.screen.raw)
    terminal.is_sane()


def test_no_colour_in_files(scripts: Scripts) -> None:
    """Standard input is a terminal, and all that is said goes to a file."""
    path = scripts.folder / "said"
    with open(path, "wb") as said:
        terminal = scripts.terminal(stdout=said, stderr=said)
    found: list[str] = []

    def says(pattern: str) -> bool:
        found[:] = re.findall(pattern, path.read_text())
        return bool(found)

    terminal.until(lambda: says(r"port (\d+)\n"), "no port")
    assert get(int(found[0]), "/nothing").status == 404
    terminal.send("help\rnonsense\rfails\rname you\r")
    terminal.until(lambda: says("hi you"), "no answer")
    terminal.send("quit\r")
    assert terminal.ended() == 0
    assert says("closed")
    assert says("the command broke")
    assert "\x1b" not in path.read_text()
    terminal.is_sane()


def test_no_colour_in_a_log_beside_a_terminal(scripts: Scripts) -> None:
    path = scripts.folder / "log"
    with open(path, "wb") as said:
        terminal = scripts.terminal(stderr=said)
    assert terminal.get("/nothing").status == 404
    terminal.send("fails\rname you\r")
    terminal.until(lambda: "hi you\n" in path.read_text(), "no answer")
    terminal.send("quit\r")
    assert terminal.ended() == 0
    assert '"GET /nothing HTTP/1.1" 404' in path.read_text()
    assert "the command broke" in path.read_text()
    assert "\x1b" not in path.read_text()
    assert "the command broke" not in terminal.screen.raw
    terminal.is_sane()
