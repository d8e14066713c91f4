"""Lets coverage live with jobs that are stopped.

A job is ended by an exception that may arise in any line, also in the midst of coverage's collector
while that holds its lock, which nobody would release any more. The lock guards a look into a dict and
an assignment to it, each of which is whole by itself.
"""

from __future__ import annotations

from typing import Any

from coverage.collector import Collector


def _do_nothing(_self: Collector) -> None: ...


def coverage_init(_registry: Any, _options: dict[str, Any]) -> None:
    """What coverage calls in each process that it measures."""
    for name in ("lock_data", "unlock_data"):
        setattr(Collector, name, _do_nothing)
