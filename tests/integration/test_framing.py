"""What is a request and where it ends (RFC 9112), against a real server with raw bytes.

Every refusal is tried as one write, a byte at a time, and right behind a good request; and every
one of them has a second request behind it, which must never be read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs, create_server
from tests.harness import Answer, Client, Running

Serve = Callable[[QuickServer], Running]
Case = tuple[str, bytes, set[int]]

GOOD = b"GET /ok HTTP/1.1\r\nHost: localhost\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
CLOSES_WITHIN = (
    1.0  # seconds; the aim is 0.1, and lingering (2) or a timeout (10) must not be waited for
)


@dataclass
class Target:
    """A running server and what its handlers have seen."""

    run: Running
    seen: list[object] = field(default_factory=list)

    def connect(self) -> Client:
        return self.run.connect()


@pytest.fixture
def target(serve: Serve) -> Target:
    server = create_server(("127.0.0.1", 0))
    seen: list[object] = []

    @server.text_get("/ok", 0)
    def ok(req: QuickServerRequestHandler, args: ReqArgs) -> str:
        return "ok"

    @server.json_post("/echo", 0)
    def echo(req: QuickServerRequestHandler, args: ReqArgs) -> object:
        seen.append(args["post"])
        return args["post"]

    @server.text_get("/smuggled")
    def smuggled(req: QuickServerRequestHandler, args: ReqArgs) -> str:
        seen.append("smuggled")
        return "smuggled"

    return Target(serve(server), seen)


def head(*fields: bytes, line: bytes = b"GET /ok HTTP/1.1", host: bytes = b"Host: localhost") -> bytes:
    return b"\r\n".join([line, *([host] if host else []), *fields, b"", b""])


def post(*fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    return head(*fields, line=b"POST /echo HTTP/" + version) + body


def whole(client: Client, data: bytes) -> None:
    client.send(data)


def bytewise(client: Client, data: bytes) -> None:
    """Single bytes; long data in some four hundred pieces, well before a lingering close is over."""
    step = max(1, len(data) // 400)
    for start in range(0, len(data), step):
        client.send(data[start : start + step])
        os.sched_yield()


def pipelined(client: Client, data: bytes) -> None:
    client.send(GOOD + data)
    assert client.answer().status == 200


DELIVERIES = [whole, bytewise, pipelined]
Deliver = Callable[[Client, bytes], None]

delivered = pytest.mark.parametrize("deliver", DELIVERIES, ids=[way.__name__ for way in DELIVERIES])


def cases(
    statuses: set[int], named: Iterable[tuple[str, bytes]]
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Parametrizes a test over named requests and the statuses that are right for them."""
    parameters = [pytest.param(data, statuses, id=name) for name, data in named]
    return pytest.mark.parametrize(("data", "statuses"), parameters)


def refused(target: Target, deliver: Deliver, data: bytes, statuses: set[int]) -> Answer:
    """The answer to a bad request, after which the server says no more and closes."""
    client = target.connect()
    deliver(client, data + SMUGGLED)
    sent = time.monotonic()
    answer = client.answer()
    assert answer.status in statuses, answer
    assert (answer.get("connection") or "").lower() == "close", answer
    assert client.at_end(), f"something came after the error: {client.rest!r}"
    assert time.monotonic() - sent < CLOSES_WITHIN, "the close came late"
    assert target.seen == []
    assert target.run.get("/ok").status == 200, "the server does not go on for others"
    return answer


def accepted(target: Target, deliver: Deliver, data: bytes) -> Answer:
    """The answer to a good request, whose connection takes the next one."""
    client = target.connect()
    deliver(client, data + GOOD)
    answer = client.answer()
    following = client.answer()
    assert (following.status, following.body) == (200, b"ok")
    return answer


CHUNKED = b"Transfer-Encoding: chunked"
JSON = b"Content-Type: application/json"
LAST = b"0\r\n\r\n"


@delivered
@cases(
    {400},
    [
        ("coding-then-length", post(CHUNKED, b"Content-Length: 5", body=LAST)),
        ("length-then-coding", post(b"Content-Length: 5", CHUNKED, body=LAST)),
        ("length-zero", post(CHUNKED, b"Content-Length: 0", body=LAST)),
        ("length-that-fits", post(CHUNKED, b"Content-Length: 15", body=b"5\r\nhello\r\n" + LAST)),
        ("upper-case", post(b"TRANSFER-ENCODING: CHUNKED", b"CONTENT-LENGTH: 5", body=LAST)),
        ("get", head(CHUNKED, b"Content-Length: 5") + LAST),
        ("http-1.0", post(CHUNKED, b"Content-Length: 5", body=LAST, version=b"1.0")),
        ("length-is-bad", post(CHUNKED, b"Content-Length: x", body=LAST)),
        ("length-is-empty", post(CHUNKED, b"Content-Length:", body=LAST)),
        ("length-in-the-middle", post(CHUNKED, b"Content-Length: 5", CHUNKED, body=LAST)),
        ("no-body-sent", post(CHUNKED, b"Content-Length: 5")),
    ],
)
def test_transfer_encoding_beside_content_length(
    target: Target, deliver: Deliver, data: bytes, statuses: set[int]
) -> None:
    refused(target, deliver, data, statuses)


