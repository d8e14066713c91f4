"""Cases 1 to 26: what a client sends."""

from __future__ import annotations

from tests.faults.conftest import Observed
from tests.faults.talk import Talk


def test_01_transfer_encoding_with_content_length(talk: Talk, observed: Observed) -> None:
    """400, the connection is closed; nothing behind it is read as a request."""
    heard = talk(
        b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        probe=True,
    )
    observed(heard)
    assert str(heard) == "400, closes"
    assert heard.header("connection") == "close"
