"""Locks whose holders end at any point, and locks in forks."""

from __future__ import annotations

import dis
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import quick_server
from quick_server import DefaultTokenHandler
from quick_server.keylocks import KeyLock, KeyLocks, release_all
from quick_server.tokens import Tokens
from quick_server.workers import WorkerDeath
from tests.harness import PATIENCE
from tests.unit.test_tokens import in_threads

PACKAGE = str(Path(quick_server.__file__).parent)


@cache
def moments(code: CodeType) -> frozenset[int]:
    """Where in that code an exception of another thread's may arrive: as it begins, and after calls."""
    found: set[int] = set()
    protected = dis._parse_exception_table(code)  # type: ignore[attr-defined] # nobody else tells
    before, before_in = "", None
    for step in dis.get_instructions(code):
        inside = [entry for entry in protected if entry.start <= step.offset < entry.end]
        if step.opname == "RESUME" or (before.startswith("CALL") and before_in == inside):
            found.add(step.offset)
        before, before_in = step.opname, inside
    return frozenset(found)


def dies(work: Callable[[], object], moment: int) -> bool:
    """Does it in this thread, and raises WorkerDeath in the package's moment of that number, if any."""
    left = moment

    def trace(frame: FrameType, event: str, _value: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in moments(frame.f_code):
            left -= 1
            if not left:
                raise WorkerDeath
        return trace

    sys.settrace(trace)
    try:
        work()
    except WorkerDeath:
        return True
    finally:
        sys.settrace(None)
    return False


def job_dies(work: Callable[[], object], moment: int) -> bool:
    """The same in a thread of its own, which ends as that of a job does."""
    died: list[bool] = []

    def job() -> None:
        died.append(dies(work, moment))
        release_all()

    with in_threads(job):
        pass
    return died[0]


def is_free(lock: KeyLock) -> bool:
    """Whether another thread gets it."""
    got: list[bool] = []

    def take() -> None:
        got.append(lock.acquire(timeout=0))
        if got[0]:
            lock.release()

    with in_threads(take):
        pass
    return got[0]


def test_a_lock_outlives_no_job_that_ends_in_a_block() -> None:
    handler = DefaultTokenHandler()
    obj = Tokens(handler).get_token_obj("a")

    def use() -> None:
        with obj, obj:
            pass

    moment = 1
    while job_dies(use, moment):
        assert is_free(handler._locks.of("a")), moment
        moment += 1
    assert moment > 10


def test_what_was_not_acquired_is_not_noted() -> None:
    lock = KeyLock()
    with lock:
        assert not is_free(lock)
    assert is_free(lock)
    with pytest.raises(RuntimeError):
        lock.release()
    release_all()
    with lock, lock:
        release_all()
        assert is_free(lock)
        lock.acquire()
        lock.acquire()


def in_a_fork(check: Callable[[], object]) -> bool:
    """Whether the check is true in a process that is forked here, and comes to an end."""
    pid = os.fork()
    if pid == 0:
        try:
            threading.Timer(PATIENCE / 2, os._exit, (2,)).start()
            os._exit(0 if check() else 1)
        finally:
            os._exit(3)  # it has raised
    return os.waitpid(pid, 0)[1] == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_inherits_no_lock_of_others() -> None:
    handler = DefaultTokenHandler()
    tokens = Tokens(handler)
    obj = tokens.get_token_obj("a")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with obj, handler._mutex, handler._locks._mutex:
            held.set()
            assert done.wait(PATIENCE)

    def use() -> bool:
        with tokens.get_token_obj("a") as same, tokens.get_token_obj("b"):
            same["n"] = 1
        return same is obj

    with in_threads(hold):
        assert held.wait(PATIENCE)
        try:
            assert in_a_fork(use)
        finally:
            done.set()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_in_a_block_is_in_it() -> None:
    lock = KeyLocks().of("a")
    with lock:
        assert in_a_fork(lambda: not is_free(lock))
        assert not is_free(lock)
