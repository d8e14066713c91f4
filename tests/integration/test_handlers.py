"""Functions that answer requests: routes, arguments, results, and what happens when they fail."""

from __future__ import annotations

import io
import json
import math
import os
import re
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest
from quick_cache import QuickCache  # type: ignore[import-untyped] # it has none

from quick_server import (
    PreventDefaultResponse,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    Response,
    create_server,
)
from tests.harness import PATIENCE, Answer, Running
from tests.integration.logs import Log

Req = QuickServerRequestHandler
Serve = Callable[[QuickServer], Running]
Fun = Callable[[Req, ReqArgs], object]
Ask = Callable[..., Answer]

METHODS = ["get", "put", "delete", "post", "patch"]
WITH_BODY = ["put", "delete", "post", "patch"]
KINDS = ["json", "text"]


@pytest.fixture
def server() -> Iterator[QuickServer]:
    made = create_server(("127.0.0.1", 0))
    yield made
    made.server_close()


@pytest.fixture
def ask(server: QuickServer, serve: Serve) -> Ask:
    """`ask(fun, target="/x", method="GET", body=b"", kind="text", **headers)`: what `fun` gives."""
    running: list[Running] = []
    asked: list[Fun] = []

    def latest(req: Req, args: ReqArgs) -> object:
        return asked[0](req, args)

    def answer(
        fun: Fun,
        target: str = "/x",
        method: str = "GET",
        body: bytes = b"",
        kind: str = "text",
        **headers: str,
    ) -> Answer:
        asked[:] = [fun]
        if not running:
            getattr(server, f"{kind}_{method.lower()}")("/x")(latest)
            running.append(serve(server))
        return running[0].request(method, target, body, **headers)

    return answer


def seen(server: QuickServer, *masks: str, argc: int | None = None) -> None:
    """Handlers that answer with what they got: their mask, and the parts of `args`."""
    for mask in masks:

        def show(req: Req, args: ReqArgs, mask: str = mask) -> object:
            return {
                "mask": mask,
                "paths": args["paths"],
                "segments": args["segments"],
                "query": args["query"],
            }

        server.json_get(mask, argc)(show)


def data(answer: Answer) -> Any:
    assert answer.status == 200, answer
    assert (answer.get("content-type") or "").split(";")[0] == "application/json"
    return json.loads(answer.body)


def allowed(answer: Answer) -> set[str]:
    assert answer.status == 405, answer
    return {name.strip() for name in (answer.get("allow") or "").split(",")}


# ---- registering ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_decorators(server: QuickServer, serve: Serve, kind: str, method: str) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        return f"{kind} {req.command}"

    assert getattr(server, f"{kind}_{method}")("/here", 0)(fun) is fun
    run = serve(server)
    answer = run.request(method.upper(), "/here")
    expected = f"{kind} {method.upper()}"
    assert answer.status == 200
    assert answer.body.decode().strip() == (json.dumps(expected) if kind == "json" else expected)
    assert run.request(method.upper(), "/here/more").status == 404


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", METHODS)
def test_plain_methods(server: QuickServer, serve: Serve, kind: str, method: str) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        return "/".join(args["paths"])

    getattr(server, f"add_{kind}_{method}_mask")("/one", fun)
    getattr(server, f"add_{kind}_mask")("/two", method.upper(), fun)
    server.set_file_argc("/two", 1)
    run = serve(server)
    assert run.request(method.upper(), "/one/a/b").body.decode().strip('"\n') == "a/b"
    assert run.request(method.upper(), "/two/a").body.decode().strip('"\n') == "a"
    assert run.request(method.upper(), "/two/a/b").status == 404
    assert run.request(method.upper(), "/two").status == 404


def test_one_function_for_several_masks(server: QuickServer, serve: Serve) -> None:
    @server.text_post("/b")
    @server.text_get("/b")
    @server.text_get("/a")
    def fun(req: Req, args: ReqArgs) -> str:
        return req.command + req.path

    run = serve(server)
    assert run.get("/a").body == b"GET/a"
    assert run.get("/b").body == b"GET/b"
    assert run.request("POST", "/b").body == b"POST/b"


# ---- masks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/foo", "/foo/", "/foo/bar", "/foo/bar/baz", "/foo?x=/bar"])
def test_a_mask_matches_from_the_left(server: QuickServer, serve: Serve, target: str) -> None:
    seen(server, "/foo")
    assert data(serve(server).get(target))["mask"] == "/foo"


@pytest.mark.parametrize(
    "target", ["/f%6fo", "/%66oo/a", "//foo", "/./foo", "/a/../foo", "/foo/a/../../foo"]
)
def test_spellings_of_a_path(server: QuickServer, serve: Serve, target: str) -> None:
    seen(server, "/foo")
    assert data(serve(server).get(target))["mask"] == "/foo"


@pytest.mark.parametrize("target", ["/foobar", "/fo", "/", "/bar/foo", "/Foo", "/foo.txt", "/?/foo"])
def test_a_mask_matches_whole_segments(server: QuickServer, serve: Serve, target: str) -> None:
    seen(server, "/foo")
    assert serve(server).get(target).status == 404


@pytest.mark.parametrize("masks", [["/a", "/a/b", "/a/b/c"], ["/a/b/c", "/a/b", "/a"]])
def test_the_longest_mask_wins(server: QuickServer, serve: Serve, masks: list[str]) -> None:
    seen(server, *masks)
    run = serve(server)
    assert data(run.get("/a/x"))["mask"] == "/a"
    assert data(run.get("/a/b/x"))["mask"] == "/a/b"
    assert data(run.get("/a/b/c"))["mask"] == "/a/b/c"
    assert data(run.get("/a/b/c/d/e"))["mask"] == "/a/b/c"
    assert data(run.get("/a/bb"))["mask"] == "/a"


