"""A request as a command for a shell, which sends it again.

The commands need nothing but POSIX `sh`, `printf` and `curl` (`nc` for bytes that are no request).
"""

from __future__ import annotations

import re
import shlex
from urllib.parse import urlsplit

from .request import Request, Sent

_ESCAPES = {0x0A: r"\n", 0x0D: r"\r", 0x09: r"\t", 0x5C: r"\\", 0x25: "%%", 0x27: r"\047"}
_DOTS = re.compile(r"/\.{1,2}(/|$|\?)|%2e", re.IGNORECASE)  # segments that curl would resolve
_GLOBS = re.compile(r"[\[\]{}]")


def curl(sent: Sent, url: str, *options: str) -> str:
    r"""The command that sends a request to the server at `url` (`http://localhost:8000`).

    `options` are further ones for curl. Bytes become a command with `nc`.

    >>> print(curl(Request("GET", "/double?n=x"), "http://localhost:8000"))
    curl -i 'http://localhost:8000/double?n=x'
    >>> print(curl(Request("PUT", "/n", (("Content-Type", "text/plain"),), b"a"), "http://localhost:8000"))
    curl -i -X PUT -H 'Content-Type: text/plain' -d a http://localhost:8000/n
    >>> print(curl(b"GET / HTTP/9.9\r\n\r\n", "http://localhost:8000"))
    printf 'GET / HTTP/9.9\r\n\r\n' | nc localhost 8000
    """
    if isinstance(sent, bytes):
        place = urlsplit(url)
        return f"printf {_printf(sent)} | nc {place.hostname} {place.port}"
    body = _argument(sent.body) if sent.body is not None else None
    words = ["curl", *_method(sent), *_url_options(sent, url), *options, *_fields(sent)]
    if body is not None:
        words += ["-d" if not body.startswith(("@", "'@")) else "--data-raw", body]
    elif sent.body is not None:
        words += ["--data-binary", "@-"]
    words.append(shlex.quote(url.rstrip("/") + sent.target))
    command = " ".join(words)
    is_piped = sent.body is not None and body is None
    return f"printf {_printf(sent.body or b'')} | {command}" if is_piped else command


def _method(request: Request) -> list[str]:
    if request.method == "HEAD":
        return ["-I"] if request.body is None else ["-i", "-I", "-X", "HEAD"]
    if request.method == ("GET" if request.body is None else "POST"):
        return ["-i"]
    return ["-i", "-X", request.method]


def _url_options(request: Request, url: str) -> list[str]:
    path = request.target.partition("?")[0]
    options = {
        "-k": url.startswith("https:"),
        "--path-as-is": _DOTS.search(path) is not None,
        "--globoff": _GLOBS.search(request.target) is not None,
    }
    return [option for option, is_needed in options.items() if is_needed]


def _fields(request: Request) -> list[str]:
    words: list[str] = []
    for name, value in request.headers:
        # `Name:` has curl leave out its own; `Name;` sends one without a value
        text = f"{name}:" if value is None else f"{name}: {value}" if value else f"{name};"
        data = text.encode("latin-1")
        words += ["-H", _argument(data) or f'"$(printf {_printf(data)})"']
    named = {name.lower() for name, _ in request.headers}
    if request.body is not None and "content-type" not in named:
        words += ["-H", "Content-Type:"]
    return words


def _argument(data: bytes) -> str | None:
    """The bytes as one word of a command; None if they cannot be read by people."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None
    return shlex.quote(text) if text.isprintable() else None


def _printf(data: bytes) -> str:
    """The bytes as a format for `printf`."""
    return "'" + "".join(map(_printed, data)) + "'"


def _printed(byte: int) -> str:
    if byte in _ESCAPES:
        return _ESCAPES[byte]
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"