@delivered
@cases(
    {400, 501},
    [
        ("gzip", post(b"Transfer-Encoding: gzip", body=LAST)),
        ("identity", post(b"Transfer-Encoding: identity", body=LAST)),
        ("cow", post(b"Transfer-Encoding: cow", body=LAST)),
        ("xchunked", post(b"Transfer-Encoding: xchunked", body=LAST)),
        ("chunkedx", post(b"Transfer-Encoding: chunkedx", body=LAST)),
        ("chun-ked", post(b"Transfer-Encoding: chun ked", body=LAST)),
        ("quoted", post(b'Transfer-Encoding: "chunked"', body=LAST)),
        ("parameter", post(b"Transfer-Encoding: chunked;q=1", body=LAST)),
        ("empty", post(b"Transfer-Encoding:", body=LAST)),
        ("comma", post(b"Transfer-Encoding: ,", body=LAST)),
        ("gzip-then-chunked", post(b"Transfer-Encoding: gzip, chunked", body=LAST)),
        ("chunked-then-gzip", post(b"Transfer-Encoding: chunked, gzip", body=LAST)),
        ("two-fields-cow", post(CHUNKED, b"Transfer-Encoding: cow", body=LAST)),
        ("two-fields-cow-first", post(b"Transfer-Encoding: cow", CHUNKED, body=LAST)),
        ("two-fields-identity", post(CHUNKED, b"Transfer-Encoding: identity", body=LAST)),
        ("unknown-with-length", post(b"Transfer-Encoding: cow", b"Content-Length: 5", body=LAST)),
        (
            "identity-with-length",
            post(b"Transfer-Encoding: identity", b"Content-Length: 5", body=LAST),
        ),
        ("non-ascii", post(b"Transfer-Encoding: chunked\xa0", body=LAST)),
        ("get", head(b"Transfer-Encoding: cow") + LAST),
    ],
)
def test_other_transfer_encodings(
    target: Target, deliver: Deliver, data: bytes, statuses: set[int]
) -> None:
    refused(target, deliver, data, statuses)


@delivered
@cases(
    {400},
    [
        ("twice-in-a-list", post(b"Transfer-Encoding: chunked, chunked", body=LAST)),
        ("twice-without-blank", post(b"Transfer-Encoding: chunked,chunked", body=LAST)),
        ("two-fields", post(CHUNKED, CHUNKED, body=LAST)),
        ("http-1.0", post(CHUNKED, body=LAST, version=b"1.0")),
        (
            "http-1.0-keep-alive",
            post(CHUNKED, b"Connection: keep-alive", body=LAST, version=b"1.0"),
        ),
        ("vertical-tab", post(b"Transfer-Encoding: \x0bchunked", body=LAST)),
        ("form-feed", post(b"Transfer-Encoding: chunked\x0c", body=LAST)),
        ("nul", post(b"Transfer-Encoding: chunked\x00", body=LAST)),
        ("space-before-colon", post(b"Transfer-Encoding : chunked", body=LAST)),
        ("folded", post(b"Transfer-Encoding:\r\n chunked", body=LAST)),
        ("folded-after", post(b"Transfer-Encoding: chunked\r\n ,gzip", body=LAST)),
        ("behind-a-bare-lf", post(b"X: y\nTransfer-Encoding: chunked", body=LAST)),
        ("behind-a-bare-cr", post(b"X: y\rTransfer-Encoding: chunked", body=LAST)),
        ("indented", post(b" Transfer-Encoding: chunked", body=LAST)),
    ],
)
def test_hidden_or_repeated_chunked(
    target: Target, deliver: Deliver, data: bytes, statuses: set[int]
) -> None:
    refused(target, deliver, data, statuses)


LENGTHS = {
    "plus": b"+5",
    "minus": b"-5",
    "minus-zero": b"-0",
    "underscore": b"1_0",
    "hex": b"0x5",
    "hex-digits": b"a",
    "empty": b"",
    "point": b"5.0",
    "exponent": b"1e1",
    "quoted": b'"5"',
    "semicolon": b"5;",
    "two-numbers": b"5 5",
    "different-list": b"5, 6",
    "different-list-no-blank": b"5,6",
    "different-later": b"5, 5, 6",
    "list-with-junk": b"5, x",
    "comma-only": b",",
    "arabic-digits": "\u0665".encode(),
    "full-width-digits": "\uff15".encode(),
    "superscript-latin1": b"\xb2",
    "no-break-space": b"5\xa0",
    "nul": b"5\x00",
    "vertical-tab": b"\x0b5",
}


@delivered
@cases({400}, [(name, post(b"Content-Length: " + v, body=b"12345")) for name, v in LENGTHS.items()])
def test_odd_content_lengths(target: Target, deliver: Deliver, data: bytes, statuses: set[int]) -> None:
    refused(target, deliver, data, statuses)


