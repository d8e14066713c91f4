"""Lines from pipes, files and odd descriptors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quick_server.lines import LineReader
from quick_server.reactor import Reactor
from tests.unit.fakes import SleeplessSelector, turn_until


class Owner:
    """Takes lines; `after` is called with each."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.ended = 0
        self.after: Callable[[str], object] = len

    def line_typed(self, line: str) -> None:
        self.lines.append(line)
        self.after(line)

    def input_ended(self) -> None:
        self.ended += 1


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            pass  # the test has closed it


def read_all(reactor: Reactor, descriptor: int, earlier: bytes = b"") -> list[str]:
    owner = Owner()
    LineReader(reactor, descriptor, owner, earlier).resume()
    turn_until(reactor, lambda: owner.ended)
    for _ in range(3):
        reactor.turn(0)
    assert owner.ended == 1
    return owner.lines


def test_lines_from_a_pipe(reactor: Reactor, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    owner = Owner()
    LineReader(reactor, reader, owner).resume()
    os.write(writer, b"one\ntw")
    turn_until(reactor, lambda: owner.lines)
    assert owner.lines == ["one"]
    os.write(writer, b"o\r\n\nthree")
    turn_until(reactor, lambda: len(owner.lines) == 3)
    assert owner.lines == ["one", "two", ""]
    os.close(writer)
    turn_until(reactor, lambda: owner.ended)
    assert owner.lines == ["one", "two", "", "three"]


def test_a_file_is_always_ready(reactor: Reactor, tmp_path: Path) -> None:
    text = "".join(f"line {number}\n" for number in range(10_000))
    (tmp_path / "commands").write_text(text)
    with open(tmp_path / "commands", "rb") as file:
        assert read_all(reactor, file.fileno()) == text.splitlines()


def test_nothing_at_all(reactor: Reactor) -> None:
    with open(os.devnull, "rb") as file:
        assert read_all(reactor, file.fileno()) == []


def test_a_descriptor_that_is_closed(reactor: Reactor, pipe: tuple[int, int]) -> None:
    reader, _ = pipe
    os.close(reader)
    assert read_all(reactor, reader) == []


def test_no_waiting_for_nothing_once_it_has_ended(
    sleepless: Reactor, selector: SleeplessSelector
) -> None:
    with open(os.devnull, "rb") as file:
        read_all(sleepless, file.fileno())
    selector.patience.clear()
    sleepless.turn()
    assert selector.patience == [None]


def test_what_was_read_before_comes_first(reactor: Reactor, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.write(writer, b"d\n")
    os.close(writer)
    assert read_all(reactor, reader, b"b\nc\n") == ["b", "c", "d"]


def test_no_line_is_delivered_that_is_not_wanted(reactor: Reactor, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    owner = Owner()
    source = LineReader(reactor, reader, owner)
    owner.after = lambda _line: source.pause()
    os.write(writer, b"one\ntwo\nthr")
    source.resume()
    turn_until(reactor, lambda: owner.lines)
    for _ in range(3):
        reactor.turn(0)
    assert owner.lines == ["one"]
    assert source.unused == b"two\nthr"
    source.resume()
    turn_until(reactor, lambda: len(owner.lines) == 2)
    assert source.unused == b"thr"


def test_nothing_more_once_it_is_closed(reactor: Reactor, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    owner = Owner()
    source = LineReader(reactor, reader, owner)
    owner.after = lambda _line: source.close()
    os.write(writer, b"one\ntwo\n")
    source.resume()
    turn_until(reactor, lambda: owner.lines)
    os.write(writer, b"three\n")
    for _ in range(3):
        reactor.turn(0)
    assert owner.lines == ["one"]
    assert owner.ended == 0


def test_a_long_line_is_one_line_and_cut(reactor: Reactor, tmp_path: Path) -> None:
    (tmp_path / "long").write_bytes(b"x" * 300_000 + b"\nshort\n")
    with open(tmp_path / "long", "rb") as file:
        long, short = read_all(reactor, file.fileno())
    assert set(long) == {"x"}
    assert 10_000 < len(long) < 100_000
    assert short == "short"


@pytest.mark.parametrize("letter", ["\u20ac", "\U0001f600"])
@pytest.mark.parametrize("count", [9_000, 30_000])
def test_a_line_is_whole_or_too_long_for_a_command(
    reactor: Reactor, tmp_path: Path, letter: str, count: int
) -> None:
    (tmp_path / "long").write_bytes(letter.encode() * count + b"\n")
    with open(tmp_path / "long", "rb") as file:
        (line,) = read_all(reactor, file.fileno())
    assert line == letter * count or len(line) > 10_000


def test_bytes_that_are_no_text(reactor: Reactor, tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\x00a\xc3\xa4\n")
    with open(tmp_path / "bytes", "rb") as file:
        assert read_all(reactor, file.fileno()) == ["\\xff\x00aä"]


@given(st.lists(st.text(alphabet="ab \t", max_size=5), max_size=8), st.data())
def test_pieces_make_no_difference(lines: list[str], data: st.DataObject) -> None:
    whole = "".join(f"{line}\n" for line in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    reactor = Reactor()
    reader, writer = os.pipe()
    owner = Owner()
    LineReader(reactor, reader, owner).resume()
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        os.write(writer, whole[start:end])
        reactor.turn(0)
        reactor.turn(0)
    os.close(writer)
    turn_until(reactor, lambda: owner.ended)
    os.close(reader)
    reactor.close()
    assert owner.lines == lines


def test_a_file_that_is_not_wanted_any_more(reactor: Reactor, tmp_path: Path) -> None:
    """Between two pieces, which are read in different turns."""
    path = tmp_path / "lines"
    path.write_bytes(b"x" * 20_000 + b"\n")
    owner = Owner()
    with path.open("rb") as file:
        lines = LineReader(reactor, file.fileno(), owner)
        lines.resume()
        turn_until(reactor, lambda: lines.unused)
        lines.pause()
        reactor.turn(0)
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) < 20_000
        lines.resume()
        turn_until(reactor, lambda: owner.lines)
    assert owner.lines == ["x" * 20_000]


def test_a_line_that_arrives_in_pieces(reactor: Reactor, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    owner = Owner()
    lines = LineReader(reactor, reader, owner)
    lines.resume()
    os.write(writer, b"one, ")
    turn_until(reactor, lambda: lines.unused)
    assert owner.lines == []
    os.write(writer, b"two\n")
    turn_until(reactor, lambda: owner.lines)
    assert owner.lines == ["one, two"]
