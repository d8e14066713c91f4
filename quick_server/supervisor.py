"""The process that runs a script again and again: its child, signals on their way, the terminal.

It does one thing, on the main thread: it waits for signals (`SignalQueue`), and a child that ends is
one. It passes signals on, stops and continues together with its child, keeps what a run has left for
the next one (`handover.py`), and puts the terminal back in order after every run, however that ended.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from . import handover
from .log import log_server
from .reload import Watch, beside, shown
from .signalqueue import ENDING, SignalQueue, in_foreground

_QUICK = 1.0  # seconds: a run that asks for the next one earlier, and was of no use to anybody
_FREE = 2  # such runs in a row before the next one has to wait
_LONGEST_WAIT = 30.0  # seconds
_TOO_LATE = 0.1  # seconds: a child that is ending may not hear a signal any more
_CONTINUES = 0.1  # seconds until a child that was to be continued with us has been
_JOB_CONTROL = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_FAILED_EXIT_CODE = 1  # what Python ends with after an exception
_NO_SCRIPT_EXIT_CODE = 2  # and if it cannot open the script, which may be on its way to another place
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)


class Supervisor:
    """Runs `command` until it ends with another exit code than `restart_code`."""

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        subsequent: str,
        restart_code: int,
        error_code: int,
        reload: bool,
    ) -> None:
        """`subsequent` is the variable that tells a run that it is not the first."""
        self._command = command
        self._environment = environment
        self._subsequent = subsequent
        self._restart_code = restart_code
        self._error_code = error_code
        self._reload = reload
        self._signals = SignalQueue()
        self._terminal = _Terminal()
        self._left: handover.Note | None = None
        self._told: Mapping[str, Any] = {}  # by the last run, if it told something
        self._files: list[str] = []  # the last that is known
        self._quick = 0
        self._believed = False
        # the current child
        self._pid = 0
        self._code: int | None = None
        self._channel: socket.socket | None = None
        self._stopped = False
        self._asked_to_stop = False
        self._begun = 0.0
        self._passed_on_at = -_TOO_LATE  # when it was told to end

    def run(self) -> int:
        """Returns the exit code to end with."""
        try:
            return self._run()
        finally:
            if self._left is not None:
                self._left.close()
            self._signals.close()

    def _run(self) -> int:
        while True:
            self._begun = time.monotonic()
            modified = time.time_ns()
            try:
                self._start()
            except OSError as error:
                log_server(f"cannot run {self._command[0]}: {error.strerror}")
                return self._error_code
            code = self._follow()
            self._terminal.restore()
            self._take_over()
            self._environment[self._subsequent] = "1"
            if code == self._restart_code:
                was_ended = time.monotonic() - self._passed_on_at < _TOO_LATE
                if was_ended or not self._rest(time.monotonic() - self._begun):
                    return 0  # that run has ended as it should
            elif not self._has_failed(code) or not self._wait_for_change(code, modified):
                return code if code >= 0 else 128 - code  # ended by a signal, the way a shell says it

    # a child ------------------------------------------------------------------------------------------

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        left = self._left or handover.Note({"listening": [], "input": ""})
        theirs.set_inheritable(True)
        channel = {"parent": os.getpid(), "channel": theirs.fileno()}
        variable, paper = left.environment(channel)
        try:
            self._pid = os.posix_spawn(
                self._command[0],
                self._command,
                self._environment | variable,
                setsigmask=self._signals.mask,
                setsigdef=[signal.SIGPIPE],  # which Python ignores
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(paper)
        ours.setblocking(False)
        self._channel = ours
        self._code = None
        self._stopped = self._asked_to_stop = False

    def _follow(self) -> int:
        """Waits until the child has ended; its exit code, or minus the signal."""
        while True:
            code = self._look()
            if code is not None:
                return code
            arrival = self._signals.next()
            if arrival is None or arrival.number == signal.SIGCHLD:
                continue
            if arrival.number == signal.SIGCONT:
                self._continue()
                continue
            if arrival.number == signal.SIGTSTP:
                self._asked_to_stop = True
            if arrival.number in (signal.SIGINT, signal.SIGTERM):
                self._passed_on_at = time.monotonic()
                if self._look() is not None:
                    continue
            if not arrival.is_key:
                self._pass_on(arrival.number)

    def _look(self) -> int | None:
        """The exit code of the child, once it has ended; stops with it if it has stopped."""
        if os.getpid() == 1:
            _bury_orphans(self._pid)
        while self._code is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            if not pid:
                return None
            if os.WIFSTOPPED(status):
                self._stopped = True
                if self._asked_to_stop or os.WSTOPSIG(status) in _JOB_CONTROL:
                    self._asked_to_stop = False
                    self._signals.stop()
            elif os.WIFCONTINUED(status):
                self._stopped = False
            else:
                self._code = os.waitstatus_to_exitcode(status)
        return self._code

    def _pass_on(self, number: int) -> None:
        """Sends a signal to the child, and says before that it is ours: see `signals.is_news`."""
        assert self._channel is not None
        with suppress(OSError):  # it reads nothing, then
            self._channel.send(bytes([number]))
        with suppress(ProcessLookupError):
            os.kill(self._pid, number)

    def _continue(self) -> None:
        """We have been continued: sees that the child is, who most likely was with us."""
        deadline = time.monotonic() + _CONTINUES
        while self._look() is None and self._stopped:
            if time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGCONT)
                return
            time.sleep(_CONTINUES / 10)

    def _take_over(self) -> None:
        """Keeps what the child has left."""
        assert self._channel is not None
        note = handover.receive(self._channel)
        self._channel.close()
        self._told = note.told if note is not None else {}
        if note is None:  # the input has been handed out, and must not be a second time
            if self._left is not None:
                self._left = self._left._replace(told={**self._left.told, "input": ""})
            return
        self._files = note.told["files"] or self._files
        if self._left is not None:
            self._left.close()
        self._left = note

    # between two of them ------------------------------------------------------------------------------

    def _rest(self, lasted: float) -> bool:
        """Waits, if the runs follow each other too quickly; False if we are to end."""
        if lasted >= _QUICK or self._told.get("answered"):
            self._quick = 0
            return self._wait(0)
        self._quick += 1
        if self._quick <= _FREE:
            return self._wait(0)
        seconds = min(2.0 ** (self._quick - _FREE - 1), _LONGEST_WAIT)
        log_server(f"the script restarts again and again; the next run begins in {seconds:.0f} s")
        return self._wait(seconds)

    def _wait(self, seconds: float) -> bool:
        """False as soon as a signal asks us to end; what has arrived by now counts in any case."""
        deadline = time.monotonic() + seconds
        while True:
            arrival = self._signals.next(deadline - time.monotonic())
            if arrival is None:
                return True
            if arrival.number in ENDING:
                return False
            if arrival.number == signal.SIGTSTP:
                self._signals.stop()

    def _has_failed(self, code: int) -> bool:
        """Whether the run is to be repaired: it ended by an exception, and nobody wanted it to end."""
        if not self._reload or self._passed_on_at > self._begun:
            return False
        if code == _FAILED_EXIT_CODE:
            return bool(self._told.get("failed", True))  # it may have failed before it could tell
        if code == _NO_SCRIPT_EXIT_CODE and not self._told:
            return True
        return -code in _CRASHES

    def _wait_for_change(self, code: int, begun: int) -> bool:
        """Returns True once there is something to try again with.

        What was written after that run had begun may be newer than what it has read. That is believed
        once: a script might write such a file itself.
        """
        watch = Watch(self._watched, since=time.time_ns() if self._believed else begun)
        watch.look()
        self._believed = watch.in_doubt
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        log_server(f"the script has failed ({how}); waiting until its files change, CTRL-C ends")
        while self._wait(watch.patience):
            changed = watch.look()
            if changed:
                log_server(f"{shown(changed)} changed: starting again")
                return True
        return False

    def _watched(self) -> list[str]:
        import __main__

        script = getattr(__main__, "__file__", None)
        return [*self._files, *(beside(script) if script else ())]


def _bury_orphans(pid: int) -> None:
    """The first process of a container inherits everybody's children; `pid` is its own."""
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None or found.si_pid == pid:
            return
        os.waitpid(found.si_pid, 0)


class _Terminal:
    """The terminal's settings as they were, if standard input is one and we are the job there."""

    def __init__(self) -> None:
        self._settings = _settings()

    def restore(self) -> None:
        """Puts them back: a program that is killed while it edits a line leaves echo and lines off."""
        import termios

        if self._settings is None or not in_foreground() or _settings() == self._settings:
            return
        with suppress(termios.error):  # it is gone
            termios.tcsetattr(0, termios.TCSANOW, self._settings)


def _settings() -> list[Any] | None:
    import termios

    try:
        return termios.tcgetattr(0) if in_foreground() else None
    except termios.error:
        return None
