"""Clients of files: whole ones, parts of them, and what they know already."""

from __future__ import annotations

import functools
import re

from ..client import Answer, WrongError
from ..content import FILES, content, file_name
from ..visit import Visit


async def files(visit: Visit) -> None:
    """Whole files."""
    wire = await visit.connect()
    for _ in range(visit.random.randrange(1, 8)):
        number, size = visit.random.choice(FILES)
        answer = await visit.request(wire, "GET", f"/files/{file_name(number, size)}")
        _compare(answer.checked(), _file(number, size))


async def ranges(visit: Visit) -> None:
    """Parts of files: one, several, from the end, and beyond it."""
    wire = await visit.connect()
    for _ in range(visit.random.randrange(1, 12)):
        number, size = visit.random.choice(FILES[2:])
        whole, target = _file(number, size), f"/files/{file_name(number, size)}"
        first, length = visit.random.randrange(size), 1 + visit.size(200_000)
        choice = visit.random.randrange(4)
        if choice == 0:
            answer = await visit.request(
                wire, "GET", target, Range=f"bytes={first}-{first + length - 1}"
            )
            _compare(answer.checked(206), whole[first : first + length])
        elif choice == 1:
            answer = await visit.request(wire, "GET", target, Range=f"bytes=-{length}")
            _compare(answer.checked(206), whole[-length:])
        elif choice == 2:
            (await visit.request(wire, "GET", target, Range=f"bytes={size}-")).checked(416)
        else:
            middle = size // 2
            answer = await visit.request(wire, "GET", target, Range=f"bytes=0-9,{middle}-{middle + 99}")
            _compare_parts(answer.checked(206), [whole[:10], whole[middle : middle + 100]])


async def conditional(visit: Visit) -> None:
    """Asking for what is known already."""
    wire = await visit.connect()
    for _ in range(visit.random.randrange(1, 8)):
        number, size = visit.random.choice(FILES)
        target = f"/files/{file_name(number, size)}"
        tag = (await visit.request(wire, "HEAD", target)).checked().fields["etag"]
        (await visit.request(wire, "GET", target, If_None_Match=tag)).checked(304)
        answer = await visit.request(wire, "GET", target, If_None_Match='"other"')
        _compare(answer.checked(), _file(number, size))


@functools.cache
def _file(number: int, size: int) -> bytes:
    return content(number, size)


def _compare(answer: Answer, wanted: bytes) -> None:
    if answer.body != wanted:
        raise WrongError(
            f"{len(answer.body)} bytes of a file are not the {len(wanted)} that they should be"
        )


def _compare_parts(answer: Answer, wanted: list[bytes]) -> None:
    found = re.fullmatch(r"multipart/byteranges; boundary=(\S+)", answer.fields["content-type"])
    if found is None:
        raise WrongError(f"several parts are {answer.fields['content-type']}")
    parts = answer.body.split(b"--" + found[1].strip('"').encode())[1:-1]
    bodies = [part.partition(b"\r\n\r\n")[2][:-2] for part in parts]
    if bodies != wanted:
        raise WrongError("the parts of a file are not those that they should be")
