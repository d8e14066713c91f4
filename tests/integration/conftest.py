"""Fixtures of the integration tests beside those of all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

import quick_server
from tests.integration.logs import Log
from tests.integration.scripts import SERVER, Script
from tests.integration.terminals import Scripts


@pytest.fixture
def log() -> Iterator[Log]:
    """What the server logs during this test; it can be waited for."""
    out = Log()
    quick_server.set_log_file(out)
    yield out
    quick_server.set_log_file(None)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Script]]:
    """`start(setup)` serves in a process of its own; `setup` is Python that configures `server`."""
    with ExitStack() as stack:

        def begin(setup: str = "", prefix: Sequence[str] = ()) -> Script:
            path = tmp_path / "script.py"
            path.write_text(SERVER.format(setup=setup))
            script = Script.python(str(path), cwd=tmp_path, prefix=prefix)
            stack.callback(script.dispose)
            return script

        yield begin


@pytest.fixture
def scripts(tmp_path: Path) -> Iterator[Scripts]:
    """Starts scripts that have a console."""
    with ExitStack() as stack:
        yield Scripts(tmp_path, stack)
