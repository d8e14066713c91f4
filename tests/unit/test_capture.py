"""What a process prints while its output is caught. Descriptors of a pty stand for 1 and 2."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from quick_server.capture import Capture
from tests.harness import PATIENCE


def nothing() -> None:
    pass


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    near, far = pty.openpty()
    yield near, far
    os.close(near)
    os.close(far)


def taken(capture: Capture) -> bytes:
    return b"".join(piece.data for piece in capture.take()[0])


@contextmanager
def captured(descriptor: int) -> Iterator[tuple[Capture, Callable[[int], bytes]]]:
    """A capture, and a function that waits until so many bytes have been taken."""
    arrived = threading.Event()
    capture = Capture((descriptor,), arrived.set)

    def take(size: int) -> bytes:
        data = b""
        while len(data) < size:
            assert arrived.wait(PATIENCE)
            arrived.clear()
            data += taken(capture)
        return data

    try:
        yield capture, take
    finally:
        capture.end()


def test_prints_and_children(terminal: tuple[int, int]) -> None:
    near, far = terminal
    with captured(far) as (_, take):
        os.write(far, b"print\n")
        assert take(6) == b"print\n"
        assert os.isatty(far)
        subprocess.run(["sh", "-c", "test -t 1 && echo terminal"], stdout=far, check=True)
        assert take(9) == b"terminal\n"
    os.write(far, b"direct\n")
    assert os.read(near, 100) == b"direct\r\n"


def test_the_rest_can_be_taken_in_the_end(terminal: tuple[int, int]) -> None:
    capture = Capture((terminal[1],), nothing)
    os.write(terminal[1], b"last words")
    capture.end()
    assert taken(capture) == b"last words"


def test_children_see_the_size_of_the_terminal(terminal: tuple[int, int]) -> None:
    near, far = terminal
    fcntl.ioctl(near, termios.TIOCSWINSZ, struct.pack("HHHH", 11, 77, 0, 0))
    with captured(far) as (capture, _):
        assert os.get_terminal_size(far) == (77, 11)
        fcntl.ioctl(near, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 78, 0, 0))
        capture.resize(near)
        assert os.get_terminal_size(far) == (78, 12)


def test_nobody_waits_for_ever_for_room(terminal: tuple[int, int]) -> None:
    """The loop fetches nothing, as when the terminal takes nothing; what is too much is counted."""
    _, far = terminal
    capture = Capture((far,), nothing)
    size = 3_000_000
    sent = 0
    while sent < size:
        sent += os.write(far, b"x" * min(4096, size - sent))
    capture.end()
    pieces, dropped = capture.take()
    kept = sum(len(piece.data) for piece in pieces)
    assert kept + dropped == size
    assert 500_000 < kept < 700_000


def test_who_must_not_wait_does_not(terminal: tuple[int, int]) -> None:
    capture = Capture((terminal[1],), nothing, may_wait=lambda: False)
    for _ in range(100):
        capture.say("x" * 9_999)
    pieces, dropped = capture.take()
    assert sum(len(piece.data) for piece in pieces) + dropped == 1_000_000
    assert dropped
    capture.say("again")
    assert [piece.data for piece in capture.take()[0]] == [b"again\n"]
    capture.end()


def test_lines_of_the_log_are_told_from_prints(terminal: tuple[int, int]) -> None:
    with captured(terminal[1]) as (capture, _):
        capture.say("a line")
        pieces, dropped = capture.take()
        assert [tuple(piece) for piece in pieces] == [(b"a line\n", True)]
        assert dropped == 0


def test_a_terminal_that_is_gone_has_no_size(terminal: tuple[int, int]) -> None:
    near, far = terminal
    fcntl.ioctl(near, termios.TIOCSWINSZ, struct.pack("HHHH", 11, 77, 0, 0))
    with captured(far) as (capture, take):
        reader, writer = os.pipe()
        os.close(writer)
        capture.resize(reader)  # it is none
        os.close(reader)
        capture.resize(reader)
        assert os.get_terminal_size(far) == (77, 11)
        os.write(far, b"print\n")
        assert take(6) == b"print\n"


def test_children_print_on_behind_the_end(terminal: tuple[int, int]) -> None:
    near, far = terminal
    reader, writer = os.pipe()
    with captured(far):
        child = subprocess.Popen(["sh", "-c", "read line; echo $line"], stdin=reader, stdout=far)
    os.write(writer, b"late\n")
    assert child.wait(PATIENCE) == 0
    assert os.read(near, 100) == b"late\r\n"
    os.close(reader)
    os.close(writer)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_prints_like_any_child(terminal: tuple[int, int]) -> None:
    with captured(terminal[1]) as (_, take):
        pid = os.fork()
        if not pid:
            os.write(terminal[1], b"forked\n")
            os._exit(0)
        assert take(7) == b"forked\n"
        assert os.waitpid(pid, 0)[1] == 0