@pytest.mark.parametrize("masks", [["/a", "/a/:x/c"], ["/a/:x/c", "/a"]])
def test_the_longest_mask_wins_with_segments(
    server: QuickServer, serve: Serve, masks: list[str]
) -> None:
    seen(server, *masks)
    run = serve(server)
    assert data(run.get("/a/b/c"))["mask"] == "/a/:x/c"
    assert data(run.get("/a/b"))["mask"] == "/a"
    assert data(run.get("/a/b/d"))["mask"] == "/a"


@pytest.mark.parametrize(
    ("target", "segments", "paths"),
    [
        ("/u/one/of/two", {"x": "one", "y": "two"}, []),
        ("/u/one/of/two/more/still", {"x": "one", "y": "two"}, ["more", "still"]),
        ("/u/a%20b/of/%C3%BC", {"x": "a b", "y": "ü"}, []),
        ("/u/a+b/of/a%2Bb", {"x": "a+b", "y": "a+b"}, []),
        ("/u/a%2Fb/of/c", {"x": "a/b", "y": "c"}, []),
        ("/u/:x/of/:y", {"x": ":x", "y": ":y"}, []),
        ("/u/a/of/b?x=c", {"x": "a", "y": "b"}, []),
        ("/u/a%3Fb/of/100%25", {"x": "a?b", "y": "100%"}, []),
    ],
)
def test_segments(
    server: QuickServer, serve: Serve, target: str, segments: dict[str, str], paths: list[str]
) -> None:
    seen(server, "/u/:x/of/:y")
    found = data(serve(server).get(target))
    assert (found["segments"], found["paths"]) == (segments, paths)


@pytest.mark.parametrize("target", ["/u/one/off/two", "/u/one/of", "/u/one", "/u/of/x", "/u/a?/of/b"])
def test_segments_that_do_not_fit(server: QuickServer, serve: Serve, target: str) -> None:
    seen(server, "/u/:x/of/:y")
    assert serve(server).get(target).status == 404


@pytest.mark.parametrize(
    ("target", "paths"),
    [
        ("/p", []),
        ("/p/", []),
        ("/p/a", ["a"]),
        ("/p/a/b/c", ["a", "b", "c"]),
        ("/p/a/", ["a"]),
        ("/p//a///b//", ["a", "b"]),
        ("/p/./a/./b/.", ["a", "b"]),
        ("/p/a/../b", ["b"]),
        ("/p/a/b/../../c", ["c"]),
        ("/p/a%20b/%C3%BC/c+d", ["a b", "ü", "c+d"]),
        ("/p/.hidden", [".hidden"]),
        ("/p/a?b/c", ["a"]),
        ("/p?a/b", []),
        ("/p/a;b=c", ["a;b=c"]),
        ("/p/100%25", ["100%"]),
    ],
)
def test_paths(server: QuickServer, serve: Serve, target: str, paths: list[str]) -> None:
    seen(server, "/p")
    assert data(serve(server).get(target))["paths"] == paths


@pytest.mark.parametrize(
    "target", ["/p/%2e%2e/a", "/p/a/%2e%2e/%2e%2e/b", "/p/../../a", "/p/..", "/p/%2E./x"]
)
def test_no_dots_in_paths(server: QuickServer, serve: Serve, target: str) -> None:
    seen(server, "/p", "/")
    answer = serve(server).get(target)
    if answer.status == 200:
        assert set(data(answer)["paths"]).isdisjoint({"..", "."})
    else:
        assert answer.status in (400, 404)


@pytest.mark.parametrize(
    ("argc", "target", "fits"),
    [
        (0, "/p", True),
        (0, "/p/", True),
        (0, "/p/a", False),
        (1, "/p", False),
        (1, "/p/a", True),
        (1, "/p/a/", True),
        (1, "/p//a", True),
        (1, "/p/a?b/c", True),
        (1, "/p/a/b", False),
        (2, "/p/a/b", True),
        (None, "/p/a/b/c/d/e/f", True),
    ],
)
def test_argc(server: QuickServer, serve: Serve, argc: int | None, target: str, fits: bool) -> None:
    seen(server, "/p", argc=argc)
    assert serve(server).get(target).status == (200 if fits else 404)


def test_another_number_goes_on_to_files(server: QuickServer, serve: Serve, www: Path) -> None:
    (www / "data").mkdir()
    (www / "data" / "a.txt").write_text("file")
    seen(server, "/data", argc=0)
    server.bind_path("/", str(www))
    run = serve(server)
    assert run.get("/data/a.txt").body == b"file"
    assert data(run.get("/data"))["mask"] == "/data"
    assert run.get("/data/b.txt").status == 404


def test_another_number_goes_on_to_shorter_masks(server: QuickServer, serve: Serve) -> None:
    seen(server, "/a")
    seen(server, "/a/b", argc=0)
    run = serve(server)
    assert data(run.get("/a/b"))["mask"] == "/a/b"
    assert data(run.get("/a/b/c"))["mask"] == "/a"


def test_a_mask_for_everything(server: QuickServer, serve: Serve) -> None:
    seen(server, "/", "/a")
    run = serve(server)
    assert data(run.get("/"))["paths"] == []
    assert data(run.get("/b/c"))["paths"] == ["b", "c"]
    assert data(run.get("/a/c"))["mask"] == "/a"


