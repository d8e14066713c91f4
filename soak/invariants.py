"""What must hold: while the load is there, once it has gone, and at the end of a server.

*Always.* Every answer is the right one, which the clients judge themselves. The log holds a line for
each request at most, no status 500 or 503 and no traceback. The loop is not blocked for over 50 ms (see
`watchdog.py`; that fails a run if it is certain, and is told if it is not). A request that only asks
how things are is answered within `_PROMPT` seconds by the clock of the load, which shares its cores.
Descriptors, threads and memory stay within what so many clients may need at once.

*Once the load has gone*, after `_REST` seconds at most, there are no connections, jobs, results,
running generators, event channels, tokens or child processes, and no more descriptors and threads than
at the start, to the last one. The start is the same state after a first load that saw every kind of
client: by then memos, caches, thread pools and the modules that are imported on demand are there.

*Memory* is what is in use of what `malloc` has given out, once garbage is collected; Python is told to
take all of its memory from there. It may be `_MEMORY` more than at the start, as memos and caches that
are bounded are fuller or emptier by chance (measured: 2 MB). What is resident is no measure, as it
depends on which pages chance has left a small object in (measured: 57 MiB more after ten minutes, with
as much in use); it may be `_RESIDENT` more, which would be memory that `malloc` knows nothing of.
Besides, objects are counted: of no class of the server's own may there be over `_OBJECTS` more objects
than at the start (of those that memos hold, 1,024 in each, and of cancelled timers, 64, not over
`_REMEMBERED` in all), while a run makes tens of thousands of them.

*The end.* After SIGTERM, with clients that are idle, in the midst of a request, and at an event stream,
the process ends with code 0 within `shutdown_timeout`, and leaves no temporary file.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Any

from .behaviours import source
from .client import Wire, request
from .load import Load
from .subject import OWN, Subject, Vitals
from .watchdog import Stall

_PROMPT = 5.0
_REST = 20.0
_LOOK = 0.2
_MEMORY = 4 * 2**20
_RESIDENT = 128 * 2**20
_OBJECTS = 20
_REMEMBERED = {
    "quick_server.protocol.messages.Headers": 2200,
    "quick_server.protocol.messages.RequestHead": 2200,
    "quick_server.protocol.target.Target": 2200,
    "quick_server.routes.Match": 1100,
    "quick_server.reactor.Timer": 100,
}
_THREADS = 8
"""Of a server's pool."""
_SHUTDOWN = 10.0
"""The server's `shutdown_timeout`, by default."""
_MOST_MEMORY = 400 * 2**20
"""While the load is there: what is in flight for so many clients, at 4 MB each, and the start."""
_GONE = ("connections", "jobs", "kept", "streams", "channels", "waiting", "tokens")


