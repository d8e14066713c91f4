"""Clients that speak no HTTP, or nearly so."""

from __future__ import annotations

import re
from contextlib import suppress

from ..client import WrongError, request
from ..visit import Visit

_BROKEN = (
    b"GET /echo/x HTTP/1.1\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"GET /echo/x HTTP/3.0\r\nHost: localhost\r\n\r\n",
    b"GET  /echo/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /echo/x HTTP/1.1\nHost: localhost\n\n",
    b"GET /echo/x HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /echo/x HTTP/1.1\r\nHost: localhost\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    b"PUT /raw HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\nabcde",
    b"PUT /raw HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\nabcde",
    b"PUT /raw HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0",
    b"PUT /raw HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
    b"PUT /raw HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcdefgh",
    b"PUT /raw HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    b"PUT /raw HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nnot all",
    b'POST /json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 5\r\n\r\n{"a":',
    (
        b"POST /upload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 10\r\n\r\n--x\r\nabcde"
    ),
    b"POST /job/thread HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\n[]",
)
_STATUSES = frozenset((200, 400, 403, 404, 405, 408, 413, 414, 415, 417, 421, 431, 501, 505))


async def garbage(visit: Visit) -> None:
    """Sends something wrong, ends its side, and reads what comes: errors that are well-formed."""
    data = _something(visit)
    bare = visit.site.tls is not None and visit.random.randrange(3) == 0
    wire = await visit.connect(bare=bare)
    visit.counts.requests += 1 + data.count(b"\n\r\n")
    with suppress(ConnectionError):  # it is right to cut off who goes on sending
        for at in range(0, len(data), 1000):
            await wire.send(data[at : at + 1000])
        if visit.site.tls is None or bare:
            wire.half_close()
        else:
            return
        rest = await wire.rest()
        if bare:
            return
        for found in re.finditer(rb"(?m)^HTTP/1\.1 (\d{3}) ", rest):
            visit.counts.answers[int(found[1])] += 1
            if int(found[1]) not in _STATUSES:
                raise WrongError(f"{data[:300]!r} was answered by {rest[:300]!r}")
        if rest and not rest.startswith(b"HTTP/1.1 "):
            raise WrongError(f"{data[:300]!r} was answered by {rest[:300]!r}")


def _something(visit: Visit) -> bytes:
    choice = visit.random.randrange(4)
    if choice == 0:
        return visit.random.randbytes(visit.size(20_000))
    if choice == 1:
        return visit.random.choice(_BROKEN)
    whole = bytearray(request("PUT", f"/raw?{visit.number()}", b"abcde", Connection="close"))
    for _ in range(visit.random.randrange(1, 4)):
        at = visit.random.randrange(len(whole))
        way = visit.random.randrange(3)
        if way == 0:
            whole[at] = visit.random.randrange(256)
        elif way == 1:
            del whole[at : at + visit.random.randrange(10)]
        else:
            whole[at:at] = visit.random.choice((b"\r", b"\n", b"\0", b":", b" ", b"\r\n", b"\x80" * 9))
    return bytes(whole)
