"""What upstreams send: the same events however it arrives, and nothing that can be read in two ways."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from time import process_time
from typing import TypeAlias

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quick_server.limits import Limits
from quick_server.protocol import client as module
from quick_server.protocol.client import (
    ClientProtocol,
    ClientSignal,
    ResponseHead,
    TruncatedError,
    UnansweredError,
)
from quick_server.protocol.messages import ProtocolError

Seen: TypeAlias = tuple[object, ...]

LIMITS = Limits()
SIZED = b"HTTP/1.1 200 OK\r\nServer: up\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n1;name=value\r\n!\r\n0\r\nTrailer: dropped\r\n\r\n"
)
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\nA: 1\r\na: 2\r\n\r\nhello"
OLD = b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"


def pull(protocol: ClientProtocol) -> list[Seen]:
    """Events until there are no more for now."""
    seen: list[Seen] = []
    while True:
        try:
            event = protocol.next_event()
        except ProtocolError as error:
            return [*seen, ("error", type(error), error.status, error.message)]
        if isinstance(event, ResponseHead):
            seen.append(("head", *event))
            continue
        if isinstance(event, bytes):
            assert event
            seen.append(("data", event))
            continue
        return seen if event is ClientSignal.NEED_DATA else [*seen, (event,)]


def events(
    pieces: Iterable[bytes], method: str = "GET", *, upgrade: bool = False, ended: bool = True
) -> list[Seen]:
    """All events of one exchange, content joined; at the end whether the connection is idle."""
    protocol = ClientProtocol(LIMITS)
    protocol.begin(method, upgrade=upgrade)
    seen: list[Seen] = []
    for piece in pieces:
        if seen and seen[-1][0] in (ClientSignal.END, "error"):
            protocol.receive(piece)
            continue
        if seen and seen[-1][0] is ClientSignal.SWITCHED:
            seen.pop()
        protocol.receive(piece)
        seen += pull(protocol)
    idle = protocol.idle
    over = seen and seen[-1][0] in (ClientSignal.END, ClientSignal.SWITCHED, "error")
    if ended and not over:
        protocol.receive(b"")
        seen += pull(protocol)
    return [*joined(seen), ("idle", idle), ("rest", protocol.rest)]


def joined(seen: list[Seen]) -> list[Seen]:
    together: list[Seen] = []
    for event in seen:
        before = together[-1] if together else ()
        if event[0] == "data" and before and before[0] == "data":
            content = before[1]
            assert isinstance(content, bytes)
            assert isinstance(event[1], bytes)
            together[-1] = ("data", content + event[1])
        else:
            together.append(event)
    return together


def whole(data: bytes, method: str = "GET", *, upgrade: bool = False) -> list[Seen]:
    return events([data], method, upgrade=upgrade)


def bytewise(data: bytes, method: str = "GET", *, upgrade: bool = False) -> list[Seen]:
    return events((data[i : i + 1] for i in range(len(data))), method, upgrade=upgrade)


def names(seen: list[Seen]) -> list[object]:
    return [event[0] for event in seen[:-2]]


def idle(seen: list[Seen]) -> bool:
    return seen[-2] == ("idle", True)


def is_idle(protocol: ClientProtocol) -> bool:
    return protocol.idle


def head_of(data: bytes, method: str = "GET") -> ResponseHead:
    protocol = ClientProtocol(LIMITS)
    protocol.begin(method, upgrade=False)
    protocol.receive(data)
    head = protocol.next_event()
    assert isinstance(head, ResponseHead)
    return head


# ---- what is read -------------------------------------------------------------------------------


def test_content_of_known_size() -> None:
    fields = (("Server", "up"), ("Content-Length", "5"))
    seen = whole(SIZED)
    assert seen[:-2] == [("head", 200, "1.1", fields, 5, True), ("data", b"hello"), (ClientSignal.END,)]
    assert idle(seen)


def test_chunked_content_without_its_trailers() -> None:
    fields = (("Transfer-Encoding", "chunked"),)
    seen = whole(CHUNKED)
    assert seen[:-2] == [
        ("head", 200, "1.1", fields, None, True),
        ("data", b"hello!"),
        (ClientSignal.END,),
    ]
    assert idle(seen)


def test_content_until_the_end_of_the_connection() -> None:
    fields = (("A", "1"), ("a", "2"))
    seen = whole(UNTIL_CLOSE)
    assert seen[:-2] == [
        ("head", 200, "1.1", fields, None, False),
        ("data", b"hello"),
        (ClientSignal.END,),
    ]
    assert not idle(seen)


def test_http_1_0_closes_unless_it_says_otherwise() -> None:
    assert not head_of(OLD).keep_alive
    assert not idle(whole(OLD))
    assert idle(whole(OLD.replace(b"\r\n\r\n", b"\r\nConnection: Keep-Alive\r\n\r\n")))
    assert not idle(whole(SIZED.replace(b"\r\n\r\n", b"\r\nConnection: x, CLOSE\r\n\r\n")))


def test_interim_responses_come_before_the_final_one() -> None:
    seen = whole(CONTINUE + HINTS + SIZED)
    assert [event[1] for event in seen if event[0] == "head"] == [100, 103, 200]
    assert names(seen) == ["head", "head", "head", "data", ClientSignal.END]
    assert idle(seen)


@pytest.mark.parametrize("data", [SIZED[:-5], CHUNKED[: CHUNKED.index(b"5\r\n")], UNTIL_CLOSE[:-5]])
def test_an_answer_to_head_has_no_content(data: bytes) -> None:
    assert names(whole(data, "HEAD")) == ["head", ClientSignal.END]
    assert idle(whole(data, "HEAD"))
    assert head_of(data, "HEAD").length == 0


@pytest.mark.parametrize("status", [b"204", b"304"])
def test_some_statuses_have_no_content(status: bytes) -> None:
    seen = whole(b"HTTP/1.1 %b \r\nContent-Length: 0\r\n\r\n" % status)
    assert names(seen) == ["head", ClientSignal.END]
    assert idle(seen)


def test_not_modified_may_tell_a_length() -> None:
    data = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"
    assert head_of(data).content_length == 9
    assert idle(whole(data))


@pytest.mark.parametrize("framing", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_after_a_204_that_announces_content_the_connection_is_not_used_again(framing: bytes) -> None:
    seen = whole(b"HTTP/1.1 204 No Content\r\n" + framing + b"\r\n\r\n")
    assert names(seen) == ["head", ClientSignal.END]
    assert not idle(seen)


def test_switching_protocols() -> None:
    seen = whole(SWITCH + b"\x00\xffhello", upgrade=True)
    assert names(seen) == ["head", ClientSignal.SWITCHED]
    assert seen[0][1] == 101
    assert seen[-1] == ("rest", b"\x00\xffhello")
    assert not idle(seen)


def test_a_refused_upgrade_is_an_answer_like_any_other() -> None:
    assert whole(SIZED, upgrade=True) == whole(SIZED)


def test_one_connection_for_many_exchanges() -> None:
    protocol = ClientProtocol(LIMITS)
    for data in (SIZED, CHUNKED, EMPTY, HINTS + SIZED, CHUNKED) * 3:
        assert is_idle(protocol)
        protocol.begin("GET", upgrade=False)
        assert not is_idle(protocol)
        protocol.receive(data)
        assert joined(pull(protocol)) == whole(data)[:-2]
        assert pull(protocol) == []


def test_a_length_that_is_told_twice_alike_is_one() -> None:
    head = head_of(SIZED.replace(b"\r\n\r\n", b"\r\ncontent-length: 5\r\n\r\n"))
    assert head.length == head.content_length == 5


# ---- what was not asked for ---------------------------------------------------------------------


@pytest.mark.parametrize("data", [SIZED, CHUNKED, EMPTY])
@pytest.mark.parametrize("more", [b"\r\n", b"x", SIZED])
def test_bytes_behind_an_answer_never_become_another_one(data: bytes, more: bytes) -> None:
    for pieces in ([data + more], [data, more]):
        seen = events(pieces)
        assert seen[:-2] == whole(data)[:-2]
        assert not idle(seen)


def test_bytes_on_an_idle_connection_end_its_use() -> None:
    protocol = ClientProtocol(LIMITS)
    assert is_idle(protocol)
    protocol.receive(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
    assert not is_idle(protocol)
    with pytest.raises(ProtocolError):
        protocol.next_event()
    with pytest.raises(AssertionError):
        protocol.begin("GET", upgrade=False)


def test_the_end_of_an_idle_connection_ends_its_use() -> None:
    protocol = ClientProtocol(LIMITS)
    protocol.receive(b"")
    assert not protocol.idle


def test_an_end_together_with_the_last_byte_ends_the_use() -> None:
    protocol = ClientProtocol(LIMITS)
    protocol.begin("GET", upgrade=False)
    protocol.receive(SIZED)
    protocol.receive(b"")
    assert joined(pull(protocol))[-1] == (ClientSignal.END,)
    assert not protocol.idle


# ---- what breaks off ----------------------------------------------------------------------------


def test_an_end_without_a_byte() -> None:
    assert whole(b"")[0][:3] == ("error", UnansweredError, 502)
    assert whole(CONTINUE)[1][:3] == ("error", ProtocolError, 502)


@pytest.mark.parametrize("data", [SIZED, CHUNKED, HINTS + SIZED, CONTINUE + CHUNKED])
def test_every_early_end_is_an_error(data: bytes) -> None:
    content = data.rindex(b"\r\n\r\n", 0, data.index(b"hello")) + 4
    for end in range(1, len(data)):
        seen = whole(data[:end])
        assert names(seen)[-1] == "error", data[:end]
        assert (seen[-3][1] is TruncatedError) == (end >= content), data[:end]


# ---- what is refused ----------------------------------------------------------------------------

REFUSED: list[tuple[str, bytes]] = [
    ("bare LF", b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"),
    ("bare LF at the end", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\n"),
    ("bare CR", SIZED.replace(b"up", b"u\rp")),
    ("NUL", SIZED.replace(b"up", b"u\0p")),
    ("control byte", SIZED.replace(b"up", b"u\x1bp")),
    ("control byte in the reason", SIZED.replace(b"OK", b"O\x7fK")),
    ("obs-fold", SIZED.replace(b"up", b"up\r\n down")),
    ("blank before colon", SIZED.replace(b"Length:", b"Length :")),
    ("no colon", SIZED.replace(b"Server: up", b"Server")),
    ("no name", SIZED.replace(b"Server", b"")),
    ("blank line first", b"\r\n" + SIZED),
    ("garbage", b"hello\r\n\r\n"),
    ("HTTP/0.9", b"<html>hello</html>"),
    ("a request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    ("TLS", b"\x15\x03\x01\x00\x02\x02\x50"),
    ("HTTP/2", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00"),
    ("HTTP/2.0", SIZED.replace(b"1.1", b"2.0")),
    ("HTTP/1.2", SIZED.replace(b"1.1", b"1.2")),
    ("http/1.1", SIZED.replace(b"HTTP", b"http")),
    ("no status", SIZED.replace(b" 200 OK", b"")),
    ("status of two digits", SIZED.replace(b"200", b"20")),
    ("status of four digits", SIZED.replace(b"200", b"2000")),
    ("status below 100", SIZED.replace(b"200", b"099")),
    ("status above 599", SIZED.replace(b"200", b"600")),
    ("status with sign", SIZED.replace(b"200", b"+20")),
    ("two blanks", SIZED.replace(b" 200", b"  200")),
    ("TE and CL", SIZED.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked\r\n\r\n")),
    ("CL and TE", CHUNKED.replace(b"Transfer", b"Content-Length: 5\r\nTransfer")),
    ("TE and two CL", CHUNKED.replace(b"Transfer", b"Content-Length: 5\r\n" * 2 + b"Transfer")),
    ("TE on 1.0", CHUNKED.replace(b"1.1", b"1.0")),
    ("TE gzip", CHUNKED.replace(b"chunked", b"gzip")),
    ("TE gzip, chunked", CHUNKED.replace(b"chunked", b"gzip, chunked")),
    ("TE twice in one", CHUNKED.replace(b"chunked", b"chunked, chunked")),
    ("TE twice", CHUNKED.replace(b"Transfer", b"Transfer-Encoding: chunked\r\nTransfer")),
    ("TE identity", CHUNKED.replace(b"chunked", b"identity")),
    ("TE empty", CHUNKED.replace(b" chunked", b"")),
    ("TE with parameter", CHUNKED.replace(b"chunked", b"chunked;a=b")),
    ("CL twice", SIZED.replace(b"\r\n\r\n", b"\r\nContent-Length: 6\r\n\r\n")),
    ("CL of two values", SIZED.replace(b": 5", b": 5, 6")),
    ("CL with sign", SIZED.replace(b": 5", b": +5")),
    ("CL negative", SIZED.replace(b": 5", b": -5")),
    ("CL with underscore", SIZED.replace(b": 5", b": 1_0")),
    ("CL in other digits", SIZED.replace(b": 5", b": \xb2")),
    ("CL hexadecimal", SIZED.replace(b": 5", b": 0x5")),
    ("CL empty", SIZED.replace(b": 5", b":")),
    ("CL of 19 digits", SIZED.replace(b": 5", b": " + b"1" * 19)),
    ("CL of 5000 digits", SIZED.replace(b": 5", b": " + b"1" * 5000)),
    ("chunk size with blank", CHUNKED.replace(b"5\r\n", b"5 \r\n")),
    ("chunk size with sign", CHUNKED.replace(b"\r\n5\r\n", b"\r\n+5\r\n")),
    ("chunk size of 17 digits", CHUNKED.replace(b"5\r\nh", b"0" * 16 + b"5\r\nh")),
    ("chunk size empty", CHUNKED.replace(b"5\r\nh", b"\r\nh")),
    ("chunk size hexadecimal", CHUNKED.replace(b"5\r\nh", b"0x5\r\nh")),
    ("chunk extension broken", CHUNKED.replace(b"1;name=value", b"1;bad[")),
    ("chunk extension long", CHUNKED.replace(b"value", b"v" * 300)),
    ("chunk with bare LF", CHUNKED.replace(b"5\r\n", b"5\n")),
    ("chunk too long", CHUNKED.replace(b"hello", b"hello!")),
    ("chunk too short", CHUNKED.replace(b"hello", b"hell")),
    ("length in trailers", CHUNKED.replace(b"Trailer: dropped", b"Content-Length: 1")),
    ("folded trailer", CHUNKED.replace(b"dropped", b"a\r\n b")),
    ("long trailers", CHUNKED.replace(b"dropped", b"x" * 70_000)),
    ("long head", SIZED.replace(b"up", b"x" * 70_000)),
    ("long status line", SIZED.replace(b"OK", b"x" * 9_000)),
    ("many fields", SIZED.replace(b"Server: up\r\n", b"a: b\r\n" * 201)),
    ("unasked 101", SWITCH),
    ("interim HTTP/1.0", CONTINUE.replace(b"1.1", b"1.0") + SIZED),
    ("many interim responses", HINTS * 17 + SIZED),
    ("interim TE and CL", CHUNKED.replace(b"200", b"103").replace(b"T", b"Content-Length: 1\r\nT", 2)),
]  # fmt: skip


@pytest.mark.parametrize("data", [case[1] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_refused(data: bytes) -> None:
    seen = whole(data)
    assert names(seen)[-1] == "error"
    assert seen[-3][2] == 502
    assert ClientSignal.END not in names(seen)
    assert not idle(seen)
    assert bytewise(data) == seen


def test_a_101_says_to_what_it_switches() -> None:
    assert names(whole(SWITCH.replace(b"Upgrade: chat\r\n", b""), upgrade=True)) == ["error"]


def test_as_much_as_is_allowed() -> None:
    assert names(whole(SIZED.replace(b"up", b"x" * 60_000)))[-1] is ClientSignal.END
    assert names(whole(SIZED.replace(b"Server: up\r\n", b"a: b\r\n" * 199)))[-1] is ClientSignal.END
    assert names(whole(HINTS * 16 + SIZED))[-1] is ClientSignal.END


def test_nothing_is_read_after_an_error() -> None:
    protocol = ClientProtocol(LIMITS)
    protocol.begin("GET", upgrade=False)
    for data in (b"nonsense\r\n", SIZED, b""):
        protocol.receive(data)
        assert pull(protocol)[0][0] == "error"


def test_content_before_a_fault_is_handed_out() -> None:
    seen = whole(CHUNKED.replace(b"1;name", b"x;name"))
    assert names(seen) == ["head", "data", "error"]
    assert seen[1] == ("data", b"hello")


def test_a_stream_of_single_bytes_in_chunks_is_read() -> None:
    data = CHUNKED[: CHUNKED.index(b"5\r\n")] + b"1\r\nx\r\n" * 30_000 + b"0\r\n\r\n"
    assert whole(data)[1] == ("data", b"x" * 30_000)


# ---- any bytes at all ---------------------------------------------------------------------------

LINES = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 \r\n", b"HTTP/1.1 304\r\n",
    b"HTTP/1.1 100 Continue\r\n", b"HTTP/1.1 101 Switching Protocols\r\n", b"HTTP/2.0 200 OK\r\n",
    b"Content-Length: 3\r\n", b"content-length:3 \r\n", b"Content-Length: 4\r\n",
    b"Content-Length: 3, 3\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding: Chunked \r\n", b"Transfer-Encoding: gzip\r\n", b"Connection: close\r\n",
    b"Connection: keep-alive\r\n", b"Connection: Upgrade\r\n", b"Upgrade: chat\r\n", b"X: \xe9 a\t\r\n",
    b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"abc", b"3\r\nabc\r\n", b"0\r\n\r\n", b"0\r\n",
    b"1;x=y\r\nz\r\n",
    SIZED, CHUNKED, UNTIL_CLOSE, HINTS, CONTINUE, SWITCH, EMPTY, SIZED[:-2], CHUNKED[:-2],
]  # fmt: skip
LOOSE = st.lists(st.sampled_from(LINES) | st.binary(max_size=4), max_size=10).map(b"".join)
FRAMED = st.builds(
    lambda start, lines, content: b"".join([start, *lines, b"\r\n", content]),
    st.sampled_from(LINES[:6]),
    st.lists(st.sampled_from(LINES[7:20]), max_size=4),
    LOOSE,
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """An answer with one byte more, less, or changed."""
    data = draw(st.sampled_from([SIZED, CHUNKED, UNTIL_CLOSE, HINTS + SIZED, OLD, SWITCH]))
    at = draw(st.integers(0, len(data)))
    return data[:at] + draw(st.binary(max_size=1)) + data[at + draw(st.integers(0, 1)) :]


WIRE = LOOSE | FRAMED | damaged()
METHODS = st.sampled_from(["GET", "HEAD", "POST"])


@settings(max_examples=600, deadline=None)
@given(WIRE, st.lists(st.integers(0, 400), max_size=6), METHODS, st.booleans())
def test_pieces_make_no_difference(data: bytes, cuts: list[int], method: str, upgrade: bool) -> None:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[a:b] for a, b in pairwise(ends)]
    seen = whole(data, method, upgrade=upgrade)
    assert events(pieces, method, upgrade=upgrade) == seen
    assert bytewise(data, method, upgrade=upgrade) == seen


@settings(max_examples=600, deadline=None)
@given(WIRE, METHODS, st.booleans())
@example(SIZED + SIZED, "GET", False)
def test_there_is_one_answer_or_a_clean_error(data: bytes, method: str, upgrade: bool) -> None:
    seen = whole(data, method, upgrade=upgrade)
    heads = [event for event in seen if event[0] == "head"]
    final = [event for event in heads if event[1] == 101 or event[1] not in range(100, 200)]
    assert len(final) <= 1
    last = names(seen)[-1]
    assert last in (ClientSignal.END, ClientSignal.SWITCHED, "error")
    if last == "error":
        assert seen[-3][2] == 502
        return
    assert len(final) == 1
    assert as_h11_reads(data, method, upgrade=upgrade) == answer(seen)


def answer(seen: list[Seen]) -> Seen:
    """Statuses and content."""
    content = b"".join(event[1] for event in seen if event[0] == "data" and isinstance(event[1], bytes))
    return (*[event[1] for event in seen if event[0] == "head"], content)


def as_h11_reads(data: bytes, method: str, *, upgrade: bool) -> Seen:
    """The same by h11 alone, which takes more than we do, but nothing otherwise."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    asked = [("Host", "x"), *([("Connection", "Upgrade"), ("Upgrade", "chat")] if upgrade else [])]
    connection.send(h11.Request(method=method, target="/", headers=asked))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    connection.receive_data(b"")
    statuses: list[object] = []
    content = b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Data):
            content += event.data
        elif isinstance(event, h11.InformationalResponse | h11.Response):
            statuses.append(event.status_code)
            if event.status_code == 101:
                return (101, b"") if len(statuses) == 1 else (*statuses, b"")
        else:
            assert isinstance(event, h11.EndOfMessage)
            return (*statuses, content)


