"""The requests that are tried before any that are made at random: one odd thing at a time.

Each says a single thing that the plainest request does not, a field that the handler's code names or a
value at which functions stumble. What they find needs no shrinking.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations, islice, zip_longest
from typing import Any
from urllib.parse import quote, quote_plus

from .bodies import start_of
from .request import Field, Request
from .surface import Route
from .values import Words, json_text

_MOST = 400  # requests for a route
_MOST_WORDS = 16
_MOST_COUPLED = 8
_ODD = ("", "a", "-1", "0", "é", "1e400", "a\r\nb: c", "\x00", "..", "nan", "[]", "9" * 400)
_JSON_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    "",
    "a",
    "é",
    [],
    ["a"],
    {},
    {"a": []},
    10**400,
)
_JSON: Field = ("Content-Type", "application/json")
_FORM: Field = ("Content-Type", "application/x-www-form-urlencoded")
_UPLOAD: Field = ("Content-Type", "multipart/form-data; boundary=b")
# None leads to a file that may be there: who joins them to a folder really writes
_ODD_FILE_NAMES = (b"", b"..", b"../nowhere/a", b"a" * 300)
_PART = b'--b\r\nContent-Disposition: form-data; name="%b"; filename="%b"\r\n\r\na\r\n--b--\r\n'


def plain(route: Route) -> Request:
    """The plainest request for a route."""
    target = _target(route, ["a"] * len(route.names), ["a"] * (route.argc or 0))
    if route.kind == "worker":
        return Request(route.method, target, (_JSON,), json_text(start_of({})))
    return Request(route.method, target)


def corpus(route: Route) -> Iterator[Request]:
    """The plainest request, then others of every kind in turns."""
    first = plain(route)
    words = [word for word in route.words if len(word) < 40][:_MOST_WORDS]
    kinds = [_with_segments(route, words)]
    if route.kind == "worker":
        kinds.append(_with_payloads(first, words))
    elif route.kind != "files":
        kinds.append(_with_queries(first, words))
        kinds.append(_with_fields(first, words))
    if route.kind != "worker" and route.method not in ("GET", "HEAD"):
        kinds.append(_with_json(first, words))
        kinds.append(_with_forms(first, words))
    in_turns = (request for row in zip_longest(*kinds) for request in row if request is not None)
    yield from islice(dict.fromkeys(chain([first], in_turns)), _MOST)


def _target(route: Route, named: list[str], more: list[str]) -> str:
    values = iter(named)
    parts = [next(values) if part.startswith(":") else part for part in route.segments]
    ends_with_slash = route.kind == "files" and route.mask.endswith("/") and parts and not more
    return "/" + "/".join(parts + more) + ("/" if ends_with_slash else "")


def _with_segments(route: Route, words: Words) -> Iterator[Request]:
    count = len(route.names)
    more = route.argc if route.argc is not None else 1
    for value in (*words, *_ODD):
        encoded = quote(value, safe="") or "%20"
        for place in range(count + more):
            parts = ["a"] * (count + more)
            parts[place] = encoded
            yield Request(route.method, _target(route, parts[:count], parts[count:]))


def _with_queries(first: Request, words: Words) -> Iterator[Request]:
    for name, value in _pairs(words):
        query = quote_plus(name) if value is None else f"{quote_plus(name)}={quote_plus(value)}"
        yield first._replace(target=f"{first.target}?{query}")
    for one, other in _couples(words):
        yield first._replace(target=f"{first.target}?{quote_plus(one)}=1&{quote_plus(other)}=1")


def _couples(words: Words) -> Iterator[tuple[str, str]]:
    """Two names at a time."""
    names = [word for word in words if not word.lstrip("-").isdecimal()]
    return combinations(names[:_MOST_COUPLED], 2)


def _pairs(words: Words) -> Iterator[tuple[str, str | None]]:
    """Names and values: what the code knows with each other, then with odd ones."""
    for name in words:
        yield name, None
    for values in (words, _ODD):
        for value in values:
            yield from ((name, value) for name in words if name != value)


def _with_fields(first: Request, words: Words) -> Iterator[Request]:
    names = [word for word in words if word.isascii() and word.replace("-", "").isalnum()]
    for name in names:
        yield first._replace(headers=(("Cookie", f"{name}=a"),))
        yield first._replace(headers=((name, "a"),))
    yield first._replace(headers=(("User-Agent", None),))
    yield first._replace(headers=(("Accept", None),))
    yield first._replace(headers=(("Cookie", "\xff=;"),))


def _with_json(first: Request, words: Words) -> Iterator[Request]:
    bodies = [json_text(value) for value in _JSON_VALUES]
    bodies += [json_text({name: value}) for name in words for value in (*words, *_JSON_VALUES)]
    bodies += [json_text({one: 1, other: 1}) for one, other in _couples(words)]
    for body in bodies:
        yield first._replace(headers=(_JSON,), body=body)


def _with_forms(first: Request, words: Words) -> Iterator[Request]:
    for name in words:
        for file_name in (b"a.txt", *_ODD_FILE_NAMES):
            body = _PART % (quote(name).encode(), file_name)
            yield first._replace(headers=(_UPLOAD,), body=body)
        for value in (*words, *_ODD):
            yield first._replace(
                headers=(_FORM,), body=f"{quote_plus(name)}={quote_plus(value)}".encode()
            )


def _with_payloads(first: Request, words: Words) -> Iterator[Request]:
    for value in (*words, *_JSON_VALUES):
        for name in words:
            yield first._replace(body=json_text(start_of({name: value})))
