"""`requests`: a strategy for Hypothesis whose requests are aimed at the routes of a server."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from .bodies import Body, bodies, worker_messages
from .request import Field, Request
from .surface import Route, parse_route, routes_of
from .values import Words, queries, segments, texts

if TYPE_CHECKING:
    from ..server import QuickServer

_TOKEN = re.compile(r"[A-Za-z][A-Za-z-]{2,30}")
_FRAMING = frozenset("connection content-length expect host te transfer-encoding upgrade".split())
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
_FIELDS: dict[str, tuple[str | None, ...]] = {
    "Range": (
        "bytes=0-0",
        "bytes=-1",
        "bytes=5-",
        "bytes=9-1",
        "bytes=0-0,2-3",
        "bytes=x",
        "lines=1-2",
    ),
    "If-None-Match": ("*", '"a"', 'W/"a"', "a", ""),
    "If-Match": ("*", '"a"', ""),
    "If-Modified-Since": (
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "yesterday",
    ),
    "If-Unmodified-Since": ("Thu, 01 Jan 1970 00:00:00 GMT", "0"),
    "If-Range": ('"a"', "Thu, 01 Jan 1970 00:00:00 GMT"),
    "Accept": ("application/json", "text/html;q=0.1", "image/*", "", None),
    "Accept-Encoding": ("gzip", "gzip;q=0, *", "br", "identity;q=0"),
    "Accept-Language": ("de-CH, en;q=0.5", "*", ""),
    "Authorization": ("Basic YTpi", "Basic \xff", "Basic", "Bearer ", "Bearer a.b.c", ""),
    "User-Agent": ("Mozilla/5.0", "", None),
    "Referer": ("http://localhost/", "\xff"),
    "Forwarded": ("for=1.2.3.4;host=a", "x", "for=;host="),
    "X-Forwarded-For": ("1.2.3.4, 5.6.7.8", "::1", ""),
    "X-Requested-With": ("XMLHttpRequest",),
    "Last-Event-ID": ("0", "x", "-1", "\xff"),
}
_COOKIES = ("a=b", "a", "=b", "a=", ";", 'a="b;c"', "a=b; a=c", "$Version=1", "a=\xff", "a=%00", "[]=1")


def requests(*aims: QuickServer | str, skip: Iterable[str] = ()) -> st.SearchStrategy[Request]:
    """Requests to the functions, workers and files of a server, or to masks that are named.

    Masks look like `GET /user/:name`. The requests are well-formed; what they carry is odd: texts in
    paths, queries, forms and cookies, JSON of the wrong shape, broken uploads, ranges, conditions. The
    names and values that occur in a function's own code are tried, too. `skip` leaves out masks, by
    shell-style patterns.

    >>> from hypothesis import given
    >>> from quick_server import create_server
    >>> server = create_server(("", 0))
    >>> @server.json_get("/length", 0)
    ... def length(req, args):
    ...     return len(str(args["query"].get("of", "")))
    >>> client = server.test_client()
    >>> @given(requests(server))
    ... def test_length(request):
    ...     answer = client.request(request.method, request.target)
    ...     assert answer.status in (200, 304)
    >>> server.server_close()
    """
    skip = tuple(skip)
    routes: list[Route] = []
    for aim in aims:
        routes += [parse_route(aim)] if isinstance(aim, str) else routes_of(aim, skip=skip)
    if not routes:
        raise ValueError("there is nothing to ask for: no function, worker or file")
    return st.one_of([requests_to(route) for route in routes])


def requests_to(route: Route) -> st.SearchStrategy[Request]:
    """Requests to one route."""
    methods = (
        st.just(route.method) if route.method != "GET" else st.sampled_from(("GET", "GET", "HEAD"))
    )
    if route.kind == "events":
        methods = st.just("GET")
    nothing: Body = ((), None)
    content = st.just(nothing)
    if route.kind == "worker":
        content = worker_messages(route.words)
    elif route.method != "GET":
        content = bodies(route.words)
    return st.builds(_request, methods, _paths(route), _queries(route), _fields(route.words), content)


def anywhere() -> st.SearchStrategy[Request]:
    """Requests for what is probably not there."""
    path = st.lists(segments(), max_size=3).map(lambda parts: "/" + "/".join(parts))
    return st.builds(_request, st.sampled_from(_METHODS), path, queries(), _fields(()), bodies())


def _request(method: str, path: str, query: str, fields: tuple[Field, ...], body: Body) -> Request:
    described, content = body
    if method in ("GET", "HEAD", "OPTIONS"):
        described, content = (), None
    return Request(method, path + query, (*described, *fields), content)


def _paths(route: Route) -> st.SearchStrategy[str]:
    fixed = [segments(route.words) if s.startswith(":") else st.just(s) for s in route.segments]
    extra = segments(route.words)
    if route.kind == "files" and route.words:
        extra = st.sampled_from(route.words) | extra
    count = route.argc
    rest = st.lists(extra, min_size=count or 0, max_size=3 if count is None else count)
    return st.tuples(st.tuples(*fixed), rest).map(lambda parts: "/" + "/".join((*parts[0], *parts[1])))


def _queries(route: Route) -> st.SearchStrategy[str]:
    return queries(route.words) if route.kind != "files" else st.just("")


def _fields(words: Words) -> st.SearchStrategy[tuple[Field, ...]]:
    """Up to three header fields; names that the function knows may be among them."""
    known = [word for word in words if _TOKEN.fullmatch(word) and word.lower() not in _FRAMING]
    kinds = [
        st.tuples(st.just(name), st.sampled_from(values)) for name, values in sorted(_FIELDS.items())
    ]
    if known:
        kinds.append(st.tuples(st.sampled_from(known), texts(words).map(_field_value)))
        cookie = st.tuples(st.sampled_from(known), texts(words).map(_field_value)).map("=".join)
    else:
        cookie = st.sampled_from(_COOKIES)
    kinds.append(st.tuples(st.just("Cookie"), cookie | st.sampled_from(_COOKIES)))
    field: st.SearchStrategy[Field] = st.one_of(kinds)
    several = st.lists(field, max_size=3, unique_by=lambda field: field[0].lower()).map(tuple)
    return st.just(()) | several


def _field_value(text: str) -> str:
    """Any text as the value of a field: in UTF-8, without what ends a line."""
    data = text.encode("utf-8", "replace").decode("latin-1")
    return "".join(c for c in data if c == "\t" or (c >= " " and c != "\x7f")).strip(" \t")
