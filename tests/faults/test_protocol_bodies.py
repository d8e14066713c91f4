"""Cases 14 to 17 and 20 to 23: bodies, how they arrive, and what they hold."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress

import pytest

from tests.faults.conftest import Observed
from tests.faults.messages import KIB, MIB, closes, computed, get, post, serve_functions
from tests.faults.talk import PAUSE, Talk
from tests.harness import Answer
from tests.integration.scripts import Script

EXPECT = "Expect: 100-continue"

FUNCTIONS = """
server.text_get("/cookie", 0)(lambda req, args: str(len(args["cookie"] or ())))

@server.json_post("/data", 0)
def data(req, args):
    files = {name: file.read().decode() for name, file in args["files"].items()}
    return {"post": args["post"], "files": files}
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Script]:
    """Functions of ours that show what they are called with."""
    with serve_functions(tmp_path_factory.mktemp("functions"), FUNCTIONS) as script:
        yield script


@pytest.fixture
def functions(script: Script) -> Iterator[Script]:
    """The same, without connections in the end."""
    yield script
    script.disconnect()


# ---- 14: Expect -------------------------------------------------------------------------------


def test_14_expect(talk: Talk, observed: Observed) -> None:
    """A bare 100 where the body is wanted, then the answer; kept."""
    heard = talk(post(EXPECT, "Content-Length: 5"), PAUSE, b"hello", probe=True)
    observed(heard)
    assert heard.early == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert heard.statuses == [100, 200, 200]


def test_14_expect_with_the_body_there(talk: Talk, observed: Observed) -> None:
    """No 100 where the body comes without waiting for it."""
    heard = talk(post(EXPECT, "Content-Length: 5", body=b"hello"), probe=True)
    observed(heard)
    assert heard.statuses == [200, 200]


UNWANTED = {
    "413": (post(EXPECT, f"Content-Length: {1024 * MIB * KIB}"), 413),
    "404": (post(EXPECT, "Content-Length: 5", target="/none"), 404),
    "405": (post(EXPECT, "Content-Length: 5", target="/hello"), 405),
    "417": (post("Expect: 200-ok", "Content-Length: 5"), 417),
}


@pytest.mark.parametrize(("data", "status"), UNWANTED.values(), ids=UNWANTED)
def test_14_no_100_for_an_unwanted_body(
    talk: Talk, observed: Observed, data: bytes, status: int
) -> None:
    """413, 404 and 405 come instead of a 100; other expectations are a 417."""
    heard = talk(data)
    observed(heard)
    assert heard.statuses == [status]


def test_14_no_100_for_a_body_that_is_refused(talk: Talk, observed: Observed) -> None:
    """So does a 401 of a middleware."""
    heard = talk(post(EXPECT, "Content-Length: 5", target="/private"))
    observed(heard)
    assert heard.statuses == [401]


# ---- 15, 16: chunks ---------------------------------------------------------------------------

ONE_BYTE = b"1\r\nx\r\n"


def test_15_one_byte_chunks(talk: Talk, observed: Observed) -> None:
    """A hundred are fine; 400 once the framing is out of proportion, closed."""
    few = talk(post("Transfer-Encoding: chunked", body=ONE_BYTE * 100 + b"0\r\n\r\n"), probe=True)
    many = talk(post("Transfer-Encoding: chunked", body=ONE_BYTE * 200_000 + b"0\r\n\r\n"))
    observed("few", few)
    observed("200,000", many)
    assert few.bodies == [b"x" * 100, b"hello"]
    closes(many, 400)


def test_15_chunks_hold_up_nobody(talk: Talk, observed: Observed) -> None:
    """While others send one-byte chunks, a request is answered long before they are done."""
    flood = post("Transfer-Encoding: chunked", body=ONE_BYTE * 20_000)
    talk.uncounted = True
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(talk.origin.connect())) for _ in range(3)]
        began = time.perf_counter()
        for client in clients:
            client.send(flood).half_close()
        talk(get("/hello", "Connection: close"))
        took = time.perf_counter() - began
        for client in clients:
            with suppress(OSError):
                client.at_end()
        total = time.perf_counter() - began
    early = took < max(total / 2, 0.25)  # some are done with it all before anybody could ask
    observed("answered early" if early else "answered when they are nearly done")
    assert early


