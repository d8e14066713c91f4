"""A whole server whose loop a test turns by hand, with a clock that it moves; its sockets may fail.

The clients are in the same thread and turn the loop while they wait. So whatever a test does happens in
one order, but for what threads of the pool do, and those are waited for.
"""

from __future__ import annotations

import gc
import io
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable
from threading import Condition
from typing import Any, cast

import pytest

import quick_server
from fuzz.faults import Call, Door, FaultyDoor, FaultySelector, FaultyStream, Wake
from quick_server import QuickServer, create_server
from quick_server.connection import Connection
from quick_server.limits import Limits
from quick_server.listener import Listener
from quick_server.log import LogFile
from quick_server.pool import Pool
from quick_server.reactor import Reactor
from tests.harness import PATIENCE, Client
from tests.unit.fakes import Clock

MOST_TURNS = 20_000
"""With something to do in each, until there is nothing to do: beyond that it is a busy loop."""
_BREATH = 0.0001  # seconds
_MOMENT = 0.001  # seconds; what packets within a machine, and threads, may need
_FORGOTTEN = 60.0  # seconds after which a handler waits no longer, as its test must have failed
_VAIN = 2.0  # seconds in which nothing happens at all, so that nothing will


class Gate:
    """Where handlers wait until a test lets them go on."""

    def __init__(self) -> None:
        self._condition = Condition()
        self.opened: set[object] = set()
        self._is_over = False
        self.waiting: list[object] = []
        self.arrived: Callable[[], object] = bool
        """Called by the thread of each handler that waits."""

    def wait(self, name: object) -> None:
        """A handler's thread."""
        with self._condition:
            if self._is_over or name in self.opened:
                return
            self.waiting.append(name)
            self.arrived()
            assert self._condition.wait_for(lambda: self._is_over or name in self.opened, _FORGOTTEN)

    def open(self, name: object) -> None:
        """The test's thread."""
        with self._condition:
            self.opened.add(name)
            self.waiting = [waiting for waiting in self.waiting if waiting != name]
            self._condition.notify_all()

    def open_all(self) -> None:
        """For now and later."""
        with self._condition:
            self._is_over = True
            self.waiting = []
            self._condition.notify_all()


