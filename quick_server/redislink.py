"""The way to Redis: answers within a time limit, or a clean 503.

Used on the threads of handlers and jobs, never on the loop. While Redis is away one thread at a time
tries whether it is back, and all others are refused at once, so that a Redis that hangs keeps no more
than one of them. The log is told when it goes and when it is back, and not of each request.
"""

from __future__ import annotations

import math
import threading
from typing import Any

from .keylocks import renew_after_fork
from .log import escape, get_time, log_server
from .responses import PreventDefaultResponse

_PAUSE = 1.0
"""Seconds after a report of an outage in which another one is not told of: it comes and goes."""
_SAME_COMPLAINT = 60.0
"""Seconds in which the same refusal is told of once."""


class RedisLink:
    """Commands to one Redis. Any thread."""

    def __init__(self, url_or_client: Any, timeout: float) -> None:
        """Connects when it is first asked. Raises ImportError without the package redis."""
        try:
            import redis
        except ImportError as error:
            raise ImportError(
                'tokens in Redis need a package: pip install "quick_server[redis]"', name="redis"
            ) from error
        self._client, self._is_ours = _client(url_or_client, timeout)
        self._lost = (redis.ConnectionError, redis.TimeoutError, OSError)
        self._errors = (redis.RedisError, OSError)
        self._mutex = threading.Lock()
        self._trier: threading.Thread | None = None
        self._is_told = False
        self._told_at = -math.inf
        self._complaint = ""
        self._complained_at = -math.inf
        self.is_down = False
        """Whether the last command found no Redis."""
        renew_after_fork(self)

    def ask(self, *command: Any) -> Any:
        """The answer to a command, not decoded. Raises PreventDefaultResponse, a 503, without one."""
        if not self.is_down:
            return self._ask(command)
        me = threading.current_thread()
        with self._mutex:
            # No lock: a job that was stopped, and one before a fork, might never give it back.
            if self._trier not in (None, me) and self._trier.is_alive():
                raise _unavailable()
            self._trier = me
        try:
            return self._ask(command)
        finally:
            self._trier = None

    def unusable(self, error: Exception) -> PreventDefaultResponse:
        """The 503 for an answer that cannot be what was written here; the log is told of it."""
        self._complain(f"what Redis has for a token is none: {escape(str(error))}")
        return _unavailable()

    def close(self) -> None:
        """Closes the connections that are not in use; the next command opens another."""
        if self._is_ours:
            self._client.connection_pool.disconnect(inuse_connections=False)

    def renew_locks(self) -> None:
        """In a fork."""
        self._mutex = threading.Lock()

    def _ask(self, command: tuple[Any, ...]) -> Any:
        try:
            answer = self._client.execute_command(*command, NEVER_DECODE=True)
        except self._lost as error:
            self._on_lost(error)
            raise _unavailable() from error
        except self._errors as error:
            self._on_refused(error)
            raise _unavailable() from error
        except BaseException:  # a job is stopped: on its connection the answer may be still to come
            self.close()
            raise
        if self.is_down:
            self._on_back()
        return answer

    def _on_lost(self, error: Exception) -> None:
        with self._mutex:
            is_news = not self.is_down and get_time() - self._told_at >= _PAUSE
            self.is_down = True
            if is_news:
                self._is_told, self._told_at = True, get_time()
        if is_news:
            log_server(f"no Redis, hence no tokens: {escape(str(error))}")

    def _on_back(self) -> None:
        with self._mutex:
            was_told, self._is_told, self.is_down = self._is_told, False, False
        if was_told:
            log_server("Redis is back")

    def _on_refused(self, error: Exception) -> None:
        """It is there, but full, read-only, or has something else in the place of a token."""
        self._complain(f"Redis refuses what tokens need: {escape(str(error))}")

    def _complain(self, complaint: str) -> None:
        now = get_time()
        with self._mutex:
            if complaint == self._complaint and now - self._complained_at < _SAME_COMPLAINT:
                return
            self._complaint, self._complained_at = complaint, now
        log_server(complaint)


def _unavailable() -> PreventDefaultResponse:
    return PreventDefaultResponse(503, "tokens cannot be had at the moment")


def _client(url_or_client: Any, timeout: float) -> tuple[Any, bool]:
    """A client with our time limit and without retries, and whether its connections are ours to close.

    Of a client only the way to its Redis is taken, if that is a plain one; any other client (of a
    sentinel, for instance) is used as it is.
    """
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    if isinstance(url_or_client, str):
        pool = redis.ConnectionPool.from_url(url_or_client)
    else:
        pool = url_or_client.connection_pool
        if type(pool) not in (redis.ConnectionPool, redis.BlockingConnectionPool):
            return url_or_client, False
    limits = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
    options = {**pool.connection_kwargs, **limits, "retry": Retry(NoBackoff(), 0), "retry_on_error": []}
    own = redis.ConnectionPool(connection_class=pool.connection_class, **options)
    return redis.Redis(connection_pool=own), True
