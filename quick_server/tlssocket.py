"""A non-blocking socket that speaks TLS: the calls of a socket, and the errors that they raise.

Owns a connected socket and the TLS state over it. Loop thread; knows no HTTP and no event loop, and
never waits. OpenSSL gets its bytes from memory and not from the socket itself: it takes messages that
carry no data (key updates, refused renegotiations) for as long as there are any, within one call. So
what one peer may keep us busy with is what we have read of it, and that has a bound.

What `send` takes is encrypted at once, but counts as sent only as the kernel takes it. So whoever
sends keeps what does not count yet and offers it again, as with any socket, and knows of no second
buffer.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterable

from .clienthello import HelloError, HelloWatch
from .protocol.messages import FileBody

_LEAST_READ, _MOST_READ = 8 * 1024, 64 * 1024  # bytes of the peer's in one `recv`: see `_room`
_RECORD = 16 * 1024  # what a TLS record holds at most (RFC 8446 section 5.1)
_SLICE = 8 * 1024  # of the peer's bytes that OpenSSL gets at a time
_PIECE = 4 * _RECORD  # encrypted at a time: what is kept for a peer that takes nothing
_MOST_SENT = 8 * _PIECE  # bytes that one `send` keeps the loop busy with
_MOST_WAITING = 4 * _PIECE  # to have more waiting, a peer must make us talk and never listen
_HANDSHAKE = 0x16  # how a TLS record with a ClientHello begins
_UNKNOWN_NAME = b"\x15\x03\x03\x00\x02\x02\x70"  # an alert, fatal (RFC 8446 section 6)
_EMPTY = ssl.MemoryBIO()


class PlainTextError(Exception):
    """The peer does not begin with TLS, but with a letter: that may be HTTP."""


class TlsSocket:
    """The server's side of TLS over `sock`, with the certificates of `context`."""

    __slots__ = (
        "_context",
        "_hello",
        "_incoming",
        "_outgoing",
        "_promised",
        "_room",
        "_said_end",
        "_sock",
        "_tls",
        "_waiting",
        "at_end",
        "ready",
    )

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self._context = context
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None  # until there is a first byte
        self._hello: HelloWatch | None = None  # during the handshake
        self._waiting = b""  # encrypted, and not taken by the kernel yet
        self._promised = 0  # bytes of data in `_waiting` that `send` has yet to count as sent
        self._said_end = False
        # Bytes of the next `recv`. A record costs us the same however little it carries: who sends
        # many that carry nothing is given less of each turn.
        self._room = _LEAST_READ
        self.at_end = False
        """Whether the peer has ended its side; `recv` gives b"" from now on."""
        self.ready = False
        """Whether the handshake is done."""

    # a socket's -----------------------------------------------------------------------------------

    def setblocking(self, flag: bool, /) -> None:
        assert not flag, "it never blocks"
        self._sock.setblocking(flag)

    def fileno(self) -> int:
        return self._sock.fileno()

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        self._sock.setsockopt(level, option, value)

    def shutdown(self, how: int, /) -> None:
        self._sock.shutdown(how)

    def close(self) -> None:
        self._sock.close()
        # Now and not when a collector comes: OpenSSL keeps more for a connection than all of ours.
        self._tls = None
        self._incoming = self._outgoing = _EMPTY
        self._waiting = b""

    def recv(self, size: int, /) -> bytes:
        """What the peer has sent, or b"" at its end, with or without a farewell.

        Raises BlockingIOError if there is nothing, or not enough of it; PlainTextError if the peer does
        not speak TLS but text; OSError if the connection is gone, or what it carries is not TLS.
        """
        if self.at_end:
            return b""
        data = self._sock.recv(min(size, self._room))
        if not data:
            self.at_end = True
            return b""
        tls = self._tls or self._begin(data)
        self._room = _LEAST_READ
        try:
            self._look_at_names(data)
            data = self._decrypt_all(tls, data)
            self._room = min(_LEAST_READ + 4 * len(data), _MOST_READ)
            return data
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        finally:
            if self._outgoing.pending:
                self.flush()

    def send(self, data: bytes | memoryview, /) -> int:
        """Sends leading bytes of `data`; returns how many.

        If the last call did not send all it was offered, the next begins with the same bytes. Raises
        BlockingIOError if the peer takes nothing now, OSError if the connection is gone.
        """
        sent = self._settle()
        view = memoryview(data)
        while not self._waiting and sent < min(len(view), _MOST_SENT):
            self._promised = self._encrypt(view[sent : sent + _PIECE])
            self.flush()
            sent += self._count()
        return self._unless_none(sent, len(view))

    def sendmsg(self, parts: Iterable[memoryview], /) -> int:
        """The same for several parts in a row: small ones leave in one record."""
        first, *others = parts
        if len(first) >= _PIECE:
            return self.send(first)
        joined = bytearray(first)
        for part in others:
            joined += part[: _PIECE - len(joined)]
        return self.send(memoryview(joined))

    # more than a socket's -------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether there is something for the kernel to take: `flush`."""
        return bool(self._waiting)

    def flush(self) -> None:
        """Gives the kernel as much as it takes. Raises OSError if the connection is gone."""
        waiting = self._waiting
        if self._outgoing.pending:
            waiting = waiting + self._outgoing.read() if waiting else self._outgoing.read()
        if not waiting:
            return
        try:
            sent = self._sock.send(waiting)
        except BlockingIOError:
            sent = 0
        self._waiting = waiting[sent:]
        if len(self._waiting) > _MOST_WAITING:
            raise ConnectionAbortedError("the peer does not listen")

    def send_file(self, body: FileBody, count: int) -> int:
        """Sends at most `count` bytes of a file, as `send` does; 0 at its end."""
        sent = self._settle()
        while not self._waiting and sent < count:
            data = os.pread(body.file.fileno(), min(count - sent, _PIECE), body.offset + sent)
            if not data:
                return sent
            self._promised = self._encrypt(memoryview(data))
            self.flush()
            sent += self._count()
        return self._unless_none(sent, count)

    def send_end(self) -> bool:
        """Tells the peer that nothing more will come; returns whether that, and all before, is out.

        To be called again until it is. Raises OSError if the connection is gone.
        """
        if self.ready and not self._said_end:
            self._said_end = True
            assert self._tls is not None
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # it would wait for the peer to say so, too
        self.flush()
        return not self._waiting

    # ----------------------------------------------------------------------------------------------

    def _begin(self, data: bytes) -> ssl.SSLObject:
        if data[:1].isalpha():
            raise PlainTextError
        if data[0] != _HANDSHAKE:
            raise ConnectionAbortedError("neither TLS nor HTTP")
        tls = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._tls = tls
        self._hello = HelloWatch()
        return tls

    def _look_at_names(self, data: bytes) -> None:
        if self._hello is None:
            return
        try:
            self._hello.look(data)
        except HelloError as error:
            if not self._waiting:
                self._sock.send(_UNKNOWN_NAME)
            raise ConnectionAbortedError(str(error)) from None

    def _decrypt_all(self, tls: ssl.SSLObject, data: bytes) -> bytes:
        """What can be read of `data` and what came before. Raises SSLWantReadError if that is nothing.

        OpenSSL gets it in slices: its buffers are as long as the longest that they have ever held.
        """
        if len(data) <= _SLICE:
            self._incoming.write(data)
            return self._decrypt(tls)
        pieces: list[bytes] = []
        for start in range(0, len(data), _SLICE):
            self._incoming.write(data[start : start + _SLICE])
            try:
                pieces.append(self._decrypt(tls))
            except ssl.SSLWantReadError:
                pass
            if self.at_end:
                break
        if not pieces:
            raise ssl.SSLWantReadError
        return b"".join(pieces)

    def _decrypt(self, tls: ssl.SSLObject) -> bytes:
        """All that can be read of what came. Raises SSLWantReadError if that is nothing."""
        if not self.ready:
            tls.do_handshake()
            self.ready = True
            self._hello = None
        data = tls.read(_RECORD)
        if data and not self._incoming.pending and not tls.pending():  # nearly always: one record
            return data
        pieces = [data]
        try:
            while pieces[-1]:
                pieces.append(tls.read(_RECORD))
            self.at_end = True
        except ssl.SSLWantReadError:
            pass
        return b"".join(pieces)

    def _encrypt(self, data: memoryview) -> int:
        """Makes records of all of `data`, when nothing else waits; returns how much that was."""
        assert self._tls is not None
        assert not self._waiting
        done, records = 0, []
        while done < len(data):  # one by one, as OpenSSL's buffer stays as long as it ever was
            done += self._tls.write(data[done : done + _RECORD])
            records.append(self._outgoing.read())
        self._waiting = b"".join(records) if len(records) > 1 else records[0]
        return done

    def _settle(self) -> int:
        """Goes on with what waits; returns how many of the bytes offered earlier count as sent now."""
        if self._waiting:
            self.flush()
        return self._count()

    def _count(self) -> int:
        """How many of the promised bytes have come to count as sent: as many as no longer wait.

        Records are longer than their data, so this is never too soon, and right once nothing waits.
        """
        sent = max(self._promised - len(self._waiting), 0)
        self._promised -= sent
        return sent

    def _unless_none(self, sent: int, of: int) -> int:
        if of and not sent:
            raise BlockingIOError
        return sent
