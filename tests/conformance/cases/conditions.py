"""RFC 9110 section 13: conditional requests for files."""

from __future__ import annotations

from functools import partial

from tests.conformance.case import Case, get, head
from tests.conformance.judging import content, every, has, kept, status, when
from tests.conformance.talk import Talk
from tests.wire.origins import FILE

FileCase = partial(Case, files=True)
NOT_MODIFIED = every(status(304), kept)
THE_FILE = every(status(200), content(FILE), kept)
_OF_A_200 = ("content-location", "etag", "vary", "cache-control", "expires")


def fields_of_200(talk: Talk) -> str:
    """A 304 behind a 200 has those of its fields that a cache needs."""
    first, second = talk.answers
    missing = [name for name in _OF_A_200 if first.get(name) != second.get(name)]
    return f"304 without {', '.join(missing)}" if missing else ""


CASES = (
    FileCase(
        "if-none-match",
        "9110 §13.1.2",
        "MUST",
        "answers a GET whose If-None-Match names the tag with 304",
        get(b"If-None-Match: <etag>"),
        NOT_MODIFIED,
    ),
    FileCase(
        "if-none-match-of-a-head",
        "9110 §13.1.2",
        "MUST",
        "answers a HEAD whose If-None-Match names the tag with 304",
        head(b"HEAD /file.txt", b"If-None-Match: <etag>"),
        NOT_MODIFIED,
        ("HEAD",),
    ),
    FileCase(
        "if-none-match-any",
        "9110 §13.1.2",
        "MUST",
        "answers If-None-Match: * with 304 where there is a file",
        get(b"If-None-Match: *"),
        NOT_MODIFIED,
    ),
    FileCase(
        "if-none-match-weak",
        "9110 §13.1.2",
        "MUST",
        "compares tags weakly in If-None-Match",
        get(b"If-None-Match: <weak-etag>"),
        NOT_MODIFIED,
    ),
    FileCase(
        "if-none-match-list",
        "9110 §13.1.2",
        "MUST",
        "finds its tag in a list, among tags with commas and empty members",
        get(b'If-None-Match: "a,b", , W/"c\\" , <etag>, "d"'),
        NOT_MODIFIED,
    ),
    FileCase(
        "if-none-match-fields",
        "9110 §5.2",
        "SHOULD",
        "finds its tag in the second field of two",
        get(b'If-None-Match: "a"', b"If-None-Match: <etag>"),
        NOT_MODIFIED,
    ),
    FileCase(
        "if-none-match-other",
        "9110 §13.1.2",
        "MUST",
        "sends the file where If-None-Match names other tags",
        get(b'If-None-Match: "a", W/"b"'),
        THE_FILE,
    ),
    FileCase(
        "if-modified-since",
        "9110 §13.1.3",
        "SHOULD",
        "answers a file that was not modified since with 304",
        get(b"If-Modified-Since: <modified>"),
        NOT_MODIFIED,
    ),
    FileCase(
        "if-modified-since-later",
        "9110 §13.1.3",
        "SHOULD",
        "answers a file that was modified before that date with 304",
        get(b"If-Modified-Since: <later>"),
        NOT_MODIFIED,
    ),
    FileCase(
        "if-modified-since-earlier",
        "9110 §13.1.3",
        "MUST",
        "sends a file that was modified after that date",
        get(b"If-Modified-Since: <earlier>"),
        THE_FILE,
    ),
    FileCase(
        "date-of-rfc-850",
        "9110 §5.6.7",
        "MUST",
        "reads dates with two digits for the year",
        get(b"If-Modified-Since: <modified-rfc-eight-fifty>"),
        NOT_MODIFIED,
    ),
    FileCase(
        "date-of-asctime",
        "9110 §5.6.7",
        "MUST",
        "reads dates as asctime writes them",
        get(b"If-Modified-Since: <modified-asctime>"),
        NOT_MODIFIED,
    ),
    FileCase(
        "if-modified-since-no-date",
        "9110 §13.1.3",
        "MUST",
        "ignores If-Modified-Since with what is no date",
        get(b"If-Modified-Since: yesterday"),
        THE_FILE,
    ),
    FileCase(
        "if-modified-since-two-dates",
        "9110 §13.1.3",
        "MUST",
        "ignores If-Modified-Since with more than one member",
        get(b"If-Modified-Since: <modified>, <modified>"),
        THE_FILE,
    ),
    FileCase(
        "if-modified-since-beside-if-none-match",
        "9110 §13.1.3",
        "MUST",
        "ignores If-Modified-Since beside an If-None-Match",
        get(b'If-None-Match: "a"', b"If-Modified-Since: <modified>"),
        THE_FILE,
    ),
    FileCase(
        "if-none-match-beside-if-modified-since",
        "9110 §13.2.2",
        "MUST",
        "goes by If-None-Match where If-Modified-Since says something else",
        get(b"If-None-Match: <etag>", b"If-Modified-Since: <earlier>"),
        NOT_MODIFIED,
    ),
    FileCase(
        "fields-of-a-304",
        "9110 §15.4.5",
        "MUST",
        "sends the fields with a 304 that a cache needs and that it sends with a 200",
        get() + get(b"If-None-Match: <etag>"),
        every(status(304), fields_of_200),
        ("GET", "GET"),
    ),
    FileCase(
        "if-match",
        "9110 §13.1.1",
        "MUST",
        "sends the file where If-Match names its tag and that is a strong one",
        get(b'If-Match: "a", <etag>'),
        when(
            lambda talk: "" if not (talk.answer.get("etag") or "").startswith("W/") else "weak",
            THE_FILE,
        ),
    ),
    FileCase(
        "if-match-any",
        "9110 §13.1.1",
        "MUST",
        "sends the file where If-Match is *",
        get(b"If-Match: *"),
        THE_FILE,
    ),
    FileCase(
        "if-match-other",
        "9110 §13.1.1",
        "MUST",
        "does not send the file where If-Match names other tags",
        get(b'If-Match: "a"'),
        status(412),
    ),
    FileCase(
        "if-match-weak",
        "9110 §13.1.1",
        "MUST",
        "compares tags strongly in If-Match",
        get(b"If-Match: <weak-etag>"),
        status(412),
    ),
    FileCase(
        "if-unmodified-since",
        "9110 §13.1.4",
        "MUST",
        "sends a file that was not modified since",
        get(b"If-Unmodified-Since: <modified>"),
        THE_FILE,
    ),
    FileCase(
        "if-unmodified-since-earlier",
        "9110 §13.1.4",
        "MUST",
        "does not send a file that was modified since",
        get(b"If-Unmodified-Since: <earlier>"),
        status(412),
    ),
    FileCase(
        "if-unmodified-since-no-date",
        "9110 §13.1.4",
        "MUST",
        "ignores If-Unmodified-Since with what is no date",
        get(b"If-Unmodified-Since: yesterday"),
        THE_FILE,
    ),
    FileCase(
        "if-unmodified-since-beside-if-match",
        "9110 §13.1.4",
        "MUST",
        "ignores If-Unmodified-Since beside an If-Match",
        get(b"If-Match: *", b"If-Unmodified-Since: <earlier>"),
        THE_FILE,
    ),
    FileCase(
        "if-match-before-if-none-match",
        "9110 §13.2.2",
        "MUST",
        "looks at If-Match before If-None-Match",
        get(b'If-Match: "a"', b"If-None-Match: <etag>"),
        status(412),
    ),
    FileCase(
        "if-unmodified-since-before-if-none-match",
        "9110 §13.2.2",
        "MUST",
        "looks at If-Unmodified-Since before If-None-Match",
        get(b"If-Unmodified-Since: <earlier>", b"If-None-Match: <etag>"),
        status(412),
    ),
    FileCase(
        "if-none-match-behind-if-match",
        "9110 §13.2.2",
        "MUST",
        "looks at If-None-Match once If-Match is true",
        get(b"If-Match: *", b"If-None-Match: <etag>"),
        NOT_MODIFIED,
    ),
    FileCase(
        "condition-on-nothing",
        "9110 §13.2.1",
        "MUST",
        "ignores preconditions where the answer without them is an error",
        get(b"If-None-Match: *", target=b"/nothing"),
        status(404),
    ),
    FileCase(
        "if-match-on-nothing",
        "9110 §13.2.1",
        "MUST",
        "ignores If-Match where the answer without it is an error",
        get(b'If-Match: "a"', target=b"/nothing"),
        status(404),
    ),
    FileCase(
        "condition-on-a-refused-method",
        "9110 §13.2.1",
        "MUST",
        "ignores preconditions where the method is not allowed",
        head(b"DELETE /file.txt", b'If-Match: "a"'),
        status(405),
        ("DELETE",),
    ),
    FileCase(
        "condition-on-options",
        "9110 §13.2.1",
        "MUST",
        "ignores preconditions of OPTIONS",
        head(b"OPTIONS /file.txt", b'If-Match: "a"') + head(b"OPTIONS /file.txt"),
        lambda talk: (
            ""
            if len(talk.answers) == 2 and talk.answers[0].status == talk.answers[1].status
            else str(talk)
        ),
        ("OPTIONS", "OPTIONS"),
    ),
    FileCase(
        "date-of-a-412",
        "9110 §6.6.1",
        "MUST",
        "dates a 412",
        get(b'If-Match: "a"'),
        when(status(412), has("Date")),
    ),
)
