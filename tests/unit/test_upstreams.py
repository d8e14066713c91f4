"""Connections to upstreams: how they come about, how they fail, and how they are kept."""

from __future__ import annotations

import io
import os
import resource
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from quick_server.dial import _is_its_own_peer
from quick_server.limits import Limits
from quick_server.links import LinkState, OriginState
from quick_server.names import Address, in_order, known_addresses
from quick_server.pool import Job, Pool, PoolFullError
from quick_server.reactor import Reactor
from quick_server.tls import new_context
from quick_server.tlsclient import TlsClientStream, new_client_context
from quick_server.upstreams import Attempt, ConnectError, Link, Origin, Stage, Upstreams
from tests.certificates import Authority, Issued
from tests.harness import PATIENCE
from tests.unit.fakes import Clock, SleeplessSelector, turn_until
from tests.unit.test_stream import Owner

LONG = 60.0
Outcome = Link | ConnectError


def not_asked(host: str) -> list[Address]:
    raise AssertionError(f"{host} was looked up")


def v4(*addresses: str) -> list[Address]:
    return [(socket.AF_INET, (address, 0)) for address in addresses]


@dataclass
class Resolver:
    """Answers look-ups, by name; those of which it knows nothing wait until they are told."""

    known: dict[str, list[Address] | OSError] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)
    over: bool = False

    def __call__(self, host: str) -> list[Address]:
        with self.changed:
            self.asked.append(host)
            self.changed.notify_all()
            assert self.changed.wait_for(lambda: host in self.known or self.over, PATIENCE)
            found = self.known.get(host, [])
        if isinstance(found, OSError):
            raise found
        return found

    def give_up(self) -> None:
        """No look-up waits any more."""
        with self.changed:
            self.over = True
            self.changed.notify_all()

    def tell(self, host: str, found: list[Address] | OSError) -> None:
        with self.changed:
            self.known[host] = found
            self.changed.notify_all()


@dataclass
class Bench:
    """Upstreams under test, and what they were asked for."""

    reactor: Reactor
    clock: Clock
    selector: SleeplessSelector
    pool: Pool
    ups: Upstreams
    resolver: Resolver
    stack: ExitStack

    def connect(self, origin: Origin, **options: Any) -> tuple[Attempt, list[Outcome]]:
        got: list[Outcome] = []
        return self.ups.connect(origin, got.append, **options), got

    def outcome(self, origin: Origin, **options: Any) -> Outcome:
        _, got = self.connect(origin, **options)
        self.until(lambda: got)
        assert len(got) == 1
        return got[0]

    def link(self, origin: Origin, **options: Any) -> tuple[Link, Owner]:
        """A link, and the user who is attached to it."""
        owner = Owner()

        def take(link: Outcome) -> None:
            if isinstance(link, Link):
                link.attach(owner)
            got.append(link)

        got: list[Outcome] = []
        self.ups.connect(origin, take, **options)
        self.until(lambda: got)
        link = got[0]
        assert isinstance(link, Link), link
        return link, owner

    def error(self, origin: Origin) -> ConnectError:
        error = self.outcome(origin)
        assert isinstance(error, ConnectError)
        assert error.why.startswith(f"cannot connect to {origin}: ")
        return error

    def why(self, origin: Origin) -> str:
        return self.error(origin).why.partition(f"{origin}: ")[2]

    def until(self, condition: Callable[[], object]) -> None:
        turn_until(self.reactor, condition)

    def turn(self, times: int = 5) -> None:
        for _ in range(times):
            self.reactor.turn(0)

    def state(self, origin: Origin) -> OriginState:
        return next(state for state in self.ups.states() if state.origin == origin)

    def counts(self, origin: Origin) -> tuple[int, int, int]:
        state = self.state(origin)
        return state.connecting, state.in_use, state.idle

    def listen(self, address: str = "127.0.0.1", port: int = 0, backlog: int = 16) -> socket.socket:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listener = socket.create_server((address, port), family=family, backlog=backlog)
        listener.settimeout(PATIENCE)
        return self.stack.enter_context(listener)

    def accept(self, listener: socket.socket) -> socket.socket:
        sock, _ = listener.accept()
        sock.settimeout(PATIENCE)
        return self.stack.enter_context(sock)

    def blackhole(self, address: str = "127.0.0.2") -> socket.socket:
        """A listener whose queue is full: connecting to it takes for ever."""
        listener = self.listen(address, backlog=0)
        for _ in range(64):
            sock = self.stack.enter_context(socket.socket())
            sock.settimeout(0.05)
            try:
                sock.connect(listener.getsockname())
            except TimeoutError:
                return listener
        raise AssertionError("it goes on taking connections")

    def is_quiet(self) -> bool:
        """Whether the loop watches nothing but its own socket, and has no timer."""
        self.reactor.turn()
        return len(self.selector.get_map()) == 1 and self.selector.patience[-1] is None


