"""A byte stream over TLS: what differs from one over bare TCP.

Loop thread. Owns a `TlsSocket`, through which the stream reads and writes; here is what a TLS
connection needs beside that: it may have to write when its owner does not (handshake, farewell), and
its peer's end may lie in what was read already. A peer that speaks plain HTTP is told so in plain
HTTP; the rest of what fails in a handshake just ends the connection.

A step of a handshake keeps the loop busy for up to some milliseconds, as it takes a signature. So a
turn of the loop has room for a few, of all connections together; whoever comes then stands in line, so
that clients that come all at once do not hold up those that are there.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from typing import Protocol

from .limits import Limits
from .protocol.messages import FileBody
from .reactor import READ, WRITE, Reactor
from .stream import Stream, StreamOwner
from .tlssocket import PlainTextError, TlsSocket

_STEPS_PER_TURN = 4


class Handshakes:
    """Whose turn it is to go on with a handshake, among the connections of one server."""

    def __init__(self) -> None:
        self._left = _STEPS_PER_TURN  # in this turn of the loop
        self._line: deque[TlsStream] = deque()
        self._is_counting = False  # a call will come that begins anew

    def may_go_on(self, stream: TlsStream, reactor: Reactor) -> bool:
        """Whether there is room for a step; if not, `go_on` of that stream is called later, once."""
        if not self._is_counting:
            self._is_counting = True
            reactor.call_soon(lambda: self._begin_anew(reactor))
        if self._left and not self._line:
            self._left -= 1
            return True
        self._line.append(stream)
        return False

    def _begin_anew(self, reactor: Reactor) -> None:
        self._left = _STEPS_PER_TURN
        self._is_counting = bool(self._line)
        if self._is_counting:
            reactor.go_on(lambda: self._begin_anew(reactor))
        while self._left and self._line:
            stream = self._line.popleft()
            if not stream.closed:
                self._left -= 1
                stream.go_on()


class TlsStreamOwner(StreamOwner, Protocol):
    """What a TLS stream calls, on the loop thread."""

    def spoke_plainly(self) -> None:
        """The peer began with plain text, and so does what is written from now on."""


class SecureStream(Stream):
    """One connection's bytes, encrypted: what both sides have in common."""

    __slots__ = ("_plain", "_tls")

    def __init__(
        self, tls: TlsSocket, reactor: Reactor, sock: socket.socket, owner: StreamOwner, limits: Limits
    ) -> None:
        """`tls` speaks over `sock`."""
        self._tls: TlsSocket | None = tls  # None: it is plain text after all
        self._plain = sock
        super().__init__(reactor, tls, owner, limits)

    def resume_reading(self) -> None:
        super().resume_reading()
        self._look_for_end()

    def close(self) -> None:
        super().close()
        self._recv = self._plain.recv  # dropped unread: no need to decrypt it

    def drop(self) -> None:
        tls = self._tls
        if tls is not None and not self.closed and not self.pending:
            try:
                tls.send_end()
            except OSError:
                pass  # it is gone
        super().drop()

    # what a stream does differently ---------------------------------------------------------------

    def _send_file(self, body: FileBody, count: int) -> int:
        if self._tls is None:
            return super()._send_file(body, count)
        return self._tls.send_file(body, count)

    def _half_close(self) -> None:
        try:
            if self._tls is not None and not self._tls.send_end():
                self._watch()  # `_on_ready` goes on
                return
        except OSError:  # the peer is gone
            self._lose()
            return
        super()._half_close()

    def _interest(self) -> int:
        events = super()._interest()
        return events | WRITE if self._tls is not None and self._tls.waiting else events

    def _on_ready(self, mask: int) -> None:
        if mask & WRITE and not self._out and self._tls is not None:
            self._flush_tls(self._tls)
        if not self.closed:
            super()._on_ready(mask)

    def _on_readable(self) -> None:
        super()._on_readable()
        self._watch()
        self._look_for_end()

    # ----------------------------------------------------------------------------------------------

    def _flush_tls(self, tls: TlsSocket) -> None:
        """The peer takes more of what we have to say, although the owner said nothing."""
        try:
            tls.flush()
        except OSError:  # the peer is gone
            self._lose()
            return
        self._watch()
        if (self.closing or self.ending) and not tls.waiting:
            self._half_close()

    def _look_for_end(self) -> None:
        """The peer's farewell may have come with its last data: no selector will tell of it."""
        if self._tls is not None and self._tls.at_end and self._has_end_to_tell():
            self._reactor.call_soon(self._tell_end)

    def _tell_end(self) -> None:
        if self._has_end_to_tell():
            self._on_ready(READ)

    def _has_end_to_tell(self) -> bool:
        return self._reading and not (self._ended or self.closing or self.closed)


class TlsStream(SecureStream):
    """The server's side of it."""

    __slots__ = ("_handshakes", "_in_line", "_is_admitted", "_tls_owner")

    def __init__(
        self,
        context: ssl.SSLContext,
        reactor: Reactor,
        sock: socket.socket,
        owner: TlsStreamOwner,
        limits: Limits,
        handshakes: Handshakes | None = None,
    ) -> None:
        """`handshakes` is shared by the connections of a server."""
        self._handshakes = handshakes or Handshakes()
        self._in_line = False  # nothing is read meanwhile
        self._is_admitted = False  # the next step of the handshake
        self._tls_owner = owner
        super().__init__(TlsSocket(context, sock), reactor, sock, owner, limits)

    def go_on(self) -> None:
        """For `Handshakes`: there is room for a step."""
        self._in_line, self._is_admitted = False, True
        self._watch()
        if self._reading and not self._ended:
            self._on_ready(READ)

    def _interest(self) -> int:
        events = super()._interest()
        return events & ~READ if self._in_line else events

    def _on_readable(self) -> None:
        if not self._may_read():
            return
        try:
            super()._on_readable()
        except PlainTextError:
            self._speak_plainly()

    def _may_read(self) -> bool:
        """Whether what is read now keeps the loop busy for a short time only."""
        if self._tls is None or self._tls.ready or self.closing:
            return True
        admitted, self._is_admitted = self._is_admitted, False
        if admitted or self._in_line:
            return admitted
        self._in_line = not self._handshakes.may_go_on(self, self._reactor)
        self._watch()
        return not self._in_line

    def _speak_plainly(self) -> None:
        self._tls = None
        self._sock = self._plain
        self._recv = self._plain.recv
        self._tls_owner.spoke_plainly()
