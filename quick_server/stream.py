"""A non-blocking byte stream over one connected socket.

Owns the socket: only this file reads, writes, half-closes and closes it, always on the loop thread.
It never blocks, keeps what the kernel does not take yet, and knows no HTTP. Its owner is told what
happens through `StreamOwner`; after `lost` nothing is called any more.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import deque
from typing import Protocol

from .limits import Limits
from .protocol.messages import FileBody
from .reactor import READ, WRITE, Reactor

_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close sends a reset


class StreamOwner(Protocol):
    """What a stream calls, on the loop thread."""

    def data_received(self, data: bytes) -> None:
        """Bytes arrived; b"" once when the peer has ended its side."""

    def drained(self) -> None:
        """Everything that was written has been handed to the kernel, after a wait."""

    def progressed(self) -> None:
        """The peer took some of what waits for it."""

    def lost(self) -> None:
        """The socket is closed: asked for, or because the peer is gone. Called once."""


class Stream:
    """One connection's bytes. Reading starts at once; `close` or `abort` end it."""

    __slots__ = (
        "_ended",
        "_events",
        "_file",
        "_limits",
        "_out",
        "_owner",
        "_reactor",
        "_reading",
        "_recv",
        "_sock",
        "closed",
        "closing",
    )

    def __init__(
        self, reactor: Reactor, sock: socket.socket, owner: StreamOwner, limits: Limits
    ) -> None:
        sock.setblocking(False)
        self._reactor = reactor
        self._sock = sock
        self._recv = sock.recv
        self._owner = owner
        self._limits = limits
        self._out: deque[memoryview] = deque()
        self._file: FileBody | None = None  # follows what is in _out
        self._reading = True
        self._ended = False  # the peer's side
        self.closing = False  # flush, half-close, then drop what still comes
        self._events = READ
        self.closed = False
        reactor.register(sock, READ, self._on_ready)

    # writing --------------------------------------------------------------------------------------

    def write(self, *parts: bytes) -> bool:
        """Sends the parts in order, in one system call if the kernel takes them.

        Returns whether all went out; if not, `drained` follows.
        """
        assert not self.closing, "the stream is closing"
        if self.closed:
            return True
        if self.pending:
            self._out.extend(memoryview(part) for part in parts)
            return False
        self._send(parts)
        self._watch()
        return not self.pending

    def write_file(self, head: bytes, body: FileBody) -> bool:
        """Sends `head`, then the part of the file, and closes its descriptor.

        As `write`; a file that turns out shorter than promised aborts the connection.
        """
        assert not self.pending, "a file starts an answer"
        if self.closed:
            os.close(body.descriptor)
            return True
        self._file = body  # from here on `_lose` closes it
        self._send((head,))
        if self._file is not None and not self._out:
            self._send_slice()
        self._watch()
        return not self.pending

    def _send(self, parts: tuple[bytes, ...]) -> None:
        """Gives the kernel what it takes, and keeps the rest."""
        try:
            sent = self._sock.send(parts[0]) if len(parts) == 1 else self._sock.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lose()
            return
        for part in parts:
            if sent >= len(part):
                sent -= len(part)
            else:
                self._out.append(memoryview(part)[sent:])
                sent = 0

    @property
    def pending(self) -> bool:
        """Whether something waits for the peer to take it."""
        return bool(self._out) or self._file is not None

    def _flush(self) -> None:
        """The peer takes more: one `send` or one slice of a file."""
        if self._out:
            part = self._out[0]
            sent = self._sock.send(part)
            if sent < len(part):
                self._out[0] = part[sent:]
            else:
                self._out.popleft()
        elif self._file is not None:
            self._send_slice()
        if self.closed:
            return
        if self.pending:
            self._owner.progressed()
            return
        self._watch()
        if self.closing:
            self._half_close()
        if not self.closed:
            self._owner.drained()

    def _send_slice(self) -> None:
        body = self._file
        assert body is not None
        try:
            count = min(body.length, self._limits.send_slice)
            sent = os.sendfile(self._sock.fileno(), body.descriptor, body.offset, count)
        except BlockingIOError:
            return
        except OSError:
            self._lose()
            return
        if sent == 0 or sent == body.length:
            self._file = None
            os.close(body.descriptor)
            if sent != body.length:  # the file shrank: what was promised cannot be kept
                self.abort()
            return
        self._file = FileBody(body.descriptor, body.offset + sent, body.length - sent)

    # reading --------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Nothing is read until `resume_reading`; the peer's bytes wait in the kernel."""
        if self._reading:
            self._reading = False
            self._watch()

    def resume_reading(self) -> None:
        """Reading goes on, if the peer has not ended its side."""
        if not self._reading:
            self._reading = True
            self._watch()

    # ending ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """What was written gets out, then our side ends, then what still comes is dropped.

        So the peer can read the last answer instead of a reset. The owner bounds the time: `drop`.
        """
        if self.closed or self.closing:
            return
        self.closing = True
        self._reading = True
        self._watch()
        if not self.pending:
            self._half_close()

    def abort(self) -> None:
        """Ends the connection now, with a reset: the peer must not take it for complete."""
        if not self.closed:
            try:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
            except OSError:
                pass  # not connected any more
            self._lose()

    def drop(self) -> None:
        """Ends the connection now; what was written still reaches a peer that behaves."""
        if not self.closed:
            self._lose()

    def _half_close(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._lose()
            return
        if self._ended:
            self._lose()

    def _lose(self) -> None:
        self.closed = True
        if self._events:
            self._events = 0
            self._reactor.unregister(self._sock)
        self._sock.close()
        self._out.clear()
        if self._file is not None:
            os.close(self._file.descriptor)
            self._file = None
        self._owner.lost()

    # readiness ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Tells the reactor what we wait for now."""
        if self.closed:
            return
        events = READ if self._reading and not self._ended else 0
        if self.pending:
            events |= WRITE
        if events == self._events:
            return
        if not events:
            self._reactor.unregister(self._sock)
        elif not self._events:
            self._reactor.register(self._sock, events, self._on_ready)
        else:
            self._reactor.modify(self._sock, events, self._on_ready)
        self._events = events

    def _on_ready(self, mask: int) -> None:
        try:
            if mask & READ:
                self._on_readable()
            if mask & WRITE and not self.closed and self.pending:
                self._flush()
        except BlockingIOError:
            pass
        except OSError:  # the peer is gone
            self._lose()

    def _on_readable(self) -> None:
        data = self._recv(self._limits.read_chunk)
        if not data:
            self._ended = True
            self._watch()
        if not self.closing:
            self._owner.data_received(data)
        elif not data and not self.pending:
            self._lose()
