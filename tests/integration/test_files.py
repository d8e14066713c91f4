"""Files: what is served from the bound folders, how, and what never is."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import stat
import time
import zlib
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote, unquote, urljoin, urlsplit

import pytest

import quick_server
from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs, create_server
from tests.harness import PATIENCE, Answer, Client, Running
from tests.integration.scripts import Script

Serve = Callable[[QuickServer], Running]
Files = Callable[..., Running]
Start = Callable[..., Script]

PACKAGE = Path(quick_server.__file__).parent
MISSING = {400, 404}
BIG = 20 * 1024 * 1024  # more than the kernel buffers between two ends of a loopback connection


@pytest.fixture
def files(serve: Serve, www: Path) -> Files:
    """`files(setup)` serves `www` at `/`; `setup` gets the server first."""

    def begin(setup: Callable[[QuickServer], object] = lambda _: None) -> Running:
        server = create_server(("127.0.0.1", 0))
        server.base_path = str(www.parent)
        server.bind_path("/", "www")
        setup(server)
        return serve(server)

    return begin


def tag(content: bytes) -> str:
    return f'"{zlib.crc32(content):x}"'


def max_age(answer: Answer) -> int:
    found = re.search(r"(?:^|[ ,])max-age=(\d+)", answer.get("cache-control") or "")
    assert found, answer
    return int(found[1])


# ---- plain files ------------------------------------------------------------------------------


def test_a_file_as_it_is(files: Files, www: Path) -> None:
    (www / "data.txt").write_bytes(b"one\r\ntwo\n\x00")
    answer = files().get("/data.txt")
    assert (answer.status, answer.body) == (200, b"one\r\ntwo\n\x00")
    assert answer.get("content-length") == "10"


def test_an_empty_file(files: Files, www: Path) -> None:
    (www / "empty.txt").touch()
    client = files().connect()
    assert client.request("GET", "/empty.txt").body == b""
    assert client.request("GET", "/empty.txt").get("content-length") == "0"


def test_a_changed_file_is_served_anew(files: Files, www: Path) -> None:
    run = files()
    for n in range(14):
        content = f"version {'x' * n}"
        (www / "data.txt").write_text(content)
        answer = run.get("/data.txt")
        assert answer.body == content.encode()
        assert answer.get("etag") == tag(content.encode())


def test_a_replaced_file_of_the_same_size_and_time(files: Files, www: Path) -> None:
    run = files()
    (www / "data.txt").write_text("first")
    os.utime(www / "data.txt", (10**9, 10**9))
    assert run.get("/data.txt").get("etag") == tag(b"first")
    (www / "new.txt").write_text("other")
    os.utime(www / "new.txt", (10**9, 10**9))
    (www / "new.txt").replace(www / "data.txt")
    answer = run.get("/data.txt")
    assert (answer.body, answer.get("etag")) == (b"other", tag(b"other"))


def test_a_file_from_the_future_has_changed_just_now(files: Files, www: Path) -> None:
    (www / "data.txt").write_text("from the future")
    tomorrow = time.time() + 86_400
    os.utime(www / "data.txt", (tomorrow, tomorrow))
    answer = files().get("/data.txt")
    changed, sent = (http_time(answer.get(name)) for name in ("last-modified", "date"))
    assert sent - 60 < changed <= sent


def http_time(text: str | None) -> float:
    assert text is not None
    return parsedate_to_datetime(text).timestamp()


def test_a_removed_file_is_gone(files: Files, www: Path) -> None:
    run = files()
    (www / "data.txt").write_text("here")
    assert run.get("/data.txt").status == 200
    (www / "data.txt").unlink()
    assert run.get("/data.txt").status == 404


@pytest.mark.parametrize(
    "name",
    [
        "a b.txt",
        "ü.txt",
        "日本.txt",
        "100%.txt",
        "a+b.txt",
        "a&b.txt",
        "#1?.txt",
        "a;b=c.txt",
        "~.txt",
    ],
)
def test_names_are_percent_decoded(files: Files, www: Path, name: str) -> None:
    (www / name).write_text(name)
    assert files().get("/" + quote(name)).body == name.encode()


def test_the_query_is_no_part_of_the_name(files: Files, www: Path) -> None:
    (www / "data.txt").write_text("here")
    run = files()
    assert run.get("/data.txt?a=/../b").body == b"here"
    assert run.get("/data.txt?").body == b"here"


def test_head_of_a_file(files: Files, www: Path) -> None:
    (www / "data.txt").write_text("here")
    client = files().connect()
    head = client.request("HEAD", "/data.txt")
    get = client.request("GET", "/data.txt")
    assert (head.status, head.get("content-length")) == (200, "4")
    assert head.get("etag") == get.get("etag")
    assert head.get("content-type") == get.get("content-type")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "FROB"])
def test_other_methods_of_a_file(files: Files, www: Path, method: str) -> None:
    (www / "data.txt").write_text("here")
    answer = files().request(method, "/data.txt")
    assert answer.status == 405
    assert {"GET", "HEAD"} <= {name.strip() for name in (answer.get("allow") or "").split(",")}


TYPES = {
    "a.html": ("text/html", True),
    "a.htm": ("text/html", True),
    "a.txt": ("text/plain", True),
    "a.css": ("text/css", True),
    "a.csv": ("text/csv", True),
    "a.md": ("text/markdown", True),
    "a.js": ("text/javascript", True),
    "a.mjs": ("text/javascript", True),
    "a.json": ("application/json", None),
    "a.map": ("application/json", None),
    "a.svg": ("image/svg+xml", None),
    "a.png": ("image/png", False),
    "a.jpg": ("image/jpeg", False),
    "a.jpeg": ("image/jpeg", False),
    "a.gif": ("image/gif", False),
    "a.webp": ("image/webp", False),
    "a.avif": ("image/avif", False),
    "a.pdf": ("application/pdf", False),
    "a.wasm": ("application/wasm", False),
    "a.woff": ("font/woff", False),
    "a.woff2": ("font/woff2", False),
    "a.webmanifest": ("application/manifest+json", None),
    "a.tar.gz": ("application/gzip", False),
    "a.unheardof": ("application/octet-stream", False),
    "without": ("application/octet-stream", False),
}


@pytest.mark.parametrize(("name", "ctype", "charset"), [(n, *t) for n, t in TYPES.items()])
def test_content_types(files: Files, www: Path, name: str, ctype: str, charset: bool | None) -> None:
    (www / name).write_text("x")
    answer = files().get("/" + name)
    kind, _, parameter = (answer.get("content-type") or "").partition(";")
    assert kind == ctype
    if charset is not None:
        assert parameter.strip().lower() == ("charset=utf-8" if charset else "")
    assert answer.get("content-encoding") is None


# ---- what is outside --------------------------------------------------------------------------

ESCAPES = [
    "/../secret.txt",
    "/../../secret.txt",
    "/sub/../../secret.txt",
    "/sub/../../www/../secret.txt",
    "/./../secret.txt",
    "/..//secret.txt",
    "//../secret.txt",
    "/%2e%2e/secret.txt",
    "/.%2e/secret.txt",
    "/%2E./secret.txt",
    "/..%2fsecret.txt",
    "/..%2Fsecret.txt",
    "/%2e%2e%2fsecret.txt",
    "/%2f..%2fsecret.txt",
    "/sub%2f..%2f..%2fsecret.txt",
    "/..%5csecret.txt",
    "/..\\secret.txt",
    "/%2e%2e%5csecret.txt",
    "/..%255csecret.txt",
    "/%252e%252e/secret.txt",
    "/..%252fsecret.txt",
    "/..;/secret.txt",
    "/....//secret.txt",
    "/.../secret.txt",
    "/..%00/secret.txt",
    "/%00/../secret.txt",
    "/../secret.txt%00",
    "/../secret.txt%00.html",
    "/%c0%ae%c0%ae/secret.txt",
    "/%c0%ae%c0%ae%c0%afsecret.txt",
    "/%u002e%u002e/secret.txt",
    "/..%ef%bc%8fsecret.txt",
    "/%e0%80%ae%e0%80%ae/secret.txt",
    "/..%0d%0a/secret.txt",
    "/data.txt/../../secret.txt",
    "/data.txt/../data.txt/../../secret.txt",
    "/C:/secret.txt",
    "/C:%5csecret.txt",
    "/file:///secret.txt",
    "/\\\\localhost\\share\\secret.txt",
    "/%5c%5clocalhost%5cshare%5csecret.txt",
    "http://localhost/../secret.txt",
    "http://localhost/%2e%2e/secret.txt",
    "/../www-secret/secret.txt",
    "/../www-secret",
    "/../wwwsecret.txt",
    "/%2e%2e/www-secret/secret.txt",
    "/..%2fwww-secret%2fsecret.txt",
    "/-secret/secret.txt",
]


@pytest.mark.parametrize("target", ESCAPES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_outside_of_the_folder(files: Files, www: Path, target: str, method: str) -> None:
    (www / "sub").mkdir()
    (www / "data.txt").write_text("here")
    sibling = www.parent / "www-secret"
    sibling.mkdir()
    (sibling / "secret.txt").write_text("secret")
    (www.parent / "wwwsecret.txt").write_text("secret")

    def listed(server: QuickServer) -> None:
        server.directory_listing = True

    answer = files(listed).request(method, target)
    assert answer.status in MISSING
    assert answer.body != b"secret"


@pytest.mark.parametrize("prefix", ["/", "//", "/%2f", "/./", "/sub/../../../../../../../../.."])
def test_absolute_paths_of_the_system(files: Files, www: Path, prefix: str) -> None:
    (www / "sub").mkdir()
    run = files()
    for name in (str(www.parent / "secret.txt"), "/etc/hostname", "/etc/passwd"):
        assert run.get(prefix + name).status in MISSING
        assert run.get(prefix + name.lstrip("/")).status in MISSING
        assert run.get(prefix + quote(name, safe="")).status in MISSING


@pytest.mark.parametrize(
    "name", ["CON", "NUL", "aux.txt", "com1", "con.html", "%00", "x%00.txt", "x%0a"]
)
def test_names_that_mean_something_elsewhere(files: Files, name: str) -> None:
    assert files().get("/" + name).status in MISSING


@pytest.mark.parametrize("target", ["/%", "/%zz", "/%f", "/%ff", "/%80.txt", "/a%"])
def test_odd_escapes_are_just_missing(files: Files, target: str) -> None:
    assert files().get(target).status in MISSING


def test_very_long_names_are_just_missing(files: Files) -> None:
    run = files()
    assert run.get("/" + "a" * 300).status in MISSING
    assert run.get("/" + "a/" * 2500).status in MISSING
    assert run.get("/" + "%61" * 2000).status in MISSING


def test_a_folder_beside_with_a_longer_name(serve: Serve, www: Path) -> None:
    sibling = www.parent / "www-secret"
    sibling.mkdir()
    (sibling / "x.txt").write_text("secret")
    (www / "x.txt").write_text("public")
    (www / "over").symlink_to(sibling)
    server = create_server(("127.0.0.1", 0))
    server.base_path = str(www.parent)
    server.bind_path("/www/", "www")
    run = serve(server)
    assert run.get("/www/x.txt").body == b"public"
    for target in (
        "/www-secret/x.txt",
        "/www/../www-secret/x.txt",
        "/www/-secret/x.txt",
        "/www/over/x.txt",
    ):
        assert run.get(target).status in MISSING


# ---- symbolic links ---------------------------------------------------------------------------


def test_links_that_stay_inside(files: Files, www: Path) -> None:
    (www / "sub").mkdir()
    (www / "sub" / "data.txt").write_text("here")
    (www / "relative.txt").symlink_to("sub/data.txt")
    (www / "absolute.txt").symlink_to(www / "sub" / "data.txt")
    (www / "folder").symlink_to("sub")
    run = files()
    for target in ("/relative.txt", "/absolute.txt", "/folder/data.txt"):
        assert run.get(target).body == b"here"


@pytest.fixture
def outward(www: Path) -> list[str]:
    """Targets that lead out of `www` by a symbolic link."""
    outside = www.parent / "outside"
    outside.mkdir()
    (outside / "data.txt").write_text("secret")
    (www / "relative.txt").symlink_to("../secret.txt")
    (www / "absolute.txt").symlink_to(www.parent / "secret.txt")
    (www / "folder").symlink_to(outside)
    (www / "twice.txt").symlink_to("relative.txt")
    (www / "up").symlink_to("..")
    return ["/relative.txt", "/absolute.txt", "/folder/data.txt", "/twice.txt", "/up/secret.txt"]


def test_links_that_lead_out(files: Files, outward: list[str]) -> None:
    run = files()
    for target in outward:
        assert run.get(target).status == 404, target
        assert run.request("HEAD", target).status == 404
        assert run.get(target, If_None_Match="*").status == 404
    assert run.get("/folder/").status == 404
    assert run.get("/folder").status == 404


def test_links_that_lead_out_when_allowed(files: Files, outward: list[str]) -> None:
    def follow(server: QuickServer) -> None:
        server.follow_symlinks = True

    run = files(follow)
    for target in outward:
        assert run.get(target).body == b"secret", target


def test_links_to_nothing_and_to_themselves(files: Files, www: Path) -> None:
    (www / "dangling.txt").symlink_to("nothing.txt")
    (www / "loop.txt").symlink_to("loop.txt")
    (www / "ping").symlink_to("pong")
    (www / "pong").symlink_to("ping")
    run = files()
    for target in ("/dangling.txt", "/loop.txt", "/ping", "/ping/x.txt", "/pong/"):
        assert run.get(target).status == 404


@pytest.mark.parametrize("path", ["/d/a.txt", "/d/"])
def test_a_link_that_is_a_folder_while_paths_are_resolved(
    files: Files, www: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """A thread of somebody who may write to the folder can be as quick as that."""
    link, folder, outside = www / "d", www.parent / "folder", www.parent / "outside"
    for place in (folder, outside):
        place.mkdir()
        (place / "a.txt").write_text(f"a file {place.name}")
    (outside / "secret.txt").write_text("secret")
    link.symlink_to(outside)
    resolve = os.path.realpath

    def resolve_meanwhile(filename: str) -> str:
        link.unlink()
        folder.rename(link)
        try:
            return resolve(filename)
        finally:
            link.rename(folder)
            link.symlink_to(outside)

    run = files(lambda server: setattr(server, "directory_listing", True))
    monkeypatch.setattr(os.path, "realpath", resolve_meanwhile)
    answer = run.get(path)
    assert answer.status == 404
    assert b"outside" not in answer.body
    assert b"secret" not in answer.body


def test_a_bound_folder_that_is_a_link(serve: Serve, www: Path) -> None:
    (www / "data.txt").write_text("here")
    (www.parent / "link").symlink_to("www")
    server = create_server(("127.0.0.1", 0))
    server.base_path = str(www.parent)
    server.bind_path("/", "link")
    assert serve(server).get("/data.txt").body == b"here"


# ---- things that are no files -----------------------------------------------------------------


def test_a_pipe_is_not_waited_for(files: Files, www: Path) -> None:
    os.mkfifo(www / "pipe.txt")
    run = files()
    for method in ("GET", "HEAD"):
        assert run.request(method, "/pipe.txt").status == 404
    assert run.get("/pipe.txt/").status == 404


def test_many_pipes_hold_no_thread(files: Files, www: Path) -> None:
    os.mkfifo(www / "pipe.txt")
    (www / "data.txt").write_text("here")
    run = files()
    clients = [run.connect() for _ in range(20)]
    for client in clients:
        client.send(b"GET /pipe.txt HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert [client.answer().status for client in clients] == [404] * 20
    assert run.get("/data.txt").status == 200


def test_a_socket_is_no_file(files: Files, www: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(www)  # socket names are short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("sock.txt")
        assert files().get("/sock.txt").status == 404


def test_a_device_is_no_file(files: Files, www: Path) -> None:
    try:
        os.mknod(www / "zero.txt", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("making devices needs privileges")
    assert files().get("/zero.txt").status == 404


# ---- hidden names and lists -------------------------------------------------------------------

HIDDEN = [
    "/.env",
    "/.git/config",
    "/sub/.htaccess",
    "/sub/.cache/x.txt",
    "/%2eenv",
    "/.%67it/config",
]


@pytest.mark.parametrize("target", HIDDEN)
def test_hidden_names(files: Files, www: Path, target: str) -> None:
    path = www / unquote(target).lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("secret")
    run = files()
    assert run.get(target).status == 404
    assert run.request("HEAD", target).status == 404
    assert run.request("POST", target).status == 404
    assert run.get(target, If_None_Match="*").status == 404
    assert run.get(target.rpartition("/")[0] + "/").status == 404


WHITE = [
    *("css", "csv", "eot", "gif", "htm", "html", "ico", "jpeg", "jpg", "js", "json", "md", "otf"),
    *("pdf", "png", "svg", "tsv", "ttf", "txt", "woff", "woff2"),
    *("mjs", "webp", "avif", "wasm", "map", "webmanifest"),
]
NOT_WHITE = ["py", "sh", "php", "exe", "pem", "key", "sqlite", "log", "xhtml", "txt~", "bak", ""]


def test_the_default_white_list(files: Files, www: Path) -> None:
    run = files(lambda server: server.add_default_white_list())
    for ending in WHITE:
        (www / f"a.{ending}").write_text("here")
        assert run.get(f"/a.{ending}").body == b"here", ending
    for ending in NOT_WHITE:
        (www / f"a.{ending}").write_text("secret")
        assert run.get(f"/a.{ending}").status == 404, ending
    (www / "html").write_text("secret")
    assert run.get("/html").status == 404


def test_no_white_list_is_all_white(files: Files, www: Path) -> None:
    run = files()
    for ending in NOT_WHITE:
        (www / f"a.{ending}").write_text("here")
        assert run.get(f"/a.{ending}").body == b"here", ending


def test_own_patterns_add_to_the_white_list(files: Files, www: Path) -> None:
    def lists(server: QuickServer) -> None:
        server.add_default_white_list()
        server.add_file_patterns(["*.py", "*/data/*"], False)

    (www / "data").mkdir()
    for name in ("a.py", "a.html", "data/a.bin", "a.bin"):
        (www / name).write_text("here")
    run = files(lists)
    assert [run.get(f"/{n}").status for n in ("a.py", "a.html", "data/a.bin")] == [200] * 3
    assert run.get("/a.bin").status == 404


def test_folders_work_with_a_white_list(files: Files, www: Path) -> None:
    (www / "sub").mkdir()
    (www / "sub" / "index.html").write_text("here")
    run = files(lambda server: server.add_default_white_list())
    assert run.get("/sub/").body == b"here"
    assert run.get("/sub").status == 301


@pytest.fixture
def blacklisted(files: Files, www: Path) -> Running:
    """A server of `/private/x.txt`, `/private/index.html` and `/x.txt`, the first two black."""

    def lists(server: QuickServer) -> None:
        server.directory_listing = True
        server.add_default_white_list()
        server.add_file_patterns(["*/private/*"], True)

    (www / "private").mkdir()
    for name in ("private/x.txt", "private/index.html", "x.txt"):
        (www / name).write_text(name)
    return files(lists)


SPELLINGS = [
    "/private/x.txt",
    "/private/index.html",
    "/private//x.txt",
    "//private/x.txt",
    "/./private/x.txt",
    "/private/./x.txt",
    "/private/../private/x.txt",
    "/x/../private/x.txt",
    "/priv%61te/x.txt",
    "/private%2fx.txt",
    "/private/x%2etxt",
    "/private/x.txt?a",
    "/private/x.txt/",
    "/private%5cx.txt",
    "http://localhost/private/x.txt",
]


@pytest.mark.parametrize("target", SPELLINGS)
def test_black_beats_white(blacklisted: Running, target: str) -> None:
    assert blacklisted.get("/x.txt").body == b"x.txt"
    assert blacklisted.get(target).status in MISSING
    assert blacklisted.request("HEAD", target).status in MISSING
    assert blacklisted.get(target, If_None_Match="*").status in MISSING
    assert blacklisted.get(target, If_None_Match=tag(b"private/x.txt")).status in MISSING
    assert blacklisted.get(target, Range="bytes=0-1").status in MISSING


def test_black_files_are_neither_index_nor_listed(blacklisted: Running) -> None:
    answer = blacklisted.get("/private/")
    assert answer.body != b"private/index.html"
    assert b"x.txt" not in answer.body


def test_black_files_behind_a_link(files: Files, www: Path) -> None:
    """A pattern holds for the file itself, under whichever name it is asked for."""

    def lists(server: QuickServer) -> None:
        server.add_file_patterns(["*/private/*"], True)

    (www / "private").mkdir()
    (www / "private" / "x.txt").write_text("secret")
    (www / "link.txt").symlink_to("private/x.txt")
    (www / "folder").symlink_to("private")
    run = files(lists)
    assert run.get("/link.txt").status == 404
    assert run.get("/folder/x.txt").status == 404


# ---- mappings ---------------------------------------------------------------------------------


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Folders `a`, `b`, `c`: each with `own-<name>.txt` and `shared.txt`."""
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / f"own-{name}.txt").write_text(name)
        (tmp_path / name / "shared.txt").write_text(name)
    return tmp_path


