"""Error pages: small and plain, HTML for people, JSON for programs that prefer it."""

from __future__ import annotations

import html
import json

from .grammar import weights
from .messages import REASONS, Outcome, RequestHead


def error_outcome(
    status: int,
    message: str = "",
    request: RequestHead | None = None,
    fields: bytes = b"",
    *,
    close: bool = False,
) -> Outcome:
    """The answer that says what went wrong, in the form that the request's Accept field prefers."""
    accept = request.headers.get("accept", "") if request is not None else ""
    return Outcome(status, *_page(status, message, accept, fields), close)


def _page(status: int, message: str, accept: str, fields: bytes) -> tuple[bytes, bytes]:
    reason = REASONS.get(status, "Error")
    message = message or reason
    if prefers_json(accept):
        text = json.dumps({"error": status, "reason": reason, "message": message})
        return fields + b"Content-Type: application/json\r\n", text.encode()
    title = f"{status} {html.escape(reason)}"
    text = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title></head>\n'
        f"<body><h1>{title}</h1><p>{html.escape(message)}</p></body></html>\n"
    )
    fields += b"Content-Type: text/html; charset=utf-8\r\n"
    return fields, text.encode("utf-8", "backslashreplace")


def prefers_json(accept: str) -> bool:
    """Whether an Accept field ranks JSON above HTML (RFC 9110 section 12.5.1).

    >>> prefers_json("application/json, text/plain, */*")
    True
    >>> prefers_json("text/html,application/xhtml+xml,*/*;q=0.8")
    False
    """
    if "json" not in accept:
        return False
    wanted = weights(accept)
    return wanted.get("application/json", 0.0) > wanted.get("text/html", 0.0)
