"""The table of jobs alone: who is computed, who waits, and what is kept for whom, and for how long."""

from __future__ import annotations

import gc
import io
import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from quick_server import progress
from quick_server.jobs import JobSpec
from quick_server.limits import Limits
from quick_server.protocol.worker import parse_action
from quick_server.reactor import Reactor
from quick_server.workers import BaseWorker, Progress, Result, WorkerTask
from tests.unit.fakes import Clock
from tests.unit.jobbench import (
    STOPPED,
    UNKNOWN,
    Bench,
    Call,
    HandWorker,
    begun,
    done,
    in_line,
)

SOON = 1e-3  # seconds
MOMENT = 0.1  # that a start is held back
LOOK = 0.2  # between looks whether anything has moved
LONG = 25.0  # that a client waits
UNREAD = 120.0
UNREAD_CARGO = 600.0
DOUBT = 90.0  # whether the client of a job is still there


@pytest.fixture
def bench(sleepless: Reactor, clock: Clock, log: io.StringIO) -> Bench:
    return Bench(sleepless, clock)


class Memory:
    """Where results are stored; `on_store` is called before one is."""

    def __init__(self) -> None:
        self.texts: dict[object, str] = {}
        self.on_store: Callable[[], object] = bool

    def store(self, key: object, text: str) -> None:
        self.on_store()
        self.texts[key] = text


def tell(task: WorkerTask, done: Any, total: Any = None, text: Any = "") -> None:
    """The computation tells how far it is."""
    task.progress = Progress(done, total, text)


# ---- one after the other ----------------------------------------------------------------------


def test_first_come_first_served(bench: Bench) -> None:
    bench.settings.max_workers = 1
    names = [f"job {number}" for number in range(6)]
    for name in names:
        bench.start(name)
    for number in range(6):
        assert bench.worker.names == names[: number + 1]
        bench.finish(number)
    assert bench.worker.names == names


def test_no_more_than_max_workers_are_begun(bench: Bench) -> None:
    bench.settings.max_workers = 3
    for number in range(5):
        bench.start(f"job {number}")
    assert len(bench.worker.started) == 3
    bench.finish(1)
    assert len(bench.worker.started) == 4
    bench.finish(0)
    bench.finish(2)
    bench.finish(3)
    assert len(bench.worker.started) == 5


def test_another_number_of_workers_counts_from_the_next_job_on(bench: Bench) -> None:
    for number in range(4):
        bench.start(f"job {number}")
    bench.settings.max_workers = 4
    assert len(bench.worker.started) == 2
    bench.start("job 4")
    assert len(bench.worker.started) == 4
    bench.settings.max_workers = 1
    for number in range(3):
        bench.finish(number)
    assert len(bench.worker.started) == 4
    bench.finish(3)
    assert len(bench.worker.started) == 5


def test_the_place_in_line_is_told(bench: Bench) -> None:
    tokens = [bench.begin(f"job {number}") for number in range(5)]
    for token in tokens[:2]:
        assert bench.get(token).message == begun(token)
    for place, token in enumerate(tokens[2:]):
        assert bench.get(token).message == in_line(token, place)
    bench.finish(0)
    assert bench.get(tokens[2]).message == begun(tokens[2])
    assert bench.get(tokens[4]).message == in_line(tokens[4], 1)


def test_a_task_knows_what_to_compute(bench: Bench) -> None:
    def work(post: dict[str, Any]) -> Any:
        progress(1, 2, "half")
        return [post, task.alive]

    call = bench.start("the name", payload={"a": [1]}, function=work)
    (task,) = bench.worker.started
    assert (task.name, task.payload, task.alive) == ("the name", {"a": [1]}, True)
    assert task.progress == Progress()
    task.finish(task.run())
    bench.turn()
    assert task.progress == Progress(1, 2, "half")
    cargo = call.message["result"]
    text = "".join(bench.cargo(token).message["result"] for token in cargo)
    assert json.loads(text) == [{"a": [1]}, True]


def test_past_the_limit_of_the_line(bench: Bench) -> None:
    bench.settings.limits = Limits(jobs_in_line=3)
    tokens = [bench.begin(f"job {number}") for number in range(5)]
    refused = bench.start("one too many")
    assert refused.status == 503
    assert b"Retry-After: 1\r\n" in refused.outcome.fields
    assert b"too many jobs" in refused.content
    assert len(bench.table.states()) == 5
    assert not any(state.name == "one too many" for state in bench.table.states())
    bench.stop(tokens[3])
    assert not bench.start("one that fits").answered
    assert bench.start("one too many").status == 503


def test_a_thousand_wait_in_line(bench: Bench) -> None:
    for number in range(1002):
        assert not bench.start(f"job {number}").answered
    assert bench.start("one too many").status == 503
    assert len(bench.worker.started) == 2


def test_payloads_of_jobs_that_have_not_ended_have_a_limit(bench: Bench) -> None:
    bench.settings.limits = Limits(job_payloads=100)
    calls = [bench.start(f"job {number}", size=30) for number in range(3)]  # two of them begin
    bench.advance(MOMENT)
    refused = bench.start("one too many", size=30)
    assert refused.status == 503
    assert b"Retry-After: 1\r\n" in refused.outcome.fields
    assert not bench.start("small", size=10).answered
    bench.stop(calls[2].token)  # it was in line
    assert not bench.start("one that fits", size=30).answered
    assert bench.start("one too many", size=30).status == 503
    bench.stop(calls[0].token)  # what it was given is there until it has really ended
    assert bench.start("one too many", size=30).status == 503
    bench.finish(0)
    assert not bench.start("one that fits", size=30).answered


def test_one_payload_is_taken_however_large(bench: Bench) -> None:
    bench.settings.limits = Limits(job_payloads=100)
    assert not bench.start(size=1000).answered
    assert bench.start(size=1).status == 503
    bench.finish(0)
    bench.assert_empty()


def test_a_payload_that_is_given_up_for_a_shared_computation_does_not_count(bench: Bench) -> None:
    bench.settings.limits = Limits(job_payloads=100)
    memory = Memory()
    assert not any(bench.start(size=80, keep=(memory, "key")).answered for _ in range(3))
    bench.finish(0)
    bench.assert_empty()


def test_past_the_limit_of_jobs(bench: Bench) -> None:
    bench.settings.limits = Limits(jobs=2)
    keep = Memory(), "key"
    sharing, unread = bench.begin(keep=keep), bench.begin()
    bench.finish(1)
    assert bench.start("one too many").status == 503
    assert bench.start("one too many", keep=keep).status == 503
    assert known(bench, Result((b'"1"',))).status == 503
    assert bench.get(unread).status == 200
    assert known(bench, Result((b'"1"',))).status == 200
    assert not bench.start(keep=keep).answered
    assert bench.get(sharing).message["continue"] is True


# ---- the end of a job -------------------------------------------------------------------------


def test_a_fast_job_is_answered_at_once(bench: Bench) -> None:
    call = bench.start()
    bench.advance(MOMENT - SOON)
    assert not call.answered
    bench.finish(0, "[1]")
    assert call.message == done(call.token, "[1]")
    bench.assert_empty()


