"""`worker_request`: having a job done, whatever the server and the way to it are like."""

from __future__ import annotations

import http.client
import itertools
import json
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

import quick_server
from quick_server import (
    PreventDefaultResponse,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    create_server,
)
from quick_server.client import Progress, WorkerError, _Clock, _paces, _request, worker_request
from tests.harness import PATIENCE
from tests.integration.logs import Log
from tests.integration.scripts import Script, environment

Req = QuickServerRequestHandler
Message = dict[str, Any]

FINISHED: Message = {"token": "1", "done": True, "result": '{"is": "fine"}', "continue": False}
RUNNING: Message = {"token": "1", "done": False, "result": None, "continue": True}
HELD: Message = {**RUNNING, "queue": 0}
STOPPED: Message = {"token": "1", "done": True, "result": None, "continue": False}
UNKNOWN: Message = {"token": "1", "done": False, "result": None, "continue": False}
FINE = {"is": "fine"}


@pytest.fixture
def server(log: Log) -> Iterator[QuickServer]:
    made = create_server(("127.0.0.1", 0))
    yield made
    made.server_close()


class Clock(_Clock):
    """Time passes only while somebody sleeps, and nobody really does."""

    def __init__(self, on_sleep: Callable[[int], object] = lambda number: None) -> None:
        self.slept: list[float] = []
        self._on_sleep = on_sleep

    def now(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self._on_sleep(len(self.slept))

    def request(
        self,
        url: str,
        payload: Any = None,
        *,
        on_progress: Callable[[Progress], object] | None = None,
        timeout: float | None = None,
    ) -> Any:
        """`worker_request` by this clock."""
        return _request(url, payload, on_progress, timeout, {}, self)


class Work:
    """A job that takes until it may go on."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.ended = threading.Event()

    def __call__(self, post: Message) -> Message:
        try:
            quick_server.progress(1, 4, "working")
            while not self.may_go_on.wait(0.01):
                pass
            return post
        finally:
            self.ended.set()


@pytest.fixture
def work(server: QuickServer) -> Iterator[Work]:
    """The job at `/work`."""
    made = Work()
    server.json_worker("/work")(made)
    yield made
    made.may_go_on.set()


# ---- jobs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [{"a": [1, None]}, [], "", 0, False, "ü\ud800\U0001f600", None], ids=repr
)
def test_a_fast_job(server: QuickServer, value: object) -> None:
    server.json_worker("/echo")(lambda post: [post["value"]])
    with server.running() as url:
        assert worker_request(f"{url}/echo", {"value": value}) == [value]


def test_a_job_of_nothing(server: QuickServer) -> None:
    server.json_worker("/echo")(lambda post: post)
    with server.running() as url:
        assert worker_request(f"{url}/echo", {}) == {}


def test_a_long_job(server: QuickServer, work: Work) -> None:
    with server.running() as url:
        seen: list[Progress] = []

        def on_progress(progress: Progress) -> None:
            seen.append(progress)
            work.may_go_on.set()

        assert worker_request(f"{url}/work", FINE, on_progress=on_progress) == FINE
    assert seen == [Progress(1, 4, "working", 0)]


def test_each_change_of_the_progress(server: QuickServer) -> None:
    steps = [threading.Event() for _ in range(5)]

    @server.json_worker("/steps")
    def work(post: Message) -> str:
        for number, step in enumerate(steps):
            quick_server.progress(number + 1, len(steps), f"step {number + 1}")
            step.wait(PATIENCE)
        return "done"

    def on_progress(progress: Progress) -> None:
        if progress.done:
            seen.append(progress)
            steps[int(progress.done) - 1].set()

    seen: list[Progress] = []
    with server.running() as url:
        assert worker_request(f"{url}/steps", {}, on_progress=on_progress) == "done"
    assert seen == [Progress(number, 5, f"step {number}") for number in range(1, 6)]


def test_nobody_waits_for_a_job_that_is_done(server: QuickServer, work: Work) -> None:
    """The server holds its answer until then, so that there is no pace."""
    clock = Clock()
    with server.running() as url:
        clock.request(f"{url}/work", {}, on_progress=lambda progress: work.may_go_on.set())
    assert clock.slept == []


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_large_result(server: QuickServer, size: int) -> None:
    server.max_chunk_size = size
    value = ["größer", {"\U0001f600": list(range(10))}]
    server.json_worker("/large")(lambda post: value)
    with server.running() as url:
        assert worker_request(f"{url}/large", {}) == value


def test_segments_of_the_mask(server: QuickServer) -> None:
    server.json_worker("/pre fix/:name/work")(lambda post: post)
    with server.running() as url:
        result = worker_request(f"{url}/pre fix/größe/work?a=1#fragment", {"of": 1})
    assert result == {"of": 1, "name": "größe"}


def test_many_at_once(server: QuickServer) -> None:
    server.json_worker("/echo")(lambda post: post)
    results: list[Any] = []
    with server.running() as url:
        threads = [
            threading.Thread(target=lambda n=n: results.append(worker_request(f"{url}/echo", {"n": n})))
            for n in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    assert sorted(result["n"] for result in results) == list(range(6))


# ---- jobs that fail ---------------------------------------------------------------------------


def test_a_job_that_raises(server: QuickServer, log: Log) -> None:
    @server.json_worker("/fails")
    def fails(post: Message) -> None:
        raise ValueError("went wrong")

    with server.running() as url, pytest.raises(WorkerError, match="500") as caught:
        worker_request(f"{url}/fails", {})
    assert caught.value.get_status_code() == 500
    assert "went wrong" not in str(caught.value)
    log.wait_for("(?s)Traceback.*went wrong")


@pytest.mark.parametrize("code", [400, 404, 418, 503])
def test_a_job_that_says_how_it_fails(server: QuickServer, work: Work, code: int) -> None:
    """After the start was answered, so that a 503 is the job's own and not the server's."""

    @server.json_worker("/prevented")
    def prevented(post: Message) -> None:
        work({})
        raise PreventDefaultResponse(code, "short and stout")

    with server.running() as url, pytest.raises(WorkerError, match="short and stout") as caught:
        Clock().request(
            f"{url}/prevented", {}, on_progress=lambda progress: work.may_go_on.set(), timeout=PATIENCE
        )
    assert caught.value.get_status_code() == code


def test_no_such_worker(server: QuickServer) -> None:
    with server.running() as url, pytest.raises(WorkerError, match="404") as caught:
        worker_request(f"{url}/nothing", {})
    assert caught.value.get_status_code() == 404


def test_a_payload_that_is_too_large(server: QuickServer) -> None:
    server.max_file_size = 100_000
    server.json_worker("/echo")(lambda post: post)
    with server.running() as url, pytest.raises(WorkerError, match="413") as caught:
        worker_request(f"{url}/echo", {"of": "x" * 20_000_000})
    assert caught.value.get_status_code() == 413


def test_the_server_starts_anew(server: QuickServer, work: Work) -> None:
    """The port is the same, the job is gone."""
    port = server.server_address[1]
    with ExitStack() as stack:
        first = stack.enter_context(ExitStack())
        url = first.enter_context(server.running())

        def on_progress(progress: Progress) -> None:
            work.may_go_on.set()
            first.close()
            second = create_server(("127.0.0.1", port))
            second.json_worker("/work")(work)
            stack.enter_context(second.running())

        with pytest.raises(WorkerError, match="not know") as caught:
            worker_request(f"{url}/work", {}, on_progress=on_progress)
    assert caught.value.get_status_code() == -1


# ---- waits that end early ---------------------------------------------------------------------


def test_the_timeout_stops_the_job(server: QuickServer, work: Work) -> None:
    with server.running() as url:
        with pytest.raises(WorkerError, match=r"no result within 0\.3 s") as caught:
            worker_request(f"{url}/work", {}, timeout=0.3)
        assert work.ended.wait(PATIENCE)
        assert not work.may_go_on.is_set()
    assert caught.value.get_status_code() == -1


@pytest.mark.parametrize("timeout", [0, -1])
def test_no_time_at_all(server: QuickServer, timeout: float) -> None:
    calls: list[Message] = []
    server.json_worker("/work")(calls.append)
    with server.running() as url, pytest.raises(WorkerError, match="no result"):
        worker_request(f"{url}/work", {}, timeout=timeout)
    assert calls == []


def test_an_error_of_the_caller_stops_the_job(server: QuickServer, work: Work) -> None:
    def on_progress(progress: Progress) -> None:
        raise LookupError("mine")

    with server.running() as url:
        with pytest.raises(LookupError, match="mine"):
            worker_request(f"{url}/work", {}, on_progress=on_progress)
        assert work.ended.wait(PATIENCE)


WAITING = """\
import signal
from quick_server.client import worker_request
signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it may be ignored
def on_progress(progress): print(progress, flush=True)
worker_request({url!r}, {{}}, on_progress=on_progress)
"""


def test_an_interrupt_stops_the_job(server: QuickServer, work: Work, tmp_path: Path) -> None:
    with server.running() as url:
        script = Script.python("-c", WAITING.format(url=f"{url}/work"), cwd=tmp_path)
        try:
            script.wait_for("working")
            script.signal(signal.SIGINT)
            assert work.ended.wait(PATIENCE)
            script.wait_for("KeyboardInterrupt")
            assert script.ended() == -signal.SIGINT
        finally:
            script.dispose()
        assert not work.may_go_on.is_set()


# ---- servers that follow a script -------------------------------------------------------------


class Scripted:
    """A worker that answers what it was told to, one after another, and keeps what it was asked."""

    def __init__(self, *answers: object) -> None:
        self.asked: list[Message] = []
        self.clients: set[object] = set()
        self._answers = iter(answers)

    def __call__(self, req: Req, args: ReqArgs) -> object:
        self.asked.append(args["post"])
        self.clients.add(req.client_address)
        answer = next(self._answers)
        if callable(answer):
            answer = answer(req)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def actions(self) -> list[str]:
        return [message["action"] for message in self.asked]


@contextmanager
def scripted(server: QuickServer, *answers: object) -> Iterator[tuple[str, Scripted]]:
    """Such a worker, and its URL."""
    worker = Scripted(*answers)
    server.json_post("/worker", 0)(worker)
    with server.running() as url:
        yield f"{url}/worker", worker


def with_progress(**progress: object) -> Message:
    return {**RUNNING, "progress": progress}


def test_what_is_sent(server: QuickServer) -> None:
    answers = ({**RUNNING, "token": "12", "queue": 1}, FINISHED)
    with scripted(server, *answers) as (url, worker):
        assert worker_request(url, [1, float("nan")]) == FINE
    assert worker.asked == [
        {"action": "start", "payload": [1, "NaN"], "wait": 100},
        {"action": "get", "token": "12", "wait": 20_000},
    ]
    assert len(worker.clients) == 1


def test_no_answer_is_held_for_longer_than_there_is_time(server: QuickServer) -> None:
    with scripted(server, HELD, FINISHED) as (url, worker):
        worker_request(url, {}, timeout=15)
    assert 10_000 < worker.asked[1]["wait"] <= 15_000


def test_headers(server: QuickServer) -> None:
    seen = []

    def answer(req: Req) -> Message:
        seen.append([req.headers.get_all(name) for name in ("x-key", "user-agent", "content-type")])
        return HELD if len(seen) == 1 else FINISHED

    with scripted(server, answer, answer) as (url, _worker):
        worker_request(url, {}, headers={"X-Key": "secret", "User-Agent": "me"})
    assert seen == [[["secret"], ["me"], ["application/json"]]] * 2


def test_places_in_the_line(server: QuickServer) -> None:
    """What changed is told; what is left out is as it was in the beginning."""
    seen: list[Progress] = []
    answers = (
        {**RUNNING, "queue": 2},
        {**RUNNING, "queue": 1},
        {**RUNNING, "queue": 0, "progress": None},
        with_progress(done=0.5),
        with_progress(done=0.5, total=None, text="half"),
        FINISHED,
    )
    with scripted(server, *answers) as (url, _worker):
        assert worker_request(url, {}, on_progress=seen.append) == FINE
    expected = [
        Progress(queue=2),
        Progress(queue=1),
        Progress(),
        Progress(0.5),
        Progress(0.5, text="half"),
    ]
    assert seen == expected


def test_a_server_that_holds_nothing_back_is_not_asked_in_a_hurry(server: QuickServer) -> None:
    """It tells of progress, but there is none, and its answers come at once."""
    clock = Clock()
    with scripted(server, *[with_progress(done=1)] * 4, FINISHED) as (url, worker):
        assert clock.request(url) == FINE
    assert clock.slept == [0.5, 0.51, 0.52]
    assert len(worker.asked) == 5


def test_the_pace_for_a_server_of_old(server: QuickServer) -> None:
    """Its tokens may be numbers, and are sent back as they came."""
    clock, cargo = Clock(), [9007199254740991, 17, "18"]
    answers: list[Message] = [{**RUNNING, "token": 1234567890123456}] * 4
    answers += [{"token": 1234567890123456, "done": True, "result": cargo, "continue": True}]
    answers += [{**FINISHED, "result": piece} for piece in ('{"is"', ': "fi', 'ne"}')]
    with scripted(server, *answers) as (url, worker):
        assert clock.request(url, {"of": 1}) == FINE
    assert clock.slept == [0.5, 0.51, 0.52, 0.53]
    assert worker.actions == ["start", *["get"] * 4, *["cargo"] * 3]
    assert [message["token"] for message in worker.asked[1:5]] == [1234567890123456] * 4
    assert [message["token"] for message in worker.asked[5:]] == cargo


def test_paces() -> None:
    paces = list(itertools.islice(_paces(), 700))
    assert paces[:3] == [0.5, 0.51, 0.52]
    assert paces[51] == 1.01  # milliseconds grow by ten, and from a second on by a hundredth
    assert paces[52] == pytest.approx(1.0201)
    assert paces[-1] == max(paces) == 60.0


def test_a_timeout_between_two_questions(server: QuickServer) -> None:
    clock = Clock()
    with (
        scripted(server, RUNNING, RUNNING, RUNNING, STOPPED) as (url, worker),
        pytest.raises(WorkerError, match=r"no result within 1\.25 s"),
    ):
        clock.request(url, timeout=1.25)
    assert clock.slept == pytest.approx([0.5, 0.51, 0.24])
    assert worker.actions == ["start", "get", "get", "stop"]


def test_a_job_that_somebody_else_stopped(server: QuickServer) -> None:
    with (
        scripted(server, HELD, STOPPED) as (url, worker),
        pytest.raises(WorkerError, match="stopped") as caught,
    ):
        worker_request(url, {})
    assert caught.value.get_status_code() == -1
    assert worker.actions == ["start", "get"]


def test_an_interrupt_before_the_token_is_there(
    server: QuickServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer is waited for, since without the token nobody could stop the job."""
    wait = http.client.HTTPConnection.getresponse

    def interrupted(connection: http.client.HTTPConnection) -> http.client.HTTPResponse:
        monkeypatch.setattr(http.client.HTTPConnection, "getresponse", wait)
        raise KeyboardInterrupt

    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", interrupted)
    with scripted(server, RUNNING, STOPPED) as (url, worker), pytest.raises(KeyboardInterrupt):
        worker_request(url, {})
    assert worker.actions == ["start", "stop"]
    assert worker.asked[1]["token"] == "1"


class Rude(str):
    """The value of a header field that interrupts while the second request is written."""

    written = 0

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        self.written += 1
        if self.written == 2:
            raise KeyboardInterrupt
        return super().encode(encoding, errors)


def test_an_interrupt_within_a_request(server: QuickServer) -> None:
    """Nothing of it gets into the one that stops the job."""
    with scripted(server, HELD, STOPPED) as (url, worker), pytest.raises(KeyboardInterrupt):
        worker_request(url, {}, headers={"X-Rude": Rude("1")})
    assert worker.actions == ["start", "stop"]


def test_an_interrupt_at_a_server_that_is_gone(server: QuickServer) -> None:
    def on_progress(progress: Progress) -> None:
        server.server_close()
        raise KeyboardInterrupt

    with scripted(server, with_progress(done=1)) as (url, _worker), pytest.raises(KeyboardInterrupt):
        worker_request(url, {}, on_progress=on_progress)


# ---- trouble on the way -----------------------------------------------------------------------


def busy(code: int, after: str | None = None) -> Callable[[Req], Exception]:
    def answer(req: Req) -> Exception:
        if after is not None:
            req.send_header("Retry-After", after)
        return PreventDefaultResponse(code, "not now")

    return answer


def test_a_start_at_a_busy_server(server: QuickServer) -> None:
    clock = Clock()
    with scripted(server, busy(503), busy(503, "0"), busy(502, "3"), busy(503, "x"), FINISHED) as (
        url,
        _,
    ):
        assert clock.request(url) == FINE
    assert clock.slept == [0.25, 0.5, 3, 2.0]


@pytest.mark.parametrize("code", [502, 503, 504])
def test_questions_at_a_busy_server(server: QuickServer, code: int) -> None:
    clock = Clock()
    answers = (
        {**RUNNING, "queue": 0},
        busy(code),
        busy(code, "7"),
        {**RUNNING, "queue": 0},
        busy(code),
    )
    with scripted(server, *answers, FINISHED) as (url, worker):
        assert clock.request(url) == FINE
    assert clock.slept == [0.25, 7, 0.25]
    assert worker.actions == ["start", *["get"] * 5]


def test_a_server_that_stays_busy(server: QuickServer) -> None:
    clock = Clock()
    with (
        scripted(server, *[busy(503)] * 9) as (url, _worker),
        pytest.raises(WorkerError, match="503 Service Unavailable: not now") as caught,
    ):
        clock.request(url)
    assert caught.value.get_status_code() == 503
    assert clock.slept == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize("code", [400, 401, 404, 409, 429, 500, 501])
def test_an_answer_that_is_final(server: QuickServer, code: int) -> None:
    """Nothing is asked twice, and there is no job that could be stopped."""
    clock = Clock()
    with (
        scripted(server, HELD, busy(code)) as (url, worker),
        pytest.raises(WorkerError, match=f"{code} .*: not now") as caught,
    ):
        clock.request(url)
    assert caught.value.get_status_code() == code
    assert worker.actions == ["start", "get"]
    assert clock.slept == []


@pytest.mark.parametrize("code", [502, 504])
def test_a_start_that_may_have_begun_a_job_is_not_repeated(server: QuickServer, code: int) -> None:
    with (
        scripted(server, busy(code)) as (url, worker),
        pytest.raises(WorkerError, match="unknown") as caught,
    ):
        worker_request(url, {})
    assert caught.value.get_status_code() == code
    assert worker.actions == ["start"]


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that nobody listens at, and nobody else gets."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_a_server_that_comes_up(log: Log) -> None:
    with ExitStack() as stack, ExitStack() as silence:
        port = silence.enter_context(silent_port())

        def on_sleep(number: int) -> None:
            if number == 3:
                silence.close()
                server = create_server(("127.0.0.1", port))
                server.json_post("/worker")(lambda req, args: FINISHED)
                stack.enter_context(server.running())

        clock = Clock(on_sleep)
        assert clock.request(f"http://127.0.0.1:{port}/worker") == FINE
    assert clock.slept == [0.25, 0.5, 1.0]


def test_no_server() -> None:
    clock = Clock()
    with silent_port() as port, pytest.raises(WorkerError, match="no connection") as caught:
        clock.request(f"http://127.0.0.1:{port}/")
    assert caught.value.get_status_code() == -1
    assert clock.slept == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0]


