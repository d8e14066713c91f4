"""What of a request goes to an upstream, and what of its response comes back.

The policy, in order:

1. A path goes to the upstream as the client has encoded it, less the prefix. Dot segments are resolved
   as they are for routing. One that only shows once encoded slashes, backslashes or path parameters
   are taken for what some servers take them for could be read in two ways: 400.
2. Fields that concern one connection stay there, both ways (RFC 9110 section 7.6.1), and so do those
   that Connection names, unless they concern everybody: nobody can have us forget whose request it is.
3. What we say about the client (X-Forwarded-*, Forwarded, Via) is added after that, behind what other
   proxies have said.
4. Everything else is passed on as it came, in order, duplicates included. Nothing of it can split a
   message: every field passes `any_field_line`.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import AddressValueError, IPv6Address
from typing import Literal, NamedTuple
from urllib.parse import quote

from .client import ResponseHead
from .grammar import TOKEN
from .messages import ProtocolError, RequestHead
from .target import split
from .writer import any_field_line

_PSEUDONYM = "quick_server"  # in Via: a name for all servers of this kind, as no host is told

_SCHEME = re.compile(r"(https?)://", re.IGNORECASE)
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[0-9A-Za-z._~-]+)(?::([0-9]{1,5}))?")
_PATH = re.compile(
    r"[!$-;=@-_a-z~|]*"
)  # visible ASCII without " # < > ? ` { } and the rest of RFC 3986
_TARGET = re.compile(r"[\x21-\x7e]+")
_SOCKET_PATH = 107  # sizeof(sun_path) less its end
_PORTS = {"http": 80, "https": 443}

_SEPARATORS = re.compile(r"[/\\]")

_HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authentication-info proxy-authorization "
    "proxy-connection te trailer transfer-encoding upgrade http2-settings".split()
)
"""Those of RFC 9110 section 7.6.1. We ask for no proxy credentials and have none to pass on."""
_OURS = frozenset("forwarded via x-forwarded-for x-forwarded-host x-forwarded-proto".split())
_REPLACED = _OURS | {"host", "content-length", "proxy"}
"""Fields of requests that we write anew; CGI programs take Proxy for the variable HTTP_PROXY."""
_PROTECTED = _OURS | frozenset(
    "accept-ranges age authorization cache-control content-disposition content-encoding "
    "content-language content-length content-location content-range content-security-policy "
    "content-type cookie date etag expect expires host if-match if-modified-since if-none-match "
    "if-range if-unmodified-since last-modified location origin pragma range referer set-cookie "
    "strict-transport-security vary www-authenticate x-content-type-options x-frame-options "
    "x-real-ip".split()
)
"""Fields that are meant for everybody, so that Connection cannot take them away."""
_IMPERSONATED = _OURS | _HOP_BY_HOP | {"host", "content-length"}
"""Fields whose names programs behind CGI and WSGI cannot tell from those with underscores."""

_QUOTED = r'"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
_WORD = TOKEN.decode("ascii")
_PAIR = rf"{_WORD}=(?:{_WORD}|{_QUOTED})"
_FORWARDED = re.compile(rf"{_PAIR}(?:[ \t]*[;,][ \t]*{_PAIR})*")
_IPV4 = re.compile(r"[0-9.]+")
_PROTOCOLS = re.compile(rf"{_WORD}(?:/{_WORD})?(?:[ \t]*,[ \t]*{_WORD}(?:/{_WORD})?)*")
_CARRIES_REQUESTS = frozenset(("h2", "h2c", "http", "tls"))


class Route(NamedTuple):
    """Which paths go to which upstream."""

    prefix: str
    """Decoded; starts and ends with a slash."""
    scheme: Literal["http", "https"]
    host: str
    """A name or an address without brackets, for Host and TLS; `localhost` for a Unix socket."""
    port: int
    socket_path: str | None
    """Of a Unix socket."""
    path: str
    """What stands in front of the rest; starts with a slash, and ends with one only if it is `/`."""
    preserve_host: bool
    """The upstream is told the Host that the client has sent."""
    rewrite: bool
    """Locations and cookies are turned into what the client sees."""

    @property
    def authority(self) -> str:
        """The host as a Host field names it: with the port unless it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_route(prefix: str, url: str, *, preserve_host: bool = False, rewrite: bool = False) -> Route:
    """Takes the upstream's URL apart: `http://…`, `https://…` or `unix:/path.sock:/path`.

    Raises ValueError that says what is wrong, and repeats nothing: a URL may hold a password.

    >>> parse_route("/foo/", "http://localhost:8080/bar/").path
    '/bar'
    """
    if not prefix.startswith("/") or not prefix.endswith("/"):
        raise ValueError(f"the prefix {prefix!r} must start and end with a slash")
    if any(part in ("", ".", "..") for part in prefix[1:-1].split("/")) and prefix != "/":
        raise ValueError(f"the prefix {prefix!r} has an empty or a dot segment")
    if "?" in url:
        raise ValueError("the upstream's URL must not have a query: that is the client's")
    if "#" in url:
        raise ValueError("the upstream's URL must not have a fragment")
    if url.startswith("unix:"):
        socket_path, path = _socket(url)
        path = _upstream_path(path)
        return Route(prefix, "http", "localhost", 80, socket_path, path, preserve_host, rewrite)
    scheme, host, port, path = _origin(url)
    return Route(prefix, scheme, host, port, None, _upstream_path(path), preserve_host, rewrite)


