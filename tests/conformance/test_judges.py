"""Who judges: what is wrong with an answer is seen, and so is what is wrong with how it came."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.conformance.judging import closed, every, kept, status
from tests.conformance.reader import EndError, MalformedError, Reader
from tests.conformance.talk import PROBE, Talk, talk
from tests.harness import PATIENCE, Answer

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CLOSE = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello"
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

Read = Callable[..., Answer]


@pytest.fixture
def read() -> Iterator[Read]:
    """`read(data, method)` reads the answer that these bytes are, and all of them."""
    ours, theirs = socket.socketpair()
    ours.settimeout(PATIENCE)

    def one(data: bytes, method: str = "GET", version: str = "1.1") -> Answer:
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        reader = Reader(ours)
        answer = reader.answer(method, version)
        if not reader.at_end():
            raise MalformedError("something follows")
        return answer

    with ours, theirs:
        yield one


@pytest.mark.parametrize(
    ("data", "content"),
    [
        (HELLO, b"hello"),
        (
            b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nX: y\r\n\r\n",
            b"hello",
        ),
        (b"HTTP/1.0 404 Not Found\r\n\r\nto the end", b"to the end"),
        (b"HTTP/1.1 204 No Content\r\nX:\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", b""),
    ],
)
def test_good_answers(read: Read, data: bytes, content: bytes) -> None:
    assert read(data).body == content


def test_the_end_instead_of_an_answer(read: Read) -> None:
    with pytest.raises(EndError):
        read(b"")


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\n\n",
        b"HTTP/1.1 200 OK\r\nX: y\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nhello",
        b"HTTP/1.1 304 Not Modified\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
        HELLO + b"\r\n",
    ],
)
def test_answers_that_are_none(read: Read, data: bytes) -> None:
    with pytest.raises(MalformedError):
        read(data)


def test_content_where_none_may_be(read: Read) -> None:
    with pytest.raises(MalformedError):
        read(HELLO, "HEAD")


def test_chunks_for_who_does_not_know_them(read: Read) -> None:
    with pytest.raises(MalformedError):
        read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", version="1.0")


@pytest.fixture
def against() -> Iterator[Callable[..., Talk]]:
    """`against(first, second)`: a talk with a server that answers so, and then closes."""
    threads = []

    def whole(*answers: bytes, closes: bool = True) -> Talk:
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=serve, args=(listener, answers, closes))
        thread.start()
        threads.append(thread)
        return talk(listener.getsockname(), [REQUEST], ["GET"], PATIENCE if closes else 0.05)

    yield whole
    for thread in threads:
        thread.join(PATIENCE)


def serve(listener: socket.socket, answers: tuple[bytes, ...], closes: bool) -> None:
    """The first answer for the request, the second for the probe."""
    with listener, listener.accept()[0] as sock:
        sock.settimeout(PATIENCE)
        for expected, answer in zip((REQUEST, PROBE), answers, strict=False):
            received = b""
            while len(received) < len(expected):
                received += sock.recv(len(expected) - len(received))
            sock.sendall(answer)
        if not closes:
            while sock.recv(4096):
                pass


Against = Callable[..., Talk]


def test_kept(against: Against) -> None:
    found = against(HELLO, CLOSE)
    assert (str(found), found.fault) == ("200, kept", "")
    assert every(status(200), kept)(found) == ""
    assert closed(found) == "200, kept"


def test_closed(against: Against) -> None:
    found = against(CLOSE)
    assert (str(found), found.fault) == ("200, closed", "")
    assert every(status(200), closed)(found) == ""
    assert status(404)(found) == kept(found) == "200, closed"


def test_no_answer(against: Against) -> None:
    assert str(against(b"")) == "closed without answer"
    assert str(against(b"", closes=False)) == "no answer"


def test_neither_kept_nor_closed(against: Against) -> None:
    found = against(HELLO, closes=False)
    assert str(found) == "200, then silence"
    assert kept(found)
    assert closed(found)


def test_an_answer_too_many(against: Against) -> None:
    assert against(HELLO + b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", CLOSE).fault
    assert against(HELLO, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n").fault


def test_close_is_said_and_not_done(against: Against) -> None:
    assert against(CLOSE, CLOSE).fault == "said close and did not"


def test_bytes_behind_an_answer(against: Against) -> None:
    assert against(HELLO + b"and more", CLOSE).fault
