"""Functions that run around handlers, and those that run before everything."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from http.cookies import SimpleCookie

    from .request import QuickServerRequestHandler, ReqArgs


class ReqNext:
    """What a middleware returns to let the request go on."""

    __slots__ = ()


MiddlewareF: TypeAlias = "Callable[[QuickServerRequestHandler, ReqArgs, ReqNext], Any]"
"""`fun(req, args, okay)`: returns `okay` to go on, or the answer."""
PreMiddlewareF: TypeAlias = "Callable[[QuickServerRequestHandler, str, SimpleCookie | None], object]"
"""`fun(req, path, cookie)`: raises to stop a request."""


def wrap(function: Callable[..., Any], middleware: Sequence[MiddlewareF]) -> Callable[..., Any]:
    """The function behind the middleware: the first runs first, and may answer for all others.

    The wrapped function raises RuntimeError if a middleware returns the `okay` of another.
    """
    if not middleware:
        return function

    @functools.wraps(function)
    def call(req: QuickServerRequestHandler, args: ReqArgs, *more: Any) -> Any:
        for step in middleware:
            okay = ReqNext()
            result = step(req, args, okay)
            if isinstance(result, ReqNext):
                if result is okay:
                    continue
                raise RuntimeError(f"{step!r} returned the okay of another middleware")
            return result
        return function(req, args, *more)

    call.__dict__["_wrapping"] = _Wrapping(call, function, tuple(middleware))
    return call


class _Wrapping(NamedTuple):
    """What `wrap` did. Other decorators may copy it to functions of their own; `outer` tells."""

    outer: Callable[..., Any]
    inner: Callable[..., Any]
    middleware: tuple[MiddlewareF, ...]


def unwrap(function: Callable[..., Any]) -> tuple[Callable[..., Any], tuple[MiddlewareF, ...]]:
    """What `wrap` was given: for a function that is not called with a request."""
    known = getattr(function, "_wrapping", None)
    if not isinstance(known, _Wrapping) or known.outer is not function:
        return function, ()
    inner, more = unwrap(known.inner)
    return inner, known.middleware + more


class MiddlewareStack:
    """The middleware that is wrapped around every handler registered now."""

    def __init__(self) -> None:
        self.active: tuple[MiddlewareF, ...] = ()

    @contextmanager
    def adding(self, middleware: Sequence[MiddlewareF]) -> Iterator[None]:
        """Inside of `with` these come on top."""
        before = self.active
        self.active += tuple(middleware)
        try:
            yield
        finally:
            self.active = before
