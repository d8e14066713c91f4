"""Fixtures of the unit tests: a loop that a test turns by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from quick_server.reactor import Reactor
from tests.unit.fakes import Clock, SleeplessSelector


@pytest.fixture
def clock() -> Clock:
    """The time of `reactor` and `sleepless`."""
    return Clock()


@pytest.fixture
def reactor(clock: Clock) -> Iterator[Reactor]:
    """A loop whose timers follow `clock`; it does wait for descriptors."""
    reactor = Reactor(clock)
    yield reactor
    reactor.close()


@pytest.fixture
def selector() -> SleeplessSelector:
    """The selector of `sleepless`."""
    return SleeplessSelector()


@pytest.fixture
def sleepless(clock: Clock, selector: SleeplessSelector) -> Iterator[Reactor]:
    """A loop that never waits; `selector` says how long it would have."""
    reactor = Reactor(clock, selector)
    yield reactor
    reactor.close()