def test_a_start_is_answered_after_a_moment(bench: Bench) -> None:
    call = bench.start()
    tell(bench.worker.started[0], 1, 2, "half")
    bench.advance(MOMENT - SOON)
    assert not call.answered
    bench.advance(SOON)
    assert call.message == begun(call.token, {"done": 1, "total": 2, "text": "half"})


def test_a_start_waits_longer_if_it_says_so(bench: Bench) -> None:
    call = bench.start(wait=2)
    bench.advance(LOOK - SOON)
    assert not call.answered
    bench.finish(0, "7")
    assert call.message == done(call.token, "7")


def test_a_start_that_waits_longer_waits_until_something_moves(bench: Bench) -> None:
    """That it has begun is no news: the client cannot know otherwise."""
    calls = [bench.start(wait=LONG), bench.start(wait=2)]
    for _ in range(9):
        bench.advance(LOOK)
    assert not any(call.answered for call in calls)
    bench.advance(LOOK)
    assert calls[1].message == begun(calls[1].token)
    assert not calls[0].answered
    bench.finish(0)
    assert calls[0].message["result"] == '"fine"'


def test_a_result_is_read_once(bench: Bench) -> None:
    token = bench.begin()
    bench.finish(0, "[1,2]")
    assert bench.get(token).message == done(token, "[1,2]")
    assert bench.get(token).message == {"token": token, **UNKNOWN}
    assert bench.stop(token).message == {"token": token, **UNKNOWN}
    bench.assert_empty()


def test_an_error_is_read_once(bench: Bench) -> None:
    token = bench.begin()
    bench.end(0, Result(error=(418, "short and <stout>")))
    call = bench.get(token)
    assert call.status == 418
    assert b"short and &lt;stout&gt;" in call.content
    assert bench.get(token).message == {"token": token, **UNKNOWN}
    bench.assert_empty()


def test_a_computation_that_raises(bench: Bench, log: io.StringIO) -> None:
    def fail(post: dict[str, Any]) -> None:
        raise ValueError("went\nwrong")

    call = bench.start("the\nname", function=fail)
    (task,) = bench.worker.started
    task.finish(task.run())
    bench.turn()
    assert call.status == 500
    assert b"wrong" not in call.content
    assert 'the job "the\\x0aname" failed' in log.getvalue()
    assert "Traceback" in log.getvalue()
    assert "ValueError: went" in log.getvalue()


def test_a_computation_that_died_of_itself(bench: Bench) -> None:
    call = bench.start()
    bench.end(0, Result())
    assert call.status == 500
    bench.assert_empty()


def test_a_task_that_ends_twice_has_ended_once(bench: Bench) -> None:
    bench.settings.max_workers = 1
    call = bench.start("first")
    for name in ("second", "third"):
        bench.start(name)
    task = bench.worker.started[0]
    task.finish(Result((b'"1"',)))
    task.finish(Result((b'"2"',)))
    bench.turn()
    assert call.message["result"] == "1"
    assert bench.worker.names == ["first", "second"]


def test_a_task_may_end_while_it_is_begun(bench: Bench) -> None:
    bench.worker.on_start = lambda task: task.finish(Result((b'"quick"',)))
    calls = [bench.start() for _ in range(5)]
    bench.turn()
    bench.turn()
    assert [call.message["result"] for call in calls] == ["quick"] * 5
    bench.assert_empty()


@pytest.mark.parametrize("token", ["1", "0", "9007199254740991", "0000000000000001"])
def test_tokens_that_nobody_knows(bench: Bench, token: str) -> None:
    bench.begin()
    assert bench.get(token).message == {"token": token, **UNKNOWN}
    assert bench.get(token, LONG).message == {"token": token, **UNKNOWN}
    assert bench.stop(token).message == {"token": token, **UNKNOWN}
    assert bench.cargo(token).status == 404
    assert len(bench.table.states()) == 1
    assert not bench.worker.stopped


# ---- a worker that fails ----------------------------------------------------------------------


def failing(worker: HandWorker, *names: str) -> None:
    """The worker cannot begin jobs of these names."""

    def on_start(task: WorkerTask) -> None:
        if task.name in names:
            raise RuntimeError(f"no room for {task.name}")

    worker.on_start = on_start


def test_a_job_that_cannot_be_begun(bench: Bench, log: io.StringIO) -> None:
    failing(bench.worker, "first")
    first, second = bench.start("first"), bench.start("second")
    bench.turn()
    assert first.status == 503
    assert b"could not be begun" in first.content
    assert not second.answered
    assert bench.worker.names == ["first", "second"]
    assert log.getvalue().count("RuntimeError: no room for first") == 1
    bench.finish(1)
    assert second.status == 200
    bench.assert_empty()


def test_a_job_in_line_that_cannot_be_begun(bench: Bench) -> None:
    """Who follows it is begun in its place."""
    bench.settings.max_workers = 1
    failing(bench.worker, "second")
    tokens = [bench.begin(name) for name in ("first", "second", "third")]
    waiting = bench.get(tokens[1], LONG)
    bench.finish(0)
    assert bench.worker.names == ["first", "second", "third"]
    assert waiting.status == 503
    assert bench.get(tokens[2]).message == begun(tokens[2])


def test_a_line_of_jobs_of_which_none_can_be_begun(bench: Bench, log: io.StringIO) -> None:
    """The system is out of threads, for instance. Each is told, and the table goes on."""
    bench.settings.max_workers = 1
    bench.start("first")
    calls = [bench.start("bad", LONG) for _ in range(900)]
    last = bench.start("last", LONG)
    failing(bench.worker, "bad")
    bench.finish(0)
    for _ in calls:
        bench.turn()
    assert [call.status for call in calls if call.answered] == [503] * 900
    assert bench.worker.names[-1] == "last"
    assert "RecursionError" not in log.getvalue()
    bench.finish(901, "1")
    assert last.message["result"] == "1"


def test_a_worker_that_cannot_stop(bench: Bench, log: io.StringIO) -> None:
    def fail(task: WorkerTask) -> None:
        raise RuntimeError("no way")

    bench.worker.on_stop = fail
    token = bench.begin("first")
    assert bench.stop(token).message == {"token": token, **STOPPED}
    assert 'the job "first" could not be stopped' in log.getvalue()
    assert log.getvalue().count("RuntimeError: no way") == 1
    bench.finish(0)
    bench.assert_empty()


@pytest.mark.parametrize("error", [(100, ""), (1000, ""), (-1, ""), (404, 17), (404, b"bytes")])
def test_an_error_that_is_none(bench: Bench, error: tuple[int, Any]) -> None:
    """`raise PreventDefaultResponse` takes anything: the job's client is told something sensible."""
    first, second = bench.start("first"), bench.start("second")
    third = bench.start("third")
    bench.end(0, Result(error=error))
    assert first.answered
    assert 400 <= first.status <= 599
    assert bench.worker.names == ["first", "second", "third"]
    bench.finish(1)
    bench.finish(2)
    assert second.status == third.status == 200


# ---- stopping ---------------------------------------------------------------------------------


