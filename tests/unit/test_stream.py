"""A connection's bytes: what is written and read, in which order, and the ways it ends."""

from __future__ import annotations

import io
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import pytest

from quick_server.limits import Limits
from quick_server.protocol.messages import FileBody
from quick_server.reactor import Reactor
from quick_server.stream import Stream
from tests.unit.fakes import SleeplessSelector, take, tcp_pair, turn_until

NARROW = 4096  # bytes that a socket takes at once: less than what tests write
RESET = struct.pack("ii", 1, 0)


@dataclass
class Owner:
    """Notes what it is told, and does what `then` says for it."""

    told: list[str] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    then: dict[str, Callable[[], object]] = field(default_factory=dict)

    def _note(self, what: str) -> None:
        self.told.append(what)
        self.then.get(what, bool)()

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        self._note("data" if data else "end")

    def drained(self) -> None:
        self._note("drained")

    def progressed(self) -> None:
        self._note("progressed")

    def lost(self) -> None:
        self._note("lost")

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)


@dataclass
class Connection:
    """A stream, its owner and its peer."""

    stream: Stream
    owner: Owner
    peer: socket.socket
    near: socket.socket


Connect = Callable[..., Connection]


@pytest.fixture
def connect(sleepless: Reactor, selector: SleeplessSelector) -> Iterator[Connect]:
    """`connect(tcp=…, narrow=…, limits=…, kind=…)`. In the end each stream was lost once, and last."""
    made: list[Connection] = []
    with ExitStack() as stack:

        def make(
            tcp: bool = False,
            narrow: bool = False,
            limits: Limits | None = None,
            kind: socket.SocketKind = socket.SOCK_STREAM,
        ) -> Connection:
            if tcp:
                near, far = stack.enter_context(tcp_pair())
            else:
                near, far = socket.socketpair(type=kind)
            stack.enter_context(near)
            stack.enter_context(far)
            if narrow:
                near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
            owner = Owner()
            stream = Stream(sleepless, near, owner, limits or Limits())
            made.append(Connection(stream, owner, far, near))
            return made[-1]

        yield make
        for connection in made:
            connection.stream.drop()
            sleepless.turn()
            assert connection.owner.told.count("lost") == 1
            assert connection.owner.told[-1] == "lost"
        assert len(selector.get_map()) == 1  # the wake-up socket


@pytest.fixture
def turn(sleepless: Reactor) -> Callable[[], None]:
    """Gives the loop every chance to do something wrong."""

    def some() -> None:
        for _ in range(5):
            sleepless.turn()

    return some


Turn = Callable[[], None]


