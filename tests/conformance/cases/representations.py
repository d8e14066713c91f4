"""RFC 9110 sections 6 to 8: versions, dates, Upgrade, what is said about content."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime

from tests.conformance.case import CHUNKED, Case, get, head
from tests.conformance.judging import (
    answered,
    content,
    every,
    has,
    kept,
    lacks,
    status,
    when,
)
from tests.conformance.talk import Talk
from tests.wire.origins import FILE

IMF_FIXDATE = (
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-3][0-9] "
    r"(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} [0-2][0-9]:[0-5][0-9]:[0-6][0-9] GMT"
)
ENTITY_TAG = r'(W/)?"[\x21\x23-\x7e\x80-\xff]*"'
MEDIA_TYPE = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+/[!#$%&'*+.^_`|~0-9A-Za-z-]+([ \t]*;.*)?"
ABOUT_NOW = 60.0  # seconds that the clocks of client and server may differ; here they are the same

DATED = has("Date", IMF_FIXDATE)


def seconds(talk: Talk, name: str) -> float:
    """The time in a field; 0 without one."""
    value = talk.answer.get(name)
    return parsedate_to_datetime(value).timestamp() if value else 0.0


def dated_now(talk: Talk) -> str:
    return "" if abs(seconds(talk, "date") - time.time()) < ABOUT_NOW else "another time"


def modified_not_after_date(talk: Talk) -> str:
    late = seconds(talk, "last-modified") > seconds(talk, "date")
    return "Last-Modified is after Date" if late else ""


CASES = (
    Case(
        "later-minor-version",
        "9110 §6.2",
        "SHOULD",
        "reads HTTP/1.2 as the highest version of HTTP/1 it speaks",
        head(b"GET /file.txt HTTP/1.2"),
        status(200),
        exception="there is no version between 1.1 and 2: who claims one is told so",
    ),
    Case(
        "answers-in-1.1",
        "9110 §6.2",
        "SHOULD",
        "answers a request in HTTP/1.0 in the highest version of HTTP/1 it speaks",
        head(b"GET /file.txt HTTP/1.0"),
        every(
            status(200), lambda talk: "" if talk.answer.version == "HTTP/1.1" else talk.answer.version
        ),
        ("GET 1.0",),
    ),
    Case(
        "other-major-version",
        "9110 §6.2",
        "MUST",
        "answers a major version it does not speak in one that it does",
        head(b"GET /file.txt HTTP/2.0"),
        lambda talk: "" if talk.answer.version in ("HTTP/1.0", "HTTP/1.1") else str(talk),
    ),
    Case("date", "9110 §6.6.1", "MUST", "dates a 200", get(), every(status(200), DATED, dated_now)),
    Case(
        "date-of-a-404",
        "9110 §6.6.1",
        "MUST",
        "dates a 404",
        get(target=b"/nothing"),
        every(status(404), DATED),
    ),
    Case(
        "date-of-a-405",
        "9110 §6.6.1",
        "MUST",
        "dates a 405",
        head(b"DELETE /hello"),
        every(status(405), DATED),
        ("DELETE",),
    ),
    Case(
        "date-of-a-400",
        "9110 §6.6.1",
        "MUST",
        "dates a 400, for a head that is none, too",
        get(b"X : y"),
        when(answered, DATED),
    ),
    Case(
        "date-of-a-414",
        "9110 §6.6.1",
        "MUST",
        "dates a 414",
        get(target=b"/hello?" + b"a" * 1_000_000),
        when(answered, DATED),
    ),
    Case(
        "date-of-a-304",
        "9110 §6.6.1",
        "MUST",
        "dates a 304",
        get(b"If-None-Match: <etag>"),
        every(status(304), DATED),
        files=True,
    ),
    Case(
        "upgrade-to-the-unknown",
        "9110 §7.8",
        "MUST",
        "does not switch to a protocol it does not know",
        get(b"Upgrade: cow/1", b"Connection: upgrade"),
        every(status(200), content(FILE), kept),
    ),
    Case(
        "upgrade-to-h2c",
        "9110 §7.8",
        "MUST",
        "does not switch to h2c without being able to",
        get(
            b"Upgrade: h2c",
            b"Connection: Upgrade, HTTP2-Settings",
            b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
        ),
        every(status(200), content(FILE), kept),
    ),
    Case(
        "upgrade-in-1.0",
        "9110 §7.8",
        "MUST",
        "ignores Upgrade in HTTP/1.0",
        head(
            b"GET /file.txt HTTP/1.0",
            b"Upgrade: websocket",
            b"Connection: upgrade",
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            b"Sec-WebSocket-Version: 13",
        ),
        every(status(200), content(FILE)),
        ("GET 1.0",),
    ),
    Case(
        "content-type",
        "9110 §8.3",
        "SHOULD",
        "tells the media type of content",
        get(),
        every(status(200), has("Content-Type", MEDIA_TYPE)),
    ),
    Case(
        "content-type-of-an-error",
        "9110 §8.3",
        "SHOULD",
        "tells the media type of an error page",
        get(target=b"/nothing"),
        when(
            lambda talk: "" if talk.answer.body else "no content",
            every(status(404), has("Content-Type", MEDIA_TYPE)),
        ),
    ),
    Case(
        "no-coding-of-its-own",
        "9110 §8.4",
        "MUST",
        "names all codings of content, and none for content without",
        get(),
        every(status(200), lacks("Content-Encoding"), content(FILE)),
    ),
    Case(
        "last-modified",
        "9110 §8.8.2",
        "SHOULD",
        "tells when a file was modified",
        get(),
        every(status(200), has("Last-Modified", IMF_FIXDATE)),
        files=True,
    ),
    Case(
        "modified-in-the-future",
        "9110 §8.8.2.1",
        "MUST",
        "sends no Last-Modified that is later than its Date",
        get(target=b"/future.txt"),
        every(status(200), modified_not_after_date),
        files=True,
    ),
    Case(
        "etag",
        "9110 §8.8.3",
        "SHOULD",
        "sends an entity tag with a file",
        get(),
        every(status(200), has("ETag", ENTITY_TAG)),
        files=True,
    ),
    Case(
        "moved-folder",
        "9110 §15.4.2",
        "SHOULD",
        "tells where a folder is with Location",
        get(target=b"/folder?a=b"),
        every(status(301, 308), has("Location", r"(https?://localhost(:[0-9]+)?)?/folder/\?a=b")),
        files=True,
    ),
    Case(
        "content-beside-upgrade",
        "9110 §7.8",
        "MUST",
        "reads the content of a request that asks for an upgrade",
        head(b"POST /echo", b"Upgrade: cow/1", b"Connection: upgrade", CHUNKED)
        + b"5\r\nhello\r\n0\r\n\r\n",
        every(status(200), content(b"hello"), kept),
        ("POST",),
    ),
)
