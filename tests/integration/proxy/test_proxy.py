"""Requests that an upstream answers: what reaches it, what comes back, and who is asked at all."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from quick_server import (
    PreventDefaultResponse,
    QuickServer,
    QuickServerRequestHandler,
    create_server,
)
from quick_server.protocol.target import split
from tests.harness import Answer, Client, Running
from tests.integration.logs import Log
from tests.integration.upstreams import Asked, Scripted

Req = QuickServerRequestHandler
Serve = Callable[[QuickServer], Running]

GET = "GET /up/x HTTP/1.1\r\nHost: localhost\r\n\r\n"


def ask(client: Client, upstream: Scripted, target: str = "/up/x", **more: str) -> Asked:
    """One request that is answered, on a connection of its own to the upstream."""
    method = more.pop("method", "GET")
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    client.send("\r\n".join(lines) + "\r\n\r\n")
    line, asked = upstream.take()
    line.answer(fields=b"Connection: close\r\n")
    answer = client.answer(head_only=method == "HEAD")
    assert answer.status == 200
    assert line.ends() == b""
    return asked


def answered(client: Client, upstream: Scripted, raw: bytes, request: str = GET) -> Answer:
    """What the client gets when the upstream sends these bytes."""
    client.send(request)
    line, _ = upstream.take()
    line.send(raw)
    return client.answer(head_only=request.startswith("HEAD"))


# ---- what reaches the upstream ------------------------------------------------------------------


def test_a_request_to_the_byte(client: Client, upstream: Scripted) -> None:
    client.send("GET /up/a?b HTTP/1.1\r\nHost: localhost:99\r\nX-One: 1\r\nAccept: */*\r\n\r\n")
    line, asked = upstream.take()
    assert asked.raw.decode().lower().split("\r\n") == [
        "get /base/a?b http/1.1",
        f"host: {upstream.authority}",
        "x-one: 1",
        "accept: */*",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: localhost:99",
        'forwarded: for=127.0.0.1;proto=http;host="localhost:99"',
        "via: 1.1 quick_server",
        "",
        "",
    ]
    assert asked.line == "GET /base/a?b HTTP/1.1"
    line.answer(b"hello")
    assert client.answer().body == b"hello"


def test_an_answer_to_the_byte(client: Client, upstream: Scripted) -> None:
    client.send(GET)
    line, _ = upstream.take()
    line.send(b"HTTP/1.1 203 Whatever\r\nServer: me\r\nX-A: 1\r\nContent-Length: 2\r\nx-a:2 \r\n\r\nhi")
    while b"\r\n\r\nhi" not in client.rest:
        assert client._fill()
    head, _, content = client.rest.partition(b"\r\n\r\n")
    start, *fields = head.decode().split("\r\n")
    assert start.startswith("HTTP/1.1 203 ")
    assert sorted(fields) == [
        "Content-Length: 2", "Server: me", "Via: 1.1 quick_server", "X-A: 1", "x-a: 2"
    ]  # fmt: skip
    assert fields.index("X-A: 1") < fields.index("x-a: 2")
    assert content == b"hi"


METHODS = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "BREW",
    "M-SEARCH",
    "get",
]


@pytest.mark.parametrize("method", METHODS)
def test_any_method(client: Client, upstream: Scripted, method: str) -> None:
    assert ask(client, upstream, method=method).line == f"{method} /base/x HTTP/1.1"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "BREW", "GET"])
@pytest.mark.parametrize("body", [b"", b"some\r\n\r\nbytes \xff\x00"])
def test_any_method_with_content(client: Client, upstream: Scripted, method: str, body: bytes) -> None:
    length = f"Content-Length: {len(body)}\r\n"
    client.send(f"{method} /up/x HTTP/1.1\r\nHost: localhost\r\n{length}\r\n").send(body)
    line, asked = upstream.take()
    assert asked.all("content-length") == [str(len(body))]
    assert line.content(asked) == body
    line.answer(b"fine", "201 Created")
    answer = client.answer()
    assert (answer.status, answer.body) == (201, b"fine")
    assert line.is_quiet


TARGETS = {
    "/up": "/base",
    "/up/": "/base/",
    "/up?": "/base?",
    "/up/?": "/base/?",
    "/up?a=b": "/base?a=b",
    "/up/a/": "/base/a/",
    "/up/a?b?c": "/base/a?b?c",
    "/up/a?x=%2F%2f&y=%zz&&=;+&..": "/base/a?x=%2F%2f&y=%zz&&=;+&..",
    "/up/a?q=/../../&url=http://other/": "/base/a?q=/../../&url=http://other/",
    "/up/a?b=\"<>|{}^`'": "/base/a?b=\"<>|{}^`'",
    "/up/a%20b/%C3%BC/%7Ex/~x": "/base/a%20b/%C3%BC/%7Ex/~x",
    "/up/%FF%fe": "/base/%FF%fe",
    "/up/a//b": "/base/a//b",
    "/up/a;b=c,d:e@f!$&'()*+": "/base/a;b=c,d:e@f!$&'()*+",
    "/up/%3Fa%23b": "/base/%3Fa%23b",
    "/up/a%2Fb": "/base/a%2Fb",
    "/up/a%0d%0ab": "/base/a%0d%0ab",
    "/up/a%00b": "/base/a%00b",
    "/up/..a/...": "/base/..a/...",
    "/up/%252e%252e/x": "/base/%252e%252e/x",
    "http://localhost/up/a?b": "/base/a?b",
}


@pytest.mark.parametrize("target", TARGETS)
def test_the_rest_of_the_path_and_the_query_as_they_came(
    client: Client, upstream: Scripted, target: str
) -> None:
    assert ask(client, upstream, target).target == TARGETS[target]


def test_a_fragment_is_not_passed_on(client: Client, upstream: Scripted) -> None:
    assert ask(client, upstream, "/up/a?b#c").target == "/base/a?b"


@pytest.mark.parametrize("target", ["/", "/upper", "/upper/x", "/u", "/UP/x", "/x/up/", "/up%2Fx"])
def test_other_paths_are_not_the_upstreams(
    server: QuickServer, serve: Serve, upstream: Scripted, target: str
) -> None:
    assert serve(server).get(target).status == 404
    assert upstream.is_quiet


LEAVING = [
    "/up/../secret", "/up/..", "/up/a/../../secret", "/up/%2e%2e/secret", "/up/.%2E/secret",
    "/up/%2E./", "/up/./../secret", "/up//../../secret", "/../up/../secret", "/up/..?x", "/up/../..",
]  # fmt: skip


@pytest.mark.parametrize("target", LEAVING)
def test_dot_segments_do_not_leave_the_prefix(
    server: QuickServer, serve: Serve, upstream: Scripted, target: str
) -> None:
    run = serve(server)
    assert run.get(target).status in (400, 404)
    assert upstream.is_quiet


AMBIGUOUS = [
    "/up/..%2fsecret", "/up/..%2Fsecret", "/up/%2e%2e%2fsecret", "/up/..%5csecret", "/up/a%2f..%2f",
    "/up/a/..%2f..%2f..%2fx", "/up/..;/secret", "/up/..;a=b/x", "/up/%2e%2e;/x", "/up/..%5C..%5Cx",
    "/up/%2f..", "/up/b/a%2f%2e%2e/../x",
]  # fmt: skip


@pytest.mark.parametrize("target", AMBIGUOUS)
def test_what_some_would_read_as_a_way_out_is_refused(
    server: QuickServer, serve: Serve, upstream: Scripted, target: str
) -> None:
    assert serve(server).get(target).status == 400
    assert upstream.is_quiet


INSIDE = {
    "/up/a/../b": "/base/b",
    "/up/./a": "/base/a",
    "/up/a/..": "/base/",
    "/up/a/b/%2e%2e/c": "/base/a/c",
    "/other/../up/a": "/base/a",
    "/up/../up/a": "/base/a",
}


@pytest.mark.parametrize("target", INSIDE)
def test_dot_segments_within_the_prefix_are_resolved(
    client: Client, upstream: Scripted, target: str
) -> None:
    assert ask(client, upstream, target).target == INSIDE[target]


@pytest.mark.parametrize("target", ["/up//evil.example/x", "//up/x", "/up///", "/up//"])
def test_slashes_never_make_a_host(upstream: Scripted, serve: Serve, target: str) -> None:
    server = create_server(("127.0.0.1", 0))
    server.bind_proxy("/up/", upstream.url)
    client = serve(server).connect()
    client.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    line, asked = upstream.take()
    assert asked.target.startswith("/")
    assert not asked.target.startswith("//")
    line.answer()
    assert client.answer().status == 200


PIECES = ["..", ".", "", "a", "%2e%2e", "%2E", ".%2e", "%2f", "%5c", "..%2f", ";", "..;", "up", "base",
          "%252e%252e", "%00", "..%00", "secret", "...", "%ff", "%c0%ae%c0%ae"]  # fmt: skip


def _once(path: str) -> list[str]:
    """The segments as the most lenient server may see them."""
    text = "/".join(split(path)).replace("\\", "/")
    return [segment.partition(";")[0] for segment in text.split("/")]


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(PIECES), max_size=7), st.sampled_from(["/up/", "/", "//up/", "/a/../up/"])
)
@example([".."], "/up/")
def test_no_spelling_leaves_the_prefix(
    run: Running, upstream: Scripted, pieces: list[str], start: str
) -> None:
    client = run.connect()
    target = start + "/".join(pieces)
    client.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    # Whichever comes first: a request at the upstream, or the server's own answer.
    ready = select.select([client.sock, upstream.sock], [], [], 10)[0]
    try:
        if client.sock in ready:
            assert client.answer().status in (400, 404)
            assert upstream.is_quiet
            return
        line, asked = upstream.take()
        line.answer(fields=b"Connection: close\r\n")
        assert client.answer().status == 200
        line.close()
        assert asked.target.startswith("/base")
        assert asked.target[5:6] in ("", "/")
        depth = 0
        for segment in _once(asked.target[5:]):
            depth += -1 if segment == ".." else segment not in ("", ".")
            assert depth >= 0, asked.target
    finally:
        client.close()
        run.clients.remove(client)


# ---- who is asked -------------------------------------------------------------------------------


def test_handlers_then_files_then_upstreams_then_nobody(
    server: QuickServer, serve: Serve, upstream: Scripted, www: Path
) -> None:
    (www / "up").mkdir()
    (www / "up" / "file.txt").write_text("a file")
    (www / "up" / "both.txt").write_text("a file")
    server.bind_path("/", str(www))
    server.text_get("/up/both.txt")(lambda req, args: "a handler")
    server.text_get("/up/handler")(lambda req, args: "a handler")
    server.text_get("/elsewhere")(lambda req, args: "a handler")
    run = serve(server)
    client = run.connect()
    assert run.get("/up/handler").body == b"a handler"
    assert run.get("/up/both.txt").body == b"a handler"
    assert run.get("/up/file.txt").body == b"a file"
    assert upstream.is_quiet
    assert ask(client, upstream, "/up/none.txt").target == "/base/none.txt"
    assert run.get("/none.txt").status == 404
    assert run.request("POST", "/elsewhere").status == 405
    # another method than the handler's, and than a file's
    assert ask(client, upstream, "/up/handler", method="DELETE").line == "DELETE /base/handler HTTP/1.1"


def test_what_is_a_file_by_name_only_is_the_upstreams(
    server: QuickServer, serve: Serve, upstream: Scripted, www: Path
) -> None:
    (www / "up" / "folder").mkdir(parents=True)
    (www / "up" / ".hidden").write_text("hidden")
    server.bind_path("/", str(www))
    client = serve(server).connect()
    assert ask(client, upstream, "/up/folder/x").target == "/base/folder/x"


def test_pre_middleware_comes_first(server: QuickServer, serve: Serve, upstream: Scripted) -> None:
    def guard(req: Req, path: str, cookie: SimpleCookie | None) -> None:
        req.send_header("X-Guard", path)
        if "secret" in path:
            raise PreventDefaultResponse(403, "not for you")

    server.add_pre_middleware(guard)
    run = serve(server)
    assert run.get("/up/secret").status == 403
    assert upstream.is_quiet
    client = run.connect()
    answer = answered(client, upstream, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
    assert (answer.status, answer.body, answer.get("x-guard")) == (200, b"hi", "/up/x")


def test_the_longest_prefix_wins(server: QuickServer, serve: Serve, upstream: Scripted) -> None:
    server.bind_proxy("/up/deep/", f"{upstream.url}/deep")
    server.bind_proxy("/", f"{upstream.url}/all/")
    server.bind_proxy("/up/deep/deeper/", f"{upstream.url}/")
    client = serve(server).connect()
    wanted = {
        "/up/x": "/base/x",
        "/up/deep": "/deep",
        "/up/deep/": "/deep/",
        "/up/deepx": "/base/deepx",
        "/up/deep/deeper/y": "/y",
        "/up/deep/deeper": "/",
        "/x": "/all/x",
        "/": "/all/",
    }
    assert {target: ask(client, upstream, target).target for target in wanted} == wanted


def test_binding_again_replaces(server: QuickServer, serve: Serve, upstream: Scripted) -> None:
    client = serve(server).connect()
    assert ask(client, upstream).target == "/base/x"
    server.bind_proxy("/up/", f"{upstream.url}/other")  # while it serves
    assert ask(client, upstream).target == "/other/x"


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("up/", "http://localhost"), ("/up", "http://localhost"), ("/up/", "localhost:80"),
        ("/up/", "ftp://localhost"), ("/up/", "http://"), ("/up/", "http://user:secret@localhost/"),
        ("/up/", "http://localhost:99999"), ("/up/", "http://localhost/a?b"),
        ("/up/", "http://localhost/a b"), ("/up/", "http://localhost/a/../b"), ("", "http://localhost"),
        ("/up/", "http://localhost/\r\nX: y"), ("/a//b/", "http://localhost"),
    ],
)  # fmt: skip
def test_what_cannot_be_bound(server: QuickServer, name: str, url: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        server.bind_proxy(name, url)
    assert "secret" not in str(raised.value)


# ---- the fields of a request --------------------------------------------------------------------


def test_fields_come_through_in_order_with_duplicates(client: Client, upstream: Scripted) -> None:
    client.send(
        "GET /up/x HTTP/1.1\r\nX-B: 1\r\nHost: localhost\r\nX-A: 2\r\nCookie: a=b\r\nx-b: 3\r\n"
        "X-A:\t4 \r\nX-Empty:\r\nCookie: c=d\r\nAuthorization: Basic eDp5\r\nX-Latin: \xfc\r\n"
        'Range: bytes=0-1\r\nIf-None-Match: W/"x"\r\nAccept-Encoding: gzip, br\r\n\r\n'
    )
    line, asked = upstream.take()
    mine = ("host", "via", "forwarded")
    sent = [f for f in asked.fields if f[0] not in mine and not f[0].startswith("x-forwarded-")]
    assert sent == [
        ("x-b", "1"), ("x-a", "2"), ("cookie", "a=b"), ("x-b", "3"), ("x-a", "4"), ("x-empty", ""),
        ("cookie", "c=d"), ("authorization", "Basic eDp5"), ("x-latin", "\xfc"),
        ("range", "bytes=0-1"), ("if-none-match", 'W/"x"'), ("accept-encoding", "gzip, br"),
    ]  # fmt: skip
    line.answer(b"whole")
    assert client.answer().body == b"whole"  # ranges and conditions are the upstream's business


HOP_BY_HOP = {
    "Connection": "close, X-Mine, x-other",
    "Keep-Alive": "timeout=5",
    "Proxy-Connection": "keep-alive",
    "Proxy-Authorization": "Basic eDp5",
    "TE": "trailers, deflate",
    "Trailer": "X-Sum",
    "X-Mine": "1",
    "X-Other": "2",
}


def test_hop_by_hop_fields_stay_here(client: Client, upstream: Scripted) -> None:
    fields = "".join(f"{name}: {value}\r\n" for name, value in HOP_BY_HOP.items())
    client.send(f"GET /up/x HTTP/1.1\r\nHost: localhost\r\n{fields}X-Kept: 1\r\n\r\n")
    line, asked = upstream.take()
    assert asked.get("x-kept") == "1"
    assert not {name.lower() for name in HOP_BY_HOP} & {name for name, _ in asked.fields}
    line.answer()
    assert client.answer().get("connection") == "close"


def test_upgrade_without_connection_stays_here(client: Client, upstream: Scripted) -> None:
    asked = ask(client, upstream, Upgrade="websocket")
    assert asked.get("upgrade") is None
    assert asked.get("connection") is None


def test_connection_cannot_take_away_what_says_who_asks(client: Client, upstream: Scripted) -> None:
    options = "Host, X-Forwarded-For, Authorization, Cookie, Content-Length"
    asked = ask(client, upstream, Connection=options, Authorization="a", Cookie="b")
    assert asked.get("host") == upstream.authority
    assert asked.get("x-forwarded-for") == "127.0.0.1"
    assert (asked.get("authorization"), asked.get("cookie")) == ("a", "b")


def test_the_upstreams_host_or_the_clients(
    server: QuickServer, serve: Serve, upstream: Scripted
) -> None:
    server.bind_proxy("/same/", f"{upstream.url}", preserve_host=True)
    client = serve(server).connect()
    assert ask(client, upstream).all("host") == [upstream.authority]
    assert ask(client, upstream, "/same/x").all("host") == ["localhost"]
    assert ask(client, upstream, "http://app.localhost:8/same/x").all("host") == ["app.localhost:8"]


def test_what_is_told_about_the_client_is_appended(client: Client, upstream: Scripted) -> None:
    client.send(
        "GET /up/x HTTP/1.1\r\nHost: localhost\r\n"
        "X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n"
        "X-Forwarded-Proto: https\r\nX-Forwarded-Host: outer.example\r\nForwarded: for=1.1.1.1\r\n"
        "Via: 1.0 outer\r\n\r\n"
    )
    line, asked = upstream.take()
    assert asked.all("x-forwarded-for") == ["1.1.1.1, 2.2.2.2, 127.0.0.1"]
    assert asked.all("x-forwarded-proto") == ["https, http"]
    assert asked.all("x-forwarded-host") == ["outer.example, localhost"]
    assert asked.all("forwarded") == ["for=1.1.1.1, for=127.0.0.1;proto=http;host=localhost"]
    assert asked.all("via") == ["1.0 outer, 1.1 quick_server"]
    line.answer(fields=b"Via: 1.0 inner\r\n")
    assert client.answer().all("via") == ["1.0 inner, 1.1 quick_server"]


def test_a_client_of_http_1_0(client: Client, upstream: Scripted) -> None:
    client.send("GET /up/x HTTP/1.0\r\n\r\n")
    line, asked = upstream.take()
    assert asked.line == "GET /base/x HTTP/1.1"
    assert asked.all("host") == [upstream.authority]
    assert asked.all("via") == ["1.0 quick_server"]
    assert asked.get("x-forwarded-host") is None
    line.answer(b"fine")
    answer = client.answer()
    assert (answer.status, answer.body, answer.get("via")) == (200, b"fine", "1.1 quick_server")
    assert client.at_end()


# ---- the fields of an answer --------------------------------------------------------------------


def test_an_answers_fields_come_through_in_order_with_duplicates(
    client: Client, upstream: Scripted
) -> None:
    answer = answered(
        client, upstream,
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/base\r\nX-A: 1\r\nDate: yesterday\r\nServer: it\r\n"
        b"Set-Cookie: c=d; Domain=127.0.0.1\r\nx-a: 2\r\nX-Latin: \xfc\r\nContent-Length: 0\r\n\r\n",
    )  # fmt: skip
    own = ("via", "content-length")
    assert [(n.lower(), v) for n, v in answer.headers if n.lower() not in own] == [
        ("set-cookie", "a=b; Path=/base"), ("x-a", "1"), ("date", "yesterday"), ("server", "it"),
        ("set-cookie", "c=d; Domain=127.0.0.1"), ("x-a", "2"), ("x-latin", "\xfc"),
    ]  # fmt: skip


def test_server_and_date_are_not_added(client: Client, upstream: Scripted) -> None:
    answer = answered(client, upstream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert answer.get("server") is None


def test_hop_by_hop_fields_of_an_answer_stay_here(client: Client, upstream: Scripted) -> None:
    answer = answered(
        client, upstream,
        b"HTTP/1.1 200 OK\r\nConnection: close, X-Mine\r\nKeep-Alive: timeout=5\r\nX-Mine: 1\r\n"
        b"Proxy-Authenticate: Basic\r\nProxy-Connection: close\r\nTrailer: X\r\nUpgrade: h2c\r\n"
        b"X-Kept: 1\r\nWWW-Authenticate: Basic\r\nContent-Length: 2\r\n\r\nhi",
    )  # fmt: skip
    names = {name.lower() for name, _ in answer.headers}
    assert names == {"x-kept", "www-authenticate", "content-length", "via"}
    client.send(GET)  # the connection to the client goes on all the same
    line, _ = upstream.take()
    line.answer(b"again")
    assert client.answer().body == b"again"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 300, 305])
def test_redirects_are_passed_on_and_not_followed(
    client: Client, upstream: Scripted, status: int
) -> None:
    location = f"{upstream.url}/base/other"
    raw = f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    answer = answered(client, upstream, raw.encode())
    assert (answer.status, answer.all("location")) == (status, [location])
    assert upstream.is_quiet


LOCATIONS = {
    "{up}/base/other?a=b": "http://localhost/up/other?a=b",
    "/base/other": "/up/other",
    "/base": "/up",
    "/elsewhere": "/elsewhere",
    "/basement": "/basement",
    "other": "other",
    "http://example.com/base/x": "http://example.com/base/x",
}


@pytest.mark.parametrize("location", LOCATIONS)
def test_rewriting(server: QuickServer, serve: Serve, upstream: Scripted, location: str) -> None:
    server.bind_proxy("/up/", f"{upstream.url}/base", rewrite=True)
    client = serve(server).connect()
    said = location.replace("{up}", upstream.url)
    raw = (
        f"HTTP/1.1 302 Found\r\nLocation: {said}\r\nSet-Cookie: a=b; Path=/base/x; Domain=127.0.0.1\r\n"
        "Set-Cookie: c=d; Path=/; HttpOnly\r\nContent-Length: 0\r\n\r\n"
    )
    answer = answered(client, upstream, raw.encode())
    assert answer.all("location") == [LOCATIONS[location]]
    assert answer.all("set-cookie")[0] == "a=b; Path=/up/x"


@pytest.mark.parametrize(
    "status", [200, 206, 226, 299, 400, 401, 404, 405, 416, 418, 451, 500, 503, 599]
)
def test_any_status_is_the_clients(client: Client, upstream: Scripted, status: int) -> None:
    raw = f"HTTP/1.1 {status} Thing\r\nContent-Length: 4\r\n\r\nbody"
    answer = answered(client, upstream, raw.encode())
    assert (answer.status, answer.body) == (status, b"body")


# ---- framing ------------------------------------------------------------------------------------


def chunked_text(*pieces: bytes, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    """A body in chunks of these sizes."""
    lines = [b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces]
    return b"".join(lines) + b"0\r\n" + trailers + b"\r\n"


def test_chunks_from_the_upstream(client: Client, upstream: Scripted) -> None:
    body = chunked_text(b"a", b"bc" * 500, extension=b";x=y", trailers=b"X-Sum: 5\r\nVia: x\r\n")
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    client.send(GET)
    line, _ = upstream.take()
    line.send(head + body)
    received = b""
    while not received.endswith(b"0\r\n\r\n"):
        assert client._fill()
        received, client.rest = received + client.rest, b""
    assert b"X-Sum" not in received  # trailers are dropped
    answer = read_answer(received)
    assert answer.body == b"a" + b"bc" * 500
    assert answer.all("transfer-encoding") == ["chunked"]
    client.send(GET)
    assert line.head()  # and that connection is used again
    line.answer()
    assert client.answer().status == 200


def read_answer(data: bytes) -> Answer:
    """Parses what was received before."""
    left, right = socket.socketpair()
    with left, right:
        return Client(left, data).answer()


def test_chunks_from_the_client(client: Client, upstream: Scripted) -> None:
    head = (
        "POST /up/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
    )
    client.send(head).send(chunked_text(b"a", b"b" * 3000, extension=b";q", trailers=b"X-Sum: 1\r\n"))
    line, asked = upstream.take()
    assert asked.all("transfer-encoding") == ["chunked"]
    assert line.chunked() == b"a" + b"b" * 3000
    assert line.is_quiet
    line.answer(b"fine")
    assert client.answer().body == b"fine"


UNFRAMED = [
    b"HTTP/1.0 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
]


@pytest.mark.parametrize("head", UNFRAMED)
@pytest.mark.parametrize("body", [b"", b"until the end" * 100])
def test_content_until_the_end_is_framed_anew(
    client: Client, upstream: Scripted, head: bytes, body: bytes
) -> None:
    client.send(GET)
    line, _ = upstream.take()
    line.send(head + body).close()
    answer = client.answer()
    assert (answer.status, answer.body) == (200, body)
    assert answer.all("transfer-encoding") == ["chunked"]
    client.send(GET)  # the client's connection goes on
    line, _ = upstream.take()
    line.answer(b"next")
    assert client.answer().body == b"next"


SPELLINGS = {
    "sized": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    "until the end": b"HTTP/1.0 200 OK\r\n\r\nhello",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("keep", [True, False])
def test_a_client_of_http_1_0_gets_no_chunks(
    client: Client, upstream: Scripted, spelling: str, keep: bool
) -> None:
    wish = "Connection: keep-alive\r\n" if keep else ""
    client.send(f"GET /up/x HTTP/1.0\r\n{wish}\r\n")
    line, _ = upstream.take()
    line.send(SPELLINGS[spelling]).close()
    answer = client.answer()
    assert answer.body == b"hello"
    assert answer.get("transfer-encoding") is None
    if keep and spelling == "sized":
        assert answer.get("connection") == "keep-alive"
        client.send("GET /up/x HTTP/1.0\r\n\r\n")
        upstream.take()[0].answer(b"again")
        assert client.answer().body == b"again"
    assert client.at_end()


def test_a_client_of_http_1_0_gets_no_interim_answers(client: Client, upstream: Scripted) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    answer = answered(client, upstream, hints + SPELLINGS["sized"], "GET /up/x HTTP/1.0\r\n\r\n")
    assert (answer.status, answer.body) == (200, b"hello")


BODILESS = {
    "HEAD sized": ("HEAD", b"200 OK\r\nContent-Length: 500"),
    "HEAD chunked": ("HEAD", b"200 OK\r\nTransfer-Encoding: chunked"),
    "HEAD unframed": ("HEAD", b"200 OK\r\nX: y"),
    "204": ("GET", b"204 No Content"),
    "304": ("GET", b'304 Not Modified\r\nETag: "x"'),
    "304 sized": ("GET", b"304 Not Modified\r\nContent-Length: 500"),
    "204 POST": ("POST", b"204 No Content"),
    "empty": ("GET", b"200 OK\r\nContent-Length: 0"),
}


@pytest.mark.parametrize("kind", BODILESS)
def test_answers_without_content_wait_for_none(client: Client, upstream: Scripted, kind: str) -> None:
    method, start = BODILESS[kind]
    client.send(f"{method} /up/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    line, asked = upstream.take()
    for _ in range(2):
        line.send(b"HTTP/1.1 " + start + b"\r\n\r\n")
        answer = client.answer(head_only=method == "HEAD")
        assert answer.status == int(start[:3])
        client.send(f"{method} /up/x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert line.head().line == asked.line  # both connections are used again
    line.send(b"HTTP/1.1 " + start + b"\r\n\r\n")
    client.answer(head_only=method == "HEAD")
    assert upstream.is_quiet


def test_a_heads_length_is_passed_on(client: Client, upstream: Scripted) -> None:
    client.send(GET.replace("GET", "HEAD"))
    line, _ = upstream.take()
    line.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    assert client.answer(head_only=True).get("content-length") == "500"


def test_interim_answers_are_passed_on(client: Client, upstream: Scripted) -> None:
    client.send(GET)
    line, _ = upstream.take()
    for number in range(3):
        line.send(b"HTTP/1.1 103 Early Hints\r\nLink: </%d>\r\nLink: </x>\r\n\r\n" % number)
        hint = client.answer()  # at once, while the answer is made
        assert (hint.status, hint.all("link")) == (103, [f"</{number}>", "</x>"])
    line.send(b"HTTP/1.1 102 Processing\r\n\r\n")
    assert client.answer().status == 102
    line.answer(b"final")
    assert client.answer().body == b"final"


# ---- 100-continue -------------------------------------------------------------------------------

EXPECTING = (
    "POST /up/x HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
)


def test_continue_is_the_upstreams(client: Client, upstream: Scripted) -> None:
    client.send(EXPECTING)
    line, asked = upstream.take()
    assert asked.all("expect") == ["100-continue"]
    assert client_is_quiet(client)
    line.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert client.answer().status == 100
    client.send("hello")
    assert line.exactly(5) == b"hello"
    line.answer(b"thanks")
    assert client.answer().body == b"thanks"


def client_is_quiet(client: Client) -> bool:
    return not client.rest and not select.select([client.sock], [], [], 0)[0]


def test_no_continue_but_an_answer(client: Client, upstream: Scripted) -> None:
    client.send(EXPECTING)
    line, _ = upstream.take()
    line.answer(b"no", "417 Expectation Failed")
    answer = client.answer()
    assert (answer.status, answer.body) == (417, b"no")
    assert line.ends() == b""  # that connection may not carry another request
    assert client.at_end()


def test_an_upstream_that_knows_no_continue(client: Client, upstream: Scripted) -> None:
    client.send(EXPECTING)
    line, _ = upstream.take()
    assert client.answer().status == 100  # ours, after a second
    client.send("hello")
    assert line.exactly(5) == b"hello"
    line.send(b"HTTP/1.1 100 Continue\r\n\r\n")  # late: the client must not get a second one
    line.answer(b"thanks")
    assert client.answer().body == b"thanks"


def test_a_continue_nobody_asked_for(client: Client, upstream: Scripted) -> None:
    client.send(GET)
    line, _ = upstream.take()
    line.send(b"HTTP/1.1 100 Continue\r\n\r\n").answer(b"fine")
    answer = client.answer()
    assert (answer.status, answer.body) == (200, b"fine")


def test_content_that_does_not_wait(client: Client, upstream: Scripted) -> None:
    client.send(EXPECTING + "hello")
    line, _ = upstream.take()
    line.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert line.exactly(5) == b"hello"
    line.answer(b"thanks")
    answer = client.answer()
    if answer.status == 100:
        answer = client.answer()
    assert answer.body == b"thanks"


# ---- connections to the upstream ----------------------------------------------------------------


def test_connections_are_used_again(server: QuickServer, serve: Serve, upstream: Scripted) -> None:
    run = serve(server)
    first, second = run.connect(), run.connect()
    first.send(GET)
    line, _ = upstream.take()
    for number in range(5):
        line.answer(b"%d" % number)
        assert first.answer().body == b"%d" % number
        first, second = second, first  # clients share it, one after the other
        first.send(
            GET
            if number % 2
            else "POST /up/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"
        )
        asked = line.head()
        line.content(asked)
    line.answer(b"last")
    assert first.answer().body == b"last"
    assert upstream.is_quiet
    assert len(upstream.lines) == 1


def test_requests_at_the_same_time_have_connections_of_their_own(
    server: QuickServer, serve: Serve, upstream: Scripted
) -> None:
    run = serve(server)
    clients = [run.connect().send(GET.replace("x", str(n), 1)) for n in range(5)]
    taken = [upstream.take() for _ in clients]
    for line, asked in reversed(taken):
        line.answer(asked.target.encode())
    assert [client.answer().body for client in clients] == [b"/base/%d" % n for n in range(5)]


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi",
        b"HTTP/1.1 304 Not Modified\r\n\r\nmore",
    ],
)
def test_connections_that_cannot_be_used_again(client: Client, upstream: Scripted, raw: bytes) -> None:
    answer = answered(client, upstream, raw)
    assert answer.body in (b"hi", b"")
    assert upstream.lines[0].ends() == b""
    client.send(GET)
    line, _ = upstream.take()
    line.answer(b"mine")
    assert client.answer().body == b"mine"


def test_what_comes_unasked_ends_a_kept_connection(client: Client, upstream: Scripted) -> None:
    client.send(GET)
    line, _ = upstream.take()
    line.answer(b"first")
    assert client.answer().body == b"first"
    line.answer(b"poison")
    assert line.ends() == b""
    client.send(GET)
    other, _ = upstream.take()
    other.answer(b"second")
    assert client.answer().body == b"second"


def test_pipelined_requests_are_answered_in_order(client: Client, upstream: Scripted) -> None:
    client.send("".join(GET.replace("x", str(n), 1) for n in range(4)))
    line = upstream.accept()
    for number in range(4):
        assert line.head().target == f"/base/{number}"
        assert line.is_quiet  # one at a time
        line.answer(b"%d" % number)
    assert [client.answer().body for _ in range(4)] == [b"0", b"1", b"2", b"3"]


# ---- what holds in front of it ------------------------------------------------------------------


def test_foreign_names_and_pages_are_refused_here(
    server: QuickServer, serve: Serve, upstream: Scripted
) -> None:
    run = serve(server)
    client = run.connect().send("GET /up/x HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert client.answer().status == 421
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert run.request(method, "/up/x", Origin="https://evil.example").status == 403
    assert upstream.is_quiet


def test_allowed_hosts(server: QuickServer, serve: Serve, upstream: Scripted) -> None:
    server.allowed_hosts = ["app.example"]
    client = serve(server).connect().send("GET /up/x HTTP/1.1\r\nHost: app.example\r\n\r\n")
    line, asked = upstream.take()
    assert asked.get("x-forwarded-host") == "app.example"
    line.answer()
    assert client.answer().status == 200


PREFLIGHT = {"Origin": "https://app.example", "Access_Control_Request_Method": "PUT"}


def test_options_are_the_upstreams_without_cross_origin(client: Client, upstream: Scripted) -> None:
    assert ask(client, upstream, method="OPTIONS", **PREFLIGHT).line == "OPTIONS /base/x HTTP/1.1"


def test_with_cross_origin_every_answer_may_be_read(
    server: QuickServer, serve: Serve, upstream: Scripted
) -> None:
    server.cross_origin = True
    run = serve(server)
    assert run.request("OPTIONS", "/up/x", b"", **PREFLIGHT).status == 204
    assert upstream.is_quiet
    client = run.connect()
    answer = answered(client, upstream, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert answer.all("access-control-allow-origin") == ["*"]
    upstream.lines[0].close()
    answer = answered(
        client, upstream,
        b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nContent-Length: 0\r\n\r\n",
    )  # fmt: skip
    assert answer.all("access-control-allow-origin") == ["*"]  # browsers take no two of them
    upstream.lines[1].close()
    answer = answered(client, upstream, b"garbage\r\n\r\n")
    assert (answer.status, answer.all("access-control-allow-origin")) == (502, ["*"])


# ---- logs ---------------------------------------------------------------------------------------


def test_the_access_log_tells_the_upstreams_time(client: Client, upstream: Scripted, log: Log) -> None:
    ask(client, upstream)
    log.wait_for(r'"GET /up/x HTTP/1.1" 200 \(.*s, upstream .*s\)')
    assert upstream.authority not in log.text


def test_each_exchange_is_logged_for_debugging(
    server: QuickServer, serve: Serve, upstream: Scripted, log: Log
) -> None:
    client = serve(server).connect()
    server.set_debug_proxy(True)
    ask(client, upstream)
    found = log.wait_for(r"(?m)^.*proxy .*GET /up/x.*$")
    assert upstream.authority in found[0]
    assert "200" in found[0]
    server.set_debug_proxy(False)
    before = log.text.count("proxy ")
    ask(client, upstream)
    log.wait_for(r"(?s)upstream .*upstream ")
    assert log.text.count("proxy ") == before


def test_fields_of_the_upstream_cannot_break_the_log(
    client: Client, upstream: Scripted, log: Log
) -> None:
    ask(client, upstream, "/up/%0aforged%1b[31m")
    log.wait_for(r"/up/%0aforged%1b\[31m HTTP")


# ---- who may ask, and who asks whom -------------------------------------------------------------


def test_pages_of_other_sites_open_no_websockets(client: Client, upstream: Scripted) -> None:
    client.send(
        "GET /up/ws HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    assert client.answer().status == 403
    client.send(
        "GET /up/ws HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost:3000\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    line, _ = upstream.take()
    line.answer(b"no")
    assert client.answer().status == 200


def test_who_asks_itself_is_told(serve: Serve) -> None:
    server = create_server(("127.0.0.1", 0))
    run = serve(server)
    server.bind_proxy("/", run.url)
    assert run.get("/x").status == 508


def test_only_one_says_who_may_read(server: QuickServer, serve: Serve, upstream: Scripted) -> None:
    server.cross_origin = True
    client = serve(server).connect().send(GET)
    line, _ = upstream.take()
    line.answer(b"fine", fields=b"Access-Control-Allow-Origin: http://other.example\r\n")
    assert client.answer().all("access-control-allow-origin") == ["*"]


def test_routes_tells_how_upstreams_are(server: QuickServer, serve: Serve, log: Log) -> None:
    run = serve(server)
    server.bind_proxy("/gone/", "http://127.0.0.1:9")
    assert run.get("/gone/x").status == 502
    server.handle_cmd("routes")
    row = next(line for line in log.getvalue().splitlines() if "/gone/…  proxy" in line)
    assert "http://127.0.0.1:9  0 in use, 0 idle; 0 s ago: " in row
    assert any("/up/…  proxy" in line for line in log.getvalue().splitlines())
