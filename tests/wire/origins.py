"""Origin servers in processes of their own: ours, and peers in the same position.

All of them serve the same things, so that the same bytes can be sent to each:

- `/file.txt` (`FILE`) and `/big.bin` (`BIG` bytes): files;
- `/hello`: a function that answers a GET with "hello";
- `/echo`: a function that answers a POST or PUT with its content;
- `/raises`, `/breaks`, `/splits`: functions that raise before and after an answer of theirs has begun,
  and that put a line end into a header; `/splits/cookie`, `/type`, `/nul` and `/reason` put it, or a
  NUL, elsewhere;
- `/held`, `/endless`, `/busy`: one that answers when it may, a stream without an end, and one that
  takes 2 ms and tells how many others do meanwhile;
- `/trailer`, `/private`: which `X-Trailer` it sees, and 401 without a look at the content.

`/held`, `/echo` and `/endless` note that they were called (`notes`).

nginx has no functions of its own: it passes those to uvicorn, which stands behind it. waitress and
uvicorn have no files: applications of a few lines send them.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from string import Template
from urllib.request import urlopen

from bench.environment import PYTHON
from tests.certificates import Issued
from tests.harness import PATIENCE, Client
from tests.integration.scripts import ROOT, environment
from tests.nginx import NGINX, ONE_PROCESS, nginx_command
from tests.ports import vacant_port
from tests.wire.notes import Notes

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
    notes: Notes
    """Of the process that has the functions."""

    def connect(self) -> Client:
        """A new connection; who makes it closes it."""
        return Client(socket.create_connection(self.address, timeout=PATIENCE))


class AbsentError(Exception):
    """A peer that is not installed here."""


NGINX_CONFIGURATION = Template("""\
    types { text/plain txt; application/octet-stream bin; }
    upstream functions { server 127.0.0.1:$functions; keepalive 8; }
    server {
        listen 127.0.0.1:$port $tls;
        $more
        root $root;
        location ~ ^/(hello|echo|raises|breaks|held|endless|busy|trailer|splits(/[a-z]+)?)$$ {
            proxy_pass http://functions;
        }
        location = /private { return 401; }
    }
""")


@contextmanager
def quick_server(
    folder: Path, prefix: Sequence[str] = (), options: Sequence[str] = (), tls: Issued | None = None
) -> Iterator[Origin]:
    """Ours, with its own defaults."""
    command = [*prefix, sys.executable, "-W", "error", "-m", "tests.wire.ours", *options]
    if tls:
        command.append(f"tls={tls.both}")
    with _process("quick_server", command, None, folder, _root(folder), bool(tls)) as origin:
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
def uvicorn(
    folder: Path, prefix: Sequence[str] = (), options: Sequence[str] = (), tls: Issued | None = None
) -> Iterator[Origin]:
    """uvicorn with httptools and uvloop, as `uvicorn[standard]` runs it."""
    port = vacant_port()
    command = [*prefix, str(PYTHON), "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--http", "httptools", "--loop", "uvloop", "--log-level", "warning", "--no-access-log"]
    if tls:
        command += ["--ssl-certfile", str(tls.certificate), "--ssl-keyfile", str(tls.key)]
    command += [*options, "tests.wire.asgi:application"]
    with _python("uvicorn", command, port, folder, bool(tls)) as origin:
        yield origin


@contextmanager
def nginx(
    folder: Path,
    prefix: Sequence[str] = (),
    options: Sequence[str] = (),
    tls: Issued | None = None,
    main: str = ONE_PROCESS,
    connections: int = 1024,
) -> Iterator[Origin]:
    """nginx with one worker and its own defaults; uvicorn behind it answers for functions.

    `main` is what it is told of itself.
    """
    if NGINX is None:
        raise AbsentError("nginx is not installed")
    behind = folder / "behind"
    behind.mkdir()
    if tls:
        options = [*options, f"ssl_certificate {tls.certificate}; ssl_certificate_key {tls.key};"]
    with uvicorn(behind) as functions:
        port, root = vacant_port(), _root(folder)
        servers = NGINX_CONFIGURATION.substitute(
            port=port,
            tls="ssl" if tls else "",
            functions=functions.address[1],
            root=root,
            more=" ".join(options),
        )
        command = [*prefix, *nginx_command(folder, servers, main, connections)]
        with _process("nginx", command, port, folder, root, bool(tls)) as origin:
            yield replace(origin, notes=functions.notes)


SERVERS: dict[str, Callable[..., AbstractContextManager[Origin]]] = {
    "quick_server": quick_server,
    "nginx": nginx,
    "waitress": waitress,
    "uvicorn": uvicorn,
}
"""How each is started: `with SERVERS[name](folder) as origin:`, in an empty folder.

A second argument is what stands in front of the command, such as `prlimit`; `options` are more
arguments, or directives of nginx's server; `tls` is the certificate for HTTPS, which waitress does not
speak.
"""


@contextmanager
def _python(
    name: str, command: list[str], port: int, folder: Path, tls: bool = False
) -> Iterator[Origin]:
    if subprocess.run([PYTHON, "-c", f"import {name}"], capture_output=True, check=False).returncode:
        raise AbsentError(f"{name} is not installed in .bench-venv; `python bench/run.py` makes it")
    root = _root(folder)
    with _process(name, command, port, folder, root, tls) as origin:
        yield origin


@contextmanager
def _process(
    name: str, command: list[str], port: int | None, folder: Path, root: Path, tls: bool
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
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while not (port := port or _printed_port(output)) or not _answers(port, tls):
            assert time.monotonic() < deadline, f"{name} does not answer"
            with suppress(subprocess.TimeoutExpired):
                raise AssertionError(f"{process.wait(0.02)}: {output.read_text()}")
        yield Origin(name, ("127.0.0.1", port), root, process.pid, output, Notes(folder))
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and those that it has started
        process.wait(PATIENCE)


def _printed_port(output: Path) -> int | None:
    found = re.search(r"(?m)^port (\d+)$", output.read_text(errors="replace"))
    return int(found[1]) if found else None


def _answers(port: int, tls: bool) -> bool:
    context = ssl._create_unverified_context() if tls else None
    try:
        url = f"http{'s' * tls}://127.0.0.1:{port}/file.txt"
        with urlopen(url, timeout=PATIENCE, context=context) as answer:
            return bool(answer.read() == FILE)
    except OSError:
        return False


def _root(folder: Path) -> Path:
    root = folder / "www"
    root.mkdir()
    (root / "file.txt").write_bytes(FILE)
    (root / "big.bin").write_bytes(bytes(range(256)) * (BIG // 256))
    return root
