"""Cases 32 to 36: ranges, conditional requests, and files that are there but not to be had.

nginx serves the same folder; the other peers have no files of their own.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.faults.conftest import Observed
from tests.faults.messages import MIB, ask, get
from tests.faults.talk import Talk
from tests.harness import PATIENCE
from tests.integration.scripts import Script
from tests.wire.origins import FILE, SERVERS

# ---- 32, 33: ranges and conditions ------------------------------------------------------------


@pytest.mark.peers("nginx")
def test_32_one_range(talk: Talk, observed: Observed) -> None:
    """206 for one range."""
    heard = ask(talk, "/file.txt", "Range: bytes=10-19")
    observed(heard)
    assert (heard.statuses[0], heard.header("content-range")) == (206, "bytes 10-19/1000")
    assert heard.bodies[0] == FILE[10:20]


@pytest.mark.peers("nginx")
def test_32_several_ranges(talk: Talk, observed: Observed) -> None:
    """206 as `multipart/byteranges` for several."""
    heard = ask(talk, "/file.txt", "Range: bytes=0-1,10-12,-3")
    ctype = heard.header("content-type") or ""
    observed(heard, ctype.partition(";")[0])
    assert heard.statuses[0] == 206
    boundary = ctype.partition("multipart/byteranges; boundary=")[2].strip('"').encode()
    parts = heard.bodies[0].split(b"--" + boundary)
    assert [part.partition(b"\r\n\r\n")[2].strip() for part in parts[1:-1]] == [b"01", b"012", b"789"]


@pytest.mark.peers("nginx")
def test_32_a_range_that_is_not_there(talk: Talk, observed: Observed) -> None:
    """416 with `bytes */n`; kept."""
    heard = ask(talk, "/file.txt", "Range: bytes=1000-")
    observed(heard, heard.header("content-range"))
    assert str(heard) == "416, keeps"
    assert heard.header("content-range") == "bytes */1000"


@pytest.mark.peers("nginx")
def test_32_if_range(talk: Talk, observed: Observed) -> None:
    """If-Range with the entity tag: the part; with another: the whole file."""
    tag = ask(talk, "/file.txt").header("etag")
    fits, other = (
        ask(talk, "/file.txt", "Range: bytes=0-1", f"If-Range: {value}") for value in (tag, '"other"')
    )
    observed(fits.statuses[0], other.statuses[0])
    assert [fits.bodies[0], other.bodies[0]] == [FILE[:2], FILE]


MANY = {
    "17": ",".join(f"{start}-{start}" for start in range(0, 34, 2)),
    "1,000": ",".join("0-" for _ in range(1000)),
    "overlapping": "0-99,50-149",
}


@pytest.mark.peers("nginx")
@pytest.mark.parametrize("ranges", MANY.values(), ids=MANY)
def test_32_too_many_ranges(talk: Talk, observed: Observed, ranges: str) -> None:
    """More than 16, or overlapping ones: the whole file."""
    heard = ask(talk, "/file.txt", f"Range: bytes={ranges}")
    observed(heard, f"{len(heard.bodies[0])} bytes")
    assert (heard.statuses[0], heard.bodies[0]) == (200, FILE)


@pytest.mark.peers("nginx")
def test_33_conditional_requests_read_nothing(talk: Talk, root: Path, observed: Observed) -> None:
    """A 304, or a HEAD, reads nothing of a file whose content was hashed before."""
    path = root / "tagged.bin"
    path.write_bytes(os.urandom(MIB))
    while time.time() < path.stat().st_ctime + 0.1:  # until then it may change unnoticed
        os.sched_yield()
    tag = ask(talk, "/tagged.bin").header("etag")
    before = bytes_read(talk.origin.pid)
    heard = talk(get("/tagged.bin", f"If-None-Match: {tag}") * 20, probe=True)
    heads = talk(get("/tagged.bin", method="HEAD") * 20, heads_only=range(20), probe=True)
    read = bytes_read(talk.origin.pid) - before
    observed(heard, "reads the file" if read >= MIB else "reads nothing")
    assert heard.statuses == [304] * 20 + [200]
    assert heads.statuses == [200] * 21
    assert read < MIB // 4


@pytest.mark.peers("nginx")
def test_33_a_changed_file_is_noticed(talk: Talk, root: Path, observed: Observed) -> None:
    """Hashes are remembered by device, inode, time and size: another file of that time is noticed."""
    path, other = root / "replaced.txt", root / "other.txt"
    path.write_bytes(b"one")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    tag = ask(talk, "/replaced.txt").header("etag")
    other.write_bytes(b"two")
    os.utime(other, (1_000_000_000, 1_000_000_000))
    other.replace(path)
    heard = ask(talk, "/replaced.txt", f"If-None-Match: {tag}")
    observed(heard)
    assert heard.bodies[0] == b"two"


def bytes_read(pid: int) -> int:
    """What the process has read so far, from files and from the network."""
    return int(re.findall(r"rchar: (\d+)", Path(f"/proc/{pid}/io").read_text())[0])


# ---- 34, 35: slashes, and files that cannot be opened -----------------------------------------


@pytest.mark.peers("nginx")
@pytest.mark.parametrize("target", ["/file.txt/", "/file.txt/x", "/file.txt//", "/file.txt/."])
def test_34_a_slash_behind_a_file(talk: Talk, observed: Observed, target: str) -> None:
    """404; kept."""
    heard = ask(talk, target)
    observed(heard)
    assert str(heard) == "404, keeps"


REDIRECTS = [
    "//evil.example",
    "///evil.example",
    "/.//evil.example",
    "/%2fevil.example",
    "/%5cevil.example",
]


@pytest.mark.peers("nginx")
@pytest.mark.parametrize("target", REDIRECTS)
def test_34_redirects_stay_here(talk: Talk, root: Path, observed: Observed, target: str) -> None:
    """Redirects to folders stay on this host, whatever stands in front of the name."""
    (root / "evil.example").mkdir(exist_ok=True)
    (root / "\\evil.example").mkdir(exist_ok=True)
    heard = ask(talk, target)
    location = heard.header("location") or ""
    leaves = re.match(r"[/\\]{2}|[a-z]+:(?!//(localhost|127\.0\.0\.1)[:/])", location)
    observed(heard, "leaves this host" if leaves else "stays")
    assert not leaves
    assert heard.statuses[0] in (301, 308, 400, 404)


def unprivileged() -> list[str]:
    """A prefix for a command that may not read everything; root's has to give that up."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may read everything, and setpriv is missing")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


