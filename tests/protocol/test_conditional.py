"""Tags, dates, preconditions, ranges and content codings: what the If- and Accept-fields mean."""

from __future__ import annotations

import email.utils
import gzip
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quick_server.protocol.conditional import (
    Validators,
    content_tag,
    file_outcome,
    matches,
    parse_date,
    parse_ranges,
    precondition,
)
from quick_server.protocol.encoding import compress, gains, is_compressible, quality
from quick_server.protocol.messages import Headers, RequestHead
from quick_server.protocol.target import parse_target
from quick_server.protocol.writer import http_date

NOW = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT
TAG = '"cbf43926"'
OTHER = '"00000000"'
STATE = Validators(TAG, NOW)
MOST_RANGES = 16


def head(method: str = "GET", **fields: str) -> RequestHead:
    """A request with these fields: `if_range` is `If-Range`."""
    target = parse_target("/")
    assert target is not None
    headers = Headers((name.replace("_", "-"), value) for name, value in fields.items())
    return RequestHead(method, target, "1.1", headers, 0, False, True, "none")


def ranges(field: str, size: int, method: str = "GET", **fields: str) -> list[range] | None:
    return parse_ranges(head(method, range=field, **fields), STATE, size)


# ---- dates ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        " Sun, 06 Nov 1994 08:49:37 GMT ",
    ],
)
def test_the_three_forms_of_a_date(text: str) -> None:
    """RFC 9110 section 5.6.7: a recipient accepts all of them."""
    assert parse_date(text) == NOW


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("Thu, 01 Jan 1970 00:00:00 GMT", datetime(1970, 1, 1, tzinfo=UTC)),
        ("Thu, 29 Feb 2024 23:59:59 GMT", datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)),
        ("Wednesday, 01-Jan-20 00:00:00 GMT", datetime(2020, 1, 1, tzinfo=UTC)),
        ("Friday, 31-Dec-99 23:59:59 GMT", datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_dates(text: str, day: datetime) -> None:
    assert parse_date(text) == day.timestamp()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "0",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nox 1994 08:49:37 GMT",
        "06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, \u0660\u0666 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "1994-11-06T08:49:37Z",
    ],
)
def test_what_is_no_date(text: str) -> None:
    assert parse_date(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Wed, 29 Feb 2023 08:49:37 GMT",
        "Sun, 99 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sunday, 32-Nov-94 08:49:37 GMT",
    ],
)
def test_days_and_hours_that_do_not_exist(text: str) -> None:
    """RFC 9110 section 13.1.3: a field that is no date is ignored, not taken for another day."""
    assert parse_date(text) is None


@settings(deadline=None)
@given(st.integers(0, 253402300799))
def test_dates_come_back(seconds: int) -> None:
    assert parse_date(http_date(seconds)) == seconds
    assert parse_date(email.utils.formatdate(seconds, usegmt=True)) == seconds


@settings(deadline=None)
@given(st.text() | st.from_regex(r"[A-Z][a-z]+,? [0-9 ]{2}[ -][A-Z][a-z]{2}[ -][0-9]+ [0-9:]{8} GMT"))
def test_any_text_is_a_date_or_none(text: str) -> None:
    found = parse_date(text)
    assert found is None or found == int(found)


# ---- tags -------------------------------------------------------------------------------------


def test_the_tag_of_content() -> None:
    assert content_tag(b"123456789") == TAG
    assert content_tag(b"") == OTHER


@pytest.mark.parametrize(
    "field",
    [
        TAG,
        f" {TAG} ",
        f"{OTHER}, {TAG}",
        f"{TAG},{OTHER}",
        f", ,{TAG},",
        f'"a,b",{TAG}',
        f'"{TAG[1:-1]}x", {TAG}',
        f'""\t,\t{TAG}',
        "cbf43926",
        f"{OTHER}, cbf43926",
        "*",
        " * ",
    ],
)
def test_fields_that_name_a_tag(field: str) -> None:
    assert matches(field, TAG)
    assert matches(field, TAG, strong=True)


