"""The server that a case is shown with, and what was observed of it."""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.talk import Talk
from tests.harness import PATIENCE
from tests.integration.scripts import SERVER, Script
from tests.wire.origins import SERVERS, AbsentError, Origin

Observed = Callable[..., None]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "peers(*names, others=why): who has such a thing at all; a case is run against those, and"
        " the table says why not of the others",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Peers are asked what they can be asked only."""
    name = config.getoption("--origin")
    if name == "quick_server":
        return
    kept = [item for item in items if _concerns(item, name)]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def _concerns(item: pytest.Item, name: str) -> bool:
    marker = item.get_closest_marker("peers")
    has_it = marker is None or name in marker.args
    return has_it and "origin_name" in getattr(item, "fixturenames", ())


@pytest.fixture
def observed(record_property: Callable[[str, object], None]) -> Observed:
    """`observed(heard)` or `observed("what", heard)`: what the table says if a peer does otherwise."""

    def record(*what: object) -> None:
        record_property("observed", ": ".join(map(str, what)))

    return record


@pytest.fixture(scope="module")
def running_origin(origin_name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    """The server that `--origin` names, for all tests of a file."""
    with ExitStack() as stack:
        try:
            yield stack.enter_context(SERVERS[origin_name](tmp_path_factory.mktemp(origin_name)))
        except AbsentError as error:
            pytest.skip(str(error))


@pytest.fixture
def talk(running_origin: Origin) -> Iterator[Talk]:
    """`talk(b"…")` sends bytes to the server that `--origin` names, and says what came back.

    Ours logs at most one line for each request or connection, and none of what came as it came.
    """
    talk = Talk(running_origin)
    if running_origin.name != "quick_server":
        yield talk
        return
    _, begin = _logged(running_origin, 0)
    yield talk
    lines, _ = _logged(running_origin, begin)
    assert talk.uncounted or len(lines) <= talk.finals, lines
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", "".join(lines)), lines


@pytest.fixture
def root(talk: Talk) -> Path:
    """The folder that is served, with secrets beside it."""
    outside = talk.origin.root.parent / "www-secret"
    outside.mkdir(exist_ok=True)
    for folder in (outside, talk.origin.root.parent):
        (folder / "secret.txt").write_text("secret")
    return talk.origin.root


_marks = itertools.count()


def _logged(origin: Origin, begin: int) -> tuple[list[str], int]:
    """The lines since that offset, and the offset behind them.

    A line of our own, behind which none of before can come, ends them.
    """
    mark = f"/mark/{next(_marks)} "
    Talk(origin)(f"GET {mark}HTTP/1.0\r\n\r\n".encode())
    deadline = time.monotonic() + PATIENCE
    while True:
        printed = origin.output.read_bytes()[begin:]
        before, found, after = printed.partition(mark.encode())
        if found and b"\n" in after:
            lines = before.decode(errors="backslashreplace").split("\n")[:-1]
            return lines, begin + len(printed)
        assert time.monotonic() < deadline, f"the log goes on with {printed!r}"
        os.sched_yield()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Script]]:
    """`start(setup)` serves in a process of its own; `setup` is Python that configures `server`."""
    with ExitStack() as stack:

        def begin(setup: str = "", prefix: Sequence[str] = ()) -> Script:
            path = tmp_path / f"script{len(list(tmp_path.glob('script*.py')))}.py"
            path.write_text(SERVER.format(setup=setup))
            script = Script.python(str(path), cwd=tmp_path, prefix=prefix)
            stack.callback(script.dispose)
            return script

        yield begin
