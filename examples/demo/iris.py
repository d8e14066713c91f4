"""Fisher's iris table: loading it, choosing rows by a query, describing what was chosen.

Knows nothing of HTTP. A query is a mapping of names to texts; whatever is wrong with it is a
`QueryError` whose message a person can act on.
"""

import csv
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

COLUMNS = ("sepal_length", "sepal_width", "petal_length", "petal_width")
SPECIES = ("setosa", "versicolor", "virginica")
PARAMETERS = ("x", "y", "species", *(f"{end}_{c}" for c in COLUMNS for end in ("min", "max")))

DIGITS = 4
"""Decimal places of computed numbers; the measurements themselves have one."""


class QueryError(ValueError):
    """A query that cannot be answered; the message says why."""


@dataclass(frozen=True)
class Flower:
    """One plant: its place in the table (from 1), its species, its measurements in cm."""

    number: int
    species: str
    measures: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        return {"number": self.number, "species": self.species, **self.measures}


@dataclass(frozen=True)
class Selection:
    """What to look at: two columns, some species, and a range for any column.

    >>> Selection.from_query({"x": "petal_length", "species": "setosa,virginica"}).species
    ('setosa', 'virginica')
    """

    x: str
    y: str
    species: tuple[str, ...]
    ranges: Mapping[str, tuple[float, float]]

    @classmethod
    def from_query(cls, query: Mapping[str, object]) -> Self:
        """Reads `x`, `y`, `species` (a list with commas), `min_<column>` and `max_<column>`.

        Everything is optional. Raises `QueryError` for unknown names and values without sense.
        """
        texts: dict[str, str] = {}
        for name, value in query.items():
            if name not in PARAMETERS:
                raise QueryError(f"unknown parameter {name!r}; known are {', '.join(PARAMETERS)}")
            if not isinstance(value, str):
                raise QueryError(f"parameter {name!r} needs a value, as in {name}=...")
            texts[name] = value
        return cls(
            x=_column(texts, "x", "petal_length"),
            y=_column(texts, "y", "petal_width"),
            species=_species(texts),
            ranges={name: _range(texts, name) for name in COLUMNS},
        )

    def __contains__(self, flower: Flower) -> bool:
        return flower.species in self.species and all(
            low <= flower.measures[name] <= high for name, (low, high) in self.ranges.items()
        )


def _column(texts: Mapping[str, str], name: str, default: str) -> str:
    column = texts.get(name, default)
    if column not in COLUMNS:
        raise QueryError(f"{name}={column!r} is not a column; columns are {', '.join(COLUMNS)}")
    return column


def _species(texts: Mapping[str, str]) -> tuple[str, ...]:
    """No parameter means all species, an empty one none."""
    if "species" not in texts:
        return SPECIES
    wanted = [name.strip() for name in texts["species"].split(",") if name.strip()]
    for name in wanted:
        if name not in SPECIES:
            raise QueryError(f"{name!r} is not a species; species are {', '.join(SPECIES)}")
    return tuple(name for name in SPECIES if name in wanted)


def _range(texts: Mapping[str, str], column: str) -> tuple[float, float]:
    low = _number(texts, f"min_{column}", -math.inf)
    high = _number(texts, f"max_{column}", math.inf)
    if low > high:
        raise QueryError(f"min_{column}={low:g} is above max_{column}={high:g}")
    return low, high


def _number(texts: Mapping[str, str], name: str, default: float) -> float:
    if name not in texts:
        return default
    try:
        number = float(texts[name])
    except ValueError:
        raise QueryError(f"{name}={texts[name]!r} is not a number") from None
    if not math.isfinite(number):
        raise QueryError(f"{name}={texts[name]!r} is not a finite number")
    return number


def load(path: Path) -> list[Flower]:
    """The table in `path`, a CSV file with the columns of `COLUMNS` and `species`."""
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Flower(number, row["species"], {name: float(row[name]) for name in COLUMNS})
            for number, row in enumerate(csv.DictReader(file), start=1)
        ]


def explore(flowers: Sequence[Flower], selection: Selection) -> dict[str, Any]:
    """The flowers of a selection and their summaries: all together, then each species."""
    x, y = selection.x, selection.y
    chosen = [flower for flower in flowers if flower in selection]
    groups = {"all": chosen}
    for species in selection.species:
        groups[species] = [flower for flower in chosen if flower.species == species]
    return {
        "x": x,
        "y": y,
        "total": len(flowers),
        "count": len(chosen),
        "extent": {name: _extent(flowers, name) for name in COLUMNS},
        "groups": [{"name": name, **compare(group, x, y)} for name, group in groups.items()],
        "flowers": [flower.as_json() for flower in chosen],
    }


def _extent(flowers: Sequence[Flower], column: str) -> list[float]:
    values = [flower.measures[column] for flower in flowers]
    return [min(values), max(values)]


def compare(flowers: Sequence[Flower], x: str, y: str) -> dict[str, Any]:
    """Two columns of the same flowers: each one's summary, and how they go together.

    `correlation` is Pearson's, `line` the least squares line `y = slope * x + intercept`; both
    are None where they are not defined.
    """
    xs = [flower.measures[x] for flower in flowers]
    ys = [flower.measures[y] for flower in flowers]
    return {
        "count": len(flowers),
        "x": summarise(xs),
        "y": summarise(ys),
        "correlation": _correlation(xs, ys),
        "line": _line(xs, ys),
    }


def summarise(values: Sequence[float]) -> dict[str, float | None] | None:
    """Mean, standard deviation (of a sample) and the five numbers of a box plot.

    None without values; a single value has no standard deviation. The quartiles interpolate
    between values as most statistics tools do (type 7 of Hyndman and Fan).

    >>> summarise([1.0, 2.0, 3.0, 4.0])
    {'mean': 2.5, 'sd': 1.291, 'min': 1.0, 'q1': 1.75, 'median': 2.5, 'q3': 3.25, 'max': 4.0}
    """
    if not values:
        return None
    several = len(values) > 1
    q1, median, q3 = (
        statistics.quantiles(values, n=4, method="inclusive") if several else [values[0]] * 3
    )
    return {
        "mean": round(statistics.fmean(values), DIGITS),
        "sd": round(statistics.stdev(values), DIGITS) if several else None,
        "min": min(values),
        "q1": round(q1, DIGITS),
        "median": round(median, DIGITS),
        "q3": round(q3, DIGITS),
        "max": max(values),
    }


def _correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    try:
        return round(statistics.correlation(xs, ys), DIGITS)
    except statistics.StatisticsError:  # fewer than two flowers, or a column that never varies
        return None


def _line(xs: Sequence[float], ys: Sequence[float]) -> dict[str, float] | None:
    try:
        slope, intercept = statistics.linear_regression(xs, ys)
    except statistics.StatisticsError:  # fewer than two flowers, or all at the same x
        return None
    return {"slope": round(slope, DIGITS), "intercept": round(intercept, DIGITS)}
