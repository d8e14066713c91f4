"""Any order of what clients, workers, connections and time do to the table of jobs.

The model beside the table is what the protocol promises: it knows no timers, exchanges or bytes.
"""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import quick_server
from quick_server import jobs
from quick_server.jobs import JobSpec
from quick_server.limits import Limits
from quick_server.protocol.worker import LONGEST_WAIT, START_WAIT, cut, parse_action
from quick_server.reactor import Reactor
from quick_server.workers import Progress, Result, WorkerTask
from tests.unit.fakes import Clock, SleeplessSelector
from tests.unit.jobbench import STOPPED, UNKNOWN, Bench, Call, Message, begun, done, in_line

MOST_IN_LINE = 3
MOST_BEGUN = 2
LONGEST_PIECE = 10
LOOK = 0.2
UNREAD = 120.0
UNREAD_CARGO = 600.0
DOUBT = 90.03  # no sum of what else takes its time
SOON = 1e-3
CANNOT = Result(error=(503, "the job could not be begun"))
DIED = Result(error=(500, "the job was ended"))


class Store:
    """Where shared results would go."""

    def store(self, key: object, text: str) -> None:
        """Nobody looks."""


@dataclass(eq=False)
class Work:
    """What is computed for some jobs."""

    key: str | None
    jobs: list[Asked] = field(default_factory=list)
    task: WorkerTask | None = None
    """Once it has begun."""


@dataclass(eq=False)
class Asked:
    """A job, as a client thinks of it."""

    token: str
    work: Work | None
    result: Result | None = None
    gone_at: float = 0
    cargo: list[str] = field(default_factory=list)
    told: tuple[int | None, Progress] | None = None
    """What its client knows of its place in line, and of its progress."""
    is_known: bool = False
    """Its client has the token."""
    doubted_at: float | None = None
    """When it ends, because its client has ended its side and may never ask."""


@dataclass(eq=False)
class Piece:
    """A piece of a result that was not fetched."""

    content: bytes
    gone_at: float


@dataclass(eq=False)
class Waiting:
    """A call that has no answer yet."""

    call: Call
    job: Asked
    until: float
    curious: bool
    """It wants to hear of progress."""
    is_start: bool = False


