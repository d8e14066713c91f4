"""Fields, queries and JSON: any text is read as something; what good clients write comes back."""

from __future__ import annotations

import json
import math
from http.cookies import Morsel, SimpleCookie

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.fieldvalues import check_any_value, check_target
from fuzz.forms import value_or_refusal
from fuzz.profile import examples
from quick_server.protocol.cookies import parse_cookies
from quick_server.protocol.forms import media_type, parse_body, parse_json
from quick_server.protocol.grammar import weights
from quick_server.protocol.messages import Headers
from quick_server.protocol.target import parse_target

pytestmark = pytest.mark.timeout(0)

WORDS = st.sampled_from(
    [
        "gzip", "br", "identity", "*", ";q=0.5", "; q = 1.0001", ";q=", ", ", ",", ";", "=", '"', "\\",
        "W/", "a", '"cbf43926"', "cbf43926", "bytes=", "0-1", "-5", "5-", "99999999999999999999-", " ",
        "\t", "Sun, ", "06 Nov 1994 ", "08:49:37", " GMT", "Sunday, 06-Nov-94 ", "Nov  6 ", "http://",
        "https://", "localhost", ":80", ":", "[::1]", "127.0.0.1", "example.org", ".", "null",
        "application/json", "text/html", "charset", "boundary=", "a=1; ", 'b="', "\\101", "\\\\", "&",
        "%", "%41", "%c3%a4", "+", "/", "..", "?", "#", "@", "ü", "\xff", "\x00",
    ]
)  # fmt: skip
VALUES = st.one_of(
    st.lists(WORDS | st.text(max_size=2), max_size=14).map("".join),
    st.text(st.characters(max_codepoint=255), max_size=40),
    st.text(max_size=20),
)


@examples(1)
@given(VALUES)
def test_any_value(text: str) -> None:
    check_any_value(text)


@examples(1)
@given(st.text(), VALUES)
def test_any_target(path: str, rest: str) -> None:
    for text in ("/" + path, "/" + path + rest, "http://" + rest + "/" + path):
        target = parse_target(text)
        assert target is not None
        check_target(target)


# ---- cookies ------------------------------------------------------------------------------------

TOKENS = st.text("!#$%&'*+-.^_`|~0189azAZ", min_size=1, max_size=8).filter(
    lambda name: not Morsel().isReservedKey(name)
)


@examples(1)
@given(
    st.dictionaries(TOKENS, st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=12))
)
def test_cookies_come_back(values: dict[str, str]) -> None:
    """As Python writes them, quoting what needs it."""
    jar: SimpleCookie = SimpleCookie()
    for name, value in values.items():
        jar[name] = value
    field = "; ".join(f"{name}={jar[name].coded_value}" for name in values)
    assert {name: morsel.value for name, morsel in parse_cookies(field).items()} == values


# ---- content types and weights --------------------------------------------------------------------

QUOTABLE = st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=12
)


@examples(1)
@given(
    st.dictionaries(st.text("abc-!", min_size=1, max_size=4), QUOTABLE, max_size=4),
    st.sampled_from([";", "; ", " ;", "\t; ", ";;", "; ; "]),
)
def test_parameters_come_back(parameters: dict[str, str], separator: str) -> None:
    field = "Text/X"
    for name, value in parameters.items():
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        field += f'{separator}{name.upper()}="{quoted}"'
    assert media_type(field) == ("text/x", parameters)


@examples(1)
@given(st.dictionaries(st.text("abc/*+", min_size=1, max_size=5), st.integers(0, 1000), max_size=5))
def test_weights_come_back(members: dict[str, int]) -> None:
    field = " , ".join(f"{name} ; q={thousandths / 1000:.3f}" for name, thousandths in members.items())
    expected = {name: thousandths / 1000 for name, thousandths in members.items()}
    assert {name: weight for name, weight in weights(field).items() if name} == expected


# ---- JSON ---------------------------------------------------------------------------------------

ENCODINGS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "utf-32-be"])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False)
)
TREES = st.recursive(LEAVES, lambda v: st.lists(v) | st.dictionaries(st.text(), v), max_leaves=10)


@examples(1)
@given(TREES, ENCODINGS, st.booleans())
def test_json_comes_back(value: object, encoding: str, escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped)
    if text.encode(encoding, "ignore").decode(encoding) != text:
        return  # lone surrogates, which only an escape can tell
    headers = Headers([("content-type", f"application/json; charset={encoding}")])
    assert parse_body(headers, text.encode(encoding)) == value


@examples(1)
@given(st.lists(st.booleans(), min_size=90, max_size=110))
def test_nesting(levels: list[bool]) -> None:
    begin = "".join("[" if is_list else '{"a":' for is_list in levels)
    end = "".join("]" if is_list else "}" for is_list in reversed(levels))
    value = value_or_refusal(lambda: parse_json(f"{begin}1{end}".encode()))
    assert (value == 400) == (len(levels) > 100)


PIECES = st.sampled_from(
    [
        "[", "]", "{", "}", '"', ":", ",", "1", "-", "0", ".", "e", "E999", "9" * 400, "9" * 5000,
        "null", "tru", "NaN", "Infinity", "\\ud800", "\\", "\ufeff", " ", "\n", "\x00", '"a":',
        "[[[[" * 40, "]]]]" * 40,
    ]
)  # fmt: skip


@examples(1)
@given(st.lists(PIECES, max_size=12).map("".join).map(str.encode) | st.binary(max_size=30), ENCODINGS)
def test_any_json(body: bytes, encoding: str) -> None:
    """Values hold only numbers that JSON has, and can be written again."""
    value = value_or_refusal(lambda: [parse_json(body, encoding)])
    if isinstance(value, list):
        assert json.loads(json.dumps(value, allow_nan=False)) == value
        assert all(map(math.isfinite, _floats(value)))


def _floats(value: object) -> list[float]:
    if isinstance(value, float):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [number for child in children for number in _floats(child)]
