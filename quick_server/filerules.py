"""Which files may be served: names, lists and containment. See the policy in `static.py`.

Any thread: settings are replaced as a whole, never changed in place.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from collections.abc import Callable, Iterable
from typing import Protocol

from .containment import is_below

_MISLEADING = re.compile(
    r"[/\\\x00]|^[a-z]:|^(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|$)", re.IGNORECASE
)


class RuleSettings(Protocol):
    """The setting that this file reads."""

    follow_symlinks: bool


class FileRules:
    """The lists, and the links that may lead anywhere."""

    def __init__(self, settings: RuleSettings) -> None:
        self._settings = settings
        self._white: tuple[str, ...] = ()
        self._black: tuple[str, ...] = ()
        self._links: set[tuple[str, str]] = set()

    def add_patterns(self, patterns: Iterable[str], *, black: bool) -> None:
        """Adds shell-style patterns for absolute paths to one of the lists."""
        if black:
            self._black += tuple(patterns)
        else:
            self._white += tuple(patterns)

    def allow_link(self, place: str, source: str) -> None:
        """Lets a link at `place` lead to `source`, wherever that is: the server has made it."""
        self._links.add((place, os.path.realpath(source)))

    def is_black(self, folder: str, path: str) -> bool:
        """Whether the black list names the path, or a folder above it up to `folder`."""
        if not self._black:
            return False
        matcher = _matcher(self._black)
        while len(path) > len(folder) and path != os.sep:
            if matcher(os.path.normcase(path)):
                return True
            path = os.path.dirname(path)
        return False

    def is_white(self, path: str) -> bool:
        """Whether the white list, if there is one, names the path."""
        return not self._white or bool(_matcher(self._white)(os.path.normcase(path)))

    def may_lead_to(self, folder: str, path: str, real: str, *, unlisted: bool) -> bool:
        """Rules 3 and 4: whether `path` may be served if it leads to `real`.

        With `unlisted` the white list does not matter, as for folders.
        """
        if not unlisted and not (self.is_white(path) and self.is_white(real)):
            return False
        root = os.path.realpath(folder)
        if not is_below(root, real):
            if (path, real) in self._links:
                return True
            return self._settings.follow_symlinks and not self.is_black("", real)
        below = filter(None, real[len(root) :].split(os.sep))
        return all(map(is_visible, below)) and not self.is_black(root, real)


def is_visible(name: str) -> bool:
    """Rule 1: whether a segment names a file, and nothing else on any system."""
    return not name.startswith(".") and not _MISLEADING.search(name)


@functools.lru_cache(maxsize=16)
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], re.Match[str] | None]:
    return re.compile("|".join(fnmatch.translate(os.path.normcase(p)) for p in patterns)).match
