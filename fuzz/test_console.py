"""Any lines, cut anywhere, as commands: each is done once, in order; a bad one gets one message."""

from __future__ import annotations

import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.faults import Wake
from fuzz.handturned import HandTurned
from fuzz.profile import examples
from quick_server import QuickServer

pytestmark = pytest.mark.timeout(0)

LONGEST = 10_000  # characters of a command
MOST_KEPT = 128 * 1024  # bytes of lines that are not wanted yet
END = "no command loop - use CTRL-C to terminate"
ANSWER = "asked"
COMMANDS = ("say", "say it again", "wait", "fail", "leave", ANSWER, "two_words")
words = st.sampled_from(
    [
        *" ".join(COMMANDS).split(),
        "SAY",
        "sa",
        "#",
        "a#b",
        "two",
        "words",
        "\u00e4",
        "\U0001f600",
        "{0}",
        "%s",
    ]
)
gaps = st.sampled_from([" ", "  ", "\t", " \x0c "])


class Line(NamedTuple):
    """A line that may be long, but is not when it is shown."""

    start: bytes
    unit: bytes = b""
    times: int = 0

    @property
    def raw(self) -> bytes:
        return self.start + self.unit * self.times


LONG = [
    (b"x", 9990), (b"x", 10_001), (b"x", 17_000), (b"x", 300_000), ("\u20ac".encode(), 9000),
    ("\U0001f600".encode(), 30_000), (b"\xe2\x82", 5000), (b" x", 9000), (b" ", 100_000),
]  # fmt: skip
spoken = st.lists(st.tuples(words, gaps), max_size=6).map(
    lambda parts: Line("".join(f"{word}{gap}" for word, gap in parts).encode())
)
odd = st.binary(max_size=30).map(lambda data: Line(data.replace(b"\n", b" ")))
long = st.builds(
    lambda start, rest: Line(start, *rest),
    st.sampled_from([b"say ", b"wait", b"", b"# ", b"\xff"]),
    st.sampled_from(LONG),
)
lines = st.lists(spoken | spoken | spoken | odd | long, max_size=12)
ends = st.sampled_from([b"\n", b"\n", b"\r\n"])


class Expected(NamedTuple):
    """What becomes of a line."""

    event: tuple[str, ...]
    asks: bool = False


def meant(line: bytes) -> Expected | None:
    """What a line must lead to; None if it is nothing."""
    text = line.removesuffix(b"\r").decode("utf-8", "backslashreplace")
    if len(text) > LONGEST:
        return Expected(("log", "that is too long for a command"))
    said = text.partition("#")[0].split()
    if not said:
        return None
    if said[:3] == ["say", "it", "again"]:
        return Expected(("say it again", *said[3:]))
    known = ["two", "words"] if said[:2] == ["two", "words"] else said[:1]
    name = " ".join(known)
    args = said[len(known) :]
    if name not in ("say", "wait", "fail", "leave", ANSWER, "two words"):
        return Expected(("log", "there is no command"))
    if name == "two words" and len(args) != 1:
        return Expected(("log", "'two words' takes 1 argument(s)"))
    if name in ("fail", "leave"):
        return Expected(("log", f"the command '{name}' failed"))
    return Expected((name, *args), asks=name == ANSWER)


class Notes:
    """What happened, in order; also the log."""

    def __init__(self) -> None:
        self.events: list[tuple[str, ...]] = []

    def write(self, text: str, /) -> None:
        for line in re.findall(r"^(?:\[SERVER\] |.*? \(\d+\): )(.*)", text, re.MULTILINE):
            self.events.append(("log", line))

    def flush(self) -> None: ...


