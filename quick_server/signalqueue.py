"""Signals as a queue, for a process that does nothing but wait.

Main thread. Where it is the only thread, and the system allows, signals are blocked and fetched one by
one with what the kernel knows of them: one that was sent by a key of the terminal went to the whole
job, so its child has it, too. Else Python's handlers gather them, and whether it was a key is told by
whether the terminal is ours.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections import deque
from types import FrameType
from typing import NamedTuple

ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT})
_KEYS = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP})
_OTHERS = frozenset({signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP, signal.SIGCONT})


class Arrival(NamedTuple):
    """A signal that has arrived."""

    number: int
    is_key: bool
    """Whether it came from the terminal, which sent it to our child as well."""


class SignalQueue:
    """What arrives from now on; the dispositions are not put back, as the process is about to end."""

    def __init__(self) -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        heard = {n for n in ENDING | _OTHERS if signal.getsignal(n) is not signal.SIG_IGN}
        self._numbers = {*heard, signal.SIGCHLD}
        self._arrived: deque[int] = deque()
        self._sockets: tuple[socket.socket, socket.socket] | None = None
        self.mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        """Which signals were blocked before, and should be in a child."""
        self._blocks = hasattr(signal, "sigtimedwait") and _threads() == 1
        if self._blocks:
            signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
            return
        self._sockets = receiver, sender = socket.socketpair()
        receiver.setblocking(False)
        sender.setblocking(False)
        signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        for number in self._numbers:
            signal.signal(number, self._on_signal)

    def next(self, patience: float | None = None) -> Arrival | None:
        """Waits for a signal; None if none arrives within so many seconds."""
        patience = None if patience is None else max(0.0, patience)
        if self._blocks:
            if patience is None:
                info = signal.sigwaitinfo(self._numbers)
            elif (found := signal.sigtimedwait(self._numbers, patience)) is None:
                return None
            else:
                info = found
            return Arrival(info.si_signo, info.si_signo in _KEYS and info.si_code > 0)
        assert self._sockets is not None
        while not self._arrived:
            if not select.select([self._sockets[0]], [], [], patience)[0]:
                return None
            self._sockets[0].recv(4096)
        number = self._arrived.popleft()
        return Arrival(number, number in _KEYS and in_foreground())

    def stop(self) -> None:
        """Stops this process like CTRL-Z; returns once it is continued."""
        previous = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        if self._blocks:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTSTP})  # here
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTSTP})
        signal.signal(signal.SIGTSTP, previous)

    def close(self) -> None:
        """Gives back the descriptors."""
        if self._sockets is not None:
            signal.set_wakeup_fd(-1)
            for sock in self._sockets:
                sock.close()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._arrived.append(number)


def in_foreground() -> bool:
    """Whether standard input is a terminal, and this process belongs to the job that uses it."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def _threads() -> int:
    """How many threads there are, those that Python does not know of included."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:  # not on this system
        return threading.active_count()
