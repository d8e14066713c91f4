"""The life of the process around servers: running the script anew.

`setup_restart` makes the process a supervisor (`supervisor.py`), which runs the same command line in a
child, and again each time that the child ends with the restart exit code. Without a supervisor a
process that is to restart puts the next run in its own place. Either happens at the very end of the
process, behind the script's own code, its `finally` blocks and what others have registered with
`atexit`.

The environment tells a run what it is: QUICK_SERVER_RESTART holds the restart exit code,
QUICK_SERVER_SUBSEQ is 1 from the second run on. Any thread, but `setup_restart` belongs in the main
thread.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, Protocol
from weakref import WeakSet

from . import handover
from .log import log_server

_RESTART = "QUICK_SERVER_RESTART"
_SUBSEQUENT = "QUICK_SERVER_SUBSEQ"


class StandIn(Protocol):
    """What gets a script's servers instead of their being served."""

    def address(self, asked: tuple[str, int], /) -> tuple[str, int]:
        """Where a server that asks for an address is to listen."""

    def serve(self, server: Any, /) -> object:
        """Does what there is to do with a server that is to serve, and returns."""


class Restarting(Protocol):
    """What a server can do here."""

    def restart(self) -> None: ...
    def server_close(self) -> None: ...


_restart_exit_code = 42
_error_exit_code = 1
_servers: WeakSet[Restarting] = WeakSet()  # those that serve, or have
_wanted = False  # another run
_ending = False
_stand_in: StandIn | None = None
_turn = threading.Lock()  # of those who give their server away
_watching: Any = None  # the `reload.Watcher` of this run
_answered = False  # whether a client has got something from this run
try:
    _folder = os.getcwd()  # where the script was started, wherever it goes
except OSError:  # it was removed
    _folder = ""


def set_restart_exit_code(code: int) -> None:
    """Sets the exit code that asks for another run (default 42); call it before `setup_restart`."""
    global _restart_exit_code
    _restart_exit_code = code


def set_error_exit_code(code: int) -> None:
    """Sets the exit code of a process whose restart could not be carried out (default 1)."""
    global _error_exit_code
    _error_exit_code = code


def is_original() -> bool:
    """Whether this process is the one that was started, and not a run of `setup_restart`."""
    return _RESTART not in os.environ or not handover.is_meant()


def has_been_restarted() -> bool:
    """Whether this run follows an earlier one of the same script."""
    return os.environ.get(_SUBSEQUENT) == "1" and handover.is_meant()


def get_exec_arr() -> list[str]:
    """The command line that runs this script again: interpreter, its options, script, arguments."""
    return [sys.executable, *sys.orig_argv[1:]]


def setup_restart(*, reload: bool = False) -> None:
    """Runs the script in a child process from here on, and again whenever it asks for a restart.

    In the child it returns at once. In the process that was started it never returns: that one waits
    for its child, passes signals on, puts the terminal in order, and ends with the exit code of the
    last run (128 + n when that was ended by signal n). It should be the first thing that a script does.

    With `reload` a run is also restarted when one of its source files changes, and one that fails is
    started again once they do.
    """
    if _is_helper() or _stand_in is not None:
        return
    if not is_original():
        if reload and handover.supervised():
            _watch()
        return
    raise SystemExit(_supervise(reload))


def _is_helper() -> bool:
    """Whether `multiprocessing` has started this process, and imports the script for its functions."""
    return getattr(sys.modules.get("__mp_main__"), "__name__", "") == "__mp_main__"


def _supervise(reload: bool) -> int:
    environment = {k: v for k, v in os.environ.items() if k not in (_SUBSEQUENT, handover.VARIABLE)}
    environment[_RESTART] = str(_restart_exit_code)
    if hasattr(os, "posix_spawn"):  # pragma: no branch - every system of the tests has it
        from .supervisor import Supervisor

        if _folder:
            with suppress(OSError):
                os.chdir(_folder)
        return Supervisor(
            get_exec_arr(), environment, _SUBSEQUENT, _restart_exit_code, _error_exit_code, reload
        ).run()
    return _supervise_plainly(environment)  # pragma: no cover - for systems without posix_spawn


