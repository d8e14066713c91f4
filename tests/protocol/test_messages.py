"""Targets, headers, and what the writer lets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quick_server.protocol.messages import Headers, Outcome
from quick_server.protocol.target import parse_target
from quick_server.protocol.writer import ResponseWriter, field_line, has_content, http_date


@pytest.mark.parametrize(
    ("raw", "segments", "query"),
    [
        ("/", (), ""),
        ("/a/b", ("a", "b"), ""),
        ("/a//b/", ("a", "b"), ""),
        ("/a/./b/../c", ("a", "c"), ""),
        ("/a/%2e%2e/c", ("c",), ""),
        ("/a%2Fb", ("a/b",), ""),
        ("/%C3%A4", ("ä",), ""),
        ("/..", None, ""),
        ("/a/../../b", None, ""),
        ("/a?x=/../", ("a",), "x=/../"),
        ("/a#frag?no", ("a",), ""),
        ("http://host:1/a", ("a",), ""),
        ("HTTP://host", (), ""),
        ("http://host?q", (), "q"),
    ],
)
def test_targets(raw: str, segments: tuple[str, ...] | None, query: str) -> None:
    target = parse_target(raw)
    assert target is not None
    assert (target.segments, target.query) == (segments, query)
    assert target.is_text


@pytest.mark.parametrize("raw", ["*", "host:80", "ftp://x/", "a/b", "?x", "javascript:x"])
def test_what_is_no_target(raw: str) -> None:
    assert parse_target(raw) is None


def test_paths_that_are_not_text() -> None:
    target = parse_target("/%ff")
    assert target is not None
    assert not target.is_text
    assert target.segments == ("\udcff",)


def test_headers() -> None:
    headers = Headers([("Accept", "a"), ("Cookie", "x=1"), ("accept", "b"), ("cookie", "y=2")])
    assert headers["ACCEPT"] == "a, b"
    assert headers["cookie"] == "x=1; y=2"
    assert headers.get_all("accept") == ["a", "b"]
    assert headers.get("missing") is None
    assert headers.get("missing", 3) == 3
    assert "Accept" in headers
    assert list(headers) == ["accept", "cookie"]
    assert len(headers) == 2
    assert len(headers.fields) == 4
    with pytest.raises(KeyError):
        headers["missing"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("A", "b\r\nc"), ("A", "b\nc"), ("A", "\0"), ("A b", "c"), ("", "c"), ("A\r\nB", "c"), ("A", "€"),
     ("Content-Length", "1"), ("transfer-encoding", "chunked"), ("A:", "b"), ("A", "\x7f")],
)  # fmt: skip
def test_fields_that_would_split_or_garble(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"field|sent|frames"):
        field_line(name, value)


@given(st.text(), st.text())
def test_a_field_is_one_line(name: str, value: str) -> None:
    try:
        line = field_line(name, value)
    except ValueError:
        return
    assert line.count(b"\r") == line.count(b"\n") == 1
    assert line.endswith(b"\r\n")


def test_heads() -> None:
    writer = ResponseWriter("test")
    head = writer.head(Outcome(200, b"A: b\r\n", b"12345"), None, True, 784111777.9)
    assert head == (
        b"HTTP/1.1 200 OK\r\nServer: test\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"A: b\r\nContent-Length: 5\r\n\r\n"
    )
    assert writer.head(Outcome(204), None, False, 784111778).endswith(
        b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\nConnection: close\r\n\r\n"
    )
    assert writer.head(Outcome(299, b"", (b"12345", b"67")), None, True, 0).startswith(
        b"HTTP/1.1 299 \r\n"
    )


def test_answers_without_content() -> None:
    assert has_content(Outcome(200), None)
    assert not has_content(Outcome(304), None)
    assert not has_content(Outcome(204), None)


def test_dates_do_not_depend_on_the_locale() -> None:
    assert http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"
