"""Files at a second place: links, copies that follow their originals, and what may go wrong."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from quick_server.mirror import Mirrors
from quick_server.pool import Job, Pool, PoolFullError
from quick_server.reactor import Reactor
from tests.harness import PATIENCE
from tests.unit.fakes import Clock, SleeplessSelector, turn_until

EVERY = 1.0  # seconds between two looks


class Lane:
    """Keeps the jobs until the test runs them."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.full = False

    def submit(self, job: Job) -> None:
        if self.full:
            raise PoolFullError
        self.jobs.append(job)

    def work(self) -> None:
        job = self.jobs.pop()
        job.deliver(job.run())


class Looks:
    """Lets the time of one look pass and has the work done."""

    def __init__(self, reactor: Reactor, clock: Clock, lane: Lane) -> None:
        self.reactor = reactor
        self.clock = clock
        self.lane = lane

    def wait(self) -> None:
        self.reactor.turn(0)  # takes what another thread has asked for
        self.clock.advance(EVERY)
        self.reactor.turn(0)

    def look(self) -> None:
        self.wait()
        assert len(self.lane.jobs) == 1, "no look was due"
        self.lane.work()


@pytest.fixture
def lane() -> Lane:
    return Lane()


@pytest.fixture
def mirrors(sleepless: Reactor, lane: Lane) -> Mirrors:
    return Mirrors(sleepless, lane.submit)


@pytest.fixture
def looks(sleepless: Reactor, clock: Clock, lane: Lane) -> Looks:
    return Looks(sleepless, clock, lane)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.txt"
    path.write_text("original")
    os.utime(path, ns=(10**18, 10**18))
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "some" / "folder" / "place.txt"