# ---- queries ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {}),
        ("a=1", {"a": "1"}),
        ("a=1&b=2", {"a": "1", "b": "2"}),
        ("a=1&a=2", {"a": "2"}),
        ("a", {"a": True}),
        ("a&b=&c", {"a": True, "b": "", "c": True}),
        ("a=1&a", {"a": True}),
        ("a&a=1", {"a": "1"}),
        ("a=x+y", {"a": "x y"}),
        ("a=x%20y%2Bz", {"a": "x y+z"}),
        ("x+y=1", {"x y": "1"}),
        ("a=%C3%BC&%C3%A4=1", {"a": "ü", "ä": "1"}),
        ("a=b=c", {"a": "b=c"}),
        ("a%3Db=c%26d", {"a=b": "c&d"}),
        ("&&a=1&", {"a": "1"}),
        ("a=1;b=2", {"a": "1;b=2"}),
        ("a=100%", {"a": "100%"}),
        ("a=%zz", {"a": "%zz"}),
        ("a=/b/../c?d", {"a": "/b/../c?d"}),
        ("a=1?b=2", {"a": "1?b=2"}),
    ],
)
def test_queries(server: QuickServer, serve: Serve, query: str, expected: dict[str, object]) -> None:
    seen(server, "/q")
    assert data(serve(server).get("/q?" + query))["query"] == expected


def test_a_query_that_is_no_text(server: QuickServer, serve: Serve) -> None:
    seen(server, "/q")
    run = serve(server)
    assert run.get("/q?a=%ff%fe").status in (200, 400)
    assert data(run.get("/q?a=1"))["query"] == {"a": "1"}


# ---- bodies -----------------------------------------------------------------------------------


@pytest.fixture
def echo(server: QuickServer, serve: Serve) -> Running:
    def fun(req: Req, args: ReqArgs) -> object:
        return {"post": args["post"]}

    for method in WITH_BODY:
        getattr(server, f"json_{method}")("/echo")(fun)
    return serve(server)


JSON_BODIES = [
    b'{"a": 1}',
    b"[1, 2.5, -3e2]",
    b'"text"',
    b"12",
    b"true",
    b"null",
    b"{}",
    b"[]",
    b' \r\n\t{"a" : [ ] }\n',
    '{"ü": "日本 \U0001f600"}'.encode(),
    b'"\\u00fc \\ud83d\\ude00 \\n"',
    b'{"a": {"b": {"c": [[[1]]]}}}',
]


@pytest.mark.parametrize("body", JSON_BODIES, ids=range(len(JSON_BODIES)))
@pytest.mark.parametrize("method", WITH_BODY)
def test_json_bodies(echo: Running, method: str, body: bytes) -> None:
    ctype = "application/json"
    answer = echo.request(method.upper(), "/echo", body, Content_Type=ctype)
    assert data(answer) == {"post": json.loads(body)}


@pytest.mark.parametrize(
    "ctype",
    ["application/json; charset=utf-8", "Application/JSON", 'application/json;charset="UTF-8"'],
)
def test_spellings_of_the_json_type(echo: Running, ctype: str) -> None:
    body = '["ü"]'.encode()
    assert data(echo.request("POST", "/echo", body, Content_Type=ctype)) == {"post": ["ü"]}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"a=1&b=2", {"a": "1", "b": "2"}),
        (b"a=x+y&b=%2B", {"a": "x y", "b": "+"}),
        (b"a=%C3%BC", {"a": "ü"}),
        (b"a=1&a=2", {"a": "2"}),
        (b"a=", {"a": ""}),
        (b"a=b=c&d=%26", {"a": "b=c", "d": "&"}),
    ],
)
@pytest.mark.parametrize("method", WITH_BODY)
def test_forms(echo: Running, method: str, body: bytes, expected: dict[str, str]) -> None:
    ctype = "application/x-www-form-urlencoded"
    answer = echo.request(method.upper(), "/echo", body, Content_Type=ctype)
    assert data(answer) == {"post": expected}


@pytest.mark.parametrize("method", WITH_BODY)
@pytest.mark.parametrize("ctype", ["application/json", "application/x-www-form-urlencoded", ""])
def test_no_body(echo: Running, method: str, ctype: str) -> None:
    headers = {"Content_Type": ctype} if ctype else {}
    assert data(echo.request(method.upper(), "/echo", b"", **headers)) == {"post": {}}


