"""A lock for each key, which neither the end of its holder nor a fork leaves locked.

Used on the threads of handlers and jobs, never on the loop. A job that is stopped gets an exception at
any point, also between the moment in which it has a lock and the one in which it would know. So a
thread notes each lock before it takes it, and where a job has ended, `release_all` gives back what is
left. And a fork has but one of the threads: what the others held is made anew in it.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet, WeakValueDictionary


class KeyLock:
    """A re-entrant lock. Any thread."""

    __slots__ = ("__weakref__", "_lock")

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_raised: object) -> None:
        self.release()

    def acquire(self, timeout: float = -1) -> bool:
        """Waits up to so many seconds (-1: as long as it takes); whether it is this thread's now."""
        noted = _noted.locks
        noted.append(self)
        if self._lock.acquire(timeout=timeout):
            return True
        noted.remove(self)
        return False

    def release(self) -> None:
        """Once for each time it was acquired. RuntimeError if it is not this thread's."""
        self._lock.release()
        _noted.locks.remove(self)

    def release_wholly(self) -> None:
        """However often this thread has acquired it, and if not at all."""
        try:
            while True:
                self._lock.release()
        except RuntimeError:
            pass  # it is not this thread's any more

    def renew(self) -> None:
        """In a fork: nobody else is there to hold it."""
        if self._lock.acquire(blocking=False):
            self._lock.release()
        else:
            self._lock = threading.RLock()


class KeyLocks:
    """A lock for each key, which is there as long as somebody holds on to it. Any thread."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._locks: WeakValueDictionary[str, KeyLock] = WeakValueDictionary()
        renew_after_fork(self)

    def of(self, key: str) -> KeyLock:
        """The lock of that key, the same for all who ask while it is held on to."""
        with self._mutex:
            lock = self._locks.get(key)
            if lock is None:
                lock = self._locks[key] = KeyLock()
            return lock

    def renew_locks(self) -> None:
        """In a fork."""
        self._mutex = threading.Lock()
        for lock in list(self._locks.values()):
            lock.renew()


class _Noted(threading.local):
    """What a thread has acquired, or is about to."""

    def __init__(self) -> None:
        self.locks: list[KeyLock] = []


_noted = _Noted()


def release_all() -> None:
    """Gives back what this thread holds, when whatever it was for has ended."""
    while _noted.locks:
        _noted.locks.pop().release_wholly()


class HasLocks(Protocol):
    """Something with locks that a fork inherits."""

    def renew_locks(self) -> None:
        """In a fork, where only the calling thread is left: makes them anew."""


_with_locks: WeakSet[HasLocks] = WeakSet()


def renew_after_fork(thing: HasLocks) -> None:
    """Has `renew_locks` called in every fork, as long as somebody holds on to that thing."""
    _with_locks.add(thing)


def _renew_all() -> None:
    for thing in list(_with_locks):
        thing.renew_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
