"""The request target (RFC 9112 section 3.2): what is asked for, taken apart once.

Pure. The path is decoded after it was split, so that an encoded slash never makes a segment, and
dot segments are resolved after decoding, so that no spelling of `..` is missed.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

_SURROGATE = re.compile("[\ud800-\udfff]")


class Target(NamedTuple):
    """A target in origin form, or `*`."""

    raw: str
    """As it stands in the request line."""
    path: str
    """The path as it was sent: still encoded, from the first slash to the query."""
    query: str
    """What follows the question mark, still encoded; without one, empty."""
    fragment: str
    """What follows a `#`; clients keep that to themselves as a rule."""
    segments: tuple[str, ...] | None
    """The path's decoded segments: no empty ones, dot segments resolved. None: it leaves the root.

    Bytes that are not UTF-8 are kept as lone surrogates, as `os.fsdecode` does.
    """
    is_text: bool
    """Whether the path is valid UTF-8 once it is decoded."""
    host: str | None = None
    """The authority of an absolute form, which then counts instead of the Host field."""

    @property
    def is_folder(self) -> bool:
        """Whether the path ends with a slash."""
        return self.path.endswith("/")


def parse_target(raw: str) -> Target | None:
    """Takes a target apart; None if it has neither origin nor absolute form.

    >>> parse_target("/a%20b/./c?x=1").segments
    ('a b', 'c')
    >>> parse_target("http://localhost/a").host
    'localhost'
    """
    host = None
    rest = raw
    if not raw.startswith("/"):
        scheme, separator, rest = raw.partition("://")
        if not separator or scheme.lower() not in ("http", "https"):
            return None
        end = min((i for i in map(rest.find, "/?#") if i >= 0), default=len(rest))
        host, rest = rest[:end], rest[end:]
        if not rest.startswith("/"):
            rest = "/" + rest
    rest, _, fragment = rest.partition("#")
    path, _, query = rest.partition("?")
    segments = split(path)
    is_text = "%" not in path or not any(map(_SURROGATE.search, segments))
    return Target(raw, path, query, fragment, resolve(segments), is_text, host)


def split(path: str) -> list[str]:
    """The decoded segments of an encoded path, empty and dot segments included.

    >>> split("/a//b%2Fc/")
    ['a', '', 'b/c', '']
    """
    if "%" not in path:
        return path[1:].split("/")
    return [unquote(part, errors="surrogateescape") for part in path[1:].split("/")]


def resolve(segments: list[str]) -> tuple[str, ...] | None:
    """Drops empty and dot segments, resolves `..` (RFC 3986 section 5.2.4); None past the root.

    >>> resolve(["a", "", "b", "..", ".", "c"])
    ('a', 'c')
    """
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            if not kept:
                return None
            kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    return tuple(kept)
