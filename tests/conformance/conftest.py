"""`pytest tests/conformance --origin nginx` asks another server; without the option it is ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.survey import Subject, subject
from tests.wire.origins import AbsentError


@pytest.fixture(scope="session")
def asked(origin_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    """The server, in a process of its own that serves all cases."""
    try:
        with subject(origin_name, tmp_path_factory.mktemp(origin_name)) as found:
            yield found
    except AbsentError as error:
        pytest.skip(str(error))
