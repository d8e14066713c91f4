"""The Python side of the clients: single requests, crowds of idle connections, a big upload."""

import http.client
import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.model import UnfitError
from bench.process import Server

TIMEOUT = 30.0
UPLOAD_TIMEOUT = 300.0
BLOCK = 1 << 20

# What a browser sends with every request to a page on this machine.
BROWSER = {
    "Connection": "keep-alive",
    "sec-ch-ua": '"Chromium";v="130", "Not?A_Brand";v="99"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
    "User-Agent": (
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/130.0.0.0 Safari/537.36"
    ),
    "Accept": "application/json, text/plain, */*",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
    "Referer": "http://127.0.0.1/example/index.html",
    "Cookie": "session=5f2b9c1e7a3d4860; theme=dark",
}
HEADER_LINES = [f"{name}: {value}" for name, value in BROWSER.items()]


@dataclass(frozen=True, slots=True)
class Request:
    """A request and its right answer: bytes as they are, anything else as what JSON says."""

    path: str
    answer: object
    method: str = "GET"
    body: str | None = None


def connect(server: Server, timeout: float = TIMEOUT) -> http.client.HTTPConnection:
    """A connection that is really there, not one that opens with its first request."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=timeout)
    connection.connect()
    return connection


def ask(connection: http.client.HTTPConnection, request: Request) -> bytes:
    """Sends one request and returns the body of its 200.

    Raises:
        UnfitError: for any other status.
    """
    send(connection, request)
    return receive(connection, request)


def send(connection: http.client.HTTPConnection, request: Request) -> None:
    """Sends one request as a browser would."""
    headers = dict(BROWSER)
    if request.body is not None:
        headers["Content-Type"] = "application/json"
    connection.request(request.method, request.path, request.body, headers)


def receive(connection: http.client.HTTPConnection, request: Request) -> bytes:
    """Returns the body of a 200; raises `UnfitError` for any other status."""
    response = connection.getresponse()
    body = response.read()
    if response.status != http.HTTPStatus.OK:
        raise UnfitError(f"{request.method} {request.path} was answered with {response.status}")
    return body


def check(server: Server, request: Request) -> int:
    """Asks once and returns the answer's size; only a right answer is worth measuring.

    Raises:
        UnfitError: for any other.
    """
    connection = connect(server)
    try:
        body = ask(connection, request)
    finally:
        connection.close()
    if not answers(request, body):
        raise UnfitError(f"{request.method} {request.path} gave a wrong answer")
    return len(body)


def answers(request: Request, body: bytes) -> bool:
    """Whether ``body`` is what the request should get."""
    if isinstance(request.answer, bytes):
        return body == request.answer
    try:
        return bool(json.loads(body) == request.answer)
    except ValueError:
        return False


def warm_up(server: Server, request: Request, connections: int = 4, requests: int = 50) -> None:
    """Lets a server make its threads and fill its caches before anything counts.

    Few connections by default: `http.server` has a backlog of 5, and whoever does not fit waits
    a second for the next try.
    """
    with crowd(server, request, connections) as held:
        for _ in range(requests):
            for connection in held:
                send(connection, request)
            for connection in held:
                receive(connection, request)


@contextmanager
def crowd(server: Server, request: Request, count: int) -> Iterator[list[http.client.HTTPConnection]]:
    """Holds ``count`` keep-alive connections, each of which has asked once and is idle since."""
    held: list[http.client.HTTPConnection] = []
    try:
        for _ in range(count):
            held.append(connect(server))
            ask(held[-1], request)
        yield held
    finally:
        for connection in held:
            connection.close()


def still_open(held: list[http.client.HTTPConnection]) -> int:
    """How many idle connections the server has not closed meanwhile."""
    count = 0
    for connection in held:
        if connection.sock is None:
            continue
        connection.sock.setblocking(False)
        try:
            connection.sock.recv(1)
        except BlockingIOError:
            count += 1
        except OSError:
            continue
    return count


def latency_p99(server: Server, request: Request, requests: int = 200) -> float:
    """The 99th percentile, in seconds, of asking on a new connection each time."""
    taken = []
    for _ in range(requests):
        start = time.perf_counter()
        connection = connect(server)
        try:
            ask(connection, request)
            taken.append(time.perf_counter() - start)
        finally:
            connection.close()
    return statistics.quantiles(taken, n=100)[98]


def upload(server: Server, path: str, size: int) -> float:
    """Sends a multipart form with one file of ``size`` random bytes; returns the seconds it took.

    Raises:
        UnfitError: if the answer is not ``{"size": size}``.
    """
    boundary = "----bench-boundary-8d1f"
    opening = (
        f"--{boundary}\r\n"
        'Content-Disposition: form-data; name="file"; filename="large.bin"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    closing = f"\r\n--{boundary}--\r\n".encode()
    block = os.urandom(BLOCK)
    start = time.perf_counter()
    connection = connect(server, UPLOAD_TIMEOUT)
    try:
        connection.putrequest("POST", path)
        connection.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
        connection.putheader("Content-Length", str(len(opening) + size + len(closing)))
        connection.endheaders(opening)
        for _ in range(size // BLOCK):
            connection.send(block)
        connection.send(closing)
        response = connection.getresponse()
        status, answer = response.status, response.read()
    finally:
        connection.close()
    seconds = time.perf_counter() - start
    if status != http.HTTPStatus.OK:
        raise UnfitError(f"the upload was answered with {status}")
    if not answers(Request(path, {"size": size}), answer):
        raise UnfitError("the upload did not arrive as it was sent")
    return seconds
