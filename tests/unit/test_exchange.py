"""One exchange alone: what comes after its answer changes nothing any more."""

from __future__ import annotations

import pytest

from quick_server.exchange import Exchange, Phase
from quick_server.protocol.messages import Headers, Outcome, RequestHead
from quick_server.protocol.target import parse_target

LIMIT = 10


class Wire:
    """A channel whose answers stay on their way, as with a client that reads slowly."""

    def __init__(self) -> None:
        self.answers: list[Outcome] = []
        self.disposed: list[Outcome] = []
        self.resumed = 0

    def send_continue(self) -> None:
        raise AssertionError("nobody waits for it")

    def send_interim(self, data: bytes) -> None:
        raise AssertionError("there is none")

    def peer_has_left(self) -> bool:
        return False

    def resume_body(self) -> None:
        self.resumed += 1

    def send(self, outcome: Outcome) -> None:
        self.answers.append(outcome)

    def dispose(self, outcome: Outcome) -> None:
        self.disposed.append(outcome)


class Sink:
    """Keeps what it is told of a body."""

    limit = LIMIT
    is_greedy = False
    has_room = True

    def __init__(self) -> None:
        self.told: list[object] = []

    def piece(self, data: bytes) -> None:
        self.told.append(data)

    def complete(self) -> None:
        self.told.append("complete")

    def give_up(self) -> None:
        self.told.append("given up")


class Watcher:
    def __init__(self) -> None:
        self.told: list[object] = []

    def peer_ended(self) -> None:
        self.told.append("peer ended")

    def ended(self, *, delivered: bool) -> None:
        self.told.append(delivered)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def exchange(wire: Wire) -> Exchange:
    target = parse_target("/")
    assert target is not None
    head = RequestHead("POST", target, "1.1", Headers(), 0, True, True, "none")
    return Exchange(head, ("127.0.0.1", 1), wire, 0.0)


def test_a_body_that_arrives_behind_its_refusal_goes_nowhere(wire: Wire, exchange: Exchange) -> None:
    sink = Sink()
    exchange.receive(sink)
    exchange.body_piece(b"first")
    exchange.body_announced(LIMIT + 1)
    assert [answer.status for answer in wire.answers] == [413]
    exchange.body_announced(LIMIT + 2)
    exchange.body_piece(b"second")
    exchange.body_complete()
    exchange.resume_body()
    assert sink.told == [b"first", "given up"]
    assert exchange.phase is Phase.SENDING
    assert len(wire.answers) == wire.resumed == 1


@pytest.mark.parametrize("delivered", [True, False])
def test_a_watcher_is_told_of_the_end_once(exchange: Exchange, delivered: bool) -> None:
    watcher = Watcher()
    exchange.watch(watcher)
    exchange.refuse(404)
    assert watcher.told == []
    if delivered:
        exchange.sent()
    exchange.lost()
    assert watcher.told == [delivered]


def test_who_watches_late_hears_of_the_clients_end(exchange: Exchange) -> None:
    exchange.peer_ended()
    watcher = Watcher()
    exchange.watch(watcher)
    assert watcher.told == ["peer ended"]


def test_a_second_answer_is_given_up(wire: Wire, exchange: Exchange) -> None:
    exchange.refuse(404)
    exchange.refuse(500)
    assert [answer.status for answer in wire.answers] == [404]
    assert [answer.status for answer in wire.disposed] == [500]