@pytest.mark.parametrize(
    "field",
    [
        "",
        ",",
        OTHER,
        '"CBF43926"',
        '"cbf4392"',
        '"cbf439266"',
        "cbf4392",
        '"*"',
        f'"a{TAG[1:-1]}", "{TAG[1:-1]}b"',
        '"cbf43926-gzip"',
        "w/cbf4392",
    ],
)
def test_fields_that_do_not_name_a_tag(field: str) -> None:
    assert not matches(field, TAG)
    assert not matches(field, TAG, strong=True)


@pytest.mark.parametrize("field", [f"W/{TAG}", f"{OTHER}, W/{TAG}", f"W/{OTHER}, W/{TAG}"])
def test_weak_tags_match_weakly_only(field: str) -> None:
    assert matches(field, TAG)
    assert not matches(field, TAG, strong=True)


def test_a_strong_tag_beside_the_weak_one() -> None:
    assert matches(f"W/{TAG}, {TAG}", TAG, strong=True)


@pytest.mark.parametrize(
    ("ours", "theirs", "strong", "weak"),
    [
        ('W/"1"', 'W/"1"', False, True),
        ('W/"1"', 'W/"2"', False, False),
        ('W/"1"', '"1"', False, True),
        ('"1"', '"1"', True, True),
    ],
)
def test_the_table_of_comparisons(ours: str, theirs: str, strong: bool, weak: bool) -> None:
    """RFC 9110 section 8.8.3.2, line by line."""
    for field, tag in ((ours, theirs), (theirs, ours)):
        assert matches(field, tag, strong=True) is strong, (field, tag)
        assert matches(field, tag) is weak, (field, tag)


OPAQUE = st.text(
    st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters='"'), max_size=8
)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), OPAQUE), max_size=5), OPAQUE, st.sampled_from([",", ", ", " ,"])
)
@example([(False, "a,b")], "a", ",")
@example([(True, "W/"), (False, "*")], "*", ",")
def test_lists_of_tags(tags: list[tuple[bool, str]], opaque: str, comma: str) -> None:
    tags = [(weak, "".join(c for c in text if not 0x7F <= ord(c) < 0x80)) for weak, text in tags]
    opaque = opaque.replace("\x7f", "")
    field = comma.join(("W/" if weak else "") + f'"{text}"' for weak, text in tags)
    assert matches(field, f'"{opaque}"') == any(text == opaque for _, text in tags)
    strongly = any(text == opaque and not weak for weak, text in tags)
    assert matches(field, f'"{opaque}"', strong=True) == strongly


# ---- preconditions ----------------------------------------------------------------------------

