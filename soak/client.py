"""A strict HTTP client on asyncio streams, which can also misbehave on purpose."""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
import struct
from dataclasses import dataclass, field
from typing import Any

from .content import checksum

_WINDOW = 256 * 1024  # bytes that are buffered for a reader


class WrongError(AssertionError):
    """An answer is not what it has to be."""


@dataclass
class Answer:
    """One response."""

    status: int
    fields: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    head_only: bool = False

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def checked(self, *statuses: int) -> Answer:
        """Itself, if its status is one of these (200) and its checksum is right."""
        if self.status not in (statuses or (200,)):
            raise WrongError(f"status {self.status}: {self.body[:300]!r}")
        claimed = self.fields.get("x-checksum")
        if claimed is not None and not self.head_only and claimed != checksum(self.body):
            raise WrongError(f"a body of {len(self.body)} bytes has not the checksum {claimed}")
        return self


class Wire:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    @classmethod
    async def open(
        cls,
        port: int,
        source: str,
        tls: ssl.SSLContext | None = None,
        receive_buffer: int = 0,
    ) -> Wire:
        """Connects from an address of this machine, by which the log tells who asked."""
        sock = socket.socket()
        try:
            sock.setblocking(False)
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.bind((source, 0))
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            name = "localhost" if tls is not None else None
            window = receive_buffer or _WINDOW
            streams = await asyncio.open_connection(
                sock=sock, ssl=tls, server_hostname=name, limit=window
            )
        except BaseException:
            sock.close()
            raise
        return cls(*streams)

    async def send(self, data: bytes) -> None:
        """Sends bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, method: str, target: str, body: bytes = b"", **fields: str) -> None:
        """Sends a well-formed request."""
        await self.send(request(method, target, body, **fields))

    async def request(self, method: str, target: str, body: bytes = b"", **fields: str) -> Answer:
        """Sends a well-formed request and reads its answer."""
        await self.ask(method, target, body, **fields)
        return await self.answer(head_only=method == "HEAD")

    async def head(self) -> Answer:
        """Reads the head of an answer."""
        version, status, *_ = (await self._line()).split(" ", 2)
        if version != "HTTP/1.1":
            raise WrongError(f"an answer begins with {version!r}")
        answer = Answer(int(status))
        while line := await self._line():
            name, colon, value = line.partition(": ")
            if not colon:
                raise WrongError(f"a field is {line!r}")
            answer.fields[name.lower()] = value
        return answer

    async def answer(self, *, head_only: bool = False) -> Answer:
        """Reads one answer to its end."""
        answer = await self.head()
        answer.head_only = head_only or answer.status < 200 or answer.status in (204, 304)
        if not answer.head_only:
            answer.body = await self.content(answer)
        return answer

    async def content(self, answer: Answer) -> bytes:
        """Reads the content behind the head of an answer."""
        if answer.fields.get("transfer-encoding") == "chunked":
            pieces = []
            while piece := await self.chunk():
                pieces.append(piece)
            return b"".join(pieces)
        if (length := answer.fields.get("content-length")) is not None:
            return await self.exactly(int(length))
        return await self.rest()

    async def chunk(self) -> bytes:
        """Reads one chunk; b"" for the last."""
        data = await self.exactly(int(await self._line(), 16))
        if await self._line():
            raise WrongError("a chunk does not end where it should")
        return data

    async def exactly(self, size: int) -> bytes:
        """Reads so many bytes."""
        return await self._reader.readexactly(size)

    async def some(self, most: int) -> bytes:
        """Reads what is there; b"" at the end."""
        return await self._reader.read(most)

    async def rest(self) -> bytes:
        """Reads everything up to the end of the connection."""
        return await self._reader.read()

    async def line(self) -> str:
        """Reads a line that ends with LF, without it."""
        return (await self._reader.readuntil(b"\n"))[:-1].decode()

    async def _line(self) -> str:
        return (await self._reader.readuntil(b"\r\n"))[:-2].decode("latin-1")

    def half_close(self) -> None:
        """Ends our side. Raises ConnectionError if the connection was reset before."""
        try:
            self.writer.write_eof()
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                raise
            raise ConnectionResetError from error

    def reset(self) -> None:
        """Ends the connection with RST."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def close(self) -> None:
        """Ends the connection, without waiting for what is not sent yet."""
        self.writer.transport.abort()


def request(method: str, target: str, body: bytes = b"", **fields: str) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
