"""What waitress runs: the functions and files of `origins`, as a WSGI application."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(os.environ["WIRE_ROOT"])
FILES = {f"/{path.name}": path for path in ROOT.iterdir()}
METHODS = {"/hello": ("GET", "HEAD"), "/echo": ("POST", "PUT")} | dict.fromkeys(FILES, ("GET", "HEAD"))


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    content = _content(environ, start_response)
    # With WSGI it is on the application to send nothing then; every framework does.
    return [] if environ["REQUEST_METHOD"] == "HEAD" else content


def _content(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
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
    return _answer(start_response, "200 OK", FILES[path].read_bytes())


def _answer(
    start_response: Callable[..., Any], status: str, body: bytes, *fields: tuple[str, str]
) -> list[bytes]:
    start_response(
        status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *fields]
    )
    return [body]