Make = Callable[..., Bench]


@pytest.fixture
def make(sleepless: Reactor, clock: Clock, selector: SleeplessSelector) -> Iterator[Make]:
    """`make(lane=…, **limits)`. In the end nothing is left behind."""
    made: list[Bench] = []
    with ExitStack() as stack:

        def bench(lane: Any = None, **limits: Any) -> Bench:
            pool, resolver = Pool(sleepless, 8, 64), Resolver()
            ups = Upstreams(sleepless, lane or pool, Limits(**limits), resolver)
            made.append(Bench(sleepless, clock, selector, pool, ups, resolver, stack))
            return made[-1]

        yield bench
        for b in made:
            b.ups.close()
            b.resolver.give_up()
            assert b.pool.close(PATIENCE)
            b.turn()
            assert b.is_quiet()
            assert all(state[1:4] == (0, 0, 0) for state in b.ups.states())


@pytest.fixture
def bench(make: Make) -> Bench:
    return make()


def http(listener: socket.socket, host: str = "127.0.0.1") -> Origin:
    return Origin("http", host, listener.getsockname()[1])


def has_ended(peer: socket.socket) -> bool:
    """Whether the other side is gone; fails if it says something instead."""
    try:
        data = peer.recv(1)
    except ConnectionResetError:
        return True
    assert not data
    return True


# ---- a connection -----------------------------------------------------------------------------


def test_bytes_pass_both_ways(bench: Bench) -> None:
    listener = bench.listen()
    link, owner = bench.link(http(listener))
    assert not link.reused
    peer = bench.accept(listener)
    link.stream.write(b"question")
    assert peer.recv(100) == b"question"
    peer.sendall(b"answer")
    bench.until(lambda: owner.data == b"answer")
    peer.close()
    bench.until(lambda: owner.told[-1] == "end")
    link.drop()
    assert owner.told == ["data", "end", "lost"]


def test_small_pieces_leave_at_once(bench: Bench) -> None:
    link, _ = bench.link(http(bench.listen()))
    sock = socket.socket(fileno=os.dup(link.stream._sock.fileno()))
    with sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_nobody_is_told_within_connect(bench: Bench) -> None:
    listener = bench.listen()
    link, _ = bench.link(http(listener))
    link.release()
    _, idle = bench.connect(http(listener))
    _, new = bench.connect(http(listener))
    assert idle == new == []
    bench.until(lambda: idle and new)


def test_a_connection_that_is_lost_is_told_of_once(bench: Bench) -> None:
    listener = bench.listen()
    link, owner = bench.link(http(listener))
    bench.accept(listener).close()
    link.stream.write(b"x")
    bench.until(lambda: "end" in owner.told or "lost" in owner.told)
    link.abort()
    link.drop()
    assert owner.told.count("lost") == 1
    assert link.state is LinkState.LOST


def test_a_user_that_fails_costs_the_connection(bench: Bench, log: io.StringIO) -> None:
    listener = bench.listen()

    def fail(_link: object) -> None:
        raise RuntimeError("of the user's")

    bench.ups.connect(http(listener), fail)
    bench.until(lambda: "of the user's" in log.getvalue())
    assert bench.counts(http(listener)) == (0, 0, 0)
    assert has_ended(bench.accept(listener))


def test_what_nobody_attached_to_is_ended_when_it_speaks(bench: Bench) -> None:
    listener = bench.listen()
    assert isinstance(bench.outcome(http(listener)), Link)
    bench.accept(listener).sendall(b"x")
    bench.until(lambda: bench.counts(http(listener)) == (0, 0, 0))


# ---- keeping and reusing ----------------------------------------------------------------------


def test_the_newest_is_reused_first(bench: Bench) -> None:
    origin = http(bench.listen())
    first, owner = bench.link(origin)
    second, _ = bench.link(origin)
    assert bench.counts(origin) == (0, 2, 0)
    second.release()
    first.release()
    assert bench.counts(origin) == (0, 0, 2)
    again, user = bench.link(origin)
    assert again is first
    assert again.reused
    assert bench.counts(origin) == (0, 1, 1)
    assert bench.link(origin)[0] is second
    first.drop()
    assert user.told == ["lost"]
    assert owner.told == []  # nothing after it was released


def test_other_origins_are_not_mixed_up(bench: Bench) -> None:
    listener = bench.listen()
    link, _ = bench.link(http(listener))
    link.release()
    assert not bench.link(http(listener, "localhost"))[0].reused


def test_a_fresh_one_is_new(bench: Bench) -> None:
    origin = http(bench.listen())
    link, _ = bench.link(origin)
    link.release()
    assert not bench.link(origin, fresh=True)[0].reused
    assert bench.counts(origin) == (0, 1, 1)


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
def test_an_idle_one_that_ends_or_speaks_is_dropped(bench: Bench, says: bytes) -> None:
    listener = bench.listen()
    link, _ = bench.link(http(listener))
    peer = bench.accept(listener)
    link.release()
    if says:
        peer.sendall(says)
    else:
        peer.close()
    bench.until(lambda: bench.counts(http(listener)) == (0, 0, 0))
    assert link.state is LinkState.LOST


