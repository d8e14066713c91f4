"""The demo, as a visitor sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.scripts import ROOT, Script

if TYPE_CHECKING:
    from playwright.sync_api import Page, Response

MARKS = "#plot svg path.mark"
MEANS = {"setosa": 1.462, "versicolor": 4.26, "virginica": 5.552}
"""Of the petal lengths; as in any book."""


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the demo is, in a process of its own, which is killed, and leaves its cache behind."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    script = Script.python(str(ROOT / "examples/demo/serve.py"), "--port", "0", cwd=ROOT)
    try:
        yield script.wait_for(r"http://localhost:\d+/")[0]
    finally:
        script.dispose()


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


# ---- the estimate, which takes a while --------------------------------------------------------


def ask_for_means(page: Page, draws: int) -> None:
    page.select_option("#certainty select[name=draws]", str(draws))
    page.get_by_role("button", name="Estimate").click()


def test_the_estimate_moves_and_arrives(page: Page, url: str, problems: list[str]) -> None:
    page.goto(url)
    wait_for_marks(page, 150)
    page.evaluate("""() => {
        window.seen = [];
        const bar = document.querySelector("quick-progress").shadowRoot.querySelector("progress");
        const note = () => { if (bar.hasAttribute("value")) window.seen.push(bar.value); };
        new MutationObserver(note).observe(bar, { attributes: true });
    }""")
    page.select_option("#certainty select[name=column]", "petal_length")
    ask_for_means(page, 100_000)
    page.wait_for_selector("quick-progress[running]")
    page.wait_for_selector("#certainty table", timeout=40_000)  # two seconds, where nothing else runs
    page.wait_for_selector("quick-progress", state="hidden")
    seen = page.evaluate("seen")
    assert len(set(seen)) > 1
    assert seen == sorted(seen)
    assert all(0 <= share <= 1 for share in seen)
    rows = page.locator("#certainty tbody tr")
    assert [row.locator("th").inner_text() for row in rows.all()] == list(MEANS)
    for row, mean in zip(rows.all(), MEANS.values(), strict=True):
        _, shown, interval = row.locator("td").all_inner_texts()[:3]
        low, high = (float(end) for end in re.findall(r"[\d.]+", interval))
        assert float(shown) == mean
        assert low < mean < high < low + 0.5
        assert row.locator("svg.draws rect.within").count() > 10
    assert "100,000 draws: computed in" in page.locator("#certainty [role=status]").inner_text()
    assert problems == []


def test_the_same_estimate_is_known_the_second_time(page: Page, url: str, problems: list[str]) -> None:
    page.goto(url)
    wait_for_marks(page, 150)
    ask_for_means(page, 10_000)
    page.wait_for_selector("#certainty table")
    shown, took = page.locator("#certainty tbody").inner_text(), time_taken(page)
    page.goto(url + "?min_petal_length=0.5&x=sepal_width")  # which leaves no flower out
    wait_for_marks(page, 150)
    assert page.locator("#certainty table").is_hidden()
    ask_for_means(page, 10_000)
    page.wait_for_selector("#certainty table")
    assert page.locator("#certainty tbody").inner_text() == shown
    assert time_taken(page) == took  # the time is part of the result
    assert problems == []


def test_the_estimate_can_be_cancelled(page: Page, url: str) -> None:
    page.goto(url)
    wait_for_marks(page, 150)
    ask_for_means(page, 1_000_000)  # some twenty seconds
    page.wait_for_selector("quick-progress[running]")
    with page.expect_response(lambda response: asks_to(response, "stop")) as answer:
        page.locator("quick-progress").get_by_role("button", name="Cancel").click()
    assert answer.value.json()["result"] is None
    assert answer.value.json()["done"] is True
    page.get_by_text("Cancelled.").wait_for()
    page.wait_for_selector("quick-progress", state="hidden")
    assert page.locator("#certainty table").is_hidden()
    ask_for_means(page, 10_000)  # the next one is not in its way
    page.wait_for_selector("#certainty table")


def test_another_choice_of_flowers_ends_the_estimate(page: Page, url: str) -> None:
    page.goto(url)
    wait_for_marks(page, 150)
    ask_for_means(page, 1_000_000)
    page.wait_for_selector("quick-progress[running]")
    with page.expect_response(lambda response: asks_to(response, "stop")):
        page.locator("#species input").first.uncheck()
    page.wait_for_selector("quick-progress", state="hidden")
    wait_for_marks(page, 100)
    ask_for_means(page, 10_000)
    page.wait_for_selector("#certainty table")
    assert page.locator("#certainty tbody tr").count() == 2


def time_taken(page: Page) -> str:
    found = re.search(
        r"computed in ([\d.]+ m?s)", page.locator("#certainty [role=status]").inner_text()
    )
    assert found
    return found[1]


def asks_to(response: Response, action: str) -> bool:
    request = response.request
    return request.method == "POST" and json.loads(request.post_data or "")["action"] == action
