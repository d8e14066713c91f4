"""Listening and accepting: addresses, bounded batches, and running out of descriptors."""

from __future__ import annotations

import errno
import io
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, ClassVar

import pytest

from quick_server import handover
from quick_server.limits import Limits
from quick_server.listener import Listener, listen
from quick_server.reactor import Reactor
from tests.harness import PATIENCE
from tests.unit.fakes import Clock, SleeplessSelector, turn_until

PAUSE = 0.5  # a moment plus this is exact
LIMITS = Limits(accept_pause=PAUSE)
MESSAGE = "cannot accept connections"


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")


@pytest.fixture
def listening() -> Iterator[Callable[..., list[socket.socket]]]:
    """`listening(host, port)` is `listen`; what it opens is closed with the test."""
    with ExitStack() as stack:

        def open_at(host: str, port: int = 0, backlog: int = 16) -> list[socket.socket]:
            return [stack.enter_context(sock) for sock in listen(host, port, backlog)]

        yield open_at


Listening = Callable[..., list[socket.socket]]


# ---- addresses --------------------------------------------------------------------------------


@needs_ipv6
@pytest.mark.parametrize("host", ["", "localhost"])
def test_a_local_name_is_every_loopback_family_on_one_port(listening: Listening, host: str) -> None:
    socks = listening(host)
    addresses = [sock.getsockname()[:2] for sock in socks]
    port = addresses[0][1]
    assert addresses == [("127.0.0.1", port), ("::1", port)]
    for address in addresses:
        socket.create_connection(address, timeout=PATIENCE).close()


def test_an_address_is_just_that_one(listening: Listening) -> None:
    (sock,) = listening("127.0.0.1")
    assert sock.family is socket.AF_INET
    assert sock.getsockname()[0] == "127.0.0.1"


def test_all_interfaces(listening: Listening) -> None:
    (sock,) = listening("0.0.0.0")
    assert sock.getsockname()[0] == "0.0.0.0"
    socket.create_connection(("127.0.0.1", sock.getsockname()[1]), timeout=PATIENCE).close()


@needs_ipv6
def test_all_interfaces_of_both_families(listening: Listening) -> None:
    (sock,) = listening("::")
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, sock.getsockname()[1]), timeout=PATIENCE).close()


@needs_ipv6
def test_one_address_of_ipv6_does_not_take_that_of_ipv4(listening: Listening) -> None:
    (sock,) = listening("::1")
    listening("127.0.0.1", sock.getsockname()[1])


def test_nothing_that_listens_blocks(listening: Listening) -> None:
    for sock in listening(""):
        assert not sock.getblocking()
        with pytest.raises(BlockingIOError):
            sock.accept()


def test_a_port_can_be_had_again_at_once(listening: Listening) -> None:
    """Connections that the server ended leave something behind in the kernel for a minute."""
    (first,) = listening("127.0.0.1")
    address = first.getsockname()
    client = socket.create_connection(address, timeout=PATIENCE)
    first.setblocking(True)
    accepted, _ = first.accept()
    accepted.close()
    assert client.recv(1) == b""
    client.close()
    first.close()
    listening(*address)


def test_a_port_in_use_is_named(listening: Listening) -> None:
    (sock,) = listening("127.0.0.1")
    port = sock.getsockname()[1]
    for host in ("127.0.0.1", "localhost", ""):
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: ") as raised:
            listen(host, port, 1)
        assert raised.value.errno == errno.EADDRINUSE


@needs_ipv6
@pytest.mark.parametrize("host", ["::1", ""])
def test_a_port_in_use_on_the_other_family_is_named(listening: Listening, host: str) -> None:
    (sock,) = listening("::1")
    port = sock.getsockname()[1]
    with pytest.raises(OSError, match=rf"cannot listen on \[::1\]:{port}: ") as raised:
        listen(host, port, 1)
    assert raised.value.errno == errno.EADDRINUSE


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:8080: "):
        listen("192.0.2.1", 8080, 1)


@pytest.mark.parametrize("port", [-1, 65536, 10**9])
@pytest.mark.parametrize("host", ["", "127.0.0.1"])
def test_a_port_out_of_range_is_named(host: str, port: int) -> None:
    with pytest.raises(OSError, match=rf"cannot listen on {host}:{port}: a port is 0 to 65535"):
        listen(host, port, 1)


