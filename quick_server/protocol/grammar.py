"""The pieces of grammar that several parts of a message share (RFC 9110 section 5.6)."""

from __future__ import annotations

import re

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
FIELD_VALUE = rb"[\t\x20-\x7e\x80-\xff]*"
QUOTED_STRING = rb'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'

ILLEGAL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r(?=[^\n])|(?<!\r)\n")
"""What no line of a message may hold: control bytes, a CR or LF that is not a line end."""
