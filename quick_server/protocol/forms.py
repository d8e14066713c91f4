"""Queries and bodies: text that clients send, to values that handlers get.

Pure. Whatever is wrong with it raises ProtocolError 400 with a message that says what.
"""

from __future__ import annotations

import codecs
import functools
import json
import math
import re
from typing import Any
from urllib.parse import unquote_to_bytes

from ..limits import Limits
from .messages import Headers, ProtocolError

_DEFAULTS = Limits()
_SHORT = 16 * 1024
_WINDOW = 64 * 1024  # bytes that are unquoted at once: each `%` in them takes some 80 bytes meanwhile
_CONTAINERS = (dict, list)
_CHARSETS = re.compile(  # those of documents; Python knows odd ones too, some of them quadratic
    r"utf-(?:8|8-sig|16|16-[lb]e|32|32-[lb]e)|ascii|iso8859-[0-9]+|cp[0-9]+|koi8-[rtu]|mac-[a-z]+"
    r"|gb2312|gbk|gb18030|big5|big5hkscs|shift_jis|euc_(?:jp|kr)|tis-620"
)
_PARAMETER = re.compile(
    r"""[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^;"]*))"""
)
_QUOTED_PAIR = re.compile(r"\\(.)")
_MAY_OVERFLOW = re.compile(r"[0-9][eE]|(?<![0-9])[0-9]{300}")


def parse_query(query: str) -> dict[str, str | bool]:
    """A query as a dict: percent- and plus-decoded, a name without `=` is True, the last one wins.

    Bytes that are not UTF-8 become U+FFFD.

    >>> parse_query("a=1&b&c=x+y")
    {'a': '1', 'b': True, 'c': 'x y'}
    """
    if not query:
        return {}
    result: dict[str, str | bool] = {}
    for pair in query.split("&"):
        if pair:
            name, equals, value = pair.partition("=")
            result[_decode(name, "utf-8", "replace")] = (
                _decode(value, "utf-8", "replace") if equals else True
            )
    return result


def parse_form(
    body: bytes | bytearray, charset: str = "utf-8", most_fields: int = _DEFAULTS.form_fields
) -> dict[str, str]:
    """An `application/x-www-form-urlencoded` body as a dict; the last of equal names wins."""
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError:
        try:
            text = body.decode(charset)
        except UnicodeError as error:
            raise ProtocolError(400, f"the form is not {charset}: {_reason(error)}") from None
    if text.count("&") >= most_fields:
        raise ProtocolError(413, f"the form has over {most_fields} fields")
    result: dict[str, str] = {}
    for pair in text.split("&"):
        if pair:
            name, _, value = pair.partition("=")
            try:
                result[_decode(name, charset, "strict")] = _decode(value, charset, "strict")
            except UnicodeError as error:
                raise ProtocolError(400, f"the form is not {charset}: {_reason(error)}") from None
    return result


def parse_json(
    body: bytes | bytearray, charset: str = "utf-8", nesting: int = _DEFAULTS.json_nesting
) -> Any:
    """A JSON body as Python values (RFC 8259).

    Refused beyond what `json` refuses: NaN and infinities, which are not JSON, numbers that no float
    can hold, and nesting over so many levels.
    """
    try:
        text = body.decode(charset).removeprefix("\ufeff")
    except UnicodeError as error:
        raise ProtocolError(400, f"the JSON body is not {charset}: {_reason(error)}") from None
    # In a large text the hook for every float would cost more than to look for what may overflow.
    careful = len(text) < _SHORT or _MAY_OVERFLOW.search(text)
    try:
        value = (_CAREFUL if careful else _DECODER).decode(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise ProtocolError(400, f"the body is not JSON: {error.msg} ({where})") from None
    except ValueError as error:  # a number that Python does not convert
        why = "a number has too many digits" if "digits" in str(error) else error
        raise ProtocolError(400, f"the body is not JSON: {why}") from None
    except RecursionError:
        raise _too_deep(nesting) from None
    if text.count("[") + text.count("{") > nesting:
        _check_nesting(value, nesting)
    return value


def parse_body(headers: Headers, body: bytes | bytearray, limits: Limits = _DEFAULTS) -> Any:
    """What a body stands for by its Content-Type: a JSON value, a form as a dict, else {}."""
    kind, parameters = media_type(headers.get("content-type", ""))
    if kind == "application/json" or kind.endswith("+json"):
        return parse_json(body, charset_of(parameters), limits.json_nesting)
    if kind == "application/x-www-form-urlencoded":
        return parse_form(body, charset_of(parameters), limits.form_fields)
    return {}


def charset_of(parameters: dict[str, str]) -> str:
    """The codec for the charset that a Content-Type names; see `known_charset`."""
    return known_charset(parameters.get("charset", "utf-8"))


@functools.lru_cache(maxsize=64)
def media_type(field: str) -> tuple[str, dict[str, str]]:
    """A Content-Type field taken apart: the type in lower case, and its parameters.

    >>> media_type('Text/HTML; Charset="utf-8"')
    ('text/html', {'charset': 'utf-8'})
    """
    kind, _, rest = field.partition(";")
    parameters: dict[str, str] = {}
    start = 0
    while start < len(rest):
        found = _PARAMETER.match(rest, start)
        if found is not None:
            name, quoted, value = found.groups()
            value = value.strip() if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted)
            parameters.setdefault(name.lower(), value)
            start = found.end()
        start = (rest.find(";", start) + 1) or len(rest)
    return kind.strip().lower(), parameters


@functools.lru_cache(maxsize=64)
def known_charset(name: str) -> str:
    """The codec of a charset parameter; ProtocolError 400 if there is none of that name."""
    try:
        codec = codecs.lookup(name).name
    except (LookupError, ValueError):
        codec = ""
    if not _CHARSETS.fullmatch(codec):
        raise ProtocolError(400, f"the charset {name[:40]!r} is not known")
    return codec


def _decode(text: str, charset: str, errors: str) -> str:
    text = text.replace("+", " ")
    if "%" not in text:
        return text
    return _unquoted(text.encode("utf-8" if errors == "replace" else charset)).decode(charset, errors)


def _unquoted(raw: bytes) -> bytes:
    if len(raw) <= _WINDOW:
        return unquote_to_bytes(raw)
    pieces = []
    start = 0
    while start < len(raw):
        end = start + _WINDOW
        cut = raw.find(b"%", end - 2, end)  # what begins there may go on behind the end
        end = end if cut < 0 else cut
        pieces.append(unquote_to_bytes(raw[start:end]))
        start = end
    return b"".join(pieces)


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:40]} is out of range")
    return value


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_CAREFUL = json.JSONDecoder(parse_constant=_no_constant, parse_float=_float)


def _too_deep(nesting: int) -> ProtocolError:
    return ProtocolError(400, f"the JSON body is nested over {nesting} levels deep")


def _check_nesting(value: Any, nesting: int) -> None:
    level = [value]
    for _ in range(nesting):
        level = [
            child
            for parent in level
            if type(parent) in _CONTAINERS
            for child in (parent.values() if type(parent) is dict else parent)
            if type(child) in _CONTAINERS
        ]
        if not level:
            return
    raise _too_deep(nesting)


def _reason(error: UnicodeError) -> str:
    return error.reason if isinstance(error, UnicodeDecodeError) else str(error)
