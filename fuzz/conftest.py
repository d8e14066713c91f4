"""Tests of this folder get the profile that says how hard to try, those of others keep their own.

A test takes its settings from the profile that is loaded when it is defined.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest
from hypothesis import settings

from fuzz.profile import CHOSEN
from tests.leaks import leaves_nothing_behind  # noqa: F401 - a fixture of every test


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Modules are imported within."""
    before = settings.get_current_profile_name()
    settings.load_profile(CHOSEN)
    try:
        return (yield)
    finally:
        settings.load_profile(before)
