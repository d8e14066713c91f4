"""Host names to addresses, in the order in which they are tried.

Any thread; `look_up` waits for the system's resolver and belongs into the pool, the rest never waits.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any, TypeAlias

Address: TypeAlias = tuple[socket.AddressFamily, Any]
"""A family, and what `socket.connect` takes for it."""

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_MOST = 8  # addresses of one name that are tried: each may hold a descriptor for a while
_LOCAL: list[Address] = [(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.1", 0))]


def look_up(host: str) -> list[Address]:
    """The addresses of a name, in the system's order, with port 0. Blocks; raises OSError."""
    return _ask_system(host, 0)


def known_addresses(host: str) -> list[Address] | None:
    """The addresses of what needs no look-up; None for any other name.

    Those are addresses, and every name of this machine's loopback (RFC 6761 section 6.3).

    >>> [address[0] for _family, address in known_addresses("localhost")]
    ['::1', '127.0.0.1']
    """
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return _LOCAL
    try:
        return _ask_system(host, socket.AI_NUMERICHOST)
    except OSError:
        return None


def in_order(addresses: Iterable[Address], port: int) -> list[Address]:
    """The addresses as they are tried: families in turns (RFC 8305 section 4), and not too many."""
    by_family: dict[int, list[Address]] = {}
    for family, address in addresses:
        by_family.setdefault(family, []).append((family, (address[0], port, *address[2:])))
    turns = zip_longest(*by_family.values())
    return [address for turn in turns for address in turn if address is not None][:_MOST]


def _ask_system(host: str, flags: int) -> list[Address]:
    try:
        if "\0" in host:  # the system would see what is before it
            raise ValueError
        found = socket.getaddrinfo(
            host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=flags
        )
    except ValueError:  # not what DNS could hold: an empty label, for instance
        raise OSError(errno.EINVAL, "not a host name") from None
    return [(family, address) for family, _, _, _, address in found if family in _FAMILIES]
