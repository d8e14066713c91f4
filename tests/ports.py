"""Ports for those who have to know theirs before they listen: port 0 is better where it will do.

Between the question and the use nobody may take the port. The kernel hands out those of its own range,
for port 0 and to every connection that is opened, and a connection's end keeps its port for a minute
behind the connection: so these lie outside.
"""

from __future__ import annotations

import random
import socket
from contextlib import suppress
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def vacant_port() -> int:
    """A port that nobody listens on at any address, and that the kernel gives to nobody."""
    begin, end = map(int, _RANGE.read_text().split()) if _RANGE.exists() else (32768, 65535)
    ours = [port for port in range(10000, 65536) if not begin <= port <= end]
    chance = random.SystemRandom()  # the tests of another run beside this one take others
    while True:
        port = chance.choice(ours)
        with suppress(OSError):
            socket.create_server(("0.0.0.0", port)).close()
            if socket.has_dualstack_ipv6():
                socket.create_server(("::", port), family=socket.AF_INET6).close()
            return port
