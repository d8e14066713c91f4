"""What goes to an upstream and what comes back: nothing is lost, hidden, forged or split."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quick_server.protocol.client import ResponseHead
from quick_server.protocol.forwarding import (
    Route,
    parse_route,
    request_head,
    response_fields,
    upstream_target,
    wants_upgrade,
)
from quick_server.protocol.heads import parse_head
from quick_server.protocol.messages import Headers, ProtocolError, RequestHead

ROUTE = parse_route("/foo/", "http://up.example:81/bar")
ROOT = parse_route("/foo/", "http://up.example:81")
VIEW = ("https", "me.example:8443")


def request(
    path: str = "/foo/x", *fields: str, method: str = "GET", version: str = "1.1", host: str = "me:80"
) -> RequestHead:
    lines = [f"{method} {path} HTTP/{version}", *([f"Host: {host}"] if host else []), *fields, "", ""]
    return parse_head("\r\n".join(lines).encode("latin-1"))


def sent(
    head: RequestHead,
    route: Route = ROUTE,
    *,
    client: str = "192.0.2.1",
    scheme: str = "http",
    upgrade: bool = False,
) -> tuple[str, list[tuple[str, str]]]:
    """Request line and fields, names in lower case, as the upstream's parser finds them."""
    raw = request_head(route, head, client, scheme, chunked=head.chunked, upgrade=upgrade)
    assert raw.endswith(b"\r\n\r\n")
    assert raw.count(b"\r\n\r\n") == 1
    start, *lines = raw[:-4].decode("latin-1").split("\r\n")
    return start, [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines)]


def field(head: RequestHead, name: str, route: Route = ROUTE, client: str = "") -> list[str]:
    return [value for known, value in sent(head, route, client=client)[1] if known == name]


def returned(
    *fields: tuple[str, str], status: int = 200, version: str = "1.1", route: Route = ROUTE
) -> list[tuple[str, str]]:
    head = ResponseHead(status, "1.0" if version == "1.0" else "1.1", fields, 0, keep_alive=True)
    lines = response_fields(route, head, VIEW).decode("latin-1").split("\r\n")
    assert lines.pop() == ""
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


# ---- routes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost", ("http", "localhost", 80, None, "/")),
        ("http://localhost/", ("http", "localhost", 80, None, "/")),
        ("HTTP://LocalHost:8080/a/b//", ("http", "localhost", 8080, None, "/a/b")),
        ("https://up.example/%41", ("https", "up.example", 443, None, "/%41")),
        ("https://[::1]:8443", ("https", "::1", 8443, None, "/")),
        ("unix:/run/a.sock:/b/", ("http", "localhost", 80, "/run/a.sock", "/b")),
        ("unix:/run/a.sock", ("http", "localhost", 80, "/run/a.sock", "/")),
    ],
)
def test_routes(url: str, expected: tuple[object, ...]) -> None:
    assert parse_route("/foo/", url)[1:6] == expected


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("localhost:8080", "http://"),
        ("ftp://localhost/", "http://"),
        ("//localhost/", "http://"),
        ("", "http://"),
        ("http://", "host"),
        ("http:///path", "host"),
        ("http://a b/", "host"),
        ("http://a\r\n/", "host"),
        ("http://a:/", "host"),
        ("http://a:b/", "host"),
        ("http://a:0/", "port"),
        ("http://a:65536/", "port"),
        ("http://[::g]/", "IPv6"),
        ("http://[fe80::1%25eth0]/", "IPv6"),
        ("http://b\u00fccher.example/", "host"),
        ("http://a:b@c/", "user"),
        ("http://a/?b", "query"),
        ("http://a/#b", "fragment"),
        ("http://a/../b", "dot"),
        ("http://a/%2e%2e/b", "dot"),
        ("http://a/..%2fb", "dot"),
        ("http://a/b c", "encoded"),
        ("http://a/\u00e9", "encoded"),
        ("http://a/\r\nX: y", "encoded"),
        ("http://a/b\n", "encoded"),
        ("unix:a.sock:/", "absolute"),
        ("unix:/a\0b", "absolute"),
        ("unix:/a:b", "slash"),
        ("unix:/" + "a" * 200, "bytes"),
    ],
)
def test_urls_that_are_no_upstream(url: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        parse_route("/foo/", url)


@pytest.mark.parametrize("secret", ["secret", "secret?", "secret/", "secret#", "80/secret"])
def test_a_password_is_not_repeated(secret: str) -> None:
    with pytest.raises(ValueError, match="the upstream's URL") as caught:
        parse_route("/foo/", f"http://me:{secret}@up/?")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("prefix", ["", "foo", "/foo", "foo/", "//", "/a//b/", "/../", "/a/./"])
def test_prefixes_that_are_none(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        parse_route(prefix, "http://localhost")


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://up", "up"),
        ("http://up:80", "up"),
        ("https://up:80", "up:80"),
        ("http://[::1]:81", "[::1]:81"),
        ("unix:/a.sock", "localhost"),
    ],
)
def test_the_host_that_the_upstream_is_told(url: str, host: str) -> None:
    assert field(request(), "host", parse_route("/foo/", url)) == [host]