def test_a_job_that_is_stopped_in_line_never_begins(bench: Bench) -> None:
    bench.settings.max_workers = 1
    tokens = [bench.begin(f"job {number}") for number in range(4)]
    assert bench.stop(tokens[1]).message == {"token": tokens[1], **STOPPED}
    assert bench.get(tokens[1]).message == {"token": tokens[1], **UNKNOWN}
    assert bench.get(tokens[2]).message == in_line(tokens[2], 0)
    assert bench.get(tokens[3]).message == in_line(tokens[3], 1)
    for number in range(3):
        bench.finish(number)
    assert bench.worker.names == ["job 0", "job 2", "job 3"]
    assert not bench.worker.stopped


def test_a_job_that_is_stopped_while_it_runs(bench: Bench) -> None:
    """It keeps its place until it has ended, and what comes of it is nobody's."""
    bench.settings.max_workers = 1
    alive: list[bool] = []
    bench.worker.on_stop = lambda task: alive.append(task.alive)
    token = bench.begin("first")
    second = bench.begin("second")
    assert bench.stop(token).message == {"token": token, **STOPPED}
    assert bench.worker.stopped == bench.worker.started
    assert alive == [False]
    assert bench.get(token).message == {"token": token, **UNKNOWN}
    assert bench.worker.names == ["first"]
    assert bench.get(second).message == in_line(second, 0)
    bench.finish(0, '"too late"')
    assert bench.worker.names == ["first", "second"]
    assert bench.get(token).message == {"token": token, **UNKNOWN}
    assert bench.stop(second).message == {"token": second, **STOPPED}
    bench.end(1, Result())
    bench.assert_empty()


def test_a_job_is_stopped_once(bench: Bench) -> None:
    token = bench.begin()
    bench.stop(token)
    assert bench.stop(token).message == {"token": token, **UNKNOWN}
    assert len(bench.worker.stopped) == 1


def test_who_waits_hears_of_the_stop(bench: Bench) -> None:
    token = bench.begin()
    waiting = [bench.get(token, LONG) for _ in range(3)]
    bench.stop(token)
    assert [call.message for call in waiting] == [{"token": token, **STOPPED}] * 3


def test_a_start_that_waits_hears_of_the_stop(bench: Bench) -> None:
    call = bench.start(wait=LONG)
    (state,) = bench.table.states()
    assert bench.table.stop(state.token)
    assert not bench.table.stop(state.token)
    assert call.message == {"token": state.token, **STOPPED}


def test_a_finished_job_that_is_stopped(bench: Bench) -> None:
    token = bench.begin()
    bench.finish(0)
    assert bench.stop(token).message == {"token": token, **STOPPED}
    assert bench.get(token).message == {"token": token, **UNKNOWN}
    assert not bench.worker.stopped
    bench.assert_empty()


def test_stubborn_jobs_are_logged_once(bench: Bench, log: io.StringIO) -> None:
    token = bench.begin("stub\nborn")
    bench.stop(token)
    bench.advance(5 - SOON)
    assert log.getvalue() == ""
    bench.advance(SOON)
    line = '[SERVER] the job "stub\\x0aborn" was stopped, and goes on nevertheless\n'
    assert log.getvalue() == line
    bench.advance(1000)
    assert log.getvalue() == line
    bench.finish(0)
    bench.assert_empty()


def test_jobs_that_end_in_time_are_not_logged(bench: Bench, log: io.StringIO) -> None:
    bench.stop(bench.begin())
    bench.advance(5 - SOON)
    bench.finish(0)
    bench.advance(10)
    assert log.getvalue() == ""


# ---- results that nobody reads ----------------------------------------------------------------


@pytest.mark.parametrize("result", [Result((b'"1"',)), Result(error=(500, "bad"))], ids=["fine", "bad"])
def test_a_result_goes_after_two_minutes(bench: Bench, log: io.StringIO, result: Result) -> None:
    """Counted from when it was there."""
    token = bench.begin("un\nread")
    bench.advance(1000)
    bench.end(0, result)
    bench.advance(UNREAD - SOON)
    assert [state.state for state in bench.table.states()] == ["finished"]
    assert log.getvalue() == ""
    bench.advance(SOON)
    assert bench.table.states() == []
    assert log.getvalue() == '[SERVER] nobody has read the result of the job "un\\x0aread"\n'
    assert bench.get(token).message == {"token": token, **UNKNOWN}
    bench.assert_empty()


def test_a_result_that_is_asked_for_in_time(bench: Bench, log: io.StringIO) -> None:
    token = bench.begin()
    bench.finish(0)
    bench.advance(UNREAD - SOON)
    assert bench.get(token).message == done(token, '"fine"')
    bench.advance(UNREAD)
    assert log.getvalue() == ""


def test_a_running_job_does_not_expire(bench: Bench) -> None:
    token = bench.begin()
    bench.advance(100_000)
    assert bench.get(token).message == begun(token)


def test_a_result_may_expire_while_it_is_sent(bench: Bench) -> None:
    token = bench.begin()
    bench.finish(0)
    call = bench.get(token, prompt=False)
    bench.advance(UNREAD)
    call.exchange.sent()
    assert call.message == done(token, '"fine"')
    bench.assert_empty()


# ---- results in pieces ------------------------------------------------------------------------

PIECES = ["0123456789", "abcdefghij", "xyz"]
TEXT = "".join(PIECES)


def in_pieces(bench: Bench) -> tuple[str, list[str]]:
    """A job whose result is that text, fetched by its client: its token, and those of the pieces."""
    token = bench.begin()
    bench.finish(len(bench.worker.started) - 1, TEXT)
    message = bench.get(token).message
    assert message == done(token, message["result"])
    return token, message["result"]


def test_a_long_result_is_fetched_in_pieces(bench: Bench) -> None:
    token, cargo = in_pieces(bench)
    assert len({token, *cargo}) == 4
    assert bench.get(token).message == {"token": token, **UNKNOWN}
    for one, piece in zip(cargo, PIECES, strict=True):
        assert bench.cargo(one).message == done(one, piece)
    bench.assert_empty()


def test_each_piece_is_fetched_once_in_any_order(bench: Bench) -> None:
    _, cargo = in_pieces(bench)
    for number in (2, 0, 1):
        assert bench.cargo(cargo[number]).message == done(cargo[number], PIECES[number])
        again = bench.cargo(cargo[number])
        assert again.status == 404
        assert b"no such cargo" in again.content
    bench.assert_empty()


def test_who_waits_gets_the_list(bench: Bench) -> None:
    token = bench.begin()
    waiting = bench.get(token, LONG)
    bench.finish(0, TEXT)
    cargo = waiting.message["result"]
    assert [bench.cargo(one).message["result"] for one in cargo] == PIECES


@pytest.mark.parametrize(("length", "count"), [(10, 1), (11, 2), (20, 2), (21, 3)])
def test_how_long_a_piece_is(bench: Bench, length: int, count: int) -> None:
    call = bench.start()
    bench.finish(0, "x" * length)
    result = call.message["result"]
    assert len(result) == (length if count == 1 else count)


