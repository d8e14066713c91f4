"""What a token holds, as handlers see it, and the interface of the stores behind it.

`TokenObj` is a dict whose `with` holds the token's lock. Where the store keeps the very dict, that is
all there is to it; else a `StoredToken` writes through: each change of a field at once, and what a
`with` block has changed, nested values included, at its end. Writing changes fields and not the whole,
so that threads, and servers that share a store, do not undo what others did to other fields.

Used on the threads of handlers and jobs, where waiting for a store or for a lock keeps nobody else
from being served; never on the loop.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from types import TracebackType
from typing import Any, Self


class TokenHandler:
    """A store of tokens. Derive from it to keep them elsewhere; all methods are needed but `close`.

    The server calls the methods from many threads at the same time, never from its loop. Keys are str
    of 1 to 200 characters, any characters: they come from clients. What a method raises ends the
    request that needed it; `PreventDefaultResponse(503, …)` is right for a store that is away.
    """

    def lock(self, key: str) -> AbstractContextManager[Any]:
        """A context in which no other thread, or server on the same store, is for that key.

        Entering it waits. Different keys must not wait for each other, and a key need not be known.
        """
        raise NotImplementedError

    def ttl(self, key: str) -> float | None:
        """Seconds until a token is gone, more than 0; None: it never will be, 0: it is not there."""
        raise NotImplementedError

    def flush_old_tokens(self) -> None:
        """Drops the tokens whose time is over.

        The server calls this before each look at tokens, so it should be quick; a store that expires by
        itself has nothing to do here.
        """
        raise NotImplementedError

    def add_token(self, key: str, expire: float | None) -> dict[str, Any]:
        """Has a token expire `expire` seconds from now, and returns what it holds.

        `expire` is more than 0, or None for never. A token that is not there begins to be, and holds
        `{}`. The dict may be a copy; it may also be a `TokenObj`, which handlers then get as it is.
        """
        raise NotImplementedError

    def put_token(self, key: str, obj: dict[str, Any]) -> None:
        """Makes `obj` what a token holds; when it expires stays. Nothing for one that is not there.

        The server calls this while it holds the lock of that key.
        """
        raise NotImplementedError

    def delete_token(self, key: str) -> None:
        """Drops a token, if it is there."""
        raise NotImplementedError

    def get_tokens(self) -> list[str]:
        """All tokens that are there."""
        raise NotImplementedError

    def close(self) -> None:
        """A server that used this has ended: gives back connections and the like.

        Another server may go on using it.
        """


class TokenObj(dict[str, Any]):
    """What a token holds. As the target of `with` it is nobody else's for the block.

    >>> obj = TokenObj({"n": 1})
    >>> with obj as same:
    ...     same["n"] += 1
    >>> obj
    {'n': 2}

    Changes to it stay with the token, inside and outside of `with`. A block may be entered again by the
    thread that is in it. Copies of it, pickled ones too, are plain dicts.
    """

    __slots__ = ("_lock",)

    def __init__(
        self,
        content: Mapping[str, Any] | Iterable[tuple[str, Any]] = (),
        lock: AbstractContextManager[Any] | None = None,
    ) -> None:
        """`lock` is entered by `with`; without one nobody is kept out."""
        super().__init__(content)
        self._lock = nullcontext() if lock is None else lock

    def __enter__(self) -> Self:
        self._lock.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.__exit__(kind, error, trace)

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class StoredToken(TokenObj):
    """What a token of a store holds that hands out copies.

    One thread may have several of the same token; those that are in a block are kept up to date with
    each other. What happens to a token that is gone by then goes nowhere.
    """

    __slots__ = ("_blocks", "_handler", "_key", "_seen")

    def __init__(self, handler: TokenHandler, key: str, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self._handler = handler
        self._key = key
        self._blocks: list[ExitStack] = []  # of the thread that has the lock
        self._seen: dict[str, object] = {}  # the same; what the fields were when they were last stored

    def __enter__(self) -> Self:
        outer = _open_obj(self._handler, self._key)
        with ExitStack() as block:
            if outer is None:
                block.enter_context(self._handler.lock(self._key))
            elif outer is not self:
                outer._flush()
                block.callback(outer._load)
            if outer is not self:
                self._load()
                block.callback(_set_open_obj, self._handler, self._key, outer)
                _set_open_obj(self._handler, self._key, self)
                block.callback(self._flush)
            self._blocks.append(block.pop_all())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._blocks.pop().__exit__(kind, error, trace)

    def __setitem__(self, field: str, value: Any) -> None:
        self._write({field: value})
        super().__setitem__(field, value)

    def __delitem__(self, field: str) -> None:
        if field not in self:
            raise KeyError(field)
        self._write({}, [field])
        super().__delitem__(field)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """As that of any dict."""
        changed = dict(*args, **kwargs)
        self._write(changed)
        super().update(changed)

    def __ior__(self, other: Any) -> Self:  # type: ignore[override,misc] # one for all that dict takes
        self.update(other)
        return self

    def setdefault(self, field: str, default: Any = None) -> Any:
        """As that of any dict."""
        if field not in self:
            self[field] = default
        return self[field]

    def pop(self, field: str, *default: Any) -> Any:
        """As that of any dict."""
        if field not in self:
            return super().pop(field, *default)
        value = self[field]
        del self[field]
        return value

    def popitem(self) -> tuple[str, Any]:
        """As that of any dict."""
        field = next(reversed(self), None)
        if field is None:
            return super().popitem()  # raises
        return field, self.pop(field)

    def clear(self) -> None:
        """As that of any dict."""
        self._write({}, list(self))
        super().clear()

    # what a store may know better -------------------------------------------------------------------

    def _fetch(self) -> dict[str, Any] | None:
        """What the token holds now, with the lock held; None if it is gone."""
        left = self._handler.ttl(self._key)
        is_gone = left is not None and left <= 0
        return None if is_gone else self._handler.add_token(self._key, left)

    def _store(self, changed: dict[str, Any], removed: Collection[str]) -> None:
        """Changes fields, with the lock held; nothing if the token is gone."""
        content = self._fetch()
        if content is None:
            return
        merged = {field: value for field, value in content.items() if field not in removed}
        self._handler.put_token(self._key, merged | changed)

    def _traces(self) -> dict[str, object]:
        """For each field something that is equal to another only if the value has not changed."""
        return {
            field: (type(value), value) if isinstance(value, _UNCHANGEABLE) else object()
            for field, value in dict(self).items()
        }

    def _store_at_once(self, changed: dict[str, Any], removed: Collection[str]) -> None:
        """Changes fields, without a lock; nothing if the token is gone."""
        with self._handler.lock(self._key):
            self._store(changed, removed)

    # blocks -----------------------------------------------------------------------------------------

    def _write(self, changed: dict[str, Any], removed: Collection[str] = ()) -> None:
        """Changes fields at once, unless that is done at the end of this thread's block."""
        opened = _open_obj(self._handler, self._key)
        if opened is None:
            self._store_at_once(changed, removed)
        elif opened is not self:  # in a block of another object, so the lock is held
            self._store(changed, removed)

    def _load(self) -> None:
        """Takes over what the token holds now. No field that stays is missing meanwhile."""
        content = self._fetch()
        if content is not None:
            for field in [field for field in list(self) if field not in content]:
                super().pop(field, None)
            super().update(content)
        self._seen = self._traces()

    def _flush(self) -> None:
        """Stores what has changed since `_load`."""
        seen, now = self._seen, self._traces()
        changed = {
            field: self[field] for field in now if field not in seen or seen[field] != now[field]
        }
        removed = [field for field in seen if field not in now]
        if changed or removed:
            self._store(changed, removed)
        self._seen = now


_UNCHANGEABLE = (str, bytes, int, float, bool, type(None))


class _Open(threading.local):
    """The object of each token whose block this thread is in; of several, the innermost."""

    def __init__(self) -> None:
        self.objects: dict[tuple[int, str], StoredToken] = {}


_open = _Open()


def _open_obj(handler: TokenHandler, key: str) -> StoredToken | None:
    return _open.objects.get((id(handler), key))


def _set_open_obj(handler: TokenHandler, key: str, obj: StoredToken | None) -> None:
    if obj is None:
        _open.objects.pop((id(handler), key), None)  # a job may end before it was there
    else:
        _open.objects[id(handler), key] = obj


def object_of(handler: TokenHandler, key: str, content: dict[str, Any]) -> TokenObj:
    """What a handler gets for a token of which `add_token` has returned `content`.

    In a block that is the object of the block: functions that are called in it see its changes.
    """
    opened = _open_obj(handler, key)
    if opened is not None:
        return opened
    return content if isinstance(content, TokenObj) else StoredToken(handler, key, content)
