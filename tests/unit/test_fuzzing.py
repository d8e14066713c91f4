"""The parts of the fuzzer that need no server: words, strategies, commands, tracebacks."""

from __future__ import annotations

import functools
import json
import shutil
import socket
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quick_server import create_server
from quick_server.testing import Finding, Kind, Request, curl, requests, wire_bytes
from quick_server.testing.corpus import corpus, plain
from quick_server.testing.findings import Findings
from quick_server.testing.journal import Journal, read_trace
from quick_server.testing.request import size_of
from quick_server.testing.search import Search
from quick_server.testing.surface import Route, parse_route, routes_of
from quick_server.testing.words import words_of
from tests.harness import PATIENCE
from tests.protocol.reading import whole

URL = "http://localhost:8000"


# words ------------------------------------------------------------------------------------------------

COLUMNS = ("width", "height")


class Selection:
    @classmethod
    def read(cls, query: dict[str, Any]) -> Any:
        return query.get("species")


def lookup(query: dict[str, Any]) -> Any:
    """Some text that is no word."""
    return [query[name] for name in COLUMNS if name != "depth"]


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def call(*args: Any) -> Any:
        return function(*args)

    return call


@decorated
def handler(req: Any, args: Any) -> Any:
    return lookup(args), Selection.read(args), lambda: args["inner"]


def test_words_are_found_where_a_handler_may_meet_them() -> None:
    words = words_of(handler)
    assert {"inner", "depth", "width", "height", "species"} <= set(words)
    assert not any(" " in word for word in words)


def test_words_of_what_has_no_code() -> None:
    assert words_of(len, functools.partial(lookup, {})) == words_of(lookup)
    assert words_of(str.upper) == ()


def test_words_of_values_that_a_handler_has() -> None:
    limit, share, names, later = 41, 2.5, {"first": 1, "second": (1,)}, None
    shown = undefined = True

    def with_all(_req: Any, _args: Any) -> Any:
        return limit, share, names, shown, undefined, later  # noqa: F821 (it is deleted below)

    def with_it() -> Any:
        return with_all

    del undefined  # as if it had no value yet
    words = set(words_of(with_all, with_all))
    assert {"40", "41", "42", "2.5", "first", "second"} <= words
    assert "True" not in words
    assert set(words_of(with_it)) >= words


def test_words_are_not_without_end() -> None:
    names = [f"name_{number}" for number in range(5000)]
    scope: dict[str, Any] = {}
    source = "\n".join(f"def f{n}(): return '{name}'" for n, name in enumerate(names))
    exec(compile(source, __file__, "exec"), scope)
    found = words_of(*(scope[f"f{n}"] for n in range(len(names))))
    assert len(found) < 5000
    assert found[0] == "name_0"


# what is asked ----------------------------------------------------------------------------------------


def test_routes_of_a_server(tmp_path: Path) -> None:
    (tmp_path / "page.html").touch()
    server = create_server(("", 0))
    server.bind_path("/files/", str(tmp_path))
    server.add_json_get_mask("/a/:b", lambda req, args: args["query"]["limit"])
    server.add_text_delete_mask("/a/:b", lambda req, args: "")
    names = [route.name for route in routes_of(server)]
    assert names == ["DELETE /a/:b", "GET /a/:b", "GET /files/"]
    assert [route.name for route in routes_of(server, only=["/a*"], skip=["DELETE *"])] == ["GET /a/:b"]
    by_name = {route.name: route for route in routes_of(server)}
    assert "limit" in by_name["GET /a/:b"].words
    assert by_name["GET /files/"].words == ("page.html",)
    server.server_close()


def test_a_mask_as_text() -> None:
    assert parse_route("delete /a") == Route("DELETE", "/a")
    assert parse_route("/a/:b") == Route("GET", "/a/:b")
    with pytest.raises(ValueError, match="starts with a slash"):
        parse_route("GET a")


@settings(max_examples=150, deadline=None)
@given(requests("GET /a/:b", "POST /c"))
def test_requests_are_well_formed(request: Request) -> None:
    events = whole(request.to_bytes())
    assert not [event for event in events if event[0] == "error" and event[1] not in (400, 414)]
    assert request.target.startswith(("/a/", "/c"))
    assert request.method in (("GET", "HEAD") if request.target.startswith("/a/") else ("POST",))


@settings(max_examples=100, deadline=None)
@given(wire_bytes(requests("GET /a")))
def test_wire_bytes_are_bytes(data: bytes) -> None:
    whole(data)


def test_requests_to_nothing() -> None:
    with pytest.raises(ValueError, match="nothing to ask for"):
        requests()