def test_cargo_goes_after_ten_minutes(bench: Bench, log: io.StringIO) -> None:
    _, cargo = in_pieces(bench)
    bench.advance(UNREAD_CARGO - SOON)
    assert bench.cargo(cargo[0]).message == done(cargo[0], PIECES[0])
    bench.advance(SOON)
    assert bench.cargo(cargo[1]).status == 404
    assert bench.cargo(cargo[2]).status == 404
    assert log.getvalue() == ""
    bench.assert_empty()


def test_a_piece_is_no_job_and_a_job_no_piece(bench: Bench) -> None:
    _, cargo = in_pieces(bench)
    one = cargo[0]
    assert bench.get(one).message == {"token": one, **UNKNOWN}
    assert bench.stop(one).message == {"token": one, **UNKNOWN}
    assert bench.cargo(one).message == done(one, PIECES[0])
    token = bench.begin()
    assert bench.cargo(token).status == 404
    bench.finish(1)
    assert bench.cargo(token).status == 404
    assert bench.get(token).message == done(token, '"fine"')


def test_the_pieces_go_with_a_job_that_is_stopped(bench: Bench) -> None:
    token = bench.begin()
    bench.finish(0, TEXT)
    call = bench.get(token, prompt=False)
    call.exchange.lost()
    assert bench.stop(token).message == {"token": token, **STOPPED}
    for one in call.message["result"]:
        assert bench.cargo(one).status == 404
    bench.assert_empty()


# ---- answers that do not arrive ---------------------------------------------------------------


@pytest.mark.parametrize("text", ["[1]", TEXT], ids=["short", "long"])
def test_a_result_that_was_not_delivered_stays(bench: Bench, text: str) -> None:
    token = bench.begin()
    bench.finish(0, text)
    first = bench.get(token, prompt=False)
    second = bench.get(token, prompt=False)
    first.exchange.lost()
    second.exchange.lost()
    third = bench.get(token)
    assert first.message == second.message == third.message
    assert bench.get(token).message == {"token": token, **UNKNOWN}


def test_an_error_that_was_not_delivered_stays(bench: Bench) -> None:
    token = bench.begin()
    bench.end(0, Result(error=(418, "short")))
    bench.get(token, prompt=False).exchange.lost()
    assert bench.get(token).status == 418
    bench.assert_empty()


def test_who_loses_the_connection_while_waiting_loses_nothing(bench: Bench) -> None:
    token = bench.begin()
    waiting = bench.get(token, LONG)
    waiting.exchange.lost()
    bench.finish(0)
    assert not waiting.answered
    assert bench.get(token).message == done(token, '"fine"')
    bench.assert_empty()


def test_who_loses_the_connection_after_waiting_loses_nothing(bench: Bench) -> None:
    token = bench.begin()
    waiting = bench.get(token, LONG, prompt=False)
    bench.finish(0)
    waiting.exchange.lost()
    assert bench.get(token).message == done(token, '"fine"')
    bench.assert_empty()


def test_one_delivery_is_enough(bench: Bench) -> None:
    """Several answers with the result are on their way: the first that is out has delivered it."""
    token = bench.begin()
    calls = [bench.get(token, LONG, prompt=False) for _ in range(3)]
    bench.finish(0)
    calls[1].exchange.sent()
    assert bench.get(token).message == {"token": token, **UNKNOWN}
    calls[0].exchange.lost()
    calls[2].exchange.sent()
    assert [call.message for call in calls] == [done(token, '"fine"')] * 3
    bench.assert_empty()


def test_an_exchange_that_is_over_when_its_turn_comes(bench: Bench) -> None:
    """The client left while its message was read elsewhere."""
    token = bench.begin()
    bench.finish(0)
    gone = Call()
    gone.exchange.lost()
    state = bench.table.states()[0]
    assert state.state == "finished"
    bench.table.act(gone.exchange, parse_action({"action": "get", "token": token}))
    assert not gone.answered
    assert len(gone.disposed) == 1
    assert bench.get(token).message == done(token, '"fine"')


def test_who_has_left_when_it_begins_to_wait(bench: Bench) -> None:
    token = bench.begin()
    gone = Call()
    gone.exchange.lost()
    message = {"action": "get", "token": token, "wait": LONG * 1000}
    bench.table.act(gone.exchange, parse_action(message))
    other = bench.get(token, LONG)
    bench.finish(0)
    assert not gone.answered
    assert other.message == done(token, '"fine"')
    bench.assert_empty()


def test_a_piece_that_was_not_delivered_stays(bench: Bench) -> None:
    _, cargo = in_pieces(bench)
    for one, piece in zip(cargo, PIECES, strict=True):
        first = bench.cargo(one, prompt=False)
        second = bench.cargo(one, prompt=False)
        first.exchange.lost()
        assert bench.cargo(one).message == done(one, piece)
        assert bench.cargo(one).status == 404
        second.exchange.sent()
        assert second.message == done(one, piece)
    bench.assert_empty()


# ---- jobs that are nobody's -------------------------------------------------------------------


@pytest.mark.parametrize("answered", [False, True])
def test_a_job_whose_token_reached_nobody_ends(bench: Bench, answered: bool) -> None:
    call = bench.start(prompt=False)
    if answered:
        bench.advance(MOMENT)
    assert call.answered == answered
    call.exchange.lost()
    assert bench.worker.stopped == bench.worker.started
    bench.finish(0)
    bench.assert_empty()


def test_a_job_in_line_whose_token_reached_nobody_ends(bench: Bench) -> None:
    bench.settings.max_workers = 1
    bench.start("first")
    call = bench.start("second", prompt=False)
    third = bench.begin("third")
    call.exchange.lost()
    assert bench.get(third).message == in_line(third, 0)
    bench.finish(0)
    assert bench.worker.names == ["first", "third"]


def test_others_keep_a_computation_whose_first_client_is_gone(bench: Bench) -> None:
    first = bench.start(keep=(Memory(), "key"), prompt=False)
    second = bench.start(keep=(Memory(), "key"))
    first.exchange.lost()
    assert not bench.worker.stopped
    bench.finish(0)
    assert second.status == 200
    bench.assert_empty()


def test_a_result_that_was_read_is_gone_whatever_was_thought_of_its_client(bench: Bench) -> None:
    gone = []

    class Text(bytes):
        def __del__(self) -> None:
            gone.append(bytes(self))

    piece = Text(b'"1"')
    call = bench.start()
    call.exchange.peer_ended()
    bench.end(0, Result((piece,)))
    del piece
    assert not gone
    assert bench.get(call.token).message["result"] == "1"
    bench.worker.started.clear()
    gc.collect()
    assert gone == [b'"1"']
    bench.assert_empty()


def test_a_finished_job_whose_token_reached_nobody(bench: Bench) -> None:
    call = bench.start(prompt=False)
    bench.finish(0)
    call.exchange.lost()
    bench.advance(UNREAD)
    bench.assert_empty()


def test_a_job_goes_on_once_its_token_is_known(bench: Bench) -> None:
    """Whoever asks about it may come and go."""
    token = bench.begin()
    for _ in range(3):
        bench.get(token, LONG).exchange.lost()
        bench.get(token, LONG, prompt=False).exchange.lost()
    call = bench.get(token, 1, prompt=False)
    bench.advance(1)
    call.exchange.lost()
    assert not bench.worker.stopped
    assert bench.get(token).message == begun(token)


