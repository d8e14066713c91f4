"""Links that change while requests go on: a moment between check and use must not let anyone out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import quick_server
from fuzz.profile import EXAMPLES, SHORT
from fuzz.silence import SILENCE
from fuzz.sites import MARK
from quick_server import QuickServer, create_server

pytestmark = pytest.mark.timeout(0)

REQUESTS = EXAMPLES or SHORT
BIG = 100_000  # sent from its descriptor, not from memory


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A bound folder `www` and another beside it, with the same names and one more in it."""
    for folder in ("www/d", MARK):
        place = tmp_path / folder
        place.mkdir(parents=True)
        text = MARK if folder == MARK else "inside"
        (place / "a.txt").write_text(text)
        (place / "big.txt").write_text(text * BIG)
    (tmp_path / MARK / f"{MARK}.txt").write_text(MARK)
    (tmp_path / "link").symlink_to(tmp_path / MARK)
    return tmp_path


@pytest.fixture
def server(base: Path) -> Iterator[QuickServer]:
    quick_server.set_log_file(SILENCE)
    server = create_server(("127.0.0.1", 0))
    server.directory_listing = True
    server.bind_path("/", str(base / "www"))
    yield server
    server.server_close()
    quick_server.set_log_file(None)


@contextmanager
def meanwhile(change: Callable[[], object]) -> Iterator[None]:
    """Does that again and again in a thread."""
    done = threading.Event()

    def work() -> None:
        while not done.is_set():
            change()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def swap(base: Path, place: Path) -> None:
    """What is at the place is a link out of the folder for a moment, then itself again."""
    place.rename(base / "itself")
    (base / "link").rename(place)
    place.rename(base / "link")
    (base / "itself").rename(place)


@pytest.mark.parametrize("path", ["/d/a.txt", "/d/big.txt", "/d/", f"/d/{MARK}.txt", "/d"])
def test_a_folder_that_becomes_a_link(server: QuickServer, base: Path, path: str) -> None:
    client = server.test_client()
    with meanwhile(lambda: swap(base, base / "www" / "d")):
        answers = [client.get(path) for _ in range(REQUESTS)]
    assert {answer.status for answer in answers} <= {200, 301, 404}
    assert not [answer for answer in answers if MARK in answer.text.replace(path, "")]


@pytest.mark.parametrize("name", ["a.txt", "big.txt"])
def test_a_file_that_becomes_a_link(server: QuickServer, base: Path, name: str) -> None:
    client = server.test_client()
    (base / "link").unlink()
    (base / "link").symlink_to(base / MARK / name)
    with meanwhile(lambda: swap(base, base / "www" / "d" / name)):
        answers = [client.get(f"/d/{name}") for _ in range(REQUESTS)]
    assert {answer.status for answer in answers} <= {200, 404}
    assert not [answer for answer in answers if MARK in answer.text]
