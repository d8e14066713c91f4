"""RFC 9110 section 14, and what sections 13.1.5, 15.3.7 and 15.5.17 say about it: parts of files."""

from __future__ import annotations

import re
from functools import partial

from tests.conformance.case import Case, get, head
from tests.conformance.judging import (
    Judge,
    content,
    either,
    every,
    has,
    kept,
    lacks,
    status,
    statuses,
    when,
)
from tests.conformance.talk import Talk
from tests.wire.origins import FILE

FileCase = partial(Case, files=True)
SIZE = len(FILE)
WHOLE = every(status(200), content(FILE), lacks("Content-Range"), kept)
UNSATISFIABLE = every(status(416), kept)
_OF_A_200 = ("cache-control", "content-location", "etag", "expires", "vary")
_PLACE = re.compile(rb"(?i)\r\ncontent-range: *bytes ([0-9]+)-([0-9]+)/([0-9]+)\r\n")


def sent_part(first: int, last: int) -> Judge:
    """One part of the file, and its place."""
    place = has("Content-Range", rf"bytes {first}-{last}/{SIZE}")
    return every(status(206), place, content(FILE[first : last + 1]), kept)


def fields_of_200(talk: Talk) -> str:
    whole, partial_ = talk.answers
    missing = [name for name in _OF_A_200 if whole.get(name) != partial_.get(name)]
    return f"206 without {', '.join(missing)}" if missing else ""


def parts(talk: Talk) -> str:
    """The content is a well-formed multipart/byteranges, and its parts are where they say they are."""
    found = re.fullmatch(
        r'multipart/byteranges; *boundary="?([^" ;]+)"?', talk.answer.get("content-type") or ""
    )
    if found is None:
        return "206 without multipart/byteranges"
    _preamble, *pieces = (b"\r\n" + talk.answer.body).split(b"\r\n--" + found[1].encode())
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        return "broken multipart"
    for piece in pieces[:-1]:
        fields, _, data = piece.partition(b"\r\n\r\n")
        place = _PLACE.search(fields + b"\r\n")
        if place is None:
            return "a part without Content-Range"
        first, last, size = map(int, place.groups())
        if size != SIZE or data != FILE[first : last + 1]:
            return "a part from elsewhere"
    return ""


SEVERAL = every(status(206), parts, lacks("Content-Range"), kept)

