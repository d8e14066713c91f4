"""The jobs of the workers: who is in line, who is computed, and who waits for what.

Loop thread; nothing here is locked, and nothing blocks. Owns the tokens and the results that nobody
has read yet.

    client ──start──▶ Job ──▶ _Computation: in line ──▶ begun ──▶ finished ──▶ result kept ──▶ read
                       │            ▲ same key: joined                             │
                       └───stop─────┘ the last one to leave stops it               └── 2 min ──▶ gone

A job is what one client asked for, and a computation what is done for it: jobs with the same cache id
share one. Computations begin in the order they came, `max_workers` at a time, wherever their worker has
them computed. A stopped one keeps its place until it has really ended; its result is dropped.

A result is forgotten once an answer with it has been handed to the kernel as a whole, and not before:
who loses the connection may ask again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

from .exchange import Exchange
from .jsontext import json_bytes
from .limits import Limits
from .log import escape, log_exception, log_server
from .protocol import worker as protocol
from .protocol.messages import Outcome
from .protocol.worker import Action
from .protocol.writer import field_line
from .reactor import Reactor
from .timers import Timer
from .workers import BaseWorker, Progress, Result, Store, WorkerTask

_STUBBORN = 5.0  # seconds after a stop until the log says that it has no effect
_DOUBT = 90.0  # seconds; who follows a job asks at least once a minute
_LOOK = 0.2  # seconds between looks whether a job that somebody waits for has moved
_JSON = field_line("Content-Type", "application/json")
_BUSY = "too many jobs are in line, try again in a moment"


class JobSettings(Protocol):
    """The settings that this file reads."""

    max_workers: int
    max_chunk_size: int
    verbose_workers: bool

    @property
    def limits(self) -> Limits: ...


class JobSpec(NamedTuple):
    """What is computed for a mask."""

    name: str
    function: Callable[[dict[str, Any]], Any]
    worker: BaseWorker


class JobState(NamedTuple):
    """A job as people are shown it."""

    token: str
    name: str
    state: str
    """`running`, `in line` or `finished`."""
    age: float
    """Seconds since it was asked for."""
    progress: Progress


class _Computation:
    """What is computed for one job, or for several that ask for the same."""

    __slots__ = ("begun", "jobs", "key", "size", "task", "worker")

    def __init__(self, task: WorkerTask, worker: BaseWorker, key: Hashable, size: int) -> None:
        self.task = task
        self.size = size  # of its payload, as it was sent
        self.worker = worker
        self.key = key
        self.jobs: list[_Job] = []
        self.begun = False


class _Job:
    """What one client asked for. `result` is there once the computation is finished."""

    __slots__ = (
        "asked_for",
        "cargo",
        "computation",
        "known",
        "name",
        "result",
        "since",
        "token",
        "told",
        "waiters",
    )

    def __init__(self, token: str, name: str, since: float) -> None:
        self.token = token
        self.name = name
        self.since = since
        self.computation: _Computation | None = None
        self.result: Result | None = None
        self.known = False  # whether an answer has told its token to somebody
        self.asked_for = False  # whether somebody has used that
        self.cargo: list[str] = []
        self.told: tuple[int | None, Progress] | None = None  # its place, as its client knows it
        self.waiters: list[_Waiter] = []


class _Kept:
    """Something that waits for its reader: a job with its result, or a piece of cargo."""

    __slots__ = ("content", "pieces", "timer")

    def __init__(self, content: _Job | bytes, pieces: tuple[bytes, ...], timer: Timer) -> None:
        self.content = content
        self.pieces = pieces  # that it keeps in memory
        self.timer = timer


class _Waiter:
    """An exchange whose answer is held back."""

    __slots__ = ("_table", "asked", "exchange", "job", "timer")

    def __init__(self, table: JobTable, exchange: Exchange, job: _Job, asked: bool) -> None:
        self._table = table
        self.exchange = exchange
        self.job = job
        self.asked = asked  # else it is a start that waits anyhow, and wants to hear of no progress
        self.timer: Timer | None = None

    def leave(self) -> None:
        """It waits no longer."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if self in self.job.waiters:
            self.job.waiters.remove(self)

    def peer_ended(self) -> None:
        """The client may be gone, or may only have finished sending: it gets what is known by now."""
        if self.timer is not None:  # else it has an answer
            self._table.answer_running(self)
            if not self.job.asked_for:
                self._table.doubt(self.job)

    def ended(self, *, delivered: bool) -> None:
        """The exchange is over."""
        self.leave()
        self._table.told(self.job, delivered=delivered)


