"""Content codings (RFC 9110 section 8.4): which ones a client takes, and which content gains."""

from __future__ import annotations

import functools
import gzip
import re

from .grammar import weights

_SMALLEST = 1024  # bytes; below, the coding costs more than it saves
_LEVEL = 5  # nearly the size of 9 in a third of the time
_COMPRESSIBLE = re.compile(
    r"text/(?!event-stream)|application/(?:[a-z.+-]*\+)?(?:json|xml|javascript|wasm)|image/svg\+xml"
    r"|application/(?:manifest\+json|vnd\.ms-fontobject)|font/(?:ttf|otf)"
)


def quality(field: str, coding: str) -> float:
    """How much an Accept-Encoding field wants a coding, from 0 to 1 (section 12.5.3).

    >>> quality("gzip;q=0.5, br", "gzip")
    0.5
    """
    members = weights(field.replace("x-gzip", "gzip"))  # section 8.4.1.3
    return members.get(coding, members.get("*", 0.0))


def wanted(field: str | None, coding: str) -> float:
    """The same, but 0 if the client wants the plain content more."""
    if field is None:
        return 0.0
    weight = quality(field, coding)
    return weight if weight >= weights(field).get("identity", 0.0) else 0.0


@functools.lru_cache(maxsize=256)
def is_compressible(ctype: str) -> bool:
    """Whether content of that type becomes smaller, because it is not compressed already."""
    return bool(_COMPRESSIBLE.match(ctype))


def gains(content: bytes, ctype: str) -> bool:
    """Whether that content is worth compressing."""
    return len(content) > _SMALLEST and is_compressible(ctype)


def compress(content: bytes) -> bytes:
    """The content in the coding `gzip`; the same bytes for the same content."""
    return gzip.compress(content, _LEVEL, mtime=0)
