"""The table of docs/reliability.md: made of the tests' docstrings and of peers.json, of nothing else.

`python -m tests.faults.table` writes it anew.
"""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from tests.faults.cases import CASES
from tests.integration.scripts import ROOT

FOLDER = Path(__file__).parent
RECORD = FOLDER / "peers.json"
PAGE = ROOT / "docs" / "reliability.md"
PEERS = ("nginx", "waitress", "uvicorn")
_SHOWN = 4  # parameters that a cell names
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"


class Seen(TypedDict):
    """What one test saw of one server."""

    passed: bool
    observed: list[tuple[str, str, bool]]
    """The parameter, or nothing; what was seen; and whether that passed."""


class Record(TypedDict):
    """What a run saw: versions by server; by test (`test_protocol::test_01_…`) what each server did."""

    versions: dict[str, str]
    tests: dict[str, dict[str, Seen]]


@dataclass(frozen=True)
class Mark:
    """What a test's mark, or its file's (`pytestmark`), says: `peers(*names, others="why not")`."""

    peers: tuple[str, ...] = PEERS
    """Those that have such a thing."""
    others: str = "has none"


@dataclass(frozen=True)
class CaseTest:
    """One test of a case, as its source has it."""

    module: str
    name: str
    behaviour: str
    mark: Mark
    asks_peers: bool

    @property
    def case(self) -> int:
        return int(self.name.split("_")[1])

    @property
    def key(self) -> str:
        return f"{self.module}::{self.name}"


def case_tests() -> list[CaseTest]:
    """All tests of this folder that belong to a case, by number."""
    found: list[CaseTest] = []
    for path in sorted(FOLDER.glob("test_*.py")):
        body = ast.parse(path.read_text("utf-8")).body
        of_file = _mark([node.value for node in body if isinstance(node, ast.Assign)])
        functions = [node for node in body if isinstance(node, ast.FunctionDef)]
        found += [_test(path.stem, node, of_file) for node in functions if node.name[5:7].isdigit()]
    return sorted(found, key=lambda test: test.case)


def _mark(marks: list[ast.expr]) -> Mark | None:
    """The one that is about peers."""
    for mark in marks:
        if ast.unparse(mark).startswith("pytest.mark.peers"):
            if not isinstance(mark, ast.Call):
                return Mark(())
            said = {str(word.arg): ast.literal_eval(word.value) for word in mark.keywords}
            return Mark(tuple(ast.literal_eval(name) for name in mark.args), **said)
    return None


def _test(module: str, node: ast.FunctionDef, of_file: Mark | None) -> CaseTest:
    behaviour = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
    mark = _mark(node.decorator_list) or of_file or Mark()
    arguments = {argument.arg for argument in node.args.args}
    return CaseTest(module, node.name, behaviour, mark, bool(arguments & {"talk", "origin_name"}))


def render() -> str:
    """The table, with the versions that it is about."""
    record: Record = json.loads(RECORD.read_text("utf-8"))
    versions = ", ".join(f"{name} {record['versions'][name]}" for name in PEERS)
    rows = [
        f"Measured with {versions}.",
        "",
        "| case | behaviour | test | " + " | ".join(PEERS) + " |",
        "|---|---|---|" + "---|" * len(PEERS),
    ]
    last = 0
    for test in case_tests():
        title = f"{test.case}. {CASES[test.case]}" if test.case != last else ""
        last = test.case
        cells = [_cell(test, record["tests"].get(test.key, {}), peer) for peer in PEERS]
        rows.append(
            "| " + " | ".join(map(_escaped, [title, test.behaviour, f"`{test.name}`", *cells])) + " |"
        )
    return "\n".join(rows)


def _cell(test: CaseTest, results: dict[str, Seen], peer: str) -> str:
    if peer not in test.mark.peers:
        return test.mark.others
    seen = results.get(peer)
    if seen is None:
        return "not measured"
    if seen["passed"]:
        return "as ours"
    return _summary(
        seen, {(parameter, text) for parameter, text, _ in results["quick_server"]["observed"]}
    )


def _summary(seen: Seen, ours: set[tuple[str, str]]) -> str:
    """What was seen where a test failed, the same things together: "a, b: 200, keeps; c: 400"."""
    failed = [(parameter, text) for parameter, text, passed in seen["observed"] if not passed]
    groups: dict[str, list[str]] = {}
    for parameter, text in [pair for pair in failed if pair not in ours] or failed:
        groups.setdefault(text, []).append(parameter)
    every = len(groups) == 1 and len(failed) == len(seen["observed"])
    return "; ".join(text if every else _labelled(names, text) for text, names in groups.items())


def _labelled(names: list[str], text: str) -> str:
    if names == [""]:
        return text
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{shown}{more}: {text}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def write() -> None:
    """Puts the table between the page's marks."""
    before, rest = PAGE.read_text("utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n\n{render()}\n\n{END}{after}", "utf-8")


if __name__ == "__main__":
    write()