class HandTurned:
    """The server, its time and its waits."""

    def __init__(
        self,
        configure: Callable[[QuickServer], object] = bool,
        *,
        doors: Iterable[Door] = (),
        guests: Iterable[Iterable[Call]] = (),
        wakes: Iterable[Wake] = (),
        room: int = 0,
        log: LogFile | None = None,
        **limits: Any,
    ) -> None:
        """`configure(server)` comes before it listens; `limits` are those that are not as always."""
        self.log = io.StringIO()
        quick_server.set_log_file(log or self.log)
        self._descriptors = len(os.listdir("/proc/self/fd"))
        self.clock = Clock()
        self.selector = FaultySelector(wakes)
        self.gate = Gate()
        with pytest.MonkeyPatch.context() as patches:
            patches.setattr("quick_server.server.Reactor", lambda: Reactor(self.clock, self.selector))
            patches.setattr("quick_server.server.Limits", lambda: Limits(**limits))
            self.server = server = create_server(("127.0.0.1", 0))
        server.no_command_loop = True
        server.access_log = False
        configure(server)
        if server.scheme == "http":
            server._make_stream = FaultyStream
        self.door = FaultyDoor(server._sockets[0], doors, guests)
        self.door.room = room
        sock = cast("socket.socket", self.door)
        self._listener = Listener(server._reactor, sock, server.limits, server._on_connection)
        server._listeners = [self._listener]
        self.reactor = server._reactor
        self.gate.arrived = lambda: self.reactor.call_from_thread(bool)
        self.players: list[Callable[[], object]] = []
        """What is called between turns, such as upstreams; each says whether it did something."""
        self.clients: list[HandClient] = []
        self._turns = 0

    # turns ----------------------------------------------------------------------------------------

    def turn(self, patience: float = 0.0) -> bool:
        """One turn; whether something may have happened, or a thread is at work."""
        was_working = self._is_working()
        self.selector.patience = _MOMENT if was_working else patience
        self.server.turn(_MOMENT)
        is_quiet = self.selector.asleep
        if was_working and not is_quiet:  # who only polls keeps the interpreter from threads
            time.sleep(_BREATH)
        for play in self.players:
            is_quiet = not play() and is_quiet
        if is_quiet and self._listener._paused:  # until it opens again there is more to come
            self.clock.advance(self.server.limits.accept_pause)
            is_quiet = False
        self._turns = 0 if is_quiet else self._turns + 1
        assert self._turns < MOST_TURNS, f"the loop is busy without an end: {self._state()}"
        return was_working or not is_quiet

    def settle(self) -> None:
        """Turns until nothing happens any more."""
        while self.turn() or self.turn(_MOMENT):
            pass

    def until(self, condition: Callable[[], object], what: str = "what the test waits for") -> None:
        """Turns until it holds."""
        deadline = time.monotonic() + _VAIN
        while not condition():
            if self.turn(_MOMENT):
                deadline = time.monotonic() + _VAIN
            assert time.monotonic() < deadline, f"{what} did not happen"

    def advance(self, seconds: float, step: float = 1.0) -> None:
        """Lets that much time pass, in steps, and all happen that is due."""
        self.settle()
        until = self.clock.now + seconds
        while self.clock.now < until:
            self.clock.now = min(until, self.clock.now + step)
            self.settle()

    def _is_working(self) -> bool:
        jobs = sum(pool.busy + pool.waiting for pool in self._pools())
        return jobs > len(self.gate.waiting)

    def _pools(self) -> tuple[Pool, ...]:
        server = self.server
        return server._pool, server._names, server._reports, server._console._pool

    def _state(self) -> str:
        """What keeps it from its end, for whoever looks into that."""
        reactor, service = self.reactor, self.server._service
        return (
            f"busy and waiting in pools: {[(pool.busy, pool.waiting) for pool in self._pools()]}, "
            f"connections: {[connection.state(self.clock.now) for connection in service.connections]}, "
            f"calls: {list(reactor._calls)}, registered: {list(reactor._registered.values())}, "
            f"threads: {threading.enumerate()}"
        )

    # clients --------------------------------------------------------------------------------------

    def connect(self, room: int = 0) -> HandClient:
        """A client; what comes for it fills up `room` bytes in the kernel, if it does not read."""
        sock = socket.socket()
        if room:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        sock.connect(self.server.server_address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        client = HandClient(sock, self)
        self.clients.append(client)
        return client

    # the end --------------------------------------------------------------------------------------

    def calm(self) -> None:
        """From now on nothing fails."""
        self.selector.calm()
        for sock in self.door.accepted:
            sock.calm()

    @property
    def connections(self) -> int:
        """How many the server has."""
        return len(self.server._service.connections)

    def assert_at_rest(self) -> None:
        """All clients are gone: nothing of them is left, but what expires by itself."""
        self.until(lambda: not self.connections, "the end of the connections")
        self.settle()
        server = self.server
        assert server._pool.waiting == server._pool.busy == 0
        assert all(sock.fileno() == -1 for sock in self.door.accepted)
        own = len(self.server._reactor._registered)
        timers = [timer._callback for _, _, timer in self.reactor._timers.heap if timer.active]
        assert not [t for t in timers if isinstance(getattr(t, "__self__", None), Connection)]
        links = sum(state.in_use + state.idle for state in server._upstreams.states())
        assert own == 2 + links, self.server._reactor._registered  # the wake-up socket and the door

    def end(self) -> None:
        """Ends the server as `done` does; nothing of it may be left."""
        try:
            self.calm()
            self.gate.open_all()
            self.server.done = True
            for _ in range(MOST_TURNS):
                if self.reactor._stopping:
                    break
                if not self.turn():
                    self.clock.advance(self.server.shutdown_latency)
            else:
                raise AssertionError(f"the server does not end: {self._state()}")
        finally:
            for client in self.clients:
                client.close()
            self.gate.open_all()
            self.server.server_close()
            quick_server.set_log_file(None)
        assert not self.connections
        self.door.accepted.clear()
        if len(os.listdir("/proc/self/fd")) > self._descriptors:
            gc.collect()
            assert len(os.listdir("/proc/self/fd")) <= self._descriptors


class HandClient(Client):
    """A client that turns the server's loop while it waits."""

    def __init__(self, sock: socket.socket, world: HandTurned) -> None:
        super().__init__(sock)
        self._world = world
        self.has_ended = False
        """Whether the server's end, or a reset, was seen."""
        self.was_reset = False

    def send(self, data: bytes | str) -> HandClient:
        """Sends all of it, as fast as the server reads."""
        left = memoryview(data.encode("latin-1") if isinstance(data, str) else data)
        deadline = time.monotonic() + PATIENCE
        while left:
            try:
                left = left[self.sock.send(left) :]
            except BlockingIOError:
                self._world.turn()
                assert time.monotonic() < deadline, "the server does not read"
        return self

    def read(self, most: int = 65536) -> bool:
        """Takes what is there; whether there was something."""
        try:
            data = self.sock.recv(most)
        except BlockingIOError:
            return False
        except OSError:
            self.has_ended = self.was_reset = True
            return False
        self.rest += data
        self.has_ended = not data
        return bool(data)

    def read_all(self) -> None:
        """Takes all that comes until the server's end."""
        self._world.until(lambda: not self.read() and self.has_ended, "the end of the connection")

    def _fill(self) -> bool:
        self._world.until(lambda: self.read() or self.has_ended, "an answer")
        if self.was_reset:
            raise ConnectionResetError
        return not self.has_ended

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()
