"""Asking for jobs: `worker_request` starts a worker's job on a server and waits for what it returns.

The calling thread does everything; there is one connection for each call, and nothing stays behind.
What is on the wire: each action is a POST of a JSON object to the one URL of the worker, and each
answer is a JSON object whose `done`, `continue` and `result` say where the job stands (`_STATES`).

When to ask again: a server that tells of a job's progress or its place in the line holds an answer
until there is something to tell (at most `wait` milliseconds), so it is asked at once. Any other
server answers right away and is asked at the pace of `_paces`.

What is tried again: whatever got no answer, and what a 502, 503 or 504 answered. Only the start of
a job is special, since two starts are two jobs (RFC 9110 section 9.2.2): it is sent again only where
no job can have begun, or where the server asks for it. Everything else that is no proper answer ends
the request.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, auto
from functools import partial
from types import NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

from .jsontext import json_bytes
from .version import __version__

if TYPE_CHECKING:
    import http.client

_START_HOLD = 100
"""Milliseconds that a start may take. Short, as a job cannot be stopped before its token is known."""
_HOLD = 20_000
"""Milliseconds that the server may hold any other answer: less than what proxies wait (30 s)."""
_HELD = 0.05
"""Seconds from which on an answer passes for held."""
_SLACK = 30.0
"""Seconds beyond what it may hold that a server has for its answer."""
_STOP_TIMEOUT = 2.0
"""Seconds that stopping a job may take: whoever presses CTRL-C does not want to wait."""
_CONNECT_TIMEOUT = 10.0
"""Seconds until a host that does not react counts as one that is away."""
_START_PATIENCE = 10.0
"""Seconds that a server may take to come up, or to have room for another job."""
_PATIENCE = 120.0
"""Seconds without an answer after which a job is given up: no result is kept for longer."""
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.25, 8.0
_LONGEST_RETRY_AFTER = 60


class Progress(NamedTuple):
    """Where a job stands."""

    done: float = 0
    """How much of `total` is done."""
    total: float | None = None
    """How much there is to do, in the job's own unit; None while that is not known."""
    text: str = ""
    """What the job says that it is doing."""
    queue: int = 0
    """How many jobs come before this one; 0 once it runs."""


class WorkerError(Exception):
    """There is no result.

    >>> WorkerError("no such model", 404).get_status_code()
    404
    """

    def __init__(self, message: str, status_code: int = -1) -> None:
        super().__init__(message)
        self._status_code = status_code

    def get_status_code(self) -> int:
        """The status that tells why, such as that of a job's PreventDefaultResponse; -1 without."""
        return self._status_code


