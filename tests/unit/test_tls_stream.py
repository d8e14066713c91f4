"""A connection's bytes over TLS: what leaves, what arrives, and the ways it ends."""

from __future__ import annotations

import gc
import io
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from quick_server.limits import Limits
from quick_server.protocol.messages import FileBody
from quick_server.reactor import Reactor
from quick_server.tls import new_context
from quick_server.tlssocket import TlsSocket
from quick_server.tlsstream import Handshakes, TlsStream
from tests.certificates import Authority, Issued
from tests.harness import PATIENCE
from tests.unit.fakes import SleeplessSelector, tcp_pair
from tests.unit.test_stream import NARROW, Owner, pattern

RECORD = 16 * 1024  # of data, at most
OVERHEAD = 22  # bytes by which a record of TLS 1.3 is longer than its data


@dataclass
class TlsOwner(Owner):
    def spoke_plainly(self) -> None:
        self._note("plain")


@dataclass
class Peer:
    """A client's side of TLS, by hand: what it wants to send, and what it has got."""

    sock: socket.socket
    context: ssl.SSLContext
    received: bytes = b""
    ended: bool = False
    """Whether the server has said that nothing more comes."""
    raw_end: bool = False
    """Whether the connection has ended."""
    records: list[int] = field(default_factory=list)
    """How long each record was that came."""
    _unread: bytes = b""

    def __post_init__(self) -> None:
        self.sock.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = self.context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def shake(self) -> bool:
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
            return True
        return False

    def send(self, data: bytes = b"") -> None:
        """Sends what TLS has to say, after `data`; the kernel takes that much."""
        if data:
            self.tls.write(data)
        raw = self.outgoing.read()
        assert self.sock.send(raw) == len(raw) if raw else True

    def take(self, size: int = 65536) -> None:
        """Takes at most that many bytes off the wire."""
        try:
            raw = self.sock.recv(size)
        except BlockingIOError:
            return
        self.raw_end = self.raw_end or not raw
        self._note_records(raw)
        self.incoming.write(raw)

    def read(self) -> None:
        try:
            while data := self.tls.read(65536):
                self.received += data
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # both have said so
            self.ended = True

    def end(self) -> None:
        """Says that nothing more comes."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()

    def _note_records(self, raw: bytes) -> None:
        self._unread += raw
        while len(self._unread) >= 5:
            length = 5 + int.from_bytes(self._unread[3:5], "big")
            if len(self._unread) < length:
                break
            self.records.append(length - 5)
            self._unread = self._unread[length:]


@dataclass
class Connection:
    stream: TlsStream
    owner: TlsOwner
    peer: Peer
    near: socket.socket
    reactor: Reactor

    def until(self, condition: Callable[[], object], take: int = 65536) -> None:
        """Turns the loop, and has the peer take what comes, until the condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"did not happen; told {self.owner.told}"
            self.reactor.turn(0)
            self.peer.take(take)
            self.peer.read()

    def turn(self, times: int = 5) -> None:
        for _ in range(times):
            self.reactor.turn(0)


Connect = Callable[..., Connection]


@pytest.fixture
def connect(
    sleepless: Reactor, selector: SleeplessSelector, authority: Authority, issued: Issued
) -> Iterator[Connect]:
    """`connect(narrow=…, shaken=…)`. In the end each stream was lost once, and last."""
    context = new_context()
    context.load_cert_chain(issued.both)
    made: list[Connection] = []
    with ExitStack() as stack:

        def make(narrow: bool = False, shaken: bool = True, **options: Any) -> Connection:
            if narrow:
                near, far = socket.socketpair()
                stack.enter_context(near)
                stack.enter_context(far)
                near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
            else:
                near, far = stack.enter_context(tcp_pair())
                far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            owner = TlsOwner()
            stream = TlsStream(context, sleepless, near, owner, Limits())
            c = Connection(stream, owner, Peer(far, authority.trusted(**options)), near, sleepless)
            made.append(c)
            if shaken:
                deadline = time.monotonic() + PATIENCE
                while not c.peer.shake():
                    assert time.monotonic() < deadline
                    c.peer.send()
                    sleepless.turn(0)
                    c.peer.take()
                c.peer.send()
                c.turn()
                c.peer.take()
                c.peer.read()
                c.peer.records.clear()
            return c

        yield make
        for c in made:
            c.stream.drop()
            sleepless.turn()
            assert c.owner.told.count("lost") == 1
            assert c.owner.told[-1] == "lost"
        assert len(selector.get_map()) == 1  # the wake-up socket


# ---- writing ----------------------------------------------------------------------------------


