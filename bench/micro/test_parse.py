"""From bytes to a request: each way that a head can take, and the parts of those ways."""

import pytest

from bench.micro.measure import NOT_REMEMBERED, Benchmark, in_turn
from bench.micro.samples import HEAD, head
from quick_server.limits import Limits
from quick_server.protocol.heads import HeadMemo, HeadScanner, parse_head
from quick_server.protocol.messages import RequestHead
from quick_server.protocol.server import ServerProtocol, Signal
from quick_server.protocol.target import parse_target

pytestmark = pytest.mark.benchmark(group="parse")

LIMITS = Limits()
CHUNK = b"1000\r\n" + bytes(0x1000) + b"\r\n"
CHUNKED = head("/api/echo", "Transfer-Encoding: chunked", method="POST")

TARGETS = {
    "plain": "/api/v1/users/17",
    "query": "/api/v1/users?name=ada&sort=up&page=2",
    "escapes": "/files/a%20folder/na%C3%AFve%2Fname.txt",
}


@pytest.fixture
def memo() -> HeadMemo:
    """A memo that knows `HEAD` in every way."""
    made = HeadMemo()
    known = parse_head(HEAD)
    made.learn(HEAD, known)
    made.remember(HEAD, known)
    return made


@pytest.fixture
def protocol(memo: HeadMemo) -> ServerProtocol:
    """The parser of a connection on which requests follow each other."""
    return ServerProtocol(LIMITS, memo)


def take(protocol: ServerProtocol, raw: bytes) -> object:
    """One request without content, from its arrival to the next one's turn."""
    protocol.receive(raw)
    event = protocol.next_event()
    protocol.next_request()
    return event


# The ways of a head -----------------------------------------------------------------------------


def test_head_known(benchmark: Benchmark, protocol: ServerProtocol) -> None:
    """The very bytes came before: what a connection does first."""

    def known() -> RequestHead | None:
        found = protocol.known_head(HEAD)
        protocol.next_request()
        return found

    assert benchmark(known)


def test_head_known_behind_another(benchmark: Benchmark, protocol: ServerProtocol) -> None:
    """The same out of the parser's buffer."""
    assert isinstance(benchmark(take, protocol, HEAD), RequestHead)


def test_head_new_query(benchmark: Benchmark, protocol: ServerProtocol, memo: HeadMemo) -> None:
    """Known fields, another query: never remembered as a whole."""
    raw = head("/api/hello?page=2")
    assert memo.combine(raw, LIMITS)
    assert isinstance(benchmark(take, protocol, raw), RequestHead)
    assert memo.get(raw) is None


def test_head_new_path(benchmark: Benchmark, protocol: ServerProtocol, memo: HeadMemo) -> None:
    """Known fields, another path each time: remembered for nothing."""
    heads = in_turn(head(f"/files/{number:06}.csv") for number in range(NOT_REMEMBERED))
    assert memo.combine(next(heads), LIMITS)
    assert isinstance(benchmark(lambda: take(protocol, next(heads))), RequestHead)


def test_head_new_inert_field(benchmark: Benchmark, protocol: ServerProtocol, memo: HeadMemo) -> None:
    """A field that says nothing about the message is another each time."""
    heads = in_turn(
        head("/api/hello", f"X-Request-Id: {number:06}") for number in range(NOT_REMEMBERED)
    )
    raw = next(heads)
    assert memo.combine(raw, LIMITS) is None
    assert memo.recognise(raw)
    assert isinstance(benchmark(lambda: take(protocol, next(heads))), RequestHead)


def test_head_new_to_h11(benchmark: Benchmark, protocol: ServerProtocol, memo: HeadMemo) -> None:
    """A field that decides something is another each time: h11 reads the head."""
    heads = in_turn(head(host=f"host-{number:06}.example") for number in range(NOT_REMEMBERED))
    raw = next(heads)
    assert memo.recognise(raw) is None
    assert isinstance(benchmark(lambda: take(protocol, next(heads))), RequestHead)


# Their parts ------------------------------------------------------------------------------------


def test_part_scan(benchmark: Benchmark) -> None:
    """The look at each byte, at a head in one piece."""
    assert benchmark(lambda: HeadScanner(LIMITS).scan(HEAD)) == len(HEAD)


def test_part_scan_two_pieces(benchmark: Benchmark) -> None:
    """The same, line by line, at one that comes in two."""
    half = HEAD[: len(HEAD) // 2]

    def scan() -> int:
        scanner = HeadScanner(LIMITS)
        return scanner.scan(half) or scanner.scan(HEAD)

    assert benchmark(scan) == len(HEAD)


def test_part_combine(benchmark: Benchmark, memo: HeadMemo) -> None:
    """Known fields behind another request line."""
    assert benchmark(memo.combine, head("/api/hello?page=2"), LIMITS)


def test_part_recognise(benchmark: Benchmark, memo: HeadMemo) -> None:
    """Other fields that say the same about their message."""
    assert benchmark(memo.recognise, head("/api/hello", "X-Request-Id: 17"))


def test_part_parse_head(benchmark: Benchmark) -> None:
    """h11 and our own rules."""
    assert benchmark(parse_head, HEAD)


@pytest.mark.parametrize("kind", TARGETS)
def test_part_target(benchmark: Benchmark, kind: str) -> None:
    """A request target taken apart."""
    assert benchmark(parse_target, TARGETS[kind])


# Content ----------------------------------------------------------------------------------------


def test_content_64k_in_chunks(benchmark: Benchmark, memo: HeadMemo) -> None:
    """A request with 16 chunks of 4 KiB, head included."""
    raw = CHUNKED + CHUNK * 16 + b"0\r\n\r\n"
    protocol = ServerProtocol(LIMITS, memo)

    def receive() -> int:
        protocol.receive(raw)
        size = 0
        while (event := protocol.next_event()) is not Signal.END:
            if isinstance(event, bytes):
                size += len(event)
        protocol.next_request()
        return size

    assert benchmark(receive) == 16 * 0x1000
