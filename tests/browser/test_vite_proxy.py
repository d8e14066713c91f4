"""Vite's development server behind `bind_proxy("/", …)`: its pages, and its hot module reload.

Vite runs as it is, with no setting that knows of us. The page is the React example, whose functions
are answered beside it by the same server.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs, create_server
from tests.browser.node import EXAMPLE, VITE, copy_of_the_example
from tests.harness import Running
from tests.integration.scripts import Script

if TYPE_CHECKING:
    from playwright.sync_api import Page

PLANE = {"width": 10, "height": 10, "points": [[1, 1], [2, 1], [9, 9]]}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example with its packages."""
    return copy_of_the_example(tmp_path_factory)


@pytest.fixture
def app(packages: Path) -> Iterator[Path]:
    """The example with its sources as they are in the repository."""
    yield packages
    for name in ("App.jsx", "style.css"):
        shutil.copy(EXAMPLE / "src" / name, packages / "src" / name)


@pytest.fixture
def vite(app: Path) -> Iterator[Script]:
    """Vite's development server; it takes another port if this one is in use."""
    script = Script(["node", VITE, "--port", "15183"], cwd=app)
    try:
        script.wait_for(r"http://localhost:\d+/")
        yield script
    finally:
        script.dispose()


@pytest.fixture
def site(
    request: pytest.FixtureRequest, app: Path, vite: Script, serve: Callable[[QuickServer], Running]
) -> Running:
    """Our server in front of Vite, with the functions that the page asks for."""
    server = create_server(("127.0.0.1", 0))
    server.base_path = str(app)
    server.mirror_worker_js("src/worker.js")
    server.bind_proxy(
        "/", vite.wait_for(r"http://localhost:\d+/")[0], preserve_host=getattr(request, "param", False)
    )

    @server.json_get("/api/points", 0)
    def points(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        return PLANE

    @server.json_worker("/api/clusters")
    def clusters(args: dict[str, Any]) -> Any:
        division = {"centres": [[1.5, 1], [9, 9]], "members": [0, 0, 1]}
        return {**division, "spread": 0.5, "runs": args["runs"], "as_good": args["runs"]}

    return serve(server)


def replace(path: Path, old: str, new: str) -> None:
    """What an editor does when it saves."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("site", [False, True], ids=["own-host", "preserve_host"], indirect=True)
def test_a_change_shows_without_a_reload(
    site: Running, app: Path, page: Page, problems: list[str]
) -> None:
    """Code and style of a page that keeps its state, told over a WebSocket through our server."""
    sockets: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url))
    with page.expect_console_message(lambda message: "[vite] connected" in message.text):
        page.goto(site.url)
    page.get_by_role("img", name="3 points").wait_for()
    page.evaluate("window.marker = 'still here'")
    page.get_by_label("Runs").fill("7")

    replace(app / "src/App.jsx", "<h1>Clusters</h1>", "<h1>Clouds</h1>")
    page.get_by_role("heading", name="Clouds").wait_for()
    replace(app / "src/style.css", ":root {", "h1 { letter-spacing: 13px; } :root {")
    page.wait_for_function("getComputedStyle(document.querySelector('h1')).letterSpacing === '13px'")

    assert page.evaluate("window.marker") == "still here"
    assert page.get_by_label("Runs").input_value() == "7"
    assert [re.match(r"ws://[^/]+", socket)[0] for socket in sockets] == [  # type: ignore[index]
        site.url.replace("http:", "ws:")
    ]
    assert [problem for problem in problems if not is_of_strict_mode(problem)] == []


def test_functions_answer_beside_it(site: Running, page: Page, problems: list[str]) -> None:
    page.goto(site.url)
    page.get_by_role("img", name="3 points").wait_for()
    page.get_by_label("Runs").fill("4")
    page.get_by_role("button", name="Start").click()
    page.get_by_role("status").filter(has_text="all 4 runs found it.").wait_for()
    assert [problem for problem in problems if not is_of_strict_mode(problem)] == []


def is_of_strict_mode(problem: str) -> bool:
    """In development React runs effects twice, and so ends one of the two questions for the points."""
    return "/api/points: net::ERR_ABORTED" in problem


def test_a_mistake_shows_and_its_end(site: Running, app: Path, page: Page) -> None:
    """What Vite has to say about a file that is no JavaScript: its overlay, which goes again."""
    with page.expect_console_message(lambda message: "[vite] connected" in message.text):
        page.goto(site.url)
    page.get_by_role("img", name="3 points").wait_for()
    replace(app / "src/App.jsx", "<h1>Clusters</h1>", "<h1>Clusters<h1>")
    page.locator("vite-error-overlay").wait_for()
    replace(app / "src/App.jsx", "<h1>Clusters<h1>", "<h1>Groups</h1>")
    page.get_by_role("heading", name="Groups").wait_for()
    page.locator("vite-error-overlay").wait_for(state="detached")