def left_at_once(bench: Bench) -> str:
    """A job whose client ended its side while it waited for the token, and may be gone."""
    call = bench.start()
    call.exchange.peer_ended()
    return call.token


def test_a_client_that_may_be_gone_has_a_while_to_ask(bench: Bench) -> None:
    token = left_at_once(bench)
    bench.advance(DOUBT - SOON)
    assert not bench.worker.stopped
    bench.advance(SOON)
    assert bench.worker.stopped == bench.worker.started
    assert bench.get(token).message == {"token": token, **UNKNOWN}
    bench.finish(0)
    bench.assert_empty()


def test_a_client_that_has_asked_is_there(bench: Bench) -> None:
    token = left_at_once(bench)
    bench.advance(DOUBT - SOON)
    assert bench.get(token).message == begun(token)
    bench.advance(10 * DOUBT)
    assert not bench.worker.stopped
    bench.finish(0)
    assert bench.get(token).message == done(token, '"fine"')
    bench.assert_empty()


def test_a_client_that_may_be_gone_has_two_minutes_to_read(bench: Bench, log: io.StringIO) -> None:
    """From when the result is there, as everybody has."""
    token = left_at_once(bench)
    bench.advance(DOUBT - 1)
    bench.finish(0)
    bench.advance(UNREAD - SOON)
    assert log.getvalue() == ""
    assert bench.get(token).message == done(token, '"fine"')
    bench.assert_empty()


# ---- waiting ----------------------------------------------------------------------------------


def test_a_waiting_get_is_answered_with_the_result(bench: Bench) -> None:
    token = bench.begin()
    waiting = bench.get(token, LONG)
    bench.advance(10)
    assert not waiting.answered
    bench.finish(0)
    assert waiting.message == done(token, '"fine"')
    bench.assert_empty()


def test_all_who_wait_are_answered(bench: Bench) -> None:
    token = bench.begin()
    waiting = [bench.get(token, LONG) for _ in range(50)]
    bench.finish(0)
    assert [call.message for call in waiting] == [done(token, '"fine"')] * 50
    bench.assert_empty()


def test_a_wait_times_out(bench: Bench) -> None:
    token = bench.begin()
    short, long = bench.get(token, 1), bench.get(token, 2)
    bench.advance(1 - SOON)
    assert not short.answered
    bench.advance(SOON)
    assert short.message == begun(token)
    assert not long.answered
    bench.advance(1)
    assert long.message == begun(token)
    bench.finish(0)
    assert bench.get(token).message == done(token, '"fine"')


def test_a_wait_is_over_after_half_a_minute(bench: Bench) -> None:
    token = bench.begin()
    call = bench.get(token, 10_000)
    bench.advance(30 - SOON)
    assert not call.answered
    bench.advance(SOON)
    assert call.message == begun(token)


def test_who_has_finished_sending_is_answered_at_once(bench: Bench) -> None:
    """The client may be gone: an answer that no result is in can be lost."""
    token = bench.begin()
    waiting, other = bench.get(token, LONG), bench.get(token, LONG)
    waiting.exchange.peer_ended()
    assert waiting.message == begun(token)
    assert not other.answered
    bench.finish(0)
    assert other.message == done(token, '"fine"')


def test_who_had_finished_sending_before_is_answered_at_once(bench: Bench) -> None:
    """Its message took a while to be read. What is known by then is all it gets, results included."""
    token = bench.begin()
    calls = [Call(), Call()]
    message = parse_action({"action": "get", "token": token, "wait": LONG * 1000})
    for call in calls:
        call.exchange.peer_ended()
    bench.table.act(calls[0].exchange, message)
    assert calls[0].message == begun(token)
    bench.finish(0)
    bench.table.act(calls[1].exchange, message)
    assert calls[1].message == done(token, '"fine"')
    bench.assert_empty()


def test_a_start_of_one_who_has_finished_sending(bench: Bench) -> None:
    bench.settings.max_workers = 1
    first, second = bench.start(wait=LONG), bench.start(wait=LONG)
    second.exchange.peer_ended()
    assert second.message == in_line(second.token, 0)
    first.exchange.peer_ended()
    assert first.message == begun(first.token)
    bench.finish(0)
    assert bench.get(first.token).message == done(first.token, '"fine"')


def test_who_finishes_sending_before_the_result_is_out_gets_it(bench: Bench) -> None:
    token = bench.begin()
    call = bench.get(token, LONG, prompt=False)
    bench.finish(0)
    call.exchange.peer_ended()
    call.exchange.sent()
    assert call.message == done(token, '"fine"')
    bench.assert_empty()


@pytest.mark.parametrize("then", ["runs on", "ends", "is stopped"])
@pytest.mark.parametrize("why", ["time is up", "it moved", "it was stopped"])
def test_who_finishes_sending_before_the_answer_is_out_gets_it(
    bench: Bench, why: str, then: str
) -> None:
    """The client takes its answers slowly. Nothing is left to be done for it."""
    token = bench.begin()
    call = bench.get(token, LONG, prompt=False)
    if why == "time is up":
        bench.advance(LONG)
    elif why == "it moved":
        tell(bench.worker.started[0], 1)
        bench.advance(LOOK)
    else:
        bench.stop(token)
    answer = call.message
    if then == "ends":
        bench.finish(0)
    elif then == "is stopped":
        bench.stop(token)
    call.exchange.peer_ended()
    assert call.message == answer
    call.exchange.sent()


def test_waiting_leaves_no_timers(bench: Bench) -> None:
    token = bench.begin()
    before = bench.timers
    for call in [bench.get(token, LONG) for _ in range(20)]:
        call.exchange.lost()
    bench.advance(LOOK)
    assert bench.timers == before
    bench.finish(0)
    assert bench.get(token).status == 200
    bench.assert_empty()


# ---- what those who wait hear of --------------------------------------------------------------


def test_progress_answers_those_who_wait(bench: Bench) -> None:
    token = bench.begin()
    first, second = bench.get(token, LONG), bench.get(token, LONG)
    bench.advance(LOOK)
    assert not first.answered
    tell(bench.worker.started[0], 3, 7, "at it")
    bench.advance(LOOK - SOON)
    assert not first.answered
    bench.advance(SOON)
    assert first.message == second.message == begun(token, {"done": 3, "total": 7, "text": "at it"})


def test_progress_is_looked_at_again_and_again(bench: Bench) -> None:
    token = bench.begin()
    for number in range(1, 5):
        call = bench.get(token, LONG)
        for _ in range(7):
            bench.advance(LOOK)
            assert not call.answered
        tell(bench.worker.started[0], number)
        bench.advance(LOOK)
        assert call.message["progress"]["done"] == number


def test_the_same_progress_is_no_news(bench: Bench) -> None:
    token = bench.begin()
    tell(bench.worker.started[0], 1, 2)
    assert bench.get(token).message["progress"]["done"] == 1
    call = bench.get(token, LONG)
    tell(bench.worker.started[0], 1, 2)
    bench.advance(LOOK)
    bench.advance(LOOK)
    assert not call.answered