class Invariants:
    """Judges the servers; `wrong` is what they did not keep."""

    def __init__(self, subjects: list[Subject], load: Load) -> None:
        self.wrong: list[str] = []
        self._subjects = subjects
        self._load = load
        self._told: set[str] = set()
        self.worst = 0.0
        """Seconds of the longest turn of any loop, the machine's noise included."""
        self.doubtful: list[str] = []
        """Stalls that may be the machine's fault after all: told, and no failure."""
        self.worst_without_noise = 0.0
        """Without it."""

    # while the load is there ----------------------------------------------------------------------

    async def look(self) -> str:
        """To be called each second; returns a line about how things are."""
        told = [await self._look_at(subject) for subject in self._subjects]
        self._look_at_clients()
        return " | ".join(told)

    async def _look_at(self, subject: Subject) -> str:
        vitals = subject.vitals()
        if vitals.descriptors > 50 + 4 * self._load.clients:
            self._complain(f"{subject.name} has {vitals.descriptors} descriptors open")
        if vitals.threads > 40:  # 8 of the pool, 8 of jobs, some of the script, and then some
            self._complain(f"{subject.name} has {vitals.threads} threads")
        if vitals.memory > _MOST_MEMORY:
            self._complain(f"{subject.name} takes {vitals.memory / 2**20:.0f} MiB")
        began = time.monotonic()
        state = await self._state(subject)
        took = time.monotonic() - began
        if took > _PROMPT:
            self._complain(f"{subject.name} took {took:.1f} s to say how it is")
        self._look_at_log(subject)
        return f"{subject.name}: {vitals}, {state.get('connections')} connections, {took * 1000:.0f} ms"

    async def _state(self, subject: Subject, *, settle: bool = False) -> dict[str, Any]:
        try:
            state = await subject.state(settle=settle)
        except (OSError, TimeoutError, AssertionError, asyncio.IncompleteReadError) as error:
            self._complain(f"{subject.name} does not say how it is: {error!r}")
            return {}
        self.worst = max(self.worst, state["worst"])
        self.worst_without_noise = max(self.worst_without_noise, state["worst_without_noise"])
        for stall in [Stall(**told) for told in state["stalls"]]:
            what = (
                f"the loop of {subject.name} was blocked for {stall.blocked * 1000:.0f} ms "
                f"({stall.kind} of {stall.wall * 1000:.0f} ms, {stall.computing * 1000:.0f} of them "
                f"on a core, {stall.noise * 1000:.0f} the machine's): {stall.culprit}"
            )
            if stall.is_certain:
                self._complain(what)
            elif what not in self.doubtful:
                self.doubtful.append(what)
        return state

    def _look_at_log(self, subject: Subject) -> None:
        subject.log.read()
        for line in subject.log.wrong:
            self._complain(line)

    def _look_at_clients(self) -> None:
        for complaint in self._load.wrong:
            self._complain(complaint)
        for name, counts in self._load.counts.items():
            lines = sum(subject.log.lines[source(name)] for subject in self._subjects)
            if lines > counts.requests:
                self._complain(f"{name}: {lines} lines in the log for {counts.requests} requests")

    def _complain(self, what: str) -> None:
        """Each complaint once, as what is wrong stays wrong."""
        if what not in self._told:
            self._told.add(what)
            self.wrong.append(what)
            print(f"WRONG: {what}", flush=True)

    # once the load has gone -----------------------------------------------------------------------

    async def note_start(self) -> None:
        """The servers are warm: this is what they have to come back to."""
        for subject in self._subjects:
            await self._come_to_rest(subject, None)
            await asyncio.gather(*[subject.nap() for _ in range(_THREADS + 1)])
            state = await self._state(subject, settle=True)
            subject.objects = state.get("objects", {})
            subject.allocated = state.get("allocated", 0)
            subject.start = subject.vitals()

    async def compare(self) -> None:
        """The load has gone: all is as it was at the start."""
        for subject in self._subjects:
            start = subject.start
            assert start is not None
            await self._come_to_rest(subject, start)
            state = await self._state(subject, settle=True)
            for kind, count in state.get("objects", {}).items():
                before = subject.objects.get(kind, 0)
                if count > _REMEMBERED.get(kind, before + _OBJECTS):
                    self._complain(f"{subject.name} has {count} {kind}, not {before} as at the start")
            subject.allocated_at_end = state.get("allocated", 0)
            more = subject.allocated_at_end - subject.allocated
            if more > _MEMORY:
                self._complain(f"{subject.name} uses {more / 2**20:.1f} MiB more than at the start")
            more = subject.vitals().memory - start.memory
            if more > _RESIDENT:
                self._complain(f"{subject.name} takes {more / 2**20:.1f} MiB more than at the start")

    async def _come_to_rest(self, subject: Subject, start: Vitals | None) -> None:
        deadline = time.monotonic() + _REST
        while left := await self._what_is_left(subject, start):
            if time.monotonic() > deadline:
                self._complain(f"{subject.name} does not come to rest: {left}")
                return
            await asyncio.sleep(_LOOK)

    async def _what_is_left(self, subject: Subject, start: Vitals | None) -> list[str]:
        state = await self._state(subject)
        left = [f"{name}: {state.get(name)}" for name in _GONE if state.get(name)]
        vitals = subject.vitals()
        if vitals.children:
            left.append(f"{vitals.children} child processes")
        if start is not None and vitals.descriptors > start.descriptors:
            left.append(f"{vitals.descriptors} descriptors, not {start.descriptors}")
        if start is not None and vitals.threads > start.threads:
            left.append(f"{vitals.threads} threads, not {start.threads}")
        return left

    # the end --------------------------------------------------------------------------------------

    async def end(self, subject: Subject) -> None:
        """Ends a server that still has clients."""
        wires = [await Wire.open(subject.site.port, OWN, subject.site.tls) for _ in range(3)]
        await wires[0].request("GET", "/echo/idle")
        await wires[1].send(request("PUT", "/raw", b"half of it")[:-5])
        await wires[2].ask("GET", "/events")
        began = time.monotonic()
        subject.process.send_signal(signal.SIGTERM)
        code: int | None = None
        while time.monotonic() < began + _SHUTDOWN + _PROMPT and code is None:
            await asyncio.sleep(_LOOK / 10)
            code = subject.process.poll()
        took = time.monotonic() - began
        if code != 0 or took > _SHUTDOWN:
            self._complain(f"{subject.name} ended with code {code} after {took:.1f} s")
        for wire in wires:
            wire.close()
        self._look_at_log(subject)

    def look_for_files(self, folder: Path) -> None:
        """No temporary file is left in that folder."""
        left = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        if left:
            self._complain(f"temporary files are left: {left[:20]}")
