"""Lets coverage live with jobs that are stopped, and with processes that two threads end at once.

A job is ended by an exception that may arise in any line, also in the midst of coverage's collector
while that holds its lock, which nobody would release any more. The lock guards a look into a dict and
an assignment to it, each of which is whole by itself.

At exit coverage stops and writes, in the midst of what is to be run then: a script that restarts runs
it all by itself, and goes on. So it writes and does not stop.

A forked process ends by `os._exit`, in whichever thread is first, and coverage writes before that: the
second thread has to wait, as writing twice at a time crashes the interpreter.
"""

from __future__ import annotations

import threading
from typing import Any

from coverage import Coverage
from coverage.collector import Collector

_save = Coverage.save
_saving = threading.RLock()


def _do_nothing(_self: Collector) -> None: ...


def _save_alone(self: Coverage) -> None:
    with _saving:
        _save(self)


def _save_at_exit(self: Coverage, event: str = "atexit") -> None:  # noqa: ARG001 (it is coverage's)
    if self._auto_save:
        self.save()
    for data in self._data_to_close:
        data.close(force=True)


def coverage_init(_registry: Any, _options: dict[str, Any]) -> None:
    """What coverage calls in each process that it measures."""
    for name in ("lock_data", "unlock_data"):
        setattr(Collector, name, _do_nothing)
    Coverage._atexit = _save_at_exit  # type: ignore[method-assign]
    Coverage.save = _save_alone  # type: ignore[method-assign] # there is no other way in
