"""A page over HTTPS: a secure context, with everything that a page over HTTP has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from quick_server import (
    EventChannel,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    Response,
    create_server,
    track,
)
from tests.certificates import Issued
from tests.harness import PATIENCE, Running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

Req = QuickServerRequestHandler

PAGE = """\
<!doctype html><html lang="en"><title>a page</title><link rel="icon" href="data:,">
<script src="/js/worker.js"></script><img src="/image.svg" alt="" id="image"></html>
"""
IMAGE = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30"></svg>'


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser whose user has said yes to a certificate that nobody vouches for."""
    context = browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(PATIENCE * 1000)
    yield context
    context.close()


def test_a_page(
    context: BrowserContext, serve: Callable[[QuickServer], Running], www: Path, issued: Issued
) -> None:
    server = create_server(("", 0))
    server.use_tls(issued.both)
    server.link_worker_js("/js/worker.js")
    server.bind_path("/", str(www))
    (www / "image.svg").write_text(IMAGE)

    @server.text_get("/", 0)
    def index(req: Req, args: ReqArgs) -> Response:
        return Response(PAGE, ctype="text/html; charset=utf-8")

    @server.json_post("/echo", 0)
    def echo(req: Req, args: ReqArgs) -> object:
        return {"size": len(args["post"]["text"]), "from": req.get_original_host()}

    @server.event_stream("/events", 0)
    def events(req: Req, args: ReqArgs, channel: EventChannel) -> None:
        for number in range(5):
            channel.send(number)
        channel.close()

    @server.json_worker("/sum")
    def add(post: dict[str, int]) -> int:
        return sum(track(range(post["below"])))

    url = f"https://localhost:{serve(server).address[1]}"
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text))
    answer = page.goto(url)
    assert answer is not None
    details = answer.security_details()
    assert details is not None
    assert details["protocol"] == "TLS 1.3"
    assert page.evaluate("window.isSecureContext")
    assert page.evaluate("document.getElementById('image').naturalWidth") == 40
    assert page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol") == "http/1.1"
    echoed = page.evaluate("""async () => {
        const body = JSON.stringify({ text: "x".repeat(1000000) });
        const headers = { "Content-Type": "application/json" };
        return (await fetch("/echo", { method: "POST", headers, body })).json();
    }""")
    assert echoed == {"size": 1_000_000, "from": ["https", url.removeprefix("https://")]}
    counted = page.evaluate("""() => new Promise((resolve) => {
        const events = new EventSource("/events"), found = [];
        events.onmessage = (event) => {
            found.push(JSON.parse(event.data));
            if (found.length === 5) { events.close(); resolve(found); }
        };
    })""")
    assert counted == [0, 1, 2, 3, 4]
    added = page.evaluate("""
        new quick_server.Worker().run("a sum", "/sum", { below: 1000 })
    """)
    assert added == 499_500
    assert problems == []
