"""Bytes that a client may send: strategies for requests, neat and odd ones, and for damage to them.

A neat request is one that a parser accepts, so that what follows it is looked at, too. An odd one has
in any of its places what clients should not send, or what only few of them do.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, pairwise
from typing import TypeAlias

from hypothesis import strategies as st

from fuzz.parts import NEAT, ODD, Bytes, Parts

_Part: TypeAlias = Callable[[], Parts]
_PLACES = 24  # of a request with some fields and chunks


@st.composite
def _request(draw: st.DrawFn, odd_places: st.SearchStrategy[set[int]]) -> bytes:
    """Odd at `odd_places`, counted from its beginning; neat otherwise."""
    odd, place = draw(odd_places), count()

    def part() -> Parts:
        return ODD if next(place) in odd else NEAT

    start = draw(part().before) + draw(part().method) + draw(part().blank) + draw(part().target)
    start += draw(part().blank) + draw(part().version) + draw(part().line_end)
    fields = [draw(part().host), *(draw(part().field) for _ in range(draw(st.integers(0, 3))))]
    framing, content = draw(st.sampled_from([_nothing, _nothing, _sized, _chunked]))(draw, part)
    fields.insert(draw(st.integers(0, len(fields))), framing)
    return start + b"".join(fields) + draw(part().line_end) + content


def _nothing(draw: st.DrawFn, part: _Part) -> tuple[bytes, bytes]:
    return b"", b""


def _sized(draw: st.DrawFn, part: _Part) -> tuple[bytes, bytes]:
    content = draw(st.binary(max_size=12))
    return b"Content-Length: %b\r\n" % draw(part().length(len(content))), content


def _chunked(draw: st.DrawFn, part: _Part) -> tuple[bytes, bytes]:
    framing = b"Transfer-Encoding: %b\r\n" % draw(part().coding)
    chunks = []
    for chunk in [*draw(st.lists(st.binary(min_size=1, max_size=20), max_size=3)), b""]:
        size = draw(part().chunk_size(len(chunk))) + draw(part().extension) + draw(part().line_end)
        chunks += [size, chunk, draw(part().line_end) if chunk else b""]
    trailers = [draw(part().trailer) for _ in range(draw(st.integers(0, 2)))]
    return framing, b"".join([*chunks, *trailers, draw(part().line_end)])


neat_requests: Bytes = _request(st.just(set()))
"""What a parser accepts, unless two parts of it do not go together."""
odd_requests: Bytes = _request(st.sets(st.integers(0, _PLACES), min_size=1, max_size=3))
"""Neat ones but for something odd in a place or two."""
FRAGMENTS = (
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b"0\r\n\r\n", b"\r\n\r\n", b"GET / HTTP/1.1\r\n",
    b"Host: a\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n",
    b"0", b"\xff", b"HTTP/1.1", b";", b",", b"\x7f", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"Connection: close\r\n",
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, whole: Bytes) -> bytes:
    """One of `whole` of which something was deleted, repeated, moved, overwritten, or added."""
    data = draw(whole)
    for _ in range(draw(st.integers(1, 3))):
        a = draw(st.integers(0, 10_000)) % (len(data) + 1)
        b = a + draw(st.integers(1, 30))
        kind = draw(st.sampled_from(["delete", "repeat", "swap", "byte", "insert", "splice"]))
        if kind == "delete":
            data = data[:a] + data[b:]
        elif kind == "repeat":
            data = data[:b] + data[a:]
        elif kind == "swap":
            c = b + draw(st.integers(1, 30))
            data = data[:a] + data[b:c] + data[a:b] + data[c:]
        elif kind == "byte":
            data = data[:a] + draw(st.binary(min_size=1, max_size=1)) + data[a + 1 :]
        elif kind == "insert":
            data = data[:a] + draw(st.sampled_from(FRAGMENTS)) + data[a:]
        else:
            other = draw(whole)
            data = data[:a] + other[draw(st.integers(0, 10_000)) % (len(other) + 1) :]
    return data


any_bytes: Bytes = st.binary(max_size=200) | st.lists(
    st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=12
).map(b"".join)
_anything = odd_requests | odd_requests | damaged(neat_requests) | damaged(odd_requests)
_connections = st.builds(
    lambda *parts: b"".join(map(b"".join, parts)),
    st.lists(neat_requests, max_size=2),
    st.lists(_anything, min_size=1, max_size=2),
    st.lists(neat_requests, max_size=2),
)
streams: Bytes = _connections | _connections | _connections | any_bytes
"""All that a connection may be sent: several requests, or anything else."""

CUTS = st.lists(st.integers(0, 100_000), max_size=8)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The bytes in pieces, none of them empty; any numbers say where."""
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(ends)]
