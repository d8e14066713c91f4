"""What the micro-benchmarks have in common."""

from collections.abc import Iterator

import pytest

from bench.process import SERVER_CORE, on_core
from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs, create_server


@pytest.fixture(scope="session", autouse=True)
def _one_core() -> Iterator[None]:
    """As in the benchmark proper: the loop and the pool share a core."""
    with on_core(SERVER_CORE):
        yield


@pytest.fixture
def server() -> Iterator[QuickServer]:
    """A server that nobody runs, with one handler, and without a log."""
    made = create_server(("127.0.0.1", 0))
    made.suppress_noise = True
    made.set_common_invalid_paths(["/nothing"])

    @made.json_get("/api/hello", 0)
    def hello(_req: QuickServerRequestHandler, _args: ReqArgs) -> dict[str, str]:
        return {"hello": "world"}

    yield made
    made.server_close()
