"""What the long mixed load judges by: each invariant notices what it is there for."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from quick_server.reactor import Reactor
from soak import invariants, watchdog
from soak.client import Answer, WrongError
from soak.content import checksum, content
from soak.invariants import Invariants
from soak.load import Load
from soak.logs import Log
from soak.subject import Subject, Vitals
from soak.visit import Site
from soak.watchdog import Sample, Stall, Watchdog
from tests.harness import PATIENCE

# ---- the loop ---------------------------------------------------------------------------------

_HELD = 0.2


@contextmanager
def _watched() -> Iterator[tuple[Reactor, Watchdog]]:
    """A loop that runs in a thread, and its watchdog."""
    reactor, dog = Reactor(), Watchdog()
    dog.watch(reactor)
    thread = threading.Thread(target=reactor.run, name="loop")
    thread.start()
    try:
        yield reactor, dog
    finally:
        reactor.stop()
        thread.join(PATIENCE)
        reactor.close()


def _stall_of(dog: Watchdog, culprit: Callable[[], object], named: str) -> Stall:
    """Does it until that is noticed: a machine that is busy otherwise is blamed for some of it."""
    deadline = time.monotonic() + 4 * PATIENCE
    while True:
        for stall in list(dog.stalls):
            if named in stall.culprit:
                return stall
        assert time.monotonic() < deadline, f"{named} was not noticed: {dog.stalls}"
        culprit()
        time.sleep(_HELD / 2)  # nobody notices anything earlier


def _waits() -> None:
    time.sleep(_HELD)


def _computes() -> None:
    until = time.thread_time() + _HELD
    while time.thread_time() < until:
        pass


def _done(reactor: Reactor, what: Callable[[], None]) -> None:
    done = threading.Event()
    reactor.call_from_thread(what)
    reactor.call_from_thread(done.set)
    assert done.wait(PATIENCE)


@pytest.mark.parametrize("culprit", [_waits, _computes])
def test_what_blocks_the_loop_is_named(culprit: Callable[[], None]) -> None:
    with _watched() as (reactor, dog):
        stall = _stall_of(
            dog, lambda: _done(reactor, culprit), f"{culprit.__qualname__} (test_soak.py:"
        )
    assert stall.kind == "turn"
    assert stall.wall >= _HELD * 0.9


def _keeps_the_interpreter() -> None:
    """A call into C that gives nobody else a turn; long, as a busy machine is blamed for much of it."""
    sum(itertools.repeat(1, 100_000_000))


def test_who_keeps_the_interpreter_is_named() -> None:
    with _watched() as (_reactor, dog):
        stall = _stall_of(dog, _keeps_the_interpreter, f"{threading.current_thread().name}: ")
    assert stall.kind == "interpreter"


def test_a_loop_that_does_little_at_a_time_is_not_blocked() -> None:
    with _watched() as (reactor, dog):
        done = threading.Event()

        def again(left: int) -> None:
            if left:
                reactor.call_later(0.001, lambda: again(left - 1))
            else:
                done.set()

        reactor.call_from_thread(lambda: again(200))
        assert done.wait(PATIENCE)
    assert dog.turns >= 200
    assert not [stall for stall in dog.stalls if stall.is_certain]


@pytest.mark.parametrize(
    ("wall", "computing", "queued", "others", "stolen", "noise"),
    [
        (
            0.1,
            0.1,
            0.0,
            0.5,
            0.0,
            0.0,
        ),  # it computed all the time: that others had to wait is no excuse
        (0.1, 0.01, 0.09, 0.0, 0.0, 0.09),  # it was in line for a core
        (0.1, 0.01, 0.0, 0.0, 0.0, 0.0),  # it slept, and nobody was in line
        (0.1, 0.01, 0.0, 0.05, 0.0, 0.05),  # it slept, and who may have had the lock was in line
        (0.1, 0.01, 0.04, 0.5, 0.0, 0.09),
        (0.1, 0.06, 0.0, 0.0, 0.03, 0.03),
    ],
)
def test_what_the_machine_is_to_blame_for(
    wall: float, computing: float, queued: float, others: float, stolen: float, noise: float
) -> None:
    assert watchdog.noise_of(wall, computing, queued, others, stolen) == pytest.approx(noise)


def _samples(text: str) -> list[Sample]:
    """A look each 10 ms at callbacks that are letters; a blank is between two."""
    frames = {letter: object() for letter in text}
    return [
        Sample(at / 100, None if letter == " " else frames[letter], letter)
        for at, letter in enumerate(text, 1)
    ]


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0.0, 0.10),  # the turn lasts 100 ms, and nobody could look
        ("aaaaaaaaa", 0.08, 0.10),
        ("abcdefghi", 0.0, 0.02),
        ("abbbbbcde", 0.04, 0.06),
        ("ab       ", 0.0, 0.02),
        ("abcd", 0.0, 0.07),  # and then nobody could look
    ],
)
def test_how_long_the_loop_was_in_a_callback(text: str, least: float, most: float) -> None:
    found = watchdog.stays(0.0, 0.1, _samples(text))
    assert max(stay.least for stay in found) == pytest.approx(least)
    assert max(stay.most for stay in found) == pytest.approx(most)


def test_a_turn_of_many_short_callbacks_blocks_nobody() -> None:
    """Together they take long, and are told of; no one of them is to blame."""
    with _watched() as (reactor, dog):
        done = threading.Event()

        def each() -> None:
            until = time.thread_time() + 0.005
            while time.thread_time() < until:
                pass

        def all_at_once() -> None:
            for _ in range(40):
                reactor.call_soon(each)
            reactor.call_soon(lambda: reactor.call_soon(done.set))

        reactor.call_from_thread(all_at_once)
        assert done.wait(PATIENCE)
        until = time.monotonic() + PATIENCE
        while not dog.worst_without_noise:
            assert time.monotonic() < until
            time.sleep(0.001)
    assert not [stall for stall in dog.stalls if stall.is_certain]


# ---- answers ----------------------------------------------------------------------------------


def test_answers_are_checked() -> None:
    body = content(3, 200_000)
    fields = {"x-checksum": checksum(body)}
    assert Answer(200, fields, body).checked().body == body
    with pytest.raises(WrongError, match="checksum"):
        Answer(200, fields, body[:-1]).checked()
    with pytest.raises(WrongError, match="status 500"):
        Answer(500, fields, body).checked()
    with pytest.raises(WrongError, match="status 200"):
        Answer(200, fields, body).checked(404)


def test_content_tells_its_parts_apart() -> None:
    blocks = [content(5, 1_000_000)[at : at + 65_536] for at in range(0, 900_000, 65_536)]
    assert len(set(blocks)) == len(blocks)
    assert content(5, 1000) != content(6, 1000)


# ---- the log ----------------------------------------------------------------------------------

_LINE = '127.0.1.1 [2026-01-31 12:00:00] 1.2 kB "GET /echo/x HTTP/1.1" {} (1.20ms)\n'


@pytest.mark.parametrize(
    "line",
    [
        _LINE.format(500),
        _LINE.format(503),
        '[SERVER] error 12345678 in "GET / HTTP/1.1"\n',
        "  Traceback (most recent call last):\n",
        "[SERVER] a callback of the event loop failed\n",
    ],
)
def test_the_log_must_not_say(tmp_path: Path, line: str) -> None:
    path = tmp_path / "log"
    path.write_text(_LINE.format(200) + line)
    log = Log("plain", path)
    log.read()
    log.close()
    assert log.wrong == [f"the log of plain: {line[:-1]}"]


def test_the_log_may_say(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text(
        _LINE.format(200)
        + _LINE.format(404)
        + '[SERVER] nobody has read the result of the job "/job/thread"\n'
        "[SERVER] upstream http://127.0.0.1:1 did not answer in time: GET /up/silent HTTP/1.1\nhalf of"
    )
    log = Log("plain", path)
    log.read()
    log.close()
    assert not log.wrong
    assert log.lines == {"127.0.1.1": 2}


# ---- once the load has gone -------------------------------------------------------------------


class _Played(Subject):
    """A server whose state and vitals a test decides."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder = tmp_path
        (tmp_path / "log").touch()
        self.log = Log("played", tmp_path / "log")
        self.name = "played"
        self.site = Site("played", 0)
        self.start, self.objects, self.allocated, self.allocated_at_end = None, {}, 0, 0
        self.now = Vitals(10, 11, 50 * 2**20, 0)
        self.says: dict[str, Any] = {"worst": 0.01, "worst_without_noise": 0.0, "stalls": []}
        self.says |= {"connections": 0, "jobs": {}, "allocated": 20 * 2**20, "objects": {"a.B": 3}}

    def vitals(self) -> Vitals:
        return self.now

    async def state(self, *, settle: bool = False) -> dict[str, Any]:
        return self.says

    async def nap(self) -> None:
        pass


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Played]:
    monkeypatch.setattr(invariants, "_REST", 0.0)
    monkeypatch.setattr(invariants, "_LOOK", 0.0)
    with ExitStack() as stack:
        subject = _Played(tmp_path)
        stack.callback(subject.log.close)
        yield subject


