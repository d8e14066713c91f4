"""Each case has tests and a row, and the table says what was measured."""

from __future__ import annotations

import json

import pytest

from tests.faults.cases import CASES
from tests.faults.table import BEGIN, END, PAGE, RECORD, case_tests, render


def test_the_page_has_the_table_that_the_record_gives() -> None:
    table = PAGE.read_text("utf-8").partition(BEGIN)[2].partition(END)[0].strip()
    assert table == render(), "run `make faults`"


@pytest.mark.parametrize("case", CASES)
def test_each_case_has_a_test_that_says_what_it_shows(case: int) -> None:
    found = [test for test in case_tests() if test.case == case]
    assert found
    assert all(test.behaviour for test in found)


def test_the_cases_are_numbered_without_55() -> None:
    assert list(CASES) == [*range(1, 55), *range(56, 71)]


def test_names_are_unlike() -> None:
    names = [test.name for test in case_tests()]
    assert len(names) == len(set(names))


def test_the_record_is_of_the_tests_that_there_are() -> None:
    record = json.loads(RECORD.read_text("utf-8"))["tests"]
    assert set(record) == {test.key for test in case_tests()}, "run `make faults`"


def test_every_peer_that_can_be_asked_was_asked() -> None:
    record = json.loads(RECORD.read_text("utf-8"))["tests"]
    for test in case_tests():
        if test.asks_peers:
            assert set(record[test.key]) - {"quick_server"} == set(test.mark.peers), test.key