BEFORE, SAME, AFTER = (http_date(NOW + shift) for shift in (-1, 0, 1))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, None),
        ({"if_match": TAG}, None),
        ({"if_match": "*"}, None),
        ({"if_match": "cbf43926"}, None),
        ({"if_match": f"{OTHER}, {TAG}"}, None),
        ({"if_match": OTHER}, 412),
        ({"if_match": f"W/{TAG}"}, 412),
        ({"if_match": ""}, 412),
        ({"if_unmodified_since": AFTER}, None),
        ({"if_unmodified_since": SAME}, None),
        ({"if_unmodified_since": BEFORE}, 412),
        ({"if_unmodified_since": "yesterday"}, None),
        ({"if_none_match": TAG}, 304),
        ({"if_none_match": f"W/{TAG}"}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": "cbf43926"}, 304),
        ({"if_none_match": f"{OTHER},{TAG}"}, 304),
        ({"if_none_match": OTHER}, None),
        ({"if_none_match": ""}, None),
        ({"if_modified_since": AFTER}, 304),
        ({"if_modified_since": SAME}, 304),
        ({"if_modified_since": BEFORE}, None),
        ({"if_modified_since": "yesterday"}, None),
    ],
)
def test_one_precondition(method: str, fields: dict[str, str], verdict: int | None) -> None:
    assert precondition(head(method, **fields), STATE) == verdict


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        # 1 before 2: If-Match makes If-Unmodified-Since count for nothing
        ({"if_match": TAG, "if_unmodified_since": BEFORE}, None),
        ({"if_match": OTHER, "if_unmodified_since": AFTER}, 412),
        # 1 and 2 before 3 and 4: a failure of these is not made good by those
        ({"if_match": OTHER, "if_none_match": TAG}, 412),
        ({"if_match": OTHER, "if_modified_since": SAME}, 412),
        ({"if_unmodified_since": BEFORE, "if_none_match": TAG}, 412),
        ({"if_unmodified_since": BEFORE, "if_modified_since": AFTER}, 412),
        ({"if_match": TAG, "if_none_match": TAG}, 304),
        ({"if_match": TAG, "if_none_match": OTHER}, None),
        ({"if_unmodified_since": SAME, "if_modified_since": SAME}, 304),
        # 3 before 4: If-None-Match makes If-Modified-Since count for nothing
        ({"if_none_match": TAG, "if_modified_since": BEFORE}, 304),
        ({"if_none_match": OTHER, "if_modified_since": AFTER}, None),
    ],
)
def test_the_order_of_preconditions(fields: dict[str, str], verdict: int | None) -> None:
    """RFC 9110 section 13.2.2."""
    assert precondition(head(**fields), STATE) == verdict


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({"if_none_match": TAG}, 412),
        ({"if_none_match": "*"}, 412),
        ({"if_none_match": OTHER}, None),
        ({"if_modified_since": AFTER}, None),
        ({"if_match": OTHER}, 412),
        ({"if_unmodified_since": BEFORE}, 412),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
def test_other_methods(method: str, fields: dict[str, str], verdict: int | None) -> None:
    """If-Modified-Since is about GET and HEAD only (RFC 9110 section 13.1.3)."""
    assert precondition(head(method, **fields), STATE) == verdict


def test_dates_say_nothing_about_what_has_none() -> None:
    undated = Validators(TAG)
    assert precondition(head(if_modified_since=AFTER), undated) is None
    assert precondition(head(if_unmodified_since=BEFORE), undated) is None


def test_dates_compare_by_the_second() -> None:
    fine = Validators(TAG, NOW + 0.75)
    assert precondition(head(if_modified_since=SAME), fine) == 304
    assert precondition(head(if_unmodified_since=SAME), fine) is None


def naive_precondition(
    method: str, ours: int, match: str | None, until: int | None, none: str | None, since: int | None
) -> int | None:
    """RFC 9110 section 13.2.2, step by step; tags are "*" or lists of letters, ours is `a`."""
    if match is not None and not (match == "*" or "a" in match):  # 1
        return 412
    if match is None and until is not None and ours > until:  # 2
        return 412
    if none is not None:  # 3
        if none == "*" or "a" in none:
            return 304 if method in ("GET", "HEAD") else 412
    elif since is not None and method in ("GET", "HEAD") and ours <= since:  # 4
        return 304
    return None  # 5 is a matter of ranges, 6 goes on


TAGS = st.none() | st.just("*") | st.text("abc", max_size=3)
TIMES = st.none() | st.integers(NOW - 2, NOW + 2)


@settings(deadline=None)
@given(st.sampled_from(["GET", "HEAD", "PUT"]), TAGS, TIMES, TAGS, TIMES)
def test_preconditions_step_by_step(
    method: str, match: str | None, until: int | None, none: str | None, since: int | None
) -> None:
    def tags(letters: str | None) -> str | None:
        return letters if letters in (None, "*") else ", ".join(f'"{letter}"' for letter in letters)

    fields = {
        "if_match": tags(match),
        "if_unmodified_since": None if until is None else http_date(until),
        "if_none_match": tags(none),
        "if_modified_since": None if since is None else http_date(since),
    }
    request = head(method, **{name: value for name, value in fields.items() if value is not None})
    expected = naive_precondition(method, NOW, match, until, none, since)
    assert precondition(request, Validators('"a"', NOW)) == expected


