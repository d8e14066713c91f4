"""Method and path to route. Pure.

A mask is a path whose segments starting with `:` match any one segment. A route matches a path when
its mask matches the path's first segments and the number of those left over suits its `argc`. Among
the routes that match the longest mask wins; of two equally long ones, the one that names a segment
where the other takes any, at the first place where they differ. The order of registration never
matters, except that registering the same mask again replaces it.

The routes of one method form a tree whose edges are segments. Each node is met at most once for a
path, so a look-up costs no more than the tree is large, whatever the path.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Generic, NamedTuple, TypeVar, cast

T = TypeVar("T")

_MOST_FOUND = 1024
_MOST_SEGMENTS = 16  # of a path that is remembered
_UNKNOWN = object()  # not looked up yet, unlike None, which says that there is nothing
_ANY = ":"  # what a segment of a mask starts with that stands for any one segment


class Match(NamedTuple, Generic[T]):
    """A route that answers a path."""

    route: T
    segments: dict[str, str]
    """What the mask's `:name` segments stand for. Shared between requests: not to be changed."""
    rest: tuple[str, ...]
    """The path's segments beyond the mask."""


class _Mask(Generic[T]):
    __slots__ = ("argc", "length", "names", "route", "text")

    def __init__(
        self, names: tuple[tuple[int, str], ...], length: int, route: T, argc: int | None, text: str
    ) -> None:
        self.names = names  # of the segments that stand for any one, with their places
        self.length = length
        self.route = route
        self.argc = argc
        self.text = text  # as it was registered


class _Node(Generic[T]):
    __slots__ = ("any", "children", "mask")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.any: _Node[T] | None = None
        self.mask: _Mask[T] | None = None

    def masks(self) -> Iterator[_Mask[T]]:
        """Those of this node and all below it."""
        if self.mask is not None:
            yield self.mask
        for child in [*self.children.values(), *filter(None, [self.any])]:
            yield from child.masks()


class Routes(Generic[T]):
    """A table of routes of type T."""

    def __init__(self) -> None:
        self._roots: dict[str, _Node[T]] = {}
        self._argc: dict[tuple[str, ...], int | None] = {}
        self._found: dict[tuple[str, tuple[str, ...]], Any] = {}  # what was looked up before

    def add(self, method: str, mask: str, route: T, argc: int | None = None) -> None:
        """Registers a route; ValueError for a mask that does not start with a slash."""
        segments = _split(mask)
        node = self._roots.setdefault(method, _Node())
        for segment in segments:
            if segment.startswith(_ANY):
                node.any = node.any or _Node()
                node = node.any
            else:
                node = node.children.setdefault(segment, _Node())
        names = tuple((i, s[1:]) for i, s in enumerate(segments) if s.startswith(_ANY))
        if argc is None:
            argc = self._argc.get(_key(segments))
        node.mask = _Mask(names, len(segments), route, argc, mask)
        self._found = {}

    def set_argc(self, mask: str, argc: int | None) -> None:
        """Sets how many segments may follow the mask, for every method, known already or not."""
        segments = _split(mask)
        self._argc[_key(segments)] = argc
        for root in self._roots.values():
            node: _Node[T] | None = root
            for segment in segments:
                if node is not None:
                    node = node.any if segment.startswith(_ANY) else node.children.get(segment)
            if node is not None and node.mask is not None:
                node.mask.argc = argc
        self._found = {}

    def find(self, method: str, segments: tuple[str, ...]) -> Match[T] | None:
        """The route for that method and path; what was found before is remembered."""
        if len(segments) > _MOST_SEGMENTS:
            return self._look_up(method, segments)
        known = self._found.get((method, segments), _UNKNOWN)
        if known is _UNKNOWN:
            known = self._look_up(method, segments)
            if len(self._found) >= _MOST_FOUND:
                self._found.clear()
            self._found[method, segments] = known
        return cast("Match[T] | None", known)

    def _look_up(self, method: str, segments: tuple[str, ...]) -> Match[T] | None:
        root = self._roots.get(method)
        mask = _longest(root, segments) if root is not None else None
        if mask is None:
            return None
        named = {name: segments[i] for i, name in mask.names}
        return Match(mask.route, named, segments[mask.length :])

    def methods(self, segments: tuple[str, ...]) -> set[str]:
        """All methods that have a route for that path."""
        return {m for m, root in self._roots.items() if _longest(root, segments) is not None}

    def listing(self) -> list[tuple[str, str, int | None, T]]:
        """Method, mask, number of segments that may follow, and route; by mask, then method."""
        masks = [(method, mask) for method, root in self._roots.items() for mask in root.masks()]
        found = [(method, mask.text, mask.argc, mask.route) for method, mask in masks]
        return sorted(found, key=lambda row: (row[1], row[0]))

    def __iter__(self) -> Iterator[tuple[str, T]]:
        """Every method with each of its routes."""
        for method, root in self._roots.items():
            for mask in root.masks():
                yield method, mask.route


def _split(mask: str) -> list[str]:
    if not mask.startswith("/"):
        raise ValueError(f"a mask starts with a slash, {mask!r} does not")
    return [segment for segment in mask.split("/") if segment]


def _key(segments: list[str]) -> tuple[str, ...]:
    """Masks that differ only in the names of their segments are the same mask."""
    return tuple(_ANY if segment.startswith(_ANY) else segment for segment in segments)


def _longest(root: _Node[T], segments: tuple[str, ...]) -> _Mask[T] | None:
    """The mask that wins: nodes are tried level by level, the named edge before the one for any."""
    left = len(segments)
    best = _ending([root], left)
    level = [root]
    for segment in segments:
        left -= 1
        following = ((node.children.get(segment), node.any) for node in level)
        level = [node for both in following for node in both if node is not None]
        if not level:
            break
        best = _ending(level, left) or best
    return best


def _ending(level: list[_Node[T]], left: int) -> _Mask[T] | None:
    """The mask that ends at a level, and takes that many more segments."""
    for node in level:
        mask = node.mask
        if mask is not None and (mask.argc is None or mask.argc == left):
            return mask
    return None