def worker_request(
    url: str,
    payload: Any,
    *,
    on_progress: Callable[[Progress], object] | None = None,
    timeout: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """Has a worker compute something, and returns its result once it is there.

    `url` is where the worker is (`http` or `https`); neither redirects nor the proxies of the
    environment are followed. `payload` is what its function gets: anything that `json_dumps` takes.
    `on_progress` is called in this thread with a `Progress` each time it changed. `timeout` is in
    seconds, for everything together. `headers` are sent with each request.

    A server that is away for a while is tried again: for 10 s to start the job, then for 2 minutes.

    Raises WorkerError if the job failed, was stopped or is not known (any more), if the server
    cannot be reached or does not talk as workers do, and if time is up; TypeError or ValueError,
    before anything is sent, for a payload that is not JSON or a `url` or `headers` that cannot be.
    Whatever ends the wait early, be it the timeout, an exception in `on_progress` or a
    KeyboardInterrupt, stops the job on the server too.

    >>> worker_request("http://localhost:8080/mean", {"of": [1, 2, 6]}, timeout=60)  # doctest: +SKIP
    3.0
    """
    return _request(url, payload, on_progress, timeout, headers or {}, _Clock())


class _Clock:
    """Seconds as they pass."""

    def now(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


def _request(
    url: str,
    payload: Any,
    on_progress: Callable[[Progress], object] | None,
    timeout: float | None,
    headers: Mapping[str, str],
    clock: _Clock,
) -> Any:
    start = json_bytes({"action": "start", "payload": payload, "wait": _START_HOLD})
    channel = _Channel(url, headers)
    try:
        return _Job(channel, on_progress, timeout, clock).run(start)
    finally:
        channel.close()


# ---- the job ----------------------------------------------------------------------------------


class _State(Enum):
    RUNNING = auto()
    FINISHED = auto()
    IN_PIECES = auto()
    STOPPED = auto()
    UNKNOWN = auto()


_STATES = {
    (False, True, NoneType): _State.RUNNING,
    (True, False, str): _State.FINISHED,
    (True, True, list): _State.IN_PIECES,
    (True, False, NoneType): _State.STOPPED,
    (False, False, NoneType): _State.UNKNOWN,
}
"""What an answer means: its `done`, its `continue` and the type of its `result`."""

_WHY = {
    _State.STOPPED: "the job was stopped",
    _State.UNKNOWN: "the server does not know the job (any more)",
}


class _TroubleError(Exception):
    """No proper answer, which may be different next time."""

    def __init__(
        self, message: str, *, may_run: bool, stale: bool = False, status: int = -1, after: float = 0.0
    ) -> None:
        super().__init__(message)
        self.may_run = may_run
        """Whether a start may have begun a job nevertheless."""
        self.stale = stale
        """Whether that was a kept connection, which the server had closed by then."""
        self.status = status
        self.after = after
        """How many seconds later the server wants to be asked again, if it says so."""


class _Job:
    """One job, from its start to its result."""

    def __init__(
        self,
        channel: _Channel,
        on_progress: Callable[[Progress], object] | None,
        timeout: float | None,
        clock: _Clock,
    ) -> None:
        self._channel = channel
        self._on_progress = on_progress
        self._clock = clock
        self._timeout = math.inf if timeout is None else timeout
        self._deadline = clock.now() + self._timeout
        self._token: str | float | None = None
        self._over = False  # the server has said so
        self._progress = Progress()
        self._trouble: _TroubleError | None = None  # before the latest answer

    def run(self, start: bytes) -> Any:
        """The result of the job that the message `start` asks for."""
        try:
            text = self._follow(start)
        except BaseException:
            self._abandon()
            raise
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise WorkerError(f"the result is not JSON: {error}") from error

    def _follow(self, start: bytes) -> str:
        answer = self._ask(start, _START_HOLD, starts=True)
        paces = _paces()
        is_prompt = False  # so that it would be asked over and over
        while (state := _state_of(answer)) is _State.RUNNING:
            if self._token is None:
                self._token = _token_of(answer)
            holds = "progress" in answer or "queue" in answer
            changed = holds and self._tell(answer)
            if not holds or (is_prompt and not changed):
                self._pause(next(paces))
            asked = self._clock.now()
            hold = int(min(_HOLD, max(self._left() * 1000, 0)))
            answer = self._ask(_message("get", self._token, wait=hold), hold)
            is_prompt = self._clock.now() - asked < min(_HELD, hold / 1000)
        self._over = True
        if state is _State.FINISHED:
            return str(answer["result"])
        if state is _State.IN_PIECES:
            return "".join([self._fetch(token) for token in answer["result"]])
        raise self._failure(_WHY[state])

    def _fetch(self, token: Any) -> str:
        """One piece of the result; the server forgets it."""
        piece = self._ask(_message("cargo", token))
        if _state_of(piece) is not _State.FINISHED:
            raise self._failure("a piece of the result is gone")
        return str(piece["result"])

    def _failure(self, why: str) -> WorkerError:
        """Why there is no result. Trouble just before it may be the reason: a job's own 503, say."""
        if self._trouble is None:
            return WorkerError(why)
        return WorkerError(f"{why} (before: {self._trouble})", self._trouble.status)

    def _tell(self, answer: dict[str, Any]) -> bool:
        """Tells the caller of progress; returns whether there is any."""
        progress = _progress_of(answer)
        if progress == self._progress:
            return False
        self._progress = progress
        if self._on_progress is not None:
            self._on_progress(progress)
        return True

    def _ask(self, message: bytes, hold: int = 0, *, starts: bool = False) -> dict[str, Any]:
        """The answer to a message, however often that has to be sent; `hold` in milliseconds."""
        self._trouble = None
        backoff, give_up = _FIRST_BACKOFF, math.inf
        while True:
            if starts:
                self._channel.close()  # a kept connection may be closed by now: did the start arrive?
            try:
                return self._exchange(message, hold)
            except _TroubleError as trouble:
                if starts and trouble.may_run:
                    raise WorkerError(
                        f"{trouble}; whether it runs is unknown", trouble.status
                    ) from trouble
                if trouble.stale:
                    continue
                self._trouble = trouble
                now = self._clock.now()
                give_up = min(give_up, now + (_START_PATIENCE if starts else _PATIENCE))
                if now >= give_up:
                    raise WorkerError(str(trouble), trouble.status) from trouble
            self._pause(max(backoff, self._trouble.after))
            backoff = min(backoff * 2, _LONGEST_BACKOFF)

    def _exchange(self, message: bytes, hold: int) -> dict[str, Any]:
        """Sends a message once. Raises _TroubleError if that may be done again, else WorkerError."""
        seconds, left = hold / 1000 + _SLACK, self._left()
        if left <= 0:
            raise self._too_late()
        try:
            answer = self._channel.post(message, min(seconds, left))
        except _TroubleError as trouble:
            if self._left() <= 0:
                raise self._too_late() from trouble
            raise
        if answer.status == 200:
            return _object_of(answer.content)
        text = f"{answer.status} {answer.reason}{_explanation(answer.content)}"
        if answer.status in (502, 503, 504):
            may_run = answer.status != 503 and answer.after is None
            raise _TroubleError(text, may_run=may_run, status=answer.status, after=answer.after or 0.0)
        self._over = True
        raise WorkerError(text, answer.status)

    def _left(self) -> float:
        return self._deadline - self._clock.now()

    def _too_late(self) -> WorkerError:
        return self._failure(f"no result within {self._timeout:g} s")

    def _pause(self, seconds: float) -> None:
        self._clock.sleep(max(min(seconds, self._left()), 0.0))

    def _abandon(self) -> None:
        """Stops the job, if there may be one. Nobody waits for long, and nothing comes of a failure."""
        if self._over:
            return
        try:
            if self._token is None:  # interrupted right after the start: its answer is on its way
                late = self._channel.late_answer(_STOP_TIMEOUT)
                if late is None or late.status != 200:
                    return
                self._token = _token_of(_object_of(late.content))
            self._channel.close()
            self._channel.post(_message("stop", self._token), _STOP_TIMEOUT)
        except (_TroubleError, WorkerError):
            pass


def _paces() -> Iterator[float]:
    """Seconds to wait before each question to a server that holds no answers."""
    milliseconds = 500.0
    while True:
        yield milliseconds / 1000
        milliseconds = min(max(milliseconds * 1.01, milliseconds + 10), 60_000)


# ---- what is in a message ---------------------------------------------------------------------


def _message(action: str, token: Any, **more: int) -> bytes:
    return json_bytes({"action": action, "token": token, **more})


def _object_of(content: bytes) -> dict[str, Any]:
    """An answer as an object. Raises WorkerError if it is none."""
    try:
        answer = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise WorkerError(f"the answer is not JSON: {error}") from error
    if not isinstance(answer, dict):
        raise _not_a_worker(answer)
    return answer


def _state_of(answer: dict[str, Any]) -> _State:
    done, goes_on = answer.get("done"), answer.get("continue")
    if isinstance(done, bool) and isinstance(goes_on, bool):
        state = _STATES.get((done, goes_on, type(answer.get("result"))))
        if state is not None:
            return state
    raise _not_a_worker(answer)


def _token_of(answer: dict[str, Any]) -> str | float:
    """A job's token as it came: text, or a number from servers of old."""
    token = answer.get("token")
    if isinstance(token, bool) or not isinstance(token, str | int | float):
        raise _not_a_worker(answer)
    return token


def _progress_of(answer: dict[str, Any]) -> Progress:
    """What an answer tells of its job; what it leaves out is as in the beginning."""
    told = answer.get("progress")
    told = {} if told is None else told
    if not isinstance(told, dict):
        raise _not_a_worker(answer)
    values = {**told, "queue": answer.get("queue")}
    return Progress(**{name: values[name] for name in Progress._fields if values.get(name) is not None})


def _not_a_worker(answer: object) -> WorkerError:
    text = repr(answer)
    return WorkerError(f"that is no worker: {text[:200]}{'…' if len(text) > 200 else ''}")


def _explanation(content: bytes) -> str:
    """What an error page says beyond its status."""
    try:
        message = json.loads(content)["message"]
    except (ValueError, RecursionError, LookupError, TypeError):  # a page of another kind
        return ""
    return f": {message}" if isinstance(message, str) else ""


# ---- the connection ---------------------------------------------------------------------------


class _Answer(NamedTuple):
    status: int
    reason: str
    after: float | None  # seconds, from the Retry-After field
    content: bytes


class _Phase(Enum):
    IDLE = auto()
    SENDING = auto()
    SENT = auto()


class _Channel:
    """A connection to one URL, opened when it is needed and kept for as long as the server likes."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        """Raises ValueError if `url` is not that of a server. Nothing is sent yet."""
        from urllib.parse import quote, urlsplit

        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {url!r}")
        if parts.username is not None:
            raise ValueError("credentials belong into the headers, not into the URL")
        self._make = _maker(parts.scheme, parts.hostname, parts.port)
        self._connection = self._make()
        self._phase = _Phase.IDLE
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._target = quote(target, safe="%/:?[]@!$&'()*+,;=~")
        self._headers = {
            "content-type": "application/json",
            "accept": "application/json",  # of errors too
            "user-agent": f"quick_server/{__version__}",
            **{name.lower(): value for name, value in headers.items()},
        }

    def post(self, message: bytes, seconds: float) -> _Answer:
        """Sends a message and reads its answer; `seconds` is how long nothing may happen.

        Raises _TroubleError if no whole answer came, and WorkerError if none ever will.
        """
        import http.client

        if self._phase is not _Phase.IDLE:
            self.close()
        is_kept = self._connection.sock is not None
        try:
            if not is_kept:
                self._connection.timeout = min(seconds, _CONNECT_TIMEOUT)
                self._connection.connect()
            self._connection.sock.settimeout(seconds)
            self._send(message)
            return self._receive()
        except (OSError, http.client.IncompleteRead) as error:
            if _is_lasting(error):
                raise WorkerError(f"no connection: {error}") from error
            may_run = self._phase is _Phase.SENT
            stale = is_kept and isinstance(error, ConnectionError)
            text = f"no answer: {error}" if may_run else f"no connection: {error}"
            raise _TroubleError(text, may_run=may_run, stale=stale) from error
        except http.client.HTTPException as error:
            raise WorkerError(f"the answer is not HTTP: {error!r}") from error

    def late_answer(self, seconds: float) -> _Answer | None:
        """The answer to what was (perhaps) sent, if its wait was interrupted and it comes in time."""
        import http.client

        if self._phase is _Phase.IDLE or self._connection.sock is None:
            return None
        self._connection.sock.settimeout(seconds)
        try:
            return self._receive()
        except (OSError, http.client.HTTPException):
            return None

    def close(self) -> None:
        """Closes the connection; the next message opens another one."""
        self._connection.close()
        self._connection = self._make()  # an old one keeps what it was about to send
        self._phase = _Phase.IDLE

    def _send(self, message: bytes) -> None:
        self._phase = _Phase.SENDING
        try:
            self._connection.request("POST", self._target, message, self._headers)
        except ConnectionError:
            return  # it may have answered before it had read all: a 413, say
        self._phase = _Phase.SENT

    def _receive(self) -> _Answer:
        response = self._connection.getresponse()
        after = response.headers.get("retry-after", "")
        ends_with_connection = response.length is None and not response.chunked
        content = response.read()
        if ends_with_connection and not content:  # so does a head that was cut off
            raise ConnectionError("the connection ended within the answer")
        if self._phase is _Phase.SENT:
            self._phase = _Phase.IDLE
        return _Answer(response.status, response.reason, _retry_after(after), content)


def _maker(scheme: str, host: str, port: int | None) -> Callable[[], http.client.HTTPConnection]:
    """What makes a connection to a server; nothing is connected yet."""
    import http.client  # with all that comes with it (email, ssl) it takes long

    # Always with a port: otherwise `http.client` takes the end of an IPv6 address for one.
    if scheme == "http":
        return partial(http.client.HTTPConnection, host, 80 if port is None else port)
    import ssl

    context = ssl.create_default_context()  # once, since it reads all the certificates
    context.set_alpn_protocols(["http/1.1"])
    return partial(http.client.HTTPSConnection, host, 443 if port is None else port, context=context)


def _retry_after(value: str) -> float | None:
    """The seconds in a Retry-After field (RFC 9110 section 10.2.3), within reason; None without them.

    >>> _retry_after("5"), _retry_after("86400"), _retry_after("Fri, 31 Dec 1999 23:59:59 GMT")
    (5, 60, None)
    """
    is_number = value.isascii() and value.isdecimal() and len(value) < 10
    return min(int(value), _LONGEST_RETRY_AFTER) if is_number else None


def _is_lasting(error: Exception) -> bool:
    """Whether there is no point in trying again: no host of that name, no certificate to trust."""
    import socket
    import ssl

    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_NONAME
    return isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError)
