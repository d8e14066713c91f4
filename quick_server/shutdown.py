"""What is to be done when somebody asks the process to end: hooks, and then exit code 130.

Signals come to the main thread. While a server serves there it takes them, and calls `finish` once it
has ended; else the handler of this file does the same. Hooks run in the main thread, the newest first,
each once.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from .lifecycle import cancel_restart
from .log import log_exception
from .signals import ENDING, is_news

EXIT_CODE = 130
"""128 + SIGINT: what shells say of a program that CTRL-C ended."""

_hooks: list[Callable[[], object]] = []
_set_up = False
_finishing = False


def setup_shutdown() -> None:
    """From here on SIGINT, SIGTERM and SIGHUP run the shutdown hooks, and end the process with 130.

    The end is a SystemExit in the main thread, so `finally` blocks and exit handlers run. A server that
    serves in the main thread gives its answers first; one in another thread does if it has called
    `register_shutdown`. A signal that arrives while hooks run ends the process at once. A signal that
    is ignored stays so. Main thread; raises ValueError in any other.
    """
    global _set_up
    for number in ENDING:
        if signal.getsignal(number) not in (signal.SIG_IGN, None):
            signal.signal(number, _on_signal)
    _set_up = True


def add_shutdown_hook(hook: Callable[[], object]) -> None:
    """Has `hook` called when a signal ends the process, before those that were added earlier.

    That needs `setup_shutdown`. One that raises is logged, and the others are called all the same.
    """
    _hooks.append(hook)


def is_set_up() -> bool:
    """Whether signals are to run hooks."""
    return _set_up


def finish() -> NoReturn:
    """Main thread: runs the hooks and raises SystemExit."""
    global _finishing
    _finishing = True
    cancel_restart()
    while _hooks:
        hook = _hooks.pop()
        try:
            hook()
        except BaseException:  # one that exits is no reason to forget the others
            log_exception("a shutdown hook failed")
    raise SystemExit(EXIT_CODE)


def _on_signal(number: int, _frame: FrameType | None) -> None:
    if not is_news(number):
        return
    if _finishing:
        os._exit(EXIT_CODE)
    finish()
