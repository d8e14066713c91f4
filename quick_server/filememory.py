"""What is known of files that were served before, so that asking again costs no reading.

Pool threads; a lock guards the bookkeeping. An entry is bound to the file's identity and state
(device, inode, size, times): if any of them differs the entry is not used. Bounded in entries and in
bytes of content; full, it starts anew, and what is hot is back with the next requests.
"""

from __future__ import annotations

import os
import threading
import time
from typing import NamedTuple, TypeAlias

from .protocol.conditional import Validators

Signature: TypeAlias = tuple[int, int, int, int, int]

_TICK = 0.05  # seconds: a younger file might change again without its times telling
_COARSE_TICK = 2.0  # on file systems that count whole seconds
_TRUST = 1.0  # seconds
_MOST_ENTRIES = 2048
_MOST_BYTES = 16 * 1024 * 1024


def signature(status: os.stat_result) -> Signature:
    """What tells this state of this file from any other."""
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def is_settled(state: Signature) -> bool:
    """Whether enough time has passed for the next change to show in the times."""
    changed = max(state[3:])  # nanoseconds
    return time.time() - changed / 1e9 >= (_TICK if changed % 10**9 else _COARSE_TICK)


class Place(NamedTuple):
    """Where a file is, and by which rules: the verdict on a path depends on the folder it is in."""

    folder: str | None
    """The bound folder; None for a file that a setting names, which no rule concerns."""
    path: str
    follows_links: bool = False
    """Whether links may lead out of the folder."""
    ctype: str | None = None
    """Its Content-Type, if its name does not tell."""
    coding: str | None = None
    """Its content coding, for a compressed sibling."""


class Representation(NamedTuple):
    """A file as it is sent: its header fields and, if it is small, its content."""

    signature: Signature
    validators: Validators
    ctype: str
    coding: str | None
    size: int
    content: bytes | None
    """None for a file that is sent from its descriptor."""
    fields: bytes
    """The field lines that its whole is sent with, less Cache-Control."""


class FileMemory:
    """Representations by place."""

    def __init__(self) -> None:
        self._known: dict[Place, Representation] = {}
        self._checked: dict[Place, float] = {}  # when the rules allowed it last
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, place: Place, current: Signature) -> Representation | None:
        """What is known of that place, if the file there is still the same."""
        known = self._known.get(place)
        return known if known is not None and known.signature == current else None

    def trusts(self, place: Place) -> bool:
        """Whether the rules were checked for that place a moment ago: folders above it may move."""
        return time.monotonic() - self._checked.get(place, -_TRUST) < _TRUST

    def trust(self, place: Place) -> None:
        """The rules have been checked."""
        self._checked[place] = time.monotonic()

    def remember(self, place: Place, what: Representation) -> None:
        """Keeps a representation, unless the file has just changed and may do so again."""
        if not is_settled(what.signature):
            return
        size = len(what.content or b"")
        with self._lock:
            before = self._known.pop(place, None)
            if before is not None:
                self._bytes -= len(before.content or b"")
            if len(self._known) >= _MOST_ENTRIES or self._bytes + size > _MOST_BYTES:
                self._known.clear()
                self._checked.clear()
                self._bytes = 0
            self._checked[place] = time.monotonic()
            self._known[place] = what
            self._bytes += size

    def clear(self) -> None:
        """Forgets everything: the rules about what may be served have changed."""
        with self._lock:
            self._known.clear()
            self._checked.clear()
            self._bytes = 0
