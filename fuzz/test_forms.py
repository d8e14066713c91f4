"""Forms: what a good client encodes comes out the same; anything else is a value, 400 or 413."""

from __future__ import annotations

import codecs
from itertools import pairwise
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.forms import Sent, check_any_form, encode, receive, value_or_refusal
from fuzz.profile import examples
from quick_server.protocol.forms import parse_form, parse_query

pytestmark = pytest.mark.timeout(0)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
LOOSE = st.text("ab=&;+%20fF\x00 \t\r\n\"'é\u20ac", max_size=60)
CHARSETS = st.sampled_from(
    [
        "utf-8", "ascii", "latin-1", "cp1252", "utf-16", "utf-16-le", "utf-32", "shift_jis", "euc_jp",
        "gb18030", "big5", "big5hkscs", "cp037", "koi8-r", "tis-620", "mac-roman", "utf-8-sig", "cp932",
        "cp1255",
    ]
)  # fmt: skip


# ---- queries and urlencoded forms ---------------------------------------------------------------


@examples(1)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=8), st.booleans())
def test_encoded_pairs_come_back(pairs: list[tuple[str, str]], plus: bool) -> None:
    encoded = urlencode(pairs) if plus else urlencode(pairs, quote_via=quote)
    assert parse_query(encoded) == dict(pairs)
    assert parse_form(encoded.encode()) == dict(pairs)


@examples(1)
@given(st.lists(st.tuples(TEXT, TEXT), max_size=4), CHARSETS)
def test_encoded_pairs_of_any_charset(pairs: list[tuple[str, str]], charset: str) -> None:
    try:
        again = [tuple(part.encode(charset).decode(charset) for part in pair) for pair in pairs]
        encoded = urlencode(pairs, encoding=charset, errors="strict")
    except UnicodeError:
        return
    if again != pairs or codecs.encode("a=&+%", charset) != b"a=&+%":
        return  # not a charset that a form could be in as it is
    assert parse_form(encoded.encode(), charset) == dict(pairs)


@examples(1)
@given(LOOSE | st.text())
def test_any_query(query: str) -> None:
    for name, value in parse_query(query).items():
        assert isinstance(name, str)
        assert value is True or isinstance(value, str)


@examples(1)
@given(LOOSE.map(str.encode) | st.binary(max_size=60), CHARSETS)
def test_any_form(body: bytes, charset: str) -> None:
    values = value_or_refusal(lambda: parse_form(body, charset))
    if isinstance(values, dict):
        assert all(isinstance(name + value, str) for name, value in values.items())


# ---- multipart ----------------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="%\\"), max_size=20)
FILES = st.builds(
    Sent,
    NAMES.filter(bool),
    st.sampled_from(["text/plain", "application/octet-stream", "image/png"]),
    st.binary(max_size=200)
    | st.sampled_from([b"\r\n", b"\r\n--limi", b"--limit--", b"\r\n--limi" * 20]),
)
BOUNDARIES = st.sampled_from(
    ["limi", "limit", "----WebKitFormBoundary0123", "-", "a b", "'()+_,-./:=?"]
)


@examples(1)
@given(
    st.lists(st.tuples(NAMES.filter(bool), TEXT | FILES), max_size=6),
    BOUNDARIES,
    st.lists(st.integers(0, 500), max_size=4),
)
def test_what_browsers_send_comes_back(
    parts: list[tuple[str, str | Sent]], boundary: str, cuts: list[int]
) -> None:
    contents = [part.content if isinstance(part, Sent) else part.encode() for _, part in parts]
    if any(b"\r\n--" + boundary.encode() in b"\r\n" + content + b"\r\n" for content in contents):
        return  # no client chooses such a boundary
    body = encode(parts, boundary)
    ends = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[a:b] for a, b in pairwise(ends)]
    received = receive(pieces, {"boundary": boundary}, 10_000)
    fields = {name: value for name, value in parts if isinstance(value, str)}
    files = {name: value for name, value in parts if isinstance(value, Sent)}
    assert received == (fields, files)


GRAMMAR = st.sampled_from(
    [
        b"--limit", b"\r\n--limit\r\n", b"\r\n--limit--", b"\r\n", b"\n", b"\r", b"--limit\r\n", b"--",
        b"-", b'Content-Disposition: form-data; name="a"\r\n\r\n', b' filename="b"', b'filename="\n"',
        b'Content-Disposition: form-data; name="a";', b"Content-Type: text/plain; charset=", b"utf-16",
        b"base64", b"Content-Length: 3\r\n", b" folded", b"\tx\r\n", b'"', b"\\", b";", b"=", b":",
        b"Content-Transfer-Encoding: base64\r\n", b"filename*=utf-8''%e4", b"%22", b"%0d%0a", b"hello",
        b"\r\n--limi", b"\x00", b"\xff", b"\xe4\xb8", b"x" * 9000, b"\xfe\xff",
    ]
)  # fmt: skip
BODIES = st.lists(GRAMMAR | st.binary(max_size=3), max_size=14).map(b"".join)
WELL_BEGUN = BODIES.map(lambda rest: b'--limit\r\nContent-Disposition: form-data; name="a"' + rest)
PARAMETERS = st.fixed_dictionaries(
    {"boundary": st.just("limit")},
    optional={"charset": CHARSETS | st.sampled_from(["nonsense", "base64", "idna", "utf-7", "\0", ""])},
)
CUTS = st.lists(st.integers(0, 300), max_size=5)


@examples(1)
@given(BODIES | WELL_BEGUN, CUTS, PARAMETERS)
def test_any_multipart(body: bytes, cuts: list[int], parameters: dict[str, str]) -> None:
    check_any_form(body, cuts, parameters)


@examples(1)
@given(BODIES, CUTS, st.text(st.characters(max_codepoint=255), max_size=5) | st.just("x" * 300))
def test_any_boundary(body: bytes, cuts: list[int], boundary: str) -> None:
    check_any_form(body, cuts, {"boundary": boundary})
