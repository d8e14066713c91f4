"""What waitress runs: the functions and files of `origins`, as a WSGI application."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.wire.notes import MOST, PIECE, Notes

Environ = dict[str, Any]
Begin = Callable[..., Any]
Handler = Callable[[Environ, Begin], Iterable[bytes]]

ROOT = Path(os.environ["WIRE_ROOT"])
NOTES = Notes(ROOT.parent)
FILES = {f"/{path.name}": path for path in ROOT.iterdir()}
READ, WRITE, EITHER = ("GET", "HEAD"), ("POST", "PUT"), ("GET", "HEAD", "POST")


def application(environ: Environ, begin: Begin) -> Iterable[bytes]:
    content = _content(environ, begin)
    # With WSGI it is on the application to send nothing then; every framework does.
    return [] if environ["REQUEST_METHOD"] == "HEAD" else content


def _content(environ: Environ, begin: Begin) -> Iterable[bytes]:
    path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
    if path not in SERVED:
        return _answer(begin, "404 Not Found", b"no such thing")
    methods, handler = SERVED[path]
    if method not in methods:
        return _answer(begin, "405 Method Not Allowed", b"not that way", ("Allow", ", ".join(methods)))
    return handler(environ, begin)


def _file(environ: Environ, begin: Begin) -> Iterable[bytes]:
    return _answer(begin, "200 OK", FILES[environ["PATH_INFO"]].read_bytes())


def _hello(_: Environ, begin: Begin) -> Iterable[bytes]:
    return _answer(begin, "200 OK", b"hello")


def _echo(environ: Environ, begin: Begin) -> Iterable[bytes]:
    NOTES.note("echo")
    return _answer(begin, "200 OK", environ["wsgi.input"].read())


def _trailer(environ: Environ, begin: Begin) -> Iterable[bytes]:
    environ["wsgi.input"].read()
    return _answer(begin, "200 OK", environ.get("HTTP_X_TRAILER", "none").encode())


def _private(_: Environ, begin: Begin) -> Iterable[bytes]:
    return _answer(begin, "401 Unauthorized", b"who are you?")


def _busy(_: Environ, begin: Begin) -> Iterable[bytes]:
    _running.append(1)
    time.sleep(0.002)
    _running.pop()
    return _answer(begin, "200 OK", str(len(_running)).encode())


def _held(_: Environ, begin: Begin) -> Iterable[bytes]:
    NOTES.note("held")
    deadline = time.monotonic() + MOST
    while not NOTES.is_open and time.monotonic() < deadline:
        time.sleep(0.01)
    return _answer(begin, "200 OK", b"held")


def _endless(_: Environ, begin: Begin) -> Iterator[bytes]:
    begin("200 OK", [("Content-Type", "text/plain")])
    while True:
        NOTES.note("endless")
        yield b"x" * PIECE


def _raises(_: Environ, begin: Begin) -> Iterable[bytes]:
    begin("200 OK", [("Content-Type", "text/plain"), ("X-Queued", "1")])
    raise ValueError("hidden")


def _breaks(_: Environ, begin: Begin) -> Iterator[bytes]:
    begin("200 OK", [("Content-Type", "text/plain"), ("X-Queued", "1")])
    yield b"x" * 100_000
    raise ValueError("hidden")


def _splits(environ: Environ, begin: Begin) -> Iterable[bytes]:
    status, *fields = SPLITS[environ["PATH_INFO"]]
    return _answer(begin, status, b"body", *fields)


EVIL = "1\r\nX-Evil: 1"
SPLITS: dict[str, Any] = {
    "/splits": ("200 OK", ("X-Own", EVIL)),
    "/splits/cookie": ("200 OK", ("Set-Cookie", f"a=1; Path={EVIL}")),
    "/splits/type": ("200 OK", ("Content-Type", EVIL)),
    "/splits/nul": ("200 OK", ("X-Own", "\0")),
    "/splits/reason": (f"409 {EVIL}",),
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


def _answer(begin: Begin, status: str, body: bytes, *fields: tuple[str, str]) -> list[bytes]:
    begin(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), *fields])
    return [body]