def test_the_host_of_the_client_is_kept_if_asked_for() -> None:
    route = parse_route("/foo/", "http://up", preserve_host=True)
    assert field(request(), "host", route) == ["me:80"]
    assert field(request(version="1.0", host=""), "host", route) == ["up"]
    assert field(request("http://other/foo/x"), "host", route) == ["other"]


# ---- targets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/foo", "/bar"),
        ("/foo/", "/bar/"),
        ("/foo//", "/bar/"),
        ("/foo?", "/bar?"),
        ("/foo/?a=%2E%2e/../&b#c", "/bar/?a=%2E%2e/../&b"),
        ("/foo?a?b", "/bar?a?b"),
        ("/foo#?a", "/bar"),
        ("/foo/a%2Fb", "/bar/a%2Fb"),
        ("/foo/a%2fb%41%zz%", "/bar/a%2fb%41%zz%"),
        ("/foo/%", "/bar/%"),
        ("/foo/%252e%252e/a", "/bar/%252e%252e/a"),
        ("/foo/a//b/", "/bar/a//b/"),
        ("/foo//a", "/bar/a"),
        ("//foo/a", "/bar/a"),
        ("/%66oo/a", "/bar/a"),
        ("/foo/./a", "/bar/a"),
        ("/foo/a/..", "/bar/"),
        ("/foo/a/.", "/bar/a/"),
        ("/foo/a/%2e%2e/%2f", "/bar/%2f"),
        ("/foo/a/../b%20c", "/bar/b%20c"),
        ("/foo/..a/b../...", "/bar/..a/b../..."),
        ("/a/../foo/b", "/bar/b"),
        ("/foo/../foo/b", "/bar/b"),
        ("http://else/foo/a?b", "/bar/a?b"),
        ("/foo/%00%0d%0a", "/bar/%00%0d%0a"),
    ],
)
def test_targets(path: str, target: str) -> None:
    assert upstream_target(ROUTE, request(path)) == target
    assert upstream_target(ROOT, request(path)) == (
        target.removeprefix("/bar") if "/bar/" in target else "/" + target.removeprefix("/bar")
    )


