"""RFC 9110 section 9, and the fields of section 10.2 that answers to methods need."""

from __future__ import annotations

from tests.conformance.case import HOST, Case, get, head
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

_DERIVED = {"date", "connection", "keep-alive", "age"}
METHODS = r"([A-Z]+([ \t]*,[ \t]*)?)*"


def same_fields(talk: Talk) -> str:
    """Nothing in the answer to HEAD that is not in that to GET, and nothing missing."""
    of_head, of_get = (
        {name.lower(): value for name, value in answer.headers if name.lower() not in _DERIVED}
        for answer in talk.answers
    )
    differing = sorted(name for name, _ in set(of_head.items()) ^ set(of_get.items()))
    return f"other fields: {', '.join(dict.fromkeys(differing))}" if differing else ""


def reflects(talk: Talk) -> str:
    answer = talk.answer
    if answer.status != 200:
        return ""
    told = (answer.get("content-type") or "").startswith("message/http")
    return "" if told and answer.body.startswith(b"TRACE ") else "200, no message/http"


CASES = (
    Case(
        "get-and-head",
        "9110 §9.1",
        "MUST",
        "knows GET and HEAD",
        get() + head(b"HEAD /file.txt"),
        every(statuses(200, 200), content(FILE, b""), kept),
        ("GET", "HEAD"),
    ),
    Case(
        "method-in-lower-case",
        "9110 §9.1",
        "SHOULD",
        "takes methods as case-sensitive",
        head(b"get /file.txt"),
        not_done,
    ),
    Case(
        "unknown-method",
        "9110 §9.1",
        "SHOULD",
        "answers a method it does not know with 501, or with 405",
        head(b"COW /file.txt"),
        status(501, 405),
        ("COW",),
    ),
    Case(
        "method-not-allowed",
        "9110 §9.1",
        "SHOULD",
        "answers a method that a resource does not allow with 405",
        head(b"DELETE /hello"),
        every(status(405), either(kept, closed)),
        ("DELETE",),
    ),
    Case(
        "head-without-content",
        "9110 §9.3.2",
        "MUST",
        "sends no content in an answer to HEAD",
        head(b"HEAD /file.txt"),
        every(status(200), kept),
        ("HEAD",),
    ),
    Case(
        "head-of-nothing-without-content",
        "9110 §9.3.2",
        "MUST",
        "sends no content in an error that answers HEAD",
        head(b"HEAD /nothing"),
        every(status(404), either(kept, closed)),
        ("HEAD",),
    ),
    Case(
        "refused-head-without-content",
        "9110 §9.3.2",
        "MUST",
        "sends no content in a 400 that answers HEAD",
        head(b"HEAD /file.txt", b"X : y"),
        either(kept, closed),
        ("HEAD",),
    ),
    Case(
        "head-like-get",
        "9110 §9.3.2",
        "SHOULD",
        "sends the fields in answer to HEAD that it sends in answer to GET",
        head(b"HEAD /file.txt") + get(),
        every(statuses(200, 200), same_fields),
        ("HEAD", "GET"),
    ),
    Case(
        "head-of-nothing-like-get",
        "9110 §9.3.2",
        "SHOULD",
        "sends the fields of a 404 in answer to HEAD that it sends in answer to GET",
        head(b"HEAD /nothing") + get(target=b"/nothing"),
        every(statuses(404, 404), same_fields),
        ("HEAD", "GET"),
    ),
    Case(
        "content-of-a-get",
        "9110 §9.3.1",
        "MUST",
        "frames the content of a GET like that of any request, or closes",
        head(b"GET /file.txt", b"Content-Length: 5") + b"hello",
        either(every(status(200), content(FILE)), every(status(400, 413), closed)),
    ),
    Case(
        "content-of-a-head",
        "9110 §9.3.2",
        "MUST",
        "frames the content of a HEAD like that of any request, or closes",
        head(b"HEAD /file.txt", b"Content-Length: 5") + b"hello",
        either(status(200), every(status(400, 413), closed)),
        ("HEAD",),
    ),
    Case(
        "allow-of-a-405",
        "9110 §10.2.1",
        "MUST",
        "tells with a 405 which methods are allowed",
        head(b"DELETE /hello"),
        when(status(405), has("Allow", METHODS)),
        ("DELETE",),
    ),
    Case(
        "allow-of-a-file",
        "9110 §15.5.6",
        "MUST",
        "tells with a 405 which methods are allowed for a file",
        head(b"POST /file.txt", b"Content-Length: 5") + b"hello",
        when(status(405), has("Allow", METHODS)),
        ("POST",),
    ),
    Case(
        "allow-does-not-name-the-method",
        "9110 §10.2.1",
        "MUST",
        "does not name a method as allowed that it has just refused",
        head(b"DELETE /file.txt"),
        when(status(405), lacks("Allow", r".*\bDELETE\b.*")),
        ("DELETE",),
    ),
    Case(
        "connect",
        "9110 §9.3.6",
        "SHOULD",
        "makes no tunnel, as an origin server, and says so",
        head(b"CONNECT localhost:80", host=b"Host: localhost:80"),
        not_done,
        ("CONNECT",),
    ),
    Case(
        "connect-without-port",
        "9110 §9.3.6",
        "MUST",
        "refuses CONNECT without a port",
        head(b"CONNECT localhost:"),
        not_done,
        ("CONNECT",),
    ),
    Case(
        "connect-to-a-path",
        "9112 §3.2.3",
        "SHOULD",
        "takes no other form than that of an authority with CONNECT",
        head(b"CONNECT /file.txt"),
        not_done,
        ("CONNECT",),
    ),
    Case(
        "options-of-the-server",
        "9112 §3.2.4",
        "MUST",
        "answers the asterisk form of OPTIONS, and takes it for no path",
        head(b"OPTIONS *"),
        every(status(200, 204, 400, 404, 405, 501), either(kept, closed)),
        ("OPTIONS",),
    ),
    Case(
        "options-of-a-file",
        "9110 §9.3.7",
        "SHOULD",
        "tells with a successful OPTIONS what is allowed",
        head(b"OPTIONS /file.txt"),
        every(
            status(200, 204, 404, 405, 501),
            when(status(200, 204), has("Allow", METHODS)),
        ),
        ("OPTIONS",),
    ),
    Case(
        "options-with-content",
        "9110 §9.3.7",
        "MUST",
        "frames the content of OPTIONS like that of any request, or closes",
        head(b"OPTIONS /file.txt", b"Content-Length: 5", b"Content-Type: text/plain") + b"hello",
        every(answered, either(kept, closed)),
        ("OPTIONS",),
    ),
    Case(
        "trace",
        "9110 §9.3.8",
        "SHOULD",
        "reflects TRACE as message/http, or does not know it",
        head(b"TRACE /file.txt"),
        every(status(200, 405, 501), reflects, either(kept, closed)),
        ("TRACE",),
    ),
    Case(
        "trace-keeps-secrets",
        "9110 §9.3.8",
        "SHOULD",
        "leaves cookies out of what it reflects",
        head(b"TRACE /file.txt", HOST, b"Cookie: secret=1", host=b"X: y"),
        every(lambda talk: "reflected" if b"secret" in talk.answer.body else "", either(kept, closed)),
        ("TRACE",),
    ),
)
