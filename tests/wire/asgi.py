"""What uvicorn runs: the functions and files of `origins`, as an ASGI application."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

Message = dict[str, Any]
ROOT = Path(os.environ["WIRE_ROOT"])
FILES = {f"/{path.name}": path for path in ROOT.iterdir()}
READ = ("GET", "HEAD")
FAILING = ("/raises", "/breaks", "/splits")
METHODS = {"/hello": READ, "/echo": ("POST", "PUT")} | dict.fromkeys((*FILES, *FAILING), READ)


async def application(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    if scope["type"] != "http":
        return
    path, method = scope["path"], scope["method"]
    if path not in METHODS:
        await _answer(send, 404, b"no such thing")
    elif method not in METHODS[path]:
        await _answer(send, 405, b"not that way", (b"allow", ", ".join(METHODS[path]).encode()))
    elif path == "/hello":
        await _answer(send, 200, b"hello")
    elif path == "/echo":
        await _answer(send, 200, await _content(receive))
    elif path in FAILING:
        await _fail(send, path)
    else:
        await _answer(send, 200, FILES[path].read_bytes())


async def _fail(send: Callable[[Message], Awaitable[None]], path: str) -> None:
    if path == "/splits":
        await _answer(send, 200, b"body", (b"x-own", b"1\r\nX-Evil: 1"))
        return
    if path == "/breaks":
        headers = [(b"content-type", b"text/plain")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
    raise ValueError("hidden")


async def _content(receive: Callable[[], Awaitable[Message]]) -> bytes:
    content = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return content
        piece: bytes = message.get("body", b"")
        content += piece
        if not message.get("more_body"):
            return content


async def _answer(
    send: Callable[[Message], Awaitable[None]], status: int, body: bytes, *fields: tuple[bytes, bytes]
) -> None:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode()), *fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
