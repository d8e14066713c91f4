"""Trying a server out: requests without a network, and a server in a background thread.

`TestClient` sends its requests through the real protocol, routing, handlers and files, over a socket
pair; the calling thread runs the loop meanwhile. `running` serves for real. Both are for tests and
notebooks, and neither touches signals.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from .jsontext import json_bytes
from .responses import MultipartResponse

if TYPE_CHECKING:
    from .server import QuickServer

_PATIENCE = 30.0  # seconds


class TestResponse:
    """An answer, read to its end."""

    __test__ = False  # not a test, whatever pytest thinks of the name

    def __init__(self, status: int, reason: str, headers: http.client.HTTPMessage, body: bytes) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        """The header fields; names compare without case."""
        self.body = body

    @property
    def text(self) -> str:
        """The content as text."""
        return self.body.decode(self.headers.get_content_charset("utf-8"))

    def json(self) -> Any:
        """The content as a JSON value."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<TestResponse {self.status} {self.reason}, {len(self.body)} bytes>"


class TestClient:
    """Sends requests to a server that need not be running.

    >>> from quick_server import create_server
    >>> server = create_server(("", 0))
    >>> server.add_json_get_mask("/hello", lambda req, args: {"hello": args["query"]["name"]})
    >>> server.test_client().get("/hello?name=you").json()
    {'hello': 'you'}
    >>> server.server_close()
    """

    __test__ = False

    def __init__(self, server: QuickServer, connect: Callable[[socket.socket], bool]) -> None:
        """`connect` gives the server its end of a connection; it says whether a loop runs already."""
        self._server = server
        self._connect = connect

    def get(self, path: str, **options: Any) -> TestResponse:
        """A GET; see `request`."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> TestResponse:
        """A POST; see `request`."""
        return self.request("POST", path, **options)

    def put(self, path: str, **options: Any) -> TestResponse:
        """A PUT; see `request`."""
        return self.request("PUT", path, **options)

    def delete(self, path: str, **options: Any) -> TestResponse:
        """A DELETE; see `request`."""
        return self.request("DELETE", path, **options)

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        form: Mapping[str, str] | None = None,
        files: Mapping[str, Any] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> TestResponse:
        """Sends a request and reads its answer to the end.

        The content is one of: a `json` value, a `form`, `files` (open files, or bytes, by field name;
        with the `form`'s fields beside them), or a `body` as it is. Raises TimeoutError if there is no
        end within 30 s, as with an event stream: for those, use `server.running()`.
        """
        fields = {"Host": "localhost", "Connection": "close"}
        if json is not None:
            body, fields["Content-Type"] = json_bytes(json), "application/json"
        elif files is not None:
            parts = {name: _as_file(value) for name, value in files.items()}
            multipart = MultipartResponse({**(form or {}), **parts})
            body, fields["Content-Type"] = multipart.read(), multipart.ctype
        elif form is not None:
            body, fields["Content-Type"] = urlencode(form).encode(), "application/x-www-form-urlencoded"
        if body or method in ("POST", "PUT", "PATCH"):
            fields["Content-Length"] = str(len(body))
        for name, value in (headers or {}).items():
            fields = {known: v for known, v in fields.items() if known.lower() != name.lower()}
            fields[name] = value
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
        return _parse(method, self._exchange(head + body))

    def _exchange(self, data: bytes) -> bytes:
        """Sends all of `data`, and returns all that comes back until the server closes."""
        ours, theirs = socket.socketpair()
        with ours:
            is_running = self._connect(theirs)
            ours.setblocking(False)
            unsent, received = memoryview(data), bytearray()
            deadline = time.monotonic() + _PATIENCE
            while time.monotonic() < deadline:
                try:
                    if unsent:
                        unsent = unsent[ours.send(unsent) :]
                except BlockingIOError:
                    pass
                except OSError:  # it has answered and wants no more
                    unsent = memoryview(b"")
                try:
                    piece = ours.recv(1 << 20)
                    if not piece:
                        return bytes(received)
                    received += piece
                except BlockingIOError:
                    if is_running:
                        time.sleep(0.0005)
                    else:
                        self._server.turn(0.01)
            raise TimeoutError(f"no end of the answer within {_PATIENCE:.0f} s")


def _as_file(value: Any) -> Any:
    if hasattr(value, "read"):
        return value
    return io.BytesIO(value.encode() if isinstance(value, str) else value)


class _Received:
    """What `http.client` reads a response from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_mode: Any) -> io.BytesIO:
        return io.BytesIO(self._data)


def _parse(method: str, data: bytes) -> TestResponse:
    if not data:
        raise ConnectionError("the server closed the connection without an answer")
    response = http.client.HTTPResponse(_Received(data), method=method)  # type: ignore[arg-type] # all it uses of a socket
    response.begin()
    with response:
        return TestResponse(response.status, response.reason, response.headers, response.read())


@contextmanager
def running(server: QuickServer) -> Iterator[str]:
    """Serves in a background thread; gives the URL, and ends and closes the server in the end.

    What keeps the server from serving is raised here.
    """
    begun = threading.Event()  # or ended
    failures: list[Exception] = []

    def serve() -> None:
        try:
            server._run()
        except Exception as error:
            failures.append(error)
        finally:
            begun.set()

    server._reactor.call_from_thread(begun.set)
    thread = threading.Thread(target=serve, name="quick_server", daemon=True)
    thread.start()
    try:
        begun.wait()
        if not failures:
            host, port = server.server_address[:2]
            yield f"{server.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        server.server_close()
        thread.join()
    if failures:
        raise failures[0]