def test_the_end_of_an_idle_one_is_seen_before_it_is_handed_out(bench: Bench) -> None:
    listener = bench.listen()
    kept, gone = bench.link(http(listener))[0], bench.link(http(listener))[0]
    bench.accept(listener)
    peer = bench.accept(listener)
    kept.release()
    gone.release()
    peer.close()  # the loop does not turn: nobody has been told
    assert bench.ups.links.take(http(listener)) is kept
    assert bench.ups.links.take(http(listener)) is None


def test_idle_ones_end_when_their_time_is_up(bench: Bench) -> None:
    limits, listener = bench.ups.limits, bench.listen()
    origin = http(listener)
    first, second = bench.link(origin)[0], bench.link(origin)[0]
    first.release()
    bench.clock.advance(limits.upstream_idle - 1)
    second.release()
    bench.turn()
    assert bench.counts(origin) == (0, 0, 2)
    bench.clock.advance(1)
    bench.turn()
    assert bench.counts(origin) == (0, 0, 1)
    assert has_ended(bench.accept(listener))
    bench.clock.advance(limits.upstream_idle - 1)
    bench.turn()
    assert bench.counts(origin) == (0, 0, 0)
    assert bench.is_quiet()


def test_time_in_use_does_not_count_as_idle(bench: Bench) -> None:
    origin = http(bench.listen())
    link, owner = bench.link(origin)
    link.release()
    bench.clock.advance(20)
    assert bench.link(origin)[0] is link
    bench.clock.advance(LONG)
    bench.turn()
    assert owner.told == []
    link.release()
    bench.clock.advance(20)
    bench.turn()
    assert bench.counts(origin) == (0, 0, 1)


def test_idle_ones_are_bounded_by_origin(make: Make) -> None:
    bench = make(upstream_idle_connections=2)
    origin = http(bench.listen())
    links = [bench.link(origin)[0] for _ in range(3)]
    for link in links:
        link.release()
    assert [link.state for link in links] == [LinkState.LOST, LinkState.IDLE, LinkState.IDLE]


def test_idle_ones_are_bounded_in_all(make: Make) -> None:
    bench = make(upstream_idle_total=2)
    links = [bench.link(http(bench.listen()))[0] for _ in range(3)]
    for link in links:
        link.release()
    assert [link.state for link in links] == [LinkState.LOST, LinkState.IDLE, LinkState.IDLE]


def test_none_is_kept_where_none_may_be(make: Make) -> None:
    bench = make(upstream_idle_connections=0)
    link, _ = bench.link(http(bench.listen()))
    link.release()
    assert link.state is LinkState.LOST


def test_one_whose_upstream_has_ended_is_not_kept(bench: Bench) -> None:
    listener = bench.listen()
    link, owner = bench.link(http(listener))
    bench.accept(listener).close()
    bench.until(lambda: owner.told == ["end"])
    link.release()
    assert bench.counts(http(listener)) == (0, 0, 0)
    assert owner.told == ["end"]


def test_one_with_a_request_that_is_not_sent_is_not_kept(bench: Bench) -> None:
    origin = http(bench.listen())
    link, _ = bench.link(origin)
    while link.stream.write(bytes(1 << 20)):
        pass
    link.release()
    assert bench.counts(origin) == (0, 0, 0)


def test_one_that_was_paused_hears_of_its_end_while_idle(bench: Bench) -> None:
    listener = bench.listen()
    link, _ = bench.link(http(listener))
    link.stream.pause_reading()
    link.stream.read_size = 1
    link.release()
    assert link.stream.read_size == Limits().read_chunk
    bench.accept(listener).close()
    bench.until(lambda: bench.counts(http(listener)) == (0, 0, 0))


# ---- addresses --------------------------------------------------------------------------------


def test_families_take_turns_and_there_are_not_too_many() -> None:
    v6: list[Address] = [(socket.AF_INET6, (f"fd00::{n}", 0, 0, 0)) for n in range(1, 4)]
    mixed = in_order([*v6, *v4("10.0.0.1", "10.0.0.2")], 80)
    assert [address[0] for _, address in mixed] == [
        "fd00::1",
        "10.0.0.1",
        "fd00::2",
        "10.0.0.2",
        "fd00::3",
    ]
    assert mixed[:2] == [
        (socket.AF_INET6, ("fd00::1", 80, 0, 0)),
        (socket.AF_INET, ("10.0.0.1", 80)),
    ]
    many = in_order(v4(*(f"10.0.0.{n}" for n in range(100))), 80)
    assert len(many) == 8


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "app.localhost"])
def test_the_machines_own_names_need_no_look_up(name: str) -> None:
    assert [address[0] for _, address in known_addresses(name) or []] == ["::1", "127.0.0.1"]


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::ffff:127.0.0.1", None)]
)
def test_addresses_need_no_look_up(host: str, address: str | None) -> None:
    found = known_addresses(host)
    assert found is not None
    assert found[0][1][0] == (address or host)