def bound(serve: Serve, base: Path, *bindings: tuple[str, str, str]) -> Running:
    server = create_server(("127.0.0.1", 0))
    server.base_path = str(base)
    for method, name, folder in bindings:
        getattr(server, method)(name, folder)
    return serve(server)


def test_later_mappings_are_in_front(serve: Serve, folders: Path) -> None:
    run = bound(serve, folders, ("bind_path", "/", "a"), ("bind_path", "/", "b"))
    assert run.get("/shared.txt").body == b"b"
    assert run.get("/own-a.txt").body == b"a"
    assert run.get("/own-b.txt").body == b"b"
    assert run.get("/own-c.txt").status == 404


def test_fallback_mappings_are_behind(serve: Serve, folders: Path) -> None:
    run = bound(
        serve,
        folders,
        ("bind_path_fallback", "/", "c"),
        ("bind_path", "/", "a"),
        ("bind_path_fallback", "/", "b"),
    )
    assert run.get("/shared.txt").body == b"a"
    assert run.get("/own-c.txt").body == b"c"
    assert run.get("/own-b.txt").body == b"b"
    (folders / "a" / "shared.txt").unlink()
    assert run.get("/shared.txt").body == b"c"


def test_mappings_below_each_other(serve: Serve, folders: Path) -> None:
    (folders / "b" / "x").mkdir()
    (folders / "b" / "x" / "shared.txt").write_text("b in x")
    front = bound(serve, folders, ("bind_path", "/", "b"), ("bind_path", "/x/", "a"))
    assert front.get("/x/shared.txt").body == b"a"
    assert front.get("/x/own-a.txt").body == b"a"
    behind = bound(serve, folders, ("bind_path", "/x/", "a"), ("bind_path", "/", "b"))
    assert behind.get("/x/shared.txt").body == b"b in x"
    assert behind.get("/x/own-a.txt").body == b"a"