class Console:
    """A server whose console reads what a test writes."""

    def __init__(self, descriptor: int, wakes: list[Wake]) -> None:
        self.notes = Notes()
        self.world = HandTurned(self.configure, wakes=wakes, log=self.notes)
        self.gate = self.world.gate
        self.waits = 0
        before = sys.stdin
        with open(descriptor, closefd=False) as source:
            sys.stdin = source
            try:
                self.world.server._console.open()
            finally:
                self.stdin, sys.stdin = sys.stdin, before

    def configure(self, server: QuickServer) -> None:
        server.no_command_loop = False
        server.history_file = ""
        server.console = "plain"
        events = self.notes.events

        def wait(args: list[str]) -> None:
            self.gate.wait(self.waits)
            self.waits += 1
            events.append(("wait", *args))

        def fail(_args: list[str]) -> None:
            raise ValueError("as it should")

        def leave(_args: list[str]) -> None:
            sys.exit(3)

        def ask(args: list[str]) -> None:
            events.append((ANSWER, *args))
            events.append(("answer", self.stdin.readline()))

        server.add_cmd_method("say", lambda args: events.append(("say", *args)))
        server.add_cmd_method("say_it_again", lambda args: events.append(("say it again", *args)))
        server.add_cmd_method("wait", wait)
        server.add_cmd_method("fail", fail)
        server.add_cmd_method("leave", leave)
        server.add_cmd_method(ANSWER, ask)
        server.add_cmd_method("two_words", lambda args: events.append(("two words", *args)), 1)

    def kept(self) -> int:
        """Bytes of lines that were read and are not done."""
        console = self.world.server._console
        source = console._source
        waiting = sum(map(len, console._waiting))
        return waiting + (len(source.unused) if source is not None and hasattr(source, "unused") else 0)


@contextmanager
def sources(kind: str, data: bytes) -> Iterator[tuple[int, int | None]]:
    """What the console reads from, and where lines are written to, if they are not there already."""
    if kind == "file":
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.seek(0)
            yield file.fileno(), None
    elif kind == "socket":
        near, far = socket.socketpair()
        with near, far:
            yield near.fileno(), far.detach()
    else:
        reader, writer = os.pipe()
        try:
            yield reader, writer
        finally:
            os.close(reader)


def expected_of(lines: list[bytes]) -> list[tuple[str, ...]]:
    """All that must happen, in order."""
    events: list[tuple[str, ...]] = []
    asked = False
    for line in lines:
        if asked:
            asked = False
            events.append(
                ("answer", line.removesuffix(b"\r").decode("utf-8", "backslashreplace") + "\n")
            )
            continue
        found = meant(line)
        if found is not None:
            events.append(found.event)
            asked = found.asks
    if asked:
        events += [("log", END), ("answer", "")]
        return events
    return [*events, ("log", END)]


def same(event: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    if wanted[0] == "log":
        return event[0] == "log" and event[1].startswith(wanted[1])
    if wanted[0] == "answer" and len(wanted[1]) > LONGEST:  # what is longer may be cut
        return event[0] == "answer" and event[1][:LONGEST] == wanted[1][:LONGEST]
    return event == wanted


@examples(1)
@given(
    lines,
    st.lists(ends, min_size=1, max_size=4),
    st.lists(st.sampled_from([1, 2, 3, 7, 100, 5000, 100_000]), min_size=1, max_size=5),
    st.booleans(),
    st.sampled_from(["pipe", "pipe", "file", "socket"]),
    st.lists(st.sampled_from([wake for wake in Wake if wake is not Wake.SPURIOUS]), max_size=20),
)
@example([Line(b"say ", *LONG[4])], [b"\n"], [100_000], True, "pipe", [])
def test_lines(
    lines: list[Line], ends: list[bytes], sizes: list[int], is_whole: bool, kind: str, wakes: list[Wake]
) -> None:
    data = b"".join(line.raw + end for line, end in zip(lines, cycle(ends), strict=False))
    if not is_whole and data.endswith(b"\n"):
        data = data[:-1]  # the last line has no end of its own
    wanted = expected_of(data.removesuffix(b"\n").split(b"\n") if data else [])
    with sources(kind, data) as (descriptor, writer):
        console = Console(descriptor, wakes)
        world = console.world
        try:
            left, pieces = memoryview(data), cycle(sizes)
            if writer is not None:
                os.set_blocking(writer, False)
            while left and writer is not None:
                try:
                    left = left[os.write(writer, left[: max(next(pieces), len(data) // 200)]) :]
                except BlockingIOError:
                    console.gate.open(console.waits)
                world.turn()
                assert console.kept() <= MOST_KEPT
            if writer is not None:
                os.close(writer)

            def is_over() -> bool:
                console.gate.open(console.waits)
                assert console.kept() <= MOST_KEPT
                return len(console.notes.events) >= len(wanted)

            world.until(is_over, "all commands")
            world.settle()
            events = console.notes.events
            if wanted[-1][0] == "answer":  # which of them comes first is up to threads
                events[-2:] = sorted(events[-2:], reverse=True)
            assert len(events) == len(wanted), events[len(wanted) :]
            for event, expected in zip(events, wanted, strict=True):
                assert same(event, expected), (event, expected)
        finally:
            console.gate.open_all()
            world.end()
