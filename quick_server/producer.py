"""Answers that take their time: content that is made piece by piece while it is sent.

`StreamedAnswer` drives an iterator: one step at a time in the pool, the next only when the client has
taken most of what there is. It never holds a thread while it waits for the client, and the client's
connection never waits for anything but the next piece.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from .log import log_failure
from .pool import Errand, Job, Lane, PoolFullError
from .protocol.messages import OpenEnded, Pieces, StreamBody


class Outlet(Protocol):
    """What a producer needs of its connection. Loop thread."""

    @property
    def unsent(self) -> int:
        """Bytes that the client has yet to take."""

    def send_piece(self, data: bytes) -> None:
        """Sends a piece of the content."""

    def end_content(self, *, complete: bool) -> None:
        """The content has ended; the connection of one that is not complete is aborted."""

    def pause_reading(self) -> None:
        """No more is wanted from the client for now."""

    def resume_reading(self) -> None:
        """More is wanted."""

    def finish(self) -> None:
        """Ends our side of the connection once all is sent; the client may go on."""


class Producer(OpenEnded):
    """What makes the content of an answer. Loop thread; by default nothing moves it."""

    __slots__ = ()

    def start(self, outlet: Outlet) -> None:
        """The head is on its way: content may follow."""
        raise NotImplementedError

    def resume(self) -> None:
        """The client has taken some of it."""

    def peer_ended(self) -> None:
        """The client has ended its side of the connection."""

    def shut_down(self) -> None:
        """The server is about to end."""

    def stop(self) -> None:
        """The client is gone."""


class Takeover(Producer):
    """An answer after which the connection no longer speaks HTTP: all that the client sends is its."""

    __slots__ = ()

    def receive(self, data: bytes) -> None:
        """Bytes from the client, b"" at the end of its side."""
        raise NotImplementedError


class _Failed:
    """The outcome of a step that raised."""


class StreamedAnswer(Job, Producer):
    """Drives one iterator. It is its own job for the pool: at most one step is under way."""

    __slots__ = ("_ahead", "_body", "_lane", "_outlet", "_stepping", "_stopped")

    def __init__(self, body: StreamBody, lane: Lane, ahead: int) -> None:
        """The next piece is fetched while up to `ahead` bytes are unsent; one piece comes on top."""
        self._body = body
        self._ahead = ahead
        self._lane = lane
        self._outlet: Outlet | None = None
        self._stepping = False
        self._stopped = False

    # loop thread

    def start(self, outlet: Outlet) -> None:
        """Sends the first piece, which is there already."""
        self._outlet = outlet
        self._take(self._body.first)

    def resume(self) -> None:
        """Fetches the next piece if the client has room for it and none is under way."""
        if self._stepping or self._stopped or self._outlet is None or self._outlet.unsent > self._ahead:
            return
        self._stepping = True
        try:
            self._lane.submit(self)
        except PoolFullError:
            self._stepping = False
            self._end(complete=False)

    def peer_ended(self) -> None:
        """It may still read: the next piece will show."""

    def shut_down(self) -> None:
        """The client may have the rest, within the time that the server has."""

    def stop(self) -> None:
        """Closes the iterator, after the step that may be under way."""
        self._stopped = True
        if not self._stepping:
            dispose(self._body.rest, self._lane)

    def deliver(self, piece: Any) -> None:
        """A step has ended."""
        self._stepping = False
        if self._stopped:
            dispose(self._body.rest, self._lane)
        elif isinstance(piece, _Failed):
            self._end(complete=False)
        else:
            self._take(piece)

    def _take(self, piece: bytes | None) -> None:
        if piece is None:
            self._end(complete=True)
            return
        assert self._outlet is not None
        self._outlet.send_piece(piece)
        self.resume()

    def _end(self, *, complete: bool) -> None:
        self._stopped = True
        dispose(self._body.rest, self._lane)
        assert self._outlet is not None
        self._outlet.end_content(complete=complete)

    # pool thread

    def run(self) -> bytes | _Failed | None:
        """One step of the iterator."""
        try:
            return self._body.rest.next_piece()
        except BaseException:
            log_failure("a streamed answer failed and was cut off")
            return _Failed()

    def dropped(self) -> None:
        """The pool closed before the step was run."""
        self._body.rest.close()


def dispose(pieces: Pieces, lane: Lane) -> None:
    """Closes an iterator in the pool, where its own code may run."""
    errand = Errand(pieces.close)
    try:
        lane.submit(errand)
    except PoolFullError:
        errand.run()


def _as_bytes(piece: Any) -> bytes:
    if isinstance(piece, str):
        return piece.encode("utf-8", "replace")
    if isinstance(piece, bytes | bytearray | memoryview):
        return bytes(piece)
    raise TypeError(f"a stream consists of str and bytes, not {type(piece).__name__}")


class IteratorPieces:
    """An iterator of str and bytes as the pieces of a body."""

    __slots__ = ("_iterator",)

    def __init__(self, iterator: Iterator[str | bytes] | Iterator[bytes]) -> None:
        self._iterator = iterator

    def next_piece(self) -> bytes | None:
        """The next piece that is not empty. Raises TypeError for what is neither str nor bytes."""
        for piece in self._iterator:
            data = _as_bytes(piece)
            if data:
                return data
        return None

    def close(self) -> None:
        """Ends a generator at its `yield`; what it raises there is logged."""
        close = getattr(self._iterator, "close", None)
        if close is not None:
            try:
                close()
            except BaseException:
                log_failure("a streamed answer failed while it was closed")


class FilePieces:
    """A readable object, such as a pipe or a buffer, as the pieces of a body."""

    __slots__ = ("_file",)

    def __init__(self, file: Any) -> None:
        self._file = file

    def next_piece(self) -> bytes | None:
        """Up to 64 KiB; what is there, if the object can tell."""
        read = getattr(self._file, "read1", self._file.read)
        return _as_bytes(read(64 * 1024)) or None

    def close(self) -> None:
        """Closes the object."""
        self._file.close()