BROKEN = {
    "not-json": b"hello",
    "cut": b'{"a": 1',
    "two": b"{} {}",
    "trailing-comma": b"[1,]",
    "single-quotes": b"{'a': 1}",
    "no-utf8": b'"\xff\xfe"',
    "latin1": b'"\xfc"',
    "control": b'"\x00"',
    "very-deep": b"[" * 100_000 + b"]" * 100_000,
    "very-deep-objects": b'{"a":' * 50_000,
    "markup": b"<script>alert(1)</script>",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_broken_json_is_a_400(echo: Running, body: bytes) -> None:
    client = echo.connect()
    answer = client.request("POST", "/echo", body, Content_Type="application/json")
    assert answer.status == 400
    assert b"json" in answer.body.lower()
    assert b"<script>" not in answer.body
    assert client.request("POST", "/echo").status == 200


def test_a_get_has_no_post(ask: Ask) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        return repr(args["post"])

    body = b"post=1"
    answer = ask(fun, body=body, Content_Type="application/x-www-form-urlencoded")
    assert answer.body == b"{}"


# ---- the rest of the arguments ----------------------------------------------------------------


def test_what_args_holds(ask: Ask) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        names = {"paths", "query", "post", "files", "fragment", "segments", "meta", "cookie"}
        assert names <= set(args)
        assert (args["paths"], args["query"], args["post"]) == (["a"], {"b": "c"}, {})
        assert (args["files"], args["segments"], args["meta"]) == ({}, {}, {})
        assert args["cookie"] is None
        assert not args["fragment"]
        args["meta"]["left"] = "behind"
        return "fine"

    assert ask(fun, "/x/a?b=c").body == b"fine"
    assert ask(fun, "/x/a?b=c").body == b"fine"


def test_cookies_in(ask: Ask) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        cookie = args["cookie"]
        assert isinstance(cookie, SimpleCookie)
        return cookie["a"].value + cookie["b"].value

    assert ask(fun, Cookie="a=1; b=two").body == b"1two"


# Each is a way to look at all arguments, and has to find the cookies, too.
LOOKS: dict[str, Callable[[Any], object]] = {
    "get": lambda args: args.get("cookie") is not None and args.get("nothing", 1) == 1,
    "in": lambda args: "cookie" in args and "nothing" not in args,
    "iter": lambda args: "cookie" in list(iter(args)),
    "len": lambda args: len(args) == len(args.keys()) == len(args.values()),
    "keys": lambda args: set(args.keys()) > {"cookie"},
    "values": lambda args: any(isinstance(value, SimpleCookie) for value in args.values()),
    "items": lambda args: dict(args.items())["cookie"]["a"].value == "1",
    "dict": lambda args: dict(args)["cookie"]["a"].value == "1",
    "splat": lambda args: {**args}["cookie"]["a"].value == "1",
    "json": lambda args: "a" in json.loads(json.dumps(args))["cookie"],
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_cookies_are_there_however_one_looks(ask: Ask, look: Callable[[Any], object]) -> None:
    assert ask(lambda req, args: str(look(args)), Cookie="a=1").body == b"True"


def test_an_argument_that_does_not_exist(ask: Ask) -> None:
    def fun(req: Req, args: Any) -> str:
        with pytest.raises(KeyError, match="nothing"):
            args["nothing"]
        return "fine"

    assert ask(fun, Cookie="a=1").body == b"fine"


def test_what_a_request_tells(server: QuickServer, serve: Serve) -> None:
    found: dict[str, object] = {}

    @server.text_get("/x")
    def fun(req: Req, args: ReqArgs) -> str:
        found.update(
            command=req.command,
            path=req.path,
            version=req.request_version,
            server=req.server,
            client=req.client_address,
            upper=req.headers["X-OWN"],
            lower=req.headers.get("x-own"),
            inside="X-Own" in req.headers,
            missing=req.headers.get("x-missing"),
        )
        return "fine"

    client = serve(server).connect()
    assert client.request("GET", "/x/y?z=%20", X_Own="value, other").body == b"fine"
    assert found.pop("server") is server
    assert found == {
        "command": "GET",
        "path": "/x/y?z=%20",
        "version": "HTTP/1.1",
        "client": client.sock.getsockname(),
        "upper": "value, other",
        "lower": "value, other",
        "inside": True,
        "missing": None,
    }


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ("http", "localhost")),
        ({"Origin": "http://localhost:3000"}, ("http", "localhost:3000")),
        ({"Forwarded": "for=192.0.2.1;proto=https;host=example.com"}, ("https", "example.com")),
        ({"Forwarded": 'host="example.com:81";proto=http'}, ("http", "example.com:81")),
        (
            {"Origin": "http://localhost:1", "Forwarded": "proto=https;host=example.com"},
            ("http", "localhost:1"),
        ),
    ],
)
def test_the_original_host(ask: Ask, headers: Mapping[str, str], expected: tuple[str, str]) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        return " ".join(req.get_original_host())

    assert ask(fun, **headers).body.decode() == " ".join(expected)


def test_sizes_and_times_for_people(ask: Ask) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        sizes = [req.log_size_string(size).strip() for size in (5, 1200, 5_600_000)]
        times = [req.log_elapsed_time_string(ms).strip() for ms in (1.5, 2500.0)]
        assert len(set(sizes)) == len(sizes)
        assert len(set(times)) == len(times)
        assert sizes[1] == "1.2 kB"
        assert all(re.match(r"\d", text) for text in sizes + times)
        return "fine"

    assert ask(fun).body == b"fine"


def test_an_argument_map(ask: Ask) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        assert req.convert_argmap("a=x+y&b&c=%C3%BC&a=2") == {"a": "2", "b": True, "c": "ü"}
        return "fine"

    assert ask(fun).body == b"fine"


# ---- results that are kept --------------------------------------------------------------------


@pytest.fixture
def keeping(server: QuickServer, tmp_path: Path) -> QuickServer:
    server.cache = QuickCache(quota=500, ram_quota=100, temp=str(tmp_path / "cache"))
    return server


def page_id(args: ReqArgs) -> dict[str, Any] | None:
    """What makes results the same; of some there is nothing."""
    page = args["query"].get("page")
    return {"page": page} if page else None


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_is_made_once(keeping: QuickServer, serve: Serve, kind: str) -> None:
    made: list[object] = []

    def fun(req: Req, args: ReqArgs) -> str:
        made.append(args["query"].get("page"))
        return f"größer {len(made)}"

    getattr(keeping, f"{kind}_get")("/x", cache_id=page_id)(fun)
    run = serve(keeping)
    first, again, other = (run.get(f"/x?page={page}") for page in "aab")
    assert first.body == again.body != other.body
    assert (first.get("content-type"), first.get("etag")) == (
        again.get("content-type"),
        again.get("etag"),
    )
    assert "größer 1" in first.body.decode()
    assert made == ["a", "b"]
    for _ in range(2):
        assert run.get("/x").status == 200
    assert made == ["a", "b", None, None]


