"""What rarely happens to a console, to what it reads from, and to those who start and end with it."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, cast

import pytest
from cryptography import x509

from quick_server import selfsigned
from quick_server.commands import Commands
from quick_server.console import Console
from quick_server.lines import LOOK_EVERY, LineReader, in_foreground
from quick_server.pool import Job, PoolFullError
from quick_server.reactor import Reactor
from quick_server.shutdown import EXIT_CODE
from quick_server.terminal import Terminal
from tests.harness import PATIENCE
from tests.unit.fakes import Clock, turn_until


@dataclass
class Settings:
    base_path: str = "."
    console: Literal["auto", "plain"] = "auto"
    history_file: str = ""
    no_command_loop: bool = False
    prompt: str = "> "


class FakeTerminal:
    """In the place of the terminal that these tests have none of."""

    def __init__(self, error: OSError | None = None) -> None:
        self.error = error
        self.found: list[list[str]] = []

    def open(self, _history: list[str]) -> None:
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        pass

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def completed(self, found: list[str]) -> None:
        self.found.append(found)


class FullLane:
    """Takes no job."""

    def submit(self, job: Job) -> None:
        raise PoolFullError


class Bench:
    """Consoles whose standard input is a pipe; `done` is what was given to the command `say`."""

    def __init__(self, reactor: Reactor, monkeypatch: pytest.MonkeyPatch, writer: int) -> None:
        self.reactor = reactor
        self.monkeypatch = monkeypatch
        self.writer = writer
        self.done: list[str] = []
        self.commands = Commands()
        self.commands.add("say", self._say, complete=lambda _args, text: [text + "!"], builtin=True)
        self.consoles: list[Console] = []

    def _say(self, words: list[str]) -> None:
        self.done.append(" ".join(words))

    def open(
        self, terminal: FakeTerminal | None = None, lane: FullLane | None = None, earlier: bytes = b""
    ) -> Console:
        console = Console(Settings(), self.commands, self.reactor, lane)
        if terminal is not None:
            found = cast("Terminal", terminal)
            self.monkeypatch.setattr(console, "_find_terminal", lambda _descriptor: found)
        self.consoles.append(console)
        console.open(earlier)
        return console

    def turn_until(self, condition: Callable[[], object]) -> None:
        turn_until(self.reactor, condition)


@pytest.fixture
def bench(reactor: Reactor, monkeypatch: pytest.MonkeyPatch, log: io.StringIO) -> Iterator[Bench]:
    assert not log.getvalue()
    reader, writer = os.pipe()
    with open(reader, encoding="utf-8") as file, open(writer, "wb"):
        monkeypatch.setattr(sys, "stdin", file)
        bench = Bench(reactor, monkeypatch, writer)
        yield bench
        for console in bench.consoles:
            console.close()
            console.join(PATIENCE)
        assert sys.stdin is file


# the console --------------------------------------------------------------------------------------


def test_a_terminal_that_cannot_be_taken_is_read_line_by_line(bench: Bench, log: io.StringIO) -> None:
    console = bench.open(FakeTerminal(OSError("no descriptor is left")))
    assert log.getvalue().count("lines cannot be edited here: no descriptor is left") == 1
    os.write(bench.writer, b"say one\n")
    bench.turn_until(lambda: bench.done)
    assert bench.done == ["one"]
    assert not console.interrupt()  # there is no line that is being edited


def test_what_an_earlier_run_has_left_is_done_first_at_a_terminal(bench: Bench) -> None:
    bench.open(FakeTerminal(), earlier=b"say one\nsay two\n")
    bench.turn_until(lambda: len(bench.done) == 2)
    assert bench.done == ["one", "two"]


def test_a_command_that_finds_no_place_is_left_out_and_the_next_one_is_done(
    bench: Bench, log: io.StringIO
) -> None:
    bench.commands.add("mine", bench.done.extend)
    bench.open(lane=FullLane(), earlier=b"mine one\nsay two\n")
    bench.turn_until(lambda: bench.done)
    assert bench.done == ["two"]
    assert log.getvalue().count("the console has too much to do") == 1


def test_who_asks_a_console_that_is_closed_gets_the_end(bench: Bench) -> None:
    console = bench.open()
    stdin = sys.stdin
    answers: list[str | None] = []
    console._ask(answers.append)  # the loop gets to know of it only when there is nothing to read from
    console.close()
    assert answers == []
    bench.turn_until(lambda: answers)
    assert answers == [None]
    assert stdin.readline() == ""


def test_only_the_latest_completion_counts(bench: Bench) -> None:
    terminal = FakeTerminal()
    console = bench.open(terminal)
    assert console.complete("say ", "a") is None
    assert console.complete("say ", "ab") is None
    bench.turn_until(lambda: terminal.found)
    assert terminal.found == [["ab! "]]


def test_a_completion_that_comes_after_the_end_of_input(bench: Bench) -> None:
    terminal = FakeTerminal()
    console = bench.open(terminal)
    assert console.complete("say ", "a") is None
    console.input_ended()
    bench.turn_until(lambda: console._asked is None)
    assert terminal.found == []


# lines --------------------------------------------------------------------------------------------


class Owner:
    """Takes lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line_typed(self, line: str) -> None:
        self.lines.append(line)

    def input_ended(self) -> None:
        self.lines.append("the end")


