"""Signals become calls on the loop."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from quick_server.reactor import Reactor
from quick_server.signals import OnSignal, signals_on_loop

PATIENCE = 10.0


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


@pytest.fixture
def ignored() -> Iterator[int]:
    """A signal that whoever started the process does not want to be heard."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield signal.SIGHUP
    signal.signal(signal.SIGHUP, previous)


def kill(number: int) -> None:
    os.kill(os.getpid(), number)


def test_each_signal_calls_its_callback_on_the_loop(reactor: Reactor) -> None:
    calls: list[tuple[str, int, bool]] = []

    def heard(name: str, number: int) -> None:
        calls.append((name, number, reactor.is_loop_thread()))
        if len(calls) == 2:
            reactor.stop()

    callbacks: dict[int, OnSignal] = {
        signal.SIGUSR1: lambda number: heard("one", number),
        signal.SIGUSR2: lambda number: heard("two", number),
    }
    with signals_on_loop(reactor, callbacks):
        kill(signal.SIGUSR1)
        kill(signal.SIGUSR2)
        reactor.run()
    assert sorted(calls) == [("one", signal.SIGUSR1, True), ("two", signal.SIGUSR2, True)]


def test_a_signal_wakes_a_loop_that_sleeps(reactor: Reactor) -> None:
    with signals_on_loop(reactor, {signal.SIGUSR1: lambda _number: reactor.stop()}):
        thread = threading.Timer(0.05, kill, [signal.SIGUSR1])  # most likely it sleeps by then
        late = reactor.call_later(PATIENCE, reactor.stop)
        thread.start()
        reactor.run()
        thread.join()
        assert late.active


def test_what_was_before_is_so_again(reactor: Reactor) -> None:
    before = signal.getsignal(signal.SIGUSR1), signal.set_wakeup_fd(-1)
    with signals_on_loop(reactor, {signal.SIGUSR1: print}):
        assert signal.getsignal(signal.SIGUSR1) is not before[0]
    assert (signal.getsignal(signal.SIGUSR1), signal.set_wakeup_fd(before[1])) == before


def test_an_ignored_signal_stays_ignored(reactor: Reactor, ignored: int) -> None:
    calls: list[int] = []
    with signals_on_loop(reactor, {ignored: calls.append, signal.SIGUSR1: calls.append}):
        assert signal.getsignal(ignored) is signal.SIG_IGN
        kill(ignored)
        kill(signal.SIGUSR1)
        reactor.turn(PATIENCE)
        reactor.turn(0)
    assert signal.getsignal(ignored) is signal.SIG_IGN
    assert calls == [signal.SIGUSR1]


def test_other_threads_leave_signals_alone(reactor: Reactor) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    found = []

    def run() -> None:
        with signals_on_loop(reactor, {signal.SIGUSR1: print}):
            found.append(signal.getsignal(signal.SIGUSR1))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [before]