def test_small_parts_leave_in_one_record(connect: Connect) -> None:
    c = connect()
    assert c.stream.write(b"head;", b"", b"body;", b"more")
    assert c.stream.write(b"next")
    c.until(lambda: c.peer.received == b"head;body;morenext")
    assert len(c.peer.records) == 2
    assert c.owner.told == []


def test_big_parts_leave_in_full_records(connect: Connect) -> None:
    c = connect()
    data = pattern(10 * RECORD)
    c.stream.write(data)
    c.until(lambda: len(c.peer.received) == len(data))
    assert c.peer.received == data
    assert {size >= RECORD for size in c.peer.records} == {True}


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_the_kernel_does_not_take_follows(connect: Connect, version: ssl.TLSVersion) -> None:
    c = connect(narrow=True, maximum_version=version)
    data = pattern(400_000)
    assert not c.stream.write(data[:300_000], data[300_000:300_005], b"")
    assert not c.stream.write(data[300_005:])
    assert 300_000 > c.stream.unsent - 100_000 > 0
    c.until(lambda: "drained" in c.owner.told, take=1000)
    c.until(lambda: len(c.peer.received) == len(data))
    assert c.peer.received == data
    assert set(c.owner.told[:-1]) == {"progressed"}
    assert len(c.owner.told) > 20  # whoever takes little takes something
    assert c.stream.unsent == 0


def test_what_is_read_meanwhile_does_not_disturb_what_is_written(connect: Connect) -> None:
    c = connect(narrow=True)
    data = pattern(300_000)
    c.stream.write(data)
    for number in range(50):
        c.peer.send(b"%d;" % number)
        c.until(lambda seen=b"%d;" % number: c.owner.data.endswith(seen), take=500)  # type: ignore[misc] # a default is no argument
    c.until(lambda: len(c.peer.received) == len(data))
    assert c.peer.received == data


def test_files_and_bytes_keep_their_order(connect: Connect, tmp_path: Path) -> None:
    c = connect(narrow=True)
    content = pattern(300_000)
    (tmp_path / "big.bin").write_bytes(content)
    file = (tmp_path / "big.bin").open("rb")
    c.stream.write(b"a;", FileBody(file, 0, 200_000), b"b;", FileBody(file, 7, 1000), b"c")
    expected = b"a;" + content[:200_000] + b"b;" + content[7:1007] + b"c"
    c.until(lambda: len(c.peer.received) == len(expected), take=5000)
    assert c.peer.received == expected
    assert file.closed


@pytest.mark.parametrize("left", [0, 10, 60_000])
def test_a_file_that_shrinks_ends_without_a_farewell(
    connect: Connect, tmp_path: Path, left: int
) -> None:
    c = connect(narrow=True)
    path = tmp_path / "big.bin"
    path.write_bytes(pattern(300_000))
    file = path.open("rb")
    c.stream.write(FileBody(file, 0, 300_000))
    os.truncate(path, left)
    with suppress(ConnectionResetError):
        c.until(lambda: c.peer.raw_end)
    assert "lost" in c.owner.told
    assert not c.peer.ended
    assert file.closed


# ---- reading ----------------------------------------------------------------------------------


def test_a_turn_reads_a_bounded_piece(connect: Connect) -> None:
    c = connect()
    c.stream.read_size = 1 << 20
    data = pattern(300_000)
    c.peer.tls.write(data)
    raw = memoryview(c.peer.outgoing.read())
    while len(c.owner.data) < len(data):
        with suppress(BlockingIOError):
            raw = raw[c.peer.sock.send(raw) :] if raw else raw
        c.turn(1)
    assert c.owner.data == data
    assert max(map(len, c.owner.pieces)) <= 64 * 1024 + RECORD


def test_many_records_with_little_in_them_are_read_little_by_little(connect: Connect) -> None:
    c = connect()
    c.stream.read_size = 1 << 20
    for _ in range(3000):
        c.peer.tls.write(b"x")
    raw = memoryview(c.peer.outgoing.read())
    while len(c.owner.data) < 3000:
        with suppress(BlockingIOError):
            raw = raw[c.peer.sock.send(raw) :] if raw else raw
        c.turn(1)
    assert max(map(len, c.owner.pieces)) < 500  # of 2,800 records that fit into the most that is read


def test_many_records_are_one_piece(connect: Connect) -> None:
    c = connect()
    for number in range(100):
        c.peer.tls.write(b"%02d;" % number)
    c.peer.send()
    c.until(lambda: c.owner.told)
    assert c.owner.pieces == [b"".join(b"%02d;" % number for number in range(100))]


