"""The supervisor and its signals at rare moments: stops, crossing ends, a terminal that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import quick_server
from quick_server import signalqueue, supervisor
from quick_server.signalqueue import Arrival
from quick_server.supervisor import Supervisor

_PAUSES = [sys.executable, "-I", "-S", "-c", "import signal\nwhile True: signal.pause()"]

_Step = Callable[[], Arrival | None]


class _Signals:
    """A queue whose every arrival is a step of the test."""

    def __init__(self) -> None:
        self.mask: set[int] = set()
        self.steps: list[_Step] = []
        self.stops = 0
        self.pid = 0  # continued together with us, if we stop

    def next(self, patience: float | None = None) -> Arrival | None:
        return self.steps.pop(0)()

    def stop(self) -> None:
        self.stops += 1
        if self.pid:
            os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        pass


class _Bench:
    """A supervisor over a real child, which does nothing but wait."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.signals = _Signals()
        monkeypatch.setattr(supervisor, "SignalQueue", lambda: self.signals)
        self.supervisor = Supervisor(_PAUSES, {}, "SUBSEQUENT", 42, 1, reload=True)

    def start(self) -> None:
        self.supervisor._start()
        self.signals.pid = self.supervisor._pid

    def tells(self, *steps: _Step) -> None:
        self.signals.steps = list(steps)

    def sends(self, number: int, then: Arrival) -> _Step:
        """A step that stops or kills the child, and waits until that has happened."""

        def step() -> Arrival:
            os.kill(self.signals.pid, number)
            os.waitid(os.P_PID, self.signals.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
            return then

        return step

    def is_killed(self) -> _Step:
        return self.sends(signal.SIGKILL, Arrival(signal.SIGCHLD, False))

    def close(self) -> None:
        if self.signals.pid and self.supervisor._code is None:
            os.kill(self.signals.pid, signal.SIGKILL)
            os.waitpid(self.signals.pid, 0)
        if self.supervisor._channel is not None:
            self.supervisor._channel.close()


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Bench]:
    made = _Bench(monkeypatch)
    yield made
    made.close()


def test_stops_together_with_a_child_that_the_key_has_stopped(
    bench: _Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_on: list[int] = []
    monkeypatch.setattr(bench.supervisor, "_pass_on", passed_on.append)
    bench.start()
    bench.tells(bench.sends(signal.SIGSTOP, Arrival(signal.SIGTSTP, True)), bench.is_killed())
    assert bench.supervisor._follow() == -signal.SIGKILL
    assert bench.signals.stops == 1
    assert not bench.supervisor._stopped
    assert not passed_on  # the terminal has sent it to the child, too


def test_continues_a_child_that_somebody_else_has_stopped(
    bench: _Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "_CONTINUES", 0.01)
    stopped: list[bool] = []

    def notes() -> Arrival:
        stopped.append(bench.supervisor._stopped)
        return Arrival(signal.SIGCONT if len(stopped) == 1 else signal.SIGCHLD, False)

    bench.start()
    bench.tells(
        bench.sends(signal.SIGSTOP, Arrival(signal.SIGCHLD, False)),
        notes,
        notes,
        bench.is_killed(),
    )
    assert bench.supervisor._follow() == -signal.SIGKILL
    assert bench.signals.stops == 0  # as it was not asked to
    assert stopped == [True, False]


def test_passes_nothing_on_to_a_child_that_has_ended(
    bench: _Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed_on: list[int] = []
    monkeypatch.setattr(bench.supervisor, "_pass_on", passed_on.append)
    bench.start()
    bench.tells(bench.sends(signal.SIGKILL, Arrival(signal.SIGTERM, False)))
    assert bench.supervisor._follow() == -signal.SIGKILL
    assert not passed_on
    assert not bench.supervisor._has_failed(1)  # somebody wanted it to end


def test_the_first_process_buries_orphans_but_not_its_child(
    bench: _Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    spared: list[int] = []
    monkeypatch.setattr(supervisor, "_bury_orphans", spared.append)
    bench.start()
    assert bench.supervisor._look() is None
    assert not spared
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: 1)
        assert bench.supervisor._look() is None
    assert spared == [bench.signals.pid]


def test_stops_between_two_runs_and_goes_on_waiting(bench: _Bench) -> None:
    bench.tells(
        lambda: Arrival(signal.SIGTSTP, True), lambda: Arrival(signal.SIGUSR1, False), lambda: None
    )
    assert bench.supervisor._wait(0)
    assert bench.signals.stops == 1
    assert not bench.signals.steps


def test_ends_between_two_runs(bench: _Bench) -> None:
    bench.tells(lambda: Arrival(signal.SIGTERM, False))
    assert not bench.supervisor._wait(0)
    assert bench.signals.stops == 0


def test_a_script_that_cannot_be_opened_is_waited_for(bench: _Bench) -> None:
    bench.supervisor._begun = 1.0
    assert bench.supervisor._has_failed(2)
    bench.supervisor._told = {"failed": False}
    assert not bench.supervisor._has_failed(2)  # it chose that exit code itself


def test_a_terminal_that_is_gone_has_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(descriptor: int) -> list[object]:
        raise termios.error(5, "Input/output error")

    monkeypatch.setattr(supervisor, "in_foreground", lambda: True)
    monkeypatch.setattr(termios, "tcgetattr", fails)
    assert supervisor._settings() is None
    supervisor._Terminal().restore()


_STOPS = """
import os, signal, sys
from quick_server import signalqueue
if sys.argv[1] == "handlers":
    signalqueue._threads = lambda: 2
queue = signalqueue.SignalQueue()
queue.stop()
print(signal.Signals(queue.next(30).number).name)
os.kill(os.getpid(), signal.SIGTSTP)
print(signal.Signals(queue.next(30).number).name)
queue.close()
"""


@pytest.mark.parametrize("how", ["blocked", "handlers"])
def test_stops_like_ctrl_z_and_hears_signals_again_after_that(how: str) -> None:
    root = str(Path(quick_server.__file__).parents[1])
    # a job of its own: the kernel does not stop one that nobody could continue
    with subprocess.Popen(
        [sys.executable, "-c", _STOPS, how],
        env={**os.environ, "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as process:
        try:
            found = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert found is not None
            assert (found.si_code, found.si_status) == (os.CLD_STOPPED, signal.SIGTSTP)
            process.send_signal(signal.SIGCONT)
            out, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert out.split() == ["SIGCONT", "SIGTSTP"]
    assert process.returncode == 0


def test_counts_the_threads_of_python_where_the_system_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(path: str) -> list[str]:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "listdir", fails)
    monkeypatch.setattr(threading, "active_count", lambda: 7)
    assert signalqueue._threads() == 7
