"""Origin servers in processes of their own: ours, and peers in the same position.

All of them serve the same things, so that the same bytes can be sent to each:

- `/file.txt` (`FILE`) and `/big.bin` (`BIG` bytes): files;
- `/hello`: a function that answers a GET with "hello";
- `/echo`: a function that answers a POST or PUT with its content;
- `/raises`, `/breaks`, `/splits`: functions that raise before and after an answer of theirs has begun,
  and that put a line end into a header.

nginx has no functions of its own: it passes those to uvicorn, which stands behind it. waitress and
uvicorn have no files: applications of a few lines send them.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from string import Template
from urllib.request import urlopen

from bench.environment import PYTHON
from tests.harness import PATIENCE, Client
from tests.integration.scripts import ROOT, environment
from tests.nginx import NGINX, ONE_PROCESS, nginx_command
from tests.ports import vacant_port

FILE = b"0123456789" * 100
BIG = 4 * 1024 * 1024


@dataclass(frozen=True)
class Origin:
    """A running server."""

    name: str
    address: tuple[str, int]
    root: Path
    pid: int
    output: Path
    """The file with all that it has printed."""

    def connect(self) -> Client:
        """A new connection; who makes it closes it."""
        return Client(socket.create_connection(self.address, timeout=PATIENCE))


class AbsentError(Exception):
    """A peer that is not installed here."""


OURS = """\
import os

from quick_server import create_server

server = create_server(("127.0.0.1", 0))
server.bind_path("/", os.environ["WIRE_ROOT"])
server.text_get("/hello", 0)(lambda req, args: "hello")

@server.text_get("/raises", 0)
def raises(req, args):
    req.send_header("X-Queued", "1")
    raise ValueError("hidden")

@server.text_get("/breaks", 0)
def breaks(req, args):
    yield "x" * 100_000
    raise ValueError("hidden")

@server.text_get("/splits", 0)
def splits(req, args):
    req.send_header("X-Own", "1\\r\\nX-Evil: 1")
    return "body"

server.text_post("/echo", 0)(lambda req, args: req.body())
server.text_put("/echo", 0)(lambda req, args: req.body())
print("port", server.server_address[1], flush=True)
try:
    server.serve_forever()
finally:
    server.server_close()
"""

NGINX_CONFIGURATION = Template("""\
    types { text/plain txt; application/octet-stream bin; }
    upstream functions { server 127.0.0.1:$functions; keepalive 8; }
    server {
        listen 127.0.0.1:$port;
        $more
        root $root;
        location ~ ^/(hello|echo|raises|breaks|splits)$$ { proxy_pass http://functions; }
    }
""")


@contextmanager
def quick_server(folder: Path, prefix: Sequence[str] = ()) -> Iterator[Origin]:
    """Ours, as any script would have it."""
    path = folder / "script.py"
    path.write_text(OURS)
    command = [*prefix, sys.executable, "-W", "error", str(path)]
    with _process("quick_server", command, None, folder, _root(folder)) as origin:
        yield origin


@contextmanager
def waitress(folder: Path, prefix: Sequence[str] = (), options: Sequence[str] = ()) -> Iterator[Origin]:
    """waitress with eight threads, and its own defaults otherwise."""
    port = vacant_port()
    command = [*prefix, str(PYTHON), "-m", "waitress", f"--listen=127.0.0.1:{port}", "--threads=8"]
    command += [*options, "tests.wire.wsgi:application"]
    with _python("waitress", command, port, folder) as origin:
        yield origin


@contextmanager
def uvicorn(folder: Path, prefix: Sequence[str] = (), options: Sequence[str] = ()) -> Iterator[Origin]:
    """uvicorn with httptools and uvloop, as `uvicorn[standard]` runs it."""
    port = vacant_port()
    command = [*prefix, str(PYTHON), "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--http", "httptools", "--loop", "uvloop", "--log-level", "warning", "--no-access-log"]
    with _python(
        "uvicorn", [*command, *options, "tests.wire.asgi:application"], port, folder
    ) as origin:
        yield origin


@contextmanager
def nginx(folder: Path, prefix: Sequence[str] = (), options: Sequence[str] = ()) -> Iterator[Origin]:
    """nginx with one process and its own defaults; uvicorn behind it answers for functions."""
    if NGINX is None:
        raise AbsentError("nginx is not installed")
    behind = folder / "behind"
    behind.mkdir()
    with uvicorn(behind) as functions:
        port, root = vacant_port(), _root(folder)
        servers = NGINX_CONFIGURATION.substitute(
            port=port,
            functions=functions.address[1],
            root=root,
            more=" ".join(options),
        )
        command = [*prefix, *nginx_command(folder, servers, ONE_PROCESS)]
        with _process("nginx", command, port, folder, root) as origin:
            yield origin


SERVERS: dict[str, Callable[..., AbstractContextManager[Origin]]] = {
    "quick_server": quick_server,
    "nginx": nginx,
    "waitress": waitress,
    "uvicorn": uvicorn,
}
"""How each is started: `with SERVERS[name](folder) as origin:`, in an empty folder.

A second argument is what stands in front of the command, such as `prlimit`; peers take `options`: more
arguments, or directives of nginx's server.
"""


@contextmanager
def _python(name: str, command: list[str], port: int, folder: Path) -> Iterator[Origin]:
    if subprocess.run([PYTHON, "-c", f"import {name}"], capture_output=True, check=False).returncode:
        raise AbsentError(f"{name} is not installed in .bench-venv; `python bench/run.py` makes it")
    root = _root(folder)
    with _process(name, command, port, folder, root) as origin:
        yield origin


@contextmanager
def _process(
    name: str, command: list[str], port: int | None, folder: Path, root: Path
) -> Iterator[Origin]:
    """Runs the command until the block ends; the block begins when the server answers.

    `port` is None for a server that takes any and prints which.
    """
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(WIRE_ROOT=str(root)),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (port := port or _printed_port(output)) or not _answers(port):
            assert time.monotonic() < deadline, f"{name} does not answer"
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"{process.wait(0.02)}: {output.read_text()}")
        yield Origin(name, ("127.0.0.1", port), root, process.pid, output)
    finally:
        process.kill()
        process.wait(PATIENCE)


def _printed_port(output: Path) -> int | None:
    found = re.search(r"(?m)^port (\d+)$", output.read_text(errors="replace"))
    return int(found[1]) if found else None


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/file.txt", timeout=PATIENCE) as answer:
            return bool(answer.read() == FILE)
    except OSError:
        return False


def _root(folder: Path) -> Path:
    root = folder / "www"
    root.mkdir()
    (root / "file.txt").write_bytes(FILE)
    (root / "big.bin").write_bytes(bytes(range(256)) * (BIG // 256))
    return root
