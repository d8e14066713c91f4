"""RFC 9112 sections 3.2 and 3.3: Host, and the four forms of a target."""

from __future__ import annotations

from tests.conformance.case import HOST, Case, get, head
from tests.conformance.judging import content, every, kept, not_done, status
from tests.wire.origins import FILE

THE_FILE = every(status(200), content(FILE), kept)

_BAD_HOSTS = {
    "blank": (b"local host", "a blank"),
    "list": (b"localhost, localhost", "a list of hosts"),
    "path": (b"localhost/file.txt", "a path"),
    "userinfo": (b"user@localhost", "a user"),
    "port-of-letters": (b"localhost:http", "a port that is no number"),
    "open-bracket": (b"[::1", "a bracket that is not closed"),
    "url": (b"http://localhost", "a URL"),
}

CASES = (
    Case(
        "no-host",
        "9112 §3.2",
        "MUST",
        "answers a request in HTTP/1.1 without Host with 400",
        get(host=b""),
        status(400),
    ),
    Case(
        "two-hosts",
        "9112 §3.2",
        "MUST",
        "answers a request with two Host fields with 400",
        get(b"Host: example.org"),
        status(400),
    ),
    Case(
        "two-equal-hosts",
        "9112 §3.2",
        "MUST",
        "answers a request with two Host fields with 400, equal ones, too",
        get(HOST),
        status(400),
    ),
    Case(
        "two-hosts-in-1.0",
        "9112 §3.2",
        "MUST",
        "answers a request in HTTP/1.0 with two Host fields with 400",
        head(b"GET /file.txt HTTP/1.0", b"Host: example.org"),
        status(400),
        ("GET 1.0",),
    ),
    Case(
        "no-host-beside-absolute-form",
        "9112 §3.2",
        "MUST",
        "answers a request without Host with 400, in absolute form, too",
        get(target=b"http://localhost/file.txt", host=b""),
        status(400),
    ),
    *(
        Case(
            f"host-with-{name}",
            "9112 §3.2",
            "MUST",
            f"answers a Host field that holds {what} with 400",
            get(host=b"Host: " + value),
            status(400),
        )
        for name, (value, what) in _BAD_HOSTS.items()
    ),
    Case(
        "no-host-in-1.0",
        "9112 §3.2",
        "SHOULD",
        "asks for a Host field in HTTP/1.1 only",
        b"GET /file.txt HTTP/1.0\r\n\r\n",
        every(status(200), content(FILE)),
        ("GET 1.0",),
    ),
    Case(
        "host-with-port",
        "9112 §3.2",
        "MUST",
        "takes a Host with a port",
        get(host=b"Host: localhost:80"),
        THE_FILE,
    ),
    Case(
        "host-is-an-ipv6-address",
        "9112 §3.2",
        "MUST",
        "takes a Host that is an IPv6 address in brackets",
        get(host=b"Host: [::1]:80"),
        THE_FILE,
    ),
    Case(
        "origin-form-with-query",
        "9112 §3.2.1",
        "MUST",
        "takes a path and a query",
        get(target=b"/file.txt?a=b&c=%20?/"),
        THE_FILE,
    ),
    Case(
        "absolute-form",
        "9112 §3.2.2",
        "MUST",
        "takes targets in absolute form",
        get(target=b"http://localhost/file.txt"),
        THE_FILE,
    ),
    Case(
        "absolute-form-in-upper-case",
        "9112 §3.2.2",
        "MUST",
        "takes targets in absolute form, whose scheme and host are case-insensitive",
        get(target=b"HTTP://LOCALHOST/file.txt"),
        THE_FILE,
    ),
    Case(
        "absolute-form-beats-host",
        "9112 §3.2.2",
        "MUST",
        "goes by the host of an absolute form, and not by the Host field",
        get(target=b"http://localhost/file.txt", host=b"Host: example.org"),
        THE_FILE,
    ),
    Case(
        "absolute-form-without-path",
        "9112 §3.2.2",
        "MUST",
        "takes an absolute form without a path as one whose path is a slash",
        get(target=b"http://localhost?x"),
        every(status(200, 403, 404), kept),
    ),
    Case(
        "absolute-form-without-host",
        "9110 §4.2.1",
        "MUST",
        "refuses an http URI with an empty host",
        get(target=b"http:///file.txt"),
        not_done,
    ),
    Case(
        "absolute-form-with-user",
        "9110 §4.2.4",
        "SHOULD",
        "takes a user in an http URI for an error",
        get(target=b"http://user@localhost/file.txt"),
        not_done,
    ),
    Case(
        "authority-form-of-get",
        "9112 §3.2.3",
        "SHOULD",
        "takes the authority form with CONNECT only",
        get(target=b"localhost:80"),
        not_done,
    ),
    Case(
        "asterisk-form-of-get",
        "9112 §3.2.4",
        "SHOULD",
        "takes the asterisk form with OPTIONS only",
        get(target=b"*"),
        not_done,
    ),
    Case(
        "target-without-slash",
        "9112 §3.2",
        "SHOULD",
        "answers a target that has none of the four forms with 400",
        get(target=b"file.txt"),
        status(400),
    ),
)
