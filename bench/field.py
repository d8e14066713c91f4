"""The field on which servers meet: what they serve, how one is started, how rounds interleave."""

import http.client
import os
import resource
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from bench import process
from bench.client import Request, check
from bench.environment import ROOT
from bench.model import Plan, Reading, Result, UnfitError, medians
from bench.peers import OURS, PEERS, Launch
from bench.process import SERVER_CORE, Server

PAGE = (b"<!doctype html><title>bench</title>" + b"<p>The quick brown fox.</p>\n" * 400)[:10_000]
SMALL_PAGE = Request("/page.html", PAGE)
LARGE = os.urandom(1 << 20) * 64
LARGE_FILE = Request("/large.bin", LARGE)
TINY = PAGE[:1000]
TINY_FILE = Request("/tiny.txt", TINY)
HUGE = LARGE + LARGE[: 36 << 20]
HUGE_FILE = Request("/huge.bin", HUGE)

DESCRIPTORS = 16_384


@dataclass(frozen=True, slots=True)
class Field:
    """Everything the works have in common within one run."""

    scratch: Path
    plan: Plan
    installed: Mapping[str, str]
    wanted: Collection[str] | None
    upstream: str = ""

    @property
    def folder(self) -> Path:
        """The folder that file servers serve."""
        return self.scratch / "www"

    def entrants(self, result: Result) -> list[str]:
        """The servers of a work that were asked for and are installed; notes tell of the others."""
        names = []
        for name in (result.work.ours, *result.work.against):
            if name not in OURS and self.wanted is not None and name not in self.wanted:
                continue
            missing = PEERS[name].missing(self.installed)
            if missing:
                result.notes.append(f"{PEERS[name].label}: skipped, {missing} is not installed")
                continue
            names.append(name)
        return names

    @contextmanager
    def start(self, name: str, path: str = "/", core: int = SERVER_CORE) -> Iterator[Server]:
        """A server of that name, which has answered a GET of ``path``; ended on leaving.

        Raises:
            UnfitError: if it does not come up.
        """
        scratch = Path(mkdtemp(dir=self.scratch))
        launch = Launch(process.free_port(), self.folder, scratch, self.upstream)
        log = launch.scratch / "log"
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = PEERS[name].command(launch)
        try:
            started = process.spawn(command, launch.scratch, environment, log, core)
        except OSError as failure:
            raise UnfitError(f"could not be started: {failure.strerror}") from failure
        try:
            process.await_answer(launch.port, path, started, log)
            yield Server(name, launch.port, started)
        finally:
            process.stop(started)

    @contextmanager
    def start_all(self, result: Result, request: Request) -> Iterator[dict[str, Server]]:
        """All entrants of a work by name, each proven to answer ``request`` rightly."""
        with ExitStack() as stack:
            servers = {}
            for name in self.entrants(result):
                with noting(result, name):
                    server = stack.enter_context(self.start(name))
                    check(server, request)
                    servers[name] = server
            yield servers


@contextmanager
def noting(result: Result, name: str) -> Iterator[None]:
    """Turns the failure of one server into a note, so that the others go on."""
    try:
        yield
    except (UnfitError, OSError, http.client.HTTPException) as reason:
        why = str(reason) if isinstance(reason, UnfitError) else repr(reason)
        result.notes.append(f"{PEERS[name].label}: not measured, {why}")


def interleave(
    names: Collection[str], rounds: int, take: Callable[[str], Reading], result: Result
) -> None:
    """Takes a reading of every server once a round, and puts the medians into ``result``.

    The order turns with each round, so that a busy moment of the machine does not always hit the
    same server. One that fails leaves the field, with a note.
    """
    taken: dict[str, list[Reading]] = {name: [] for name in names}
    for number in range(rounds):
        running = [name for name in names if name in taken]
        shift = number % max(1, len(running))
        for name in running[shift:] + running[:shift]:
            readings = taken.pop(name)
            with noting(result, name):
                taken[name] = [*readings, take(name)]
    result.readings.update({name: medians(taken[name]) for name in names if name in taken})


def take_in_turn(
    field: Field,
    result: Result,
    request: Request,
    take: Callable[[Server], Reading],
    *,
    rounds: int | None = None,
    prepare: Callable[[Server, Request], object] | None = None,
) -> None:
    """Starts the servers of a work at once, has each prepared, and interleaves their readings."""
    with field.start_all(result, request) as servers:
        for server in servers.values():
            if prepare is not None:
                prepare(server, request)
        interleave(servers, rounds or field.plan.rounds, lambda name: take(servers[name]), result)


def lay_out(folder: Path) -> None:
    """Writes the files that the works ask for."""
    folder.mkdir()
    files = ((SMALL_PAGE, PAGE), (LARGE_FILE, LARGE), (TINY_FILE, TINY), (HUGE_FILE, HUGE))
    for request, content in files:
        (folder / request.path[1:]).write_bytes(content)


def raise_descriptor_limit() -> None:
    """Allows as many open files as the crowd of connections needs, or as many as the system may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = max(soft, DESCRIPTORS)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (goal, max(goal, hard)))
        return
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(goal, hard), hard))