def test_a_handshake_byte_by_byte(connect: Connect) -> None:
    c = connect(shaken=False)
    while not c.peer.shake():
        for byte in c.peer.outgoing.read():
            c.peer.sock.send(bytes((byte,)))
            c.turn(1)
        c.peer.take()
    c.peer.tls.write(b"hello")
    for byte in c.peer.outgoing.read():
        assert c.owner.told == []
        c.peer.sock.send(bytes((byte,)))
        c.turn(1)
    c.until(lambda: c.owner.told)
    assert c.owner.pieces == [b"hello"]
    assert c.stream.write(b"world")
    c.until(lambda: c.peer.received == b"world")


def test_handshakes_that_come_all_at_once_take_turns(
    sleepless: Reactor, authority: Authority, issued: Issued
) -> None:
    """In a turn of the loop a few make a step, first come, first served."""
    context = new_context()
    context.load_cert_chain(issued.both)
    handshakes = Handshakes()
    trusted = authority.trusted()
    with ExitStack() as stack:

        def connect() -> tuple[TlsStream, TlsOwner, Peer]:
            near, far = stack.enter_context(tcp_pair())
            owner = TlsOwner()
            stream = TlsStream(context, sleepless, near, owner, Limits(), handshakes)
            stack.callback(stream.drop)
            return stream, owner, Peer(far, trusted)

        def shake(number: int) -> None:
            assert not peers[number].shake()
            peers[number].send()

        def answered() -> list[int]:
            """Those who got something, which is left where it is."""
            return [n for n, peer in enumerate(peers) if has_come(peer.sock)]

        streams, owners, peers = zip(*[connect() for _ in range(30)], strict=True)
        for number in range(20):
            shake(number)
        sleepless.turn(0)
        first = answered()
        assert 0 < len(first) <= 8
        assert all(stream._events == 0 for n, stream in enumerate(streams[:20]) if n not in first)
        streams[10].abort()
        streams[11].close()
        shake(20)
        peers[12].sock.send(b"x" * 100)  # who is in line has one place in it
        for _ in range(3):
            before = len(answered())
            sleepless.turn(0)
            assert len(answered()) - before <= 5  # at the most four, and one that ended
        while len(answered()) < 21:
            sleepless.turn(0)
        assert owners[10].told == ["lost"]
        for number in (0, 19, 20):
            peers[number].take()
            assert peers[number].shake()
            peers[number].send(b"hello")
        deadline = time.monotonic() + PATIENCE
        while not all(owners[number].data == b"hello" for number in (0, 19, 20)):
            assert time.monotonic() < deadline
            sleepless.turn(0)
        for _ in range(3):
            sleepless.turn(0)
        assert not sleepless._calls  # nothing spins
        assert not handshakes._line


def has_come(sock: socket.socket) -> bool:
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


# ---- ending -----------------------------------------------------------------------------------


def test_close_says_farewell_and_drops_what_comes(connect: Connect) -> None:
    c = connect()
    c.stream.write(b"last")
    c.stream.close()
    c.until(lambda: c.peer.raw_end)
    assert (c.peer.received, c.peer.ended) == (b"last", True)
    c.peer.send(b"too late" * 1000)
    c.peer.sock.send(b"and no TLS at all")
    c.turn()
    assert c.owner.told == []
    c.peer.sock.close()
    c.turn()
    assert c.owner.told == ["lost"]


def test_close_lets_out_what_waits(connect: Connect) -> None:
    c = connect(narrow=True)
    data = pattern(300_000)
    c.stream.write(data)
    c.stream.close()
    assert not c.stream.closed
    c.until(lambda: c.peer.raw_end, take=5000)
    assert (c.peer.received, c.peer.ended) == (data, True)


def test_drop_says_farewell(connect: Connect) -> None:
    c = connect()
    c.stream.drop()
    c.until(lambda: c.peer.raw_end)
    assert c.peer.ended


def test_drop_in_the_middle_of_something_does_not(connect: Connect, tmp_path: Path) -> None:
    c = connect()
    (tmp_path / "big.bin").write_bytes(pattern(2_000_000))
    c.stream.write(FileBody((tmp_path / "big.bin").open("rb"), 0, 2_000_000))
    assert c.stream.pending
    c.stream.drop()
    with suppress(ConnectionResetError):
        c.until(lambda: c.peer.raw_end)
    assert 0 < len(c.peer.received) < 2_000_000
    assert not c.peer.ended


def test_abort_does_not(connect: Connect) -> None:
    c = connect()
    c.stream.abort()
    with pytest.raises(ConnectionResetError):
        c.until(lambda: c.peer.raw_end)
    assert not c.peer.ended


