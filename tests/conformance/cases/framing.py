"""RFC 9112 section 6 and RFC 9110 section 8.6: where the content of a request ends."""

from __future__ import annotations

from tests.conformance.case import CHUNKED, LAST, Case, get, head, post, sized
from tests.conformance.judging import (
    REFUSED,
    closed,
    content,
    either,
    every,
    kept,
    not_done,
    status,
    when,
)

ECHOED = every(status(200), content(b"hello"), kept)
HELLO = b"5\r\nhello\r\n" + LAST
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"

NOT_FRAMED = every(status(400, 501), closed)
"""400 by section 6.3, which is a MUST; or 501 by section 6.1, as such a coding is not understood."""

_BAD_LENGTHS = {
    "plus": b"+5",
    "minus": b"-5",
    "hexadecimal": b"0x5",
    "underscore": b"1_0",
    "point": b"5.0",
    "empty": b"",
    "letters": b"five",
    "different-list": b"5, 6",
    "two-numbers": b"5 5",
    "comma-only": b",",
}
_NOT_CHUNKED_LAST = {
    "chunked-then-gzip": b"chunked, gzip",
    "gzip": b"gzip",
    "identity": b"identity",
    "xchunked": b"xchunked",
    "quoted": b'"chunked"',
}

CASES = (
    *(
        Case(
            f"length-{name}",
            "9112 §6.3",
            "MUST",
            f"answers Content-Length: {value.decode() or '(nothing)'} with 400 and closes",
            post(b"Content-Length: " + value, body=b"hello"),
            REFUSED,
            ("POST",),
        )
        for name, value in _BAD_LENGTHS.items()
    ),
    Case(
        "two-different-lengths",
        "9112 §6.3",
        "MUST",
        "answers two Content-Length fields that differ with 400 and closes",
        post(b"Content-Length: 5", b"Content-Length: 6", body=b"hello"),
        REFUSED,
        ("POST",),
    ),
    Case(
        "lengths-of-a-get",
        "9112 §6.3",
        "MUST",
        "answers two Content-Length fields that differ with 400 and closes, whatever the method",
        get(b"Content-Length: 0", b"Content-Length: 44") + SMUGGLED,
        REFUSED,
    ),
    Case(
        "equal-lengths",
        "9110 §8.6",
        "MUST",
        "takes two equal lengths for one, or refuses them",
        post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello"),
        either(ECHOED, REFUSED),
        ("POST",),
    ),
    Case(
        "list-of-equal-lengths",
        "9110 §8.6",
        "MUST",
        "takes a list of equal lengths for one, or refuses it",
        post(b"Content-Length: 5, 5", body=b"hello"),
        either(ECHOED, REFUSED),
        ("POST",),
    ),
    Case(
        "length-beyond-64-bits",
        "9110 §8.6",
        "MUST",
        "takes no part of a length that is larger than its integers for the whole",
        post(b"Content-Length: 18446744073709551621", body=b"hello"),
        every(not_done, closed),
        ("POST",),
    ),
    Case(
        "length-with-leading-zeros",
        "9110 §8.6",
        "MUST",
        "takes a length with leading zeros as a decimal one",
        post(b"Content-Length: 0000000010", body=b"0123456789"),
        every(status(200), content(b"0123456789"), kept),
        ("POST",),
    ),
    Case(
        "sized-content",
        "9112 §6.2",
        "MUST",
        "reads as much content as Content-Length tells, and then the next request",
        sized(b"hello"),
        ECHOED,
        ("POST",),
    ),
    Case(
        "content-that-looks-like-a-request",
        "9112 §6.3",
        "MUST",
        "does not take content for a request",
        sized(SMUGGLED),
        every(status(200), content(SMUGGLED), kept),
        ("POST",),
    ),
    Case(
        "no-length-no-content",
        "9112 §6.3",
        "MUST",
        "takes a request with neither length nor coding for one without content",
        post(),
        either(every(status(200), content(b""), kept), status(411)),
        ("POST",),
    ),
    Case(
        "chunked-content",
        "9112 §6.1",
        "MUST",
        "reads the chunked coding",
        post(CHUNKED, body=HELLO),
        ECHOED,
        ("POST",),
    ),
    Case(
        "coding-and-length",
        "9112 §6.1",
        "MUST",
        "refuses a length beside a coding or goes by the coding, and closes",
        post(b"Content-Length: 5", CHUNKED, body=HELLO),
        either(every(status(400), closed), every(status(200), content(b"hello"), closed)),
        ("POST",),
    ),
    Case(
        "coding-before-length",
        "9112 §6.1",
        "MUST",
        "refuses a length behind a coding or goes by the coding, and closes",
        post(CHUNKED, b"Content-Length: 50", body=LAST + SMUGGLED),
        either(every(status(400), closed), every(status(200), content(b""), closed)),
        ("POST",),
    ),
    Case(
        "coding-and-length-of-a-get",
        "9112 §6.1",
        "MUST",
        "closes after a GET with both length and coding",
        get(b"Content-Length: 5", CHUNKED) + LAST,
        closed,
    ),
    Case(
        "coding-in-1.0",
        "9112 §6.1",
        "MUST",
        "takes a Transfer-Encoding in HTTP/1.0 for faulty framing and closes",
        post(CHUNKED, b"Connection: keep-alive", body=HELLO, version=b"1.0"),
        closed,
        ("POST 1.0",),
    ),
    Case(
        "coding-and-length-in-1.0",
        "9112 §6.1",
        "MUST",
        "takes a Transfer-Encoding in HTTP/1.0 for faulty framing and closes, with a length, too",
        post(CHUNKED, b"Content-Length: 15", b"Connection: keep-alive", body=HELLO, version=b"1.0"),
        closed,
        ("POST 1.0",),
    ),
    Case(
        "unknown-coding",
        "9112 §6.1",
        "SHOULD",
        "answers a coding it does not know below chunked with 501",
        post(b"Transfer-Encoding: cow, chunked", body=HELLO),
        status(501),
        ("POST",),
    ),
    *(
        Case(
            f"coding-{name}",
            "9112 §6.3",
            "MUST",
            f"refuses Transfer-Encoding: {value.decode()}, as chunked is not the last, and closes",
            post(b"Transfer-Encoding: " + value, body=LAST),
            NOT_FRAMED,
            ("POST",),
        )
        for name, value in _NOT_CHUNKED_LAST.items()
    ),
    Case(
        "chunked-twice",
        "9112 §6.1",
        "SHOULD",
        "refuses content that is said to be chunked twice",
        post(b"Transfer-Encoding: chunked, chunked", body=HELLO),
        every(not_done, closed),
        ("POST",),
    ),
    Case(
        "codings-in-two-fields",
        "9112 §6.3",
        "MUST",
        "refuses codings in two fields, of which chunked is not the last, and closes",
        post(CHUNKED, b"Transfer-Encoding: identity", body=HELLO),
        NOT_FRAMED,
        ("POST",),
    ),
    Case(
        "chunked-behind-a-control-byte",
        "9112 §6.3",
        "MUST",
        "does not take a coding with a control character in it for chunked",
        post(b"Transfer-Encoding: \x0bchunked", body=HELLO),
        NOT_FRAMED,
        ("POST",),
    ),
    Case(
        "length-of-head-and-get",
        "9110 §8.6",
        "MUST",
        "sends no other length in an answer to HEAD than in that to GET",
        head(b"HEAD /file.txt") + get(),
        every(
            status(200),
            kept,
            lambda talk: (
                ""
                if talk.answers[0].get("content-length") in (None, talk.answer.get("content-length"))
                else "another length"
            ),
        ),
        ("HEAD", "GET"),
    ),
    Case(
        "answer-to-1.0-is-not-chunked",
        "9112 §6.1",
        "MUST",
        "sends no Transfer-Encoding to a client of HTTP/1.0",
        b"GET /hello HTTP/1.0\r\nHost: localhost\r\n\r\n",
        every(status(200), content(b"hello"), closed),
        ("GET 1.0",),
    ),
    Case(
        "length-of-the-answer",
        "9110 §8.6",
        "SHOULD",
        "sends the length of content it knows",
        get(),
        every(status(200), when(kept, lambda t: "" if t.answer.get("content-length") else "no length")),
    ),
)
