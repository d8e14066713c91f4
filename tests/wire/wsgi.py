"""What waitress runs: the functions and files of `origins`, as a WSGI application."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(os.environ["WIRE_ROOT"])
FILES = {f"/{path.name}": path for path in ROOT.iterdir()}
READ = ("GET", "HEAD")
FAILING = ("/raises", "/breaks", "/splits")
METHODS = {"/hello": READ, "/echo": ("POST", "PUT")} | dict.fromkeys((*FILES, *FAILING), READ)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    content = _content(environ, start_response)
    # With WSGI it is on the application to send nothing then; every framework does.
    return [] if environ["REQUEST_METHOD"] == "HEAD" else content


def _content(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
    if path not in METHODS:
        return _answer(start_response, "404 Not Found", b"no such thing")
    if method not in METHODS[path]:
        allow = ("Allow", ", ".join(METHODS[path]))
        return _answer(start_response, "405 Method Not Allowed", b"not that way", allow)
    if path == "/hello":
        return _answer(start_response, "200 OK", b"hello")
    if path == "/echo":
        return _answer(start_response, "200 OK", environ["wsgi.input"].read())
    if path in FAILING:
        return _fail(start_response, path)
    return _answer(start_response, "200 OK", FILES[path].read_bytes())


def _fail(start_response: Callable[..., Any], path: str) -> Iterable[bytes]:
    if path == "/splits":
        return _answer(start_response, "200 OK", b"body", ("X-Own", "1\r\nX-Evil: 1"))
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Queued", "1")])
    if path == "/raises":
        raise ValueError("hidden")
    return _broken()


def _broken() -> Iterator[bytes]:
    yield b"x" * 100_000
    raise ValueError("hidden")


def _answer(
    start_response: Callable[..., Any], status: str, body: bytes, *fields: tuple[str, str]
) -> list[bytes]:
    start_response(
        status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *fields]
    )
    return [body]
