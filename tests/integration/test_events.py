"""Server-sent events: what arrives, how long it takes, and what an open stream costs."""

from __future__ import annotations

import json
import re
import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import pytest

from quick_server import (
    PreventDefaultResponse,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    Response,
    create_server,
)
from quick_server.events import EventChannel
from tests.harness import PATIENCE, Answer, Client, Running
from tests.integration.forms import until
from tests.integration.logs import Log

Req = QuickServerRequestHandler
Serve = Callable[[QuickServer], Running]


@pytest.fixture
def server() -> Iterator[QuickServer]:
    made = create_server(("127.0.0.1", 0))
    yield made
    made.server_close()


class EventSource:
    """What a browser's EventSource does with a stream (HTML standard, section 9.2.6)."""

    def __init__(
        self, client: Client, target: str = "/e", version: str = "1.1", **headers: str
    ) -> None:
        lines = [f"GET {target} HTTP/{version}", "Host: localhost", "Accept: text/event-stream"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.client = client.send("\r\n".join(lines) + "\r\n\r\n")
        self.version = version
        self.text = b""
        self.comments = 0
        self.at_end = False

    def open(self) -> Answer:
        """Reads the head."""
        answer = self.client.answer(head_only=True)
        assert answer.status == 200, answer
        return answer

    def _more(self) -> bool:
        client = self.client
        if self.version == "1.0":
            more = client._fill()
            self.text, client.rest = self.text + client.rest, b""
            return more
        size = int(client._line(), 16)
        self.text += client._exactly(size)
        assert client._line() == ""
        return size > 0

    def block(self) -> list[str] | None:
        """The lines up to the next empty one; None at the end of the stream."""
        while b"\n\n" not in self.text:
            if self.at_end or not self._more():
                self.at_end = True
                assert not self.text, f"the stream ended in the middle of an event: {self.text!r}"
                return None
        block, _, self.text = self.text.partition(b"\n\n")
        return block.decode().split("\n")

    def event(self) -> dict[str, str] | None:
        """The fields of the next event, its data joined by line breaks; None at the end."""
        while (lines := self.block()) is not None:
            fields: dict[str, list[str]] = {}
            for line in lines:
                name, _, value = line.partition(":")
                if name:
                    fields.setdefault(name, []).append(value.removeprefix(" "))
                else:
                    self.comments += 1
            if fields:
                return {name: "\n".join(values) for name, values in fields.items()}
        return None


class Channels:
    """A handler that keeps its channels, and says when one is gone."""

    def __init__(self, server: QuickServer, mask: str = "/e") -> None:
        self.opened: SimpleQueue[EventChannel] = SimpleQueue()
        self.gone: SimpleQueue[threading.Thread] = SimpleQueue()
        server.event_stream(mask)(self.handle)

    def handle(self, req: Req, args: ReqArgs, channel: EventChannel) -> None:
        channel.on_close(lambda: self.gone.put(threading.current_thread()))
        self.opened.put(channel)

    def next(self) -> EventChannel:
        return self.opened.get(timeout=PATIENCE)


def connect(run: Running, channels: Channels, **headers: str) -> tuple[EventSource, EventChannel]:
    source = EventSource(run.connect(), **headers)
    source.open()
    return source, channels.next()


def read_to_the_end(source: EventSource) -> None:
    while source.event() is not None:
        pass


# ---- what arrives -----------------------------------------------------------------------------


def test_the_head_of_a_stream(server: QuickServer, serve: Serve) -> None:
    Channels(server)
    answer = EventSource(serve(server).connect(), Accept_Encoding="gzip").open()
    assert (answer.get("content-type") or "").split(";")[0] == "text/event-stream"
    assert answer.get("cache-control") in ("no-store", "no-cache")
    assert answer.get("transfer-encoding") == "chunked"
    assert answer.get("content-length") is None
    assert answer.get("content-encoding") is None


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("hello", "hello"),
        ("größe 日本", "größe 日本"),
        ("two\nlines", "two\nlines"),
        ("a\r\nb\rc\n\nd", "a\nb\nc\n\nd"),
        (" spaces ", " spaces "),
        (": no comment", ": no comment"),
        ("data: x\n\nid: 1", "data: x\n\nid: 1"),
        ("ends\n", "ends\n"),
        ("", ""),
    ],
    ids=["plain", "unicode", "two", "breaks", "spaces", "colon", "injected", "final-break", "empty"],
)
def test_text(server: QuickServer, serve: Serve, value: str, seen: str) -> None:
    channels = Channels(server)
    source, channel = connect(serve(server), channels)
    assert channel.send(value)
    assert channel.send("next")
    assert source.event() == {"data": seen}
    assert source.event() == {"data": "next"}


