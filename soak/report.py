"""The table at the end of a run."""

from __future__ import annotations

from .invariants import Invariants
from .load import Load
from .subject import Subject, Vitals


def report(load: Load, subjects: list[Subject], ends: list[Vitals], invariants: Invariants) -> None:
    """Prints what was done, what came of it, and what was wrong."""
    print(f"\n{'clients':<18}{'visits':>8}{'requests':>10}  answers")
    for name, counts in load.counts.items():
        answers = ", ".join(f"{status}: {count}" for status, count in sorted(counts.answers.items()))
        print(f"{name:<18}{counts.visits:>8}{counts.requests:>10}  {answers}")
    print()
    for subject, end in zip(subjects, ends, strict=True):
        print(f"{subject.name:<6} start: {subject.start}; end: {end}; log: {subject.log.size / 1024:.0f} KiB")
    print(f"longest turn of a loop, the machine's noise included: {invariants.worst * 1000:.1f} ms")
    print(f"seed {load.seed}, {load.clients} clients at a time")
    for what in invariants.wrong:
        print(f"WRONG: {what}")
    print("all invariants held" if not invariants.wrong else f"{len(invariants.wrong)} violations")
