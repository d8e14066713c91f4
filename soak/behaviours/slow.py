"""Clients that take their time, and such that take too much of it."""

from __future__ import annotations

import asyncio

from ..client import Wire, WrongError, request
from ..content import checksum, content
from ..visit import Visit

_WINDOW = 128 * 1024
"""Below the 64 KiB of a segment on the loopback the kernel itself would let seconds pass."""
_PIECE = 64 * 1024


async def slow_readers(visit: Visit) -> None:
    """Take an answer in small pieces; it is whole in the end."""
    wire = await visit.connect(receive_buffer=_WINDOW)
    visit.counts.requests += 1
    number, size = 7, 2_000_000
    kind = visit.random.choice((f"/files/{number}-{size}.bin", f"/up/content/{number}/{size}"))
    await wire.ask("GET", kind)
    answer = visit.took(await wire.head())
    if answer.status != 200:
        raise WrongError(f"status {answer.status}")
    body = bytearray()
    pause = visit.random.choice((0.0, 0.02, 0.05))
    while len(body) < int(answer.fields["content-length"]):
        await asyncio.sleep(pause)
        piece = await wire.some(_PIECE)
        if not piece:
            raise WrongError(f"the answer ended after {len(body)} bytes")
        body += piece
    if checksum(body) != checksum(content(number, size)):
        raise WrongError("a slow reader got another file")


async def slow_writers(visit: Visit) -> None:
    """Send head and content in small pieces."""
    wire = await visit.connect()
    visit.counts.requests += 1
    body = content(visit.number(), visit.random.randrange(1, 5_000))
    whole = request("PUT", "/raw", body)
    pieces = visit.random.randrange(2, 20)
    for index in range(pieces):
        first, last = (len(whole) * place // pieces for place in (index, index + 1))
        await wire.send(whole[first:last])
        await asyncio.sleep(0.05)
    answer = visit.took(await wire.answer()).checked()
    if answer.json() != {"size": len(body), "checksum": checksum(body)}:
        raise WrongError(f"a slow body arrived as {answer.json()}")


async def stalled(visit: Visit) -> None:
    """Send nothing, half a head or half a body, or read nothing: the server ends it."""
    choice = visit.random.randrange(5)
    wire = await visit.connect(receive_buffer=_WINDOW)
    visit.counts.requests += 1
    if choice == 0:
        await _expect_end(visit, wire, b"")
    elif choice == 1:
        await wire.send(b"GET /echo/x HTTP/1.1\r\nHost: local")
        await _expect_end(visit, wire, b"HTTP/1.1 408 ")
    elif choice == 2:
        await wire.send(request("PUT", "/raw", bytes(1000))[:-10])
        await _expect_end(visit, wire, b"HTTP/1.1 408 ")
    elif choice == 3:
        (await visit.request(wire, "GET", "/echo/x")).checked()
        await _expect_end(visit, wire, b"")  # idle for too long
    else:
        target = visit.random.choice(("/files/7-2000000.bin", "/endless", "/up/content/1/20000000"))
        await wire.ask("GET", target)
        await asyncio.sleep(8)  # longer than the server waits for somebody who reads nothing
        await _expect_end(visit, wire, b"HTTP/1.1 200 ")


async def _expect_end(visit: Visit, wire: Wire, wanted: bytes) -> None:
    try:
        rest = await wire.rest()
    except ConnectionError:
        return  # cut off: what it was owed no longer counts
    if not rest.startswith(wanted) or (rest and not wanted):
        raise WrongError(f"a stalled client got {rest[:100]!r}")
    if wanted:
        visit.counts.answers[int(wanted[9:12])] += 1
