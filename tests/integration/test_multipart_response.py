"""`MultipartResponse`: several parts in one answer."""

from __future__ import annotations

import datetime as dt
import io
import json
import math
import os
from collections.abc import Callable, Iterator
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path

import pytest

from quick_server import (
    MultipartResponse,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    Response,
    create_server,
)
from quick_server.limits import Limits
from quick_server.uploads import make_form
from tests.harness import Answer, Running
from tests.integration.forms import until
from tests.integration.logs import Log

Req = QuickServerRequestHandler
Serve = Callable[[QuickServer], Running]

KINDS = ["json_get", "text_get"]


@pytest.fixture
def server() -> Iterator[QuickServer]:
    made = create_server(("127.0.0.1", 0))
    yield made
    made.server_close()


def get(server: QuickServer, serve: Serve, result: object, kind: str = "json_get") -> Answer:
    getattr(server, kind)("/x")(lambda req, args: result)
    return serve(server).get("/x")


def parts(answer: Answer) -> dict[str, Message]:
    """The parts by name, as the standard library's parser for mail reads them."""
    assert answer.status == 200, answer
    ctype = answer.get("content-type") or ""
    assert ctype.startswith("multipart/form-data; boundary=")
    message = BytesParser(policy=HTTP).parsebytes(
        f"Content-Type: {ctype}\r\n\r\n".encode() + answer.body
    )
    assert not message.defects
    found = {}
    for part in message.get_payload():
        assert isinstance(part, Message)
        assert part.get_content_disposition() == "form-data"
        found[str(part.get_param("name", header="content-disposition"))] = part
    return found


