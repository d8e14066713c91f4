"""Functions that run around handlers, and those that run before everything."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from pathlib import Path

import pytest

from quick_server import (
    PreventDefaultResponse,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    ReqNext,
    Response,
    create_server,
)
from quick_server.events import EventChannel
from tests.harness import Running
from tests.integration.logs import Log

Req = QuickServerRequestHandler
Serve = Callable[[QuickServer], Running]
Middleware = Callable[[Req, ReqArgs, ReqNext], object]


@pytest.fixture
def server() -> Iterator[QuickServer]:
    made = create_server(("127.0.0.1", 0))
    yield made
    made.server_close()


def noting(name: str) -> Middleware:
    """Goes on, and leaves its name in `meta`."""

    def step(req: Req, args: ReqArgs, okay: ReqNext) -> object:
        args["meta"].setdefault("order", []).append(name)
        return okay

    return step


def order(req: Req, args: ReqArgs) -> object:
    """A handler that shows who ran before it."""
    return args["meta"].get("order", [])


def refusing(req: Req, args: ReqArgs, okay: ReqNext) -> object:
    return Response("refused", 403)


# ---- one handler ------------------------------------------------------------------------------


def test_okay_goes_on(server: QuickServer, serve: Serve) -> None:
    server.json_get("/x")(server.middleware(noting("a"))(order))
    assert json.loads(serve(server).get("/x").body) == ["a"]


@pytest.mark.parametrize(
    ("result", "status", "body"),
    [
        ("other", 200, b'"other"'),
        ({"a": 1}, 200, b'{"a":1}'),
        ([], 200, b"[]"),
        (False, 200, b"false"),
        (0, 200, b"0"),
        (Response("refused", 403), 403, b'"refused"'),
        (ReqNext, 500, None),
        (None, 404, None),
    ],
    ids=repr,
)
def test_anything_else_is_the_answer(
    server: QuickServer, serve: Serve, log: Log, result: object, status: int, body: bytes | None
) -> None:
    called = []

    @server.json_get("/x")
    @server.middleware(lambda req, args, okay: result)
    def fun(req: Req, args: ReqArgs) -> str:
        called.append(1)
        return "never"

    answer = serve(server).get("/x")
    assert answer.status == status
    if body is not None:
        assert answer.body == body
    assert not called


@pytest.mark.parametrize("place", ["above", "below"])
@pytest.mark.parametrize("kind", ["json_get", "text_get"])
def test_above_or_below_the_decorator(server: QuickServer, serve: Serve, place: str, kind: str) -> None:
    wrap, register = server.middleware(refusing), getattr(server, kind)("/x")
    steps = [register, wrap] if place == "above" else [wrap, register]
    fun: Callable[[Req, ReqArgs], object] = order
    for step in steps:
        fun = step(fun)
    assert serve(server).get("/x").status == 403


@pytest.mark.parametrize("place", ["above", "below", "around"])
def test_several_run_from_the_outside_in(server: QuickServer, serve: Serve, place: str) -> None:
    outer, inner = server.middleware(noting("outer")), server.middleware(noting("inner"))
    register = server.json_get("/x")
    steps = {
        "above": [register, inner, outer],
        "below": [inner, outer, register],
        "around": [inner, register, outer],
    }
    fun: Callable[[Req, ReqArgs], object] = order
    for step in steps[place]:
        fun = step(fun)
    assert json.loads(serve(server).get("/x").body) == ["outer", "inner"]


def test_the_first_answer_keeps_the_others_from_running(server: QuickServer, serve: Serve) -> None:
    called = []

    def inner(req: Req, args: ReqArgs, okay: ReqNext) -> object:
        called.append(1)
        return okay

    @server.json_get("/x")
    @server.middleware(refusing)
    @server.middleware(inner)
    def fun(req: Req, args: ReqArgs) -> str:
        called.append(2)
        return "never"

    assert serve(server).get("/x").status == 403
    assert not called


def test_only_the_handler_that_it_wraps(server: QuickServer, serve: Serve) -> None:
    server.json_get("/x")(server.middleware(refusing)(lambda req, args: "x"))
    server.json_get("/y")(order)
    run = serve(server)
    assert run.get("/x").status == 403
    assert json.loads(run.get("/y").body) == []


@pytest.mark.parametrize("method", ["get", "post", "put", "delete", "patch"])
def test_every_method_and_head(server: QuickServer, serve: Serve, method: str) -> None:
    getattr(server, f"text_{method}")("/x")(server.middleware(refusing)(order))
    run = serve(server)
    assert run.request(method.upper(), "/x").status == 403
    if method == "get":
        assert run.request("HEAD", "/x").status == 403


def test_what_a_middleware_sees(server: QuickServer, serve: Serve) -> None:
    seen = []

    def look(req: Req, args: ReqArgs, okay: ReqNext) -> object:
        post = dict(args["post"])
        seen.append((req.command, req.path, post, args["query"], args["segments"], args["meta"]))
        args["post"]["added"] = 1
        return okay

    @server.json_post("/x/:name")
    @server.middleware(look)
    def fun(req: Req, args: ReqArgs) -> object:
        return args["post"]

    answer = serve(server).request("POST", "/x/a?b=1", b'{"c": 2}', Content_Type="application/json")
    assert seen == [("POST", "/x/a?b=1", {"c": 2}, {"b": "1"}, {"name": "a"}, {})]
    assert json.loads(answer.body) == {"c": 2, "added": 1}


def test_meta_is_of_one_request(server: QuickServer, serve: Serve) -> None:
    server.json_get("/x")(server.middleware(noting("a"))(order))
    client = serve(server).connect()
    for _ in range(3):
        assert json.loads(client.request("GET", "/x").body) == ["a"]


@pytest.mark.parametrize("goes_on", [True, False], ids=["okay", "answers"])
def test_headers_that_a_middleware_sends(server: QuickServer, serve: Serve, goes_on: bool) -> None:
    def step(req: Req, args: ReqArgs, okay: ReqNext) -> object:
        req.send_header("X-Step", "1")
        return okay if goes_on else "answer"

    server.text_get("/x")(server.middleware(step)(lambda req, args: "handler"))
    answer = serve(server).get("/x")
    assert answer.get("x-step") == "1"
    assert answer.body == (b"handler" if goes_on else b"answer")


def test_a_middleware_that_prevents(server: QuickServer, serve: Serve, log: Log) -> None:
    def step(req: Req, args: ReqArgs, okay: ReqNext) -> object:
        raise PreventDefaultResponse(401, "who are you?")

    server.text_get("/x")(server.middleware(step)(lambda req, args: "handler"))
    answer = serve(server).get("/x")
    assert answer.status == 401
    assert b"who are you?" in answer.body
    assert "Traceback" not in log.text


def test_a_middleware_that_fails(server: QuickServer, serve: Serve, log: Log) -> None:
    def step(req: Req, args: ReqArgs, okay: ReqNext) -> object:
        req.send_header("X-Step", "1")
        raise ValueError("hush")

    server.text_get("/x")(server.middleware(step)(lambda req, args: "handler"))
    client = serve(server).connect()
    answer = client.request("GET", "/x")
    assert (answer.status, answer.get("x-step")) == (500, None)
    assert b"hush" not in answer.body
    log.wait_for("(?s)Traceback.*hush")
    assert client.request("GET", "/nothing").status == 404


@pytest.mark.parametrize("origin", ["other", "earlier", "made"])
def test_the_okay_of_another_is_an_error(
    server: QuickServer, serve: Serve, log: Log, origin: str
) -> None:
    kept: list[ReqNext] = []
    called = []

    def first(req: Req, args: ReqArgs, okay: ReqNext) -> object:
        kept.append(okay)
        return okay

    def second(req: Req, args: ReqArgs, okay: ReqNext) -> object:
        return {"other": kept[-1], "earlier": kept[0], "made": ReqNext()}[origin]

    server.json_get("/first")(server.middleware(first)(lambda req, args: "first"))

    @server.json_get("/x")
    @server.middleware(first)
    @server.middleware(second)
    def fun(req: Req, args: ReqArgs) -> str:
        called.append(1)
        return "never"

    run = serve(server)
    assert run.get("/first").status == 200
    assert run.get("/x").status == 500
    assert not called
    log.wait_for("(?i)okay of another")


# ---- all handlers inside of a block -----------------------------------------------------------


def test_a_block_wraps_every_handler_inside(server: QuickServer, serve: Serve) -> None:
    with server.middlewares(noting("a"), noting("b")):
        server.json_get("/decorated")(order)
        server.add_json_get_mask("/added", order)
        server.add_json_mask("/named", "GET", order)
    server.json_get("/outside")(order)
    run = serve(server)
    for target in ("/decorated", "/added", "/named"):
        assert json.loads(run.get(target).body) == ["a", "b"], target
    assert json.loads(run.get("/outside").body) == []


def test_blocks_in_blocks(server: QuickServer, serve: Serve) -> None:
    with server.middlewares(noting("a")):
        with server.middlewares(noting("b")):
            server.json_get("/inner")(order)
        server.json_get("/outer")(order)
    run = serve(server)
    assert json.loads(run.get("/inner").body) == ["a", "b"]
    assert json.loads(run.get("/outer").body) == ["a"]


def test_a_block_that_fails_ends(server: QuickServer, serve: Serve) -> None:
    with pytest.raises(ValueError, match="here"), server.middlewares(refusing):
        raise ValueError("here")
    server.json_get("/x")(order)
    assert serve(server).get("/x").status == 200


@pytest.mark.parametrize("place", ["above", "below"])
def test_a_block_and_a_decorator(server: QuickServer, serve: Serve, place: str) -> None:
    """Both run, wherever the decorator stands."""
    with server.middlewares(noting("block")):
        if place == "below":

            @server.json_get("/x")
            @server.middleware(noting("decorator"))
            def below(req: Req, args: ReqArgs) -> object:
                return order(req, args)

        else:

            @server.middleware(noting("decorator"))
            @server.json_get("/x")
            def above(req: Req, args: ReqArgs) -> object:
                return order(req, args)

    assert sorted(json.loads(serve(server).get("/x").body)) == ["block", "decorator"]


def test_a_decorator_inside_of_a_block_refuses(server: QuickServer, serve: Serve) -> None:
    with server.middlewares(noting("block")):
        server.middleware(refusing)(server.json_get("/x")(lambda req, args: "never"))
    assert serve(server).get("/x").status == 403


def test_a_decorator_above_several_masks(server: QuickServer, serve: Serve) -> None:
    @server.middleware(refusing)
    @server.json_post("/a")
    @server.json_get("/a")
    @server.json_get("/b")
    def fun(req: Req, args: ReqArgs) -> str:
        return "never"

    run = serve(server)
    assert [run.get("/a").status, run.get("/b").status, run.request("POST", "/a").status] == [403] * 3


def test_around_event_streams(server: QuickServer, serve: Serve) -> None:
    def guard(req: Req, args: ReqArgs, okay: ReqNext) -> object:
        return okay if args["query"].get("let") else Response("refused", 403)

    @server.event_stream("/e")
    @server.middleware(guard)
    def fun(req: Req, args: ReqArgs, channel: EventChannel) -> None:
        channel.send("hello")
        channel.close()

    run = serve(server)
    assert run.get("/e").status == 403
    answer = run.get("/e?let")
    assert answer.status == 200
    assert b"data: hello\n\n" in answer.body


def test_around_streams_of_a_generator(server: QuickServer, serve: Serve) -> None:
    @server.text_get("/x")
    @server.middleware(noting("a"))
    def fun(req: Req, args: ReqArgs) -> Iterator[str]:
        yield from args["meta"]["order"]

    assert serve(server).get("/x").body == b"a"


# ---- before everything ------------------------------------------------------------------------


@pytest.fixture
def site(server: QuickServer, www: Path) -> QuickServer:
    """A server with a file, a folder, and a function."""
    (www / "file.txt").write_text("a file")
    (www / "folder").mkdir()
    server.bind_path("/", str(www))
    server.text_get("/fun")(lambda req, args: "a function")
    server.text_post("/post")(lambda req, args: "posted")
    return server


TARGETS = {
    "/file.txt": ("GET", 200),
    "/fun": ("GET", 200),
    "/nothing": ("GET", 404),
    "/folder": ("GET", 301),
    "/post": ("POST", 200),
    "/fun?wrong": ("DELETE", 405),
}


@pytest.mark.parametrize("target", TARGETS)
def test_a_pre_middleware_runs_before_everything(site: QuickServer, serve: Serve, target: str) -> None:
    seen = []

    def look(req: Req, path: str, cookie: SimpleCookie | None) -> object:
        seen.append((req.command, path, req.headers.get("x-mine"), cookie))
        return "ignored"

    site.add_pre_middleware(look)
    method, status = TARGETS[target]
    assert serve(site).request(method, target, X_Mine="1").status == status
    assert len(seen) == 1
    assert seen[0][0] == method
    assert seen[0][1].split("?")[0] == target.split("?", maxsplit=1)[0]
    assert seen[0][2:] == ("1", None)


def test_cookies_of_a_pre_middleware(site: QuickServer, serve: Serve) -> None:
    seen = []

    def look(req: Req, path: str, cookie: SimpleCookie | None) -> None:
        assert cookie is not None
        seen.append({name: morsel.value for name, morsel in cookie.items()})

    site.add_pre_middleware(look)
    assert serve(site).get("/file.txt", Cookie="a=1; b=two").status == 200
    assert seen == [{"a": "1", "b": "two"}]


@pytest.mark.parametrize("target", TARGETS)
def test_a_pre_middleware_that_prevents(site: QuickServer, serve: Serve, log: Log, target: str) -> None:
    def guard(req: Req, path: str, cookie: SimpleCookie | None) -> None:
        raise PreventDefaultResponse(401, "who are you?")

    site.add_pre_middleware(guard)
    client = serve(site).connect()
    answer = client.request(TARGETS[target][0], target)
    assert answer.status == 401
    assert b"who are you?" in answer.body
    assert b"a file" not in answer.body
    assert "Traceback" not in log.text
    assert client.request("GET", "/file.txt").status == 401


@pytest.mark.parametrize("target", TARGETS)
def test_a_pre_middleware_that_fails(site: QuickServer, serve: Serve, log: Log, target: str) -> None:
    def guard(req: Req, path: str, cookie: SimpleCookie | None) -> None:
        raise ValueError("hush")

    site.add_pre_middleware(guard)
    answer = serve(site).request(TARGETS[target][0], target)
    assert answer.status == 500
    assert b"hush" not in answer.body
    log.wait_for("(?s)Traceback.*hush")


@pytest.mark.parametrize("target", TARGETS)
def test_headers_that_a_pre_middleware_sends(site: QuickServer, serve: Serve, target: str) -> None:
    def mark(req: Req, path: str, cookie: SimpleCookie | None) -> None:
        req.send_header("X-Mark", "1")

    site.add_pre_middleware(mark)
    method, status = TARGETS[target]
    answer = serve(site).request(method, target)
    assert (answer.status, answer.all("x-mark")) == (status, ["1"])


def test_headers_of_a_pre_middleware_and_a_304(site: QuickServer, serve: Serve) -> None:
    site.add_pre_middleware(lambda req, path, cookie: req.send_header("X-Mark", "1"))
    client = serve(site).connect()
    tag = client.request("GET", "/file.txt").get("etag") or ""
    answer = client.request("GET", "/file.txt", If_None_Match=tag)
    assert (answer.status, answer.all("x-mark")) == (304, ["1"])


@pytest.mark.parametrize("way", ["error-page", "prevented"])
def test_headers_of_a_pre_middleware_that_stops_a_request(
    site: QuickServer, serve: Serve, way: str
) -> None:
    """A challenge goes with the 401 that it belongs to (RFC 9110 section 11.6.1)."""

    def guard(req: Req, path: str, cookie: SimpleCookie | None) -> None:
        req.send_header("WWW-Authenticate", 'Basic realm="here"')
        if way == "prevented":
            raise PreventDefaultResponse(401, "who are you?")
        req.send_error(401, "who are you?")
        raise PreventDefaultResponse

    site.add_pre_middleware(guard)
    answer = serve(site).get("/file.txt")
    assert answer.status == 401
    assert answer.get("www-authenticate") == 'Basic realm="here"'


def test_several_run_in_order_until_one_raises(site: QuickServer, serve: Serve) -> None:
    called: list[int] = []

    def first(req: Req, path: str, cookie: SimpleCookie | None) -> None:
        called.append(1)

    def second(req: Req, path: str, cookie: SimpleCookie | None) -> None:
        called.append(2)
        if path == "/fun":
            raise PreventDefaultResponse(403)

    def third(req: Req, path: str, cookie: SimpleCookie | None) -> None:
        called.append(3)

    for step in (first, second, third):
        site.add_pre_middleware(step)
    run = serve(site)
    assert run.get("/fun").status == 403
    assert called == [1, 2]
    assert run.get("/file.txt").status == 200
    assert called == [1, 2, 1, 2, 3]


def test_a_pre_middleware_comes_before_the_body_is_read(site: QuickServer, serve: Serve) -> None:
    def guard(req: Req, path: str, cookie: SimpleCookie | None) -> None:
        raise PreventDefaultResponse(403)

    site.add_pre_middleware(guard)
    client = serve(site).connect()
    client.send("POST /post HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n")
    assert client.answer().status == 403


@pytest.mark.parametrize("size", [1, 1000, 100_000, 3_000_000])
def test_a_body_is_complete_behind_a_pre_middleware(site: QuickServer, serve: Serve, size: int) -> None:
    site.text_post("/echo")(lambda req, args: req.body())
    site.add_pre_middleware(lambda req, path, cookie: None)
    client = serve(site).connect()
    for _ in range(3):
        assert client.request("POST", "/echo", b"x" * size).body == b"x" * size


def test_a_pre_middleware_comes_before_middleware(site: QuickServer, serve: Serve) -> None:
    called = []

    def step(req: Req, args: ReqArgs, okay: ReqNext) -> object:
        called.append("middleware")
        return okay

    site.json_get("/x")(site.middleware(step)(order))
    site.add_pre_middleware(lambda req, path, cookie: called.append("before"))
    assert serve(site).get("/x").status == 200
    assert called == ["before", "middleware"]