def with_a_code(req: Req, args: ReqArgs) -> str:
    req.send_response(202)
    return "1"


def with_a_field(req: Req, args: ReqArgs) -> str:
    req.send_header("X-Own", "1")
    return "1"


NOT_KEPT: dict[str, tuple[str, Fun, int]] = {
    "none": ("json", lambda req, args: None, 404),
    "a response": ("json", lambda req, args: Response(1, 201), 201),
    "a file": ("json", lambda req, args: io.BytesIO(b"1"), 200),
    "bytes": ("text", lambda req, args: b"1", 200),
    "pieces": ("text", lambda req, args: iter(["1"]), 200),
    "an error": ("text", lambda req, args: req.send_error(418, "no"), 418),
    "a code": ("text", with_a_code, 202),
    "with a field": ("text", with_a_field, 200),
}


@pytest.mark.parametrize(("kind", "fun", "status"), NOT_KEPT.values(), ids=NOT_KEPT)
def test_what_is_more_than_a_value_is_not_kept(
    keeping: QuickServer, serve: Serve, kind: str, fun: Fun, status: int
) -> None:
    calls: list[object] = []

    def counted(req: Req, args: ReqArgs) -> object:
        calls.append(args)
        return fun(req, args)

    getattr(keeping, f"{kind}_get")("/x", cache_id=page_id)(counted)
    run = serve(keeping)
    for number in (1, 2):
        assert run.get("/x?page=a").status == status
        assert len(calls) == number


# ---- results ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({"a": [1, 2.5, True, None, "ü"]}, {"a": [1, 2.5, True, None, "ü"]}),
        ([], []),
        ({}, {}),
        ("", ""),
        (0, 0),
        (False, False),
        ("text", "text"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (
            {"a": math.nan, "b": [math.inf, {"c": -math.inf}], "d": 1.5},
            {"a": "NaN", "b": ["Infinity", {"c": "-Infinity"}], "d": 1.5},
        ),
        ((1, (math.nan, 2)), [1, ["NaN", 2]]),
        ("NaN", "NaN"),
        (10**30, 10**30),
        ("</script>\u2028\x00", "</script>\u2028\x00"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_json_results(ask: Ask, method: str, result: object, expected: object) -> None:
    answer = ask(lambda req, args: result, method=method, kind="json")
    found = json.loads(answer.body, parse_constant=pytest.fail)
    assert found == expected
    assert type(found) is type(expected)
    assert (answer.get("content-type") or "").split(";")[0] == "application/json"
    assert answer.get("content-length") == str(len(answer.body))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("text", b"text"),
        ("", b""),
        ("ü\r\n", "ü\r\n".encode()),
        (b"\x00\xff", b"\x00\xff"),
        (b"", b""),
        ("x" * 1_000_000, b"x" * 1_000_000),
    ],
    ids=["text", "empty", "umlaut", "bytes", "no-bytes", "megabyte"],
)
def test_text_results(ask: Ask, result: str | bytes, expected: bytes) -> None:
    answer = ask(lambda req, args: result)
    assert (answer.status, answer.body) == (200, expected)
    if isinstance(result, str):
        assert answer.get("content-type") == "text/plain; charset=utf-8"


def test_an_open_file_as_result(ask: Ask, tmp_path: Path) -> None:
    content = os.urandom(300_000)
    (tmp_path / "data.bin").write_bytes(content)
    opened = []

    def fun(req: Req, args: ReqArgs) -> object:
        opened.append((tmp_path / "data.bin").open("rb"))
        return opened[-1]

    assert ask(fun).body == content
    assert ask(fun).body == content
    for file in opened:
        file.close()


def test_a_readable_as_result(ask: Ask) -> None:
    assert ask(lambda req, args: io.BytesIO(b"abc" * 1000)).body == b"abc" * 1000


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_none_is_a_404(ask: Ask, kind: str, method: str) -> None:
    assert ask(lambda req, args: None, kind=kind, method=method).status == 404


@pytest.mark.parametrize("code", [200, 201, 202, 400, 404, 409, 418, 500, 503])
@pytest.mark.parametrize("kind", KINDS)
def test_response_codes(ask: Ask, kind: str, code: int) -> None:
    answer = ask(lambda req, args: Response("body", code), kind=kind)
    assert answer.status == code
    assert answer.body.decode().strip('"\n') == "body"


@pytest.mark.parametrize("code", [-1, 0, 99, 100, 101, 103, 199, 1000, 200.5, math.nan, "200"])
@pytest.mark.parametrize("way", ["response", "prevented", "sent"])
def test_codes_that_end_no_request_are_a_500(
    server: QuickServer, serve: Serve, way: str, code: Any
) -> None:
    """An interim or impossible status would leave the client waiting, or out of step."""

    @server.text_get("/x")
    def fun(req: Req, args: ReqArgs) -> object:
        if way == "prevented":
            raise PreventDefaultResponse(code, "message")
        if way == "sent":
            req.send_response(code)
            return "body"
        return Response("body", code)

    client = serve(server).connect()
    assert client.request("GET", "/x").status == 500
    assert client.request("GET", "/nothing").status == 404


def test_a_response_without_content(ask: Ask) -> None:
    answer = ask(lambda req, args: Response("", 204))
    assert (answer.status, answer.body) == (204, b"")
    assert answer.get("content-length") is None
    assert answer.get("transfer-encoding") is None