# ---- ranges -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("bytes=0-0", [range(1)]),
        ("bytes=0-9", [range(10)]),
        ("bytes=9-", [range(9, 10)]),
        ("bytes=3-5", [range(3, 6)]),
        ("bytes=3-99", [range(3, 10)]),
        ("bytes=-3", [range(7, 10)]),
        ("bytes=-99", [range(10)]),
        ("bytes=0-1,8-9", [range(2), range(8, 10)]),
        ("bytes=8-9,0-1", [range(8, 10), range(2)]),
        ("bytes=0-1,2-3", [range(2), range(2, 4)]),
        ("bytes= 0-1 ,\t-1", [range(2), range(9, 10)]),
        ("bytes=,0-1,,4-5,", [range(2), range(4, 6)]),
        ("Bytes=0-1", [range(2)]),
        ("bytes=0-1,10-20", [range(2)]),
        ("bytes=20-,-1", [range(9, 10)]),
        ("bytes=10-", []),
        ("bytes=10-20,30-", []),
        ("bytes=-0", []),
        ("bytes=999999999999999999-", []),
    ],
)
def test_ranges(field: str, expected: list[range]) -> None:
    assert ranges(field, 10) == expected


@pytest.mark.parametrize(
    "field",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=1",
        "bytes=1-2-3",
        "bytes=5-2",
        "bytes=0-1,5-2",
        "bytes=99-98",
        "bytes=+1-2",
        "bytes=-1-2",
        "bytes=--1",
        "bytes=1 - 2",
        "bytes=0x1-2",
        "bytes=1_0-",
        "bytes=\u0661-\u0662",
        "bytes:0-1",
        "items=0-1",
        "none",
        "bytes=0-1;2-3",
        "bytes=" + "9" * 30 + "-",
    ],
)
def test_ranges_that_make_no_sense_are_the_whole(field: str) -> None:
    assert ranges(field, 10) is None


@pytest.mark.parametrize(
    "field",
    [
        "bytes=0-1,1-2",
        "bytes=0-0,0-0",
        "bytes=5-,-1",
        "bytes=0-9,4-5",
        "bytes=4-5,0-",
        "bytes=0-,-10",
        "bytes=0-2,4-5,2-3",
    ],
)
def test_overlapping_ranges_are_the_whole(field: str) -> None:
    assert ranges(field, 10) is None


def test_sixteen_ranges_and_no_more() -> None:
    some = [f"{2 * n}-{2 * n}" for n in range(MOST_RANGES + 1)]
    assert ranges("bytes=" + ",".join(some[:-1]), 100) == [
        range(2 * n, 2 * n + 1) for n in range(MOST_RANGES)
    ]
    assert ranges("bytes=" + ",".join(some), 100) is None


def test_many_ranges_that_are_not_there_are_too_many_as_well() -> None:
    assert ranges("bytes=" + ",".join(["50-"] * (MOST_RANGES + 1)), 10) is None


@pytest.mark.parametrize("method", ["HEAD", "PUT", "POST", "DELETE"])
def test_ranges_are_for_get(method: str) -> None:
    """RFC 9110 section 14.2."""
    assert ranges("bytes=0-1", 10, method) is None


def test_no_range_is_the_whole() -> None:
    assert parse_ranges(head(), STATE, 10) is None
    assert parse_ranges(head(if_range=TAG), STATE, 10) is None


def test_the_start_of_nothing_is_not_there() -> None:
    assert ranges("bytes=0-", 0) == []
    assert ranges("bytes=0-0", 0) == []


