"""`make coverage`: runs all tests under coverage, and says which files are below their floor.

Lines and branches, in this process, those that tests start, and what is forked. What a test's failure
means is `make test`'s to say: some fail here, because a tracer costs time and coverage wants to write.

Python 3.11 cannot be measured: there a thread that is traced turns round and round at the beginning of
a function for as long as an exception waits for another thread, which is how jobs are stopped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLOORS = {
    "quick_server/protocol/*": 100.0,
    "quick_server/exchange.py": 100.0,
    "quick_server/jobs.py": 100.0,
    "quick_server/routes.py": 100.0,
    "*": 95.0,
}


def main() -> int:
    if sys.version_info < (3, 12):
        print(
            "coverage needs Python 3.12 or newer: make coverage PYTHON=/path/to/python3.13",
            file=sys.stderr,
        )
        return 2
    coverage = [sys.executable, "-m", "coverage"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    tests = ["pytest", "-q", "-p", "no:cacheprovider", "--timeout=120"]
    subprocess.run([*coverage, "erase"], cwd=ROOT, check=True)
    subprocess.run([*coverage, "run", "-m", *tests], cwd=ROOT, env=environment, check=False)
    subprocess.run([*coverage, "combine", "--quiet"], cwd=ROOT, check=False)
    told = subprocess.run(
        [*coverage, "json", "-q", "-o", "-"], cwd=ROOT, check=True, capture_output=True
    )
    return judge(json.loads(told.stdout))


def judge(report: dict[str, dict[str, dict[str, dict[str, float]]]]) -> int:
    """Prints what is below its floor; 1 if anything is."""
    below = 0
    for name, file in sorted(report["files"].items()):
        found = file["summary"]["percent_covered"]
        floor = next(floor for mask, floor in FLOORS.items() if fnmatch(name, mask))
        if found < floor:
            below = 1
            print(f"{name}: {found:.1f} %, and not {floor:g} %; lines {file['missing_lines']}")
            print(f"    branches {file['missing_branches']}")
    print(f"all files: {report['totals']['percent_covered']:.1f} %")
    return below


if __name__ == "__main__":
    sys.exit(main())
