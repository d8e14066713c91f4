"""The words of the benchmark: metric, reading, plan, work, result. Values; nothing runs here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from bench.field import Field


class UnfitError(Exception):
    """A server cannot be measured at this work; the message says why, for a note in the report."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured quantity, and which direction of it is good."""

    label: str
    unit: str
    digits: int = 0
    more_is_better: bool = False

    def show(self, value: float) -> str:
        """Formats a value for people: ``41200.4`` → ``'41,200'``."""
        return f"{value:,.{self.digits}f}"

    def advantage(self, ours: float, theirs: float) -> float:
        """How many times better ours is: above 1 we are ahead, whatever the metric's direction."""
        over, under = (ours, theirs) if self.more_is_better else (theirs, ours)
        if over == under:
            return 1.0
        return over / under if under > 0 else float("inf")


RATE = Metric("requests/s", "requests/s", more_is_better=True)
SLOW_RATE = Metric("requests/s", "requests/s", 1, more_is_better=True)
THROUGHPUT = Metric("MB/s", "MB/s", more_is_better=True)
CPU = Metric("CPU/request, µs", "µs", 1)
SLOW_CPU = Metric("CPU/request, ms", "ms", 1)
P99 = Metric("p99, ms", "ms", 2)
MEMORY = Metric("RSS, MB", "MB", 1)
MEMORY_BEFORE = Metric("RSS before, MB", "MB", 1)
MEMORY_GROWTH = Metric("growth at peak, MB", "MB", 1)
MEMORY_EACH = Metric("KB/connection", "KB", 2)
THREADS = Metric("threads", "threads")
START = Metric("first answer, ms", "ms", 1)
WAKE_UPS = Metric("wake-ups", "wake-ups")
IDLE_CPU = Metric("CPU, ms", "ms")
JOB_RATE = Metric("jobs/s", "jobs/s", more_is_better=True)
DELIVERED = Metric("result to client, ms", "ms", 1)
POLLED = Metric("the same by polling, ms", "ms", 1)
FIRST_BYTE = Metric("first byte, ms", "ms", 2)
EVENT_RATE = Metric("events/s", "events/s", more_is_better=True)
P99_ALONE = Metric("p99 alone, ms", "ms", 2)
SLOWDOWN = Metric("p99, times alone", "times", 2)
P99_PIPELINE = Metric("p99 beside a pipeline, ms", "ms", 2)
P99_DOWNLOADS = Metric("p99 beside downloads, ms", "ms", 2)

Reading = Mapping[Metric, float]


def medians(readings: Iterable[Reading]) -> Reading:
    """The median of each metric over several rounds of one server."""
    rounds = list(readings)
    return {metric: median(reading[metric] for reading in rounds) for metric in rounds[0]}


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run takes: a full one, or one for a quick look."""

    rounds: int
    seconds: int
    upload_rounds: int
    upload_bytes: int
    starts: int
    idle_rounds: int
    idle_seconds: int


FULL = Plan(
    rounds=5,
    seconds=4,
    upload_rounds=3,
    upload_bytes=1 << 30,
    starts=15,
    idle_rounds=3,
    idle_seconds=10,
)
QUICK = Plan(
    rounds=2,
    seconds=1,
    upload_rounds=1,
    upload_bytes=128 << 20,
    starts=5,
    idle_rounds=1,
    idle_seconds=3,
)


class Method(Protocol):
    """A way to measure servers at one work."""

    def measure(self, field: "Field", result: "Result") -> None:
        """Measures every server of ``result.work`` and puts readings and notes into ``result``."""


@dataclass(frozen=True, slots=True)
class Work:
    """One line of work for servers: what is asked, of whom, and what ours has to reach.

    The first of ``metrics`` is the one that ratios compare. ``against`` names each peer with the
    ratio that ours has to reach, or None where it is only measured; ``limits`` are values of ours
    that it must not exceed.
    """

    name: str
    title: str
    method: Method
    metrics: tuple[Metric, ...]
    against: Mapping[str, float | None]
    limits: Mapping[Metric, float] = field(default_factory=dict)
    ours: str = "quick"


@dataclass(slots=True)
class Result:
    """What came out of one work: a reading for each server that could be measured, and notes."""

    work: Work
    readings: dict[str, Reading] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
