"""Who may ask: the Host and Origin of a request, and what CORS tells browsers. Pure.

A page elsewhere can make a browser send requests to a tool on this machine, under a name of its own
(DNS rebinding) or as a form. The Host must therefore name this machine while the server listens on
loopback only, and requests that change something must not come from another site's page.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Sequence

from .protocol.messages import Headers, RequestHead
from .protocol.writer import field_line

_ADDRESS = re.compile(r"[0-9.]+|\[[0-9A-Fa-f:.]+\]")
_TOKENS = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z, -]*")
_CHANGING = frozenset(("POST", "PUT", "PATCH", "DELETE"))
_LONGEST_ORIGIN = 300
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
_VARY = b"Vary: Origin\r\n"


@functools.lru_cache(maxsize=256)
def host_name(authority: str) -> str:
    """The host of `host:port`, in lower case; every name of this machine's loopback is `localhost`.

    >>> host_name("[::1]:8080"), host_name("App.Localhost")
    ('localhost', 'localhost')
    """
    host = authority.lower()
    if not host.endswith("]"):
        name, colon, port = host.rpartition(":")
        if colon and (port.isdigit() or not port):
            host = name
    host = host.rstrip(".")
    if host in ("127.0.0.1", "[::1]", "localhost") or host.endswith(".localhost"):
        return "localhost"
    return host


def is_own_host(authority: str | None, allowed: Collection[str]) -> bool:
    """Whether a Host field may name a server that listens on loopback."""
    if authority is None or "*" in _several(allowed):
        return True
    host = host_name(authority)
    return host == "localhost" or bool(_ADDRESS.fullmatch(host)) or _is_listed(host, allowed)


def is_foreign(
    head: RequestHead, allowed: Collection[str], setting: bool | Collection[str] = False
) -> bool:
    """Whether a request must not be taken, as it comes from a page of another site.

    That is: one that changes something, or one for another protocol, as browsers let any page open a
    WebSocket to anywhere, and read all of it. `allowed` are hosts whose pages may send such requests,
    and a list in `setting` has whole origins. With True all may, but for a WebSocket with credentials:
    those go to listed origins only.
    """
    upgrades = "upgrade" in head.headers
    if setting is True:
        if not upgrades or not _has_credentials(head.headers):
            return False
    elif not upgrades and head.method not in _CHANGING:
        return False
    origins = () if isinstance(setting, bool) else setting
    origin = head.headers.get("origin")
    if origin is not None and len(origin) > _LONGEST_ORIGIN:
        return True
    if origin is None or "*" in _several(allowed):
        return False
    if origin in _several(origins) and origin != "null":
        return False
    host = host_name(origin.partition("://")[2])
    return host != host_name(head.headers.get("host", "")) and not _is_listed(host, allowed)


def _is_listed(host: str, allowed: Collection[str]) -> bool:
    return any(host == host_name(name) for name in _several(allowed))


def _several(names: Collection[str]) -> Collection[str]:
    """The names in a setting; a str is one of them, and not all that are a part of it."""
    return (names,) if isinstance(names, str) else names


def cors_fields(headers: Headers, setting: bool | Sequence[str]) -> bytes:
    """The field lines with which an answer lets pages of other origins read it.

    `True` lets all read that come without credentials; a request with a cookie or an Authorization
    field gets its own origin named, as `*` is never valid there. A list of origins names those, and
    lets them send credentials. The origin `null` can be anybody's and gets nothing.
    """
    origin = headers.get("origin")
    if not isinstance(setting, bool):
        if origin is None or origin not in _several(setting) or origin == "null":
            return _VARY
        credentials = b"Access-Control-Allow-Credentials: true\r\n"
        return field_line("Access-Control-Allow-Origin", origin) + credentials + _VARY
    if origin == "null":
        return _VARY
    if origin is not None and _has_credentials(headers):
        return field_line("Access-Control-Allow-Origin", origin) + _VARY
    return b"Access-Control-Allow-Origin: *\r\n"


def _has_credentials(headers: Headers) -> bool:
    return "cookie" in headers or "authorization" in headers


def preflight_fields(headers: Headers) -> bytes:
    """What answers a preflight, besides `cors_fields`: any method, and the headers it asks for."""
    wanted = headers.get("access-control-request-headers", "")
    fields = field_line("Access-Control-Allow-Methods", _METHODS)
    if wanted.strip() and _TOKENS.fullmatch(wanted):
        fields += field_line("Access-Control-Allow-Headers", wanted)
        return fields + b"Access-Control-Max-Age: 0\r\n"
    return fields + b"Access-Control-Max-Age: 600\r\n"
