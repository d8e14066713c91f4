"""Tokens: what the server keeps for its clients, and the store in memory.

Any thread; never the loop's. One lock guards the bookkeeping of the store and is held for short; the
locks that callers hold during `with` are the tokens' own.
"""

from __future__ import annotations

import copy
import heapq
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum
from itertools import count
from typing import Any, Literal

from .keylocks import KeyLocks, renew_after_fork
from .log import log_exception, log_server
from .responses import PreventDefaultResponse
from .tokenobjects import TokenHandler, TokenObj, object_of

_LONGEST = 200
_BYTES = 32
_COPIES = 10
_SPARE = 64


class _Expire(Enum):
    DEFAULT = "the default of the server"


DEFAULT = _Expire.DEFAULT
"""As `expire`: whatever `set_default_token_expiration` says."""


class DefaultTokenHandler(TokenHandler):
    """Tokens in the memory of this process; they are gone when it ends.

    It keeps up to `max_tokens`; for one more, the one that was unused for the longest time goes. What
    `clock` returns are seconds.
    """

    def __init__(self, max_tokens: int = 100_000, clock: Callable[[], float] = time.monotonic) -> None:
        if max_tokens < 1:
            raise ValueError(f"there has to be room for at least one token, not {max_tokens}")
        self._most = max_tokens
        self._clock = clock
        self._locks = KeyLocks()
        self._mutex = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()  # the longest unused one first
        self._queue: list[tuple[float, int, str]] = []  # when to look at which token, and a ticket
        self._tickets = count(1)
        self._was_full = False
        renew_after_fork(self)

    def lock(self, key: str) -> AbstractContextManager[Any]:
        """What `with` enters for that token; re-entrant."""
        return self._locks.of(key)

    def ttl(self, key: str) -> float | None:
        """Seconds until a token is gone; None: never, 0: it is."""
        with self._mutex:
            now = self._flush()
            entry = self._entries.get(key)
            if entry is None:
                return 0
            return None if entry.deadline == math.inf else entry.deadline - now

    def flush_old_tokens(self) -> None:
        """Drops the tokens whose time is over."""
        with self._mutex:
            self._flush()

    def add_token(self, key: str, expire: float | None) -> TokenObj:
        """The object of a token, new if need be, which expires so many seconds from now."""
        is_first = False
        with self._mutex:
            now = self._flush()
            entry = self._entries.get(key)
            if entry is None:
                if len(self._entries) >= self._most:
                    is_first, self._was_full = not self._was_full, True
                    self._entries.popitem(last=False)
                entry = self._entries[key] = _Entry(TokenObj(lock=self._locks.of(key)))
            else:
                self._entries.move_to_end(key)
            entry.deadline = math.inf if expire is None else now + expire
            self._queue_up(key, entry)
        if is_first:
            log_server(f"there are {self._most} tokens: the longest unused ones make room for new ones")
        return entry.obj

    def put_token(self, key: str, obj: dict[str, Any]) -> None:
        """Makes `obj` what a token holds."""
        with self._mutex:
            entry = self._entries.get(key)
        if entry is None or entry.obj is obj:
            return
        entry.obj.clear()
        entry.obj.update(obj)

    def delete_token(self, key: str) -> None:
        """Drops a token, if it is there."""
        with self._mutex:
            self._entries.pop(key, None)

    def get_tokens(self) -> list[str]:
        """All tokens that are there."""
        with self._mutex:
            self._flush()
            return list(self._entries)

    def renew_locks(self) -> None:
        """In a fork."""
        self._mutex = threading.Lock()

    # with the mutex held ----------------------------------------------------------------------------

    def _queue_up(self, key: str, entry: _Entry) -> None:
        """Has a token looked at when its time is over, or before: it is queued up again then."""
        if entry.deadline >= entry.queued:
            return
        self._push(key, entry)
        if len(self._queue) > 2 * len(self._entries) + _SPARE:  # most of it is out of date
            self._queue.clear()
            for other, known in self._entries.items():
                if known.deadline != math.inf:
                    self._push(other, known)

    def _push(self, key: str, entry: _Entry) -> None:
        entry.queued, entry.ticket = entry.deadline, next(self._tickets)
        heapq.heappush(self._queue, (entry.queued, entry.ticket, key))

    def _flush(self) -> float:
        """Drops what is over, and returns what time it is."""
        now = self._clock()
        while self._queue and self._queue[0][0] <= now:
            _, ticket, key = heapq.heappop(self._queue)
            entry = self._entries.get(key)
            if entry is None or entry.ticket != ticket:  # it is gone, or was queued up again
                continue
            if entry.deadline <= now:
                del self._entries[key]
            else:
                entry.queued = math.inf
                self._queue_up(key, entry)
        return now


