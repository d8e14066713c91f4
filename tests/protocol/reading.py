"""What the server's parser makes of bytes, as a list that two runs can be compared by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

import pytest

from quick_server.limits import Limits
from quick_server.protocol.heads import HeadMemo
from quick_server.protocol.messages import ProtocolError, RequestHead
from quick_server.protocol.server import ServerProtocol, Signal

Seen: TypeAlias = tuple[object, ...]

LIMITS = Limits()
_FOREVER = 100_000


def events(pieces: Iterable[bytes], memo: HeadMemo | None = None, *, ended: bool = True) -> list[Seen]:
    """All events for these pieces, content joined; requests follow each other without a pause."""
    protocol = ServerProtocol(LIMITS, HeadMemo() if memo is None else memo)
    seen: list[Seen] = []
    for piece in [*pieces, *([b""] if ended else [])]:
        protocol.receive(piece)
        for _ in range(_FOREVER):
            try:
                event = protocol.next_event()
            except ProtocolError as error:
                return [*seen, ("error", error.status, error.message)]
            if isinstance(event, RequestHead):
                line = (event.method, event.target.raw, event.version)
                seen.append(("head", *line, *event.headers.fields))
            elif isinstance(event, bytes):
                before = seen.pop() if seen[-1][0] == "data" else ("data", b"")
                assert isinstance(before[1], bytes)
                seen.append(("data", before[1] + event))
            elif event is Signal.PAUSED:
                protocol.next_request()
            elif event is Signal.END:
                seen.append(("end",))
            else:
                if event is Signal.CLOSED:
                    seen.append(("closed",))
                break
        else:
            pytest.fail("the parser goes on without bytes")
    return seen


def whole(data: bytes, memo: HeadMemo | None = None) -> list[Seen]:
    return events([data] if data else [], memo)


def bytewise(data: bytes) -> list[Seen]:
    return events(data[i : i + 1] for i in range(len(data)))


class Request(NamedTuple):
    """A request whose end was seen."""

    head: RequestHead
    fields: tuple[tuple[str, str], ...]
    body: bytes


class Reading(NamedTuple):
    """What came of a connection."""

    requests: list[Request]
    status: int | None
    """Of the error that ended it; None: it was not an error."""
    reason: str
    rests: list[bytes]
    """What there is from each request on, and from behind the last one on."""


def read(
    data: bytes,
    memo: HeadMemo | None = None,
    *,
    goes_on: Callable[[RequestHead], bool] = lambda _: True,
) -> Reading:
    """All requests in `data` up to the first that is not complete, or after which it does not go on."""
    protocol = ServerProtocol(LIMITS, HeadMemo() if memo is None else memo)
    protocol.receive(data)
    protocol.receive(b"")
    found: list[Request] = []
    rests = [data]
    head, body = None, b""
    while True:
        try:
            event = protocol.next_event()
        except ProtocolError as error:
            return Reading(found, error.status, error.message, rests)
        if isinstance(event, RequestHead):
            head = event
        elif isinstance(event, bytes):
            body += event
        elif event is Signal.CLOSED:
            return Reading(found, None, "", rests)
        elif event is Signal.PAUSED:
            assert head is not None
            found.append(Request(head, head.headers.fields, body))
            rests.append(data[len(data) - protocol.waiting :])
            if not goes_on(head):
                return Reading(found, None, "", rests)
            head, body = None, b""
            protocol.next_request()