@pytest.mark.parametrize("field", ["bytes=-1", "bytes=-500"])
def test_the_end_of_nothing_is_nothing(field: str) -> None:
    """RFC 9110 section 14.1.2: it is satisfiable, by the whole representation, which is empty."""
    assert ranges(field, 0) is None


Spec = tuple[int | None, int | None]


def naive_ranges(specs: Sequence[Spec], size: int) -> list[list[int]] | None:
    """The positions of the bytes that each range asks for; it is (first, last) or (None, length)."""
    if len(specs) > MOST_RANGES or any(
        first is not None and last is not None and last < first for first, last in specs
    ):
        return None
    parts = []
    for first, last in specs:
        everywhere = list(range(size))
        if first is None:
            assert last is not None
            part = everywhere[-last:] if last else []
        else:
            part = [at for at in everywhere if at >= first and (last is None or at <= last)]
        if part:
            parts.append(part)
    asked = [at for part in parts for at in part]
    return parts if len(asked) == len(set(asked)) else None


NUMBER = st.integers(0, 45)
SPEC: st.SearchStrategy[Spec] = (
    st.tuples(NUMBER, st.none())
    | st.tuples(st.none(), NUMBER)
    | st.tuples(NUMBER, NUMBER)
    | st.integers(0, 45).flatmap(lambda n: st.tuples(st.just(n), st.integers(n, n + 3)))
)
BLANK = st.sampled_from(["", "", " ", "\t", "  "])


@settings(deadline=None)
@given(st.data(), st.lists(SPEC, min_size=1, max_size=6) | st.lists(SPEC, max_size=20, min_size=1))
def test_ranges_as_sets_of_bytes(data: st.DataObject, specs: list[Spec]) -> None:
    size = data.draw(st.integers(1, 40))
    texts = [
        data.draw(BLANK)
        + ("" if first is None else str(first))
        + "-"
        + ("" if last is None else str(last))
        + data.draw(BLANK)
        for first, last in specs
    ]
    found = ranges("bytes=" + ",".join(texts), size)
    expected = naive_ranges(specs, size)
    assert (None if found is None else [list(part) for part in found]) == expected


@settings(deadline=None)
@given(st.text("bytes=0123456789-, \t*", max_size=40), st.integers(0, 40))
def test_any_field_gives_ranges_that_exist(text: str, size: int) -> None:
    for field in (text, "bytes=" + text):
        found = ranges(field, size) or []
        assert all(0 <= part.start < part.stop <= size for part in found)
        assert sum(map(len, found)) <= size


@pytest.mark.parametrize(
    ("field", "same"),
    [
        (TAG, True),
        (f" {TAG} ", True),
        (OTHER, False),
        (f"W/{TAG}", False),
        (f"{TAG}, {OTHER}", False),
        ("*", False),
        ("", False),
        (SAME, True),
        ("Sunday, 06-Nov-94 08:49:37 GMT", True),
        (BEFORE, False),
        (AFTER, False),
        ("yesterday", False),
    ],
)
def test_if_range(field: str, same: bool) -> None:
    """RFC 9110 section 13.1.5: a strong tag or the exact date; anything else is another state."""
    assert ranges("bytes=0-1", 10, if_range=field) == ([range(2)] if same else None)
    assert ranges("bytes=50-", 10, if_range=field) == ([] if same else None)


def test_if_range_with_a_weak_tag_of_our_own() -> None:
    weak = Validators(f"W/{TAG}", NOW)
    assert parse_ranges(head(range="bytes=0-1", if_range=f"W/{TAG}"), weak, 10) is None