def pattern(size: int) -> bytes:
    """Bytes in which no part looks like its neighbour."""
    return b"".join(b"%07d\n" % number for number in range(size // 8 + 1))[:size]


@pytest.fixture
def big(tmp_path: Path) -> Iterator[BinaryIO]:
    """An open file of 300,000 bytes."""
    path = tmp_path / "big.bin"
    path.write_bytes(pattern(300_000))
    with path.open("rb") as file:
        yield file


def is_open(file: BinaryIO) -> bool:
    return not file.closed


def watched(selector: SleeplessSelector) -> int:
    """How many sockets the loop waits for beside its own."""
    return len(selector.get_map()) - 1


# ---- writing ----------------------------------------------------------------------------------


def test_what_the_kernel_takes_is_out_at_once(connect: Connect, turn: Turn) -> None:
    c = connect()
    assert c.stream.write(b"hello")
    assert not c.stream.pending
    assert c.peer.recv(100) == b"hello"
    turn()
    assert c.owner.told == []


def test_parts_leave_together(connect: Connect) -> None:
    c = connect(kind=socket.SOCK_SEQPACKET)  # which keeps apart what was sent by different calls
    assert c.stream.write()
    assert c.stream.write(b"", b"")
    assert c.stream.write(b"head;", b"", b"body;", b"more")
    assert c.stream.write(b"next")
    assert c.peer.recv(100) == b"head;body;more"
    assert c.peer.recv(100) == b"next"


def test_many_parts_are_no_trouble(connect: Connect, sleepless: Reactor) -> None:
    c = connect()
    parts = [b"%d," % number for number in range(3000)]
    c.stream.write(*parts)
    assert take(sleepless, c.peer, len(b"".join(parts))) == b"".join(parts)


@pytest.mark.parametrize("tcp", [False, True])
def test_what_the_kernel_does_not_take_follows(connect: Connect, sleepless: Reactor, tcp: bool) -> None:
    c = connect(tcp=tcp, narrow=True)
    data = pattern(300_000)
    assert not c.stream.write(data)
    assert take(sleepless, c.peer, len(data)) == data
    turn_until(sleepless, lambda: "drained" in c.owner.told)
    assert not c.stream.pending
    assert set(c.owner.told[:-1]) == {"progressed"}
    assert c.owner.told[-1] == "drained"
    assert c.stream.write(b"more")
    assert take(sleepless, c.peer, 4) == b"more"
    assert c.owner.told.count("drained") == 1


def test_a_kernel_that_takes_nothing_at_all_is_waited_for(connect: Connect, sleepless: Reactor) -> None:
    c = connect(narrow=True)
    written = 1
    while c.stream.write(b"x"):
        written += 1
    assert c.stream.unsent == 1
    assert take(sleepless, c.peer, written) == b"x" * written
    turn_until(sleepless, lambda: "drained" in c.owner.told)


@pytest.mark.parametrize(
    "sizes",
    [
        (300_000, 5),
        (5, 300_000, 5),
        (1, 0, 150_000, 0, 0, 3, 150_000, 1),
        (4096,) * 40,
        (1,) * 2000 + (100_000,),
    ],
    ids=["long first", "long within", "empty ones", "equal", "tiny"],
)
def test_parts_that_have_to_wait_keep_their_order(
    connect: Connect, sleepless: Reactor, sizes: tuple[int, ...]
) -> None:
    c = connect(narrow=True)
    data = pattern(sum(sizes))
    parts, start = [], 0
    for size in sizes:
        parts.append(data[start : start + size])
        start += size
    assert not c.stream.write(*parts)
    assert take(sleepless, c.peer, len(data)) == data
    turn_until(sleepless, lambda: "drained" in c.owner.told)


def test_what_is_written_while_something_waits_gets_in_line(
    connect: Connect, sleepless: Reactor
) -> None:
    c = connect(narrow=True)
    data = pattern(100_000)
    assert not c.stream.write(data)
    assert not c.stream.write(b"second", b"")
    assert not c.stream.write(b"third")
    assert take(sleepless, c.peer, len(data) + 11) == data + b"secondthird"
    turn_until(sleepless, lambda: "drained" in c.owner.told)
    assert c.owner.told.count("drained") == 1


def test_what_waits_in_memory_is_counted(connect: Connect, sleepless: Reactor, big: BinaryIO) -> None:
    c = connect(narrow=True)
    assert c.stream.unsent == 0
    c.stream.write(pattern(100_000))
    waiting = c.stream.unsent
    assert 0 < waiting < 100_000
    c.stream.write(b"more", FileBody(big, 0, 1000), b"end")
    assert c.stream.unsent == waiting + 7
    take(sleepless, c.peer, 101_007)
    turn_until(sleepless, lambda: "drained" in c.owner.told)
    assert c.stream.unsent == 0


def test_a_peer_that_takes_nothing_is_no_progress(connect: Connect, turn: Turn) -> None:
    c = connect(narrow=True)
    c.stream.write(pattern(300_000))
    turn()
    told = list(c.owner.told)
    turn()
    assert c.owner.told == told


def test_writing_to_a_peer_that_is_gone_ends_it(connect: Connect, turn: Turn) -> None:
    c = connect()
    c.peer.close()
    assert c.stream.write(b"hello")
    assert c.stream.closed
    assert c.owner.told == ["lost"]
    assert c.stream.write(b"again", b"and again")
    turn()
    assert c.owner.told == ["lost"]


def test_a_peer_that_goes_while_something_waits_ends_it(
    connect: Connect, sleepless: Reactor, big: BinaryIO, log: io.StringIO
) -> None:
    c = connect(tcp=True, narrow=True)
    c.stream.pause_reading()  # so that only writing can notice
    c.stream.write(pattern(100_000), FileBody(big, 0, 1000))
    c.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    c.peer.close()
    turn_until(sleepless, lambda: c.stream.closed)
    assert big.closed
    assert not c.stream.pending
    assert c.stream.unsent == 0
    assert log.getvalue() == ""


def test_what_turns_out_not_to_be_writable_is_waited_for(
    connect: Connect, sleepless: Reactor, selector: SleeplessSelector
) -> None:
    c = connect(narrow=True)
    data = pattern(100_000)
    c.stream.write(data)
    filled = 0

    def fill() -> None:
        nonlocal filled
        with c.near.dup() as other, suppress(BlockingIOError):
            while True:
                filled += other.send(b"x")

    head = c.peer.recv(100_000)
    selector.afterwards = fill
    sleepless.turn()
    assert filled > 0
    assert not c.stream.closed
    rest = take(sleepless, c.peer, len(data) - len(head) + filled)
    assert head + rest.replace(b"x", b"") == data


# ---- files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 300_000), (0, 1), (299_999, 1), (1234, 56_789), (8, 200_000)]
)
@pytest.mark.parametrize("narrow", [False, True])
def test_a_file_is_sent_from_an_offset_for_a_length(
    connect: Connect, sleepless: Reactor, big: BinaryIO, offset: int, length: int, narrow: bool
) -> None:
    c = connect(tcp=True, narrow=narrow)
    out = c.stream.write(b"head;", FileBody(big, offset, length))
    expected = b"head;" + pattern(300_000)[offset : offset + length]
    assert take(sleepless, c.peer, len(expected)) == expected
    turn_until(sleepless, lambda: not c.stream.pending)
    assert c.owner.told.count("drained") == (not out)
    assert big.closed
    c.stream.close()
    assert take(sleepless, c.peer) == b""


def test_a_small_file_is_out_at_once(connect: Connect, big: BinaryIO, turn: Turn) -> None:
    c = connect()
    assert c.stream.write(b"head;", FileBody(big, 0, 8))
    assert big.closed
    assert c.peer.recv(100) == b"head;0000000\n"
    turn()
    assert c.owner.told == []


def test_a_turn_sends_one_slice(
    connect: Connect, sleepless: Reactor, big: BinaryIO, turn: Turn
) -> None:
    c = connect(limits=Limits(send_slice=1000))
    assert not c.stream.write(b"head;", FileBody(big, 0, 5500))
    turn()
    assert c.owner.told == ["progressed"] * 4 + ["drained"]
    assert take(sleepless, c.peer, 5505) == b"head;" + pattern(5500)


def test_a_file_without_content_is_just_closed(
    connect: Connect, sleepless: Reactor, big: BinaryIO
) -> None:
    c = connect()
    assert c.stream.write(b"head;", FileBody(big, 100, 0))
    assert big.closed
    assert take(sleepless, c.peer, 5) == b"head;"
    assert c.stream.write(b"next")
    assert take(sleepless, c.peer, 4) == b"next"


def test_files_and_bytes_keep_their_order(connect: Connect, sleepless: Reactor, big: BinaryIO) -> None:
    c = connect(tcp=True, narrow=True)
    parts = (b"one;", FileBody(big, 8, 50_000), b";two;", FileBody(big, 0, 50_000), b";three")
    assert not c.stream.write(*parts)
    assert not c.stream.write(b";four")
    content = pattern(300_000)
    expected = b"one;" + content[8:50_008] + b";two;" + content[:50_000] + b";three;four"
    assert take(sleepless, c.peer, len(expected)) == expected
    turn_until(sleepless, lambda: "drained" in c.owner.told)
    assert big.closed


def test_a_file_of_several_parts_stays_open_until_the_last(
    connect: Connect, sleepless: Reactor, big: BinaryIO
) -> None:
    c = connect(narrow=True)
    c.stream.write(FileBody(big, 0, 8), pattern(50_000), FileBody(big, 8, 8), b"end")
    take(sleepless, c.peer, 20_000)
    assert is_open(big)
    assert take(sleepless, c.peer, 30_019)[-19:] == pattern(50_000)[-8:] + b"0000001\nend"
    assert big.closed


def test_a_file_that_grows_is_sent_as_long_as_promised(
    connect: Connect, sleepless: Reactor, tmp_path: Path
) -> None:
    path = tmp_path / "growing.log"
    path.write_bytes(pattern(200_000))
    c = connect(narrow=True)
    file = path.open("rb")
    assert not c.stream.write(FileBody(file, 0, 200_000))
    with path.open("ab") as more:
        more.write(b"x" * 100_000)
    assert take(sleepless, c.peer, 200_000) == pattern(200_000)
    turn_until(sleepless, lambda: "drained" in c.owner.told)
    assert file.closed
    assert c.stream.write(b"next")
    assert take(sleepless, c.peer, 4) == b"next"


@pytest.mark.parametrize("left", [0, 10, 60_000])
@pytest.mark.parametrize("closing", [False, True])
def test_a_file_that_shrinks_ends_in_a_reset(
    connect: Connect, sleepless: Reactor, tmp_path: Path, left: int, closing: bool
) -> None:
    """The peer must see that the content is not complete."""
    path = tmp_path / "shrinking.bin"
    path.write_bytes(pattern(200_000))
    c = connect(tcp=True, narrow=True)
    file = path.open("rb")
    assert not c.stream.write(b"head;", FileBody(file, 0, 200_000), b"never")
    if closing:
        c.stream.close()
    os.truncate(path, left)
    with pytest.raises(ConnectionResetError):
        take(sleepless, c.peer)
    assert c.stream.closed
    assert file.closed


def test_a_file_that_was_too_short_all_along_ends_in_a_reset(
    connect: Connect, sleepless: Reactor, big: BinaryIO
) -> None:
    c = connect(tcp=True)
    c.stream.write(b"head;", FileBody(big, 299_990, 11))
    with pytest.raises(ConnectionResetError):
        take(sleepless, c.peer)
    assert big.closed


def test_an_empty_file_that_promised_something_ends_in_a_reset(
    connect: Connect, sleepless: Reactor, big: BinaryIO
) -> None:
    c = connect(tcp=True)
    assert c.stream.write(b"head;", FileBody(big, 300_000, 1))
    assert c.owner.told == ["lost"]
    assert big.closed
    with pytest.raises(ConnectionResetError):
        take(sleepless, c.peer)


@pytest.mark.parametrize("end", ["drop", "abort"])
def test_files_that_wait_are_closed_in_the_end(
    connect: Connect, big: BinaryIO, tmp_path: Path, end: str
) -> None:
    c = connect(narrow=True)
    (tmp_path / "other").write_bytes(b"other")
    other = (tmp_path / "other").open("rb")
    c.stream.write(pattern(100_000), FileBody(big, 0, 1000), FileBody(other, 0, 5))
    assert is_open(big)
    getattr(c.stream, end)()
    assert big.closed
    assert other.closed


def test_a_file_for_a_connection_that_is_gone_is_closed(connect: Connect, big: BinaryIO) -> None:
    c = connect()
    c.stream.drop()
    assert c.stream.write(b"head;", FileBody(big, 0, 1000))
    assert big.closed
    assert not c.stream.pending


def test_a_file_for_a_peer_that_is_gone_is_closed(connect: Connect, big: BinaryIO) -> None:
    c = connect()
    c.peer.close()
    assert c.stream.write(b"head;", FileBody(big, 0, 1000))
    assert big.closed
    assert c.owner.told == ["lost"]


# ---- reading ----------------------------------------------------------------------------------


def test_bytes_are_read_in_bounded_pieces(connect: Connect, turn: Turn) -> None:
    c = connect(limits=Limits(read_chunk=10))
    c.peer.sendall(b"x" * 25)
    turn()
    assert [len(piece) for piece in c.owner.pieces] == [10, 10, 5]


@pytest.mark.parametrize("others", [(), (b"more",)])
def test_what_is_written_once_a_write_has_failed_is_closed(
    connect: Connect, big: BinaryIO, others: tuple[bytes, ...]
) -> None:
    c = connect()
    c.stream.reads_on = True
    c.peer.close()
    assert c.stream.write(b"nobody")
    assert c.stream.broken
    assert c.stream.write(*others, FileBody(big, 0, 10))
    assert big.closed
    assert not c.stream.pending
    assert c.owner.told == []


def test_a_turn_reads_one_piece(connect: Connect, sleepless: Reactor) -> None:
    c = connect(limits=Limits(read_chunk=10))
    c.peer.sendall(b"x" * 25)
    sleepless.turn()
    assert c.owner.pieces == [b"x" * 10]


def test_the_peers_end_is_told_once_and_watched_no_more(
    connect: Connect, selector: SleeplessSelector, turn: Turn
) -> None:
    c = connect()
    c.peer.sendall(b"bye")
    c.peer.shutdown(socket.SHUT_WR)
    turn()
    assert c.owner.told == ["data", "end"]
    assert watched(selector) == 0  # else the loop would spin
    c.stream.pause_reading()
    c.stream.resume_reading()
    turn()
    assert c.owner.told == ["data", "end"]


def test_a_half_closed_peer_can_be_answered(connect: Connect, sleepless: Reactor, turn: Turn) -> None:
    c = connect(narrow=True)
    c.peer.shutdown(socket.SHUT_WR)
    turn()
    data = pattern(100_000)
    assert not c.stream.write(data)
    assert take(sleepless, c.peer, len(data)) == data
    turn_until(sleepless, lambda: "drained" in c.owner.told)
    assert c.owner.told.count("end") == 1


def test_nothing_is_read_while_reading_pauses(
    connect: Connect, selector: SleeplessSelector, turn: Turn
) -> None:
    c = connect()
    c.stream.pause_reading()
    c.stream.pause_reading()
    c.peer.sendall(b"hello")
    turn()
    assert c.owner.told == []
    assert watched(selector) == 0
    c.stream.resume_reading()
    c.stream.resume_reading()
    turn()
    assert c.owner.data == b"hello"


def test_the_owner_may_pause_when_it_is_told(connect: Connect, turn: Turn) -> None:
    c = connect(limits=Limits(read_chunk=5))
    c.owner.then["data"] = c.stream.pause_reading
    c.peer.sendall(b"helloworld")
    turn()
    assert c.owner.pieces == [b"hello"]
    c.stream.resume_reading()
    turn()
    assert c.owner.pieces == [b"hello", b"world"]


def test_writing_goes_on_while_reading_pauses(connect: Connect, sleepless: Reactor, turn: Turn) -> None:
    c = connect(narrow=True)
    data = pattern(100_000)
    c.stream.write(data)
    c.stream.pause_reading()
    c.peer.sendall(b"hello")
    assert take(sleepless, c.peer, len(data)) == data
    turn()
    assert c.owner.told[-1] == "drained"
    c.stream.resume_reading()
    turn()
    assert c.owner.data == b"hello"


def test_what_turns_out_not_to_be_readable_is_waited_for(
    connect: Connect, selector: SleeplessSelector, turn: Turn
) -> None:
    """Readiness is a hint: by the time it is acted upon somebody else may have read."""
    c = connect()
    with c.near.dup() as thief:
        selector.afterwards = lambda: thief.recv(100)
        c.peer.sendall(b"stolen")
        turn()
    assert c.owner.told == []
    c.peer.sendall(b"hello")
    turn()
    assert c.owner.data == b"hello"


def test_a_reset_is_the_end(connect: Connect, sleepless: Reactor, log: io.StringIO) -> None:
    c = connect(tcp=True)
    c.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    c.peer.close()
    turn_until(sleepless, lambda: c.stream.closed)
    assert c.owner.told == ["lost"]
    assert log.getvalue() == ""


# ---- ending -----------------------------------------------------------------------------------


def test_close_half_closes_then_drops_what_comes_until_the_peers_end(
    connect: Connect, sleepless: Reactor, selector: SleeplessSelector, turn: Turn
) -> None:
    c = connect(tcp=True)
    c.stream.write(b"answer")
    c.stream.close()
    c.stream.close()
    assert take(sleepless, c.peer) == b"answer"  # up to an end, and not up to a reset
    for _ in range(3):
        c.peer.sendall(b"x" * 100_000)
        turn()
    assert c.owner.told == []
    assert watched(selector) == 1
    c.peer.shutdown(socket.SHUT_WR)
    turn_until(sleepless, lambda: c.stream.closed)
    assert c.owner.told == ["lost"]


def test_close_lets_out_what_waits(
    connect: Connect, sleepless: Reactor, big: BinaryIO, turn: Turn
) -> None:
    c = connect(tcp=True, narrow=True)
    data = pattern(100_000)
    c.stream.write(data, FileBody(big, 0, 100_000))
    c.stream.close()
    c.peer.sendall(b"more")  # while the answer is under way
    assert take(sleepless, c.peer) == data + data
    turn()
    assert c.owner.told[-1] == "drained"
    assert c.owner.pieces == []
    assert not c.stream.closed
    c.peer.close()
    turn_until(sleepless, lambda: c.stream.closed)


def test_close_after_the_peers_end_is_the_end(connect: Connect, sleepless: Reactor, turn: Turn) -> None:
    c = connect()
    c.peer.shutdown(socket.SHUT_WR)
    turn()
    c.stream.write(b"answer")
    c.stream.close()
    assert c.owner.told == ["end", "lost"]
    assert take(sleepless, c.peer) == b"answer"


@pytest.mark.parametrize("when", ["before", "after"])
def test_close_with_something_waiting_and_the_peers_end(
    connect: Connect, sleepless: Reactor, turn: Turn, when: str
) -> None:
    c = connect(narrow=True)
    data = pattern(100_000)
    c.stream.write(data)
    if when == "before":
        c.peer.shutdown(socket.SHUT_WR)
        turn()
    c.stream.close()
    if when == "after":
        c.peer.shutdown(socket.SHUT_WR)
        turn()
    assert not c.stream.closed
    assert take(sleepless, c.peer) == data
    turn_until(sleepless, lambda: c.stream.closed)
    assert "drained" not in c.owner.told
    assert c.owner.told.count("end") == (when == "before")


def test_end_leaves_the_peers_side_open(connect: Connect, turn: Turn) -> None:
    c = connect(tcp=True)
    c.stream.write(b"all")
    c.stream.end()
    c.stream.end()  # harmless
    assert c.peer.recv(100) == b"all"
    assert c.peer.recv(100) == b""
    c.peer.sendall(b"late")
    turn()
    assert c.owner.data == b"late"
    assert not c.stream.closed
    c.peer.close()
    turn()
    assert c.owner.told == ["data", "end", "lost"]


def test_end_lets_out_what_waits(connect: Connect, sleepless: Reactor) -> None:
    c = connect(narrow=True)
    data = pattern(1 << 20)
    assert not c.stream.write(data)
    c.stream.end()
    assert take(sleepless, c.peer) == data
    c.peer.sendall(b"late")
    turn_until(sleepless, lambda: c.owner.data == b"late")
    c.peer.close()
    turn_until(sleepless, lambda: c.owner.told[-1] == "lost")


def test_end_after_the_peers_end_is_the_end(connect: Connect, turn: Turn) -> None:
    c = connect(tcp=True)
    c.owner.then["end"] = c.stream.end
    c.peer.close()
    turn()
    assert c.owner.told == ["end", "lost"]


def test_end_then_close(connect: Connect, turn: Turn) -> None:
    c = connect(tcp=True)
    c.stream.end()
    c.stream.close()
    c.peer.sendall(b"late")
    turn()
    assert not c.stream.closed
    c.peer.close()
    turn()
    assert c.owner.told == ["lost"]


def test_close_ends_a_pause(connect: Connect, turn: Turn) -> None:
    c = connect()
    c.stream.pause_reading()
    c.peer.sendall(b"more")
    c.peer.shutdown(socket.SHUT_WR)
    c.stream.close()
    turn()
    assert c.owner.told == ["lost"]


def test_close_to_a_peer_that_was_reset(connect: Connect, turn: Turn) -> None:
    c = connect(tcp=True)
    c.stream.pause_reading()
    c.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    c.peer.close()
    c.stream.close()
    turn()
    assert c.owner.told == ["lost"]


def test_nothing_is_written_after_close(connect: Connect) -> None:
    c = connect()
    c.stream.close()
    with pytest.raises(AssertionError, match="closing"):
        c.stream.write(b"late")


def test_drop_ends_it_now_and_lets_the_peer_have_what_was_sent(
    connect: Connect, sleepless: Reactor
) -> None:
    c = connect(tcp=True)
    c.stream.write(b"answer")
    c.stream.drop()
    assert c.stream.closed
    assert c.owner.told == ["lost"]
    assert take(sleepless, c.peer) == b"answer"


@pytest.mark.parametrize("waiting", [False, True])
def test_abort_is_a_reset(connect: Connect, sleepless: Reactor, waiting: bool) -> None:
    c = connect(tcp=True, narrow=True)
    c.stream.write(pattern(100_000) if waiting else b"half an answer")
    c.stream.abort()
    assert c.owner.told == ["lost"]
    with pytest.raises(ConnectionResetError):
        take(sleepless, c.peer)


def test_abort_while_closing_is_a_reset(connect: Connect, sleepless: Reactor) -> None:
    c = connect(tcp=True, narrow=True)
    c.stream.write(pattern(100_000))
    c.stream.close()
    c.stream.abort()
    with pytest.raises(ConnectionResetError):
        take(sleepless, c.peer)


@pytest.mark.parametrize("first", ["drop", "abort"])
@pytest.mark.parametrize("then", ["drop", "abort", "close", "pause_reading", "resume_reading"])
def test_the_end_comes_once(connect: Connect, turn: Turn, first: str, then: str) -> None:
    c = connect()
    c.peer.sendall(b"hello")
    getattr(c.stream, first)()
    getattr(c.stream, then)()
    turn()
    assert c.owner.told == ["lost"]


def test_the_owner_may_do_anything_when_it_is_lost(connect: Connect, turn: Turn, big: BinaryIO) -> None:
    c = connect(narrow=True)

    def everything() -> None:
        assert c.stream.closed
        assert c.stream.write(b"late", FileBody(big, 0, 8))
        c.stream.pause_reading()
        c.stream.resume_reading()
        c.stream.close()
        c.stream.drop()
        c.stream.abort()

    c.owner.then["lost"] = everything
    c.stream.write(pattern(100_000))
    c.stream.drop()
    turn()
    assert c.owner.told == ["lost"]
    assert big.closed


@pytest.mark.parametrize("end", ["drop", "abort"])
@pytest.mark.parametrize("when", ["data", "end", "progressed", "drained"])
def test_the_owner_may_end_it_whenever_it_is_told_something(
    connect: Connect, sleepless: Reactor, log: io.StringIO, when: str, end: str
) -> None:
    """Readable and writable at once: after the end neither is dealt with."""
    c = connect(tcp=True, narrow=True)
    c.owner.then[when] = getattr(c.stream, end)
    c.stream.write(pattern(300_000))
    if when == "end":
        c.peer.shutdown(socket.SHUT_WR)
    elif when == "data":
        c.peer.sendall(b"hello")
    c.peer.setblocking(False)
    while not c.stream.closed:
        sleepless.turn()
        try:
            c.peer.recv(10_000)
        except (BlockingIOError, ConnectionResetError):
            continue
    assert c.owner.told[-2:] == [when, "lost"]
    assert log.getvalue() == ""


def test_close_in_the_middle_of_progress(connect: Connect, sleepless: Reactor) -> None:
    c = connect(tcp=True, narrow=True)
    c.owner.then["progressed"] = c.stream.close
    data = pattern(100_000)
    c.stream.write(data)
    assert take(sleepless, c.peer) == data


def test_the_owner_may_write_when_it_is_told_that_all_is_out(
    connect: Connect, sleepless: Reactor
) -> None:
    c = connect(narrow=True)
    data = pattern(100_000)
    c.owner.then["drained"] = lambda: c.stream.write(data) if len(c.owner.told) < 200 else None
    c.stream.write(data)
    assert take(sleepless, c.peer, 200_000) == data + data


# ---- trouble of the owner ---------------------------------------------------------------------


def test_an_owner_that_raises_is_logged(connect: Connect, turn: Turn, log: io.StringIO) -> None:
    c = connect()

    def fail() -> None:
        raise ValueError("of its own making")

    c.owner.then["data"] = fail
    c.peer.sendall(b"hello")
    turn()
    assert log.getvalue().count("ValueError: of its own making") == 1
    assert c.owner.told == ["data", "lost"]  # nobody knows what it has or has not done


@pytest.mark.parametrize("error", [FileNotFoundError, BlockingIOError, ConnectionResetError])
def test_trouble_of_the_owner_is_not_taken_for_the_peers(
    connect: Connect, turn: Turn, log: io.StringIO, error: type[OSError]
) -> None:
    c = connect()

    def fail() -> None:
        raise error("of its own making")

    c.owner.then["data"] = fail
    c.peer.sendall(b"hello")
    turn()
    assert log.getvalue().count(f"{error.__name__}: of its own making") == 1


def test_an_owner_that_drops_and_raises_is_lost_once(
    connect: Connect, turn: Turn, log: io.StringIO
) -> None:
    c = connect()

    def fail() -> None:
        c.stream.drop()
        raise OSError("of its own making")

    c.owner.then["data"] = fail
    c.peer.sendall(b"hello")
    turn()
    assert c.owner.told == ["data", "lost"]
    assert log.getvalue().count("OSError: of its own making") == 1
