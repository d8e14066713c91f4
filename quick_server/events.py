"""Server-sent events: streams that stay open, without a thread each.

`EventChannel` is what a handler gets: any thread sends events into it. `EventStream` lives on the loop
thread and writes what arrived. Between them is one queue, bounded: a client that does not keep up is
cut off, and comes back with the id of the last event that it saw.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from .jsontext import json_dumps
from .log import log_failure
from .pool import Errand, Lane, PoolFullError
from .producer import Outlet, Producer
from .protocol.writer import field_line
from .reactor import Reactor
from .timers import Timer

EVENT_STREAM = "text/event-stream; charset=utf-8"
EVENT_FIELDS = field_line("Content-Type", EVENT_STREAM) + b"Cache-Control: no-store\r\n"
_HEARTBEAT = b":\n\n"


def format_event(data: Any, event: str | None, id: str | None, retry: int | None) -> bytes:  # noqa: A002
    r"""One event in the form of the HTML standard (section 9.2).

    >>> format_event("a\nb", "news", "7", None)
    b'event: news\nid: 7\ndata: a\ndata: b\n\n'
    """
    lines = []
    for name, value in (("event", event), ("id", id)):
        if value is not None:
            if any(char in value for char in "\r\n\0"):
                raise ValueError(f"the {name} of an event is a single line")
            lines.append(f"{name}: {value}")
    if retry is not None:
        lines.append(f"retry: {int(retry)}")
    if data is not None:
        text = data if isinstance(data, str) else json_dumps(data)
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        lines += [f"data: {line}" for line in text.split("\n")]
    return ("\n".join(lines) + "\n\n").encode("utf-8", "replace")


class EventChannel:
    """The server's end of one client's event stream. Every method may be called from any thread."""

    def __init__(self, reactor: Reactor, last_event_id: str | None, most_unsent: int) -> None:
        self.last_event_id = last_event_id
        """The id of the last event that a client saw which has come back, or None."""
        self._reactor = reactor
        self._most_unsent = most_unsent  # bytes
        self._lock = threading.Lock()
        self._queue: deque[bytes] = deque()
        self._queued = 0  # bytes
        self._scheduled = False
        self._closed = False
        self._ended = False  # by `close`, so that what is queued still goes out
        self._listeners: list[Callable[[], object]] = []
        self.opener: Callable[[], object] = _nothing
        """Loop thread: opens the stream, if something is sent before its handler has returned."""
        self._write: Callable[[], object] | None = None  # of the stream, once it is open

    @property
    def closed(self) -> bool:
        """Whether nobody receives events here any more."""
        return self._closed or self._ended

    def send(
        self,
        data: Any = None,
        event: str | None = None,
        id: str | None = None,  # noqa: A002 (the standard's name)
        retry: int | None = None,
    ) -> bool:
        """Sends an event; returns False if the client is gone.

        `data` is text, or a value that is sent as JSON. `event` is its type (`message` if there is
        none), `id` what the client names when it comes back, `retry` the milliseconds that it waits
        before that. Raises ValueError for a type or id of several lines.
        """
        block = format_event(data, event, id, retry)
        with self._lock:
            if self.closed:
                return False
            self._queue.append(block)
            self._queued += len(block)
            if self._queued > self._most_unsent and len(self._queue) > 1:
                self._closed = True  # the loop will see it and cut the client off
            self._schedule()
        return not self._closed

    def close(self) -> None:
        """Ends the stream once what was sent is out. The client will come back, unless told not to."""
        with self._lock:
            self._ended = True
            self._schedule()

    def on_close(self, listener: Callable[[], object]) -> None:
        """Has `listener()` called, in the pool, once the client is gone; at once if it is."""
        with self._lock:
            if not self._closed:
                self._listeners.append(listener)
                return
        listener()

    def _abandon(self) -> None:
        """Pool thread: the stream has never been opened."""
        for listener in self._finish():
            _guarded(listener)()
        with self._lock:
            self._schedule()  # in case it has been opened after all: it ends

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._reactor.call_from_thread(self._run)

    def _run(self) -> None:
        self._scheduled = False
        (self._write or self.opener)()

    def _take(self) -> tuple[bytes, bool]:
        """Loop thread: what is queued, and whether the stream ends behind it."""
        with self._lock:
            data = b"".join(self._queue)
            self._queue.clear()
            self._queued = 0
            return data, self._ended

    def _finish(self) -> list[Callable[[], object]]:
        """Loop thread: nobody receives any more; returns who wants to know."""
        with self._lock:
            self._closed = True
            self._queue.clear()
            listeners, self._listeners = self._listeners, []
            return listeners


class EventStream(Producer):
    """Writes a channel's events to its client. Loop thread."""

    def __init__(self, channel: EventChannel, reactor: Reactor, lane: Lane, heartbeat: float) -> None:
        self._channel = channel
        self._reactor = reactor
        self._lane = lane
        self._heartbeat = heartbeat
        self._outlet: Outlet | None = None
        self._timer: Timer | None = None

    def start(self, outlet: Outlet) -> None:
        """The head is out: events may follow."""
        self._outlet = outlet
        self._timer = self._reactor.call_later(self._heartbeat, self._beat)
        self._channel._write = self._write
        outlet.send_piece(_HEARTBEAT)  # so that proxies and browsers see that the stream is open
        self._write()

    def peer_ended(self) -> None:
        """Clients of event streams do not half-close: it is gone."""
        self._end(complete=False)

    def shut_down(self) -> None:
        """The server ends: so does the stream."""
        self._write()
        self._end(complete=True)

    def stop(self) -> None:
        """The client is gone."""
        self._outlet = None
        self._channel._write = _nothing
        if self._timer is not None:
            self._timer.cancel()
        for listener in self._channel._finish():
            errand = Errand(_guarded(listener))
            try:
                self._lane.submit(errand)
            except PoolFullError:
                errand.run()

    def _write(self) -> None:
        outlet = self._outlet
        if outlet is None:
            return
        data, ended = self._channel._take()
        if self._channel._closed or (
            data and outlet.unsent > self._channel._most_unsent
        ):  # it does not keep up
            self._end(complete=False)
            return
        if data:
            outlet.send_piece(data)
            if self._timer is not None:
                self._timer.move(self._reactor.now() + self._heartbeat)
        if ended:
            self._end(complete=True)

    def _beat(self) -> None:
        self._timer = self._reactor.call_later(self._heartbeat, self._beat)
        if self._outlet is not None and not self._outlet.unsent:
            self._outlet.send_piece(_HEARTBEAT)

    def _end(self, *, complete: bool) -> None:
        outlet = self._outlet
        if outlet is not None:
            self.stop()
            outlet.end_content(complete=complete)


def _guarded(listener: Callable[[], object]) -> Callable[[], object]:
    def call() -> None:
        try:
            listener()
        except Exception:
            log_failure("a listener of an event stream failed")

    return call


def _nothing() -> None:
    pass
