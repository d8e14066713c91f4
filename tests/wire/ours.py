"""Our server with the functions and files of `origins`, as any script would have them.

Arguments are settings of the server or limits, by name: `max_file_size=1000 head_timeout=0.6`; and
`tls=` the file that `use_tls` takes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path

from quick_server import (
    PreventDefaultResponse,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    Response,
    create_server,
)
from tests.wire.notes import MOST, PIECE, Notes

ROOT = Path(os.environ["WIRE_ROOT"])
NOTES = Notes(ROOT.parent)
EVIL = "1\r\nX-Evil: 1"


def configure(server: QuickServer, settings: list[str]) -> None:
    """Sets what each of them says."""
    for setting in settings:
        name, _, value = setting.partition("=")
        if name == "tls":
            server.use_tls(value)
        elif name in server.limits._fields:
            server.limits = server.limits._replace(**{name: json.loads(value)})
        else:
            assert hasattr(server, name), name
            setattr(server, name, json.loads(value))


server = create_server(("127.0.0.1", 0))
configure(server, sys.argv[1:])
server.bind_path("/", str(ROOT))
server.text_get("/hello", 0)(lambda req, args: "hello")
_running: list[int] = []


def refuse(req: QuickServerRequestHandler, path: str, cookie: object) -> None:
    if path == "/private":
        raise PreventDefaultResponse(401, "who are you?")


def echo(req: QuickServerRequestHandler, args: ReqArgs) -> bytes:
    NOTES.note("echo")
    return req.body()


def trailer(req: QuickServerRequestHandler, args: ReqArgs) -> str:
    return str(req.headers.get("x-trailer", "none"))


@server.text_get("/busy", 0)
def busy(req: QuickServerRequestHandler, args: ReqArgs) -> str:
    _running.append(1)
    time.sleep(0.002)
    _running.pop()
    return str(len(_running))


@server.text_get("/held", 0)
def held(req: QuickServerRequestHandler, args: ReqArgs) -> str:
    NOTES.note("held")
    deadline = time.monotonic() + MOST
    while not NOTES.is_open and time.monotonic() < deadline:
        time.sleep(0.01)
    return "held"


@server.text_get("/endless", 0)
def endless(req: QuickServerRequestHandler, args: ReqArgs) -> Iterator[bytes]:
    while True:
        NOTES.note("endless")
        yield b"x" * PIECE


@server.text_get("/raises", 0)
def raises(req: QuickServerRequestHandler, args: ReqArgs) -> str:
    req.send_header("X-Queued", "1")
    raise ValueError("hidden")


@server.text_get("/breaks", 0)
def breaks(req: QuickServerRequestHandler, args: ReqArgs) -> Iterator[str]:
    yield "x" * 100_000
    raise ValueError("hidden")


@server.text_get("/splits", 0)
def splits(req: QuickServerRequestHandler, args: ReqArgs) -> str:
    req.send_header("X-Own", EVIL)
    return "body"


@server.text_get("/splits/cookie", 0)
def split_cookie(req: QuickServerRequestHandler, args: ReqArgs) -> str:
    cookie = SimpleCookie({"a": "1"})
    cookie["a"]["path"] = EVIL
    req.send_cookie(cookie)
    return "body"


@server.text_get("/splits/type", 0)
def split_type(req: QuickServerRequestHandler, args: ReqArgs) -> Response:
    return Response("body", ctype=EVIL)


@server.text_get("/splits/nul", 0)
def null(req: QuickServerRequestHandler, args: ReqArgs) -> str:
    req.send_header("X-Own", "\0")
    return "body"


@server.text_get("/splits/reason", 0)
def split_reason(req: QuickServerRequestHandler, args: ReqArgs) -> str:
    raise PreventDefaultResponse(409, EVIL)


server.add_pre_middleware(refuse)
server.text_post("/private", 0)(lambda req, args: "private")
for method in (server.text_post, server.text_put):
    method("/echo", 0)(echo)
for method in (server.text_get, server.text_post):
    method("/trailer", 0)(trailer)
print("port", server.server_address[1], flush=True)
try:
    server.serve_forever()
finally:
    server.server_close()
