"""The parser: the same events however the bytes arrive, and only what HTTP allows."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quick_server.protocol.heads import HeadMemo, check_framing, parse_head
from quick_server.protocol.messages import Headers, ProtocolError, RequestHead
from quick_server.protocol.server import ServerProtocol, Signal, State
from tests.protocol.reading import LIMITS, bytewise, events, whole

GET = b"GET /a?b=1 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"
SIZED = b"POST /a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"PUT /c HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n1;name=value\r\n!\r\n0\r\nTrailer: dropped\r\n\r\n"
)


# ---- what is legal ------------------------------------------------------------------------------


def test_a_request_without_content() -> None:
    assert whole(GET) == [
        ("head", "GET", "/a?b=1", "1.1", ("host", "localhost"), ("accept", "*/*")),
        ("closed",),
    ]


def test_content_of_known_size() -> None:
    assert whole(SIZED)[1:] == [("data", b"hello"), ("end",), ("closed",)]


def test_chunked_content_without_its_trailers() -> None:
    assert whole(CHUNKED)[1:] == [("data", b"hello!"), ("end",), ("closed",)]


def test_requests_in_a_row_stay_apart() -> None:
    assert whole(GET + SIZED + CHUNKED + GET) == [
        *whole(GET)[:-1],
        *whole(SIZED)[:-1],
        *whole(CHUNKED)[:-1],
        *whole(GET),
    ]


def test_the_next_request_waits_until_it_is_asked_for() -> None:
    protocol = ServerProtocol(LIMITS, HeadMemo())
    protocol.receive(GET + GET)
    assert isinstance(protocol.next_event(), RequestHead)
    assert protocol.next_event() is Signal.PAUSED
    assert protocol.waiting == len(GET)
    protocol.next_request()
    assert isinstance(protocol.next_event(), RequestHead)


def test_a_blank_line_before_a_request_is_ignored() -> None:
    assert whole(b"\r\n" + GET) == whole(GET)


def test_the_authority_of_an_absolute_target_replaces_host() -> None:
    (head, *_) = whole(b"GET http://other:81/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert head[4:] == (("host", "other:81"),)


def test_nothing_is_read_after_an_error() -> None:
    protocol = ServerProtocol(LIMITS, HeadMemo())
    protocol.receive(b"GET / HTTP/1.1\nHost: x\n\n")
    with pytest.raises(ProtocolError):
        protocol.next_event()
    protocol.receive(GET)
    with pytest.raises(ProtocolError):
        protocol.next_event()
    assert protocol.state is State.BROKEN


def test_an_idle_connection_has_no_parser_of_h11() -> None:
    protocol = ServerProtocol(LIMITS, HeadMemo())
    protocol.receive(GET)
    protocol.next_event()
    assert protocol._chunked is None


def test_after_an_error_there_is_no_parser_of_h11() -> None:
    """The connection lingers for seconds, and clients that break rules may be many."""
    protocol = ServerProtocol(LIMITS, HeadMemo())
    protocol.receive(CHUNKED.replace(b"hello", b"hello!"))
    assert isinstance(protocol.next_event(), RequestHead)
    assert protocol.next_event() == b"hello"
    with pytest.raises(ProtocolError):
        protocol.next_event()
    assert protocol._chunked is None
    assert protocol.announced == 0


def test_the_log_can_show_how_a_request_began() -> None:
    protocol = ServerProtocol(LIMITS, HeadMemo())
    protocol.receive(b"GET /slow HT")
    assert protocol.next_event() is Signal.NEED_DATA
    assert protocol.request_line == "GET /slow HT"
    protocol.receive(b"XX\r\nHost: x")
    with pytest.raises(ProtocolError):
        protocol.next_event()
    assert protocol.request_line == "GET /slow HTXX"


def test_requests_sent_ahead_are_not_hashed_for_each_that_is_read() -> None:
    """Else the work grows with the square of what one read brings."""
    memo = HeadMemo()
    known, asked = memo.get, []

    def get(raw: bytes) -> RequestHead | None:
        asked.append(len(raw))
        return known(raw)

    memo.get = get
    assert len(events([GET * 1000], memo)) == 1001
    assert max(asked) <= memo.most_bytes


@pytest.mark.parametrize(
    "fields", ["", "Host: localhost\r\nContent-Length: 5 5\r\n"], ids=["host", "length"]
)
@pytest.mark.parametrize("behind", [b"", SIZED], ids=["nothing-behind", "more-behind"])
def test_a_refused_head_is_named_by_its_own_line(fields: str, behind: bytes) -> None:
    protocol = ServerProtocol(LIMITS, HeadMemo())
    protocol.receive(f"GET /refused HTTP/1.1\r\n{fields}\r\n".encode() + behind)
    with pytest.raises(ProtocolError):
        protocol.next_event()
    assert protocol.request_line == "GET /refused HTTP/1.1"


# ---- what is not --------------------------------------------------------------------------------

HEAD_LIMIT = LIMITS.head
VALUE_LIMIT = LIMITS.chunk_extension - len(";name=")
REFUSED: list[tuple[str, int, bytes]] = [
    ("bare LF", 400, b"GET / HTTP/1.1\nHost: x\n\n"),
    ("bare LF after fields", 400, b"GET / HTTP/1.1\r\nHost: x\r\n\nGET / HTTP/1.1"),
    ("bare CR", 400, b"GET / HTTP/1.1\r\nHost: x\ry\r\n\r\n"),
    ("NUL", 400, b"GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n"),
    ("control byte", 400, b"GET / HTTP/1.1\r\nHost: x\r\nA: \x7f\r\n\r\n"),
    ("TLS", 400, b"\x16\x03\x01\x02\x00\x01"),
    ("obs-fold", 400, b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"),
    ("space before colon", 400, b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
    ("space before a field", 400, b"GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
    ("no colon", 400, b"GET / HTTP/1.1\r\nHost x\r\n\r\n"),
    ("no host", 400, b"GET / HTTP/1.1\r\n\r\n"),
    ("two hosts", 400, b"GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n"),
    ("host with user", 400, b"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
    ("host with path", 400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("empty host", 400, b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    ("HTTP/0.9", 400, b"GET /\r\n"),
    ("HTTP/2", 505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("asterisk", 400, b"GET * HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("authority", 400, b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("blank lines", 400, b"\r\n" * 10),
    ("long request line", 414, b"GET /" + b"a" * 9000),
    ("long head", 431, b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000),
    ("many fields", 431, b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 101),
    ("TE and CL", 400, SIZED.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")),
    ("TE on 1.0", 400, CHUNKED.replace(b"1.1", b"1.0")),
    ("TE unknown", 501, CHUNKED.replace(b"chunked", b"cow, chunked")),
    (
        "TE unknown in a field of its own",
        501,
        CHUNKED.replace(b"Tr", b"Transfer-Encoding: cow\r\nTr", 1),
    ),
    ("TE without chunked", 400, CHUNKED.replace(b"chunked", b"gzip")),
    ("TE behind chunked", 400, CHUNKED.replace(b"chunked", b"chunked, gzip")),
    ("TE twice", 400, CHUNKED.replace(b"chunked", b"chunked, chunked")),
    ("CL with sign", 400, SIZED.replace(b"5", b"+5")),
    ("CL with underscore", 400, SIZED.replace(b"5", b"1_0")),
    ("CL of 20 digits", 400, SIZED.replace(b"5", b"1" * 20)),
    ("CL of 5000 digits", 400, SIZED.replace(b"5", b"1" * 5000)),
    ("CL of two values", 400, SIZED.replace(b"5", b"5, 6")),
    ("chunk size with blank", 400, CHUNKED.replace(b"5\r\n", b"5 \r\n")),
    ("chunk size with sign", 400, CHUNKED.replace(b"\r\n5\r\n", b"\r\n+5\r\n")),
    ("chunk size of 17 digits", 400, CHUNKED.replace(b"5\r\nh", b"0" * 16 + b"5\r\nh")),
    ("chunk extension unnamed", 400, CHUNKED.replace(b"1;name=value", b"1;")),
    ("chunk extension broken", 400, CHUNKED.replace(b"1;name=value", b"1;bad[")),
    ("chunk extension long", 400, CHUNKED.replace(b"value", b"v" * 300)),
    ("chunk extension a byte too long", 400, CHUNKED.replace(b"value", b"v" * (VALUE_LIMIT + 1))),
    ("chunk with bare LF", 400, CHUNKED.replace(b"5\r\n", b"5\n")),
    ("chunk too long", 400, CHUNKED.replace(b"hello", b"hello!")),
    ("length in trailers", 400, CHUNKED.replace(b"Trailer: dropped", b"Content-Length: 1")),
    ("long trailers", 431, CHUNKED.replace(b"dropped", b"x" * HEAD_LIMIT)),
    ("half a head", 400, GET[:-1]),
    ("half a body", 400, SIZED[:-1]),
    ("half a chunk", 400, CHUNKED[:-40]),
]


@pytest.mark.parametrize(("status", "data"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_refused(status: int, data: bytes) -> None:
    assert whole(data)[-1][:2] == ("error", status)


@pytest.mark.parametrize("data", [c[2] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_refused_alike_byte_by_byte(data: bytes) -> None:
    assert bytewise(data) == whole(data)


@pytest.mark.parametrize("coding", ["gzip", "gzip, chunked", "chunked, chunked"])
def test_only_chunked_counts_as_framing(coding: str) -> None:
    with pytest.raises(ProtocolError) as refusal:
        check_framing(Headers((("transfer-encoding", coding),)), "1.1")
    assert refusal.value.status == 501
    assert check_framing(Headers((("transfer-encoding", "Chunked"),)), "1.1") == (0, True)


def test_what_h11_alone_refuses_of_chunks_is_refused_as_well() -> None:
    head = CHUNKED[: CHUNKED.index(b"5\r\nhello")]
    tight = LIMITS._replace(head=len(head), chunk_extension=2 * len(head))
    protocol = ServerProtocol(tight, HeadMemo())
    protocol.receive(head)
    assert isinstance(protocol.next_event(), RequestHead)
    protocol.receive(b"5;name=" + b"v" * len(head))  # h11 keeps no line that is longer than a head
    with pytest.raises(ProtocolError) as refusal:
        protocol.next_event()
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    "data",
    [GET, SIZED, CHUNKED, CHUNKED.replace(b"value", b"v" * VALUE_LIMIT), GET + CHUNKED + SIZED],
    ids=["get", "sized", "chunked", "long-extension", "several"],
)
def test_accepted_alike_byte_by_byte(data: bytes) -> None:
    assert bytewise(data) == whole(data)


def test_tiny_chunks_out_of_proportion_are_refused() -> None:
    head = CHUNKED[: CHUNKED.index(b"5\r\nhello")]
    modest = head + b"1\r\nx\r\n" * 5_000 + b"0\r\n\r\n"
    assert events([modest])[1] == ("data", b"x" * 5_000)
    absurd = head + b"1;a=b\r\nx\r\n" * 30_000 + b"0\r\n\r\n"
    parts = (absurd[i : i + 5000] for i in range(0, len(absurd), 5000))
    assert events(parts)[-1][:2] == ("error", 400)


# ---- any bytes at all ---------------------------------------------------------------------------

FRAGMENTS = [
    b"GET", b"POST", b" ", b"/", b"/a?b#c", b"*", b"\r\n", b"\n", b"\r", b"\0", b":", b"abc", b"\xff",
    b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b" HTTP/2.0\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    b"Host: localhost\r\n", b"Content-Length: 3\r\n", b"a: b\r\n", b"Connection: close\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Expect: 100-continue\r\n",
    b"3\r\nabc\r\n", b"0\r\n\r\n", b"1;x=y\r\nz\r\n", b"a" * 300,
    GET, SIZED, CHUNKED, GET[:-2], CHUNKED[:-2],
]  # fmt: skip
WIRE = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=4), max_size=12).map(b"".join)


@settings(max_examples=300, deadline=None)
@given(WIRE, st.lists(st.integers(0, 2000), max_size=6))
def test_pieces_make_no_difference(data: bytes, cuts: list[int]) -> None:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[a:b] for a, b in pairwise(ends)]
    assert events(pieces) == whole(data) == bytewise(data)


@settings(max_examples=300, deadline=None)
@given(st.lists(WIRE, min_size=1, max_size=4))
def test_the_memo_changes_nothing(connections: list[bytes]) -> None:
    shared = HeadMemo(most_entries=3)
    for data in connections * 2:
        assert whole(data, shared) == whole(data, HeadMemo(most_bytes=0))


# Lines that say something about the message, in spellings that h11 takes, mends or refuses, and others.
LINES = [
    b"Host: localhost", b"host:localhost:80", b"HOST:  other ", b"Host: a,b", b"Host:", b"Host : x",
    b"Content-Length: 3", b"content-length:3", b"Content-Length: 3, 3", b"Content-Length: +3",
    b"Content-Length: 4", b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked ",
    b"Transfer-Encoding: gzip, chunked", b"Connection: close", b"connection: keep-alive, x",
    b"Expect: 100-continue", b"Expect: more", b"Upgrade: websocket", b"If-None-Match: *",
    b"if-match: \"a\"", b"Cookie: a=b", b"cookie: c=d; e", b"X-Id:\t 1 \t", b"X-Id: \xe9\xa0\x85\xff ",
    b"X:", b"x: a:b", b": empty", b" folded", b"X-Id: \x7f", b"no colon", b"Content-Length\xa0: 1",
]  # fmt: skip
STARTS = [
    b"GET / HTTP/1.1", b"POST /a?b HTTP/1.1", b"GET /%2e%2e/ HTTP/1.1", b"OPTIONS * HTTP/1.1",
    b"GET http://localhost/ HTTP/1.1", b"CONNECT /a HTTP/1.1", b"GET / HTTP/1.0", b"G(T / HTTP/1.1",
]  # fmt: skip
HEADS = st.builds(
    lambda start, lines: b"\r\n".join([start, *lines, b"", b"abc"]),
    st.sampled_from(STARTS),
    st.lists(st.sampled_from(LINES), max_size=6).map(lambda lines: [b"Host: localhost", *lines])
    | st.lists(st.sampled_from(LINES), max_size=5),
)


@settings(max_examples=600, deadline=None)
@given(st.lists(HEADS, min_size=2, max_size=12))
def test_heads_of_a_kind_are_read_as_if_each_were_the_first(heads: list[bytes]) -> None:
    shared = HeadMemo()
    for data in heads * 2:
        for seen, alone in zip(parsed(data, shared), parsed(data, HeadMemo(most_bytes=0)), strict=True):
            assert seen == alone
            if isinstance(seen, RequestHead) and isinstance(alone, RequestHead):
                assert seen.headers.fields == alone.headers.fields


def parsed(data: bytes, memo: HeadMemo) -> list[object]:
    """Every event of one connection, or what is wrong with it."""
    protocol = ServerProtocol(LIMITS, memo)
    protocol.receive(data)
    protocol.receive(b"")
    found: list[object] = []
    try:
        while (event := protocol.next_event()) not in (Signal.PAUSED, Signal.CLOSED):
            found.append(event)
            if event is Signal.NEED_DATA:
                break
    except ProtocolError as error:
        found.append((error.status, error.message))
    return found


def test_a_head_that_differs_in_a_cookie_is_recognised() -> None:
    memo = HeadMemo()
    first = b"GET /a HTTP/1.1\r\nHost: localhost\r\nCookie: a=1\r\n\r\n"
    other = first.replace(b"a=1", b"a=2").replace(b"/a", b"/b?c")
    assert memo.recognise(other) is None
    parsed(first, memo)
    head = memo.recognise(other)
    assert head is not None
    assert head == parse_head(other)
    assert head.headers.fields == parse_head(other).headers.fields
    assert memo.recognise(other.replace(b"localhost", b"elsewhere")) is None
