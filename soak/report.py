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
        print(
            f"{subject.name:<6} at the start: {subject.start}, {subject.allocated / 2**20:.2f} in use"
        )
        print(f"{'':<6} at the end:   {end}, {subject.allocated_at_end / 2**20:.2f} in use")
        print(f"{'':<6} the log has {subject.log.size / 1024:.0f} KiB")
    print(
        f"longest turn of a loop: {invariants.worst * 1000:.0f} ms with the machine's noise; "
        f"of those over 50 ms, {invariants.worst_without_noise * 1000:.0f} ms at most without it"
    )
    print(f"the load itself was up to {load.lag * 1000:.0f} ms late")
    print(f"seed {load.seed}, {load.clients} clients at a time")
    for what in invariants.doubtful:
        print(f"doubtful: {what}")
    for what in invariants.wrong:
        print(f"WRONG: {what}")
    print("all invariants held" if not invariants.wrong else f"{len(invariants.wrong)} violations")