@delivered
@cases(
    {400},
    [
        ("two-fields", post(b"Content-Length: 5", b"Content-Length: 6", body=b"12345")),
        ("apart", post(b"Content-Length: 5", b"X: y", b"content-length: 0", body=b"12345")),
        ("second-empty", post(b"Content-Length: 5", b"Content-Length:", body=b"12345")),
        (
            "same-number-other-text",
            post(b"Content-Length: 5", b"Content-Length: +5", body=b"12345"),
        ),
        ("space-before-colon", post(b"Content-Length : 5", body=b"12345")),
        ("folded", post(b"Content-Length:\r\n 5", body=b"12345")),
        ("folded-number", post(b"Content-Length: 1\r\n 0", body=b"12345")),
        ("get", head(b"Content-Length: x")),
        ("get-two-fields", head(b"Content-Length: 0", b"Content-Length: 5")),
        ("http-1.0", post(b"Content-Length: -1", version=b"1.0")),
    ],
)
def test_contradicting_content_lengths(
    target: Target, deliver: Deliver, data: bytes, statuses: set[int]
) -> None:
    refused(target, deliver, data, statuses)


@delivered
@cases(
    {400, 413},
    [
        ("20-digits", post(b"Content-Length: 99999999999999999999")),
        ("2**64", post(b"Content-Length: 18446744073709551616")),
        ("2**63", post(b"Content-Length: 9223372036854775808")),
        ("2**32+5", post(b"Content-Length: 4294967301", body=b"12345")),
        ("5000-digits", post(b"Content-Length: " + b"9" * 5000)),
        ("get", head(b"Content-Length: 99999999999999999999")),
    ],
)
def test_huge_content_lengths(
    target: Target, deliver: Deliver, data: bytes, statuses: set[int]
) -> None:
    refused(target, deliver, data, statuses)


@delivered
@cases(
    {413},
    [
        ("one-more-than-allowed", post(b"Content-Length: 1001")),
        ("one-chunk", post(CHUNKED, body=b"3e9\r\n" + b"x" * 1001 + b"\r\n" + LAST)),
        ("chunk-only-announced", post(CHUNKED, body=b"3e9\r\n")),
        ("many-chunks", post(CHUNKED, body=(b"64\r\n" + b"x" * 100 + b"\r\n") * 11 + LAST)),
    ],
)
def test_bodies_above_the_limit(
    target: Target, deliver: Deliver, data: bytes, statuses: set[int]
) -> None:
    target.run.server.max_file_size = 1000
    refused(target, deliver, data, statuses)


@delivered
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([b"Content-Length: 7"], id="length"),
        pytest.param([b"Content-Length: 07"], id="leading-zero"),
        pytest.param([b"Content-Length:7"], id="no-blank"),
        pytest.param([b"Content-Length: \t 7 \t"], id="blanks-around"),
        pytest.param([b"content-length: 7"], id="lower-case"),
        pytest.param([b"Transfer_Encoding: chunked", b"Content-Length: 7"], id="underscore-name"),
        pytest.param([b"X-Transfer-Encoding: chunked", b"Content-Length: 7"], id="other-name"),
    ],
)
def test_sized_bodies(target: Target, deliver: Deliver, fields: list[bytes]) -> None:
    answer = accepted(target, deliver, post(JSON, *fields, body=b'["ab"]\n'))
    assert (answer.status, target.seen) == (200, [["ab"]])


@delivered
@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([b"Content-Length: 6, 6"], id="list"),
        pytest.param([b"Content-Length: 6", b"Content-Length: 6"], id="fields"),
    ],
)
def test_equal_content_lengths_are_one_or_an_error(
    target: Target, deliver: Deliver, fields: list[bytes]
) -> None:
    client = target.connect()
    deliver(client, post(JSON, *fields, body=b'["ab"]') + GOOD)
    answer = client.answer()
    if answer.status == 200:
        assert target.seen == [["ab"]]
        assert client.answer().body == b"ok"
    else:
        assert answer.status == 400
        assert client.at_end()
        assert target.seen == []


def test_no_body_without_length_or_coding(target: Target) -> None:
    answer = accepted(target, whole, post(JSON))
    assert (answer.status, target.seen) == (200, [{}])


@delivered
@cases(
    {400},
    [
        ("cr-in-value", head(b"X: a\rb")),
        ("cr-before-field", head(b"X: a\rY: b")),
        ("cr-before-crlf", head(b"X: a\r")),
        ("cr-in-name", head(b"X\rY: a")),
        ("cr-in-request-line", head(line=b"GET /ok\r HTTP/1.1")),
        ("cr-after-request-line", head(line=b"GET /ok HTTP/1.1\r")),
        ("cr-as-line-end", b"GET /ok HTTP/1.1\rHost: localhost\r\r\n\r\n"),
        ("lf-in-value", head(b"X: a\nb")),
        ("lf-after-field", b"GET /ok HTTP/1.1\r\nHost: localhost\nX: y\r\n\r\n"),
        ("lf-after-request-line", b"GET /ok HTTP/1.1\nHost: localhost\r\n\r\n"),
        ("lf-as-every-line-end", b"GET /ok HTTP/1.1\nHost: localhost\n\n"),
        ("lf-at-the-end", b"GET /ok HTTP/1.1\r\nHost: localhost\r\n\n"),
        ("lf-lf-at-the-end", b"GET /ok HTTP/1.1\r\nHost: localhost\n\n"),
        ("lf-hides-a-field", head(b"X: y\nContent-Length: 45")),
        ("lf-then-crlf", head(b"X: a\n")),
    ],
)
def test_bare_cr_and_lf(target: Target, deliver: Deliver, data: bytes, statuses: set[int]) -> None:
    refused(target, deliver, data, statuses)


