"""Clients of a proxy whose upstream misbehaves in every way: one answer for each request, and its own.

What an upstream does about a request is the request's: so an answer that belongs to another one, or
is put together from two, is seen at once.
"""

from __future__ import annotations

import socket
from collections import deque
from itertools import count
from typing import Any, NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from fuzz.faults import Call, FaultySocket, Wake, soft_calls, wakes
from fuzz.handturned import HandClient, HandTurned
from fuzz.profile import examples
from fuzz.upstream import SCRIPTS, PlayedUpstream, Script
from quick_server import QuickServer
from quick_server.stream import Stream, StreamOwner
from quick_server.upstreams import Attempt
from tests.harness import Answer
from tests.integration.forms import chunks

pytestmark = pytest.mark.timeout(0)

MOST_CLIENTS = 4
IDLE = 40.0  # seconds, longer than a connection to an upstream is kept
LEAVING = 1.0  # seconds until an upstream must know that a client has left
methods = st.sampled_from(["GET", "GET", "HEAD", "PUT", "POST", "chunked POST"])
scripts = st.sampled_from(sorted(SCRIPTS))


class Asked(NamedTuple):
    """A request and the script for it."""

    name: str
    method: str
    script: Script
    content: bytes

    @property
    def raw(self) -> bytes:
        head = f"{self.method} /up/{self.name} HTTP/1.1\r\nHost: localhost\r\n"
        if self.content.startswith(b"7\r\n"):
            head += "Transfer-Encoding: chunked\r\n"
        elif self.content:
            head += f"Content-Length: {len(self.content)}\r\n"
        return head.encode() + b"\r\n" + self.content


class Guest:
    """A client and what it waits for."""

    def __init__(self, client: HandClient) -> None:
        self.client = client
        self.expected: deque[Asked] = deque()
        self.is_over = False
        """Whether an answer has broken off, or said that it is the last one."""