@pytest.mark.parametrize(
    "path",
    [
        "/foo/..",
        "/foo/../",
        "/foo/../bar",
        "/foo/%2e%2e/bar",
        "/foo/.%2E/bar",
        "/foo//../../bar",
        "/foo//../bar",
        "/foo/a/../../bar",
        "/foo/..%2fbar",
        "/foo/..%2Fbar",
        "/foo/a%2f..%2f..%2fbar",
        "/foo/%2e%2e%2fbar",
        "/foo/..%5cbar",
        "/foo/..\\bar",
        "/foo/..;/bar",
        "/foo/..;a=b/bar",
        "/foo/%2e%2e%3b/bar",
        "/../foo/a",
        "/foobar",
        "/fo",
        "/",
        "/FOO/a",
    ],
)
def test_what_leaves_the_prefix_is_refused(path: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        upstream_target(ROUTE, request(path))
    assert caught.value.status == 400


def test_everything_may_go_to_an_upstream() -> None:
    route = parse_route("/", "http://up")
    assert upstream_target(route, request("/")) == "/"
    assert upstream_target(route, request("/a/../b?c")) == "/b?c"
    assert upstream_target(route, request("//evil.example/a")) == "/evil.example/a"
    assert upstream_target(route, request("*", method="OPTIONS")) == "*"
    with pytest.raises(ProtocolError):
        upstream_target(ROUTE, request("*", method="OPTIONS"))


PARTS = st.sampled_from(
    ["foo", "a", "..", ".", "", "%2e%2e", "%2E.", "%2f", "%2F..", "..%5c", "..;x", "...", "b%2fc",
     "%66oo", "%", "%c3%a9", "%ff", "\\..", "%25%32%65"]
)  # fmt: skip


def target_if_any(route: Route, head: RequestHead) -> str | None:
    try:
        return upstream_target(route, head)
    except ProtocolError as error:
        if error.status != 400:
            raise
        return None


@settings(max_examples=1500, deadline=None)
@given(st.lists(PARTS, max_size=7), st.sampled_from(["/foo/", "/", "/foo/a/"]))
def test_no_target_leaves_the_prefix_however_it_is_read(parts: list[str], prefix: str) -> None:
    route = parse_route(prefix, "http://up/bar/baz")
    head = request("/foo/" + "/".join(parts))
    target = target_if_any(route, head)
    if target is None:
        return
    assert target == "/bar/baz" or target.startswith("/bar/baz/")
    assert not target.startswith("/bar/baz//")
    cut = [piece.partition(";")[0] for piece in unquote(target).replace("\\", "/").split("/")]
    assert ".." not in cut
    segments = head.target.segments
    assert segments is not None
    count = len(prefix.strip("/").split("/")) if prefix != "/" else 0
    rest = target.removeprefix("/bar/baz")
    received = request(rest or "/").target.segments
    assert received == segments[count:]  # what was routed is what is asked for


@settings(max_examples=500, deadline=None)
@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20))
def test_a_plain_path_and_a_query_stay_as_they_are(text: str) -> None:
    path, _, query = text.replace("#", "").partition("?")
    assume(".." not in unquote(path) and "/./" not in f"/{unquote(path)}/" and not path.startswith("/"))
    raw = f"{path}?{query}"
    assert upstream_target(ROUTE, request(f"/foo/{raw}")) == f"/bar/{raw}"


# ---- requests -----------------------------------------------------------------------------------