@pytest.mark.parametrize("size", [200, 257, 20 * KIB])
def test_16_chunk_extensions(talk: Talk, observed: Observed, size: int) -> None:
    """Over 256 bytes: 400, closed; less is skipped."""
    body = b"5;" + b"x" * (size - 1) + b"\r\nhello\r\n0\r\n\r\n"
    heard = talk(post("Transfer-Encoding: chunked", body=body), probe=True)
    observed(heard)
    if size > 256:
        closes(heard, 400)
    else:
        assert heard.bodies == [b"hello", b"hello"]


def test_16_trailers(talk: Talk, observed: Observed) -> None:
    """Dropped: they change neither the framing nor what follows; kept."""
    body = b"5\r\nhello\r\n0\r\nHost: elsewhere\r\nConnection: close\r\nX-Trailer: 1\r\n\r\n"
    heard = talk(post("Transfer-Encoding: chunked", body=body), probe=True)
    observed(heard)
    assert heard.kept
    assert heard.bodies == [b"hello", b"hello"]


@pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding"])
def test_16_framing_in_trailers(talk: Talk, observed: Observed, name: str) -> None:
    """Those that would be about the framing are a 400, closed."""
    body = b"5\r\nhello\r\n0\r\n%b: 50\r\n\r\n" % name.encode()
    heard = talk(post("Transfer-Encoding: chunked", body=body), probe=True)
    observed(heard)
    closes(heard, 400)


def test_16_functions_see_no_trailers(talk: Talk, observed: Observed) -> None:
    """Functions do not find them among the headers."""
    body = b"5\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n"
    heard = talk(post("Transfer-Encoding: chunked", target="/trailer", body=body), probe=True)
    observed("they do" if heard.bodies[0] == b"1" else heard)
    assert heard.bodies == [b"none", b"hello"]


# ---- 17, 20: clients that send on, and that send no more --------------------------------------


@pytest.mark.parametrize("target", ["/none", "/hello"])
def test_17_an_error_during_an_upload(talk: Talk, observed: Observed, target: str) -> None:
    """404 and 405 reach a client that sends all of its 8 MiB before it reads; closed."""
    heard = talk(post(f"Content-Length: {8 * MIB}", target=target), *[b"x" * 64 * KIB] * 128)
    observed(heard)
    closes(heard, 404 if target == "/none" else 405)


def test_17_a_refusal_during_an_upload(talk: Talk, observed: Observed) -> None:
    """So does a 413 for a length above the limit."""
    heard = talk(post(f"Content-Length: {1024 * MIB * KIB}"), *[b"x" * 64 * KIB] * 128)
    observed(heard)
    closes(heard, 413)


def test_20_a_client_that_half_closes(talk: Talk, observed: Observed) -> None:
    """It gets all of its answers."""
    heard = talk(
        get("/hello") + post("Content-Length: 4", body=b"echo") + get("/file.txt"), half_close=True
    )
    observed(heard)
    assert heard.statuses == [200, 200, 200]
    assert heard.end == "closes"


# ---- 21, 22, 23: JSON, forms, cookies ---------------------------------------------------------

BROKEN_JSON = {
    "broken": b'{"a": 1,',
    "not UTF-8": b'"\xff"',
    "nested 101 deep": b"[" * 101 + b"]" * 101,
    "a million brackets": b"[" * 1_000_000,
    "1e400": b"1e400",
    "NaN": b"NaN",
    "5,000 digits": b"9" * 5000,
}


@pytest.mark.peers
@pytest.mark.parametrize("body", BROKEN_JSON.values(), ids=BROKEN_JSON)
def test_21_broken_json(functions: Script, body: bytes) -> None:
    """Broken, not UTF-8, nested over 100 deep, or numbers out of range: 400 with the reason, kept."""
    client = functions.connect()
    answer = client.request("POST", "/data", body, Content_Type="application/json")
    assert answer.status == 400
    nested = b"[" * 100 + b"]" * 100
    answer = client.request("POST", "/data", nested, Content_Type="application/json")
    assert json.loads(answer.body)["post"] == json.loads(nested)


