"""One run: the processes, a first load, the load, the end of each server, and the report."""

from __future__ import annotations

import asyncio
import socket
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from .content import FILES, content, file_name
from .invariants import Invariants
from .load import Load
from .logs import Log
from .report import report
from .subject import Subject, ended, port_of, started
from .visit import Site

_WARM_UP = 0.25
"""Of the whole time, for the first load; see `invariants.py`."""
_LONGEST_WARM_UP = 60.0
_REST = 8.0
"""Seconds that coming to rest takes, twice: results that nobody reads are kept for six."""


class Plan(NamedTuple):
    """What is to be done."""

    seconds: float
    clients: int
    seed: int
    every: int
    """Seconds between two lines on the screen."""


async def soak(plan: Plan) -> list[str]:
    """Runs it; returns what was wrong."""
    with _stage() as subjects:
        folder = subjects.folder
        load = Load([subject.site for subject in subjects], plan.seed, plan.clients)
        invariants = Invariants(list(subjects), load)
        at_load = max(plan.seconds - 2 * _REST, 2.0)
        warm_up = min(at_load * _WARM_UP, _LONGEST_WARM_UP)
        await _watched(load, invariants, warm_up, plan.every)
        await invariants.note_start()
        await _watched(load, invariants, at_load - warm_up, plan.every)
        await invariants.compare()
        ends = [subject.vitals() for subject in subjects]
        for subject in subjects:
            await invariants.end(subject)
        invariants.look_for_files(folder / "tmp")
        report(load, list(subjects), ends, invariants)
        return invariants.wrong


async def _watched(load: Load, invariants: Invariants, seconds: float, every: int) -> None:
    """The load for so long, and a look each second."""
    running = asyncio.create_task(load.run(seconds))
    began = time.monotonic()
    looks = 0
    while not running.done():
        await asyncio.wait([running], timeout=max(0.0, began + looks - time.monotonic()))
        line = await invariants.look()
        if looks % every == 0:
            visits = sum(counts.visits for counts in load.counts.values())
            print(
                f"{looks:5d} s  {visits:7d} visits | {line} | {len(invariants.wrong)} wrong", flush=True
            )
        looks += 1
    await running


class _Stage(list[Subject]):
    """The servers under test, and the folder of everything."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder


@contextmanager
def _stage() -> Iterator[_Stage]:
    """Starts everything in a folder for this run, and ends what is still there in the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        for name in ("tmp", "www", "cache"):
            (folder / name).mkdir()
        for number, size in FILES:
            (folder / "www" / file_name(number, size)).write_bytes(content(number, size))
        errors = stack.enter_context((folder / "upstream.log").open("wb"))
        upstream = started(folder, errors, "soak.upstream")
        stack.callback(ended, upstream)
        refusing = stack.enter_context(socket.socket())  # bound, and nobody listens
        refusing.bind(("127.0.0.1", 0))
        arguments = [str(folder), str(port_of(upstream)), str(refusing.getsockname()[1])]
        stage = _Stage(folder)
        for name, tls in (("plain", None), ("tls", _unverified())):
            path = folder / f"{name}.log"
            with path.open("wb") as log:
                options = ["tls"] if tls else []
                process = started(folder, log, "soak.server", *arguments, *options)
            stack.callback(ended, process)
            reader = Log(name, path)
            stack.callback(reader.close)
            stage.append(Subject(name, process, Site(name, port_of(process), tls), reader))
        yield stage


def _unverified() -> ssl.SSLContext:
    """The certificate is made when the server starts: nobody can vouch for it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
