"""Clients of server-sent events."""

from __future__ import annotations

import json
from typing import Any

from ..client import Wire, WrongError
from ..content import checksum
from ..visit import Visit


async def events(visit: Visit) -> None:
    """Follows what happens for a while: nothing is missing in between."""
    wire = await visit.connect()
    await _open(visit, wire, "/events")
    last = None
    buffer = bytearray()
    for _ in range(visit.random.randrange(1, 15)):
        number = (await _next(wire, buffer))["number"]
        if last is not None and number != last + 1:
            raise WrongError(f"the event {number} came behind {last}")
        last = number


async def history(visit: Visit) -> None:
    """Reads what has happened, in two parts, as clients do that come back."""
    count = visit.random.randrange(1, 40)
    seen = visit.random.randrange(count)
    for first, last in ((0, seen), (seen, count)):
        wire = await visit.connect()
        await _open(visit, wire, f"/history/{last}", Last_Event_ID=str(first))
        buffer = bytearray()
        for number in range(first, last):
            found = (await _next(wire, buffer))["number"]
            if found != number:
                raise WrongError(f"the event {found} came for {number}")
        while chunk := await wire.chunk():
            if chunk.strip(b":\n"):
                raise WrongError(f"behind the last event came {chunk[:100]!r}")


async def _open(visit: Visit, wire: Wire, target: str, **fields: str) -> None:
    visit.counts.requests += 1
    await wire.ask("GET", target, b"", **fields)
    answer = visit.took(await wire.head()).checked()
    if answer.fields["content-type"] != "text/event-stream; charset=utf-8":
        raise WrongError(f"events are {answer.fields['content-type']}")


async def _next(wire: Wire, buffer: bytearray) -> Any:
    """The data of the next event, whose text must have its checksum."""
    while True:
        while b"\n\n" not in buffer:
            chunk = await wire.chunk()
            if not chunk:
                raise WrongError("the events have ended too early")
            buffer += chunk
        block, _, rest = bytes(buffer).partition(b"\n\n")
        buffer[:] = rest
        lines = [line[6:] for line in block.decode().split("\n") if line.startswith("data: ")]
        if lines:
            data = json.loads("\n".join(lines))
            if checksum(data["text"].encode()) != data["checksum"]:
                raise WrongError(f"the event {data['number']} has another text")
            return data