def test_no_server_for_as_long_as_there_is_time() -> None:
    clock = Clock()
    expected = pytest.raises(WorkerError, match=r"no result within 3 s.*no connection")
    with silent_port() as port, expected:
        clock.request(f"http://127.0.0.1:{port}/", timeout=3)
    assert clock.slept == [0.25, 0.5, 1.0, 1.25]


def test_a_server_that_goes_away(server: QuickServer) -> None:
    """It could come back, and results are kept for two minutes."""
    clock = Clock()
    with (
        scripted(server, with_progress(done=1)) as (url, _worker),
        pytest.raises(WorkerError, match="no connection"),
    ):
        clock.request(url, on_progress=lambda progress: server.server_close())
    assert clock.slept[:7] == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert 120 <= sum(clock.slept) <= 128


# ---- servers byte by byte ---------------------------------------------------------------------


def answer_of(value: object, status: str = "200 OK", fields: str = "") -> bytes:
    """An answer as it is on the wire."""
    content = json.dumps(value).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{fields}\r\n".encode() + content


class RawServer:
    """Answers the requests of each connection with bytes, and closes it; then the next connection."""

    def __init__(self, *connections: list[bytes], secure: ssl.SSLContext | None = None) -> None:
        self.actions: list[str] = []
        self._secure = secure
        self._connections = connections
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        scheme = "http" if secure is None else "https"
        self.url = f"{scheme}://localhost:{self._listening.getsockname()[1]}/worker"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "not all connections came"

    def _serve(self) -> None:
        self._listening.settimeout(PATIENCE)
        for answers in self._connections:
            connection, _address = self._listening.accept()
            connection.settimeout(PATIENCE)
            with connection:
                self._answer(connection, answers)
        self._listening.close()

    def _answer(self, connection: socket.socket, answers: list[bytes]) -> None:
        if self._secure is not None:
            try:
                connection = self._secure.wrap_socket(connection, server_side=True)
            except ssl.SSLError:  # the client trusts nobody
                return
        with connection:
            for answer in answers:
                self._read(connection)
                connection.sendall(answer)

    def _read(self, connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        head, _, content = received.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        while len(content) < size:
            content += connection.recv(65536)
        self.actions.append(json.loads(content)["action"])


def test_a_kept_connection_that_was_closed() -> None:
    """That is usual, and asked again without a pause."""
    clock = Clock()
    with RawServer([answer_of(HELD)], [answer_of(HELD)], [answer_of(FINISHED)]) as server:
        assert clock.request(server.url) == FINE
    assert clock.slept == [0.5]  # for the second answer came at once, with nothing new


def test_a_connection_that_is_lost_again() -> None:
    clock = Clock()
    with RawServer(
        [answer_of(HELD)], [b""], [b"HTTP/1.1 200 OK\r\nCont"], [answer_of(FINISHED)]
    ) as server:
        assert clock.request(server.url) == FINE
    assert clock.slept == [0.25, 0.5]
    assert server.actions == ["start", "get", "get", "get"]


def test_an_answer_that_is_cut_off() -> None:
    """Half of an answer is none."""
    clock = Clock()
    with RawServer([answer_of(HELD), answer_of(FINISHED)[:-5]], [answer_of(FINISHED)]) as server:
        assert clock.request(server.url) == FINE
    assert server.actions == ["start", "get", "get"]


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n", answer_of(FINISHED)[:-5]])
def test_a_start_without_an_answer_is_not_repeated(answer: bytes) -> None:
    with RawServer([answer]) as server, pytest.raises(WorkerError, match="whether it runs is unknown"):
        worker_request(server.url, {})
    assert server.actions == ["start"]


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\xff\x00\r\n\r\n",
        b"220 mail.example.com ESMTP\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\xff\xfe\xfd",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n<!doctype html><title>Welcome</title>",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
    ],
    ids=lambda answer: repr(answer[:40]),
)
def test_answers_that_are_nothing(answer: bytes) -> None:
    with RawServer([answer]) as server, pytest.raises(WorkerError):
        worker_request(server.url, {})


