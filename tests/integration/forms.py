"""Multipart bodies, written byte by byte, and what tells whether their files are gone."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from tests.harness import PATIENCE

BOUNDARY = "----the-boundary"
CTYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(
    name: str | None,
    content: bytes | str = b"",
    filename: str | None = None,
    ctype: str | None = None,
    extra: str = "",
) -> bytes:
    """One part, without the delimiter in front of it. `extra` is whole header lines."""
    head = "Content-Disposition: form-data"
    if name is not None:
        head += f'; name="{name}"'
    if filename is not None:
        head += f'; filename="{filename}"'
    head += "\r\n"
    if ctype is not None:
        head += f"Content-Type: {ctype}\r\n"
    content = content.encode() if isinstance(content, str) else content
    return (head + extra).encode() + b"\r\n" + content + b"\r\n"


def form(*parts: bytes, boundary: str = BOUNDARY, end: bytes = b"--\r\n") -> bytes:
    """A whole body; `end` is what follows the last delimiter."""
    delimiter = b"--" + boundary.encode()
    return b"".join(delimiter + b"\r\n" + piece for piece in parts) + delimiter + end


def chunks(body: bytes, size: int) -> bytes:
    """The body in chunked coding."""
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def nameless_files() -> int:
    """Temporary files that this process holds open and that have no name any more."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            what = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:  # closed meanwhile, or the listing's own
            continue
        found += what.startswith("/") and what.endswith("(deleted)") and "memfd" not in what
    return found


def until(condition: Callable[[], object], what: str) -> None:
    """Gives the processor to others until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        os.sched_yield()
