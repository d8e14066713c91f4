"""Who may ask, and what pages of other sites may read: Host, Origin, and CORS."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs, create_server
from tests.harness import Answer, Running
from tests.integration.logs import Log

Req = QuickServerRequestHandler
Serve = Callable[[QuickServer], Running]

HERE, APP, EVIL = "http://localhost", "https://app.example", "https://evil.example"
CHANGING = ["POST", "PUT", "PATCH", "DELETE"]


@pytest.fixture
def called() -> list[str]:
    """The methods with which `/x` has been called."""
    return []


def prepare(server: QuickServer, www: Path, called: list[str]) -> QuickServer:
    (www / "file.txt").write_text("a file")
    (www / "folder").mkdir()
    server.bind_path("/", str(www))

    def fun(req: Req, args: ReqArgs) -> object:
        called.append(req.command)
        return {"a": 1}

    for method in ("get", "post", "put", "patch", "delete"):
        getattr(server, f"json_{method}")("/x")(fun)

    @server.json_get("/fails")
    def fails(req: Req, args: ReqArgs) -> object:
        raise ValueError

    server.text_get("/stream")(lambda req, args: iter(["a", "b"]))
    return server


@pytest.fixture
def server(www: Path, called: list[str]) -> Iterator[QuickServer]:
    made = prepare(create_server(("127.0.0.1", 0)), www, called)
    yield made
    made.server_close()


def ask(
    run: Running, host: str | None, target: str = "/x", method: str = "GET", more: str = ""
) -> Answer:
    line = "" if host is None else f"Host: {host}\r\n"
    version = "1.0" if host is None else "1.1"
    client = run.connect().send(f"{method} {target} HTTP/{version}\r\n{line}{more}\r\n")
    try:
        return client.answer(head_only=method == "HEAD")
    finally:
        client.close()


# ---- Host -------------------------------------------------------------------------------------

OWN_HOSTS = [
    "localhost", "localhost:8080", "LOCALHOST", "LocalHost:1", "localhost.", "localhost.:80",
    "localhost:", "app.localhost", "a.b.LOCALHOST:80", "127.0.0.1", "127.0.0.1:8080", "127.1.2.3",
    "192.168.1.20:80", "10.0.0.1", "8.8.8.8", "[::1]", "[::1]:8080", "[fe80::1]", "[2001:DB8::1]:80",
    "[::ffff:127.0.0.1]",
]  # fmt: skip
OTHER_HOSTS = [
    "evil.example", "evil.example:8080", "EVIL.example", "evil.example.", "localhost.evil.example",
    "127.0.0.1.evil.example", "evil-localhost", "notlocalhost", "localhost-evil.example",
    "xlocalhost:80", "127.0.0.1.nip.io", "localhos", "0x7f000001.example", "127.0.0.1a", "a127.0.0.1",
    "1.2.3.4.example", "example", "localhost.localdomain", "xn--localhost-1a",
    "app.localhost.evil.example", "::1", "fe80::1", "abc::def.example",
]  # fmt: skip


@pytest.mark.parametrize("host", OWN_HOSTS)
def test_names_of_this_machine(server: QuickServer, serve: Serve, host: str) -> None:
    run = serve(server)
    for target in ("/x", "/file.txt"):
        assert ask(run, host, target).status == 200


@pytest.mark.parametrize("host", OTHER_HOSTS)
@pytest.mark.parametrize("target", ["/x", "/file.txt", "/nothing", "/folder"])
def test_other_names_are_a_421(
    server: QuickServer, serve: Serve, called: list[str], host: str, target: str
) -> None:
    """A page elsewhere must not reach a local tool under a name of its own."""
    run = serve(server)
    answer = ask(run, host, target)
    assert answer.status in (400, 421)
    if ":" not in host.rpartition(":")[0]:
        assert answer.status == 421
    assert b"a file" not in answer.body
    assert not called


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", *CHANGING])
def test_every_method_is_a_421(
    server: QuickServer, serve: Serve, called: list[str], method: str
) -> None:
    assert ask(serve(server), "evil.example", method=method).status == 421
    assert not called


def test_the_target_may_name_a_host_too(server: QuickServer, serve: Serve, called: list[str]) -> None:
    """The one in the target counts (RFC 9112 section 3.2.2): neither opens what the other shuts."""
    run = serve(server)
    assert ask(run, "evil.example", "http://localhost/x").status in (200, 400, 421)
    assert ask(run, "evil.example", "http://evil.example/x").status in (400, 421)
    assert called in ([], ["GET"])


def test_no_host_at_all(server: QuickServer, serve: Serve) -> None:
    assert ask(serve(server), None).status == 200


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        (["tool.example"], "tool.example", 200),
        (["tool.example"], "TOOL.example:8080", 200),
        (["tool.example"], "tool.example.", 200),
        (["Tool.Example"], "tool.example", 200),
        (["a.example", "tool.example"], "tool.example", 200),
        (("tool.example",), "tool.example", 200),
        (["tool.example"], "other.example", 421),
        (["tool.example"], "a.tool.example", 421),
        (["tool.example"], "tool.example.evil.example", 421),
        (["tool.example"], "localhost", 200),
        (["*"], "evil.example", 200),
        ([], "tool.example", 421),
        (["a*b"], "aXb", 421),
        ("tool.example", "tool.example", 200),
        ("tool.example", "t", 421),
        ("*.example", "evil.example", 421),
        ("*", "evil.example", 200),
    ],
)
def test_allowed_hosts(
    server: QuickServer, serve: Serve, allowed: Sequence[str], host: str, status: int
) -> None:
    server.allowed_hosts = allowed
    assert ask(serve(server), host).status == status


def test_allowed_hosts_count_at_once(server: QuickServer, serve: Serve) -> None:
    run = serve(server)
    assert ask(run, "tool.example").status == 421
    server.allowed_hosts = ["tool.example"]
    assert ask(run, "tool.example").status == 200


def test_a_server_for_all_interfaces_has_any_name(serve: Serve, www: Path, called: list[str]) -> None:
    server = prepare(create_server(("0.0.0.0", 0)), www, called)
    run = serve(server)
    client = run.connect()
    client.send("GET /x HTTP/1.1\r\nHost: tool.example\r\n\r\n")
    assert client.answer().status == 200


@pytest.mark.parametrize("address", ["", "localhost", "127.0.0.1"])
def test_every_way_to_bind_loopback(serve: Serve, www: Path, called: list[str], address: str) -> None:
    run = serve(prepare(create_server((address, 0)), www, called))
    assert ask(run, "evil.example").status == 421
    assert ask(run, "localhost").status == 200


# ---- Origin of what changes something ---------------------------------------------------------

SAME = [
    ("localhost:8080", "http://localhost:8080"),
    ("localhost:8080", "http://localhost:3000"),
    ("localhost:8080", "http://127.0.0.1:3000"),
    ("localhost:8080", "http://[::1]:3000"),
    ("127.0.0.1:8080", "http://localhost:3000"),
    ("[::1]:8080", "http://localhost"),
    ("[::1]", "http://127.0.0.1"),
    ("localhost", "https://LOCALHOST:1"),
    ("app.localhost", "http://localhost:3000"),
    ("192.168.1.20:80", "http://192.168.1.20:3000"),
]
OTHER = [
    ("localhost:8080", "https://evil.example"),
    ("localhost:8080", "http://evil.example:8080"),
    ("localhost:8080", "http://localhost.evil.example"),
    ("localhost:8080", "http://localhost.evil.example:8080"),
    ("localhost:8080", "http://evillocalhost"),
    ("localhost:8080", "http://192.168.1.20"),
    ("127.0.0.1:8080", "http://127.0.0.2"),
    ("192.168.1.20:80", "http://192.168.1.21"),
    ("192.168.1.20:80", "http://localhost"),
    ("localhost:8080", "null"),
    ("localhost:8080", "nonsense"),
    ("localhost:8080", "http://"),
    ("localhost:8080", "localhost"),
    ("localhost:8080", "file://"),
    ("localhost:8080", "http://evil.example/localhost"),
    ("localhost:8080", "http://localhost, http://evil.example"),
]


@pytest.mark.parametrize(("host", "origin"), SAME)
@pytest.mark.parametrize("method", CHANGING)
def test_pages_of_this_host_may_change(
    server: QuickServer, serve: Serve, host: str, origin: str, method: str
) -> None:
    assert ask(serve(server), host, method=method, more=f"Origin: {origin}\r\n").status == 200


@pytest.mark.parametrize(("host", "origin"), OTHER)
@pytest.mark.parametrize("method", CHANGING)
def test_pages_of_other_sites_may_not(
    server: QuickServer, serve: Serve, called: list[str], host: str, origin: str, method: str
) -> None:
    answer = ask(serve(server), host, method=method, more=f"Origin: {origin}\r\n")
    assert answer.status == 403
    assert not called


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_changes_nothing_may_come_from_anywhere(
    server: QuickServer, serve: Serve, method: str
) -> None:
    answer = ask(serve(server), "localhost", method=method, more=f"Origin: {EVIL}\r\n")
    assert answer.status == 200
    assert answer.get("access-control-allow-origin") is None


@pytest.mark.parametrize("method", CHANGING)
def test_no_origin_is_no_page(server: QuickServer, serve: Serve, method: str) -> None:
    assert ask(serve(server), "localhost", method=method).status == 200


def test_a_refused_page_sends_no_body(server: QuickServer, serve: Serve, called: list[str]) -> None:
    more = f"Origin: {EVIL}\r\nContent-Length: 1000000000\r\nContent-Type: text/plain\r\n"
    assert ask(serve(server), "localhost", method="POST", more=more).status == 403
    assert not called


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        (["app.example"], "https://app.example", 200),
        (["app.example"], "https://app.example:8443", 200),
        (["app.example"], "https://APP.example", 200),
        (["app.example"], EVIL, 403),
        (["*"], EVIL, 200),
        (["app.example"], "null", 403),
    ],
)
def test_pages_of_allowed_hosts_may_change(
    server: QuickServer, serve: Serve, allowed: list[str], origin: str, status: int
) -> None:
    server.allowed_hosts = allowed
    more = f"Origin: {origin}\r\n"
    assert ask(serve(server), "localhost", method="POST", more=more).status == status


@pytest.mark.parametrize("origin", [EVIL, "http://tool.example:3000"])
def test_the_origin_counts_on_all_interfaces_too(
    serve: Serve, www: Path, called: list[str], origin: str
) -> None:
    run = serve(prepare(create_server(("0.0.0.0", 0)), www, called))
    answer = ask(run, "tool.example:80", method="POST", more=f"Origin: {origin}\r\n")
    assert answer.status == (403 if origin == EVIL else 200)


# ---- CORS -------------------------------------------------------------------------------------

ANSWERS = {
    "handler": ("GET", "/x", 200),
    "post": ("POST", "/x", 200),
    "file": ("GET", "/file.txt", 200),
    "head": ("HEAD", "/file.txt", 200),
    "stream": ("GET", "/stream", 200),
    "redirect": ("GET", "/folder", 301),
    "missing": ("GET", "/nothing", 404),
    "root": ("GET", "/../x", 404),
    "wrong-method": ("POST", "/file.txt", 405),
    "failure": ("GET", "/fails", 500),
}


def cors(answer: Answer) -> dict[str, str]:
    """The fields of CORS, by the rest of their names; each at most once."""
    prefix = "access-control-"
    fields = [(n.lower(), v) for n, v in answer.headers if n.lower().startswith(prefix)]
    assert len(dict(fields)) == len(fields), fields
    return {name.removeprefix(prefix): value for name, value in fields}


def varies(answer: Answer) -> bool:
    names = ",".join(answer.all("vary")).lower().split(",")
    return "origin" in (name.strip() for name in names)


@pytest.mark.parametrize(("method", "target", "status"), ANSWERS.values(), ids=ANSWERS)
@pytest.mark.parametrize("more", ["", f"Origin: {EVIL}\r\n"], ids=["no-origin", "origin"])
def test_every_answer_may_be_read(
    server: QuickServer, serve: Serve, log: Log, method: str, target: str, status: int, more: str
) -> None:
    server.cross_origin = True
    answer = ask(serve(server), "localhost", target, method, more)
    assert answer.status == status
    assert cors(answer) == {"allow-origin": "*"}


@pytest.mark.parametrize(("method", "target", "status"), ANSWERS.values(), ids=ANSWERS)
def test_by_default_nothing_may_be_read(
    server: QuickServer, serve: Serve, log: Log, method: str, target: str, status: int
) -> None:
    answer = ask(serve(server), "localhost", target, method, "")
    assert (answer.status, cors(answer)) == (status, {})


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ("Content-Type: application/json\r\nContent-Length: 3\r\n\r\n{x}", 400),
        ("Content-Type: multipart/form-data\r\nContent-Length: 3\r\n\r\n{x}", 400),
        ("Content-Length: 1000000000\r\n", 413),
        ("Expect: a-miracle\r\nContent-Length: 1\r\n", 417),
    ],
    ids=["400", "form", "413", "417"],
)
def test_refusals_may_be_read(server: QuickServer, serve: Serve, more: str, status: int) -> None:
    server.cross_origin = True
    answer = ask(serve(server), "localhost", "/x", "POST", f"Origin: {EVIL}\r\n{more}")
    assert (answer.status, cors(answer)) == (status, {"allow-origin": "*"})


def test_a_304_may_be_read(server: QuickServer, serve: Serve) -> None:
    server.cross_origin = True
    run = serve(server)
    tag = ask(run, "localhost", "/file.txt").get("etag")
    answer = ask(run, "localhost", "/file.txt", more=f"If-None-Match: {tag}\r\nOrigin: {APP}\r\n")
    assert (answer.status, cors(answer)) == (304, {"allow-origin": "*"})


@pytest.mark.parametrize("secret", ["Cookie: a=1", "Authorization: Basic YTpi"])
@pytest.mark.parametrize(("method", "target", "status"), ANSWERS.values(), ids=ANSWERS)
def test_no_star_together_with_credentials(
    server: QuickServer, serve: Serve, log: Log, method: str, target: str, status: int, secret: str
) -> None:
    server.cross_origin = True
    more = f"Origin: {APP}\r\n{secret}\r\n"
    answer = ask(serve(server), "localhost", target, method, more)
    assert answer.status == status
    assert cors(answer)["allow-origin"] == APP
    assert varies(answer)


@pytest.mark.parametrize("setting", [True, [APP], ["null"]], ids=["all", "list", "null-listed"])
@pytest.mark.parametrize("secret", ["", "Cookie: a=1\r\n"], ids=["plain", "cookie"])
def test_the_origin_null_gets_nothing(
    server: QuickServer, serve: Serve, setting: bool | list[str], secret: str
) -> None:
    server.cross_origin = setting
    answer = ask(serve(server), "localhost", more=f"Origin: null\r\n{secret}")
    assert cors(answer) == {}
    assert varies(answer)


@pytest.mark.parametrize(
    ("origin", "fields"),
    [
        (APP, {"allow-origin": APP, "allow-credentials": "true"}),
        (EVIL, {}),
        ("https://app.example.evil.example", {}),
        ("http://app.example", {}),
        ("https://app.example:8443", {}),
        ("https://xapp.example", {}),
        (None, {}),
    ],
)
def test_a_list_names_who_may_read(
    server: QuickServer, serve: Serve, origin: str | None, fields: dict[str, str]
) -> None:
    """Whether it is listed or not, the answer depends on the origin: caches have to know."""
    server.cross_origin = [APP, "https://other.example"]
    answer = ask(serve(server), "localhost", more=f"Origin: {origin}\r\n" if origin else "")
    assert answer.status == 200
    assert cors(answer) == fields
    assert varies(answer)


@pytest.mark.parametrize("origin", ["https://app.exam", "https://app", "h", ""])
def test_a_str_is_one_origin_and_not_its_parts(server: QuickServer, serve: Serve, origin: str) -> None:
    server.cross_origin = APP
    run = serve(server)
    allowed = ask(run, "localhost", more=f"Origin: {APP}\r\n")
    assert cors(allowed) == {"allow-origin": APP, "allow-credentials": "true"}
    assert cors(ask(run, "localhost", more=f"Origin: {origin}\r\n")) == {}
    assert ask(run, "localhost", method="POST", more=f"Origin: {origin}\r\n").status == 403
    assert ask(run, "localhost", method="POST", more=f"Origin: {APP}\r\n").status == 200


@pytest.mark.parametrize("setting", [True, [APP]], ids=["all", "list"])
def test_pages_that_may_read_may_change(
    server: QuickServer, serve: Serve, setting: bool | list[str]
) -> None:
    server.cross_origin = setting
    assert ask(serve(server), "localhost", method="POST", more=f"Origin: {APP}\r\n").status == 200


@pytest.mark.parametrize(
    ("setting", "origin", "secret", "status"),
    [
        (False, EVIL, "", 403),
        (False, "null", "", 403),
        (False, "http://localhost:5173", "Cookie: a=1\r\n", 200),
        (False, None, "Cookie: a=1\r\n", 200),
        ([APP], EVIL, "", 403),
        ([APP], APP, "Cookie: a=1\r\n", 200),
        (True, EVIL, "", 200),
        (True, EVIL, "Cookie: a=1\r\n", 403),
        (True, EVIL, "Authorization: Basic YTpi\r\n", 403),
        (True, "null", "Cookie: a=1\r\n", 403),
        (True, "http://localhost:5173", "Cookie: a=1\r\n", 200),
    ],
)
def test_who_may_open_a_websocket(
    server: QuickServer,
    serve: Serve,
    setting: bool | list[str],
    origin: str | None,
    secret: str,
    status: int,
) -> None:
    """Browsers let any page open one, with cookies, and read it: no CORS stands in between."""
    server.cross_origin = setting
    more = f"Connection: Upgrade\r\nUpgrade: websocket\r\n{secret}"
    if origin is not None:
        more += f"Origin: {origin}\r\n"
    assert ask(serve(server), "localhost", more=more).status == status


def test_pages_that_are_not_listed_may_not_change(
    server: QuickServer, serve: Serve, called: list[str]
) -> None:
    """A form needs no preflight, and nobody has let that site in."""
    server.cross_origin = [APP]
    assert ask(serve(server), "localhost", method="POST", more=f"Origin: {EVIL}\r\n").status == 403
    assert not called


def test_an_empty_list_lets_nobody(server: QuickServer, serve: Serve) -> None:
    server.cross_origin = []
    run = serve(server)
    assert cors(ask(run, "localhost", more=f"Origin: {APP}\r\n")) == {}
    assert ask(run, "localhost", method="POST", more=f"Origin: {APP}\r\n").status == 403


def test_the_vary_of_cors_and_of_compression(server: QuickServer, serve: Serve) -> None:
    server.json_get("/long")(lambda req, args: ["x"] * 5000)
    server.cross_origin = [APP]
    more = f"Origin: {APP}\r\nAccept-Encoding: gzip\r\n"
    answer = ask(serve(server), "localhost", "/long", more=more)
    assert answer.get("content-encoding") == "gzip"
    assert varies(answer)
    assert "accept-encoding" in ",".join(answer.all("vary")).lower()


def test_other_hosts_are_refused_all_the_same(server: QuickServer, serve: Serve) -> None:
    server.cross_origin = True
    assert ask(serve(server), "evil.example", more=f"Origin: {EVIL}\r\n").status == 421


# ---- preflights -------------------------------------------------------------------------------


def preflight(run: Running, target: str = "/x", origin: str = APP, **headers: str) -> Answer:
    fields = {"Origin": origin, "Access-Control-Request-Method": "PUT"} | headers
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return ask(run, "localhost", target, "OPTIONS", more)


@pytest.mark.parametrize("target", ["/x", "/file.txt", "/nothing", "/"])
def test_a_preflight(server: QuickServer, serve: Serve, called: list[str], target: str) -> None:
    server.cross_origin = True
    answer = preflight(serve(server), target)
    assert answer.status in (200, 204)
    fields = cors(answer)
    assert fields["allow-origin"] == "*"
    assert {name.strip() for name in fields["allow-methods"].split(",")} >= {"GET", *CHANGING}
    assert fields["max-age"] == "600"
    assert "allow-headers" not in fields
    assert not called


@pytest.mark.parametrize("wanted", ["x-custom", "content-type, authorization", "X-A,X-B"])
def test_a_preflight_that_asks_for_headers(server: QuickServer, serve: Serve, wanted: str) -> None:
    server.cross_origin = True
    fields = cors(preflight(serve(server), Access_Control_Request_Headers=wanted))
    assert fields["allow-headers"] == wanted
    assert fields["max-age"] == "0"


def test_header_names_that_are_none_are_not_repeated(server: QuickServer, serve: Serve) -> None:
    server.cross_origin = True
    fields = cors(preflight(serve(server), Access_Control_Request_Headers="<script>: x"))
    assert "script" not in json.dumps(fields)


@pytest.mark.parametrize(("origin", "listed"), [(APP, True), (EVIL, False), ("null", False)])
def test_a_preflight_of_a_listed_origin(
    server: QuickServer, serve: Serve, origin: str, listed: bool
) -> None:
    server.cross_origin = [APP]
    answer = preflight(serve(server), origin=origin)
    fields = cors(answer)
    assert fields.get("allow-origin") == (APP if listed else None)
    assert fields.get("allow-credentials") == ("true" if listed else None)
    assert varies(answer)


def test_no_preflight_by_default(server: QuickServer, serve: Serve) -> None:
    answer = preflight(serve(server))
    assert cors(answer) == {}
    assert answer.status in (204, 405)


def test_options_that_is_no_preflight(server: QuickServer, serve: Serve) -> None:
    server.cross_origin = True
    answer = ask(serve(server), "localhost", "/x", "OPTIONS")
    assert answer.get("allow") is not None
    assert cors(answer) == {"allow-origin": "*"}


def test_a_preflight_keeps_the_connection(server: QuickServer, serve: Serve) -> None:
    server.cross_origin = True
    client = serve(server).connect()
    for _ in range(2):
        answer = client.request("OPTIONS", "/x", Origin=APP, Access_Control_Request_Method="POST")
        assert answer.status in (200, 204)
        assert client.request("POST", "/x", b"[1]", Origin=APP).status == 200