def test_what_was_told_to_nobody_yet_is_news(bench: Bench) -> None:
    """It moved between two calls of its client: the second need not wait until it moves again."""
    token = bench.begin()
    tell(bench.worker.started[0], 1, 2)
    call = bench.get(token, LONG)
    bench.advance(LOOK)
    assert call.message["progress"]["done"] == 1
    call = bench.get(token, LONG)
    bench.advance(LOOK)
    bench.advance(LOOK)
    assert not call.answered


def test_a_step_forward_in_line_answers_those_who_wait(bench: Bench) -> None:
    bench.settings.max_workers = 1
    tokens = [bench.begin(f"job {number}") for number in range(4)]
    calls = [bench.get(token, LONG) for token in tokens]
    bench.finish(0)
    assert calls[0].message == done(tokens[0], '"fine"')
    assert not any(call.answered for call in calls[1:])
    bench.advance(LOOK)
    assert calls[1].message == begun(tokens[1])
    assert calls[2].message == in_line(tokens[2], 0)
    assert calls[3].message == in_line(tokens[3], 1)


def test_only_those_behind_who_left_hear_of_it(bench: Bench) -> None:
    bench.settings.max_workers = 1
    tokens = [bench.begin(f"job {number}") for number in range(5)]
    calls = [bench.get(token, LONG) for token in tokens]
    bench.stop(tokens[2])
    assert calls[2].message == {"token": tokens[2], **STOPPED}
    bench.advance(LOOK)
    assert not calls[0].answered
    assert not calls[1].answered
    assert calls[3].message == in_line(tokens[3], 1)
    assert calls[4].message == in_line(tokens[4], 2)


def test_plain_starts_do_not_hear_of_progress(bench: Bench) -> None:
    token = bench.begin()
    bench.get(token, LONG)  # so that there are looks
    bench.advance(LOOK - MOMENT / 2)
    call = bench.start()
    tell(bench.worker.started[1], 1)
    bench.advance(MOMENT / 2)
    assert not call.answered
    bench.advance(MOMENT / 2)
    assert call.message["progress"]["done"] == 1


def test_starts_that_wait_hear_of_progress(bench: Bench) -> None:
    call = bench.start(wait=LONG)
    tell(bench.worker.started[0], 1)
    bench.advance(LOOK)
    assert call.message["progress"]["done"] == 1


def test_nobody_looks_when_nobody_waits(bench: Bench) -> None:
    token = bench.begin()
    assert not bench.timers
    call = bench.get(token, 1)
    assert len(bench.timers) == 2
    bench.advance(1)
    assert call.answered
    bench.advance(LOOK)
    assert not bench.timers
    again = bench.get(token, LONG)
    tell(bench.worker.started[0], 1)
    bench.advance(LOOK)
    assert again.answered