class Proxies(RuleBasedStateMachine):
    """A proxy between its clients and an upstream."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = count()
        self.guests: list[Guest] = []
        self.asked: dict[str, Asked] = {}

    @initialize(
        wakes=wakes, guests=st.lists(soft_calls, max_size=4), links=st.lists(soft_calls, max_size=4)
    )
    def begin(self, wakes: list[Wake], guests: list[list[Call]], links: list[list[Call]]) -> None:
        self.links = links
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(Attempt, "_plain_stream", self.make_stream)
        self.upstream = PlayedUpstream(lambda name: self.asked[name].script)
        self.nobody = socket.socket()
        self.nobody.bind(("127.0.0.1", 0))
        self.world = HandTurned(self.configure, guests=guests, wakes=wakes, room=4096)
        self.world.players.append(self.upstream.play)

    def configure(self, server: QuickServer) -> None:
        server.bind_proxy("/up/", self.upstream.url)
        server.bind_proxy("/nobody/", f"http://127.0.0.1:{self.nobody.getsockname()[1]}/")

    @property
    def make_stream(self) -> Any:
        def make(attempt: Any, sock: socket.socket, owner: StreamOwner) -> Stream:
            plan = self.links.pop() if self.links else ()
            return Stream(attempt._reactor, FaultySocket(sock, plan), owner, attempt._upstreams.limits)

        return make

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.calm()
            while self.guests:
                self.take_all(self.guests[0])
                self.guests.pop(0).client.close()
            self.world.advance(LEAVING, step=0.1)
            self.world.assert_at_rest()
            self.world.advance(IDLE, step=10)
            self.world.assert_at_rest()
            assert not sum(
                s.in_use + s.idle + s.connecting for s in self.world.server._upstreams.states()
            )
            self.world.until(
                lambda: all(line.script for line in self.upstream.open), "the end of the links"
            )
            assert "Traceback" not in self.world.log.getvalue(), self.world.log.getvalue()
        finally:
            self.patches.undo()
            self.nobody.close()
            self.world.players.clear()
            self.upstream.close()
            self.world.end()

    # clients ----------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.guests) < MOST_CLIENTS)
    @rule()
    def connect(self) -> None:
        self.guests.append(Guest(self.world.connect(room=4096)))

    @precondition(lambda self: any(not guest.is_over for guest in self.guests))
    @rule(data=st.data(), kinds=st.lists(st.tuples(methods, scripts), min_size=1, max_size=4))
    def ask(self, data: st.DataObject, kinds: list[tuple[str, str]]) -> None:
        guest = data.draw(st.sampled_from([guest for guest in self.guests if not guest.is_over]))
        raw = b""
        for method, script in kinds:
            asked = self.request(method, script)
            guest.expected.append(asked)
            raw += asked.raw
            if asked.script.is_cut or (asked.script.is_early and asked.content):
                guest.is_over = True
                break
        try:
            guest.client.send(raw)
        except OSError:
            assert guest.is_over, "the server has left early"

    def request(self, method: str, script: str) -> Asked:
        name = f"n{next(self.numbers)}"
        content = b""
        if method in ("PUT", "POST"):
            content = name.encode() * 3
        elif method == "chunked POST":
            method, content = "POST", chunks(name.encode() * 9, 7)
        found = SCRIPTS[script]
        if method == "HEAD":
            found = SCRIPTS["nothing"] if found.body is not None else found
        self.asked[name] = Asked(name, method, found, content)
        return self.asked[name]

    @precondition(lambda self: self.guests)
    @rule(data=st.data(), how=st.sampled_from(["close", "reset"]))
    def go_away(self, data: st.DataObject, how: str) -> None:
        """Whatever was asked for it at the upstream ends soon."""
        guest = data.draw(st.sampled_from(self.guests))
        getattr(guest.client, how)()
        self.guests.remove(guest)
        if not self.guests:
            self.world.advance(LEAVING, step=0.1)
            assert not sum(state.in_use for state in self.world.server._upstreams.states())

    @precondition(lambda self: any(guest.expected for guest in self.guests))
    @rule(data=st.data())
    def take_answers(self, data: st.DataObject) -> None:
        guest = data.draw(st.sampled_from([guest for guest in self.guests if guest.expected]))
        while guest.expected and not guest.expected[0].script.is_silent:
            self.take(guest)

    @rule()
    def ask_nobody(self) -> None:
        with self.world.connect().sock as sock:
            client = HandClient(sock, self.world)
            answer = client.send(b"GET /nobody/x HTTP/1.1\r\nHost: localhost\r\n\r\n").answer()
            assert answer.status == 502

    # the upstream and time --------------------------------------------------------------------------

    @rule()
    def close_idle(self) -> None:
        self.world.settle()
        self.upstream.close_idle()

    @rule(times=st.integers(1, 10))
    def turn(self, times: int) -> None:
        for _ in range(times):
            self.world.turn()

    # what is right ------------------------------------------------------------------------------------

    def take(self, guest: Guest) -> None:
        """The next answer, which must be the right one."""
        asked = guest.expected.popleft()
        if asked.script.is_silent:
            self.dismiss_others(guest)
            self.world.settle()
            self.world.advance(self.world.server.limits.first_byte_timeout + 1, step=20)
            if asked.script.is_cut:
                self.world.advance(self.world.server.limits.upstream_silence, step=100)
        try:
            answer = guest.client.answer(head_only=asked.method == "HEAD")
            while 100 <= answer.status < 200:
                answer = guest.client.answer(head_only=asked.method == "HEAD")
        except ConnectionResetError:  # which also takes what was on its way before it
            assert asked.script.is_cut or any(other.script.is_cut for other in guest.expected)
            guest.expected.clear()
            return
        self.check(asked, answer)
        if answer.get("connection") == "close":
            assert not guest.expected
            guest.is_over = True

    def check(self, asked: Asked, answer: Answer) -> None:
        if answer.status == 502 and not self.upstream.seen[asked.name]:
            # It went to a connection that its upstream was about to end, and may not be sent again.
            assert asked.content or asked.method == "POST"
            return
        assert not asked.script.is_cut, asked
        assert answer.status == asked.script.status, (asked, answer)
        if asked.script.body is not None and asked.method != "HEAD":
            assert answer.body == asked.script.body, (asked, answer)
        assert 1 <= self.upstream.seen[asked.name] <= 2
        if asked.content:
            assert self.upstream.seen[asked.name] == 1, "content is not sent twice"
            assert asked.script.is_early or self.upstream.bodies[asked.name] == asked.content

    def dismiss_others(self, guest: Guest) -> None:
        """Who does nothing for as long as time is going to pass is dismissed; better before that."""
        for other in [other for other in self.guests if other is not guest]:
            if not any(asked.script.is_silent for asked in other.expected):
                self.take_all(other)
            other.client.close()
            self.guests.remove(other)

    def take_all(self, guest: Guest) -> None:
        while guest.expected:
            self.take(guest)
        if guest.client.was_reset:
            return
        self.world.settle()
        guest.client.read()
        assert not guest.client.rest, guest.client.rest[:300]


TestProxies: Any = Proxies.TestCase
TestProxies.settings = settings(examples(0.3), stateful_step_count=30)
