"""Entity tags and the preconditions that compare them (RFC 9110 sections 8.8 and 13)."""

from __future__ import annotations

import re
from zlib import crc32

_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"|([^\s",]+)')


def content_tag(content: bytes) -> str:
    """The entity tag of content: its CRC-32 in lower-case hex, quoted.

    >>> content_tag(b"123456789")
    '"cbf43926"'
    """
    return f'"{crc32(content):08x}"'


def validators(tag: str, max_age: int) -> bytes:
    """The field lines that let a client ask again only for what has changed."""
    return b"ETag: %b\r\nCache-Control: max-age=%d\r\n" % (tag.encode("latin-1"), max_age)


def matches(field: str, tag: str) -> bool:
    """Whether an If-None-Match field names `tag` (weak comparison, RFC 9110 section 8.8.3.2).

    Tags without quotes count too: older clients send them so.

    >>> matches('W/"a", "b"', '"b"')
    True
    >>> matches("cbf43926", '"cbf43926"')
    True
    """
    if field == tag:
        return True
    if field.strip() == "*":
        return True
    opaque = tag.removeprefix("W/").strip('"')
    return any(
        opaque == (quoted if quoted is not None else bare)
        for quoted, bare in (found.groups() for found in _TAG.finditer(field))
    )
