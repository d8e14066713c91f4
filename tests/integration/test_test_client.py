"""`server.test_client()` and `server.running()`: trying a server out."""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import json
import os
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import quick_server
from quick_server import (
    PreventDefaultResponse,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    Response,
    create_server,
)
from quick_server.testclient import TestClient
from tests.harness import PATIENCE
from tests.integration.forms import nameless_files, until
from tests.integration.logs import Log

Req = QuickServerRequestHandler


@pytest.fixture
def server(log: Log) -> Iterator[QuickServer]:
    made = create_server(("127.0.0.1", 0))
    yield made
    made.server_close()


@pytest.fixture(params=["stopped", "running"])
def client(request: pytest.FixtureRequest, server: QuickServer) -> Iterator[TestClient]:
    """A client of a server that does not run, and of one that does."""
    if request.param == "stopped":
        yield server.test_client()
    else:
        with server.running():
            yield server.test_client()


def echo(req: Req, args: ReqArgs) -> object:
    return {
        "method": req.command,
        "path": req.path,
        "post": args["post"],
        "query": args["query"],
        "files": {
            name: [file.filename, hashlib.sha256(file.read()).hexdigest()]
            for name, file in args["files"].items()
        },
        "body": hashlib.sha256(req.body()).hexdigest(),
    }


def everywhere(server: QuickServer, fun: Callable[[Req, ReqArgs], object] = echo) -> None:
    for method in ("get", "post", "put", "delete", "patch"):
        getattr(server, f"json_{method}")("/x")(fun)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# ---- requests ---------------------------------------------------------------------------------


def test_a_get(server: QuickServer, client: TestClient) -> None:
    everywhere(server)
    response = client.get("/x?a=1&b")
    assert (response.status, response.reason) == (200, "OK")
    assert response.headers["content-type"] == "application/json"
    assert response.json()["query"] == {"a": "1", "b": True}
    assert json.loads(response.text) == json.loads(response.body) == response.json()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH"])
def test_every_method(server: QuickServer, client: TestClient, method: str) -> None:
    everywhere(server)
    assert client.request(method, "/x").json()["method"] == method
    if method != "PATCH":
        assert getattr(client, method.lower())("/x").json()["method"] == method


def test_a_head(server: QuickServer, client: TestClient) -> None:
    everywhere(server)
    response = client.request("HEAD", "/x")
    assert (response.status, response.body) == (200, b"")
    assert int(response.headers["content-length"]) > 0


@pytest.mark.parametrize("value", [{"a": [1, None]}, [], {}, "", 0, False, "ü"], ids=repr)
def test_json(server: QuickServer, client: TestClient, value: object) -> None:
    everywhere(server)
    assert client.post("/x", json=value).json()["post"] == value


def test_a_form(server: QuickServer, client: TestClient) -> None:
    everywhere(server)
    response = client.post("/x", form={"a": "one two", "ü": "1+1&"})
    assert response.json()["post"] == {"a": "one two", "ü": "1+1&"}


def test_a_body_and_headers(server: QuickServer, client: TestClient) -> None:
    everywhere(server)
    body = bytes(range(256))
    response = client.put("/x", body=body, headers={"Content-Type": "application/octet-stream"})
    assert (response.json()["post"], response.json()["body"]) == ({}, digest(body))
    response = client.post("/x", body=b"[1]", headers={"Content-Type": "application/json"})
    assert response.json()["post"] == [1]


def test_headers_arrive(server: QuickServer, client: TestClient) -> None:
    server.json_get("/h")(lambda req, args: [req.headers["x-mine"], req.client_address[0]])
    assert client.get("/h", headers={"X-Mine": "1"}).json() == ["1", "127.0.0.1"]


@pytest.mark.parametrize(
    "headers", [{"content-type": "application/json"}, {"Content-Type": "application/json"}]
)
def test_headers_replace_those_of_the_client(
    server: QuickServer, client: TestClient, headers: dict[str, str]
) -> None:
    """Whatever their case: a field is never sent twice."""
    server.json_post("/h")(lambda req, args: req.headers.get_all("content-type"))
    assert client.post("/h", form={"a": "1"}, headers=headers).status in (200, 400)
    response = client.post("/h", json={"a": 1}, headers=headers)
    assert response.json() == ["application/json"]


def test_another_host(server: QuickServer, client: TestClient) -> None:
    everywhere(server)
    for name in ("Host", "host"):
        assert client.get("/x", headers={name: "evil.example"}).status == 421


def test_uploads(server: QuickServer, client: TestClient, tmp_path: Path) -> None:
    everywhere(server)
    (tmp_path / "data.bin").write_bytes(b"from a file")
    with (tmp_path / "data.bin").open("rb") as file:
        files = {"one": b"bytes", "two": io.BytesIO(b"\x00\xff"), "three": file, "four": "text"}
        seen = client.post("/x", form={"note": "hello"}, files=files).json()
    assert seen["post"] == {"note": "hello"}
    assert {name: file[1] for name, file in seen["files"].items()} == {
        "one": digest(b"bytes"),
        "two": digest(b"\x00\xff"),
        "three": digest(b"from a file"),
        "four": digest(b"text"),
    }
    assert seen["files"]["three"][0] == "data.bin"


