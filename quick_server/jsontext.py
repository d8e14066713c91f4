"""Values to JSON text.

JSON has no NaN and no infinities (RFC 8259 section 6); they become the strings "NaN", "Infinity" and
"-Infinity", wherever they stand. The way is the same for every value: the encoder at its fastest, and
only if that refuses, a walk over the value. With the `fast` extra the encoder is orjson; the text means
the same.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from .jsonvalues import plain, plain_deep

_encoder = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=plain)


def _strict_encoder() -> Callable[[Any], str]:
    """The encoder of `json`, made once where it is made of C: `json` makes one for each value (0.8 us).

    Made so it does not look for values that contain themselves: RecursionError stops it.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return _encoder.encode
    options = (None, plain, json.encoder.encode_basestring, None, ":", ",", False, False, False)
    pieces = make(*options)
    return lambda value: "".join(pieces(value, 0))


_strict = _strict_encoder()


class JsonText(str):
    """JSON text that is there already, as the result of a handler."""

    __slots__ = ()


def json_dumps(value: Any) -> str:
    """`value` as compact JSON text, the way that JSON handlers answer.

    Besides what JSON knows it takes numpy scalars and arrays, pandas objects (a frame as a list of
    records), dates and times, UUID, Path, Decimal, Enum, dataclasses and sets. Raises TypeError, which
    names type and place, for everything else, and ValueError for a value that contains itself.

    >>> json_dumps({"mean": float("nan"), "n": 3})
    '{"mean":"NaN","n":3}'
    """
    return json_bytes(value).decode()


def json_bytes(value: Any) -> bytes:
    """The same as UTF-8; a lone surrogate, which UTF-8 has no place for, is escaped."""
    encoded = _fast(value) if _fast is not None else None
    return _encode(value) if encoded is None else encoded


def _encode(value: Any) -> bytes:
    try:
        text = _strict(value)
    except (TypeError, ValueError, RecursionError) as error:
        if "circular" in str(error).lower():
            raise
        text = _strict(plain_deep(value))
    try:
        return text.encode()
    except UnicodeEncodeError:
        return "".join(
            f"\\u{ord(char):04x}" if "\ud800" <= char <= "\udfff" else char for char in text
        ).encode()


def _orjson() -> Callable[[Any], bytes | None] | None:
    """An encoder by orjson that returns None where it would not mean the same; None without orjson."""
    try:
        import orjson
    except ImportError:
        return None
    options = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATETIME
    options |= orjson.OPT_PASSTHROUGH_DATACLASS

    def encode(value: Any) -> bytes | None:
        try:
            encoded: bytes = orjson.dumps(value, default=plain, option=options)
        except (TypeError, ValueError, RecursionError):  # what only the walk knows, or nobody does
            return None
        # orjson writes null for NaN; where there is no null there is no NaN.
        return None if b"null" in encoded and _has_nonfinite(value) else encoded

    return encode


def _has_nonfinite(value: Any) -> bool:
    """Whether a number that JSON lacks is anywhere in a value."""
    level = [value]
    while level:
        following: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is dict:
                following += item.values()
            elif kind is list or kind is tuple:
                following += item
            elif kind is float:
                if not math.isfinite(item):
                    return True
            elif kind not in (str, int, bool, type(None)):
                return True  # it may turn into one: let the walk find out
        level = following
    return False


_fast = _orjson()