@pytest.mark.parametrize("host", ["example.com", "", "a..b", "a" * 80, "nul\0", "1.2.3.4.5"])
def test_other_names_are_not_known(host: str) -> None:
    assert known_addresses(host) is None


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_localhost_is_found_on_either_loopback(bench: Bench, address: str) -> None:
    bench.link(http(bench.listen(address), "localhost"))
    bench.link(http(bench.listen(address), address))
    assert bench.resolver.asked == []


def test_an_address_that_refuses_gives_way_at_once(bench: Bench) -> None:
    listener = bench.listen()
    bench.resolver.tell("name", v4("127.0.0.3", "127.0.0.4", "127.0.0.1"))
    link, _ = bench.link(http(listener, "name"))  # and the clock stands still
    assert bench.accept(listener)
    assert bench.state(http(listener, "name")).error is None
    link.drop()


def test_an_address_that_is_silent_has_the_next_tried_beside_it(bench: Bench) -> None:
    silent = bench.blackhole()
    good = bench.listen(port=silent.getsockname()[1])
    bench.resolver.tell("name", v4("127.0.0.2", "127.0.0.1"))
    attempt, got = bench.connect(http(good, "name"))
    bench.until(lambda: attempt.stage is Stage.CONNECTING)
    bench.clock.advance(0.24)
    bench.turn()
    assert len(bench.selector.get_map()) == 2
    bench.clock.advance(0.02)
    bench.until(lambda: got)
    assert isinstance(got[0], Link)
    assert len(bench.selector.get_map()) == 2  # the other one is given up
    assert bench.counts(http(good, "name")) == (0, 1, 0)


def test_an_address_that_answers_late_wins_when_the_others_fail(bench: Bench) -> None:
    silent = bench.blackhole()
    port = silent.getsockname()[1]
    bench.resolver.tell("name", v4("127.0.0.2", "127.0.0.3"))
    attempt, got = bench.connect(Origin("http", "name", port))
    bench.until(lambda: attempt.stage is Stage.CONNECTING)
    bench.clock.advance(0.3)
    bench.turn()  # the second is refused, the first is still waited for
    assert not got
    bench.accept(silent)
    bench.accept(silent)
    bench.until(lambda: got)  # the kernel sends the first SYN again
    assert isinstance(got[0], Link)


