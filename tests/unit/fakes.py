"""What unit tests put in the place of time, waiting and the other end of a connection."""

from __future__ import annotations

import array
import fcntl
import selectors
import socket
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from quick_server.reactor import Reactor
from tests.harness import PATIENCE


class Clock:
    """Stands still until a test moves it."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class SleeplessSelector(selectors.DefaultSelector):
    """The real selector, except that it never waits and notes how long it was asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.patience: list[float | None] = []
        self.meanwhile: Callable[[], object] | None = None
        """Called once, while the loop believes that it sleeps."""
        self.afterwards: Callable[[], object] | None = None
        """Called once, between the report of what is ready and what is done about it."""
        self.watched: list[Any] = []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self.watched.append(fileobj)
        return super().register(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.patience.append(timeout)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        ready = super().select(0)
        if ready and self.afterwards is not None:
            afterwards, self.afterwards = self.afterwards, None
            afterwards()
        return ready

    def wake_up_bytes(self) -> int:
        """How many bytes lie at the wake-up socket: the first thing that a reactor watches."""
        waiting = array.array("i", [0])
        fcntl.ioctl(self.watched[0], termios.FIONREAD, waiting)
        return waiting[0]


@contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP connection: unlike a socketpair it can be reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname(), timeout=PATIENCE)
        near, _ = listener.accept()
    with near, far:
        yield near, far


def turn_until(reactor: Reactor, condition: Callable[[], object]) -> None:
    """Turns the loop, which sleeps while nothing happens, until `condition` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        left = deadline - time.monotonic()
        assert left > 0, "what the test waits for did not happen"
        reactor.turn(left)


def take(reactor: Reactor, peer: socket.socket, size: int | None = None) -> bytes:
    """Turns the loop while `peer` reads: that many bytes, or all until the other side's end."""
    taken = b""
    deadline = time.monotonic() + PATIENCE
    before = peer.gettimeout()
    peer.setblocking(False)
    try:
        while size is None or len(taken) < size:
            assert time.monotonic() < deadline, f"only {len(taken)} bytes came"
            reactor.turn(0)
            try:
                data = peer.recv(65536 if size is None else size - len(taken))
            except BlockingIOError:
                continue
            if not data:
                assert size is None, f"the stream ended after {len(taken)} of {size} bytes"
                break
            taken += data
    finally:
        peer.settimeout(before)
    return taken
