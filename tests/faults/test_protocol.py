"""Cases 1 to 13: the framing of requests."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.conftest import Observed
from tests.faults.messages import KIB, MIB, closes, get, post, resident, to_the_end
from tests.faults.peers import alone
from tests.faults.processes import reset
from tests.faults.talk import PAUSE, Talk
from tests.harness import PATIENCE, Client


def test_01_transfer_encoding_with_content_length(talk: Talk, observed: Observed) -> None:
    """400, closed; nothing behind it is read as a request."""
    chunked = post("Content-Length: 4", "Transfer-Encoding: chunked", body=b"0\r\n\r\n")
    heard = talk(chunked, probe=True)
    observed(heard)
    closes(heard, 400)


@pytest.mark.parametrize(
    "coding",
    ["gzip, chunked", "chunked, gzip", "chunked, chunked", "identity", "xchunked", "chunked;q=1", ""],
    ids=lambda coding: coding or "empty",
)
def test_02_other_transfer_encodings(talk: Talk, observed: Observed, coding: str) -> None:
    """501 or 400, closed."""
    heard = talk(post(f"Transfer-Encoding: {coding}", body=b"0\r\n\r\n"), probe=True)
    observed(heard)
    closes(heard, 501, 400)


def test_02_transfer_encoding_on_http_1_0(talk: Talk, observed: Observed) -> None:
    """400, closed."""
    heard = talk(post("Transfer-Encoding: chunked", body=b"0\r\n\r\n", version="1.0"), probe=True)
    observed(heard)
    closes(heard, 400)


LENGTHS = {
    "+5": "+5", "-5": "-5", "1_0": "1_0", "0x5": "0x5", "empty": "", "5, 6": "5, 6", "5 5": "5 5",
    "5 and 6": "5\r\nContent-Length: 6", "Arabic digit": "\u0665".encode().decode("latin-1"),
    "superscript": "\xb2",
}  # fmt: skip


@pytest.mark.parametrize("value", LENGTHS.values(), ids=LENGTHS)
def test_03_malformed_content_length(talk: Talk, observed: Observed, value: str) -> None:
    """400, closed."""
    heard = talk(post(f"Content-Length: {value}", body=b"12345"), probe=True)
    observed(heard)
    closes(heard, 400)


def test_04_a_length_above_the_limit(talk: Talk, observed: Observed) -> None:
    """413 before a byte of the body came or was allocated, closed."""
    talk(get("/hello", "Connection: close"))
    before = resident(talk.origin.pid)
    heard = talk(post(f"Content-Length: {1024 * MIB * KIB}"))
    observed(heard)
    closes(heard, 413)
    assert resident(talk.origin.pid, "VmHWM") - before < MIB


SMALL = {
    "quick_server": ["max_file_size=1000"],
    "nginx": ["client_max_body_size 1000;"],
    "waitress": ["--max-request-body-size=1000"],
    "uvicorn": [],  # it has no limit
}


def test_04_chunks_above_the_limit(origin_name: str, tmp_path: Path, observed: Observed) -> None:
    """413 as soon as chunks are over `server.max_file_size`, closed; no function is called."""
    piece = b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    with alone(origin_name, tmp_path, options=SMALL[origin_name]) as origin:
        heard = Talk(origin)(post("Transfer-Encoding: chunked", body=piece + b"1\r\nx\r\n"))
        called = origin.notes.count("echo")
    observed(f"{heard}{', the function is called' if called else ''}")
    closes(heard, 413)
    assert not called


HIDDEN = get("/file.txt")
UNREAD = {
    "GET": get("/hello", f"Content-Length: {len(HIDDEN)}") + HIDDEN,
    "GET 404": get("/none", f"Content-Length: {len(HIDDEN)}") + HIDDEN,
    "POST 404": post(f"Content-Length: {len(HIDDEN)}", target="/none", body=HIDDEN),
    "DELETE 405": get("/hello", f"Content-Length: {len(HIDDEN)}", method="DELETE") + HIDDEN,
    "chunked": get("/hello", "Transfer-Encoding: chunked")
    + b"%x\r\n%b\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
    "64 KiB": post(f"Content-Length: {64 * KIB}", target="/none", body=HIDDEN.ljust(64 * KIB)),
}


@pytest.mark.parametrize("data", UNREAD.values(), ids=UNREAD)
def test_05_an_unread_body_is_dropped(talk: Talk, observed: Observed, data: bytes) -> None:
    """Up to 64 KiB are read and dropped, and never taken for a request; the connection is kept."""
    heard = talk(data, probe=True)
    observed(heard)
    assert heard.kept
    assert len(heard.statuses) == 2


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_05_a_large_unread_body(talk: Talk, observed: Observed, method: str) -> None:
    """Past 64 KiB: answered, then closed instead of read; never taken for a request."""
    size = 64 * KIB + 1
    head = get("/none", f"Content-Length: {size}", method=method)
    heard = talk(head, (HIDDEN * (size // len(HIDDEN))).ljust(size), probe=True)
    observed(heard)
    closes(heard, 404)


CUT = {
    "sized": post("Content-Length: 10", body=b"12345"),
    "chunked": post("Transfer-Encoding: chunked", body=b"5\r\nhello\r\n"),
    "in a chunk": post("Transfer-Encoding: chunked", body=b"5\r\nhel"),
}


@pytest.mark.parametrize("data", CUT.values(), ids=CUT)
def test_06_a_body_that_ends_early(talk: Talk, observed: Observed, data: bytes) -> None:
    """The function is not called, closed."""
    heard = talk(data, half_close=True)
    observed(heard)
    assert heard.end == "closes"
    assert heard.statuses in ([], [400])


def test_06_no_function_sees_half_a_body(origin_name: str, tmp_path: Path, observed: Observed) -> None:
    """No function is called, whether the client ends its half, all of it, or resets."""
    with alone(origin_name, tmp_path) as origin:
        for data in CUT.values():
            Talk(origin)(data, half_close=True)
            origin.connect().send(data).close()
            reset(origin.connect().send(data))
        whole = Talk(origin)(post("Content-Length: 5", "Connection: close", body=b"whole"))
        called = origin.notes.count("echo") - 1
    observed(f"called {called} of {3 * len(CUT)} times")
    assert whole.bodies == [b"whole"]
    assert not called


HEADS = {
    "bare CR in a value": get("/hello", "X: a\rb"),
    "bare CR as an end": b"GET /hello HTTP/1.1\rHost: localhost\r\n\r\n",
    "NUL": get("/hello", "X: a\0b"),
    "control byte in a value": get("/hello", "X: a\x1bb"),
    "control byte in a name": get("/hello", "X\x01: a"),
    "control byte in the target": get("/he\x7fllo"),
    "control byte in the method": get("/hello", method="G\x02T"),
    "space before the colon": get("/hello", "X : a"),
    "no colon": get("/hello", "X"),
    "folded": get("/hello", "X: a", " b"),
    "space before the first": b"GET /hello HTTP/1.1\r\n Host: localhost\r\n\r\n",
}


@pytest.mark.parametrize("data", HEADS.values(), ids=HEADS)
def test_07_malformed_heads(talk: Talk, observed: Observed, data: bytes) -> None:
    """400, closed; control bytes reach the log escaped."""
    heard = talk(data, probe=True)
    observed(heard)
    closes(heard, 400)


LINES = {
    "all lines": b"GET /hello HTTP/1.1\nHost: localhost\n\n",
    "request line": b"GET /hello HTTP/1.1\nHost: localhost\r\n\r\n",
    "a field": b"GET /hello HTTP/1.1\r\nHost: localhost\nX: a\r\n\r\n",
    "the last": b"GET /hello HTTP/1.1\r\nHost: localhost\r\n\n",
    "chunk size": post("Transfer-Encoding: chunked", body=b"5\nhello\r\n0\r\n\r\n"),
    "chunk end": post("Transfer-Encoding: chunked", body=b"5\r\nhello\n0\r\n\r\n"),
    "last chunk": post("Transfer-Encoding: chunked", body=b"5\r\nhello\r\n0\n\r\n"),
}


@pytest.mark.parametrize("data", LINES.values(), ids=LINES)
def test_08_bare_line_feeds(talk: Talk, observed: Observed, data: bytes) -> None:
    """400, closed."""
    heard = talk(data, probe=True)
    observed(heard)
    closes(heard, 400)


HOSTS = {
    "none": b"GET /hello HTTP/1.1\r\n\r\n",
    "two": get("/hello", "Host: localhost"),
    "space": b"GET /hello HTTP/1.1\r\nHost: local host\r\n\r\n",
    "slash": b"GET /hello HTTP/1.1\r\nHost: localhost/x\r\n\r\n",
    "user": b"GET /hello HTTP/1.1\r\nHost: user@localhost\r\n\r\n",
    "byte": b"GET /hello HTTP/1.1\r\nHost: local\xffhost\r\n\r\n",
}


@pytest.mark.parametrize("data", HOSTS.values(), ids=HOSTS)
def test_09_bad_hosts(talk: Talk, observed: Observed, data: bytes) -> None:
    """400, closed."""
    heard = talk(data, probe=True)
    observed(heard)
    closes(heard, 400)


@pytest.mark.parametrize("version", ["0.9", "2.0", "3.0", "9.9"])
def test_10_other_versions(talk: Talk, observed: Observed, version: str) -> None:
    """505, closed."""
    heard = talk(get("/hello", version=version), probe=True)
    observed(heard)
    closes(heard, 505)


def test_10_a_later_minor_version(talk: Talk, observed: Observed) -> None:
    """Read as HTTP/1.1, or 505 and closed."""
    heard = talk(get("/hello", version="1.2"), probe=True)
    observed(heard)
    assert (heard.kept and heard.statuses[0] == 200) or str(heard) == "505, closes"


LARGE = {
    "request line": (get("/" + "x" * 8 * KIB), 414),
    "line without an end": (b"GET /" + b"x" * 9 * KIB, 414),
    "head": (get("/hello", *["X: " + "x" * KIB] * 17), 431),
    "one field": (get("/hello", "X: " + "x" * 16 * KIB), 431),
    "101 fields": (get("/hello", *["X: x"] * 100), 431),
}


@pytest.mark.parametrize(("data", "status"), LARGE.values(), ids=LARGE)
def test_11_large_heads(talk: Talk, observed: Observed, data: bytes, status: int) -> None:
    """A request line over 8 KiB 414; a head over 16 KiB, or of more than 100 fields, 431; closed."""
    heard = talk(data, probe=True)
    observed(heard)
    closes(heard, status)


def test_11_heads_that_just_fit(talk: Talk, observed: Observed) -> None:
    """A request line of 8,000 bytes, 15 KiB of fields and 100 fields are answered; kept."""
    line = get("/hello?" + "x" * (8000 - len("GET /hello? HTTP/1.1")))
    heard = talk(
        line, get("/hello", *["X: " + "x" * 500] * 29), get("/hello", *["X: x"] * 99), probe=True
    )
    observed(heard)
    assert heard.statuses == [200] * 4


def test_12_a_thousand_pipelined_requests(talk: Talk, observed: Observed) -> None:
    """Answered in order."""
    bodies = [str(number).encode() for number in range(999)]  # and one more behind
    heard = talk(
        b"".join(post(f"Content-Length: {len(body)}", body=body) for body in bodies), probe=True
    )
    observed(heard)
    assert heard.bodies == [*bodies, b"hello"]


def test_12_pipelined_requests_wait(origin_name: str, tmp_path: Path, observed: Observed) -> None:
    """One at a time; meanwhile nothing more is read, so that the client has to wait."""
    with (
        alone(origin_name, tmp_path) as origin,
        closing(origin.connect()) as client,
        closing(origin.connect()) as pushy,
    ):
        client.send(get("/busy") * 50)
        others = {client.answer().body for _ in range(50)}
        before = resident(origin.pid)
        sent = pushed(pushy.send(get("/held")), get("/busy"))
        grown = resident(origin.pid) - before
        origin.notes.open()
        answered = pushy.answer().body == b"held"
    order = "one at a time" if others == {b"0"} else "several at a time"
    paused = "waits" if sent < 32 * MIB else "is read on"
    observed(f"{order}, the client {paused}, memory grows by {grown // MIB} MiB")
    assert others == {b"0"}
    assert sent < 32 * MIB
    assert grown < 4 * MIB
    assert answered


def test_12_requests_of_a_client_that_reads_no_answers(talk: Talk, observed: Observed) -> None:
    """Reading pauses while nobody takes the answers, and memory stays as it is."""
    talk.uncounted = True
    talk(get("/big.bin", "Connection: close"))
    before = resident(talk.origin.pid)
    with closing(talk.origin.connect()) as client:
        sent = pushed(client, get("/big.bin"))
        grown = resident(talk.origin.pid) - before
    paused, grows = sent < 32 * MIB, grown > 16 * MIB
    observed(f"{'pauses' if paused else 'reads on'}, {'memory grows' if grows else 'little memory'}")
    assert paused
    assert not grows


def pushed(client: Client, piece: bytes) -> int:
    """How many bytes of such pieces can be sent until nobody takes any for a while."""
    client.sock.settimeout(0.3)
    sent, block = 0, piece * (256 * KIB // len(piece))
    try:
        while sent < 64 * MIB:
            sent += client.sock.send(block)
    except TimeoutError:
        pass
    client.sock.settimeout(PATIENCE)
    return sent


def test_13_nothing_behind_an_error(talk: Talk, observed: Observed) -> None:
    """What stands behind an error, or comes later on that connection, is dropped unread."""
    heard = talk(
        get("/hello", "X : a"), get("/file.txt") * 10, PAUSE, get("/file.txt") * 10, probe=True
    )
    observed(heard)
    closes(heard, 400)


def test_13_requests_before_an_error(talk: Talk, observed: Observed) -> None:
    """Those in front of it are answered."""
    heard = talk(get("/hello") * 3, get("/hello", "X : a"), probe=True)
    observed(heard)
    assert heard.statuses == [200, 200, 200, 400]
    assert heard.end == "closes"


def test_13_the_answer_is_read_though_the_client_goes_on(talk: Talk, observed: Observed) -> None:
    """What still arrives is read for at most 2 s: the answer is not lost in a reset."""
    began = time.monotonic()
    heard = talk(get("/hello", "X : a"), *[b"x" * 64 * KIB] * 64)
    observed(heard)
    closes(heard, 400)
    assert time.monotonic() - began < 2.0


BRIEF = {
    "quick_server": ["linger_timeout=0.3"],
    "nginx": ["lingering_timeout 300ms; lingering_time 1s;"],
}
"""How long they read on after an answer; the others do not."""


def test_13_a_client_that_never_stops(origin_name: str, tmp_path: Path, observed: Observed) -> None:
    """After that time (`linger_timeout`) the connection ends, whatever the client still sends."""
    with (
        alone(origin_name, tmp_path, options=BRIEF.get(origin_name, [])) as origin,
        closing(origin.connect()) as client,
    ):
        client.send(get("/hello", "X : a"))
        answered = b" 400 " in to_the_end(client).partition(b"\r\n")[0]
        began = time.monotonic()
        ended = is_stopped(client)
        took = time.monotonic() - began
    first = "" if answered else "no 400, "
    late = "at once" if took < 0.1 else f"after {took:.0f} s"
    observed(f"{first}ends {late}" if ended else f"{first}never ends")
    assert answered
    assert ended
    assert 0.1 < took < 2


def is_stopped(client: Client) -> bool:
    """Goes on sending until the connection ends; whether it does."""
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            client.send(b"x" * KIB)
            time.sleep(0.01)  # more would be a flood
    except ConnectionError:
        return True
    return False
