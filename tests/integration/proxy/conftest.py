"""A server in front of a scripted upstream, for all tests of the proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from quick_server import QuickServer, create_server
from tests.harness import Client, Running
from tests.integration.logs import Log
from tests.integration.upstreams import Scripted, scripted


@pytest.fixture(autouse=True)
def _nothing_unexpected(log: Log) -> Iterator[None]:
    yield
    assert "Traceback" not in log.text, log.text


@pytest.fixture
def upstream() -> Iterator[Scripted]:
    with scripted() as made:
        yield made


@pytest.fixture
def server(upstream: Scripted) -> Iterator[QuickServer]:
    """A server that has `upstream` behind `/up/`."""
    made = create_server(("127.0.0.1", 0))
    made.bind_proxy("/up/", f"{upstream.url}/base")
    made.shutdown_timeout = 2.0  # what fails here must not take the patience of all tests
    yield made
    made.server_close()


@pytest.fixture
def run(server: QuickServer, serve: Callable[[QuickServer], Running]) -> Running:
    """That server at work, for many examples."""
    server.access_log = False
    return serve(server)


@pytest.fixture
def client(server: QuickServer, serve: Callable[[QuickServer], Running]) -> Client:
    return serve(server).connect()