def test_a_mapping_is_a_whole_segment(serve: Serve, folders: Path) -> None:
    run = bound(serve, folders, ("bind_path", "/x/", "a"))
    assert run.get("/x/shared.txt").body == b"a"
    for target in ("/xshared.txt", "/x-shared.txt", "/shared.txt", "/X/shared.txt"):
        assert run.get(target).status == 404


def test_folders_with_a_slash_and_absolute_ones(serve: Serve, folders: Path) -> None:
    run = bound(serve, folders, ("bind_path", "/", "a/"), ("bind_path", "/b/", str(folders / "b")))
    assert run.get("/shared.txt").body == b"a"
    assert run.get("/b/shared.txt").body == b"b"


@pytest.mark.parametrize("name", ["", "x", "/x", "x/", "x/y"])
@pytest.mark.parametrize("method", ["bind_path", "bind_path_fallback"])
def test_mappings_start_and_end_with_a_slash(method: str, name: str) -> None:
    server = create_server(("127.0.0.1", 0))
    try:
        with pytest.raises(ValueError, match=r"/|slash"):
            getattr(server, method)(name, "www")
    finally:
        server.server_close()


def test_the_base_is_the_current_folder(
    serve: Serve, folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folders)
    server = create_server(("127.0.0.1", 0))
    assert server.base_path == str(Path.cwd())
    server.bind_path("/", "a")
    run = serve(server)
    monkeypatch.chdir("/")
    assert run.get("/shared.txt").body == b"a"


