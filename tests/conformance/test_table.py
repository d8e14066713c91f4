"""The table in the documentation is about the cases that there are."""

from __future__ import annotations

import re

import pytest

from tests.conformance.cases import CASES
from tests.conformance.survey import OURS, WITH_FILES
from tests.conformance.table import (
    CHAPTERS,
    NOT_ASKED,
    PAGE,
    PASSED,
    chapter,
    section,
    written,
)
from tests.wire.origins import SERVERS

BY_NAME = {case.name: case for case in CASES}
AGAIN = "`make conformance` writes the table anew"


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    """The cells of all rows of the tables."""
    lines = written(PAGE.read_text("utf-8")).splitlines()
    return [re.split(r" (?<!\\)\| ", line[2:-2]) for line in lines if line.startswith("| ")]


def test_each_case_has_a_chapter() -> None:
    assert {chapter(case) for case in CASES} == set(CHAPTERS)


def test_the_sums_count_the_cases(rows: list[list[str]]) -> None:
    told = {row[0]: row[2:] for row in rows if row[0] in CHAPTERS}
    assert set(told) == set(CHAPTERS), AGAIN
    for name, cells in told.items():
        for server, cell in zip(SERVERS, cells, strict=True):
            asked = [c for c in CASES if chapter(c) == name and (not c.files or server in WITH_FILES)]
            total = "" if cell == NOT_ASKED else cell.partition("/")[2]
            assert total == (str(len(asked)) if asked else ""), AGAIN


def test_the_differences_are_about_cases(rows: list[list[str]]) -> None:
    told = [row for row in rows if row[0].startswith("`")]
    assert told
    for name, about, level, requirement, *cells in told:
        case = BY_NAME.get(name.strip("`"))
        assert case is not None, f"{name}: {AGAIN}"
        assert (about, level) == (case.section, case.level), AGAIN
        assert requirement == case.requirement.replace("|", "\\|"), AGAIN
        assert len(cells) == len(SERVERS)
        asked = [server in WITH_FILES or not case.files for server in SERVERS]
        assert [cell != NOT_ASKED for cell in cells] == asked, AGAIN


def test_what_ours_fails_is_what_has_an_exception(rows: list[list[str]]) -> None:
    place = list(SERVERS).index(OURS)
    failed = {row[0].strip("`") for row in rows if row[0].startswith("`") and row[4 + place] != PASSED}
    assert failed == {case.name for case in CASES if case.exception}, AGAIN


def test_a_table_tells_what_differs() -> None:
    first, second = CASES[:2]
    good = dict.fromkeys(BY_NAME, "")
    text = section({"one": good, "two": good | {first.name: "200 | kept"}}, ["two 2.0"])
    assert (
        f"| `{first.name}` | {first.section} | {first.level} | {first.requirement} | {PASSED} |" in text
    )
    assert "200 \\| kept |" in text
    assert f"`{second.name}`" not in text
    assert "two 2.0" in text
