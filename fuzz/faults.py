"""Sockets and a selector that fail as a plan says: what a kernel may do, when it is least wanted.

The sockets are real, so that bytes are; a plan only decides how each call on them goes. A plan has an
end, after which all goes well: whatever is still wrong then is not the plan's.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
from collections import deque
from collections.abc import Iterable
from enum import Enum
from typing import Any

from hypothesis import strategies as st

from quick_server.protocol.messages import FileBody
from quick_server.stream import Stream


class Call(Enum):
    """How a call on a socket goes."""

    FINE = 0
    AGAIN = errno.EAGAIN
    ONE = "one"
    """A single byte is read or taken."""
    FEW = "few"
    RESET = errno.ECONNRESET
    PIPE = errno.EPIPE
    TIMED_OUT = errno.ETIMEDOUT
    NO_BUFFERS = errno.ENOBUFS
    INTERRUPTED = errno.EINTR
    """Python tries again by itself (PEP 475), so this should not be seen; if it is, it is an error."""


FEWER = {Call.ONE: 1, Call.FEW: 7}
"""How many bytes are moved at most."""
SOFT = [Call.FINE, Call.AGAIN, Call.ONE, Call.FEW]
HARD = [Call.RESET, Call.PIPE, Call.TIMED_OUT, Call.NO_BUFFERS, Call.INTERRUPTED]


class Wake(Enum):
    """How a wait for descriptors goes."""

    FINE = 0
    LATE = 1
    """What is ready is not told yet."""
    SPURIOUS = 2
    """Everything is said to be ready."""
    REVERSED = 3
    FIRST = 4
    """One of those that are ready is told of."""
    STALE = 5
    """Registrations that have ended are said to be ready, too."""


class Door(Enum):
    """How an accept goes."""

    FINE = 0
    AGAIN = errno.EAGAIN
    ABORTED = errno.ECONNABORTED
    NO_DESCRIPTORS = errno.EMFILE
    NO_BUFFERS = errno.ENOBUFS
    NO_MEMORY = errno.ENOMEM


soft_calls = st.lists(st.sampled_from(SOFT), max_size=30)
"""Nothing that would end a connection."""
any_calls = st.builds(
    lambda before, hard: [*before, *hard], soft_calls, st.lists(st.sampled_from(HARD), max_size=1)
)
wakes = st.lists(st.sampled_from(Wake), max_size=30)
doors = st.lists(st.sampled_from(Door), max_size=6)


class FaultySocket:
    """A connected, non-blocking socket whose calls go by a plan."""

    def __init__(self, sock: socket.socket, plan: Iterable[Call] = ()) -> None:
        self.real = sock
        self._plan = deque(plan)
        self.error: OSError | None = None
        """What ended the connection; from then on each call fails with it."""

    def calm(self) -> None:
        """The plan is over."""
        self._plan.clear()

    def allow(self, size: int) -> int:
        """How many of so many bytes the next call moves. Raises OSError if it fails."""
        if self.error is not None:
            raise self.error
        call = self._plan.popleft() if self._plan else Call.FINE
        if call is Call.FINE:
            return size
        if call in FEWER:
            return min(size, FEWER[call])
        error = OSError(call.value, os.strerror(call.value))
        if call is not Call.AGAIN:
            self.error = error
        raise error

    def recv(self, size: int, /) -> bytes:
        return self.real.recv(self.allow(size))

    def send(self, data: bytes | memoryview, /) -> int:
        return self.real.send(memoryview(data)[: self.allow(len(data))])

    def sendmsg(self, parts: Iterable[memoryview], /) -> int:
        parts = list(parts)
        allowed = self.allow(sum(map(len, parts)))
        leading = []
        for part in parts:
            leading.append(part[:allowed])
            allowed -= len(leading[-1])
        return self.real.sendmsg(leading)

    def setsockopt(self, level: int, option: int, value: bytes | int, /) -> None:
        if self.error is not None:
            raise self.error
        self.real.setsockopt(level, option, value)

    def shutdown(self, how: int, /) -> None:
        if self.error is not None:
            raise self.error
        self.real.shutdown(how)

    def setblocking(self, flag: bool, /) -> None:
        self.real.setblocking(flag)

    def fileno(self) -> int:
        return self.real.fileno()

    def close(self) -> None:
        self.real.close()


class FaultyStream(Stream):
    """A stream whose files leave by the plan of its socket, too."""

    __slots__ = ()

    def _send_file(self, body: FileBody, count: int) -> int:
        assert isinstance(self._sock, FaultySocket)
        return super()._send_file(body, self._sock.allow(count))


class FaultyDoor:
    """A listening socket whose accepts go by a plan; each guest's socket gets one of the others."""

    def __init__(
        self, sock: socket.socket, plan: Iterable[Door], guests: Iterable[Iterable[Call]]
    ) -> None:
        self.real = sock
        self._plan = deque(plan)
        self._guests = deque(guests)
        self.accepted: list[FaultySocket] = []
        self.room = 0
        """Bytes that the kernel keeps for a client that does not read; 0: as many as it likes."""

    def accept(self) -> tuple[FaultySocket, Any]:
        outcome = self._plan.popleft() if self._plan else Door.FINE
        if outcome is not Door.FINE:
            raise OSError(outcome.value, os.strerror(outcome.value))
        sock, address = self.real.accept()
        if self.room:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.room)
        self.accepted.append(FaultySocket(sock, self._guests.popleft() if self._guests else ()))
        return self.accepted[-1], address

    def fileno(self) -> int:
        return self.real.fileno()

    def getsockname(self) -> Any:
        return self.real.getsockname()

    def close(self) -> None:
        self.real.close()


class FaultySelector(selectors.DefaultSelector):
    """The real selector, which goes by a plan, and never waits for longer than it is allowed to."""

    def __init__(self, plan: Iterable[Wake] = ()) -> None:
        super().__init__()
        self._plan = deque(plan)
        self._ended: deque[selectors.SelectorKey] = deque(maxlen=20)
        self.patience = 0.0
        """The most that is waited for."""
        self.asleep = False
        """Whether the last wait was a real one, and in vain."""

    def calm(self) -> None:
        """The plan is over."""
        self._plan.clear()

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        key = super().unregister(fileobj)
        self._ended.append(key)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self._ended.append(self.get_key(fileobj))
        return super().modify(fileobj, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        may_wait = timeout is None or timeout > 0
        ready = super().select(self.patience if may_wait else 0)
        self.asleep = may_wait and not ready
        if not self._plan:
            return ready
        wake = self._plan.popleft()
        self.asleep = self.asleep and wake is Wake.FINE
        if wake is Wake.LATE:
            return []
        if wake is Wake.SPURIOUS:
            return [(key, key.events) for key in list(self.get_map().values())]
        if wake is Wake.REVERSED:
            return ready[::-1]
        if wake is Wake.FIRST:
            return ready[:1]
        if wake is Wake.STALE:
            return [(key, key.events) for key in self._ended] + ready
        return ready