@pytest.mark.parametrize(
    "value", [{"a": [1, None, "x"]}, [1, 2], 7, 1.5, True, {}, {"text": "two\nlines"}], ids=repr
)
def test_other_data_is_json(server: QuickServer, serve: Serve, value: object) -> None:
    channels = Channels(server)
    source, channel = connect(serve(server), channels)
    channel.send(value)
    event = source.event()
    assert event is not None
    assert json.loads(event["data"]) == value


def test_numbers_that_json_lacks(server: QuickServer, serve: Serve) -> None:
    channels = Channels(server)
    source, channel = connect(serve(server), channels)
    channel.send({"mean": float("nan")})
    assert source.event() == {"data": '{"mean":"NaN"}'}


def test_types_ids_and_retries(server: QuickServer, serve: Serve) -> None:
    channels = Channels(server)
    source, channel = connect(serve(server), channels)
    channel.send("x", event="news", id="7", retry=1500)
    channel.send("y", id="")
    channel.send(retry=10)
    assert source.event() == {"data": "x", "event": "news", "id": "7", "retry": "1500"}
    assert source.event() == {"data": "y", "id": ""}
    assert source.event() == {"retry": "10"}


@pytest.mark.parametrize("text", ["a\nb", "a\r", "\n", "a\0b"])
def test_types_and_ids_are_a_single_line(server: QuickServer, serve: Serve, text: str) -> None:
    channels = Channels(server)
    source, channel = connect(serve(server), channels)
    with pytest.raises(ValueError, match="line"):
        channel.send("x", event=text)
    with pytest.raises(ValueError, match="line"):
        channel.send("x", id=text)
    channel.send("fine")
    assert source.event() == {"data": "fine"}


def test_data_that_json_cannot_hold(server: QuickServer, serve: Serve) -> None:
    channels = Channels(server)
    source, channel = connect(serve(server), channels)
    with pytest.raises(TypeError, match="object"):
        channel.send({"a": object()})
    channel.send("fine")
    assert source.event() == {"data": "fine"}


def test_the_last_event_id(server: QuickServer, serve: Serve) -> None:
    channels = Channels(server)
    run = serve(server)
    _, first = connect(run, channels)
    _, second = connect(run, channels, Last_Event_ID="7")
    assert (first.last_event_id, second.last_event_id) == (None, "7")


def test_what_a_handler_gets(server: QuickServer, serve: Serve) -> None:
    @server.event_stream("/e/:name", 1)
    def fun(req: Req, args: ReqArgs, channel: EventChannel) -> None:
        req.send_header("X-Mine", "1")
        channel.send([req.command, args["segments"], args["paths"], args["query"]])

    run = serve(server)
    source = EventSource(run.connect(), "/e/a/b?c=1")
    assert source.open().get("x-mine") == "1"
    event = source.event()
    assert event is not None
    assert json.loads(event["data"]) == ["GET", {"name": "a"}, ["b"], {"c": "1"}]
    assert run.get("/e/a").status == 404
    assert run.request("POST", "/e/a/b").status == 405


def test_http_1_0(server: QuickServer, serve: Serve) -> None:
    channels = Channels(server)
    source = EventSource(serve(server).connect(), version="1.0")
    assert source.open().get("transfer-encoding") is None
    channel = channels.next()
    channel.send("one")
    assert source.event() == {"data": "one"}
    channel.close()
    assert source.event() is None


def test_a_head_opens_no_stream(server: QuickServer, serve: Serve) -> None:
    channels = Channels(server)
    client = serve(server).connect()
    answer = client.request("HEAD", "/e")
    assert (answer.status, (answer.get("content-type") or "")[:17]) == (200, "text/event-stream")
    until(lambda: channels.next().closed, "the channel is closed")
    assert client.request("GET", "/nothing").status == 404


# ---- when it arrives --------------------------------------------------------------------------


def test_events_sent_before_the_handler_returns(server: QuickServer, serve: Serve) -> None:
    @server.event_stream("/e")
    def fun(req: Req, args: ReqArgs, channel: EventChannel) -> None:
        for i in range(100):
            assert channel.send(str(i))

    source = EventSource(serve(server).connect())
    source.open()
    for i in range(100):
        assert source.event() == {"data": str(i)}


