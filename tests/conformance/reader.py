"""Answers read from a socket as strictly as RFC 9112 allows: what is not one is an error.

A conforming client may be generous; this one is not, as it is there to judge. It takes no framing that
could be read in two ways, no field that does not match the grammar, and nothing between two answers.
"""

from __future__ import annotations

import re
import socket

from tests.harness import Answer

TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
START = b"HTTP/1."
STATUS_LINE = re.compile(r"(HTTP/1\.[01]) ([1-5][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)")
VISIBLE = r"[\x21-\x7e\x80-\xff]"
FIELD_LINE = re.compile(rf"({TOKEN}):[ \t]*((?:{VISIBLE}(?:[\t\x20-\x7e\x80-\xff]*{VISIBLE})?)?)[ \t]*")
CHUNK_LINE = re.compile(r"([0-9A-Fa-f]{1,16})(?:[ \t]*;.*)?")
LENGTH = re.compile(r"[0-9]{1,18}")
SINGLE = (
    "content-length",
    "content-type",
    "content-range",
    "date",
    "etag",
    "last-modified",
    "location",
)
"""Fields that are no lists: a sender may not generate two of them (RFC 9110 section 5.3)."""
LONGEST_LINE = 64 * 1024


class MalformedError(Exception):
    """What came is no answer."""


class EndError(Exception):
    """The server closed the connection where an answer could have begun."""


class Reader:
    """The client's side of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest = b""

    def answer(self, method: str, version: str = "1.1") -> Answer:
        """The next answer, interim ones included, to a request of this method and version.

        Raises EndError, MalformedError, and TimeoutError when nothing comes.
        """
        if not self._rest and not self._fill():
            raise EndError
        while len(self._rest) < len(START) and self._fill():
            pass
        found = STATUS_LINE.fullmatch(self._line()) if self._rest.startswith(START) else None
        if found is None:
            raise MalformedError("content without a status line")
        answer = Answer(found[1], int(found[2]), found[3], self._fields())
        self._check_framing(answer, version)
        answer.body = self._content(answer, method)
        return answer

    def at_end(self) -> bool:
        """Whether the server closes, and says nothing before it."""
        return not self._rest and not self._fill()

    def _fields(self) -> list[tuple[str, str]]:
        fields: list[tuple[str, str]] = []
        while line := self._line():
            found = FIELD_LINE.fullmatch(line)
            if found is None:
                raise MalformedError("a field line against the grammar")
            fields.append((found[1], found[2]))
        return fields

    def _check_framing(self, answer: Answer, version: str) -> None:
        lengths, codings = answer.all("content-length"), answer.all("transfer-encoding")
        for name in SINGLE:
            if len(answer.all(name)) > 1:
                raise MalformedError(f"two {name} fields")
        if lengths and not LENGTH.fullmatch(lengths[0]):
            raise MalformedError("Content-Length is no number")
        if lengths and codings:
            raise MalformedError("Content-Length beside Transfer-Encoding")
        if (answer.status < 200 or answer.status == 204) and (lengths or codings):
            raise MalformedError(f"{answer.status} with framing fields")
        if codings and (version != "1.1" or [c.lower() for c in codings] != ["chunked"]):
            raise MalformedError("a Transfer-Encoding that may not be")

    def _content(self, answer: Answer, method: str) -> bytes:
        if method == "HEAD" or answer.status < 200 or answer.status in (204, 304):
            return b""
        if answer.get("transfer-encoding") is not None:
            return self._chunks()
        if (length := answer.get("content-length")) is not None:
            return self._exactly(int(length))
        while self._fill():
            pass
        content, self._rest = self._rest, b""
        return content

    def _chunks(self) -> bytes:
        content = b""
        while True:
            found = CHUNK_LINE.fullmatch(self._line())
            if found is None:
                raise MalformedError("what comes is no chunk")
            if not (size := int(found[1], 16)):
                break
            content += self._exactly(size)
            if self._exactly(2) != b"\r\n":
                raise MalformedError("a chunk without its end")
        self._fields()
        return content

    def _line(self) -> str:
        while b"\n" not in self._rest:
            if len(self._rest) > LONGEST_LINE or not self._fill():
                raise MalformedError("a line without end")
        line, _, self._rest = self._rest.partition(b"\n")
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise MalformedError("a line end that is not CRLF")
        return line[:-1].decode("latin-1")

    def _exactly(self, size: int) -> bytes:
        while len(self._rest) < size:
            if not self._fill():
                raise MalformedError("content that ends early")
        content, self._rest = self._rest[:size], self._rest[size:]
        return content

    def _fill(self) -> bool:
        """Takes what comes next; False at the end. A reset is an end, too: everything sent was read."""
        try:
            data = self._sock.recv(65536)
        except (ConnectionResetError, BrokenPipeError):
            return False
        self._rest += data
        return bool(data)
