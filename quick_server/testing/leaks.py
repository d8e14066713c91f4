"""What answers leave behind: threads, descriptors, temporary files, memory.

One answer proves nothing: pools fill, caches warm up, modules are imported. So a request is sent once
to warm up and then twice `REPEATS` times, and only what grows by at least one for each request, both
times, is a leak. Of memory it has to be `_LEAST_MEMORY` for each, from the same line of code.
"""

from __future__ import annotations

import gc
import os
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .findings import REPEATS, Finding, Kind
from .journal import is_own
from .request import Request
from .surface import Route

_LEAST_MEMORY = 32 * 1024  # bytes for each request
_SETTLING = 2.0  # seconds for threads and connections that are about to end
_FRAMES = 12  # of the calls that take memory
_FOLDERS = ("/proc/self/fd", "/dev/fd")


class _Count(NamedTuple):
    threads: int
    descriptors: int
    temporary_files: int


def _count(temporary: str) -> _Count:
    folder = next(filter(os.path.isdir, _FOLDERS), None)
    descriptors = len(os.listdir(folder)) if folder is not None else 0
    files = sum(len(names) for _, _, names in os.walk(temporary))
    return _Count(threading.active_count(), descriptors, files)


_KINDS = (Kind.THREADS, Kind.DESCRIPTORS, Kind.TEMPORARY_FILES)


class Gauge:
    """Tells when there is more of something than ever before: that may be a leak."""

    def __init__(self, temporary: str) -> None:
        self._temporary = temporary
        self._most = _count(temporary)

    def rose(self) -> list[Kind]:
        """Of what there is more than at any time that this was asked before."""
        now = _count(self._temporary)
        risen = [
            kind for kind, most, count in zip(_KINDS, self._most, now, strict=True) if count > most
        ]
        self._most = _Count(*map(max, self._most, now))
        return risen


class LeakSearch:
    """Repeats requests and counts."""

    def __init__(self, send: Callable[[Route, Request], object], temporary: str) -> None:
        """`temporary` is a folder that holds the temporary files of this process alone."""
        self._send = send
        self._temporary = temporary

    def look(self, samples: dict[Route, list[Request]]) -> Iterator[Finding]:
        """What the answers to these leak: one request for each route and kind."""
        gc.collect()
        gc.freeze()  # what is there already is no leak, and need not be looked through again and again
        try:
            if not self._leaks(
                [(route, r) for route, requests in samples.items() for r in requests], 1
            ):
                return
            for route, requests in samples.items():
                yield from self._look_at(route, requests)
        finally:
            gc.unfreeze()

    def _look_at(self, route: Route, requests: list[Request]) -> Iterator[Finding]:
        """First all together, which is quick and may err; then one, which has to prove it."""
        for kind in self._leaks([(route, request) for request in requests], 1):
            request = self._narrow(route, requests, kind)
            proof = self._leaks([(route, request)], REPEATS, kind)
            if kind in proof:
                yield Finding(route.name, kind, request, proof[kind])

    def _narrow(self, route: Route, requests: list[Request], kind: Kind) -> Request:
        """One of the requests that leaks that; the first, if it does."""
        size = 1
        while len(requests) > 1:
            part = requests[:size]
            leaks = kind in self._leaks([(route, request) for request in part], 2, kind)
            requests = part if leaks else requests[size:]
            size = max(1, len(requests) // 2)
        return requests[0]

    def _leaks(
        self, asked: list[tuple[Route, Request]], times: int, only: Kind | None = None
    ) -> dict[Kind, str]:
        """What grows each time that these are asked so often: at least one of them leaks."""
        self._round(asked, 1)
        traced = only in (None, Kind.MEMORY)
        if traced:
            tracemalloc.start(_FRAMES)
        try:
            counts, memory = [self._settled(None)], [_memory()]
            for _ in range(2):
                self._round(asked, times)
                counts.append(self._settled(counts[-1]))
                memory.append(_memory())
        finally:
            tracemalloc.stop()
        leaks: dict[Kind, str] = {}
        for kind, first, second, third in zip(_KINDS, *counts, strict=True):
            if min(second - first, third - second) >= times:
                leaks[kind] = f"{third - first} more after {2 * times} requests"
        place = _growing(memory, times * _LEAST_MEMORY)
        if place is not None:
            where, size = place
            leaks[Kind.MEMORY] = f"{size // (2 * times) // 1024} KiB for each request, from {where}"
        return leaks

    def _round(self, asked: list[tuple[Route, Request]], times: int) -> None:
        for _ in range(times):
            for route, request in asked:
                self._send(route, request)

    def _settled(self, before: _Count | None) -> _Count:
        """Counts when nothing changes any more."""
        deadline = time.monotonic() + _SETTLING
        gc.collect()
        count = _count(self._temporary)
        while time.monotonic() < deadline:
            if before is not None and all(now <= then for now, then in zip(count, before, strict=True)):
                break
            time.sleep(0.05)
            latest = _count(self._temporary)
            if latest == count:
                break
            count = latest
        return count


_Memory = dict[str, int]


def _memory() -> _Memory:
    """Bytes by the line that took them."""
    if tracemalloc.get_traced_memory()[0] < _LEAST_MEMORY:
        return {}
    sizes: _Memory = {}
    for statistic in tracemalloc.take_snapshot().statistics("traceback"):
        place = _place(statistic.traceback)
        sizes[place] = sizes.get(place, 0) + statistic.size
    return sizes


def _place(frames: tracemalloc.Traceback) -> str:
    """The innermost line of the user's own, or else of any code; the latest call comes last."""
    own = [frame for frame in frames if is_own(frame.filename)]
    frame = (own or list(frames))[-1]
    return f"{os.path.basename(frame.filename)}:{frame.lineno}"


def _growing(memory: list[_Memory], least: int) -> tuple[str, int] | None:
    """The line that grew most, if it did so in both rounds."""
    first, second, third = memory
    grown = {
        place: third[place] - first.get(place, 0)
        for place in third
        if min(third[place] - second.get(place, 0), second.get(place, 0) - first.get(place, 0)) >= least
    }
    return max(grown.items(), key=lambda item: item[1]) if grown else None