class _Delivery:
    """An answer with something that is to be read once."""

    __slots__ = ("_forget",)

    def __init__(self, forget: Callable[[], object]) -> None:
        self._forget = forget

    def peer_ended(self) -> None:
        """It may still read."""

    def ended(self, *, delivered: bool) -> None:
        """The exchange is over; only what was delivered is forgotten."""
        if delivered:
            self._forget()


class JobTable:
    """All jobs of a server."""

    def __init__(self, settings: JobSettings, reactor: Reactor) -> None:
        self._settings = settings
        self._reactor = reactor
        self._jobs: dict[str, _Job] = {}
        self._line: deque[_Computation] = deque()
        self._begun: dict[WorkerTask, _Computation] = {}
        self._by_key: dict[Hashable, _Computation] = {}
        self._kept: dict[str, _Kept] = {}  # by token, oldest first
        self._readers: dict[int, int] = {}  # of each piece that is kept, by its id
        self._kept_bytes = 0
        self._payload_bytes = 0  # of computations that have not ended
        self._watch: Timer | None = None
        self._beginning = False
        self._ending = False

    # what clients ask -----------------------------------------------------------------------------

    def act(self, exchange: Exchange, action: Action) -> None:
        """Answers `get`, `stop` and `cargo`."""
        if action.name == "cargo":
            self._send_cargo(exchange, action.token)
            return
        job = self._jobs.get(action.token)
        if job is None:
            _send(exchange, protocol.unknown(action.token))
            return
        job.asked_for = True
        if action.name == "stop":
            self.stop(action.token)
            _send(exchange, protocol.stopped(action.token))
        elif job.result is not None:
            self._deliver(exchange, job)
        else:
            self._wait(exchange, job, action.wait, asked=action.wait > 0)

    @property
    def longest_piece(self) -> int:
        """Characters that one answer carries of a result."""
        return self._settings.max_chunk_size

    def _is_full_for(self, size: int) -> bool:
        """Whether no more computations are taken of which the payload is that large."""
        limits = self._settings.limits
        payloads = self._payload_bytes and self._payload_bytes + size > limits.job_payloads
        return bool(payloads) or len(self._line) >= limits.jobs_in_line or self._ending

    def _refuse_any(self, exchange: Exchange) -> bool:
        """Whether there are so many jobs that not even one that costs no computation is taken."""
        if len(self._jobs) < self._settings.limits.jobs:
            return False
        exchange.refuse(503, _BUSY, b"Retry-After: 1\r\n")
        return True

    def start(
        self,
        exchange: Exchange,
        action: Action,
        spec: JobSpec,
        keep: tuple[Store, Hashable] | None = None,
    ) -> None:
        """Takes a job in.

        With `keep`, a store and a key in it, the result is stored there, and jobs that ask for the same
        share one computation.
        """
        if not exchange.alive:
            return  # nobody will ever know its token
        key = (spec.name, keep[1]) if keep is not None else None
        computation = self._by_key.get(key) if key is not None else None
        if computation is None and self._is_full_for(action.size):
            exchange.refuse(503, _BUSY, b"Retry-After: 1\r\n")
            return
        if self._refuse_any(exchange):
            return
        job = self._new_job(spec.name)
        if computation is None:
            task = WorkerTask(
                spec.name, spec.function, action.payload, self._on_result, self.longest_piece
            )
            computation = _Computation(task, spec.worker, key, action.size)
            self._payload_bytes += computation.size
            if keep is not None:
                task.keep_in(*keep)
                self._by_key[key] = computation
            self._line.append(computation)
        job.computation = computation
        computation.jobs.append(job)
        self._log(job, "started" if len(computation.jobs) == 1 else "joined one that runs")
        self._begin_next()
        if job.result is None:
            job.told = self.place_of(job)  # that it has begun is no news
            self._wait(exchange, job, action.wait, asked=action.wait > protocol.START_WAIT)
        else:  # it could not be begun
            self._deliver(exchange, job)

    def start_with(self, exchange: Exchange, spec: JobSpec, result: Result) -> None:
        """Takes in a job whose result is there already."""
        if self._refuse_any(exchange):
            return
        job = self._new_job(spec.name)
        self._log(job, "known already")
        self._keep_result(job, result)
        self._deliver(exchange, job)

    def stop(self, token: str) -> bool:
        """Ends a job; returns whether there was one of that token."""
        job = self._jobs.pop(token, None)
        if job is None:
            return False
        for waiter in list(job.waiters):
            waiter.leave()
            _send(waiter.exchange, protocol.stopped(token))
        for known in (token, *job.cargo):
            self._unkeep(known)
        computation, job.computation = job.computation, None
        if computation is not None:
            computation.jobs.remove(job)
            if not computation.jobs:
                self._give_up(computation)
        self._log(job, "stopped")
        return True

    def told(self, job: _Job, *, delivered: bool) -> None:
        """An answer has told the token of a job, or has not reached its client.

        A computation for a token that nobody knows is nobody's, and ends.
        """
        job.known = job.known or delivered
        if not job.known and job.result is None:
            self.stop(job.token)

    def doubt(self, job: _Job) -> None:
        """The client that started it may be gone: the job ends unless somebody asks for it."""
        token = job.token  # alone: the timer must not hold on to a result that was read meanwhile
        self._reactor.call_later(_DOUBT, lambda: self._end_doubt(token))

    def _end_doubt(self, token: str) -> None:
        job = self._jobs.get(token)
        if job is not None and not job.asked_for and job.result is None:
            self.stop(token)

    # what people ask ------------------------------------------------------------------------------

    def states(self) -> list[JobState]:
        """Every job there is, oldest first."""
        now = self._reactor.now()
        found = []
        for job in self._jobs.values():
            computation = job.computation
            state, task_progress = "finished", Progress()
            if computation is not None:
                state = "running" if computation.begun else "in line"
                task_progress = computation.task.progress
            found.append(JobState(job.token, job.name, state, now - job.since, task_progress))
        return found

    # life -----------------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """The server is about to end: nothing is held back any more, and nothing begun."""
        self._ending = True
        for job in list(self._jobs.values()):
            for waiter in list(job.waiters):
                self.answer_running(waiter)

    def close(self, workers: list[BaseWorker], patience: float) -> None:
        """Closing thread, after the loop has ended: stops everything."""
        self._ending = True
        for token in list(self._jobs):
            self.stop(token)
        for worker in workers:
            try:
                worker.close(patience)
            except Exception:
                log_exception("a worker could not be closed")

    # computations ---------------------------------------------------------------------------------

    def _begin_next(self) -> None:
        if self._beginning:  # one that cannot be begun has ended within the loop below
            return
        self._beginning = True
        try:
            self._begin_all()
        finally:
            self._beginning = False

    def _begin_all(self) -> None:
        while self._line and len(self._begun) < self._settings.max_workers and not self._ending:
            computation = self._line.popleft()
            computation.begun = True
            self._begun[computation.task] = computation
            try:
                computation.worker.start(computation.task)
            except Exception:
                log_exception(f'the job "{escape(computation.task.name)}" could not be begun')
                self._end(computation.task, Result(error=(503, "the job could not be begun")))

    def _give_up(self, computation: _Computation) -> None:
        """Nobody wants it any more."""
        task = computation.task
        self._share_no_more(computation)
        task.alive = False
        if not computation.begun:
            self._line.remove(computation)
            self._payload_bytes -= computation.size
            return
        try:
            computation.worker.stop(task)
        except Exception:
            log_exception(f'the job "{escape(task.name)}" could not be stopped')
        self._reactor.call_later(_STUBBORN, lambda: self._note_stubborn(task))

    def _share_no_more(self, computation: _Computation) -> None:
        """Who asks for the same from now on gets another one."""
        if computation.key is not None and self._by_key.get(computation.key) is computation:
            del self._by_key[computation.key]

    def _note_stubborn(self, task: WorkerTask) -> None:
        if task in self._begun:
            log_server(f'the job "{escape(task.name)}" was stopped, and goes on nevertheless')

    def _on_result(self, task: WorkerTask, result: Result) -> None:
        """Any thread."""
        self._reactor.call_from_thread(lambda: self._end(task, result))

    def _end(self, task: WorkerTask, result: Result) -> None:
        computation = self._begun.pop(task, None)
        if computation is None:  # told twice
            return
        self._share_no_more(computation)
        self._payload_bytes -= computation.size
        try:
            result = _sound(result)
            task.payload = {}  # its thread may keep the task for a while
            jobs, computation.jobs = computation.jobs, []
            for job in jobs:
                job.computation = None
                self._log(job, "failed" if result.error else "finished")
                self._keep_result(job, result)
                for waiter in list(job.waiters):
                    waiter.leave()
                    self._deliver(waiter.exchange, job)
        finally:
            self._begin_next()

    # results --------------------------------------------------------------------------------------

    def _new_job(self, name: str) -> _Job:
        job = _Job(self._new_token(), name, self._reactor.now())
        self._jobs[job.token] = job
        return job

    def _new_token(self) -> str:
        import secrets  # with the first job: not every server has some

        while True:
            token = str(1 + secrets.randbelow(2**53 - 1))
            if token not in self._jobs and token not in self._kept:
                return token

    def _keep_result(self, job: _Job, result: Result) -> None:
        job.result = result
        token = job.token

        def expire() -> None:
            log_server(f'nobody has read the result of the job "{escape(job.name)}"')
            self._forget(token)

        self._keep(token, job, result.pieces, self._settings.limits.result_timeout, expire)

    def _keep(
        self,
        token: str,
        content: _Job | bytes,
        pieces: tuple[bytes, ...],
        seconds: float,
        expire: Callable[[], object],
    ) -> None:
        self._kept[token] = _Kept(content, pieces, self._reactor.call_later(seconds, expire))
        for piece in pieces:
            readers = self._readers[id(piece)] = self._readers.get(id(piece), 0) + 1
            if readers == 1:  # jobs may share a result, and it is the same bytes as its cargo
                self._kept_bytes += len(piece)
        while self._kept_bytes > self._settings.limits.kept_results and len(self._kept) > 1:
            oldest = next(iter(self._kept))
            log_server("too much is kept for clients that do not read it: the oldest is dropped")
            self._forget(oldest)

    def _forget(self, token: str) -> None:
        self._jobs.pop(token, None)
        self._unkeep(token)

    def _unkeep(self, token: str) -> None:
        kept = self._kept.pop(token, None)
        if kept is not None:
            kept.timer.cancel()
            for piece in kept.pieces:
                readers = self._readers.pop(id(piece)) - 1
                if readers:
                    self._readers[id(piece)] = readers
                else:
                    self._kept_bytes -= len(piece)

    def _deliver(self, exchange: Exchange, job: _Job) -> None:
        """Sends the result; it is forgotten once that is out."""
        result, token = job.result, job.token
        assert result is not None
        exchange.watch(_Delivery(lambda: self._forget(token)))
        if result.error is not None:
            exchange.refuse(*result.error)
        elif len(result.pieces) == 1:
            _send(exchange, protocol.finished(token, result.pieces[0]))
        else:
            if not job.cargo:
                job.cargo = [self._load(piece) for piece in result.pieces]
            _send(exchange, protocol.in_pieces(token, job.cargo))

    def _load(self, piece: bytes) -> str:
        token = self._new_token()
        self._keep(
            token, piece, (piece,), self._settings.limits.cargo_timeout, lambda: self._unkeep(token)
        )
        return token

    def _send_cargo(self, exchange: Exchange, token: str) -> None:
        kept = self._kept.get(token)
        if kept is None or not isinstance(kept.content, bytes):
            exchange.refuse(404, "there is no such cargo, or it was fetched before")
            return
        exchange.watch(_Delivery(lambda: self._unkeep(token)))
        _send(exchange, protocol.finished(token, kept.content))

    # waiting --------------------------------------------------------------------------------------

    def _wait(self, exchange: Exchange, job: _Job, seconds: float, *, asked: bool) -> None:
        """Holds the answer back until the job is done, has moved, or the time is up."""
        waiter = _Waiter(self, exchange, job, asked)
        if seconds <= 0 or self._ending or not exchange.alive:
            self.answer_running(waiter)
            return
        job.waiters.append(waiter)
        waiter.timer = self._reactor.call_later(seconds, lambda: self.answer_running(waiter))
        exchange.watch(waiter)
        if asked and self._watch is None:
            self._watch = self._reactor.call_later(_LOOK, self._look)

    def answer_running(self, waiter: _Waiter) -> None:
        """Answers somebody who waits with how far the job is."""
        waiter.leave()
        job = waiter.job
        job.told = queue, progress = self.place_of(job)
        _send(waiter.exchange, protocol.running(job.token, _as_json(progress), queue))

    def place_of(self, job: _Job) -> tuple[int | None, Progress]:
        """How many are before a job in line, None if it has begun; and how far it is."""
        computation = job.computation
        assert computation is not None
        queue = None if computation.begun else self._line.index(computation)
        return queue, computation.task.progress

    def _look(self) -> None:
        """Tells those who wait, and want to hear of it, that their job has moved."""
        self._watch = None
        waiting = [waiter for job in self._jobs.values() for waiter in job.waiters if waiter.asked]
        places = {computation: place for place, computation in enumerate(self._line)}
        moved = []
        for waiter in waiting:
            computation = waiter.job.computation
            assert computation is not None  # with its end everybody has got the result
            place = (places.get(computation), computation.task.progress)
            if _differ(waiter.job.told, place):
                moved.append(waiter)
        for waiter in moved:
            self.answer_running(waiter)
        if waiting:
            self._watch = self._reactor.call_later(_LOOK, self._look)

    def _log(self, job: _Job, what: str) -> None:
        if self._settings.verbose_workers:
            log_server(f'the job "{escape(job.name)}" ({job.token[:4]}…): {what}')


def _as_json(progress: Progress) -> bytes:
    try:
        return json_bytes(progress._asdict())
    except Exception:  # a job may tell any nonsense
        return json_bytes(Progress()._asdict())


def _differ(told: object, now: object) -> bool:
    try:
        return bool(told != now)
    except Exception:  # a job may tell any nonsense
        return True


def _sound(result: Result) -> Result:
    """The result, with an error that can be answered."""
    if result.error is None:
        return result if result.pieces else Result(error=(500, "the job was ended"))
    status, message = result.error
    known = isinstance(status, int) and 400 <= status <= 599
    try:
        text = str(message or "")
    except Exception:  # a job may raise any nonsense
        text = ""
    return Result(error=(int(status) if known else 500, text))


def _send(exchange: Exchange, content: bytes) -> None:
    exchange.answer(Outcome(200, _JSON, content))
