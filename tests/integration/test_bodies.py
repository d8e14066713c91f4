"""What a request carries: JSON and forms within their limits, raw bytes, and what nobody reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quick_server import (
    PreventDefaultResponse,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    create_server,
)
from tests.harness import Answer, Client, Running
from tests.integration.forms import chunks
from tests.integration.logs import Log

Req = QuickServerRequestHandler
Serve = Callable[[QuickServer], Running]

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def server() -> Iterator[QuickServer]:
    made = create_server(("127.0.0.1", 0))
    yield made
    made.server_close()


@pytest.fixture
def run(server: QuickServer, serve: Serve) -> Running:
    """`/echo` shows `post` and the raw bytes."""

    @server.json_post("/echo")
    def fun(req: Req, args: ReqArgs) -> object:
        return {"post": args["post"], "raw": req.body().decode("latin-1"), "files": len(args["files"])}

    return serve(server)


def post(run: Running, body: bytes, ctype: str, **headers: str) -> Answer:
    return run.request("POST", "/echo", body, Content_Type=ctype, **headers)


def data(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return json.loads(answer.body)


def head(
    target: str, length: int | None, ctype: str = JSON, more: str = "", method: str = "POST"
) -> str:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    fields = f"Host: localhost\r\nContent-Type: {ctype}\r\n{framing}\r\n{more}"
    return f"{method} {target} HTTP/1.1\r\n{fields}\r\n"


def refused(run: Running, body: bytes, ctype: str = JSON) -> str:
    """The message of the 400 for this body; the connection has to go on after it."""
    client = run.connect()
    answer = client.request("POST", "/echo", body, Content_Type=ctype, Accept=JSON)
    assert answer.status == 400, answer
    assert client.request("POST", "/echo", b"[1]", Content_Type=JSON).status == 200
    message: str = json.loads(answer.body)["message"]
    return message


# ---- JSON -------------------------------------------------------------------------------------

NESTED: dict[str, Callable[[int], bytes]] = {
    "arrays": lambda depth: b"[" * depth + b"]" * depth,
    "objects": lambda depth: b'{"a":' * depth + b"1" + b"}" * depth,
    "both": lambda depth: (b'[{"a":' * depth)[: depth // 2 * 6 + depth % 2] + b"1" + closing(depth),
    "beside-others": lambda depth: b'[1,"[[[{{",{"a":1},' * (depth - 1) + b"[]" + b"]" * (depth - 1),
    "late": lambda depth: b"[[],[]," * (depth - 1) + b"[]" + b"]" * (depth - 1),
}


def closing(depth: int) -> bytes:
    return b"]" * (depth % 2) + b"}]" * (depth // 2)


@pytest.mark.parametrize("nested", NESTED.values(), ids=NESTED)
def test_json_is_nested_up_to_100_levels(run: Running, nested: Callable[[int], bytes]) -> None:
    body = nested(100)
    assert data(post(run, body, JSON))["post"] == json.loads(body)
    assert "100" in refused(run, nested(101))


@pytest.mark.parametrize("body", [b"[" * 5_000_000, b'{"a":' * 1_000_000], ids=["arrays", "objects"])
def test_very_deep_json(run: Running, body: bytes) -> None:
    assert refused(run, body)


def test_brackets_in_strings_are_no_nesting(run: Running) -> None:
    text = "[{" * 1000
    assert data(post(run, json.dumps([text]).encode(), JSON))["post"] == [text]


def test_wide_json_is_fine(run: Running) -> None:
    value = [[i, {"a": []}] for i in range(5000)]
    assert data(post(run, json.dumps(value).encode(), JSON))["post"] == value


@pytest.mark.parametrize(
    "text",
    ["1e400", "-1e400", "1E309", "1.8e308", "[0, 1e999]", "9" * 400 + ".0", "1" + "0" * 400 + "e1",
     "0.1e310", "9" * 5000, "-" + "9" * 5000],
    ids=lambda text: text[:10],
)  # fmt: skip
def test_numbers_out_of_range(run: Running, text: str) -> None:
    assert refused(run, text.encode())


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", '{"a": [NaN]}', "[-Infinity]"])
def test_numbers_that_json_lacks(run: Running, text: str) -> None:
    assert refused(run, text.encode())


@pytest.mark.parametrize(
    "text",
    ["1e308", "-1.7976931348623157e308", "1e-400", "123456789012345678901234567890", "-0", "1E+2"],
)
def test_unusual_numbers(run: Running, text: str) -> None:
    assert data(post(run, text.encode(), JSON))["post"] == json.loads(text)


def test_a_message_says_where_json_is_broken(run: Running) -> None:
    message = refused(run, b'{"a": 1,\n "b": oops}')
    assert "line 2" in message
    assert "column 7" in message


@pytest.mark.parametrize(
    "body",
    [b'"\xff"', b'"\xc0\xaf"', b'"\xed\xa0\x80"', b'{"\xfc": 1}', b"\xff\xfe[\x001\x00]\x00"],
    ids=["ff", "overlong", "surrogate", "key", "utf-16"],
)
def test_json_that_is_not_utf8(run: Running, body: bytes) -> None:
    assert "utf-8" in refused(run, body).lower()


def test_an_escaped_lone_surrogate(run: Running) -> None:
    answer = post(run, b'["\\ud800"]', JSON)
    if answer.status != 400:
        assert data(answer)["post"] == ["\ud800"]


@pytest.mark.parametrize("ctype", ["application/vnd.api+json", "application/ld+json; charset=utf-8"])
def test_types_built_on_json(run: Running, ctype: str) -> None:
    assert data(post(run, b'{"a": 1}', ctype))["post"] == {"a": 1}


@pytest.mark.parametrize("charset", ["iso-8859-1", "utf-16"])
def test_json_in_another_charset(run: Running, charset: str) -> None:
    body = '["größe"]'.encode(charset)
    assert data(post(run, body, f"{JSON}; charset={charset}"))["post"] == ["größe"]


@pytest.mark.parametrize(
    "charset", ["klingon", "base64", "undefined", "unicode_escape", "idna", '""', "x" * 200]
)
@pytest.mark.parametrize("ctype", [JSON, FORM])
def test_a_bad_charset(run: Running, log: Log, ctype: str, charset: str) -> None:
    answer = post(run, b"[1]" if ctype == JSON else b"a=1", f"{ctype}; charset={charset}")
    unusual = charset in ("unicode_escape", "idna", '""')  # they exist, or say nothing
    assert answer.status == 400 or (unusual and answer.status == 200)
    assert "Traceback" not in log.text


def test_the_last_of_equal_keys_wins(run: Running) -> None:
    assert data(post(run, b'{"a": 1, "a": 2}', JSON))["post"] == {"a": 2}


# ---- forms ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"a=one+two&b=1%2B1", {"a": "one two", "b": "1+1"}),
        (b"one+name=%20", {"one name": " "}),
        (b"a=%E6%97%A5&%C3%BC=1", {"a": "日", "ü": "1"}),
        ("a=ü".encode(), {"a": "ü"}),
        (b"a", {"a": ""}),
        (b"a&b=", {"a": "", "b": ""}),
        (b"&&a=1&", {"a": "1"}),
        (b"a=%&b=%zz&c=%4", {"a": "%", "b": "%zz", "c": "%4"}),
        (b"a=1;b=2", {"a": "1;b=2"}),
        (b"a=1\r\n", {"a": "1\r\n"}),
    ],
)
def test_forms(run: Running, body: bytes, expected: dict[str, str]) -> None:
    answer = data(post(run, body, FORM))
    assert answer["post"] == expected
    assert answer["raw"] == body.decode("latin-1")


@pytest.mark.parametrize("body", [b"a=%F6", b"a=\xf6"], ids=["encoded", "raw"])
def test_a_form_in_another_charset(run: Running, body: bytes) -> None:
    assert data(post(run, body, f"{FORM}; charset=iso-8859-1"))["post"] == {"a": "ö"}


@pytest.mark.parametrize(
    "body", [b"a=%FF", b"a=\xff", b"%C3=1", b"a=1&b=%ED%A0%80", b"a=%C0%AF"], ids=range(5)
)
def test_a_form_that_is_not_utf8(run: Running, body: bytes) -> None:
    assert "utf-8" in refused(run, body, FORM).lower()


# ---- other content ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ctype", ["text/plain", "application/octet-stream", "image/png", "nonsense", "", ";;;", "text/json"]
)
@pytest.mark.parametrize("body", [b'{"a": 1}', bytes(range(256))], ids=["text", "bytes"])
def test_other_types_are_raw(run: Running, ctype: str, body: bytes) -> None:
    answer = data(post(run, body, ctype))
    assert answer == {"post": {}, "raw": body.decode("latin-1"), "files": 0}


def test_no_type_is_raw(run: Running) -> None:
    answer = data(run.request("POST", "/echo", b'{"a": 1}'))
    assert answer == {"post": {}, "raw": '{"a": 1}', "files": 0}


@pytest.mark.parametrize(
    ("ctype", "body"), [(JSON, b' {"a": 1} '), (FORM, b"a=1")], ids=["json", "form"]
)
def test_the_raw_bytes_beside_the_value(run: Running, ctype: str, body: bytes) -> None:
    answer = data(post(run, body, ctype))
    assert answer["raw"] == body.decode()
    assert answer["post"] != {}


@pytest.mark.parametrize(
    ("ctype", "body"),
    [
        (JSON, b'{"a": [1, 2, 3]}'),
        (JSON, b"[" + b"1," * 100_000 + b"1]"),
        (FORM, b"a=" + b"x" * 200_000),
        ("text/plain", bytes(300_000)),
    ],
    ids=["json", "long-json", "form", "bytes"],
)
@pytest.mark.parametrize("size", [13, 4096, 1 << 20])
def test_chunked_or_sized_alike(run: Running, ctype: str, body: bytes, size: int) -> None:
    sized = data(post(run, body, ctype))
    step = size if len(body) < 1000 else max(size, 2000)
    client = run.connect().send(head("/echo", None, ctype).encode() + chunks(body, step))
    assert data(client.answer()) == sized
    assert data(client.request("POST", "/echo", b"[1]", Content_Type=JSON))["post"] == [1]


def test_an_empty_chunked_body(run: Running) -> None:
    client = run.connect().send(head("/echo", None) + "0\r\n\r\n")
    assert data(client.answer()) == {"post": {}, "raw": "", "files": 0}


def test_byte_by_byte(run: Running) -> None:
    body = b'{"a": "\xc3\xbc"}'
    client = run.connect()
    for byte in head("/echo", len(body)).encode() + body:
        client.send(bytes((byte,)))
    assert data(client.answer())["post"] == {"a": "ü"}


# ---- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ctype", [JSON, FORM, "text/plain"])
def test_a_body_may_be_as_large_as_the_limit(server: QuickServer, run: Running, ctype: str) -> None:
    server.max_file_size = 10_000
    bodies = {JSON: b'"%s"', FORM: b"a=%s", "text/plain": b"%s"}
    filled = bodies[ctype] % (b"x" * (10_000 - len(bodies[ctype]) + 2))
    assert len(filled) == 10_000
    assert len(data(post(run, filled, ctype))["raw"]) == 10_000
    longer = filled.replace(b"x", b"xx", 1)
    assert post(run, longer, ctype).status == 413


def test_too_large_is_said_before_a_byte_is_read(server: QuickServer, run: Running) -> None:
    server.max_file_size = 10_000
    client = run.connect().send(head("/echo", 10_001))
    answer = client.answer()
    assert (answer.status, answer.get("connection")) == (413, "close")
    assert b"10000" in answer.body


def test_too_large_a_chunked_body_is_refused_when_it_crosses_the_limit(
    server: QuickServer, run: Running
) -> None:
    server.max_file_size = 10_000
    beginning = chunks(b"x" * 10_500, 700)[: -len("0\r\n\r\n")]
    client = run.connect().send(head("/echo", None).encode() + beginning)
    assert client.answer().status == 413


# ---- what nobody reads ------------------------------------------------------------------------


@pytest.fixture
def unread(server: QuickServer, serve: Serve, www: Path) -> Running:
    """Routes and files that have no use for content."""
    (www / "file.txt").write_text("a file")
    server.bind_path("/", str(www))
    server.text_get("/get")(lambda req, args: f"{req.body()!r} {args['post']} {args['files']}")
    server.text_delete("/gone")(lambda req, args: "deleted")
    return serve(server)


UNWANTED = {
    "get": ("GET", "/get", 200),
    "file": ("GET", "/file.txt", 200),
    "missing": ("POST", "/missing", 404),
    "missing-get": ("GET", "/missing", 404),
    "wrong-method": ("POST", "/get", 405),
    "file-post": ("POST", "/file.txt", 405),
}


def ask(client: Client, method: str, target: str, length: int, body: bytes) -> Answer:
    return client.send(head(target, length, method=method).encode() + body).answer()


@pytest.mark.parametrize(("method", "target", "status"), UNWANTED.values(), ids=UNWANTED)
def test_a_small_body_nobody_wants_is_skipped(
    unread: Running, method: str, target: str, status: int
) -> None:
    """It is never taken for the next request."""
    body = b"GET /get HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100
    client = unread.connect()
    for _ in range(3):
        assert ask(client, method, target, len(body), body).status == status
    assert client.request("GET", "/file.txt").body == b"a file"


@pytest.mark.parametrize(("method", "target", "status"), UNWANTED.values(), ids=UNWANTED)
def test_a_body_nobody_wants_is_not_waited_for(
    unread: Running, method: str, target: str, status: int
) -> None:
    """The answer is there before any of it, and too much of it ends the connection."""
    client = unread.connect()
    answer = ask(client, method, target, 1 << 30, b"")
    assert (answer.status, answer.get("connection")) == (status, "close")
    assert client.at_end()


def test_a_get_has_no_content(unread: Running) -> None:
    answer = ask(unread.connect(), "GET", "/get", 8, b'{"a": 1}')
    assert answer.body == b"b'' {} {}"


def test_broken_content_nobody_wants_is_no_error(unread: Running) -> None:
    client = unread.connect()
    assert ask(client, "GET", "/get", 4, b"{oh}").status == 200
    assert ask(client, "GET", "/get", 4, b"{oh}").status == 200


# ---- Expect: 100-continue ---------------------------------------------------------------------

EXPECT = "Expect: 100-continue\r\n"


def test_a_100_where_the_body_is_wanted(run: Running) -> None:
    client = run.connect().send(head("/echo", 3, more=EXPECT))
    interim = client.answer()
    assert (interim.status, interim.headers) == (100, [])
    assert data(client.send("[1]").answer())["post"] == [1]


@pytest.mark.parametrize(("method", "target", "status"), UNWANTED.values(), ids=UNWANTED)
def test_no_100_where_nobody_wants_the_body(
    unread: Running, method: str, target: str, status: int
) -> None:
    client = unread.connect().send(head(target, 3, more=EXPECT, method=method))
    answer = client.answer()
    assert answer.status == status
    assert client.at_end()  # would the body come now or not? nobody can know


def test_a_413_instead_of_a_100(server: QuickServer, run: Running) -> None:
    server.max_file_size = 10
    assert run.connect().send(head("/echo", 11, more=EXPECT)).answer().status == 413


def test_a_401_instead_of_a_100(server: QuickServer, run: Running) -> None:
    def guard(req: Req, path: str, cookie: object) -> None:
        raise PreventDefaultResponse(401, "who are you?")

    server.add_pre_middleware(guard)
    assert run.connect().send(head("/echo", 11, more=EXPECT)).answer().status == 401


@pytest.mark.parametrize("expectation", ["a-miracle", "100-continue, a-miracle", "200-ok"])
def test_other_expectations_are_a_417(run: Running, expectation: str) -> None:
    client = run.connect().send(head("/echo", 3, more=f"Expect: {expectation}\r\n"))
    assert client.answer().status == 417


def test_no_100_for_http_1_0(run: Running) -> None:
    raw = head("/echo", 3, more=EXPECT).replace("HTTP/1.1", "HTTP/1.0") + "[1]"
    assert run.raw(raw).startswith(b"HTTP/1.1 200 ")


def test_no_100_when_the_body_is_there(run: Running) -> None:
    client = run.connect().send(head("/echo", 3, more=EXPECT) + "[1]")
    answer = client.answer()
    if answer.status == 100:
        answer = client.answer()
    assert data(answer)["post"] == [1]