def _judged(subject: _Played, change: Callable[[], object]) -> list[str]:
    load = Load([subject.site], seed=1, clients=10)

    async def run() -> list[str]:
        judge = Invariants([subject], load)
        await judge.note_start()
        assert not judge.wrong
        change()
        await judge.look()
        await judge.compare()
        return judge.wrong

    return asyncio.run(run())


def test_a_server_that_is_as_before(played: _Played) -> None:
    assert _judged(played, lambda: None) == []


@pytest.mark.parametrize(
    ("says", "complaint"),
    [
        ({"connections": 1}, "does not come to rest: ['connections: 1']"),
        ({"jobs": {"running": 2}}, "does not come to rest: [\"jobs: {'running': 2}\"]"),
        ({"streams": 1}, "does not come to rest: ['streams: 1']"),
        ({"allocated": 30 * 2**20}, "uses 10.0 MiB more than at the start"),
        ({"objects": {"a.B": 40}}, "has 40 a.B, not 3 as at the start"),
    ],
)
def test_what_a_server_must_not_say(played: _Played, says: dict[str, Any], complaint: str) -> None:
    assert _judged(played, lambda: played.says.update(says)) == [f"played {complaint}"]


@pytest.mark.parametrize(
    ("vitals", "complaint"),
    [
        (Vitals(11, 11, 50 * 2**20, 0), "does not come to rest: ['11 descriptors, not 10']"),
        (Vitals(10, 12, 50 * 2**20, 0), "does not come to rest: ['12 threads, not 11']"),
        (Vitals(10, 11, 250 * 2**20, 0), "takes 200.0 MiB more than at the start"),
        (Vitals(10, 11, 50 * 2**20, 1), "does not come to rest: ['1 child processes']"),
    ],
)
def test_what_the_kernel_must_not_say(played: _Played, vitals: Vitals, complaint: str) -> None:
    assert _judged(played, lambda: setattr(played, "now", vitals)) == [f"played {complaint}"]


@pytest.mark.parametrize(("noise", "certain"), [(0.01, True), (0.05, False)])
def test_a_loop_that_was_blocked(played: _Played, noise: float, certain: bool) -> None:
    stall = Stall("turn", 0.09, 0.14, 0.08, noise, "f (a.py:1)")
    wrong = _judged(played, lambda: played.says.update(stalls=[stall._asdict()]))
    what = f"turn of 140 ms, 80 of them on a core, {noise * 1000:.0f} the machine's"
    told = [f"the loop of played was blocked for 90 ms ({what}): f (a.py:1)"]
    assert wrong == (told if certain else [])


def test_more_lines_than_requests_are_complained_of(played: _Played) -> None:
    path = played.folder / "log"
    wrong = _judged(played, lambda: path.write_text(_LINE.format(200)))
    assert wrong == ["keep-alive: 1 lines in the log for 0 requests"]
