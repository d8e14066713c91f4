"""What holds for any text in a header field, a query or a form, whatever it was meant to be.

Shared by the Hypothesis tests and the coverage-guided ones.
"""

from __future__ import annotations

from quick_server.origin import cors_fields, host_name, is_foreign, is_own_host, preflight_fields
from quick_server.protocol.conditional import (
    Validators,
    file_outcome,
    matches,
    parse_date,
    parse_ranges,
    precondition,
)
from quick_server.protocol.cookies import parse_cookies
from quick_server.protocol.encoding import quality, wanted
from quick_server.protocol.errors import prefers_json
from quick_server.protocol.forms import media_type, parse_query
from quick_server.protocol.grammar import weights
from quick_server.protocol.messages import Headers, RequestHead
from quick_server.protocol.target import Target, parse_target

CONTENT = bytes(range(50))
STATE = Validators('"cbf43926"', 784111777.0)


def head(method: str = "GET", target: str = "/", **fields: str) -> RequestHead:
    """A request with these fields: `if_range` is `If-Range`."""
    parsed = parse_target(target)
    assert parsed is not None
    headers = Headers((name.replace("_", "-"), value) for name, value in fields.items())
    return RequestHead(method, parsed, "1.1", headers, 0, False, True, "none")


def check_any_value(text: str) -> None:
    """Each reader of a field makes something of it, and something that is possible."""
    for morsel in parse_cookies(text).values():
        assert morsel.key
        assert ";" not in morsel.coded_value
    for name, value in parse_query(text).items():
        assert isinstance(name, str)
        assert value is True or isinstance(value, str)
    kind, parameters = media_type(text)
    assert kind == kind.strip()
    assert all(name == name.lower() for name in parameters)
    _check_weights(text)
    _check_conditional(text)
    _check_origin(text)
    target = parse_target(text)
    if target is not None:
        check_target(target)


def _check_weights(text: str) -> None:
    assert all(0 <= weight <= 1 for weight in weights(text).values())
    assert 0 <= wanted(text, "gzip") <= quality(text, "gzip") <= 1
    prefers_json(text)


def _check_conditional(text: str) -> None:
    date = parse_date(text)
    assert date is None or date == int(date)
    if matches(text, STATE.tag, strong=True):
        assert matches(text, STATE.tag)
    for name in ("if_match", "if_none_match", "if_modified_since", "if_unmodified_since"):
        assert precondition(head(**{name: text}), STATE) in (None, 304, 412)
    for field in (text, "bytes=" + text):
        request = head(range=field)
        parts = parse_ranges(request, STATE, len(CONTENT)) or []
        assert len(parts) <= 16
        assert all(0 <= part.start < part.stop <= len(CONTENT) for part in parts)
        assert sum(map(len, parts)) <= len(CONTENT)
        outcome = file_outcome(request, b"", "text/plain", CONTENT, STATE)
        assert outcome.status in (200, 206, 416)


def _check_origin(text: str) -> None:
    if host_name(text) == "localhost":
        assert any(name in text.lower() for name in ("localhost", "127.0.0.1", "[::1]"))
    is_own_host(text, ["example.org"])
    request = head("POST", origin=text, host="localhost")
    is_foreign(request, ["example.org"], ["https://a.example"])
    if all(char == "\t" or (" " <= char <= "\xff" and char != "\x7f") for char in text):
        for setting in (True, [text]):
            assert cors_fields(request.headers, setting).count(b"\r\n") <= 3
        asked = head("OPTIONS", access_control_request_headers=text)
        assert preflight_fields(asked.headers).count(b"\r\n") <= 3


def check_target(target: Target) -> None:
    """No dot segment and no empty one is left, and every piece of it is in what was sent."""
    assert target.path.startswith("/")
    assert target.path in target.raw or target.host is not None
    assert not {"", ".", ".."} & set(target.segments or ())
    assert "?" not in target.path + (target.host or "")
