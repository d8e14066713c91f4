"""How many connections there may be: at the limit, one that is idle makes room for a new one.

So do those that are idle for long when descriptors have run out, as that limit may be the lower one.

Loop thread. Looking at all connections costs time, so those that are idle are listed once for many
new ones: who was idle then and has been since is idle for longer than anybody who is not on the list.
"""

from __future__ import annotations

import math
from collections import deque
from operator import itemgetter

from .connection import Connection, Service

_AT_A_TIME = 16  # so that who stays has descriptors for the files that it asks for


class Capacity:
    """Closes the connection that is idle the longest when there is no room for another."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._idle: deque[tuple[float, Connection]] = deque()  # since when, the longest first

    def is_reached(self) -> bool:
        """Whether there are as many connections as there may be."""
        service = self._service
        return len(service.connections) >= service.limits.max_connections

    def make_room(self) -> bool:
        """Whether there is room for another, if need be in the place of an idle one."""
        if self.is_reached() and not self._close_idle():
            self._list_idle()
            self._close_idle()
        return not self.is_reached()

    def give_way(self) -> None:
        """Descriptors have run out: closes some that are idle for longer than a head may take."""
        service = self._service
        before = service.reactor.now() - service.limits.head_timeout
        self._idle.clear()
        self._list_idle()
        for _ in range(_AT_A_TIME):
            if not self._close_idle(before):
                return

    def _close_idle(self, before: float = math.inf) -> bool:
        """Closes one of those on the list, if any is idle still, and has been since `before`."""
        connections = self._service.connections
        while self._idle and self._idle[0][0] < before:
            since, connection = self._idle.popleft()
            if connection in connections and connection.idle_since == since and connection.leave():
                return True
        return False

    def _list_idle(self) -> None:
        found = []
        for connection in self._service.connections:
            since = connection.idle_since
            if since is not None:
                found.append((since, connection))
        self._idle.extend(sorted(found, key=itemgetter(0)))
