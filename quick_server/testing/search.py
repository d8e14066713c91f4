"""Looks for findings with Hypothesis, and for the shortest request that shows each.

Hypothesis stops at the first failure and shrinks it. So it is asked again, with what is known counted
as fine, until the examples are used up. What it shrinks is one finding at a time; whatever else turns
up meanwhile is kept, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy

from .findings import Finding, Findings

T = TypeVar("T", bound=Hashable)


class _FoundError(Exception):
    """Tells Hypothesis that an example shows what is being shrunk."""


class _TimeIsUpError(BaseException):
    """Ends what Hypothesis is about: no Exception, which would be a failure to shrink."""


class Search:
    """One search; times are those of its clock, in seconds."""

    def __init__(
        self,
        findings: Findings,
        deadline: float,
        shrink_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """At `deadline` it ends, with what it has; a finding is shrunk for at most `shrink_seconds`."""
        self._findings = findings
        self._deadline = deadline
        self._shrink_seconds = shrink_seconds
        self._clock = clock

    def run(
        self,
        strategy: SearchStrategy[T],
        ask: Callable[[T, Finding | None], Finding | None],
        examples: int,
        number: int,
    ) -> None:
        """Tries so many examples; `number` is the seed.

        `ask(example, known)` tells what is wrong; `known` is what is being shrunk.
        """
        done: set[Hashable] = {finding.key for finding in self._findings}
        tried = 0
        while tried < examples and self._clock() < self._deadline:
            chase = _Chase(ask, self._findings, done, self._deadline, self._shrink_seconds, self._clock)
            _let_hypothesis_try(chase, strategy, examples - tried, number)
            tried += chase.tried
            number += 1
            if chase.quarry is None:
                return
            done.add(chase.quarry.key)


def _let_hypothesis_try(
    chase: _Chase[T], strategy: SearchStrategy[T], examples: int, number: int
) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        phases=(Phase.generate, Phase.shrink),
        database=None,
        deadline=None,
        derandomize=False,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(strategy)
    def attempt(example: T) -> None:
        chase.attempt(example)

    try:
        attempt()
    except (_FoundError, Flaky, _TimeIsUpError):  # what was found is kept elsewhere
        pass


class _Chase(Generic[T]):
    """Examples up to the first new finding, and then shorter ones that show it again."""

    def __init__(
        self,
        ask: Callable[[T, Finding | None], Finding | None],
        findings: Findings,
        done: set[Hashable],
        deadline: float,
        shrink_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._ask = ask
        self._findings = findings
        self._done = done
        self._deadline = deadline
        self._shrink_seconds = shrink_seconds
        self._shown: set[T] = set()  # examples that show it; they are asked for again
        self.quarry: Finding | None = None
        self.tried = 0

    def attempt(self, example: T) -> None:
        """One example. Raises _FoundError if it shows what is looked for."""
        if example in self._shown or self._shows(example):
            raise _FoundError  # always from here: another line would be another failure

    def _shows(self, example: T) -> bool:
        if self._clock() > self._deadline:
            raise _TimeIsUpError
        if self.quarry is None:
            self.tried += 1
        finding = self._ask(example, self.quarry)
        if finding is None:
            return False
        self._findings.add(finding)
        if finding.key in self._done:
            return False
        if self.quarry is None:
            self.quarry = finding
            self._deadline = min(self._deadline, self._clock()) + self._shrink_seconds
        if finding.key != self.quarry.key:
            return False
        self._shown.add(example)
        return True
