"""What uvicorn runs: the functions and files of `origins`, as an ASGI application."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from tests.wire.notes import MOST, PIECE, Notes

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Message, Receive, Send], Awaitable[None]]

ROOT = Path(os.environ["WIRE_ROOT"])
NOTES = Notes(ROOT.parent)
FILES = {f"/{path.name}": path for path in ROOT.iterdir()}
READ, WRITE, EITHER = ("GET", "HEAD"), ("POST", "PUT"), ("GET", "HEAD", "POST")


async def application(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    path, method = scope["path"], scope["method"]
    if path not in SERVED:
        await _answer(send, 404, b"no such thing")
        return
    methods, handler = SERVED[path]
    if method not in methods:
        await _answer(send, 405, b"not that way", (b"allow", ", ".join(methods).encode()))
        return
    await handler(scope, receive, send)


async def _file(scope: Message, _: Receive, send: Send) -> None:
    await _answer(send, 200, FILES[scope["path"]].read_bytes())


async def _hello(_: Message, __: Receive, send: Send) -> None:
    await _answer(send, 200, b"hello")


async def _echo(_: Message, receive: Receive, send: Send) -> None:
    content = await _content(receive)
    if content is not None:
        NOTES.note("echo")
        await _answer(send, 200, content)


async def _trailer(scope: Message, receive: Receive, send: Send) -> None:
    await _content(receive)
    fields = dict(scope["headers"])
    await _answer(send, 200, fields.get(b"x-trailer", b"none"))


async def _private(_: Message, __: Receive, send: Send) -> None:
    await _answer(send, 401, b"who are you?")


async def _busy(_: Message, __: Receive, send: Send) -> None:
    _running.append(1)
    await asyncio.sleep(0.002)
    _running.pop()
    await _answer(send, 200, str(len(_running)).encode())


async def _held(_: Message, __: Receive, send: Send) -> None:
    NOTES.note("held")
    for _moment in range(int(MOST / 0.01)):
        if NOTES.is_open:
            break
        await asyncio.sleep(0.01)
    await _answer(send, 200, b"held")


async def _endless(_: Message, receive: Receive, send: Send) -> None:
    await _begin(send)
    await receive()
    left = asyncio.ensure_future(receive())
    while not left.done():
        NOTES.note("endless")
        await send({"type": "http.response.body", "body": b"x" * PIECE, "more_body": True})
        await asyncio.sleep(0)


async def _raises(_: Message, __: Receive, ___: Send) -> None:
    raise ValueError("hidden")


async def _breaks(_: Message, __: Receive, send: Send) -> None:
    await _begin(send)
    await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
    raise ValueError("hidden")


async def _splits(scope: Message, _: Receive, send: Send) -> None:
    status, *fields = SPLITS[scope["path"]]
    await _answer(send, status, b"body", *fields)


EVIL = b"1\r\nX-Evil: 1"
SPLITS: dict[str, Any] = {
    "/splits": (200, (b"x-own", EVIL)),
    "/splits/cookie": (200, (b"set-cookie", b"a=1; Path=" + EVIL)),
    "/splits/type": (200, (b"content-type", EVIL)),
    "/splits/nul": (200, (b"x-own", b"\0")),
    "/splits/reason": (409,),  # it has the standard ones only
}
SERVED: Mapping[str, tuple[tuple[str, ...], Handler]] = (
    {
        "/hello": (READ, _hello),
        "/echo": (WRITE, _echo),
        "/trailer": (EITHER, _trailer),
        "/private": (WRITE, _private),
        "/busy": (READ, _busy),
        "/held": (READ, _held),
        "/endless": (READ, _endless),
        "/raises": (READ, _raises),
        "/breaks": (READ, _breaks),
    }
    | dict.fromkeys(SPLITS, (READ, _splits))
    | dict.fromkeys(FILES, (READ, _file))
)
_running: list[int] = []


async def _content(receive: Receive) -> bytes | None:
    """All that was sent; None if the client has gone before its end, as frameworks see to it."""
    content = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        piece: bytes = message.get("body", b"")
        content += piece
        if not message.get("more_body"):
            return content


async def _begin(send: Send) -> None:
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _answer(send: Send, status: int, body: bytes, *fields: tuple[bytes, bytes]) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode()), *fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
