"""A job table on a bench: its clients and its worker are under the test's control."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from quick_server.exchange import Exchange
from quick_server.jobs import JobSpec, JobTable
from quick_server.limits import Limits
from quick_server.protocol.messages import Headers, Outcome, RequestHead
from quick_server.protocol.target import parse_target
from quick_server.protocol.worker import parse_action
from quick_server.reactor import Reactor
from quick_server.timers import Timer
from quick_server.workers import BaseWorker, Result, Store, WorkerTask
from tests.unit.fakes import Clock

Message = dict[str, Any]

RUNNING: Message = {"done": False, "result": None, "continue": True}
STOPPED: Message = {"done": True, "result": None, "continue": False}
UNKNOWN: Message = {"done": False, "result": None, "continue": False}
NO_PROGRESS: Message = {"done": 0, "total": None, "text": ""}


def begun(token: str, progress: Message = NO_PROGRESS) -> Message:
    """The answer about a job that is computed."""
    return {"token": token, **RUNNING, "progress": progress}


def in_line(token: str, queue: int) -> Message:
    """The answer about a job that waits for others."""
    return {"token": token, **RUNNING, "progress": NO_PROGRESS, "queue": queue}


def done(token: str, result: Any) -> Message:
    """The answer that carries a result, or a piece of one, or the tokens of its pieces."""
    return {"token": token, "done": True, "result": result, "continue": isinstance(result, list)}


@dataclass
class Settings:
    """What the table reads of a server."""

    max_workers: int = 2
    max_chunk_size: int = 10
    verbose_workers: bool = False
    limits: Limits = Limits()  # noqa: RUF009 (it cannot be changed)


class HandWorker(BaseWorker):
    """Keeps what it is to compute; the test says what comes of it, and when."""

    def __init__(self) -> None:
        super().__init__(None)  # type: ignore[arg-type] # it needs no server
        self.started: list[WorkerTask] = []
        self.stopped: list[WorkerTask] = []
        self.closed: list[float] = []
        self.on_start: Callable[[WorkerTask], object] = lambda task: None
        self.on_stop: Callable[[WorkerTask], object] = lambda task: None

    def start(self, task: WorkerTask) -> None:
        self.started.append(task)
        self.on_start(task)

    def stop(self, task: WorkerTask) -> None:
        self.stopped.append(task)
        self.on_stop(task)

    def close(self, patience: float) -> None:
        self.closed.append(patience)

    @property
    def names(self) -> list[str]:
        """Of the jobs that were begun."""
        return [task.name for task in self.started]


@dataclass(eq=False)
class Call:
    """One request, as its connection sees it: an exchange, and the answers to it.

    A `prompt` one has its answer out as soon as it is there, as nearly all have; of others the test
    says when it is, or that it never will be.
    """

    prompt: bool = True
    answers: list[Outcome] = field(default_factory=list)
    disposed: list[Outcome] = field(default_factory=list)
    exchange: Exchange = field(init=False)

    def __post_init__(self) -> None:
        target = parse_target("/work")
        assert target is not None
        head = RequestHead("POST", target, "1.1", Headers(), 0, False, True, "none")
        self.exchange = Exchange(head, ("127.0.0.1", 1), self, 0.0)
        self.exchange.gather(0, lambda body: None)

    # the channel

    def send_continue(self) -> None:
        raise AssertionError("there is no body")

    def peer_has_left(self) -> bool:
        return False

    def send_interim(self, data: bytes) -> None:
        pass

    def resume_body(self) -> None:
        raise AssertionError("there is no body")

    def send(self, outcome: Outcome) -> None:
        self.answers.append(outcome)
        if self.prompt:
            self.exchange.sent()

    def dispose(self, outcome: Outcome) -> None:
        self.disposed.append(outcome)

    # the test

    @property
    def answered(self) -> bool:
        return bool(self.answers)

    @property
    def outcome(self) -> Outcome:
        assert len(self.answers) == 1, self.answers
        return self.answers[0]

    @property
    def status(self) -> int:
        return self.outcome.status

    @property
    def content(self) -> bytes:
        assert isinstance(self.outcome.body, bytes)
        return self.outcome.body

    @property
    def message(self) -> Message:
        assert self.status == 200
        assert self.outcome.fields == b"Content-Type: application/json\r\n"
        found: Message = json.loads(self.content)
        return found

    @property
    def token(self) -> str:
        token: str = self.message["token"]
        return token


class Bench:
    """A table, and what is around it."""

    def __init__(self, reactor: Reactor, clock: Clock) -> None:
        self.reactor = reactor
        self.clock = clock
        self.settings = Settings()
        self.worker = HandWorker()
        self.table = JobTable(self.settings, reactor)

    # what clients do

    def ask(self, action: str, token: str, wait: float = 0, *, prompt: bool = True) -> Call:
        """`get`, `stop` or `cargo`; `wait` in seconds."""
        call = Call(prompt)
        message = {"action": action, "token": token, "wait": wait * 1000}
        self.table.act(call.exchange, parse_action(message))
        return call

    def get(self, token: str, wait: float = 0, *, prompt: bool = True) -> Call:
        return self.ask("get", token, wait, prompt=prompt)

    def stop(self, token: str) -> Call:
        return self.ask("stop", token)

    def cargo(self, token: str, *, prompt: bool = True) -> Call:
        return self.ask("cargo", token, prompt=prompt)

    def start(
        self,
        name: str = "work",
        wait: float = 0,
        payload: Message | None = None,
        keep: tuple[Store, Hashable] | None = None,
        function: Callable[[Message], Any] = dict,
        *,
        prompt: bool = True,
        size: int = 0,
    ) -> Call:
        """Starts a job; the answer is held back, as always, for a moment at least."""
        call = Call(prompt)
        message = {"action": "start", "payload": payload, "wait": wait * 1000}
        action = parse_action(message)._replace(size=size)
        spec = JobSpec(name, function, self.worker)
        self.table.start(call.exchange, action, spec, keep)
        return call

    def begin(self, name: str = "work", keep: tuple[Store, Hashable] | None = None) -> str:
        """Starts a job whose answer comes before its end: the token."""
        call = self.start(name, keep=keep)
        assert not call.answered
        self.advance(0.1)
        assert call.message["continue"] is True
        return call.token

    # what happens

    def turn(self) -> None:
        """All that is due happens."""
        for _ in range(3):
            self.reactor.turn(0)

    def advance(self, seconds: float) -> None:
        """Time passes, and a little more, so that sums of fractions reach what they are meant to."""
        self.clock.advance(seconds + 1e-6)
        self.turn()

    def finish(self, number: int, text: str = '"fine"') -> None:
        """The task that was begun as that one ends with this JSON text."""
        task = self.worker.started[number]
        self.end(number, task.completed(text))

    def end(self, number: int, result: Result) -> None:
        task = self.worker.started[number]
        task.finish(result)
        self.turn()

    # what is left

    @property
    def timers(self) -> set[Timer]:
        """The timers that are to come."""
        return {timer for _, _, timer in self.reactor._timers.heap if timer.active}

    def assert_empty(self) -> None:
        """There is neither a job nor anything of one, and the last timers run out by themselves."""
        table = self.table
        assert table.states() == []
        assert not table._jobs
        assert not table._line
        assert not table._begun
        assert not table._by_key
        assert not table._kept
        assert not table._readers
        assert table._kept_bytes == 0
        assert table._payload_bytes == 0
        self.advance(100)  # what looks after stubborn jobs, and after those of clients that have left
        assert not self.timers