class Machine(RuleBasedStateMachine):
    """A table and its model, side by side."""

    def __init__(self) -> None:
        super().__init__()
        quick_server.set_log_file(io.StringIO())
        self.patches = pytest.MonkeyPatch()
        self.patches.setattr(jobs, "_DOUBT", DOUBT)
        tokens = count()  # so that no run depends on chance
        self.patches.setattr(secrets, "randbelow", lambda limit: next(tokens))
        clock = Clock()
        self.reactor = Reactor(clock, SleeplessSelector())
        self.bench = Bench(self.reactor, clock)
        self.bench.settings.max_workers = MOST_BEGUN
        self.bench.settings.limits = Limits(jobs_in_line=MOST_IN_LINE)
        self.bench.settings.max_chunk_size = LONGEST_PIECE
        self.bench.worker.on_start = self.on_start
        self.numbers = count(1)
        self.cannot_begin = 0  # so many of the next ones
        self.ending = False
        self.steps = 0
        # the model
        self.asked: dict[str, Asked] = {}
        self.pieces: dict[str, Piece] = {}
        self.line: list[Work] = []
        self.begun: list[Work] = []
        self.shared: dict[str, Work] = {}
        self.stopped: list[WorkerTask] = []
        self.tokens: list[str] = []  # all that clients have ever been told
        # calls, and what happens if their answer is delivered
        self.calls: list[Call] = []
        self.waiting: list[Waiting] = []
        self.sending: dict[Call, Callable[[], object]] = {}
        self.starts: dict[Call, Asked] = {}  # that have an answer on its way, but for results
        self.over: list[Call] = []

    def teardown(self) -> None:
        try:
            self.end_everything()
        finally:
            self.reactor.close()
            self.patches.undo()
            quick_server.set_log_file(None)

    def end_everything(self) -> None:
        for token in list(self.asked):
            self.bench.stop(token)
        for work in self.begun:
            assert work.task is not None
            work.task.finish(Result())
        for call in self.sending:
            call.exchange.lost()
        self.bench.advance(UNREAD_CARGO)
        self.bench.assert_empty()

    # the worker

    def on_start(self, task: WorkerTask) -> None:
        if self.cannot_begin:
            self.cannot_begin -= 1
            raise RuntimeError("no room")

    # the model ------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.bench.clock.now

    def begin_next(self) -> None:
        """What the table has begun by now."""
        tasks = self.bench.worker.started
        failing = self.failing_before
        while self.line and len(self.begun) < MOST_BEGUN and not self.ending:
            work = self.line.pop(0)
            work.task = tasks[self.seen_tasks]
            self.seen_tasks += 1
            if failing:
                failing -= 1
                self.end_work(work, CANNOT)
            else:
                self.begun.append(work)
        assert len(tasks) == self.seen_tasks
        assert failing == self.cannot_begin
        self.failing_before = failing

    seen_tasks = 0
    failing_before = 0

    def end_work(self, work: Work, result: Result) -> None:
        if work.key is not None and self.shared.get(work.key) is work:
            del self.shared[work.key]
        for job in work.jobs:
            self.keep(job, result)

    def keep(self, job: Asked, result: Result) -> None:
        job.work, job.result, job.gone_at = None, result, self.now + UNREAD

    def forget(self, job: Asked) -> None:
        self.asked.pop(job.token, None)

    def know(self, job: Asked, cargo: Sequence[str] = ()) -> None:
        """The client has the token, and those of pieces."""
        if not job.is_known and job.token:
            job.is_known = True
            self.tokens.append(job.token)
        self.tokens += [token for token in cargo if token not in self.tokens]

    def drop(self, job: Asked) -> None:
        """The job ends, and with it what is done for it alone."""
        self.forget(job)
        for one in job.cargo:
            self.pieces.pop(one, None)
        work, job.work = job.work, None
        if work is None:
            return
        work.jobs.remove(job)
        if not work.jobs:
            if work.key is not None and self.shared.get(work.key) is work:
                del self.shared[work.key]
            if work.task is None:
                self.line.remove(work)
            else:
                self.stopped.append(work.task)

    def nobody_knows(self, job: Asked) -> None:
        """The answer with the token did not arrive."""
        if not job.is_known and job.result is None and job.token in self.asked:
            self.drop(job)

    def place_of(self, job: Asked) -> tuple[int | None, Progress]:
        assert job.work is not None
        if job.work.task is None:
            return self.line.index(job.work), Progress()
        return None, job.work.task.progress

    def tell(self, call: Call, job: Asked) -> None:
        """The call was answered with how far the job is."""
        job.told = self.place_of(job)
        assert call.message == self.message_of(job)
        if not call.prompt and not job.is_known and not self.ending:
            self.starts[call] = job
        self.sent(call, lambda: self.know(job))

    def message_of(self, job: Asked) -> Message:
        queue, progress = self.place_of(job)
        if queue is not None:
            return in_line(job.token, queue)
        return begun(job.token, progress._asdict())

    # answers --------------------------------------------------------------------------------------

    def answered(self, call: Call, expected: Message) -> None:
        """The call has this answer, in which nothing is that is read once."""
        assert call.message == expected
        self.sent(call, bool)

    def answered_with_result(self, call: Call, job: Asked) -> None:
        result = job.result
        assert result is not None
        cargo: list[str] = []
        if result.error is not None:
            assert call.status == result.error[0]
        elif len(result.pieces) == 1:
            assert call.content.endswith(b',"result":%b,"continue":false}' % result.pieces)
            assert call.token == job.token
        else:
            cargo = call.message["result"]
            assert call.message == done(job.token, cargo)
            if not job.cargo:
                job.cargo = cargo
                for token, piece in zip(cargo, result.pieces, strict=True):
                    assert token not in self.pieces
                    assert token not in self.asked
                    self.pieces[token] = Piece(piece, self.now + UNREAD_CARGO)
            assert cargo == job.cargo

        def delivered() -> None:
            self.know(job, cargo)
            self.forget(job)

        self.sent(call, delivered)

    def sent(self, call: Call, delivered: Callable[[], object]) -> None:
        """The answer is out, or on its way."""
        if call.prompt:
            delivered()
            self.over.append(call)
        else:
            self.sending[call] = delivered

    def settle(self) -> None:
        """Whoever waits for a job that has ended got its result, and nobody else an answer."""
        for waiting in list(self.waiting):
            if waiting.job.result is not None:
                self.waiting.remove(waiting)
                self.answered_with_result(waiting.call, waiting.job)
            else:
                assert not waiting.call.answered

    def wait(self, call: Call, job: Asked, seconds: float, *, curious: bool) -> None:
        if job.result is not None:
            self.answered_with_result(call, job)
        elif seconds <= 0 or self.ending:
            self.tell(call, job)
        else:
            self.waiting.append(Waiting(call, job, self.now + seconds, curious, not job.is_known))

    def new_call(self, call: Call) -> Call:
        self.calls.append(call)
        return call

    # rules: clients -------------------------------------------------------------------------------

    @rule(
        key=st.sampled_from([None, None, "a", "b"]),
        wait=st.sampled_from([0, 0.05, 0.3, 25, 100]),
        prompt=st.booleans(),
    )
    def start(self, key: str | None, wait: float, prompt: bool) -> None:
        shared = self.shared.get(key) if key is not None else None
        full = len(self.line) >= MOST_IN_LINE or self.ending
        known = {state.token for state in self.bench.table.states()}
        keep = (Store(), key) if key is not None else None
        call = self.new_call(self.bench.start("work", wait, keep=keep, prompt=prompt))
        self.bench.turn()
        if shared is None and full:
            assert call.status == 503
            self.sent(call, bool)
            return
        work = shared or Work(key)
        if shared is None:
            self.line.append(work)
            if key is not None:
                self.shared[key] = work
        new = {state.token for state in self.bench.table.states()} - known
        job = Asked(new.pop() if new else "", work)  # "": it could not be begun, and was told so
        work.jobs.append(job)
        if job.token:
            assert job.token not in self.tokens
            self.asked[job.token] = job
        self.begin_next()
        wait = max(START_WAIT, min(wait, LONGEST_WAIT))
        self.wait(call, job, wait, curious=wait > START_WAIT)
        self.settle()

    @rule(long=st.booleans(), prompt=st.booleans())
    def start_with_a_known_result(self, long: bool, prompt: bool) -> None:
        text = f"{next(self.numbers):0{25 if long else 1}}"
        result = Result(cut(text, LONGEST_PIECE))
        call = self.new_call(Call(prompt))
        self.bench.table.start_with(call.exchange, JobSpec("work", dict, self.bench.worker), result)
        job = self.asked[call.token] = Asked(call.token, None)
        assert job.token not in self.tokens
        self.keep(job, result)
        self.answered_with_result(call, job)

    @precondition(lambda self: self.tokens)
    @rule(
        data=st.data(),
        wait=st.sampled_from([0, 0, 0.1, 1, 25, 100]),
        prompt=st.booleans(),
        is_late=st.sampled_from([False] * 4 + [True]),
        has_ended=st.sampled_from([False] * 4 + [True]),
    )
    def get(
        self, data: st.DataObject, wait: float, prompt: bool, is_late: bool, has_ended: bool
    ) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        call = self.new_call(Call(prompt))
        job = self.asked.get(token)
        message: Message = {"action": "get", "token": token, "wait": wait * 1000}
        if is_late:  # the client has gone before anybody could look at what it wanted
            message["wait"] = 0
            call.exchange.lost()
        elif has_ended:  # it only takes its answer, for which nobody has it wait
            wait = 0
            call.exchange.peer_ended()
        self.bench.table.act(call.exchange, parse_action(message))
        if job is not None:
            job.doubted_at = None
        if is_late:
            self.over.append(call)
            assert len(call.disposed) == 1
            if job is not None and job.work is not None:
                job.told = self.place_of(job)
            elif job is not None:
                self.note_cargo(job)
        elif job is None:
            self.answered(call, {"token": token, **UNKNOWN})
        else:
            self.wait(call, job, min(wait, LONGEST_WAIT), curious=wait > 0)

    def note_cargo(self, job: Asked) -> None:
        """An answer that nobody got may have brought the pieces about: their tokens are seen later."""
        result = job.result
        assert result is not None
        if len(result.pieces) > 1 and not job.cargo:
            job.cargo = self.bench.table._jobs[job.token].cargo
            for token, piece in zip(job.cargo, result.pieces, strict=True):
                self.pieces[token] = Piece(piece, self.now + UNREAD_CARGO)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(self.tokens))
        job = self.asked.get(token)
        call = self.new_call(self.bench.stop(token))
        if job is None:
            self.answered(call, {"token": token, **UNKNOWN})
            return
        self.answered(call, {"token": token, **STOPPED})
        for waiting in [waiting for waiting in self.waiting if waiting.job is job]:
            self.waiting.remove(waiting)
            self.answered(waiting.call, {"token": token, **STOPPED})
        self.drop(job)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), prompt=st.booleans())
    def cargo(self, data: st.DataObject, prompt: bool) -> None:
        token = data.draw(st.sampled_from(list(self.pieces) or self.tokens))
        call = self.new_call(self.bench.cargo(token, prompt=prompt))
        piece = self.pieces.get(token)
        if piece is None:
            assert call.status == 404
            self.sent(call, bool)
            return
        assert call.token == token
        assert call.message == done(token, json.loads(piece.content))
        self.sent(call, lambda: self.pieces.pop(token, None))

    # rules: connections ---------------------------------------------------------------------------

    @precondition(lambda self: self.sending)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(list(self.sending)))
        delivered = self.sending.pop(call)
        self.starts.pop(call, None)
        call.exchange.sent()
        delivered()
        self.over.append(call)

    @precondition(lambda self: self.sending)
    @rule(data=st.data())
    def hang_up_in_the_midst_of_an_answer(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(list(self.sending)))
        del self.sending[call]
        call.exchange.lost()
        job = self.starts.pop(call, None)
        if job is not None:
            self.nobody_knows(job)
        self.over.append(call)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def hang_up_before_the_answer(self, data: st.DataObject) -> None:
        waiting = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(waiting)
        waiting.call.exchange.lost()
        self.nobody_knows(waiting.job)
        self.over.append(waiting.call)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def end_one_side(self, data: st.DataObject) -> None:
        waiting = data.draw(st.sampled_from(self.waiting))
        self.waiting.remove(waiting)
        waiting.call.exchange.peer_ended()
        self.tell(waiting.call, waiting.job)
        if waiting.is_start:
            waiting.job.doubted_at = self.now + DOUBT

    @precondition(lambda self: self.sending)
    @rule(data=st.data())
    def end_one_side_in_the_midst_of_an_answer(self, data: st.DataObject) -> None:
        call = data.draw(st.sampled_from(list(self.sending)))
        call.exchange.peer_ended()

    # rules: workers -------------------------------------------------------------------------------

    @precondition(lambda self: self.begun)
    @rule(data=st.data(), how=st.sampled_from(["short", "short", "long", "error", "died"]))
    def finish(self, data: st.DataObject, how: str) -> None:
        work = data.draw(st.sampled_from(self.begun))
        number = next(self.numbers)
        if how == "error":
            result = Result(error=(400 + number % 100, "bad"))
        elif how == "died":
            result = Result()
        else:
            result = Result(cut(f"{number:0{25 if how == 'long' else 1}}", LONGEST_PIECE))
        assert work.task is not None
        work.task.finish(result)
        self.bench.turn()
        self.begun.remove(work)
        self.end_work(work, DIED if how == "died" else result)
        self.begin_next()
        self.settle()

    @precondition(lambda self: self.begun)
    @rule(data=st.data())
    def tell_of_progress(self, data: st.DataObject) -> None:
        work = data.draw(st.sampled_from(self.begun))
        assert work.task is not None
        work.task.progress = Progress(next(self.numbers))

    @precondition(lambda self: not self.failing_before)
    @rule(times=st.integers(1, 2))
    def have_no_room(self, times: int) -> None:
        self.cannot_begin = self.failing_before = times

    # rules: time ----------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.05, 0.1, 0.15, 0.2, 1, 5, 24, 30, 100, 119.5, 120, 500, 600]))
    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        doubts = [job.doubted_at for job in self.asked.values() if job.doubted_at is not None]
        for moment in sorted(doubts):  # places in line are others before it, and after it
            if self.now + SOON < moment <= until:
                self.let_pass(moment - self.now - SOON)
        self.let_pass(until - self.now)

    def let_pass(self, seconds: float) -> None:
        self.bench.advance(seconds)
        now = self.now
        for job in list(self.asked.values()):
            if job.doubted_at is not None and job.doubted_at <= now and job.result is None:
                self.drop(job)
        told = {waiting.job: waiting.job.told for waiting in self.waiting}
        told_anyhow = {waiting.job for waiting in self.waiting if waiting.until <= now}
        for waiting in list(self.waiting):
            job = waiting.job
            moved = waiting.curious and told[job] != self.place_of(job)
            looked_at = seconds >= LOOK and job not in told_anyhow and told[job] is not None
            if waiting.until <= now or (moved and looked_at):
                assert waiting.call.answered
            elif not moved:
                assert not waiting.call.answered
            if waiting.call.answered:
                self.waiting.remove(waiting)
                self.tell(waiting.call, job)
        for job in [job for job in self.asked.values() if job.result and job.gone_at <= now]:
            self.forget(job)
        for token in [token for token, piece in self.pieces.items() if piece.gone_at <= now]:
            del self.pieces[token]

    @precondition(lambda self: self.steps > 30 and not self.ending)
    @rule()
    def shut_down(self) -> None:
        self.bench.table.shut_down()
        for waiting in self.waiting:
            self.tell(waiting.call, waiting.job)
        self.waiting.clear()
        self.ending = True  # from now on nobody cares who has a token

    # what always holds ----------------------------------------------------------------------------

    @invariant()
    def count_steps(self) -> None:
        self.steps += 1

    @invariant()
    def the_table_is_as_the_model_says(self) -> None:
        table = self.bench.table
        found = [(state.token, state.state, state.progress) for state in table.states()]
        expected = []
        for job in self.asked.values():
            queue, progress = (None, Progress()) if job.work is None else self.place_of(job)
            state = "in line" if queue is not None else "finished" if job.result else "running"
            expected.append((job.token, state, progress))
        assert found == expected
        assert len(table._begun) <= MOST_BEGUN
        assert set(table._begun) == {work.task for work in self.begun}
        assert len(table._line) == len(self.line)
        assert set(self.bench.worker.stopped) == set(self.stopped)
        assert len(self.bench.worker.stopped) == len(self.stopped)
        assert not any(task.alive for task in self.stopped)

    @invariant()
    def what_is_kept_can_be_read(self) -> None:
        table = self.bench.table
        finished = {job.token for job in self.asked.values() if job.result}
        assert set(table._kept) == finished | set(self.pieces)
        held = [piece.content for piece in self.pieces.values()]
        held += [one for job in self.asked.values() if job.result for one in job.result.pieces]
        # Jobs share results, and a result is the same bytes as its cargo.
        assert table._kept_bytes == sum({id(one): len(one) for one in held}.values())

    @invariant()
    def each_call_has_one_answer_at_most(self) -> None:
        pending = {waiting.call for waiting in self.waiting}
        for call in self.calls:
            assert len(call.answers) <= 1
            assert call.answered or call in pending or call in self.over
            assert not (call.answered and call in pending)


TestJobs: Any = Machine.TestCase
TestJobs.settings = settings(max_examples=150, stateful_step_count=50)
