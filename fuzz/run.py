"""`make fuzz`: goes round the files of this folder with new examples until the time is up.

Each turn is a process of its own: one file, a random seed, and as many examples as fit into its share
of the time, judged by the turn before. A file that has failed gets no further turn. What failed is in
`.hypothesis/examples` and is tried first the next time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
_FIRST = 100
_MOST = 100_000
_TURN = 60.0  # seconds
_STUCK = 900.0  # seconds that no turn takes

_Counts = dict[str, tuple[int, float]]


class Turn(NamedTuple):
    """What to run."""

    file: Path
    examples: int
    seed: int

    @property
    def command(self) -> list[str]:
        """The arguments of Python."""
        options = ["-q", "--no-header", "-p", "no:randomly", "-p", "no:cacheprovider"]
        return ["-m", "pytest", self.name, *options, f"--hypothesis-seed={self.seed}"]

    @property
    def name(self) -> str:
        """The file as one would name it in the project's folder."""
        return os.path.relpath(self.file, ROOT)

    @property
    def again(self) -> str:
        """What to type to have it again."""
        return f"FUZZ_EXAMPLES={self.examples} .venv/bin/python {' '.join(self.command)}"


class Result(NamedTuple):
    """How a turn ended."""

    failed: bool
    output: str
    seconds: float


class Fuzzing:
    """Turns of some files, and what they have tried so far."""

    def __init__(
        self, files: Sequence[Path], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._rates = dict.fromkeys(files, 0.0)  # examples for each property in a second; 0: not known
        self._until = clock() + seconds
        self.tried: _Counts = {}
        self.failures: list[Turn] = []

    def run(self) -> None:
        """Until the time is up or everything has failed; each file gets one turn at least."""
        is_first = True
        while self._rates and (is_first or self._left > 0):
            files = list(self._rates)
            for position, file in enumerate(files):
                share = min(_TURN, self._left / (len(files) - position))
                if is_first or share > 0:
                    self._take_turn(file, round(self._rates[file] * share))
            is_first = False

    @property
    def _left(self) -> float:
        return self._until - self._clock()

    def _take_turn(self, file: Path, examples: int) -> None:
        examples = min(max(examples, _FIRST), _MOST)
        turn = Turn(file, examples, random.SystemRandom().randrange(2**32))
        with tempfile.NamedTemporaryFile("r", encoding="utf-8") as counts:
            try:
                result = _run(turn, counts.name)
            finally:  # also of a turn that somebody ends with CTRL-C
                self._add(map(json.loads, counts))
        print(f"{turn.name}: {examples} examples, seed {turn.seed}, {result.seconds:.0f} s", flush=True)
        self._rates[file] = examples / result.seconds
        if result.failed:
            print(result.output, f"Again: {turn.again}", sep="\n", flush=True)
            self.failures.append(turn)
            del self._rates[file]

    def _add(self, lines: Iterable[dict[str, object]]) -> None:
        for line in lines:
            name, examples, seconds = line["name"], line["examples"], line["seconds"]
            assert isinstance(name, str)
            assert isinstance(examples, int)
            assert isinstance(seconds, float)
            before = self.tried.get(name, (0, 0.0))
            self.tried[name] = before[0] + examples, before[1] + seconds


def _run(turn: Turn, counts: str) -> Result:
    environment = os.environ | {"FUZZ_EXAMPLES": str(turn.examples), "FUZZ_COUNTS": counts}
    command = [
        sys.executable,
        *turn.command,
        "-p",
        "fuzz.counts",
        "-o",
        f"faulthandler_timeout={_STUCK}",
    ]
    begun = time.monotonic()
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            output, _ = process.communicate(timeout=_STUCK + 30)
        except subprocess.TimeoutExpired:
            process.kill()
            output = process.communicate()[0] + "\nThis did not come to an end."
    return Result(process.returncode != 0, output, time.monotonic() - begun)


def table(tried: _Counts) -> str:
    """Property, examples tried, time."""
    rows = [
        (name, f"{count:,}", f"{seconds:.0f} s") for name, (count, seconds) in sorted(tried.items())
    ]
    total = sum(count for count, _ in tried.values()), sum(seconds for _, seconds in tried.values())
    rows = [("property", "examples", "time"), *rows, ("all", f"{total[0]:,}", f"{total[1]:.0f} s")]
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(f"{a:{wide[0]}}  {b:>{wide[1]}}  {c:>{wide[2]}}" for a, b, c in rows)


def fuzz(files: Sequence[Path], seconds: float) -> int:
    """Runs, and reports; the exit code."""
    fuzzing = Fuzzing(files, seconds)
    try:
        fuzzing.run()
    except KeyboardInterrupt:
        print("stopped")
    print("", table(fuzzing.tried), "", sep="\n")
    for turn in fuzzing.failures:
        print(f"FAILED: {turn.name}. Again: {turn.again}")
    if not fuzzing.failures:
        print("nothing found")
    return 1 if fuzzing.failures else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", default="", help="a part of the names of the files to run")
    options = parser.parse_args()
    files = sorted(Path(__file__).parent.glob("test_*.py"))
    files = [file for file in files if options.only in file.name]
    if not files:
        parser.error(f"no test_*.py here has {options.only!r} in its name")
    return fuzz(files, options.minutes * 60)


if __name__ == "__main__":
    sys.exit(main())
