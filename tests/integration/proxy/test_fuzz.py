"""Exchanges through the proxy as chance has it: well-formed in any pieces, and not well-formed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import h11
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.harness import Client, Running
from tests.integration.upstreams import Scripted

_SHARED = [HealthCheck.function_scoped_fixture]  # one server for all examples is what is wanted


@contextmanager
def connected(run: Running) -> Iterator[Client]:
    client = run.connect()
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        yield client
    finally:
        client.close()
        run.clients.remove(client)


# ---- well-formed --------------------------------------------------------------------------------

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "BREW"]
OWN = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "via", "host"}
FRAMING = {"content-length", "transfer-encoding", "connection", "keep-alive"}

names = st.sampled_from(
    ["X-A", "x-b", "Accept", "Cookie", "Set-Cookie", "ETag", "Location", "X-Long-Name"]
)
# The client of these tests strips what Python takes for blanks, two of which are not in ASCII.
letters = st.characters(min_codepoint=0x20, max_codepoint=0xFF, blacklist_characters="\x7f\x85\xa0")
values = st.text(letters, max_size=30).map(lambda text: text.strip(" "))
fields = st.lists(st.tuples(names, values), max_size=6)
contents = st.one_of(st.binary(max_size=300), st.binary(min_size=1, max_size=9).map(lambda b: b * 3000))
cuts = st.lists(st.integers(1, 4000), max_size=6)


class Message(NamedTuple):
    """What one side sends: the fields that are its own, its content, and the bytes of both."""

    fields: list[tuple[str, str]]
    content: bytes
    framing: str
    cuts: list[int]
    sizes: list[int]

    def raw(self, start: str) -> bytes:
        lines = [start, *(f"{name}: {value}" for name, value in self.fields)]
        body = self.content
        if self.framing == "sized":
            lines.append(f"Content-Length: {len(body)}")
        elif self.framing == "chunked":
            lines.append("Transfer-Encoding: chunked")
            pieces = cut(body, self.sizes)
            body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """The bytes in pieces of these sizes, and the rest in one."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [piece for piece in [*pieces, data[at:]] if piece]


def messages(*framings: str) -> st.SearchStrategy[Message]:
    return st.builds(
        lambda fields, content, framing, cuts, sizes: Message(
            fields, b"" if framing == "none" else content, framing, cuts, sizes
        ),
        fields, contents, st.sampled_from(framings), cuts, cuts,
    )  # fmt: skip


@settings(max_examples=200, suppress_health_check=_SHARED)
@given(
    st.sampled_from(METHODS),
    st.text("ab/%20?=&;~", max_size=12).filter(lambda text: "%" not in text and "//" not in text),
    messages("none", "sized", "chunked"),
    st.sampled_from([200, 201, 206, 301, 404, 500]),
    messages("sized", "chunked", "until the end"),
)
def test_exchanges_arrive_as_they_were_sent(
    run: Running, upstream: Scripted,
    method: str, rest: str, request: Message, status: int, response: Message,
) -> None:  # fmt: skip
    rest = rest.lstrip("/")
    with connected(run) as client:
        raw = request.raw(f"{method} /up/{rest} HTTP/1.1\r\nHost: localhost")
        for piece in cut(raw, request.cuts):
            client.send(piece)
        line, asked = upstream.next_request()
        assert asked.line == f"{method} /base/{rest} HTTP/1.1"
        sent = [(name.lower(), value) for name, value in request.fields]
        assert [field for field in asked.fields if field[0] not in OWN | FRAMING] == sent
        assert line.content(asked) == request.content
        assert line.is_quiet
        is_head = method == "HEAD"
        raw = response.raw(f"HTTP/1.1 {status} Fine")
        if is_head:
            raw = raw[: raw.index(b"\r\n\r\n") + 4]
        line.send(*cut(raw, response.cuts))
        if response.framing == "until the end" and not is_head:
            line.close()
        answer = client.answer(head_only=is_head)
        assert answer.status == status
        came = [(n, v) for n, v in answer.headers if n.lower() not in FRAMING | {"via"}]
        assert came == response.fields
        assert answer.body == (b"" if is_head else response.content)
        assert not client.rest


