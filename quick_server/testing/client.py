"""A client that believes nothing: it sends bytes as they are, and reads answers strictly.

Whatever the server does, `Client.exchange` comes back: when nothing has arrived for `patience` seconds,
when it has read enough, or when the answer cannot be right.
"""

from __future__ import annotations

import math
import re
import socket
import ssl
import time
from contextlib import suppress
from typing import NamedTuple

from .findings import Kind

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2}) [\t\x20-\x7e\x80-\xff]*")
_FIELD_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(;[\t\x20-\x7e\x80-\xff]*)?")
_MOST = 64 << 20  # bytes of an answer; who sends more is believed to send more of the same
_LONGEST = 1.0  # seconds for a body that keeps coming
_LONGEST_HEAD = 1 << 20
_KEPT = 64 << 10  # bytes of a body, for what an error page says


class Answer(NamedTuple):
    """What came back, and what was wrong with it."""

    status: int | None = None
    """None if there was no whole head."""
    seconds: float = 0.0
    """From the last byte sent to the end of the head."""
    body: bytes = b""
    """Its beginning."""
    is_endless: bool = False
    """Whether the rest was not waited for: events, or a stream that goes on and on."""
    flaw: Kind | None = None
    detail: str = ""


class _FlawError(Exception):
    def __init__(self, kind: Kind, detail: str = "") -> None:
        super().__init__(detail)
        self.kind = kind


class _EndlessError(Exception):
    """The body goes on, and that is fine."""


class Client:
    """Makes a connection for each exchange."""

    def __init__(self, address: tuple[str, int], *, tls: bool = False) -> None:
        self.address = address
        self._context: ssl.SSLContext | None = None
        if tls:  # what is asked is our own server, whatever its certificate says
            self._context = ssl.create_default_context()
            self._context.check_hostname = False
            self._context.verify_mode = ssl.CERT_NONE

    def exchange(self, data: bytes, patience: float, *, head_only: bool = False) -> Answer:
        """Sends a request that asks for a close, and reads its answer."""
        try:
            with self._connect(patience) as sock:
                return _Reading(sock, data, patience).one_answer(head_only=head_only)
        except OSError as error:  # nobody listens any more
            return Answer(flaw=Kind.DROPPED, detail=str(error))

    def converse(self, data: bytes, patience: float) -> list[Answer]:
        """Sends any bytes and the end of the stream; reads answers until the server closes."""
        try:
            with self._connect(patience) as sock:
                return _Reading(sock, data, patience).answers(b"HEAD" in data)
        except OSError as error:
            return [Answer(flaw=Kind.DROPPED, detail=str(error))]

    def _connect(self, patience: float) -> socket.socket:
        sock = socket.create_connection(self.address, timeout=patience)
        if self._context is None:
            return sock
        try:
            return self._context.wrap_socket(sock, server_hostname="localhost")
        except BaseException:
            sock.close()
            raise


