"""A stream between an owner and a peer that do anything in any order, over a socket that fails.

The bytes of either side arrive in order, none lost or doubled, unless the connection is ended early;
what an owner is told comes when it may, and `lost` once, and last.
"""

from __future__ import annotations

import io
import socket
import ssl
import struct
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import cache
from typing import Any, BinaryIO

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import quick_server
from fuzz.faults import Call, FaultySelector, FaultySocket, FaultyStream, Wake, any_calls, wakes
from fuzz.peers import PlainPeer, TlsPeer, issued
from fuzz.profile import examples
from quick_server.limits import Limits
from quick_server.protocol.messages import FileBody
from quick_server.reactor import Reactor
from quick_server.stream import Stream
from quick_server.tls import new_context
from quick_server.tlsstream import TlsStream
from tests.unit.fakes import Clock, tcp_pair

pytestmark = pytest.mark.timeout(0)

MOST_TURNS = 3000
RESET = struct.pack("ii", 1, 0)
sizes = st.sampled_from([0, 1, 10, 5000, 70_000])


def pattern(start: int, size: int) -> bytes:
    """Bytes that say where they belong."""
    first, last = start // 8, (start + size) // 8 + 1
    return b"".join(b"%07d\n" % number for number in range(first, last))[start % 8 :][:size]


class OwnerError(Exception):
    """What an owner raises, who ought not to."""


class Owner:
    """Notes what it is told, and whether that was the time for it."""

    def __init__(self) -> None:
        self.stream: Stream | None = None
        self.data = bytearray()
        self.told: list[str] = []
        self.has_paused = False
        self.raises = False
        self.then: list[Callable[[], object]] = []
        """What to do when it is next told something."""

    def _note(self, what: str) -> None:
        assert "lost" not in self.told, f"{what} after the loss"
        self.told.append(what)
        then, self.then = self.then, []
        for action in then:
            action()
        if self.raises:
            self.raises = False
            raise OwnerError

    def data_received(self, data: bytes) -> None:
        assert not self.has_paused, "nothing was to be read"
        assert "end" not in self.told, "there was an end"
        self.data += data
        self._note("data" if data else "end")

    def drained(self) -> None:
        assert self.stream is not None
        assert not self.stream.pending
        self._note("drained")

    def progressed(self) -> None:
        assert self.stream is not None
        assert self.stream.pending
        self._note("progressed")

    def lost(self) -> None:
        raises, self.raises = self.raises, False  # then there is nobody left to whom it matters
        self._note("lost")
        self.raises = raises

    def spoke_plainly(self) -> None:
        raise AssertionError("the peer speaks TLS")


@cache
def _context() -> ssl.SSLContext:
    context = new_context()
    context.load_cert_chain(issued().certificate, issued().key)
    return context


