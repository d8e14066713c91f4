"""The Cookie field (RFC 6265 section 4.2) to `http.cookies.SimpleCookie`, in linear time.

Python's own parser is quadratic in backslashes in several releases, and gives up the whole field at
the first pair that it dislikes. Here such a pair is left out and the others stay.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from http.cookies import Morsel, SimpleCookie

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ESCAPE = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))")


def parse_cookies(field: str) -> SimpleCookie:
    """The cookies of a request; of equal names the first one counts, as browsers send it first.

    >>> parse_cookies('a=1; b="x y"')["b"].value
    'x y'
    """
    from http.cookies import CookieError, Morsel, SimpleCookie  # with the first cookie

    cookies = SimpleCookie()
    for pair in field.split(";"):
        name, _, coded = map(str.strip, pair.partition("="))
        if name in cookies or not _NAME.fullmatch(name):
            continue
        morsel: Morsel[str] = Morsel()
        try:
            morsel.set(name, _unquote(coded), coded)
        except CookieError:  # the name of an attribute; in newer versions of Python a control character
            continue
        dict.__setitem__(cookies, name, morsel)
    return cookies


def _unquote(coded: str) -> str:
    if len(coded) < 2 or coded[0] != '"' or coded[-1] != '"':
        return coded
    return _ESCAPE.sub(lambda m: chr(int(m[1], 8)) if m[1] else m[2], coded[1:-1])
