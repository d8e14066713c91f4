"""Who is measured: ours and its peers, with the command that starts each and what that needs."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template

from bench.environment import PYTHON

SERVERS = Path(__file__).parent / "servers"


@dataclass(frozen=True, slots=True)
class Launch:
    """What a server is told at its start."""

    port: int
    folder: Path
    scratch: Path
    upstream: str = ""  # the origin that a proxy is in front of


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that can be started: a name for options, a label for people, the command."""

    name: str
    label: str
    command: Callable[[Launch], list[str]]
    packages: tuple[str, ...] = ()
    program: str | None = None

    def missing(self, installed: Mapping[str, str]) -> str | None:
        """What is not there of what it needs, or None."""
        absent = [name for name in self.packages if name not in installed]
        if self.program and not program(self.program):
            absent.append(self.program)
        return ", ".join(absent) or None


def program(name: str) -> str | None:
    """Where a system's program is; also where only root usually looks."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")


def script(python: str | Path, name: str) -> Callable[[Launch], list[str]]:
    """The command of a script in ``servers/``."""
    return lambda launch: [
        *(str(python), "-m", f"bench.servers.{name}"),
        *(str(launch.port), str(launch.folder)),
    ]


def quick_files(launch: Launch) -> list[str]:
    """Our command line: a folder, nothing else."""
    return [
        *(sys.executable, "-m", "quick_server"),
        *("-a", "127.0.0.1", "-p", str(launch.port), "--www", str(launch.folder)),
    ]


def http_server(launch: Launch) -> list[str]:
    """The standard library's command line, on the same Python as ours."""
    return [
        *(sys.executable, "-m", "http.server", str(launch.port)),
        *("--bind", "127.0.0.1", "--directory", str(launch.folder)),
    ]


def waitress(launch: Launch) -> list[str]:
    """waitress with as many threads as our pool has."""
    return [
        *(str(PYTHON), "-m", "waitress", f"--listen=127.0.0.1:{launch.port}"),
        *("--threads=8", "bench.servers.wsgi:app"),
    ]


def uvicorn(parser: str, loop: str) -> Callable[[Launch], list[str]]:
    """uvicorn without its access log, and patient with idle connections."""
    return lambda launch: [
        *(str(PYTHON), "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(launch.port)),
        *("--http", parser, "--loop", loop, "--no-access-log", "--log-level", "warning"),
        *("--timeout-keep-alive", "300", "bench.servers.asgi:app"),
    ]


def granian(launch: Launch) -> list[str]:
    """granian with one worker process, its own defaults otherwise."""
    return [
        *(str(PYTHON), "-m", "granian", "--interface", "wsgi", "--workers", "1"),
        *("--host", "127.0.0.1", "--port", str(launch.port), "--log-level", "warning"),
        "bench.servers.wsgi:app",
    ]


def nginx(name: str) -> Callable[[Launch], list[str]]:
    """nginx with one worker and a configuration of its own."""

    def command(launch: Launch) -> list[str]:
        configuration = launch.scratch / name
        template = Template((SERVERS / name).read_text())
        names = {"port": launch.port, "folder": launch.folder, "scratch": launch.scratch}
        upstream = launch.upstream.removeprefix("http://")
        configuration.write_text(template.substitute(names, upstream=upstream))
        return [
            *(program("nginx") or "nginx", "-p", str(launch.scratch)),
            *("-e", str(launch.scratch / "nginx.log"), "-c", str(configuration)),
        ]

    return command


def in_front(python: str | Path, name: str) -> Callable[[Launch], list[str]]:
    """The command of a proxy's script in ``servers/``."""
    return lambda launch: [
        *(str(python), "-m", f"bench.servers.{name}"),
        *(str(launch.port), launch.upstream),
    ]


FAST_UVICORN = ("uvicorn", "httptools", "uvloop")

PEERS = {
    peer.name: peer
    for peer in (
        Peer("quick", "quick_server", script(sys.executable, "quick")),
        Peer(
            "quick-fast",
            "quick_server[fast]",
            script(PYTHON, "quick"),
            ("h11", "orjson"),
        ),
        Peer("quick-files", "quick_server command line", quick_files),
        Peer("bare", "bare selector loop", script(sys.executable, "bare_loop")),
        Peer("waitress", "waitress, 8 threads", waitress, ("waitress",)),
        Peer("uvicorn", "uvicorn, httptools + uvloop", uvicorn("httptools", "uvloop"), FAST_UVICORN),
        Peer("uvicorn-h11", "uvicorn, h11", uvicorn("h11", "asyncio"), ("uvicorn", "h11")),
        Peer("granian", "granian, WSGI, 1 worker", granian, ("granian",)),
        Peer("aiohttp", "aiohttp", script(PYTHON, "aiohttp_app"), ("aiohttp",)),
        Peer(
            "starlette",
            "starlette on uvicorn",
            script(PYTHON, "starlette_app"),
            ("starlette", "python-multipart", *FAST_UVICORN),
        ),
        Peer("flask", "flask on waitress", script(PYTHON, "flask_app"), ("flask", "waitress")),
        Peer("http.server", "python -m http.server", http_server),
        Peer("nginx", "nginx, 1 worker", nginx("nginx.conf"), program="nginx"),
        Peer("quick-proxy", "quick_server", in_front(sys.executable, "quick_proxy")),
        Peer("nginx-proxy", "nginx, proxy_pass, 1 worker", nginx("nginx_proxy.conf"), program="nginx"),
        Peer(
            "proxy.py",
            "proxy.py, 1 worker, threaded",
            in_front(PYTHON, "proxy_py"),
            packages=("proxy.py",),
        ),
        Peer("source", "bare source of events", script(sys.executable, "source")),
    )
}
OURS = ("quick", "quick-files", "quick-proxy", "source")


def nginx_version() -> str | None:
    """The version of the system's nginx, if it has one."""
    path = program("nginx")
    if path is None:
        return None
    said = subprocess.run([path, "-v"], capture_output=True, text=True, check=False).stderr
    return said.strip().rpartition("/")[2] or None
