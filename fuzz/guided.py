"""Fuzzing that is guided by coverage: `python -m fuzz.guided TARGET [options of libFuzzer] [FILE]`.

It needs atheris, which `make fuzz-atheris` puts into an environment of its own. What holds is the same
as in the Hypothesis tests; only the bytes come from elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import atheris

with atheris.instrument_imports(include=["quick_server", "h11", "multipart"]):
    from fuzz.fieldvalues import check_any_value
    from fuzz.forms import check_any_form, value_or_refusal
    from quick_server.protocol.forms import parse_form, parse_json
    from quick_server.protocol.heads import HeadMemo
    from tests.protocol.reading import bytewise, events, whole


class Target(NamedTuple):
    """What is fed, and what it is fed at first."""

    run: Callable[[bytes], object]
    seeds: list[bytes]
    words: list[bytes]


def check_parser(data: bytes) -> None:
    """The same events at once, byte by byte and in two pieces, known and unknown."""
    memo = HeadMemo()
    seen = whole(data, memo)
    half = len(data) // 2
    assert seen == bytewise(data) == whole(data, memo)
    assert seen == events([piece for piece in (data[:half], data[half:]) if piece], memo)


CHARSETS = ("utf-8", "utf-16", "latin-1", "shift_jis", "gb18030", "euc_jp", "big5hkscs", "cp037")


def check_multipart(data: bytes) -> None:
    """The first byte is the charset, the second the size of pieces."""
    if len(data) < 2:
        return
    body = data[2:]
    parameters = {"boundary": "limit", "charset": CHARSETS[data[0] % len(CHARSETS)]}
    check_any_form(body, range(0, len(body), 1 + data[1]), parameters)


def check_values(data: bytes) -> None:
    """As a field, as a form and as JSON."""
    check_any_value(data.decode("latin-1"))
    for charset in CHARSETS[:4]:
        value_or_refusal(lambda charset=charset: parse_form(data, charset))  # type: ignore[misc] # a default is no argument
        value_or_refusal(lambda charset=charset: parse_json(data, charset))  # type: ignore[misc] # the same


HEAD = b" /a%20b/?c=d HTTP/1.1\r\nHost: localhost\r\n"
PART = b'--limit\r\nContent-Disposition: form-data; name="a"'
TARGETS = {
    "parser": Target(
        check_parser,
        [
            b"GET" + HEAD + b"\r\n",
            b"POST" + HEAD + b"Content-Length: 5\r\n\r\nhelloGET" + HEAD + b"\r\n",
            b"PUT"
            + HEAD
            + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;a=b\r\n!\r\n0\r\nC: d\r\n\r\n",
            b"GET http://localhost/ HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\n\r\n",
            b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        ],
        [
            b"\r\n",
            b"Transfer-Encoding: chunked",
            b"Content-Length: ",
            b"HTTP/1.1",
            b"\r\n0\r\n\r\n",
            b"Host: ",
        ],
    ),
    "multipart": Target(
        check_multipart,
        [
            b"\0\0" + PART + b"\r\n\r\nhello\r\n--limit--\r\n",
            b"\0\3" + PART + b'; filename="b"\r\nContent-Type: text/plain\r\n\r\nhello\r\n--limit--',
            b"\0\7preamble\r\n"
            + PART
            + b"\r\nContent-Length: 2\r\n\r\n\r\n\r\n"
            + PART
            + b"\r\n\r\n\r\n--limit--",
        ],
        [
            b"\r\n",
            b"--limit",
            b"\r\n--limit--",
            b"Content-Length: ",
            b"filename=",
            b"; charset=",
            b'"',
            b"%22",
        ],
    ),
    "values": Target(
        check_values,
        [
            b"a=b&c=d+%20%C3%A4&e",
            b'a=1; b="x\\101\\""; c',
            b"text/html;q=0.5, application/json; q=1.000, */*",
            b'W/"cbf43926", "other", *',
            b"0-1,5-,-7",
            b"Sun, 06 Nov 1994 08:49:37 GMT",
            b"Sun Nov  6 08:49:37 1994",
            b'multipart/form-data; boundary="a\\"b"; charset=utf-8',
            b"http://user@[::1]:80/a/../b?c#d",
            b'{"a": [1e9, -0.5, null, "\\ud800"]}',
        ],
        [
            b"gzip",
            b"identity",
            b"bytes=",
            b"; q=",
            b"://",
            b"localhost",
            b"\xef\xbb\xbf",
            b"1e999",
            b"NaN",
        ],
    ),
}


def main(name: str, options: list[str]) -> None:
    """Goes on until the time is up or something does not hold."""
    target = TARGETS[name]
    corpus = Path(".fuzz") / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    words = Path(".fuzz") / f"{name}.dict"
    quoted = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words)
    words.write_text("".join(f'"{word}"\n' for word in quoted))
    arguments = [f"-dict={words}", f"-artifact_prefix=.fuzz/{name}-", "-max_len=2000", *options]
    if all(option.startswith("-") for option in options):  # else it is files that are to be tried again
        arguments.append(str(corpus))
    atheris.Setup([name, *arguments], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
