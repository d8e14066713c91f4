"""Clients that leave, in each phase of an exchange and in each way that there is."""

from __future__ import annotations

import asyncio

from ..client import Wire, request
from ..content import content
from ..visit import Visit

_FORM = {"Content_Type": "multipart/form-data; boundary=limit"}
_PART = b'--limit\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'


async def aborts(visit: Visit) -> None:
    """Sends a part of something, or takes a part of what comes, and is gone."""
    if visit.site.tls is not None and visit.random.randrange(4) == 0:
        await _in_handshake(visit)
        return
    wire = await visit.connect()
    visit.counts.requests += 1
    number = visit.number()
    # what is asked for, how much of that is sent, and how much of the answer is taken
    phase = visit.random.randrange(10)
    if phase == 0:
        await _leave(visit, wire)
        return
    if phase < 3:
        whole = request("GET", f"/echo/{number}", Cookie="a=b; " * 100)
        await wire.send(whole[: visit.random.randrange(len(whole))])
    elif phase == 3:
        whole = request("PUT", "/raw", content(number, 500_000))
        await wire.send(whole[: visit.random.randrange(len(whole))])
    elif phase == 4:
        whole = request("POST", "/upload", _PART + content(number, 2_500_000), **_FORM)
        await wire.send(whole[: visit.random.randrange(len(whole))])
    elif phase == 5:
        whole = request("POST", "/up/echo", content(number, 1_000_000))
        await wire.send(whole[: visit.random.randrange(len(whole))])
    else:
        target = visit.random.choice(
            (
                f"/content/{number}/400000",
                "/files/7-2000000.bin",
                "/endless",
                f"/stream/{number}/1000000",
                "/events",
                f"/up/content/{number}/2000000",
                f"/up/chunked/{number}/2000000",
                "/up/silent",
            )
        )
        await wire.ask("GET", target)
        if visit.random.randrange(3) and not target.endswith("silent"):
            await wire.some(visit.random.randrange(1, 200_000))
    await _leave(visit, wire)


async def _leave(visit: Visit, wire: Wire) -> None:
    """With RST, with FIN, or with FIN of one side first."""
    await asyncio.sleep(visit.random.choice((0, 0, 0.001, 0.05)))
    way = visit.random.randrange(3)
    if way == 0:
        wire.reset()
    elif way == 1 and visit.site.tls is None:
        wire.half_close()
        await asyncio.sleep(0.01)
    # else: the visit ends, and the connection with it


async def _in_handshake(visit: Visit) -> None:
    """Says a part of what a client of TLS says first."""
    wire = await visit.connect(bare=True)
    hello = bytes.fromhex("1603010200010001fc0303") + content(visit.number(), 500)
    await wire.send(hello[: visit.random.randrange(len(hello))])
    await _leave(visit, wire)
