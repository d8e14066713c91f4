"""The parser against any bytes: the same events however they are cut, with the memo and without.

And one error at most, after which there is nothing; memory that is bounded, and work that grows no
faster than the bytes.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.profile import examples
from fuzz.wire import CUTS, FRAGMENTS, cut, damaged, neat_requests, odd_requests, streams
from quick_server.limits import KIB
from quick_server.protocol.heads import HeadMemo
from quick_server.protocol.messages import ProtocolError, RequestHead
from quick_server.protocol.server import ServerProtocol, Signal, State
from tests.protocol.reading import LIMITS, bytewise, events, read, whole

pytestmark = pytest.mark.timeout(0)

STATUSES = {400, 414, 431, 501, 505}


# ---- the same, however it comes -----------------------------------------------------------------


@given(streams, CUTS)
def test_pieces(data: bytes, places: list[int]) -> None:
    assert events(cut(data, places)) == whole(data) == bytewise(data)


@given(st.lists(streams, min_size=1, max_size=6), st.integers(1, 20), CUTS)
def test_memo(connections: list[bytes], most_entries: int, places: list[int]) -> None:
    """Cold, warmed by other connections, full, or off."""
    shared = HeadMemo(most_entries)
    for data in connections * 2:
        without = HeadMemo(most_bytes=0)
        assert read(data, shared) == read(data, without)
        assert events(cut(data, places), shared) == whole(data, without)


@given(st.lists(neat_requests | odd_requests | damaged(neat_requests), min_size=1, max_size=6))
def test_known_head(connections: list[bytes]) -> None:
    """The short way: what it knows is what would have been read."""
    shared = HeadMemo()
    for data in connections * 2:
        protocol = ServerProtocol(LIMITS, shared)
        head = protocol.known_head(data)
        if head is None:
            assert protocol.state is State.HEAD
            assert not protocol.waiting
        else:
            other = ServerProtocol(LIMITS, HeadMemo(most_bytes=0))
            other.receive(data)
            assert other.next_event() == head
            assert (other.state, other.unread, other.waiting) == (protocol.state, protocol.unread, 0)
        read(data, shared)


# ---- one error at most --------------------------------------------------------------------------


def drained(protocol: ServerProtocol) -> Iterator[RequestHead | bytes]:
    """What comes of the bytes that are there; request follows request."""
    while True:
        event = protocol.next_event()
        if event is Signal.PAUSED:
            protocol.next_request()
        elif event in (Signal.NEED_DATA, Signal.CLOSED):
            return
        elif not isinstance(event, Signal):
            yield event


def fault(protocol: ServerProtocol) -> ProtocolError | None:
    """What is wrong with the bytes that are there."""
    try:
        list(drained(protocol))
    except ProtocolError as error:
        return error
    return None


@given(streams, CUTS, neat_requests)
def test_after_an_error_comes_nothing(data: bytes, places: list[int], later: bytes) -> None:
    protocol = ServerProtocol(LIMITS, HeadMemo())
    error = None
    for piece in [*cut(data, places), b"", later]:
        protocol.receive(piece)
        if error is None:
            error = fault(protocol)
        else:
            assert protocol.known_head(piece) is None
            assert not protocol.waiting
            assert fault(protocol) is not None
    if error is None:
        assert protocol.state is State.CLOSED
    else:
        assert error.status in STATUSES
        assert error.message.isprintable()


@given(streams)
def test_the_content_is_what_was_sent(data: bytes) -> None:
    found = read(data).requests
    sized = [request for request in found if not request.head.chunked]
    assert all(len(request.body) == request.head.content_length for request in sized)
    assert sum(len(request.head.request_line) + len(request.body) for request in found) <= len(data)
    place = 0
    for request in sized:
        place = data.find(request.body, place) + len(request.body)
        assert place >= len(request.body)


# ---- bounded memory, linear work ----------------------------------------------------------------


class Flood(NamedTuple):
    """Something, and then the same again and again."""

    before: bytes
    unit: bytes
    times: int

    @property
    def data(self) -> bytes:
        return self.before + self.unit * self.times


POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
OPENINGS = [
    b"", b"GET /", POST, POST + b"X: ", POST + b"X", POST + b"Content-Length: 100000\r\n\r\n",
    POST + b"Content-Length: ", POST + b"Transfer-Encoding: ", CHUNKED, CHUNKED + b"5;a",
    CHUNKED + b"0", CHUNKED + b'5;a="', CHUNKED + b"30d40\r\n", CHUNKED + b"0\r\n",
    CHUNKED + b"0\r\nX: ",
]  # fmt: skip
UNITS = [
    b"1\r\nx\r\n", b"1;a=b\r\nx\r\n", b"400\r\n" + b"x" * 1024 + b"\r\n", b"a: b\r\n", b";a=b", b"\\a",
    b"Cookie: a=b\r\n", b"chunked,", b"/..", b"%2e", b"a",
]  # fmt: skip


@st.composite
def floods(draw: st.DrawFn) -> Flood:
    """One of the openings, or some beginning of a request."""
    start = draw(neat_requests | odd_requests)
    some = start[: draw(st.integers(0, 10_000)) % (len(start) + 1)]
    unit = draw(
        st.sampled_from([*UNITS, *FRAGMENTS]) | st.binary(min_size=1, max_size=9) | neat_requests
    )
    times = draw(st.sampled_from([1000, 40_000, 150_000])) // len(unit) + 1
    return Flood(draw(st.sampled_from([*OPENINGS, some])), unit, times)


SHARED = (type, ModuleType, FunctionType, BuiltinFunctionType, HeadMemo, type(LIMITS))


def held(thing: object) -> int:
    """Bytes of everything that belongs to one object."""
    known: dict[int, object] = {}
    left = [thing]
    while left:
        item = left.pop()
        if id(item) not in known and not isinstance(item, SHARED):
            known[id(item)] = item
            left += gc.get_referents(item)
    return sum(map(sys.getsizeof, known.values()))


def check_memory(data: bytes, size: int) -> None:
    """For bytes that come in pieces of one size."""
    protocol = ServerProtocol(LIMITS, HeadMemo(most_bytes=0))
    for number, start in enumerate(range(0, len(data), size)):
        protocol.receive(data[start : start + size])
        if fault(protocol) is not None:
            assert held(protocol) < 4 * KIB
            return
        assert protocol.waiting <= LIMITS.head + 2
        if number % 16 == 0:
            assert held(protocol) <= 3 * LIMITS.head + 16 * KIB


@examples(0.3)
@given(floods(), st.sampled_from([100, 4 * KIB, 64 * KIB]))
def test_memory(flood: Flood, size: int) -> None:
    check_memory(flood.data, size)


@pytest.mark.parametrize("opening", OPENINGS)
def test_memory_of_each_flood(opening: bytes) -> None:
    for unit in UNITS:
        check_memory(opening + unit * (150_000 // len(unit)), 4 * KIB)


def calls(work: Callable[[], object]) -> int:
    """Functions that are called, Python's and those in C."""
    counter = count()

    def note(frame: object, event: str, argument: object) -> None:
        if event in ("call", "c_call"):
            next(counter)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return next(counter)


