"""Clients of one server that do anything in any order: each gets exactly the answers it must get.

The model of a client is the line of answers that are still to come. Sockets fail softly meanwhile (not
now, a byte at a time, late, for nothing), which no client may notice but by how long it takes.
"""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fuzz.faults import Call, Door, Wake, doors, soft_calls, wakes
from fuzz.handturned import Gate, HandClient, HandTurned
from fuzz.profile import examples
from fuzz.site import LONG_REQUEST, Sent, Site, bad, kinds, request

whole = kinds.filter(lambda kind: kind != "unread")  # that one is answered before it is whole

pytestmark = pytest.mark.timeout(0)

ROOM = 4096  # bytes that the kernel keeps of an answer that nobody reads; it doubles that
MOST_CLIENTS = 5
MOST_BLOCKED = 6  # of the pool's threads
READ_AHEAD = 400_000  # what a client that is not answered can send at most, with what kernels keep
LONG = 100.0  # seconds, longer than any wait


class Guest:
    """A client and what it waits for."""

    def __init__(self, client: HandClient) -> None:
        self.client = client
        self.expected: deque[Sent] = deque()
        self.unsent = b""
        """The rest of a request that was begun."""
        self.begun: Sent | None = None
        self.is_over = False
        """Whether nothing that it sends from now on is a request."""
        self.has_ended = False
        """Whether it has ended its own side."""

    @property
    def is_free(self) -> bool:
        """Whether it may begin a request."""
        return not (self.is_over or self.has_ended or self.begun)


