"""Runs the cases against ours and its peers, and writes down what each did: `make faults`.

    python -m tests.faults.measure            # all
    python -m tests.faults.measure test_proxy # one file; what is known of the others stays

What a run saw is in peers.json; the table of docs/reliability.md is made from that alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from bench.environment import prepare
from quick_server import __version__
from tests.faults import table
from tests.faults.table import PEERS, RECORD, Record, Seen
from tests.integration.scripts import ROOT
from tests.nginx import NGINX

OURS = "quick_server"


def main(modules: list[str]) -> None:
    """Measures the test files of these names, or all."""
    record: Record = {"versions": {}, "tests": {}}
    if modules and RECORD.exists():
        record = json.loads(RECORD.read_text())
        for name in [name for name in record["tests"] if name.partition("::")[0] in modules]:
            del record["tests"][name]
    record["versions"] = _versions()
    for name in (OURS, *PEERS):
        print(f"-- {name}", flush=True)
        for test, seen in _run(name, modules).items():
            record["tests"].setdefault(test, {})[name] = seen
    _check(record)
    RECORD.write_text(_lines(record))
    table.write()


def _lines(record: Record) -> str:
    """As JSON, a line for each test."""
    tests = [
        f"{json.dumps(test)}: {json.dumps(record['tests'][test])}" for test in sorted(record["tests"])
    ]
    versions = json.dumps(record["versions"], sort_keys=True)
    return '{"versions": ' + versions + ',\n"tests": {\n' + ",\n".join(tests) + "\n}}\n"


def _versions() -> dict[str, str]:
    """Of ours and of each peer that is installed."""
    packages = prepare()
    versions = {OURS: __version__} | {name: packages[name] for name in PEERS if name in packages}
    if NGINX is not None:
        said = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True).stderr
        versions["nginx"] = said.strip().partition("/")[2]
    return versions


def _run(origin: str, modules: list[str]) -> dict[str, Seen]:
    """What each test saw of that server."""
    paths = [f"tests/faults/{module}.py" for module in modules] or ["tests/faults"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", *paths, "-q", "--no-header", "--tb=no", "-rN"]
        options = [
            "--ignore=tests/faults/test_table.py",
            "-p",
            "no:randomly",
            "-o",
            "junit_family=xunit1",
            f"--junitxml={report}",
        ]
        subprocess.run([*command, *options, f"--origin={origin}"], cwd=ROOT, check=False)
        cases = list(ET.parse(report).iter("testcase"))
    seen: dict[str, Seen] = {}
    for case in cases:
        if case.find("skipped") is not None:
            continue
        module, name = case.attrib["classname"].rpartition(".")[2], case.attrib["name"]
        function, _, parameter = name.partition("[")
        one = seen.setdefault(f"{module}::{function}", {"passed": True, "observed": []})
        passed = case.find("failure") is None and case.find("error") is None
        one["passed"] &= passed
        texts = [found.attrib["value"] for found in case.iterfind("properties/property")]
        if not passed and not texts:
            raise SystemExit(f"{module}::{name} fails with {origin} before anything was observed")
        one["observed"] += [(parameter.removesuffix("]"), text, passed) for text in texts]
    return seen


def _check(record: Record) -> None:
    """Nothing is written down of a test that ours does not pass."""
    failed = [test for test, seen in record["tests"].items() if not seen[OURS]["passed"]]
    if failed:
        raise SystemExit(f"these fail with ours: {', '.join(failed)}")


if __name__ == "__main__":
    main(sys.argv[1:])
