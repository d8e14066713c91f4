"""What a computation is, for the code inside of it and for those who run it.

Inside of a job: `progress`, `track`, `is_worker_alive`, `get_worker_check`. They may be called from
anywhere in it, and do nothing outside of one.

For whoever runs computations: a `WorkerTask` is one of them, a `BaseWorker` decides where they run.
`DefaultWorker` gives each a thread of its own, which ends with it: an exception that is raised inside
to stop one cannot reach another. The threads touch nothing of the server; what they have to say goes
to the loop through `WorkerTask.finish`. When a task begins and ends is the business of `jobs.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

from .jsontext import json_dumps
from .keylocks import release_all
from .log import escape, log_failure
from .protocol.worker import cut
from .responses import PreventDefaultResponse

if TYPE_CHECKING:
    from .server import QuickServer

T = TypeVar("T")

WorkerArgs: TypeAlias = dict[str, Any]
"""What a job is started with: the payload that the client sent."""
WorkerF: TypeAlias = Callable[[WorkerArgs], Any]
"""A function that computes a job's result, which has to be something for `json_dumps`."""
WorkerResponse: TypeAlias = dict[str, Any]
"""An answer of the worker protocol: `token`, `done`, `result` and `continue`."""
WorkerThreadFactory: TypeAlias = Callable[..., threading.Thread]
"""Called like `threading.Thread(target=..., args=...)`; makes the threads of jobs."""


class Progress(NamedTuple):
    """How far a computation is."""

    done: float = 0
    total: float | None = None
    text: str = ""


class WorkerDeath(BaseException):
    """Raised inside of a job that was stopped. Not an Exception: `except Exception` lets it pass."""


class Result(NamedTuple):
    """What became of a computation."""

    pieces: tuple[bytes, ...] = ()
    """The JSON text, in JSON strings, ready to be sent."""
    error: tuple[int, str] | None = None
    """Status and message, if there is no result."""


class Store(Protocol):
    """Where results are kept for the next time."""

    def store(self, key: Any, text: str) -> None:
        """Keeps a result. Never raises."""


class WorkerTask:
    """One computation. Made by the loop; used by the loop and by the one thread that computes."""

    __slots__ = (
        "_finish",
        "_key",
        "_longest",
        "_store",
        "alive",
        "function",
        "name",
        "payload",
        "progress",
    )

    def __init__(
        self,
        name: str,
        function: WorkerF,
        payload: WorkerArgs,
        finish: Callable[[WorkerTask, Result], object],
        longest: int,
    ) -> None:
        """`finish` may be called from any thread; `longest` piece of a result, in characters."""
        self.name = name
        """The mask of its job."""
        self.function = function
        self.payload = payload
        self.alive = True
        """False once nobody wants it any more."""
        self.progress = Progress()
        """What it last told; replaced as a whole, by the thread that computes."""
        self._finish = finish
        self._longest = longest
        self._key: Any = None
        self._store: Store | None = None

    def keep_in(self, store: Store, key: Any) -> None:
        """Has a result stored before anybody gets it."""
        self._store, self._key = store, key

    # the thread that computes ---------------------------------------------------------------------

    def run(self) -> Result:
        """Computes in this thread; whatever happens is a result. WorkerDeath alone may leave it."""
        try:
            with computing(self):
                text = json_dumps(self.function(self.payload))
            return self.completed(text)
        except PreventDefaultResponse as stop:
            return Result(error=(stop.code or 500, stop.message or ""))
        except WorkerDeath:
            raise
        except BaseException:  # also sys.exit: it ends the job, not the server
            return self.failed()

    def completed(self, text: str) -> Result:
        """The result that is this JSON text. Not on the loop: it takes as long as it is long."""
        if self._store is not None:
            self._store.store(self._key, text)
        return Result(cut(text, self._longest))

    def failed(self) -> Result:
        """The result for the exception that is being handled, which goes to the log."""
        log_failure(f'the job "{escape(self.name)}" failed')
        return Result(error=(500, "the job failed; see the server's log"))

    def finish(self, result: Result) -> None:
        """Any thread, once: that is what became of it."""
        self._finish(self, result)


class BaseWorker:
    """Where computations run. Make another kind by overriding these; each is called on the loop.

    None may block. `max_workers` of a server bounds how many tasks are begun and not yet finished.
    """

    def __init__(self, server: QuickServer) -> None:
        self.server = server

    def start(self, task: WorkerTask) -> None:
        """Begins a task: `task.finish(task.run())` on a thread, or the same by other means.

        Raising means that it cannot be computed now.
        """
        raise NotImplementedError

    def stop(self, task: WorkerTask) -> None:
        """Nobody wants that task any more; `task.alive` is False already. It still has to finish."""

    def close(self, patience: float) -> None:
        """The server has ended, and all tasks were stopped: waits up to so many seconds."""


