"""The words of the micro-benchmark: what measures a call, and values that are never the same twice."""

from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from typing import ParamSpec, Protocol, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

NOT_REMEMBERED = 4096
"""So many values in turn are new each time: more than any memo of the server holds."""


class Benchmark(Protocol):
    """The fixture of `pytest-benchmark`."""

    def __call__(
        self,
        function: Callable[Parameters, Result],
        /,
        *args: Parameters.args,
        **kwargs: Parameters.kwargs,
    ) -> Result:
        """Measures many calls; returns what one of them returned."""


def in_turn(values: Iterable[Result]) -> Iterator[Result]:
    """The values, over and over; made beforehand, so that making them does not count."""
    return cycle(list(values))
