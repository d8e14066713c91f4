"""How hard to try. One knob for all: the number of examples that a property of middling cost gets.

`make test` tries a few examples, always the same ones, so that it says the same about the same code.
`make fuzz` tries new ones each time, for as long as it may; what failed is kept in `.hypothesis`.
"""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
"""For each property; 0: the short profile that is part of `make test`."""
SHORT = 100

settings.register_profile(
    "fuzz short",
    max_examples=SHORT,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
settings.register_profile(
    "fuzz",
    max_examples=EXAMPLES or SHORT,
    deadline=None,
    database=DirectoryBasedExampleDatabase(Path(".hypothesis") / "examples"),
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
CHOSEN = "fuzz" if EXAMPLES else "fuzz short"
"""The profile that conftest.py loads while it imports tests of this folder, and only then."""


def examples(share: float) -> settings:
    """A decorator: so many times the usual number of examples (cheap properties above 1)."""
    return settings(
        settings.get_profile(CHOSEN), max_examples=max(1, round((EXAMPLES or SHORT) * share))
    )
