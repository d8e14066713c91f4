"""The table in docs/reliability.md: what the servers do with the cases.

    python -m tests.conformance.table

asks all four and writes the table anew, between two marks.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill

from bench.environment import prepare
from tests.conformance.case import Case
from tests.conformance.cases import CASES
from tests.conformance.survey import OURS, survey
from tests.nginx import NGINX
from tests.wire.origins import SERVERS, AbsentError

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN = "<!-- conformance: written by `make conformance` -->"
END = "<!-- conformance: end -->"
WIDTH = 108
NOT_ASKED = "-"
PASSED = "✓"
CHAPTERS = {
    "9112 §2": "lines and versions",
    "9112 §3": "request line and target",
    "9112 §4": "status line",
    "9112 §5": "fields",
    "9112 §6": "length of content",
    "9112 §7": "chunked coding",
    "9112 §8": "incomplete messages",
    "9112 §9": "connections",
    "9112 §11": "security",
    "9110 §4": "http URIs",
    "9110 §5": "fields",
    "9110 §6": "versions and dates",
    "9110 §7": "connection options, Upgrade",
    "9110 §8": "representations",
    "9110 §9": "methods",
    "9110 §10": "Expect, Allow, TE",
    "9110 §12": "negotiation",
    "9110 §13": "conditional requests",
    "9110 §14": "ranges",
    "9110 §15": "status codes",
}

Outcome = Mapping[str, str]
"""By the names of the cases that a server was asked: what is wrong, or an empty text."""


def chapter(case: Case) -> str:
    """The first number of a case's section.

    >>> from tests.conformance.cases import CASES
    >>> chapter(CASES[0])
    '9112 §2'
    """
    return case.section.partition(".")[0]


def section(outcomes: Mapping[str, Outcome], versions: Sequence[str]) -> str:
    """Everything between the marks."""
    files = sum(case.files for case in CASES)
    musts = sum(case.level == "MUST" for case in CASES)
    about = (
        f"{len(CASES)} cases ({musts} of them a MUST) send bytes to a running server and judge what "
        "comes back, and whether the connection is then kept, closed or out of step. Each cites the "
        "section that it is about, and stands in `tests/conformance/cases/`. An answer against the "
        "grammar, or one too many, fails any case."
    )
    servers = (
        f"nginx serves the files; its functions are uvicorn's. waitress and uvicorn have no files of "
        f"their own, so they are not asked what {files} of the cases ask about files. Versions: "
        f"{', '.join(versions)}."
    )
    differing = (
        f"The cases that some server does not pass ({PASSED} passed, {NOT_ASKED} not asked, else what "
        "happened: statuses, and what became of the connection):"
    )
    parts = (
        fill(about, WIDTH),
        fill(servers, WIDTH),
        "How many cases each passes, of those it was asked:",
        _table(_sums(outcomes)),
        fill(differing, WIDTH),
        _table(_differing(outcomes)),
        "Where quick_server does something else than a SHOULD asks for:",
        _exceptions(),
    )
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _sums(outcomes: Mapping[str, Outcome]) -> list[list[str]]:
    rows = [["RFC", "about", *outcomes]]
    for name, about in CHAPTERS.items():
        cases = [case for case in CASES if chapter(case) == name]
        rows.append([name, about, *(_share(cases, outcome) for outcome in outcomes.values())])
    for level in ("MUST", "SHOULD"):
        cases = [case for case in CASES if case.level == level]
        rows.append([f"every {level}", "", *(_share(cases, outcome) for outcome in outcomes.values())])
    return rows


def _share(cases: Sequence[Case], outcome: Outcome) -> str:
    asked = [case for case in cases if case.name in outcome]
    passed = sum(not outcome[case.name] for case in asked)
    return f"{passed}/{len(asked)}" if asked else NOT_ASKED


def _differing(outcomes: Mapping[str, Outcome]) -> list[list[str]]:
    rows = [["case", "RFC", "level", "a server that passes", *outcomes]]
    for case in sorted(CASES, key=_place):
        found = [outcome.get(case.name, NOT_ASKED) or PASSED for outcome in outcomes.values()]
        if set(found) - {PASSED, NOT_ASKED}:
            rows.append([f"`{case.name}`", case.section, case.level, case.requirement, *found])
    return rows


def _place(case: Case) -> tuple[int, list[int]]:
    numbers = case.section.partition("§")[2].split(".")
    return list(CHAPTERS).index(chapter(case)), [int(number) for number in numbers]


def _exceptions() -> str:
    return "".join(f"- `{case.name}`: {case.exception}\n" for case in CASES if case.exception)


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown; the first row is the heading."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]) + "\n")
    return "".join(lines)


def written(page: str) -> str:
    """What stands between the marks of a page."""
    _, begin, rest = page.partition(BEGIN)
    text, end, _ = rest.partition(END)
    assert begin, "the page has lost its first mark"
    assert end, "the page has lost its second mark"
    return text


def _versions() -> list[str]:
    known = prepare()
    nginx = subprocess.run([str(NGINX), "-v"], capture_output=True, text=True, check=True).stderr
    found = re.search(r"nginx/(\S+)", nginx)
    assert found is not None, nginx
    names = ("waitress", "uvicorn", "httptools")
    return [f"nginx {found[1]}", *(f"{name} {known[name]}" for name in names)]


def main() -> None:
    if NGINX is None:
        sys.exit("nginx is not installed")
    versions = _versions()
    outcomes: dict[str, Outcome] = {}
    for name in SERVERS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcomes[name] = survey(name, Path(folder))
            except AbsentError as error:
                sys.exit(str(error))
        failed = sum(map(bool, outcomes[name].values()))
        print(f"{name}: {len(outcomes[name]) - failed} of {len(outcomes[name])} cases pass")
    page = PAGE.read_text("utf-8")
    text = f"\n{section(outcomes, versions)}"
    PAGE.write_text(page.replace(BEGIN + written(page), BEGIN + text), "utf-8")
    excused = {case.name for case in CASES if case.exception}
    if unexcused := [name for name, why in outcomes[OURS].items() if why and name not in excused]:
        sys.exit(f"{OURS} fails {', '.join(unexcused)}")


if __name__ == "__main__":
    main()