def test_data_and_farewell_in_one_piece(connect: Connect) -> None:
    c = connect()
    c.peer.tls.write(b"question")
    c.peer.end()
    c.peer.send()
    c.until(lambda: "end" in c.owner.told)
    assert (c.owner.told, c.owner.data) == (["data", "end"], b"question")
    c.stream.write(b"answer")
    c.until(lambda: c.peer.received == b"answer")
    c.stream.close()
    c.turn()
    assert c.owner.told == ["data", "end", "lost"]


def test_a_farewell_waits_while_reading_pauses(connect: Connect) -> None:
    c = connect()
    c.owner.then["data"] = c.stream.pause_reading
    c.peer.tls.write(b"question")
    c.peer.end()
    c.peer.send()
    c.until(lambda: c.owner.told)
    c.turn()
    assert c.owner.told == ["data"]
    c.stream.resume_reading()
    c.turn()
    assert c.owner.told == ["data", "end"]


def test_close_after_a_farewell_that_was_not_told_yet(connect: Connect) -> None:
    c = connect()
    c.owner.then["data"] = c.stream.close
    c.peer.tls.write(b"question")
    c.peer.end()
    c.peer.send()
    c.until(lambda: c.peer.raw_end)
    c.turn()
    assert c.owner.told == ["data"]
    assert c.reactor._calls == type(c.reactor._calls)()  # nothing spins
    c.peer.sock.close()
    c.turn()
    assert c.owner.told == ["data", "lost"]


def test_an_end_without_a_farewell_is_one(connect: Connect) -> None:
    c = connect()
    c.peer.send(b"question")
    c.peer.sock.shutdown(socket.SHUT_WR)
    c.until(lambda: "end" in c.owner.told)
    c.stream.write(b"answer")
    c.stream.close()
    c.until(lambda: c.peer.raw_end)
    assert (c.peer.received, c.peer.ended) == (b"answer", True)
    assert c.owner.told == ["data", "end", "lost"]


