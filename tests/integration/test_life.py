"""From the first listening socket to the last: addresses, stopping, logging, the command line."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import quick_server
from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs, create_server, debug, msg
from tests.harness import PATIENCE, Client, Running
from tests.integration.logs import Log
from tests.integration.scripts import Script, environment
from tests.ports import vacant_port

Req = QuickServerRequestHandler
Serve = Callable[[QuickServer], Running]
Start = Callable[..., Script]

V4_LOOPBACK = "0100007F"
V6_LOOPBACK = "00000000000000000000000001000000"
GET = b"GET /ok HTTP/1.1\r\nHost: localhost\r\n\r\n"


def add_ok(server: QuickServer) -> None:
    @server.text_get("/ok", 0)
    def ok(req: Req, args: ReqArgs) -> str:
        return "ok"


@pytest.fixture
def run(serve: Serve) -> Running:
    server = create_server(("127.0.0.1", 0))
    add_ok(server)
    return serve(server)


# ---- addresses --------------------------------------------------------------------------------


def listening(port: int) -> set[str]:
    """The addresses, in the kernel's hex, on which something listens at that port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:] if Path(table).exists() else []:
            _, local, _, state = line.split()[:4]
            address, _, hex_port = local.partition(":")
            if state == "0A" and int(hex_port, 16) == port:
                found.add(address)
    return found


def has_v6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


LOOPBACKS = {V4_LOOPBACK, V6_LOOPBACK} if has_v6() else {V4_LOOPBACK}


def answers(host: str, port: int) -> bool:
    with socket.create_connection((host, port), PATIENCE) as sock:
        return Client(sock).request("GET", "/ok").body == b"ok"


@pytest.mark.parametrize("parallel", [True, False])
def test_no_host_is_every_loopback(serve: Serve, parallel: bool) -> None:
    server = create_server(("", 0), parallel=parallel)
    add_ok(server)
    port = server.server_address[1]
    assert port > 0
    assert listening(port) == LOOPBACKS
    serve(server)
    assert answers("127.0.0.1", port)
    assert answers("localhost", port)
    if has_v6():
        assert answers("::1", port)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", {V4_LOOPBACK}),
        ("0.0.0.0", {"00000000"}),
        pytest.param(
            "::1", {V6_LOOPBACK}, marks=pytest.mark.skipif(not has_v6(), reason="no IPv6 here")
        ),
    ],
)
def test_named_hosts(host: str, expected: set[str]) -> None:
    server = create_server((host, 0))
    port = server.server_address[1]
    assert server.server_address[0] == host
    assert listening(port) == expected
    server.server_close()
    assert listening(port) == set()


def test_a_given_port(serve: Serve) -> None:
    port = vacant_port()
    server = create_server(("127.0.0.1", port))
    add_ok(server)
    assert server.server_address[1] == port
    serve(server)
    assert answers("127.0.0.1", port)


@pytest.mark.parametrize("host", ["127.0.0.1", ""])
def test_a_port_in_use(host: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"127\.0\.0\.1.*{port}"):
            create_server((host, port))
        assert listening(port) == {V4_LOOPBACK}


@pytest.mark.skipif(not has_v6(), reason="no IPv6 here")
def test_a_port_in_use_on_the_other_family() -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"::1.*{port}"):
            create_server(("", port))
        assert listening(port) == {V6_LOOPBACK}


def test_a_port_that_two_servers_want() -> None:
    first = create_server(("", 0))
    with pytest.raises(OSError, match=str(first.server_address[1])):
        create_server(("", first.server_address[1]))
    first.server_close()
    second = create_server(("", first.server_address[1]))
    second.server_close()


def test_the_same_port_again_at_once() -> None:
    port = 0
    for _ in range(5):
        server = create_server(("127.0.0.1", port))
        add_ok(server)
        port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
            client = Client(sock)
            assert client.request("GET", "/ok").body == b"ok"
            server.done = True
            assert client.at_end()  # the server's side is the one that waits in TIME_WAIT
        thread.join(PATIENCE)
        assert not thread.is_alive()
        server.server_close()