def test_all_refuse(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = http(listener, "name")
    bench.resolver.tell("name", v4("127.0.0.1", "127.0.0.2"))
    error = bench.error(origin)
    assert error.why == f"cannot connect to {origin}: Connection refused"
    assert not error.timed_out
    bench.clock.advance(3)
    assert bench.state(origin)[4:] == ("Connection refused", 3)


def test_an_upstream_that_is_back_is_found_by_the_next_request(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = http(listener)
    bench.error(origin)
    bench.listen(port=origin.port)
    bench.link(origin)
    assert bench.state(origin).error is None


def test_a_dead_upstream_keeps_nobody_else_waiting(bench: Bench) -> None:
    dead = [bench.connect(http(bench.blackhole(), "127.0.0.2"))[1] for _ in range(3)]
    bench.link(http(bench.listen()))
    assert dead == [[], [], []]


@pytest.mark.parametrize("port", [0, 70000, -1])
def test_what_is_no_port_is_an_error(bench: Bench, port: int) -> None:
    assert bench.why(Origin("http", "127.0.0.1", port))


def test_a_connection_to_itself_is_none() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert not _is_its_own_peer(sock)
        sock.connect(sock.getsockname())
        assert _is_its_own_peer(sock)


# ---- names ------------------------------------------------------------------------------------


def test_requests_for_one_name_share_a_look_up(bench: Bench) -> None:
    listeners = [bench.listen(), bench.listen()]
    asked = [
        bench.connect(http(listener, name))[1]
        for listener in listeners
        for name in ("name", "NAME", "name")
    ]
    bench.until(lambda: bench.resolver.asked)
    bench.resolver.tell("name", v4("127.0.0.1"))
    bench.until(lambda: all(asked))
    assert {type(got[0]) for got in asked} == {Link}
    assert bench.resolver.asked == ["name"]


def test_a_name_is_known_for_some_seconds(bench: Bench) -> None:
    listener = bench.listen()
    bench.resolver.tell("name", v4("127.0.0.1"))
    for _ in range(2):
        bench.link(http(listener, "name"))
    assert bench.resolver.asked == ["name"]
    bench.clock.advance(5)
    bench.link(http(listener, "name"))
    assert bench.resolver.asked == ["name", "name"]


def test_a_name_that_is_not_found_is_looked_up_again(bench: Bench) -> None:
    listener = bench.listen()
    bench.resolver.tell("name", OSError(-2, "Name or service not known"))
    assert bench.why(http(listener, "name")) == "its name is not known: Name or service not known"
    bench.resolver.tell("name", v4("127.0.0.1"))
    bench.link(http(listener, "name"))


def test_a_name_without_addresses_is_an_error(bench: Bench) -> None:
    bench.resolver.tell("name", [])
    assert bench.why(Origin("http", "name", 80)) == "it has no address"


def test_a_look_up_that_fails_unexpectedly_is_an_error(bench: Bench, log: io.StringIO) -> None:
    def fail(_host: str) -> list[Address]:
        raise ZeroDivisionError

    bench.ups.names.find_out = fail
    assert bench.why(Origin("http", "name", 80)) == "its name is not known: it failed"
    assert "ZeroDivisionError" in log.getvalue()


@pytest.mark.parametrize("host", ["a..b", "a" * 80, "nul\0"])
def test_what_is_no_name_is_an_error(sleepless: Reactor, host: str) -> None:
    pool = Pool(sleepless, 1, 4)
    ups = Upstreams(sleepless, pool, Limits())  # with the system's own look-up
    got: list[Outcome] = []
    ups.connect(Origin("http", host, 80), got.append)
    turn_until(sleepless, lambda: got)
    assert str(got[0]).endswith("its name is not known: not a host name")
    ups.close()
    assert pool.close(PATIENCE)


def test_look_ups_that_hang_hold_few_threads(bench: Bench) -> None:
    hosts = [f"name{n}" for n in range(10)]
    attempts = [bench.connect(Origin("http", host, 9)) for host in hosts]
    bench.until(lambda: len(bench.resolver.asked) == 4)
    bench.turn()
    assert bench.pool.busy == 4
    assert bench.pool.waiting == 0
    attempts[4][0].cancel()
    bench.resolver.tell("name0", [])
    bench.until(lambda: len(bench.resolver.asked) == 5)
    assert bench.resolver.asked[4] == "name5"  # nobody waits for the one before it
    for host in hosts:
        bench.resolver.tell(host, [])
    bench.until(lambda: all(got for attempt, got in attempts if attempt is not attempts[4][0]))
    assert attempts[4][1] == []
    assert "name4" not in bench.resolver.asked


def test_a_look_up_outlives_the_patience_of_those_who_wait(bench: Bench) -> None:
    listener = bench.listen()
    origin = http(listener, "name")
    _, got = bench.connect(origin)
    bench.until(lambda: bench.resolver.asked)
    bench.clock.advance(5)
    bench.until(lambda: got)
    assert isinstance(got[0], ConnectError)
    _, late = bench.connect(origin)  # joins it
    bench.turn()
    bench.resolver.tell("name", v4("127.0.0.1"))
    bench.until(lambda: late)
    assert isinstance(late[0], Link)
    assert bench.resolver.asked == ["name"]
    assert len(got) == 1


def test_who_is_cancelled_by_another_that_is_answered_hears_nothing(bench: Bench) -> None:
    origin = Origin("http", "name", 9)
    cancelled: list[Outcome] = []
    bench.ups.connect(origin, lambda _: second.cancel())
    second = bench.ups.connect(origin, cancelled.append)
    _, third = bench.connect(origin)
    bench.until(lambda: bench.resolver.asked)
    bench.resolver.tell("name", [])
    bench.until(lambda: third)
    assert cancelled == []
    assert second.stage is Stage.DONE


def test_a_full_pool_is_an_error(make: Make) -> None:
    class Full:
        def submit(self, job: Job) -> None:
            raise PoolFullError

    bench = make(lane=Full())
    assert "too much waits for a thread" in bench.why(Origin("http", "name", 80))


# ---- unix sockets -----------------------------------------------------------------------------


@contextmanager
def unix_listener(path: Path, backlog: int = 16) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(backlog)
        listener.settimeout(PATIENCE)
        yield listener


def test_a_unix_socket(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "upstream.sock"
    with unix_listener(path) as listener:
        origin = Origin("http", "name", 80, str(path))
        link, owner = bench.link(origin)
        peer = bench.accept(listener)
        link.stream.write(b"question")
        assert peer.recv(100) == b"question"
        peer.sendall(b"answer")
        bench.until(lambda: owner.data == b"answer")
        link.release()
        assert bench.link(origin)[0] is link


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("missing.sock", "No such file or directory"),
        ("x" * 200, "File name too long"),
        ("nul\0", ""),
    ],
)
def test_a_unix_socket_that_is_not_there(bench: Bench, tmp_path: Path, path: str, why: str) -> None:
    found = bench.why(Origin("http", "name", 80, str(tmp_path / path)))
    assert found == why or not why


def test_a_unix_socket_whose_queue_is_full(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "upstream.sock"
    with unix_listener(path, backlog=0):
        origin = Origin("http", "name", 80, str(path))
        outcomes = [bench.outcome(origin) for _ in range(3)]
    assert isinstance(outcomes[-1], ConnectError)
    assert "temporarily unavailable" in outcomes[-1].why


# ---- TLS --------------------------------------------------------------------------------------


@contextmanager
def tls_server(
    shows: Issued | ssl.SSLContext, late: bool = False, **options: Any
) -> Iterator[socket.socket]:
    """Sends back what it is sent, in TLS, one connection after the other; `late`: after its end."""
    if isinstance(shows, ssl.SSLContext):
        context = shows
    else:
        context = new_context()
        context.load_cert_chain(shows.both)
    for name, value in options.items():
        setattr(context, name, value)
    listener = socket.create_server(("127.0.0.1", 0))

    def echo(sock: ssl.SSLSocket) -> None:
        kept = b""
        while data := sock.recv(65536):
            if late:
                kept += data
            else:
                sock.sendall(data)
        sock.sendall(kept)

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE)
            with sock:
                try:
                    with context.wrap_socket(sock, server_side=True) as secure:
                        echo(secure)
                except OSError:
                    continue

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(PATIENCE)
        listener.close()


def https(listener: socket.socket, context: ssl.SSLContext | None, host: str = "127.0.0.1") -> Origin:
    return Origin("https", host, listener.getsockname()[1], context=context)


VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "LOCALHOST."])
def test_bytes_pass_both_ways_encrypted(
    bench: Bench, authority: Authority, issued: Issued, version: ssl.TLSVersion, host: str
) -> None:
    with tls_server(issued, maximum_version=version) as listener:
        origin = https(listener, authority.trusted(), host)
        link, owner = bench.link(origin)
        data = os.urandom(1 << 20)
        link.stream.write(data)
        bench.until(lambda: len(owner.data) == len(data))
        assert owner.data == data
        link.release()
        bench.turn()
        again, owner = bench.link(origin)
        assert again is link
        again.stream.write(b"again")
        bench.until(lambda: owner.data == b"again")
        link.drop()
    assert owner.told == ["data", "lost"]


