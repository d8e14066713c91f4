"""What is remembered of files: as long as they stay the same, and as much as there is room for."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from quick_server import siblings as siblings_module
from quick_server.filememory import FileMemory, Place, Representation, Signature, is_settled, signature
from quick_server.protocol.conditional import Validators
from quick_server.siblings import Sibling, Siblings
from tests.harness import PATIENCE

MIB = 1024 * 1024
OLD: Signature = (1, 2, 3, 1, 1)


def place(name: str) -> Place:
    return Place("/folder", name)


def representation(size: int, state: Signature = OLD) -> Representation:
    return Representation(state, Validators('"tag"'), "text/plain", None, size, bytes(size), b"")


@pytest.fixture
def memory() -> FileMemory:
    return FileMemory()


def test_a_file_is_known_while_it_is_the_same(memory: FileMemory) -> None:
    what = representation(10)
    memory.remember(place("a"), what)
    assert memory.get(place("a"), OLD) is what
    assert memory.get(place("a"), (*OLD[:4], 2)) is None
    assert memory.get(place("b"), OLD) is None
    assert memory.trusts(place("a"))
    memory.clear()
    assert memory.get(place("a"), OLD) is None
    assert not memory.trusts(place("a"))


def test_what_has_just_changed_is_not_kept(memory: FileMemory) -> None:
    now = (1, 2, 3, time.time_ns() + 10**10, 1)
    memory.remember(place("a"), representation(10, now))
    assert memory.get(place("a"), now) is None


def test_a_full_memory_starts_anew(memory: FileMemory) -> None:
    memory.remember(place("a"), representation(9 * MIB))
    memory.remember(place("b"), representation(6 * MIB))
    assert memory.get(place("a"), OLD)
    memory.remember(place("c"), representation(2 * MIB))
    assert memory.get(place("a"), OLD) is memory.get(place("b"), OLD) is None
    assert memory.get(place("c"), OLD)
    memory.remember(place("d"), representation(13 * MIB))  # there is room again
    assert memory.get(place("c"), OLD)


def test_a_file_takes_its_own_place(memory: FileMemory) -> None:
    for _ in range(5):
        memory.remember(place("a"), representation(6 * MIB))
    memory.remember(place("b"), representation(9 * MIB))
    assert memory.get(place("a"), OLD)
    assert memory.get(place("b"), OLD)


# ---- compressed siblings ----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that has not changed for so long that its state is remembered."""
    (tmp_path / "app.js").touch()
    (tmp_path / "app.js.gz").touch()
    deadline = time.monotonic() + PATIENCE
    while not is_settled(signature(os.stat(tmp_path))):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return tmp_path


def test_siblings_of_a_folder_that_is_gone(tmp_path: Path) -> None:
    assert Siblings().of(str(tmp_path / "gone" / "app.js")) == ()


def test_siblings_are_remembered_up_to_a_bound(folder: Path) -> None:
    known = Siblings()
    path = str(folder / "app.js")
    found = known.of(path)
    assert found == (Sibling("gzip", f"{path}.gz"),)
    assert known.of(path) is found
    for number in range(siblings_module._MOST_ENTRIES):
        assert known.of(str(folder / f"{number}.js")) == ()
    assert len(known._known) < siblings_module._MOST_ENTRIES
    assert known.of(path) == found
