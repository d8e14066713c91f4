"""What a path should be answered with: docs/files.md as plain code that asks the disk.

It knows nothing of requests, caches, descriptors and races, which is what makes it short; each rule
stands here once, and the server has to come to the same verdict.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from fuzz.sites import Site

INDEXES = ("index.html", "index.htm")
DEVICES = ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))]


@dataclass(frozen=True)
class Served:
    """The file at this place."""

    content: bytes


@dataclass(frozen=True)
class Listed:
    """A page with these names; folders end with a slash."""

    names: frozenset[bytes]


@dataclass(frozen=True)
class Moved:
    """To the same path with a slash."""


@dataclass(frozen=True)
class Refused:
    """It may be known that there is something, but not what."""


@dataclass(frozen=True)
class Missing:
    """Nothing is there."""


Verdict: TypeAlias = Served | Listed | Moved | Refused | Missing
MISSING = Missing()


def means_a_file(name: str) -> bool:
    """Whether a decoded segment is neither hidden nor a drive, a device or a path of its own."""
    if name.startswith(".") or any(char in name for char in "/\\\0"):
        return False
    is_drive = len(name) > 1 and name[1] == ":" and name[0].isascii() and name[0].isalpha()
    return not is_drive and name.lower().partition(".")[0] not in DEVICES


@dataclass(frozen=True)
class Model:
    """A site as it is on the disk."""

    site: Site
    base: Path

    def answer(self, path: str) -> Verdict:
        """What a GET of an (encoded) path should come to."""
        names = [os.fsdecode(unquote_to_bytes(part)) for part in path.split("/")]
        wants_folder = names[-1] == ""
        names = [name for name in names if name]
        if self._leaves_root(names):
            return MISSING
        first = [binding for binding in self.site.bindings if not binding.fallback]
        last = [binding for binding in self.site.bindings if binding.fallback]
        for binding in [*reversed(first), *last]:
            size = len(binding.prefix)
            if tuple(names[:size]) == binding.prefix:
                root = os.path.normpath(self.base / binding.folder)
                verdict = self._within(root, names[size:], wants_folder)
                if verdict != MISSING:
                    return verdict
        return MISSING

    @property
    def lets_out(self) -> bool:
        """Whether the site's owner has wanted what lies outside: by links, or by a binding to one."""
        bound = [Path(os.path.realpath(self.base / binding.folder)) for binding in self.site.bindings]
        inside = (self.base / "www", self.base / "more")
        strays = [root for root in bound if not any(map(root.is_relative_to, inside))]
        return self.site.follows_links or bool(strays)

    def _leaves_root(self, names: list[str]) -> bool:
        depth = 0
        for name in names:
            depth += {"..": -1, ".": 0}.get(name, 1)
            if depth < 0:
                return True
        return False

    def _within(self, root: str, names: list[str], wants_folder: bool) -> Verdict:
        if not all(map(means_a_file, names)):
            return MISSING
        path = os.path.join(root, *names)
        try:
            status = os.stat(path)
        except (OSError, ValueError):
            return MISSING
        if stat.S_ISDIR(status.st_mode):
            return self._folder(root, path, wants_folder)
        if not stat.S_ISREG(status.st_mode) or wants_folder or not self._file_may(root, path):
            return MISSING
        return self._file(path)

    def _file(self, path: str) -> Verdict:
        try:
            return Served(Path(path).read_bytes())
        except PermissionError:
            return Refused()

    def _folder(self, root: str, path: str, wants_folder: bool) -> Verdict:
        if not self._place_may(root, path):
            return MISSING
        if not wants_folder:
            return Moved()
        for name in INDEXES:
            index = os.path.join(path, name)
            if os.path.isfile(index) and self._file_may(root, index):
                return self._file(index)
        return Listed(frozenset(self._names(root, path))) if self.site.listing else MISSING

    def _names(self, root: str, path: str) -> Iterable[bytes]:
        for name in os.listdir(path):
            place = os.path.join(path, name)
            if not means_a_file(name):
                continue
            if os.path.isdir(place) and self._place_may(root, place):
                yield os.fsencode(name) + b"/"
            if os.path.isfile(place) and self._file_may(root, place):
                yield os.fsencode(name)

    def _file_may(self, root: str, path: str) -> bool:
        white = self.site.white
        listed = not white or (_matches(path, white) and _matches(os.path.realpath(path), white))
        return listed and self._place_may(root, path)

    def _place_may(self, root: str, path: str) -> bool:
        """Where it leads, and the black list for it and all folders above it."""
        real, real_root = Path(os.path.realpath(path)), Path(os.path.realpath(root))
        if self._is_black(Path(root), Path(path)):
            return False
        if not real.is_relative_to(real_root):
            return self.site.follows_links and not self._is_black(Path("/"), real)
        return all(map(means_a_file, real.relative_to(real_root).parts)) and not self._is_black(
            real_root, real
        )

    def _is_black(self, root: Path, path: Path) -> bool:
        below = [
            place for place in (path, *path.parents) if place != root and place.is_relative_to(root)
        ]
        return any(_matches(str(place), self.site.black) for place in below)


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)