def test_handlers_come_before_files(serve: Serve, folders: Path) -> None:
    server = create_server(("127.0.0.1", 0))
    server.bind_path("/", str(folders / "a"))

    @server.text_get("/shared.txt", 0)
    def shared(req: QuickServerRequestHandler, args: ReqArgs) -> str:
        return "handler"

    run = serve(server)
    assert run.get("/shared.txt").body == b"handler"
    assert run.get("/own-a.txt").body == b"a"


# ---- folders ----------------------------------------------------------------------------------


def test_index_pages(files: Files, www: Path) -> None:
    run = files()
    assert run.get("/").status == 404
    (www / "index.htm").write_text("htm")
    assert run.get("/").body == b"htm"
    (www / "index.html").write_text("html")
    answer = run.get("/")
    assert answer.body == b"html"
    assert answer.get("content-type") == "text/html; charset=utf-8"
    assert answer.get("etag") == tag(b"html")
    assert run.get("/", If_None_Match=tag(b"html")).status == 304
    assert run.request("HEAD", "/").get("content-length") == "4"
    assert run.request("POST", "/").status == 405


@pytest.mark.parametrize("goal", ["nowhere", "index.html", "data.txt/index.html"])
def test_an_index_that_leads_nowhere_is_none(files: Files, www: Path, goal: str) -> None:
    (www / "data.txt").write_text("data")
    (www / "index.html").symlink_to(goal)
    run = files(lambda server: setattr(server, "directory_listing", True))
    assert b"data.txt" in run.get("/").body
    (www / "index.htm").write_text("htm")
    assert run.get("/").body == b"htm"