@pytest.mark.parametrize("kind", KINDS)
def test_response_types(ask: Ask, kind: str) -> None:
    answer = ask(lambda req, args: Response("<p>", ctype="text/html"), kind=kind)
    assert (answer.status, (answer.get("content-type") or "").split(";")[0]) == (200, "text/html")
    assert len(answer.all("content-type")) == 1


def test_an_object_json_cannot_hold(ask: Ask, log: Log) -> None:
    answer = ask(lambda req, args: {"a": object()}, kind="json")
    assert answer.status == 500
    log.wait_for("Traceback|object")


# ---- validators -------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_answers_carry_a_tag_and_an_age(server: QuickServer, ask: Ask, kind: str) -> None:
    server.max_age = 7
    answer = ask(lambda req, args: "body", kind=kind)
    etag = answer.get("etag") or ""
    assert re.fullmatch(r'(W/)?"[!#-~]+"', etag)
    assert "max-age=7" in (answer.get("cache-control") or "")
    for value in (etag, etag.strip('W/"'), f'"a", {etag}', "*"):
        again = ask(lambda req, args: "body", kind=kind, If_None_Match=value)
        assert (again.status, again.body, again.get("etag")) == (304, b"", etag), value
        assert "max-age=7" in (again.get("cache-control") or "")
    assert ask(lambda req, args: "body", kind=kind, If_None_Match='"a"').status == 200


def test_the_tag_follows_the_content(server: QuickServer, serve: Serve) -> None:
    server.text_get("/x")(lambda req, args: str(args["query"].get("say")))
    run = serve(server)
    one, two = run.get("/x?say=one").get("etag"), run.get("/x?say=two").get("etag")
    assert one != two
    assert one == run.get("/x?say=one").get("etag")
    assert run.get("/x?say=two", If_None_Match=str(one)).body == b"two"


@pytest.mark.parametrize("code", [201, 404, 500])
def test_no_tag_for_other_codes(ask: Ask, code: int) -> None:
    answer = ask(lambda req, args: Response("body", code), If_None_Match="*")
    assert answer.status == code
    assert answer.get("etag") is None


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_no_304_for_other_methods(ask: Ask, method: str) -> None:
    etag = f'"{zlib.crc32(b"body"):x}"'
    for value in (etag, '"body"'):
        answer = ask(lambda req, args: "body", method=method, If_None_Match=value)
        assert (answer.status, answer.body) == (200, b"body")


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_that_is_gone_is_a_412(ask: Ask, kind: str) -> None:
    def fun(req: Req, args: ReqArgs) -> object:
        return "state"

    current = ask(fun, kind=kind).get("etag")
    assert current is not None
    assert ask(fun, kind=kind, If_Match=current).status == 200
    answer = ask(fun, kind=kind, If_Match='"other"')
    assert answer.status == 412
    assert b"state" in answer.body


def test_a_head_that_matches(server: QuickServer, serve: Serve) -> None:
    server.text_get("/x")(lambda req, args: "body")
    run = serve(server)
    etag = run.get("/x").get("etag")
    assert run.request("HEAD", "/x", If_None_Match=str(etag)).status == 304
    head = run.request("HEAD", "/x")
    assert (head.status, head.get("etag"), head.get("content-length")) == (200, etag, "4")


# ---- methods ----------------------------------------------------------------------------------


def test_a_wrong_method_is_a_405(server: QuickServer, serve: Serve) -> None:
    seen(server, "/get")
    server.json_post("/post")(lambda req, args: 1)
    server.json_get("/both")(lambda req, args: 1)
    server.json_put("/both")(lambda req, args: 1)
    run = serve(server)
    for method in ("POST", "PUT", "DELETE", "PATCH", "FROB", "TRACE", "PROPFIND"):
        assert {"GET", "HEAD"} <= allowed(run.request(method, "/get"))
        assert "POST" not in allowed(run.request(method, "/get"))
    for method in ("GET", "HEAD", "PUT", "DELETE"):
        assert "POST" in allowed(run.request(method, "/post"))
        assert "GET" not in allowed(run.request(method, "/post"))
    assert {"GET", "HEAD", "PUT"} <= allowed(run.request("POST", "/both"))
    assert {"GET", "HEAD", "PUT"} <= allowed(run.request("DELETE", "/both/more"))


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "FROB", "get", "TRACE", "M-SEARCH"]
)
def test_an_unknown_path_is_a_404(server: QuickServer, serve: Serve, method: str) -> None:
    seen(server, "/get")
    assert serve(server).request(method, "/nothing").status == 404


def test_methods_are_case_sensitive(server: QuickServer, serve: Serve) -> None:
    seen(server, "/get")
    assert serve(server).request("get", "/get").status == 405


def test_options_name_what_is_allowed(server: QuickServer, serve: Serve) -> None:
    seen(server, "/get")
    answer = serve(server).request("OPTIONS", "/get")
    assert answer.status in (200, 204, 405)
    assert {"GET", "HEAD"} <= {name.strip() for name in (answer.get("allow") or "").split(",")}


def test_a_wrong_number_is_no_405(server: QuickServer, serve: Serve) -> None:
    seen(server, "/get", argc=0)
    assert serve(server).request("POST", "/get/more").status == 404


# ---- headers of answers -----------------------------------------------------------------------


def test_headers_that_a_handler_sends(ask: Ask) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        req.send_header("X-Own", "value")
        cookie = SimpleCookie({"a": "1", "b": "two words"})
        cookie["a"]["path"] = "/"
        req.send_cookie(cookie)
        return "fine"

    answer = ask(fun)
    assert (answer.body, answer.get("x-own")) == (b"fine", "value")
    cookies = answer.all("set-cookie")
    assert len(cookies) == 2
    assert any(re.fullmatch(r"a=1; path=/", cookie, re.IGNORECASE) for cookie in cookies)
    assert any(cookie.startswith("b=") for cookie in cookies)
    assert ask(lambda req, args: "next").get("x-own") is None


