"""An upstream that answers each request as its script says, and never waits."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

BODY = b"what the upstream has to say. " * 40


class Script(NamedTuple):
    """What an upstream does about a request, and what the client gets."""

    pieces: tuple[bytes, ...] = ()
    """What it sends, one after the other."""
    then: str = "keep"
    """How it goes on behind that: `keep`, `close`, `reset`."""
    status: int = 200
    body: bytes | None = BODY
    """None: an error page of the server's own."""
    is_cut: bool = False
    """Whether the answer breaks off behind its head."""
    is_early: bool = False
    """Whether it is sent before the request's content is read, which nobody reads."""
    is_silent: bool = False
    """Whether nothing more comes: time has to pass."""


def _sized(body: bytes = BODY, fields: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\n%sContent-Length: %d\r\n\r\n%s" % (status, fields, len(body), body)


_CHUNKED_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNKS = b"".join(b"64\r\n%s\r\n" % BODY[at : at + 100] for at in range(0, len(BODY), 100))
_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
_FAILED = {"status": 502, "body": None}

SCRIPTS = {
    "sized": Script((_sized(),)),
    "chunked": Script((_CHUNKED_HEAD + _CHUNKS, b"0\r\n\r\n")),
    "dribble": Script(tuple(bytes([byte]) for byte in _sized(BODY[:60]))[:200], body=BODY[:60]),
    "until the end": Script((b"HTTP/1.1 200 OK\r\n\r\n" + BODY[:50], BODY[50:]), "close"),
    "old": Script((b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",), "close", body=b"hello"),
    "hints": Script((_HINTS, _HINTS, _sized())),
    "unasked continue": Script((b"HTTP/1.1 100 Continue\r\n\r\n", _sized())),
    "nothing": Script((b"HTTP/1.1 204 No Content\r\n\r\n",), status=204, body=b""),
    "not modified": Script((b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",), status=304, body=b""),
    "error": Script((_sized(b"no", status=b"404 No"),), status=404, body=b"no"),
    "says close": Script((_sized(fields=b"Connection: close\r\n"),), "close"),
    "keeps, then closes": Script((_sized(),), "close"),
    "keeps, then resets": Script((_sized(b""),), "reset", body=b""),
    "early": Script(
        (_sized(b"enough", fields=b"Connection: close\r\n"),), body=b"enough", is_early=True
    ),
    "one too many": Script((_sized() + _sized(b"not yours"),)),
    "too much": Script((_sized() + b"garbage",)),
    "closes": Script((), "close", **_FAILED),  # type: ignore[arg-type] # as they are
    "resets": Script((), "reset", **_FAILED),  # type: ignore[arg-type]
    "half a head": Script((b"HTTP/1.1 200 OK\r\nConten",), "close", **_FAILED),  # type: ignore[arg-type]
    "hints only": Script((_HINTS,), "close", **_FAILED),  # type: ignore[arg-type]
    "garbage": Script((b"\x16\x03\x01 what?\r\n\r\n",), **_FAILED),  # type: ignore[arg-type]
    "two framings": Script(
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",),
        **_FAILED,  # type: ignore[arg-type]
    ),
    "two lengths": Script(
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",),
        **_FAILED,  # type: ignore[arg-type]
    ),
    "too many fields": Script((b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000,), **_FAILED),  # type: ignore[arg-type]
    "cut length": Script((_sized()[:-5],), "close", is_cut=True),
    "cut by a reset": Script((_sized()[:-5],), "reset", is_cut=True),
    "cut chunks": Script((_CHUNKED_HEAD + _CHUNKS,), "close", is_cut=True),
    "bad chunk": Script((_CHUNKED_HEAD + _CHUNKS + b"zz\r\n",), is_cut=True),
    "silent": Script((), status=504, body=None, is_silent=True),
    "falls silent": Script((_sized()[:-5],), is_cut=True, is_silent=True),
}


@dataclass
class Line:
    """A connection of the proxy's, as the upstream has it."""

    sock: socket.socket
    received: bytearray = field(default_factory=bytearray)
    script: Script | None = None
    """What is being done."""
    step: int = 0
    has_read: bool = False
    """Whether the request that it answers was read as a whole."""
    was_used: bool = False
    has_ended: bool = False
    """Whether the proxy has ended it."""


class PlayedUpstream:
    """A listener and its connections."""

    def __init__(self, script_of: Callable[[str], Script]) -> None:
        """`script_of(name)` says what to do about a request for `/base/<name>`."""
        self._script_of = script_of
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.sock.setblocking(False)
        self.lines: list[Line] = []
        self.seen: Counter[str] = Counter()
        """How often each name was asked for."""
        self.bodies: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.sock.getsockname()[1]}/base"

    @property
    def open(self) -> list[Line]:
        """Connections that nobody has ended."""
        return [line for line in self.lines if line.sock.fileno() != -1]

    def play(self) -> bool:
        """Does what there is to do; whether that was anything."""
        did = False
        with suppress(BlockingIOError):
            sock, _ = self.sock.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.lines.append(Line(sock))
            did = True
        for line in self.open:
            did = self._play(line) or did
        return did

    def close(self) -> None:
        for line in self.lines:
            line.sock.close()
        self.sock.close()

    def close_idle(self) -> None:
        """Ends what is kept, as any server does at some time."""
        for line in self.open:
            if line.script is None and not line.received:
                line.sock.close()

    def _play(self, line: Line) -> bool:
        did = False
        if line.script is None or not line.script.is_early:
            did = self._read(line)
        if line.script is None and line.sock.fileno() != -1:
            did = self._begin(line) or did
        if line.script is not None and line.sock.fileno() != -1:
            did = self._go_on(line) or did
        return did

    def _read(self, line: Line) -> bool:
        try:
            data = line.sock.recv(65536)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        line.received += data
        if not data:
            line.has_ended = True
            line.sock.close()
        return True

    def _begin(self, line: Line) -> bool:
        """A request may have come, or its head."""
        head, end, rest = bytes(line.received).partition(b"\r\n\r\n")
        if not end:
            return False
        name = head.split(b" ")[1].removeprefix(b"/base/").decode()
        script = self._script_of(name)
        size = _content_size(head, rest)
        if script.is_early:
            line.received.clear()
        elif size is None:
            return False
        else:
            assert size == len(rest), "nothing is asked before there is an answer"
            self.bodies[name] = rest
            line.received.clear()
        self.seen[name] += 1
        line.script, line.step = script, 0
        return True

    def _go_on(self, line: Line) -> bool:
        script = line.script
        assert script is not None
        if line.step < len(script.pieces):
            try:
                line.sock.sendall(script.pieces[line.step])
            except OSError:  # it was ended
                line.sock.close()
            line.step += 1
            return True
        if script.then == "keep":
            if script.is_silent or script.is_early:
                return False
            line.script, line.was_used = None, True
            return True
        if script.then == "reset":
            line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        line.sock.close()
        return True


def _content_size(head: bytes, rest: bytes) -> int | None:
    """How long the content is that belongs to the head; None while it has not come whole."""
    fields = head.lower()
    if b"transfer-encoding: chunked" in fields:
        end = rest.find(b"0\r\n\r\n")
        return None if end < 0 else end + 5
    length = 0
    for line in fields.split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return None if len(rest) < length else length
