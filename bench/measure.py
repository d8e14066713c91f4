"""Readings of a process and its children from ``/proc``: CPU time, memory, threads, wake-ups."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
KIB = 1024
RESET_PEAK = "5"  # proc(5), clear_refs


def family(pid: int) -> list[int]:
    """The process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                children.setdefault(int(stat_fields(entry)[1]), []).append(int(entry.name))
    found = [pid]
    for member in found:
        found.extend(children.get(member, ()))
    return found


def stat_fields(process: Path) -> list[str]:
    """The fields of ``stat`` after the name (which may hold blanks): state, parent, and so on."""
    return (process / "stat").read_text().rpartition(")")[2].split()


def cpu_seconds(pid: int) -> float:
    """User and system time that the family has used so far; exact to a clock tick (10 ms)."""
    total = 0
    for member in family(pid):
        with suppress(OSError):
            fields = stat_fields(PROC / str(member))
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def status_sum(pid: int, name: str) -> int:
    """The sum of one number of ``status`` over the family."""
    total = 0
    for member in family(pid):
        with suppress(OSError):
            total += status_number(PROC / str(member), name)
    return total


def status_number(process: Path, name: str) -> int:
    """One number of a process's or a thread's ``status``; sizes are in KiB."""
    match = re.search(rf"^{name}:\s+(\d+)", (process / "status").read_text(), re.MULTILINE)
    return int(match[1]) if match else 0


def resident_bytes(pid: int) -> int:
    """Memory that the family occupies now."""
    return status_sum(pid, "VmRSS") * KIB


def peak_bytes(pid: int) -> int:
    """The most memory that the family occupied since its start or the last `reset_peak`."""
    return status_sum(pid, "VmHWM") * KIB


def reset_peak(pid: int) -> None:
    """Lets `peak_bytes` begin anew. Where the kernel refuses, the peak includes the start."""
    for member in family(pid):
        with suppress(OSError):
            (PROC / str(member) / "clear_refs").write_text(RESET_PEAK)


class Memory:
    """Memory of the family before a stretch of work, and its growth up to the peak within it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.before = 0
        self.growth = 0

    def __enter__(self) -> Self:
        reset_peak(self.pid)
        self.before = resident_bytes(self.pid)
        return self

    def __exit__(self, *_: object) -> None:
        self.growth = peak_bytes(self.pid) - self.before


def threads(pid: int) -> int:
    """How many threads the family has."""
    return status_sum(pid, "Threads")


def wake_ups(pid: int) -> int:
    """How often threads of the family gave up the core to wait; each is one later wake-up."""
    return sum(status_number(task, "voluntary_ctxt_switches") for task in tasks(pid))


def tasks(pid: int) -> Iterator[Path]:
    """Every thread of the family."""
    for member in family(pid):
        with suppress(OSError):
            yield from (PROC / str(member) / "task").iterdir()
