"""What all tests share: the log, a server that runs until the test ends, certificates."""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

import quick_server
from quick_server import QuickServer
from tests.certificates import Authority, Issued
from tests.harness import Running, running
from tests.leaks import leaves_nothing_behind  # noqa: F401 - a fixture of every test

# Whoever starts the tests with nohup, or in the background, has these ignored; so would be the
# scripts that tests start, and a signal that is ignored stays so.
for _number in (signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's business, not a test's.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")


def pytest_unconfigure() -> None:
    """The verdict is told: a late signal to the group must not end Python without its exit code."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--origin",
        choices=("quick_server", "nginx", "waitress", "uvicorn"),
        default="quick_server",
        help="which server the tests that send the same bytes to any server speak with",
    )


@pytest.fixture(scope="session")
def origin_name(request: pytest.FixtureRequest) -> str:
    """The server that `--origin` asks for; tests that have it can be run against each."""
    name: str = request.config.getoption("--origin")
    return name


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What the server logs during this test."""
    out = io.StringIO()
    quick_server.set_log_file(out)
    yield out
    quick_server.set_log_file(None)


@pytest.fixture
def serve(log: io.StringIO) -> Iterator[Callable[[QuickServer], Running]]:
    """`serve(server)` runs a configured server until the test ends."""
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(running(server))


@pytest.fixture
def www(tmp_path: Path) -> Path:
    """An empty folder to serve, with a secret beside it."""
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "www"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs certificates in the tests."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def issued(authority: Authority) -> Issued:
    """A certificate for localhost."""
    return authority.issue()