@pytest.mark.parametrize("version", VERSIONS)
def test_our_side_may_end_before_theirs(
    bench: Bench, authority: Authority, issued: Issued, version: ssl.TLSVersion
) -> None:
    """The server sends all of it back after it has seen our end."""
    with tls_server(issued, maximum_version=version, late=True) as listener:
        link, owner = bench.link(https(listener, authority.trusted()))
        data = os.urandom(1 << 18)
        link.stream.write(data)
        link.stream.end()
        bench.until(lambda: owner.told[-1:] == ["lost"])
    assert owner.data == data


def test_the_name_is_asked_for(bench: Bench, authority: Authority, issued: Issued) -> None:
    names: list[str | None] = []
    with tls_server(issued, sni_callback=lambda tls, name, context: names.append(name)) as listener:
        bench.link(https(listener, authority.trusted(), "localhost"))[0].drop()
        bench.link(https(listener, authority.trusted(), "127.0.0.1"))[0].drop()
    assert names == ["localhost", None]  # RFC 6066 section 3: no addresses


def test_the_systems_certificates_are_trusted_by_default(
    bench: Bench, authority: Authority, issued: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with tls_server(issued) as listener:
        for _ in range(2):
            link, _ = bench.link(https(listener, None))
            assert isinstance(link.stream, TlsClientStream)
            assert link.stream._client._tls is not None
            assert link.stream._client._tls.selected_alpn_protocol() == "http/1.1"
            link.drop()


def test_and_no_others_are(bench: Bench, issued: Issued) -> None:
    with tls_server(issued) as listener:
        why = bench.why(https(listener, None))
    assert why == "its certificate is refused: unable to get local issuer certificate"


def test_certificates_that_cannot_be_had_are_an_error(bench: Bench) -> None:
    def fail(_key: str) -> ssl.SSLContext:
        raise OSError("the disk is gone")

    bench.ups.contexts.find_out = fail
    assert bench.why(https(bench.listen(), None)) == "no certificates to trust: the disk is gone"


def test_a_certificate_for_another_name_is_refused(bench: Bench, authority: Authority) -> None:
    with tls_server(authority.issue("other.example")) as listener:
        why = bench.why(https(listener, authority.trusted(), "localhost"))
    assert why.startswith("its certificate is refused: Hostname mismatch")
    assert "'localhost'" in why


def test_a_certificate_for_another_address_is_refused(bench: Bench, authority: Authority) -> None:
    with tls_server(authority.issue("localhost")) as listener:
        why = bench.why(https(listener, authority.trusted()))
    assert why.startswith("its certificate is refused: IP address mismatch")


def test_a_certificate_that_has_expired_is_refused(bench: Bench, authority: Authority) -> None:
    with tls_server(authority.issue(days=-1)) as listener:
        why = bench.why(https(listener, authority.trusted()))
    assert why == "its certificate is refused: certificate has expired"


def test_a_self_signed_certificate_is_refused_unless_a_context_allows_it(bench: Bench) -> None:
    from quick_server.selfsigned import make as make_certificate

    with tls_server(make_certificate().context) as listener:
        why = bench.why(https(listener, new_client_context()))
        bench.link(https(listener, new_client_context(verify=False)))[0].drop()
    assert why == "its certificate is refused: self-signed certificate"


def test_one_that_takes_no_certificate_but_ours_says_so(bench: Bench, authority: Authority) -> None:
    """With TLS 1.2 within the handshake; with 1.3 only afterwards."""
    options: dict[str, Any] = {
        "verify_mode": ssl.CERT_REQUIRED,
        "maximum_version": ssl.TLSVersion.TLSv1_2,
    }
    with tls_server(authority.issue(), **options) as listener:
        why = bench.why(https(listener, authority.trusted()))
    assert why.startswith(("TLS failed: ", "it "))


@pytest.mark.parametrize(
    ("says", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "TLS failed: wrong version number"),
        (b"", "it ended the connection in the TLS handshake"),
    ],
)
def test_one_that_does_not_speak_tls(bench: Bench, authority: Authority, says: bytes, why: str) -> None:
    listener = bench.listen()
    origin = https(listener, authority.trusted())
    attempt, got = bench.connect(origin)
    bench.until(lambda: attempt.stage is Stage.SHAKING)
    peer = bench.accept(listener)
    peer.sendall(says)
    peer.shutdown(socket.SHUT_WR)
    bench.until(lambda: got)
    assert str(got[0]) == f"cannot connect to {origin}: {why}"


