"""A real server on a free port and a raw client for it: what every integration test stands on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from quick_server import QuickServer, create_server

PATIENCE = 10.0  # seconds until a test gives up on an answer; never waited for when things work


@dataclass
class Answer:
    """One response as it came over the wire."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes = b""

    def get(self, name: str) -> str | None:
        """The first field of that name, or None."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    def all(self, name: str) -> list[str]:
        """Every field of that name."""
        return [v for n, v in self.headers if n.lower() == name.lower()]


@dataclass
class Client:
    """A TCP connection that sends bytes as they are and reads answers strictly."""

    sock: socket.socket
    rest: bytes = field(default=b"")

    def send(self, data: bytes | str) -> Client:
        self.sock.sendall(data.encode("latin-1") if isinstance(data, str) else data)
        return self

    def half_close(self) -> Client:
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def close(self) -> None:
        self.sock.close()

    def _fill(self) -> bool:
        data = self.sock.recv(65536)
        self.rest += data
        return bool(data)

    def _line(self) -> str:
        while b"\r\n" not in self.rest:
            assert self._fill(), f"the connection ended in the middle of a head: {self.rest!r}"
        line, _, self.rest = self.rest.partition(b"\r\n")
        return line.decode("latin-1")

    def _exactly(self, size: int) -> bytes:
        while len(self.rest) < size:
            assert self._fill(), f"the body ended early: {len(self.rest)} of {size}"
        body, self.rest = self.rest[:size], self.rest[size:]
        return body

    def answer(self, *, head_only: bool = False) -> Answer:
        """Reads one response; `head_only` for the answer to a HEAD request."""
        version, status, reason = [*self._line().split(" ", 2), ""][:3]
        headers: list[tuple[str, str]] = []
        while line := self._line():
            name, colon, value = line.partition(":")
            assert colon, line
            headers.append((name, value.strip()))
        answer = Answer(version, int(status), reason, headers)
        if head_only or answer.status < 200 or answer.status in (204, 304):
            return answer
        if answer.get("transfer-encoding") == "chunked":
            while size := int(self._line().split(";")[0], 16):
                answer.body += self._exactly(size)
                assert self._line() == ""
            while self._line():
                pass
        elif (length := answer.get("content-length")) is not None:
            answer.body = self._exactly(int(length))
        else:
            while self._fill():
                pass
            answer.body, self.rest = self.rest, b""
        return answer

    def request(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        """Sends a well-formed HTTP/1.1 request and reads its answer."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return self.answer(head_only=method == "HEAD")

    def at_end(self) -> bool:
        """Waits for the server's end of the stream; True if nothing came before it."""
        while self._fill():
            pass
        return not self.rest


@dataclass
class Running:
    """A server that serves in a thread of its own."""

    server: QuickServer
    clients: list[Client] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.server.server_address[:2]
        return host, port

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    def connect(self) -> Client:
        client = Client(socket.create_connection(self.address, timeout=PATIENCE))
        self.clients.append(client)
        return client

    def get(self, target: str, **headers: str) -> Answer:
        return self.request("GET", target, b"", **headers)

    def request(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        """One request on a connection of its own."""
        client = self.connect()
        try:
            return client.request(method, target, body, **headers)
        finally:
            client.close()

    def raw(self, data: bytes | str) -> bytes:
        """All that comes back for these bytes until the server closes."""
        client = self.connect().send(data)
        try:
            client.at_end()
            return client.rest
        finally:
            client.close()


@contextmanager
def running(server: QuickServer | None = None) -> Iterator[Running]:
    """Runs the server (by default a new one on a free port) in a thread; ends it in the end."""
    server = server or create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.serve_forever, name="server under test")
    thread.start()
    run = Running(server)
    try:
        yield run
    finally:
        for client in run.clients:
            client.close()
        server.done = True
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server did not stop"
        server.server_close()
