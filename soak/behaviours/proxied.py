"""Clients of what is behind the proxy."""

from __future__ import annotations

from asyncio import IncompleteReadError

from ..client import WrongError
from ..content import checksum_of, content
from ..visit import Visit


async def proxied(visit: Visit) -> None:
    """Answers of every framing, and content that is sent through."""
    wire = await visit.connect()
    for _ in range(visit.random.randrange(1, 8)):
        number, size = visit.number(), visit.size(1_000_000)
        kind = visit.random.choice(("content", "chunked", "closing", "echo", "HEAD"))
        if kind == "echo":
            answer = await visit.request(wire, "POST", "/up/echo", content(number, size))
            if answer.checked().json() != {"size": size, "checksum": checksum_of(number, size)}:
                raise WrongError(f"{size} bytes arrived behind the proxy as {answer.json()}")
        elif kind == "HEAD":
            (await visit.request(wire, "HEAD", f"/up/content/{number}/{size}")).checked()
        else:
            answer = await visit.request(wire, "GET", f"/up/{kind}/{number}/{size}")
            if len(answer.checked().body) != size:
                raise WrongError(f"{size} bytes came through the proxy as {len(answer.body)}")


async def tunnels(visit: Visit) -> None:
    """What WebSockets do: bytes both ways, and an end that is either clean or not."""
    wire = await visit.connect()
    visit.counts.requests += 1
    await wire.ask("GET", "/up/tunnel", Upgrade="echo", Connection="Upgrade")
    visit.took(await wire.head()).checked(101)
    for _ in range(visit.random.randrange(8)):
        number, size = visit.number(), visit.size(200_000)
        await wire.send(content(number, size))
        if await wire.exactly(size) != content(number, size):
            raise WrongError("other bytes came back through a tunnel")
    if visit.site.tls is None and visit.random.randrange(2):
        wire.half_close()
        if rest := await wire.rest():
            raise WrongError(f"behind all came {rest[:100]!r} through a tunnel")
    elif visit.random.randrange(2):
        wire.reset()


async def failing_upstream(visit: Visit) -> None:
    """Upstreams that are not there, say nothing, talk nonsense, or leave in the midst of an answer."""
    wire = await visit.connect()
    choice = visit.random.randrange(8)
    if choice == 0:
        (await visit.request(wire, "GET", "/up/silent")).checked(504)
    elif choice < 3:
        (await visit.request(wire, "GET", "/down/anything")).checked(502)
    elif choice < 5:
        (await visit.request(wire, "GET", f"/up/garbage/{visit.number()}")).checked(502)
    else:
        visit.counts.requests += 1
        await wire.ask("GET", f"/up/broken/{visit.number()}/{visit.size(500_000) + 2}")
        answer = visit.took(await wire.head())
        try:
            await wire.content(answer)
        except (IncompleteReadError, ConnectionError):
            return
        raise WrongError("half an answer of an upstream passed for a whole one")
