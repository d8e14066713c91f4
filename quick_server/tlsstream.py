"""A byte stream over TLS: what differs from one over bare TCP.

Loop thread. Owns a `TlsSocket`, through which the stream reads and writes; here is what a TLS
connection needs beside that: it may have to write when its owner does not (handshake, farewell), and
its peer's end may lie in what was read already. A peer that speaks plain HTTP is told so in plain
HTTP; the rest of what fails in a handshake just ends the connection.
"""

from __future__ import annotations

import socket
import ssl
from typing import Protocol

from .limits import Limits
from .protocol.messages import FileBody
from .reactor import READ, WRITE, Reactor
from .stream import Stream, StreamOwner
from .tlssocket import PlainTextError, TlsSocket


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

    __slots__ = ("_tls_owner",)

    def __init__(
        self,
        context: ssl.SSLContext,
        reactor: Reactor,
        sock: socket.socket,
        owner: TlsStreamOwner,
        limits: Limits,
    ) -> None:
        self._tls_owner = owner
        super().__init__(TlsSocket(context, sock), reactor, sock, owner, limits)

    def _on_readable(self) -> None:
        try:
            super()._on_readable()
        except PlainTextError:
            self._speak_plainly()

    def _speak_plainly(self) -> None:
        self._tls = None
        self._sock = self._plain
        self._recv = self._plain.recv
        self._tls_owner.spoke_plainly()