def test_the_first_mapping_with_an_index(serve: Serve, folders: Path) -> None:
    (folders / "a" / "index.html").write_text("index of a")
    run = bound(serve, folders, ("bind_path", "/", "a"), ("bind_path", "/", "b"))
    assert run.get("/").body == b"index of a"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/sub", "/sub/", ""),
        ("/sub?a=b%20c&d", "/sub/", "a=b%20c&d"),
        ("/sub?next=//evil.example/", "/sub/", "next=//evil.example/"),
        ("/sub/deep", "/sub/deep/", ""),
        ("/a%20b", "/a%20b/", ""),
        ("/%C3%BC", "/%C3%BC/", ""),
        ("/what%3F%23", "/what%3F%23/", ""),
        ("/100%25", "/100%25/", ""),
    ],
)
def test_a_folder_without_its_slash(
    files: Files, www: Path, target: str, path: str, query: str
) -> None:
    for name in ("sub/deep", "a b", "ü", "what?#", "100%"):
        (www / name).mkdir(parents=True)
    for folder in list(www.rglob("*")):
        (folder / "index.html").write_text("index")
    run = files()
    answer = run.get(target)
    assert answer.status == 301
    location = answer.get("location") or ""
    parts = urlsplit(urljoin(run.url + target, location))
    assert parts.netloc in ("localhost", urlsplit(run.url).netloc)
    assert (parts.path, parts.query) == (path, query)
    assert run.get(f"{parts.path}?{parts.query}").body == b"index"
    assert run.request("HEAD", target).status == 301


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "///evil.example",
        "/.//evil.example",
        "//evil.example/sub",
        "//evil.example/..",
        "//evil.example/%2e%2e",
        "/\\evil.example",
        "/%5cevil.example",
        "/%2fevil.example",
        "/%2f%2fevil.example",
        "//evil.example%2f..",
        "//evil.example//",
        "//evil.example/?a",
        "/%09/evil.example",
        "/%0d%0aLocation:%20//evil.example",
        "http://evil.example//evil.example",
        "http://localhost//evil.example",
    ],
)
def test_redirects_stay_on_this_host(files: Files, www: Path, target: str) -> None:
    (www / "evil.example" / "sub").mkdir(parents=True)
    (www / "\\evil.example").mkdir()
    run = files()
    answer = run.get(target)
    location = answer.get("location")
    if location is None:
        assert answer.status in (200, 400, 404, 421)
    else:
        assert not re.match(r"[/\\]{2}|[a-z]+:(?!//(localhost|127\.0\.0\.1)[:/])", location)
        assert "\r" not in location
    assert answer.get("x-evil") is None


def test_a_file_with_a_slash_behind(files: Files, www: Path) -> None:
    (www / "data.txt").write_text("here")
    run = files()
    for target in (
        "/data.txt/",
        "/data.txt/x",
        "/data.txt/index.html",
        "/data.txt//",
        "/data.txt/.",
    ):
        assert run.get(target).status == 404, target


# ---- listings ---------------------------------------------------------------------------------


