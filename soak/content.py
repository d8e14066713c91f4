"""Content that both sides know: pseudo-random bytes by number and size, and checksums.

Each block is another part of the same random bytes, so that bytes which are left out, sent twice or
shifted are noticed, and making it costs a copy: the load shares its cores with the servers.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from random import Random

BLOCK = 64 * 1024
_SOURCE = Random(1).randbytes(1 << 20)


def blocks(number: int, size: int) -> Iterator[bytes]:
    """The content of that number, in pieces."""
    for index in range(0, size, BLOCK):
        first = (number * 7919 + index * 13) % (len(_SOURCE) - BLOCK)
        yield _SOURCE[first : first + min(BLOCK, size - index)]


def content(number: int, size: int) -> bytes:
    """The content of that number as a whole."""
    return b"".join(blocks(number, size))


NOTHING = "00000000"
"""The checksum of no bytes."""


def checksum(data: bytes | bytearray, before: str = NOTHING) -> str:
    """CRC-32 in hex; `before` is that of what comes before."""
    return f"{zlib.crc32(data, int(before, 16)):08x}"


def checksum_of(number: int, size: int) -> str:
    """The checksum of that content."""
    found = NOTHING
    for block in blocks(number, size):
        found = checksum(block, found)
    return found


def text(number: int, size: int) -> str:
    """ASCII text of that number: hex digits of its content."""
    return content(number, (size + 1) // 2).hex()[:size]


FILES = ((1, 0), (2, 100), (3, 5_000), (4, 60_000), (5, 70_000), (6, 300_000), (7, 2_000_000))
"""Number and size of each file that is served: of none, small (from memory) and big (by the kernel)."""


def file_name(number: int, size: int) -> str:
    """Where such a file is, below the folder that is served."""
    return f"{number}-{size}.bin"
