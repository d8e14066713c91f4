"""Jobs over HTTP: real threads compute, clients come and go, and time passes as the test wants.

The table by itself is tried in tests/unit/test_jobs_machine.py; here are connections, messages and
threads around it. The model says who may see which result, and until when.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fuzz.faults import Call, Wake, soft_calls, wakes
from fuzz.handturned import Gate, HandClient, HandTurned
from fuzz.profile import examples
from quick_server import PreventDefaultResponse, QuickServer, WorkerArgs

pytestmark = pytest.mark.timeout(0)

MOST_BEGUN = 2
MOST_ALIVE = 6
LONGEST_PIECE = 10
START_WAIT = 0.1
LONG_WAIT = 20.0  # seconds that a client may ask an answer to be held back
UNREAD, UNREAD_CARGO = 120.0, 600.0
Message = dict[str, Any]


@dataclass(eq=False)
class Job:
    """What the model knows of a job."""

    name: str
    kind: str
    token: str = ""
    has_begun: bool = False
    has_ended: bool = False
    gone_at: float = 0.0
    waiting: list[HandClient] = field(default_factory=list)
    """Whose answer is held back, and until when."""
    until: list[float] = field(default_factory=list)

    @property
    def result(self) -> str:
        """As JSON."""
        return json.dumps({"job": self.name, "long": "x" * 25 if self.kind == "long" else ""})


class Jobs(RuleBasedStateMachine):
    """A server with a worker, and all jobs that anybody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = count()
        self.jobs: dict[str, Job] = {}
        self.pieces: dict[str, tuple[str, float]] = {}
        """By token: a piece of a result, and when it is gone."""
        self.over: list[str] = []
        """Tokens that mean nothing any more."""
        self.running: list[Job] = []
        """What has begun and not ended, also if nobody wants it any more."""
        self.line: list[Job] = []

    @initialize(plans=st.lists(soft_calls, max_size=4), wakes=wakes)
    def begin(self, plans: list[list[Call]], wakes: list[Wake]) -> None:
        self.gate = Gate()
        self.world = HandTurned(self.configure, guests=plans, wakes=wakes)
        self.gate.arrived = lambda: self.world.reactor.call_from_thread(bool)
        self.client = self.world.connect()

    def configure(self, server: QuickServer) -> None:
        server.max_workers = MOST_BEGUN
        server.max_chunk_size = LONGEST_PIECE
        server.json_worker("/work")(self.work)

    def work(self, args: WorkerArgs) -> Any:
        """The thread of a job."""
        name, kind = args["name"], args["kind"]
        self.gate.wait(name)
        if kind == "raises":
            raise ValueError(name)
        if kind == "refuses":
            raise PreventDefaultResponse(418, "no tea")
        return {"job": name, "long": "x" * 25 if kind == "long" else ""}

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            self.world.calm()
            for token in list(self.jobs):
                self.stop(token)
            self.gate.open_all()
            self.world.until(lambda: not self.threads(), "the end of the threads")
            self.client.close()
            self.world.assert_at_rest()
            self.world.advance(UNREAD_CARGO, step=100)
            table = self.world.server._table
            assert not list(table.states())
            assert not table._kept
            assert table._kept_bytes == 0
            assert not table._begun
            log = self.world.log.getvalue()
            assert log.count("Traceback") == log.count("  ValueError: n"), log
        finally:
            self.gate.open_all()
            self.world.end()

    @staticmethod
    def threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if "quick_server job" in thread.name]

    # messages ---------------------------------------------------------------------------------------

    def post(self, client: HandClient, message: Message) -> None:
        body = json.dumps(message).encode()
        client.send(
            b"POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )

    def ask(self, action: str, token: str) -> tuple[int, Message]:
        self.post(self.client, {"action": action, "token": token})
        return self.answer(self.client)

    def answer(self, client: HandClient) -> tuple[int, Message]:
        answer = client.answer()
        return answer.status, json.loads(answer.body) if answer.status == 200 else {}

    # rules ------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.running) + len(self.line) < MOST_ALIVE)
    @rule(
        kind=st.sampled_from(["short", "long", "raises", "refuses"]),
        how=st.sampled_from(["follow", "follow", "at once", "leave"]),
    )
    def start(self, kind: str, how: str) -> None:
        job = Job(f"n{next(self.numbers)}", kind)
        will_begin = len(self.running) < MOST_BEGUN
        client = self.world.connect() if how == "leave" else self.client
        if how == "at once":
            self.gate.open(job.name)
        self.post(client, {"action": "start", "payload": {"name": job.name, "kind": kind}})
        (self.running if will_begin else self.line).append(job)
        job.has_begun = will_begin
        if will_begin and how != "at once":
            self.world.until(lambda: job.name in self.gate.waiting, "the beginning of a computation")
        if how == "leave":  # nobody knows its token
            self.world.until(
                lambda: len(list(self.world.server._table.states())) > len(self.jobs), "a job"
            )
            client.reset()
            self.world.until(
                lambda: len(list(self.world.server._table.states())) == len(self.jobs), "its end"
            )
            self.abandon(job)
            return
        if how == "at once" and will_begin:
            self.running.remove(job)
            self.end(job)
            self.check_result(job, *self.answer(client))
            self.begin_next()
            return
        self.world.advance(START_WAIT)
        status, message = self.answer(client)
        job.token = message["token"]
        assert job.token not in self.over
        assert (status, message["done"], message["continue"]) == (200, False, True)
        assert ("queue" in message) == (not will_begin)
        self.jobs[job.token] = job

    @precondition(lambda self: any(job.name in self.gate.waiting for job in self.running))
    @rule(data=st.data())
    def let_finish(self, data: st.DataObject) -> None:
        waiting = [job for job in self.running if job.name in self.gate.waiting]
        self.finish(data.draw(st.sampled_from(waiting)))

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def get(self, data: st.DataObject) -> None:
        job = self.jobs[data.draw(st.sampled_from(list(self.jobs)))]
        status, message = self.ask("get", job.token)
        if job.has_ended:
            self.check_result(job, status, message)
        else:
            assert (status, message["done"], message["continue"]) == (200, False, True)
            assert message.get("queue") == (None if job.has_begun else self.line.index(job))

    @precondition(lambda self: any(job.has_begun and not job.has_ended for job in self.jobs.values()))
    @rule(data=st.data())
    def wait_for(self, data: st.DataObject) -> None:
        """Asks for an answer that is held back."""
        running = [token for token, job in self.jobs.items() if job.has_begun and not job.has_ended]
        job = self.jobs[data.draw(st.sampled_from(running))]
        client = self.world.connect()
        message = {"action": "get", "token": job.token, "wait": LONG_WAIT * 1000}
        self.post(client, message)
        self.world.settle()
        assert not client.read()
        job.waiting.append(client)
        job.until.append(self.world.clock.now + LONG_WAIT)

    @precondition(lambda self: any(job.waiting for job in self.jobs.values()))
    @rule(data=st.data())
    def stop_waiting(self, data: st.DataObject) -> None:
        tokens = [token for token, job in self.jobs.items() if job.waiting]
        job = self.jobs[data.draw(st.sampled_from(tokens))]
        job.waiting.pop(0).close()
        job.until.pop(0)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def stop_one(self, data: st.DataObject) -> None:
        self.stop(data.draw(st.sampled_from(list(self.jobs))))

    @precondition(lambda self: self.pieces)
    @rule(data=st.data())
    def fetch(self, data: st.DataObject) -> None:
        token = data.draw(st.sampled_from(list(self.pieces)))
        piece, _ = self.pieces.pop(token)
        status, message = self.ask("cargo", token)
        assert (status, message) == (
            200,
            {"token": token, "done": True, "result": piece, "continue": False},
        )
        self.over.append(token)

    @precondition(lambda self: self.over)
    @rule(data=st.data(), action=st.sampled_from(["get", "stop", "cargo"]))
    def ask_for_what_is_gone(self, data: st.DataObject, action: str) -> None:
        token = data.draw(st.sampled_from(self.over))
        status, message = self.ask(action, token)
        if action == "cargo":
            assert status == 404
        else:
            assert message == {"token": token, "done": False, "result": None, "continue": False}

    @rule(seconds=st.sampled_from([1.0, 19.0, 60.0, UNREAD, UNREAD_CARGO]))
    def let_time_pass(self, seconds: float) -> None:
        self.client.close()  # it would be closed, as idle
        self.world.advance(seconds, step=max(1.0, seconds / 10))
        self.client = self.world.connect()
        now = self.world.clock.now
        for token, job in list(self.jobs.items()):
            while job.until and job.until[0] <= now:
                job.until.pop(0)
                client = job.waiting.pop(0)
                status, message = self.answer(client)
                assert (status, message["done"], message["continue"]) == (200, False, True)
                client.close()
            if job.has_ended and job.gone_at <= now:
                self.forget(token)
        for token in [token for token, (_, gone_at) in self.pieces.items() if gone_at <= now]:
            del self.pieces[token]
            self.over.append(token)

    # what becomes of jobs ---------------------------------------------------------------------------

    def stop(self, token: str) -> None:
        job = self.jobs[token]
        assert self.ask("stop", token) == (200, self.stopped(token))
        for client in job.waiting:
            assert self.answer(client) == (200, self.stopped(token))
            client.close()
        self.forget(token)
        if not job.has_ended:
            self.abandon(job)

    @staticmethod
    def stopped(token: str) -> Message:
        return {"token": token, "done": True, "result": None, "continue": False}

    def abandon(self, job: Job) -> None:
        """Nobody wants it any more; its computation has its place until it has ended."""
        if job in self.line:
            self.line.remove(job)
            return
        assert len(self.world.server._table._begun) <= len(self.running)
        self.gate.open(job.name)
        self.running.remove(job)
        self.begin_next()

    def finish(self, job: Job) -> None:
        self.gate.open(job.name)
        self.running.remove(job)
        self.end(job)
        for number, client in enumerate(job.waiting):
            answer = self.answer(client)
            if not number:
                self.check_result(job, *answer)
            client.close()
        self.begin_next()

    def end(self, job: Job) -> None:
        job.has_ended = True
        job.gone_at = self.world.clock.now + UNREAD

    def begin_next(self) -> None:
        """A place is free: whoever is first in line has it, once the one before has really ended."""
        while self.line and len(self.running) < MOST_BEGUN:
            job = self.line.pop(0)
            job.has_begun = True
            self.running.append(job)
        begun = self.world.server._table._begun
        self.world.until(lambda: len(begun) <= len(self.running), "the end of a computation")
        for job in list(self.running):
            if job.name in self.gate.opened:  # it was told not to wait
                self.running.remove(job)
                self.end(job)
                self.begin_next()
                return
        names = [job.name for job in self.running]
        self.world.until(lambda: set(names) <= set(self.gate.waiting), "the beginning of a computation")

    def check_result(self, job: Job, status: int, message: Message) -> None:
        """The answer that carries the result: there is one, and then the job is forgotten."""
        if job.kind in ("raises", "refuses"):
            assert status == (500 if job.kind == "raises" else 418)
            self.forget(job.token)
            return
        token, result = message["token"], message["result"]
        assert job.token in ("", token)
        assert message["done"]
        assert message["continue"] == isinstance(result, list)
        if isinstance(result, list):
            text = job.result.replace(" ", "")
            pieces = [text[at : at + LONGEST_PIECE] for at in range(0, len(text), LONGEST_PIECE)]
            assert len(result) == len(pieces)
            gone_at = self.world.clock.now + UNREAD_CARGO
            self.pieces.update(
                {one: (piece, gone_at) for one, piece in zip(result, pieces, strict=True)}
            )
        else:
            assert json.loads(result) == json.loads(job.result)
        self.jobs.setdefault(token, job)
        self.forget(token)

    def forget(self, token: str) -> None:
        if self.jobs.pop(token, None) is not None:
            self.over.append(token)

    @invariant()
    def the_server_knows_as_many(self) -> None:
        if hasattr(self, "world"):
            assert len(self.threads()) <= len(self.running) + MOST_BEGUN


TestJobs: Any = Jobs.TestCase
TestJobs.settings = settings(examples(0.15), stateful_step_count=30)
