"""What may stand in each place of a request: what parsers accept, and what is odd there."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from hypothesis import strategies as st

Bytes: TypeAlias = st.SearchStrategy[bytes]


def _one(*choices: bytes) -> Bytes:
    return st.sampled_from(choices)


_DIGITS = st.text("0123456789", min_size=1, max_size=25).map(str.encode)
_WORD = st.text("abcxyzABC019-_.", min_size=1, max_size=8).map(str.encode)


class Parts(NamedTuple):
    """What may stand in each place of a request."""

    before: Bytes
    method: Bytes
    blank: Bytes
    target: Bytes
    version: Bytes
    line_end: Bytes
    host: Bytes
    field: Bytes
    length: Callable[[int], Bytes]
    coding: Bytes
    chunk_size: Callable[[int], Bytes]
    extension: Bytes
    trailer: Bytes


NEAT = Parts(
    before=_one(b"", b"", b"", b"\r\n"),
    method=_one(b"GET", b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"),
    blank=_one(b" "),
    target=_one(
        b"/", b"/a", b"/a/b?c=d&e", b"/%41%2e%2f%00", b"/a//b/../c", b"/?", b"/a?b?c#d", b"/a:b;c,d=e~",
        b"http://localhost/a", b"http://localhost:80?b", b"HTTPS://[::1]:8080/", b"/" + b"a" * 300,
    ),
    version=_one(b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"),
    line_end=_one(b"\r\n"),
    host=_one(b"Host: localhost\r\n", b"host:localhost:8080\r\n", b"HOST:\t[::1] \r\n"),
    field=_one(
        b"Accept: */*\r\n", b"accept:text/html, a/b;q=0.5\r\n", b"Cookie: a=b; c=\"d\"\r\n",
        b"Cookie: e=f\r\n", b"X-Empty:\r\n", b"X-Blanks: \t a  b \t \r\n", b"X-Latin: \xe9\xff\r\n",
        b"!#$%&'*+-.^_`|~09aZ: token\r\n", b"If-None-Match: \"a\", W/\"b\"\r\n",
        b"Range: bytes=0-1\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n",
        b"Connection: x, Keep-Alive\r\n", b"Expect: 100-continue\r\n", b"Expect: more\r\n",
        b"Content-Type: application/json\r\n", b"Upgrade: websocket\r\n", b"TE: trailers\r\n",
        b"X-Long: " + b"v" * 400 + b"\r\n",
    ),
    length=lambda size: _one(b"%d" % size, b"%d" % size, b"%06d" % size),
    coding=_one(b"chunked", b"chunked", b"Chunked", b" CHUNKED\t"),
    chunk_size=lambda size: _one(b"%x" % size, b"%X" % size, b"%05x" % size),
    extension=_one(b"", b"", b"", b";a", b";a=b", b";a=\"b c\\\"\";d"),
    trailer=_one(b"Trailer: dropped\r\n", b"X-Sum:\r\n"),
)  # fmt: skip

ODD = Parts(
    before=_one(
        b"\r\n\r\n", b"\r\n" * 5, b"\n", b"\r", b" ", b"\0", b"\xef\xbb\xbf", b"HTTP/1.1 200 OK\r\n",
    ),
    method=_one(
        b"get", b"M-SEARCH", b"X", b"!#$", b"CONNECT", b"PRI", b"GET\0", b"", b"G(T", b"G\xc9T",
        b"TRACE", b"SOURCE", b"DESCRIBE", b"QUERY", b"PURGE", b"A" * 40,
    )
    | _WORD,
    blank=_one(b"  ", b"\t", b"", b" \t", b"\x0b", b"\xa0", b"\r", b"\r\n"),
    target=_one(
        b"*", b"a", b"", b"localhost:80", b"//a/b", b"/a b", b"/\xe9", b"/\0", b"/\x7f", b"/%", b"/%zz",
        b"ftp://a/", b"http://", b"http:///a", b"http://a@b/", b"http://a,b/", b"http:/a", b"/../../a",
        b"http://user:x@localhost:99999999/", b"/a\\b", b"/a|b<c>\"d\"^`{}", b"/a#b#c", b"?a", b"#a",
        b"http://\xe9/", b"http://a%62/", b"/" + b"a" * 8300,
    )
    | st.binary(max_size=6),
    version=_one(
        b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.10", b"HTTP/01.1", b"http/1.1", b"HTTP/1", b"",
        b"HTTP/1,1", b"HTTP/1.1 ", b"HTTP /1.1", b"ICE/1.0", b"RTSP/1.0", b"HTTP/9.9",
    ),
    line_end=_one(b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n", b"\0\r\n", b"\r\n ", b"\r\n\t"),
    host=_one(
        b"", b"Host:\r\n", b"Host: a\r\nHost: a\r\n", b"Host: a\r\nhost: b\r\n", b"Host : a\r\n",
        b"Host: a b\r\n", b"Host: a,b\r\n", b"Host: a@b\r\n", b"Host: a/b\r\n", b"Host: \xe9\r\n",
        b"Host: a:999999\r\n", b"Host: [::1\r\n", b"Host\r\n", b" Host: a\r\n",
        b"Host: " + b"a" * 300 + b"\r\n",
    ),
    field=_one(
        b"A: b\r\n c\r\n", b"A: b\r\n\tc\r\n", b" A: b\r\n", b"A : b\r\n", b"A\t: b\r\n", b": b\r\n",
        b"no colon\r\n", b"A: \0\r\n", b"A: b\0c\r\n", b"A: \x01\r\n", b"A: \x7f\r\n", b"A: b\rc\r\n",
        b"A: b\nC: d\r\n", b"A: b\n", b"A: b\r", b"\xc4: b\r\n", b"A(b): c\r\n", b"A: b\r\r\n",
        b"Content-Length: 3\r\n", b"Content-Length: +3\r\n", b"Content-Length: 3, 3\r\n",
        b"Content-Length: 0x3\r\n", b"Content-Length: -0\r\n", b"Content-Length:\r\n",
        b"Content-Length: 3 4\r\n", b"Content-Length: 99999999999999999999\r\n",
        b"Content_Length: 3\r\n", b"Content-Length: 3\r\nContent-Length: 3\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n", b"Content-Length\xa0: 3\r\n",
        b"Content-Length: \xb2\r\n", b"Content-Length: 1_0\r\n", b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n", b"Transfer-Encoding:\r\n", b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: chunked, chunked\r\n", b"Transfer-Encoding: \x0bchunked\r\n",
        b"Transfer-Encoding: chunked;a=b\r\n", b"Transfer-Encoding : chunked\r\n",
        b"Transfer_Encoding: chunked\r\n", b"Transfer-Encoding: ,chunked\r\n",
        b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"Connection: keep-alive, close\r\n",
        b"Connection: close\r\nConnection: keep-alive\r\n", b"Connection: Content-Length\r\n",
        b"Expect: 100-continue, x\r\n", b"Connection: ,,close\r\n", b"Proxy-Connection: close\r\n",
        b"a: b\r\n" * 98, b"X: " + b"v" * 17_000 + b"\r\n",
    ),
    length=lambda size: (
        _one(b"+%d" % size, b"%d" % (size + 1), b"%d" % max(size - 1, 0), b"%d,%d" % (size, size))
        | _DIGITS
    ),
    coding=_one(
        b"gzip", b"gzip, chunked", b"chunked, gzip", b"chunked,chunked", b"\"chunked\"", b"chunked\0",
        b"x",
    ),
    chunk_size=lambda size: _one(
        b"0x%x" % size, b"+%x" % size, b"%x " % size, b" %x" % size, b"%016x" % size, b"%030x" % size,
        b"%x" % (size + 1), b"%x" % max(size - 1, 0), b"f" * 15, b"f" * 17, b"", b"g", b"-1",
        b"%x_0" % size,
    ),
    extension=_one(
        b";", b" ;a", b";a ", b"; a", b";a=", b";a= b", b";a=\"b", b";a=\"\x01\"", b";a=b\nc",
        b";a=b\rc", b";\0", b";;", b";a=" + b"x" * 300, b",", b"\t",
    ),
    trailer=_one(
        b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: a\r\n", b" folded\r\n",
        b"no colon\r\n", b"A : b\r\n", b"A: b\n", b"A: \0\r\n", b"A: " + b"t" * 17_000 + b"\r\n",
    ),
)  # fmt: skip
