"""Cases 56 to 58: standard input that is missing or odd, and what it is told to end there."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from tests.faults.processes import cpu_seconds, serving

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


@pytest.mark.peers
def test_58_quit(tmp_path: Path) -> None:
    """`quit`: no more is accepted, idle connections end, requests are answered; it ends with 0."""
    with serving(tmp_path, PAGES, stdin=subprocess.PIPE) as served:
        idle, used = served.connect(), served.connect()
        assert used.request("GET", "/hello").body == b"hello"
        client, port = served.connect(), served.port
        client.send("GET /held HTTP/1.1\r\nHost: localhost\r\n\r\n")
        served.wait_for("holding")
        served.type(b"quit\n")
        served.refuses(port)
        assert idle.at_end()
        assert used.at_end()
        served.signal(signal.SIGUSR1)
        answer = client.answer()
        assert (answer.body, answer.get("connection")) == (b"held", "close")
        assert client.at_end()
        assert served.ended() == 0
        assert "Traceback" not in served.output
