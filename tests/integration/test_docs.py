"""The documentation runs: every `python` block of the README and of docs/*.md, as it is printed.

The blocks of a page of docs/ are one script, which makes its own server and closes it; it runs in a
folder that is empty but for the certificates that the page about HTTPS names. The README tells of one
thing after the other: each of its blocks gets a server of its own, unless it makes one. There, a block
that calls `serve_forever` runs in a thread until it has answered a request, the port is a free one, and
an ellipsis on a line stands for what the reader does.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from quick_server import QuickServer, create_server
from tests.certificates import Authority
from tests.harness import PATIENCE
from tests.integration.logs import Log
from tests.integration.scripts import ROOT, Script
from tests.integration.snippets import Block, python_blocks

README = ROOT / "README.md"
PAGES = sorted((ROOT / "docs").glob("*.md"))
TOPICS = (
    "cors",
    "files",
    "fuzzing",
    "handlers",
    "https",
    "proxy",
    "streaming",
    "testing",
    "tokens",
    "uploads",
    "workers",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which a script runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def names_of_a_script() -> Iterator[dict[str, Any]]:
    """The names of a script; the servers among them are closed in the end, if it has not done so."""
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        yield names
    finally:
        for value in list(names.values()):
            if isinstance(value, QuickServer):
                value.server_close()


@pytest.mark.parametrize("page", [p for p in PAGES if python_blocks(p)], ids=lambda page: page.stem)
def test_page_runs_as_printed(page: Path, folder: Path, log: Log, authority: Authority) -> None:
    if page.stem == "https":
        put_certificates(folder, authority)
    with names_of_a_script() as names:
        for block in python_blocks(page):
            block.run(names)


def put_certificates(folder: Path, authority: Authority) -> None:
    """The files that the page about HTTPS has from elsewhere."""
    for prefix in ("", "other-"):
        issued = authority.issue()
        (folder / f"{prefix}cert.pem").write_bytes(issued.certificate.read_bytes())
        (folder / f"{prefix}key.pem").write_bytes(issued.key.read_bytes())
    (folder / "authority.pem").write_bytes(authority.file.read_bytes())


def test_tests_on_the_page_about_testing_pass(folder: Path) -> None:
    [block] = [b for b in python_blocks(ROOT / "docs" / "testing.md") if "def test_" in b.text]
    (folder / "test_page.py").write_text(block.text)
    script = Script.python("-m", "pytest", "-p", "no:cacheprovider", "test_page.py", cwd=folder)
    try:
        script.wait_for(r"1 passed")
        assert script.ended() == 0
    finally:
        script.dispose()


def test_each_topic_has_a_page_that_runs() -> None:
    assert {page.stem for page in PAGES if python_blocks(page)} >= set(TOPICS)


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" not in link:
            place, _, anchor = link.partition("#")
            there = (page.parent / place) if place else page
            assert there.exists(), link
            assert not anchor or anchor in _anchors(there), link


def _anchors(page: Path) -> set[str]:
    """The names of a page's headings, the way that forges make them."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


# the README ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(python_blocks(README))))
def test_readme_block_runs(number: int, folder: Path, log: Log, authority: Authority) -> None:
    (folder / "www").mkdir()
    (folder / "www" / "index.html").write_text("<h1>hello</h1>")
    put_certificates(folder, authority)
    imports = "from quick_server import PreventDefaultResponse, Response, create_server, msg\n"
    block = python_blocks(README)[number]
    text = block.text.replace('("", 8080)', '("", 0)')
    text = re.sub(r"(?m)^( *)(?:…|\.\.\.)$", r"\1work(server)", text)
    block = Block(block.page, block.before, text)
    with names_of_a_script() as names:
        exec(imports, names)
        names["work"] = _ask
        if "create_server(" not in text:
            names["server"] = create_server(("", 0))
        if re.search(r"(?m)^ *server\.serve_forever\(\)", text):
            _run_until_it_has_answered(block, names, log)
        else:
            block.run(names)
        for mask, check in PROMISES.items():
            if mask in text:
                check(names["server"])


def _ask(server: QuickServer) -> None:
    """What a reader may do where the README has an ellipsis: a request to the server."""
    server.add_json_get_mask("/here", lambda req, args: True)
    host, port = server.server_address[:2]
    with urlopen(f"http://{host}:{port}/here", timeout=PATIENCE) as answer:
        assert json.load(answer) is True


def _run_until_it_has_answered(block: Block, names: dict[str, Any], log: Log) -> None:
    thread = threading.Thread(target=block.run, args=(names,))
    thread.start()
    try:
        url = log.wait_for(r"(http://\S+)/api/mean/1/2/4\.5\n")[1].replace("localhost", "127.0.0.1")
        with urlopen(f"{url}/api/mean/1/2/4.5", timeout=PATIENCE) as answer:
            assert json.load(answer) == {"mean": 2.5}
        with urlopen(f"{url}/", timeout=PATIENCE) as answer:
            assert answer.read() == b"<h1>hello</h1>"
    finally:
        if "server" in names:
            names["server"].done = True
        thread.join(PATIENCE)
    assert not thread.is_alive()


def _check_functions(server: QuickServer) -> None:
    client = server.test_client()
    answer = client.post("/user/ada/score", json={"points": 3})
    assert (answer.status, answer.json()) == (201, {"user": "ada", "points": 3})
    answer = client.post("/user/ada/score", headers={"Accept": "application/json"})
    assert (answer.status, answer.json()["message"]) == (400, "points are missing")
    answer = client.get("/greet?name=ada")
    assert (answer.text, answer.headers["X-Mood"]) == ("hello ada", "good")


def _check_files(server: QuickServer) -> None:
    client = server.test_client()
    assert client.get("/any/page").text == "<h1>hello</h1>"
    assert client.get("/any/page").headers["Cache-Control"] == "max-age=3600"
    assert client.get("/favicon.ico").headers["Content-Type"] == "image/x-icon"


def _check_workers(server: QuickServer) -> None:
    client = server.test_client()
    assert "quick-progress" in client.get("/js/worker.js").text
    answer = client.post("/primes", json={"action": "start", "payload": {"below": 20}, "wait": 10_000})
    assert json.loads(answer.json()["result"]) == [2, 3, 5, 7, 11, 13, 17, 19]


def _check_tokens(server: QuickServer) -> None:
    [token] = server.get_tokens()
    answer = server.test_client().post(f"/basket/{token}", json={"article": "tea", "count": 2})
    assert answer.json() == {"tea": 2} == server.get_token_obj(token)


PROMISES: dict[str, Callable[[QuickServer], None]] = {
    "/user/:name/score": _check_functions,
    "server.bind_path_fallback(": _check_files,
    "server.json_worker(": _check_workers,
    "server.create_token(": _check_tokens,
}
"""What the README says of a block, by something that the block contains."""