def test_large_bodies_both_ways(server: QuickServer, client: TestClient) -> None:
    server.text_post("/back")(lambda req, args: req.body())
    body = os.urandom(10_000_000)
    response = client.post("/back", body=body)
    assert response.body == body
    assert client.get("/back").status == 405


def test_a_large_upload(server: QuickServer, client: TestClient) -> None:
    everywhere(server)
    before = nameless_files()
    content = os.urandom(10_000_000)
    response = client.post("/x", files={"f": content})
    assert response.json()["files"]["f"][1] == digest(content)
    assert nameless_files() == before


def test_a_stream(server: QuickServer, client: TestClient) -> None:
    server.text_get("/s")(lambda req, args: iter([b"x" * 100_000] * 50 + [b"end"]))
    assert client.get("/s").body == b"x" * 5_000_000 + b"end"


def test_files_from_a_folder(server: QuickServer, client: TestClient, www: Path) -> None:
    content = os.urandom(3_000_000)
    (www / "large.bin").write_bytes(content)
    server.bind_path("/", str(www))
    response = client.get("/large.bin")
    assert response.body == content
    again = client.get("/large.bin", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    part = client.get("/large.bin", headers={"Range": "bytes=10-19"})
    assert (part.status, part.body) == (206, content[10:20])


def test_text_in_its_charset(server: QuickServer, client: TestClient) -> None:
    server.text_get("/t")(
        lambda req, args: Response("größe".encode("latin-1"), ctype="text/plain; charset=iso-8859-1")
    )
    server.text_get("/u")(lambda req, args: "größe")
    assert client.get("/t").text == client.get("/u").text == "größe"


def test_one_request_after_another(server: QuickServer, client: TestClient) -> None:
    numbers = itertools.count(1)
    everywhere(server, lambda req, args: next(numbers))
    assert [client.get("/x").json() for _ in range(50)] == list(range(1, 51))


def test_a_repr_that_tells_something(server: QuickServer, client: TestClient) -> None:
    assert "404" in repr(client.get("/nothing"))


# ---- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status"),
    [("/nothing", 404), ("/fails", 500), ("/prevented", 418), ("/x?wrong", 405)],
)
def test_errors_are_answers(
    server: QuickServer, client: TestClient, log: Log, target: str, status: int
) -> None:
    everywhere(server)

    @server.text_get("/fails")
    def fails(req: Req, args: ReqArgs) -> str:
        raise ValueError("went wrong")

    @server.text_get("/prevented")
    def prevented(req: Req, args: ReqArgs) -> str:
        raise PreventDefaultResponse(418, "short and stout")

    method = "PROPFIND" if status == 405 else "GET"
    assert client.request(method, target).status == status
    if status == 500:
        log.wait_for("(?s)Traceback.*went wrong")


def test_too_large_a_body(server: QuickServer, client: TestClient) -> None:
    everywhere(server)
    server.max_file_size = 1_000_000
    assert client.post("/x", body=bytes(5_000_000)).status == 413
    response = client.post("/x", files={"f": bytes(5_000_000)})
    assert response.status == 413
    assert "Uploaded file is too large!" in response.text


def test_no_answer_at_all(server: QuickServer, client: TestClient) -> None:
    @server.text_get("/silent")
    def silent(req: Req, args: ReqArgs) -> str:
        raise PreventDefaultResponse

    with pytest.raises(ConnectionError):
        client.get("/silent")
    assert client.get("/nothing").status == 404


def test_a_stream_that_fails(server: QuickServer, client: TestClient, log: Log) -> None:
    """What is cut off is never taken for whole."""

    @server.text_get("/s")
    def fun(req: Req, args: ReqArgs) -> Iterator[str]:
        yield "first"
        raise ValueError("went wrong")

    with pytest.raises(Exception, match=r"(?i)incomplete|reset|closed|read"):
        client.get("/s")
    log.wait_for("went wrong")
    assert client.get("/nothing").status == 404


def test_two_kinds_of_content(server: QuickServer, client: TestClient) -> None:
    everywhere(server)
    response = client.post("/x", form={"a": "1"}, files={})
    assert response.json()["post"] == {"a": "1"}


# ---- a server that does not run ---------------------------------------------------------------


def test_nothing_listens_to_a_test_client(server: QuickServer) -> None:
    everywhere(server)
    threads = threading.active_count()
    client = server.test_client()
    assert client.get("/x").status == 200
    assert threading.active_count() <= threads + server.threads
    server.server_close()
    until(lambda: threading.active_count() == threads, "all threads are gone")


def test_a_client_before_and_while_and_after(server: QuickServer) -> None:
    everywhere(server)
    client = server.test_client()
    assert client.get("/x").status == 200
    with server.running():
        assert client.get("/x").status == 200
    with pytest.raises(Exception, match=r".+"):
        client.get("/x")


