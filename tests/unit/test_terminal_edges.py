"""A terminal that fails, is busy, or is not there. The line itself is a stand-in for the library's."""

from __future__ import annotations

import errno
import io
import os
import pty
import signal
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import quick_server.terminal
from quick_server.reactor import READ, Reactor
from quick_server.terminal import Terminal
from tests.unit.fakes import Clock, turn_until


class Line:
    """Takes the place of the library, which keeps its state in globals of the process."""

    latest: Line

    def __init__(
        self, on_line: Callable[[str | None], None], complete: Callable[[str, str], list[str]]
    ) -> None:
        Line.latest = self
        self.on_line, self.complete = on_line, complete
        self.remembers = True
        self.is_tab_again = False
        self.line, self.point = "", 0
        self.sizes: list[tuple[int, int]] = []
        self.keys = b""
        self.attached = False

    def remember(self, lines: list[str]) -> None:
        self.history = lines

    def attach(self, draw: Callable[[bytes], object], more_keys: Callable[[], int | None]) -> None:
        self.draw, self.more_keys, self.attached = draw, more_keys, True

    def detach(self) -> None:
        self.attached = False

    def begin(self, prompt: str) -> None:
        self.draw(prompt.encode())

    def set_size(self, rows: int, columns: int) -> None:
        self.sizes.append((rows, columns))

    def rows_above(self, columns: int) -> int:
        return 0

    def take_key(self, key: int) -> None:
        self.keys += bytes([key])
        self.draw(bytes([key]))

    def show(self) -> None:
        pass

    hide = end = show


class Owner:
    """Takes what a terminal tells."""

    def __init__(self) -> None:
        self.ended = 0

    def line_typed(self, line: str) -> None:
        raise AssertionError(line)

    def input_ended(self) -> None:
        self.ended += 1

    def complete(self, before: str, text: str) -> list[str] | None:
        raise ValueError(f"not {text}")


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def make(reactor: Reactor, owner: Owner, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Terminal]:
    """`make(prompt)` makes a terminal."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(quick_server.terminal, "Readline", Line)
    return lambda prompt: Terminal(reactor, owner, lambda: prompt)


@contextmanager
def on_screen(terminal: Terminal) -> Iterator[int]:
    """The near end of a pty whose far end is standard input and output; closes the terminal.

    No fixture, as pytest changes standard output between fixtures and tests.
    """
    near, far = pty.openpty()
    originals = [os.dup(number) for number in range(3)]
    for number in range(3):
        os.dup2(far, number)
    os.close(far)
    os.set_blocking(near, False)
    try:
        yield near
    finally:
        try:
            terminal.close()
        finally:
            for number, original in enumerate(originals):
                os.dup2(original, number)
                os.close(original)
            os.close(near)


def descriptors() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_terminal_that_was_never_taken(make: Callable[[str], Terminal], owner: Owner) -> None:
    terminal = make("> ")
    remembers = []
    for asks in (False, True, True, False):
        terminal.ask(asks)
        remembers.append(Line.latest.remembers)
    assert remembers == [True, False, False, True]
    assert not terminal.interrupt()
    terminal.close()
    assert not Line.latest.attached
    assert owner.ended == 0


def test_no_pty_is_left(make: Callable[[str], Terminal], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> tuple[int, int]:
        raise OSError(errno.ENOSPC, "out of ptys")

    terminal = make("> ")
    with on_screen(terminal):
        modes = termios.tcgetattr(0)
        before = descriptors()
        monkeypatch.setattr(pty, "openpty", fail)
        with pytest.raises(OSError, match="out of ptys"):
            terminal.open([])
        assert descriptors() == before
        assert termios.tcgetattr(0) == modes
        assert not Line.latest.attached


def test_no_pty_is_left_when_we_come_to_the_front(
    make: Callable[[str], Terminal],
    owner: Owner,
    reactor: Reactor,
    clock: Clock,
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> tuple[int, int]:
        raise OSError(errno.ENOSPC, "out of ptys")

    terminal = make("> ")
    with on_screen(terminal):
        is_in_front = False
        monkeypatch.setattr(quick_server.terminal, "in_foreground", lambda: is_in_front)
        monkeypatch.setattr(pty, "openpty", fail)
        terminal.open([])
        terminal.signals[signal.SIGCONT](signal.SIGCONT)  # in the background still: goes on looking
        assert owner.ended == 0
        is_in_front = True
        clock.now += 60
        reactor.turn(0)
        assert owner.ended == 1
        assert "lines cannot be edited here: [Errno 28] out of ptys" in log.getvalue()
        clock.now += 60
        reactor.turn(0)
        assert owner.ended == 1


def test_a_terminal_without_a_name_that_is_not_ours(
    make: Callable[[str], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A descriptor that others share may wait, and the loop with it."""

    def fail(_descriptor: int) -> str:
        raise OSError(errno.ENODEV, "no name")

    terminal = make("> ")
    with on_screen(terminal):
        monkeypatch.setattr(os, "ttyname", fail)
        with pytest.raises(OSError, match="ioctl"):
            terminal.open([])


def test_a_size_that_nobody_knows(
    make: Callable[[str], Terminal], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_descriptor: int) -> os.terminal_size:
        raise OSError(errno.ENOTTY, "no terminal")

    terminal = make("> ")
    with on_screen(terminal):
        monkeypatch.setattr(os, "get_terminal_size", fail)
        terminal.open([])
        assert Line.latest.sizes == [(24, 80)]


def test_reading_fails(
    make: Callable[[str], Terminal], owner: Owner, reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = make("> ")
    with on_screen(terminal) as screen:
        terminal.open([])
        read = os.read
        own = terminal._in

        def fail(descriptor: int, size: int) -> bytes:
            if descriptor == own:
                raise OSError(errno.EIO, "gone")
            return read(descriptor, size)

        monkeypatch.setattr(os, "read", fail)
        assert Line.latest.more_keys() is None
        os.write(screen, b"a")
        assert Line.latest.more_keys() is None  # ready, and fails
        turn_until(reactor, lambda: owner.ended)
        assert (owner.ended, Line.latest.keys, Line.latest.attached) == (1, b"", False)


def test_the_rest_of_a_key(make: Callable[[str], Terminal]) -> None:
    terminal = make("> ")
    with on_screen(terminal) as screen:
        terminal.open([])
        assert Line.latest.more_keys() is None
        os.write(screen, b"[A")
        assert [Line.latest.more_keys() for _ in range(3)] == [*b"[A", None]


def test_a_completion_that_fails(make: Callable[[str], Terminal], log: io.StringIO) -> None:
    make("> ")
    assert Line.latest.complete("say ", "he") == []
    assert "a line could not be completed" in log.getvalue()
    assert "ValueError: not he" in log.getvalue()


def test_a_new_size_waits_for_what_is_on_its_way(
    make: Callable[[str], Terminal], reactor: Reactor
) -> None:
    size = 300_000
    terminal = make("x" * size)
    with on_screen(terminal) as screen:
        terminal.open([])
        sizes = Line.latest.sizes
        assert sizes == [(24, 80)]
        termios.tcsetwinsize(0, (11, 77))
        terminal.signals[signal.SIGWINCH](signal.SIGWINCH)
        assert sizes == [(24, 80)]
        shown = 0

        def read(_mask: int) -> None:
            nonlocal shown
            shown += os.read(screen, 65536).count(b"x")

        reactor.register(screen, READ, read)
        turn_until(reactor, lambda: shown == size and len(sizes) > 1)
        reactor.unregister(screen)
        assert sizes == [(24, 80), (11, 77)]
