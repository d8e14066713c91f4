"""curl, the client that everybody has."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs, create_server
from tests.harness import PATIENCE, Running
from tests.integration.logs import Log

Req = QuickServerRequestHandler
Serve = Callable[[QuickServer], Running]

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

TEXT = "a line that comes again and again\n" * 1000
BIG = random.Random(4).randbytes(3_000_000)


@pytest.fixture
def run(serve: Serve, www: Path) -> Running:
    """Files at `/`, data at `/data`, and what was sent comes back from `/echo`."""
    (www / "text.txt").write_text(TEXT)
    (www / "text.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    (www / "big.bin").write_bytes(BIG)
    server = create_server(("127.0.0.1", 0))
    server.bind_path("/", str(www))

    @server.json_get("/data")
    def data(req: Req, args: ReqArgs) -> Any:
        return {"text": TEXT}

    @server.text_get("/stream")
    def stream(req: Req, args: ReqArgs) -> Any:
        return (f"{n}\n" for n in range(5000))

    @server.text_get("/open")
    def opened(req: Req, args: ReqArgs) -> Any:
        return open(www / "big.bin", "rb")

    @server.json_post("/echo")
    def echo(req: Req, args: ReqArgs) -> Any:
        files = {
            name: [file.filename, file.content_type, len(file.read())]
            for name, file in args["files"].items()
        }
        return {"post": args["post"], "files": files}

    return serve(server)


def curl(*arguments: str | Path, code: int = 0) -> bytes:
    """What curl prints; `code` is its exit code."""
    done = subprocess.run(
        ["curl", "-q", "-sS", "--noproxy", "*", "-m", str(PATIENCE), *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=2 * PATIENCE,
    )
    assert done.returncode == code, done.stderr.decode()
    return done.stdout


def test_compressed_data(run: Running) -> None:
    assert json.loads(curl("--compressed", run.url + "/data")) == {"text": TEXT}
    size = curl("--compressed", "-w", "%{size_download}", "-o", "/dev/null", run.url + "/data")
    assert 0 < int(size) < len(TEXT) / 10
    assert json.loads(curl(run.url + "/data")) == {"text": TEXT}


def test_compressed_files(run: Running) -> None:
    assert curl("--compressed", run.url + "/text.txt") == TEXT.encode()
    assert gzip.decompress(curl("-H", "Accept-Encoding: gzip", run.url + "/text.txt")) == TEXT.encode()
    assert curl(run.url + "/text.txt") == TEXT.encode()


@pytest.mark.parametrize("target", ["/big.bin", "/open"])
@pytest.mark.parametrize("size", [1, 1_000_000, len(BIG) - 1])
def test_resume(run: Running, tmp_path: Path, log: Log, target: str, size: int) -> None:
    part = tmp_path / "part"
    part.write_bytes(BIG[:size])
    got = curl("-C", "-", "-o", part, "-w", "%{http_code} %{size_download}", run.url + target)
    assert got.decode() == f"206 {len(BIG) - size}"
    assert part.read_bytes() == BIG
    log.wait_for(rf'"GET {target} HTTP/1.1" 206')


def test_resume_of_what_is_there(run: Running, tmp_path: Path) -> None:
    """There is nothing behind the end: curl takes the 416 for the news that it has everything."""
    whole = tmp_path / "whole"
    whole.write_bytes(BIG)
    got = curl("-C", "-", "-o", whole, "-w", "%{http_code}", run.url + "/big.bin")
    assert got == b"416"
    assert whole.read_bytes() == BIG


def test_resume_of_an_interrupted_download(run: Running, tmp_path: Path) -> None:
    part = tmp_path / "part"
    curl("--max-filesize", "1000", "-o", part, run.url + "/big.bin", code=63)
    curl("-C", "-", "-o", part, run.url + "/big.bin")
    assert part.read_bytes() == BIG


def test_parts(run: Running) -> None:
    assert curl("-r", "10-19", run.url + "/big.bin") == BIG[10:20]
    assert curl("-r", "-5", run.url + "/big.bin") == BIG[-5:]
    several = curl("-r", "0-9,100-109", run.url + "/big.bin")
    assert several.count(b"Content-Range: bytes ") == 2
    assert BIG[:10] in several
    assert BIG[100:110] in several


def test_a_form(run: Running, tmp_path: Path) -> None:
    (tmp_path / "a ü.bin").write_bytes(BIG)
    sent = ["-F", "note=hello ü", "-F", f"file=@{tmp_path / 'a ü.bin'};type=application/x-data"]
    assert json.loads(curl(*sent, run.url + "/echo")) == {
        "post": {"note": "hello ü"},
        "files": {"file": ["a ü.bin", "application/x-data", len(BIG)]},
    }


def test_other_bodies(run: Running) -> None:
    url = run.url + "/echo"
    form = curl("-d", "a=1", "--data-urlencode", "b=x y&z", url)
    assert json.loads(form)["post"] == {"a": "1", "b": "x y&z"}
    for more in ([], ["-H", "Transfer-Encoding: chunked"], ["-H", "Expect: 100-continue"]):
        found = curl("-H", "Content-Type: application/json", *more, "-d", '{"n": [1, 2]}', url)
        assert json.loads(found)["post"] == {"n": [1, 2]}


def test_asking_again(run: Running, tmp_path: Path) -> None:
    tag = tmp_path / "tag"
    url = run.url + "/text.txt"
    assert curl("--etag-save", tag, url) == TEXT.encode()
    assert curl("--etag-compare", tag, "-w", "%{http_code}", url) == b"304"
    kept = tmp_path / "kept"
    curl("-R", "-o", kept, url)
    assert curl("-z", kept, "-w", "%{http_code}", url) == b"304"


def test_heads(run: Running) -> None:
    head = curl("-I", run.url + "/big.bin").decode().lower()
    assert head.startswith("http/1.1 200 ")
    assert f"content-length: {len(BIG)}\r\n" in head
    assert "accept-ranges: bytes\r\n" in head


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_streams(run: Running, version: str) -> None:
    expected = "".join(f"{n}\n" for n in range(5000)).encode()
    assert curl(version, run.url + "/stream") == expected
    assert curl(version, "--compressed", run.url + "/stream") == expected


def test_one_connection_for_all(run: Running) -> None:
    urls = [
        run.url + path for path in ("/big.bin", "/data", "/stream", "/nothing", "/open", "/text.txt")
    ]
    outputs = [part for url in urls for part in ("-o", "/dev/null", url)]
    assert curl("-w", "%{num_connects} ", *outputs).split() == [b"1", b"0", b"0", b"0", b"0", b"0"]
