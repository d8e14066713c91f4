"""RFC 9110 sections 10.1.1 and 15.2: Expect, and interim answers."""

from __future__ import annotations

from tests.conformance.case import CHUNKED, LAST, Case, get, head, post
from tests.conformance.judging import (
    closed,
    content,
    either,
    every,
    has,
    interim,
    kept,
    status,
    when,
)
from tests.conformance.talk import Talk
from tests.wire.origins import FILE

EXPECT = b"Expect: 100-continue"
LENGTH = b"Content-Length: 5"
ECHOED = every(status(200), content(b"hello"), kept)


def said_before_content(talk: Talk) -> str:
    """A 100 or a final answer came while the content was not sent yet; there would be none else."""
    return "" if talk.answers or talk.interim else str(talk)


CASES = (
    Case(
        "continue",
        "9110 §10.1.1",
        "MUST",
        "does not wait for the content before it sends 100",
        (post(LENGTH, EXPECT), "an answer", b"hello"),
        every(interim(100), ECHOED),
        ("POST",),
    ),
    Case(
        "continue-in-any-case",
        "9110 §10.1.1",
        "MUST",
        "takes 100-continue in any case",
        (post(LENGTH, b"Expect: 100-Continue"), "an answer", b"hello"),
        every(interim(100), ECHOED),
        ("POST",),
    ),
    Case(
        "continue-before-chunks",
        "9110 §10.1.1",
        "MUST",
        "does not wait for chunked content before it sends 100",
        (post(CHUNKED, EXPECT), "an answer", b"5\r\nhello\r\n" + LAST),
        every(interim(100), ECHOED),
        ("POST",),
    ),
    Case(
        "continue-in-1.0",
        "9110 §10.1.1",
        "MUST",
        "ignores the expectation in HTTP/1.0",
        post(LENGTH, EXPECT, version=b"1.0", body=b"hello"),
        every(interim(), status(200), content(b"hello")),
        ("POST 1.0",),
    ),
    Case(
        "no-interim-answer-to-1.0",
        "9110 §15.2",
        "MUST",
        "sends no interim answer to a client of HTTP/1.0",
        head(b"GET /file.txt HTTP/1.0", EXPECT),
        every(interim(), status(200), content(FILE)),
        ("GET 1.0",),
    ),
    Case(
        "continue-without-content",
        "9110 §10.1.1",
        "MUST",
        "answers a request that expects 100 and has no content",
        get(EXPECT),
        every(status(200), content(FILE)),
    ),
    Case(
        "continue-with-length-0",
        "9110 §10.1.1",
        "MUST",
        "answers a request that expects 100 and whose content is empty",
        post(b"Content-Length: 0", EXPECT),
        every(status(200), content(b"")),
        ("POST",),
    ),
    Case(
        "final-answer-behind-100",
        "9110 §10.1.1",
        "MUST",
        "sends a final answer behind a 100, with the content there already, too",
        post(LENGTH, EXPECT, body=b"hello"),
        either(every(interim(100), ECHOED), every(interim(), ECHOED)),
        ("POST",),
    ),
    Case(
        "continue-or-a-final-answer",
        "9110 §10.1.1",
        "MUST",
        "answers at once, with 100 or with what is wrong, where the target is unknown",
        (head(b"POST /nothing", LENGTH, EXPECT), "an answer", b"hello"),
        every(said_before_content, status(404, 405), either(kept, closed)),
        ("POST",),
    ),
    Case(
        "says-what-becomes-of-the-content",
        "9110 §10.1.1",
        "SHOULD",
        "says close if it answers without reading the content and closes",
        (head(b"POST /nothing", LENGTH, EXPECT), "an answer", b"hello"),
        when(closed, has("Connection", "(?i)close")),
        ("POST",),
    ),
    Case(
        "expectation-beside-a-bad-length",
        "9110 §10.1.1",
        "MUST",
        "answers a bad length with 400, before or behind a 100",
        (post(b"Content-Length: +5", EXPECT), "an answer", b"hello"),
        every(status(400), closed),
        ("POST",),
    ),
    Case(
        "unknown-expectation",
        "9110 §10.1.1",
        "MUST",
        "answers an expectation that it does not know with 417, or goes on",
        (post(LENGTH, b"Expect: a-cow"), b"hello"),
        either(status(417), every(status(200), content(b"hello"))),
        ("POST",),
    ),
)
