"""Methods without load: the cost of idle connections, the sleep of an idle server, the start."""

import resource
import time
from dataclasses import dataclass
from http.client import HTTPConnection

from bench import measure
from bench.client import Request, check, crowd, latency_p99, still_open, warm_up
from bench.field import Field, interleave
from bench.model import (
    IDLE_CPU,
    MEMORY,
    MEMORY_EACH,
    P99,
    START,
    THREADS,
    WAKE_UPS,
    Reading,
    Result,
    UnfitError,
)
from bench.process import Server

MEGA = 1e6
KILO = 1e3
MILLI = 1e3

SETTLE = 0.3
QUIET_AFTER = 1.0
SPARE_DESCRIPTORS = 500


@dataclass(frozen=True, slots=True)
class IdleConnections:
    """Keep-alive connections that have each asked once and then stay.

    Memory once taken is seldom given back, so each round is a fresh process.
    """

    request: Request
    count: int

    def measure(self, field: Field, result: Result) -> None:
        """Rounds of a fresh process of each server."""
        interleave(
            field.entrants(result),
            field.plan.idle_rounds,
            lambda name: self.take(field, name),
            result,
        )

    def take(self, field: Field, name: str) -> Reading:
        """What the crowd costs in memory, how many threads there are, how fast one more is answered."""
        if self.count + SPARE_DESCRIPTORS > resource.getrlimit(resource.RLIMIT_NOFILE)[0]:
            raise UnfitError(f"the system does not allow {self.count:,} open connections")
        with field.start(name) as server:
            pid = server.process.pid
            check(server, self.request)
            warm_up(server, self.request, connections=32)
            time.sleep(SETTLE)
            before = measure.resident_bytes(pid)
            with crowd(server, self.request, self.count) as held:
                time.sleep(SETTLE)
                with_crowd = measure.resident_bytes(pid)
                latency = latency_p99(server, self.request)
                must_all_be_open(held)
                return {
                    MEMORY_EACH: (with_crowd - before) / self.count / KILO,
                    MEMORY: with_crowd / MEGA,
                    P99: latency * MILLI,
                    THREADS: measure.threads(pid),
                }


@dataclass(frozen=True, slots=True)
class Sleep:
    """Whether a server with idle connections truly sleeps."""

    request: Request
    count: int

    def measure(self, field: Field, result: Result) -> None:
        """One quiet stretch for each server."""
        seconds = field.plan.idle_seconds
        with field.start_all(result, self.request) as servers:
            interleave(servers, 1, lambda name: self.take(servers[name], seconds), result)

    def take(self, server: Server, seconds: int) -> Reading:
        """Wake-ups and CPU time of a stretch in which nobody asks anything."""
        pid = server.process.pid
        with crowd(server, self.request, self.count) as held:
            time.sleep(QUIET_AFTER)
            woken, used = measure.wake_ups(pid), measure.cpu_seconds(pid)
            time.sleep(seconds)
            woken, used = measure.wake_ups(pid) - woken, measure.cpu_seconds(pid) - used
            must_all_be_open(held)
        return {WAKE_UPS: woken, IDLE_CPU: used * MILLI}


def must_all_be_open(held: list[HTTPConnection]) -> None:
    """A server that closed some of the connections was not measured with all of them."""
    gone = len(held) - still_open(held)
    if gone:
        raise UnfitError(f"it closed {gone:,} of {len(held):,} idle connections")


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """The time from the start of the process to its first answer."""

    request: Request

    def measure(self, field: Field, result: Result) -> None:
        """Interleaved starts; one of each goes ahead uncounted, to fill the disk cache."""
        names = field.entrants(result)
        interleave(names, 1, lambda name: self.take(field, name), result)
        interleave(
            list(result.readings), field.plan.starts, lambda name: self.take(field, name), result
        )

    def take(self, field: Field, name: str) -> Reading:
        """One start."""
        start = time.perf_counter()
        with field.start(name, self.request.path) as server:
            seconds = time.perf_counter() - start
            check(server, self.request)
        return {START: seconds * MILLI}
