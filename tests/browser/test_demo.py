"""The demo, as a visitor sees it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.integration.scripts import ROOT, Script

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Page, Response

MARKS = "#plot svg path.mark"


@pytest.fixture
def url() -> Iterator[str]:
    """Where the demo is, in a process of its own."""
    script = Script.python(str(ROOT / "examples/demo/serve.py"), "--port", "0", cwd=ROOT)
    try:
        yield script.wait_for(r"http://localhost:\d+/")[0]
    finally:
        script.dispose()


@pytest.fixture
def problems(page: Page) -> list[str]:
    """What goes wrong in the page: errors, warnings, and answers that are none."""
    found: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            found.append(message.text)

    def answered(response: Response) -> None:
        if response.status >= 400:
            found.append(f"{response.url}: {response.status}")

    page.on("console", said)
    page.on("response", answered)
    page.on("pageerror", lambda error: found.append(str(error)))
    page.on("requestfailed", lambda request: found.append(f"{request.url}: {request.failure}"))
    return found


def wait_for_marks(page: Page, number: int) -> None:
    page.wait_for_function(f"document.querySelectorAll('{MARKS}').length === {number}")


def test_the_demo_draws_all_flowers(page: Page, url: str, problems: list[str]) -> None:
    page.goto(url)
    wait_for_marks(page, 150)
    assert page.title() == "Iris explorer"
    places = page.evaluate(f"""() => Array.from(document.querySelectorAll('{MARKS}'), (mark) => {{
        const {{ x, y, width, height }} = mark.getBoundingClientRect();
        return [x + width / 2, y + height / 2, width];
    }})""")
    figure = page.locator("#plot svg").bounding_box()
    assert figure is not None
    for x, y, width in places:
        assert figure["x"] < x < figure["x"] + figure["width"]
        assert figure["y"] < y < figure["y"] + figure["height"]
        assert width > 0
    assert len({(x, y) for x, y, _ in places}) > 75  # many flowers measure the same, most do not
    assert page.locator("#problem").is_hidden()
    assert problems == []


def test_the_demo_asks_the_server(page: Page, url: str, problems: list[str]) -> None:
    page.goto(url)
    wait_for_marks(page, 150)
    with page.expect_response("**/api/iris?*") as answer:
        page.locator("#species input").first.uncheck()
    assert answer.value.json()["count"] == 100
    wait_for_marks(page, 100)
    page.goto(url + "?species=setosa")
    wait_for_marks(page, 50)
    page.go_back()
    wait_for_marks(page, 100)
    assert problems == []
