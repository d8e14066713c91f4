"""A bare WSGI application, for waitress and granian."""

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

StartResponse = Callable[[str, list[tuple[str, str]]], object]


def app(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Answers the benchmark's routes with the standard library's JSON."""
    path = environ["PATH_INFO"]
    if path == "/api/hello":
        return answer(start_response, {"hello": "world"})
    if path == "/api/echo":
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        return answer(start_response, json.loads(body))
    if path == "/api/slow":
        time.sleep(1)
        return answer(start_response, {"hello": "at last"})
    start_response("404 Not Found", [("Content-Length", "0")])
    return []


def answer(start_response: StartResponse, result: object) -> Iterable[bytes]:
    """Starts a JSON response and returns its body."""
    body = json.dumps(result).encode()
    start_response(
        "200 OK",
        [("Content-Type", "application/json"), ("Content-Length", str(len(body)))],
    )
    return [body]