def _socket(url: str) -> tuple[str, str]:
    socket_path, _, path = url.removeprefix("unix:").partition(":")
    if not socket_path.startswith("/") or "\0" in socket_path:
        raise ValueError("the upstream's socket must be an absolute path: unix:/path.sock:/path")
    if len(socket_path.encode("utf-8", "surrogateescape")) > _SOCKET_PATH:
        raise ValueError(f"the path of a socket has at most {_SOCKET_PATH} bytes")
    return socket_path, path


def _origin(url: str) -> tuple[Literal["http", "https"], str, int, str]:
    found = _SCHEME.match(url)
    if not found:
        raise ValueError("the upstream's URL must start with http://, https:// or unix:")
    scheme: Literal["http", "https"] = "https" if found[1].lower() == "https" else "http"
    authority, slash, path = url[found.end() :].partition("/")
    if "@" in authority:
        raise ValueError("the upstream's URL must not have a user name or a password")
    parts = _AUTHORITY.fullmatch(authority)
    if not parts:
        raise ValueError("the upstream's URL must have a host, and a port if it has a colon")
    host, port = parts[1].lower(), int(parts[2] or _PORTS[scheme])
    if not 0 < port < 1 << 16:
        raise ValueError(f"there is no port {port}")
    if host.startswith("["):
        host = host[1:-1]
        try:
            known = IPv6Address(host)
        except AddressValueError:
            known = None
        if known is None or known.scope_id:  # a zone would have no meaning in Host
            raise ValueError(f"{host!r} is not an IPv6 address")
    return scheme, host, port, slash + path


def _upstream_path(path: str) -> str:
    if path and not path.startswith("/"):
        raise ValueError("the path in the upstream's URL must start with a slash")
    if not _PATH.fullmatch(path):
        raise ValueError("the path in the upstream's URL has characters that must be encoded")
    if _has_dots(path) or any(map(_is_hidden_way_up, split(path))):
        raise ValueError("the path in the upstream's URL has dot segments")
    return path.rstrip("/") or "/"


# ---- requests -----------------------------------------------------------------------------------


