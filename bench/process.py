"""A server process: started on the server's core, healthy before use, ended by its own handle.

The benchmark itself and the load generator stay on another core, if the machine has one.
"""

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.model import UnfitError

CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE = CORES[0]
LOAD_CORE = CORES[-1]

START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0
POLL = 0.0005


@dataclass(frozen=True, slots=True)
class Server:
    """A running server that has answered a first time."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """Its origin: ``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"


def stay_on_load_core() -> None:
    """Moves the benchmark away from the servers' core; wrk inherits that."""
    os.sched_setaffinity(0, {LOAD_CORE})


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes started inside are born on that core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A port of the loopback that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def spawn(
    command: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    core: int = SERVER_CORE,
) -> subprocess.Popen[bytes]:
    """Starts a server in a session of its own; what it says goes to ``log``."""
    with on_core(core), log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def await_answer(port: int, path: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns as soon as the server answers a GET of ``path`` in any way.

    Raises:
        UnfitError: if it ends or stays silent; with the last line it printed.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UnfitError(f"ended at its start: {last_line(log)}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", path)
            connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            time.sleep(POLL)
        else:
            return
        finally:
            connection.close()
    raise UnfitError(f"no answer within {START_TIMEOUT:g} s: {last_line(log)}")


def last_line(log: Path) -> str:
    """The last thing a server printed, most likely what went wrong."""
    lines = log.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it printed nothing")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Asks the server to end, insists after a while, and leaves none of its children behind."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT)
    # Its own session, hence its own group: only what it started can be in there.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
