"""Files and folders at resolved paths, without following a link on the way.

Pool threads. A path as a whole is looked up anew with each call, and a folder in it may have become a
link since the path was resolved. Here each folder is therefore opened in the one above it, and as a
folder only. Where the system cannot do that, the path is taken as a whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

_PATH: int | None = getattr(os, "O_PATH", None)  # opens what may not be read, too; Linux and FreeBSD
_FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


def status_at(real: str) -> os.stat_result:
    """The status of what is at a resolved path. OSError if it is not there, or behind a link."""
    if _PATH is None:
        return os.lstat(real)
    above, name = os.path.split(real)
    with _opened(above, _PATH) as folder:
        return os.stat(name or ".", dir_fd=folder, follow_symlinks=False)


@contextmanager
def scanned(real: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """The entries of the folder at a resolved path; their names are all that is known of their paths.

    OSError if it is not there, or behind a link.
    """
    if _PATH is None:
        with os.scandir(real) as entries:
            yield entries
        return
    with _opened(real, os.O_RDONLY) as folder, os.scandir(folder) as entries:
        yield entries


@contextmanager
def _opened(real: str, mode: int) -> Iterator[int]:
    """The folder at a resolved path, opened in that mode."""
    assert _PATH is not None
    parts = [part for part in real.split(os.sep) if part]
    folder = os.open(os.sep, (_PATH if parts else mode) | _FOLDER)
    try:
        for number, part in enumerate(parts, 1):
            flags = _FOLDER | (_PATH if number < len(parts) else mode)
            below = os.open(part, flags, dir_fd=folder)
            os.close(folder)
            folder = below
        yield folder
    finally:
        os.close(folder)
