"""A whole server over sockets that fail: its clients get the same bytes as without a fault.

Where a fault ends a connection, its client has got the beginning of those bytes, and nobody else
notices.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.faults import HARD, Call, Door, Wake, any_calls, doors, wakes
from fuzz.handturned import Gate, HandClient, HandTurned
from fuzz.peers import issued, trusted
from fuzz.profile import examples
from fuzz.site import Site, kinds, request
from quick_server import QuickServer
from tests.unit.test_tls_stream import Peer

pytestmark = pytest.mark.timeout(0)

ROOM = 4096
MOST_LEFT = 20  # times that a client reads what is left for it in the kernel
UNEVEN = ("block", "slow", "broken", "raise", "old", "close")
"""What does not say the same each time, or ends the connection."""
Conversation = tuple[list[str], list[Call]]
conversations = st.lists(
    st.tuples(
        st.lists(kinds.filter(lambda kind: kind not in UNEVEN), min_size=1, max_size=4), any_calls
    ),
    min_size=1,
    max_size=4,
)  # fmt: skip
LAST = b"GET /echo/last HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Caller(Protocol):
    """Sends what it has to say, and takes what comes."""

    @property
    def received(self) -> bytes:
        """So far."""

    @property
    def is_over(self) -> bool:
        """Whether nothing more can come."""

    def go_on(self) -> None:
        """Does what can be done without waiting."""


class Plain:
    """A client without TLS."""

    def __init__(self, client: HandClient, data: bytes) -> None:
        self._client = client
        self._unsent = memoryview(data)

    @property
    def received(self) -> bytes:
        return self._client.rest

    @property
    def is_over(self) -> bool:
        return self._client.has_ended

    def go_on(self) -> None:
        with suppress(BlockingIOError):
            try:
                self._unsent = self._unsent[self._client.sock.send(self._unsent) :]
            except OSError:  # the server has ended it
                self._unsent = self._unsent[:0]
        self._client.read(5000)


class Encrypted:
    """A client with TLS."""

    def __init__(self, client: HandClient, data: bytes) -> None:
        self._peer = Peer(client.sock, trusted())
        self._unsent = data
        self._is_ready = False
        self._raw = b""
        self.is_over = False

    @property
    def received(self) -> bytes:
        return self._peer.received

    def go_on(self) -> None:
        peer = self._peer
        try:
            peer.take(5000)
            if self._is_ready:
                peer.read()
            elif not peer.raw_end:
                self._is_ready = peer.shake()
            if self._is_ready and not self._raw:
                peer.tls.write(self._unsent[:16_000])
                self._unsent = self._unsent[16_000:]
            self._raw += peer.outgoing.read()
            with suppress(BlockingIOError):
                self._raw = self._raw[peer.sock.send(self._raw) :]
        except (OSError, ssl.SSLError):  # the server has ended it
            self._drain()
            self.is_over = True
        self.is_over = self.is_over or peer.raw_end

    def _drain(self) -> None:
        """What has come before the connection failed."""
        with suppress(OSError, ssl.SSLError):
            for _ in range(MOST_LEFT):
                self._peer.take()
                self._peer.read()


Make = Callable[[HandClient, bytes], Caller]


def answers(
    conversations: list[Conversation],
    make: Make,
    doors: list[Door],
    wakes: list[Wake],
) -> list[bytes]:
    """What each client has got; the server must be at rest behind that."""

    def configure(server: QuickServer) -> None:
        Site(Gate()).configure(server)  # nobody waits there
        if make == Encrypted:
            server.use_tls(issued().certificate, issued().key)

    plans = [plan for _, plan in conversations]
    world = HandTurned(configure, doors=doors, guests=plans, wakes=wakes, room=ROOM)
    try:
        callers: list[Caller] = []
        for index, (asked, _) in enumerate(conversations):
            data = b"".join(request(kind, f"c{index}n{n}").raw for n, kind in enumerate(asked)) + LAST
            callers.append(make(world.connect(room=ROOM), data))

        def play() -> bool:
            before = [(len(caller.received), caller.is_over) for caller in callers]
            for caller in callers:
                caller.go_on()
            return before != [(len(caller.received), caller.is_over) for caller in callers]

        world.players.append(play)
        world.until(lambda: all(caller.is_over for caller in callers), "the end of the answers")
        world.players.clear()
        for client in world.clients:
            client.close()
        world.calm()
        world.assert_at_rest()
        assert "Traceback" not in world.log.getvalue(), world.log.getvalue()
        return [re.sub(rb"Date: [^\r]*", b"Date: now", caller.received) for caller in callers]
    finally:
        world.end()


def compare(
    make: Make,
    conversations: list[Conversation],
    doors: list[Door],
    wakes: list[Wake],
) -> None:
    calm = answers([(asked, []) for asked, _ in conversations], make, [], [])
    faulty = answers(conversations, make, doors, wakes)
    for (_, plan), wanted, received in zip(conversations, calm, faulty, strict=True):
        assert b'"name":"last"' in wanted
        if any(call in HARD for call in plan):
            assert wanted.startswith(received)
        else:
            assert received == wanted


@examples(0.12)
@given(conversations, doors, wakes)
def test_plain(conversations: list[Conversation], doors: list[Door], wakes: list[Wake]) -> None:
    compare(Plain, conversations, doors, wakes)


@examples(0.12)
@given(conversations, doors, wakes)
def test_tls(conversations: list[Conversation], doors: list[Door], wakes: list[Wake]) -> None:
    compare(Encrypted, conversations, doors, wakes)