def test_what_openssl_keeps_goes_with_the_connection(connect: Connect) -> None:
    def made() -> int:
        return sum(isinstance(thing, ssl.SSLObject) for thing in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = made()
        c = connect()
        assert made() == before + 2  # the client's, too
        c.stream.drop()
        assert made() == before + 1
    finally:
        gc.enable()


# ---- a kernel that takes nothing ----------------------------------------------------------------


def fill(c: Connection) -> int:
    """Has the kernel hold as much as it takes; returns how much that is."""
    size = 0
    with suppress(BlockingIOError):
        while True:
            size += c.near.send(bytes(1000))
    return size


def empty(c: Connection, size: int) -> None:
    """Takes that much, which is not TLS."""
    while size:
        size -= len(c.peer.sock.recv(size))


def test_a_handshake_that_waits_for_the_kernel(connect: Connect) -> None:
    c = connect(narrow=True, shaken=False)
    size = fill(c)
    assert not c.peer.shake()
    c.peer.send()
    c.turn()
    empty(c, size)
    c.turn()
    c.peer.take()
    assert c.peer.shake()
    c.peer.send(b"hello")
    c.until(lambda: c.owner.data == b"hello")


def test_a_farewell_that_waits_for_the_kernel(connect: Connect) -> None:
    c = connect(narrow=True)
    size = fill(c)
    c.stream.close()
    c.turn()
    empty(c, size)
    c.until(lambda: c.peer.raw_end)
    assert c.peer.ended
    assert c.owner.told == []


# ---- what is not TLS --------------------------------------------------------------------------


@pytest.mark.parametrize("first", [b"\0", b"\x15", b"\x17\x03", b"\x80", b"\xe9", b"1", b"\n"])
def test_other_bytes_end_it(connect: Connect, first: bytes, log: io.StringIO) -> None:
    c = connect(shaken=False)
    c.peer.sock.send(first)
    c.turn()
    assert c.owner.told == ["lost"]
    assert log.getvalue() == ""


def test_broken_handshakes_end_it_with_an_alert(connect: Connect, log: io.StringIO) -> None:
    c = connect(shaken=False)
    c.peer.sock.send(b"\x16\x03\x01\x00\x05GET /")
    c.turn()
    assert c.owner.told == ["lost"]
    assert c.peer.sock.recv(100)[:1] == b"\x15"
    assert log.getvalue() == ""


def test_broken_records_end_it(connect: Connect, log: io.StringIO) -> None:
    c = connect()
    c.peer.sock.send(b"\x17\x03\x03\x00\x20" + bytes(32))
    c.turn()
    assert c.owner.told == ["lost"]
    assert log.getvalue() == ""


def test_a_second_hello_with_another_name(
    sleepless: Reactor, authority: Authority, issued: Issued, log: io.StringIO
) -> None:
    """As the first has no key that the server likes, the client is asked for another ClientHello."""
    context = new_context()
    context.load_cert_chain(issued.both)
    context.set_ecdh_curve("secp521r1")
    asked: list[str] = []
    context.sni_callback = lambda _tls, name, _context: asked.append(name)
    near, far = socket.socketpair()
    with near, far:
        owner = TlsOwner()
        TlsStream(context, sleepless, near, owner, Limits())
        peer = Peer(far, authority.trusted())
        for told in ([], ["lost"]):
            assert not peer.shake()
            hello = peer.outgoing.read()
            assert b"localhost" in hello
            far.send(hello.replace(b"localhost", b"loc\xe4lhost") if told else hello)
            sleepless.turn(0)
            peer.take()
        assert owner.told == ["lost"]
        assert asked == ["localhost"]
        assert log.getvalue() == ""


def test_plain_text_is_told_and_answered_in_plain_text(connect: Connect) -> None:
    c = connect(shaken=False)

    def answer() -> None:
        c.stream.write(b"no")
        c.stream.close()

    c.owner.then["plain"] = answer
    c.peer.sock.send(b"GET / HTTP/1.1\r\n")
    c.turn()
    assert c.owner.told == ["plain"]
    assert c.peer.sock.recv(100) == b"no"
    assert c.peer.sock.recv(100) == b""
    c.peer.sock.close()
    c.turn()
    assert c.owner.told == ["plain", "lost"]


# ---- the socket below -------------------------------------------------------------------------


def test_what_is_refused_is_offered_again(authority: Authority, issued: Issued) -> None:
    """What does not count as sent yet may be offered again with more behind it, and is not repeated."""
    context = new_context()
    context.load_cert_chain(issued.both)
    near, far = socket.socketpair()
    with near, far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
        near.setblocking(False)
        peer, sock = Peer(far, authority.trusted()), TlsSocket(context, near)
        while not sock.ready:
            peer.shake()
            peer.send()
            with suppress(BlockingIOError):
                sock.recv(65536)
            while sock.waiting:
                peer.take()
                sock.flush()
            peer.take()
        left, data = memoryview(pattern(200_000)), pattern(200_000)
        offered = 30_000
        while left:
            try:
                left = left[sock.send(left[:offered]) :]
            except BlockingIOError:
                peer.take(3000)
                offered += 1000
        while sock.waiting:
            peer.take()
            sock.flush()
        while len(peer.received) < len(data):
            peer.take()
            peer.read()
        assert peer.received == data


class Watched(TlsSocket):
    """Knows how much OpenSSL's buffers have held, whose memory stays as much as that."""

    most_incoming = most_outgoing = 0

    def _decrypt(self, tls: ssl.SSLObject) -> bytes:
        self.most_incoming = max(self.most_incoming, self._incoming.pending)
        return super()._decrypt(tls)

    def flush(self) -> None:
        self.most_outgoing = max(self.most_outgoing, self._outgoing.pending)
        super().flush()


def test_openssl_gets_small_pieces(authority: Authority, issued: Issued) -> None:
    context = new_context()
    context.load_cert_chain(issued.both)
    with tcp_pair() as (near, far):
        near.setblocking(False)
        peer, sock = Peer(far, authority.trusted()), Watched(context, near)
        while not sock.ready:
            peer.shake()
            peer.send()
            with suppress(BlockingIOError):
                sock.recv(1 << 20)
            peer.take()
        data, received = pattern(300_000), b""
        peer.tls.write(data)
        raw = memoryview(peer.outgoing.read())
        while len(received) < len(data):
            with suppress(BlockingIOError):
                raw = raw[far.send(raw) :] if raw else raw
            with suppress(BlockingIOError):
                received += sock.recv(1 << 20)
        assert received == data
        left = memoryview(data)
        while left or sock.waiting:
            with suppress(BlockingIOError):
                left = left[sock.send(left) :]
            peer.take()
            peer.read()
        while len(peer.received) < len(data):
            peer.take()
            peer.read()
        assert peer.received == data
        assert sock.most_incoming <= RECORD
        assert sock.most_outgoing <= RECORD + OVERHEAD + 256  # session tickets


def test_a_peer_that_makes_us_talk_and_does_not_listen(authority: Authority, issued: Issued) -> None:
    near, far = socket.socketpair()
    with near, far:
        sock = TlsSocket(new_context(), near)
        sock._outgoing.write(bytes(1 << 20))
        near.setblocking(False)
        with pytest.raises(ConnectionAbortedError):
            sock.flush()