def test_connections_wait_until_the_server_serves(serve: Serve) -> None:
    server = create_server(("127.0.0.1", 0))
    add_ok(server)
    with socket.create_connection(server.server_address[:2], PATIENCE) as sock:
        client = Client(sock).send(GET)
        serve(server)
        assert client.answer().body == b"ok"


def test_two_servers_side_by_side(serve: Serve) -> None:
    runs = []
    for name in ("one", "two"):
        server = create_server(("127.0.0.1", 0))
        server.text_get("/name")(lambda req, args, name=name: name)
        runs.append(serve(server))
    assert [run.get("/name").body for run in runs] == [b"one", b"two"]


# ---- stopping ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("done", False),
        ("directory_listing", False),
        ("favicon_everywhere", True),
        ("favicon_fallback", None),
        ("max_age", 0),
        ("max_file_size", 50 * 1024**2),
        ("max_chunk_size", 10 * 1024**2),
        ("max_workers", 32),
        ("verbose_workers", False),
        ("cache", None),
        ("suppress_noise", False),
        ("report_slow_requests", False),
        ("no_command_loop", False),
        ("history_file", ".cmd_history"),
        ("prompt", "> "),
        ("shutdown_latency", 0.1),
        ("shutdown_timeout", 10.0),
        ("follow_symlinks", False),
    ],
)
def test_settings_at_the_start(name: str, default: object) -> None:
    server = create_server(("127.0.0.1", 0))
    found = getattr(server, name, "no such setting")
    server.server_close()
    assert found == default
    assert type(found) is type(default)


def test_closing_without_serving() -> None:
    server = create_server(("", 0))
    port = server.server_address[1]
    server.server_close()
    server.server_close()
    assert listening(port) == set()


def test_nothing_is_left_after_much_use() -> None:
    """Threads and descriptors are counted around every test; here there were many of both."""
    server = create_server(("", 0))
    add_ok(server)
    run = Running(server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    clients = [run.connect() for _ in range(50)]
    for client in clients:
        client.send(GET * 3)
    assert {client.answer().body for client in clients for _ in range(3)} == {b"ok"}
    unfinished = [run.connect().send(GET[:20]) for _ in range(10)]
    server.done = True
    thread.join(PATIENCE)
    assert not thread.is_alive()
    server.server_close()
    assert listening(run.address[1]) == set()
    for client in clients + unfinished:
        client.close()


def test_done_before_serving() -> None:
    server = create_server(("127.0.0.1", 0))
    server.done = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    thread.join(PATIENCE)
    ended = not thread.is_alive()
    server.done = True
    thread.join(PATIENCE)
    server.server_close()
    assert ended


def test_done_from_a_handler(serve: Serve) -> None:
    server = create_server(("127.0.0.1", 0))

    @server.text_get("/stop", 0)
    def stop(req: Req, args: ReqArgs) -> str:
        req.server.done = True
        return "stopping"

    client = serve(server).connect()
    assert client.request("GET", "/stop").body == b"stopping"
    assert client.at_end()


def test_in_the_main_thread_signals_are_given_back(run: Running) -> None:
    server = create_server(("127.0.0.1", 0))
    add_ok(server)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]

    def stop() -> None:
        assert answers(*server.server_address[:2])
        server.done = True

    thread = threading.Thread(target=stop)
    thread.start()
    server.serve_forever()
    thread.join(PATIENCE)
    server.server_close()
    assert [signal.getsignal(number) for number in numbers] == before


def test_in_a_background_thread_signals_are_left_alone(serve: Serve) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    server = create_server(("127.0.0.1", 0))
    add_ok(server)
    assert serve(server).get("/ok").status == 200
    assert [signal.getsignal(number) for number in numbers] == before


SLOW = """
@server.text_get("/slow", 0)
def slow(req, args):
    print("entered", flush=True)
    with open("gate") as gate:
        return gate.read()

@server.text_get("/ok", 0)
def ok(req, args):
    return "ok"
"""


def gone(client: Client) -> bool:
    """Waits until the connection has ended, cleanly or not, without another answer."""
    try:
        return client.at_end()
    except ConnectionResetError:
        return not client.rest


