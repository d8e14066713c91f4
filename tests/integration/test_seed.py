"""The snippets for files and dynamic requests run as they are printed; only the port is another."""

from __future__ import annotations

import json
import re
import socket
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness import PATIENCE, Client
from tests.integration.scripts import Script
from tests.ports import vacant_port

TEXT = (Path(__file__).parent / "seed_files.rst.txt").read_text()
IMPORT, SETUP, SERVE, *HANDLERS = [
    textwrap.dedent(block) for block in re.findall(r"\.\. code:: python\n\n((?: {4}.*\n|\n)+)", TEXT)
]


@pytest.fixture
def seed(tmp_path: Path) -> Iterator[tuple[Script, Client]]:
    """The whole script in a process of its own, and a connection to it."""
    www = tmp_path / "www"
    (www / "sub").mkdir(parents=True)
    (www / "index.html").write_text("<h1>hello</h1>")
    (www / "sub" / "data.json").write_text("[1, 2]")
    (www / "script.py").write_text("secret = 1")
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "favicon.ico").write_bytes(b"icon")
    port = vacant_port()
    assert SETUP.count("port = 8080\n") == 1
    setup = SETUP.replace("port = 8080\n", f"port = {port}\n")
    parts = ["import sys\n", IMPORT, setup, *HANDLERS, SERVE]
    (tmp_path / "yourscript.py").write_text("\n".join(parts))
    script = Script.python("yourscript.py", "an argument", cwd=tmp_path)
    try:
        script.wait_for(rf"starting server at localhost:{port}\n")
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
            yield script, Client(sock)
    finally:
        script.dispose()


def test_the_snippets_are_all_there() -> None:
    assert "import create_server" in IMPORT
    assert "server = create_server" in SETUP
    assert "server.serve_forever()" in SERVE
    assert ["json_post" in HANDLERS[0], "text_get" in HANDLERS[1]] == [True, True]
    assert len(HANDLERS) == 2


def test_files(seed: tuple[Script, Client]) -> None:
    _, client = seed
    page = client.request("GET", "/")
    assert (page.status, page.body) == (200, b"<h1>hello</h1>")
    assert page.get("content-type") == "text/html; charset=utf-8"
    assert client.request("GET", "/sub/data.json").body == b"[1, 2]"
    assert client.request("GET", "/sub/").status == 404
    assert client.request("GET", "/script.py").status == 404
    assert client.request("GET", "/../secret.txt").status in (400, 404)
    assert client.request("GET", "/favicon.ico").body == b"icon"
    assert client.request("GET", "/sub/favicon.ico").body == b"icon"


def test_a_json_request(seed: tuple[Script, Client]) -> None:
    _, client = seed
    body = {"numbers": [1, 2.5, None], "text": "ü"}
    ctype = "application/json"
    answer = client.request("POST", "/json_request", json.dumps(body).encode(), Content_Type=ctype)
    assert (answer.status, json.loads(answer.body)) == (200, {"post": body})
    assert json.loads(client.request("POST", "/json_request").body) == {"post": {}}
    assert client.request("POST", "/json_request/more").status == 404
    assert client.request("GET", "/json_request").status == 405


def test_a_text_request(seed: tuple[Script, Client]) -> None:
    _, client = seed
    for target in ("/text_request", "/text_request/more/still?a=b"):
        answer = client.request("GET", target)
        assert (answer.status, answer.body) == (200, b"plain text")
        assert answer.get("content-type") == "text/plain; charset=utf-8"
    assert client.request("HEAD", "/text_request").get("content-length") == "10"


def test_what_it_prints(seed: tuple[Script, Client]) -> None:
    script, client = seed
    assert client.request("GET", "/text_request").status == 200
    assert client.request("GET", "/nothing").status == 404
    script.wait_for('"GET /nothing HTTP/1.1" 404')
    assert "/text_request" not in script.output  # successful requests are not reported
    assert (
        len(re.findall(r"yourscript\.py \(\d+\): .*yourscript\.py an argument\n", script.output)) == 1
    )
    script.interrupt()
    assert client.at_end()
    assert script.ended() == 0
    assert re.search(r"yourscript\.py \(\d+\): shutting down\.\.\n", script.output)
    assert script.output.count("yourscript.py an argument\n") == 2
    assert "Traceback" not in script.output