def check_work(pieces: list[bytes]) -> None:
    protocol = ServerProtocol(LIMITS, HeadMemo())

    def work() -> None:
        for piece in pieces:
            protocol.receive(piece)
            if fault(protocol) is not None:
                return

    assert calls(work) <= 2000 + 60 * len(pieces) + 15 * sum(map(len, pieces))


@examples(0.3)
@given(floods(), CUTS)
def test_work(flood: Flood, places: list[int]) -> None:
    check_work(cut(flood.data, places))


@pytest.mark.parametrize("opening", OPENINGS)
def test_work_of_each_flood(opening: bytes) -> None:
    for unit in UNITS:
        data = opening + unit * (8_000 // len(unit))
        check_work([data])
        check_work([data[start : start + 100] for start in range(0, len(data), 100)])


HUGE = LIMITS._replace(**dict.fromkeys(["request_line", "head", "fields", "chunk_extension"], 1 << 30))


def seconds(data: bytes) -> float:
    """The least that it takes to read these bytes, which come in one piece, without any limit."""
    best = float("inf")
    for _ in range(2):
        protocol = ServerProtocol(HUGE, HeadMemo())
        before = time.thread_time()
        protocol.receive(data)
        fault(protocol)
        best = min(best, time.thread_time() - before)
    return best


@pytest.mark.parametrize("opening", OPENINGS)
def test_time(opening: bytes) -> None:
    """Expressions and searches, which no count of calls shows: 4 times the bytes, not 16 the time."""
    for unit in UNITS:
        times = 6_000 // len(unit)
        few, many = opening + unit * times, opening + unit * times * 4
        assert any(seconds(many) < 9 * seconds(few) + 0.001 for _ in range(9)), unit
