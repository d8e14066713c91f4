"""`fuzz_server` finds what was planted, and its commands show it; a clean server is left in peace."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs, create_server
from quick_server.testing import Finding, FuzzFailure, Kind, Request, fuzz_server
from tests.harness import PATIENCE, Running
from tests.harness import running as starting
from tests.integration.planted import Planted, clean_server, waiting_server

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")

SHORTEST = 120  # characters of a command, without its URL


@contextmanager
def running(server: QuickServer) -> Iterator[Running]:
    """A server that has begun to run."""
    with starting(server) as run_:
        server.wait_until_running()
        yield run_


def run(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=PATIENCE, errors="replace"
    )


def findings_of(server: QuickServer, **options: object) -> tuple[Finding, ...]:
    with pytest.raises(FuzzFailure) as caught:
        fuzz_server(server, **options)  # type: ignore[arg-type] # as the tests name them
    assert str(caught.value).startswith(f"{len(caught.value.findings)} finding")
    return caught.value.findings


@pytest.fixture(scope="module")
def planted() -> Iterator[Planted]:
    """The server with the faults; it runs as long as the tests of this file."""
    server = Planted()
    with running(server.server):
        yield server


@pytest.fixture(scope="module")
def found(planted: Planted) -> dict[str, list[Finding]]:
    """What was found in it, by route."""
    by_route: dict[str, list[Finding]] = {}
    for finding in findings_of(planted.server, examples=20, slow=5.0):
        by_route.setdefault(finding.route, []).append(finding)
    planted.release()
    return by_route


@pytest.fixture
def url(planted: Planted) -> Iterator[str]:
    host, port = planted.server.server_address[:2]
    yield f"http://{host}:{port}"
    planted.release()


FAILING = [
    ("GET /value", "RuntimeError: nobody has written that", "?mode=legacy"),
    ("GET /hello/:name", "UnicodeEncodeError", "/hello/"),
    ("POST /score", "KeyError: 'points'", "/score"),
    ("GET /header", "ValueError: ", "?name="),
    ("GET /both", "ZeroDivisionError", "/both?low=1&high=1"),
    ("POST /work", "ZeroDivisionError", '"by": 0'),
]


@needs_curl
@pytest.mark.parametrize(("route", "detail", "part"), FAILING)
def test_an_exception(
    found: dict[str, list[Finding]], url: str, route: str, detail: str, part: str
) -> None:
    [finding] = [finding for finding in found[route] if finding.detail.startswith(detail)]
    assert finding.kind is Kind.ERROR
    assert finding.repeatable
    assert finding.trace is not None
    assert finding.trace.place.startswith("planted.py:")
    assert "quick_server/handlers.py" not in finding.trace.text
    command = finding.command(url)
    assert part in command
    assert len(command) < SHORTEST + len(url)
    assert "HTTP/1.1 500 Internal Server Error" in run(command).stdout


@needs_curl
@pytest.mark.parametrize(
    ("route", "kind", "part", "exit_codes"),
    [
        (
            "GET /stream",
            Kind.CUT_OFF,
            "/stream?rows=2",
            (18, 56),
        ),  # a partial file, or a reset behind it
        ("GET /nothing", Kind.DROPPED, "/nothing?quiet", (52,)),  # an empty reply
    ],
)
def test_no_whole_answer(
    found: dict[str, list[Finding]],
    url: str,
    route: str,
    kind: Kind,
    part: str,
    exit_codes: tuple[int, ...],
) -> None:
    [finding] = found[route]
    assert finding.kind is kind
    assert (finding.trace is not None) == (kind is Kind.CUT_OFF)
    command = finding.command(url)
    assert part in command
    assert len(command) < SHORTEST + len(url)
    assert run(command).returncode in exit_codes


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def temporary_files() -> int:
    return len(os.listdir(tempfile.gettempdir()))


@needs_curl
@pytest.mark.parametrize(
    ("route", "kind", "count"),
    [
        ("GET /leak/thread", Kind.THREADS, threading.active_count),
        ("POST /leak/descriptor", Kind.DESCRIPTORS, descriptors),
        ("GET /leak/file", Kind.TEMPORARY_FILES, temporary_files),
    ],
)
def test_a_leak(
    found: dict[str, list[Finding]],
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    route: str,
    kind: Kind,
    count: Callable[[], int],
) -> None:
    [finding] = found[route]
    assert finding.kind is kind
    command = finding.command(url)
    assert len(command) < SHORTEST + len(url)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = count()
    assert run(command).returncode == 0
    assert count() >= before + 10


@needs_curl
def test_leaked_memory(found: dict[str, list[Finding]], planted: Planted, url: str) -> None:
    [finding] = found["GET /leak/memory"]
    assert finding.kind is Kind.MEMORY
    assert finding.detail.startswith(("97 KiB for each request, from planted.py:", "98 KiB"))
    assert run(finding.command(url)).returncode == 0
    assert sum(map(len, planted.kept)) >= 10 * 100_000


def test_nothing_else_is_found(found: dict[str, list[Finding]]) -> None:
    others = set(found) - {route for route, _, _ in FAILING}
    assert others == {
        "GET /stream",
        "GET /nothing",
        "GET /leak/thread",
        "POST /leak/descriptor",
        "GET /leak/file",
        "GET /leak/memory",
    }


@needs_curl
def test_waiting() -> None:
    over = threading.Event()
    server = waiting_server(over)
    try:
        with running(server) as run_:
            hung, slow = findings_of(server, examples=10, slow=0.3, hang=1.0, leaks=False, wire=False)
            assert (hung.kind, slow.kind) == (Kind.HANG, Kind.SLOW)
            command = hung.command(run_.url)
            assert command == f"curl -i -m 1 '{run_.url}/hang?wait=yes'"
            assert run(command).returncode == 28  # the time is up
            command = slow.command(run_.url)
            assert command.endswith(f"'{run_.url}/slow?all'")
            assert float(run(command).stdout.splitlines()[-1].removesuffix(" s")) > 0.5
            over.set()
    finally:
        over.set()


def test_a_clean_server(www: Path) -> None:
    (www / "page.html").write_text("<p>here</p>")
    report = fuzz_server(clean_server(str(www)), examples=25, slow=5.0)
    assert report.findings == ()
    assert str(report).startswith("nothing found: ")
    assert set(report.routes) == {
        "GET /echo/:name",
        "PUT /echo",
        "GET /rows",
        "GET /events",
        "GET /deliberate",
        "POST /work",
        "GET /files/",
        "* (anywhere)",
        "* (broken bytes)",
    }
    assert report.requests > len(report.routes) * 25


def noting_server(noted: list[str]) -> QuickServer:
    server = create_server(("", 0))

    def note(req: QuickServerRequestHandler, args: ReqArgs) -> int:
        noted.append(f"{req.command} {req.path}")
        return 1

    server.add_json_get_mask("/a", note)
    server.add_json_get_mask("/b", note)
    server.add_json_delete_mask("/b", note)
    return server


def test_a_seed_tells_what_is_asked() -> None:
    runs: list[list[str]] = [[], [], []]
    for noted, seed in zip(runs, (1, 1, 2), strict=True):
        fuzz_server(noting_server(noted), examples=15, seed=seed, leaks=False)
    assert runs[0] == runs[1] != runs[2]


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"only": ["/a"]}, {"GET /a"}),
        ({"skip": ["DELETE *"]}, {"GET /a", "GET /b"}),
        ({"only": ["/*"], "skip": ["/a", "GET /b"]}, {"DELETE /b"}),
    ],
)
def test_what_is_left_out_is_never_asked(options: dict[str, list[str]], asked: set[str]) -> None:
    noted: list[str] = []
    report = fuzz_server(noting_server(noted), examples=20, leaks=False, **options)  # type: ignore[arg-type] # patterns
    assert set(report.routes) == asked
    methods = {"HEAD": "GET"}
    called = {
        f"{methods.get(line.split()[0], line.split()[0])} {line.split()[1][:2]}" for line in noted
    }
    assert called == asked


def test_an_upstream_is_never_asked() -> None:
    noted: list[str] = []
    upstream, server = noting_server(noted), create_server(("", 0))
    server.add_json_get_mask("/here", lambda req, args: 1)
    with running(upstream) as run_:
        server.bind_proxy("/", run_.url)
        fuzz_server(server, examples=20, leaks=False)
    assert noted == []


def test_a_handler_that_blocks_all_others() -> None:
    over = threading.Event()
    server = create_server(("", 0), parallel=False)
    server.add_json_get_mask("/a", lambda req, args: over.wait())
    server.add_json_get_mask("/b", lambda req, args: 1)
    with running(server):
        with pytest.raises(FuzzFailure) as caught:
            fuzz_server(server, examples=5, hang=0.5, slow=0.4)
        over.set()
    [finding] = caught.value.findings
    assert (finding.kind, finding.sent) == (Kind.HANG, Request("GET", "/a"))
    assert "GET /b" in caught.value.report.unasked
    assert "no time for: GET /b" in str(caught.value)


def test_what_happens_only_once() -> None:
    server = create_server(("", 0))
    calls: list[int] = []

    @server.json_get("/once", 0)
    def once(req: QuickServerRequestHandler, args: ReqArgs) -> float:
        calls.append(1)
        return 1 / (len(calls) - 3)

    [finding] = findings_of(server, examples=5, leaks=False)
    assert not finding.repeatable
    assert "It did not happen again" in finding.text("http://localhost")


def test_over_tls() -> None:
    pytest.importorskip("cryptography")
    server = create_server(("", 0))
    server.use_tls_self_signed()
    server.add_json_get_mask("/length", lambda req, args: len(str(args["query"]["of"])))
    with running(server):
        findings = findings_of(server, examples=10, only=["/length"], leaks=False)
        host, port = server.server_address[:2]
        command = findings[0].command(f"https://{host}:{port}")
        assert command == f"curl -i -k https://{host}:{port}/length"
        if shutil.which("curl") is not None:
            assert "HTTP/1.1 500" in run(command).stdout


def test_silence_over_tls() -> None:
    """A request that is not whole is waited for: clients cannot say there that they are done."""
    pytest.importorskip("cryptography")
    server = create_server(("", 0))
    server.use_tls_self_signed()
    server.add_json_get_mask("/one", lambda _req, _args: 1)
    assert fuzz_server(server, examples=10, hang=0.5, leaks=False).findings == ()


def test_an_upload_whose_name_is_taken_for_a_path(tmp_path: Path) -> None:
    server = create_server(("", 0))

    @server.json_post("/upload", 0)
    def upload(_req: QuickServerRequestHandler, args: ReqArgs) -> int:
        for file in args["files"].values():
            (tmp_path / "inbox").mkdir(exist_ok=True)
            Path(f"{tmp_path}/inbox/{file.filename}").write_bytes(file.read())
        return len(args["files"])

    findings = findings_of(server, examples=1, wire=False, leaks=False)
    assert {finding.detail.partition(":")[0] for finding in findings} >= {"FileNotFoundError"}
    assert [path.name for path in tmp_path.iterdir()] == ["inbox"]


def test_a_server_with_nothing_to_ask_for() -> None:
    server = create_server(("", 0))
    with pytest.raises(ValueError, match="nothing to ask for"):
        fuzz_server(server)
    server.server_close()
