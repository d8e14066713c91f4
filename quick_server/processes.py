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
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from .jsontext import json_bytes, json_dumps
from .log import escape, format_exception, log_server, log_traceback, tell_error_handler
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
_FIRST_LOOK, _LAST_LOOK = 0.005, 0.2  # seconds between looks whether it has ended
_AT_ONCE = 512 * 1024
_fork_lock = threading.Lock()  # so that no process inherits another's end of its pair


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
        self._children: dict[WorkerTask, _Process] = {}

    def start(self, task: WorkerTask) -> None:
        """Loop thread."""
        process = _Process(task, self._reactor, self._pool, self._gone)
        self._children[task] = process
        try:
            self._pool.submit(Errand(process.fork))
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
        processes = list(self._children.values())
        self._children.clear()
        for process in processes:
            process.kill()
        for process in processes:
            process.bury()

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
        self._told = False  # what it has come to

    # pool thread

    def fork(self) -> None:
        """Starts the process."""
        task = self._task
        if not task.alive:
            self._reactor.call_from_thread(lambda: self._finish(Result()))
            return
        _flush()  # what is buffered now would come out of both
        try:
            with _fork_lock:
                ours, theirs = socket.socketpair()
                try:
                    pid = os.fork()
                except OSError:
                    ours.close()
                    theirs.close()
                    raise
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
        self._sock = ours
        self._reactor.call_from_thread(lambda: self._listen(pid))

    def _conclude(self, kind: bytes, content: bytes) -> None:
        """Gives what the process has told the form of a result."""
        try:
            if kind == _RESULT:
                result = self._task.completed(content.decode())
            else:
                status, message, trace = json.loads(content)
                if trace:
                    log_traceback(f'the job "{escape(self._task.name)}" failed', trace)
                    tell_error_handler(ChildProcessError(trace))
                result = Result(error=(status, message))
        except Exception:
            result = self._task.failed()
        self._reactor.call_from_thread(lambda: self._finish(result))

    # loop thread

    def _listen(self, pid: int) -> None:
        self._pid = pid
        if self._sock is not None:
            self._reactor.register(self._sock, READ, self._on_ready)
            if not self._task.alive:
                self.stop()

    def stop(self) -> None:
        """Asks the process to end, and ends it if it does not."""
        import signal

        if self._pid:
            self._signal(signal.SIGTERM)
            self._reactor.call_later(_GRACE, self.kill)

    def kill(self) -> None:
        """Ends the process."""
        import signal

        self._signal(signal.SIGKILL)

    def bury(self) -> None:
        """Closing thread, after the loop has ended: waits for a process that was killed."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None
        if self._pid:
            with suppress(ChildProcessError):  # somebody else's waiting took it
                os.waitpid(self._pid, 0)
            self._pid = 0

    def _signal(self, number: int) -> None:
        if self._pid:  # not reaped yet, so that it is nobody else's
            with suppress(ProcessLookupError):
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
        self._buffer += data
        told = self._take()
        if told is None and data:
            return
        self._reactor.unregister(sock)
        sock.close()  # which ends the process, if it has not
        self._sock = None
        self._told = told is not None
        if told is not None:
            kind, content = told
            self._pool.readmit(Errand(lambda: self._conclude(kind, content)))
            self._reactor.call_later(_GRACE, self.kill)
        self._look(_FIRST_LOOK)

    def _take(self) -> tuple[bytes, bytes] | None:
        """Takes what was told so far; what it has come to, if that is among it."""
        buffer = self._buffer
        while len(buffer) >= self._needed:
            kind, length = _HEAD.unpack_from(buffer)
            end = _HEAD.size + length
            if len(buffer) < end:
                self._needed = end
                return None
            content = bytes(memoryview(buffer)[_HEAD.size : end])
            del buffer[:end]
            self._needed = _HEAD.size
            if kind != _PROGRESS:
                return kind, content
            with suppress(ValueError, TypeError):
                self._task.progress = Progress(*json.loads(content))
        return None

    def _look(self, delay: float) -> None:
        """Sees whether the process has ended, now and again until it has."""
        if not self._pid:
            return
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:  # somebody else's waiting took it
            pid, status = self._pid, 0
        if not pid:
            self._reactor.call_later(delay, lambda: self._look(min(2 * delay, _LAST_LOOK)))
            return
        self._pid = 0
        self._gone(self._task)
        if self._told:
            return
        if self._task.alive:
            log_server(f"the process of the job {escape(self._task.name)!r} died: {_how(status)}")
        self._finish(Result(error=(500, "the process of the job died")))

    def _finish(self, result: Result) -> None:
        if not self._pid:
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
                told = self._compute(task)
            _flush()
            self._tell(*told)
            code = 0
        finally:
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

    def _compute(self, task: WorkerTask) -> tuple[bytes, bytes]:
        try:
            return _RESULT, json_dumps(task.function(task.payload)).encode()
        except PreventDefaultResponse as stop:
            return _ERROR, json_bytes([stop.code or 500, str(stop.message or ""), ""])
        except BaseException:
            message = "the job failed; see the server's log"
            return _ERROR, json_bytes([500, message, format_exception()])

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


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()


def _plain(progress: Progress) -> bytes:
    try:
        return json_bytes(list(progress))
    except Exception:  # a job may tell any nonsense
        return json_bytes(list[Any](Progress()))
