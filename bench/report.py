"""What the readings mean: values, ratios, goals, as tables for a terminal and for Markdown."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.model import Result
from bench.peers import PEERS

Table = list[list[str]]
ENDLESS = "∞"

ABOUT_RATIOS = (
    "How many times as good as the peer ours is, by the medians of interleaved rounds: above 1 we "
    "are ahead, whether more or less of the compared quantity is better."
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Ours beside one peer: above 1 we are ahead. ``goal`` is None where it is only measured."""

    work: str
    peer: str
    quantity: str
    ratio: float
    goal: float | None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without one."""
        return None if self.goal is None else self.ratio >= self.goal


@dataclass(frozen=True, slots=True)
class Check:
    """A value of ours beside the most that it may be."""

    work: str
    quantity: str
    value: str
    limit: str
    reached: bool


def comparisons(results: Sequence[Result]) -> list[Comparison]:
    """Ours against each peer that could be measured, in the order of the works."""
    found = []
    for result in results:
        work, metric = result.work, result.work.metrics[0]
        ours = result.readings.get(work.ours)
        for name, goal in work.against.items():
            theirs = result.readings.get(name)
            if ours is None or theirs is None:
                continue
            ratio = metric.advantage(ours[metric], theirs[metric])
            found.append(Comparison(work.title, PEERS[name].label, metric.label, ratio, goal))
    return found


def checks(results: Sequence[Result]) -> list[Check]:
    """Each limit on a value of ours."""
    found = []
    for result in results:
        ours = result.readings.get(result.work.ours)
        for metric, limit in result.work.limits.items():
            if ours is not None:
                value = ours[metric]
                shown = (metric.show(value), f"{limit:g}")
                found.append(Check(result.work.title, metric.label, *shown, value <= limit))
    return found


def verdict(reached: bool | None) -> str:
    """A word for the last column."""
    return {None: "", True: "reached", False: "**missed**"}[reached]


def ratio_table(found: Sequence[Comparison]) -> Table:
    """One line for each comparison."""
    table = [["work", "against", "compared", "ratio", "goal", ""]]
    for line in found:
        goal = "" if line.goal is None else f"≥ {line.goal:g}"
        quantity = show_ratio(line.ratio)
        table.append([line.work, line.peer, line.quantity, quantity, goal, verdict(line.reached)])
    return table


def check_table(found: Sequence[Check]) -> Table:
    """One line for each limit."""
    table = [["work", "ours", "value", "at most", ""]]
    table += [
        [line.work, line.quantity, line.value, line.limit, verdict(line.reached)] for line in found
    ]
    return table


def value_table(result: Result) -> Table:
    """One line for each server of a work: all that was measured of it."""
    metrics = result.work.metrics
    table = [["server", *(metric.label for metric in metrics)]]
    for name, reading in result.readings.items():
        values = [metric.show(reading[metric]) for metric in metrics]
        table.append([PEERS[name].label, *values])
    return table


def as_text(table: Table) -> str:
    """Aligned columns for a terminal: texts to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    numeric = numeric_columns(table)
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(cells).rstrip().replace("**", ""))
    return "\n".join(lines)


def as_markdown(table: Table) -> str:
    """A table for Markdown, numbers to the right."""
    head, *rows = table
    rule = ["--:" if numeric else "---" for numeric in numeric_columns(table)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *rows))


def numeric_columns(table: Table) -> list[bool]:
    """Which columns hold numbers, and nothing else but gaps, below their heads."""
    return [
        any(column) and all(cell == "" or is_number(cell) for cell in column)
        for column in zip(*table[1:], strict=True)
    ]


def is_number(cell: str) -> bool:
    """Whether a cell is a number to people: ``'41,200'``, ``'0.25'``, ``'≥ 4'``, ``'∞'``."""
    return cell.lstrip("≥ -").replace(",", "").replace(".", "").isdigit() or cell == ENDLESS


def show_ratio(ratio: float) -> str:
    """``0.4172`` → ``'0.42'``."""
    return ENDLESS if math.isinf(ratio) else f"{ratio:.2f}"


def terminal(results: Sequence[Result]) -> str:
    """The ratios and limits, for the end of a run."""
    parts = []
    found, limits = comparisons(results), checks(results)
    if found:
        parts.append("how many times as good as the peer ours is (medians):")
        parts.append(as_text(ratio_table(found)))
    if limits:
        parts.append(as_text(check_table(limits)))
    return "\n\n".join(parts)


def work_text(result: Result) -> str:
    """One work's values and notes, as soon as they are there."""
    notes = "".join(f"\n  {note}" for note in result.notes)
    values = as_text(value_table(result)) if result.readings else ""
    return f"\n{result.work.name}: {result.work.title}\n{values}{notes}"


def document(results: Sequence[Result], facts: Mapping[str, str]) -> str:
    """The whole of ``RESULTS.md``."""
    parts = [
        "# Benchmark results",
        "Written by `make bench`; what each work does and what it has to reach is in `works.py`.",
        as_markdown([["", ""], *([name, value] for name, value in facts.items())]),
        "## Ratios",
        ABOUT_RATIOS,
        "![ratios](results.svg)",
        as_markdown(ratio_table(comparisons(results))),
        "## Limits",
        as_markdown(check_table(checks(results))),
        "## Values",
    ]
    for result in results:
        parts.append(f"### {result.work.title}")
        if result.readings:
            parts.append(as_markdown(value_table(result)))
        if result.notes:
            parts.append("\n".join(f"- {note}" for note in result.notes))
    return "\n\n".join(parts) + "\n"
