"""Ways in which somebody once got in, or got stuck: refusals, odd exceptions, processes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from quick_cache import QuickCache  # type: ignore[import-untyped]

import quick_server
from quick_server import QuickServer, create_server
from tests.harness import Answer
from tests.integration.scripts import Script


@pytest.fixture
def server() -> Iterator[QuickServer]:
    found = create_server(("127.0.0.1", 0))
    yield found
    found.server_close()


class UnspeakableError(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        raise ValueError("no")


@pytest.mark.parametrize("result", [{"secret": 1}, "secret", ["secret"], b"secret", 7])
def test_send_error_counts_whatever_is_returned(server: QuickServer, result: Any) -> None:
    def refuse(req: Any, _args: Any) -> Any:
        req.send_error(403, "no")
        return result

    server.json_get("/json")(refuse)
    server.text_get("/text")(refuse)
    client = server.test_client()
    for path in ("/json", "/text"):
        answer = client.get(path)
        assert answer.status == 403
        assert b"secret" not in answer.body


def test_an_error_that_middleware_sends_counts(server: QuickServer) -> None:
    def refuse(req: Any, _args: Any, okay: Any) -> Any:
        req.send_error(401)
        return okay

    with server.middlewares(refuse):
        server.json_get("/json")(lambda _req, _args: {"secret": 1})
        server.json_worker("/work")(lambda _post: {"secret": 1})
    client = server.test_client()
    assert client.get("/json").status == 401
    assert client.post("/work", json={"action": "start"}).status == 401


def test_exceptions_that_cannot_be_shown(server: QuickServer) -> None:
    def fail(which: str) -> None:
        if which == "syntax":
            raise SyntaxError("m", ("f", 1, 1, 5))  # type: ignore[arg-type]
        raise UnspeakableError

    server.threads = 2
    server.json_get("/fail")(lambda _req, args: fail(args["query"].get("which", "")))
    server.json_worker("/work")(lambda post: fail(post["which"]))
    server.max_workers = 1
    client = server.test_client()
    for _ in range(4):  # more than there are threads, or places for jobs
        for which in ("syntax", "other"):
            assert client.get(f"/fail?which={which}").status == 500
            started = {"action": "start", "payload": {"which": which}, "wait": 20_000}
            assert client.post("/work", json=started).status == 500


def test_a_refusal_that_cannot_be_shown(server: QuickServer) -> None:
    def refuse(_post: dict[str, Any]) -> None:
        raise quick_server.PreventDefaultResponse(418, UnspeakableError())  # type: ignore[arg-type]

    server.json_worker("/work")(refuse)
    started = {"action": "start", "wait": 20_000}
    assert server.test_client().post("/work", json=started).status == 418


def test_a_cached_answer_has_all_of_the_first(server: QuickServer, tmp_path: Path) -> None:
    server.cache = QuickCache(base_string="test", temp=str(tmp_path), quota=10)

    @server.text_get("/page", cache_id=lambda _args: {"page": 1})
    def page(req: Any, _args: Any) -> str:
        req.send_header("Content-Type", "text/html")
        req.send_header("Cache-Control", "no-store")
        return "<p>"

    client = server.test_client()
    for _ in range(2):
        answer = client.get("/page")
        assert answer.headers["content-type"] == "text/html"
        assert answer.headers["cache-control"] == "no-store"


def test_a_process_that_leaves_another_behind(server: QuickServer) -> None:
    def leave(_post: dict[str, Any]) -> int:
        pid = os.fork()
        while not pid:
            signal.pause()
        return pid

    server.json_worker("/work", executor="process")(leave)
    started = {"action": "start", "wait": 20_000}
    answer = server.test_client().post("/work", json=started).json()
    os.kill(int(answer["result"]), signal.SIGKILL)  # it is there, with the pair's end still open


def test_processes_that_fail_while_everybody_writes_to_the_log(
    server: QuickServer, tmp_path: Path
) -> None:
    def fail(_post: dict[str, Any]) -> None:
        raise ValueError("x" * 1000)

    server.json_worker("/work", executor="process")(fail)
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            quick_server.msg("y" * 5000)

    writers = [threading.Thread(target=write) for _ in range(2)]
    with (tmp_path / "log").open("w") as log:
        quick_server.set_log_file(log)
        for writer in writers:
            writer.start()
        try:
            client = server.test_client()
            started = {"action": "start", "wait": 20_000}
            statuses = [client.post("/work", json=started).status for _ in range(5)]
        finally:
            over.set()
            for writer in writers:
                writer.join()
            quick_server.set_log_file(None)
    assert statuses == [500] * 5
    assert (tmp_path / "log").read_text().count("\n  ValueError: ") == 5


FULL_DISK = """
resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))

@server.json_post("/upload", 0)
def upload(req, args):
    return args["files"]["f"].size
"""


def test_an_upload_for_which_there_is_no_room(start: Callable[..., Script]) -> None:
    script = start(FULL_DISK)
    part = b'--x\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n%b\r\n--x--\r\n'

    def upload(size: int) -> Answer:
        kind = "multipart/form-data; boundary=x"
        return script.connect().request("POST", "/upload", part % (b"y" * size), Content_Type=kind)

    answer = upload(3_000_000)
    assert (answer.status, answer.get("retry-after")) == (503, "1")
    assert upload(1_200_000).body == b"1200000"
    script.wait_for("an upload could not be stored: File too large")
    assert "Traceback" not in script.output
