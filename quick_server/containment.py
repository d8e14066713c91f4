"""Containment: what lies in a folder, however links change meanwhile.

Facts: a resolved path is an answer about the past. Whoever may write to a folder can put a link in
place of any part of it before the path is used, and take it away again before somebody looks.
Decision: what matters is reached from the folder step by step, each through the descriptor of the one
above and never through a link. The folder itself is the server's word, and may be a link.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# To pass through a folder takes fewer permissions than to read it, where the system knows of that.
_PASSAGE = getattr(os, "O_PATH", 0) | _FOLDER


def is_below(folder: str, path: str) -> bool:
    """Whether a path is that of the folder, or of something in it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def status_at(folder: str, real: str) -> os.stat_result:
    """The status of what is at a resolved path. Where that lies in `folder`, OSError if a link is."""
    root = os.path.realpath(folder)
    parent, name = os.path.split(real)
    if not is_below(root, parent):
        return os.lstat(real)
    with _passage(root, parent) as at:
        return os.stat(name, dir_fd=at, follow_symlinks=False)


@contextmanager
def scan(folder: str, real: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """What is in the folder at a resolved path, for a while. OSError as above."""
    root = os.path.realpath(folder)
    if not is_below(root, real):
        with os.scandir(real) as found:
            yield found
        return
    with _passage(root, real) as at:
        readable = os.open(".", _FOLDER, dir_fd=at)
    try:
        with os.scandir(readable) as found:
            yield found
    finally:
        os.close(readable)


@contextmanager
def _passage(root: str, folder: str) -> Iterator[int]:
    """A descriptor of a folder below `root`, good for `dir_fd`; OSError if a link is in the way."""
    at = os.open(root, _PASSAGE)
    try:
        for name in filter(None, folder[len(root) :].split(os.sep)):
            below = os.open(name, _PASSAGE | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)
