"""A non-blocking byte stream over one connected socket.

Owns the socket: only this file reads, writes, half-closes and closes it, always on the loop thread.
It never blocks, keeps what the kernel does not take yet, and knows no HTTP. Its owner is told what
happens through `StreamOwner`; after `lost` nothing is called any more.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from .limits import Limits
from .protocol.messages import FileBody
from .reactor import READ, WRITE, Reactor

if sys.platform == "win32":
    _QUEUED = None
else:
    import fcntl
    import termios

    _QUEUED = getattr(termios, "TIOCOUTQ", None)

_PARTS_PER_SEND = 16  # far below what the kernel takes in one call
_LEFT = getattr(select, "POLLRDHUP", 0)  # and what is always reported: errors
_ABORT = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s: close sends a reset


class Transport(Protocol):
    """What a stream needs of its socket: never blocking, `send` and `recv` raise BlockingIOError."""

    def setblocking(self, flag: bool, /) -> None: ...
    def fileno(self) -> int: ...
    def recv(self, size: int, /) -> bytes: ...
    def send(self, data: bytes | memoryview, /) -> int: ...
    def sendmsg(self, parts: Iterable[memoryview], /) -> int: ...
    def setsockopt(self, level: int, option: int, value: bytes, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...
    def close(self) -> None: ...


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
        "_limits",
        "_out",
        "_owner",
        "_reactor",
        "_reading",
        "_recv",
        "_sock",
        "_unsent",
        "broken",
        "closed",
        "closing",
        "ending",
        "read_size",
        "reads_on",
    )

    def __init__(self, reactor: Reactor, sock: Transport, owner: StreamOwner, limits: Limits) -> None:
        sock.setblocking(False)
        self._reactor = reactor
        self._sock = sock
        self._recv = sock.recv
        self._owner = owner
        self._limits = limits
        self._out: deque[memoryview | FileBody] = deque()
        self._unsent = 0  # bytes of memory in _out
        self._reading = True
        self._ended = False  # the peer's side
        self.closing = False  # flush, half-close, then drop what still comes
        self.ending = False  # flush, half-close, and go on reading
        self._events = READ
        self.read_size = limits.read_chunk
        """The most that is read at once."""
        self.closed = False
        self.reads_on = False
        """Whether a failing write leaves the connection to be read to its end."""
        self.broken = False
        """Whether one has failed: what is written from then on goes nowhere."""
        reactor.register(sock, READ, self._on_ready)

    # writing --------------------------------------------------------------------------------------

    def write(self, *parts: bytes | FileBody) -> bool:
        """Sends the parts in order; leading bytes in one system call if the kernel takes them.

        A file is closed once its last part is sent; a file that turns out shorter than
        promised aborts the connection. Returns whether all went out; if not, `drained` follows.
        """
        assert not self.closing, "the stream is closing"
        assert not self.ending, "our side has ended"
        is_over = self.closed or self.broken
        if len(parts) == 1 and not self._out and not is_over:
            part = parts[0]
            if type(part) is bytes:  # nearly always: small, and the kernel takes it
                try:
                    sent = self._sock.send(part)
                except BlockingIOError:
                    sent = 0
                except OSError:
                    self._fail_write()
                    return True
                if sent == len(part):
                    return True
                self._out.append(memoryview(part)[sent:])
                self._unsent += len(part) - sent
                self._watch()
                return False
        waiting = self.pending
        for part in parts:
            if isinstance(part, FileBody):
                self._out.append(part)
            elif part:
                self._unsent += len(part)
                self._out.append(memoryview(part))
        if is_over:
            self._drop_output()
            return True
        if waiting:
            return False
        try:
            self._send()
            while self._out and isinstance(self._out[0], FileBody) and not self.closed:
                if not self._send_slice(self._out[0]):
                    break
        except BlockingIOError:
            pass
        except OSError:
            self._fail_write()
        self._watch()
        return not self.pending

    def _fail_write(self) -> None:
        """The peer takes nothing any more; what it has sent before may still be worth reading."""
        if not self.reads_on:
            self._lose()
            return
        self.broken = True
        self._drop_output()
        self._watch()

    @property
    def pending(self) -> bool:
        """Whether something waits for the peer to take it."""
        return bool(self._out)

    @property
    def unsent(self) -> int:
        """Bytes in memory that wait for the peer to take them; those of files do not count."""
        return self._unsent

    def _send(self) -> None:
        """Gives the kernel as much of the leading bytes as it takes. Raises OSError as `send` does."""
        out = self._out
        parts: list[memoryview] = []
        for part in out:
            if isinstance(part, FileBody) or len(parts) == _PARTS_PER_SEND:
                break
            parts.append(part)
        if not parts:
            return
        sent = self._sock.send(parts[0]) if len(parts) == 1 else self._sock.sendmsg(parts)
        self._unsent -= sent
        for part in parts:
            if sent < len(part):
                out[0] = part[sent:]
                return
            sent -= len(part)
            out.popleft()

    def _send_slice(self, body: FileBody) -> bool:
        """Sends a slice of the file that is next; returns whether that was all of it."""
        count = min(body.length, self._limits.send_slice)
        sent = self._send_file(body, count) if count else 0
        if sent < body.length and sent:
            self._out[0] = FileBody(body.file, body.offset + sent, body.length - sent)
            return False
        self._out.popleft()
        if not any(isinstance(part, FileBody) and part.file is body.file for part in self._out):
            body.file.close()
        if sent < body.length:  # the file shrank: what was promised cannot be kept
            self.abort()
        return True

    def _send_file(self, body: FileBody, count: int) -> int:
        """Sends at most `count` bytes of a file; 0 at its end. Raises OSError as `send` does."""
        return os.sendfile(self._sock.fileno(), body.file.fileno(), body.offset, count)

    def _flush(self) -> None:
        """The peer takes more: one send, or one slice of a file."""
        first = self._out[0]
        try:
            if isinstance(first, FileBody):
                self._send_slice(first)
            else:
                self._send()
        except BlockingIOError:
            return
        except OSError:  # the peer is gone
            self._fail_write()
        if self.closed:
            return
        if self.pending:
            self._owner.progressed()
            return
        self._watch()
        if self.closing or self.ending:
            self._half_close()
        if not self.closed:
            self._owner.drained()

    def _drop_output(self) -> None:
        for part in self._out:
            if isinstance(part, FileBody):
                part.file.close()
        self._out.clear()
        self._unsent = 0

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

    def read_now(self) -> None:
        """Takes what has arrived already, if there is something."""
        if self._reading and not self._ended:
            self._on_ready(READ)

    def peer_has_left(self) -> bool:
        """Whether the peer has ended its side or is gone, although nothing is read now."""
        if self._reading or self.closed:
            return False  # reading tells
        poll = select.poll()
        poll.register(self._sock.fileno(), _LEFT)
        return bool(poll.poll(0))

    def unacknowledged(self) -> int:
        """Bytes that the kernel has and the peer has not taken; 0 where the kernel does not tell."""
        if _QUEUED is None or self.closed:
            return 0
        try:
            return int.from_bytes(fcntl.ioctl(self._sock.fileno(), _QUEUED, bytes(4)), sys.byteorder)
        except OSError:
            return 0

    # ending ---------------------------------------------------------------------------------------

    def end(self) -> None:
        """What was written gets out, then our side ends; the peer's goes on, until it ends, too.

        Then the connection is lost. Nothing is written any more.
        """
        if self.closed or self.closing or self.ending:
            return
        self.ending = True
        if not self.pending:
            self._half_close()

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
        if self.closed:
            return
        self.closed = True
        if self._events:
            self._events = 0
            self._reactor.unregister(self._sock)
        self._sock.close()
        self._drop_output()
        self._owner.lost()

    # readiness ------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Tells the reactor what we wait for now."""
        if self.closed:
            return
        events = self._interest()
        if events == self._events:
            return
        if not events:
            self._reactor.unregister(self._sock)
        elif not self._events:
            self._reactor.register(self._sock, events, self._on_ready)
        else:
            self._reactor.modify(self._sock, events, self._on_ready)
        self._events = events

    def _interest(self) -> int:
        """What has to happen before there is something to do."""
        events = READ if self._reading and not self._ended else 0
        return events | WRITE if self._out else events

    def _on_ready(self, mask: int) -> None:
        try:
            if mask & READ:
                self._on_readable()
            if mask & WRITE and not self.closed and self._out:
                self._flush()
        except Exception:  # of the owner's: nobody knows what it has or has not done
            self.abort()
            raise

    def _on_readable(self) -> None:
        try:
            data = self._recv(self.read_size)
        except BlockingIOError:
            return
        except OSError:  # the peer is gone
            self._lose()
            return
        if not data:
            self._ended = True
            self._watch()
        is_last = not data and (self.closing or self.ending)
        if not self.closing:
            self._owner.data_received(data)
        if is_last and not self.pending:
            self._lose()