class _Entry:
    """A token. It is next looked at when it is `queued`, which is never after its `deadline`."""

    __slots__ = ("deadline", "obj", "queued", "ticket")

    def __init__(self, obj: TokenObj) -> None:
        self.obj = obj
        self.deadline = math.inf
        self.queued = math.inf
        self.ticket = 0


class Tokens:
    """The methods with which handlers use tokens. Any thread but the loop's."""

    def __init__(self, handler: TokenHandler) -> None:
        self._token_handler = handler
        self._token_expiration: float | None = 3600

    def create_token(self) -> str:
        """A new token, which nobody can guess, for the client to keep. It holds `{}`."""
        import secrets  # not cheap to import

        token = secrets.token_hex(_BYTES)
        self._token(token, DEFAULT)
        return token

    def get_token_obj(
        self,
        token: str,
        expire: float | Literal[_Expire.DEFAULT] | None = DEFAULT,
        readonly: bool = False,
    ) -> TokenObj:
        """What a token holds: a dict, changes to which stay; `with` keeps others out meanwhile.

        A token that is not there begins to be, with `{}`; ask `get_token_ttl` first where clients may
        only use what `create_token` has made. From this call on it expires in `expire` seconds (None:
        never); 0 or less frees it and returns `{}`. With `readonly` the result is a deep copy, changes
        to which do not stay, and nobody is waited for.

        Raises PreventDefaultResponse, a 400, for what cannot be a token (no str, empty, or over 200
        characters), as tokens come from clients.

        >>> with server.get_token_obj(args["post"]["token"]) as obj:  # doctest: +SKIP
        ...     obj["visits"] = obj.get("visits", 0) + 1
        """
        obj = self._token(_checked(token), expire)
        if obj is None:
            return TokenObj()
        return TokenObj(_deep_copy(obj)) if readonly else obj

    def get_tokens(self) -> list[str]:
        """All tokens that are there."""
        self._token_handler.flush_old_tokens()
        return list(self._token_handler.get_tokens())

    def get_token_ttl(self, token: str) -> float | None:
        """Seconds until a token is gone; None if it never will be, 0 if it is not there.

        Raises PreventDefaultResponse, a 400, for what cannot be a token.
        """
        key = _checked(token)
        self._token_handler.flush_old_tokens()
        return self._token_handler.ttl(key)

    def set_default_token_expiration(self, seconds: float | None) -> None:
        """Sets after how many seconds tokens expire of which nothing else is said; None: never.

        It is an hour to begin with. A change counts from the next call for a token on.
        """
        self._token_expiration = seconds

    def get_default_token_expiration(self) -> float | None:
        """Seconds after which tokens expire of which nothing else is said; None: never."""
        return self._token_expiration

    def _close_tokens(self) -> None:
        close = getattr(self._token_handler, "close", None)  # not all derive from TokenHandler
        if close is None:
            return
        try:
            close()
        except Exception:
            log_exception("the store of tokens could not be closed")

    def _token(self, token: str, expire: float | Literal[_Expire.DEFAULT] | None) -> TokenObj | None:
        """The object of a token, or None if it has just been freed."""
        seconds = self._token_expiration if expire is DEFAULT else expire
        if seconds is not None and math.isnan(seconds):
            raise ValueError("a token cannot expire in nan seconds")
        handler = self._token_handler
        handler.flush_old_tokens()
        if seconds is not None and seconds <= 0:
            handler.delete_token(token)
            return None
        content = handler.add_token(token, None if seconds == math.inf else seconds)
        return object_of(handler, token, content)


def _checked(token: object) -> str:
    if isinstance(token, str) and 0 < len(token) <= _LONGEST:
        return token
    raise PreventDefaultResponse(400, "that is not a token")


def _deep_copy(obj: TokenObj) -> dict[str, Any]:
    """A copy of what others may be changing. Only those who do so without pause are waited for."""
    for _ in range(_COPIES):
        try:
            return copy.deepcopy(dict(obj))
        except RecursionError:
            raise
        except RuntimeError:  # a dict in it has changed its size meanwhile
            continue
    with obj:
        return copy.deepcopy(dict(obj))
