"""What the diagrams show is what the tables of transitions say."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from quick_server import exchange, links, proxy

ARCHITECTURE = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
ARROW = re.compile(r"(?=\b(any|[A-Z]{3,})\s+──[^▶\n]*──▶\s+([A-Z]{3,})\b)")

Edge = tuple[str, str]
DRAWN_OVER_TWO_LINES: set[Edge] = {("ASKING", "CONNECTING")}  # an arrow that goes back


def drawn(text: str, states: set[str]) -> set[Edge]:
    """From which state to which there is an arrow; `any` is all others."""
    edges: set[Edge] = set()
    for start, end in ARROW.findall(text):
        edges |= {(begin, end) for begin in (states - {end} if start == "any" else {start})}
    return edges


def in_table(table: dict[tuple[Any, Any], Enum]) -> set[Edge]:
    return {(start.name, end.name) for (start, _event), end in table.items() if start is not end}


@pytest.mark.parametrize("module", [exchange, proxy, links], ids=["exchange", "proxy", "links"])
def test_a_diagram_is_its_table(module: ModuleType) -> None:
    table: dict[tuple[Any, Any], Any] = module.TRANSITIONS
    states = {state.name for state in type(next(iter(table.values())))}
    edges = in_table(table)
    assert drawn(module.__doc__ or "", states) | (DRAWN_OVER_TWO_LINES & edges) == edges


@pytest.mark.parametrize("module", [exchange, proxy], ids=["exchange", "proxy"])
def test_the_architecture_shows_the_same_diagram(module: ModuleType) -> None:
    assert module.__doc__
    diagram = [line.strip() for line in module.__doc__.splitlines() if ARROW.search(line)]
    shown = [line.strip() for line in ARCHITECTURE.splitlines()]
    assert diagram
    assert [line for line in shown if line in diagram] == diagram


def test_arrows_are_read() -> None:
    text = "ONE ──a word──▶ TWO ──x──▶ THREE   any ──lost──▶ THREE"
    assert drawn(text, {"ONE", "TWO", "THREE"}) == {("ONE", "TWO"), ("TWO", "THREE"), ("ONE", "THREE")}
