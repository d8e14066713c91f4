"""Computations in processes: a fresh one for each job, forked from this one.

So a job does not share the interpreter lock with the server, a stop really ends it, and it finds
everything that the script had loaded. What it changes is its own.

Threads: the loop owns each process's end of a socket pair and reads what it tells; a pool thread forks,
as that takes longer the more memory there is, and gives the result its form. In the child only the
forking thread goes on, in `_Child`; it never returns into the server's code, and holds none of the
server's descriptors open.

On the wire: a byte that says what follows, its length in four bytes, and JSON.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from .jsontext import json_bytes, json_dumps
from .log import escape, log_exception, log_server
from .pool import Errand, Pool
from .reactor import READ, Reactor
from .responses import PreventDefaultResponse
from .workers import BaseWorker, Progress, Result, WorkerTask, computing

if TYPE_CHECKING:
    from .server import QuickServer

_HEAD = struct.Struct(">cI")
_PROGRESS, _RESULT, _ERROR = b"p", b"r", b"e"
_TELL_EVERY = 0.05  # seconds
_GRACE = 1.0  # seconds from asking a process to end until it is ended
_AT_ONCE = 512 * 1024


class ProcessWorker(BaseWorker):
    """Computes in processes, one for each task."""

    def __init__(self, server: QuickServer, reactor: Reactor, pool: Pool) -> None:
        """RuntimeError where processes cannot be forked."""
        if not hasattr(os, "fork"):
            raise RuntimeError(
                'executor="process" needs a system that can fork; pass an executor of '
                "concurrent.futures instead"
            )
        super().__init__(server)
        self._reactor = reactor
        self._pool = pool
        self._fork_lock = threading.Lock()  # so that no child inherits another's end of its pair
        self._children: dict[WorkerTask, _Process] = {}

    def start(self, task: WorkerTask) -> None:
        """Loop thread."""
        process = _Process(task, self._reactor, self._pool, self._gone)
        self._children[task] = process
        try:
            self._pool.submit(Errand(lambda: process.fork(self._fork_lock)))
        except BaseException:
            del self._children[task]
            raise

    def stop(self, task: WorkerTask) -> None:
        """Loop thread: ends the process, within a second."""
        process = self._children.get(task)
        if process is not None:
            process.stop()

    def close(self, patience: float) -> None:  # noqa: ARG002 (they are killed)
        """Closing thread, after the loop has ended."""
        for process in list(self._children.values()):
            process.kill()
        self._children.clear()

    def _gone(self, task: WorkerTask) -> None:
        self._children.pop(task, None)


class _Process:
    """A task's process, as the server sees it."""

    def __init__(
        self,
        task: WorkerTask,
        reactor: Reactor,
        pool: Pool,
        gone: Callable[[WorkerTask], object],
    ) -> None:
        self._task = task
        self._reactor = reactor
        self._pool = pool
        self._gone = gone
        self._pid = 0
        self._sock: socket.socket | None = None
        self._buffer = bytearray()
        self._needed = _HEAD.size  # bytes in the buffer before there is something to take
        self._text: str | None = None
        self._error: tuple[int, str] | None = None

    # pool thread

    def fork(self, lock: threading.Lock) -> None:
        """Starts the process."""
        task = self._task
        if not task.alive:
            self._reactor.call_from_thread(lambda: self._finish(Result()))
            return
        try:
            with lock:
                ours, theirs = socket.socketpair()
                pid = os.fork()
                if pid == 0:
                    ours.close()
                    _Child(theirs, self._reactor.descriptors()).run(task)
                theirs.close()
        except OSError as error:
            log_server(f"no process for the job {escape(task.name)!r}: {error.strerror}")
            refusal = Result(error=(503, "there is no process for the job, try again in a moment"))
            self._reactor.call_from_thread(lambda: self._finish(refusal))
            return
        ours.setblocking(False)
        self._pid, self._sock = pid, ours
        self._reactor.call_from_thread(self._listen)

    def _conclude(self, status: int) -> None:
        """Gives what the process has told the form of a result."""
        task = self._task
        if self._text is not None:
            result = task.completed(self._text)
        elif self._error is not None:
            result = Result(error=self._error)
        elif not task.alive:
            result = Result()
        else:
            log_server(f"the process of the job {escape(task.name)!r} died: {_how(status)}")
            result = Result(error=(500, "the process of the job died"))
        self._reactor.call_from_thread(lambda: self._finish(result))

    def _reap(self) -> None:
        pid, self._pid = self._pid, 0
        try:
            _, status = os.waitpid(pid, 0)
        except ChildProcessError:  # somebody else's waiting took it
            status = 0
        self._conclude(status)

    # loop thread

    def _listen(self) -> None:
        if self._sock is not None:
            self._reactor.register(self._sock, READ, self._on_ready)
            if not self._task.alive:
                self.stop()

    def stop(self) -> None:
        """Asks the process to end, and ends it if it does not."""
        import signal

        if self._pid:
            self._signal(signal.SIGTERM)
            self._reactor.call_later(_GRACE, lambda: self._signal(signal.SIGKILL))

    def kill(self) -> None:
        """Closing thread: ends the process, and waits for that."""
        import signal

        if self._sock is not None:
            self._sock.close()
            self._sock = None
        if self._pid:
            self._signal(signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0

    def _signal(self, number: int) -> None:
        if self._pid:  # not reaped yet, so that it is nobody else's
            os.kill(self._pid, number)

    def _on_ready(self, _mask: int) -> None:
        sock = self._sock
        assert sock is not None
        try:
            data = sock.recv(_AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._buffer += data
            self._take()
            return
        self._reactor.unregister(sock)
        sock.close()
        self._sock = None
        self._pool.readmit(Errand(self._reap))

    def _take(self) -> None:
        buffer = self._buffer
        while len(buffer) >= self._needed:
            kind, length = _HEAD.unpack_from(buffer)
            end = _HEAD.size + length
            if len(buffer) < end:
                self._needed = end
                return
            content = bytes(memoryview(buffer)[_HEAD.size : end])
            del buffer[:end]
            self._needed = _HEAD.size
            if kind == _RESULT:
                self._text = content.decode()
            elif kind == _ERROR:
                self._error = tuple(json.loads(content))
            else:
                self._task.progress = Progress(*json.loads(content))

    def _finish(self, result: Result) -> None:
        self._gone(self._task)
        self._task.finish(result)


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return f"exit code {os.waitstatus_to_exitcode(status)}"


class _Child:
    """The process itself: computes, tells, and ends."""

    def __init__(self, sock: socket.socket, others: list[int]) -> None:
        """`others` are the server's descriptors, which are none of its business."""
        self._sock = sock
        self._others = others
        self._lock = threading.Lock()
        self._told_at = 0.0
        self._progress = Progress()
        self.alive = True

    def run(self, task: WorkerTask) -> NoReturn:
        """Never returns."""
        code = 1
        try:
            self._settle()
            with computing(self):
                self._compute(task)
            code = 0
        except BaseException:
            log_exception(f'the process of the job "{escape(task.name)}" failed')
        finally:
            for stream in (sys.stdout, sys.stderr):
                try:
                    stream.flush()
                except (AttributeError, OSError, ValueError):
                    pass
            os._exit(code)

    def _settle(self) -> None:
        import signal

        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # CTRL-C is for the server, which ends its jobs
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in self._others:
            os.dup2(nothing, descriptor)
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        """Ends with the server, whatever became of that."""
        self._sock.recv(1)
        os._exit(1)

    def _compute(self, task: WorkerTask) -> None:
        try:
            text = json_dumps(task.function(task.payload))
        except PreventDefaultResponse as stop:
            self._tell(_ERROR, json_bytes([stop.code or 500, stop.message or ""]))
        except BaseException:
            error = task.failed().error
            self._tell(_ERROR, json_bytes(error))
        else:
            self._tell(_RESULT, text.encode())

    @property
    def progress(self) -> Progress:
        """What the job tells of itself: now and then it reaches the server."""
        return self._progress

    @progress.setter
    def progress(self, progress: Progress) -> None:
        from time import monotonic

        self._progress = progress
        now = monotonic()
        if now - self._told_at >= _TELL_EVERY:
            self._told_at = now
            self._tell(_PROGRESS, _plain(progress))

    def _tell(self, kind: bytes, content: bytes) -> None:
        with self._lock:
            self._sock.sendall(_HEAD.pack(kind, len(content)) + content)


def _plain(progress: Progress) -> bytes:
    try:
        return json_bytes(list(progress))
    except Exception:  # a job may tell any nonsense
        return json_bytes(list[Any](Progress()))
