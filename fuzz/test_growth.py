"""Time grows with the size of what is read and not with its square, whatever it consists of.

Calls are counted, which is the same on every machine. What regular expressions and searches do inside
of one call cannot be counted: there it is processor time, with room for noise. A text is a piece many
times over, with something before it and behind: that is how slow ones are made.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import AnyStr

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.fieldvalues import STATE, head
from fuzz.forms import receive, value_or_refusal
from fuzz.profile import examples
from fuzz.test_forms import GRAMMAR
from fuzz.test_values import PIECES, WORDS
from quick_server.origin import host_name
from quick_server.protocol.conditional import matches, parse_date, parse_ranges
from quick_server.protocol.cookies import parse_cookies
from quick_server.protocol.encoding import wanted
from quick_server.protocol.errors import prefers_json
from quick_server.protocol.forms import media_type, parse_form, parse_json, parse_query
from quick_server.protocol.target import parse_target

pytestmark = pytest.mark.timeout(0)

SMALL, TIMES = 17_000, 4  # above 16 KiB, from where on JSON is looked through before it is decoded
ROOM = 2.5  # for noise; four times as much is what a square would make of it
TRIES = 8
UNNOTICED = 100e-6  # seconds: what takes less has no time to grow from
LIMIT = {"boundary": "limit"}
MOST_BYTES = 1 << 30


def calls(work: Callable[[], object]) -> int:
    """How many functions are called, those in C as well."""
    count = 0

    def see(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def seconds(work: Callable[[], object]) -> float:
    """Of the processor, for this thread."""
    begin = time.thread_time()
    work()
    return time.thread_time() - begin


def check_growth(
    work: Callable[[AnyStr], object], before: AnyStr, piece: AnyStr, after: AnyStr
) -> None:
    def made(size: int) -> Callable[[], object]:
        data = before + piece * (size // len(piece)) + after
        return lambda: work(data)

    small, large = made(SMALL), made(SMALL * TIMES)
    assert calls(large) <= (TIMES + 1) * calls(small) + 500
    quickest = [UNNOTICED, float("inf")]
    for _ in range(TRIES):
        quickest[1] = min(quickest[1], seconds(large))
        if quickest[1] <= ROOM * TIMES * quickest[0]:
            return
        quickest[0] = max(quickest[0], min(seconds(small) for _ in range(3)))
    pytest.fail(f"{TIMES} times the size takes {quickest[1] / quickest[0]:.0f} times as long")


READERS: dict[str, Callable[[str], object]] = {
    "cookies": parse_cookies,
    "query": parse_query,
    "form": lambda text: value_or_refusal(lambda: parse_form(text.encode())),
    "json": lambda text: value_or_refusal(lambda: parse_json(text.encode())),
    "content type": media_type.__wrapped__,
    "accept": prefers_json,
    "accept-encoding": lambda text: wanted(text, "gzip"),
    "tags": lambda text: matches(text, STATE.tag),
    "strong tags": lambda text: matches(text, STATE.tag, strong=True),
    "date": parse_date,
    "ranges": lambda text: parse_ranges(head(range="bytes=" + text), STATE, 1000),
    "host": host_name.__wrapped__,
    "target": lambda text: parse_target("/" + text),
}
SHORT = (WORDS | PIECES.filter(lambda piece: len(piece) < 200) | st.text(max_size=2)).map(
    lambda text: text.encode("utf-8", "replace").decode()
)
TEXTS = st.lists(SHORT, max_size=3).map("".join)
REPEATED = st.lists(SHORT, min_size=1, max_size=3).map("".join).filter(bool)


@pytest.mark.parametrize("reader", READERS)
@examples(0.1)
@given(TEXTS, REPEATED, TEXTS)
@example('a="', "\\", '"')
@example('a="', '\\"', "")
@example("", ";", "")
@example("", "&", "")
@example("", "%", "%4")
@example("", "=", "")
@example("", "0-0,", "0-0")
@example("", '"tag", ', '"')
@example("", 'W/"', "")
@example("a; b=", '"\\', "")
@example("a", " ", ";q=1")
@example("a;q=", "0", "")
@example("a; b", " ", "=")
@example("", "[", "")
@example("1", "0", "e1")
@example("", "../", "")
@example("", "a:", "1")
@example("Sun, ", "0", " GMT")
def test_fields(reader: str, before: str, piece: str, after: str) -> None:
    check_growth(READERS[reader], before, piece, after)


PART = b'--limit\r\nContent-Disposition: form-data; name="a"'
SHORT_BYTES = GRAMMAR.filter(lambda piece: len(piece) < 200)


@pytest.mark.parametrize("size", [1 << 30, 1000, 50])
@examples(0.2)
@given(
    st.lists(SHORT_BYTES, max_size=3).map(b"".join),
    st.lists(SHORT_BYTES, min_size=1, max_size=3).map(b"".join),
    st.booleans(),
)
@example(b"\r\n\r\n", b"\r\n--limi", True)
@example(b"\r\n\r\n", b"\r", True)
@example(b"\r\n\r\n", b"\r\n", True)
@example(b"", b"\r\n\r\n\r\n" + PART, True)
@example(b"", b"a", False)
@example(b"", b"--limi", False)
@example(b"", b"\r\n--limi", False)
@example(b"; filename=", b'"', True)
@example(b"", b'; b="\\', True)
@example(b"", b"\r\n a", True)
def test_multipart(size: int, before: bytes, piece: bytes, in_part: bool) -> None:
    """Also when it comes in small pieces."""

    def work(body: bytes) -> object:
        pieces = (body[at : at + size] for at in range(0, len(body), size))
        return receive(pieces, LIMIT, MOST_BYTES)

    check_growth(work, PART + before if in_part else before, piece, b"\r\n--limit--")
