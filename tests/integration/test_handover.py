"""What one run leaves to the next where something is in its way: odd variables, forks, odd systems."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from quick_server import handover
from tests.integration.scripts import SERVER, Script
from tests.integration.terminals import get
from tests.ports import vacant_port

Launch = Callable[..., Script]

TELLS = """
from quick_server import handover, lifecycle

@server.text_get("/supervised", 0)
def supervised(req, args):
    return str(handover.supervised())

@server.text_get("/fork", 0)
def fork(req, args):
    pid = os.fork()
    if not pid:
        os._exit(3 if handover.supervised() else 5)
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

@server.text_get("/restart", 0)
def restart(req, args):
    server.restart()
    return "restarting"
"""
SUPERVISED = "import quick_server\nquick_server.setup_restart()\n" + SERVER.format(setup=TELLS)
NO_MEMFD = "import os\nif hasattr(os, 'memfd_create'):\n    del os.memfd_create\n"


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """`launch(text)` runs a script in a process of its own."""
    with ExitStack() as stack:

        def begin(text: str, **variables: str) -> Script:
            (tmp_path / "script.py").write_text(text)
            script = Script.python("script.py", cwd=tmp_path, **variables)
            stack.callback(script.dispose)
            return script

        yield begin


def restarted(script: Script) -> None:
    """Restarts it, and waits until the next run serves at the same port."""
    port = script.port
    assert get(port, "/restart").body == b"restarting"
    script.wait_for(rf"(?s)port {port}\n.*port \d+\n")
    assert len(set(re.findall(r"(?m)^port (\d+)$", script.output))) == 1
    assert get(port, "/supervised").body == b"True"


ODD = {
    "no JSON": "nonsense",
    "no object": "[]",
    "nothing": {},
    "no descriptors": {"parent": os.getpid()},
    "a descriptor that is not there": {"parent": os.getpid(), "descriptors": [], "note": 999},
    "a channel that is not there": {"parent": os.getpid(), "channel": 999},
    "a channel that is no number": {"parent": os.getpid(), "channel": "x"},
}


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
def test_a_variable_that_says_nothing(launch: Launch, value: object) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    script = launch(SERVER.format(setup=TELLS), QUICK_SERVER_HANDOVER=text)
    assert get(script.port, "/supervised").body == b"False"
    script.interrupt()
    assert script.ended() == 0
    assert "Traceback" not in script.output


def test_a_fork_is_no_run(launch: Launch) -> None:
    """It has no supervisor, and what it closes is still its parent's."""
    script = launch(SUPERVISED)
    assert get(script.port, "/supervised").body == b"True"
    assert get(script.port, "/fork").body == b"5"
    assert get(script.port, "/supervised").body == b"True"


def test_a_system_without_nameless_files_in_memory(launch: Launch) -> None:
    port = vacant_port()
    restarted(launch(NO_MEMFD + _at(port, SUPERVISED)))


NO_SPAWN = "import os\nif hasattr(os, 'posix_spawn'):\n    del os.posix_spawn\n"


def test_a_system_where_children_are_not_spawned(launch: Launch) -> None:
    """The script runs again; what it has listened at is not kept."""
    script = launch(NO_SPAWN + SUPERVISED)
    assert get(script.port, "/restart").body == b"restarting"
    script.wait_for(r"(?s)port \d+\n.*port \d+\n")
    port = int(re.findall(r"(?m)^port (\d+)$", script.output)[-1])
    assert get(port, "/supervised").body == b"False"


def test_a_run_that_forgets_the_exit_code(launch: Launch) -> None:
    forget = "port = server.server_address[1]\ndel os.environ['QUICK_SERVER_RESTART']\n"
    restarted(launch(_at(vacant_port(), SUPERVISED).replace("try:", forget + "try:", 1)))


def test_a_folder_that_is_gone(tmp_path: Path) -> None:
    """Nothing can be started again there, which is no reason not to begin."""
    (tmp_path / "gone").mkdir()
    shell = 'cd gone && rmdir ../gone && exec "$@"'
    script = Script.python(
        "-c", "import quick_server; print('read')", cwd=tmp_path, prefix=["sh", "-c", shell, "sh"]
    )
    try:
        assert script.ended() == 0
        assert script.output == "read\n"
    finally:
        script.dispose()


def _at(port: int, text: str) -> str:
    return text.replace('("127.0.0.1", 0)', f'("127.0.0.1", {port})')


BEHIND = """
print("behind", flush=True)
threading.Event().wait(30)
"""


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 128 + signal.SIGINT), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_signals_behind_the_server_mean_what_they_did(
    launch: Launch, number: signal.Signals, code: int
) -> None:
    script = launch(SUPERVISED.replace('print("closed", flush=True)', BEHIND))
    assert get(script.port, "/supervised").body == b"True"
    script.signal(signal.SIGTERM if number == signal.SIGINT else signal.SIGINT)
    script.wait_for("behind")
    script.signal(number)
    assert script.ended() == code
    assert ("KeyboardInterrupt" in script.output) == (number == signal.SIGINT)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A listening socket; nothing is kept behind the test."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock
    handover.drop()


def test_what_is_closed_cannot_be_kept(listening: socket.socket) -> None:
    host, port = listening.getsockname()
    with socket.create_server(("127.0.0.1", 0)) as closed:
        pass
    handover.keep(host, port, 0, [listening, closed])
    assert handover.take(host, port) == []


def test_of_equal_addresses_the_first_is_taken_first(listening: socket.socket) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        handover.keep("host", 80, 2, [other])
        handover.keep("host", 80, 1, [listening])
        for sock in (listening, other):
            [found] = handover.take("host", 80)
            with found:
                assert found.getsockname() == sock.getsockname()
    assert handover.take("host", 80) == []


def test_what_is_kept_and_not_wanted_listens_no_more(listening: socket.socket) -> None:
    host, port = listening.getsockname()
    handover.keep(host, port, 0, [listening])
    handover.drop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port), 5)


def test_more_than_fits_into_a_message_is_left_out(listening: socket.socket) -> None:
    """Those of the servers that were made last."""
    for order in range(3):
        handover.keep("host", order, order, [listening] * 100)
    note = handover._note({})
    assert note.told["listening"] == [["host", 0, 100], ["host", 1, 100]]
    assert len(note.descriptors) == 200
    handover.drop()


def test_a_run_that_leaves_nothing() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        assert handover.receive(ours) is None
        theirs.send(b"\0")
        assert handover.receive(ours) is None