signals = pytest.mark.parametrize(
    "number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name
)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """What `/slow` waits for: text that is written into this pipe."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


@signals
def test_a_signal_ends_an_idle_server(start: Start, number: signal.Signals) -> None:
    script = start(SLOW)
    idle, used = script.connect(), script.connect()
    assert used.request("GET", "/ok").body == b"ok"
    script.signal(number)
    assert idle.at_end()
    assert used.at_end()
    assert script.ended() == 0
    assert "closed" in script.output
    assert "Traceback" not in script.output


@signals
def test_requests_in_flight_get_their_answer(start: Start, gate: Path, number: signal.Signals) -> None:
    script = start(SLOW)
    port = script.port
    client = script.connect().send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    script.wait_for("entered")
    script.signal(number)
    script.refuses(port)
    gate.write_text("done")
    answer = client.answer()
    assert (answer.status, answer.body) == (200, b"done")
    assert answer.get("connection") == "close"
    assert client.at_end()
    assert script.ended() == 0
    assert "closed" in script.output
    assert "Traceback" not in script.output


@signals
def test_a_second_signal_ends_it_at_once(start: Start, gate: Path, number: signal.Signals) -> None:
    script = start(SLOW)
    port = script.port
    client = script.connect().send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    script.wait_for("entered")
    script.signal(number)
    script.refuses(port)
    script.signal(number)
    script.ended(within=5.0)
    assert gone(client)


def test_requests_on_their_way_are_answered(start: Start) -> None:
    script = start(SLOW + "server.shutdown_latency = 5\n")
    port = script.port
    clients = _, kept, begun = [script.connect() for _ in range(3)]
    assert kept.request("GET", "/ok").body == b"ok"
    begun.send(GET[:20])
    script.signal(signal.SIGTERM)
    script.refuses(port)
    for client, rest in zip(clients, (GET, GET, GET[20:]), strict=True):
        answer = client.send(rest).answer()
        assert (answer.body, answer.get("connection")) == (b"ok", "close")
    assert script.ended() == 0


def test_requests_that_take_too_long_are_given_up(start: Start, gate: Path) -> None:
    script = start(SLOW + "server.shutdown_timeout = 0.2\n")
    client = script.connect().send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    script.wait_for("entered")
    script.signal(signal.SIGTERM)
    assert script.ended(within=5.0) == 0
    assert gone(client)


# ---- idling -----------------------------------------------------------------------------------


def switches() -> int:
    """How often the other threads of this process have gone to sleep or been interrupted so far."""
    own = str(threading.get_native_id())
    total = 0
    for task in Path("/proc/self/task").iterdir():
        if task.name != own:
            counts = re.findall(r"ctxt_switches:\t(\d+)", (task / "status").read_text())
            total += sum(map(int, counts))
    return total


def test_an_idle_server_sleeps(run: Running) -> None:
    clients = [run.connect() for _ in range(20)]
    for client in clients[:10]:
        assert client.request("GET", "/ok").body == b"ok"
    clients[-1].send(GET[:10])
    assert run.get("/ok").status == 200
    before = switches()
    threading.Event().wait(1.0)  # what is measured: a second in which nothing happens
    assert switches() - before <= 3
    before = switches()
    assert clients[0].request("GET", "/ok").body == b"ok"
    assert switches() > before  # that is what a wake-up looks like


# ---- threads ----------------------------------------------------------------------------------


def test_the_thread_factory_makes_the_threads(serve: Serve) -> None:
    made: list[threading.Thread] = []

    def factory(*args: Any, **kwargs: Any) -> threading.Thread:
        made.append(threading.Thread(*args, **kwargs))
        return made[-1]

    server = create_server(("127.0.0.1", 0), thread_factory=factory)
    used: list[threading.Thread] = []

    @server.text_get("/thread")
    def thread(req: Req, args: ReqArgs) -> str:
        used.append(threading.current_thread())
        return "fine"

    assert serve(server).get("/thread").body == b"fine"
    assert used[0] in made


# ---- the log ----------------------------------------------------------------------------------

DATE = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]"


def test_access_lines(run: Running, log: Log) -> None:
    @run.server.text_get("/sized")
    def sized(req: Req, args: ReqArgs) -> str:
        return "x" * 1200

    run.get("/sized?a=b")
    log.wait_for(rf'{DATE} 1\.2 kB .*"GET /sized\?a=b HTTP/1\.1" 200')
    run.get("/nothing")
    log.wait_for(rf'{DATE} .*"GET /nothing HTTP/1\.1" 404')
    run.request("POST", "/ok")
    log.wait_for(rf'{DATE} .*"POST /ok HTTP/1\.1" 405')
    run.connect().send("HEAD /ok HTTP/1.0\r\n\r\n").answer(head_only=True)
    log.wait_for(rf'{DATE} .*"HEAD /ok HTTP/1\.0" 200')
    assert all(line.count('"') == 2 for line in log.text.splitlines() if "HTTP/1" in line)


def test_a_line_for_each_request(run: Running, log: Log) -> None:
    client = run.connect().send(GET * 50)
    for _ in range(50):
        client.answer()
    client.request("GET", "/last")
    log.wait_for("/last")
    assert log.text.count('"GET /ok HTTP/1.1" 200') == 50


def test_noise_can_be_suppressed(run: Running, log: Log) -> None:
    run.server.suppress_noise = True
    client = run.connect()
    assert client.request("GET", "/ok").status == 200
    assert client.request("GET", "/ok", If_None_Match="*").status == 304
    assert client.request("GET", "/nothing").status == 404
    log.wait_for('"GET /nothing HTTP/1.1" 404')
    assert "/ok" not in log.text


def test_what_robots_ask_for_can_be_kept_out(run: Running, log: Log) -> None:
    run.server.set_common_invalid_paths(["/wp-admin", "/cgi-bin/"])
    client = run.connect()
    for target in ("/wp-admin", "/wp-admin/x.php?a=1", "/cgi-bin/sh", "/cgi-bin", "/wp-administer"):
        assert client.request("GET", target).status == 404
    log.wait_for('"GET /wp-administer HTTP/1.1" 404')
    assert log.text.count("404") == 1


HOSTILE = {
    "escape-in-target": b"GET /\x1b[31mred HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "bell-in-method": b"G\x07T / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "c1-in-target": b"GET /\x9b31m HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "delete-in-target": b"GET /\x7f\x7f HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "lf-in-target": b"GET /\n[2026-01-01 00:00:00] forged HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "cr-in-target": b"GET /\r[2026-01-01 00:00:00] forged HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "escape-in-host": b"GET / HTTP/1.1\r\nHost: \x1b[31m\r\n\r\n",
    "escape-in-version": b"GET / HTTP/\x1b[31m\r\nHost: localhost\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "encoded-lf": b"GET /%0a[2026-01-01%2000:00:00]%1b[31m HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "escape-in-agent": b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: \x1b[31m\r\n\r\n",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_clients_cannot_write_control_characters(run: Running, log: Log, data: bytes) -> None:
    client = run.connect().send(data)
    assert client.answer().status in (400, 404)
    run.get("/last")
    log.wait_for('"GET /last HTTP/1.1" 404')
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", log.text)
    assert not re.search(r"(?m)^\[2026-01-01", log.text)
    assert log.text.count("\n") <= 2
    assert "Traceback" not in log.text


@pytest.mark.parametrize("rest", ["", " HTTP/1.1\r\nHost: localhost"], ids=["no-request", "request"])
def test_a_quote_does_not_end_the_request_line(run: Running, log: Log, rest: str) -> None:
    run.raw(f'GET /admin"200(1ms){rest}\r\nConnection: close\r\n\r\n')
    log.wait_for(r'"GET /admin\\x22200\(1ms\)[^"\n]*" 40[04] \(')


def test_messages(log: Log) -> None:
    msg("{0} and {1} and {name}", "one", 2, name="three")
    msg("braces {0} {as} they are")
    lines = log.text.splitlines()
    assert re.search(r"test_life\.py \(\d+\): one and 2 and three$", lines[0])
    assert re.search(r"test_life\.py \(\d+\): braces \{0\} \{as\} they are$", lines[1])
    numbers = [int(re.findall(r"\((\d+)\)", line)[0]) for line in lines]
    assert numbers[1] == numbers[0] + 1


def test_short_messages(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick_server, "LONG_MSG", False)
    msg("hello {0}", "you")
    assert log.text.endswith("[SERVER] hello you\n")


def test_messages_go_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    msg("to the terminal")
    captured = capsys.readouterr()
    assert "to the terminal\n" in captured.err
    assert captured.out == ""


def test_messages_from_many_threads_stay_whole(log: Log) -> None:
    def speak(name: str) -> None:
        for n in range(100):
            msg("<{0} {1}>", name * 50, n)

    threads = [threading.Thread(target=speak, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    lines = log.text.splitlines()
    assert len(lines) == 400
    assert all(re.search(r": <(a{50}|b{50}|c{50}|d{50}) \d+>$", line) for line in lines)


def test_debug_messages(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("QUICK_SERVER_DEBUG", raising=False)
    debug(lambda: pytest.fail("asked for"))
    assert log.text == ""
    monkeypatch.setenv("QUICK_SERVER_DEBUG", "1")
    debug(lambda: "the {details}")
    assert "the {details}\n" in log.text


def test_messages_of_handlers(run: Running, log: Log) -> None:
    @run.server.text_get("/speak")
    def speak(req: Req, args: ReqArgs) -> str:
        msg("spoken {0}", "here")
        return "fine"

    run.get("/speak")
    log.wait_for(r"test_life\.py \(\d+\): spoken here")


# ---- slow requests ----------------------------------------------------------------------------


class Slow:
    """A server whose `/slow` answers when it is told to, and what was reported meanwhile."""

    def __init__(self, serve: Serve, report: Any) -> None:
        self.release = threading.Event()
        server = create_server(("127.0.0.1", 0))
        server.report_slow_requests = report
        add_ok(server)

        @server.text_get("/slow")
        def slow(req: Req, args: ReqArgs) -> str:
            assert self.release.wait(PATIENCE)
            return "slow"

        self.run = serve(server)

    def begin(self) -> Client:
        return self.run.connect().send("GET /slow?a HTTP/1.1\r\nHost: localhost\r\n\r\n")


class Calls:
    """What a reporting function was called with."""

    def __init__(self) -> None:
        self.made: list[tuple[object, ...]] = []
        self._changed = threading.Condition()

    def note(self, *args: object) -> None:
        with self._changed:
            self.made.append(args)
            self._changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, PATIENCE), self.made


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_slow_requests_with_two_arguments(serve: Serve, calls: Calls) -> None:
    def report(method: str, path: str) -> None:
        calls.note(method, path)

    slow = Slow(serve, (0.05, report))
    client = slow.begin()
    calls.wait(lambda: len(calls.made) >= 1)
    slow.release.set()
    assert client.answer().body == b"slow"
    method, path = calls.made[0]
    assert (method, str(path).partition("?")[0]) == ("GET", "/slow")


def test_slow_requests_with_three_arguments(serve: Serve, calls: Calls) -> None:
    def report(method: str, path: str, duration: float) -> None:
        calls.note(method, path, duration)

    slow = Slow(serve, (0.05, report))
    client = slow.begin()
    calls.wait(lambda: len(calls.made) >= 1)
    slow.release.set()
    assert client.answer().body == b"slow"
    duration = calls.made[0][2]
    assert isinstance(duration, float)
    assert 0.04 < duration < PATIENCE


def test_slow_requests_with_four_arguments(serve: Serve, calls: Calls) -> None:
    def report(method: str, path: str, duration: float, complete: bool) -> None:
        calls.note(method, path, duration, complete)

    slow = Slow(serve, (0.05, report))
    client = slow.begin()
    calls.wait(lambda: len(calls.made) >= 1)
    assert [call[3] for call in calls.made] == [False]
    slow.release.set()
    assert client.answer().body == b"slow"
    calls.wait(lambda: len(calls.made) >= 2)
    assert [call[3] for call in calls.made] == [False, True]
    first, last = (call[2] for call in calls.made)
    assert isinstance(first, float)
    assert isinstance(last, float)
    assert first <= last


def test_quick_requests_are_not_reported(serve: Serve, calls: Calls) -> None:
    def report(method: str, path: str) -> None:
        calls.note(method, path)

    slow = Slow(serve, (PATIENCE, report))
    for _ in range(20):
        assert slow.run.get("/ok").status == 200
    assert calls.made == []


def test_a_report_that_fails_harms_nobody(serve: Serve, calls: Calls, log: Log) -> None:
    def report(method: str, path: str) -> None:
        calls.note(method, path)
        raise ValueError("the reporter broke")

    slow = Slow(serve, (0.05, report))
    client = slow.begin()
    calls.wait(lambda: len(calls.made) >= 1)
    log.wait_for("the reporter broke")
    slow.release.set()
    assert client.answer().body == b"slow"
    assert slow.run.get("/ok").body == b"ok"


def test_slow_requests_after_five_seconds(serve: Serve, calls: Calls, log: Log) -> None:
    """The two forms without a time of their own, side by side."""

    def report(method: str, path: str) -> None:
        calls.note(method, path)

    logged, called = Slow(serve, True), Slow(serve, report)
    clients = [logged.begin(), called.begin()]
    log.wait_for(r'request takes longer than expected: "GET /slow(\?a)?"')
    calls.wait(lambda: len(calls.made) >= 1)
    assert "took longer" not in log.text
    logged.release.set()
    called.release.set()
    assert [client.answer().body for client in clients] == [b"slow"] * 2
    found = log.wait_for(r'request took longer than expected: "GET /slow(?:\?a)?" \((\d+\.\d\d)s\)')
    assert 5.0 <= float(found[1]) < 5.0 + PATIENCE


# ---- the command line -------------------------------------------------------------------------


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "quick_server", *arguments],
        cwd=cwd,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture
def quick(tmp_path: Path) -> Iterator[Callable[..., Script]]:
    """`quick("-p", "0")` runs the command line until the test ends."""
    scripts: list[Script] = []

    def begin(*arguments: str) -> Script:
        scripts.append(Script.python("-m", "quick_server", *arguments, cwd=tmp_path))
        return scripts[-1]

    yield begin
    for script in scripts:
        script.dispose()


def test_the_command_line_serves_a_folder(quick: Callable[..., Script], www: Path) -> None:
    (www / "data.txt").write_text("here")
    (www / "sub").mkdir()
    script = quick("-a", "127.0.0.1", "-p", "0", "--www", str(www))
    port = int(script.wait_for(r"127\.0\.0\.1:(\d+)")[1])
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        client = Client(sock)
        assert client.request("GET", "/data.txt").body == b"here"
        assert b"data.txt" in client.request("GET", "/").body
        assert client.request("GET", "/sub/").status == 200
        assert client.request("GET", "/../secret.txt").status in (400, 404)
    script.signal(signal.SIGINT)
    assert script.ended() == 0
    assert "Traceback" not in script.output


def test_the_command_line_serves_only_this_machine(quick: Callable[..., Script], www: Path) -> None:
    script = quick("-p", "0", "--www", "www")
    port = int(script.wait_for(r"http://[^\s/]*:(\d+)")[1])
    assert listening(port) == LOOPBACKS
    script.signal(signal.SIGTERM)
    assert script.ended() == 0


def test_help_for_the_command_line(tmp_path: Path) -> None:
    done = command("--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for option in ("-a", "-p", "--www", "-v"):
        assert option in done.stdout


@pytest.mark.parametrize("folder", ["nothing-here", "file.txt"])
def test_a_folder_that_is_none(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file.txt").touch()
    done = command("-p", "0", "--www", folder, cwd=tmp_path)
    assert done.returncode != 0
    assert folder in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_in_use_on_the_command_line(www: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = command("-a", "127.0.0.1", "-p", port, "--www", "www", cwd=www.parent)
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert port in done.stderr


@pytest.mark.parametrize("arguments", [["-p", "x"], ["-p", "70000"], ["-p", "-1"], ["--unknown"]])
def test_arguments_that_make_no_sense(tmp_path: Path, arguments: list[str]) -> None:
    done = command(*arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert done.stderr


# ---- other clients ----------------------------------------------------------------------------


@pytest.fixture
def common(serve: Serve, www: Path) -> Running:
    """A server for common clients: files, an echo, a folder."""
    (www / "sub").mkdir()
    (www / "sub" / "index.html").write_text("index")
    (www / "data.txt").write_text("here")
    server = create_server(("127.0.0.1", 0))
    server.bind_path("/", str(www))

    def echo(req: Req, args: ReqArgs) -> object:
        return args["post"]

    server.json_post("/echo", 0)(echo)
    server.json_put("/echo", 0)(echo)
    return serve(server)


def test_http_client(common: Running) -> None:
    connection = http.client.HTTPConnection(*common.address, timeout=PATIENCE)
    connection.connect()
    sock = connection.sock
    for method, path, body, status, expected in [
        ("GET", "/data.txt", None, 200, b"here"),
        ("HEAD", "/data.txt", None, 200, b""),
        ("POST", "/echo", b'{"a": 1}', 200, None),
        ("GET", "/nothing", None, 404, None),
        ("DELETE", "/echo", None, 405, None),
        ("GET", "/sub/", None, 200, b"index"),
    ]:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        found = response.read()
        assert response.status == status
        assert expected is None or found == expected
    connection.request("POST", "/echo", iter([b"[1,", b" 2]"]), {"Content-Type": "application/json"})
    assert json.loads(connection.getresponse().read()) == [1, 2]
    assert connection.sock is sock, "the connection was not kept"
    connection.close()


def test_urllib(common: Running) -> None:
    with urllib.request.urlopen(f"{common.url}/sub", timeout=PATIENCE) as response:
        assert response.read() == b"index"
        assert response.geturl().endswith("/sub/")
    body = urllib.request.Request(f"{common.url}/echo", b"a=1&b=x+y")
    with urllib.request.urlopen(body, timeout=PATIENCE) as response:
        assert json.load(response) == {"a": "1", "b": "x y"}


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing")


def curl(*arguments: str, stdin: bytes = b"") -> str:
    """What curl prints, without any configuration of the user's."""
    done = subprocess.run(
        ["curl", "-q", "-sS", "--noproxy", "*", "--max-time", str(PATIENCE), *arguments],
        input=stdin,
        capture_output=True,
        timeout=2 * PATIENCE,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@needs_curl
def test_curl_gets(common: Running) -> None:
    url = common.url
    assert curl(f"{url}/data.txt") == "here"
    assert curl("--http1.0", f"{url}/data.txt") == "here"
    assert curl("-L", f"{url}/sub") == "index"
    assert "HTTP/1.1 200" in curl("-I", f"{url}/data.txt")
    assert curl("-o", os.devnull, "-w", "%{http_code}", f"{url}/nothing") == "404"
    assert curl("-o", os.devnull, "-w", "%{http_code}", "--path-as-is", f"{url}/../x") in (
        "400",
        "404",
    )


@needs_curl
def test_curl_keeps_its_connection(common: Running) -> None:
    urls = [f"{common.url}/data.txt"] * 3
    assert curl("-w", " %{num_connects}\n", *urls) == "here 1\nhere 0\nhere 0\n"


@needs_curl
def test_curl_posts(common: Running) -> None:
    url = f"{common.url}/echo"
    assert json.loads(curl("-d", "a=1&b=x+y", url)) == {"a": "1", "b": "x y"}
    as_json = ("-H", "Content-Type: application/json")
    assert json.loads(curl(*as_json, "-d", '{"a": [1]}', url)) == {"a": [1]}
    chunked = ("-H", "Transfer-Encoding: chunked")
    assert json.loads(curl(*as_json, *chunked, "-d", "[1]", url)) == [1]


@needs_curl
def test_curl_uploads_after_a_100(common: Running) -> None:
    text = json.dumps("x" * 2_000_000)
    options = ("-H", "Content-Type: application/json", "-H", "Expect: 100-continue")
    wait = ("--expect100-timeout", "30")  # longer than the whole may take: without a 100 it fails
    found = curl(*options, *wait, "-T", "-", f"{common.url}/echo", stdin=text.encode())
    assert json.loads(found) == "x" * 2_000_000


@needs_curl
def test_curl_reads_a_413(common: Running, tmp_path: Path) -> None:
    common.server.max_file_size = 1000
    (tmp_path / "large").write_bytes(b"x" * 20_000_000)
    options = ("-H", "Expect:", "-o", os.devnull, "-w", "%{http_code}")
    found = curl(*options, "-T", str(tmp_path / "large"), f"{common.url}/echo")
    assert found == "413"
