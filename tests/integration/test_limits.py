"""`server.limits`: what is assigned counts, wherever in the server it is asked for."""

from __future__ import annotations

import re
import select
import threading
from collections.abc import Callable

import pytest

from quick_server import QuickServer, create_server
from quick_server.limits import KIB, Limits
from tests.harness import PATIENCE, Running
from tests.integration.scripts import ROOT

Serve = Callable[[QuickServer], Running]


@pytest.fixture
def server() -> QuickServer:
    server = create_server(("127.0.0.1", 0))
    server.text_get("/hello", 0)(lambda req, args: "hello")
    return server


def test_a_timeout(server: QuickServer, serve: Serve) -> None:
    server.limits = server.limits._replace(head_timeout=0.2)
    client = serve(server).connect().send("GET /hello HTTP/1.1\r\n")
    assert client.answer().status == 408


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


def test_the_documented_defaults() -> None:
    page = (ROOT / "docs" / "service.md").read_text()
    section = page.partition("## Limits and timeouts")[2].partition("\n## ")[0]
    rows = re.findall(r"(?m)^\| (`.+?) \| (.+?) \|", section)
    assert rows
    for names, values in rows:
        for name, value in zip(names.split(", "), values.split(", "), strict=True):
            number, _, unit = value.partition(" ")
            expected = int(number) * (KIB if unit == "KiB" else 1)
            assert getattr(Limits(), name.strip("`")) == expected, name
