"""A real browser: Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import quick_server
from tests.harness import PATIENCE
from tests.integration.logs import Log

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response

# What makes it ask for nothing but the pages of the tests; and, for containers, what it cannot have.
ARGUMENTS = [
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the tests of a module, begun and ended outside of what a single test may leave.

    Not for the whole session: while Playwright is on, this thread counts as one that runs an asyncio
    loop, and tests elsewhere could not run one of their own.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    arguments = [*ARGUMENTS, "--no-sandbox"] if os.geteuid() == 0 else ARGUMENTS
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser that knows nothing yet: no cookies, nothing cached."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE * 1000)
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """An empty page."""
    return context.new_page()


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


@pytest.fixture
def log() -> Iterator[Log]:
    """What the server logs during this test; it can be waited for."""
    out = Log()
    quick_server.set_log_file(out)
    yield out
    quick_server.set_log_file(None)
