"""Multipart forms: an encoder of our own, as browsers do it, and what holds for any body.

Shared by the Hypothesis tests and the coverage-guided ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple, TypeAlias, TypeVar

from quick_server.limits import Limits
from quick_server.protocol.messages import ProtocolError
from quick_server.uploads import Form, make_form

BARE_LINE_FEED = re.compile(rb"(?<!\r)\n")
MOST_BYTES = 1000
"""What the plain fields, and each file, may have."""


class Sent(NamedTuple):
    """A file as a client sends it."""

    filename: str
    content_type: str
    content: bytes


Received: TypeAlias = tuple[dict[str, str], dict[str, Sent]]
"""The fields and files of a form."""


def encode(fields: Iterable[tuple[str, str | Sent]], boundary: str) -> bytes:
    """The HTML standard's encoding of a form (its section 4.10.21.8)."""
    body = b""
    for name, value in fields:
        disposition = f'Content-Disposition: form-data; name="{_escaped(name)}"'
        if isinstance(value, Sent):
            disposition += f'; filename="{_escaped(value.filename)}"'
            disposition += f"\r\nContent-Type: {value.content_type}"
            content = value.content
        else:
            content = value.encode()
        body += f"--{boundary}\r\n{disposition}\r\n\r\n".encode() + content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode()


def _escaped(name: str) -> str:
    return name.replace("\n", "%0A").replace("\r", "%0D").replace('"', "%22")


T = TypeVar("T")


def value_or_refusal(make: Callable[[], T]) -> T | int:
    """What comes of it, or the status with which it is refused: 400 or 413, and no book about it."""
    try:
        return make()
    except ProtocolError as error:
        status, message = error.status, error.message
    assert status in (400, 413), message
    assert len(message) < 400
    return status


def receive(
    pieces: Iterable[bytes], parameters: dict[str, str], most_bytes: int = MOST_BYTES
) -> Received | int:
    """What a form comes to when it arrives in these pieces; a status if it is refused."""
    form = value_or_refusal(lambda: make_form(parameters, most_bytes, Limits()))
    if isinstance(form, int):
        return form
    received = value_or_refusal(lambda: _feed(form, pieces))
    files = [*form.files.values()]
    form.close()
    assert all(file.closed for file in files)
    return received


def _feed(form: Form, pieces: Iterable[bytes]) -> Received:
    for piece in filter(None, pieces):
        form.feed(piece)
    form.complete()
    files = {
        name: Sent(file.filename, file.content_type, file.read()) for name, file in form.files.items()
    }
    return dict(form.fields), files


def check_any_form(body: bytes, cuts: Sequence[int], parameters: dict[str, str]) -> None:
    """Any body is a form, 400 or 413, and the same one however it is cut."""
    ends = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    ways = [
        receive([body], parameters),
        receive([body[a:b] for a, b in pairwise(ends)], parameters),
        receive([body[at : at + 1] for at in range(len(body))], parameters),
    ]
    for way in ways:
        if isinstance(way, int):
            continue
        fields, files = way
        assert sum(map(len, fields.values())) <= MOST_BYTES
        assert all(len(file.content) <= MOST_BYTES for file in files.values())
    accepted = [way for way in ways if not isinstance(way, int)]
    assert all(way == accepted[0] for way in accepted), accepted
    # A line feed in front of the name of a part's field is refused only where a piece ends behind it.
    if not BARE_LINE_FEED.search(body):
        assert len(accepted) in (0, len(ways)), ways