def test_one_that_resets_the_handshake(bench: Bench, authority: Authority) -> None:
    listener = bench.listen()
    attempt, got = bench.connect(https(listener, authority.trusted()))
    bench.until(lambda: attempt.stage is Stage.SHAKING)
    peer = bench.accept(listener)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.close()
    bench.until(lambda: got)
    assert str(got[0]).endswith("it was lost in the TLS handshake")


def test_a_handshake_byte_by_byte(bench: Bench, authority: Authority, issued: Issued) -> None:
    """What the server says arrives in the smallest pieces."""
    listener = bench.listen()
    attempt, got = bench.connect(https(listener, authority.trusted()))
    bench.until(lambda: attempt.stage is Stage.SHAKING)
    peer = bench.accept(listener)
    peer.setblocking(False)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    context = new_context()
    context.load_cert_chain(issued.both)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)

    def step() -> bool:
        try:
            incoming.write(peer.recv(65536))
        except BlockingIOError:
            pass
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        for byte in outgoing.read():
            peer.send(bytes([byte]))
            bench.reactor.turn(0)
        return bool(got)

    bench.until(step)
    assert isinstance(got[0], Link)


def test_what_cannot_be_a_servers_name_is_an_error(bench: Bench, authority: Authority) -> None:
    listener = bench.listen()
    bench.resolver.tell(".a", v4("127.0.0.1"))
    assert bench.why(https(listener, authority.trusted(), ".a")).startswith("TLS cannot begin: ")
    assert has_ended(bench.accept(listener))


# ---- patience, and its end --------------------------------------------------------------------


@pytest.fixture(params=[stage for stage in Stage if stage not in (Stage.BEGINNING, Stage.DONE)])
def stuck(
    request: pytest.FixtureRequest, bench: Bench, authority: Authority
) -> tuple[Attempt, list[Outcome]]:
    """An attempt that stays where it is."""
    stage: Stage = request.param
    if stage is Stage.PREPARING:
        bench.ups.contexts.find_out = bench.resolver  # type: ignore[assignment] # it hangs
        origin = https(bench.listen(), None)
    elif stage is Stage.LOOKING_UP:
        origin = Origin("http", "name", 80)
    elif stage is Stage.CONNECTING:
        origin = http(bench.blackhole(), "127.0.0.2")
    else:
        origin = https(bench.listen(), authority.trusted())
    attempt, got = bench.connect(origin)
    bench.until(lambda: attempt.stage is stage)
    bench.turn()
    return attempt, got


Stuck = tuple[Attempt, list[Outcome]]


def test_every_stage_has_an_end(bench: Bench, stuck: Stuck) -> None:
    attempt, got = stuck
    stage = attempt.stage
    bench.clock.advance(4.9)
    bench.turn()
    assert not got
    bench.clock.advance(0.2)
    bench.turn()
    assert isinstance(got[0], ConnectError)
    assert got[0].timed_out
    assert got[0].why.endswith(f": {stage.value} took longer than 5 s")
    assert bench.is_quiet()
    assert bench.ups.states()[0][1:4] == (0, 0, 0)
    assert len(got) == 1


