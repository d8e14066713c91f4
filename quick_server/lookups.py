"""The jobs that come before a handler: pre-middleware, and the look for a file.

Each is made on the loop thread, runs on a pool thread and delivers on the loop thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .exchange import Exchange
from .handlers import failed, prevented
from .middleware import PreMiddlewareF
from .pool import Job
from .protocol.cookies import parse_cookies
from .protocol.messages import Outcome
from .request import QuickServerRequestHandler
from .responses import PreventDefaultResponse
from .static import FileServer, not_allowed

if TYPE_CHECKING:
    from .server import QuickServer


class PreMiddlewareCall(Job):
    """Runs the pre-middleware of a request; `go_on` follows unless one of them raises."""

    __slots__ = ("_exchange", "_go_on", "_middleware", "_req")

    def __init__(
        self,
        server: QuickServer,
        exchange: Exchange,
        middleware: Sequence[PreMiddlewareF],
        go_on: Callable[[Exchange], object],
    ) -> None:
        self._exchange = exchange
        self._middleware = middleware
        self._go_on = go_on
        self._req = QuickServerRequestHandler(exchange.head, exchange.client, server)

    def run(self) -> Outcome | None:
        """Pool thread."""
        head, req = self._exchange.head, self._req
        field = head.headers.get("cookie")
        try:
            try:
                for step in self._middleware:
                    step(req, head.target.raw, parse_cookies(field) if field is not None else None)
            except PreventDefaultResponse as stop:
                return prevented(stop, req, head)
        except BaseException:
            return failed(head)
        return None

    def deliver(self, outcome: Outcome | None) -> None:
        """Loop thread."""
        if outcome is not None:
            self._exchange.answer(outcome)
        elif self._exchange.alive:
            self._exchange.fields += self._req.fields
            self._go_on(self._exchange)


class FileLookup(Job):
    """Looks for a file."""

    __slots__ = ("_allowed", "_exchange", "_files", "_otherwise")

    def __init__(
        self,
        files: FileServer,
        exchange: Exchange,
        allowed: set[str],
        otherwise: Callable[[Exchange, set[str]], object],
    ) -> None:
        """Where there is no file, `otherwise(exchange, allowed)` follows."""
        self._files = files
        self._exchange = exchange
        self._allowed = allowed
        self._otherwise = otherwise

    def run(self) -> Outcome | None:
        """Pool thread."""
        try:
            return self._files.answer(self._exchange.head, self._allowed)
        except BaseException:
            return failed(self._exchange.head)

    def deliver(self, outcome: Outcome | None) -> None:
        """Loop thread."""
        if outcome is not None:
            self._exchange.answer(outcome)
        else:
            self._otherwise(self._exchange, self._allowed)


def answer_nothing_found(exchange: Exchange, allowed: set[str]) -> None:
    """405 if other methods could be used on the path, else 404."""
    if allowed:
        exchange.answer(not_allowed(exchange.head, allowed))
    else:
        exchange.refuse(404, "there is nothing here")
