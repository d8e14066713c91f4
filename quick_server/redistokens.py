"""Tokens in Redis, where several servers share them, and where they survive a restart.

A token is a hash: each field holds the JSON of a value, and a marker is there so that one without
fields is there too. Redis expires it. A change of a field is one command, the changes of a `with` block
are one script, and neither brings a token back that is gone.

A lock is a key with a random value, which only its holder can renew or release. It expires, so a
server that dies keeps nobody waiting for long; while a block goes on, a thread renews it. A block that
has lost its lock all the same (the process stood still, Redis was away) writes nothing: it ends with a
503. Servers that wait for a lock stand in line for it, so that a busy one keeps nobody out; one that
shows no sign of life loses its place.

Used on the threads of handlers and jobs, never on the loop. The package redis is imported when a
handler is made.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from .keylocks import KeyLock, KeyLocks, renew_after_fork
from .log import get_time, log_server
from .redislink import RedisLink
from .responses import PreventDefaultResponse
from .tokenobjects import StoredToken, TokenHandler

if TYPE_CHECKING:
    from redis import Redis

_MARKER = b"\xff"  # no field: that is not UTF-8
_MOST_MILLISECONDS = 2**53  # more overflows in Redis, and is no different
_FIRST_LOOK = 0.002
_LONGEST_LOOK = 0.05
_SIGN_OF_LIFE = 1000  # milliseconds after which who is in line has gone: it looks far more often

_ADD = """
redis.call('HSETNX', KEYS[1], ARGV[1], '')
if ARGV[2] == '' then redis.call('PERSIST', KEYS[1]) else redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return redis.call('HGETALL', KEYS[1])
"""
_CHANGE = """
if ARGV[1] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
if redis.call('EXISTS', KEYS[1]) == 0 then return 1 end
local first = 3 + ARGV[2]
for i = 3, first - 1 do redis.call('HDEL', KEYS[1], ARGV[i]) end
for i = first, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
return 1
"""
_PUT = """
if redis.call('EXISTS', KEYS[1]) == 0 then return end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if field ~= ARGV[1] then redis.call('HDEL', KEYS[1], field) end
end
for i = 2, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
"""
_ACQUIRE = """
local first = redis.call('LINDEX', KEYS[2], 0)
while first and first ~= ARGV[2] and redis.call('EXISTS', ARGV[1] .. first) == 0 do
  redis.call('LPOP', KEYS[2])
  first = redis.call('LINDEX', KEYS[2], 0)
end
local sign = ARGV[1] .. ARGV[2]
if not first or first == ARGV[2] then
  if redis.call('SET', KEYS[1], ARGV[2], 'NX', 'PX', ARGV[3]) then
    redis.call('LREM', KEYS[2], 0, ARGV[2])
    redis.call('DEL', sign)
    return 1
  end
end
if redis.call('EXISTS', sign) == 0 then
  redis.call('LREM', KEYS[2], 0, ARGV[2])
  redis.call('RPUSH', KEYS[2], ARGV[2])