def _supervise_plainly(env: dict[str, str]) -> int:  # pragma: no cover - no posix_spawn, as said above
    """They have no signals of others either."""
    import subprocess

    code = _restart_exit_code
    while code == _restart_exit_code:
        code = subprocess.call(get_exec_arr(), env=env)  # noqa: S603 (our own command line)
        env[_SUBSEQUENT] = "1"
    return code


@contextmanager
def standing_in(stand_in: StandIn) -> Iterator[None]:
    """Inside of `with` a script is tried out and not run: `serve_forever` gives its server away.

    Servers listen where `stand_in.address` says, `serve_forever` calls `stand_in.serve(server)`, and
    `setup_restart` returns at once. What a script runs in the background, by `server.running()`, it
    runs itself.
    """
    global _stand_in
    _stand_in = stand_in
    try:
        yield
    finally:
        _stand_in = None


def listens_at(asked: tuple[str, int]) -> tuple[str, int]:
    """Where a server listens that asks for this address."""
    return asked if _stand_in is None else _stand_in.address(asked)


def given_away(server: Restarting) -> bool:
    """Whether somebody stands in for `serve_forever`; comes back when they are done with the server.

    Several threads may serve one each: they take turns.
    """
    stand_in = _stand_in
    if stand_in is None:
        return False
    with _turn:
        stand_in.serve(server)
    return True


# a run --------------------------------------------------------------------------------------------


def serving(server: Restarting) -> None:
    """A server begins to serve."""
    _servers.add(server)
    handover.settle()
    if _watching is not None:
        _watching.start()


def answered() -> None:
    """A client has got an answer: this run is good for something."""
    global _answered
    _answered = True


def want_restart() -> None:
    """Another run follows when this process ends."""
    global _wanted
    if not _wanted:
        _wanted = True
        atexit.register(_at_exit)


def cancel_restart() -> bool:
    """No run follows, as somebody wants this to end; returns whether one would have."""
    global _wanted
    wanted, _wanted = _wanted, False
    handover.drop()
    return wanted


def _watch() -> None:
    """Restarts this run when its source files change."""
    global _watching
    from .reload import Watcher

    if _watching is None:
        _watching = Watcher(_restart_all)
        atexit.register(_at_exit)


def _restart_all() -> None:
    for server in list(_servers):
        server.restart()


def _at_exit() -> None:
    global _ending
    if _ending or os.getpid() != _pid:
        return
    _ending = True
    failure = getattr(sys, "last_value", None)  # what was not caught
    if not _wanted or isinstance(failure, KeyboardInterrupt):
        handover.drop()
        if handover.supervised():
            _tell(failed=failure is not None)
        return
    for server in list(_servers):  # those in threads of their own, which nobody has ended
        server.restart()
        server.server_close()
    atexit._run_exitfuncs()  # what was registered earlier would not be run any more
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()
    _run_again()


def _run_again() -> NoReturn:
    if handover.supervised():
        _tell(failed=False)
        os._exit(_asked_exit_code())
    if _RESTART in os.environ and handover.VARIABLE not in os.environ:  # somebody else supervises
        os._exit(_restart_exit_code)
    command = get_exec_arr()
    try:
        if _folder:
            os.chdir(_folder)
        environment = {name: value for name, value in os.environ.items() if name != _RESTART}
        environment |= {_SUBSEQUENT: "1"} | handover.environment_for_exec()
        os.execve(command[0], command, environment)  # noqa: S606 (our own command line)
    except (OSError, ValueError) as error:
        log_server(f"cannot restart: {error}")
        os._exit(_error_exit_code)


def _asked_exit_code() -> int:
    try:
        return int(os.environ[_RESTART])
    except (KeyError, ValueError):  # the script has changed it
        return _restart_exit_code


def _tell(*, failed: bool) -> None:
    files = _watching.files() if _watching is not None else []
    handover.leave({"answered": _answered, "failed": failed, "files": files})


_pid = os.getpid()