def test_a_redirect_is_not_followed() -> None:
    answer = answer_of("", "307 Temporary Redirect", "Location: /elsewhere\r\n")
    with RawServer([answer]) as server, pytest.raises(WorkerError, match="307") as caught:
        worker_request(server.url, {})
    assert caught.value.get_status_code() == 307


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        "text",
        1,
        {"done": True},
        {**FINISHED, "result": {"is": "fine"}},
        {**FINISHED, "done": 1},
        {**FINISHED, "done": []},
        {**FINISHED, "done": False},
        {**FINISHED, "continue": None},
        {**FINISHED, "result": ["1", "2"]},
        {**FINISHED, "result": "no JSON"},
        {**FINISHED, "result": ""},
        {**FINISHED, "result": "[" * 100_000},
        {**RUNNING, "token": None},
        {**RUNNING, "token": True},
        {**RUNNING, "token": ["1"]},
        {**RUNNING, "progress": [1, 2]},
        {**RUNNING, "result": "already"},
        {"x" * 500: 1},
        UNKNOWN,
        STOPPED,
    ],
    ids=lambda answer: repr(answer)[:60],
)
def test_answers_of_another_protocol(answer: object) -> None:
    stop = [[answer_of(STOPPED)]] if isinstance(answer, dict) and "progress" in answer else []
    with RawServer([answer_of(answer)], *stop) as server, pytest.raises(WorkerError) as caught:
        worker_request(server.url, {})
    assert caught.value.get_status_code() == -1
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("piece", [UNKNOWN, STOPPED, {**FINISHED, "result": ["1"], "continue": True}])
def test_cargo_that_is_gone(piece: Message) -> None:
    cargo = {**FINISHED, "result": ["5", "6"], "continue": True}
    answers = [answer_of(cargo), answer_of({**FINISHED, "result": "[1,"}), answer_of(piece)]
    with RawServer(answers) as server, pytest.raises(WorkerError, match="piece"):
        worker_request(server.url, {})
    assert server.actions == ["start", "cargo", "cargo"]