end
redis.call('SET', sign, '', 'PX', ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return 0
"""
_GIVE_UP = "redis.call('LREM', KEYS[1], 0, ARGV[2]); redis.call('DEL', ARGV[1] .. ARGV[2])"
_RENEW = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end"
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class RedisTokenHandler(TokenHandler):
    """Tokens in Redis, for `create_server(…, token_handler=…)`. Needs `quick_server[redis]`.

    >>> handler = RedisTokenHandler("redis://localhost:6379/0")  # doctest: +SKIP

    Values have to be such as JSON can hold; else it is a TypeError. Without an answer from Redis within
    `timeout` seconds a request ends with a 503.
    """

    def __init__(
        self,
        url_or_client: str | Redis,
        prefix: str = "quick_server:",
        timeout: float = 1.0,
        lock_timeout: float = 10.0,
        lease: float = 5.0,
    ) -> None:
        """Takes a URL (`redis://`, `rediss://`, `unix://`) or a client of the package redis.

        All keys in Redis start with `prefix`; servers that share tokens have the same. A `with` waits
        up to `lock_timeout` seconds for others that are in one, and is a 503 then. `lease` is after how
        many seconds the lock of a server that has died is free; it should be less than that.

        Connects when it is first needed. Raises ImportError without the package, ValueError for a URL
        that is none.
        """
        self._link = RedisLink(url_or_client, timeout)
        self._prefix = prefix
        self._patience = lock_timeout
        self._lease = lease
        self._locks = KeyLocks()  # so that of the threads of this server one at a time asks Redis
        self._leases: dict[str, _Lease] = {}  # by token; who has the lock above has what is in here
        self._mutex = threading.Lock()
        self._keeper: _Keeper | None = None
        renew_after_fork(self)

    def lock(self, key: str) -> AbstractContextManager[None]:
        """A context in which no other thread or server is for that token; re-entrant."""
        return _Lock(self, key, self._locks.of(key))

    def ttl(self, key: str) -> float | None:
        """Seconds until a token is gone; None: never, 0: it is."""
        left = self._link.ask("PTTL", self._name(key))
        if left == -1:
            return None
        return 0 if left < 0 else max(left, 1) / 1000

    def flush_old_tokens(self) -> None:
        """Nothing: Redis does that."""

    def add_token(self, key: str, expire: float | None) -> StoredToken:
        """What a token holds, which expires so many seconds from now; it is made if need be."""
        milliseconds: int | str = ""
        if expire is not None:
            milliseconds = max(1, int(min(expire * 1000, _MOST_MILLISECONDS)))
        flat = self._link.ask("EVAL", _ADD, 1, self._name(key), _MARKER, milliseconds)
        return _RedisToken(self, key, self._read(flat) or {})

    def put_token(self, key: str, obj: dict[str, Any]) -> None:
        """Makes `obj` what a token holds."""
        self._link.ask("EVAL", _PUT, 1, self._name(key), _MARKER, *_flat(obj))

    def delete_token(self, key: str) -> None:
        """Drops a token, if it is there."""
        self._link.ask("DEL", self._name(key))

    def get_tokens(self) -> list[str]:
        """All tokens that are there. Redis goes over all its keys for it.

        What is among them and cannot be of ours, as no str has that name, is left out.
        """
        start = self._name("")
        pattern = re.sub(rb"[\\*?\[\]]", rb"\\\g<0>", start) + b"*"
        names: dict[bytes, None] = {}  # Redis may tell of one twice
        cursor = 0
        while True:
            cursor, found = self._link.ask("SCAN", cursor, "MATCH", pattern, "COUNT", 1000)
            names.update(dict.fromkeys(found))
            if int(cursor) == 0:
                keys = [_decode(name.removeprefix(start)) for name in names]
                return [key for key in keys if key is not None]

    def close(self) -> None:
        """Closes the connections; they are opened again if somebody goes on using this.

        Blocks that go on, of another server perhaps, keep their locks.
        """
        with self._mutex:
            keeper = None if self._held() else self._keeper
            if keeper is not None:
                self._keeper = None
        if keeper is not None:
            keeper.end()
        self._link.close()

    def renew_locks(self) -> None:
        """In a fork, which has none of the leases."""
        self._mutex = threading.Lock()
        self._leases = {}
        self._keeper = None

    # for `_RedisToken` ------------------------------------------------------------------------------

    def fetch(self, key: str) -> dict[str, Any] | None:
        """What a token holds; None if it is gone."""
        return self._read(
            self._link.ask("EVAL", "return redis.call('HGETALL', KEYS[1])", 1, self._name(key))
        )

    def change(self, key: str, changed: dict[str, Any], removed: Collection[str]) -> None:
        """Changes fields; in a block of this thread only if it has its lock still."""
        lease = self._lease_of(key)
        names = self._name(key), self._lock_name(key)
        owner = "" if lease is None else lease.owner
        fields = [_encode(field) for field in removed]
        done = self._link.ask("EVAL", _CHANGE, 2, *names, owner, len(fields), *fields, *_flat(changed))
        if not done:
            log_server(
                f"a lock was lost: {len(changed) + len(removed)} changes of a token are not kept"
            )
            raise PreventDefaultResponse(503, "another request has changed the token meanwhile")

    def _read(self, flat: list[bytes]) -> dict[str, Any] | None:
        try:
            return _content(flat)
        except (ValueError, RecursionError) as error:  # somebody else has written it
            raise self._link.unusable(error) from error

    # locks ------------------------------------------------------------------------------------------

    def enter(self, key: str, local: KeyLock) -> None:
        """Has this thread hold the lock of a token; `local` keeps the other threads out."""
        deadline = get_time() + self._patience
        if not local.acquire(timeout=self._patience):
            raise _busy()
        try:
            lease = self._lease_of(key)
            if lease is None:
                lease = self._leases[key] = self._acquire(key, deadline)
            lease.depth += 1
            self._keep_leases()
        except BaseException:
            self.leave(key, local)
            raise

    def leave(self, key: str, local: KeyLock) -> None:
        """Takes back one `enter` of this thread."""
        try:
            lease = self._lease_of(key)  # none in a fork of who has it
            if lease is None:
                return
            lease.depth -= 1
            if lease.depth <= 0:
                del self._leases[key]
                self._release(lease)
        finally:
            local.release()

    def _lease_of(self, key: str) -> _Lease | None:
        """The lease of that token, if it is this thread's."""
        lease = self._leases.get(key)
        return lease if lease is not None and lease.thread is threading.current_thread() else None

    def _acquire(self, key: str, deadline: float) -> _Lease:
        lease = _Lease(self._lock_name(key))
        line, signs = self._line_name(key), _encode(f"{self._prefix}waiter:")
        pause = _FIRST_LOOK
        while not self._link.ask(
            "EVAL", _ACQUIRE, 2, lease.name, line, signs, lease.owner, self._milliseconds, _SIGN_OF_LIFE
        ):
            left = deadline - get_time()
            if left <= 0:
                self._link.ask("EVAL", _GIVE_UP, 1, line, signs, lease.owner)
                raise _busy()
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_LOOK)
        return lease

    def _release(self, lease: _Lease) -> None:
        if self._link.is_down:
            return  # it expires
        try:
            self._link.ask("EVAL", _RELEASE, 1, lease.name, lease.owner)
        except PreventDefaultResponse:
            pass  # what the block was for is done

    def _keep_leases(self) -> None:
        """Has a thread renew the leases, if none does."""
        with self._mutex:
            if self._keeper is None or not self._keeper.is_alive():
                self._keeper = _Keeper(self._renew, self._lease / 3)
                self._keeper.start()

    def _renew(self, keeper: _Keeper) -> bool:
        """The keeper's thread: whether there was anything to renew; else it is dismissed."""
        with self._mutex:
            leases = self._held()
            if not leases and self._keeper is keeper:
                self._keeper = None
        for lease in leases:
            try:
                self._link.ask("EVAL", _RENEW, 1, lease.name, lease.owner, self._milliseconds)
            except PreventDefaultResponse:
                break  # the others would not fare better
        return bool(leases)

    def _held(self) -> list[_Lease]:
        return [lease for lease in list(self._leases.values()) if lease.thread.is_alive()]

    @property
    def _milliseconds(self) -> int:
        return max(1, int(self._lease * 1000))

    def _name(self, key: str) -> bytes:
        return _encode(f"{self._prefix}token:{key}")

    def _lock_name(self, key: str) -> bytes:
        return _encode(f"{self._prefix}lock:{key}")

    def _line_name(self, key: str) -> bytes:
        return _encode(f"{self._prefix}line:{key}")