def content(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


# ---- what the parts are -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_part(server: QuickServer, serve: Serve, kind: str) -> None:
    result = MultipartResponse(
        {
            "text": "größe",
            "bytes": b"raw",
            "json": {"a": [1, None]},
            "file": io.BytesIO(b"\x00\xff\r\n"),
        }
    )
    found = parts(get(server, serve, result, kind))
    assert list(found) == ["text", "bytes", "json", "file"]
    assert {name: part.get_content_type() for name, part in found.items()} == {
        "text": "text/plain",
        "bytes": "text/plain",
        "json": "application/json",
        "file": "application/octet-stream",
    }
    assert content(found["text"]).decode() == "größe"
    assert found["text"].get_content_charset() == "utf-8"
    assert content(found["bytes"]) == b"raw"
    assert json.loads(content(found["json"])) == {"a": [1, None]}
    assert content(found["file"]) == b"\x00\xff\r\n"


@pytest.mark.parametrize("value", [1, 1.5, True, None, [], {}, ["ü"]], ids=repr)
def test_the_rest_is_json(server: QuickServer, serve: Serve, value: object) -> None:
    found = parts(get(server, serve, MultipartResponse({"a": value})))
    assert json.loads(content(found["a"])) == value


def test_json_parts_hold_what_json_answers_hold(server: QuickServer, serve: Serve) -> None:
    value = {"when": dt.date(2026, 1, 31), "mean": math.nan, "tags": {"a"}}
    found = parts(get(server, serve, MultipartResponse({"a": value})))
    assert json.loads(content(found["a"])) == {"when": "2026-01-31", "mean": "NaN", "tags": ["a"]}


def test_no_parts(server: QuickServer, serve: Serve) -> None:
    answer = get(server, serve, MultipartResponse({}))
    assert answer.status == 200
    boundary = (answer.get("content-type") or "").partition("boundary=")[2]
    assert answer.body == f"--{boundary}--\r\n".encode()


def test_a_file_has_a_name(server: QuickServer, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"content")
    with (tmp_path / "data.bin").open("rb") as file:
        found = parts(get(server, serve, MultipartResponse({"doc": file, "more": io.BytesIO(b"x")})))
        assert found["doc"].get_filename() == "data.bin"
        assert found["more"].get_filename()
        assert content(found["doc"]) == b"content"
        until(lambda: file.closed, "the file is closed")


def test_a_large_file(server: QuickServer, serve: Serve, tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    (tmp_path / "data.bin").write_bytes(data)
    with (tmp_path / "data.bin").open("rb") as file:
        found = parts(get(server, serve, MultipartResponse({"doc": file, "note": "after"})))
    assert content(found["doc"]) == data
    assert content(found["note"]) == b"after"


def test_a_text_file(server: QuickServer, serve: Serve) -> None:
    found = parts(get(server, serve, MultipartResponse({"doc": io.StringIO("größe")})))
    assert content(found["doc"]).decode() == "größe"


@pytest.mark.parametrize("name", ['a"b', "größe", "a;b=c", "a b", "a\\b"])
def test_names_of_parts(server: QuickServer, serve: Serve, name: str) -> None:
    """They come out of a form's parser as they went in."""
    answer = get(server, serve, MultipartResponse({name: "x", "last": "y"}))
    boundary = (answer.get("content-type") or "").partition("boundary=")[2]
    form = make_form({"boundary": boundary}, 10_000, Limits())
    form.feed(answer.body)
    form.complete()
    assert form.fields == {name: "x", "last": "y"}


@pytest.mark.parametrize("text", ["a\r\nX-Evil: 1", 'a"\r\n\r\nevil\r\n', "a\nb", "a\rb"])
def test_names_split_nothing(server: QuickServer, serve: Serve, text: str) -> None:
    file = io.BytesIO(b"x")
    file.name = f"dir/{text}"
    answer = get(server, serve, MultipartResponse({text: "x", "file": file}))
    assert answer.status == 200
    found = parts(answer)
    assert len(found) == 2
    for part in found.values():
        assert {name.lower() for name in part} == {"content-disposition", "content-type"}


def test_the_boundary_is_of_one_answer(server: QuickServer, serve: Serve) -> None:
    """A part cannot guess it, so no content ends a part."""
    server.json_get("/x")(lambda req, args: MultipartResponse({"a": "x"}))
    run = serve(server)
    assert run.get("/x").get("content-type") != run.get("/x").get("content-type")


# ---- the answer around it ---------------------------------------------------------------------


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_other_methods(server: QuickServer, serve: Serve, method: str) -> None:
    getattr(server, f"json_{method}")("/x")(lambda req, args: MultipartResponse({"a": "x"}))
    assert list(parts(serve(server).request(method.upper(), "/x"))) == ["a"]


@pytest.mark.parametrize("kind", KINDS)
def test_within_a_response(server: QuickServer, serve: Serve, kind: str) -> None:
    answer = get(server, serve, Response(MultipartResponse({"a": "x"}), 201), kind)
    assert answer.status == 201
    assert b"\r\n\r\nx\r\n" in answer.body


def test_headers_and_codes_that_are_sent(server: QuickServer, serve: Serve) -> None:
    @server.json_get("/x")
    def fun(req: Req, args: ReqArgs) -> object:
        req.send_header("X-Mine", "1")
        req.send_response(202)
        return MultipartResponse({"a": "x"})

    answer = serve(server).get("/x")
    assert (answer.status, answer.get("x-mine")) == (202, "1")


def test_the_connection_goes_on(server: QuickServer, serve: Serve) -> None:
    server.json_get("/x")(lambda req, args: MultipartResponse({"a": "x"}))
    client = serve(server).connect()
    for _ in range(3):
        assert list(parts(client.request("GET", "/x"))) == ["a"]


def test_a_head(server: QuickServer, serve: Serve) -> None:
    file = io.BytesIO(b"x")
    server.json_get("/x")(lambda req, args: MultipartResponse({"a": file}))
    client = serve(server).connect()
    answer = client.request("HEAD", "/x")
    assert answer.status == 200
    assert (answer.get("content-type") or "").startswith("multipart/form-data")
    assert client.request("HEAD", "/nothing").status == 404
    until(lambda: file.closed, "the file is closed")


def test_a_client_that_leaves(server: QuickServer, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(bytes(30_000_000))
    with (tmp_path / "data.bin").open("rb") as file:
        server.json_get("/x")(lambda req, args: MultipartResponse({"a": file}))
        run = serve(server)
        client = run.connect().send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client._fill()
        client.close()
        until(lambda: file.closed, "the file is closed")
        assert run.get("/nothing").status == 404


def test_a_first_part_that_fails_is_a_500(server: QuickServer, serve: Serve, log: Log) -> None:
    answer = get(server, serve, MultipartResponse({"a": object()}))
    assert answer.status == 500
    log.wait_for("type object")


def test_a_later_part_that_fails_cuts_the_answer_off(
    server: QuickServer, serve: Serve, log: Log
) -> None:
    """Or is a 500; it never looks whole."""
    server.json_get("/x")(lambda req, args: MultipartResponse({"a": "x", "b": object()}))
    client = serve(server).connect().send("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    try:
        client.at_end()
    except (ConnectionError, TimeoutError):
        pass
    assert client.rest.startswith(b"HTTP/1.1 500 ") or not client.rest.endswith(b"\r\n0\r\n\r\n")
    log.wait_for("type object")


def test_files_after_a_part_that_fails_are_closed(server: QuickServer, serve: Serve, log: Log) -> None:
    file = io.BytesIO(b"x")
    get(server, serve, MultipartResponse({"a": object(), "file": file}))
    until(lambda: file.closed, "the file is closed")