class Streams(RuleBasedStateMachine):
    """One stream over bare TCP."""

    peer: PlainPeer | TlsPeer

    def __init__(self) -> None:
        super().__init__()
        self.log = io.StringIO()
        quick_server.set_log_file(self.log)
        self.stack = ExitStack()
        self.owner = Owner()
        self.sent = 0  # by the peer
        self.written = 0  # by the owner, as far as anybody had to care
        self.files: list[BinaryIO] = []
        self.has_failed = False  # something has happened after which bytes may be missing
        self.peer_has_gone = False
        self.peer_has_ended = False

    # how it begins and ends -----------------------------------------------------------------------

    @initialize(plan=any_calls, wakes=wakes)
    def connect(self, plan: list[Call], wakes: list[Wake]) -> None:
        near, far = self.stack.enter_context(tcp_pair())
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.sock = FaultySocket(near, plan)
        self.selector = FaultySelector(wakes)
        self.reactor = Reactor(Clock(), self.selector)
        self.stack.callback(self.reactor.close)
        self.limits = Limits(send_slice=20_000)
        self.stream = self.owner.stream = self.make_stream()
        self.meet(far)

    def make_stream(self) -> Stream:
        return FaultyStream(self.reactor, self.sock, self.owner, self.limits)

    def meet(self, far: socket.socket) -> None:
        self.peer = PlainPeer(far)

    def teardown(self) -> None:
        try:
            if hasattr(self, "stream"):
                self.finish()
        finally:
            self.stack.close()
            for file in self.files:
                file.close()
            quick_server.set_log_file(None)

    def finish(self) -> None:
        """From now on all goes well: what was promised has to be kept."""
        self.sock.calm()
        self.selector.calm()
        self.owner.raises = False
        self.owner.then.clear()
        if not self.stream.closed:
            self.owner.has_paused = False
            self.stream.resume_reading()
        if not self.peer_has_gone:
            self.until(self.is_settled)
        if self.is_whole and not self.stream.closed:
            assert bytes(self.peer.received) == pattern(0, self.written)
            assert self.stream.closing or bytes(self.owner.data) == pattern(0, self.sent)
            assert self.owner.told.count("end") == (self.peer_has_ended and not self.stream.closing)
        self.stream.drop()
        self.reactor.turn(0)
        assert self.owner.told.count("lost") == 1
        assert self.owner.told[-1] == "lost"
        assert self.sock.fileno() == -1
        assert len(self.selector.get_map()) == 1  # the wake-up socket
        assert all(file.closed for file in self.files)
        said = self.log.getvalue()
        assert said.count("Traceback") == said.count(f"{__name__}.OwnerError\n")

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(MOST_TURNS):
            if condition():
                return
            self.selector.patience = 0.001  # for packets, which take their way even within a machine
            self.reactor.turn()
            self.peer_takes(1 << 20)
        raise AssertionError(f"it never ended: {self.owner.told[-5:]}, {len(self.peer.received)}")

    def is_settled(self) -> bool:
        """Whether nothing more can come."""
        if self.stream.closed:
            return self.selector.asleep
        if self.stream.pending or len(self.peer.received) < self.written:
            return False
        if self.has_failed:
            return True
        if (self.stream.closing or self.stream.ending) and not self.peer.raw_end:
            return False
        has_end = self.peer_has_ended == ("end" in self.owner.told)
        has_read_all = has_end and len(self.owner.data) == self.sent
        return self.stream.closing or (has_read_all and self.selector.asleep)

    @property
    def is_whole(self) -> bool:
        """Whether nothing has happened that would excuse a loss."""
        return not (self.has_failed or self.peer_has_gone or self.sock.error)

    # what the owner does ----------------------------------------------------------------------------

    @precondition(lambda self: not (self.stream.closing or self.stream.ending))
    @rule(parts=st.lists(st.tuples(sizes, st.sampled_from([False, False, True])), max_size=4))
    def write(self, parts: list[tuple[int, bool]]) -> None:
        made: list[bytes | FileBody] = []
        total = 0
        for size, in_file in parts:
            data = pattern(self.written + total, size)
            made.append(self.in_file(data) if in_file else data)
            total += size
        is_out = self.stream.write(*made)
        assert is_out == (not self.stream.pending)
        if not (self.stream.closed or self.stream.broken):
            self.written += total

    def in_file(self, data: bytes) -> FileBody:
        file: Any = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - its stream closes it
        file.write(b"before" + data + b"behind")
        self.files.append(file)
        return FileBody(file, 6, len(data))

    @rule(parts=st.lists(st.tuples(sizes, st.booleans()), max_size=2))
    def write_when_told(self, parts: list[tuple[int, bool]]) -> None:
        def write() -> None:
            if not (self.stream.closing or self.stream.ending or self.stream.closed):
                Streams.write(self, parts)

        self.owner.then.append(write)

    @rule()
    def pause(self) -> None:
        if not self.stream.closing:
            self.stream.pause_reading()
            self.owner.has_paused = True

    @rule()
    def resume(self) -> None:
        self.owner.has_paused = False
        self.stream.resume_reading()

    @rule()
    def read_now(self) -> None:
        if not self.stream.closed:
            self.reactor.call_soon(self.stream.read_now)
            self.reactor.turn(0)

    @rule(reads_on=st.booleans())
    def read_on(self, reads_on: bool) -> None:
        self.stream.reads_on = reads_on

    @rule(how=st.sampled_from(["end", "close", "close", "abort", "drop"]), later=st.booleans())
    def finish_off(self, how: str, later: bool) -> None:
        def end() -> None:
            if how in ("abort", "drop") and not self.stream.closed:
                self.has_failed = True
            getattr(self.stream, how)()

        if later:
            self.owner.then.append(end)
        else:
            end()

    @rule()
    def fail(self) -> None:
        self.owner.raises = True

    # what the peer does -----------------------------------------------------------------------------

    @precondition(lambda self: not (self.peer_has_ended or self.peer_has_gone))
    @rule(size=sizes)
    def peer_sends(self, size: int) -> None:
        try:
            self.sent += self.peer.send(pattern(self.sent, size)) if size else 0
        except BlockingIOError:
            pass
        except OSError:
            self.peer_leaves()

    @precondition(lambda self: not self.peer_has_gone)
    @rule(size=st.sampled_from([1, 500, 9000, 1 << 20]))
    def peer_takes(self, size: int) -> None:
        try:
            self.peer.take(size)
        except OSError:
            self.peer_leaves()

    @precondition(lambda self: not (self.peer_has_ended or self.peer_has_gone))
    @rule()
    def peer_ends(self) -> None:
        try:
            self.peer.end()
            self.peer_has_ended = True
        except OSError:
            self.peer_leaves()

    @precondition(lambda self: not self.peer_has_gone)
    @rule()
    def peer_resets(self) -> None:
        self.peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.peer_leaves()

    @precondition(lambda self: not self.peer_has_gone)
    @rule()
    def peer_leaves(self) -> None:
        self.peer_has_gone = True
        self.peer.sock.close()

    # what always holds ------------------------------------------------------------------------------

    @rule(times=st.integers(1, 20))
    def turn(self, times: int) -> None:
        for _ in range(times):
            self.reactor.turn(0)

    @invariant()
    def bytes_are_in_order(self) -> None:
        if not hasattr(self, "stream"):
            return
        assert bytes(self.owner.data) == pattern(0, len(self.owner.data))
        assert len(self.owner.data) <= self.sent
        received = bytes(self.peer.received)
        assert received == pattern(0, len(received))

    @invariant()
    def what_waits_is_counted(self) -> None:
        if not hasattr(self, "stream"):
            return
        out = self.stream._out
        assert self.stream.unsent == sum(len(p) for p in out if not isinstance(p, FileBody))
        left = sum(part.length if isinstance(part, FileBody) else len(part) for part in out)
        assert len(self.peer.received) + left <= self.written or self.has_failed or self.stream.closed
        waiting = {part.file for part in out if isinstance(part, FileBody)}
        assert all(file.closed != (file in waiting) for file in self.files)
        assert not (self.stream.closed and out)

    @invariant()
    def the_loss_is_told(self) -> None:
        if hasattr(self, "stream"):
            assert ("lost" in self.owner.told) == self.stream.closed == (self.sock.fileno() == -1)


class TlsStreams(Streams):
    """One stream over TLS."""

    def make_stream(self) -> Stream:
        sock: Any = self.sock
        return TlsStream(_context(), self.reactor, sock, self.owner, self.limits)

    def meet(self, far: socket.socket) -> None:
        self.peer = peer = TlsPeer(far)
        for _ in range(MOST_TURNS):
            if self.stream.closed or (peer.is_ready and self.stream._tls.ready):  # type: ignore[attr-defined] # TLS
                break
            self.reactor.turn(0)
            try:
                peer.shake()
            except OSError:
                self.peer_leaves()
                break
        else:
            raise AssertionError("no end of the handshake")

    @precondition(lambda self: self.stream.closed or self.stream._tls.ready)
    @rule(parts=st.lists(st.tuples(sizes, st.sampled_from([False, False, True])), max_size=4))
    def write(self, parts: list[tuple[int, bool]]) -> None:
        if not (self.stream.closing or self.stream.ending):
            super().write(parts)


TestStreams: Any = Streams.TestCase
TestStreams.settings = settings(examples(0.5), stateful_step_count=30)
TestTlsStreams: Any = TlsStreams.TestCase
TestTlsStreams.settings = settings(examples(0.3), stateful_step_count=30)