def test_the_corpus_begins_with_the_plainest() -> None:
    route = Route("POST", "/a/:b", 1, "json", ("limit", "csv"))
    tried = list(corpus(route))
    assert tried[0] == plain(route) == Request("POST", "/a/a/a")
    assert len(tried) == len(set(tried))
    targets = {request.target for request in tried}
    assert {"/a/a/a?limit=csv", "/a/csv/a", "/a/a/limit"} <= targets
    assert b'{"limit": "csv"}' in {request.body for request in tried}


# commands ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "command"),
    [
        (Request(), f"curl -i {URL}/"),
        (Request("HEAD", "/a"), f"curl -I {URL}/a"),
        (Request("DELETE", "/a"), f"curl -i -X DELETE {URL}/a"),
        (Request("GET", "/a/../b?c=1"), f"curl -i --path-as-is '{URL}/a/../b?c=1'"),
        (Request("GET", "/a?b[]={}"), f"curl -i --globoff '{URL}/a?b[]={{}}'"),
        (Request("POST", "/", (), b""), f"curl -i -H Content-Type: -d '' {URL}/"),
        (Request("POST", "/", (), b"@a"), f"curl -i -H Content-Type: --data-raw @a {URL}/"),
        (
            Request("GET", "/", (("A", ""), ("B", None), ("C", "d e"))),
            f"curl -i -H 'A;' -H B: -H 'C: d e' {URL}/",
        ),
        (
            Request("PUT", "/", (("Content-Type", "d"),), b"\x00'%\\\r\n"),
            rf"printf '\000\047%%\\\r\n' | curl -i -X PUT -H 'Content-Type: d' --data-binary @- {URL}/",
        ),
        (Request("GET", "/", (("A", "\xff"),)), rf"""curl -i -H "$(printf 'A: \377')" {URL}/"""),
    ],
)  # fmt: skip
def test_commands(request_: Request, command: str) -> None:
    assert curl(request_, URL) == command


def received_from(command: str, address: tuple[str, int], path: str) -> bytes:
    """What a command for a shell sends to a server that closes after the first bytes."""
    received: list[bytes] = []

    def serve() -> None:
        with listener.accept()[0] as sock:
            sock.settimeout(PATIENCE)
            data = sock.recv(65536)
            length = data.partition(b"Content-Length: ")[2].partition(b"\r")[0]
            while length and len(data.partition(b"\r\n\r\n")[2]) < int(length):
                data += sock.recv(65536)
            received.append(data)
            sock.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    with socket.create_server(address) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        command = command.replace(URL, f"http://127.0.0.1:{listener.getsockname()[1]}")
        command = command.replace("localhost 8000", f"127.0.0.1 {listener.getsockname()[1]}")
        environment = {"PATH": path}
        subprocess.run(["sh", "-c", command], env=environment, timeout=PATIENCE, capture_output=True)
        thread.join(PATIENCE)
    return received[0]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@settings(max_examples=40, deadline=None, derandomize=True)
@given(request=requests("GET /a/:b", "POST /c"))
def test_curl_sends_what_was_sent(request: Request) -> None:
    if request.method == "HEAD" and request.body is not None:
        return
    sent, dropped = (
        request.to_bytes(),
        (b"Host:", b"Connection:", b"User-Agent: quick", b"Content-Length:"),
    )
    if len(sent) > 60_000:
        return
    path = str(Path(shutil.which("curl") or "").parent)
    head, _, body = received_from(curl(request, URL), ("127.0.0.1", 0), path).partition(b"\r\n\r\n")
    expected_head, _, expected_body = sent.partition(b"\r\n\r\n")
    expected = [line for line in expected_head.split(b"\r\n") if not line.startswith(dropped)]
    got = [
        line
        for line in head.split(b"\r\n")
        if not line.startswith((b"Host:", b"User-Agent: curl", b"Content-Length:", b"Expect:"))
    ]
    assert got[0] == expected[0]
    assert sorted(map(bytes.rstrip, got)) == sorted(map(bytes.rstrip, expected))
    assert body == expected_body


NC = """\
#!/bin/sh
exec python3 -c '
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
    sock.sendall(sys.stdin.buffer.read())
    sock.recv(1)
' "$@"
"""


