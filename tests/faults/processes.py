"""Our server in a process of its own, and what the kernel tells about that process.

Set-ups are Python with a `server` in it. Limits are given by name, as the timeouts of `limits.py` are
longer than a test may take; what they are by default is looked at there.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.harness import PATIENCE, Client
from tests.integration.scripts import SERVER, Script

KIB, MIB = 1024, 1024 * 1024
RESET = struct.pack("ii", 1, 0)
"""What SO_LINGER is set to so that closing a connection resets it."""


class Served(Script):
    """A running server."""

    @property
    def pid(self) -> int:
        return self.process.pid

    def get(self, target: str) -> bytes:
        """The content of an answer that went well, on a connection of its own."""
        client = self.connect()
        try:
            answer = client.request("GET", target)
        finally:
            client.close()
        assert answer.status == 200, answer
        return answer.body

    def close_clients(self) -> None:
        """Closes all that `connect` has made."""
        while self._clients:
            self._clients.pop().close()

    def type(self, text: bytes) -> None:
        """Sends it to standard input, which has to be a pipe."""
        assert self.process.stdin is not None
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def read_output(self) -> str:
        """Everything that it has printed by now."""
        while self._read(time.monotonic()):
            pass
        return self.output


@contextmanager
def serving(
    folder: Path,
    setup: str = "",
    *,
    prefix: Sequence[str] = (),
    made: str = "",
    supervised: bool = False,
    stdin: int = subprocess.DEVNULL,
    limits: Mapping[str, float] | None = None,
) -> Iterator[Served]:
    """A server that says "hello" at `/hello`, and is what `setup` makes of it, with these limits.

    `made` are more arguments of `create_server`; `prefix` is a command that runs the script;
    `supervised`: by `setup_restart`.
    """
    changed = ", ".join(f"{name}={value}" for name, value in (limits or {}).items())
    lines = [
        'server.text_get("/hello", 0)(lambda req, args: "hello")',
        f"server.limits = server.limits._replace({changed})",
        setup,
    ]
    script = SERVER.format(setup="\n".join(lines))
    script = script.replace('("127.0.0.1", 0)', f'("127.0.0.1", 0), {made}')
    if supervised:
        script = f"from quick_server import setup_restart\nsetup_restart()\n{script}"
    (folder / "script.py").write_text(script)
    command = [*prefix, sys.executable, "-W", "error", "script.py"]
    served = Served(command, folder, stdin=stdin)
    try:
        assert served.port
        yield served
    finally:
        served.dispose()


def until(condition: Callable[[], object], what: str, within: float = PATIENCE) -> None:
    """Returns as soon as the condition holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, f"not within {within:g} s: {what}"
        time.sleep(0.005)


def ends(client: Client, within: float = PATIENCE) -> bool:
    """Waits for the end of the connection, and whether it came cleanly in that time."""
    client.sock.settimeout(within)
    try:
        while client._fill():
            pass
    except (ConnectionError, TimeoutError):
        return False
    return True


def reset(client: Client) -> None:
    """Ends the connection with RST."""
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    client.close()


@contextmanager
def small_client(port: int) -> Iterator[Client]:
    """A client for whom the kernel keeps little that it has not read."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        sock.settimeout(PATIENCE)
        sock.connect(("127.0.0.1", port))
        yield Client(sock)


@contextmanager
def in_background(function: Callable[[], object], end: Callable[[], object]) -> Iterator[None]:
    """The function runs in a thread meanwhile; `end` is called afterwards, and ends it."""
    thread = threading.Thread(target=function)
    thread.start()
    try:
        yield
    finally:
        end()
        thread.join(PATIENCE)
        assert not thread.is_alive()


# ---- what the kernel tells --------------------------------------------------------------------


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def descriptors_at_rest(pid: int) -> int:
    """The same, once it has seen that the clients so far are gone."""
    least = descriptors(pid)
    for _ in range(20):
        time.sleep(0.005)
        least = min(least, descriptors(pid))
    return least


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def exit_code(pid: int, within: float) -> int | None:
    """What that process, a child of ours, ends with in that time: a signal as its negative number."""
    deadline = time.monotonic() + within
    while not (found := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)):
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.01)
    return found.si_status if found.si_code == os.CLD_EXITED else -found.si_status


def cpu_seconds(pid: int) -> float:
    """Processor time that it has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int, field: str = "VmRSS") -> int:
    """Bytes of memory; `VmHWM` is the most that there ever were."""
    found = re.search(rf"{field}:\s*(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def reset_peak(pid: int) -> int:
    """Has the most that there ever was (`VmHWM`) begin anew; bytes that there are now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return memory(pid)