def test_every_stage_can_be_cancelled(bench: Bench, stuck: Stuck) -> None:
    attempt, got = stuck
    attempt.cancel()
    assert bench.ups.states()[0][1:4] == (0, 0, 0)
    assert bench.is_quiet()
    bench.clock.advance(LONG)
    bench.resolver.give_up()
    bench.turn()
    attempt.cancel()  # harmless
    assert got == []


def test_every_stage_ends_with_close(bench: Bench, stuck: Stuck, log: io.StringIO) -> None:
    _, got = stuck
    bench.ups.close()
    assert bench.is_quiet()
    bench.resolver.give_up()
    assert bench.pool.close(PATIENCE)  # a look-up that ends only now
    assert log.getvalue() == ""
    assert bench.ups.states()[0][1:4] == (0, 0, 0)
    assert got == []


def test_one_that_is_cancelled_before_it_began_takes_nothing(bench: Bench) -> None:
    origin = http(bench.listen())
    link, _ = bench.link(origin)
    link.release()
    attempt, got = bench.connect(origin)
    attempt.cancel()
    bench.turn()
    assert got == []
    assert bench.counts(origin) == (0, 0, 1)


def test_one_that_is_cancelled_afterwards_leaves_its_link_alone(bench: Bench) -> None:
    origin = http(bench.listen())
    attempt, got = bench.connect(origin)
    bench.until(lambda: got)
    attempt.cancel()
    assert bench.counts(origin) == (0, 1, 0)


def test_all_stages_share_one_patience(bench: Bench, authority: Authority) -> None:
    listener = bench.listen()
    attempt, got = bench.connect(https(listener, authority.trusted(), "name"))
    bench.until(lambda: bench.resolver.asked)
    bench.clock.advance(3)
    bench.resolver.tell("name", v4("127.0.0.1"))
    bench.until(lambda: attempt.stage is Stage.SHAKING)
    bench.clock.advance(2.1)
    bench.until(lambda: got)
    assert isinstance(got[0], ConnectError)
    assert got[0].timed_out


def test_close_ends_all_links(bench: Bench) -> None:
    listener = bench.listen()
    idle, _ = bench.link(http(listener))
    used, owner = bench.link(http(listener))
    idle.release()
    bench.ups.close()
    assert owner.told == ["lost"]
    assert idle.state is LinkState.LOST
    assert used.state is LinkState.LOST
    assert has_ended(bench.accept(listener))
    assert has_ended(bench.accept(listener))
    assert bench.is_quiet()
    assert bench.why(http(listener)) == "nothing is connected any more"


def test_what_is_released_during_close_is_not_kept(bench: Bench) -> None:
    _, owner = bench.link(http(bench.listen()))
    other, _ = bench.link(http(bench.listen()))
    owner.then["lost"] = other.release
    bench.ups.close()
    assert other.state is LinkState.LOST


def test_close_survives_users_who_ask_for_more(bench: Bench) -> None:
    listener = bench.listen()
    _, owner = bench.link(http(listener))
    got: list[Outcome] = []
    owner.then["lost"] = lambda: bench.ups.connect(http(listener), got.append)
    bench.ups.close()
    bench.until(lambda: got)
    assert isinstance(got[0], ConnectError)


# ---- out of descriptors -----------------------------------------------------------------------


@contextmanager
def no_descriptors() -> Iterator[None]:
    """The process gets no new ones, but those that it gives back."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = []
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        while True:
            try:
                held.append(os.dup(0))
            except OSError:
                break
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)


def test_without_descriptors_there_is_no_connection(bench: Bench) -> None:
    origin = http(bench.listen())
    with no_descriptors():
        assert bench.why(origin) == "Too many open files"
    bench.link(origin)


def test_idle_ones_are_given_up_first(bench: Bench) -> None:
    kept, _ = bench.link(http(bench.listen()))
    kept.release()
    other = bench.listen()
    with no_descriptors():
        bench.link(http(other))
    assert kept.state is LinkState.LOST


# ---- what is told -----------------------------------------------------------------------------


def test_what_is_known_of_origins_is_bounded(bench: Bench) -> None:
    link, _ = bench.link(http(bench.listen()))
    for number in range(400):
        bench.error(Origin("http", "127.0.0.1", 0, f"/nowhere/{number}"))
    states = bench.ups.states()
    assert len(states) <= 256
    assert link.origin in [state.origin for state in states]


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (Origin("http", "a.example", 80), "http://a.example:80"),
        (Origin("https", "::1", 443), "https://[::1]:443"),
        (Origin("http", "name", 80, "/run/app.sock"), "http://name at /run/app.sock"),
    ],
)
def test_origins_as_people_know_them(origin: Origin, text: str) -> None:
    assert str(origin) == text
