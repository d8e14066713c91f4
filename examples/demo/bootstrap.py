"""How sure the mean of a few flowers is: the bootstrap.

The flowers are drawn again and again, with replacement, as many as there are; how much the mean changes
from draw to draw is how far it can be trusted. That takes a while, and `progress` is told of it.

Knows no HTTP. Whatever is wrong with a question is a `QueryError`, as in `iris.py`.
"""

import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

from iris import COLUMNS, DIGITS, Flower, QueryError, Selection

from quick_server import progress

MOST_DRAWS = 1_000_000
SEED = 1936
"""The same question has the same answer each time."""
PER_CM = 10
"""The measurements have one decimal place: in millimetres they are whole, and so are their sums."""
TAIL = 0.025
"""Of the draws on either side of the interval, which leaves 95 % within."""
BINS = 40
BATCH = 500
"""Draws between two words of progress."""


@dataclass(frozen=True)
class Question:
    """Which column's means, of which flowers, by how many draws."""

    column: str
    draws: int
    groups: Mapping[str, Sequence[Flower]]

    @classmethod
    def from_post(cls, post: Mapping[str, object], flowers: Sequence[Flower]) -> Self:
        """Reads `column`, `draws` and `view`, an object with names as in the query of `/api/iris`.

        Raises `QueryError` for what makes no sense.
        """
        column, draws, view = post.get("column"), post.get("draws", 10_000), post.get("view", {})
        if column not in COLUMNS:
            raise QueryError(f"column={column!r} is not a column; columns are {', '.join(COLUMNS)}")
        if type(draws) is not int or not 1 <= draws <= MOST_DRAWS:
            raise QueryError(f"draws={draws!r} is not a whole number from 1 to {MOST_DRAWS}")
        if not isinstance(view, Mapping):
            raise QueryError("view is not an object")
        selection = Selection.from_query(view)
        chosen = [flower for flower in flowers if flower in selection]
        groups = {
            name: [flower for flower in chosen if flower.species == name] for name in selection.species
        }
        return cls(str(column), draws, groups)

    def as_id(self) -> dict[str, Any]:
        """What makes two questions the same, however they were asked."""
        numbers = {name: [flower.number for flower in flowers] for name, flowers in self.groups.items()}
        return {"column": self.column, "draws": self.draws, "groups": numbers}


def estimate(question: Question) -> dict[str, Any]:
    """The means with their intervals, and `seconds`, the time that this took."""
    began = time.perf_counter()
    total = question.draws * len(question.groups)
    groups = []
    for number, (name, flowers) in enumerate(question.groups.items()):
        values = [round(flower.measures[question.column] * PER_CM) for flower in flowers]
        groups.append({"name": name, **_spread(values, question.draws, number, total, name)})
    seconds = round(time.perf_counter() - began, DIGITS)
    return {"column": question.column, "draws": question.draws, "seconds": seconds, "groups": groups}


def _spread(values: Sequence[int], draws: int, number: int, total: int, name: str) -> dict[str, Any]:
    """Of one group: its mean, the interval, and a histogram of the means that were drawn."""
    if not values:
        return {"count": 0, "mean": None, "low": None, "high": None, "histogram": None}
    sums = _draw(values, draws, number, total, name)
    size = len(values) * PER_CM  # from a sum to its mean
    return {
        "count": len(values),
        "mean": round(sum(values) / size, DIGITS),
        "low": round(_quantile(sums, TAIL) / size, DIGITS),
        "high": round(_quantile(sums, 1 - TAIL) / size, DIGITS),
        "histogram": _histogram(sums, size),
    }


def _draw(values: Sequence[int], draws: int, number: int, total: int, name: str) -> Counter[int]:
    """How often each sum was drawn."""
    choose = random.Random(SEED).choices
    sums: Counter[int] = Counter()
    for done in range(0, draws, BATCH):
        progress(number * draws + done, total, f"drawing {name}")
        batch = range(min(BATCH, draws - done))
        sums.update(sum(choose(values, k=len(values))) for _ in batch)
    return sums


def _quantile(sums: Counter[int], share: float) -> int:
    """The least sum that `share` of all draws do not exceed.

    >>> _quantile(Counter({3: 1, 4: 8, 5: 1}), 0.5)
    4
    """
    values = sorted(sums)
    below = accumulate(sums[value] for value in values)
    wanted = share * sums.total()
    return next(value for value, count in zip(values, below, strict=True) if count >= wanted)


def _histogram(sums: Counter[int], size: int) -> dict[str, Any]:
    """Where it begins, the width of its bins, and how many draws are in each."""
    least, greatest = min(sums), max(sums)
    width = (greatest - least) // BINS + 1  # whole: else bins hold now more, now fewer possible sums
    counts = [0] * ((greatest - least) // width + 1)
    for value, count in sums.items():
        counts[(value - least) // width] += count
    return {"start": (least - 0.5) / size, "width": width / size, "counts": counts}