@pytest.mark.peers("nginx")
def test_35_no_permission(origin_name: str, tmp_path: Path, observed: Observed) -> None:
    """403."""
    with SERVERS[origin_name](tmp_path, unprivileged()) as origin:
        (origin.root / "closed.txt").write_text("here")
        (origin.root / "closed.txt").chmod(0)
        heard = ask(Talk(origin), "/closed.txt")
    observed(heard)
    assert str(heard) == "403, keeps"


@pytest.mark.peers("nginx")
def test_35_no_descriptors(origin_name: str, tmp_path: Path, observed: Observed) -> None:
    """503 with Retry-After while the process is out of descriptors; 200 as soon as there are some."""
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit is missing")
    with SERVERS[origin_name](tmp_path, ["prlimit", "--nofile=64:64"]) as origin, ExitStack() as stack:
        (origin.root / "unseen.txt").write_text("here")
        client = stack.enter_context(closing(origin.connect()))
        assert client.request("GET", "/file.txt").status == 200
        others = [stack.enter_context(closing(origin.connect())) for _ in range(64)]
        deadline = time.monotonic() + PATIENCE
        while len(os.listdir(f"/proc/{origin.pid}/fd")) < 64 and time.monotonic() < deadline:
            os.sched_yield()
        answer = client.request("GET", "/unseen.txt")
        retry = answer.get("retry-after")
        observed(f"{answer.status}, {'with' if retry else 'without'} Retry-After")
        for other in others:
            other.close()
        assert answer.status == 503
        assert int(retry or "0") > 0
        with closing(origin.connect()) as late:
            assert late.request("GET", "/unseen.txt").body == b"here"


# ---- 36: lists --------------------------------------------------------------------------------

BLACK = [
    "/private/x.txt", "/private//x.txt", "//private/x.txt", "/./private/x.txt",
    "/private/../private/x.txt", "/priv%61te/x.txt",
    "/private%2fx.txt", "/private/x%2etxt", "/private/x.txt?a", "/link.txt",
    "/folder/x.txt", "/.hidden", "/%2ehidden", "/data.bin",
]  # fmt: skip


@pytest.mark.peers("nginx")
def test_36_lists(start: Callable[..., Script], tmp_path: Path) -> None:
    """Black and white lists hold for every spelling, conditional requests, ranges and listings."""
    www = tmp_path / "www"
    (www / "private").mkdir(parents=True)
    for name in ("private/x.txt", "x.txt", ".hidden", "data.bin"):
        (www / name).write_text("here")
    (www / "link.txt").symlink_to("private/x.txt")
    (www / "folder").symlink_to("private")
    client = start("""server.bind_path("/", "www")
server.directory_listing = True
server.add_default_white_list()
server.add_file_patterns(["*/private/*"], True)""").connect()
    tag = client.request("GET", "/x.txt").get("etag") or ""
    for target in BLACK:
        for fields in ({}, {"If_None_Match": "*"}, {"If_None_Match": tag}, {"Range": "bytes=0-1"}):
            answer = client.request("GET", target, b"", **fields)
            assert (answer.status, answer.get("etag")) == (404, None), (target, fields)
    page = client.request("GET", "/").body
    assert b"x.txt" in page
    assert not re.search(rb"hidden|data\.bin|link\.txt", page)
    assert b"x.txt" not in client.request("GET", "/private/").body


@pytest.mark.peers("nginx")
def test_36_listings_are_escaped(start: Callable[..., Script], tmp_path: Path) -> None:
    """Names in listings are text, whatever they hold."""
    (tmp_path / "www").mkdir()
    for name in ('<b>&".txt', "javascript:alert(1)", "a%2e#?.txt"):
        (tmp_path / "www" / name).write_text(name)
    client = start('server.bind_path("/", "www")\nserver.directory_listing = True').connect()
    page = client.request("GET", "/").body.decode()
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;" in page
    links = [link for link in re.findall(r'href="([^"]*)"', page) if "alert" in link or "a%25" in link]
    assert len(links) == 2
    assert not any(link.startswith("javascript:") for link in links)
    for link in links:
        assert client.request("GET", "/" + link.removeprefix("./").removeprefix("/")).status == 200
