"""Shutdown hooks: which signals run them, when, and what is left of the process then."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.harness import PATIENCE, Client
from tests.integration.scripts import Script

Launch = Callable[..., Script]

HEAD = """\
import os, sys, threading, time
import quick_server as qs
from quick_server import add_shutdown_hook, create_server, setup_shutdown

def say(*words):
    print(*words, flush=True)

setup_shutdown()
add_shutdown_hook(lambda: say("hook old", threading.current_thread() is threading.main_thread()))
"""
SERVER = """\
server = create_server(("127.0.0.1", 0))

@server.text_get("/slow", 0)
def slow(req, args):
    say("entered")
    with open("gate") as gate:
        return gate.read()

say("port", server.server_address[1])
"""
MAIN = """\
try:
    server.serve_forever()
    say("not reached")
finally:
    say("finally")
"""
THREADED = """\
server.register_shutdown()
add_shutdown_hook(lambda: say("hook new"))
threading.Thread(target=server.serve_forever).start()
try:
    say("ready")
    threading.Event().wait(30)
finally:
    say("finally")
"""
SLOW = "GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"

signals = pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name
)


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """`launch(text)` runs a script in a process of its own."""
    os.mkfifo(tmp_path / "gate")
    with ExitStack() as stack:

        def begin(text: str) -> Script:
            (tmp_path / "script.py").write_text(text)
            script = Script.python("script.py", cwd=tmp_path)
            stack.callback(script.dispose)
            return script

        yield begin


def serving(script: Script) -> int:
    """The port, once it is served."""
    with socket.create_connection(("127.0.0.1", script.port), PATIENCE) as sock:
        assert Client(sock).request("GET", "/").status == 404
    return script.port


def said(script: Script) -> list[str]:
    return re.findall(r"(?m)^(?:hook.*|finally|not reached|answered|.*failed.*)$", script.output)


@signals
def test_a_server_in_the_main_thread(launch: Launch, tmp_path: Path, number: signal.Signals) -> None:
    script = launch(HEAD + 'add_shutdown_hook(lambda: say("hook new"))\n' + SERVER + MAIN)
    port = serving(script)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        client = Client(sock).send(SLOW)
        script.wait_for("entered\n")
        script.signal(number)
        script.refuses(port)
        assert said(script) == []
        (tmp_path / "gate").write_text("done")
        answer = client.answer()
        assert (answer.body, answer.get("connection")) == (b"done", "close")
    assert script.ended() == 130
    assert said(script) == ["hook new", "hook old True", "finally"]
    assert "Traceback" not in script.output


@signals
def test_a_server_in_a_thread(launch: Launch, tmp_path: Path, number: signal.Signals) -> None:
    """It is the newest hook but one: the hook before it waits for its answers."""
    script = launch(HEAD + SERVER + THREADED)
    port = serving(script)
    script.wait_for("ready\n")
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        client = Client(sock).send(SLOW)
        script.wait_for("entered\n")
        script.signal(number)
        script.wait_for("hook new\n")
        script.refuses(port)
        assert said(script) == ["hook new"]
        (tmp_path / "gate").write_text("done")
        assert client.answer().body == b"done"
    assert script.ended() == 130
    assert said(script) == ["hook new", "hook old True", "finally"]


def test_without_a_server(launch: Launch) -> None:
    script = launch(HEAD + 'say("ready")\ntime.sleep(30)\n')
    script.wait_for("ready\n")
    script.signal(signal.SIGTERM)
    assert script.ended() == 130
    assert said(script) == ["hook old True"]


@pytest.mark.parametrize("how", ["1 / 0", "sys.exit(3)"])
def test_a_hook_that_fails(launch: Launch, how: str) -> None:
    text = HEAD + f"def broken():\n    {how}\nadd_shutdown_hook(broken)\n" + SERVER + MAIN
    script = launch(text)
    serving(script)
    script.signal(signal.SIGTERM)
    assert script.ended() == 130
    assert said(script) == ["[SERVER] a shutdown hook failed", "hook old True", "finally"]


def test_hooks_without_a_signal(launch: Launch) -> None:
    script = launch(
        HEAD + SERVER + "threading.Timer(0.1, setattr, [server, 'done', True]).start()\n" + MAIN
    )
    assert script.ended() == 0
    assert said(script) == ["not reached", "finally"]


def test_hooks_without_setup(launch: Launch) -> None:
    script = launch(HEAD.replace("setup_shutdown()\n", "\n") + SERVER + MAIN)
    serving(script)
    script.signal(signal.SIGTERM)
    assert script.ended() == 0
    assert said(script) == ["not reached", "finally"]


@signals
def test_a_signal_while_hooks_run(launch: Launch, number: signal.Signals) -> None:
    hang = 'def hang():\n    say("hanging")\n    time.sleep(30)\nadd_shutdown_hook(hang)\n'
    script = launch(HEAD + hang + SERVER + MAIN)
    serving(script)
    script.signal(number)
    script.wait_for("hanging\n")
    begun = time.monotonic()
    script.signal(number)
    assert script.ended() == 130
    assert time.monotonic() - begun < 2
    assert said(script) == []


def test_a_second_signal_does_not_wait_for_answers(launch: Launch) -> None:
    """The hooks run all the same: they tidy up."""
    script = launch(HEAD + SERVER + MAIN)
    port = serving(script)
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        sock.sendall(SLOW.encode())
        script.wait_for("entered\n")
        script.signal(signal.SIGTERM)
        script.refuses(port)
        script.signal(signal.SIGTERM)
        assert script.ended(within=5.0) == 130
    assert said(script) == ["hook old True", "finally"]


@pytest.mark.parametrize("whom", ["supervisor", "all"])
@pytest.mark.parametrize("text", [SERVER + MAIN, SERVER + THREADED], ids=["main", "thread"])
def test_with_a_supervisor(launch: Launch, text: str, whom: str) -> None:
    script = launch(HEAD.replace("setup_shutdown()", "qs.setup_restart()\nsetup_shutdown()") + text)
    serving(script)
    if text.endswith(THREADED):
        script.wait_for("ready\n")
    if whom == "all":
        os.killpg(script.process.pid, signal.SIGTERM)
    else:
        script.signal(signal.SIGTERM)
    assert script.ended() == 130
    assert said(script)[-2:] == ["hook old True", "finally"]


def test_a_signal_beats_a_restart(launch: Launch) -> None:
    text = HEAD + SERVER + THREADED.replace("try:", "server.restart()\nsay('asked')\ntry:")
    script = launch(text)
    script.wait_for("asked\n")
    script.signal(signal.SIGTERM)
    assert script.ended() == 130
    assert len(re.findall("port", script.output)) == 1
