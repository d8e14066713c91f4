"""The React example: as it is built for production, under a path of its own, and in development."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs, create_server, progress
from tests.browser.node import EXAMPLE, VITE, copy_of_the_example, run_or_fail
from tests.harness import PATIENCE, Running
from tests.integration.scripts import ROOT, Script

if TYPE_CHECKING:
    from playwright.sync_api import Page, Response


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the example with its packages, and built."""
    folder = copy_of_the_example(tmp_path_factory)
    run_or_fail(sys.executable, str(folder / "server.py"), "--prepare", cwd=ROOT)
    run_or_fail("node", VITE, "build", cwd=folder)
    return folder


@pytest.fixture
def python_side(app: Path) -> Iterator[Script]:
    """`server.py` on a free port."""
    script = Script.python(str(app / "server.py"), "--port", "0", cwd=ROOT)
    try:
        script.wait_for(r"http://localhost:\d+/")
        yield script
    finally:
        script.dispose()


def url_of(script: Script) -> str:
    return script.wait_for(r"http://localhost:\d+/")[0]


@pytest.fixture
def url(python_side: Script) -> str:
    return url_of(python_side)


def start(page: Page, runs: int) -> None:
    page.get_by_label("Runs").fill(str(runs))
    page.get_by_role("button", name="Start").click()


def wait_for_status(page: Page, text: str) -> None:
    page.get_by_role("status").filter(has_text=text).wait_for()


def asks_to(action: str) -> Callable[[Response], bool]:
    def fits(response: Response) -> bool:
        request = response.request
        return request.method == "POST" and json.loads(request.post_data or "")["action"] == action

    return fits


# ---- as it is built ---------------------------------------------------------------------------


def test_the_result_appears(page: Page, url: str, problems: list[str]) -> None:
    page.goto(url)
    page.get_by_role("img", name="440 points").wait_for()
    wait_for_status(page, "Ready.")
    page.get_by_label("Clusters").fill("5")
    start(page, 20)
    wait_for_status(page, "The least spread is 189.55; ")
    page.get_by_role("img", name="440 points in 5 clusters").wait_for()
    sizes = [int(size) for size in page.locator("figcaption li").all_inner_texts()]
    assert len(sizes) == 5
    assert sum(sizes) == 440
    assert page.locator("svg .centre").count() == 5
    assert page.title() == "Clusters"
    assert problems == []


def test_the_progress_moves(page: Page, url: str, problems: list[str]) -> None:
    page.goto(url)
    page.get_by_role("img").wait_for()
    page.evaluate("""() => {
        window.seen = [];
        const note = () => {
            const bar = document.querySelector("progress[value]");
            if (bar) window.seen.push([bar.value, bar.max]);
        };
        const changes = { attributes: true, childList: true, subtree: true };
        new MutationObserver(note).observe(document.body, changes);
    }""")
    start(page, 200)
    wait_for_status(page, "Computing")
    page.get_by_text("least spread so far: ").wait_for()
    wait_for_status(page, "of 200 runs found it")
    assert page.get_by_role("progressbar").count() == 0
    seen = page.evaluate("seen")
    values = [value for value, _ in seen]
    assert {limit for _, limit in seen} == {200}
    assert len(set(values)) > 1
    assert values == sorted(values)
    assert problems == []


def test_cancel(page: Page, url: str) -> None:
    page.goto(url)
    start(page, 5000)  # a minute
    page.get_by_text("least spread so far: ").wait_for()
    with page.expect_response(asks_to("stop")) as answer:
        page.get_by_role("button", name="Cancel").click()
    assert answer.value.json()["done"] is True
    wait_for_status(page, "Cancelled.")
    assert page.get_by_role("progressbar").count() == 0
    assert page.locator("svg .centre").count() == 0
    start(page, 2)
    wait_for_status(page, "of 2 runs found it")


def test_another_start_replaces_the_job(page: Page, url: str) -> None:
    page.goto(url)
    start(page, 5000)
    page.get_by_text("least spread so far: ").wait_for()
    with page.expect_response(asks_to("stop")):
        start(page, 3)
    wait_for_status(page, "of 3 runs found it")


def test_what_the_server_refuses_is_shown(page: Page, url: str) -> None:
    page.goto(url)
    page.evaluate("document.querySelector('form').noValidate = true")
    start(page, 5001)
    page.get_by_role("alert").filter(has_text="a whole number from 1 to 5000 is expected").wait_for()
    wait_for_status(page, "The computation failed.")


# ---- elsewhere --------------------------------------------------------------------------------


def test_the_build_works_under_any_path(
    app: Path, serve: Callable[[QuickServer], Running], page: Page, problems: list[str]
) -> None:
    """And shows each step of a job: the next is made only when the page has shown the last."""
    server = create_server(("127.0.0.1", 0))
    server.bind_path("/tools/clusters/", str(app / "build"))
    server.add_default_white_list()
    go_on = threading.Semaphore(0)
    plane = {"width": 10, "height": 10, "points": [[1, 1], [2, 1], [9, 9]]}

    @server.json_get("/tools/clusters/api/points", 0)
    def points(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        return plane

    @server.json_worker("/tools/clusters/api/clusters")
    def clusters(args: dict[str, Any]) -> Any:
        for step in range(3):
            progress(step, 3, f"step {step}")
            assert go_on.acquire(timeout=PATIENCE), "the page did not show it"
        division = {"centres": [[1.5, 1], [9, 9]], "members": [0, 0, 1]}
        return {**division, "spread": 0.5, "runs": args["runs"], "as_good": args["runs"]}

    page.goto(serve(server).url + "/tools/clusters/")
    start(page, 4)
    for step in range(3):
        page.get_by_text(f"step {step}").wait_for()
        page.get_by_text(f"{step} of 3").wait_for()
        assert page.get_by_role("progressbar").evaluate("bar => bar.value") == step
        go_on.release()
    wait_for_status(page, "The least spread is 0.50; all 4 runs found it.")
    assert page.locator("figcaption li").all_inner_texts() == ["2", "1"]
    assert problems == []


def test_development_behind_the_proxy_of_vite(
    app: Path, python_side: Script, page: Page, problems: list[str]
) -> None:
    port = url_of(python_side).rpartition(":")[2].strip("/")
    vite = Script(["env", f"API_PORT={port}", "node", VITE, "--port", "15173"], cwd=app)
    try:
        page.goto(url_of(vite))
        page.get_by_role("img", name="440 points").wait_for()
        start(page, 10)
        wait_for_status(page, "of 10 runs found it")
    finally:
        vite.dispose()
    # In development React runs effects twice, and so ends one of the two questions for the points.
    assert [problem for problem in problems if "/api/points: net::ERR_ABORTED" not in problem] == []


# ---- what is in the repository ----------------------------------------------------------------


def test_the_lock_file_names_no_registry() -> None:
    lock = json.loads((EXAMPLE / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert all("integrity" in package for package in packages.values())
    assert not any("resolved" in package for package in packages.values())


def test_versions_are_pinned() -> None:
    package = json.loads((EXAMPLE / "package.json").read_text())
    for version in (package["dependencies"] | package["devDependencies"]).values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
