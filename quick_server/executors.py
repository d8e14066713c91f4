"""Computations in any executor of `concurrent.futures`, or one that looks like it: a cluster's.

The function, its payload and the JSON text of its result travel; `quick_server` has to be installed
where they arrive. Progress and stopping reach only as far as threads of this process: elsewhere a job
that was stopped may go on, and its result is dropped.

Pool threads hand over and take back, as both may take a while; futures call back on threads of their
executor, which only tell the loop.
"""

from __future__ import annotations

import itertools
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from .jsontext import json_dumps
from .log import escape, log_exception
from .pool import Errand, Pool
from .reactor import Reactor
from .responses import PreventDefaultResponse
from .workers import BaseWorker, Result, WorkerF, WorkerTask

if TYPE_CHECKING:
    from .server import QuickServer

_numbers = itertools.count()


def compute(function: WorkerF, payload: dict[str, Any], _number: int) -> str:
    """Wherever the executor has it run: the result as JSON text.

    The number is another one each time, as a cluster takes equal calls for one and the same.
    """
    return json_dumps(function(payload))


class ExecutorWorker(BaseWorker):
    """Hands each task to an executor. The executor is the caller's: it is never shut down here."""

    def __init__(self, server: QuickServer, executor: Executor, reactor: Reactor, pool: Pool) -> None:
        super().__init__(server)
        self._executor = executor
        self._reactor = reactor
        self._pool = pool
        self._futures: dict[WorkerTask, Future[Any]] = {}

    def start(self, task: WorkerTask) -> None:
        """Loop thread."""
        self._pool.submit(Errand(lambda: self._hand_over(task)))

    def stop(self, task: WorkerTask) -> None:
        """Loop thread: asks the executor not to begin; one that has begun may go on."""
        future = self._futures.get(task)
        if future is not None:
            self._pool.readmit(Errand(future.cancel))

    # pool threads

    def _hand_over(self, task: WorkerTask) -> None:
        future: Future[Any]
        try:
            if isinstance(self._executor, ThreadPoolExecutor):
                future = self._executor.submit(task.run)
            else:
                future = self._executor.submit(compute, task.function, task.payload, next(_numbers))
        except Exception:
            log_exception(f'the executor does not take the job "{escape(task.name)}"')
            task.finish(Result(error=(503, "the job could not be begun")))
            return
        self._futures[task] = future
        if not task.alive:
            future.cancel()
        future.add_done_callback(lambda done: self._call_back(task, done))

    def _take_back(self, task: WorkerTask, future: Future[Any]) -> None:
        try:
            outcome = future.result()
            result = outcome if isinstance(outcome, Result) else task.completed(outcome)
        except CancelledError:
            result = Result()
        except PreventDefaultResponse as stop:
            result = Result(error=(stop.code or 500, stop.message or ""))
        except BaseException:
            result = task.failed() if task.alive else Result()
        task.finish(result)

    # any thread

    def _call_back(self, task: WorkerTask, future: Future[Any]) -> None:
        def take_back() -> None:
            self._futures.pop(task, None)
            self._pool.readmit(Errand(lambda: self._take_back(task, future)))

        self._reactor.call_from_thread(take_back)
