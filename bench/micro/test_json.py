"""From a value to content, and what is known of content by its bytes."""

import pytest

from bench.micro.measure import Benchmark
from bench.servers.data import rows
from quick_server.jsontext import json_bytes
from quick_server.protocol.conditional import content_tag

pytestmark = pytest.mark.benchmark(group="json")

MEGABYTE = 1_000_000
HELLO = {"hello": "world"}
SIZES = (20, 10_000, MEGABYTE)


@pytest.fixture(scope="module")
def megabyte() -> list[dict[str, object]]:
    """Rows whose text has about 1 MB."""
    every = rows()
    return every[: len(every) * MEGABYTE // len(json_bytes(every))]


def test_json_small(benchmark: Benchmark) -> None:
    """What most functions return."""
    assert benchmark(json_bytes, HELLO) == b'{"hello":"world"}'


def test_json_1mb(benchmark: Benchmark, megabyte: list[dict[str, object]]) -> None:
    """A table."""
    assert len(benchmark(json_bytes, megabyte)) == pytest.approx(MEGABYTE, rel=0.1)


def test_json_1mb_with_nan(benchmark: Benchmark, megabyte: list[dict[str, object]]) -> None:
    """A table with one number that JSON lacks: a walk over all of it."""
    assert b'"NaN"' in benchmark(json_bytes, [*megabyte, {"mean": float("nan")}])


@pytest.mark.parametrize("size", SIZES)
def test_content_tag(benchmark: Benchmark, size: int) -> None:
    """The entity tag of so many bytes."""
    assert benchmark(content_tag, bytes(size))
