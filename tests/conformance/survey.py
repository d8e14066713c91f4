"""All cases against one running server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.case import Case
from tests.conformance.cases import CASES
from tests.conformance.known import ask, furnish
from tests.harness import PATIENCE
from tests.wire.origins import SERVERS, Origin

OURS = "quick_server"
WITH_FILES = (OURS, "nginx")
PEERS_PATIENCE = 2.0
"""Peers do hang at times, and what is waited for is the end of that."""


@dataclass(frozen=True)
class Subject:
    """A server that is ready for the cases."""

    origin: Origin
    known: Mapping[str, bytes]
    patience: float

    def concerned(self, case: Case) -> bool:
        """Whether the case is one for this server."""
        return not case.files or self.origin.name in WITH_FILES

    def complaint(self, case: Case) -> str:
        """What it does wrong; empty if nothing."""
        return case.run(self.origin, self.known, self.patience)


@contextmanager
def subject(name: str, folder: Path) -> Iterator[Subject]:
    """Starts the server in an empty folder."""
    patience = PATIENCE if name == OURS else PEERS_PATIENCE
    with SERVERS[name](folder) as origin:
        furnish(origin)
        yield Subject(origin, ask(origin, patience), patience)


def survey(name: str, folder: Path) -> dict[str, str]:
    """By the names of the cases: what is wrong; without those that do not concern the server."""
    with subject(name, folder) as found:
        return {case.name: found.complaint(case) for case in CASES if found.concerned(case)}
