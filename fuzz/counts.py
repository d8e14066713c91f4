"""A plugin of pytest: writes down how many examples each property got, and how long they took.

One line of JSON for each property, into the file that FUZZ_COUNTS names, as soon as it is known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import statistics as hypothesis_statistics

_collector: Any = hypothesis_statistics.collector
_PHASES = ("reuse", "generate", "shrink")


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Listens beside Hypothesis' own plugin, which keeps its statistics as prose."""
    others = _collector.value

    def note(statistics: Any) -> None:
        if others is not None:
            others(statistics)
        _write(item.nodeid, statistics)

    with _collector.with_value(note):
        return (yield)


def _write(name: str, statistics: Any) -> None:
    phases = [statistics[f"{phase}-phase"] for phase in _PHASES if f"{phase}-phase" in statistics]
    examples = sum(case["status"] == "valid" for phase in phases for case in phase["test-cases"])
    seconds = sum(phase["duration-seconds"] for phase in phases)
    line = json.dumps({"name": name, "examples": examples, "seconds": seconds})
    with open(os.environ["FUZZ_COUNTS"], "a", encoding="utf-8") as file:
        file.write(line + "\n")
