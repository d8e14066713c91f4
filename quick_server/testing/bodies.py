"""Bodies with the header fields that describe them: JSON, forms, uploads, messages to workers."""

from __future__ import annotations

from typing import Any, TypeAlias
from urllib.parse import urlencode

from hypothesis import strategies as st

from .request import Field
from .values import Words, json_objects, json_text, json_values, names, texts

Body: TypeAlias = tuple[tuple[Field, ...], bytes | None]
"""Header fields and content."""

_JSON = ("Content-Type", "application/json")
_FORM = ("Content-Type", "application/x-www-form-urlencoded")
_MULTIPART = ("Content-Type", "multipart/form-data; boundary=b")
_BROKEN_JSON = (
    b"", b"{", b"[1,]", b"nul", b'"\\ud800"', b"NaN", b"1e999", b"\xff", b"\xef\xbb\xbf{}", b"[" * 2000,
    b'{"a":1}{"a":2}', b"'a'", b"1" * 5000,
)  # fmt: skip
_TYPES = (
    "application/json; charset=utf-16", "application/json; charset=nowhere", "text/plain", "text/csv",
    "application/octet-stream", "multipart/form-data", "multipart/form-data; boundary=", "a", "/", "",
)  # fmt: skip
_CONTENTS = (b"", b"a", b"a,b\n1,2\n", b"\x00\xff", b"\x89PNG\r\n\x1a\n", b"PK\x03\x04", b"a" * 5000)


def bodies(words: Words = ()) -> st.SearchStrategy[Body]:
    """Content of any kind that handlers take, and none."""
    nothing: st.SearchStrategy[Body] = st.just(((), None))
    json_body = st.one_of(json_objects(words), json_objects(words), json_values(words)).map(_as_json)
    return st.one_of(nothing, json_body, json_body, _forms(words), _uploads(words), _odd())


def worker_messages(words: Words = ()) -> st.SearchStrategy[Body]:
    """Messages to a worker: mostly starts, with any payload."""
    start = json_objects(words).map(lambda payload: _as_json(start_of(payload)))
    action = st.sampled_from(("get", "stop", "cargo", "start", "", "GET"))
    token = st.sampled_from(("0", 1, -1, 9 * 10**15, "a", None, True, 1.5, "1" * 20)) | json_values()
    other = st.fixed_dictionaries(
        {"action": action, "token": token}, optional={"wait": json_values(), "payload": json_values()}
    ).map(_as_json)
    return st.one_of(start, start, start, other, json_values().map(_as_json), _odd())


def start_of(payload: dict[str, Any]) -> dict[str, Any]:
    """The message that starts a job, and waits a second for its end."""
    return {"action": "start", "payload": payload, "wait": 1000}


def _as_json(value: Any) -> Body:
    return (_JSON,), json_text(value)


def _forms(words: Words) -> st.SearchStrategy[Body]:
    pairs = st.lists(st.tuples(names(words), texts(words)), max_size=4)
    return pairs.map(lambda pairs: ((_FORM,), urlencode(pairs).encode()))


def _uploads(words: Words) -> st.SearchStrategy[Body]:
    file_name = st.none() | st.just("a.txt") | texts(words)
    content = st.sampled_from(_CONTENTS) | texts(words).map(str.encode) | st.binary(max_size=20)
    parts = st.lists(st.tuples(names(words), file_name, content), max_size=3)
    return parts.map(lambda parts: ((_MULTIPART,), b"".join(map(_part, parts)) + b"--b--\r\n"))


def _part(part: tuple[str, str | None, bytes]) -> bytes:
    """A part of a form, with quotes and line ends in names as browsers send them."""
    name, file_name, content = part
    head = f'--b\r\nContent-Disposition: form-data; name="{_quoted(name)}"'
    if file_name is not None:
        head += f'; filename="{_quoted(file_name)}"'
    return head.encode() + b"\r\n\r\n" + content + b"\r\n"


def _quoted(text: str) -> str:
    text = text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
    return "".join(c for c in text if c >= " " and c != "\x7f")


def _odd() -> st.SearchStrategy[Body]:
    broken = st.sampled_from(_BROKEN_JSON).map(lambda data: ((_JSON,), data))
    ctype = st.sampled_from(_TYPES).map(lambda ctype: ("Content-Type", ctype))
    content = st.sampled_from(_CONTENTS) | st.binary(max_size=20)
    untyped = content.map(lambda data: ((), data))
    return st.one_of(broken, st.tuples(st.tuples(ctype), content), untyped)