class Unequal:
    """Something that cannot be compared, as an array cannot."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = object.__hash__


def recursive() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize("nonsense", [object(), Unequal(), {1: object()}, recursive(), b"\xff"])
def test_a_job_may_tell_any_nonsense(bench: Bench, log: io.StringIO, nonsense: Any) -> None:
    """It costs those who wait nothing, and others even less."""
    first, second = bench.begin(), bench.begin()
    tell(bench.worker.started[0], nonsense, nonsense, nonsense)
    assert bench.get(first).message["continue"] is True
    calls = [bench.get(first, LONG), bench.get(second, LONG)]
    tell(bench.worker.started[0], nonsense, 1, nonsense)
    bench.advance(LOOK)
    tell(bench.worker.started[1], 1)
    bench.advance(LOOK)
    assert calls[1].message == begun(second, {"done": 1, "total": None, "text": ""})
    bench.finish(0)
    assert calls[0].message["token"] == first
    assert "Traceback" not in log.getvalue()


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_an_error_whose_text_cannot_be_made_is_told_without(bench: Bench) -> None:
    call = bench.start(wait=LONG)
    error: Any = (418, Unprintable())
    bench.end(0, Result(error=error))
    assert call.status == 418


def test_a_client_that_has_left_starts_nothing(bench: Bench) -> None:
    call = Call()
    call.exchange.lost()
    spec = JobSpec("work", dict, bench.worker)
    bench.table.start(call.exchange, parse_action({"action": "start", "payload": {}, "wait": 0}), spec)
    assert not bench.worker.started
    assert not call.answers
    bench.assert_empty()


def test_numbers_that_json_lacks(bench: Bench) -> None:
    token = bench.begin()
    tell(bench.worker.started[0], float("nan"), float("inf"))
    assert bench.get(token).message["progress"] == {"done": "NaN", "total": "Infinity", "text": ""}


# ---- shared computations ----------------------------------------------------------------------


def test_jobs_of_one_key_share_a_computation(bench: Bench) -> None:
    memory = Memory()
    calls = [bench.start(keep=(memory, "key")) for _ in range(4)]
    assert len(bench.worker.started) == 1
    assert len(bench.table.states()) == 4
    bench.finish(0, "[1]")
    assert [call.message["result"] for call in calls] == ["[1]"] * 4
    assert len({call.token for call in calls}) == 4
    assert memory.texts == {"key": "[1]"}
    bench.assert_empty()


def test_shared_results_are_read_by_each(bench: Bench) -> None:
    """In pieces, too: each has its own."""
    tokens = [bench.begin(keep=(Memory(), "key")) for _ in range(3)]
    bench.finish(0, TEXT)
    lists = [bench.get(token).message["result"] for token in tokens]
    assert len({one for cargo in lists for one in cargo}) == 9
    for cargo in lists:
        assert [bench.cargo(one).message["result"] for one in cargo] == PIECES
    bench.assert_empty()


def test_shared_errors_are_read_by_each(bench: Bench) -> None:
    calls = [bench.start(keep=(Memory(), "key")) for _ in range(3)]
    bench.end(0, Result(error=(500, "bad")))
    assert [call.status for call in calls] == [500] * 3
    bench.assert_empty()


def test_a_result_is_stored_before_anybody_has_it(bench: Bench) -> None:
    memory = Memory()
    answered: list[bool] = []
    call = bench.start(keep=(memory, "key"))
    memory.on_store = lambda: answered.append(call.answered)
    bench.finish(0)
    assert answered == [False]
    assert call.answered


@pytest.mark.parametrize("names_and_keys", [("ab", "ac"), ("ab", "cb"), ("a", "a")])
def test_who_asks_for_something_else_shares_nothing(bench: Bench, names_and_keys: Any) -> None:
    """Another worker, another key, or none at all."""
    for name, *key in names_and_keys:
        bench.start(name, keep=(Memory(), key[0]) if key else None)
    assert len(bench.worker.started) == 2


def test_stopping_one_leaves_the_others(bench: Bench) -> None:
    tokens = [bench.begin(keep=(Memory(), "key")) for _ in range(3)]
    for token in (tokens[0], tokens[2]):
        assert bench.stop(token).message == {"token": token, **STOPPED}
        assert bench.get(token).message == {"token": token, **UNKNOWN}
    assert not bench.worker.stopped
    assert bench.worker.started[0].alive
    bench.finish(0)
    assert bench.get(tokens[1]).message == done(tokens[1], '"fine"')
    bench.assert_empty()


def test_stopping_all_stops_the_computation(bench: Bench) -> None:
    tokens = [bench.begin(keep=(Memory(), "key")) for _ in range(3)]
    for token in tokens:
        assert not bench.worker.stopped
        bench.stop(token)
    assert bench.worker.stopped == bench.worker.started
    bench.finish(0)
    bench.assert_empty()


def test_stopping_all_in_line(bench: Bench) -> None:
    bench.settings.max_workers = 1
    bench.start()
    tokens = [bench.begin("shared", keep=(Memory(), "key")) for _ in range(2)]
    assert [bench.get(token).message for token in tokens] == [in_line(token, 0) for token in tokens]
    for token in tokens:
        bench.stop(token)
    bench.finish(0)
    assert bench.worker.names == ["work"]
    assert [state.state for state in bench.table.states()] == ["finished"]


def test_a_stopped_computation_is_not_joined(bench: Bench) -> None:
    """What it was stopped in the midst of is no result."""
    memory = Memory()
    bench.stop(bench.begin(keep=(memory, "key")))
    second = bench.begin(keep=(memory, "key"))
    assert len(bench.worker.started) == 2
    third = bench.start(keep=(memory, "key"))
    assert len(bench.worker.started) == 2
    bench.end(0, Result((b'"half"',)))
    assert not third.answered
    bench.finish(1)
    assert third.message["result"] == '"fine"'
    assert bench.get(second).message == done(second, '"fine"')
    bench.assert_empty()


def test_the_same_key_later_is_computed_anew(bench: Bench) -> None:
    for number in range(3):
        bench.start(keep=(Memory(), "key"))
        assert len(bench.worker.started) == number + 1
        bench.finish(number)


def test_a_computation_that_could_not_be_begun_is_not_joined(bench: Bench) -> None:
    failing(bench.worker, "work")
    first = bench.start(keep=(Memory(), "key"))
    bench.turn()
    assert first.status == 503
    failing(bench.worker)
    second = bench.start(keep=(Memory(), "key"))
    bench.finish(1)
    assert second.status == 200
    bench.assert_empty()


def test_who_joins_needs_no_place_in_line(bench: Bench) -> None:
    bench.settings.limits = Limits(jobs_in_line=1)
    for name in ("first", "second"):
        bench.start(name)
    bench.start("third", keep=(Memory(), "key"))
    assert bench.start("fourth").status == 503
    assert not bench.start("third", keep=(Memory(), "key")).answered


def test_who_loses_the_connection_leaves_the_others_theirs(bench: Bench) -> None:
    tokens = [bench.begin(keep=(Memory(), "key")) for _ in range(2)]
    lost, other = (bench.get(token, LONG, prompt=False) for token in tokens)
    bench.finish(0)
    lost.exchange.lost()
    other.exchange.sent()
    assert bench.get(tokens[0]).message == done(tokens[0], '"fine"')
    assert bench.get(tokens[1]).message == {"token": tokens[1], **UNKNOWN}
    bench.assert_empty()


# ---- known results ----------------------------------------------------------------------------


def known(bench: Bench, result: Result, *, prompt: bool = True) -> Call:
    call = Call(prompt)
    bench.table.start_with(call.exchange, JobSpec("work", dict, bench.worker), result)
    return call


def test_a_result_that_is_known_is_sent_at_once(bench: Bench) -> None:
    call = known(bench, Result((b'"[1]"',)))
    assert call.message == done(call.token, "[1]")
    assert not bench.worker.started
    bench.assert_empty()


def test_a_long_result_that_is_known(bench: Bench) -> None:
    call = known(bench, Result((b'"a"', b'"b"')))
    assert [bench.cargo(one).message["result"] for one in call.message["result"]] == ["a", "b"]
    bench.assert_empty()


def test_a_known_result_that_was_not_delivered(bench: Bench) -> None:
    call = known(bench, Result((b'"[1]"',)), prompt=False)
    call.exchange.lost()
    assert bench.get(call.token).message == done(call.token, "[1]")
    bench.assert_empty()


def test_known_results_need_no_place_in_line(bench: Bench) -> None:
    bench.settings.limits = Limits(jobs_in_line=0)
    assert bench.start().status == 503
    assert known(bench, Result((b'"1"',))).status == 200


# ---- the bound of what is kept ----------------------------------------------------------------


@pytest.fixture
def at_most_100(bench: Bench) -> None:
    """Bytes of results; of a result they are those of its JSON strings, quotes included."""
    bench.settings.limits = Limits(kept_results=100)


@pytest.mark.usefixtures("at_most_100")
def test_the_oldest_results_are_dropped(bench: Bench, log: io.StringIO) -> None:
    bench.settings.max_chunk_size = 100
    tokens = []
    for number in range(7):
        tokens.append(bench.begin())
        bench.finish(number, f"{number:028d}")  # 30 bytes
    assert log.getvalue().count("the oldest is dropped") == 4
    for token in tokens[:4]:
        assert bench.get(token).message == {"token": token, **UNKNOWN}
    for number, token in enumerate(tokens[4:], 4):
        assert bench.get(token).message == done(token, f"{number:028d}")
    bench.assert_empty()


@pytest.mark.usefixtures("at_most_100")
def test_what_is_read_makes_room(bench: Bench, log: io.StringIO) -> None:
    bench.settings.max_chunk_size = 100
    for number in range(50):
        call = bench.start()
        bench.finish(number, "x" * 60)
        assert call.message["result"] == "x" * 60
    assert log.getvalue() == ""


@pytest.mark.usefixtures("at_most_100")
def test_the_newest_result_is_kept_however_large(bench: Bench, log: io.StringIO) -> None:
    bench.settings.max_chunk_size = 1000
    first, second = bench.begin(), bench.begin()
    bench.finish(0, "1")
    bench.finish(1, "x" * 500)
    assert bench.get(first).message == {"token": first, **UNKNOWN}
    assert bench.get(second).message == done(second, "x" * 500)
    assert log.getvalue().count("the oldest is dropped") == 1
    bench.assert_empty()


@pytest.mark.usefixtures("at_most_100")
def test_old_cargo_is_dropped(bench: Bench) -> None:
    _, cargo = in_pieces(bench)  # 12, 12 and 5 bytes
    bench.settings.max_chunk_size = 100
    token = bench.begin()
    bench.finish(1, "x" * 83)  # 85 bytes: the first two pieces have to go
    assert [bench.cargo(one).status for one in cargo] == [404, 404, 200]
    assert bench.get(token).message == done(token, "x" * 83)
    bench.assert_empty()


@pytest.mark.usefixtures("at_most_100")
def test_a_result_and_its_pieces_count_once(bench: Bench, log: io.StringIO) -> None:
    """They are the same bytes. A result that there is room for is whole, and outlives a lost answer."""
    token = bench.begin()
    bench.finish(0, "x" * 60)  # 72 bytes
    lost = bench.get(token, prompt=False)
    lost.exchange.lost()
    again = bench.get(token)
    assert again.message == lost.message
    assert [bench.cargo(one).status for one in again.message["result"]] == [200] * 6
    assert log.getvalue() == ""
    bench.assert_empty()


@pytest.mark.usefixtures("at_most_100")
def test_a_shared_result_counts_once(bench: Bench, log: io.StringIO) -> None:
    tokens = [bench.begin(keep=(Memory(), "key")) for _ in range(4)]
    bench.finish(0, "x" * 60)
    for token in tokens:
        cargo = bench.get(token).message["result"]
        assert [bench.cargo(one).status for one in cargo] == [200] * 6
    assert log.getvalue() == ""
    bench.assert_empty()


@pytest.mark.usefixtures("at_most_100")
def test_errors_take_no_room(bench: Bench, log: io.StringIO) -> None:
    tokens = []
    for number in range(20):
        tokens.append(bench.begin())
        bench.end(number, Result(error=(500, "x" * 50)))
    assert [bench.get(token).status for token in tokens] == [500] * 20
    assert log.getvalue() == ""


# ---- tokens -----------------------------------------------------------------------------------


def test_tokens_are_what_a_javascript_number_can_hold(bench: Bench) -> None:
    bench.settings.max_workers = 1000
    tokens = [bench.start().exchange for _ in range(1000)]
    assert len(tokens) == 1000
    found = [state.token for state in bench.table.states()]
    assert len(set(found)) == 1000
    assert all(str(int(token)) == token and 0 < int(token) < 2**53 for token in found)
    assert any(int(token) > 2**50 for token in found)


@pytest.fixture
def dice(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the next tokens are made of, in place of chance."""
    faces: list[int] = []

    def randbelow(limit: int) -> int:
        assert limit == 2**53 - 1
        return faces.pop(0)

    monkeypatch.setattr(secrets, "randbelow", randbelow)
    return faces