@pytest.fixture(
    params=[OSError(errno.EPERM, "no links here"), NotImplementedError()], ids=["EPERM", "unknown"]
)
def no_links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links do not work."""

    def symlink(*_anything: object, **_more: object) -> None:
        raise request.param

    monkeypatch.setattr(os, "symlink", symlink)


def change(path: Path, text: str, seconds: int) -> None:
    """Changes a file at another moment, whatever the resolution of its clock."""
    path.write_text(text)
    os.utime(path, ns=(10**18 + seconds * 10**9, 10**18 + seconds * 10**9))


# ---- links ------------------------------------------------------------------------------------


def test_a_file_appears_as_a_link(mirrors: Mirrors, source: Path, place: Path) -> None:
    mirrors.add(str(place), str(source))
    assert os.readlink(place) == str(source)
    source.write_text("changed")
    assert place.read_text() == "changed"


def test_links_cost_the_loop_nothing(
    mirrors: Mirrors, sleepless: Reactor, selector: SleeplessSelector, source: Path, place: Path
) -> None:
    mirrors.add(str(place), str(source))
    for _ in range(3):
        sleepless.turn()
    assert selector.patience == [None] * 3


def test_the_same_link_is_left_as_it_is(mirrors: Mirrors, source: Path, place: Path) -> None:
    mirrors.add(str(place), str(source))
    twin = place.with_name("twin")
    os.link(place, twin, follow_symlinks=False)  # while there is one, its inode is not used again
    mirrors.add(str(place), str(source))
    assert os.lstat(place).st_ino == os.lstat(twin).st_ino


@pytest.mark.parametrize("there", ["file", "link", "dangling link"])
def test_what_is_there_is_replaced(
    mirrors: Mirrors, source: Path, place: Path, tmp_path: Path, there: str
) -> None:
    other = tmp_path / "other.txt"
    other.write_text("other")
    place.parent.mkdir(parents=True)
    if there == "file":
        place.write_text("mine")
    else:
        place.symlink_to(other if there == "link" else tmp_path / "nowhere")
    mirrors.add(str(place), str(source))
    assert place.read_text() == "original"
    assert other.read_text() == "other"


def test_without_a_source_nothing_is_touched(mirrors: Mirrors, tmp_path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True)
    place.write_text("mine")
    with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
        mirrors.add(str(place), str(tmp_path / "missing.txt"))
    assert place.read_text() == "mine"
    with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
        mirrors.add(str(tmp_path / "new.txt"), str(tmp_path / "missing.txt"))
    assert not os.path.lexists(tmp_path / "new.txt")


def test_a_link_by_way_of_another_becomes_a_link(
    mirrors: Mirrors, source: Path, place: Path, tmp_path: Path
) -> None:
    detour = tmp_path / "detour.txt"
    detour.symlink_to(source)
    place.parent.mkdir(parents=True)
    place.symlink_to(detour)
    mirrors.add(str(place), str(source))
    assert os.readlink(place) == str(source)


def test_a_folder_is_not_replaced(mirrors: Mirrors, source: Path, place: Path) -> None:
    place.mkdir(parents=True)
    with pytest.raises(OSError, match=r"place\.txt"):
        mirrors.add(str(place), str(source))
    assert place.is_dir()


def test_a_place_below_a_file_cannot_be_had(mirrors: Mirrors, source: Path) -> None:
    with pytest.raises(OSError, match=r"source\.txt"):
        mirrors.add(str(source / "place.txt"), str(source))
    assert source.read_text() == "original"


def test_a_file_mirrored_to_its_own_place_survives(mirrors: Mirrors, source: Path) -> None:
    try:
        mirrors.add(str(source), str(source))
    except OSError:
        pass  # refusing it is as good
    assert os.path.isfile(source)
    assert source.read_text() == "original"


def test_a_file_mirrored_to_its_own_place_by_another_name_survives(
    mirrors: Mirrors, source: Path, tmp_path: Path
) -> None:
    (tmp_path / "alias").symlink_to(tmp_path)
    try:
        mirrors.add(str(tmp_path / "alias" / "source.txt"), str(source))
    except OSError:
        pass
    assert os.path.isfile(source)
    assert source.read_text() == "original"


# ---- copies -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_links")
def test_where_links_do_not_work_there_is_a_copy(mirrors: Mirrors, source: Path, place: Path) -> None:
    mirrors.add(str(place), str(source))
    assert not place.is_symlink()
    assert place.read_text() == "original"
    assert place.stat().st_mtime_ns == source.stat().st_mtime_ns


@pytest.mark.usefixtures("no_links")
def test_a_copy_follows_its_original(mirrors: Mirrors, looks: Looks, source: Path, place: Path) -> None:
    mirrors.add(str(place), str(source))
    change(source, "newer", seconds=5)
    assert place.read_text() == "original"
    looks.look()
    assert place.read_text() == "newer"
    change(source, "older", seconds=-5)
    looks.look()
    assert place.read_text() == "older"


@pytest.mark.usefixtures("no_links")
def test_a_copy_that_is_gone_comes_back(
    mirrors: Mirrors, looks: Looks, source: Path, place: Path
) -> None:
    mirrors.add(str(place), str(source))
    place.unlink()
    looks.look()
    assert place.read_text() == "original"


@pytest.mark.usefixtures("no_links")
def test_what_has_not_changed_is_not_copied_again(
    mirrors: Mirrors, looks: Looks, source: Path, place: Path
) -> None:
    mirrors.add(str(place), str(source))
    os.truncate(place, 3)
    os.utime(place, ns=(10**18, 10**18))  # a mark that only copying would wipe out
    for _ in range(3):
        looks.look()
    assert place.read_text() == "ori"


@pytest.mark.usefixtures("no_links")
def test_the_next_look_comes_after_this_one_has_ended(
    mirrors: Mirrors, looks: Looks, lane: Lane, source: Path, place: Path
) -> None:
    mirrors.add(str(place), str(source))
    looks.wait()
    assert len(lane.jobs) == 1
    for _ in range(5):  # the pool is slow
        looks.wait()
    assert len(lane.jobs) == 1
    lane.work()
    looks.wait()
    assert len(lane.jobs) == 1


@pytest.mark.usefixtures("no_links")
def test_the_loop_sleeps_between_two_looks(
    mirrors: Mirrors,
    looks: Looks,
    sleepless: Reactor,
    selector: SleeplessSelector,
    source: Path,
    place: Path,
) -> None:
    mirrors.add(str(place), str(source))
    sleepless.turn()
    selector.patience.clear()
    sleepless.turn()
    looks.look()
    sleepless.turn()
    assert selector.patience == [EVERY, 0, 0, EVERY]


@pytest.mark.usefixtures("no_links")
def test_one_timer_is_enough_for_all_copies(
    mirrors: Mirrors, looks: Looks, lane: Lane, source: Path, tmp_path: Path
) -> None:
    places = [tmp_path / str(number) for number in range(5)]
    for place in places:
        mirrors.add(str(place), str(source))
    change(source, "newer", seconds=5)
    looks.look()
    assert [place.read_text() for place in places] == ["newer"] * 5
    looks.wait()
    assert len(lane.jobs) == 1


@pytest.mark.usefixtures("no_links")
def test_a_full_pool_only_delays_the_look(
    mirrors: Mirrors, looks: Looks, lane: Lane, source: Path, place: Path, log: io.StringIO
) -> None:
    mirrors.add(str(place), str(source))
    change(source, "newer", seconds=5)
    lane.full = True
    looks.wait()
    looks.wait()
    lane.full = False
    looks.look()
    assert place.read_text() == "newer"
    assert log.getvalue() == ""


@pytest.mark.usefixtures("no_links")
def test_a_source_that_is_gone_keeps_no_other_copy_from_being_fresh(
    mirrors: Mirrors, looks: Looks, source: Path, place: Path, tmp_path: Path, log: io.StringIO
) -> None:
    lost = tmp_path / "lost.txt"
    lost.write_text("lost")
    mirrors.add(str(tmp_path / "copy of lost.txt"), str(lost))
    mirrors.add(str(place), str(source))
    lost.unlink()
    change(source, "newer", seconds=5)
    looks.look()
    assert place.read_text() == "newer"
    assert log.getvalue().count(f"{lost} could not be copied to") == 1
    change(lost, "found", seconds=9)
    looks.look()
    assert (tmp_path / "copy of lost.txt").read_text() == "found"


@pytest.mark.usefixtures("no_links")
def test_a_source_that_stays_away_is_reported_once(
    mirrors: Mirrors, looks: Looks, source: Path, place: Path, log: io.StringIO
) -> None:
    mirrors.add(str(place), str(source))
    source.unlink()
    for _ in range(5):
        looks.look()
    assert log.getvalue().count("could not be copied to") == 1
    change(source, "found", seconds=5)
    looks.look()
    source.unlink()
    for _ in range(5):  # that is news again
        looks.look()
    assert log.getvalue().count("could not be copied to") == 2


@pytest.mark.usefixtures("no_links")
def test_a_place_belongs_to_the_source_that_was_named_last(
    mirrors: Mirrors, looks: Looks, source: Path, place: Path, tmp_path: Path, log: io.StringIO
) -> None:
    other = tmp_path / "other.txt"
    change(other, "other", seconds=1)
    mirrors.add(str(place), str(source))
    mirrors.add(str(place), str(other))
    os.truncate(place, 3)
    os.utime(place, ns=(other.stat().st_mtime_ns,) * 2)  # a mark that only copying would wipe out
    looks.look()
    assert place.read_text() == "oth"


# ---- threads ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_links")
def test_a_file_may_be_added_by_any_thread(
    mirrors: Mirrors,
    looks: Looks,
    sleepless: Reactor,
    selector: SleeplessSelector,
    source: Path,
    place: Path,
) -> None:
    """While the loop sleeps, too: it is woken to set its timer."""
    sent: list[int] = []

    def meanwhile() -> None:
        thread = threading.Thread(target=mirrors.add, args=(str(place), str(source)))
        thread.start()
        thread.join(PATIENCE)
        sent.append(selector.wake_up_bytes())

    selector.meanwhile = meanwhile
    sleepless.turn()
    assert sent == [1]
    change(source, "newer", seconds=5)
    looks.look()
    assert place.read_text() == "newer"


@pytest.mark.usefixtures("no_links")
def test_the_copying_runs_in_the_pool(
    reactor: Reactor, clock: Clock, source: Path, place: Path
) -> None:
    pool = Pool(reactor, 1, 10)
    delivered: list[int] = []

    def submit(job: Job) -> None:
        pool.submit(Observed(job, lambda: delivered.append(1)))

    mirrors = Mirrors(reactor, submit)
    mirrors.add(str(place), str(source))
    change(source, "newer", seconds=5)
    reactor.turn(0)
    clock.advance(EVERY)
    turn_until(reactor, lambda: delivered)
    assert pool.close(PATIENCE)
    assert place.read_text() == "newer"


class Observed(Job):
    """A job that tells when its outcome has been delivered."""

    def __init__(self, job: Job, then: Callable[[], object]) -> None:
        self.job = job
        self.then = then

    def run(self) -> object:
        assert threading.current_thread().name.startswith("quick_server pool")
        return self.job.run()

    def deliver(self, outcome: object) -> None:
        self.job.deliver(outcome)
        self.then()
