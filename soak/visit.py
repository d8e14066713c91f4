"""What one client has while it does one thing: connections, a source of chance, and what it counts."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from .client import Answer, Wire


@dataclass(frozen=True)
class Site:
    """A server under test, for its clients."""

    name: str
    port: int
    tls: ssl.SSLContext | None = None


@dataclass
class Counts:
    """Of one kind of client."""

    visits: int = 0
    requests: int = 0
    """That were sent as a whole or in part: each may be worth one line of the log."""
    answers: Counter[int] = field(default_factory=Counter)


@dataclass
class Visit:
    """One client, who does one thing and leaves."""

    site: Site
    source: str
    """The address it comes from: each kind has its own."""
    random: Random
    counts: Counts
    wires: list[Wire] = field(default_factory=list)

    async def connect(self, *, receive_buffer: int = 0, bare: bool = False) -> Wire:
        """A connection, which ends with the visit; a bare one speaks no TLS."""
        tls = None if bare else self.site.tls
        wire = await Wire.open(self.site.port, self.source, tls, receive_buffer)
        self.wires.append(wire)
        return wire

    async def request(
        self, wire: Wire, method: str, target: str, body: bytes = b"", **fields: str
    ) -> Answer:
        """A request and its answer."""
        self.counts.requests += 1
        return self.took(await wire.request(method, target, body, **fields))

    def took(self, answer: Answer) -> Answer:
        """Counts an answer."""
        self.counts.answers[answer.status] += 1
        return answer

    def size(self, most: int) -> int:
        """A size: often small, now and then a large one."""
        return self.random.randrange(self.random.choice((1, 100, 5_000, 70_000, most)) + 1)

    def number(self) -> int:
        """Of some content."""
        return self.random.randrange(1000)

    def close(self) -> None:
        """Leaves."""
        for wire in self.wires:
            wire.close()


Behaviour = Callable[[Visit], Awaitable[Any]]
"""What a kind of client does in one visit; raises if it is treated wrongly."""
