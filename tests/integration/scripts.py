"""Python scripts in a process of their own, and what they print."""

from __future__ import annotations

import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from tests.harness import PATIENCE, Client

ROOT = Path(__file__).parents[2]
PLAIN = ROOT / "tests" / "plain"  # what keeps the `fast` extra out
LAST_WORDS = 1.0
"""Seconds that a process has to end after a signal, where coverage waits for it."""

SERVER = """\
import os, resource, sys, threading
from quick_server import PreventDefaultResponse, Response, create_server, msg

server = create_server(("127.0.0.1", 0))
{setup}
print("port", server.server_address[1], flush=True)
try:
    server.serve_forever()
finally:
    server.server_close()
print("closed", flush=True)
"""


def environment(**more: str) -> dict[str, str]:
    """The environment of the tests, with the package under test in it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QUICK_SERVER")}
    plain = {"NO_COLOR": "1", "FORCE_COLOR": "0"}  # some tools colour what they say wherever CI is set
    return kept | plain | {"PYTHONPATH": f"{ROOT}:{PLAIN}", "PYTHONUNBUFFERED": "1"} | more


def measured() -> dict[str, str]:
    """What coverage, if these tests run under it, has in the environment of what it measures."""
    name = "COVERAGE_PROCESS_CONFIG"
    return {name: os.environ[name]} if name in os.environ else {}


class Script:
    """One running process (and its children: they share its process group and its output)."""

    def __init__(
        self,
        command: Sequence[str],
        cwd: Path,
        *,
        env: Mapping[str, str] | None = None,
        stdin: IO[bytes] | int = subprocess.DEVNULL,
    ) -> None:
        self.output = ""
        self._at_end = False  # nobody holds the other end of the pipe any more
        self._clients: list[Client] = []
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment() if env is None else env,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @classmethod
    def python(cls, *arguments: str, cwd: Path, prefix: Sequence[str] = (), **variables: str) -> Script:
        command = [*prefix, sys.executable, "-W", "error", *arguments]
        return cls(command, cwd, env=environment(**variables))

    @property
    def port(self) -> int:
        return int(self.wait_for(r"(?m)^port (\d+)$")[1])

    def connect(self) -> Client:
        client = Client(socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE))
        self._clients.append(client)
        return client

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match in what the process has printed, as soon as it is there."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.output)):
            assert self._read(deadline), f"no {pattern!r} in the output:\n{self.output}"
        return found

    def refuses(self, port: int) -> None:
        """Waits until nothing listens on the port any more."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
            except ConnectionError:
                return
            assert time.monotonic() < deadline, "still listening"
            os.sched_yield()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def interrupt(self) -> None:
        """What CTRL-C in a terminal does: the whole group gets it."""
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self, within: float = PATIENCE) -> int:
        """The exit code, once the process and everything that shares its output are gone."""
        deadline = time.monotonic() + within
        while self._read(deadline):
            pass
        left = max(deadline - time.monotonic(), 0.1)
        try:
            return self.process.wait(left)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {within} s:\n{self.output}") from None

    def _read(self, deadline: float) -> bool:
        assert self.process.stdout is not None
        left = max(deadline - time.monotonic(), 0)
        if not select.select([self.process.stdout], [], [], left)[0]:
            return False
        data = os.read(self.process.stdout.fileno(), 65536)
        self.output += data.decode(errors="replace")
        self._at_end = not data
        return bool(data)

    def disconnect(self) -> None:
        """Closes all connections to it."""
        for client in self._clients:
            client.close()
        self._clients.clear()

    def dispose(self) -> None:
        self.disconnect()
        while self._read(deadline=0.0):
            pass
        if self.process.poll() is None or not self._at_end:
            with suppress(ProcessLookupError):
                if measured():
                    self._ask_to_end()
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(PATIENCE)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def _ask_to_end(self) -> None:
        """What is killed tells coverage nothing. A second signal ends what still gives answers."""
        for _ in range(2):
            for number in (signal.SIGTERM, signal.SIGCONT):
                os.killpg(self.process.pid, number)
            deadline = time.monotonic() + LAST_WORDS
            while self._read(deadline):
                pass
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(max(deadline - time.monotonic(), 0.0))