@settings(max_examples=300, deadline=None)
@given(st.lists(WIRE, min_size=1, max_size=5))
def test_what_is_remembered_changes_nothing(answers: list[bytes]) -> None:
    alone = []
    for data in answers:
        module._judge.cache_clear()
        alone.append(whole(data))
    assert [whole(data) for data in answers] == alone


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([SIZED, CHUNKED, EMPTY, HINTS + SIZED]), max_size=4), WIRE)
def test_an_exchange_knows_nothing_of_those_before(before: list[bytes], data: bytes) -> None:
    protocol = ClientProtocol(LIMITS)
    for earlier in before:
        protocol.begin("GET", upgrade=False)
        protocol.receive(earlier)
        pull(protocol)
    protocol.begin("GET", upgrade=False)
    protocol.receive(data) if data else None
    seen = pull(protocol)
    assert joined(seen) == events([data] if data else [], ended=False)[:-2]


# ---- how long it takes --------------------------------------------------------------------------


def seconds(pieces: list[bytes]) -> float:
    """The least of several runs."""
    taken = []
    for _ in range(5):
        protocol = ClientProtocol(LIMITS)
        protocol.begin("GET", upgrade=False)
        start = process_time()
        for piece in pieces:
            protocol.receive(piece)
            pull(protocol)
        taken.append(process_time() - start)
    return min(taken)


CHUNKED_HEAD = CHUNKED[: CHUNKED.index(b"5\r\n")]


@pytest.mark.parametrize(
    "unit",
    [
        lambda n: [CHUNKED_HEAD + b"1\r\nx\r\n" * n],
        lambda n: [CHUNKED_HEAD] + [b"1\r\nx\r\n"] * n,
        lambda n: [b"HTTP/1.1 200 OK\r\nA: "] + [b"xxxx"] * n,
        lambda n: [b"HTTP/1.1 200 OK\r\nA: " + b" " * 8 * n],
        lambda n: [b"HTTP/1.1 200 OK\r\n" + b"Connection: " + b",a " * 8 * n + b"\r\n\r\n"],
        lambda n: [CHUNKED_HEAD + b"0\r\n"] + [b"a:b\r\n"] * n,
        lambda n: [UNTIL_CLOSE] + [b"x" * 1000] * n,
    ],
    ids=[
        "tiny chunks",
        "one by one",
        "a slow head",
        "blanks",
        "a long list",
        "trailers",
        "until close",
    ],
)
def test_time_grows_as_the_bytes_do(unit: object) -> None:
    assert callable(unit)
    few, many = seconds(unit(500)), seconds(unit(4000))
    assert many < 24 * few + 0.005
