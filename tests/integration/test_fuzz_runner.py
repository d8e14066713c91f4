"""The runner of `make fuzz`: it counts, it reports what fails and how to have it again, and it ends."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import pytest

from fuzz.run import Fuzzing, fuzz, main

GOOD = """
from hypothesis import given, strategies as st
from fuzz.profile import examples

@examples(0.5)
@given(st.integers())
def test_is_itself(number):
    assert number == number
"""
BAD = """
from hypothesis import given, strategies as st
from fuzz.profile import examples

@examples(1)
@given(st.integers())
def test_is_small(number):
    assert number < 100
"""


def test_what_fails_is_reported_with_how_to_have_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "test_good.py", tmp_path / "test_bad.py"
    good.write_text(GOOD)
    bad.write_text(BAD)
    assert fuzz([bad, good], 0) == 1
    said = capsys.readouterr().out
    assert "number=100" in said
    (last,) = [line for line in said.splitlines() if line.startswith("FAILED: ")]
    assert "test_bad.py" in last
    assert "FUZZ_EXAMPLES=100 " in last
    assert "--hypothesis-seed=" in last
    (counted,) = [line for line in said.splitlines() if "test_is_itself " in line]
    assert counted.split()[1] == "50"


def test_it_goes_round_until_the_time_is_up(tmp_path: Path) -> None:
    good = tmp_path / "test_good.py"
    good.write_text(GOOD)
    fuzzing = Fuzzing([good], 6, clock=count().__next__)  # asked twice a round, so three rounds
    fuzzing.run()
    ((name, (examples, seconds)),) = fuzzing.tried.items()
    assert name.endswith("test_good.py::test_is_itself")
    assert examples >= 3 * 50
    assert seconds > 0
    assert not fuzzing.failures


def test_a_name_that_no_file_has_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["run.py", "--only", "no such file"])
    with pytest.raises(SystemExit):
        main()
    assert "no such file" in capsys.readouterr().err
