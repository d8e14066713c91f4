"""Any path to any folder, asked of a real server: what a short model of the policy says, and no more.

See `sites.py` for the folders and `filemodel.py` for the policy.
"""

from __future__ import annotations

import os
import re
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from itertools import islice
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

import quick_server
from fuzz.filemodel import MISSING, Listed, Model, Moved, Refused, Served, Verdict
from fuzz.profile import examples
from fuzz.silence import SILENCE
from fuzz.sites import (
    HIDDEN_NAMES,
    MARK,
    NAMES,
    PLAIN_NAMES,
    SITES,
    USUAL,
    Binding,
    Link,
    Site,
    on_disk,
)
from quick_server import create_server
from quick_server.testclient import TestClient, TestResponse

pytestmark = pytest.mark.timeout(0)

LEGAL = re.compile(r"/[!-~]*")  # as far as the parser is concerned


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    quick_server.set_log_file(SILENCE)
    yield
    quick_server.set_log_file(None)


@contextmanager
def serving(site: Site, base: Path) -> Iterator[TestClient]:
    server = create_server(("127.0.0.1", 0))
    server.base_path = str(base)
    server.directory_listing = site.listing
    server.follow_symlinks = site.follows_links
    for binding in site.bindings:
        (server.bind_path_fallback if binding.fallback else server.bind_path)(
            binding.name, binding.folder
        )
    server.add_file_patterns(site.white, blacklist=False)
    server.add_file_patterns(site.black, blacklist=True)
    try:
        yield server.test_client()
    finally:
        server.server_close()


class _Hrefs(HTMLParser):
    """Where the links of a page lead."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name == "href"]


def path_of(target: str) -> str:
    return target.partition("#")[0].partition("?")[0]


def verdict_of(answer: TestResponse, target: str, expected: Verdict) -> Verdict:
    """What an answer says, in the model's words."""
    match answer.status:
        case 200 if isinstance(expected, Listed):
            names = [unquote_to_bytes(href) for href in _Hrefs(answer.text).found if href != "../"]
            assert len(names) == len(set(names))
            return Listed(frozenset(names))
        case 200:
            return Served(answer.body)
        case 301:
            path, question, query = target.partition("#")[0].partition("?")
            place = "/" + path.lstrip("/") + "/" + (question + query if query else "")
            assert answer.headers["Location"] == place
            return Moved()
        case 403:
            return Refused()
    assert answer.status in (404, 414), (answer, answer.text)
    return MISSING


# ---- paths ------------------------------------------------------------------------------------


def every_byte(name: bytes) -> str:
    return "".join(f"%{byte:02x}" for byte in name)


def as_it_is(name: bytes) -> str:
    return name.decode("latin-1")


SPELLINGS = st.sampled_from(
    [
        quote,
        quote,
        quote,
        every_byte,
        as_it_is,
        lambda name: quote(quote(name)),
        lambda name: every_byte(name).upper(),
    ]
)
HOSTILE = st.sampled_from(
    [
        "..", ".", "%2e%2e", "%2E.", ".%2e", "%2e", "..%2f", "%2f", "..%5c", "..\\", "\\", "%5c", "%00",
        "a.txt%00", "%c0%ae%c0%ae", "%c0%af", "%e0%80%ae", "%252e%252e", "%25%32%65", "c:", "c%3a",
        "C:%5c", "nul", "CON.txt", "a.txt.", "a.txt%20", "a.txt::$DATA", "%ff", "%", "%2", "%zz",
        "%u002e", "...", "", ";", "a.txt;x", "*", "~", "~root", "%0d%0a", "%0a", "\x00", "\x7f", "\xff",
        " ", "a" * 300, "%61" * 3000, "x/" * 2000, f"www-{MARK}", MARK, f"{MARK}.txt", "www", "more",
    ]
)  # fmt: skip
SEGMENTS = st.one_of(
    st.builds(lambda spell, name: spell(name), SPELLINGS, NAMES),
    st.sampled_from(PLAIN_NAMES + HIDDEN_NAMES),
    HOSTILE,
    st.text("%25ecf.a/\\:" + string.ascii_lowercase, max_size=8),
    st.text(st.characters(max_codepoint=255), max_size=5),
)
ENDS = st.sampled_from(["", "", "", "/", "//", "?", "?a=/../b", "#a", "/?x=1"])
TARGETS = st.builds(
    lambda start, parts, end: start + "/".join(parts) + end,
    st.sampled_from(["/", "/", "/", "//", "/www/", "/sub/", "/./", "/../", "/x/../"]),
    st.lists(SEGMENTS, max_size=5),
    ENDS,
)


def mutated(target: str, at: int, piece: str) -> str:
    """With a piece put in somewhere."""
    at = 1 + at % len(target)
    return target[:at] + piece + target[at:]


# ---- any path ---------------------------------------------------------------------------------


@examples(0.5)
@given(SITES, st.lists(TARGETS, max_size=8), st.data())
def test_any_path(site: Site, targets: list[str], data: st.DataObject) -> None:
    with on_disk(site) as base, serving(site, base) as client:
        model = Model(site, base)
        found = islice(places(base / "www", 3), 200)
        names = ["/", *map(path_below_root(base), found)]
        for _ in range(4):
            known = data.draw(st.sampled_from(names))
            targets.append(mutated(known, data.draw(st.integers(0, 60)), data.draw(SEGMENTS)))
        for target in targets:
            if "\r" in target or "\n" in target:  # that is another request
                continue
            check(client, model, target)


def check(client: TestClient, model: Model, target: str) -> None:
    expected = model.answer(path_of(target)) if LEGAL.fullmatch(target) else MISSING
    answer = client.get(target)
    if not model.lets_out:
        assert MARK.encode() not in answer.body.replace(path_of(target).encode(), b""), target
    if answer.status == 400:
        assert not LEGAL.fullmatch(target), target
        return
    if answer.status == 414:
        assert len(target) > 8000
        return
    assert verdict_of(answer, target, expected) == expected, target
    head = client.request("HEAD", target)
    assert (head.status, head.body) == (answer.status, b"")
    assert head.headers["Content-Length"] == answer.headers["Content-Length"]
    event(type(expected).__name__)


# ---- every file -------------------------------------------------------------------------------


def places(folder: Path, depth: int) -> Iterator[Path]:
    """All that is below a folder, through links too, however they lead in circles."""
    for name in sorted(os.listdir(folder)):
        place = folder / name
        yield place
        if depth and place.is_dir():
            yield from places(place, depth - 1)


def path_below_root(base: Path) -> Callable[[Path], str]:
    return lambda place: "/" + quote(bytes(place.relative_to(base / "www")))


@examples(0.25)
@given(SITES)
@example(Site(USUAL | {b"d": Link(".git/a.txt")}, {}, [Binding("/", "www")]))
@example(Site(USUAL | {b"b.txt": Link("c.json")}, {}, [Binding("/", "www")], white=["*.txt"]))
def test_every_file_by_its_own_name(site: Site) -> None:
    """What should be served is: also the second time, when it is remembered."""
    with on_disk(site) as base, serving(site, base) as client:
        model = Model(site, base)
        named = path_below_root(base)
        for place in islice(places(base / "www", 2), 30):
            for _ in range(2):
                check(client, model, named(place))
            if place.is_dir():
                check(client, model, named(place) + "/")
        check(client, model, "/")
        for binding in site.bindings:
            check(client, model, binding.name)
            check(client, model, binding.name + "a.txt")
