"""The other side of a stream, with and without TLS: it does as it is told, and never waits."""

from __future__ import annotations

import atexit
import shutil
import socket
import ssl
import tempfile
from contextlib import suppress
from functools import cache
from pathlib import Path

from tests.certificates import Authority, Issued
from tests.unit.test_tls_stream import Peer


class PlainPeer:
    """The other side, over bare TCP."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.setblocking(False)
        self.received = bytearray()
        self.raw_end = False

    def send(self, data: bytes) -> int:
        """Returns how much the kernel took."""
        return self.sock.send(data)

    def take(self, size: int) -> None:
        with suppress(BlockingIOError):
            data = self.sock.recv(size)
            self.received += data
            self.raw_end = not data

    def end(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)


class TlsPeer:
    """The other side, over TLS."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.peer = Peer(sock, trusted())
        self.is_ready = False

    @property
    def received(self) -> bytes:
        return self.peer.received

    @property
    def raw_end(self) -> bool:
        return self.peer.raw_end

    def shake(self) -> None:
        self.peer.take()
        self.is_ready = self.is_ready or self.peer.shake()
        self.peer.send()

    def send(self, data: bytes) -> int:
        data = data[:5000]  # the kernel has to take all of it
        self.peer.send(data)
        return len(data)

    def take(self, size: int) -> None:
        self.peer.take(size)
        self.peer.read()

    def end(self) -> None:
        self.peer.end()
        self.peer.send()
        self.sock.shutdown(socket.SHUT_WR)


@cache
def _authority() -> Authority:
    folder = Path(tempfile.mkdtemp(prefix="quick_server-fuzz-"))
    atexit.register(shutil.rmtree, folder)
    return Authority(folder)


@cache
def issued() -> Issued:
    """The server's certificate."""
    return _authority().issue()


def trusted() -> ssl.SSLContext:
    """For clients."""
    return _authority().trusted()
