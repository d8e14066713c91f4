"""Where this server's parser and llhttp differ, each with the reason why ours does as it does."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from fuzz.llhttp import Found

_BLANK = rb"[\r\n]*"
_LINE = _BLANK + rb"[^\r\n]*\r\n"
_HEAD = _LINE + rb"(?:[^\r\n]+\r\n)*?"
_CHUNKS = _HEAD + rb"transfer-encoding:[^\r\n]*\r\n.*\n"
_HOST = rb"(?:\[[0-9a-f:.]+\]|[0-9a-z._~-]+)(?::[0-9]{0,5})?"
_METHODS = (
    rb"(?:DELETE|GET|HEAD|POST|PUT|OPTIONS|TRACE|COPY|LOCK|MKCOL|MOVE|PROPFIND|PROPPATCH|SEARCH|UNLOCK"
    rb"|BIND|REBIND|UNBIND|ACL|REPORT|MKACTIVITY|CHECKOUT|MERGE|M-SEARCH|NOTIFY|SUBSCRIBE|UNSUBSCRIBE"
    rb"|PATCH|PURGE|MKCALENDAR|LINK|UNLINK|SOURCE|QUERY|CONNECT)"
)
_REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
_POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
_CHUNKED = _POST + b"Transfer-Encoding: chunked\r\n\r\n"


class Difference(NamedTuple):
    """One thing that the two see differently."""

    name: str
    stricter: Literal["ours", "theirs", "neither"]
    reason: str
    """An expression for what the stricter one says; if both accept, for what differs."""
    bytes_: bytes
    """An expression for how the request begins; case does not matter."""
    why: str
    section: str
    """Of RFC 9112, unless it says otherwise."""
    example: bytes

    def covers(self, found: Found) -> bool:
        """Whether this is what was found."""
        return (
            found.stricter == self.stricter
            and re.fullmatch(self.reason, found.reason) is not None
            and re.match(self.bytes_, found.rest, re.DOTALL | re.IGNORECASE) is not None
        )


WE_REFUSE = [
    Difference(
        "many blank lines", "ours", "too many blank lines before a request", rb"(?:\r\n){5}",
        "at least one is to be ignored; a few do no harm, but nobody may send them for ever",
        "2.2", b"\r\n" * 5 + _REQUEST,
    ),
    Difference(
        "a bare LF before a request", "ours", r"the head has an illegal byte \(0x0a\)", rb"(?:\r\n)*\n",
        "only CRLF is to be ignored there; a line ended by LF alone MAY be taken, and splits requests",
        "2.2", b"\n" + _REQUEST,
    ),
    Difference(
        "a bare CR before a request", "ours", r"the head has an illegal byte \(0x0d\)",
        rb"(?:\r\n)*\r(?!\n)", "a CR that no LF follows is invalid", "2.2", b"\r" + _REQUEST,
    ),
    Difference(
        "no version", "ours", r"that is not a request line|the head has an illegal byte \(0x0a\)",
        _BLANK + rb"\S+ +(?!\*HTTP)\S+\r?\n", "HTTP/0.9 is not spoken here", "3", b"GET /\r\n\r\n",
    ),
    Difference(
        "several spaces in the request line", "ours", "that is not a request line",
        _BLANK + rb"\S+ (?: +\S+ +|\S+  +)\S+\r\n",
        "there is a single one; to take more invites smuggling", "3",
        b"GET  /  HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Difference(
        "no space before the version", "ours", "that is not a request line", _BLANK + rb"\S+ +\*HTTP/",
        "there is a single one", "3", b"OPTIONS *HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Difference(
        "another protocol", "ours", "that is not a request line", _BLANK + rb"\S+ \S+ (?:RTSP|ICE)/",
        "the name is HTTP", "2.3", b"SOURCE / ICE/1.0\r\nHost: a\r\n\r\n",
    ),
    Difference(
        "another version", "ours", "only HTTP/1.0 and HTTP/1.1 are spoken here",
        _BLANK + rb"\S+ \S+ HTTP/(?:2\.0|0\.9)\r\n", "another major version has another syntax",
        "RFC 9110 2.5", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    ),
    Difference(
        "an asterisk", "ours", "the request target is not a path", _BLANK + rb"(?!OPTIONS )\S+ +\* ",
        "that form is for OPTIONS only", "3.2.4", b"GET * HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Difference(
        "an authority", "ours", "the request target is not a path", _BLANK + rb"CONNECT ",
        "this server is no tunnel", "3.2.3", b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Difference(
        "another scheme", "ours", "the request target is not a path",
        _BLANK + rb"\S+ (?!https?://)[a-z]+://", "nobody but a proxy is asked for those", "3.2.2",
        b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Difference(
        "no Host", "ours", "Missing mandatory Host: header",
        _BLANK + rb"[^\r\n]*HTTP/1\.1\r\n(?:(?!host:)[^\r\n]+\r\n)*\r\n", "MUST be 400", "3.2",
        b"GET / HTTP/1.1\r\n\r\n",
    ),
    Difference(
        "two of Host", "ours", "Found multiple Host: headers",
        _HEAD + rb"host:[^\r\n]*\r\n(?:[^\r\n]+\r\n)*?host:", "MUST be 400", "3.2",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
    ),
    Difference(
        "an invalid Host", "ours", "the host is not a valid name or address",
        _HEAD + rb"host:(?![ \t]*" + _HOST + rb"[ \t]*\r\n)|" + _HEAD + rb"host:[^\r\n]{262}",
        "MUST be 400", "3.2", b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    ),
    Difference(
        "an invalid authority in the target", "ours", "the host is not a valid name or address",
        _BLANK + rb"\S+ https?://(?!" + _HOST + rb"[/?# ])", "it counts as Host does", "3.2.2",
        b"GET http://a@b/ HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Difference(
        "a coding in HTTP/1.0", "ours", "Transfer-Encoding needs HTTP/1.1",
        _BLANK + rb"[^\r\n]*HTTP/1\.0\r\n(?:[^\r\n]+\r\n)*?transfer-encoding:",
        "MUST be treated as if the framing is faulty", "6.1",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    Difference(
        "another coding", "ours", "Only Transfer-Encoding: chunked is supported",
        _HEAD + rb"transfer-encoding:(?![ \t]*chunked[ \t]*\r\n)", "SHOULD be 501", "6.1",
        _POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    Difference(
        "a coding twice", "ours", "multiple Transfer-Encoding headers",
        _HEAD + rb"transfer-encoding:[^\r\n]*\r\n(?:[^\r\n]+\r\n)*?transfer-encoding:",
        "chunked MUST NOT be applied twice, and which of them counts is anybody's guess", "6.1",
        _POST + b"Transfer-Encoding: chunked\t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    Difference(
        "a long request line", "ours", "the request line is too long", _BLANK + rb"[^\r\n]{8193}",
        "8,000 bytes are recommended; more is 414", "3",
        b"GET /" + b"a" * 8200 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Difference(
        "a long head", "ours", "the head is too long", rb".{16384}", "more is 431",
        "RFC 6585 5", _POST + b"A: " + b"b" * 17_000 + b"\r\n\r\n",
    ),
    Difference(
        "many fields", "ours", "too many header fields", _LINE + rb"(?:[^\r\n]+\r\n){101}",
        "more is 431", "RFC 6585 5", _POST + b"a: b\r\n" * 101 + b"\r\n",
    ),
    Difference(
        "a length with many zeros", "ours", "Content-Length is not a length|bad Content-Length",
        _HEAD + rb"content-length:[ \t]*0[0-9]{18}",
        "parsers differ in the numbers that they can hold; nobody writes such zeros", "6.3",
        _POST + b"Content-Length: 0000000000000000001\r\n\r\na",
    ),
    Difference(
        "a chunk size with many zeros", "ours",
        "that is not a chunk size|a chunk's extensions are too long",
        _CHUNKS + rb"0[0-9a-f]{15}", "parsers differ in the numbers that they can hold", "7.1",
        _CHUNKED + b"0000000000000001\r\na\r\n0\r\n\r\n",
    ),
    Difference(
        "a chunk extension against the grammar", "ours", "that is not a chunk size",
        _CHUNKS + rb"[0-9a-f]+;[^\r\n]*\r\n",
        "it would be ignored; who sends it means to confuse somebody", "7.1.1",
        _CHUNKED + b"1;a=\r\na\r\n0\r\n\r\n",
    ),
    Difference(
        "a long chunk extension", "ours", "a chunk's extensions are too long",
        _CHUNKS + rb"[0-9a-f]+;[^\r\n]{250}", "a server ought to limit them", "7.1.1",
        _CHUNKED + b"1;a=" + b"b" * 300 + b"\r\na\r\n0\r\n\r\n",
    ),
    Difference(
        "tiny chunks", "ours", "the chunk framing is out of proportion to the content",
        _CHUNKS + rb".{16384}", "work for nothing", "7.1.1",
        _CHUNKED + b"1;a=b\r\nx\r\n" * 5000 + b"0\r\n\r\n",
    ),
    Difference(
        "long trailers", "ours", "the trailers are too long",
        _CHUNKS + rb"0+(?:;[^\r\n]*)?\r\n.{16000}",
        "as for heads", "RFC 6585 5", _CHUNKED + b"0\r\nA: " + b"b" * 17_000 + b"\r\n\r\n",
    ),
    Difference(
        "an upgrade with content", "ours",
        "the request ended in the middle of its body|.*chunk.*|.*trailers?",
        _HEAD + rb"(?:connection:[^\r\n]*upgrade.*upgrade:|upgrade:.*connection:[^\r\n]*upgrade)",
        "a server may ignore Upgrade, and then the content is read; httptools stops behind the head",
        "RFC 9110 7.8", _POST + b"Connection: upgrade\r\nUpgrade: a\r\nContent-Length: 3\r\n\r\na",
    ),
]  # fmt: skip

THEY_REFUSE = [
    Difference(
        "an unknown method", "theirs",
        "Invalid method encountered|Expected space after method|Expected HTTP/2 Connection Preface"
        "|Invalid method for HTTP/x.x request",
        _BLANK + rb"(?!(?-i:" + _METHODS + rb") )[!#$%&'*+.^_`|~0-9A-Z-]+ |" + _BLANK + rb"SOURCE ",
        "any token may be one; without a handler it is 405 or 404", "RFC 9110 9.1",
        b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    Difference(
        "a tab behind a coding", "theirs", "Request has invalid `Transfer-Encoding`",
        _HEAD + rb"transfer-encoding:[ \t]*chunked[ \t]*\t[ \t]*\r\n",
        "blanks and tabs around a value are no part of it", "5.1",
        _POST + b"Transfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n",
    ),
    Difference(
        "equal lengths", "theirs", "Duplicate Content-Length",
        _HEAD + rb"content-length:[^\r\n]*\r\n(?:[^\r\n]+\r\n)*?content-length:",
        "a recipient may refuse them or take them as one", "6.3",
        _POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    ),
    Difference(
        "equal lengths in one field", "theirs", "Invalid character in Content-Length",
        _HEAD + rb"content-length:[ \t]*([0-9]+)(?:[ \t]*,[ \t]*\1)+[ \t]*\r\n",
        "a list of equal lengths may be taken as one", "6.3",
        _POST + b"Content-Length: 1, 1\r\n\r\na",
    ),
    Difference(
        "what follows an upgrade", "theirs", "upgrade", rb"",
        "a server may ignore Upgrade, and then the connection stays HTTP; httptools stops",
        "RFC 9110 7.8",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n" + _REQUEST,
    ),
]  # fmt: skip

BOTH_ACCEPT = [
    Difference(
        "close beside keep-alive", "neither", "keep_alive",
        _BLANK + rb"[^\r\n]*HTTP/1\.0\r\n(?=(?:[^\r\n]+\r\n)*?connection:[^\r\n]*close)"
        rb"(?:[^\r\n]+\r\n)*?connection:[^\r\n]*keep-alive",
        "close counts, whatever else is there", "9.3",
        b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n",
    ),
    Difference(
        "a connection to a proxy", "neither", "keep_alive", _HEAD + rb"proxy-connection:",
        "the field is no part of HTTP, and is not to be sent", "9.3 and C.2.2",
        b"GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n",
    ),
    Difference(
        "the content of an upgrade", "neither", "body",
        _HEAD + rb"(?:connection:[^\r\n]*upgrade.*upgrade:|upgrade:.*connection:[^\r\n]*upgrade)",
        "a server may ignore Upgrade, and then the content is read; httptools stops behind the head",
        "RFC 9110 7.8", _POST + b"Connection: upgrade\r\nUpgrade: a\r\nContent-Length: 1\r\n\r\na",
    ),
]  # fmt: skip

DIFFERENCES = [*WE_REFUSE, *THEY_REFUSE, *BOTH_ACCEPT]
