"""From an outcome to the bytes of a head."""

from itertools import count

import pytest

from bench.micro.measure import Benchmark
from bench.micro.samples import HEAD, REQUEST
from quick_server.protocol.errors import error_outcome
from quick_server.protocol.heads import parse_head
from quick_server.protocol.messages import Outcome, RequestHead
from quick_server.protocol.writer import ResponseWriter, field_line

pytestmark = pytest.mark.benchmark(group="write")

NOW = 1_700_000_000.0
WRITER = ResponseWriter("quick_server/1.0")
OK = Outcome(
    200,
    b'Content-Type: application/json\r\nCache-Control: max-age=0\r\nETag: "cbf43926"\r\n',
    b'{"hello":"world"}',
)
FOR_PEOPLE = parse_head(HEAD.replace(b"application/json", b"text/html"))
ACCEPTING = {"html": FOR_PEOPLE, "json": REQUEST}


def error_page(request: RequestHead) -> bytes:
    """A whole 404."""
    outcome = error_outcome(404, "there is nothing here", request)
    assert isinstance(outcome.body, bytes)
    return WRITER.head(outcome, request, True, NOW) + outcome.body


def test_head_of_200(benchmark: Benchmark) -> None:
    """The connection goes on."""
    assert benchmark(WRITER.head, OK, REQUEST, True, NOW).startswith(b"HTTP/1.1 200 OK\r\n")


def test_head_of_last_200(benchmark: Benchmark) -> None:
    """The connection ends."""
    assert b"Connection: close" in benchmark(WRITER.head, OK, REQUEST, False, NOW)


def test_head_of_new_second(benchmark: Benchmark) -> None:
    """The first answer of each second writes the date."""
    seconds = count(NOW)
    assert benchmark(lambda: WRITER.head(OK, REQUEST, True, next(seconds)))


@pytest.mark.parametrize("kind", ACCEPTING)
def test_error_page(benchmark: Benchmark, kind: str) -> None:
    """Page and head, in the form that the client prefers."""
    assert kind.encode() in benchmark(error_page, ACCEPTING[kind])


def test_field_line(benchmark: Benchmark) -> None:
    """A field of a handler's own, checked."""
    assert benchmark(field_line, "X-Mood", "good")