class Connections(RuleBasedStateMachine):
    """A server, its clients, and what they are owed."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = count()
        self.guests: list[Guest] = []

    @initialize(doors=doors, plans=st.lists(soft_calls, max_size=6), wakes=wakes)
    def begin(self, doors: list[Door], plans: list[list[Call]], wakes: list[Wake]) -> None:
        self.site = Site(Gate())
        self.world = HandTurned(self.site.configure, doors=doors, guests=plans, wakes=wakes, room=ROOM)
        self.site.gate = self.world.gate

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.calm()
            self.world.gate.open_all()
            for guest in self.guests:
                if guest.begun is None:
                    self.take_all(guest)
                guest.client.close()
            self.world.clock.advance(1)  # a door that rests opens again
            self.world.assert_at_rest()
            names = self.site.called
            assert len(names) == len(set(names)), "a handler was called twice for one request"
            log = self.world.log.getvalue()
            assert log.count("Traceback") == log.count("ValueError: "), log
        finally:
            self.world.end()

    def pick(self, data: st.DataObject, guests: list[Guest]) -> Guest:
        return data.draw(st.sampled_from(guests))

    def leave(self, guest: Guest) -> None:
        self.guests.remove(guest)
        for sent in guest.expected:
            if sent.gate:
                self.world.gate.open(sent.gate)

    # clients ----------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.guests) < MOST_CLIENTS)
    @rule()
    def connect(self) -> None:
        self.guests.append(Guest(self.world.connect(room=ROOM)))

    @precondition(lambda self: any(guest.is_free for guest in self.guests))
    @rule(data=st.data(), kinds=st.lists(kinds, min_size=1, max_size=5))
    def ask(self, data: st.DataObject, kinds: list[str]) -> None:
        """Requests, in one piece, and perhaps the beginning of another."""
        guest = self.pick(data, [guest for guest in self.guests if guest.is_free])
        raw = b""
        for kind in kinds:
            sent = request(kind, f"n{next(self.numbers)}")
            if sent.gate and self.blocked >= MOST_BLOCKED:
                continue
            raw += sent.raw
            guest.expected.append(sent)
            if sent.closes or sent.is_cut:
                guest.is_over = True
                break
        self.send(guest, raw)

    @precondition(lambda self: any(guest.is_free for guest in self.guests))
    @rule(data=st.data(), kind=whole, share=st.floats(0, 1))
    def begin_to_ask(self, data: st.DataObject, kind: str, share: float) -> None:
        guest = self.pick(data, [guest for guest in self.guests if guest.is_free])
        sent = request(kind, f"n{next(self.numbers)}")
        if sent.gate and self.blocked >= MOST_BLOCKED:
            return
        at = min(max(1, int(share * len(sent.raw))), len(sent.raw) - 1)
        guest.begun, guest.unsent = sent, sent.raw[at:]
        self.send(guest, sent.raw[:at])

    @precondition(lambda self: any(guest.begun for guest in self.guests))
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        guest = self.pick(data, [guest for guest in self.guests if guest.begun])
        assert guest.begun is not None
        guest.expected.append(guest.begun)
        guest.is_over = guest.begun.closes or guest.begun.is_cut
        unsent, guest.begun, guest.unsent = guest.unsent, None, b""
        self.send(guest, unsent)

    @precondition(lambda self: any(guest.is_free for guest in self.guests))
    @rule(data=st.data(), sent=bad)
    def break_the_rules(self, data: st.DataObject, sent: Sent) -> None:
        guest = self.pick(data, [guest for guest in self.guests if guest.is_free])
        guest.is_over = True
        guest.expected.append(sent)
        self.send(guest, sent.raw + b"GET /echo/never HTTP/1.1\r\nHost: localhost\r\n\r\n")

    @precondition(lambda self: any(not (g.has_ended or g.is_over) for g in self.guests))
    @rule(data=st.data())
    def half_close(self, data: st.DataObject) -> None:
        """It takes its answers, and then the end; what it had begun is no request."""
        guest = self.pick(data, [g for g in self.guests if not (g.has_ended or g.is_over)])
        guest.client.half_close()
        if guest.begun is not None:
            guest.expected.append(Sent(b"", 400, closes=True))
        guest.has_ended, guest.begun = True, None

    @precondition(lambda self: self.guests)
    @rule(data=st.data(), how=st.sampled_from(["close", "reset"]))
    def go_away(self, data: st.DataObject, how: str) -> None:
        guest = self.pick(data, self.guests)
        getattr(guest.client, how)()
        self.leave(guest)

    @precondition(lambda self: any(guest.expected for guest in self.guests))
    @rule(data=st.data())
    def take_answers(self, data: st.DataObject) -> None:
        """As many as can be there."""
        guest = self.pick(data, [guest for guest in self.guests if guest.expected])
        while guest.expected and guest.expected[0].gate not in self.closed_gates:
            self.take(guest)

    @precondition(lambda self: self.guests)
    @rule(data=st.data(), most=st.sampled_from([1, 100, 10_000]))
    def read_a_little(self, data: st.DataObject, most: int) -> None:
        self.pick(data, self.guests).client.read(most)

    @precondition(lambda self: any(self.is_stuck(guest) for guest in self.guests))
    @rule(data=st.data())
    def send_much_ahead(self, data: st.DataObject) -> None:
        """Requests for which there is no room while the one before them is not answered."""
        guest = self.pick(data, [guest for guest in self.guests if self.is_stuck(guest)])
        pieces = [request("long", f"n{next(self.numbers)}") for _ in range(READ_AHEAD // LONG_REQUEST)]
        data_ahead = b"".join(sent.raw for sent in pieces)
        self.world.settle()
        taken = 0
        for _ in range(20):
            try:
                taken += guest.client.sock.send(data_ahead[taken:])
            except BlockingIOError:
                pass
            self.world.settle()
        connection = max(self.world.server._service.connections, key=lambda c: len(self.buffer_of(c)))
        assert len(self.buffer_of(connection)) <= 2 * self.world.server.limits.read_chunk
        while pieces and taken >= len(pieces[0].raw):
            taken -= len(pieces[0].raw)
            guest.expected.append(pieces.pop(0))
        if taken:
            guest.begun, guest.unsent = pieces[0], pieces[0].raw[taken:]

    @staticmethod
    def buffer_of(connection: Any) -> bytes:
        return connection._protocol._buffer  # type: ignore[no-any-return] # it is somebody else's

    def is_stuck(self, guest: Guest) -> bool:
        return guest.is_free and bool(guest.expected) and guest.expected[0].gate in self.closed_gates

    # the server -------------------------------------------------------------------------------------

    @precondition(lambda self: self.closed_gates)
    @rule(data=st.data())
    def let_go_on(self, data: st.DataObject) -> None:
        gate = data.draw(st.sampled_from(sorted(self.closed_gates, key=str)))
        self.world.gate.open(gate)
        self.opened.add(gate)

    @rule(times=st.integers(1, 10))
    def turn(self, times: int) -> None:
        for _ in range(times):
            self.world.turn()

    @precondition(lambda self: self.guests)
    @rule()
    def let_much_time_pass(self) -> None:
        """Who is owed something gets it; who has begun to ask is told that it is too late."""
        for guest in self.guests:
            self.take_all(guest, keep_open=True)
        self.world.settle()
        late = [g for g in self.guests if not g.expected]
        self.world.advance(LONG, step=5)
        for guest in late:
            if guest.begun is not None:
                guest.expected.append(Sent(b"", 408, closes=True))
                guest.begun = None
            self.take_all(guest)
            guest.client.close()
            self.guests.remove(guest)

    # what always holds ------------------------------------------------------------------------------

    opened: set[object]

    @property
    def closed_gates(self) -> set[object]:
        """What handlers wait for, or will."""
        if not hasattr(self, "opened"):
            self.opened = set()
        gates = {sent.gate for guest in self.guests for sent in guest.expected if sent.gate}
        return gates - self.opened

    @property
    def blocked(self) -> int:
        return len(self.closed_gates)

    def send(self, guest: Guest, data: bytes) -> None:
        """Sends it while reading what comes: a client that does not read is not read."""
        left = memoryview(data)
        for _ in range(20_000):
            if not left:
                return
            try:
                left = left[guest.client.sock.send(left) :]
            except BlockingIOError:
                if not self.world.turn() and not guest.client.read():
                    self.make_way(guest)
            except OSError:
                assert guest.is_over, "the server has left early"
                return
        raise AssertionError("the server does not read")

    def make_way(self, guest: Guest) -> None:
        """Nothing moves, because it is not answered."""
        for sent in guest.expected:
            if sent.gate:
                self.world.gate.open(sent.gate)
                self.closed_gates.discard(sent.gate)
                self.opened.add(sent.gate)

    def take(self, guest: Guest) -> None:
        """The next answer, which must be the right one."""
        sent = guest.expected.popleft()
        try:
            answer = guest.client.answer(head_only=sent.is_head)
        except ConnectionResetError:  # which also takes what was on its way before it
            assert sent.is_cut or any(other.is_cut for other in guest.expected)
            guest.expected.clear()
            return
        assert not sent.is_cut
        sent.check(answer)

    def take_all(self, guest: Guest, *, keep_open: bool = False) -> None:
        """All answers; then there is nothing more, and the end if there should be one."""
        for sent in guest.expected:
            if sent.gate:
                self.world.gate.open(sent.gate)
                self.opened.add(sent.gate)
        while guest.expected:
            self.take(guest)
        if guest.client.was_reset:
            return
        if (guest.is_over or guest.has_ended) and not guest.client.has_ended:
            guest.client.read_all()
        elif not keep_open:
            self.world.settle()
            guest.client.read()
        assert not guest.client.rest, guest.client.rest[:300]

    @invariant()
    def nobody_is_kept_who_is_gone(self) -> None:
        if hasattr(self, "world"):
            assert len(self.world.door.accepted) >= self.world.connections


TestConnections: Any = Connections.TestCase
TestConnections.settings = settings(examples(0.3), stateful_step_count=30)
