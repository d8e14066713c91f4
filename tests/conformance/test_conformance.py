"""Every case against a running server."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.conformance.case import Case
from tests.conformance.cases import CASES
from tests.conformance.survey import OURS, Subject


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(asked: Subject, case: Case) -> None:
    if not asked.concerned(case):
        pytest.skip("for servers that serve files by themselves")
    complaint = asked.complaint(case)
    if asked.origin.name == OURS and case.exception:
        assert complaint, "this exception is none any more"
    else:
        assert not complaint, f"RFC {case.section}: it {case.level} do this: {case.requirement}"


def test_names_are_unique() -> None:
    assert [name for name, count in Counter(case.name for case in CASES).items() if count > 1] == []


def test_cases_cite_their_sections() -> None:
    assert [
        case.name for case in CASES if not re.fullmatch(r"911[02] §\d+(\.\d+)*", case.section)
    ] == []


def test_only_what_should_be_has_exceptions() -> None:
    assert {case.level for case in CASES if case.exception} == {"SHOULD"}
