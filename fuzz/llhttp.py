"""What llhttp, the parser of Node, makes of the same bytes; and ours in the same form."""

from __future__ import annotations

from itertools import zip_longest
from typing import Literal, NamedTuple

import httptools

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
    rests: list[bytes]
    """What there is from each request on, and from behind the last one on; by ours only."""


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
    return Verdict(reader.messages, reader.state, [])


def ours(data: bytes) -> Verdict:
    """By the parser of this server. After the last request of a connection it reads no more."""
    reading = read(data, goes_on=lambda head: head.keep_alive)
    messages = [_as_message(request) for request in reading.requests]
    return Verdict(messages, reading.reason, reading.rests)


def _as_message(request: Request) -> Message:
    head = request.head
    return Message(head.method, head.target.raw, request.fields, request.body, head.keep_alive)


class Found(NamedTuple):
    """Where the two differ for the first time."""

    stricter: Literal["ours", "theirs", "neither"]
    reason: str
    """Why the stricter one refuses; if both accept, what differs."""
    rest: bytes
    """From the request in question on."""


def difference(data: bytes) -> Found | None:
    """None: they say the same; or both refuse, whatever the reason."""
    us, them = ours(data), theirs(data)
    for mine, other, rest in zip_longest(us.messages, them.messages, us.rests):
        if mine is None and other is None:
            return None
        if mine is None:
            return Found("ours", us.refusal, rest)
        if other is None:
            return Found("theirs", them.refusal, rest)
        pairs = zip(Message._fields, _comparable(mine), _comparable(other), strict=True)
        differing = [name for name, a, b in pairs if a != b]
        if differing:
            return Found("neither", " ".join(differing), rest)
        if not mine.keep_alive:
            return None
    return None


def _comparable(message: Message) -> Message:
    """Without what we say in another way.

    The authority of an absolute target replaces Host (RFC 9112 section 3.2.2), and the names of
    codings have no case (section 7).
    """
    fields = [(name, v.lower() if name == "transfer-encoding" else v) for name, v in message.fields]
    if not message.target.startswith("/"):
        fields = [field for field in fields if field[0] != "host"]
    return message._replace(fields=tuple(fields))
