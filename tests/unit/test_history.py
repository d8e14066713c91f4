"""The file of typed lines."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

from quick_server.history import History


def test_lines_are_there_in_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "history"
    first = History(str(path))
    assert first.load() == []
    first.add("help")
    first.add("größe 漢字")
    assert History(str(path)).load() == ["help", "größe 漢字"]


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "history"
    History(str(path)).add("secret")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o644, 0o666])
def test_nobody_else_may_read_one_that_was_there(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "history"
    path.write_text("first\n")
    path.chmod(mode)
    History(str(path)).add("secret")
    assert path.read_text() == "first\nsecret\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_shortening_follows_no_link(tmp_path: Path) -> None:
    """Where others may write beside it, they could have one wait there."""
    path, victim = tmp_path / "history", tmp_path / "victim"
    path.write_text("line\n" * 5000)
    (tmp_path / f"history.{os.getpid()}").symlink_to(victim)
    assert len(History(str(path)).load()) == 1000
    assert not victim.exists()
    assert not path.is_symlink()
    assert path.read_text() == "line\n" * 1000


def test_no_path_keeps_nothing(tmp_path: Path) -> None:
    history = History("")
    history.add("help")
    assert history.load() == []
    assert list(tmp_path.iterdir()) == []


def test_a_long_file_is_shortened(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_text("".join(f"line {number}\n" for number in range(5000)))
    lines = History(str(path)).load()
    assert lines == [f"line {number}" for number in range(4000, 5000)]
    assert path.read_text().splitlines() == lines
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["history"]


def test_a_huge_file_is_not_read_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_bytes(b"x" * 5_000_000 + b"\nlast\n")
    assert History(str(path)).load()[-1] == "last"
    assert path.stat().st_size < 2_000_000


def test_a_place_that_cannot_be_written_is_said_once(tmp_path: Path, log: io.StringIO) -> None:
    history = History(str(tmp_path / "missing" / "history"))
    history.add("one")
    history.add("two")
    assert history.load() == []
    assert log.getvalue().count("history") == 2  # one line, which names the file
    assert log.getvalue().count("\n") == 1


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_bytes(b"\xff\n\nok\n")
    assert History(str(path)).load() == ["\N{REPLACEMENT CHARACTER}", "ok"]


def test_a_file_whose_lines_cannot_be_kept_is_read_all_the_same(tmp_path: Path) -> None:
    """A name that the file system takes, and no longer one beside it."""
    path = tmp_path / ("h" * 250)
    path.write_text("line\n" * 5000)
    assert History(str(path)).load() == ["line"] * 1000
    assert path.read_text() == "line\n" * 5000


def test_a_pipe_is_no_history(tmp_path: Path) -> None:
    path = tmp_path / "history"
    os.mkfifo(path)
    assert History(str(path)).load() == []