def part(name: str = 'name="a"', body: bytes = b"1", boundary: bytes = b"b") -> bytes:
    fields = f"Content-Disposition: form-data; {name}\r\n\r\n".encode()
    return b"--" + boundary + b"\r\n" + fields + body + b"\r\n"


def upload(functions: Script, body: bytes, ctype: str = "multipart/form-data; boundary=b") -> Answer:
    return functions.connect().request("POST", "/data", body, Content_Type=ctype)


FORMS = {
    "quoted boundary": (part(boundary=b"a b") + b"--a b--\r\n", 'multipart/form-data; boundary="a b"'),
    "charset": (part() + b"--b--\r\n", "multipart/form-data; charset=utf-8; boundary=b"),
    "preamble": (b"hello\r\n" + part() + b"--b--\r\n", "multipart/form-data; boundary=b"),
    "epilogue": (part() + b"--b--\r\ngoodbye", "multipart/form-data; boundary=b"),
    "no final line end": (part() + b"--b--", "multipart/form-data; boundary=b"),
}


@pytest.mark.peers
@pytest.mark.parametrize(("body", "ctype"), FORMS.values(), ids=FORMS)
def test_22_unusual_forms(functions: Script, body: bytes, ctype: str) -> None:
    """A quoted boundary, a charset, preamble, epilogue, no final line end: fine."""
    answer = upload(functions, body, ctype)
    assert json.loads(answer.body) == {"post": {"a": "1"}, "files": {}}


BAD_FORMS = {
    "unterminated": (part(), {400}),
    "nameless": (part("filename=x") + b"--b--", {400}),
    "1,001 parts": (part() * 1001 + b"--b--", {400, 413}),
    "part headers over 8 KiB": (part("name=a; x=" + "x" * 8 * KIB) + b"--b--", {400, 413}),
}


@pytest.mark.peers
@pytest.mark.parametrize(("body", "statuses"), BAD_FORMS.values(), ids=BAD_FORMS)
def test_22_bad_forms(functions: Script, body: bytes, statuses: set[int]) -> None:
    """Unterminated, nameless: 400; more than 1,000 parts or 8 KiB of part headers: 413 or 400."""
    assert upload(functions, body).status in statuses


CONTENTS: dict[str, Callable[[int], bytes]] = {
    "line ends": lambda size: b"\r\n" * (size // 2),
    "CRs": lambda size: b"\r" * size,
    "half delimiters": lambda size: b"\r\n--" * (size // 4),
    "hyphens": lambda size: b"-" * size,
}


@pytest.mark.peers
@pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
def test_22_forms_take_linear_time(functions: Script, content: Callable[[int], bytes]) -> None:
    """Content made to be slow takes as long as any other: 4 MiB less than a second."""
    body = part('name="f"; filename="f"', content(4 * MIB)) + b"--b--\r\n"
    before = computed(functions.process.pid)
    assert upload(functions, body).status == 200
    assert computed(functions.process.pid) - before < 1


COOKIES = {
    "backslashes": 'a="' + "\\" * 8000 + '"',
    "quotes": 'a="' + '"' * 8000,
    "escaped quotes": 'a="' + '\\"' * 4000,
    "octal": 'a="' + "\\101" * 2000 + '"',
}


@pytest.mark.peers
@pytest.mark.parametrize("cookie", COOKIES.values(), ids=COOKIES)
def test_23_expensive_cookies(functions: Script, cookie: str) -> None:
    """8 KiB of backslashes or quotes: less than 5 ms."""
    client, before = functions.connect(), computed(functions.process.pid)
    for number in range(50):  # none is known from before
        assert client.request("GET", "/cookie", Cookie=f"{cookie}; n={number}").status == 200
    assert computed(functions.process.pid) - before < 50 * 0.005
