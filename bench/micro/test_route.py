"""From a path to a handler."""

import pytest

from bench.micro.measure import NOT_REMEMBERED, Benchmark, in_turn
from quick_server.routes import Routes

pytestmark = pytest.mark.benchmark(group="route")

COUNTS = (10, 1000)


def routes(count: int) -> Routes[int]:
    """A table as an application might have it: some common beginnings, one segment that is any."""
    table: Routes[int] = Routes()
    for number in range(count):
        table.add("GET", f"/api/v{number % 7}/thing-{number}/:id", number)
    return table


def path(number: int, name: str) -> tuple[str, ...]:
    """The segments of a path that a route answers."""
    return ("api", f"v{number % 7}", f"thing-{number}", name)


@pytest.mark.parametrize("count", COUNTS)
def test_route_remembered(benchmark: Benchmark, count: int) -> None:
    """The path was asked for before."""
    assert benchmark(routes(count).find, "GET", path(count // 2, "a"))


@pytest.mark.parametrize("count", COUNTS)
def test_route_new(benchmark: Benchmark, count: int) -> None:
    """Another path each time, over all routes."""
    table = routes(count)
    paths = in_turn(path(number % count, str(number)) for number in range(NOT_REMEMBERED))
    assert benchmark(lambda: table.find("GET", next(paths)))


@pytest.mark.parametrize("count", COUNTS)
def test_route_none(benchmark: Benchmark, count: int) -> None:
    """No route, remembered: the path of a file."""
    assert benchmark(routes(count).find, "GET", ("pages", "index.html")) is None


@pytest.mark.parametrize("count", COUNTS)
def test_route_methods(benchmark: Benchmark, count: int) -> None:
    """Which methods a path without a handler has: asked for each file."""
    assert not benchmark(routes(count).methods, ("pages", "index.html"))
