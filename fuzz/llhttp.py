"""What llhttp, the parser of Node, makes of the same bytes; and ours in the same form."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import httptools

from quick_server.protocol.messages import RequestHead
from tests.protocol.reading import Request, read

_BLANKS = b" \t"  # around a value; httptools leaves those behind it


class Message(NamedTuple):
    """A request that a parser took as complete."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    """Names in lower case, values in Latin-1, no trailers."""
    body: bytes
    keep_alive: bool


class Verdict(NamedTuple):
    """What a parser made of a connection."""

    messages: list[Message]
    refusal: str
    """Why there are no more; "more" if more bytes could help, "" if there was nothing left to read."""
    rest: bytes
    """From the first byte that belongs to none of the messages; of ours only."""


class _Theirs:
    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.state = ""
        self._parser = httptools.HttpRequestParser(self)
        self._clear()

    def read(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.state = "upgrade"
        except httptools.HttpParserError as error:
            if self.state != "close":
                self.state = str(error)

    def on_message_begin(self) -> None:
        if self.state != "close":
            self._clear()
            self.state = "more"

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._head_is_complete:  # else it is a trailer
            value = value.strip(_BLANKS)
            self._fields.append((name.lower().decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self._head_is_complete = True

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        method = self._parser.get_method().decode("ascii")
        keep_alive = self._parser.should_keep_alive()
        fields = tuple(self._fields)
        self.messages.append(
            Message(method, self._url.decode("latin-1"), fields, self._body, keep_alive)
        )
        self.state = "" if keep_alive else "close"

    def _clear(self) -> None:
        self._url = self._body = b""
        self._fields: list[tuple[str, str]] = []
        self._head_is_complete = False


def theirs(data: bytes) -> Verdict:
    """By llhttp. After an upgrade, and after the last request of a connection, it reads no more."""
    reader = _Theirs()
    reader.read(data)
    return Verdict(reader.messages, reader.state, b"")


def ours(data: bytes, goes_on: Callable[[RequestHead], bool]) -> Verdict:
    """By the parser of this server."""
    reading = read(data, goes_on=lambda head: head.keep_alive and goes_on(head))
    messages = [_as_message(request) for request in reading.requests]
    return Verdict(messages, reading.reason, reading.rest)


def _as_message(request: Request) -> Message:
    head = request.head
    fields = request.fields
    return Message(head.method, head.target.raw, fields, request.body, head.keep_alive)
