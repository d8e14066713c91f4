"""k-means: divides points into clusters around centres. Knows nothing of the web."""

import random
from typing import NamedTuple

Point = tuple[float, float]

WIDTH, HEIGHT = 160, 100
# Where the points gather: x, y, how far they spread, how many they are.
GATHERINGS = (
    (24, 26, 7, 60),
    (50, 20, 5, 40),
    (38, 66, 9, 80),
    (82, 50, 7, 70),
    (112, 24, 8, 70),
    (130, 38, 5, 40),
    (120, 76, 9, 80),
)


class Clusters(NamedTuple):
    """A division. The cluster of a point is a number, that of its centre in `centres`."""

    centres: list[Point]
    members: list[int]
    spread: float
    """The mean square of the distances between points and their centres: less is better."""


def sample_points() -> list[Point]:
    """Always the same points, in a plane of WIDTH times HEIGHT."""
    rng = random.Random(2)
    return [
        (
            round(min(max(rng.gauss(x, spread), 2), WIDTH - 2), 2),
            round(min(max(rng.gauss(y, spread), 2), HEIGHT - 2), 2),
        )
        for x, y, spread, number in GATHERINGS
        for _ in range(number)
    ]


def divide(points: list[Point], count: int, rng: random.Random) -> Clusters:
    """The division that is found from `count` random points; there may be better ones."""
    centres = sorted(rng.sample(points, count))
    members: list[int] = []
    while True:
        squares, nearest = zip(*(_nearest(point, centres) for point in points), strict=True)
        if list(nearest) == members:
            return Clusters(centres, members, sum(squares) / len(points))
        members = list(nearest)
        for number in range(count):
            mine = [point for point, member in zip(points, members, strict=True) if member == number]
            if mine:
                xs, ys = zip(*mine, strict=True)
                centres[number] = (sum(xs) / len(mine), sum(ys) / len(mine))


def _nearest(point: Point, centres: list[Point]) -> tuple[float, int]:
    """The square of the distance to the nearest centre, and the number of that."""
    x, y = point
    return min(((x - cx) ** 2 + (y - cy) ** 2, number) for number, (cx, cy) in enumerate(centres))
