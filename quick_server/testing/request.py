"""A request as a value: what the strategies make, and what is sent, shrunk and shown."""

from __future__ import annotations

import json
from typing import NamedTuple, TypeAlias
from urllib.parse import parse_qsl

Field: TypeAlias = tuple[str, str | None]
"""Name and value of a header field; None: the field is not sent, although clients usually do."""

USUAL = (("User-Agent", "quick_server.testing"), ("Accept", "*/*"))
"""What is sent unless a request says otherwise. `curl` sends fields of these names, too."""


class Request(NamedTuple):
    """A well-formed request; its values may be as odd as HTTP allows.

    >>> Request("POST", "/score", body=b"3").to_bytes().splitlines()[0]
    b'POST /score HTTP/1.1'
    """

    method: str = "GET"
    target: str = "/"
    """Path and query as they are sent: encoded, ASCII."""
    headers: tuple[Field, ...] = ()
    """Besides Host and those that frame the body. A character is one byte (latin-1)."""
    body: bytes | None = None

    def to_bytes(self) -> bytes:
        """The request as it goes over the wire, asking for a close behind the answer."""
        named = {name.lower() for name, _ in self.headers}
        usual = [field for field in USUAL if field[0].lower() not in named]
        fields: list[Field] = [("Host", "localhost"), ("Connection", "close"), *usual, *self.headers]
        if self.body is not None:
            fields.append(("Content-Length", str(len(self.body))))
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields if value is not None]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (self.body or b"")


Sent: TypeAlias = Request | bytes
"""What goes to the server: a request, or bytes that may be none."""


def size_of(sent: Sent) -> int:
    """How long it is, for telling the shorter of two."""
    if isinstance(sent, bytes):
        return len(sent)
    unsent = sum(value is None for _, value in sent.headers)
    return len(sent.to_bytes()) + 40 * unsent


def names_in(request: Request) -> frozenset[str]:
    """The names of what it carries: in its query with a question mark in front, and in its body."""
    query = request.target.partition("?")[2]
    body = request.body or b""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        names = [name for name, _ in parse_qsl(body.decode("latin-1"), keep_blank_values=True)]
    else:
        names = list(value) if isinstance(value, dict) else []
    return frozenset([*names, *(f"?{name}" for name, _ in parse_qsl(query, keep_blank_values=True))])