CASES = (
    FileCase(
        "range-first-bytes",
        "9110 §14.2",
        "SHOULD",
        "sends the part that is asked for",
        get(b"Range: bytes=0-9"),
        sent_part(0, 9),
    ),
    FileCase(
        "range-to-the-end",
        "9110 §14.1.2",
        "SHOULD",
        "sends what begins at a position",
        get(b"Range: bytes=990-"),
        sent_part(990, 999),
    ),
    FileCase(
        "range-suffix",
        "9110 §14.1.2",
        "SHOULD",
        "sends the last bytes",
        get(b"Range: bytes=-10"),
        sent_part(990, 999),
    ),
    FileCase(
        "range-past-the-end",
        "9110 §14.1.2",
        "MUST",
        "ends a part at the end of the file, if it is to end behind it",
        get(b"Range: bytes=990-5000"),
        either(sent_part(990, 999), WHOLE),
    ),
    FileCase(
        "suffix-longer-than-the-file",
        "9110 §14.1.2",
        "MUST",
        "takes a suffix that is longer than the file for all of it",
        get(b"Range: bytes=-5000"),
        either(sent_part(0, 999), WHOLE),
    ),
    FileCase(
        "position-beyond-64-bits",
        "9110 §14.1.2",
        "MUST",
        "is not misled by positions that are larger than its integers",
        get(b"Range: bytes=990-18446744073709551617"),
        either(sent_part(990, 999), WHOLE, UNSATISFIABLE),
    ),
    FileCase(
        "range-beyond-the-end",
        "9110 §14.2",
        "SHOULD",
        "answers a range that begins behind the end with 416",
        get(b"Range: bytes=1000-"),
        UNSATISFIABLE,
    ),
    FileCase(
        "suffix-of-nothing",
        "9110 §14.1.2",
        "SHOULD",
        "answers a suffix of no bytes with 416",
        get(b"Range: bytes=-0"),
        UNSATISFIABLE,
    ),
    FileCase(
        "size-in-a-416",
        "9110 §15.5.17",
        "SHOULD",
        "tells with a 416 how long the file is",
        get(b"Range: bytes=1000-"),
        when(status(416), has("Content-Range", rf"bytes \*/{SIZE}")),
    ),
    FileCase(
        "unit-in-any-case",
        "9110 §14.1",
        "SHOULD",
        "takes range units in any case",
        get(b"Range: BYTES=0-9"),
        sent_part(0, 9),
    ),
    FileCase(
        "unknown-unit",
        "9110 §14.2",
        "MUST",
        "ignores a range in a unit that it does not know",
        get(b"Range: cows=0-9"),
        WHOLE,
    ),
    FileCase(
        "last-before-first",
        "9110 §14.1.1",
        "MUST",
        "takes a range whose end is before its beginning for invalid",
        get(b"Range: bytes=9-5"),
        either(WHOLE, status(400, 416)),
    ),
    FileCase(
        "range-of-letters",
        "9110 §14.1.1",
        "MUST",
        "takes a range of letters for invalid",
        get(b"Range: bytes=a-b"),
        either(WHOLE, status(400, 416)),
    ),
    FileCase(
        "range-of-a-head",
        "9110 §14.2",
        "MUST",
        "ignores ranges of other methods than GET",
        head(b"HEAD /file.txt", b"Range: bytes=0-9"),
        every(status(200), lacks("Content-Range"), kept),
        ("HEAD",),
    ),
    FileCase(
        "range-of-nothing",
        "9110 §14.2",
        "MUST",
        "sends no part of what is not there",
        get(b"Range: bytes=0-9", target=b"/nothing"),
        every(status(404), lacks("Content-Range")),
    ),
    FileCase(
        "range-of-an-empty-file",
        "9110 §14.1.2",
        "SHOULD",
        "answers a range of an empty file with 416, or with the file",
        get(b"Range: bytes=0-9", target=b"/empty.txt"),
        every(status(200, 416), kept),
    ),
    FileCase(
        "several-ranges",
        "9110 §15.3.7.2",
        "MUST",
        "sends several parts as multipart/byteranges, each with its place",
        get(b"Range: bytes=0-9, 20-29,-5"),
        either(SEVERAL, WHOLE),
    ),
    FileCase(
        "several-ranges-with-empty-members",
        "9110 §5.6.1",
        "MUST",
        "ignores empty members of a list of ranges",
        get(b"Range: bytes=,0-9, ,20-29"),
        either(SEVERAL, WHOLE),
    ),
    FileCase(
        "one-of-several-satisfiable",
        "9110 §14.1.2",
        "MUST",
        "sends what can be sent of several ranges",
        get(b"Range: bytes=0-9,5000-"),
        either(sent_part(0, 9), SEVERAL, WHOLE),
    ),
    FileCase(
        "one-range-is-not-multipart",
        "9110 §15.3.7.2",
        "MUST",
        "does not send a single range as multipart",
        get(b"Range: bytes=0-9"),
        every(status(200, 206), lacks("Content-Type", "multipart.*")),
    ),
    FileCase(
        "many-overlapping-ranges",
        "9110 §14.2",
        "SHOULD",
        "does not send more than the file for many overlapping ranges",
        get(b"Range: bytes=" + b",".join([b"0-"] * 100)),
        every(lambda talk: "" if len(talk.answer.body) < 5 * SIZE else "many times the file", kept),
    ),
    FileCase(
        "fields-of-a-206",
        "9110 §15.3.7",
        "MUST",
        "sends the fields with a 206 that a cache needs and that it sends with a 200",
        get() + get(b"Range: bytes=0-9"),
        every(statuses(200, 206), has("Date"), fields_of_200),
        ("GET", "GET"),
    ),
    FileCase(
        "accept-ranges",
        "9110 §14.3",
        "SHOULD",
        "names the range units it knows with a file",
        get(),
        every(status(200), has("Accept-Ranges", ".*bytes.*")),
    ),
    FileCase(
        "if-range-tag",
        "9110 §13.1.5",
        "SHOULD",
        "sends a part where If-Range names the tag and that is a strong one",
        get(b"Range: bytes=0-9", b"If-Range: <etag>"),
        sent_part(0, 9),
    ),
    FileCase(
        "if-range-other-tag",
        "9110 §13.1.5",
        "MUST",
        "sends the whole file where If-Range names another tag",
        get(b"Range: bytes=0-9", b'If-Range: "a"'),
        WHOLE,
    ),
    FileCase(
        "if-range-weak-tag",
        "9110 §13.1.5",
        "MUST",
        "sends the whole file where If-Range names a weak tag",
        get(b"Range: bytes=0-9", b"If-Range: <weak-etag>"),
        WHOLE,
    ),
    FileCase(
        "if-range-date",
        "9110 §13.1.5",
        "MUST",
        "sends a part where If-Range is the very date of the last change, long ago",
        get(b"Range: bytes=0-9", b"If-Range: <modified>"),
        either(sent_part(0, 9), WHOLE),
    ),
    FileCase(
        "if-range-later-date",
        "9110 §13.1.5",
        "MUST",
        "sends the whole file where If-Range is another date, a later one, too",
        get(b"Range: bytes=0-9", b"If-Range: <later>"),
        WHOLE,
    ),
    FileCase(
        "if-range-earlier-date",
        "9110 §13.1.5",
        "MUST",
        "sends the whole file where If-Range is an earlier date",
        get(b"Range: bytes=0-9", b"If-Range: <earlier>"),
        WHOLE,
    ),
    FileCase(
        "if-range-without-range",
        "9110 §13.1.5",
        "MUST",
        "ignores If-Range without Range",
        get(b'If-Range: "a"'),
        WHOLE,
    ),
    FileCase(
        "if-range-beyond-the-end",
        "9110 §13.1.5",
        "MUST",
        "does not look at a range at all where If-Range is false",
        get(b"Range: bytes=5000-", b'If-Range: "a"'),
        WHOLE,
    ),
    FileCase(
        "condition-before-range",
        "9110 §13.2.2",
        "MUST",
        "looks at If-None-Match before Range",
        get(b"Range: bytes=0-9", b"If-None-Match: <etag>"),
        every(status(304), kept),
    ),
    FileCase(
        "refusal-before-range",
        "9110 §13.2.2",
        "MUST",
        "looks at If-Match before Range",
        get(b"Range: bytes=5000-", b'If-Match: "a"'),
        status(412),
    ),
)
