"""What a handler may return or raise besides plain values."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO, TypeAlias

from .jsontext import json_bytes
from .producer import IteratorPieces
from .protocol.messages import Pieces

AnyStrResponse: TypeAlias = str | bytes | BinaryIO | TextIO | Iterator[str | bytes] | None
"""The content of a text answer; None is a 404."""


class Response:
    """A result with a status code and a content type of its own.

    >>> Response({"id": 7}, code=201).code
    201
    """

    __slots__ = ("code", "ctype", "response")

    def __init__(self, response: Any, code: int = 200, ctype: str | None = None) -> None:
        self.response = response
        self.code = code
        self.ctype = ctype


class MultipartResponse:
    """A result of several parts, sent as `multipart/form-data` (RFC 7578).

    File objects are sent as binary parts, str and bytes as text, everything else as JSON.

    >>> MultipartResponse({"note": "hello", "rows": [1, 2]}).ctype[:30]
    'multipart/form-data; boundary='
    """

    __slots__ = ("_boundary", "parts")

    def __init__(self, parts: dict[str, Any]) -> None:
        import secrets  # as rare as these answers are, and not cheap to import

        self.parts = parts
        self._boundary = secrets.token_hex(16)

    @property
    def ctype(self) -> str:
        """The Content-Type of the answer."""
        return f"multipart/form-data; boundary={self._boundary}"

    def read(self) -> bytes:
        """The content as a whole."""
        pieces = self.pieces()
        try:
            return b"".join(iter(pieces.next_piece, None))
        finally:
            pieces.close()

    def pieces(self) -> Pieces:
        """The content, piece by piece; closing it closes the files."""
        return _Parts(self._encode(), self.parts)

    def _encode(self) -> Iterator[bytes]:
        for name, value in self.parts.items():
            disposition = f'form-data; name="{_quote(name)}"'
            if hasattr(value, "read"):
                filename = os.path.basename(str(getattr(value, "name", "") or name))
                disposition += f'; filename="{_quote(filename)}"'
                head = self._head(disposition, "application/octet-stream")
                while piece := value.read(64 * 1024):
                    yield head + (piece.encode() if isinstance(piece, str) else piece)
                    head = b""
                yield head + b"\r\n"
            elif isinstance(value, str | bytes):
                text = value.encode() if isinstance(value, str) else value
                yield self._head(disposition, "text/plain; charset=utf-8") + text + b"\r\n"
            else:
                yield self._head(disposition, "application/json") + json_bytes(value) + b"\r\n"
        yield f"--{self._boundary}--\r\n".encode()

    def _head(self, disposition: str, ctype: str) -> bytes:
        lines = f"Content-Disposition: {disposition}\r\nContent-Type: {ctype}\r\n\r\n"
        return f"--{self._boundary}\r\n{lines}".encode()


class _Parts(IteratorPieces):
    """The pieces of a multipart answer, with the files that they are read from."""

    __slots__ = ("_parts",)

    def __init__(self, pieces: Iterator[bytes], parts: dict[str, Any]) -> None:
        super().__init__(pieces)
        self._parts = parts

    def close(self) -> None:
        """Closes the files, whether or not they were read."""
        super().close()
        for value in self._parts.values():
            if hasattr(value, "read"):
                value.close()


def _quote(text: str) -> str:
    """A name within quotes, the way browsers write it in forms."""
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")


class PreventDefaultResponse(Exception):  # noqa: N818 (the name callers know)
    """Ends a request from anywhere in a handler.

    With a code the client gets that error page. Without one nothing more is sent than what the
    handler has already asked for with `req.send_response` or `req.send_error`; if that is nothing,
    the connection ends without an answer.
    """

    def __init__(self, code: int | None = None, message: str | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