class Page(HTMLParser):
    """The links of a page, and its text."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.links: list[str] = []
        self.text = ""
        self.tags: set[str] = set()
        self.feed(answer.body.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if tag == "a" and name == "href"]

    def handle_data(self, data: str) -> None:
        self.text += data


def listing(run: Running, target: str = "/") -> tuple[Page, list[str]]:
    """The page and the paths that its links lead to."""
    answer = run.get(target)
    assert answer.status == 200
    assert answer.get("content-type") == "text/html; charset=utf-8"
    page = Page(answer)
    return page, [urljoin(run.url + target, link).removeprefix(run.url) for link in page.links]


@pytest.fixture
def listed(files: Files) -> Running:
    def setup(server: QuickServer) -> None:
        server.directory_listing = True
        server.add_file_patterns(["*.black"], True)

    return files(setup)


def test_no_listing_unless_asked_for(files: Files, www: Path) -> None:
    (www / "sub").mkdir()
    (www / "sub" / "data.txt").touch()
    run = files()
    assert not run.server.directory_listing
    assert run.get("/").status == 404
    assert run.get("/sub/").status == 404


ODD_NAMES = [
    '<b>&".txt',
    "a'b.txt",
    "a b.txt",
    "ü.txt",
    "100%.txt",
    "#1?.txt",
    "javascript:alert(1)",
    "http:evil",
    "a;b.txt",
    "&lt;.txt",
    "{0}.txt",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_names_in_listings_are_escaped(listed: Running, www: Path, name: str) -> None:
    (www / name).write_text("here")
    page, paths = listing(listed)
    assert "b" not in page.tags
    assert name in page.text
    matching = [path for path in paths if unquote(path) == f"/{name}"]
    assert len(matching) == 1, paths
    assert listed.get(matching[0]).body == b"here"


def test_markup_in_names_is_no_markup(listed: Running, www: Path) -> None:
    (www / "<i><em>.txt").touch()
    (www / "<i>").mkdir()
    assert listing(listed)[0].tags.isdisjoint({"i", "em"})
    assert listing(listed, "/%3Ci%3E/")[0].tags.isdisjoint({"i", "em"})


def test_listings_show_sizes_and_dates(listed: Running, www: Path) -> None:
    (www / "sized.txt").write_bytes(b"x" * 7_530_000)
    os.utime(www / "sized.txt", (1_000_000_000, 1_000_000_000))  # 2001-09-09
    text = listing(listed)[0].text
    assert re.search(r"7[.,]5|7[.,]?530|7[.,]18|7[.,]2", text)
    assert "2001" in text


def test_listings_are_sorted(listed: Running, www: Path) -> None:
    for name in ("c.txt", "a.txt", "b.txt", "d.txt"):
        (www / name).touch()
    for name in ("z", "x", "y"):
        (www / name).mkdir()
    paths = listing(listed)[1]
    assert [path for path in paths if path.endswith(".txt")] == [
        "/a.txt",
        "/b.txt",
        "/c.txt",
        "/d.txt",
    ]
    assert [path for path in paths if path in ("/x/", "/y/", "/z/")] == ["/x/", "/y/", "/z/"]


def test_listings_link_up(listed: Running, www: Path) -> None:
    (www / "sub" / "deep").mkdir(parents=True)
    assert "/" in listing(listed, "/sub/")[1]
    assert "/sub/" in listing(listed, "/sub/deep/")[1]


def test_listings_show_only_what_is_served(listed: Running, www: Path, outward: list[str]) -> None:
    (www / "data.txt").touch()
    (www / "sub").mkdir()
    (www / ".hidden").touch()
    (www / "secret.black").touch()
    os.mkfifo(www / "pipe.txt")
    page, paths = listing(listed)
    for path in paths:
        assert listed.get(path).status == 200, path
    assert {"/data.txt", "/sub/"} <= set(paths)
    assert "hidden" not in page.text
    assert "black" not in page.text


def test_an_index_beats_the_listing(listed: Running, www: Path) -> None:
    (www / "index.html").write_text("index")
    assert listed.get("/").body == b"index"


def test_head_of_a_listing(listed: Running) -> None:
    client = listed.connect()
    head = client.request("HEAD", "/")
    assert head.status == 200
    assert head.get("content-length") == str(len(client.request("GET", "/").body))


def test_a_listing_that_is_known_is_a_304(listed: Running, www: Path) -> None:
    known = listed.get("/").get("etag")
    assert known is not None
    again = listed.get("/", If_None_Match=known)
    assert (again.status, again.body, again.get("etag")) == (304, b"", known)
    (www / "more.txt").touch()
    assert listed.get("/", If_None_Match=known).status == 200


def test_a_listing_is_for_reading(listed: Running, www: Path) -> None:
    (www / "sub").mkdir()
    for target in ("/", "/sub/", "/sub"):
        answer = listed.request("POST", target)
        assert answer.status == 405, target
        assert set((answer.get("allow") or "").split(", ")) >= {"GET", "HEAD"}


def test_a_listing_behind_a_link_that_leads_out(files: Files, www: Path, outward: list[str]) -> None:
    def setup(server: QuickServer) -> None:
        server.directory_listing = True
        server.follow_symlinks = True

    assert listing(files(setup), "/folder/")[1] == ["/", "/folder/data.txt"]


def test_listings_with_a_white_list(files: Files, www: Path) -> None:
    def setup(server: QuickServer) -> None:
        server.directory_listing = True
        server.add_default_white_list()

    for name in ("data.txt", "script.py"):
        (www / name).touch()
    (www / "sub").mkdir()
    paths = listing(files(setup))[1]
    assert {"/data.txt", "/sub/"} <= set(paths)
    assert "/script.py" not in paths


def test_a_listing_outlives_what_vanishes_meanwhile(listed: Running, www: Path) -> None:
    (www / "gone").symlink_to("nothing")
    (www / "here.txt").touch()
    assert listing(listed)[1] == ["/here.txt"]


# ---- the script of the workers ----------------------------------------------------------------


@pytest.mark.parametrize("method", ["link_worker_js", "link_legacy_worker_js"])
def test_the_script_of_the_workers_has_a_twin(files: Files, method: str) -> None:
    run = files(lambda server: getattr(server, method)("/js/worker.js"))
    script, module = run.get("/js/worker.js"), run.get("/js/worker.mjs")
    assert script.body == (PACKAGE / "js" / "worker.js").read_bytes()
    assert module.body == (PACKAGE / "js" / "worker.mjs").read_bytes()
    for answer in (script, module):
        assert answer.get("content-type") == "text/javascript; charset=utf-8"


def test_a_script_under_another_name_has_no_twin(files: Files) -> None:
    run = files(lambda server: server.link_worker_js("/worker"))
    assert run.get("/worker").status == 200
    assert run.get("/worker.mjs").status == run.get("/worker.js").status == 404


@pytest.mark.parametrize("method", ["mirror_worker_js", "mirror_legacy_worker_js"])
def test_the_script_of_the_workers_as_a_file(files: Files, www: Path, method: str) -> None:
    run = files(lambda server: getattr(server, method)("www/own.js"))
    expected = (PACKAGE / "js" / "worker.js").read_bytes()
    assert (www / "own.js").read_bytes() == expected
    assert run.get("/own.js").body == expected


# ---- favicons, special files, fallbacks -------------------------------------------------------


def test_a_favicon_for_every_folder(files: Files, www: Path) -> None:
    (www.parent / "icon.ico").write_bytes(b"fallback")
    (www / "own").mkdir()
    (www / "own" / "favicon.ico").write_bytes(b"own")

    def setup(server: QuickServer) -> None:
        server.favicon_fallback = "icon.ico"
        server.add_default_white_list()

    run = files(setup)
    for target in ("/favicon.ico", "/sub/favicon.ico", "/a/b/c/favicon.ico", "/favicon.ico?x"):
        answer = run.get(target)
        assert (answer.status, answer.body) == (200, b"fallback"), target
        assert (answer.get("content-type") or "").startswith("image/")
    assert run.get("/own/favicon.ico").body == b"own"
    assert run.get("/xfavicon.ico").status == 404
    assert run.get("/favicon.ico/").status == 404


def test_the_favicon_only_where_wanted(files: Files, www: Path) -> None:
    (www.parent / "icon.ico").write_bytes(b"fallback")

    def setup(server: QuickServer) -> None:
        server.favicon_fallback = "icon.ico"
        server.favicon_everywhere = False

    assert files(setup).get("/sub/favicon.ico").status == 404


def test_no_favicon_unless_set(files: Files) -> None:
    assert files().get("/favicon.ico").status == 404


def test_a_favicon_that_is_no_file(files: Files, www: Path) -> None:
    def setup(server: QuickServer) -> None:
        server.favicon_fallback = str(www)

    assert files(setup).get("/favicon.ico").status == 404


def test_an_empty_favicon(files: Files) -> None:
    run = files(lambda server: server.link_empty_favicon_fallback())
    for target in ("/favicon.ico", "/sub/favicon.ico"):
        answer = run.get(target)
        assert answer.status in (200, 204)
        if answer.status == 200:
            assert (answer.get("content-type") or "").startswith("image/")


def test_special_files(files: Files, www: Path) -> None:
    (www.parent / "apart.bin").write_text("special")

    def setup(server: QuickServer) -> None:
        server.add_special_file("/special/one", "apart.bin", False)
        server.add_special_file("/special/two.txt", "apart.bin", False, ctype="text/x-own")
        server.add_special_file("/special/typed", "py.typed", True, ctype="text/plain")
        server.add_special_file("/special/gone", "gone.bin", False)

    run = files(setup)
    assert run.get("/special/one").body == b"special"
    assert run.get("/special/one?x=y").body == b"special"
    answer = run.get("/special/two.txt")
    assert (answer.body, (answer.get("content-type") or "").split(";")[0]) == (
        b"special",
        "text/x-own",
    )
    assert run.get("/special/two.txt", If_None_Match=tag(b"special")).status == 304
    assert run.get("/special/typed").status == 200
    assert run.get("/special/gone").status == 404
    assert run.get("/special/one/more").status == 404
    assert run.request("POST", "/special/one").status == 405


def test_a_mirrored_file_follows_its_original(files: Files, www: Path) -> None:
    original, mirror = www.parent / "original.js", www / "mirror.js"
    original.write_text("first")
    run = files(lambda server: server.mirror_file(str(mirror), str(original), False))
    assert mirror.read_text() == "first"
    original.write_text("second")
    assert mirror.read_text() == "second"
    run.server.mirror_file(str(mirror), str(original), False)  # again, over what is there
    assert mirror.read_text() == "second"
    assert original.read_text() == "second"


def test_a_fallback_for_what_is_missing(serve: Serve, www: Path) -> None:
    (www / "app.html").write_text("app")
    (www / "data.txt").write_text("here")
    server = create_server(("127.0.0.1", 0))
    server.base_path = str(www)
    server.bind_path("/", ".")
    asked: list[str] = []

    def fallback(path: str) -> str:
        asked.append(path)
        return str(www / "app.html")

    server.set_file_fallback_hook(fallback)
    run = serve(server)
    assert run.get("/data.txt").body == b"here"
    assert asked == []
    answer = run.get("/some/page")
    assert (answer.status, answer.body) == (200, b"app")
    assert (answer.get("content-type") or "").startswith("text/html")
    assert asked
    assert "some/page" in asked[0]


def test_a_fallback_leads_to_nothing_outside(files: Files, www: Path) -> None:
    (www / "folder").mkdir()
    goals = {
        "/none": None,
        "/outside": str(www.parent / "secret.txt"),
        "/up": "www/../secret.txt",
        "/missing": str(www / "missing.txt"),
        "/folder-itself": str(www / "folder"),
        "/no-request": "/missing.txt",
        "/inside": "www/data.txt",
    }
    (www / "data.txt").write_text("data")
    run = files(lambda server: server.set_file_fallback_hook(goals.get))
    assert {path: run.get(path).status for path in goals} == dict.fromkeys(goals, 404) | {
        "/inside": 200
    }


def test_a_name_that_no_file_can_have_is_just_missing(files: Files, www: Path) -> None:
    (www / "app.html").write_text("app")

    def fallback(path: str) -> str:
        return "/app.html" if path == "/app" else "www/\0"

    run = files(lambda server: server.set_file_fallback_hook(fallback))
    assert run.get("/app").body == b"app"
    assert run.get("/other").status == 404


def test_a_fallback_names_nothing_that_is_black(serve: Serve, www: Path) -> None:
    (www / "data.txt").write_text("black by its folder's other name")
    (www / "black.key").symlink_to("data.txt")
    (www.parent / "bound").symlink_to(www)
    server = create_server(("127.0.0.1", 0))
    server.base_path = str(www.parent)
    server.bind_path("/", "bound")
    server.add_file_patterns(["*/bound/data.*", "*.key"], True)
    server.set_file_fallback_hook(lambda path: f"bound{path}")
    run = serve(server)
    assert run.get("/data.txt").status in MISSING
    assert run.get("/black.key").status in MISSING


# ---- validators -------------------------------------------------------------------------------

CONTENT = b"validators\n"


@pytest.fixture
def one(files: Files, www: Path) -> Running:
    (www / "one.txt").write_bytes(CONTENT)
    return files()


def test_the_entity_tag_is_the_crc_of_the_content(one: Running) -> None:
    assert one.get("/one.txt").get("etag") == tag(CONTENT)
    assert one.request("HEAD", "/one.txt").get("etag") == tag(CONTENT)


BARE = tag(CONTENT).strip('"')
MATCHING = {
    "quoted": f'"{BARE}"',
    "unquoted": BARE,
    "weak": f'W/"{BARE}"',
    "any": "*",
    "first-of-list": f'"{BARE}", "other"',
    "last-of-list": f'"a", W/"b" ,"{BARE}"',
    "tight-list": f'"a","{BARE}","b"',
    "after-empty-elements": f', ,"{BARE}"',
    "after-a-comma-in-a-tag": f'"a,b", "{BARE}"',
}
OTHER = {
    "other": '"other"',
    "weak-other": 'W/"other"',
    "other-list": '"a", "b"',
    "part": f'"{BARE[:-1]}"',
    "longer": f'"{BARE}0"',
    "inside-another": f'"x,{BARE},y"',
    "empty": '""',
    "nothing": "",
}


@pytest.mark.parametrize("value", MATCHING.values(), ids=MATCHING)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_match_is_a_304(one: Running, method: str, value: str) -> None:
    client = one.connect()
    answer = client.request(method, "/one.txt", If_None_Match=value)
    assert (answer.status, answer.body) == (304, b"")
    assert answer.get("etag") == tag(CONTENT)
    assert max_age(answer) == 0
    assert answer.get("content-length") in (None, str(len(CONTENT)))
    assert client.request("GET", "/one.txt").body == CONTENT


@pytest.mark.parametrize("value", OTHER.values(), ids=OTHER)
def test_no_match_is_the_file(one: Running, value: str) -> None:
    answer = one.get("/one.txt", If_None_Match=value)
    assert (answer.status, answer.body) == (200, CONTENT)


def test_a_match_in_a_second_field(one: Running) -> None:
    lines = 'GET /one.txt HTTP/1.1\r\nHost: localhost\r\nIf-None-Match: "a"\r\nIf-None-Match: '
    assert one.connect().send(f"{lines}{tag(CONTENT)}\r\n\r\n").answer().status == 304


def test_any_does_not_match_what_is_missing(one: Running) -> None:
    assert one.get("/nothing.txt", If_None_Match="*").status == 404


def test_the_age_is_told(one: Running) -> None:
    assert max_age(one.get("/one.txt")) == 0
    one.server.max_age = 60
    assert max_age(one.get("/one.txt")) == 60
    assert max_age(one.get("/one.txt", If_None_Match="*")) == 60


def test_large_files_have_a_tag_too(files: Files, www: Path) -> None:
    (www / "large.bin").write_bytes(b"x" * (1024**2 + 1))
    run = files()
    client = run.connect()
    before = client.request("HEAD", "/large.bin").get("etag") or ""
    assert re.fullmatch(r'(W/)?"[!#-~]+"', before)
    assert client.request("GET", "/large.bin", If_None_Match=before).status == 304
    (www / "large.bin").write_bytes(b"x" * (1024**2 + 2))
    after = client.request("HEAD", "/large.bin").get("etag")
    assert after != before
    assert client.request("GET", "/large.bin", If_None_Match=before).status == 200


def test_a_file_of_exactly_a_mebibyte(files: Files, www: Path) -> None:
    content = random.Random(5).randbytes(1024**2)
    (www / "edge.bin").write_bytes(content)
    answer = files().get("/edge.bin")
    assert (answer.body, answer.get("etag")) == (content, tag(content))


def bytes_read() -> int:
    """What this process has read from files so far."""
    return int(re.findall(r"rchar: (\d+)", Path("/proc/self/io").read_text())[0])


def test_conditional_requests_do_not_read_the_file(files: Files, www: Path) -> None:
    content = random.Random(1).randbytes(1024**2)
    (www / "data.bin").write_bytes(content)
    settled = (www / "data.bin").stat().st_ctime + 0.1  # until then it may change unnoticed
    while time.time() < settled:
        os.sched_yield()
    client = files().connect()
    assert client.request("GET", "/data.bin").body == content
    before = bytes_read()
    for _ in range(20):
        assert client.request("GET", "/data.bin", If_None_Match=tag(content)).status == 304
        assert client.request("HEAD", "/data.bin").status == 200
    assert bytes_read() - before < len(content)


# ---- big files --------------------------------------------------------------------------------


@pytest.fixture
def big(www: Path) -> bytes:
    content = random.Random(20).randbytes(BIG)
    (www / "big.bin").write_bytes(content)
    return content


def narrow(run: Running) -> Client:
    """A client for which the kernel keeps little: what it does not read, the server still has."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.settimeout(PATIENCE)
    sock.connect(run.address)
    run.clients.append(Client(sock))
    return run.clients[-1]