def upstream_target(route: Route, head: RequestHead) -> str:
    """The request target for the upstream: the route's path, what follows the prefix, the query.

    Raises ProtocolError (400) if the path leaves the prefix, or might, depending on who reads it.
    """
    if head.target.raw == "*":
        if route.prefix != "/" or route.path != "/":
            raise ProtocolError(400, "the request is about no path")
        return "*"
    path = head.target.path
    rest = _rest_of_path(route.prefix, path, head.target.segments)
    base = "" if route.path == "/" else route.path
    target = base + "".join(f"/{part}" for part in rest) or "/"
    if "?" in head.target.raw.partition("#")[0]:
        target += f"?{head.target.query}"
    if not _TARGET.fullmatch(target):
        raise ProtocolError(400, "the request target has illegal characters")
    return target


def _rest_of_path(prefix: str, path: str, segments: tuple[str, ...] | None) -> list[str]:
    """The encoded segments behind the prefix; the last one is empty if a slash ends the path."""
    names = split(path)
    if segments is None or any(map(_is_hidden_way_up, names)):
        raise ProtocolError(400, "the path leaves what is served here")
    parts = path[1:].split("/")
    if any(name in (".", "..") for name in names):
        parts = _resolve(parts, names)
        names = split("/" + "/".join(parts))
    at = 0
    for expected in filter(None, prefix.split("/")):
        while at < len(names) and not names[at]:
            at += 1
        if at == len(names) or names[at] != expected:
            raise ProtocolError(400, "the path leaves what is served here")
        at += 1
    while at < len(parts) - 1 and not parts[at]:  # `//host` at a path's start might become a host
        at += 1
    return parts[at:]


def _resolve(parts: list[str], names: list[str]) -> list[str]:
    """As `target.resolve` does, but keeps the encoding, and the slash at the end."""
    kept: list[str] = []
    for part, name in zip(parts, names, strict=True):
        if name == "..":
            kept.pop()
        elif name not in ("", "."):
            kept.append(part)
    if names[-1] in ("", ".", ".."):
        kept.append("")
    return kept


def _has_dots(path: str) -> bool:
    return any(name in (".", "..") for name in split(path))


def _is_hidden_way_up(segment: str) -> bool:
    """Whether a decoded segment is none but holds one, for those who decode or cut it further.

    >>> _is_hidden_way_up("a/../b"), _is_hidden_way_up("..;x"), _is_hidden_way_up("..")
    (True, True, False)
    """
    if ".." not in segment or segment == "..":
        return False
    return any(piece.partition(";")[0] == ".." for piece in _SEPARATORS.split(segment))


def wants_upgrade(head: RequestHead) -> bool:
    """Whether a request asks for another protocol in a way that is passed on (RFC 9110 section 7.8).

    Not with content, as it would stand between the request and the tunnel, and not for protocols
    that carry requests: those would be answered without anybody here having seen them.
    """
    if head.version != "1.1" or head.has_body or head.method == "HEAD":
        return False
    wanted = head.headers.get("upgrade", "")
    if "upgrade" not in _options(head.headers.get_all("connection")):
        return False
    if not _PROTOCOLS.fullmatch(wanted):
        return False
    names = {protocol.strip().partition("/")[0].lower() for protocol in wanted.split(",")}
    return not names & _CARRIES_REQUESTS


def request_head(
    route: Route, head: RequestHead, client: str, scheme: str, *, chunked: bool, upgrade: bool
) -> bytes:
    """The whole head for the upstream.

    `client` is the address of who sent the request, empty if it has none; `scheme` is how it came.
    `chunked`: content follows in chunks, whatever the client has announced; otherwise it is as long
    as the client has said. Raises ProtocolError (400) as `upstream_target` does.
    """
    assert chunked or not head.chunked  # its length is not known
    start = f"{head.method} {upstream_target(route, head)} HTTP/1.1\r\n"
    host = head.headers.get("host", "")
    lines = [start.encode("ascii")]
    lines.append(any_field_line("Host", host if route.preserve_host and host else route.authority))
    for name, value in _end_to_end(head.headers.fields, impersonated=_IMPERSONATED):
        if name.lower() not in _REPLACED:
            lines.append(any_field_line(name, value))
    lines += _about_client(head, client, scheme, host)
    if chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif "content-length" in head.headers:
        lines.append(b"Content-Length: %d\r\n" % head.content_length)
    if upgrade:
        lines.append(b"Connection: Upgrade\r\n")
        lines += [any_field_line("Upgrade", value) for value in head.headers.get_all("upgrade")]
    lines.append(b"\r\n")
    return b"".join(lines)