class _RedisToken(StoredToken):
    """A token of which single fields can be written."""

    __slots__ = ()
    _handler: RedisTokenHandler

    def _fetch(self) -> dict[str, Any] | None:
        return self._handler.fetch(self._key)

    def _store(self, changed: dict[str, Any], removed: Collection[str]) -> None:
        self._handler.change(self._key, changed, removed)

    def _store_at_once(self, changed: dict[str, Any], removed: Collection[str]) -> None:
        self._handler.change(self._key, changed, removed)

    def _traces(self) -> dict[str, object]:
        return {field: _text(field, value) for field, value in dict(self).items()}


class _Lock:
    """What `with` enters for a token. No generator: left in its midst, one ends in any thread."""

    __slots__ = ("_handler", "_key", "_local")

    def __init__(self, handler: RedisTokenHandler, key: str, local: KeyLock) -> None:
        self._handler = handler
        self._key = key
        self._local = local

    def __enter__(self) -> None:
        self._handler.enter(self._key, self._local)

    def __exit__(self, *_raised: object) -> None:
        self._handler.leave(self._key, self._local)


class _Lease:
    """A lock that is held. `owner` tells it from those of others."""

    __slots__ = ("depth", "name", "owner", "thread")

    def __init__(self, name: bytes) -> None:
        self.depth = 0  # how often it was entered
        self.name = name
        self.owner = os.urandom(16).hex()
        self.thread = threading.current_thread()


class _Keeper:
    """A thread that renews leases as long as there are any."""

    def __init__(self, renew: Callable[[_Keeper], bool], interval: float) -> None:
        self._renew = renew
        self._interval = interval
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="quick_server leases", daemon=True)

    def start(self) -> None:
        """Once."""
        self._thread.start()

    def is_alive(self) -> bool:
        """False in a process that was forked, too."""
        return self._thread.is_alive()

    def end(self) -> None:
        """Waits for what it is at."""
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._ended.wait(self._interval) and self._renew(self):
            pass


def _busy() -> PreventDefaultResponse:
    return PreventDefaultResponse(503, "the token is in use for too long")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # clients may send any


def _decode(name: bytes) -> str | None:
    try:
        return name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return None


def _text(field: str, value: Any) -> str:
    """The JSON of a value; TypeError, which names the field, if there is none."""
    if not isinstance(field, str):
        raise TypeError(f"the fields of a token have to be str, not {field!r}")
    try:
        return json.dumps(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(f"the field {field!r} of a token cannot be JSON: {error}") from error


def _flat(obj: dict[str, Any]) -> list[bytes | str]:
    """Fields and JSON texts in turns."""
    texts = {field: _text(field, value) for field, value in obj.items()}
    return [part for field, text in texts.items() for part in (_encode(field), text)]


def _content(flat: list[bytes]) -> dict[str, Any] | None:
    """What is in the answer to HGETALL; None if there is no such token. ValueError if it is none."""
    if not flat:
        return None
    content: dict[str, Any] = {}
    for name, text in zip(flat[::2], flat[1::2], strict=True):
        if name == _MARKER:
            continue
        field = _decode(name)
        if field is None:
            raise ValueError(f"the name of a field is not UTF-8: {name!r}")
        try:
            content[field] = json.loads(text)
        except ValueError as error:
            raise ValueError(f"the field {field!r} is not JSON: {error}") from None
    return content
