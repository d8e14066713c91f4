"""The snippets for workers, caches and commands run as they are printed, in the order they are."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from quick_cache import QuickCache  # type: ignore[import-untyped]

from quick_server import QuickServer, create_server, msg, worker_request

TEXT = (Path(__file__).parent / "seed_workers.rst.txt").read_text()
BLOCKS = [
    textwrap.dedent(block) for block in re.findall(r"\.\. code:: python\n\n((?: {4}.*\n|\n)+)", TEXT)
]
LINK, WORKER, CACHE, CACHED, MIRROR, BUILD, COMMAND, CLEAR = BLOCKS


@pytest.fixture
def server(tmp_path: Path) -> Iterator[QuickServer]:
    found = create_server(("127.0.0.1", 0))
    found.base_path = str(tmp_path)
    yield found
    found.server_close()


@pytest.fixture
def script(server: QuickServer, tmp_path: Path) -> dict[str, Any]:
    """What a script around the snippets has; running them adds to it."""
    base_file = tmp_path / "data.csv"
    base_file.write_text("1,2\n")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "index.html").write_text("<p>built")

    def cache(*args: Any, **options: Any) -> Any:
        return QuickCache(*args, temp=str(tmp_path / "cache"), **options)

    names = {"server": server, "msg": msg, "base_file": str(base_file), "QuickCache": cache}
    return {**names, "myresult": {"rows": 2}, "__name__": "script"}


def test_what_the_snippets_are_about() -> None:
    begins = [
        "server.link_worker_js",
        "@server.json_worker('/json_worker')",
        "cache = QuickCache",
        "@server.json_worker('/json_worker', cache_id",
        "server.mirror_worker_js",
        "server.bind_path('/', 'build/')",
        "@server.cmd()",
        "def complete_cache_clear",
    ]
    assert all(block.startswith(begin) for block, begin in zip(BLOCKS, begins, strict=True))


def test_they_run(server: QuickServer, script: dict[str, Any], tmp_path: Path) -> None:
    for block in BLOCKS:
        exec(compile(block, "script", "exec"), script)
    with server.running() as url:
        assert worker_request(url + "/json_worker", {"any": 1}) == {"rows": 2}
        client = server.test_client()
        assert client.get("/js/worker.js").status == 200
        assert client.get("/").body == b"<p>built"
    mirrored = (tmp_path / "src" / "worker.js").read_text()
    assert "quick_server" in mirrored


def test_a_result_is_computed_once_until_the_cache_is_cleared(
    server: QuickServer, script: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    for block in (CACHE, CACHED, CLEAR):
        exec(compile(block, "script", "exec"), script)

    def ask() -> Any:
        return worker_request(url + "/json_worker", {})

    with server.running() as url:
        assert ask() == {"rows": 2}
        script["myresult"] = {"rows": 3}
        assert ask() == {"rows": 2}
        assert server.commands.completions(["cache", "clear"], "w") == ["www"]
        assert server.commands.completions(["cache", "clear", "www"], "") == []
        server.handle_cmd("cache clear www")
        assert ask() == {"rows": 3}
        script["myresult"] = {"rows": 4}
        server.handle_cmd("cache clear")
        assert ask() == {"rows": 4}
        server.handle_cmd("cache clear one two")
    said = "".join(capfd.readouterr())
    assert "clear cache www\n" in said
    assert "clear all caches" in said
    assert "too many extra arguments! expected one got one two\n" in said


def test_a_command(
    server: QuickServer, script: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    exec(compile(COMMAND, "script", "exec"), script)
    server.handle_cmd("name")
    server.handle_cmd("name Ada Lovelace # a comment")
    said = "".join(capfd.readouterr())
    assert ": hello\n" in said
    assert ": hi Ada Lovelace\n" in said
