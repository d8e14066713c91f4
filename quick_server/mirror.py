"""Files that appear at a second place: as links or, where links do not work, as copies kept fresh.

Links are made once. Copies are compared with their originals by a loop timer, which exists only if
there is a copy; the comparing and copying runs in the pool.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from .log import log_exception
from .pool import Job, PoolFullError
from .reactor import Reactor

_LOOK_EVERY = 1.0  # seconds; a person who edits the original is not faster


class Mirrors(Job):
    """All mirrored files of a server."""

    def __init__(self, reactor: Reactor, submit: Callable[[Job], object]) -> None:
        self._reactor = reactor
        self._submit = submit
        self._copies: list[tuple[str, str]] = []  # to, from; never changed, only replaced
        self._failing: set[str] = set()  # places whose trouble has been reported
        self._looking = False

    def add(self, place: str, source: str) -> None:
        """Makes `source` appear at `place`, replacing what is there. Any thread.

        Raises OSError if the source does not exist or the place cannot be written.
        """
        os.stat(source)
        self._copies = [copy for copy in self._copies if copy[0] != place]
        if os.path.exists(place) and os.path.samefile(place, source) and not os.path.islink(place):
            return  # it is there already; to replace it would be to lose it
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if os.path.lexists(place):
            if os.path.islink(place) and os.readlink(place) == source:
                return
            os.remove(place)
        try:
            os.symlink(source, place)
        except (OSError, NotImplementedError):
            _copy(source, place)
            self._copies = [*self._copies, (place, source)]
            if not self._looking:
                self._looking = True
                self._reactor.call_from_thread(self._look_later)

    def _look_later(self) -> None:
        self._reactor.call_later(_LOOK_EVERY, self._look)

    def _look(self) -> None:
        try:
            self._submit(self)
        except PoolFullError:
            self._look_later()

    def run(self) -> None:
        """Pool thread: copies what has changed."""
        for place, source in self._copies:
            try:
                if not os.path.exists(place) or os.path.getmtime(place) != os.path.getmtime(source):
                    _copy(source, place)
                self._failing.discard(place)
            except OSError:
                if place not in self._failing:
                    self._failing.add(place)
                    log_exception(f"{source} could not be copied to {place}")

    def deliver(self, _outcome: object) -> None:
        """Loop thread: the next look comes after this one has ended."""
        self._look_later()


def _copy(source: str, place: str) -> None:
    import shutil  # where links work nothing is ever copied

    shutil.copy2(source, place)
