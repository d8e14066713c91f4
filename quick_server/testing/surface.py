"""What of a server can be asked: its functions, workers and files, each as a `Route` to aim at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from .words import words_of

if TYPE_CHECKING:
    from ..server import QuickServer

_MOST_FILES = 50  # of a folder that are asked for by name


class Route(NamedTuple):
    """One thing to ask for."""

    method: str
    mask: str
    argc: int | None = None
    """How many segments may follow the mask; None for any number."""
    kind: str = "json"
    """`json`, `text`, `events`, `worker` or `files`."""
    words: tuple[str, ...] = ()
    """What its code knows, or the names of its files."""

    @property
    def name(self) -> str:
        """As reports name it: `GET /user/:name`."""
        return f"{self.method} {self.mask}"

    @property
    def segments(self) -> tuple[str, ...]:
        """Those of the mask."""
        return tuple(filter(None, self.mask.split("/")))

    @property
    def names(self) -> tuple[str, ...]:
        """Its segments that stand for any one."""
        return tuple(segment for segment in self.segments if segment.startswith(":"))


def parse_route(text: str) -> Route:
    """The route that a text like `POST /score/:name` stands for; GET where no method is named."""
    method, _, mask = text.rpartition(" ")
    if not mask.startswith("/"):
        raise ValueError(f"a mask starts with a slash, {mask!r} does not")
    return Route(method.strip().upper() or "GET", mask)


def routes_of(
    server: QuickServer, only: Iterable[str] = (), skip: Iterable[str] = ()
) -> tuple[Route, ...]:
    """The routes of a server, in the order of their masks; those of files come last.

    `only` and `skip` are shell-style patterns for masks (`/api/*`), or for a method and a mask
    (`DELETE *`).
    """
    only, skip = tuple(only), tuple(skip)
    return tuple(
        route
        for route in (*_functions(server), *_files(server))
        if (not only or _fits(route, only)) and not _fits(route, skip)
    )


def _functions(server: QuickServer) -> Iterator[Route]:
    before: tuple[Callable[..., Any], ...] = server.pre_middleware
    for method, mask, argc, handler in server.routes.listing():
        yield Route(method, mask, argc, handler.kind, words_of(handler.function, *before))


def _files(server: QuickServer) -> Iterator[Route]:
    for path, place in server._files.bindings():
        if path.endswith("/") or os.path.isdir(place):
            yield Route("GET", path, None, "files", tuple(islice(_names(place), _MOST_FILES)))
        else:
            yield Route("GET", path, 0, "files")


def _names(folder: str) -> Iterator[str]:
    """The files below a folder, by their paths in it."""
    for here, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            yield os.path.relpath(os.path.join(here, name), folder).replace(os.sep, "/")


def _fits(route: Route, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(route.name if " " in p else route.mask, p) for p in patterns)
