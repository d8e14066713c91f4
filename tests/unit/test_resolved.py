"""Resolved paths, looked at without following a link."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from quick_server.resolved import scanned, status_at

needs_folders = pytest.mark.skipif(
    not hasattr(os, "O_PATH"), reason="a folder cannot be opened in another here"
)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """`folder/sub/file`, and `link` to `folder`."""
    top = Path(os.path.realpath(tmp_path))
    (top / "folder" / "sub").mkdir(parents=True)
    (top / "folder" / "sub" / "file").write_text("text")
    (top / "link").symlink_to("folder")
    return top


@pytest.mark.parametrize("name", ["folder", "folder/sub/file", "link"])
def test_the_status_is_that_of_the_path_itself(top: Path, name: str) -> None:
    assert os.path.samestat(status_at(str(top / name)), os.lstat(top / name))


@needs_folders
def test_a_name_that_is_no_text(top: Path) -> None:
    path = os.fsencode(top) + b"/\xff"
    Path(os.fsdecode(path)).touch()
    assert stat.S_ISREG(status_at(os.fsdecode(path)).st_mode)


@needs_folders
@pytest.mark.parametrize("name", ["link/sub", "link/sub/file"])
def test_no_link_is_followed(top: Path, name: str) -> None:
    with pytest.raises(NotADirectoryError):
        status_at(str(top / name))


@needs_folders
@pytest.mark.parametrize("name", ["link", "link/sub"])
def test_no_link_is_scanned(top: Path, name: str) -> None:
    with pytest.raises(NotADirectoryError), scanned(str(top / name)):
        pytest.fail("it was")


def test_what_is_missing(top: Path) -> None:
    with pytest.raises(FileNotFoundError):
        status_at(str(top / "missing" / "file"))
    with pytest.raises(FileNotFoundError), scanned(str(top / "missing")):
        pytest.fail("it was")


def test_a_folder_is_scanned(top: Path) -> None:
    with scanned(str(top / "folder" / "sub")) as entries:
        assert [(entry.name, entry.stat().st_size) for entry in entries] == [("file", 4)]


def test_the_root(top: Path) -> None:
    assert os.path.samestat(status_at("/"), os.stat("/"))
    with scanned("/") as entries:
        assert top.parts[1] in {entry.name for entry in entries}
