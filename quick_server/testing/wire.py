"""`wire_bytes`: a strategy for Hypothesis whose bytes are almost requests."""

from __future__ import annotations

from functools import reduce
from typing import TypeAlias

from hypothesis import strategies as st

from .request import Request

_FRAGMENTS = (
    b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b"\xff", b"\r\n\r\n", b" HTTP/1.1\r\n",
    b"HTTP/1.0", b"HTTP/2.0", b"GET ", b"POST ", b"Host: localhost\r\n", b"Host: \r\n",
    b"Content-Length: 0\r\n", b"Content-Length: 3\r\n", b"Content-Length: -1\r\n",
    b"Content-Length: +3\r\n", b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding : chunked\r\n", b" folded: line\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive\r\n", b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\n",
    b"0\r\n\r\n", b"3\r\nabc\r\n", b"3;a=b\r\nabc\r\n", b"fffffffff\r\n", b"a" * 300,
)  # fmt: skip
_HEADS = (b"Host: localhost\r\n", b"Host: localhost\r\nContent-Length: 3\r\n", b"")
_CHUNKED = b"Host: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"

Edit: TypeAlias = tuple[str, int, int, bytes]
"""What to do, where, for how many bytes, and with which."""


def wire_bytes(*requests: st.SearchStrategy[Request]) -> st.SearchStrategy[bytes]:
    r"""Bytes for a connection: requests, one behind the other, with a few bytes that went wrong.

    Line ends and lengths that disagree, framing in two ways, fields out of place, ends too early.
    They are made from requests of the given strategies, and of some of its own.

    >>> from hypothesis import find
    >>> find(wire_bytes(), lambda data: b"\n" in data and b"\r" not in data)
    b'\n'
    """
    own = st.builds(_simple, st.sampled_from((b"GET", b"POST", b"HEAD")), st.sampled_from((b"/", b"*")))
    heads = st.builds(lambda line, head: line + head + b"\r\n", own, st.sampled_from(_HEADS))
    chunked = own.map(lambda line: line + _CHUNKED)
    given = [strategy.map(Request.to_bytes) for strategy in requests]
    whole = st.lists(st.one_of(*given, heads, chunked), min_size=1, max_size=3).map(b"".join)
    edits = st.lists(_edits(), max_size=4)
    mutated = st.builds(lambda data, edits: reduce(_edit, edits, data), whole, edits)
    loose = st.lists(st.sampled_from(_FRAGMENTS) | st.binary(max_size=4), max_size=8).map(b"".join)
    return st.one_of(loose, mutated, mutated, mutated)


def _simple(method: bytes, target: bytes) -> bytes:
    return b"%b %b HTTP/1.1\r\n" % (method, target)


def _edits() -> st.SearchStrategy[Edit]:
    action = st.sampled_from(("insert", "delete", "double", "replace", "cut"))
    fragment = st.sampled_from(_FRAGMENTS) | st.binary(min_size=1, max_size=3)
    return st.tuples(action, st.integers(0, 400), st.integers(1, 20), fragment)


def _edit(data: bytes, edit: Edit) -> bytes:
    action, at, length, fragment = edit
    at = min(at, len(data))
    before, piece, behind = data[:at], data[at : at + length], data[at + length :]
    if action == "insert":
        return before + fragment + piece + behind
    if action == "delete":
        return before + behind
    if action == "double":
        return before + piece + piece + behind
    if action == "replace":
        return before + fragment + behind
    return before