def test_if_range_by_date_of_what_has_none() -> None:
    undated = Validators(TAG)
    assert parse_ranges(head(range="bytes=0-1", if_range=SAME), undated, 10) is None
    assert parse_ranges(head(range="bytes=0-1", if_range=TAG), undated, 10) == [range(2)]


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=60), st.lists(SPEC, min_size=1, max_size=4))
def test_the_pieces_are_those_of_the_content(content: bytes, specs: list[Spec]) -> None:
    texts = [("" if a is None else str(a)) + "-" + ("" if b is None else str(b)) for a, b in specs]
    request = head(range="bytes=" + ",".join(texts))
    outcome = file_outcome(request, b"", "text/plain", content, STATE)
    parts = naive_ranges(specs, len(content))
    if parts is None:
        assert (outcome.status, outcome.body) == (200, content)
    elif not parts:
        assert outcome.status == 416
        assert b"Content-Range: bytes */%d\r\n" % len(content) in outcome.fields
    elif len(parts) == 1:
        assert (outcome.status, outcome.body) == (206, bytes(content[at] for at in parts[0]))
    else:
        assert outcome.status == 206
        assert isinstance(outcome.body, tuple)
        assert list(outcome.body[1::2]) == [bytes(content[at] for at in part) for part in parts]


# ---- content codings --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "coding", "expected"),
    [
        ("", "gzip", 0.0),
        ("gzip", "gzip", 1.0),
        ("GZip", "gzip", 1.0),
        ("gzip, br", "br", 1.0),
        ("br", "gzip", 0.0),
        ("gzip;q=0.5, br", "gzip", 0.5),
        ("gzip;q=0", "gzip", 0.0),
        ("gzip;q=0.000", "gzip", 0.0),
        ("gzip;q=0.001", "gzip", 0.001),
        ("gzip;q=1.000", "gzip", 1.0),
        ("gzip ; q=0.25 ,br", "gzip", 0.25),
        ("gzip;Q=0.25", "gzip", 0.25),
        ("*", "gzip", 1.0),
        ("*;q=0.1, gzip;q=0.7", "gzip", 0.7),
        ("*;q=0.1, gzip;q=0.7", "zstd", 0.1),
        ("*, gzip;q=0", "gzip", 0.0),
        ("identity;q=1, *;q=0", "gzip", 0.0),
        ("identity;q=1, *;q=0", "identity", 1.0),
        ("gzipped", "gzip", 0.0),
        ("gzip;q=", "gzip", 0.0),
        ("gzip;q=abc", "gzip", 0.0),
        ("gzip;q=-1", "gzip", 0.0),
        ("gzip;q=.", "gzip", 0.0),
    ],
)
def test_quality(field: str, coding: str, expected: float) -> None:
    assert quality(field, coding) == expected


@settings(deadline=None)
@given(st.text())
def test_any_text_has_a_quality(field: str) -> None:
    assert quality(field, "gzip") >= 0


@pytest.mark.parametrize(
    ("ctype", "gain"),
    [
        ("text/plain; charset=utf-8", True),
        ("text/html", True),
        ("application/json", True),
        ("application/geo+json", True),
        ("application/xml", True),
        ("application/javascript", True),
        ("application/wasm", True),
        ("image/svg+xml", True),
        ("text/event-stream; charset=utf-8", False),
        ("image/png", False),
        ("image/jpeg", False),
        ("video/mp4", False),
        ("audio/mpeg", False),
        ("application/zip", False),
        ("application/gzip", False),
        ("application/pdf", False),
        ("font/woff2", False),
        ("application/octet-stream", False),
        ("multipart/form-data; boundary=x", False),
        ("", False),
    ],
)
def test_what_is_worth_compressing(ctype: str, gain: bool) -> None:
    assert is_compressible(ctype) is gain
    assert gains(b"x" * 1025, ctype) is gain
    assert not gains(b"x" * 1024, ctype)


@settings(deadline=None)
@given(st.binary(max_size=5000))
def test_compressing_is_repeatable(content: bytes) -> None:
    assert gzip.decompress(compress(content)) == content
    assert compress(content) == compress(content)
