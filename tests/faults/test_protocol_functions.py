"""Cases 18, 19 and 24 to 26: functions that go wrong, unknown paths, and pages of other sites."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest

from tests.faults.conftest import Observed
from tests.faults.messages import get, post, script_log, serve_functions
from tests.faults.talk import Heard, Talk
from tests.harness import Answer
from tests.integration.scripts import Script

FUNCTIONS = """
server.text_post("/echo", 0)(lambda req, args: msg("called") or req.body())
server.text_get("/hello", 0)(lambda req, args: msg("called") or "hello")
server.allowed_hosts = ["tool.example"]
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    with serve_functions(tmp_path_factory.mktemp("functions"), FUNCTIONS) as script:
        yield script


@pytest.fixture(scope="module")
def any_origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    setup = f"{FUNCTIONS}\nserver.cross_origin = True"
    with serve_functions(tmp_path_factory.mktemp("any_origin"), setup) as script:
        yield script


@pytest.fixture(scope="module")
def one_origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    setup = f"{FUNCTIONS}\nserver.cross_origin = ['https://app.example']"
    with serve_functions(tmp_path_factory.mktemp("one_origin"), setup) as script:
        yield script


@pytest.fixture(autouse=True)
def _disconnected(request: pytest.FixtureRequest) -> Iterator[None]:
    """No connection of a test is left to the next one."""
    yield
    for name in {"script", "any_origin", "one_origin"} & set(request.fixturenames):
        request.getfixturevalue(name).disconnect()


# ---- 18, 19: functions that go wrong ----------------------------------------------------------


def test_18_line_ends_in_a_header(talk: Talk, observed: Observed) -> None:
    """A plain 500; nothing is split."""
    talk.uncounted = True  # a traceback
    heard = talk(get("/splits"), probe=True)
    observed(f"{heard}{', the header is split' if b'X-Evil' in heard.raw else ''}")
    assert heard.statuses[0] == 500
    assert b"X-Evil" not in heard.raw


@pytest.mark.parametrize("where", ["cookie", "reason", "type", "nul"])
def test_18_line_ends_elsewhere(talk: Talk, observed: Observed, where: str) -> None:
    """The same for cookies, content types and a NUL; a reason is the standard one whatever is said."""
    talk.uncounted = True  # a traceback
    heard = talk(get(f"/splits/{where}"), probe=True)
    heads = b"".join(heard.heads)
    split, sent = b"X-Evil" in heads, b"\0" in heads
    observed(f"{heard}{', the header is split' if split else ''}{', the NUL is sent' if sent else ''}")
    assert heard.statuses[0] == (409 if where == "reason" else 500)
    assert heard.header("x-evil") is heard.header("x-own") is heard.header("set-cookie") is None
    reason = heard.heads[0].partition(b"\r\n")[0].split(b" ", 2)[2]
    assert reason in (b"Internal Server Error", b"Conflict")


def test_19_a_function_that_raises(talk: Talk, observed: Observed) -> None:
    """A clean 500 without the headers that were queued, and without a word of what was raised; kept."""
    talk.uncounted = True  # a traceback
    heard = talk(get("/raises"), probe=True)
    observed(heard)
    assert heard.statuses == [500, 200]
    assert heard.kept
    assert b"X-Queued" not in heard.raw
    assert b"hidden" not in heard.raw


def test_19_a_function_that_raises_late(talk: Talk, observed: Observed) -> None:
    """After its head was sent: the connection is aborted, so that nobody takes the answer for whole."""
    talk.uncounted = True  # a traceback
    heard = talk(get("/breaks"), probe=True)
    observed("200, ends as if it were whole" if _is_whole(heard) else "200, breaks off")
    assert not _is_whole(heard)
    assert heard.statuses == [200]


def _is_whole(heard: Heard) -> bool:
    if re.search(rb"(?i)\r\ntransfer-encoding: chunked", heard.heads[0]):
        return b"\r\n0\r\n\r\n" in heard.raw
    return heard.end != "resets"


# ---- 24: paths and methods --------------------------------------------------------------------

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "BREW", "x"]


@pytest.mark.parametrize("method", METHODS)
def test_24_unknown_paths(talk: Talk, observed: Observed, method: str) -> None:
    """404, for every method; kept."""
    heard = talk(get("/none", method=method), probe=True, heads_only=[0] if method == "HEAD" else ())
    observed(heard)
    assert heard.statuses == [404, 200]


@pytest.mark.parametrize("path", ["/hello", "/file.txt"])
@pytest.mark.parametrize("method", [method for method in METHODS if method not in ("GET", "HEAD")])
def test_24_wrong_methods(talk: Talk, observed: Observed, method: str, path: str) -> None:
    """405 with `Allow`, for every method, of functions and of files; kept."""
    heard = talk(get(path, method=method), probe=True)
    allow = heard.header("allow") if heard.heads else None
    observed(heard if allow else f"{heard}, without Allow")
    assert heard.statuses == [405, 200]
    assert {"GET", "HEAD"} <= set((allow or "").split(", "))


# ---- 25: pages of other sites -----------------------------------------------------------------

FOREIGN = ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "tool.example"]
OWN = ["localhost", "localhost:1", "app.localhost", "127.0.0.1", "192.168.1.20:80", "[::1]:80"]


