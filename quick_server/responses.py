"""What a handler may return or raise besides plain values."""

from __future__ import annotations

from typing import Any, BinaryIO, TextIO, TypeAlias

AnyStrResponse: TypeAlias = str | bytes | BinaryIO | TextIO | None
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
