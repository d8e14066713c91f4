"""RFC 9112 section 7: the chunked coding."""

from __future__ import annotations

from tests.conformance.case import LAST, Case, chunked, get
from tests.conformance.judging import REFUSED, closed, content, either, every, kept, not_done, status

ECHOED = every(status(200), content(b"hello"), kept)
HELLO = b"5\r\nhello\r\n"

_GOOD = {
    "several-chunks": (b"2\r\nhe\r\n3\r\nllo\r\n" + LAST, "§7.1", "reads several chunks"),
    "zeros-before-a-size": (b"0005\r\nhello\r\n" + LAST, "§7.1", "takes zeros before a size"),
    "last-chunk-of-zeros": (HELLO + b"000\r\n\r\n", "§7.1", "takes several zeros for the end"),
    "chunk-extension": (b"5;a=b\r\nhello\r\n" + LAST, "§7.1.1", "ignores extensions it does not know"),
    "chunk-extension-name": (
        b"5;a\r\nhello\r\n" + LAST,
        "§7.1.1",
        "ignores an extension without a value",
    ),
    "chunk-extension-quoted": (
        b'5;a="b;c"\r\nhello\r\n' + LAST,
        "§7.1.1",
        "ignores an extension in quotes",
    ),
    "last-chunk-extension": (
        HELLO + b"0;a=b\r\n\r\n",
        "§7.1.1",
        "ignores extensions of the last chunk",
    ),
    "trailers": (HELLO + b"0\r\nX: 1\r\nY: 2\r\n\r\n", "§7.1.2", "reads trailers, or drops them"),
}
_BAD_SIZES = {
    "minus": b"-5",
    "plus": b"+5",
    "prefix": b"0x5",
    "underscore": b"0_5",
    "blank-before": b" 5",
    "empty": b"",
    "letters": b"hello",
}

CASES = (
    *(
        Case(name, f"9112 {section}", "MUST", requirement, chunked(body), ECHOED, ("POST",))
        for name, (body, section, requirement) in _GOOD.items()
    ),
    Case(
        "trailers-that-frame",
        "9112 §7.1.2",
        "MUST",
        "does not let trailers say anything about the framing",
        chunked(HELLO + b"0\r\nContent-Length: 50\r\nTransfer-Encoding: gzip\r\n\r\n"),
        either(ECHOED, REFUSED),  # nobody may send such trailers
        ("POST",),
    ),
    Case(
        "trailer-that-closes",
        "9112 §7.1.2",
        "MUST",
        "does not merge trailers into the fields",
        chunked(HELLO + b"0\r\nConnection: close\r\n\r\n"),
        either(ECHOED, REFUSED),
        ("POST",),
    ),
    Case(
        "hexadecimal-sizes-in-any-case",
        "9112 §7.1",
        "MUST",
        "takes hexadecimal digits of both cases",
        chunked(b"A\r\n0123456789\r\na\r\n0123456789\r\n" + LAST),
        every(status(200), content(b"0123456789" * 2), kept),
        ("POST",),
    ),
    Case(
        "chunks-in-single-bytes",
        "9112 §7.1",
        "MUST",
        "reads chunks of one byte",
        chunked(b"".join(b"1\r\n%c\r\n" % byte for byte in b"0123456789" * 50) + LAST),
        every(status(200), content(b"0123456789" * 50), kept),
        ("POST",),
    ),
    Case(
        "crlf-in-a-chunk",
        "9112 §7.1",
        "MUST",
        "takes the data of a chunk as it is",
        chunked(b"7\r\n\r\n0\r\n\r\n\r\n" + LAST),
        every(status(200), content(b"\r\n0\r\n\r\n"), kept),
        ("POST",),
    ),
    Case(
        "size-beyond-64-bits",
        "9112 §7.1",
        "MUST",
        "is not misled by a size that is larger than its integers",
        (chunked(b"10000000000000005\r\nhello\r\n" + LAST), "end of sending"),
        every(not_done, closed),
        ("POST",),
    ),
    Case(
        "size-of-63-bits",
        "9112 §7.1",
        "MUST",
        "is not misled by a size that is negative in its integers",
        (chunked(b"ffffffffffffffff\r\nhello\r\n" + LAST), "end of sending"),
        every(not_done, closed),
        ("POST",),
    ),
    *(
        Case(
            f"size-{name}",
            "9112 §7.1",
            "SHOULD",
            f"answers the chunk size {value.decode()!r} with 400 and closes",
            chunked(value + b"\r\nhello\r\n" + LAST),
            REFUSED,
            ("POST",),
        )
        for name, value in _BAD_SIZES.items()
    ),
    Case(
        "chunk-without-its-end",
        "9112 §7.1",
        "SHOULD",
        "answers a chunk that is not followed by CRLF with 400 and closes",
        chunked(b"5\r\nhelloXX" + LAST),
        REFUSED,
        ("POST",),
    ),
    Case(
        "chunk-longer-than-its-size",
        "9112 §7.1",
        "SHOULD",
        "answers a chunk that is longer than its size with 400 and closes",
        chunked(b"4\r\nhello\r\n" + LAST),
        REFUSED,
        ("POST",),
    ),
    Case(
        "bare-lf-behind-a-size",
        "9112 §7.1",
        "SHOULD",
        "answers a chunk size that ends with a bare LF with 400 and closes",
        chunked(b"5\nhello\r\n" + LAST),
        REFUSED,
        ("POST",),
    ),
    Case(
        "bare-lf-behind-a-chunk",
        "9112 §7.1",
        "SHOULD",
        "answers a chunk that ends with a bare LF with 400 and closes",
        chunked(b"5\r\nhello\n" + LAST),
        REFUSED,
        ("POST",),
    ),
    Case(
        "bare-cr-in-an-extension",
        "9112 §7.1.1",
        "MUST",
        "does not take a bare CR in an extension for the end of its line",
        chunked(b"5;a\rhello\r\n" + LAST),
        every(not_done, closed),
        ("POST",),
    ),
    Case(
        "bare-lf-in-an-extension",
        "9112 §7.1.1",
        "SHOULD",
        "answers an extension that ends with a bare LF with 400 and closes",
        chunked(b"5;a\nhello\r\n" + LAST),
        REFUSED,
        ("POST",),
    ),
    Case(
        "chunked-get",
        "9112 §6",
        "MUST",
        "frames the content of a GET like that of any request",
        get(b"Transfer-Encoding: chunked") + HELLO + LAST,
        either(kept, closed),
    ),
    Case(
        "te-asks-for-another-coding",
        "9110 §10.1.4",
        "MUST",
        "sends no coding that was asked for with weight 0, and none it was not asked for",
        get(b"TE: gzip;q=0, trailers", b"Connection: TE"),
        every(status(200), kept),
    ),
)