# ---- not well-formed ----------------------------------------------------------------------------

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: u\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno",
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad",
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nabc",
]
SPLICES = [
    b"", b"\r\n", b"\n", b"\r", b"\0", b" ", b":", b"0", b"-", b"1", b"f", b"9" * 30, b"\xff",
    b",", b"\t", b"0\r\n\r\n", b"\r\n\r\n", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n",
    b";", b"x", b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n", b"HTTP/1.0",
    b"HTTP/1.1 200 OK\r\n\r\n",
]  # fmt: skip
splices = st.tuples(st.floats(0, 1), st.integers(0, 4), st.sampled_from(SPLICES))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An answer from which something is missing, or in which there is something else."""
    raw = draw(st.sampled_from(ANSWERS))
    for place, dropped, put in draw(st.lists(splices, min_size=1, max_size=3)):
        at = int(place * len(raw))
        raw = raw[:at] + put + raw[at + dropped :]
    return raw


class Read(NamedTuple):
    """What a strict parser makes of a stream of answers to one request."""

    status: int
    content: bytes
    rest: bytes
    """What came behind it."""


def read(method: str, data: bytes, *, ended: bool = True) -> Read | None:
    """The final answer; None if there is none, or not as a whole."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    status, content = 0, bytearray()
    try:
        connection.receive_data(data)
        if ended:
            connection.receive_data(b"")
        while True:
            event: Any = connection.next_event()
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                content += event.data
            elif isinstance(event, h11.EndOfMessage):
                return Read(status, bytes(content), connection.trailing_data[0])
            elif (
                event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed)
            ):
                return None
    except h11.RemoteProtocolError:
        return None


@settings(max_examples=300, suppress_health_check=_SHARED)
@given(damaged(), st.sampled_from(["GET", "HEAD", "POST"]), cuts, st.booleans())
@example(b"", "GET", [], False)
@example(ANSWERS[7], "GET", [1], False)
@example(ANSWERS[8], "GET", [], True)
def test_malformed_answers_are_never_taken_for_others(
    run: Running, upstream: Scripted, raw: bytes, method: str, sizes: list[int], half_close: bool
) -> None:
    with connected(run) as client:
        client.send(f"{method} /up/x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        line, asked = upstream.next_request()
        assert asked.target == "/base/x"
        try:
            line.send(*cut(raw, sizes))
            line.half_close() if half_close else line.close()
        except OSError:  # it has seen enough
            line.close()
        was_reset = False
        try:
            client.at_end()
        except ConnectionError:
            was_reset = True
        received = client.rest
    seen = read(method, received)
    if seen is None:
        assert was_reset or not received.endswith(b"\r\n0\r\n\r\n"), received
        return
    if was_reset and b"content-length" not in received.lower() and b"chunked" not in received.lower():
        return  # its end would have completed it, and there was none
    assert not seen.rest, received  # there is one answer
    if seen.status != 502:
        wanted = read(method, raw)
        assert wanted is not None, (raw, received)
        assert seen == wanted._replace(rest=b""), (raw, received)


@settings(max_examples=150, suppress_health_check=_SHARED)
@given(damaged(), cuts)
def test_the_next_request_gets_its_own_answer(
    run: Running, upstream: Scripted, raw: bytes, sizes: list[int]
) -> None:
    with connected(run) as client:
        client.send("GET /up/bad HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        line, _ = upstream.next_request()
        try:
            line.send(*cut(raw, sizes))
            if read("GET", raw, ended=False) is None:
                line.half_close()  # else it may wait for more
            client.at_end()
        except ConnectionError:
            pass
    with connected(run) as client:
        client.send("GET /up/good HTTP/1.1\r\nHost: localhost\r\n\r\n")
        line, asked = upstream.next_request()
        assert asked.target == "/base/good"
        line.answer(b"good one", fields=b"X-Mine: 1\r\n")
        answer = client.answer()
        assert (answer.status, answer.body, answer.get("x-mine")) == (200, b"good one", "1")
        assert not client.rest