def test_several_threads_at_a_stopped_server(server: QuickServer) -> None:
    everywhere(server)
    statuses: list[int] = []
    client = server.test_client()
    threads = [
        threading.Thread(target=lambda: statuses.append(client.get("/x").status)) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert statuses == [200] * 5


def test_a_handler_that_asks_its_own_server(server: QuickServer) -> None:
    everywhere(server)
    server.json_get("/outer")(lambda req, args: server.test_client().get("/x?inner").json()["query"])
    with server.running():
        assert server.test_client().get("/outer").json() == {"inner": True}


def test_without_parallel(log: Log) -> None:
    server = create_server(("127.0.0.1", 0), parallel=False)
    everywhere(server)
    assert [server.test_client().get("/x").status for _ in range(3)] == [200] * 3
    server.server_close()


# ---- running ----------------------------------------------------------------------------------


def fetch(url: str, data: bytes | None = None) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=PATIENCE) as response:
        return json.loads(response.read())


def test_a_real_client_of_a_running_server(server: QuickServer) -> None:
    everywhere(server)
    with server.running() as url:
        assert url == f"http://127.0.0.1:{server.server_address[1]}"
        assert fetch(f"{url}/x?a=1")["query"] == {"a": "1"}
        assert fetch(f"{url}/x", b"a=1")["post"] == {"a": "1"}


@pytest.mark.parametrize("address", ["", "localhost", "::1"])
def test_a_url_that_works_for_every_address(log: Log, address: str) -> None:
    try:
        server = create_server((address, 0))
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT) and ":" in address:
            pytest.skip("there is no IPv6 here")
        raise
    everywhere(server)
    with server.running() as url:
        assert fetch(f"{url}/x")["method"] == "GET"


def test_all_threads_are_gone(server: QuickServer) -> None:
    everywhere(server)
    before = set(threading.enumerate())
    with server.running() as url:
        assert fetch(f"{url}/x")
        assert set(threading.enumerate()) != before
    assert set(threading.enumerate()) == before


def test_the_same_port_again(log: Log) -> None:
    port = 0
    for turn in range(5):
        server = create_server(("127.0.0.1", port))
        server.json_get("/x")(lambda req, args, turn=turn: turn)
        with server.running() as url:
            assert port in (0, server.server_address[1])
            port = server.server_address[1]
            assert fetch(f"{url}/x") == turn
            keep = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
            keep.sendall(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert keep.recv(1000)
        keep.close()


def test_the_port_is_free_afterwards(server: QuickServer) -> None:
    with server.running():
        address = server.server_address
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=PATIENCE)


def test_an_error_inside_of_the_block_ends_it_as_well(server: QuickServer) -> None:
    before = set(threading.enumerate())
    with pytest.raises(ValueError, match="mine"), server.running():
        raise ValueError("mine")
    assert set(threading.enumerate()) == before
    assert server.done


def test_two_servers_beside_each_other(log: Log) -> None:
    first, second = create_server(("127.0.0.1", 0)), create_server(("127.0.0.1", 0))
    first.json_get("/x")(lambda req, args: "first")
    second.json_get("/x")(lambda req, args: "second")
    with first.running() as one, second.running() as two:
        assert (fetch(f"{one}/x"), fetch(f"{two}/x")) == ("first", "second")


def test_a_request_in_flight_gets_its_answer(server: QuickServer) -> None:
    started, go_on = threading.Event(), threading.Event()
    answers: list[object] = []

    @server.json_get("/slow")
    def slow(req: Req, args: ReqArgs) -> str:
        started.set()
        go_on.wait(PATIENCE)
        return "done"

    with server.running() as url:
        asking = threading.Thread(target=lambda: answers.append(fetch(f"{url}/slow")))
        asking.start()
        assert started.wait(PATIENCE)
        server.done = True
        go_on.set()
        asking.join(PATIENCE)
    assert answers == ["done"]


def test_running_twice_is_an_error(server: QuickServer) -> None:
    with server.running(), pytest.raises(RuntimeError):
        server.serve_forever()


def test_what_keeps_a_server_from_serving_is_raised(server: QuickServer) -> None:
    server.socket.close()
    with pytest.raises(ValueError, match="file descriptor"), server.running():
        raise AssertionError("it does not run")
    assert server.done


def test_signals_are_left_alone(server: QuickServer) -> None:
    import signal

    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(kind) for kind in kinds]
    with server.running():
        assert [signal.getsignal(kind) for kind in kinds] == before
    assert [signal.getsignal(kind) for kind in kinds] == before


@pytest.mark.timeout(15)
def test_a_server_that_is_closed_already(log: Log) -> None:
    server = quick_server.create_server(("127.0.0.1", 0))
    server.server_close()
    with pytest.raises(Exception, match=r".+"), server.running():
        raise AssertionError("it does not run")
