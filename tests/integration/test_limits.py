"""`server.limits`: what is assigned counts, wherever in the server it is asked for."""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from quick_server import QuickServer, create_server
from quick_server.limits import KIB, MIB, Limits
from tests.harness import PATIENCE, Running
from tests.integration.scripts import ROOT

Serve = Callable[[QuickServer], Running]
_UNITS = {"": 1, "KiB": KIB, "MiB": MIB, "GiB": 1024 * MIB}


@pytest.fixture
def server() -> QuickServer:
    server = create_server(("127.0.0.1", 0))
    server.text_get("/hello", 0)(lambda req, args: "hello")
    return server


def test_a_timeout(server: QuickServer, serve: Serve) -> None:
    server.limits = server.limits._replace(head_timeout=0.2)
    client = serve(server).connect().send("GET /hello HTTP/1.1\r\n")
    assert client.answer().status == 408


def test_a_client_that_takes_little_at_a_time_is_not_one_that_takes_nothing(
    server: QuickServer, serve: Serve
) -> None:
    """The kernel says that there is room only once much of its buffer is free."""
    patience = 1.5
    server.limits = server.limits._replace(write_timeout=patience)
    server.text_get("/big", 0)(lambda req, args: b"x" * 16 * MIB)
    server.compress = False
    address = serve(server).address
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 * KIB)
        sock.settimeout(PATIENCE)
        sock.connect(address)
        sock.sendall(b"GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n")
        taken, until = 0, time.monotonic() + 2.5 * patience
        while time.monotonic() < until:
            taken += len(sock.recv(16 * KIB))
            select.select([], [], [], 0.1)  # it is slow
        assert taken < 2 * MIB  # what the kernels hold is more, so that there was never room
        while taken < 16 * MIB:
            piece = sock.recv(MIB)
            assert piece, "it was cut off"
            taken += len(piece)


def send_on(sock: socket.socket, data: bytes) -> None:
    """Sends it again and again: the server reads no more once nobody takes its answers."""
    while True:
        sock.sendall(data)


@pytest.mark.parametrize("content", ["empty", "one piece"])
def test_a_client_that_takes_nothing_is_cut_off_wherever_its_answer_stands(
    content: str, server: QuickServer, serve: Serve
) -> None:
    """Answers before may have filled the kernel: then it is a head or the end of content that waits."""
    server.limits = server.limits._replace(write_timeout=0.3)
    pieces = [] if content == "empty" else ["x"]
    server.text_get("/stream", 0)(lambda req, args: iter(pieces))
    address = serve(server).address
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * KIB)
        sock.settimeout(PATIENCE)
        sock.connect(address)
        with pytest.raises(ConnectionError):
            send_on(sock, b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100)


def test_a_size_counts_for_connections_to_come(server: QuickServer, serve: Serve) -> None:
    run = serve(server)
    before = run.connect()
    assert before.request("GET", "/hello").status == 200
    server.limits = server.limits._replace(request_line=100)
    target = "/hello?" + "x" * 200
    assert run.request("GET", target).status == 414
    assert before.request("GET", target).status == 200


def test_threads_and_the_line_in_front_of_them(server: QuickServer, serve: Serve) -> None:
    server.limits = server.limits._replace(threads=1, queued_jobs=1)
    assert server.threads == 1
    working, go_on = threading.Event(), threading.Event()

    @server.text_get("/wait", 0)
    def wait(req: object, args: object) -> str:
        working.set()
        assert go_on.wait(PATIENCE)
        return "waited"

    run = serve(server)
    first = run.connect().send("GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert working.wait(PATIENCE)
    others = [run.connect().send("GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n") for _ in range(2)]
    assert select.select([client.sock for client in others], [], [], PATIENCE)[0]  # one is refused
    go_on.set()
    assert first.answer().body == b"waited"
    assert sorted(client.answer().status for client in others) == [200, 503]


def test_threads_are_one_of_the_limits(server: QuickServer) -> None:
    server.threads = 3
    server.limits = server.limits._replace(head_timeout=1)
    assert (server.limits.threads, server.limits.head_timeout, server.threads) == (3, 1, 3)
    with pytest.raises(ValueError, match="at least one thread"):
        server.limits = server.limits._replace(threads=0)
    assert server.threads == 3
    server.server_close()


def test_forms(server: QuickServer, serve: Serve) -> None:
    server.json_post("/form", 0)(lambda req, args: [len(args["post"]), sorted(args["files"])])
    run = serve(server)

    def send(*parts: bytes) -> int:
        body = b"".join(b"--x\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts)
        return run.request(
            "POST", "/form", body + b"--x--\r\n", Content_Type="multipart/form-data; boundary=x"
        ).status

    parts = [b'name="%d"; filename="f"\r\n\r\n' % number + b"y" * 5000 for number in range(4)]
    for change in ({"form": 15_000}, {"form_parts": 3}, {"form_files_on_disk": 3}):
        server.max_file_size = 10_000
        server.limits = Limits(form_file_in_memory=1000)
        assert send(*parts) == 200
        server.limits = server.limits._replace(**change)
        assert send(*parts) == 413, change
        assert send(*parts[:2]) == 200
    server.limits = Limits(form=15_000)
    server.max_file_size = 30_000  # one file may be as large as that, so the form may be
    assert send(*parts) == 200


def test_what_content_may_be(server: QuickServer, serve: Serve) -> None:
    server.json_post("/value", 0)(lambda req, args: args["post"])
    run = serve(server)

    def json(text: bytes) -> int:
        return run.request("POST", "/value", text, Content_Type="application/json").status

    def form(text: bytes) -> int:
        kind = "application/x-www-form-urlencoded"
        return run.request("POST", "/value", text, Content_Type=kind).status

    assert (json(b"[[[1]]]"), form(b"a=1&b=2&c=3")) == (200, 200)
    server.limits = server.limits._replace(json_nesting=2, form_fields=2)
    assert (json(b"[[[1]]]"), form(b"a=1&b=2&c=3")) == (400, 413)
    assert (json(b"[[1]]"), form(b"a=1&b=2")) == (200, 200)


def test_ranges(server: QuickServer, serve: Serve, www: Path) -> None:
    (www / "file.txt").write_text("0123456789")
    server.bind_path("/", str(www))
    run = serve(server)
    assert run.get("/file.txt", Range="bytes=0-0,2-2,4-4").status == 206
    server.limits = server.limits._replace(ranges=2)
    assert run.get("/file.txt", Range="bytes=0-0,2-2,4-4").status == 200
    assert run.get("/file.txt", Range="bytes=0-0,2-2").status == 206


def test_the_documented_defaults() -> None:
    page = (ROOT / "docs" / "service.md").read_text()
    section = page.partition("## Limits and timeouts")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| (`.+?) \| (.+?) \|", section)
    assert rows
    for names, values in rows:
        for name, value in zip(names.split(", "), values.split(", "), strict=True):
            number, _, unit = value.partition(" ")
            expected = int(number.replace(",", "")) * _UNITS[unit]
            assert getattr(Limits(), name.strip("`")) == expected, name