BAD_TEXTS = ["a\r\nX-Evil: 1", "a\nX-Evil: 1", "a\rX-Evil: 1", "a\x00b", "\r\n\r\nevil"]


def plain_500(answer: Answer) -> None:
    """The body that was meant for a 200 is not in it, nor what the header would have held."""
    assert answer.status == 500
    assert answer.get("x-evil") is None
    assert b"evil" not in answer.body.lower()
    assert answer.body != b"body"


@pytest.mark.parametrize("text", BAD_TEXTS, ids=repr)
def test_header_values_split_nothing(ask: Ask, text: str) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        req.send_header("X-Queued", "first")
        req.send_header("X-Own", text)
        return "body"

    answer = ask(fun)
    plain_500(answer)
    assert answer.get("x-queued") is None


@pytest.mark.parametrize(
    "text", ["X\r\nX-Evil", "X: evil\r\nX", "", "X Y", "X:", "X\x00", "Ü"], ids=repr
)
def test_header_names_split_nothing(ask: Ask, text: str) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        req.send_header(text, "value")
        return "body"

    plain_500(ask(fun))


@pytest.mark.parametrize("text", BAD_TEXTS, ids=repr)
def test_content_types_split_nothing(ask: Ask, text: str) -> None:
    plain_500(ask(lambda req, args: Response("body", ctype=text)))


@pytest.mark.parametrize("text", BAD_TEXTS, ids=repr)
def test_cookies_split_nothing(ask: Ask, text: str) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        cookie = SimpleCookie({"a": "1"})
        cookie["a"]["path"] = text
        req.send_cookie(cookie)
        return "body"

    plain_500(ask(fun))


@pytest.mark.parametrize("text", BAD_TEXTS, ids=repr)
def test_messages_split_nothing(server: QuickServer, serve: Serve, text: str) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        raise PreventDefaultResponse(409, text)

    server.text_get("/x")(fun)
    client = serve(server).connect()
    answer = client.request("GET", "/x")
    assert answer.status in (409, 500)
    assert answer.get("x-evil") is None
    assert "evil" not in answer.reason.lower()
    if (answer.get("connection") or "").lower() == "close":
        assert client.at_end()
    else:
        assert client.request("GET", "/nothing").status == 404


# ---- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [400, 401, 403, 404, 409, 418, 500, 503])
def test_a_prevented_answer_with_a_code(ask: Ask, log: Log, code: int) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        raise PreventDefaultResponse(code, "the message")

    answer = ask(fun)
    assert answer.status == code
    assert b"the message" in answer.body
    assert str(code).encode() in answer.body
    assert "Traceback" not in log.text


def test_a_prevented_answer_with_a_code_only(ask: Ask) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        raise PreventDefaultResponse(404)

    answer = ask(fun)
    assert answer.status == 404
    assert answer.body


def test_a_prevented_answer_after_an_own_one(server: QuickServer, serve: Serve) -> None:
    @server.text_get("/x")
    def fun(req: Req, args: ReqArgs) -> str:
        req.send_error(418, "short and stout")
        raise PreventDefaultResponse

    client = serve(server).connect()
    answer = client.request("GET", "/x")
    assert answer.status == 418
    assert b"short and stout" in answer.body
    if (answer.get("connection") or "").lower() == "close":
        assert client.at_end()
    else:
        assert client.request("GET", "/nothing").status == 404


