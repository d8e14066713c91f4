"""Upstreams whose every byte a test decides: it accepts, reads, sends, half-closes, resets and closes.

Nothing here runs by itself, so that a test reads like the exchange it is about, from top to bottom.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from quick_server.limits import Limits
from tests.harness import PATIENCE

LEAVING = 1.0  # seconds until the upstream must know that a client has left
_STALLED = 0.3  # seconds without any room: nobody reads, and all that was read is acknowledged


@dataclass
class Asked:
    """The head of a request as an upstream got it; names in lower case, in order."""

    raw: bytes
    line: str
    fields: list[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.fields if known == name]

    def get(self, name: str) -> str | None:
        return next(iter(self.all(name)), None)

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]


@dataclass
class Line:
    """One connection from the proxy, as the upstream has it."""

    sock: socket.socket
    rest: bytes = b""
    sent: int = 0

    def _fill(self) -> bool:
        data = self.sock.recv(65536)
        self.rest += data
        return bool(data)

    def until(self, marker: bytes) -> bytes:
        """Everything up to the marker and the marker itself."""
        while marker not in self.rest:
            assert self._fill(), f"the proxy ended the connection: no {marker!r} in {self.rest!r}"
        end = self.rest.index(marker) + len(marker)
        taken, self.rest = self.rest[:end], self.rest[end:]
        return taken

    def exactly(self, size: int) -> bytes:
        while len(self.rest) < size:
            assert self._fill(), f"the proxy ended the connection: {len(self.rest)} of {size}"
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def head(self) -> Asked:
        """Receives the head of a request, strictly: every line ends with CRLF and has a colon."""
        raw = self.until(b"\r\n\r\n")
        assert raw.count(b"\n") == raw.count(b"\r\n"), raw
        line, *lines = raw[:-4].decode("latin-1").split("\r\n")
        assert line.endswith(" HTTP/1.1"), line
        fields = []
        for text in lines:
            name, colon, value = text.partition(": ")
            assert colon, text
            assert name == name.strip(), text
            fields.append((name.lower(), value))
        return Asked(raw, line, fields)

    def chunk(self) -> bytes:
        """One chunk of a request's content; b"" for the last, which has no trailers."""
        size = int(self.until(b"\r\n")[:-2], 16)
        data = self.exactly(size)
        assert self.exactly(2) == b"\r\n"
        return data

    def chunked(self) -> bytes:
        """Content in chunks, to its end."""
        content = bytearray()
        while data := self.chunk():
            content += data
        return bytes(content)

    def content(self, asked: Asked) -> bytes:
        """All the content of that request, however it is framed."""
        if asked.get("transfer-encoding") is not None:
            assert asked.all("transfer-encoding") == ["chunked"]
            assert asked.get("content-length") is None
            return self.chunked()
        lengths = asked.all("content-length")
        assert len(lengths) < 2, lengths
        return self.exactly(int(lengths[0])) if lengths else b""

    def send(self, *pieces: bytes) -> Line:
        """Each piece goes out on its own."""
        for piece in pieces:
            self.sock.sendall(piece)
            self.sent += len(piece)
        return self

    def answer(self, content: bytes = b"", status: str = "200 OK", fields: bytes = b"") -> Line:
        """An answer with a length, and nothing that nobody asked for."""
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n".encode()
        return self.send(head + fields + b"\r\n" + content)

    def half_close(self) -> Line:
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:  # the proxy has reset the connection, which tests see in what its client gets
            pass
        return self

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Ends the connection with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing has come that was not read, not even an end."""
        return not self.rest and not select.select([self.sock], [], [], 0)[0]

    @property
    def has_more(self) -> bool:
        """Whether there are bytes that were not read."""
        if self.rest or not select.select([self.sock], [], [], 0)[0]:
            return bool(self.rest)
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except ConnectionError:
            return False

    def ends(self, within: float = PATIENCE) -> bytes:
        """What still comes until the proxy ends the connection, which it must do in that time."""
        deadline = time.monotonic() + within
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self.sock], [], [], left)[0]:
                break
            try:
                if not self._fill():
                    return self.rest
            except ConnectionError:
                return self.rest
        pytest.fail(f"the proxy has not ended the connection within {within:g} s: {self.rest!r}")

    def flood(self, piece: bytes, most: int) -> int:
        """Sends until nobody reads any more; returns how many bytes that took, at most `most`."""
        return flood(self.sock, piece, most)


def flood(sock: socket.socket, piece: bytes, most: int) -> int:
    """Sends that piece again and again until there has been no room for a while."""
    total = 0
    while total < most and select.select([], [sock], [], _STALLED)[1]:
        total += sock.send(piece[total % len(piece) :])
    return total


def in_kernel(*ports: int) -> int:
    """Bytes of all connections with these ports that were sent and not been read yet.

    What was received but not acknowledged counts twice, so a `flood` has to have come to rest before.
    """
    wanted = {f"{port:04X}" for port in ports}
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queues, *_ = line.split()
        if state != "0A" and wanted & {local[-4:], remote[-4:]}:
            total += sum(int(queue, 16) for queue in queues.split(":"))
    return total


@dataclass
class Scripted:
    """A listener on a free port; the test plays each connection."""

    sock: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    lines: list[Line] = field(default_factory=list, repr=False)

    @property
    def port(self) -> int:
        port: int = self.sock.getsockname()[1]
        return port

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.authority}"

    def accept(self) -> Line:
        """The next connection of the proxy."""
        self.sock.settimeout(PATIENCE)
        sock, _ = self.sock.accept()
        sock.settimeout(PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        line = Line(sock)
        self.lines.append(line)
        return line

    def take(self) -> tuple[Line, Asked]:
        """The next connection and the head of the request on it."""
        line = self.accept()
        return line, line.head()

    @property
    def is_quiet(self) -> bool:
        """Whether nobody asks: no connection waits to be accepted, and no bytes to be read."""
        if select.select([self.sock], [], [], 0)[0]:
            return False
        return not any(line.has_more for line in self.lines if line.sock.fileno() != -1)

    def next_request(self) -> tuple[Line, Asked]:
        """The next request, on a new connection or one of those there are."""
        while True:
            known = [line for line in self.lines if line.sock.fileno() != -1]
            ready = select.select([self.sock, *(line.sock for line in known)], [], [], PATIENCE)[0]
            assert ready, "no request"
            if self.sock in ready:
                return self.take()
            for line in known:
                if line.has_more:
                    return line, line.head()
                if line.sock in ready:
                    line.close()

    def close(self) -> None:
        for line in self.lines:
            line.sock.close()
        self.sock.close()


@contextmanager
def scripted() -> Iterator[Scripted]:
    """An upstream for a while."""
    upstream = Scripted()
    try:
        yield upstream
    finally:
        upstream.close()


@contextmanager
def deaf() -> Iterator[int]:
    """The port of a listener that takes no more connections: whoever connects waits."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        waiting = []
        try:
            while True:  # until the queue is full
                sock = socket.socket()
                waiting.append(sock)
                sock.settimeout(0.2)
                sock.connect(("127.0.0.1", port))
        except TimeoutError:
            yield port
        finally:
            for sock in waiting:
                sock.close()


@contextmanager
def refusing() -> Iterator[int]:
    """A port on which nobody listens, and nobody will meanwhile."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        yield port


def limited(monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
    """Servers that are made from now on have these limits."""
    monkeypatch.setattr("quick_server.server.Limits", lambda: Limits(**limits))
