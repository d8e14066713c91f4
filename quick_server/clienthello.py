"""The server names that a TLS client asks for, before OpenSSL sees them.

Knows bytes and nothing else. Python writes a traceback when a client asks for a name that is not ASCII,
as no host name is in a handshake (RFC 6066 section 3); so such a handshake must not get that far. The
records are only looked at, never held back or changed: what is broken otherwise OpenSSL refuses. What
is kept of them is one message, of bounded length.
"""

from __future__ import annotations

_HANDSHAKE = 0x16  # the type of a record (RFC 8446 section 5.1)
_CLIENT_HELLO = 0x01  # the type of a message in it (section 4)
_SERVER_NAME = 0x0000  # the type of an extension (section 4.2)
_LONGEST = 32 * 1024  # bytes of a ClientHello; those of browsers have 2 KB
_RECORD_HEAD, _MESSAGE_HEAD = 5, 4


class HelloError(Exception):
    """The client is not to be gone on with."""


class HelloWatch:
    """Looks at what a client sends from its first byte until the handshake is done."""

    __slots__ = ("_head", "_is_handshake", "_is_over", "_left", "_message")

    def __init__(self) -> None:
        self._head = bytearray()  # of the next record
        self._left = 0  # bytes of this record that are still to come
        self._is_handshake = False  # this record
        self._message = bytearray()  # of the handshake, as far as it is there
        self._is_over = False

    def look(self, data: bytes) -> None:
        """At the bytes that come next. Raises HelloError if they complete a name that is not ASCII."""
        rest = memoryview(data)
        while rest and not self._is_over:
            if not self._left:
                rest = self._begin_record(rest)
                continue
            if self._is_handshake:
                self._message += rest[: self._left]
                self._read_messages()
            size = min(self._left, len(rest))
            self._left -= size
            rest = rest[size:]

    def _begin_record(self, rest: memoryview) -> memoryview:
        missing = _RECORD_HEAD - len(self._head)
        self._head += rest[:missing]
        if len(self._head) == _RECORD_HEAD:
            self._is_handshake = self._head[0] == _HANDSHAKE
            self._left = int.from_bytes(self._head[3:])
            self._head.clear()
        return rest[missing:]

    def _read_messages(self) -> None:
        """A second ClientHello may follow the first (RFC 8446 section 4.1.4); nothing else matters."""
        message = self._message
        while message and not self._is_over:
            if message[0] != _CLIENT_HELLO:
                self._is_over = True
                return
            size = _MESSAGE_HEAD + int.from_bytes(message[1:_MESSAGE_HEAD])
            if len(message) >= _MESSAGE_HEAD and size > _LONGEST:
                raise HelloError("the ClientHello is too long")
            if len(message) < max(size, _MESSAGE_HEAD):
                return
            if not server_name(bytes(message[_MESSAGE_HEAD:size])).isascii():
                raise HelloError("the server name is not ASCII")
            del message[:size]


def server_name(hello: bytes) -> bytes:
    """The server name in the body of a ClientHello (RFC 8446 section 4.1.2), or b"" if there is none.

    Of one that is broken anything: OpenSSL refuses it.
    """
    at = 2 + 32  # version, random
    for width in (1, 2, 1):  # session, cipher suites, compression methods
        at += width + int.from_bytes(hello[at : at + width])
    at += 2  # how long the extensions are
    while at + 4 <= len(hello):
        kind, size = int.from_bytes(hello[at : at + 2]), int.from_bytes(hello[at + 2 : at + 4])
        at += 4
        if kind == _SERVER_NAME:
            return hello[at + 5 : at + size]  # behind the list's length, the name's type and length
        at += size
    return b""
