"""RFC 9112 section 5, and what RFC 9110 sections 5.1 to 5.6 say about fields of any kind."""

from __future__ import annotations

from tests.conformance.case import CHUNKED, LAST, Case, chunked, get, head, post, sized
from tests.conformance.judging import closed, content, either, every, kept, status
from tests.conformance.talk import Talk
from tests.wire.origins import FILE

ECHOED = every(status(200), content(b"hello"), kept)
THE_FILE = every(status(200), content(FILE), kept)


def too_large_or_fine(talk: Talk) -> str:
    return "" if talk.answer.status == 200 or 400 <= talk.answer.status < 500 else str(talk)


CASES = (
    Case(
        "blank-before-the-colon",
        "9112 §5.1",
        "MUST",
        "answers a blank between name and colon with 400",
        get(b"X : y"),
        status(400),
    ),
    Case(
        "tab-before-the-colon",
        "9112 §5.1",
        "MUST",
        "answers a tab between name and colon with 400",
        get(b"X\t: y"),
        status(400),
    ),
    Case(
        "blank-before-the-colon-of-a-length",
        "9112 §5.1",
        "MUST",
        "answers a blank between Content-Length and its colon with 400",
        post(b"Content-Length : 5", body=b"hello"),
        status(400),
        ("POST",),
    ),
    Case(
        "blank-before-the-colon-of-a-coding",
        "9112 §5.1",
        "MUST",
        "answers a blank between Transfer-Encoding and its colon with 400",
        post(b"Transfer-Encoding : chunked", body=LAST),
        status(400),
        ("POST",),
    ),
    Case(
        "blanks-around-a-value",
        "9112 §5.1",
        "MUST",
        "leaves blanks and tabs around a value out of it",
        post(b"Content-Length: \t 5 \t ", body=b"hello"),
        ECHOED,
        ("POST",),
    ),
    Case(
        "no-blank-before-a-value",
        "9112 §5",
        "MUST",
        "takes a value without a blank before it",
        post(b"Content-Length:5", body=b"hello"),
        ECHOED,
        ("POST",),
    ),
    Case(
        "empty-value",
        "9112 §5",
        "MUST",
        "takes a field whose value is empty",
        get(b"X:"),
        THE_FILE,
    ),
    Case(
        "folded-value",
        "9112 §5.2",
        "MUST",
        "answers a folded field with 400, or takes the fold for blanks",
        get(b"X: a\r\n b"),
        either(status(400), THE_FILE),
    ),
    Case(
        "fold-that-looks-like-a-coding",
        "9112 §5.2",
        "MUST",
        "answers a folded field with 400, or takes the fold for blanks and not for a field",
        post(b"Content-Length: 5", b"X: y\r\n " + CHUNKED, body=LAST),
        either(status(400), every(status(200), content(LAST), kept)),
        ("POST",),
    ),
    Case(
        "folded-length",
        "9112 §5.2",
        "MUST",
        "does not drop the second line of a folded length",
        post(b"Content-Length: 1\r\n 0", body=b"0123456789"),
        status(400),
        ("POST",),
    ),
    Case(
        "names-in-any-case",
        "9110 §5.1",
        "MUST",
        "takes the names of fields in any case",
        head(b"POST /echo", b"cONTENT-lENGTH: 5", host=b"hOST: localhost") + b"hello",
        ECHOED,
        ("POST",),
    ),
    Case(
        "unknown-fields",
        "9110 §5.1",
        "SHOULD",
        "ignores fields it does not know",
        get(b"X-Unknown: a", b"!#$%&'*+-.^_`|~09azAZ: b", b'Another: "(),/:;<=>?@[\\]{}'),
        THE_FILE,
    ),
    Case(
        "repeated-lists",
        "9110 §5.2",
        "MUST",
        "takes several fields of one name as one list",
        get(b"Connection: x-one", b"Connection: close"),
        every(status(200), content(FILE), closed),
    ),
    Case(
        "large-field",
        "9110 §5.4",
        "MUST",
        "answers a field that is larger than it wishes with an error of the client",
        get(b"X: " + b"a" * 1_000_000),
        too_large_or_fine,
    ),
    Case(
        "many-fields",
        "9110 §5.4",
        "MUST",
        "answers more fields than it wishes with an error of the client",
        get(*[b"X-%d: y" % number for number in range(20_000)]),
        too_large_or_fine,
    ),
    Case(
        "nul-in-a-value",
        "9110 §5.5",
        "MUST",
        "refuses NUL in a value or takes it for a blank, which a length may not hold",
        post(b"Content-Length: 1\x000", body=b"0123456789"),
        status(400),
        ("POST",),
    ),
    Case(
        "nul-in-a-host",
        "9110 §5.5",
        "MUST",
        "refuses NUL in a value or takes it for a blank, which a host may not hold",
        get(host=b"Host: local\x00host"),
        status(400),
    ),
    Case(
        "octets-above-ascii-in-a-value",
        "9110 §5.5",
        "SHOULD",
        "takes octets above US-ASCII in a value as they are",
        get(b"X: caf\xe9", "Y: na\u00efve".encode()),
        THE_FILE,
    ),
    Case(
        "tab-in-a-value",
        "9110 §5.5",
        "MUST",
        "takes tabs within a value",
        get(b"X: a\tb"),
        THE_FILE,
    ),
    Case(
        "empty-members-of-a-list",
        "9110 §5.6.1",
        "MUST",
        "ignores empty members of a list",
        get(b"Connection: , ,close,"),
        every(status(200), content(FILE), closed),
    ),
    Case(
        "names-with-underscores",
        "9110 §5.1",
        "MUST",
        "keeps Transfer_Encoding and Transfer-Encoding apart",
        sized(LAST, b"Transfer_Encoding: chunked"),
        every(status(200), content(LAST), kept),
        ("POST",),
    ),
    Case(
        "chunked-in-any-case",
        "9112 §7",
        "MUST",
        "takes the names of transfer codings in any case",
        chunked(b"5\r\nhello\r\n" + LAST).replace(b": chunked", b": ChUnKeD"),
        ECHOED,
        ("POST",),
    ),
)