def test_a_terminal_that_does_not_control_us_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with open(reader, "rb"), open(writer, "wb"):

        def refuse(_descriptor: int) -> int:
            return tcgetpgrp(reader)  # ENOTTY

        tcgetpgrp = os.tcgetpgrp
        monkeypatch.setattr(os, "tcgetpgrp", refuse)
        assert in_foreground()


def test_a_terminal_is_not_read_until_we_are_in_front(
    reactor: Reactor, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreground = os.getpgrp()
    monkeypatch.setattr(os, "tcgetpgrp", lambda _descriptor: foreground)
    owner = Owner()
    master, slave = os.openpty()
    with open(master, "wb", buffering=0) as keys, open(slave, "rb"):
        source = LineReader(reactor, slave, owner)
        source.resume()
        source.resume()
        reactor.turn(0)
        foreground += 1  # what waits for the terminal is registered already
        keys.write(b"one\n")
        for _ in range(3):
            clock.advance(LOOK_EVERY)
            reactor.turn(0)
        assert owner.lines == []
        foreground = os.getpgrp()
        clock.advance(LOOK_EVERY)
        turn_until(reactor, lambda: owner.lines)
        source.close()
    assert owner.lines == ["one"]


# certificates -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_an_address_of_all_interfaces_stands_for_the_machine(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "workshop")
    names = x509.SubjectAlternativeName(selfsigned._names((host,)))
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "workshop"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == [
        "127.0.0.1",
        "::1",
    ]


# the end ------------------------------------------------------------------------------------------

IGNORING = """\
import signal
from quick_server import setup_shutdown
signal.signal(signal.SIGHUP, signal.SIG_IGN)
setup_shutdown()
signal.raise_signal(signal.SIGHUP)
print("still here", flush=True)
signal.raise_signal(signal.SIGTERM)
print("not reached")
"""
ECHOING = """\
import signal
from quick_server import add_shutdown_hook, handover, setup_shutdown
setup_shutdown()

def hook():
    signal.raise_signal(signal.SIGTERM)
    print("the hook ended", flush=True)

add_shutdown_hook(hook)
handover._forwarded[signal.SIGTERM] = 1  # the supervisor says that it passes one on
signal.raise_signal(signal.SIGTERM)
print("not reached")
"""


def ends(script: str) -> str:
    """What a script prints that a signal ends as it should."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_CODE, done.stderr
    return done.stdout


def test_a_signal_that_is_ignored_stays_so() -> None:
    assert ends(IGNORING) == "still here\n"


def test_a_signal_that_came_by_another_way_before_ends_no_hook() -> None:
    """The group got it, and the supervisor has passed it on: it is one."""
    assert ends(ECHOING) == "the hook ended\n"