@settings(max_examples=5, deadline=None, derandomize=True)
@given(data=st.binary(min_size=1, max_size=50) | wire_bytes().filter(bool))
def test_bytes_go_through_nc(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("bin")  # what stands in for nc sends what it is given, as nc does
    (folder / "nc").write_text(NC)
    (folder / "nc").chmod(stat.S_IRWXU)
    path = f"{folder}:/usr/bin:/bin"
    assert received_from(curl(data.replace(b"Content-Length", b"X"), URL), ("127.0.0.1", 0), path) == (
        data.replace(b"Content-Length", b"X")
    )


# the search -------------------------------------------------------------------------------------------


class Clock:
    """Each request takes a second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asked: list[Request] = []

    def __call__(self) -> float:
        return self.now


def search(
    wrong: Callable[[Request], Kind | None],
    *aims: str,
    seconds: float = 1e6,
    clock: Clock | None = None,
) -> list[Finding]:
    """What a search finds in a server that is wrong about some requests."""
    findings = Findings()
    clock = clock or Clock()

    def ask(request: Request, quarry: Finding | None) -> Finding | None:
        clock.now += 1
        clock.asked.append(request)
        kind = wrong(request)
        return None if kind is None else Finding("GET /a", kind, request)

    Search(findings, seconds, seconds, clock).run(requests(*aims), ask, 100, 0)
    return list(findings)


def test_a_finding_is_shrunk() -> None:
    def wrong(request: Request) -> Kind | None:
        return Kind.ERROR if "?" in request.target and request.headers else None

    [finding] = search(wrong, "GET /a/:b")
    assert isinstance(finding.sent, Request)
    assert len(finding.sent.headers) == 1
    assert len(finding.sent.target) <= len("/a/%20?a=")
    assert finding.sent.method == "GET"


def test_each_finding_is_shrunk() -> None:
    def wrong(request: Request) -> Kind | None:
        if request.body is None:
            return Kind.SLOW if "?" in request.target else None
        return Kind.ERROR if len(request.body) > 1 else Kind.HANG

    found = {finding.kind: finding.sent for finding in search(wrong, "POST /a")}
    assert set(found) == {Kind.ERROR, Kind.HANG, Kind.SLOW}
    assert all(size_of(sent) < 180 for sent in found.values())


def test_what_happens_only_once_is_found_all_the_same() -> None:
    times = []

    def wrong(request: Request) -> Kind | None:
        times.append(request)
        return Kind.ERROR if len(times) == 5 else None

    [finding] = search(wrong, "GET /a")
    assert finding.sent == times[4]


def test_a_search_ends_when_its_time_is_up() -> None:
    clock = Clock()
    assert search(lambda request: None, "GET /a", seconds=3.5, clock=clock) == []
    assert len(clock.asked) == 4
    clock = Clock()
    assert search(lambda request: Kind.ERROR, "GET /a", seconds=0.0, clock=clock) == []
    assert clock.asked == []


def test_shrinking_ends_when_its_time_is_up() -> None:
    clock = Clock()
    [finding] = search(lambda request: Kind.ERROR, "GET /a", seconds=3.5, clock=clock)
    assert finding.sent in clock.asked
    assert 1 < len(clock.asked) <= 6


# findings ---------------------------------------------------------------------------------------------

ENTRY = f"""\
[SERVER] error 0123abcd in "GET /a HTTP/1.1"
  Traceback (most recent call last):
    File "{Path(create_server.__code__.co_filename).parent}/handlers.py", line 150, in run
      outcome = self._respond(self._call(args))
                              ^^^^^^^^^^^^^^^^
    File "/home/ada/script.py", line 9, in double
      return 2 * int(args["query"]["n"])
    File "{json.__file__}", line 3, in loads
  ValueError: one line
    and another one
"""


def test_a_traceback_is_shown_without_our_frames() -> None:
    trace = read_trace(ENTRY)
    assert trace.title == 'error 0123abcd in "GET /a HTTP/1.1"'
    assert (trace.place, trace.error) == ("script.py:9 in double", "ValueError: one line")
    assert "handlers.py" not in trace.text
    assert "_respond" not in trace.text
    assert trace.text.splitlines()[:2] == [
        "Traceback (most recent call last):",
        '  File "/home/ada/script.py", line 9, in double',
    ]


def test_the_journal_keeps_tracebacks() -> None:
    journal = Journal()
    journal.write("script.py (1): hello\n")
    assert journal.latest() is None
    journal.write(ENTRY)
    assert journal.latest() == journal.of_page(b"failed (error 0123abcd)") == read_trace(ENTRY)
    assert journal.of_page(b"failed (error 00000000)") is None
    journal.forget()
    assert journal.latest() is None


def test_the_shortest_of_each_kind_is_kept() -> None:
    findings = Findings()
    for target in ("/abc", "/a", "/ab"):
        findings.add(Finding("GET /a", Kind.HANG, Request("GET", target)))
    findings.add(Finding("GET /a", Kind.SLOW, Request("GET", "/abc")))
    assert [(f.kind, f.sent) for f in findings] == [
        (Kind.HANG, Request("GET", "/a")),
        (Kind.SLOW, Request("GET", "/abc")),
    ]


def test_a_command_that_nobody_could_read() -> None:
    finding = Finding("GET /a", Kind.ERROR, Request("GET", "/" + "a" * 5000))
    assert len(finding.text(URL)) < 2500
    assert len(finding.command(URL)) > 5000
