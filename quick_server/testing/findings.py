"""What fuzzing finds, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

from .curl import curl
from .journal import Trace
from .request import Sent, size_of

REPEATS = 10
"""How often a command of a leak sends its request."""


class Kind(Enum):
    """What is wrong."""

    ERROR = "500"
    EXCEPTION = "exception behind an answer"
    HANG = "no answer"
    SLOW = "slow answer"
    DROPPED = "connection closed without an answer"
    CUT_OFF = "answer cut off"
    MALFORMED = "malformed answer"
    THREADS = "leaked threads"
    DESCRIPTORS = "leaked descriptors"
    TEMPORARY_FILES = "leaked temporary files"
    MEMORY = "leaked memory"


LEAKS = frozenset({Kind.THREADS, Kind.DESCRIPTORS, Kind.TEMPORARY_FILES, Kind.MEMORY})
_UNREADABLE = 2000  # characters of a command


@dataclass(frozen=True)
class Finding:
    """One fault, with the shortest request that shows it."""

    route: str
    """Method and mask of the function that was asked: `GET /user/:name`."""
    kind: Kind
    sent: Sent
    detail: str = ""
    """The exception, the seconds, what leaked."""
    trace: Trace | None = None
    """The traceback that the server logged."""
    patience: float = 10.0
    """Seconds after which an answer counts as missing."""
    repeatable: bool = True
    """Whether it happened again when the request was sent again."""

    @property
    def key(self) -> tuple[str, Kind, str]:
        """Findings with the same key are one: route, kind, exception and where it was raised."""
        trace = self.trace
        place = f"{trace.place} {trace.error.partition(':')[0]}" if trace is not None else ""
        return self.route, self.kind, place

    def command(self, url: str) -> str:
        """The command that shows it, with a server at `url`."""
        if self.kind is Kind.HANG and not isinstance(self.sent, bytes):
            return curl(self.sent, url, "-m", f"{self.patience:g}")
        if self.kind is Kind.SLOW:
            return curl(self.sent, url, "-w", r"'\n%{time_total} s\n'")
        command = curl(self.sent, url)
        if self.kind in LEAKS:
            return f"for i in $(seq {REPEATS}); do {command}; done"
        return command

    def text(self, url: str) -> str:
        """The finding for people: what, where, the command, the traceback."""
        parts = [self.kind.value, self.detail, f"at {self.trace.place}" if self.trace else ""]
        said = f"{self.route}: {', '.join(filter(None, parts))}"
        command = self.command(url)
        if len(command) > _UNREADABLE:
            command = f"{command[:_UNREADABLE]}… ({len(command)} characters; see Finding.command)"
        lines = [said, "", f"    {command}"]
        if not self.repeatable:
            lines += [
                "",
                "It did not happen again when that was sent again: it depends on what came before.",
            ]
        if self.trace is not None:
            lines += ["", *(f"    {line}" for line in self.trace.text.splitlines())]
        return "\n".join(lines)


class Findings:
    """The shortest finding of each key."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, Kind, str], Finding] = {}

    def add(self, finding: Finding) -> None:
        """Keeps it unless a shorter one is known."""
        known = self._found.get(finding.key)
        if known is None or size_of(finding.sent) <= size_of(known.sent):
            self._found[finding.key] = finding

    def doubt(self, finding: Finding) -> None:
        """It did not happen again."""
        self._found[finding.key] = replace(finding, repeatable=False)

    def __iter__(self) -> Iterator[Finding]:
        return iter(list(self._found.values()))

    def __len__(self) -> int:
        return len(self._found)


@dataclass(frozen=True)
class Report:
    """What a run of `fuzz_server` did."""

    url: str
    """Where the server of the commands is."""
    findings: tuple[Finding, ...]
    requests: int
    """How many were sent."""
    seconds: float
    seed: int
    routes: tuple[str, ...]
    """What was asked: methods and masks."""
    unasked: tuple[str, ...] = field(default=())
    """What was left out, as the time was up."""

    def __str__(self) -> str:
        count = len(self.findings)
        found = "nothing found" if not count else "1 finding" if count == 1 else f"{count} findings"
        lines = [f"{found}: {self.requests} requests in {self.seconds:.1f} s (seed {self.seed})"]
        if self.unasked:
            lines.append(f"no time for: {', '.join(self.unasked)}")
        for number, finding in enumerate(self.findings, 1):
            lines += ["", f"{number}. {finding.text(self.url)}"]
        return "\n".join(lines)


class FuzzFailure(AssertionError):  # noqa: N818 (it fails a test, like any assertion)
    """Fuzzing has found something. Its text is the report."""

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found."""
        return self.report.findings