def test_garbage_in_the_middle_stops_the_job() -> None:
    with (
        RawServer([answer_of(HELD), answer_of("?")], [answer_of(STOPPED)]) as server,
        pytest.raises(WorkerError, match="no worker"),
    ):
        worker_request(server.url, {})
    assert server.actions == ["start", "get", "stop"]


# ---- before anything is sent ------------------------------------------------------------------


def test_a_payload_that_is_not_json(server: QuickServer) -> None:
    with scripted(server) as (url, worker), pytest.raises(TypeError, match="object"):
        worker_request(url, {"a": object()})
    assert worker.asked == []


def test_a_payload_that_contains_itself() -> None:
    circular: list[object] = []
    circular.append(circular)
    with pytest.raises(ValueError, match=r"(?i)circular|itself"):
        worker_request("http://localhost/", circular)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "worker",
        "/worker",
        "ftp://localhost/",
        "http://",
        "http:///x",
        "http://h:x/",
        "http://u:p@h/",
    ],
)
def test_a_url_of_no_server(url: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)url|port"):
        worker_request(url, {})


def test_headers_that_cannot_be(server: QuickServer) -> None:
    with scripted(server) as (url, worker), pytest.raises(ValueError, match="header"):
        worker_request(url, {}, headers={"X-Key": "a\r\nX-Other: b"})
    assert worker.asked == []


