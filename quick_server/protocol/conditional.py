"""Entity tags, preconditions and ranges (RFC 9110 sections 8.8, 13 and 14). Pure.

What a request means given the tag and date of what would be sent is decided here, for files and for
functions alike: the whole, a part, 304, 412 or 416.
"""

from __future__ import annotations

import re
from itertools import pairwise
from time import gmtime
from typing import Literal, NamedTuple
from zlib import crc32

from ..limits import Limits
from .errors import error_outcome
from .messages import FileBody, Headers, Outcome, RequestHead
from .writer import field_line, http_date

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"|([^\s",]+)')
_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{0,18})|-([0-9]{1,18})")
_DEFAULTS = Limits()
_NEVER = float("inf")
_DATE = re.compile(
    r"(?:[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4})"  # Sun, 06 Nov 1994
    r"|[A-Z][a-z]+, ([0-9]{2})-([A-Z][a-z]{2})-([0-9]{2})"  # Sunday, 06-Nov-94
    r") ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
)
_ASCTIME = re.compile(  # Sun Nov  6 08:49:37 1994
    r"[A-Z][a-z]{2} ([A-Z][a-z]{2}) ([0-9 ][0-9]) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([0-9]{4})"
)
_MONTHS = {
    name: i for i, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)
}


class Validators(NamedTuple):
    """What tells one state of a representation from another."""

    tag: str
    """The entity tag, quoted."""
    modified: float | None = None
    """The time of the last change, in seconds since the epoch."""

    def fields(self, max_age: int) -> bytes:
        """The field lines that let a client ask again only for what has changed."""
        return self.lines + b"Cache-Control: max-age=%d\r\n" % max_age

    @property
    def lines(self) -> bytes:
        """The field lines of the tag and, if it is known, of the date."""
        if self.modified is None:
            return tag_line(self.tag)
        return tag_line(self.tag) + b"Last-Modified: %b\r\n" % http_date(self.modified).encode()


def tag_line(tag: str) -> bytes:
    """The field line of an entity tag."""
    return b"ETag: %b\r\n" % tag.encode("latin-1")


def content_tag(content: bytes) -> str:
    """The entity tag of content: its CRC-32 in lower-case hex, quoted.

    >>> content_tag(b"123456789")
    '"cbf43926"'
    """
    return f'"{crc32(content):08x}"'


def matches(field: str, tag: str, *, strong: bool = False) -> bool:
    """Whether a list of entity tags names `tag` (RFC 9110 section 8.8.3.2).

    Tags without quotes count too: older clients send them so.

    >>> matches('W/"a", "b"', '"b"')
    True
    >>> matches("cbf43926", '"cbf43926"')
    True
    """
    if field.strip() == "*":
        return True
    if strong and tag.startswith("W/"):
        return False
    opaque = tag.removeprefix("W/").strip('"')
    return any(
        opaque == (quoted if quoted is not None else bare) and not (strong and weak)
        for weak, quoted, bare in (found.groups() for found in _TAG.finditer(field))
    )


def parse_date(text: str) -> float | None:
    """An HTTP date in any of its three forms (RFC 9110 section 5.6.7), in seconds since the epoch.

    None for what is no date.

    >>> parse_date("Sun, 06 Nov 1994 08:49:37 GMT")
    784111777.0
    """
    from calendar import timegm  # brings `datetime` with it

    text = text.strip()
    if found := _DATE.fullmatch(text):
        day, month, year, day2, month2, year2, hour, minute, second = found.groups()
        day, month = day or day2, month or month2
        full_year = int(year) if year else int(year2) + (2000 if int(year2) < 70 else 1900)
    elif found := _ASCTIME.fullmatch(text):
        month, day, hour, minute, second, year = found.groups()
        full_year = int(year)
    else:
        return None
    parts = (full_year, _MONTHS.get(month, 0), int(day), int(hour), int(minute), int(second))
    if not parts[1] or full_year < 1900:
        return None
    moment = timegm(parts)
    return float(moment) if gmtime(moment)[:6] == parts else None  # no 31st of November


def precondition(request: RequestHead, validators: Validators) -> Literal[304, 412] | None:
    """What a request's If-fields come to, in the order of RFC 9110 section 13.2.2; None: go on."""
    headers = request.headers
    tag = validators.tag
    modified = int(validators.modified) if validators.modified is not None else None
    safe = request.method in ("GET", "HEAD")
    if (field := headers.get("if-match")) is not None:
        if not matches(field, tag, strong=True):
            return 412
    elif modified is not None and modified > _date_of(headers, "if-unmodified-since", _NEVER):
        return 412
    if (field := headers.get("if-none-match")) is not None:
        if matches(field, tag):
            return 304 if safe else 412
    elif safe and modified is not None and modified <= _date_of(headers, "if-modified-since", -1):
        return 304
    return None


