"""Queries, forms, JSON bodies, cookies: values, or a 400 that says why."""

from __future__ import annotations

import json
import time
import tracemalloc
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quick_server.jsontext import json_bytes, json_dumps
from quick_server.protocol.conditional import content_tag, matches
from quick_server.protocol.cookies import parse_cookies
from quick_server.protocol.errors import prefers_json
from quick_server.protocol.forms import (
    known_charset,
    media_type,
    parse_form,
    parse_json,
    parse_query,
)
from quick_server.protocol.messages import ProtocolError


@pytest.mark.parametrize(
    ("query", "values"),
    [
        ("", {}),
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("a", {"a": True}),
        ("a=", {"a": ""}),
        ("a=1&a=2", {"a": "2"}),
        ("a=1&a", {"a": True}),
        ("a+b=c+d", {"a b": "c d"}),
        ("a=%2B%26%3D", {"a": "+&="}),
        ("%C3%A4=%E2%82%AC", {"ä": "€"}),
        ("a=b=c", {"a": "b=c"}),
        ("&&a=1&", {"a": "1"}),
        ("a=%ff", {"a": "\ufffd"}),
        ("a=%zz", {"a": "%zz"}),
    ],
)
def test_queries(query: str, values: dict[str, object]) -> None:
    assert parse_query(query) == values


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_forms_come_back_as_they_were(values: dict[str, str]) -> None:
    from urllib.parse import urlencode

    values = {k: v for k, v in values.items() if (k + v).encode("utf-8", "ignore").decode() == k + v}
    assert parse_form(urlencode(values).encode()) == values


def test_form_charsets() -> None:
    assert parse_form(b"a=%E4", "latin-1") == {"a": "ä"}
    with pytest.raises(ProtocolError, match="not utf-8") as caught:
        parse_form(b"a=%E4")
    assert caught.value.status == 400


def test_json_bodies() -> None:
    assert parse_json(b'{"a": [1, 2.5, null, "\xc3\xa4"]}') == {"a": [1, 2.5, None, "ä"]}
    assert parse_json(b"\xef\xbb\xbf[]") == []
    assert parse_json(b"[" * 100 + b"]" * 100)
    assert parse_json(b'"' + b"[" * 200 + b'"') == "[" * 200


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"{'a': 1}", b"NaN", b"[-Infinity]", b"1e999", b"-1E400", b"1" * 5000,
        b"9" * 400 + b".0", b"\xff", b'{"a": 1} x', b"[" * 101 + b"]" * 101, b"[" * 100_000,
        b'{"a":' * 101 + b"1" + b"}" * 101,
    ],
)  # fmt: skip
def test_bodies_that_are_not_json(body: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_json(body)
    assert caught.value.status == 400
    assert len(caught.value.message) < 200


def test_media_types_and_charsets() -> None:
    assert media_type('Text/HTML ; Charset="UTF-8"') == ("text/html", {"charset": "UTF-8"})
    assert media_type("") == ("", {})
    assert known_charset("UTF8") == "utf-8"
    for name in ("nonsense", "base64", "\0"):
        with pytest.raises(ProtocolError):
            known_charset(name)


def test_numbers_that_json_lacks_become_strings() -> None:
    value = {"a": [float("nan"), float("inf"), -float("inf")], "b": (1.5,), float("nan"): 0}
    assert json.loads(json_dumps(value)) == {
        "a": ["NaN", "Infinity", "-Infinity"],
        "b": [1.5],
        "NaN": 0,
    }
    assert json_bytes("\ud800") == b'"\\ud800"'
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular"):
        json_dumps(circle)


PLAIN = st.none() | st.booleans() | st.integers() | st.text()
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.recursive(PLAIN | NUMBERS, lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
def test_json_round_trip(value: object) -> None:
    assert json.loads(json_bytes(value)) == value


@pytest.mark.parametrize(
    ("field", "same"),
    [
        ('"cbf43926"', True), ("cbf43926", True), ('W/"cbf43926"', True), ("*", True),
        ('"a", "cbf43926"', True), ('"a","b"', False), ("", False), ('"cbf4392"', False),
        ("a, cbf43926", True),
    ],
)  # fmt: skip
def test_entity_tags(field: str, same: bool) -> None:
    assert content_tag(b"123456789") == '"cbf43926"'
    assert matches(field, content_tag(b"123456789")) is same


@pytest.mark.parametrize(
    ("accept", "json_first"),
    [
        ("", False), ("*/*", False), ("application/json", True),
        ("text/html, application/json;q=0.9", False),
        ("application/json, text/plain, */*", True), ("text/html;q=0.1, application/json;q=0.2", True),
        ("application/json;q=0", False), ("application/json;q=...", False),
    ],
)  # fmt: skip
def test_which_error_page(accept: str, json_first: bool) -> None:
    assert prefers_json(accept) is json_first


def test_cookies() -> None:
    cookies = parse_cookies('a=1; b="x\\"\\101"; a=2; =; c; d=e=f; path=/x; b@d=1')
    values = {name: morsel.value for name, morsel in cookies.items()}
    assert values == {"a": "1", "b": 'x"A', "c": "", "d": "e=f"}


@pytest.mark.parametrize(
    "refused",
    ["path=/", "Secure", "SAMESITE=lax", "a b=1", "=", 'ctl="\\001"', "ctl=\x7f"],
)
def test_what_is_no_cookie_leaves_the_others_alone(refused: str) -> None:
    cookies = parse_cookies(f"first=1; {refused}; last=2")
    values = {name: morsel.value for name, morsel in cookies.items()}
    values.pop("ctl", None)  # older versions of Python take control characters
    assert values == {"first": "1", "last": "2"}


@pytest.mark.parametrize("piece", ["\\", '"', "=", "a", " ", ";", 'a="', "a=1;", " x", '"\\'])
def test_cookies_take_linear_time(piece: str) -> None:
    def cost(size: int) -> float:
        field = 'a="' + piece * (size // len(piece)) + '"'
        return min(_timed(field) for _ in range(5))

    assert cost(64_000) < 64 * max(cost(4_000), 1e-4)  # quadratic time would be 256 times as long


def _timed(field: str) -> float:
    begin = time.thread_time()
    parse_cookies(field)
    return time.thread_time() - begin


@pytest.mark.parametrize("pattern", ["%41", "%41a", "%41aa", "%4", "%", "a%", "%%41", "%ff%zz", "ab"])
@given(shift=st.integers(0, 3), size=st.integers(64 * 1024 - 4, 64 * 1024 + 4))
@settings(max_examples=20)
def test_long_values_are_unquoted_as_short_ones_are(pattern: str, shift: int, size: int) -> None:
    text = "x" * shift + (pattern * size)[: 2 * size]
    expected = unquote_to_bytes(text).decode("latin-1")
    assert parse_form(f"a={text}".encode(), "latin-1") == {"a": expected}


def test_a_form_takes_a_small_multiple_of_its_size_in_memory() -> None:
    body = b"a=" + b"%41" * 700_000
    tracemalloc.start()
    try:
        parse_form(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * len(body)
