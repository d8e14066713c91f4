"""A process of the run: started, asked how it is, ended."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

from .client import Wire
from .logs import Log
from .visit import Site

ROOT = Path(__file__).parents[1]
_PATIENCE = 10.0  # seconds for an answer
_PAGE = os.sysconf("SC_PAGE_SIZE")
OWN = "127.0.0.1"
"""The address that the run itself asks from."""


class Vitals(NamedTuple):
    """What the kernel says of a process."""

    descriptors: int
    threads: int
    memory: int
    """Bytes that are resident."""
    children: int

    @classmethod
    def of(cls, pid: int) -> Self:
        """The vitals of that process."""
        folder = Path(f"/proc/{pid}")
        tasks = list((folder / "task").iterdir())
        return cls(
            descriptors=len(list((folder / "fd").iterdir())),
            threads=len(tasks),
            memory=int((folder / "statm").read_text().split()[1]) * _PAGE,
            children=sum(_children(task) for task in tasks),
        )

    def __str__(self) -> str:
        return f"{self.descriptors} fds, {self.threads} threads, {self.memory / 2**20:.1f} MiB"


def _children(task: Path) -> int:
    try:
        return len((task / "children").read_text().split())
    except OSError:  # the thread has ended
        return 0


def started(folder: Path, log: IO[bytes], module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A module of ours as a process."""
    variables = {
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONMALLOC": "malloc",  # so that the C library can tell what is in use, to the byte
    }
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=dict(os.environ) | variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=log,
    )


def port_of(process: subprocess.Popen[bytes]) -> int:
    """The port that it prints once it listens."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"{process.args!r} has not started")
    return int(json.loads(line)["port"])


def ended(process: subprocess.Popen[bytes]) -> None:
    """The process is gone; those that it has forked for jobs end with it."""
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


class Subject:
    """A server under test."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], site: Site, log: Log) -> None:
        self.name = name
        self.process = process
        self.site = site
        self.log = log
        self.start: Vitals | None = None
        """Once it was warm, and at rest."""
        self.objects: dict[str, int] = {}
        """By class, at the same time."""
        self.allocated = self.allocated_at_end = 0
        """Bytes in use, at the same time, and when the load has gone."""

    def vitals(self) -> Vitals:
        """What the kernel says."""
        return Vitals.of(self.process.pid)

    async def state(self, *, settle: bool = False) -> dict[str, Any]:
        """What it says itself."""
        return await self._ask("/soak/state?settle" if settle else "/soak/state")

    async def nap(self) -> None:
        """Keeps one of its threads busy for a moment; as many at a time make it have all of them."""
        await self._ask("/soak/nap")

    async def _ask(self, target: str) -> dict[str, Any]:
        async with asyncio.timeout(_PATIENCE):
            wire = await Wire.open(self.site.port, OWN, self.site.tls)
            try:
                answer = await wire.request("GET", target)
            finally:
                wire.close()
        found: dict[str, Any] = answer.checked().json()
        return found