def _about_client(head: RequestHead, client: str, scheme: str, host: str) -> list[bytes]:
    """The fields that tell where a request came from, behind what they say already."""
    client = client.partition("%")[0]  # an address's zone means nothing elsewhere
    element = f"for={_node(client)};proto={scheme}"
    if host:
        element += f";host={_quote(host)}"
    forwarded = head.headers.get("forwarded")
    if forwarded is not None and not _FORWARDED.fullmatch(forwarded):
        forwarded = None  # an open quotation would swallow our part
    return [
        _appended("X-Forwarded-For", head.headers.get("x-forwarded-for"), client or "unknown"),
        _appended("X-Forwarded-Proto", head.headers.get("x-forwarded-proto"), scheme),
        _appended("X-Forwarded-Host", head.headers.get("x-forwarded-host"), host),
        _appended("Forwarded", forwarded, element),
        _appended("Via", head.headers.get("via"), f"{head.version} {_PSEUDONYM}"),
    ]


def _appended(name: str, before: str | None, value: str) -> bytes:
    parts = [part for part in (before, value) if part]
    return any_field_line(name, ", ".join(parts)) if parts else b""


def _node(client: str) -> str:
    """An address as RFC 7239 section 6 wants it.

    >>> _node("::1"), _node("127.0.0.1"), _node("")
    ('"[::1]"', '127.0.0.1', 'unknown')
    """
    if ":" in client:
        return f'"[{client}]"'
    return client if _IPV4.fullmatch(client) else "unknown"