class DefaultWorker(BaseWorker):
    """Computes in threads, one for each task."""

    def __init__(
        self,
        server: QuickServer,
        thread_factory: WorkerThreadFactory | None = None,
        *,
        soft_death: bool = False,
    ) -> None:
        """With `soft_death` a task that is stopped has to ask `is_worker_alive`."""
        super().__init__(server)
        self._make_thread = thread_factory or threading.Thread
        self._soft_death = soft_death
        self._runs: dict[WorkerTask, _Run] = {}

    def start(self, task: WorkerTask) -> None:
        """Loop thread."""
        for known, run in list(self._runs.items()):
            if run.has_ended:
                del self._runs[known]
        run = _Run(task, self._make_thread)
        self._runs[task] = run
        try:
            run.thread.start()
        except BaseException:
            del self._runs[task]
            raise

    def stop(self, task: WorkerTask) -> None:
        """Loop thread: raises WorkerDeath inside, unless that is not wanted."""
        run = self._runs.get(task)
        if run is not None and not self._soft_death:
            run.kill()

    def close(self, patience: float) -> None:
        """Closing thread."""
        from time import monotonic

        deadline = monotonic() + patience
        for run in list(self._runs.values()):
            run.thread.join(max(0.0, deadline - monotonic()))


class _Run:
    """A task in its thread. `lock` guards that nothing is raised there but within the task."""

    __slots__ = ("_killable", "_lock", "_task", "thread")

    def __init__(self, task: WorkerTask, make_thread: WorkerThreadFactory) -> None:
        self._task = task
        self._lock = threading.Lock()
        self._killable = False
        self.thread = make_thread(target=self.work, args=())
        self.thread.daemon = True
        self.thread.name = f"quick_server job {task.name}"

    @property
    def has_ended(self) -> bool:
        """Loop thread: whether its thread is gone."""
        return not self.thread.is_alive()

    def kill(self) -> None:
        """Loop thread: raises WorkerDeath in the thread, the next time it runs Python code."""
        import ctypes

        with self._lock:
            if self._killable and self.thread.ident is not None:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(self.thread.ident), ctypes.py_object(WorkerDeath)
                )

    def work(self) -> None:
        """The task's thread."""
        result = Result()
        try:
            try:
                with self._lock:
                    self._killable = True
                if self._task.alive:
                    result = self._task.run()
            finally:
                self._end()
        except WorkerDeath:
            pass
        except BaseException:
            result = self._task.failed()
        while True:  # what was raised just before the end may only arrive here
            try:
                self._end()
                break
            except WorkerDeath:
                continue
        release_all()  # it may have ended where nobody else could have done so
        self._task.finish(result)

    def _end(self) -> None:
        with self._lock:
            self._killable = False


class Computing(Protocol):
    """The computation that a thread is at, as far as the code inside of it is concerned."""

    alive: bool
    progress: Progress


class _Current(threading.local):
    task: Computing | None = None


_current = _Current()


@contextmanager
def computing(task: Computing) -> Iterator[None]:
    """Within it the thread is at that computation."""
    before, _current.task = _current.task, task
    try:
        yield
    finally:
        _current.task = before


def progress(done: float, total: float | None = None, text: str = "") -> None:
    """Tells how far the job is: `done` of `total` (None: nobody knows), and what it is at.

    Cheap: call it as often as you like. Outside of a job it does nothing.
    """
    task = _current.task
    if task is not None:
        task.progress = Progress(done, total, text)


def track(items: Iterable[T], total: float | None = None, text: str = "") -> Iterator[T]:
    """The same items; while they are gone over, the progress is told.

    >>> [row * 2 for row in track([1, 2, 3])]
    [2, 4, 6]

    `total` is asked of `items` if it is not given.
    """
    if total is None:
        try:
            total = len(items)  # type: ignore[arg-type] # not all have one
        except TypeError:
            pass
    progress(0, total, text)
    for count, item in enumerate(items, 1):
        yield item
        progress(count, total, text)


def is_worker_alive() -> bool:
    """Whether the job that asks is still wanted; True outside of a job."""
    task = _current.task
    return task is None or task.alive


def get_worker_check() -> Callable[[], bool]:
    """`is_worker_alive` of this job, to be asked from other threads that work for it."""
    task = _current.task
    return lambda: task is None or task.alive