def test_a_request_as_a_whole() -> None:
    head = request("/foo/x?y", "Accept: a", "Cookie: b", "Accept: c", "X: \xe9", "Content-Length: 5",
                   "Expect: 100-continue", method="PUT")  # fmt: skip
    assert sent(head) == (
        "PUT /bar/x?y HTTP/1.1",
        [
            ("host", "up.example:81"),
            ("accept", "a"),
            ("cookie", "b"),
            ("accept", "c"),
            ("x", "\xe9"),
            ("expect", "100-continue"),
            ("x-forwarded-for", "192.0.2.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "me:80"),
            ("forwarded", 'for=192.0.2.1;proto=http;host="me:80"'),
            ("via", "1.1 quick_server"),
            ("content-length", "5"),
        ],
    )


def test_fields_of_the_connection_stay_there() -> None:
    head = request(
        "/foo/x",
        "Connection: close, X-Private , x",
        "X-Private: 1",
        "x-private: 2",
        "Keep-Alive: 5",
        "Proxy-Connection: a",
        "TE: trailers",
        "Trailer: b",
        "Upgrade: c",
        "Proxy-Authorization: d",
        "HTTP2-Settings: e",
        "Proxy: f",
        "X-Public: g",
    )
    names = {name for name, _value in sent(head)[1]}
    assert names == {"host", "x-public", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host",
                     "forwarded", "via"}  # fmt: skip


def test_connection_cannot_take_away_what_matters() -> None:
    names = "Host, Content-Length, Cookie, Authorization, X-Forwarded-For, Via, Forwarded, close"
    head = request(
        "/foo/x",
        f"Connection: {names}",
        "Connection: X-Forwarded-Proto",
        "Content-Length: 3",
        "Cookie: a",
        "Authorization: b",
        "X-Forwarded-For: c",
        method="POST",
    )
    _start, fields = sent(head)
    assert ("content-length", "3") in fields
    assert ("host", "up.example:81") in fields
    assert ("cookie", "a") in fields
    assert ("authorization", "b") in fields
    assert ("x-forwarded-for", "c, 192.0.2.1") in fields
    assert ("x-forwarded-proto", "http") in fields
    assert any(name == "via" for name, _value in fields)


def test_what_other_proxies_have_said_comes_first() -> None:
    head = request(
        "/foo/x",
        "X-Forwarded-For: a",
        "Via: 1.0 z",
        "X-Forwarded-For: b, c",
        "Forwarded: for=d",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: h",
        version="1.0",
    )
    fields = sent(head)[1]
    assert fields[1:] == [
        ("x-forwarded-for", "a, b, c, 192.0.2.1"),
        ("x-forwarded-proto", "https, http"),
        ("x-forwarded-host", "h, me:80"),
        ("forwarded", 'for=d, for=192.0.2.1;proto=http;host="me:80"'),
        ("via", "1.0 z, 1.0 quick_server"),
    ]


@pytest.mark.parametrize(
    ("client", "plain", "node"),
    [
        ("2001:db8::1", "2001:db8::1", 'for="[2001:db8::1]"'),
        ("fe80::1%eth0", "fe80::1", 'for="[fe80::1]"'),
        ("127.0.0.1", "127.0.0.1", "for=127.0.0.1"),
        ("", "unknown", "for=unknown"),
    ],
)
def test_addresses(client: str, plain: str, node: str) -> None:
    assert field(request(), "x-forwarded-for", client=client) == [plain]
    assert field(request(), "forwarded", client=client)[0].startswith(node + ";")


@pytest.mark.parametrize("value", ['for="a', "for=a b", 'for="a\\"', "for", ",", "for=a;"])
def test_what_we_say_is_not_swallowed_by_an_open_quotation(value: str) -> None:
    forwarded = field(request("/foo/x", f"Forwarded: {value}"), "forwarded")
    assert forwarded == ['for=unknown;proto=http;host="me:80"']


@pytest.mark.parametrize("name", ["X_Forwarded_For", "x-forwarded_host", "Content_Length"])
def test_names_with_underscores_do_not_pass_for_ours(name: str) -> None:
    fields = sent(request("/foo/x", f"{name}: 1", "A_b: 2"))[1]
    assert name.lower() not in {known for known, _value in fields if "_" in known}
    assert ("a_b", "2") in fields


def test_chunked_content_has_no_length() -> None:
    head = request("/foo/x", "Transfer-Encoding: chunked", method="POST")
    assert [f for f in sent(head)[1] if "-length" in f[0] or "-encoding" in f[0]] == [
        ("transfer-encoding", "chunked")
    ]
    sized = request("/foo/x", "Content-Length: 3", method="POST")
    raw = request_head(ROUTE, sized, "", "http", chunked=True, upgrade=False)
    assert b"Content-Length" not in raw
    with pytest.raises(AssertionError):
        request_head(ROUTE, head, "", "http", chunked=False, upgrade=False)


@pytest.mark.parametrize(("said", "length"), [("0", "0"), ("007", "7"), ("5, 5", "5")])
def test_a_length_is_one_number(said: str, length: str) -> None:
    assert field(request("/foo/x", f"Content-Length: {said}"), "content-length") == [length]


UPGRADE = ("Connection: keep-alive, Upgrade", "Upgrade: websocket")


def test_an_upgrade_is_passed_on() -> None:
    head = request("/foo/x", *UPGRADE, "Sec-WebSocket-Key: a")
    assert wants_upgrade(head)
    fields = sent(head, upgrade=True)[1]
    assert fields[-2:] == [("connection", "Upgrade"), ("upgrade", "websocket")]
    assert ("sec-websocket-key", "a") in fields
    assert not {"connection", "upgrade"} & {name for name, _value in sent(head)[1]}


@pytest.mark.parametrize(
    "head",
    [
        request(),
        request("/foo/x", "Upgrade: websocket"),
        request("/foo/x", "Connection: Upgrade"),
        request("/foo/x", "Connection: xupgrade", "Upgrade: websocket"),
        request("/foo/x", *UPGRADE, version="1.0"),
        request("/foo/x", *UPGRADE, method="HEAD"),
        request("/foo/x", *UPGRADE, "Content-Length: 1", method="POST"),
        request("/foo/x", *UPGRADE, "Transfer-Encoding: chunked", method="POST"),
        request("/foo/x", "Connection: Upgrade", "Upgrade: a b"),
        request("/foo/x", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"),
        request("/foo/x", "Connection: Upgrade", "Upgrade: websocket, H2C"),
        request("/foo/x", "Connection: Upgrade", "Upgrade: websocket", "Upgrade: h2c"),
        request("/foo/x", "Connection: Upgrade", "Upgrade: HTTP/2.0"),
        request("/foo/x", "Connection: Upgrade", "Upgrade: TLS/1.3"),
    ],
    ids=lambda head: repr(head.headers),
)
def test_what_is_no_upgrade(head: RequestHead) -> None:
    assert not wants_upgrade(head)


def test_other_protocols_and_methods_may_be_upgraded_to() -> None:
    assert wants_upgrade(request("/foo/x", "connection: UPGRADE", "Upgrade: tcp", method="POST"))


# ---- responses ----------------------------------------------------------------------------------


def test_a_response_as_a_whole() -> None:
    assert returned(
        ("Date", "today"), ("SERVER", "up"), ("Set-Cookie", "a=b; Path=/bar"), ("Set-Cookie", "c=d"),
        ("Content-Length", "5"), ("Transfer-Encoding", "chunked"),
        ("Connection", "X-A, Set-Cookie, close"), ("X-A", "1"),
        ("Keep-Alive", "x"), ("Trailer", "x"), ("Upgrade", "h2"), ("Via", "1.1 z"),
        ("Proxy-Authenticate", "Basic"), ("Location", "http://up.example:81/bar/"), ("X", "\xe9"),
    ) == [
        ("Date", "today"), ("SERVER", "up"), ("Set-Cookie", "a=b; Path=/bar"), ("Set-Cookie", "c=d"),
        ("Location", "http://up.example:81/bar/"), ("X", "\xe9"), ("Via", "1.1 z, 1.1 quick_server"),
    ]  # fmt: skip


def test_the_version_of_the_upstream_is_in_via() -> None:
    assert returned(version="1.0") == [("Via", "1.0 quick_server")]


@pytest.mark.parametrize("status", [101, 426])
def test_the_answer_to_an_upgrade(status: int) -> None:
    fields = returned(("Connection", "upgrade"), ("upgrade", "websocket"), status=status)
    assert fields[-2:] == [("Upgrade", "websocket"), ("Connection", "Upgrade")]


def test_nothing_splits_a_message() -> None:
    with pytest.raises(ValueError, match="cannot be sent"):
        returned(("X", "a\r\nSet-Cookie: b"))
    head = request()._replace(headers=Headers([("x", "a\r\nb: c")]))
    with pytest.raises(ValueError, match="cannot be sent"):
        request_head(ROUTE, head, "", "http", chunked=False, upgrade=False)
    target = request().target._replace(raw="/foo/a b", path="/foo/a b")
    with pytest.raises(ProtocolError):
        upstream_target(ROUTE, request()._replace(target=target))


REWRITING = parse_route("/foo/", "http://up.example:81/bar", rewrite=True)
REWRITING_ROOT = parse_route("/foo/", "http://up.example", rewrite=True)
TO_ROOT = parse_route("/", "http://up.example/bar", rewrite=True)
SPACED = parse_route("/f o/", "http://up.example/bar", rewrite=True)
ME = "https://me.example:8443"


@pytest.mark.parametrize(
    ("route", "value", "expected"),
    [
        (REWRITING, "http://up.example:81/bar/x?y=/bar/#z", f"{ME}/foo/x?y=/bar/#z"),
        (REWRITING, "HTTP://UP.example:81/bar", f"{ME}/foo"),
        (REWRITING, "//up.example:81/bar/", f"{ME}/foo/"),
        (REWRITING, "/bar/x", "/foo/x"),
        (REWRITING, "/bar", "/foo"),
        (REWRITING, "/bar?a", "/foo?a"),
        (REWRITING, "/bar/", "/foo/"),
        (REWRITING, "/bare", "/bare"),
        (REWRITING, "/", "/"),
        (REWRITING, "x/y", "x/y"),
        (REWRITING, "?a", "?a"),
        (REWRITING, "#a", "#a"),
        (REWRITING, "", ""),
        (REWRITING, "/bar/../x", "/bar/../x"),
        (REWRITING, "http://up.example/bar/x", "http://up.example/bar/x"),
        (REWRITING, "https://up.example:81/bar/x", "https://up.example:81/bar/x"),
        (REWRITING, "http://up.example:81/else", "http://up.example:81/else"),
        (REWRITING, "http://up.example:81@evil/bar/", "http://up.example:81@evil/bar/"),
        (REWRITING, "http://other/bar/", "http://other/bar/"),
        (REWRITING, "mailto:a@b", "mailto:a@b"),
        (REWRITING_ROOT, "http://up.example", f"{ME}/foo/"),
        (REWRITING_ROOT, "http://up.example:80/a", f"{ME}/foo/a"),
        (REWRITING_ROOT, "http://up.example?a", f"{ME}/foo/?a"),
        (REWRITING_ROOT, "/a", "/foo/a"),
        (REWRITING_ROOT, "/", "/foo/"),
        (TO_ROOT, "/bar/a", "/a"),
        (TO_ROOT, "/bar", "/"),
        (TO_ROOT, "/bar//evil.example", "/evil.example"),
        (TO_ROOT, "/bar/\\evil.example", "/evil.example"),
        (TO_ROOT, "/bar/\t/evil.example", "/evil.example"),
        (SPACED, "/bar/a", "/f%20o/a"),
    ],
)
def test_locations_are_rewritten(route: Route, value: str, expected: str) -> None:
    assert returned(("Location", value), route=route)[0] == ("Location", expected)
    assert returned(("content-location", value), route=route)[0] == ("content-location", expected)


def test_the_clients_own_host_is_the_upstreams_if_that_was_told_it() -> None:
    told = parse_route("/foo/", "http://up.example/bar", rewrite=True, preserve_host=True)
    value = "http://me.example:8443/bar/x"
    assert returned(("Location", value), route=told)[0] == ("Location", f"{ME}/foo/x")
    assert returned(("Location", value), route=REWRITING)[0] == ("Location", value)


@pytest.mark.parametrize(
    ("route", "value", "expected"),
    [
        (REWRITING, "a=b; Path=/bar; HttpOnly", "a=b; Path=/foo; HttpOnly"),
        (REWRITING, "a=b;path = /bar/x/;Secure", "a=b;path =/foo/x/;Secure"),
        (REWRITING, "a=b; Path=/bar/", "a=b; Path=/foo"),
        (REWRITING, "a=b; Path=/", "a=b; Path=/foo"),
        (REWRITING, "a=b; Path=/bare", "a=b; Path=/bare"),
        (REWRITING, "a=b; Path", "a=b; Path"),
        (REWRITING, "a=b", "a=b"),
        (REWRITING, "path=/bar", "path=/bar"),
        (REWRITING, "a=b; Domain=.UP.example; Secure", "a=b; Secure"),
        (REWRITING, "a=b; Domain=example", "a=b; Domain=example"),
        (REWRITING, "__Host-a=b; Path=/; Secure", "__Host-a=b; Path=/; Secure"),
        (REWRITING_ROOT, "a=b; Path=/", "a=b; Path=/foo"),
        (REWRITING_ROOT, "a=b; Path=/x", "a=b; Path=/foo/x"),
        (TO_ROOT, "a=b; Path=/bar", "a=b; Path=/"),
        (TO_ROOT, "a=b; Path=/bar/x", "a=b; Path=/x"),
    ],
)
def test_cookies_are_rewritten(route: Route, value: str, expected: str) -> None:
    assert returned(("Set-Cookie", value), route=route)[0] == ("Set-Cookie", expected)
    plain = route._replace(rewrite=False)
    assert returned(("Set-Cookie", value), route=plain)[0] == ("Set-Cookie", value)


# ---- anything at all ----------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["Connection", "Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "Cookie", "X-A", "Te",
     "Upgrade", "Keep-Alive", "Location", "Set-Cookie", "Content-Length", "Transfer-Encoding"]
)  # fmt: skip
VALUES = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30
)
VALUES = VALUES.map(lambda text: "".join(c for c in text if not "\x7f" <= c <= "\x9f").strip()) | NAMES


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
def test_what_we_say_about_the_client_is_always_last(fields: list[tuple[str, str]]) -> None:
    free = [f for f in fields if f[0] not in ("Content-Length", "Transfer-Encoding")]
    head = request()._replace(headers=Headers([("host", "me"), *((n.lower(), v) for n, v in free)]))
    got = Headers(sent(head)[1])
    assert got["x-forwarded-for"].split(", ")[-1] == "192.0.2.1"
    assert got["via"].split(", ")[-1] == "1.1 quick_server"
    assert got["forwarded"].endswith("for=192.0.2.1;proto=http;host=me")
    before = got["forwarded"].removesuffix("for=192.0.2.1;proto=http;host=me")
    assert before.replace('\\"', "").count('"') % 2 == 0
    assert not {"connection", "keep-alive", "te", "upgrade"} & set(got)
    assert got.get("cookie") == head.headers.get("cookie")


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=8), st.sampled_from([ROUTE, REWRITING, TO_ROOT]))
def test_any_fields_come_back_as_lines(fields: list[tuple[str, str]], route: Route) -> None:
    got = returned(*fields, route=route)
    names = [name for name, _value in got]
    assert not {"Connection", "Content-Length", "Transfer-Encoding", "Keep-Alive"} & set(names)
    assert names[-1] == "Via"
    assert names.count("Set-Cookie") == sum(name == "Set-Cookie" for name, _value in fields)
