"""Connecting to the first of several addresses that answers ("happy eyeballs", RFC 8305 section 5).

Loop thread; owns the sockets that are on their way, and none once it is over. An address that does not
answer soon is left to go on, while the next is tried beside it; one that fails gives way at once. It
never waits, knows no names and has no time limit: its owner cancels it.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from .names import Address
from .reactor import WRITE, Reactor
from .timers import Timer

_NEXT_AFTER = 0.25  # seconds; what RFC 8305 section 5 recommends
_UNDER_WAY = (errno.EINPROGRESS, errno.EINTR)
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Dial:
    """One try to connect. After `begin`, `done` gets a connected socket, or why there is none."""

    def __init__(
        self,
        reactor: Reactor,
        addresses: Sequence[Address],
        done: Callable[[socket.socket | OSError], object],
        make_room: Callable[[], bool],
    ) -> None:
        """`make_room` is called when descriptors have run out: whether it could give one back."""
        self._reactor = reactor
        self._left = deque(addresses)
        self._done = done
        self._make_room = make_room
        self._trying: set[socket.socket] = set()
        self._timer: Timer | None = None
        self._errors: list[OSError] = []

    def begin(self) -> None:
        """Tries the first address. `done` may be called before this returns."""
        self._go_on()

    def cancel(self) -> None:
        """Ends all tries; `done` is not called."""
        self._left.clear()
        self._stop_timer()
        for sock in self._trying:
            self._reactor.unregister(sock)
            sock.close()
        self._trying.clear()

    def _go_on(self) -> None:
        """Tries the next address; if that fails right away, the one after it."""
        self._stop_timer()
        while self._left:
            family, address = self._left.popleft()
            try:
                sock = self._open(family)
            except OSError as error:
                self._errors.append(error)
                continue
            code = _start(sock, address)
            if code == 0:
                self._win(sock)
                return
            if code in _UNDER_WAY:
                self._trying.add(sock)
                self._reactor.register(sock, WRITE, functools.partial(self._on_writable, sock))
                if self._left:
                    self._timer = self._reactor.call_later(_NEXT_AFTER, self._go_on)
                return
            sock.close()
            self._note(code)
        if not self._trying:
            self._done(self._reason())

    def _on_writable(self, sock: socket.socket, _mask: int) -> None:
        self._trying.discard(sock)
        self._reactor.unregister(sock)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0 and not _is_its_own_peer(sock):
            self._win(sock)
            return
        sock.close()
        self._note(code or errno.ECONNREFUSED)
        self._go_on()

    def _win(self, sock: socket.socket) -> None:
        self.cancel()
        self._done(sock)

    def _open(self, family: socket.AddressFamily) -> socket.socket:
        try:
            return _new_socket(family)
        except OSError as error:
            if error.errno not in _EXHAUSTED or not self._make_room():
                raise
        return _new_socket(family)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _note(self, code: int) -> None:
        self._errors.append(OSError(code, os.strerror(code)))

    def _reason(self) -> OSError:
        """What went wrong, each reason once."""
        texts = dict.fromkeys(error.strerror or str(error) for error in self._errors)
        codes = {error.errno for error in self._errors}
        code = codes.pop() if len(codes) == 1 else None
        return OSError(code or errno.EIO, "; ".join(texts) or "it has no address")


def _new_socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _start(sock: socket.socket, address: object) -> int:
    """Begins to connect; an error number, 0 if it is connected."""
    try:
        code = sock.connect_ex(address)  # type: ignore[arg-type] # what it is depends on the family
    except OSError as error:  # a path that is too long has no number
        return error.errno or errno.ENAMETOOLONG
    except (OverflowError, ValueError):  # no port, or a path with a NUL
        return errno.EINVAL
    if code == 0 and _is_its_own_peer(sock):
        return errno.ECONNREFUSED
    return code


def _is_its_own_peer(sock: socket.socket) -> bool:
    """Whether TCP has connected it to itself.

    That happens where nobody listens, if the kernel picks just that port for this end, too.
    """
    if sock.family == socket.AF_UNIX:
        return False
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:  # gone already: whoever reads will learn of it
        return False
