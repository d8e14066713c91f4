"""The pieces of grammar that several parts of a message share (RFC 9110 section 5.6)."""

from __future__ import annotations

import re

_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
FIELD_VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
QUOTED_STRING = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'


def weights(field: str) -> dict[str, float]:
    """The members of a list field, in lower case, with their weights (RFC 9110 section 12.4.2).

    >>> weights("gzip;q=0.5, BR")
    {'gzip': 0.5, 'br': 1.0}
    """
    found: dict[str, float] = {}
    for member in field.lower().split(","):
        name, *parameters = member.split(";")
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                value = value.strip()
                weight = float(value) if _WEIGHT.fullmatch(value) else 0.0
        found.setdefault(name.strip(), weight)
    return found


ILLEGAL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?=[^\n])|(?<!\r)\n")
"""What no line of a message may hold: control bytes, a CR or LF that is not a line end."""
