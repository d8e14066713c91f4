"""What a case asks of the talk: small judges, and ways to put them together.

A judge returns what is wrong, in few words, or an empty text.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.conformance.talk import Talk

Judge = Callable[[Talk], str]


def every(*judges: Judge) -> Judge:
    """All of them; the first complaint counts."""

    def judge(talk: Talk) -> str:
        return next(filter(None, (one(talk) for one in judges)), "")

    return judge


def either(*judges: Judge) -> Judge:
    """At least one of them."""

    def judge(talk: Talk) -> str:
        complaints = [one(talk) for one in judges]
        return "" if "" in complaints else complaints[0]

    return judge


def status(*wanted: int) -> Judge:
    """The last answer has one of these statuses."""
    return lambda talk: "" if talk.answer.status in wanted else str(talk)


def statuses(*wanted: int) -> Judge:
    """These are the statuses of all answers, in order."""
    return lambda talk: "" if tuple(a.status for a in talk.answers) == wanted else str(talk)


def not_done(talk: Talk) -> str:
    """The request was not carried out: an error, or no answer and a close."""
    if talk.answer.status >= 400 or (not talk.answers and talk.end == "closed"):
        return ""
    return str(talk)


def answered(talk: Talk) -> str:
    """There is a final answer."""
    return "" if talk.answers else str(talk)


def kept(talk: Talk) -> str:
    """The connection went on, and the next request was understood."""
    return "" if talk.end == "kept" else str(talk)


def closed(talk: Talk) -> str:
    """The server closed the connection."""
    return "" if talk.end == "closed" else str(talk)


def content(*wanted: bytes) -> Judge:
    """The contents of all answers, in order."""

    def judge(talk: Talk) -> str:
        if tuple(answer.body for answer in talk.answers) == wanted:
            return ""
        return f"{talk}, other content" if talk.answer.status < 300 else str(talk)

    return judge


def has(name: str, pattern: str = r".+") -> Judge:
    """The last answer has such a field."""

    def judge(talk: Talk) -> str:
        value = talk.answer.get(name)
        if value is None:
            return f"{talk.answer.status} without {name}" if talk.answers else str(talk)
        return "" if re.fullmatch(pattern, value) else f"{talk.answer.status}, {name}: {value}"

    return judge


def lacks(name: str, pattern: str = r".*") -> Judge:
    """The last answer has no such field."""

    def judge(talk: Talk) -> str:
        if not talk.answers:
            return str(talk)
        found = [value for value in talk.answer.all(name) if re.fullmatch(pattern, value)]
        return f"{talk.answer.status} with {name}" if found else ""

    return judge


def interim(*wanted: int) -> Judge:
    """These interim answers came, in order."""
    return lambda talk: "" if tuple(a.status for a in talk.interim) == wanted else str(talk)


def when(condition: Judge, then: Judge) -> Judge:
    """Asked only of those talks for which the condition holds."""
    return lambda talk: "" if condition(talk) else then(talk)


REFUSED = every(status(400), closed)
"""400, and nothing more of that connection is read."""
