"""Whole requests to a real server: what fields and bodies may come to, and files in parts.

The answers of files are compared with models that are as plain as the RFC's text: the bytes that a
range names, and the steps of RFC 9110 section 13.2.2.
"""

from __future__ import annotations

import email
import os
from collections.abc import Iterator
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

import quick_server
from fuzz.forms import Sent, encode
from fuzz.profile import examples
from fuzz.silence import SILENCE
from fuzz.test_forms import BODIES, FILES, NAMES, TEXT
from fuzz.test_values import TREES, VALUES
from quick_server import QuickServerRequestHandler, ReqArgs, create_server
from quick_server.protocol.writer import http_date
from quick_server.testclient import TestClient, TestResponse
from tests.protocol.test_conditional import SPEC, Spec, naive_precondition, naive_ranges

pytestmark = pytest.mark.timeout(0)

SIZES = {"small.txt": 40, "big.txt": 100_000, "empty.txt": 0}
MODIFIED = 784111777
PLAIN_FIELD = VALUES.map(
    lambda text: "".join(c for c in text if c == "\t" or (" " <= c <= "\xff" and c != "\x7f")).strip()
)


def echo(req: QuickServerRequestHandler, args: ReqArgs) -> dict[str, Any]:
    """All that a handler can learn."""
    cookie = args["cookie"]
    assert cookie is None or isinstance(cookie, SimpleCookie)
    return {
        "query": args["query"],
        "post": args["post"],
        "files": {
            name: [file.filename, file.content_type, file.read().decode("latin-1")]
            for name, file in args["files"].items()
        },
        "cookie": cookie and {name: morsel.value for name, morsel in cookie.items()},
        "host": req.get_original_host(),
        "padding": "x" * 2000,
    }


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    quick_server.set_log_file(SILENCE)
    for name, size in SIZES.items():
        (tmp_path / name).write_bytes(content(size))
        os.utime(tmp_path / name, (MODIFIED, MODIFIED))
    server = create_server(("127.0.0.1", 0))
    server.cross_origin = ["https://example.org"]
    server.bind_path("/", str(tmp_path))
    server.add_json_get_mask("/echo", echo)
    server.add_json_post_mask("/echo", echo)
    yield server.test_client()
    server.server_close()
    quick_server.set_log_file(None)


def content(size: int) -> bytes:
    return bytes(at % 251 for at in range(size))


# ---- any field, any body --------------------------------------------------------------------------

FIELDS = st.sampled_from(
    [
        "Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Connection",
        "Content-Encoding", "Content-Type", "Cookie", "Expect", "Forwarded", "From", "Host", "If-Match",
        "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Last-Event-ID",
        "Origin", "Range", "Referer", "TE", "Upgrade", "User-Agent", "X-Forwarded-For",
        "X-Forwarded-Host", "Access-Control-Request-Method", "Access-Control-Request-Headers",
        "Sec-Fetch-Site",
    ]
)  # fmt: skip
POSSIBLE = {200, 204, 206, 304, 400, 403, 404, 405, 411, 412, 413, 416, 417, 421}


@examples(1)
@given(
    st.sampled_from(["GET", "HEAD", "POST", "OPTIONS"]),
    st.sampled_from(["/echo?a=b", "/small.txt", "/big.txt", "/echo", "/nothing"]),
    st.dictionaries(FIELDS, PLAIN_FIELD, max_size=4),
)
def test_any_fields(client: TestClient, method: str, path: str, fields: dict[str, str]) -> None:
    answer = client.request(method, path, headers=fields | {"Connection": "close"})
    assert answer.status in POSSIBLE, (answer, answer.text)
    assert client.get("/echo").status == 200


TYPES = st.sampled_from(
    [
        "application/json", "application/x+json; charset=utf-16", "application/json; charset=x",
        "text/plain", "application/x-www-form-urlencoded",
        "application/x-www-form-urlencoded; charset=shift_jis", "multipart/form-data",
        "multipart/form-data; boundary=limit", 'multipart/form-data; boundary="li\\mit"',
        "multipart/form-data; boundary=limit; charset=utf-16",
        "multipart/form-data; boundary="+"x" * 201, "MULTIPART/FORM-DATA;BOUNDARY=limit",
        "multipart/mixed; boundary=limit",
    ]
)  # fmt: skip


@examples(0.5)
@given(
    TYPES | PLAIN_FIELD,
    BODIES | st.binary(max_size=50) | VALUES.map(lambda text: text.encode("utf-8", "replace")),
)
def test_any_body(client: TestClient, ctype: str, body: bytes) -> None:
    answer = client.post("/echo", body=body, headers={"Content-Type": ctype})
    assert answer.status in (200, 400, 413), (answer, answer.text)


# ---- what good clients send -------------------------------------------------------------------------