def test_a_name_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_name(*_anything: object, **_more: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    expected = r"cannot listen on nowhere\.invalid:80: Name or service not known"
    with pytest.raises(OSError, match=expected):
        listen("nowhere.invalid", 80, 1)


@pytest.mark.parametrize("host", ["a..b", ".example", "a" * 64 + ".example"])
def test_a_name_that_cannot_exist_is_named(host: str) -> None:
    with pytest.raises(OSError, match="cannot listen on "):
        listen(host, 80, 1)


class Families(socket.socket):
    """Sockets of a machine whose IPv6 fails as often, and in the way, that the test says."""

    failures = 0
    code = errno.EADDRINUSE
    bound: ClassVar[list[tuple[int, int]]]
    """Family and port of each bind."""

    def bind(self, address: Any) -> None:
        cls = type(self)
        cls.bound.append((self.family, address[1]))
        if self.family == socket.AF_INET6 and cls.failures > 0:
            cls.failures -= 1
            raise OSError(cls.code, os.strerror(cls.code))
        super().bind(address)


@pytest.fixture
def families(monkeypatch: pytest.MonkeyPatch) -> type[Families]:
    class Machine(Families):
        bound: ClassVar[list[tuple[int, int]]] = []

    monkeypatch.setattr(socket, "socket", Machine)
    return Machine


@needs_ipv6
def test_a_free_port_that_is_taken_on_the_other_family_is_not_taken(
    listening: Listening, families: type[Families]
) -> None:
    families.failures = 3
    first, second = listening("")
    assert first.getsockname()[1] == second.getsockname()[1]
    assert len(families.bound) == 8
    tried = [port for family, port in families.bound if family == socket.AF_INET]
    assert tried == [0] * 4


@needs_ipv6
def test_a_port_that_was_asked_for_is_tried_once(
    listening: Listening, families: type[Families]
) -> None:
    (free,) = listening("127.0.0.1")
    port = free.getsockname()[1]
    free.close()
    families.failures = 1
    families.bound.clear()
    with pytest.raises(OSError, match=rf"cannot listen on \[::1\]:{port}: "):
        listen("", port, 1)
    assert len(families.bound) == 2


@needs_ipv6
def test_the_search_for_a_free_port_ends(families: type[Families]) -> None:
    families.failures = 10**6
    with pytest.raises(OSError, match=r"cannot listen on \[::1\]:\d+: "):
        listen("", 0, 1)
    assert len(families.bound) < 100


@needs_ipv6
@pytest.mark.parametrize("code", [errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT])
def test_a_machine_without_ipv6_listens_on_ipv4(
    listening: Listening, families: type[Families], code: int
) -> None:
    families.failures, families.code = 1, code
    (sock,) = listening("")
    assert sock.family is socket.AF_INET


def test_no_descriptor_for_a_socket_is_named() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1:0: ") as failure:
            listen("", 0, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert failure.value.errno == errno.EMFILE


def test_what_was_left_and_cannot_be_listened_on_is_bound_anew(listening: Listening) -> None:
    """Its listening had been ended, and somebody else has the port; who wants it gets an error."""
    left = socket.socket()
    left.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    left.bind(("127.0.0.1", 0))
    port = left.getsockname()[1]
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        handover.keep("127.0.0.1", port, 0, [left])
        left.close()
        other.listen()
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: "):
            listen("127.0.0.1", port, 1)
    assert handover.take("127.0.0.1", port) == []
    (sock,) = listening("127.0.0.1", port)
    assert sock.getsockname()[1] == port


# ---- accepting --------------------------------------------------------------------------------


class Guests:
    """Takes the connections that are accepted, and connects."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.accepted: list[tuple[socket.socket, Any]] = []
        self.clients: list[socket.socket] = []

    def __call__(self, sock: socket.socket, address: Any) -> None:
        self.accepted.append((sock, address))

    def come(self, count: int = 1) -> None:
        for _ in range(count):
            self.clients.append(socket.create_connection(self.address, timeout=PATIENCE))

    def leave(self) -> None:
        for sock in [*self.clients, *(sock for sock, _ in self.accepted)]:
            sock.close()


class Scripted(socket.socket):
    """A listening socket of which the test says what `accept` raises before it works."""

    def __init__(self) -> None:
        super().__init__(socket.AF_INET, socket.SOCK_STREAM)
        self.errors: list[int] = []
        self.asked = 0
        self.bind(("127.0.0.1", 0))
        self.listen(100)
        self.setblocking(False)

    def accept(self) -> tuple[socket.socket, Any]:
        self.asked += 1
        if self.errors:
            code = self.errors.pop(0)
            raise OSError(code, os.strerror(code))
        return super().accept()


@pytest.fixture
def door() -> Iterator[Scripted]:
    with Scripted() as sock:
        yield sock


@pytest.fixture
def guests(door: Scripted) -> Iterator[Guests]:
    guests = Guests(door.getsockname())
    yield guests
    guests.leave()


def test_who_connects_is_handed_on_with_the_address(
    reactor: Reactor, door: Scripted, guests: Guests
) -> None:
    listener = Listener(reactor, door, LIMITS, guests)
    guests.come(3)
    turn_until(reactor, lambda: len(guests.accepted) == 3)
    known = {client.getsockname() for client in guests.clients}
    assert {address for _, address in guests.accepted} == known
    for sock, address in guests.accepted:
        assert sock.getpeername() == address
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
    listener.close()


def test_a_turn_accepts_a_bounded_number(reactor: Reactor, door: Scripted, guests: Guests) -> None:
    listener = Listener(reactor, door, Limits(accepts_per_turn=3), guests)
    guests.come(8)
    per_turn: list[int] = []
    while len(guests.accepted) < 8:
        before = len(guests.accepted)
        reactor.turn(PATIENCE)
        per_turn.append(len(guests.accepted) - before)
        assert per_turn[-1] > 0
    assert max(per_turn) == 3
    assert sum(per_turn) == 8
    listener.close()


def test_after_close_nobody_is_accepted(reactor: Reactor, door: Scripted, guests: Guests) -> None:
    listener = Listener(reactor, door, LIMITS, guests)
    listener.close()
    listener.close()
    assert door.fileno() == -1
    with pytest.raises(ConnectionRefusedError):
        guests.come()
    reactor.turn(0)
    assert guests.accepted == []


def test_close_in_the_middle_of_a_batch_ends_it(
    reactor: Reactor, door: Scripted, guests: Guests
) -> None:
    accepted: list[socket.socket] = []

    def take(sock: socket.socket, address: Any) -> None:
        guests(sock, address)
        accepted.append(sock)
        listener.close()

    listener = Listener(reactor, door, LIMITS, take)
    guests.come(3)
    turn_until(reactor, lambda: accepted)
    reactor.turn(0)
    assert len(accepted) == 1


def test_a_client_that_has_gone_again_does_not_matter(
    reactor: Reactor, door: Scripted, guests: Guests, log: io.StringIO
) -> None:
    door.errors = [errno.ECONNABORTED, errno.EPROTO]
    listener = Listener(reactor, door, LIMITS, guests)
    guests.come()
    turn_until(reactor, lambda: guests.accepted)
    assert log.getvalue() == ""
    listener.close()


class Reset(socket.socket):
    """A connection that was reset before anything could be said about it."""

    def setsockopt(self, *_anything: Any) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def test_a_client_that_resets_right_away_does_not_matter(
    reactor: Reactor, door: Scripted, guests: Guests, log: io.StringIO
) -> None:
    class Door(Scripted):
        resets = 2

        def accept(self) -> tuple[socket.socket, Any]:
            sock, address = super().accept()
            if self.resets:
                self.resets -= 1
                return Reset(fileno=sock.detach()), address
            return sock, address

    with Door() as door:
        guests.address = door.getsockname()
        listener = Listener(reactor, door, LIMITS, guests)
        guests.come(3)
        turn_until(reactor, lambda: guests.accepted)
        listener.close()
    assert len(guests.accepted) == 1
    assert log.getvalue() == ""


def test_a_failing_owner_is_logged_and_others_are_accepted(
    reactor: Reactor, door: Scripted, guests: Guests, log: io.StringIO
) -> None:
    first = True

    def take(sock: socket.socket, address: Any) -> None:
        nonlocal first
        guests(sock, address)
        if first:
            first = False
            raise ValueError("not at home")

    listener = Listener(reactor, door, LIMITS, take)
    guests.come(2)
    turn_until(reactor, lambda: len(guests.accepted) == 2)
    assert log.getvalue().count("ValueError: not at home") == 1
    listener.close()


# ---- out of descriptors -----------------------------------------------------------------------


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_accepting_pauses_when_there_is_no_room(
    sleepless: Reactor,
    selector: SleeplessSelector,
    clock: Clock,
    door: Scripted,
    guests: Guests,
    log: io.StringIO,
    code: int,
) -> None:
    door.errors = [code] * 3
    listener = Listener(sleepless, door, LIMITS, guests)
    guests.come()
    turn_until(sleepless, lambda: door.asked == 1)
    selector.patience.clear()
    for _ in range(5):  # nothing is tried before the pause is over: the loop sleeps
        sleepless.turn()
    assert door.asked == 1
    assert selector.patience == [PAUSE] * 5
    for asked in (2, 3):
        clock.advance(PAUSE)
        sleepless.turn()
        assert door.asked == asked
        assert guests.accepted == []
    clock.advance(PAUSE)
    turn_until(sleepless, lambda: guests.accepted)
    assert log.getvalue().count(MESSAGE) == 1
    assert os.strerror(code) in log.getvalue()
    listener.close()
    assert len(selector.get_map()) == 1  # the wake-up socket


def test_running_out_again_is_said_again(
    sleepless: Reactor, clock: Clock, door: Scripted, guests: Guests, log: io.StringIO
) -> None:
    listener = Listener(sleepless, door, LIMITS, guests)
    for number in (1, 2, 3):
        door.errors = [errno.EMFILE, errno.EMFILE]
        guests.come()
        while len(guests.accepted) < number:
            clock.advance(PAUSE)
            sleepless.turn()
        assert log.getvalue().count(MESSAGE) == number
        clock.advance(10.0)
    listener.close()


def test_running_out_again_and_again_fills_no_log(
    sleepless: Reactor, clock: Clock, door: Scripted, guests: Guests, log: io.StringIO
) -> None:
    began = sleepless.now()
    listener = Listener(sleepless, door, LIMITS, guests)
    for number in range(1, 20):
        door.errors = [errno.EMFILE, errno.EMFILE]
        guests.come()
        while len(guests.accepted) < number:
            clock.advance(PAUSE)
            sleepless.turn()
    assert log.getvalue().count(MESSAGE) <= 1 + (sleepless.now() - began) / 10
    listener.close()


def test_those_who_were_accepted_before_are_not_forgotten(
    sleepless: Reactor, clock: Clock, door: Scripted, guests: Guests
) -> None:
    """Running out in the middle of a batch: the first is served, the second waits its turn."""

    class Door(Scripted):
        def accept(self) -> tuple[socket.socket, Any]:
            if self.asked == 1:
                self.errors = [errno.EMFILE]
            return super().accept()

    with Door() as door:
        guests.address = door.getsockname()
        guests.come(2)
        listener = Listener(sleepless, door, LIMITS, guests)
        turn_until(sleepless, lambda: door.asked == 2)
        assert len(guests.accepted) == 1
        clock.advance(PAUSE)
        turn_until(sleepless, lambda: len(guests.accepted) == 2)
        listener.close()


def test_close_while_accepting_pauses(
    sleepless: Reactor,
    selector: SleeplessSelector,
    clock: Clock,
    door: Scripted,
    guests: Guests,
    log: io.StringIO,
) -> None:
    door.errors = [errno.EMFILE]
    listener = Listener(sleepless, door, LIMITS, guests)
    guests.come()
    turn_until(sleepless, lambda: door.asked == 1)
    listener.close()
    clock.advance(PAUSE)
    for _ in range(3):
        sleepless.turn()
    assert len(selector.get_map()) == 1  # the wake-up socket
    assert door.asked == 1
    assert "Traceback" not in log.getvalue()


EXHAUSTED = """
import json, os, resource, socket
import quick_server
from quick_server.limits import Limits
from quick_server.listener import Listener, listen
from quick_server.reactor import Reactor

class Clock:
    now = 0.0
    def __call__(self):
        return self.now

class Lines:
    text = ""
    def write(self, text):
        self.text += text
    def flush(self):
        pass

lines, clock, accepted = Lines(), Clock(), []
quick_server.set_log_file(lines)
reactor = Reactor(clock)
(door,) = listen("127.0.0.1", 0, 16)
listener = Listener(reactor, door, Limits(), lambda sock, address: accepted.append(sock))
client = socket.create_connection(door.getsockname())
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(os.dup(0))
except OSError:
    pass
tried = []
for _ in range(4):
    reactor.turn(0)
    clock.now += Limits().accept_pause
    tried.append(len(accepted))
for descriptor in held:
    os.close(descriptor)
reactor.turn(0)
clock.now += Limits().accept_pause
reactor.turn(0)
reactor.turn(0)
print(json.dumps({"held": len(held), "tried": tried, "then": len(accepted), "log": lines.text}))
for sock in (client, *accepted):
    sock.close()
listener.close()
reactor.close()
"""


def test_a_process_that_runs_out_of_descriptors_accepts_again_when_it_has_some() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXHAUSTED],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert result["held"] > 0
    assert result["tried"] == [0] * 4
    assert result["then"] == 1
    assert result["log"].count(MESSAGE) == 1
    assert os.strerror(errno.EMFILE) in result["log"]
