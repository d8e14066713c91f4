"""The chunked transfer coding (RFC 9112 section 7.1): h11 behind a guard.

h11 takes chunk extensions of any content, blanks after a size, and any trailer. The guard walks the
framing, refuses all of that, and finds where the content ends; h11 then reads exactly the bytes that
passed. As the guard accepts less than h11 does, there is still only one interpretation.
"""

from __future__ import annotations

import re
from enum import Enum, auto

import h11

from ..limits import Limits
from .grammar import FIELD_VALUE, ILLEGAL, QUOTED_STRING, TOKEN
from .messages import ProtocolError

_SIZE = rb"([0-9A-Fa-f]{1,15})"  # below 2^60
_SIZE_LINE = re.compile(
    _SIZE + rb"((?:;" + TOKEN + rb"(?:=(?:" + TOKEN + rb"|" + QUOTED_STRING + rb"))?)*)\r\n"
)
_TRAILER_LINE = re.compile(rb"(" + TOKEN + rb"):" + FIELD_VALUE + rb"\r\n")
_FRAMING_FIELDS = frozenset((b"content-length", b"transfer-encoding"))
_OVERHEAD_RATE = 4  # bytes of framing that a byte of content may cost; one-byte chunks cost 5


_STEPS = 64  # lines and pieces of content that one `feed` walks over


class _At(Enum):
    SIZE = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILER = auto()
    END = auto()


class ChunkedBody:
    """Decodes one chunked body. Fed as bytes arrive; pieces of content come out one by one."""

    __slots__ = (
        "_at",
        "_content",
        "_error",
        "_h11",
        "_limits",
        "_line",
        "_overhead",
        "_trailer",
        "_want",
    )

    def __init__(self, raw_head: bytes, limits: Limits) -> None:
        self._limits = limits
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head)
        self._h11.receive_data(raw_head)
        self._h11.next_event()
        self._at = _At.SIZE
        self._line = b""  # the line that is not complete yet
        self._want = 0  # bytes of this chunk still to come
        self._content = self._overhead = self._trailer = 0  # bytes so far
        self._error: ProtocolError | None = None

    @property
    def announced(self) -> int:
        """The sizes of all chunks so far, whether or not their bytes are here."""
        return self._content

    def feed(self, data: bytes) -> int:
        """Takes bytes that follow the head; returns how many were taken.

        Those that were not belong to the next request, or are taken the next time.
        """
        taken = 0
        try:
            for _ in range(_STEPS):  # so that a flood of tiny chunks costs little at a time
                if taken == len(data) or self._at is _At.END:
                    break
                taken = self._step(data, taken)
        except ProtocolError as error:
            self._error = error
        if taken:  # h11 takes b"" for the end of input
            self._h11.receive_data(data[:taken])
        return len(data) if self._error else taken

    def next_piece(self) -> bytes | None:
        """The next piece of content; b"" when more bytes are needed, None at the end.

        Raises ProtocolError once what came before the fault has been handed out.
        """
        try:
            event = self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise ProtocolError(400, str(error)) from None
        if type(event) is h11.Data:
            return bytes(event.data)
        if event is not h11.NEED_DATA:
            return None
        if self._error is not None:
            raise self._error
        return b""

    def _step(self, data: bytes, start: int) -> int:
        """Walks over the next part of the framing; returns where the one after it starts."""
        if self._at is _At.DATA:
            size = min(self._want, len(data) - start)
            self._want -= size
            if not self._want:
                self._at = _At.DATA_END
            return start + size
        feed = data.find(b"\n", start)
        end = feed + 1 if feed >= 0 else len(data)
        before = len(self._line)
        self._line += data[start:end]
        self._check_part(before)
        if feed >= 0:
            line, self._line = self._line, b""
            self._on_line(line)
        return end

    def _check_part(self, before: int) -> None:
        """Judges a line of which the first `before` bytes have been judged."""
        if self._at is _At.TRAILER:
            most = self._limits.head - self._trailer
            too_long = ProtocolError(431, "the trailers are too long")
        else:
            most = self._limits.chunk_extension + 20
            too_long = ProtocolError(400, "a chunk's extensions are too long")
        if self._at is _At.DATA_END and not b"\r\n".startswith(self._line):
            raise ProtocolError(400, "a chunk is longer than its size")
        if ILLEGAL.search(self._line, max(0, before - 1), most):
            raise ProtocolError(400, "the chunk framing has an illegal byte")
        if len(self._line) > most:
            raise too_long

    def _on_line(self, line: bytes) -> None:
        if self._at is _At.SIZE:
            self._on_size(line)
        elif self._at is _At.DATA_END:
            self._overhead += 2
            self._at = _At.SIZE
        else:
            self._on_trailer(line)

    def _on_size(self, line: bytes) -> None:
        found = _SIZE_LINE.fullmatch(line)
        if not found:
            raise ProtocolError(400, "that is not a chunk size")
        size = int(found[1], 16)
        if len(found[2]) > self._limits.chunk_extension:
            raise ProtocolError(400, "a chunk's extensions are too long")
        self._content += size
        self._overhead += len(line)
        if self._overhead > self._limits.chunk_overhead + _OVERHEAD_RATE * self._content:
            raise ProtocolError(400, "the chunk framing is out of proportion to the content")
        self._want = size
        self._at = _At.DATA if size else _At.TRAILER

    def _on_trailer(self, line: bytes) -> None:
        if line == b"\r\n":
            self._at = _At.END
            return
        found = _TRAILER_LINE.fullmatch(line)
        if not found or found[1].lower() in _FRAMING_FIELDS:
            raise ProtocolError(400, "that must not stand in a trailer")
        self._trailer += len(line)