CONTROLS = [*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F]


@pytest.mark.parametrize("code", CONTROLS, ids=hex)
@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda c: head(b"X: a" + c + b"b"), id="in-value"),
        pytest.param(lambda c: head(b"X: " + c), id="is-value"),
        pytest.param(lambda c: head(b"X" + c + b": a"), id="in-name"),
        pytest.param(lambda c: head(line=b"GET /o" + c + b"k HTTP/1.1"), id="in-target"),
        pytest.param(lambda c: head(line=b"G" + c + b"T /ok HTTP/1.1"), id="in-method"),
        pytest.param(lambda c: head(host=b"Host: local" + c + b"host"), id="in-host"),
    ],
)
def test_control_characters(target: Target, code: int, place: Callable[[bytes], bytes]) -> None:
    for deliver in DELIVERIES:
        refused(target, deliver, place(bytes([code])), {400})


@delivered
@cases(
    {400},
    [
        ("space-before-colon", head(b"X : y")),
        ("tab-before-colon", head(b"X\t: y")),
        ("space-before-host-colon", head(host=b"Host : localhost")),
        ("space-in-name", head(b"X Y: z")),
        ("no-colon", head(b"nothing")),
        ("no-name", head(b": y")),
        ("only-a-colon", head(b":")),
        ("parenthesis-in-name", head(b"X(y): z")),
        ("at-in-name", head(b"X@y: z")),
        ("quote-in-name", head(b'"X": z')),
        ("slash-in-name", head(b"X/Y: z")),
        ("latin1-in-name", head(b"Caf\xe9: z")),
        ("utf8-in-name", head("\uff28ost: z".encode())),
        ("folded", head(b"X: a\r\n b")),
        ("folded-by-tab", head(b"X: a\r\n\tb")),
        ("folded-empty", head(b"X: a\r\n ")),
        ("folded-host", head(host=b"Host: local\r\n host")),
        ("blank-before-first", b"GET /ok HTTP/1.1\r\n Host: localhost\r\n\r\n"),
        ("tab-before-first", b"GET /ok HTTP/1.1\r\n\tX: y\r\nHost: localhost\r\n\r\n"),
        ("blank-line-with-a-space", b"GET /ok HTTP/1.1\r\n \r\nHost: localhost\r\n\r\n"),
    ],
)
def test_malformed_fields(target: Target, deliver: Deliver, data: bytes, statuses: set[int]) -> None:
    refused(target, deliver, data, statuses)


