"""The load: so many clients at a time, each of a kind and with choices that a seed decides."""

from __future__ import annotations

import asyncio
from asyncio import IncompleteReadError
from dataclasses import dataclass, field
from random import Random

from .behaviours import KINDS, source
from .client import WrongError
from .visit import Counts, Site, Visit

_GRACE = 2.0
"""Seconds for visits to end by themselves once the time is up; then their clients leave."""
_LONGEST_PAUSE = 0.03
"""Seconds between two visits of a client."""
_LOOK = 0.05
_TROUBLE = (WrongError, OSError, IncompleteReadError, TimeoutError, ValueError, KeyError)


@dataclass
class Load:
    """Clients of some sites."""

    sites: list[Site]
    seed: int
    clients: int
    counts: dict[str, Counts] = field(default_factory=lambda: {name: Counts() for name in KINDS})
    wrong: list[str] = field(default_factory=list)
    """What clients had to complain about."""
    phase: int = 0
    lag: float = 0.0
    """Seconds that the load itself was late at most: no server's fault."""

    async def run(self, seconds: float) -> None:
        """Lets the clients at the sites for so long; none is left afterwards."""
        self.phase += 1
        deadline = asyncio.get_running_loop().time() + seconds
        clients = [asyncio.create_task(self._client(index, deadline)) for index in range(self.clients)]
        lag = asyncio.create_task(self._measure_lag())
        _done, late = await asyncio.wait(clients, timeout=seconds + _GRACE)
        for client in (lag, *late):
            client.cancel()
        for ended in await asyncio.gather(lag, *clients, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def _measure_lag(self) -> None:
        """How long clients were kept waiting by each other, and by the machine."""
        loop = asyncio.get_running_loop()
        while True:
            asked = loop.time()
            await asyncio.sleep(_LOOK)
            self.lag = max(self.lag, loop.time() - asked - _LOOK)

    async def _client(self, index: int, deadline: float) -> None:
        random = Random(f"{self.seed} {self.phase} {index}")
        loop = asyncio.get_running_loop()
        names = list(KINDS)
        weights = [kind.weight for kind in KINDS.values()]
        # the first visits are one of each kind, so that a short run has seen all of them
        todo = names[index % len(names) :: self.clients] if index < len(names) else []
        while loop.time() < deadline:
            name = todo.pop() if todo else random.choices(names, weights)[0]
            await self._visit(name, random.choice(self.sites), random.getrandbits(64))
            await asyncio.sleep(random.random() * _LONGEST_PAUSE)

    async def _visit(self, name: str, site: Site, seed: int) -> None:
        counts = self.counts[name]
        counts.visits += 1
        began = asyncio.get_running_loop().time()
        visit = Visit(site, source(name), Random(seed), counts)
        try:
            async with asyncio.timeout(KINDS[name].patience):
                await KINDS[name].behaviour(visit)
        except _TROUBLE as error:
            took = asyncio.get_running_loop().time() - began
            self.wrong.append(f"{name} at {site.name} (seed {seed}), after {took:.2f} s: {error!r}")
        finally:
            visit.close()
