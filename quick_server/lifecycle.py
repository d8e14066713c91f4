"""The life of the process around a server: running the script anew.

`setup_restart` makes the process a supervisor: it runs the same command line in a child, and again
each time the child ends with the restart exit code. The environment tells the child what it is:
QUICK_SERVER_RESTART holds that code, QUICK_SERVER_SUBSEQ is 1 from the second run on.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

_RESTART = "QUICK_SERVER_RESTART"
_SUBSEQUENT = "QUICK_SERVER_SUBSEQ"

_restart_exit_code = 42


def set_restart_exit_code(code: int) -> None:
    """Sets the exit code that asks for another run; call it before `setup_restart`."""
    global _restart_exit_code
    _restart_exit_code = code


def is_original() -> bool:
    """Whether this process is the one that was started, and not a run of `setup_restart`."""
    return _RESTART not in os.environ


def has_been_restarted() -> bool:
    """Whether this run follows an earlier one of the same script."""
    return os.environ.get(_SUBSEQUENT) == "1"


def get_exec_arr() -> list[str]:
    """The command line that runs this script again: interpreter, its options, script, arguments."""
    return [sys.executable, *sys.orig_argv[1:]]


def setup_restart() -> None:
    """Runs the script in a child process from here on, and again whenever it asks for a restart.

    In the child it returns at once. In the process that was started it never returns: that one waits
    for its child, passes SIGTERM and SIGHUP on, and ends with the exit code of the last run. It
    should be the first thing that a script does.
    """
    if not is_original():
        return
    environment = os.environ | {_RESTART: str(_restart_exit_code)}
    code = _restart_exit_code
    while code == _restart_exit_code:
        code = _run_child(environment)
        environment[_SUBSEQUENT] = "1"
    raise SystemExit(code)


def _run_child(environment: dict[str, str]) -> int:
    import subprocess

    child: subprocess.Popen[bytes] | None = None

    def forward(number: int, _frame: FrameType | None) -> None:
        if child is not None:
            child.send_signal(number)

    handlers = {
        signal.SIGINT: lambda _number, _frame: None,  # a terminal sends it to the child as well
        signal.SIGTERM: forward,
        signal.SIGHUP: forward,
    }
    previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        child = subprocess.Popen(get_exec_arr(), env=environment)  # noqa: S603 (our own command line)
        code = child.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code  # ended by a signal, the way a shell says it
