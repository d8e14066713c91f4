"""RFC 9110 section 12: what the client prefers."""

from __future__ import annotations

import gzip

from tests.conformance.case import Case, get
from tests.conformance.judging import Judge, content, either, every, has, kept, lacks, status, when
from tests.conformance.known import LONG_TEXT
from tests.conformance.talk import Talk
from tests.wire.origins import FILE

PLAIN = every(status(200), lacks("Content-Encoding"), content(FILE), kept)


def coded_as_gzip(talk: Talk) -> str:
    return "" if (talk.answer.get("content-encoding") or "") == "gzip" else "not coded"


def decoded(wanted: bytes) -> Judge:
    """The content, without the coding that the answer names."""

    def judge(talk: Talk) -> str:
        body = talk.answer.body
        if talk.answer.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        return "" if body == wanted else "other content"

    return judge


CASES = (
    Case(
        "no-coding-unasked",
        "9110 §12.5.3",
        "SHOULD",
        "sends content as it is where no coding is asked for",
        get(b"Accept-Encoding:"),
        PLAIN,
    ),
    Case(
        "coding-of-weight-0",
        "9110 §12.5.3",
        "SHOULD",
        "sends no coding whose weight is 0",
        get(b"Accept-Encoding: gzip;q=0, deflate;q=0.000, br; q=0"),
        PLAIN,
    ),
    Case(
        "any-coding-of-weight-0",
        "9110 §12.5.3",
        "SHOULD",
        "sends no coding where all but identity have the weight 0",
        get(b"Accept-Encoding: *;q=0, identity"),
        PLAIN,
    ),
    Case(
        "unknown-codings",
        "9110 §12.5.3",
        "SHOULD",
        "sends content as it is where it knows none of the codings",
        get(b"Accept-Encoding: cow, aes128gcm;q=0.5"),
        PLAIN,
    ),
    Case(
        "odd-accept-encoding",
        "9110 §12.5.3",
        "SHOULD",
        "sends content as it is, or coded in a way that was named",
        get(b"Accept-Encoding: , gzip;q=1.000 ,, identity;q=0.5,"),
        every(status(200), either(lacks("Content-Encoding"), has("Content-Encoding", "gzip")), kept),
    ),
    Case(
        "vary",
        "9110 §12.5.5",
        "SHOULD",
        "names Accept-Encoding in Vary if it decides about the content",
        get(b"Accept-Encoding: gzip", target=b"/long.txt"),
        every(status(200), when(coded_as_gzip, has("Vary", r"(?i).*(accept-encoding|\*).*"))),
        files=True,
    ),
    Case(
        "vary-of-what-is-not-coded",
        "9110 §12.5.5",
        "SHOULD",
        "names Accept-Encoding in Vary where content was not coded because it was not asked for, too",
        get(target=b"/long.txt") + get(b"Accept-Encoding: gzip", target=b"/long.txt"),
        every(
            status(200),
            when(
                coded_as_gzip,
                lambda talk: (
                    ""
                    if "accept-encoding" in (talk.answers[0].get("vary") or "").lower()
                    else "200 without vary"
                ),
            ),
        ),
        ("GET", "GET"),
        files=True,
    ),
    Case(
        "strong-tags-of-codings-differ",
        "9110 §8.8.3.3",
        "MUST",
        "does not send one strong tag with coded and uncoded content",
        get(target=b"/long.txt") + get(b"Accept-Encoding: gzip", target=b"/long.txt"),
        every(
            status(200),
            when(
                coded_as_gzip,
                lambda talk: (
                    "one strong tag"
                    if talk.answers[0].get("etag") == talk.answers[1].get("etag")
                    and not (talk.answer.get("etag") or "W/").startswith("W/")
                    else ""
                ),
            ),
        ),
        ("GET", "GET"),
        files=True,
    ),
    Case(
        "coded-content",
        "9110 §8.4",
        "MUST",
        "sends content in the coding that Content-Encoding names, and in no other",
        get(b"Accept-Encoding: gzip", target=b"/long.txt"),
        every(status(200), decoded(LONG_TEXT), kept),
        files=True,
    ),
    Case(
        "odd-accept",
        "9110 §12.5.1",
        "MUST",
        "ignores empty members of Accept",
        get(b"Accept: ,,text/html;q=0.1;x=y,, */*;q=0.01 ,"),
        PLAIN,
    ),
)
