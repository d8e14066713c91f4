"""A case: one requirement of an RFC, what is sent to see whether it is met, and who judges it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tests.conformance.judging import Judge
from tests.conformance.talk import Step, Talk, talk
from tests.wire.origins import Origin

HOST = b"Host: localhost"
LAST = b"0\r\n\r\n"
"""The end of chunked content, without trailers."""
CHUNKED = b"Transfer-Encoding: chunked"

Level = Literal["MUST", "SHOULD"]
_NAMED = re.compile(rb"<([a-z-]+)>")


def head(line: bytes, *fields: bytes, host: bytes = HOST) -> bytes:
    """A head; `line` goes without the version of HTTP/1.1."""
    start = line if b" HTTP/" in line else line + b" HTTP/1.1"
    return b"\r\n".join([start, *([host] if host else []), *fields, b"", b""])


def get(*fields: bytes, target: bytes = b"/file.txt", host: bytes = HOST) -> bytes:
    """A GET of the file."""
    return head(b"GET " + target, *fields, host=host)


def post(*fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    """A POST to the function that answers with the content."""
    return head(b"POST /echo HTTP/" + version, b"Content-Type: text/plain", *fields) + body


def sized(body: bytes, *fields: bytes) -> bytes:
    """A POST with that content and its length."""
    return post(b"Content-Length: %d" % len(body), *fields, body=body)


def chunked(body: bytes, *fields: bytes) -> bytes:
    """A POST whose content is framed already."""
    return post(CHUNKED, *fields, body=body)


@dataclass(frozen=True)
class Case:
    """One requirement and how to see whether it is met."""

    name: str
    section: str
    """Such as `9112 §6.1`."""
    level: Level
    requirement: str
    """What the section asks for, in words of our own; the beginning is the server."""
    sent: bytes | tuple[Step, ...]
    """Names in angle brackets, as in `<etag>`, stand for what is known of the server's file."""
    judge: Judge
    expected: tuple[str, ...] = ("GET",)
    """The methods of the requests that are to be answered."""
    files: bool = False
    """Whether it concerns only servers that serve files by themselves."""
    exception: str = ""
    """Why ours does something else; only where the RFC says SHOULD."""

    def run(self, origin: Origin, known: Mapping[str, bytes], patience: float) -> str:
        """What is wrong with what the server does, in few words; empty if nothing is."""
        steps = (self.sent,) if isinstance(self.sent, bytes) else self.sent
        filled = [_fill(step, known) if isinstance(step, bytes) else step for step in steps]
        found = talk(origin.address, filled, self.expected, patience)
        return self.verdict(found)

    def verdict(self, found: Talk) -> str:
        """The judge's, unless the server did what no server may do whatever it was asked."""
        return (str(found) if found.fault else "") or self.judge(found)


def _fill(step: bytes, known: Mapping[str, bytes]) -> bytes:
    return _NAMED.sub(lambda found: known[found[1].decode()], step)
