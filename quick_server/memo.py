"""What it takes a thread to find out: asked once for all who wait for it, and known for a while.

Loop thread; only the function that finds out runs in the pool. No more than a few questions are with
the pool at a time, as what they ask may hang: the others wait here, and cost no thread. Who asks keeps
a time limit of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from .log import log_exception
from .pool import Job, Lane, PoolFullError
from .reactor import Reactor

_AT_ONCE = 4  # half of the pool's threads, by default, is the most that hanging questions may hold
_MOST_KNOWN = 256

V = TypeVar("V")


class Question(Generic[V]):
    """Somebody who waits for an answer. Made by `Memo.ask`."""

    __slots__ = ("_done", "_inquiry")

    def __init__(self, inquiry: Inquiry[V], done: Callable[[V | OSError], object]) -> None:
        self._inquiry = inquiry
        self._done = done

    def cancel(self) -> None:
        """The answer interests nobody any more: `done` is not called."""
        self._inquiry.leave(self)

    def answer(self, outcome: V | OSError) -> None:
        """Hands the answer on."""
        self._done(outcome)


class Inquiry(Job, Generic[V]):
    """One look for an answer, and all who wait for it."""

    __slots__ = ("_memo", "_waiting", "key")

    def __init__(self, memo: Memo[V], key: str) -> None:
        self._memo = memo
        self.key = key
        self._waiting: dict[Question[V], None] = {}

    def join(self, question: Question[V]) -> None:
        """One more waits."""
        self._waiting[question] = None

    def leave(self, question: Question[V]) -> None:
        """One less; what nobody waits for is not begun."""
        self._waiting.pop(question, None)
        if not self._waiting:
            self._memo._forgo(self)

    def run(self) -> V | OSError:
        """Pool thread."""
        try:
            return self._memo.find_out(self.key)
        except OSError as error:
            return error

    def deliver(self, outcome: V | OSError | None) -> None:
        """Loop thread."""
        self._memo._found(self, OSError("it failed") if outcome is None else outcome)

    def answer(self, outcome: V | OSError) -> None:
        """Tells all who wait, but those who leave meanwhile."""
        while self._waiting:
            question = next(iter(self._waiting))
            del self._waiting[question]
            try:
                question.answer(outcome)
            except Exception:
                log_exception("an answer could not be delivered")


class Memo(Generic[V]):
    """Answers by key; `find_out` gives one or raises OSError, and is called in the pool."""

    def __init__(self, reactor: Reactor, lane: Lane, find_out: Callable[[str], V], keep: float) -> None:
        """`keep`: seconds for which an answer is known; what failed is not."""
        self._reactor = reactor
        self._lane = lane
        self.find_out = find_out
        self._keep = keep
        self._known: dict[str, tuple[float, V]] = {}  # until when, and what; the oldest first
        self._queued: dict[str, Inquiry[V]] = {}
        self._begun: dict[str, Inquiry[V]] = {}
        self._closed = False

    def get(self, key: str) -> V | None:
        """The answer, if it is known."""
        until, value = self._known.get(key, (0.0, None))
        return value if self._reactor.now() < until else None

    def ask(self, key: str, done: Callable[[V | OSError], object]) -> Question[V]:
        """Calls `done` with the answer, later; whoever asks the same meanwhile gets the same answer."""
        inquiry = self._begun.get(key) or self._queued.get(key)
        if inquiry is None:
            inquiry = self._queued[key] = Inquiry(self, key)
            self._reactor.call_soon(self._begin)
        question = Question(inquiry, done)
        inquiry.join(question)
        return question

    def close(self) -> None:
        """Nobody is answered any more."""
        self._closed = True
        self._queued.clear()
        self._begun.clear()
        self._known.clear()

    def _begin(self) -> None:
        """Hands to the pool what it may have now."""
        while self._queued and len(self._begun) < _AT_ONCE:
            key = next(iter(self._queued))
            inquiry = self._queued.pop(key)
            try:
                self._lane.submit(inquiry)
            except PoolFullError:
                inquiry.answer(OSError("too much waits for a thread"))
            else:
                self._begun[key] = inquiry

    def _forgo(self, inquiry: Inquiry[V]) -> None:
        if self._queued.get(inquiry.key) is inquiry:
            del self._queued[inquiry.key]

    def _found(self, inquiry: Inquiry[V], outcome: V | OSError) -> None:
        if self._closed:
            return
        del self._begun[inquiry.key]
        if not isinstance(outcome, OSError):
            self._known.pop(inquiry.key, None)
            self._known[inquiry.key] = (self._reactor.now() + self._keep, outcome)
            if len(self._known) > _MOST_KNOWN:
                del self._known[next(iter(self._known))]
        self._begin()
        inquiry.answer(outcome)
