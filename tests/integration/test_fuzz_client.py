"""The fuzzer's client believes nothing: what is wrong with an answer is told for what it is."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from quick_server.testing import Kind
from quick_server.testing.client import Client
from tests.harness import PATIENCE

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b"Content-Length: 2\r\n\r\nab"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@contextmanager
def answering(*pieces: bytes, closes: bool = True, pause: float = 0.0) -> Iterator[Client]:
    """A client of a server that sends this to whoever connects, whatever is asked."""
    over = threading.Event()

    def serve() -> None:
        with listener.accept()[0] as sock:
            sock.settimeout(PATIENCE)
            sock.recv(65536)
            for piece in pieces:
                sock.sendall(piece)
                if over.wait(pause):
                    return
            if not closes:
                over.wait(PATIENCE)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Client(listener.getsockname())
        finally:
            over.set()
            thread.join(PATIENCE)


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (SIZED, b"ab"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + SIZED, b"ab"),
        (OK + b"\r\nuntil the end", b"until the end"),
        (CHUNKED + b"3\r\nabc\r\n1;x=y\r\nd\r\n0\r\nA: b\r\n\r\n", b"abcd"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
        (b"HTTP/1.0 404 \r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
def test_fine(data: bytes, body: bytes) -> None:
    with answering(data) as client:
        answer = client.exchange(REQUEST, PATIENCE)
    assert (answer.flaw, answer.body) == (None, body)


@pytest.mark.parametrize(
    ("data", "flaw"),
    [
        (b"", Kind.DROPPED),
        (OK, Kind.DROPPED),
        (b"HTTP/1.1 2", Kind.MALFORMED),
        (b"HTTP/3 200 OK\r\n\r\n", Kind.MALFORMED),
        (b"<html>\r\n\r\n", Kind.MALFORMED),
        (OK + b"no field\r\n\r\n", Kind.MALFORMED),
        (OK + b"A : b\r\n\r\n", Kind.MALFORMED),
        (OK + b"A: b\x00\r\n\r\n", Kind.MALFORMED),
        (OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc", Kind.MALFORMED),
        (OK + b"Content-Length: -1\r\n\r\n", Kind.MALFORMED),
        (CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Length: 2\r\n\r\n") + b"0\r\n\r\n", Kind.MALFORMED),
        (SIZED + b"c", Kind.MALFORMED),
        (SIZED[:-1], Kind.CUT_OFF),
        (CHUNKED + b"3\r\nab", Kind.CUT_OFF),
        (CHUNKED + b"3\r\nabc\r\n", Kind.CUT_OFF),
        (CHUNKED + b"x\r\n", Kind.MALFORMED),
        (CHUNKED + b"2\r\nabc\r\n0\r\n\r\n", Kind.MALFORMED),
    ],
)
def test_flaws(data: bytes, flaw: Kind) -> None:
    with answering(data) as client:
        assert client.exchange(REQUEST, PATIENCE).flaw is flaw


def test_an_answer_to_head_has_no_content() -> None:
    with answering(SIZED[:-2]) as client:
        assert client.exchange(REQUEST, PATIENCE, head_only=True).flaw is None
    with answering(SIZED) as client:
        assert client.exchange(REQUEST, PATIENCE, head_only=True).flaw is Kind.MALFORMED


@pytest.mark.parametrize(
    ("data", "flaw"),
    [
        (b"", Kind.HANG),
        (OK, Kind.HANG),
        (SIZED[:-1], Kind.HANG),
        (SIZED, Kind.MALFORMED),  # which asks for a close, and does not get it
    ],
)
def test_silence_is_not_waited_for(data: bytes, flaw: Kind) -> None:
    began = time.monotonic()
    with answering(data, closes=False) as client:
        assert client.exchange(REQUEST, 0.1).flaw is flaw
    assert time.monotonic() - began < PATIENCE / 2


def test_events_are_not_waited_for() -> None:
    with answering(OK + b"Content-Type: text/event-stream\r\n\r\ndata: 1\n\n", closes=False) as client:
        answer = client.exchange(REQUEST, PATIENCE)
    assert (answer.flaw, answer.is_endless) == (None, True)


def test_what_goes_on_and_on_is_left() -> None:
    with answering(CHUNKED, *[b"1\r\na\r\n"] * 500, pause=0.02) as client:
        answer = client.exchange(REQUEST, PATIENCE)
    assert (answer.flaw, answer.is_endless) == (None, True)


def test_the_time_is_that_to_the_end_of_the_head() -> None:
    with answering(OK, b"Content-Length: 2\r\n\r\n", b"ab", pause=0.1) as client:
        assert 0.1 <= client.exchange(REQUEST, PATIENCE).seconds < PATIENCE


def test_several_answers() -> None:
    with answering(SIZED + CHUNKED + b"0\r\n\r\n" + SIZED[:-1]) as client:
        answers = client.converse(REQUEST * 3, PATIENCE)
    assert [answer.flaw for answer in answers] == [None, None, Kind.CUT_OFF]
    with answering(SIZED[:-2], SIZED) as client:  # which of them answers the HEAD?
        [answer] = client.converse(REQUEST + REQUEST.replace(b"GET", b"HEAD"), PATIENCE)
    assert answer.flaw is None


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
    assert Client(address).exchange(REQUEST, PATIENCE).flaw is Kind.DROPPED
    assert Client(address).converse(REQUEST, PATIENCE)[0].flaw is Kind.DROPPED