def _quote(text: str) -> str:
    if re.fullmatch(_WORD, text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# ---- responses ----------------------------------------------------------------------------------


def response_fields(route: Route, head: ResponseHead, client_scheme_and_host: tuple[str, str]) -> bytes:
    """Finished field lines for the client, without those that frame the message.

    The pair is the scheme and the authority under which the client sees us; it counts for
    `route.rewrite` only. With 101 and 426, Upgrade and the Connection that announces it are kept.
    """
    lines: list[bytes] = []
    via: list[str] = []
    rewriters = _rewriters(route, *client_scheme_and_host) if route.rewrite else {}
    for name, value in _end_to_end(head.fields):
        lower = name.lower()
        if lower == "via":
            via.append(value)
        elif lower != "content-length":
            rewriter = rewriters.get(lower)
            lines.append(any_field_line(name, rewriter(value) if rewriter else value))
    lines.append(_appended("Via", ", ".join(via), f"{head.version} {_PSEUDONYM}"))
    if head.status in (101, 426):
        upgrades = [value for name, value in head.fields if name.lower() == "upgrade"]
        lines += [any_field_line("Upgrade", value) for value in upgrades]
        lines += [b"Connection: Upgrade\r\n"] if upgrades else []
    return b"".join(lines)


def _rewriters(route: Route, scheme: str, host: str) -> dict[str, Callable[[str], str]]:
    def location(value: str) -> str:
        return _rewrite_location(route, value, scheme, host)

    def cookie(value: str) -> str:
        return _rewrite_cookie(route, value)

    return {"location": location, "content-location": location, "set-cookie": cookie}


_REFERENCE = re.compile(r"(?is)(?:(https?):)?(?://([^/?#]*))?([^?#]*)((?:[?#].*)?)")


def _rewrite_location(route: Route, value: str, scheme: str, host: str) -> str:
    """A reference that points below the route's path as the client has to spell it."""
    found = _REFERENCE.fullmatch(value)
    assert found is not None  # whatever it is, it has a path, which may be empty
    said_scheme, authority, path, tail = found.groups()
    if authority is None and (said_scheme or not path.startswith("/")):
        return value  # relative to a path that is the same for the client, or no reference at all
    if authority is not None and not _is_upstream(route, said_scheme, authority, host):
        return value
    rest = _below(route.path, path or "/")
    if rest is None or _has_dots(path):
        return value
    prefix = quote(route.prefix)
    rest = rest.lstrip("/\\ \t")  # to browsers, `//`, `/\\` and `/<TAB>/` start a host
    place = (prefix + rest if rest or path.endswith("/") or not path else prefix[:-1] or "/") + tail
    return f"{scheme}://{host}{place}" if authority is not None and host else place


def _is_upstream(route: Route, scheme: str | None, authority: str, client_host: str) -> bool:
    """Whether an authority is the upstream's, or what the upstream takes for its own."""
    if route.preserve_host and client_host and authority.lower() == client_host.lower():
        return True
    scheme = (scheme or route.scheme).lower()
    found = _AUTHORITY.fullmatch(authority)
    if scheme != route.scheme or not found:
        return False
    host = found[1].lower().strip("[]")
    return host == route.host and int(found[2] or _PORTS[scheme]) == route.port


def _below(base: str, path: str) -> str | None:
    """What follows `base` in a path at or below it; None elsewhere.

    >>> _below("/bar", "/bar/x"), _below("/bar", "/bar"), _below("/bar", "/bare")
    ('/x', '', None)
    """
    if base == "/":
        return path
    if path == base or path.startswith(base + "/"):
        return path[len(base) :]
    return None


def _rewrite_cookie(route: Route, value: str) -> str:
    """A Set-Cookie field with Path and Domain as the client has to have them.

    A Domain that is the upstream's goes: the cookie is for the host that the client talks to. One
    whose name demands the path `/` stays as it is (RFC 6265bis section 4.1.3.2).
    """
    first, *attributes = value.split(";")
    if first.lstrip().lower().startswith("__host-"):
        return value
    kept = [first]
    for attribute in attributes:
        name, equals, said = attribute.partition("=")
        key, said = name.strip(" \t").lower(), said.strip(" \t")
        if key == "domain" and said.lower().removeprefix(".") == route.host:
            continue
        path = _cookie_path(route, said) if key == "path" else None
        kept.append(attribute if path is None else f"{name}{equals}{path}")
    return ";".join(kept)


def _cookie_path(route: Route, path: str) -> str | None:
    """A cookie's path for the client; None for one that has nothing to do with the route's."""
    if not path.startswith("/"):
        return None  # the default: the path of the request, as the client sees it
    prefix = quote(route.prefix)
    rest = _below(route.path, path)
    if rest is not None and rest.strip("/"):
        return prefix + rest.lstrip("/")
    if rest is not None or _below(path.rstrip("/") or "/", route.path) is not None:
        return prefix[:-1] or "/"  # without the slash it is good for the prefix itself, too
    return None


# ---- both ---------------------------------------------------------------------------------------


def _options(values: Iterable[str]) -> set[str]:
    return {option.strip(" \t").lower() for value in values for option in value.split(",")}


def _end_to_end(
    fields: tuple[tuple[str, str], ...], impersonated: frozenset[str] = frozenset()
) -> list[tuple[str, str]]:
    """The fields that are not only about the connection on which they came."""
    named = _options(value for name, value in fields if name.lower() == "connection")
    dropped = _HOP_BY_HOP | (named - _PROTECTED)
    kept = []
    for name, value in fields:
        lower = name.lower()
        if lower in dropped or ("_" in name and lower.replace("_", "-") in impersonated):
            continue
        kept.append((name, value))
    return kept
