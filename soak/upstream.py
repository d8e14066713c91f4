"""What is behind the proxy: an upstream that answers well, badly, late or not at all.

    python -m soak.upstream

prints its port. It is written on asyncio streams and shares nothing with the server under test, so that
a misunderstanding of the protocol is not shared either.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress

from .content import NOTHING, blocks, checksum, checksum_of, content

_PERSISTENT = 20
"""Requests of a connection, after which it is closed without a word, as servers do."""


class Asked:
    """A request: its head, and how to read its content."""

    def __init__(self, head: bytes, reader: asyncio.StreamReader) -> None:
        line, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _version = line.split(" ")
        self.fields = {n.lower(): v for n, _, v in (item.partition(": ") for item in lines if item)}
        self._reader = reader

    async def content(self) -> tuple[int, str]:
        """Size and checksum of the content."""
        size, found = 0, NOTHING
        if self.fields.get("transfer-encoding") == "chunked":
            while length := int(await self._reader.readline(), 16):
                piece = await self._reader.readexactly(length)
                await self._reader.readline()
                size, found = size + length, checksum(piece, found)
            await self._reader.readline()
            return size, found
        left = int(self.fields.get("content-length", "0"))
        while left:
            piece = await self._reader.read(min(left, 64 * 1024))
            if not piece:
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(piece)
            size, found = size + len(piece), checksum(piece, found)
        return size, found


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection of the proxy."""
    try:
        for _ in range(_PERSISTENT):
            head = await reader.readuntil(b"\r\n\r\n")
            if not await _answer(Asked(head, reader), reader, writer):
                break
    except (OSError, asyncio.IncompleteReadError):
        pass  # the proxy has left
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _answer(asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Returns whether the connection goes on."""
    kind, *rest = asked.target.strip("/").split("/")
    numbers = [int(part) for part in rest if part.isdecimal()]
    if kind == "tunnel":
        await _tunnel(reader, writer)
        return False
    size, found = await asked.content()
    if kind == "echo":
        body = json.dumps({"size": size, "checksum": found}).encode()
        await _send(
            writer, b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body), body
        )
    elif kind == "content":
        body = content(*numbers)
        fields = f"X-Checksum: {checksum(body)}\r\nContent-Length: {len(body)}\r\n".encode()
        await _send(writer, fields, b"" if asked.method == "HEAD" else body)
    elif kind == "chunked":
        await _send(writer, b"Transfer-Encoding: chunked\r\nX-Checksum: %b\r\n" % _sum(numbers))
        for block in blocks(*numbers):
            await _send_raw(writer, b"%x\r\n%b\r\n" % (len(block), block))
        await _send_raw(writer, b"0\r\n\r\n")
    elif kind == "closing":
        await _send(
            writer, b"Connection: close\r\nX-Checksum: %b\r\n" % _sum(numbers), content(*numbers)
        )
        return False
    elif kind == "broken":
        number, size = numbers
        body = content(number, size)
        await _send(writer, b"Content-Length: %d\r\n" % size, body[: size // 2])
        return False
    elif kind == "garbage":
        await _send_raw(writer, content(numbers[0], 200))
        return False
    elif kind == "silent":
        await reader.read()  # until the proxy has had enough
        return False
    else:
        await _send(writer, b"Content-Length: 0\r\n", status=b"404 Not Found")
    return True


async def _tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Sends back what comes."""
    fields = b"Upgrade: echo\r\nConnection: Upgrade\r\n"
    await _send(writer, fields, status=b"101 Switching Protocols")
    while data := await reader.read(64 * 1024):
        await _send_raw(writer, data)
    writer.write_eof()


def _sum(numbers: list[int]) -> bytes:
    return checksum_of(*numbers).encode()


async def _send(
    writer: asyncio.StreamWriter, fields: bytes, body: bytes = b"", status: bytes = b"200 OK"
) -> None:
    await _send_raw(writer, b"HTTP/1.1 " + status + b"\r\n" + fields + b"\r\n" + body)


async def _send_raw(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def main() -> None:
    """Serves until it is ended."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"port": port, "pid": os.getpid()}), flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
