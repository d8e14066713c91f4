"""Listening sockets: binding them, and accepting what comes.

Loop thread, except for `listen`, which runs where the server is made. Running out of descriptors
pauses accepting instead of spinning, and says so once; so does a limit of connections of which none
can make room.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Any, Protocol

from . import handover
from .limits import Limits
from .log import log_server
from .reactor import READ, Reactor

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_LOCAL_NAMES = ("", "localhost")
_SAY_EVERY = 10.0  # seconds
_PORT_TRIES = 20  # a port that is free on one loopback family may be taken on the other


def listen(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Listening sockets for an address.

    '' and 'localhost' give one for every loopback family that the machine has, all on one port;
    '::' takes IPv4 too. Port 0 picks a free one. What an earlier run of the script has left for this
    address is taken as it is. Raises OSError naming the address.
    """
    if not 0 <= port <= 65535:
        raise OSError(errno.EINVAL, f"cannot listen on {host}:{port}: a port is 0 to 65535")
    inherited = _inherited(host, port, backlog)
    if inherited:
        return inherited
    if host not in _LOCAL_NAMES:
        return [_listen_on(*_lookup(host, port), backlog)]
    for attempt in range(_PORT_TRIES):
        first = _listen_on(socket.AF_INET, ("127.0.0.1", port), backlog)
        same_port = first.getsockname()[1]
        try:
            return [first, _listen_on(socket.AF_INET6, ("::1", same_port), backlog)]
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                return [first]  # a machine without IPv6
            first.close()
            if port or attempt == _PORT_TRIES - 1:
                raise
    raise AssertionError("unreachable")


def _inherited(host: str, port: int, backlog: int) -> list[socket.socket]:
    """What was left for that address, if that can be listened on; nothing else is in the way then."""
    sockets = handover.take(host, port)
    try:
        for sock in sockets:
            sock.listen(backlog)
            sock.setblocking(False)
    except OSError:  # its listening had been ended, and somebody else was faster
        for sock in sockets:
            stop_listening(sock)
        sockets = []
    if not sockets and port:
        handover.release(port)
    return sockets


def stop_listening(sock: socket.socket) -> None:
    """Closes a listening socket; the kernel refuses whoever comes now."""
    handover.let_go(sock)
    sock.close()


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach that address."""
    return address.startswith("127.") or address == "::1"


def _lookup(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise _naming(host, port, error) from None
    except UnicodeError:  # not a name that DNS could hold
        raise OSError(errno.EINVAL, f"cannot listen on {host}:{port}: not a host name") from None
    return found[0][0], found[0][4]


def _listen_on(family: socket.AddressFamily, address: Any, backlog: int) -> socket.socket:
    shown = f"[{address[0]}]" if family == socket.AF_INET6 else address[0]
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _naming(shown, address[1], error) from None
    try:
        if os.name == "posix":  # elsewhere it would allow to steal the port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address[0] != "::")
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise _naming(shown, address[1], error) from None
    return sock


def _naming(host: str, port: int, error: OSError) -> OSError:
    return OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}")


class Room(Protocol):
    """What a listener asks before it accepts."""

    def is_reached(self) -> bool:
        """Whether there are as many connections as there may be."""

    def make_room(self) -> bool:
        """Whether there is room for another, if need be in the place of one."""

    def give_way(self) -> None:
        """Gives back descriptors, which have run out, if it can."""


class Listener:
    """Accepts connections of one listening socket and hands them to `on_connection`."""

    __slots__ = (
        "_limits",
        "_on_connection",
        "_open",
        "_paused",
        "_reactor",
        "_room",
        "_said_at",
        "_sock",
    )

    def __init__(
        self,
        reactor: Reactor,
        sock: socket.socket,
        limits: Limits,
        on_connection: Callable[[socket.socket, Any], object],
        room: Room | None = None,
    ) -> None:
        """Without `room` there may be as many connections as there are descriptors."""
        self._reactor = reactor
        self._sock = sock
        self._limits = limits
        self._on_connection = on_connection
        self._room = room
        self._open = True
        self._paused = False
        self._said_at = -_SAY_EVERY  # when the log was told that accepting fails
        reactor.register(sock, READ, self._on_ready)

    def close(self) -> None:
        """Stops accepting; the kernel refuses whoever comes now."""
        if self._open:
            self._open = False
            if not self._paused:
                self._reactor.unregister(self._sock)
            stop_listening(self._sock)

    def _on_ready(self, _mask: int) -> None:
        room = self._room
        for count in range(self._limits.accepts_per_turn):
            if room is not None and room.is_reached():
                if count:
                    return  # only at the beginning it is known that somebody waits
                if not room.make_room():
                    self._pause("there are as many as there may be, and none is idle")
                    return
            try:
                sock, address = self._sock.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    self._pause(str(error.strerror))
                    if room is not None:
                        room.give_way()
                return  # else: that client has gone again
            try:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                sock.close()  # reset right after it connected
                continue
            self._on_connection(sock, address)
            if not self._open:
                return

    def _pause(self, why: str) -> None:
        now = self._reactor.now()
        if now - self._said_at >= _SAY_EVERY:
            self._said_at = now
            log_server(f"cannot accept connections: {why}; trying until it works")
        self._paused = True
        self._reactor.unregister(self._sock)
        self._reactor.call_later(self._limits.accept_pause, self._resume)

    def _resume(self) -> None:
        self._paused = False
        if self._open:
            self._reactor.register(self._sock, READ, self._on_ready)