def test_a_prevented_answer_is_nothing(server: QuickServer, serve: Serve, log: Log) -> None:
    @server.text_get("/x")
    def fun(req: Req, args: ReqArgs) -> str:
        raise PreventDefaultResponse

    run = serve(server)
    assert run.raw("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
    assert run.get("/nothing").status == 404
    assert "Traceback" not in log.text


@pytest.mark.parametrize(
    "accept", ["", "*/*", "text/html", "text/html,application/xhtml+xml,*/*;q=0.8"]
)
def test_error_pages(server: QuickServer, serve: Serve, accept: str) -> None:
    @server.text_get("/x")
    def fun(req: Req, args: ReqArgs) -> str:
        raise PreventDefaultResponse(409, 'a <b>bold</b> & "quoted" message')

    headers = {"Accept": accept} if accept else {}
    answer = serve(server).get("/x", **headers)
    assert (answer.get("content-type") or "").startswith("text/html")
    assert b"409" in answer.body
    assert b"<b>" not in answer.body
    assert b"&lt;b&gt;bold" in answer.body


@pytest.mark.parametrize("accept", ["application/json", "application/json, text/plain, */*"])
def test_error_pages_as_json(server: QuickServer, serve: Serve, accept: str) -> None:
    @server.text_get("/x")
    def fun(req: Req, args: ReqArgs) -> str:
        raise PreventDefaultResponse(409, "the message")

    run = serve(server)
    for target, code, message in (("/x", 409, "the message"), ("/nothing", 404, "")):
        answer = run.get(target, Accept=accept)
        assert answer.status == code
        assert (answer.get("content-type") or "").split(";")[0] == "application/json"
        text = json.dumps(json.loads(answer.body))
        assert message in text
        assert str(code) in text


def words(answer: Answer) -> set[str]:
    return set(re.findall(r"[0-9A-Za-z]{4,}", answer.body.decode()))


class Unusual(BaseException):
    """Not an `Exception`."""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("hush 12345678"),
        KeyError("hush"),
        RuntimeError("hush\r\nhush"),
        SystemExit("hush"),
        KeyboardInterrupt("hush"),
        Unusual("hush"),
        RecursionError("hush"),
        StopIteration("hush"),
        UnicodeEncodeError("ascii", "hush", 0, 1, "hush"),
        ConnectionResetError("hush"),
        BrokenPipeError("hush"),
        TimeoutError("hush"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_is_a_plain_500(ask: Ask, log: Log, kind: str, error: BaseException) -> None:
    def the_failing_function(req: Req, args: ReqArgs) -> str:
        raise error

    first, second = ask(the_failing_function, kind=kind), ask(the_failing_function, kind=kind)
    for answer in (first, second):
        assert answer.status == 500
        text = answer.body.decode()
        for telling in ("hush", type(error).__name__, "Traceback", "test_handlers", "failing"):
            assert telling not in text
    mine = words(first) - words(second)
    assert mine, "both pages are the same: they carry no id"
    log.wait_for("|".join(map(re.escape, mine)))
    log.wait_for(r"(?s)Traceback.*in the_failing_function")
    log.wait_for(type(error).__name__)
    assert ask(lambda req, args: "fine", kind=kind).status == 200


def test_the_log_finds_the_traceback_by_the_id(ask: Ask, log: Log) -> None:
    def fun(req: Req, args: ReqArgs) -> str:
        raise ValueError("the reason " + str(args["query"]["n"]))

    answers = [ask(fun, f"/x?n=number-{n}") for n in range(3)]
    common = set.intersection(*(words(answer) for answer in answers))
    ids = [words(answer) - common for answer in answers]
    assert all(ids)
    for n, own in enumerate(ids):
        log.wait_for(f"the reason number-{n}")
        starts = [log.wait_for(re.escape(word)).start() for word in own]
        reason = log.wait_for(f"the reason number-{n}").start()
        between = log.text[min(*starts, reason) : max(*starts, reason)]
        assert between.count("the reason") <= 1, "another failure stands between id and traceback"


def test_a_failure_leaves_the_server_whole(server: QuickServer, serve: Serve) -> None:
    @server.text_get("/x")
    def fun(req: Req, args: ReqArgs) -> str:
        raise SystemExit

    server.text_get("/fine")(lambda req, args: "fine")
    run = serve(server)
    for _ in range(30):
        assert run.get("/x").status == 500
    assert run.get("/fine").body == b"fine"


# ---- threads ----------------------------------------------------------------------------------


def test_eight_handlers_at_once(serve: Serve) -> None:
    server = create_server(("127.0.0.1", 0), parallel=True)
    barrier = threading.Barrier(8)

    @server.text_get("/meet")
    def meet(req: Req, args: ReqArgs) -> str:
        barrier.wait(PATIENCE)
        return "met"

    run = serve(server)
    clients = [run.connect() for _ in range(8)]
    for client in clients:
        client.send("GET /meet HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert [client.answer().body for client in clients] == [b"met"] * 8


def test_one_handler_at_a_time(serve: Serve, www: Path) -> None:
    (www / "data.txt").write_text("file")
    (www / "big.bin").write_bytes(b"x" * 3_000_000)
    server = create_server(("127.0.0.1", 0), parallel=False)
    server.bind_path("/", str(www))
    entered, release = threading.Semaphore(0), threading.Event()
    inside: list[str] = []
    overlaps: list[list[str]] = []

    def fun(req: Req, args: ReqArgs) -> str:
        inside.append(req.path)
        if len(inside) > 1:
            overlaps.append(inside.copy())
        entered.release()
        assert release.wait(PATIENCE)
        inside.remove(req.path)
        return req.path

    server.text_get("/a")(fun)
    server.text_get("/b")(fun)
    server.json_post("/c")(fun)
    run = serve(server)
    first, *others = [run.connect() for _ in range(6)]
    try:
        first.send("GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert entered.acquire(timeout=PATIENCE)
        for client in others[:-1]:
            client.send("GET /b HTTP/1.1\r\nHost: localhost\r\n\r\n")
        others[-1].send("POST /c HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        for _ in range(3):  # files go on beside it; and the loop has seen the others by then
            assert run.get("/data.txt").body == b"file"
            assert len(run.get("/big.bin").body) == 3_000_000
            assert run.get("/nothing.txt").status == 404
        assert inside == ["/a"]
    finally:
        release.set()
    assert [client.answer().status for client in [first, *others]] == [200] * 6
    assert overlaps == []


def test_handlers_in_turn_under_load(serve: Serve) -> None:
    server = create_server(("127.0.0.1", 0), parallel=False)
    count = 0

    @server.text_get("/count")
    def fun(req: Req, args: ReqArgs) -> str:
        nonlocal count
        before = count
        for _ in range(5):
            os.sched_yield()
        count = before + 1
        return str(count)

    run = serve(server)
    clients = [run.connect() for _ in range(16)]
    for client in clients:
        client.send("GET /count HTTP/1.1\r\nHost: localhost\r\n\r\n" * 12)
    numbers = sorted(int(client.answer().body) for client in clients for _ in range(12))
    assert numbers == list(range(1, 193))


def test_handlers_run_beside_the_loop(server: QuickServer, serve: Serve) -> None:
    names: list[str] = []

    @server.text_get("/x")
    def fun(req: Req, args: ReqArgs) -> str:
        names.append(threading.current_thread().name)
        return "fine"

    assert serve(server).get("/x").body == b"fine"
    assert "server under test" not in names
