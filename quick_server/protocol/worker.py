"""The worker protocol: JSON messages about jobs, on one URL for each kind of job. Pure.

A client posts an action (`start`, `get`, `stop` or `cargo`); every answer is an object with `token`,
`done`, `result` and `continue`. A result is JSON text *within* a JSON string. One that is longer than
clients like to take at once is cut into pieces, cargo, which they fetch one by one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, cast

from .messages import ProtocolError

ActionName = Literal["start", "get", "stop", "cargo"]

LONGEST_WAIT = 30.0  # seconds that a client may ask an answer to be held back
START_WAIT = 0.1  # seconds that a start waits in any case, so that a fast job answers at once

_NAMES = ("start", "get", "stop", "cargo")
_LONGEST_TOKEN = 16  # digits of 2**53
_string = json.encoder.encode_basestring


class Action(NamedTuple):
    """What a client wants."""

    name: ActionName
    token: str
    """Of a job or of a piece of cargo; empty for a start."""
    payload: dict[str, Any]
    """What a job is started with."""
    wait: float
    """Seconds that the answer may be held back until there is something to say."""
    size: int = 0
    """Bytes of the message."""


def parse_action(message: Any) -> Action:
    """The action that a message stands for. ProtocolError 400 if it stands for none.

    >>> parse_action({"action": "get", "token": 12}).token
    '12'
    """
    if not isinstance(message, dict):
        raise _malformed("an object is expected")
    name = message.get("action")
    if name not in _NAMES:
        raise _malformed("the action is start, get, stop or cargo")
    wait = _wait(message.get("wait", 0))
    if name == "start":
        payload = message.get("payload")
        if payload is None:
            payload = {}
        if not isinstance(payload, dict):
            raise _malformed("the payload is an object")
        return Action("start", "", payload, max(wait, START_WAIT))
    return Action(cast("ActionName", name), _token(message.get("token")), {}, wait)


def _wait(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise _malformed("wait is a number of milliseconds")
    return min(value, LONGEST_WAIT * 1000) / 1000


def _token(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if abs(value) < 10**_LONGEST_TOKEN else ""
    if (
        not isinstance(value, str)
        or len(value) > _LONGEST_TOKEN
        or not (value.isascii() and value.isdecimal())
    ):
        raise _malformed("the token is not one")
    return value


def _malformed(why: str) -> ProtocolError:
    return ProtocolError(400, f"that is no message to a worker: {why}")


def cut(text: str, longest: int) -> tuple[bytes, ...]:
    """A result as JSON strings of at most so many characters each; one of them, if it is short."""
    longest = max(1, longest)
    ends = range(0, max(1, len(text)), longest)
    return tuple(_string(text[at : at + longest]).encode("utf-8", "replace") for at in ends)


def running(token: str, progress: bytes, queue: int | None) -> bytes:
    """The answer while a job is not done: how far it is (JSON), and how many are before it in line."""
    extra = b',"progress":%b' % progress
    if queue is not None:
        extra += b',"queue":%d' % queue
    return _answer(token, "false", b"null", "true", extra)


def finished(token: str, result: bytes) -> bytes:
    """The answer that carries the result, or a piece of one: a JSON string."""
    return _answer(token, "true", result, "false")


def in_pieces(token: str, cargo: Sequence[str]) -> bytes:
    """The answer that says where the pieces of a long result are."""
    return _answer(token, "true", json.dumps(list(cargo)).encode(), "true")


def stopped(token: str) -> bytes:
    """The answer about a job that was stopped."""
    return _answer(token, "true", b"null", "false")


def unknown(token: str) -> bytes:
    """The answer about a job that nobody knows, or that was forgotten."""
    return _answer(token, "false", b"null", "false")


def _answer(token: str, done: str, result: bytes, more: str, extra: bytes = b"") -> bytes:
    return b'{"token":"%b","done":%b,"result":%b,"continue":%b%b}' % (
        token.encode(),
        done.encode(),
        result,
        more.encode(),
        extra,
    )
