"""Requests as bytes, and what is asked of answers and of processes again and again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.talk import Heard, Talk
from tests.harness import Client
from tests.integration.scripts import SERVER, Script

KIB = 1024
MIB = 1024 * KIB


def get(target: str, *fields: str, version: str = "1.1", method: str = "GET") -> bytes:
    lines = [f"{method} {target} HTTP/{version}", "Host: localhost", *fields]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def post(*fields: str, body: bytes = b"", target: str = "/echo", version: str = "1.1") -> bytes:
    return get(target, *fields, version=version, method="POST") + body


def ask(talk: Talk, target: str, *fields: str, method: str = "GET") -> Heard:
    """What one request is answered, and whether the connection is kept then."""
    return talk(
        get(target, *fields, method=method), probe=True, heads_only=[0] if method == "HEAD" else ()
    )


def closes(heard: Heard, *statuses: int) -> None:
    """The one answer has one of these statuses, and says that the connection ends; it does."""
    assert heard.end == "closes"
    assert len(heard.statuses) == 1
    assert heard.statuses[0] in statuses
    assert heard.announced


def resident(pid: int, what: str = "VmRSS") -> int:
    """Bytes of memory of that process: now, or at most ("VmHWM")."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(f"{what}:")[2].split()[0]) * KIB


def computed(pid: int) -> float:
    """Seconds that the process has computed so far, whatever else the machine had to do."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def to_the_end(client: Client) -> bytes:
    """All that comes until the server closes."""
    client.at_end()
    return client.rest


def script_log(script: Script) -> str:
    """All that was logged until now: a line of our own ends it."""
    mark = f"/mark/{len(script.output)}"
    script.connect().request("GET", mark)
    script.wait_for(mark)
    return script.output


@contextmanager
def serve_functions(folder: Path, setup: str) -> Iterator[Script]:
    """A server of ours in a process of its own; `setup` is Python that configures `server`."""
    path = folder / "script.py"
    path.write_text(SERVER.format(setup=setup))
    script = Script.python(str(path), cwd=folder)
    try:
        yield script
    finally:
        script.dispose()