@pytest.fixture
def begun(files: Files, big: bytes) -> tuple[Running, Client]:
    """A server in the middle of sending `big.bin`, whose client has read only the first bytes."""
    run = files()
    client = narrow(run).send(b"GET /big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while b"\r\n\r\n" not in client.rest:
        assert client._fill()
    return run, client


def test_a_big_file_arrives_whole(files: Files, big: bytes) -> None:
    client = files().connect()
    for _ in range(2):
        answer = client.request("GET", "/big.bin")
        assert answer.get("content-length") == str(BIG)
        assert answer.body == big
    assert client.request("HEAD", "/big.bin").get("content-length") == str(BIG)
    assert client.request("GET", "/nothing").status == 404


def test_a_slow_reader_holds_up_nobody(begun: tuple[Running, Client], big: bytes) -> None:
    run, slow = begun
    assert run.get("/big.bin").body == big
    assert slow.answer().body == big


def test_many_slow_readers_hold_no_thread(files: Files, big: bytes, www: Path) -> None:
    (www / "small.txt").write_text("small")
    run = files()
    slow = [narrow(run) for _ in range(20)]
    for client in slow:
        client.send(b"GET /big.bin HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert run.get("/small.txt").body == b"small"


def test_a_file_that_grows_while_sent(begun: tuple[Running, Client], big: bytes, www: Path) -> None:
    _, client = begun
    with (www / "big.bin").open("ab") as out:
        out.write(b"more" * 1000)
    assert client.answer().body == big
    again = client.request("HEAD", "/big.bin")
    assert again.get("content-length") == str(BIG + 4000)


def test_a_file_that_shrinks_while_sent(begun: tuple[Running, Client], www: Path) -> None:
    run, client = begun
    os.truncate(www / "big.bin", 1000)
    with pytest.raises((AssertionError, ConnectionError)):
        client.answer()
    assert len(client.rest) < BIG
    assert run.get("/big.bin").get("content-length") == "1000"


def test_a_file_that_is_removed_while_sent(
    begun: tuple[Running, Client], big: bytes, www: Path
) -> None:
    _, client = begun
    (www / "big.bin").unlink()
    assert client.answer().body == big
    assert client.request("GET", "/big.bin").status == 404


def test_a_stop_lets_a_download_finish(begun: tuple[Running, Client], big: bytes) -> None:
    run, client = begun
    idle = run.connect()
    assert run.get("/nothing").status == 404  # by now the idle one is accepted too
    run.server.done = True
    assert idle.at_end()
    assert client.answer().body == big
    assert client.at_end()


def test_a_client_that_leaves_in_the_middle(begun: tuple[Running, Client]) -> None:
    run, client = begun
    client.close()
    assert run.get("/nothing").status == 404


def test_a_big_file_behind_and_before_others(files: Files, big: bytes, www: Path) -> None:
    (www / "small.txt").write_text("small")
    get = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
    client = files().connect().send((get % b"small.txt" + get % b"big.bin") * 2 + get % b"small.txt")
    bodies = [client.answer().body for _ in range(5)]
    assert bodies == [b"small", big, b"small", big, b"small"]


# ---- trouble of the system --------------------------------------------------------------------


def unprivileged() -> list[str]:
    """A prefix for a command that may not read everything; root's has to give that up."""
    if os.geteuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("root may read everything, and setpriv is missing")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]


def test_no_permission_is_a_403(start: Start, www: Path) -> None:
    for name in ("closed.txt", "open.txt"):
        (www / name).write_text("here")
    (www / "closed").mkdir()
    (www / "closed" / "x.txt").write_text("here")
    (www / "closed.txt").chmod(0)
    (www / "closed").chmod(0)
    prefix = unprivileged()
    try:
        client = start(f"server.bind_path('/', {str(www)!r})", prefix).connect()
        assert client.request("GET", "/closed.txt").status == 403
        assert client.request("HEAD", "/closed.txt").status == 403
        assert client.request("GET", "/closed/x.txt").status in (403, 404)
        assert client.request("GET", "/open.txt").body == b"here"
    finally:
        (www / "closed").chmod(0o700)


def test_no_permission_for_what_is_not_served_is_a_404(start: Start, www: Path) -> None:
    """Or else it could be found out what there is, in the folder and outside."""
    closed = (www / "closed.key", www / "closed.txt", www.parent / "outside.txt")
    for path in closed:
        path.write_text("here")
        path.chmod(0)
    (www / "link.txt").symlink_to("../outside.txt")
    (www / "index.html").symlink_to("closed.key")
    setup = f"server.bind_path('/', {str(www)!r})\nserver.add_file_patterns(['*.txt'], blacklist=False)"
    client = start(setup, unprivileged()).connect()
    assert client.request("GET", "/closed.txt").status == 403
    assert client.request("GET", "/closed.key").status == 404
    assert client.request("GET", "/link.txt").status == 404
    assert client.request("GET", "/").status == 404


HOG = """
server.bind_path("/", {www!r})
held = []

@server.text_get("/hog", 0)
def hog(req, args):
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    try:
        while True:
            held.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        return str(len(held))

@server.text_get("/free", 0)
def free(req, args):
    while held:
        os.close(held.pop())
    return "free"
"""


def test_out_of_descriptors_is_a_503(start: Start, www: Path) -> None:
    (www / "data.txt").write_text("here")
    (www / "unseen.txt").write_text("here")
    (www / "big.bin").write_bytes(b"x" * 3_000_000)
    script = start(HOG.format(www=str(www)))
    clients = [script.connect() for _ in range(4)]
    for client in clients:
        assert client.request("GET", "/data.txt").body == b"here"
    assert int(clients[0].request("GET", "/hog").body) > 0
    for client, target in zip(clients[1:3], ("/unseen.txt", "/big.bin"), strict=False):
        answer = client.request("GET", target)
        assert answer.status == 503
        assert int(answer.get("retry-after") or "") > 0
    assert clients[3].request("GET", "/free").body == b"free"
    assert script.connect().request("GET", "/data.txt").body == b"here"
    assert len(script.connect().request("GET", "/big.bin").body) == 3_000_000
