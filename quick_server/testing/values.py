"""Values as clients send them, most of them odd: texts, JSON, segments of paths, queries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, TypeAlias
from urllib.parse import quote, quote_plus

from hypothesis import strategies as st

Words: TypeAlias = Sequence[str]
"""What the function that is asked knows; see `words_of`."""

ODD_TEXTS = (
    "", "0", "-1", "1", "true", "null", "NaN", "Infinity", "1e400", "0x10", "1_000", "\u0661", "²",
    " 1 ", "2147483648", "-9223372036854775809", "9" * 30, "9" * 400, "1" * 5000, "1.5", "1,5",
    "2024-02-30", "25:61",
    "a b", "é", "e\u0301", "ß", "İ", "\U0001f600", "\u202e", "\u200b", "\ufeff", "\x00", "\x7f",
    "\r\nX-Injected: yes", "\n", "\t", "'", '"', "\\", "<script>", "&amp;", "%", "%s", "{0}", "{}",
    "$HOME", "`id`", "../../nowhere/a", "..", ".", "/", "//", "~", "*", "[", "(", "c:", "nul",
    "a" * 300,
)  # fmt: skip
"""Texts at which functions stumble."""

_KNOWN = 3  # times as many names are known as are odd
_ODD_SEGMENTS = ("%ff", "%00", "%2F", "%2e%2e", "..", ".", "%", "%zz", "+", ";a=b", "a,b", "%c0%af")
_ODD_QUERIES = ("&", "=", "a", "a=1&a=2", "%", "%ff=%ff", "a=%zz", "=&=", "a[]=1", "?", "a=b=c", ";")


def texts(words: Words = ()) -> st.SearchStrategy[str]:
    """Any text, the odd ones and those in `words` more often than others."""
    bent = [f"{word}{more}" for word in words for more in ("", "0", " ", "é", "\x00")]
    bent += [word.upper() for word in words]
    return st.text(max_size=8) | st.sampled_from((*ODD_TEXTS, *bent))


def names(words: Words = ()) -> st.SearchStrategy[str]:
    """Names of fields: mostly those that are known."""
    if not words:
        return st.text("abcxyz", min_size=1, max_size=3) | st.sampled_from(ODD_TEXTS)
    known = tuple(words) * (_KNOWN * len(ODD_TEXTS) // len(words) + 1)
    return st.sampled_from((*known, *ODD_TEXTS))


def json_values(words: Words = ()) -> st.SearchStrategy[Any]:
    """Any value of JSON."""
    numbers = st.integers(-3, 3) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    leaves = st.one_of(st.none(), st.booleans(), numbers, texts(words))
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names(words), inner, max_size=3),
        max_leaves=6,
    )


def json_objects(words: Words = ()) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of JSON, with names that are known."""
    return st.dictionaries(names(words), json_values(words), max_size=5)


def json_text(value: Any) -> bytes:
    """A value as the short JSON that people write."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def segments(words: Words = ()) -> st.SearchStrategy[str]:
    """Segments of a path, encoded; none is empty."""
    text = texts(words).map(lambda text: quote(text, safe="") or "%20")
    return text | st.sampled_from(_ODD_SEGMENTS)


def queries(words: Words = ()) -> st.SearchStrategy[str]:
    """Queries, encoded, with their question mark; or nothing."""
    name, value = names(words).map(quote_plus), texts(words).map(quote_plus)
    pairs = name | st.tuples(name, value).map("=".join)
    query = st.lists(pairs, min_size=1, max_size=5).map("&".join) | st.sampled_from(_ODD_QUERIES)
    return st.just("") | query.map(lambda query: f"?{query}")