@delivered
@cases(
    {400},
    [
        ("two-blanks-after-method", head(line=b"GET  /ok HTTP/1.1")),
        ("two-blanks-after-target", head(line=b"GET /ok  HTTP/1.1")),
        ("tab", head(line=b"GET\t/ok\tHTTP/1.1")),
        ("blank-at-the-start", head(line=b" GET /ok HTTP/1.1")),
        ("blank-at-the-end", head(line=b"GET /ok HTTP/1.1 ")),
        ("blank-in-target", head(line=b"GET /o k HTTP/1.1")),
        ("no-target", head(line=b"GET HTTP/1.1")),
        ("no-version", head(line=b"GET /ok")),
        ("only-a-method", head(line=b"GET")),
        ("method-of-separators", head(line=b"GE(T /ok HTTP/1.1")),
        ("method-latin1", head(line=b"G\xc9T /ok HTTP/1.1")),
        ("target-latin1", head(line=b"GET /\xe9 HTTP/1.1")),
        ("target-utf8", head(line="GET /ü HTTP/1.1".encode())),
        ("noise", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        ("noise-printable", b"hello there, how are you?\r\n\r\n"),
    ],
)
def test_malformed_request_lines(
    target: Target, deliver: Deliver, data: bytes, statuses: set[int]
) -> None:
    refused(target, deliver, data, statuses)


@delivered
@cases(
    {400},
    [
        ("none", head(host=b"")),
        ("twice", head(b"Host: localhost")),
        ("two-different", head(b"Host: 127.0.0.1")),
        ("two-in-1.0", head(b"Host: localhost", line=b"GET /ok HTTP/1.0")),
        ("list", head(host=b"Host: localhost, localhost")),
        ("comma", head(host=b"Host: localhost,")),
        ("blank", head(host=b"Host: local host")),
        ("tab", head(host=b"Host: local\thost")),
        ("userinfo", head(host=b"Host: user@localhost")),
        ("path", head(host=b"Host: localhost/ok")),
        ("query", head(host=b"Host: localhost?x")),
        ("fragment", head(host=b"Host: localhost#x")),
        ("url", head(host=b"Host: http://localhost")),
        ("backslash", head(host=b"Host: localhost\\x")),
        ("angle", head(host=b"Host: <localhost>")),
        ("quote", head(host=b'Host: "localhost"')),
        ("latin1", head(host=b"Host: localh\xf6st")),
        ("utf8", head(host="Host: \uff4cocalhost".encode())),
        ("port-letters", head(host=b"Host: localhost:http")),
        ("port-negative", head(host=b"Host: localhost:-1")),
        ("port-plus", head(host=b"Host: localhost:+80")),
        ("two-ports", head(host=b"Host: localhost:80:80")),
        ("open-bracket", head(host=b"Host: [::1")),
        ("junk-after-bracket", head(host=b"Host: [::1]x")),
        ("bad-percent", head(host=b"Host: local%zzhost")),
    ],
)
def test_missing_repeated_and_illegal_hosts(
    target: Target, deliver: Deliver, data: bytes, statuses: set[int]
) -> None:
    refused(target, deliver, data, statuses)


def test_an_empty_host_is_not_ours(target: Target) -> None:
    answer = target.connect().send(head(host=b"Host:")).answer()
    assert answer.status in (400, 421)


@delivered
@pytest.mark.parametrize(
    "value",
    [
        b"localhost",
        b"LOCALHOST",
        b"localhost:80",
        b"127.0.0.1",
        b"127.0.0.1:8080",
        b"[::1]",
        b"[::1]:80",
    ],
    ids=bytes.decode,
)
def test_good_hosts(target: Target, deliver: Deliver, value: bytes) -> None:
    assert accepted(target, deliver, head(host=b"Host: " + value)).body == b"ok"


@pytest.mark.parametrize("status", [400, 414])
def test_a_refused_head_request_gets_no_content(target: Target, status: int) -> None:
    data = head(line=b"HEAD /ok HTTP/1.1", host=b"") if status == 400 else b"HEAD /" + b"a" * 9000
    client = target.connect().send(data)
    answer = client.answer(head_only=True)
    assert (answer.status, answer.get("connection")) == (status, "close")
    assert int(answer.get("content-length") or 0) > 0
    assert client.at_end(), client.rest


def test_http_1_0_needs_no_host(target: Target) -> None:
    assert target.connect().send(b"GET /ok HTTP/1.0\r\n\r\n").answer().body == b"ok"


@delivered
@cases(
    {505},
    [
        ("2.0", head(line=b"GET /ok HTTP/2.0")),
        ("3.0", head(line=b"GET /ok HTTP/3.0")),
        ("0.9", head(line=b"GET /ok HTTP/0.9")),
        ("0.0", head(line=b"GET /ok HTTP/0.0")),
        ("9.9", head(line=b"GET /ok HTTP/9.9")),
        ("2.0-without-host", head(line=b"GET /ok HTTP/2.0", host=b"")),
    ],
)
def test_other_versions(target: Target, deliver: Deliver, data: bytes, statuses: set[int]) -> None:
    refused(target, deliver, data, statuses)


@delivered
@cases(
    {400, 505},
    [
        ("one-number", head(line=b"GET /ok HTTP/1")),
        ("two-digits", head(line=b"GET /ok HTTP/1.10")),
        ("leading-zero", head(line=b"GET /ok HTTP/01.1")),
        ("three-numbers", head(line=b"GET /ok HTTP/1.1.1")),
        ("no-point", head(line=b"GET /ok HTTP/11")),
        ("letters", head(line=b"GET /ok HTTP/a.b")),
        ("comma", head(line=b"GET /ok HTTP/1,1")),
        ("sign", head(line=b"GET /ok HTTP/+1.1")),
        ("arabic-digits", head(line="GET /ok HTTP/1.\u0661".encode())),
        ("lower-case", head(line=b"GET /ok http/1.1")),
        ("other-name", head(line=b"GET /ok HTCPCP/1.1")),
        ("no-slash", head(line=b"GET /ok HTTP1.1")),
        ("http2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ],
)
def test_malformed_versions(target: Target, deliver: Deliver, data: bytes, statuses: set[int]) -> None:
    refused(target, deliver, data, statuses)


def test_a_later_minor_version_is_read_as_1_1_or_refused(target: Target) -> None:
    client = target.connect().send(head(line=b"GET /ok HTTP/1.2"))
    answer = client.answer()
    assert answer.status in (200, 505)
    assert answer.version == "HTTP/1.1"


@delivered
@cases(
    {414},
    [
        ("9-kib-target", head(line=b"GET /" + b"a" * 9000 + b" HTTP/1.1")),
        ("9-kib-query", head(line=b"GET /ok?" + b"a" * 9000 + b" HTTP/1.1")),
        ("100-kib-target", head(line=b"GET /" + b"a" * 100_000 + b" HTTP/1.1")),
        ("one-over", head(line=b"GET /" + b"a" * (8192 - 13) + b" HTTP/1.1")),
        ("absolute-form", head(line=b"GET http://localhost/" + b"a" * 9000 + b" HTTP/1.1")),
    ],
)
def test_long_request_lines(target: Target, deliver: Deliver, data: bytes, statuses: set[int]) -> None:
    refused(target, deliver, data, statuses)


@delivered
def test_a_long_method(target: Target, deliver: Deliver) -> None:
    refused(target, deliver, head(line=b"A" * 9000 + b" /ok HTTP/1.1"), {400, 414, 501})


def endless(target: Target, data: bytes, status: int) -> None:
    """Bytes of a head that does not end are refused when the limit is crossed, not later."""
    client = target.connect().send(data)
    sent = time.monotonic()
    answer = client.answer()
    assert answer.status == status
    assert client.at_end()
    assert time.monotonic() - sent < CLOSES_WITHIN


def test_a_request_line_without_end(target: Target) -> None:
    endless(target, b"GET /" + b"a" * 9000, 414)


def test_a_head_without_end(target: Target) -> None:
    endless(target, b"GET /ok HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 17_000, 431)


def test_fields_without_end(target: Target) -> None:
    endless(target, b"GET /ok HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 3000, 431)


@delivered
@cases(
    {431},
    [
        ("one-long-field", head(b"X: " + b"a" * 17_000)),
        ("one-long-name", head(b"a" * 17_000 + b": x")),
        ("four-long-fields", head(*[b"X: " + b"a" * 4200] * 4)),
        ("101-fields", head(*[b"X: y"] * 100)),
        ("500-kb-at-once", head(*[b"X: " + b"a" * 5000] * 100)),
        ("1000-fields", head(*[b"X%d: y" % n for n in range(1000)])),
        ("long-and-with-a-body", post(b"X: " + b"a" * 17_000, b"Content-Length: 5", body=b"12345")),
    ],
)
def test_large_heads(target: Target, deliver: Deliver, data: bytes, statuses: set[int]) -> None:
    refused(target, deliver, data, statuses)


@delivered
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(head(b"X: " + b"a" * 8000), id="8-kb-field"),
        pytest.param(head(*[b"X: " + b"a" * 5000] * 3), id="15-kb-head"),
        pytest.param(head(*[b"X: y"] * 99), id="100-fields"),
        pytest.param(head(line=b"GET /ok?" + b"a" * 8000 + b" HTTP/1.1"), id="8-kb-target"),
    ],
)
def test_heads_within_the_limits(target: Target, deliver: Deliver, data: bytes) -> None:
    assert accepted(target, deliver, data).body == b"ok"


@delivered
@pytest.mark.parametrize(
    "field_",
    [
        pytest.param(b"X:y", id="no-blank"),
        pytest.param(b"X:", id="empty"),
        pytest.param(b"X: \t y \t ", id="blanks-around"),
        pytest.param(b"X: a\tb", id="tab-inside"),
        pytest.param(b"X: caf\xe9", id="latin1-value"),
        pytest.param("X: ü".encode(), id="utf8-value"),
        pytest.param(b"!#$%&'*+-.^_`|~09azAZ: y", id="every-token-character"),
        pytest.param(b'X: "(),/:;<=>?@[\\]{}', id="every-separator"),
    ],
)
def test_unusual_but_good_fields(target: Target, deliver: Deliver, field_: bytes) -> None:
    assert accepted(target, deliver, head(field_)).body == b"ok"


def test_an_empty_line_before_a_request_is_skipped(target: Target) -> None:
    assert accepted(target, whole, b"\r\n" + GOOD).body == b"ok"


@delivered
@cases(
    {400},
    [
        ("asterisk-get", head(line=b"GET * HTTP/1.1")),
        ("asterisk-post", head(b"Content-Length: 0", line=b"POST * HTTP/1.1")),
        ("authority-get", head(line=b"GET localhost:80 HTTP/1.1")),
        ("no-slash", head(line=b"GET ok HTTP/1.1")),
        ("query-only", head(line=b"GET ?x HTTP/1.1")),
        ("backslash", head(line=b"GET \\ok HTTP/1.1")),
        ("asterisk-path", head(line=b"OPTIONS *x HTTP/1.1")),
        ("absolute-without-host", head(line=b"GET http:///ok HTTP/1.1")),
        ("absolute-userinfo", head(line=b"GET http://me@localhost/ok HTTP/1.1")),
        ("absolute-bad-port", head(line=b"GET http://localhost:x/ok HTTP/1.1")),
    ],
)
def test_targets_that_fit_no_form(
    target: Target, deliver: Deliver, data: bytes, statuses: set[int]
) -> None:
    refused(target, deliver, data, statuses)


@delivered
@cases(
    {400, 405, 501},
    [
        ("connect", head(line=b"CONNECT localhost:80 HTTP/1.1", host=b"Host: localhost:80")),
        ("connect-without-port", head(line=b"CONNECT localhost HTTP/1.1")),
        ("connect-path", head(line=b"CONNECT /ok HTTP/1.1")),
    ],
)
def test_connect(target: Target, deliver: Deliver, data: bytes, statuses: set[int]) -> None:
    client = target.connect()
    deliver(client, data)
    assert client.answer().status in statuses


@delivered
@pytest.mark.parametrize(
    "uri",
    [
        b"http://localhost/ok",
        b"HTTP://LOCALHOST/ok",
        b"http://localhost:8080/ok",
        b"http://127.0.0.1/ok",
        b"http://[::1]:80/ok",
        b"http://localhost/ok?a=b",
    ],
    ids=bytes.decode,
)
def test_absolute_form(target: Target, deliver: Deliver, uri: bytes) -> None:
    assert accepted(target, deliver, head(line=b"GET " + uri + b" HTTP/1.1")).body == b"ok"


def test_absolute_form_still_needs_a_host(target: Target) -> None:
    refused(target, whole, head(line=b"GET http://localhost/ok HTTP/1.1", host=b""), {400})


def test_options_asterisk_is_answered(target: Target) -> None:
    answer = accepted(target, whole, head(line=b"OPTIONS * HTTP/1.1"))
    assert answer.status in (200, 204, 405)


@delivered
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket", b"TLS/1.0, HTTP/1.1"], ids=bytes.decode)
def test_an_upgrade_nobody_offers_is_ignored(target: Target, deliver: Deliver, protocol: bytes) -> None:
    fields = [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: " + protocol, b"HTTP2-Settings: AA"]
    assert accepted(target, deliver, head(*fields)).body == b"ok"
    answer = accepted(target, deliver, post(JSON, *fields, b"Content-Length: 3", body=b"[1]"))
    assert (answer.status, target.seen) == (200, [[1]])


def chunked(body: bytes) -> bytes:
    return post(JSON, CHUNKED, body=body)


@delivered
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'6\r\n["ab"]\r\n0\r\n\r\n', id="one-chunk"),
        pytest.param(b'1\r\n[\r\n4\r\n"ab"\r\n1\r\n]\r\n0\r\n\r\n', id="three-chunks"),
        pytest.param(b'006\r\n["ab"]\r\n000\r\n\r\n', id="leading-zeros"),
        pytest.param(b'B\r\n     ["ab"]\r\n0\r\n\r\n', id="upper-case-hex"),
        pytest.param(b'b\r\n     ["ab"]\r\n0\r\n\r\n', id="lower-case-hex"),
        pytest.param(b'6;a\r\n["ab"]\r\n0\r\n\r\n', id="extension"),
        pytest.param(b'6;a=b;c="d e"\r\n["ab"]\r\n0;x=y\r\n\r\n', id="extensions"),
        pytest.param(b'6\r\n["ab"]\r\n0\r\nX: y\r\n\r\n', id="trailer"),
        pytest.param(b'6\r\n["ab"]\r\n0\r\nX: y\r\nZ:\r\n\r\n', id="trailers"),
    ],
)
def test_chunked_bodies(target: Target, deliver: Deliver, body: bytes) -> None:
    answer = accepted(target, deliver, chunked(body))
    assert (answer.status, target.seen) == (200, [["ab"]])


@delivered
@pytest.mark.parametrize("coding", [b"Chunked", b"CHUNKED", b"\t chunked\t "], ids=repr)
def test_spellings_of_chunked(target: Target, deliver: Deliver, coding: bytes) -> None:
    data = post(JSON, b"Transfer-Encoding: " + coding, body=b'6\r\n["ab"]\r\n0\r\n\r\n')
    assert accepted(target, deliver, data).status == 200
    assert target.seen == [["ab"]]


def test_a_binary_body_with_line_ends_inside(target: Target) -> None:
    text = b'["GET / HTTP/1.1\\r\\n",\r\n\r\n0\r\n\r\n]'
    answer = accepted(target, whole, chunked(b"%x\r\n%s\r\n0\r\n\r\n" % (len(text), text)))
    assert (answer.status, target.seen) == (200, [["GET / HTTP/1.1\r\n", 0]])


BAD_CHUNKS = {
    "hex-prefix": b"0x5\r\nhello\r\n" + LAST,
    "plus": b"+5\r\nhello\r\n" + LAST,
    "minus": b"-5\r\nhello\r\n" + LAST,
    "underscore": b"0_5\r\nhello\r\n" + LAST,
    "blank-after-size": b"5 \r\nhello\r\n" + LAST,
    "tab-after-size": b"5\t\r\nhello\r\n" + LAST,
    "blank-before-size": b" 5\r\nhello\r\n" + LAST,
    "empty-size": b"\r\nhello\r\n" + LAST,
    "only-an-extension": b";a=b\r\nhello\r\n" + LAST,
    "letter": b"g\r\nhello\r\n" + LAST,
    "two-sizes": b"5 5\r\nhello\r\n" + LAST,
    "quoted-size": b'"5"\r\nhello\r\n' + LAST,
    "arabic-size": "\u0665\r\nhello\r\n".encode() + LAST,
    "nul-in-size": b"5\x00\r\nhello\r\n" + LAST,
    "data-longer": b"5\r\nhello!\r\n" + LAST,
    "data-shorter": b"7\r\nhello\r\n" + LAST,
    "no-crlf-after-data": b"5\r\nhello0\r\n\r\n",
    "two-bytes-instead-of-crlf": b"5\r\nhelloXX0\r\n\r\n",
    "cr-only-after-data": b"5\r\nhello\r0\r\n\r\n",
    "lf-after-size": b"5\nhello\r\n" + LAST,
    "lf-after-data": b"5\r\nhello\n" + LAST,
    "cr-only-after-size": b"5\rhello\r\n" + LAST,
    "cr-cr-lf-after-size": b"5\r\r\nhello\r\n" + LAST,
    "lf-after-last": b"5\r\nhello\r\n0\n\r\n",
    "lf-lf-after-last": b"5\r\nhello\r\n0\n\n",
    "lf-at-the-end": b"5\r\nhello\r\n0\r\n\n",
    "lf-in-extension": b"5;a\nb\r\nhello\r\n" + LAST,
    "cr-in-extension": b"5;a\rb\r\nhello\r\n" + LAST,
    "nul-in-extension": b"5;a\x00\r\nhello\r\n" + LAST,
    "control-in-extension": b"5;a\x01\r\nhello\r\n" + LAST,
    "extension-without-name": b"5;\r\nhello\r\n" + LAST,
    "extension-of-brackets": b"5;bad[\r\nhello\r\n" + LAST,
    "extension-open-quote": b'5;a="b\r\nhello\r\n' + LAST,
    "long-extension": b"5;a=" + b"b" * 300 + b"\r\nhello\r\n" + LAST,
    "long-extension-of-last": b"5\r\nhello\r\n0;a=" + b"b" * 300 + b"\r\n\r\n",
    "endless-extension": b"5;a=" + b"b" * 20_000,
    "trailer-without-colon": b"5\r\nhello\r\n0\r\nnothing\r\n\r\n",
    "trailer-space-before-colon": b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
    "trailer-folded": b"5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n",
    "trailer-nul": b"5\r\nhello\r\n0\r\nX: a\x00b\r\n\r\n",
    "trailer-lf": b"5\r\nhello\r\n0\r\nX: a\nY: b\r\n\r\n",
    "trailer-cr": b"5\r\nhello\r\n0\r\nX: a\rY: b\r\n\r\n",
    "trailer-starts-with-blank": b"5\r\nhello\r\n0\r\n X: a\r\n\r\n",
    "request-as-trailer": b"5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\n\r\n",
}


@delivered
@cases({400}, [(name, chunked(body)) for name, body in BAD_CHUNKS.items()])
def test_bad_chunks(target: Target, deliver: Deliver, data: bytes, statuses: set[int]) -> None:
    refused(target, deliver, data, statuses)


@delivered
@cases(
    {400, 413},
    [
        ("17-digits", chunked(b"f" * 17 + b"\r\nhello\r\n" + LAST)),
        ("16-digits", chunked(b"f" * 16 + b"\r\nhello\r\n" + LAST)),
        ("wraps-to-five", chunked(b"10000000000000005\r\nhello\r\n" + LAST)),
        ("1000-digits", chunked(b"1" * 1000 + b"\r\nhello\r\n" + LAST)),
        ("20000-zeros", chunked(b"0" * 20_000 + b"5\r\nhello\r\n" + LAST)),
    ],
)
def test_huge_chunk_sizes(target: Target, deliver: Deliver, data: bytes, statuses: set[int]) -> None:
    refused(target, deliver, data, statuses)


@delivered
@cases(
    {400, 413, 431},
    [
        ("one-long", chunked(b"5\r\nhello\r\n0\r\nX: " + b"a" * 20_000 + b"\r\n\r\n")),
        ("long-together", chunked(b"5\r\nhello\r\n0\r\n" + b"X: aaaaaaaa\r\n" * 2000 + b"\r\n")),
    ],
)
def test_large_trailers(target: Target, deliver: Deliver, data: bytes, statuses: set[int]) -> None:
    refused(target, deliver, data, statuses)


@delivered
@pytest.mark.parametrize(
    "field_",
    [
        b"Content-Length: 45",
        b"Transfer-Encoding: chunked",
        b"Host: localhost",
        b"Connection: close",
    ],
    ids=bytes.decode,
)
def test_trailers_never_change_the_framing(target: Target, deliver: Deliver, field_: bytes) -> None:
    client = target.connect()
    deliver(client, chunked(b'6\r\n["ab"]\r\n0\r\n' + field_ + b"\r\n\r\n") + GOOD)
    answer = client.answer()
    if answer.status == 400:
        assert client.at_end()
        assert target.seen == []
    else:
        assert (answer.status, target.seen) == (200, [["ab"]])
        assert client.answer().body == b"ok"


def test_nothing_is_read_after_an_error_even_later(target: Target) -> None:
    client = target.connect().send(head(b"X : y"))
    assert client.answer().status == 400
    assert client.at_end()
    client.send(SMUGGLED)
    assert target.run.get("/ok").status == 200
    assert target.seen == []


def test_an_error_behind_many_good_requests(target: Target) -> None:
    client = target.connect().send(GOOD * 20 + head(b"X : y") + SMUGGLED * 20)
    statuses = [client.answer().status for _ in range(21)]
    assert statuses == [200] * 20 + [400]
    assert client.at_end()
    assert target.seen == []


@pytest.mark.parametrize("cut", range(1, len(GOOD)), ids=lambda cut: f"after-{cut}")
def test_a_head_that_stops_anywhere(target: Target, cut: int) -> None:
    client = target.connect().send(GOOD[:cut]).half_close()
    client.at_end()
    assert client.rest == b"" or client.rest.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 408 "))
    assert client.rest.count(b"HTTP/1.1 ") <= 1


@pytest.mark.parametrize("cut", range(1, len(GOOD)), ids=lambda cut: f"after-{cut}")
def test_a_head_in_two_pieces(target: Target, cut: int) -> None:
    client = target.connect().send(GOOD[:cut])
    assert target.run.get("/ok").status == 200  # a whole turn of the loop in between
    assert client.send(GOOD[cut:] + GOOD).answer().body == b"ok"
    assert client.answer().body == b"ok"


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"HEAD /" + b"a" * 9000 + b" HTTP/1.1", 414),
        (b"HEAD / HTTP/7.0", 505),
        (b"HEAD /\x00 HTTP/1.1", 400),
    ],
)
def test_refusal_of_a_head_has_no_content(target: Target, request_line: bytes, status: int) -> None:
    client = target.connect().send(request_line + b"\r\nHost: localhost\r\n\r\n")
    answer = client.answer(head_only=True)
    assert answer.status == status
    assert client.at_end()
