"""Folders as users have them, and as attackers would like them: made on a real disk.

A site is a bound folder `www`, a second one `more`, and what lies beside them and must never be
served. The content of each file says where it is, so that an answer tells which file it is of.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeAlias

from hypothesis import strategies as st

MARK = "SECRET"
"""What every name and every file outside of the bound folders holds."""


class Link(NamedTuple):
    """A symbolic link; `{base}` in its goal is the absolute path of the site."""

    goal: str


@dataclass(frozen=True)
class Pipe:
    """A FIFO: opening it to read would wait for ever."""


@dataclass(frozen=True)
class Unreadable:
    """A file that nobody may read (but root)."""


class Text(NamedTuple):
    """A file; its content is its place, and enough to be told by its size too."""

    padding: int


Folder: TypeAlias = dict[bytes, "Node"]
Node: TypeAlias = Text | Link | Pipe | Unreadable | Folder


@dataclass(frozen=True)
class Binding:
    """A mapping, as it is given to the server."""

    name: str
    folder: str
    fallback: bool = False

    @property
    def prefix(self) -> tuple[str, ...]:
        return tuple(filter(None, self.name.split("/")))


@dataclass(frozen=True)
class Site:
    """What is on the disk, and how it is served."""

    www: Folder
    more: Folder
    bindings: list[Binding]
    white: list[str] = field(default_factory=list)
    black: list[str] = field(default_factory=list)
    listing: bool = False
    follows_links: bool = False


PLAIN_NAMES = ["a.txt", "b", "c.json", "index.html", "index.htm", "d", "e.js", "e.js.gz", "sub"]
HIDDEN_NAMES = [".git", ".env", "...", "..a", ".a.txt"]
ODD_NAMES = [
    "a b.txt", " ", "x.", "x ", "ü.txt", "日本", "u\u0308.txt", "100%.txt", "%2e%2e", "%00", "%",
    "a%2fb", "a+b",
    "a&amp;b", '"q"', "<b>", "'", "a\nb", "a\tb", "\x7f", "\x01", "?", "#", "a;b", "*", "[a]",
    "~", "c:", "C:x", "nul", "con.txt", "a\\b", "\\", "\\\\host", "$x", "\u202e", "favicon.ico",
]  # fmt: skip

NAME_BYTES = st.integers(1, 255).filter(lambda byte: byte != ord("/"))
NAMES = st.one_of(
    st.sampled_from(PLAIN_NAMES).map(os.fsencode),
    st.sampled_from(PLAIN_NAMES).map(os.fsencode),
    st.sampled_from(HIDDEN_NAMES + ODD_NAMES).map(os.fsencode),
    st.lists(NAME_BYTES, min_size=1, max_size=6)
    .map(bytes)
    .filter(lambda name: name not in (b".", b"..")),
)
GOALS = st.sampled_from(
    [
        "a.txt", "b", "sub", "./d", "sub/a.txt", ".", "..", "../a.txt", "../..", "index.html", ".git",
        ".env", ".git/a.txt", "a.txt/", "a.txt/..", "nowhere", "c.json", "sub/d",
        "{base}", "{base}/www", "{base}/www/a.txt", "{base}/www/sub", "{base}/more",
        "{base}/more/a.txt",
        f"{{base}}/{MARK}", f"{{base}}/{MARK}/{MARK}.txt", f"{{base}}/www-{MARK}/{MARK}.txt",
        f"../{MARK}", f"../{MARK}/{MARK}.txt", f"../../{MARK}", f"../../{MARK}/{MARK}.txt",
        f"../www-{MARK}", f"../www/../{MARK}", f"sub/../../{MARK}", "/dev/null", "/dev/zero",
    ]
)  # fmt: skip
TEXTS = st.builds(Text, st.sampled_from([0, 0, 10, 70_000]))
LEAVES: st.SearchStrategy[Node] = st.one_of(
    TEXTS, TEXTS, TEXTS, GOALS.map(Link), GOALS.map(Link), st.just(Pipe()), st.just(Unreadable())
)


def folders(children: st.SearchStrategy[Node], most: int) -> st.SearchStrategy[Folder]:
    return st.dictionaries(NAMES, children, max_size=most)


DEEPEST = folders(LEAVES, 3)
DEEPER = folders(LEAVES | DEEPEST, 4)
USUAL: Folder = {
    b"a.txt": Text(0),
    b"c.json": Text(0),
    b".env": Text(0),
    b".git": {b"a.txt": Text(0)},
    b"sub": {b"a.txt": Text(0), b"d": {b"b": Text(0)}},
}
"""What links and lists find something in."""
TREES = st.builds(
    lambda usual, more: usual | more,
    st.sampled_from([{}, USUAL, USUAL]),
    folders(LEAVES | LEAVES | DEEPER, 6),
)
PATTERNS = st.sampled_from(
    [
        "*.txt", "*.json", "*.html", "*", "*/a*", "*/sub", "*/sub/*", "*/www/b", "*/d/*", "[!/]*",
        "*[ab]", f"*{MARK}*", "*.js", "*.gz", "*/.git*", "*.TXT", "*\\*", "*\n*", "*/www", "*/more/*",
    ]
)  # fmt: skip
BINDINGS = st.builds(
    Binding,
    st.sampled_from(["/", "/www/", "/sub/", "/d/sub/", "/b/"]),
    st.sampled_from(["www", "www", "more", "www/sub", "www/d", "www/nowhere", "more/../www"]),
    st.booleans(),
)
SITES = st.builds(
    Site,
    TREES,
    DEEPER,
    st.lists(BINDINGS, max_size=2).map(lambda some: [Binding("/", "www"), *some]),
    st.just([]) | st.lists(PATTERNS, max_size=3),
    st.just([]) | st.lists(PATTERNS, max_size=2),
    st.booleans(),
    st.sampled_from([False, False, True]),
)


@contextmanager
def on_disk(site: Site) -> Iterator[Path]:
    """The site in a temporary folder, which goes away with all that is in it."""
    place = Path(os.path.realpath(tempfile.mkdtemp(prefix="site-")))
    base = place / "of" / "one"  # links that lead up do not get out of what is ours
    try:
        base.mkdir(parents=True)
        place.chmod(0o755)
        _make(base, {b"www": site.www, b"more": site.more}, base)
        for name in (MARK, f"www-{MARK}"):
            (base / name).mkdir()
            for inner in (f"{MARK}.txt", "a.txt", "b", "index.html", f".{MARK}"):
                (base / name / inner).write_text(f"{MARK} {name}/{inner}")
        yield base
    finally:
        shutil.rmtree(place)


def _make(place: Path, folder: Folder, base: Path) -> None:
    for name, node in folder.items():
        path = place / os.fsdecode(name)
        match node:
            case Text():
                path.write_bytes(bytes(path) + b"\n" + b"x" * node.padding)
            case Link():
                path.symlink_to(node.goal.format(base=base))
            case Pipe():
                os.mkfifo(path)
            case Unreadable():
                path.write_bytes(bytes(path))
                path.chmod(0)
            case _:
                path.mkdir()
                _make(path, node, base)