class _Reading:
    """One connection, from what is sent to the last byte that came."""

    def __init__(self, sock: socket.socket, data: bytes, patience: float) -> None:
        self._sock = sock
        self._rest = b""
        self._read = 0
        self._patience = patience
        with suppress(OSError):  # it has answered, or will not
            sock.sendall(data)
        self._sent = time.monotonic()
        self._began = math.inf  # when the latest head was there

    def one_answer(self, *, head_only: bool) -> Answer:
        """The answer, behind which the server has to close."""
        answer = self._answer(head_only=head_only)
        if answer.flaw is not None or answer.is_endless:
            return answer
        try:
            if self._rest or self._fill():
                return answer._replace(flaw=Kind.MALFORMED, detail="more was sent than the answer")
        except _FlawError:
            return answer._replace(flaw=Kind.MALFORMED, detail="the connection was not closed")
        return answer

    def answers(self, may_be_head: bool) -> list[Answer]:
        """Those to any bytes; only the first, if it may be one to HEAD: such have no body."""
        if not isinstance(self._sock, ssl.SSLSocket):
            with suppress(OSError):
                self._sock.shutdown(socket.SHUT_WR)
        found: list[Answer] = []
        try:
            while self._rest or self._fill():
                answer = self._answer(head_only=may_be_head)
                found.append(answer)
                if may_be_head:
                    self._until_end(bytearray())
                if answer.flaw is not None or answer.is_endless or may_be_head:
                    break
        except _EndlessError:
            pass
        except _FlawError as flaw:
            found.append(Answer(flaw=flaw.kind, detail="the connection was not closed"))
        return found

    def _answer(self, *, head_only: bool) -> Answer:
        status, seconds, body = None, 0.0, bytearray()
        try:
            status, fields = self._head()
            while status < 200:
                status, fields = self._head()
            self._began = time.monotonic()
            seconds = self._began - self._sent
            if not head_only and status not in (204, 304):
                self._body(fields, body)
        except _EndlessError:
            return Answer(status, seconds, bytes(body), is_endless=True)
        except _FlawError as flaw:
            is_cut = flaw.kind is Kind.DROPPED and status is not None
            kind = Kind.CUT_OFF if is_cut else flaw.kind
            return Answer(status, seconds, bytes(body), flaw=kind, detail=str(flaw))
        return Answer(status, seconds, bytes(body))

    def _head(self) -> tuple[int, dict[str, str]]:
        lines: list[bytes] = []
        while line := self._line():
            lines.append(line)
        found = _STATUS_LINE.fullmatch(lines[0]) if lines else None
        if found is None:
            raise _FlawError(Kind.MALFORMED, f"the answer begins with {(lines or [b''])[0][:80]!r}")
        fields: dict[str, str] = {}
        for line in lines[1:]:
            field = _FIELD_LINE.fullmatch(line)
            if field is None:
                raise _FlawError(Kind.MALFORMED, f"no header field: {line[:80]!r}")
            name = field[1].decode().lower()
            if name in fields and name in ("content-length", "transfer-encoding", "content-type"):
                raise _FlawError(Kind.MALFORMED, f"two fields {name}")
            fields[name] = field[2].decode("latin-1").strip()
        if "content-length" in fields and "transfer-encoding" in fields:
            raise _FlawError(Kind.MALFORMED, "Transfer-Encoding beside Content-Length")
        return int(found[1]), fields

    def _body(self, fields: dict[str, str], body: bytearray) -> None:
        if fields.get("content-type", "").startswith("text/event-stream"):
            raise _EndlessError  # it may be silent for as long as it likes
        if "transfer-encoding" in fields:
            self._chunks(body)
        elif "content-length" in fields:
            length = fields["content-length"]
            if not (length.isascii() and length.isdecimal()):
                raise _FlawError(Kind.MALFORMED, f"Content-Length: {length[:80]}")
            self._take(int(length), body)
        else:
            self._until_end(body)

    def _until_end(self, body: bytearray) -> None:
        while self._rest or self._fill():
            body += self._rest[: max(0, _KEPT - len(body))]
            self._rest = b""

    def _chunks(self, body: bytearray) -> None:
        while True:
            line = self._line()
            found = _CHUNK_LINE.fullmatch(line)
            if found is None:
                raise _FlawError(Kind.MALFORMED, f"no size of a chunk: {line[:80]!r}")
            size = int(found[1], 16)
            if size == 0:
                while self._line():
                    pass
                return
            self._take(size, body)
            if self._line():
                raise _FlawError(Kind.MALFORMED, "a chunk is longer than its size")

    def _take(self, size: int, body: bytearray) -> None:
        while size:
            if not self._rest and not self._fill():
                raise _FlawError(Kind.DROPPED, f"{size} bytes were still to come")
            piece, self._rest = self._rest[:size], self._rest[size:]
            size -= len(piece)
            body += piece[: max(0, _KEPT - len(body))]

    def _line(self) -> bytes:
        while (end := self._rest.find(b"\r\n")) < 0:
            if len(self._rest) > _LONGEST_HEAD:
                raise _FlawError(Kind.MALFORMED, "a line without end")
            if not self._fill():
                if self._rest:
                    raise _FlawError(Kind.MALFORMED, "it ended within a line")
                raise _FlawError(Kind.DROPPED)
        line, self._rest = self._rest[:end], self._rest[end + 2 :]
        return line

    def _fill(self) -> bool:
        """Waits for more; False at the end. Raises _FlawError if nothing comes."""
        if self._read > _MOST or time.monotonic() - self._began > _LONGEST:
            raise _EndlessError
        try:
            data = self._sock.recv(1 << 16)
        except TimeoutError:
            raise _FlawError(Kind.HANG, f"nothing for {self._patience:g} s") from None
        except OSError:  # a reset is an end, too
            data = b""
        self._rest += data
        self._read += len(data)
        return bool(data)