def _date_of(headers: Headers, name: str, without: float) -> float:
    """The date in a field, or `without` if there is none that can be read."""
    field = headers.get(name)
    date = None if field is None else parse_date(field)
    return without if date is None else date


def parse_ranges(
    request: RequestHead, validators: Validators, size: int, most: int = _DEFAULTS.ranges
) -> list[range] | None:
    """The parts of `size` bytes that a GET asks for; None for the whole, [] if there are none.

    The whole it is without a Range field, with one that makes no sense, when If-Range tells that the
    client has another state, and for more than `most` or overlapping ranges (RFC 9110 section 14.2
    leaves that to us).
    """
    field = request.headers.get("range")
    if field is None or request.method != "GET" or not _is_same(request.headers, validators):
        return None
    unit, equals, specs = field.partition("=")
    if not equals or unit.strip().lower() != "bytes" or specs.count(",") >= most:
        return None
    ranges = []
    for spec in filter(None, map(str.strip, specs.split(","))):
        part = _parse_spec(spec, size)
        if part is None:
            return None
        ranges.append(part)
    satisfiable = sorted(filter(None, ranges), key=lambda part: part.start)
    if not ranges or any(a.stop > b.start for a, b in pairwise(satisfiable)):
        return None
    return list(filter(None, ranges))


def _parse_spec(spec: str, size: int) -> range | None:
    """One range of `size` bytes, empty if it cannot be satisfied; None if it makes no sense."""
    found = _RANGE.fullmatch(spec)
    if found is None:
        return None
    first, last, suffix = found.groups()
    if suffix is not None:
        # The end of nothing is all there is, and that has no place to name (section 14.1.2).
        return None if not size and int(suffix) else range(max(0, size - int(suffix)), size)
    if last and int(last) < int(first):
        return None
    stop = min(size, int(last) + 1) if last else size
    return range(min(int(first), stop), stop)


def _is_same(headers: Headers, validators: Validators) -> bool:
    """Whether an If-Range field, if any, names the very state that is at hand (section 13.1.5)."""
    field = headers.get("if-range")
    if field is None:
        return True
    field = field.strip()
    if field.startswith(('"', "W/")):
        return field == validators.tag and not field.startswith("W/")
    date = parse_date(field)
    return date is not None and validators.modified is not None and date == int(validators.modified)


def file_outcome(
    request: RequestHead,
    fields: bytes,
    ctype: str,
    content: bytes | FileBody,
    validators: Validators,
    most_ranges: int = _DEFAULTS.ranges,
) -> Outcome:
    """The answer that sends a representation, or the parts of it that are asked for.

    `fields` are those that every form of the answer carries. A file that is not sent stays with the
    caller: the outcome's body tells.
    """
    size = len(content) if isinstance(content, bytes) else content.length
    fields += b"Accept-Ranges: bytes\r\n"
    ranges = parse_ranges(request, validators, size, most_ranges)
    if ranges is None:
        return Outcome(200, fields + field_line("Content-Type", ctype), content)
    if not ranges:
        place = b"Content-Range: bytes */%d\r\n" % size
        return error_outcome(416, f"there are {size} bytes", request, place)
    if len(ranges) == 1:
        part = ranges[0]
        fields += field_line("Content-Type", ctype)
        fields += b"Content-Range: bytes %d-%d/%d\r\n" % (part.start, part.stop - 1, size)
        return Outcome(206, fields, _part(content, part))
    return _several_ranges(fields, ctype, content, ranges, size)


def _several_ranges(
    fields: bytes, ctype: str, content: bytes | FileBody, ranges: list[range], size: int
) -> Outcome:
    """A multipart/byteranges answer (RFC 9110 section 14.6)."""
    import secrets  # as rare as these answers are, and not cheap to import

    boundary = secrets.token_hex(12)
    body: list[bytes | FileBody] = []
    lead = f"--{boundary}\r\n"
    for part in ranges:
        place = f"Content-Range: bytes {part.start}-{part.stop - 1}/{size}\r\n\r\n"
        body += [(lead + f"Content-Type: {ctype}\r\n" + place).encode("latin-1"), _part(content, part)]
        lead = f"\r\n--{boundary}\r\n"
    body.append(f"\r\n--{boundary}--\r\n".encode())
    kind = field_line("Content-Type", f"multipart/byteranges; boundary={boundary}")
    return Outcome(206, fields + kind, tuple(body))


def _part(content: bytes | FileBody, part: range) -> bytes | FileBody:
    if isinstance(content, bytes):
        return content[part.start : part.stop]
    return FileBody(content.file, content.offset + part.start, len(part))
