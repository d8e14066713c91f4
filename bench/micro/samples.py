"""Heads as a browser sends them."""

from bench.client import HEADER_LINES
from quick_server.protocol.heads import parse_head
from quick_server.protocol.messages import RequestHead


def head(target: str = "/api/hello", *more: str, method: str = "GET", host: str = "localhost") -> bytes:
    """A head of about 700 bytes and 13 fields; `more` are further field lines."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *HEADER_LINES, *more]
    return "\r\n".join([*lines, "", ""]).encode()


HEAD = head()
"""The head that comes again and again."""

REQUEST: RequestHead = parse_head(HEAD)
"""What the server makes of it."""