def test_an_import_that_costs_little() -> None:
    """Whoever only serves needs no client."""
    code = "import sys, quick_server.client; print({'http.client', 'ssl', 'email'} & {*sys.modules})"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=PATIENCE)
    assert done.stdout == "set()\n", done.stderr


# ---- https ------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A key and a certificate for localhost that nobody has signed."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here")
    path = tmp_path / "localhost.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(path), "-out", f"{path}.crt"]
    subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE)
    with path.open("a") as file:
        file.write(Path(f"{path}.crt").read_text())
    return path


@pytest.fixture
def secure(certificate: Path) -> ssl.SSLContext:
    """A server's side of it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_https(certificate: Path, secure: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with RawServer([answer_of(HELD), answer_of(FINISHED)], secure=secure) as server:
        assert worker_request(server.url, {}) == FINE
    assert server.actions == ["start", "get"]


def test_a_certificate_that_nobody_trusts(secure: ssl.SSLContext) -> None:
    clock = Clock()
    raw = RawServer([answer_of(FINISHED)], secure=secure)
    with raw, pytest.raises(WorkerError, match=r"(?i)certificate"):
        clock.request(raw.url)
    assert (raw.actions, clock.slept) == ([], [])


def test_the_default_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without a port, an IPv6 address in particular."""
    connected: list[tuple[str, int]] = []

    def connect(connection: http.client.HTTPConnection) -> None:
        connected.append((connection.host, connection.port))
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(http.client.HTTPConnection, "connect", connect)
    monkeypatch.setattr(http.client.HTTPSConnection, "connect", connect)
    for url in ("http://[::1]/worker", "http://Example.com", "https://[::1]/", "http://[::1]:81"):
        with pytest.raises(WorkerError, match="refused"):
            Clock().request(url)
    assert sorted(set(connected)) == [("::1", 80), ("::1", 81), ("::1", 443), ("example.com", 80)]
