"""What the cases need of a server: files of known dates, and what it says about them."""

from __future__ import annotations

import gzip
import os
import time
from email.utils import formatdate

from tests.conformance.talk import talk
from tests.wire.origins import Origin

MODIFIED = 1_583_064_000  # long ago: Sun, 01 Mar 2020 12:00:00 GMT
DAY = 86_400
LONG_TEXT = b"All work and no play makes Jack a dull boy.\n" * 200
"""Worth a content coding."""


def furnish(origin: Origin) -> None:
    """Files beside those that every origin has; only who serves files by itself has them."""
    os.utime(origin.root / "file.txt", (MODIFIED, MODIFIED))
    (origin.root / "empty.txt").touch()
    (origin.root / "long.txt").write_bytes(LONG_TEXT)
    (origin.root / "long.txt.gz").write_bytes(gzip.compress(LONG_TEXT))
    (origin.root / "folder").mkdir()
    future = origin.root / "future.txt"
    future.write_bytes(b"from the future")
    os.utime(future, (time.time() + DAY, time.time() + DAY))


def ask(origin: Origin, patience: float) -> dict[str, bytes]:
    """What stands for the names in angle brackets of the cases."""
    answer = talk(
        origin.address, [b"GET /file.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"], ["GET"], patience
    ).answer
    assert answer.status == 200, f"{origin.name} does not serve the file"
    moment = time.gmtime(MODIFIED)
    etag = answer.get("etag") or '"none"'
    texts = {
        "etag": etag,
        "weak-etag": "W/" + etag.removeprefix("W/"),
        "modified": formatdate(MODIFIED, usegmt=True),
        "later": formatdate(MODIFIED + DAY, usegmt=True),
        "earlier": formatdate(MODIFIED - DAY, usegmt=True),
        "modified-rfc-eight-fifty": time.strftime("%A, %d-%b-%y %H:%M:%S GMT", moment),
        "modified-asctime": time.strftime("%a %b %e %H:%M:%S %Y", moment),
    }
    return {name: text.encode("latin-1") for name, text in texts.items()}
