"""Every test gives back the threads and descriptors that it took.

A thread that has done its work, and has yet to end, is not left behind: not all can be waited for.
"""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest

_PATIENCE = 1.0  # seconds that a thread has for its end


def _descriptors() -> dict[str, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # the listing's own descriptor
            continue
    return found


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Holds for every test below a conftest.py that imports this."""
    threads, descriptors = set(threading.enumerate()), _descriptors()
    yield
    left = [thread for thread in threading.enumerate() if thread not in threads]
    for thread in left:
        thread.join(_PATIENCE)
    left = [thread for thread in left if thread.is_alive()]
    assert not left, f"threads left behind: {left}"
    opened = {fd: what for fd, what in _descriptors().items() if fd not in descriptors}
    if opened:  # a socket in a reference cycle is closed by the collector, with a ResourceWarning
        gc.collect()
        opened = {fd: what for fd, what in _descriptors().items() if fd not in descriptors}
    assert not opened, f"descriptors left behind: {opened}"
