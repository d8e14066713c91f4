"""Values to JSON text.

JSON has no NaN and no infinities (RFC 8259 section 6); they become the strings "NaN", "Infinity" and
"-Infinity", wherever they stand.
"""

from __future__ import annotations

import json
import math
from typing import Any

_strict = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def json_dumps(value: Any) -> str:
    """`value` as compact JSON text, the way that JSON handlers answer.

    Raises TypeError for what JSON cannot hold, ValueError for a value that contains itself.

    >>> json_dumps({"mean": float("nan"), "n": 3})
    '{"mean":"NaN","n":3}'
    """
    try:
        return _strict(value)
    except ValueError as error:
        if "circular" in str(error).lower():
            raise
        return _strict(_without_nonfinite(value))


def json_bytes(value: Any) -> bytes:
    """The same as UTF-8; a lone surrogate, which UTF-8 has no place for, is escaped."""
    text = json_dumps(value)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return "".join(
            f"\\u{ord(char):04x}" if "\ud800" <= char <= "\udfff" else char for char in text
        ).encode()


def _without_nonfinite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return "NaN"
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {_without_nonfinite(k): _without_nonfinite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nonfinite(item) for item in value]
    return value
