"""RFC 9112 sections 8 to 11: incomplete messages, persistence, pipelining, the end of a connection."""

from __future__ import annotations

from tests.conformance.case import CHUNKED, Case, get, head, post, sized
from tests.conformance.judging import (
    answered,
    closed,
    content,
    either,
    every,
    has,
    kept,
    lacks,
    not_done,
    status,
    statuses,
    when,
)
from tests.conformance.talk import Talk
from tests.wire.origins import FILE

HELLO = get(target=b"/hello")
CLOSES = every(status(200), closed)


def mixed(number: int) -> bytes:
    return sized(b"%d" % number) if number % 2 else HELLO


def says_close(talk: Talk) -> str:
    said = (talk.answer.get("connection") or "").lower()
    return "" if "close" in said else "closed without saying so"


CASES = (
    Case(
        "content-ends-early",
        "9112 §8",
        "MUST",
        "takes a request whose content ends early for incomplete, and closes",
        (post(b"Content-Length: 10", body=b"hello"), "end of sending"),
        every(not_done, closed),
        ("POST",),
    ),
    Case(
        "chunks-end-early",
        "9112 §8",
        "MUST",
        "takes chunked content without its last chunk for incomplete, and closes",
        (post(CHUNKED, body=b"5\r\nhello\r\n"), "end of sending"),
        every(not_done, closed),
        ("POST",),
    ),
    Case(
        "end-within-a-chunk",
        "9112 §8",
        "MUST",
        "takes content that ends within a chunk for incomplete, and closes",
        (post(CHUNKED, body=b"5\r\nhel"), "end of sending"),
        every(not_done, closed),
        ("POST",),
    ),
    Case(
        "head-ends-early",
        "9110 §5.3",
        "MUST",
        "does nothing before it has the whole head",
        (b"GET /hello HTTP/1.1\r\nHost: localhost\r\n", "end of sending"),
        every(not_done, closed),
    ),
    Case(
        "last-chunk-without-its-end",
        "9112 §7.1",
        "MUST",
        "takes the empty line behind the last chunk for a part of the message",
        (post(CHUNKED, body=b"5\r\nhello\r\n0\r\n"), "end of sending"),
        every(not_done, closed),
        ("POST",),
    ),
    Case(
        "keeps-1.1",
        "9112 §9.3",
        "SHOULD",
        "keeps a connection of HTTP/1.1",
        get() + get() + HELLO,
        every(statuses(200, 200, 200), content(FILE, FILE, b"hello"), kept),
        ("GET", "GET", "GET"),
    ),
    Case(
        "closes-1.0",
        "9112 §9.3",
        "MUST",
        "closes a connection of HTTP/1.0 whose client has not asked to keep it",
        head(b"GET /hello HTTP/1.0"),
        CLOSES,
        ("GET 1.0",),
    ),
    Case(
        "keep-alive-in-1.0",
        "9112 §9.3",
        "SHOULD",
        "keeps a connection of HTTP/1.0 whose client asks for it, and says so, or closes it",
        head(b"GET /hello HTTP/1.0", b"Connection: keep-alive"),
        either(every(status(200), has("Connection", r"(?i)keep-alive"), kept), CLOSES),
        ("GET 1.0",),
    ),
    Case(
        "close-is-honoured",
        "9112 §9.6",
        "MUST",
        "closes after the answer to a request with Connection: close",
        get(b"Connection: close"),
        CLOSES,
    ),
    Case(
        "close-in-any-case",
        "9110 §7.6.1",
        "MUST",
        "takes connection options in any case",
        get(b"Connection: CLOSE"),
        CLOSES,
    ),
    Case(
        "close-beside-keep-alive",
        "9112 §9.3",
        "MUST",
        "lets close count, whatever else the connection options are",
        get(b"Connection: keep-alive, close"),
        CLOSES,
    ),
    Case(
        "close-of-a-post",
        "9112 §9.6",
        "MUST",
        "closes after the answer to a request with content and Connection: close",
        sized(b"hello", b"Connection: close"),
        every(status(200), content(b"hello"), closed),
        ("POST",),
    ),
    Case(
        "close-is-said",
        "9112 §9.6",
        "SHOULD",
        "says close in the last answer on a connection",
        get(b"Connection: close"),
        every(status(200), has("Connection", "(?i)close")),
    ),
    Case(
        "close-is-said-after-an-error",
        "9112 §9.6",
        "SHOULD",
        "says close in an error after which it closes",
        get(b"X : y"),
        when(closed, every(not_done, when(answered, says_close))),
    ),
    Case(
        "nothing-after-close",
        "9112 §9.6",
        "MUST",
        "processes no request behind one with Connection: close",
        get(b"Connection: close") + sized(b"hello"),
        every(statuses(200), closed),
    ),
    Case(
        "nothing-after-an-error",
        "9112 §9.6",
        "MUST",
        "processes no request behind an error with which it has said close",
        get(b"X : y") + HELLO,
        every(lambda talk: "" if len(talk.answers) <= 1 else str(talk), closed),
    ),
    Case(
        "answers-in-order",
        "9112 §9.3.2",
        "MUST",
        "answers pipelined requests in the order in which they came",
        b"".join(map(mixed, range(20))),
        every(
            content(*(b"%d" % number if number % 2 else b"hello" for number in range(20))),
            kept,
        ),
        ("GET", "POST") * 10,
    ),
    Case(
        "pipelined-behind-chunks",
        "9112 §9.3.2",
        "MUST",
        "finds the next request behind chunked content",
        post(CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n") + HELLO,
        every(statuses(200, 200), content(b"hello", b"hello"), kept),
        ("POST", "GET"),
    ),
    Case(
        "slow-before-quick",
        "9112 §9.3.2",
        "MUST",
        "answers a large answer first if it was asked for first",
        get(target=b"/big.bin") + HELLO,
        every(lambda talk: "" if len(talk.answers[0].body) == 4 * 1024 * 1024 else str(talk), kept),
        ("GET", "GET"),
    ),
    Case(
        "unread-content-of-a-get",
        "9112 §9.3",
        "MUST",
        "reads all content of a request, or closes",
        get(b"Content-Length: 45") + b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n",
        either(kept, closed),
    ),
    Case(
        "unread-content-of-an-error",
        "9112 §9.3",
        "MUST",
        "reads all content of a request that it answers with an error, or closes",
        head(b"POST /nothing", b"Content-Length: 45")
        + b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n",
        every(status(404, 405), either(kept, closed)),
        ("POST",),
    ),
    Case(
        "unread-chunks-of-an-error",
        "9112 §9.3",
        "MUST",
        "reads all chunks of a request that it answers with an error, or closes",
        head(b"POST /nothing", CHUNKED)
        + b"2d\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n\r\n0\r\n\r\n",
        every(status(404, 405), either(kept, closed)),
        ("POST",),
    ),
    Case(
        "unread-megabyte",
        "9112 §9.3",
        "MUST",
        "reads a megabyte of a request that it answers with an error, or closes",
        head(b"POST /nothing", b"Content-Length: 1000000")
        + (b"GET / HTTP/1.1\r\n\r\n" * 60_000)[:1_000_000],
        lambda talk: "" if talk.end != "open" and len(talk.answers) <= 1 else str(talk),
        ("POST",),
    ),
    Case(
        "nothing-in-the-target-splits-an-answer",
        "9112 §11.1",
        "MUST",
        "lets nothing of a target become a line of its answer",
        get(target=b"/folder%0d%0aX-Split:%20yes"),
        every(status(400, 404), lacks("X-Split"), kept),
    ),
    Case(
        "nothing-in-a-folder-splits-an-answer",
        "9112 §11.1",
        "MUST",
        "lets nothing of a query become a line of a redirect",
        get(target=b"/folder?%0d%0aX-Split:%20yes"),
        every(status(301, 302, 307, 308, 404), lacks("X-Split"), kept),
        files=True,
    ),
)