@examples(0.5)
@given(st.dictionaries(TEXT.filter(bool), TEXT, max_size=5), TREES)
def test_forms_and_json_come_back(client: TestClient, form: dict[str, str], value: Any) -> None:
    assert client.post("/echo", form=form).json()["post"] == form
    if value is not None:
        assert client.post("/echo", json=value).json()["post"] == value


@examples(0.5)
@given(st.lists(st.tuples(NAMES.filter(bool), TEXT | FILES), max_size=5))
def test_multipart_comes_back(client: TestClient, parts: list[tuple[str, str | Sent]]) -> None:
    boundary = "----a-boundary-that-is-in-no-content"
    ctype = f"multipart/form-data; boundary={boundary}"
    answer = client.post("/echo", body=encode(parts, boundary), headers={"Content-Type": ctype}).json()
    assert answer["post"] == {name: value for name, value in parts if isinstance(value, str)}
    assert answer["files"] == {
        name: [value.filename, value.content_type, value.content.decode("latin-1")]
        for name, value in parts
        if isinstance(value, Sent)
    }


# ---- files in parts ---------------------------------------------------------------------------------


def parts_of(answer: TestResponse) -> list[tuple[str, bytes]]:
    """The place and content of each part of a 206, read by somebody else."""
    ctype = answer.headers["Content-Type"]
    if not ctype.startswith("multipart/byteranges"):
        return [(answer.headers["Content-Range"], answer.body)]
    boundary = ctype.partition("boundary=")[2].encode()
    pieces = answer.body.split(b"--" + boundary)
    assert (pieces[0], pieces[-1]) == (b"", b"--\r\n")
    parts = []
    for piece in pieces[1:-1]:
        head, _, body = piece.partition(b"\r\n\r\n")
        fields = email.message_from_bytes(head.removeprefix(b"\r\n"))
        assert fields["Content-Type"].startswith("text/plain")
        parts.append((fields["Content-Range"], body.removesuffix(b"\r\n")))
    return parts


@examples(0.5)
@given(st.sampled_from(sorted(SIZES)), st.lists(SPEC, min_size=1, max_size=5), st.integers(0, 3))
def test_ranges_of_files(client: TestClient, name: str, specs: list[Spec], scale: int) -> None:
    size = SIZES[name]
    if size > 1000:  # the same places, further apart
        specs = [tuple(n and n * 10**scale for n in spec) for spec in specs]  # type: ignore[misc] # pairs stay pairs
    field = "bytes=" + ", ".join(f"{'' if a is None else a}-{'' if b is None else b}" for a, b in specs)
    answer = client.get("/" + name, headers={"Range": field})
    expected = naive_ranges(specs, size)
    whole = content(size)
    if not size and any(first is None and last for first, last in specs):
        expected = None  # the end of nothing is the whole of nothing
    if expected is None:
        assert (answer.status, answer.body) == (200, whole), field
    elif not expected:
        assert (answer.status, answer.headers["Content-Range"]) == (416, f"bytes */{size}"), field
    else:
        assert answer.status == 206, field
        assert parts_of(answer) == [
            (f"bytes {part[0]}-{part[-1]}/{size}", whole[part[0] : part[-1] + 1]) for part in expected
        ]


LETTERS = st.none() | st.just("*") | st.text("ab", max_size=3)
TIMES = st.none() | st.integers(MODIFIED - 1, MODIFIED + 1)


@examples(0.5)
@given(
    st.sampled_from(["GET", "HEAD"]),
    st.sampled_from(sorted(SIZES)),
    LETTERS,
    TIMES,
    LETTERS,
    TIMES,
    st.booleans(),
)
def test_preconditions_of_files(
    client: TestClient,
    method: str,
    name: str,
    match: str | None,
    until: int | None,
    none: str | None,
    since: int | None,
    in_part: bool,
) -> None:
    tags = {"a": f'"{crc32(content(SIZES[name])):08x}"', "b": '"00000001"', "*": "*"}
    fields = {
        "If-Match": match and ", ".join(tags[letter] for letter in match),
        "If-None-Match": none and ", ".join(tags[letter] for letter in none),
        "If-Unmodified-Since": None if until is None else http_date(until),
        "If-Modified-Since": None if since is None else http_date(since),
        "Range": "bytes=1-2" if in_part else None,
    }
    sent = {name: value for name, value in fields.items() if value is not None}
    answer = client.request(method, "/" + name, headers=sent)
    verdict = naive_precondition(method, MODIFIED, match, until, none, since)
    if verdict is None and in_part and method == "GET":  # step 5
        verdict = 206 if SIZES[name] else 416
    assert answer.status == (verdict or 200)
    if answer.status == 304:
        assert answer.headers["ETag"] == tags["a"]
        assert answer.body == b""
