"""What the servers of these tests answer, and requests for it with the answers that they must get.

Whatever is asked for carries a name of its own, so that nobody gets what is another one's.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from fuzz.handturned import Gate
from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs
from tests.harness import Answer
from tests.integration.forms import CTYPE, chunks, form, part

BIG = bytes(range(256)) * 1200
"""More than a kernel keeps that was told to keep little."""
LONG_REQUEST = 2000  # bytes
JSON = "Content-Type: application/json"
PIECE = b"a piece of a stream. " * 100


class Sent(NamedTuple):
    """A request and what comes back for it."""

    raw: bytes
    status: int
    body: bytes | None = None
    """None: whatever an error page says."""
    gate: object = None
    """What its handler waits for, if it does."""
    is_head: bool = False
    closes: bool = False
    """Whether the server ends the connection behind the answer."""
    is_cut: bool = False
    """Whether its content breaks off, and the connection with it."""

    def check(self, answer: Answer) -> None:
        assert answer.status == self.status, (self.raw[:200], answer)
        if self.body is not None:
            assert answer.body == self.body, (self.raw[:200], answer.status, answer.body[:200])
        if self.closes:
            assert answer.get("connection") == "close", answer


@functools.cache
def folder() -> Path:
    """Where the files are."""
    made = Path(tempfile.mkdtemp(prefix="quick_server-fuzz-"))
    atexit.register(shutil.rmtree, made)
    (made / "big.txt").write_bytes(BIG)
    (made / "small.txt").write_bytes(b"small")
    return made


class Site:
    """Handlers of all kinds."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.called: list[str] = []
        """By whom handlers were called, in any order."""

    def configure(self, server: QuickServer) -> None:
        server.bind_path("/files/", str(folder()))
        server.add_file_patterns(["*"], False)
        server.add_json_get_mask("/echo/:name", self.echo)
        server.add_json_post_mask("/echo/:name", self.echo)
        server.add_json_post_mask("/upload/:name", self.upload)
        server.add_text_get_mask("/raise/:name", self.fail)
        server.add_text_get_mask("/stream/:name", self.stream)
        server.add_text_get_mask("/broken/:name", self.broken)
        server.add_text_get_mask("/block/:name", self.block)
        server.add_text_get_mask("/slow/:name", self.slow)

    def _name(self, args: ReqArgs) -> str:
        name: str = args["segments"]["name"]
        self.called.append(name)
        return name

    def echo(self, req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        return {"name": self._name(args), "post": args["post"]}

    def upload(self, req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        sizes = {name: len(file.read()) for name, file in args["files"].items()}
        return {"name": self._name(args), "sizes": sizes, "post": args["post"]}

    def fail(self, req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        raise ValueError(self._name(args))

    def stream(self, req: QuickServerRequestHandler, args: ReqArgs) -> Iterator[bytes]:
        name = self._name(args)
        return iter([name.encode()] + [PIECE] * 40)

    def broken(self, req: QuickServerRequestHandler, args: ReqArgs) -> Iterator[bytes]:
        yield self._name(args).encode()
        raise ValueError("in the middle")

    def block(self, req: QuickServerRequestHandler, args: ReqArgs) -> str:
        name = self._name(args)
        self.gate.wait(name)
        return name

    def slow(self, req: QuickServerRequestHandler, args: ReqArgs) -> Iterator[bytes]:
        name = self._name(args)
        yield PIECE
        self.gate.wait(name)
        yield name.encode()


KINDS = [
    "echo", "echo", "post", "chunked", "upload", "small upload", "head", "small", "big", "missing",
    "wrong method", "raise", "stream", "broken", "block", "slow", "unread", "old", "close", "bad json",
    "not modified", "range",
]  # fmt: skip
_POST = b"POST /echo/x HTTP/1.1\r\nHost: localhost\r\n"
BAD = [
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nX y: 1\r\n\r\n", 400),
    (b"GET / HTTP/1.1\n\n", 400),
    (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
    (b"GET / HTTP/1.1\r\n\r\n", 400),
    (b"\x00\x01\x02\xff\r\n\r\n", 400),
    (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: %s\r\n" % (b"y" * 7000) * 3 + b"\r\n", 431),
    (_POST + b"Content-Length: -1\r\n\r\n", 400),
    (_POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    (_POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400),
    (_POST + b"Content-Length: 99999999999\r\n\r\n", 413),
]  # fmt: skip
"""What is no request: its answer is the connection's last."""

kinds = st.sampled_from(KINDS)
bad = st.sampled_from(BAD).map(lambda pair: Sent(*pair, closes=True))


def _raw(line: str, *fields: str, body: bytes = b"") -> bytes:
    if body:
        fields = (*fields, f"Content-Length: {len(body)}")
    lines = [f"{line} HTTP/1.1", "Host: localhost", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def request(kind: str, name: str) -> Sent:
    """A request of that kind, which nobody else makes under that name."""
    echoed = _json({"name": name, "post": {}})
    post = {"x": name * 20}
    answered = _json({"name": name, "post": post})
    match kind:
        case "echo":
            return Sent(_raw(f"GET /echo/{name}?a=b"), 200, echoed)
        case "long":
            return Sent(_raw(f"GET /echo/{name}", f"X-Long: {'x' * LONG_REQUEST}"), 200, echoed)
        case "head":
            return Sent(_raw(f"HEAD /echo/{name}"), 200, b"", is_head=True)
        case "post":
            return Sent(_raw(f"POST /echo/{name}", JSON, body=json.dumps(post).encode()), 200, answered)
        case "chunked":
            head = _raw(f"POST /echo/{name}", JSON, "Transfer-Encoding: chunked")
            return Sent(head + chunks(json.dumps(post).encode(), 7), 200, answered)
        case "upload" | "small upload":
            content = b"x\r\n--" * (20_000 if kind == "upload" else 10)
            body = form(part("a", "plain"), part("f", content, "f.txt"))
            fields = {"name": name, "sizes": {"f": len(content)}, "post": {"a": "plain"}}
            return Sent(
                _raw(f"POST /upload/{name}", f"Content-Type: {CTYPE}", body=body), 200, _json(fields)
            )
        case "small":
            return Sent(_raw(f"GET /files/small.txt?{name}"), 200, b"small")
        case "big":
            return Sent(_raw(f"GET /files/big.txt?{name}"), 200, BIG)
        case "range":
            return Sent(
                _raw(f"GET /files/big.txt?{name}", "Range: bytes=5-260000"), 206, BIG[5:260_001]
            )
        case "not modified":
            field = "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT"
            return Sent(_raw(f"GET /files/small.txt?{name}", "If-None-Match: *", field), 304, b"")
        case "missing":
            return Sent(_raw(f"GET /nothing/{name}"), 404)
        case "wrong method":
            return Sent(_raw(f"DELETE /echo/{name}"), 405)
        case "raise":
            return Sent(_raw(f"GET /raise/{name}"), 500)
        case "bad json":
            return Sent(_raw(f"POST /echo/{name}", JSON, body=b"{no"), 400)
        case "stream":
            return Sent(_raw(f"GET /stream/{name}"), 200, name.encode() + PIECE * 40)
        case "broken":
            return Sent(_raw(f"GET /broken/{name}"), 200, is_cut=True)
        case "block":
            return Sent(_raw(f"GET /block/{name}"), 200, name.encode(), gate=name)
        case "slow":
            return Sent(_raw(f"GET /slow/{name}"), 200, PIECE + name.encode(), gate=name)
        case "unread":
            return Sent(_raw(f"GET /echo/{name}", body=b"z" * 30_000), 200, echoed)
        case "old":
            raw = f"GET /echo/{name} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()
            return Sent(raw, 200, echoed, closes=True)
        case _:
            assert kind == "close"
            return Sent(_raw(f"GET /echo/{name}", "Connection: close"), 200, echoed, closes=True)
