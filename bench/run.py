"""The command: measures the works that are asked for, prints, and writes the results.

Run as ``python bench/run.py``. A full run takes about a quarter of an hour and rewrites
``RESULTS.md`` and ``results.svg``; a quick or a partial one prints, and writes only where
``--output`` says.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench import environment, picture, report
from bench.field import Field, lay_out, raise_descriptor_limit
from bench.machine import facts
from bench.model import FULL, QUICK, Result, Work
from bench.peers import OURS, PEERS
from bench.process import stay_on_load_core
from bench.works import WORKS

HERE = Path(__file__).resolve().parent


def main() -> int:
    """Runs the benchmark; ends with 1 only if it cannot run at all."""
    options = arguments().parse_args()
    if shutil.which("wrk") is None:
        print("the load generator is missing; on Debian: apt-get install wrk", file=sys.stderr)
        return 1
    load_before = os.getloadavg()[0]
    installed = environment.prepare()
    raise_descriptor_limit()
    stay_on_load_core()
    plan = QUICK if options.quick else FULL
    works = [work for work in WORKS if options.only is None or work.name in options.only]
    with TemporaryDirectory(prefix="bench-") as scratch:
        field = Field(Path(scratch), plan, installed, options.peers)
        lay_out(field.folder)
        results = measure(works, field)
    print("\n" + report.terminal(results))
    partial = options.quick or options.only is not None or options.peers is not None
    output = options.output or (None if partial else HERE)
    if output is not None:
        write(output, results, facts(plan, installed, load_before))
    return 0


def arguments() -> argparse.ArgumentParser:
    """The options."""
    names = [work.name for work in WORKS]
    peers = [name for name in PEERS if name not in OURS]
    parser = argparse.ArgumentParser(prog="bench/run.py", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds: under two minutes")
    parser.add_argument(
        "--only", nargs="+", metavar="WORK", choices=names, help=f"of {', '.join(names)}"
    )
    parser.add_argument(
        "--peers", nargs="+", metavar="NAME", choices=peers, help=f"of {', '.join(peers)}"
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where to write the results")
    return parser


def measure(works: Sequence[Work], field: Field) -> list[Result]:
    """One work after the other; each is printed when it is done."""
    results = []
    for work in works:
        result = Result(work)
        work.method.measure(field, result)
        print(report.work_text(result), flush=True)
        results.append(result)
    return results


def write(folder: Path, results: Sequence[Result], about: dict[str, str]) -> None:
    """Leaves the tables and the picture in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "RESULTS.md").write_text(report.document(results, about))
    (folder / "results.svg").write_text(picture.draw(report.comparisons(results)))
    print("\nwrote RESULTS.md and results.svg")


if __name__ == "__main__":
    sys.exit(main())
