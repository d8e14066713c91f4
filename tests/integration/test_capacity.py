"""`max_connections` and descriptors: who makes room for a new connection, and who waits."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable

import pytest

from quick_server import QuickServer, create_server
from tests.harness import PATIENCE, Client, Running
from tests.integration.logs import Log
from tests.integration.scripts import Script

Serve = Callable[[QuickServer], Running]
Start = Callable[..., Script]

GET = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture
def server() -> QuickServer:
    server = create_server(("127.0.0.1", 0))
    server.limits = server.limits._replace(max_connections=3)
    server.text_get("/hello", 0)(lambda req, args: "hello")
    return server


def hello(client: Client) -> bool:
    return client.request("GET", "/hello").body == b"hello"


def test_the_longest_idle_makes_room_again_and_again(server: QuickServer, serve: Serve) -> None:
    run = serve(server)
    clients = [run.connect() for _ in range(3)]
    assert all(hello(client) for client in clients)
    for number in range(30):  # more than one list of idle ones
        clients.append(run.connect())
        assert hello(clients[-1])
        assert clients[number].at_end()
    assert len(server._service.connections) == 3


def test_who_has_asked_again_meanwhile_is_not_idle_for_long(server: QuickServer, serve: Serve) -> None:
    run = serve(server)
    first, second, third = (run.connect() for _ in range(3))
    assert all(hello(client) for client in (first, second, third))
    fourth = run.connect()
    assert hello(fourth)  # in the place of the first: the others are on the list now
    assert first.at_end()
    assert hello(second)
    fifth = run.connect()
    assert hello(fifth)
    assert third.at_end()
    assert all(hello(client) for client in (second, fourth, fifth))


def test_one_that_has_sent_nothing_is_idle(server: QuickServer, serve: Serve) -> None:
    run = serve(server)
    silent, used, begun = (run.connect() for _ in range(3))
    assert hello(used)
    begun.send(GET[:9])
    assert hello(used)
    assert hello(run.connect())
    assert silent.at_end()
    assert begun.send(GET[9:]).answer().body == b"hello"


def test_a_limit_that_is_lowered(server: QuickServer, serve: Serve) -> None:
    run = serve(server)
    clients = [run.connect() for _ in range(3)]
    assert all(hello(client) for client in clients)
    server.limits = server.limits._replace(max_connections=1)
    assert hello(run.connect())
    assert all(client.at_end() for client in clients)


def test_who_connects_waits_while_none_is_idle(server: QuickServer, serve: Serve, log: Log) -> None:
    go_on = threading.Event()

    @server.text_get("/held", 0)
    def held(req: object, args: object) -> str:
        assert go_on.wait(PATIENCE)
        return "held"

    run = serve(server)
    holding = [run.connect().send(GET.replace("hello", "held")) for _ in range(3)]
    waiting = run.connect().send(GET)
    log.wait_for("cannot accept connections: there are as many as there may be, and none is idle")
    assert not select.select([waiting.sock], [], [], 0)[0]
    go_on.set()
    assert waiting.answer().body == b"hello"
    for client in holding:
        client.close()


def test_the_end_while_somebody_waits(server: QuickServer, serve: Serve, log: Log) -> None:
    go_on = threading.Event()

    @server.text_get("/held", 0)
    def held(req: object, args: object) -> str:
        assert go_on.wait(PATIENCE)
        return "held"

    run = serve(server)
    holding = [run.connect().send(GET.replace("hello", "held")) for _ in range(3)]
    run.connect().send(GET)
    log.wait_for("none is idle")
    server.done = True
    go_on.set()
    assert {client.answer().body for client in holding} == {b"held"}


FEW_DESCRIPTORS = """
resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))
server.limits = server.limits._replace(head_timeout=0.5)

@server.text_get("/hello", 0)
def hello(req, args):
    return "hello"
"""


def test_out_of_descriptors_who_is_idle_for_long_makes_room(start: Start) -> None:
    script = start(FEW_DESCRIPTORS)
    clients = []
    for _ in range(60):
        clients.append(script.connect())
        assert hello(clients[-1])
    assert clients[0].at_end()
    assert hello(clients[-1])
    script.wait_for("cannot accept connections")
    assert script.output.count("cannot accept") == 1


NO_DESCRIPTORS = """
server.threads = 1
held = []

@server.text_get("/fail", 0)
def fail(req, args):
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        raise RuntimeError("there are none left") from None

@server.text_get("/hello", 0)
def hello(req, args):
    while held:
        os.close(held.pop())
    return "hello"
"""


def test_a_function_that_fails_without_descriptors_costs_no_thread(start: Start) -> None:
    """Not even its first traceback can be written then: that takes a module, which is a file."""
    client = start(NO_DESCRIPTORS).connect()
    assert client.request("GET", "/fail").status == 500
    assert hello(client)
