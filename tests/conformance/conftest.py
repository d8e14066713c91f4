"""`pytest tests/conformance --origin nginx` asks another server; without the option it is ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.survey import OURS, Subject, subject
from tests.wire.origins import SERVERS, AbsentError


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--origin", choices=list(SERVERS), default=OURS, help="the server that is asked")


@pytest.fixture(scope="session")
def asked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Subject]:
    """The server, in a process of its own that serves all cases."""
    # Where the whole suite runs, this file is read after the options have been.
    name = request.config.getoption("--origin", default=OURS)
    try:
        with subject(name, tmp_path_factory.mktemp(name)) as found:
            yield found
    except AbsentError as error:
        pytest.skip(str(error))