def host(name: str) -> bytes:
    return f"GET /hello HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()


@pytest.mark.parametrize("name", FOREIGN)
def test_25_foreign_hosts(talk: Talk, observed: Observed, name: str) -> None:
    """On loopback, a Host that is no IP address and not localhost is a 421."""
    heard = talk(host(name), probe=True)
    observed(heard)
    assert heard.statuses[0] == 421


@pytest.mark.parametrize("name", OWN)
def test_25_own_hosts(talk: Talk, observed: Observed, name: str) -> None:
    """Addresses, localhost and what ends with .localhost are answered."""
    heard = talk(host(name), probe=True)
    observed(heard)
    assert heard.statuses == [200, 200]


@pytest.mark.peers
def test_25_allowed_hosts(script: Script) -> None:
    """So is what `server.allowed_hosts` names, and pages from there may change things."""
    client = script.connect().send(host("tool.example")).send(host("other.example"))
    assert [client.answer().status, client.answer().status] == [200, 421]
    answer = client.request("POST", "/echo", b"x", Origin="https://tool.example")
    assert (answer.status, answer.body) == (200, b"x")


@pytest.mark.peers
def test_25_any_host(start: Callable[..., Script]) -> None:
    """`["*"]` lets any."""
    script = start(
        'server.allowed_hosts = ["*"]\nserver.text_get("/hello", 0)(lambda req, args: "hello")'
    )
    assert script.connect().send(host("evil.example")).answer().body == b"hello"


@pytest.mark.parametrize("page", ["https://evil.example", "http://localhost.evil.example", "null"])
def test_25_changes_by_pages_of_other_sites(talk: Talk, observed: Observed, page: str) -> None:
    """POST, PUT, PATCH or DELETE with the Origin of another site is a 403."""
    origin = f"Origin: {page}"
    for method, path in [("POST", "/echo"), ("PUT", "/echo"), ("PATCH", "/echo"), ("DELETE", "/hello")]:
        heard = talk(get(path, origin, "Content-Length: 1", method=method) + b"x", probe=True)
        observed(method, heard)
        assert heard.statuses[0] == 403


PAGES = ["http://localhost:3000", "https://127.0.0.1:8443", "http://[::1]"]


@pytest.mark.parametrize("page", PAGES)
def test_25_changes_by_own_pages(talk: Talk, observed: Observed, page: str) -> None:
    """Ports do not count, and localhost, 127.0.0.1 and ::1 are one."""
    heard = talk(post(f"Origin: {page}", "Content-Length: 1", body=b"x"), probe=True)
    observed(heard)
    assert heard.bodies == [b"x", b"hello"]


@pytest.mark.peers
def test_25_a_refused_page_changes_nothing(script: Script) -> None:
    """No function is called for a 421 or a 403."""
    before = script_log(script).count("called")
    client = script.connect()
    assert client.request("POST", "/echo", b"x", Origin="https://evil.example").status == 403
    assert script.connect().send(host("evil.example")).answer().status == 421
    assert script_log(script).count("called") == before


@pytest.mark.peers
def test_25_cross_origin_lets_pages_change(any_origin: Script) -> None:
    """With `cross_origin` they are let through."""
    answer = any_origin.connect().request("POST", "/echo", b"x", Origin="https://app.example")
    assert (answer.status, answer.body) == (200, b"x")


# ---- 26: CORS ---------------------------------------------------------------------------------


def cors(answer: Answer) -> tuple[str | None, str | None]:
    prefix = "access-control-allow-"
    return answer.get(f"{prefix}origin"), answer.get(f"{prefix}credentials")


@pytest.mark.peers
@pytest.mark.parametrize("path", ["/hello", "/none"])
def test_26_no_star_with_credentials(any_origin: Script, path: str) -> None:
    """`*` without credentials; with a cookie or Authorization the origin itself, and `Vary: Origin`."""
    client = any_origin.connect()
    plain = client.request("GET", path, Origin="https://app.example")
    assert cors(plain)[0] == "*"
    assert cors(plain)[1] is None
    for secret in ({"Cookie": "a=1"}, {"Authorization": "Basic YTpi"}):
        answer = client.request("GET", path, b"", Origin="https://app.example", **secret)
        assert cors(answer)[0] == "https://app.example"
        assert "origin" in (answer.get("vary") or "").lower()


@pytest.mark.peers
def test_26_listed_origins(one_origin: Script) -> None:
    """A listed origin is echoed, with credentials and `Vary: Origin`, errors included; no other."""
    client = one_origin.connect()
    for path in ("/hello", "/none"):
        answer = client.request("GET", path, Origin="https://app.example", Cookie="a=1")
        assert cors(answer) == ("https://app.example", "true")
        assert "origin" in (answer.get("vary") or "").lower()
        answer = client.request("GET", path, Origin="https://evil.example", Cookie="a=1")
        assert cors(answer) == (None, None)


@pytest.mark.peers
def test_26_origin_null(any_origin: Script, one_origin: Script) -> None:
    """`Origin: null` gets none."""
    for script in (any_origin, one_origin):
        for fields in ({}, {"Cookie": "a=1"}):
            answer = script.connect().request("GET", "/hello", b"", Origin="null", **fields)
            assert cors(answer) == (None, None)
