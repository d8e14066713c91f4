"""Clients that send files: in forms and as they are, with a known length and in chunks."""

from __future__ import annotations

import json

from ..client import WrongError
from ..content import blocks, checksum_of, content
from ..visit import Visit

_MOST = 3_000_000
"""Bytes of a file; beyond 1 MiB it is on the disk."""


async def forms(visit: Visit) -> None:
    """Multipart forms with several files and fields."""
    wire = await visit.connect()
    for _ in range(visit.random.randrange(1, 4)):
        boundary = f"limit{visit.number()}"
        wanted: dict[str, list[object]] = {}
        body = bytearray(_part(boundary, "note") + b"of " + boundary.encode())
        for index in range(visit.random.randrange(4)):
            number, size = visit.number(), visit.size(_MOST)
            body += _part(boundary, f"file{index}", f"{number}.bin") + content(number, size)
            wanted[f"file{index}"] = [size, checksum_of(number, size)]
        body += f"\r\n--{boundary}--\r\n".encode()
        fields = {"Content_Type": f"multipart/form-data; boundary={boundary}"}
        found = (await visit.request(wire, "POST", "/upload", bytes(body), **fields)).checked().json()
        if found != {"files": wanted, "fields": {"note": f"of {boundary}"}}:
            raise WrongError(f"a form arrived as {json.dumps(found)[:300]}")


def _part(boundary: str, name: str, filename: str = "") -> bytes:
    disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename else "")
    return f"\r\n--{boundary}\r\nContent-Disposition: {disposition}\r\n\r\n".encode()


async def raw_uploads(visit: Visit) -> None:
    """Bodies as they are."""
    wire = await visit.connect()
    for _ in range(visit.random.randrange(1, 6)):
        number, size = visit.number(), visit.size(_MOST)
        wanted = {"size": size, "checksum": checksum_of(number, size)}
        if visit.random.randrange(2):
            answer = await visit.request(wire, "PUT", "/raw", content(number, size))
        else:
            visit.counts.requests += 1
            await wire.send(
                b"PUT /raw HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            for block in blocks(number, size):
                await wire.send(b"%x\r\n%b\r\n" % (len(block), block))
            await wire.send(b"0\r\n\r\n")
            answer = visit.took(await wire.answer())
        if answer.checked().json() != wanted:
            raise WrongError(f"{wanted} arrived as {answer.json()}")
