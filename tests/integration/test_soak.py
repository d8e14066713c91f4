"""A short run of the long mixed load: every kind of client, and all invariants; see `soak/`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from soak.behaviours import KINDS
from tests.integration.scripts import Script

_SECONDS = 36
_LIMIT = 240.0  # on a machine that has much else to do


@pytest.mark.timeout(_LIMIT + 30)
def test_a_short_run(tmp_path: Path) -> None:
    script = Script.python("-m", "soak", "--minutes", str(_SECONDS / 60), cwd=tmp_path)
    try:
        code = script.ended(within=_LIMIT)
    finally:
        script.dispose()
    assert code == 0, script.output
    assert "all invariants held" in script.output
    for name in KINDS:
        found = re.search(rf"(?m)^{re.escape(name)} +(\d+) +(\d+)  ", script.output)
        assert found is not None, script.output
        assert int(found[1]) > 0, name
