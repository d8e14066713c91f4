"""Compressed files beside their originals: `app.js.br`, `.zst` and `.gz` for `app.js`.

Pool threads. Which ones exist is remembered by the state of the folder, so that a request costs one
`stat` for all of them.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from .filememory import Signature, is_settled, signature
from .protocol.encoding import wanted

_CODINGS = (("br", ".br"), ("zstd", ".zst"), ("gzip", ".gz"))  # the best first
_MOST_ENTRIES = 2048
_SLACK = 2.0  # seconds by which a sibling may be older than its original: archives round times


class Sibling(NamedTuple):
    """A compressed file and its content coding."""

    coding: str
    path: str


class Siblings:
    """Finds them."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Signature, tuple[Sibling, ...]]] = {}

    def of(self, path: str) -> tuple[Sibling, ...]:
        """The siblings that a file has now."""
        try:
            current = signature(os.stat(os.path.dirname(path)))
        except OSError:
            return ()
        known = self._known.get(path)
        if known is not None and known[0] == current:
            return known[1]
        found = tuple(
            Sibling(coding, path + suffix)
            for coding, suffix in _CODINGS
            if os.path.isfile(path + suffix)
        )
        if is_settled(current):
            if len(self._known) >= _MOST_ENTRIES:
                self._known.clear()
            self._known[path] = (current, found)
        return found


def preferred(siblings: tuple[Sibling, ...], accept: str | None) -> Sibling | None:
    """The sibling that an Accept-Encoding field wants most, or None if it wants the original."""
    best = max(siblings, key=lambda sibling: wanted(accept, sibling.coding), default=None)
    return best if best is not None and wanted(accept, best.coding) else None


def is_fresh(sibling: os.stat_result, original: os.stat_result) -> bool:
    """Whether the sibling can have been made of this state of the original."""
    return sibling.st_mtime >= original.st_mtime - _SLACK