def test_events_arrive_while_the_handler_runs(server: QuickServer, serve: Serve) -> None:
    received: SimpleQueue[int] = SimpleQueue()

    @server.event_stream("/e")
    def fun(req: Req, args: ReqArgs, channel: EventChannel) -> None:
        for i in range(3):
            channel.send(str(i))
            received.get(timeout=PATIENCE)
        channel.close()

    source = EventSource(serve(server).connect())
    source.client.sock.settimeout(PATIENCE / 2)
    try:
        source.open()
        for i in range(3):
            assert source.event() == {"data": str(i)}
            received.put(i)
        assert source.event() is None
    finally:
        for i in range(3):
            received.put(i)


def test_headers_of_a_handler_that_sends_before_it_returns(server: QuickServer, serve: Serve) -> None:
    @server.event_stream("/e")
    def fun(req: Req, args: ReqArgs, channel: EventChannel) -> None:
        req.send_header("X-Mine", "1")
        channel.send("x")

    assert EventSource(serve(server).connect()).open().get("x-mine") == "1"


def test_events_of_many_threads(server: QuickServer, serve: Serve) -> None:
    """None is lost or torn, and those of one thread stay in order."""
    channels = Channels(server)
    source, channel = connect(serve(server), channels)

    def send(name: int) -> None:
        for i in range(100):
            channel.send([name, i])

    threads = [threading.Thread(target=send, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    seen: dict[int, list[int]] = {}
    for _ in range(800):
        event = source.event()
        assert event is not None
        name, i = json.loads(event["data"])
        seen.setdefault(name, []).append(i)
    for thread in threads:
        thread.join()
    assert seen == {name: list(range(100)) for name in range(8)}


def test_a_large_event(server: QuickServer, serve: Serve) -> None:
    """A client that reads gets it, although it is more than may be left unsent."""
    channels = Channels(server)
    source, channel = connect(serve(server), channels)
    assert channel.send("x" * 3_000_000)
    assert source.event() == {"data": "x" * 3_000_000}
    assert channel.send("next")
    assert source.event() == {"data": "next"}


def test_heartbeats(server: QuickServer, serve: Serve) -> None:
    server.heartbeat = 0.02
    channels = Channels(server)
    source, channel = connect(serve(server), channels)
    for _ in range(5):
        assert source.block() is not None
    channel.send("x")
    assert source.event() == {"data": "x"}
    for _ in range(3):
        assert source.block() in ([":"], [": "], [""])


def test_a_silent_client_outlives_the_other_timeouts(server: QuickServer, serve: Serve) -> None:
    """An idle stream is no idle connection."""
    server.heartbeat = 3600
    channels = Channels(server)
    source, channel = connect(serve(server), channels)
    assert source.block() is not None
    assert not channel.closed
    assert channel.send("x")
    assert source.event() == {"data": "x"}


# ---- the end of a stream ----------------------------------------------------------------------


def leave(client: Client, way: str) -> None:
    if way == "half-close":
        client.half_close()
        return
    if way == "reset":
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.mark.parametrize("way", ["close", "reset", "half-close"])
def test_a_client_that_is_gone(server: QuickServer, serve: Serve, way: str) -> None:
    channels = Channels(server)
    source, channel = connect(serve(server), channels)
    assert channel.send("x") is True
    leave(source.client, way)
    assert "pool" in channels.gone.get(timeout=PATIENCE).name
    assert channel.closed
    assert channel.send("x") is False
    called: list[int] = []
    channel.on_close(lambda: called.append(1))
    assert called == [1]
    channel.close()


def test_all_listeners_hear_of_it_once(server: QuickServer, serve: Serve, log: Log) -> None:
    channels = Channels(server)
    source, channel = connect(serve(server), channels)
    heard: SimpleQueue[int] = SimpleQueue()

    def fails() -> None:
        raise ValueError("the listener failed")

    channel.on_close(lambda: heard.put(1))
    channel.on_close(fails)
    channel.on_close(lambda: heard.put(2))
    source.client.close()
    assert {heard.get(timeout=PATIENCE), heard.get(timeout=PATIENCE)} == {1, 2}
    log.wait_for("(?s)Traceback.*the listener failed")
    server.server_close()
    assert heard.empty()


@pytest.mark.parametrize("ending", ["leaves", "raises", "prevented", "responds", "head"])
def test_listeners_hear_of_a_stream_that_never_opened(
    server: QuickServer, serve: Serve, ending: str
) -> None:
    """What a handler put somewhere is always taken away again."""
    registered, go_on, heard = threading.Event(), threading.Event(), threading.Event()
    channels = []

    @server.event_stream("/e")
    def fun(req: Req, args: ReqArgs, channel: EventChannel) -> object:
        channels.append(channel)
        channel.on_close(heard.set)
        registered.set()
        go_on.wait(PATIENCE)
        if ending == "raises":
            raise ValueError
        if ending == "prevented":
            raise PreventDefaultResponse(403)
        return Response("no", 404) if ending == "responds" else None

    run = serve(server)
    method = "HEAD" if ending == "head" else "GET"
    client = run.connect().send(f"{method} /e HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert registered.wait(PATIENCE)
    if ending == "leaves":
        client.close()
        assert run.get("/nothing").status == 404
    go_on.set()
    assert heard.wait(PATIENCE / 2)
    assert channels[0].closed


def test_close_ends_the_stream_behind_what_was_sent(server: QuickServer, serve: Serve) -> None:
    channels = Channels(server)
    source, channel = connect(serve(server), channels)
    for i in range(50):
        channel.send(str(i))
    channel.close()
    assert channel.closed
    assert channel.send("late") is False
    assert [source.event() for _ in range(50)] == [{"data": str(i)} for i in range(50)]
    assert source.event() is None
    channels.gone.get(timeout=PATIENCE)
    channel.close()
    assert source.client.request("GET", "/nothing").status == 404


def test_close_before_the_handler_returns(server: QuickServer, serve: Serve) -> None:
    @server.event_stream("/e")
    def fun(req: Req, args: ReqArgs, channel: EventChannel) -> None:
        channel.send("one")
        channel.close()

    source = EventSource(serve(server).connect())
    source.open()
    assert source.event() == {"data": "one"}
    assert source.event() is None


def test_a_client_that_does_not_read_is_cut_off(server: QuickServer, serve: Serve) -> None:
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
    channels = Channels(server)
    run = serve(server)
    slow, slow_channel = connect(run, channels)
    other, other_channel = connect(run, channels)
    deadline = time.monotonic() + PATIENCE
    while slow_channel.send("x" * 10_000):
        assert time.monotonic() < deadline, "nobody cuts it off"
        assert other_channel.send("tick")
        assert other.event() == {"data": "tick"}
    channels.gone.get(timeout=PATIENCE)
    assert slow_channel.closed
    with pytest.raises((ConnectionError, AssertionError)):
        read_to_the_end(slow)
    assert other_channel.send("still here")
    assert other.event() == {"data": "still here"}


def test_what_a_slow_client_holds_is_bounded(server: QuickServer, serve: Serve) -> None:
    """At most 256 KiB beside what the kernels hold."""
    server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16 * 1024)
    channels = Channels(server)
    run = serve(server)
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
    sock.connect(run.address)
    client = Client(sock)
    run.clients.append(client)
    EventSource(client)
    channel = channels.next()
    sent = 0
    while channel.send("x" * 1000):
        sent += 1000
        run.get("/nothing")  # the loop has had a turn
        assert sent <= 2 * 256 * 1024 + 128 * 1024
    channels.gone.get(timeout=PATIENCE)


# ---- failures ---------------------------------------------------------------------------------


def test_a_handler_that_fails_is_a_500(server: QuickServer, serve: Serve, log: Log) -> None:
    channels = []

    @server.event_stream("/e")
    def fun(req: Req, args: ReqArgs, channel: EventChannel) -> None:
        channels.append(channel)
        req.send_header("X-Mine", "1")
        raise ValueError("hush")

    client = serve(server).connect()
    answer = client.request("GET", "/e")
    assert (answer.status, answer.get("x-mine")) == (500, None)
    assert "text/event-stream" not in (answer.get("content-type") or "")
    assert b"hush" not in answer.body
    log.wait_for("(?s)Traceback.*hush")
    assert channels[0].closed
    assert channels[0].send("x") is False
    assert client.request("GET", "/nothing").status == 404


@pytest.mark.parametrize("code", [204, 401, 403, 404])
@pytest.mark.parametrize("way", ["prevented", "response", "error"])
def test_a_stream_that_is_refused(server: QuickServer, serve: Serve, way: str, code: int) -> None:
    channels = []

    @server.event_stream("/e")
    def fun(req: Req, args: ReqArgs, channel: EventChannel) -> object:
        channels.append(channel)
        if way == "prevented":
            raise PreventDefaultResponse(code, "the message")
        if way == "response":
            return Response("the message", code)
        req.send_error(code, "the message")
        return None

    client = serve(server).connect()
    answer = client.request("GET", "/e")
    assert answer.status == code
    assert (b"the message" in answer.body) is (code != 204)
    assert channels[0].closed
    assert client.request("GET", "/nothing").status == 404


def test_a_handler_that_fails_after_an_event(server: QuickServer, serve: Serve, log: Log) -> None:
    """A clean 500 or, if the stream is open already, its end; never both, never neither."""

    @server.event_stream("/e")
    def fun(req: Req, args: ReqArgs, channel: EventChannel) -> None:
        channel.send("one")
        raise ValueError("went wrong")

    source = EventSource(serve(server).connect())
    answer = source.client.answer(head_only=True)
    if answer.status == 500:
        source.client._exactly(int(answer.get("content-length") or -1))
    else:
        assert answer.status == 200
        try:
            read_to_the_end(source)
        except (ConnectionError, AssertionError):
            pass  # it was cut off
    log.wait_for("(?s)Traceback.*went wrong")


# ---- cost -------------------------------------------------------------------------------------


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Enough descriptors for both ends of many connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < 2000:
        pytest.skip("not enough descriptors for this")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("descriptors")
def test_five_hundred_streams_and_no_thread(server: QuickServer, serve: Serve) -> None:
    server.threads = 1
    channels = Channels(server)
    run = serve(server)
    sources = [EventSource(run.connect()) for _ in range(500)]
    opened = [channels.next() for _ in sources]
    before = threading.active_count()
    for source in sources:
        source.open()
    for turn in range(5):
        for channel in opened:
            assert channel.send(f"{turn}")
        assert threading.active_count() == before
        for source in sources:
            assert source.event() == {"data": f"{turn}"}
        assert threading.active_count() == before
    assert sum("pool" in thread.name for thread in threading.enumerate()) == 1
    for source in sources:
        source.client.close()
    for _ in sources:
        channels.gone.get(timeout=PATIENCE)
    assert all(channel.closed for channel in opened)


def test_streams_hold_no_thread_from_other_requests(server: QuickServer, serve: Serve) -> None:
    server.threads = 2
    channels = Channels(server)
    server.text_get("/t")(lambda req, args: "plain")
    run = serve(server)
    open_streams = [connect(run, channels) for _ in range(20)]
    assert run.get("/t").body == b"plain"
    for source, channel in open_streams:
        channel.send("x")
        assert source.event() == {"data": "x"}


# ---- the end of the server --------------------------------------------------------------------


def test_the_server_ends_its_streams(server: QuickServer, serve: Serve) -> None:
    """At once, and as whole answers: requests in flight have 10 s, but streams are never done."""
    channels = Channels(server)
    run = serve(server)
    streams = [connect(run, channels) for _ in range(5)]
    for _, channel in streams:
        channel.send("last")
    began = time.monotonic()
    server.done = True
    for source, _ in streams:
        assert source.event() == {"data": "last"}
        assert source.event() is None
    for _ in streams:
        channels.gone.get(timeout=PATIENCE)
    assert all(channel.closed and not channel.send("x") for _, channel in streams)
    server.server_close()
    assert time.monotonic() - began < 5


def test_a_stream_that_opens_when_the_server_ends(server: QuickServer, serve: Serve) -> None:
    """Its handler runs when the end begins: the stream has still to hear of it."""
    entered, release = threading.Event(), threading.Event()

    @server.event_stream("/e")
    def events(req: Req, args: ReqArgs, channel: EventChannel) -> None:
        entered.set()
        assert release.wait(PATIENCE)
        channel.send("first and last")

    source = EventSource(serve(server).connect())
    assert entered.wait(PATIENCE)
    began = time.monotonic()
    server.done = True
    until(lambda: server._service.draining, "the end begins")
    release.set()
    source.open()
    assert source.event() == {"data": "first and last"}
    assert source.event() is None
    server.server_close()
    assert time.monotonic() - began < server.shutdown_timeout / 2


def test_sending_to_a_server_that_is_gone(server: QuickServer, serve: Serve) -> None:
    channels = Channels(server)
    _, channel = connect(serve(server), channels)
    server.server_close()
    assert channel.send("x") is False
    channel.close()


def test_the_log_says_when_a_stream_ended(server: QuickServer, serve: Serve, log: Log) -> None:
    channels = Channels(server)
    source, channel = connect(serve(server), channels)
    channel.close()
    assert source.event() is None
    log.wait_for(re.escape('"GET /e HTTP/1.1" 200'))