def test_the_first_and_the_last_token(bench: Bench, dice: list[int]) -> None:
    dice += [0, 2**53 - 2]
    assert [bench.begin(), bench.begin()] == ["1", str(2**53 - 1)]


def test_a_token_is_never_used_twice(bench: Bench, dice: list[int]) -> None:
    dice += [4, 4, 4, 5]
    assert [bench.begin(), bench.begin()] == ["5", "6"]
    bench.finish(0, TEXT)
    dice += [4, 5, 6, 6, 7, 8]
    assert bench.get("5").message["result"] == ["7", "8", "9"]
    dice += [6, 5, 4]
    assert bench.begin() == "5"  # it is free again


# ---- what people see --------------------------------------------------------------------------


def test_states(bench: Bench) -> None:
    bench.settings.max_workers = 2
    tokens = [bench.begin(name) for name in ("a", "b", "c")]
    bench.finish(0)
    bench.settings.max_workers = 1
    tokens.append(bench.begin("d"))
    tell(bench.worker.started[1], 1, 2, "half")
    states = bench.table.states()
    assert [state.token for state in states] == tokens
    assert [state.name for state in states] == ["a", "b", "c", "d"]
    assert [state.state for state in states] == ["finished", "running", "running", "in line"]
    assert [state.age for state in states] == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=SOON)
    assert states[1].progress == Progress(1, 2, "half")
    assert states[3].progress == Progress()


def test_the_log_tells_nothing_unless_it_is_asked_to(bench: Bench, log: io.StringIO) -> None:
    token = bench.begin()
    bench.finish(0)
    bench.get(token)
    bench.stop(bench.begin())
    assert log.getvalue() == ""


def test_the_log_tells_what_becomes_of_jobs(bench: Bench, log: io.StringIO) -> None:
    bench.settings.verbose_workers = True
    tokens = [bench.begin("a\nb", (Memory(), "key")), bench.begin("a\nb", (Memory(), "key"))]
    bench.stop(tokens[0])
    bench.finish(0)
    bench.begin("c")
    bench.end(1, Result(error=(500, "bad")))
    known(bench, Result((b'"1"',)))
    lines = log.getvalue().splitlines()
    assert [line.partition("): ")[2] for line in lines] == [
        "started",
        "joined one that runs",
        "stopped",
        "finished",
        "started",
        "failed",
        "known already",
    ]
    assert lines[0].startswith('[SERVER] the job "a\\x0ab" (')
    assert not any(token in log.getvalue() for token in tokens)  # who reads it cannot stop them


# ---- the end of the server --------------------------------------------------------------------


def test_nothing_is_held_back_any_more_at_the_end(bench: Bench) -> None:
    bench.settings.max_workers = 1
    tokens = [bench.begin(), bench.begin()]
    waiting = [bench.get(token, LONG) for token in tokens]
    start = bench.start(wait=LONG)
    bench.table.shut_down()
    assert waiting[0].message == begun(tokens[0])
    assert waiting[1].message == in_line(tokens[1], 0)
    assert start.message == in_line(start.token, 1)
    assert bench.get(tokens[0], LONG).message == begun(tokens[0])


def test_nothing_is_begun_any_more_at_the_end(bench: Bench) -> None:
    bench.settings.max_workers = 1
    tokens = [bench.begin("first"), bench.begin("second")]
    bench.table.shut_down()
    refused = bench.start("third")
    assert refused.status == 503
    bench.finish(0)
    assert bench.worker.names == ["first"]
    assert bench.get(tokens[0]).message == done(tokens[0], '"fine"')
    assert bench.get(tokens[1], LONG).message == in_line(tokens[1], 0)


def test_a_computation_can_still_be_joined_at_the_end(bench: Bench) -> None:
    bench.start(keep=(Memory(), "key"))
    bench.table.shut_down()
    call = bench.start(keep=(Memory(), "key"))
    assert call.message["continue"] is True
    bench.finish(0)
    assert bench.get(call.token).message == done(call.token, '"fine"')


class FailingWorker(BaseWorker):
    """One that cannot even be closed."""

    def close(self, patience: float) -> None:
        raise RuntimeError("stuck")


def test_closing_stops_everything(bench: Bench, log: io.StringIO) -> None:
    bench.settings.max_workers = 2
    running = [bench.begin("first"), bench.begin("second")]
    bench.begin("in line")
    waiting = [bench.get(token, LONG) for token in running]
    bench.start(keep=(Memory(), "key"))
    bench.start(keep=(Memory(), "key"))
    bench.finish(0)
    bench.table.close([FailingWorker(None), bench.worker], 1.5)  # type: ignore[arg-type]
    assert bench.table.states() == []
    assert waiting[1].message == {"token": running[1], **STOPPED}
    assert [task.name for task in bench.worker.stopped] == ["second", "in line"]
    assert not any(task.alive for task in bench.worker.stopped)
    assert bench.worker.names == ["first", "second", "in line"]
    assert bench.worker.closed == [1.5]
    assert log.getvalue().count("RuntimeError: stuck") == 1


def test_what_ends_after_closing_is_dropped(bench: Bench) -> None:
    bench.begin()
    bench.table.close([bench.worker], 0)
    bench.finish(0)
    assert bench.worker.stopped == bench.worker.started
    bench.assert_empty()


def test_an_empty_table_is_closed(bench: Bench) -> None:
    bench.table.close([], 0)
    bench.table.close([], 0)
    bench.assert_empty()
