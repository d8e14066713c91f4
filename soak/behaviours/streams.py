"""Clients of streamed answers, which end with the checksum of what came before it."""

from __future__ import annotations

from ..client import WrongError
from ..content import checksum
from ..visit import Visit


async def streams(visit: Visit) -> None:
    """Streams to their end, and some of no end that are left."""
    wire = await visit.connect()
    for _ in range(visit.random.randrange(1, 5)):
        number, size = visit.number(), visit.size(1_000_000)
        answer = (await visit.request(wire, "GET", f"/stream/{number}/{size}")).checked()
        body, claimed = answer.body[:-8], answer.body[-8:].decode()
        if len(body) != size or checksum(body) != claimed:
            raise WrongError(f"a stream of {size} bytes has {len(body)}, or not the checksum {claimed}")
    if visit.random.randrange(3) == 0:
        visit.counts.requests += 1
        await wire.ask("GET", "/endless")
        visit.took(await wire.head()).checked()
        for _ in range(visit.random.randrange(10)):
            await wire.chunk()
