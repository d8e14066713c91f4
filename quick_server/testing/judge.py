"""Asks a running server, and says what was wrong with the answer.

`Judge` sends one request at a time, so that what the server logs meanwhile belongs to it.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from .client import Answer, Client
from .findings import Finding, Kind
from .journal import Journal
from .request import Request, Sent
from .surface import Route
from .values import json_text

_CONFIRMATIONS = 2  # times that a slow answer has to be slow again: any machine is slow for once


class Judge:
    """What is right and what is wrong; times are seconds."""

    def __init__(
        self,
        client: Client,
        journal: Journal,
        slow: float,
        hang: float,
        announce: Callable[[Sent], object] | None = None,
    ) -> None:
        """`announce` hears of everything before it is sent."""
        self._announce = announce
        self._client = client
        self._journal = journal
        self._slow = slow
        self._hang = hang
        self.requests = 0
        """That were sent."""
        self.latest = Answer()
        """What came back for the latest one."""

    def ask(
        self, route: Route, sent: Sent, patience: float | None = None, *, timed: bool = True
    ) -> Finding | None:
        """Sends it; what was wrong with the answer, or None.

        With `patience` an answer that takes longer counts as missing already. An answer may be slow
        unless it is `timed`.
        """
        patience = self._hang if patience is None else patience
        if isinstance(sent, bytes):
            return self._converse(route, sent, patience)
        answer = self._exchange(sent, patience)
        finding = self._judge(route, sent, answer)
        if route.kind == "worker":  # whose answers wait on purpose
            self._stop_job(sent, answer)
            return finding
        if finding is None and timed and answer.seconds > self._slow:
            return self._time(route, sent, answer.seconds, patience)
        return finding

    def repeat(self, route: Route, request: Request) -> None:
        """Sends a request again whose answer is known to be fine."""
        answer = self._exchange(request, self._hang)
        if route.kind == "worker":
            self._stop_job(request, answer)

    def _time(self, route: Route, request: Request, seconds: float, patience: float) -> Finding | None:
        for _ in range(_CONFIRMATIONS):
            seconds = min(seconds, self._exchange(request, patience).seconds)
            if seconds <= self._slow:
                return None
        return Finding(route.name, Kind.SLOW, request, f"{seconds:.1f} s")

    def _exchange(self, request: Request, patience: float) -> Answer:
        self._begin(request)
        is_head = request.method == "HEAD"
        self.latest = self._client.exchange(request.to_bytes(), patience, head_only=is_head)
        return self.latest

    def _begin(self, sent: Sent) -> None:
        self._journal.forget()
        self.requests += 1
        if self._announce is not None:
            self._announce(sent)

    def _stop_job(self, request: Request, answer: Answer) -> None:
        """What a request has started and what has not ended by now ends here."""
        try:
            told = json.loads(answer.body)
            token = told["token"] if told["continue"] else None
        except (ValueError, LookupError, TypeError):
            return
        if token is not None:
            self._exchange(
                request._replace(body=json_text({"action": "stop", "token": token})), self._hang
            )

    def _judge(self, route: Route, request: Request, answer: Answer) -> Finding | None:
        if answer.flaw is Kind.HANG:
            return Finding(route.name, Kind.HANG, request, answer.detail, patience=self._hang)
        if answer.flaw is not None:
            trace = self._journal.latest()  # logged before the cut
            detail = trace.error if trace is not None else answer.detail
            return Finding(route.name, answer.flaw, request, detail, trace)
        trace = self._journal.of_page(answer.body) or self._journal.latest()
        if trace is None:
            return None
        kind = Kind.ERROR if answer.status == 500 else Kind.EXCEPTION
        return Finding(route.name, kind, request, trace.error, trace)

    def _converse(self, route: Route, data: bytes, patience: float) -> Finding | None:
        self._begin(data)
        for answer in self._client.converse(data, patience):
            if answer.flaw is not None:
                return Finding(route.name, answer.flaw, data, answer.detail, patience=self._hang)
        trace = self._journal.latest()
        return None if trace is None else Finding(route.name, Kind.ERROR, data, trace.error, trace)
