"""Compressed answers: what handlers return, and compressed files beside their originals."""

from __future__ import annotations

import gzip
import json
import os
import random
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quick_server import (
    MultipartResponse,
    PreventDefaultResponse,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    Response,
    create_server,
)
from tests.harness import PATIENCE, Answer, Running

Serve = Callable[[QuickServer], Running]
Answers = Callable[..., Running]
Files = Callable[..., Running]

LONG = "a line that comes again and again\n" * 100
DATA = {"rows": [{"number": n, "name": f"row {n}"} for n in range(200)]}
SUFFIXES = {"gzip": ".gz", "br": ".br", "zstd": ".zst"}


def tag(content: bytes) -> str:
    return f'"{zlib.crc32(content):08x}"'


def vary(answer: Answer) -> set[str]:
    return {name.strip().lower() for field in answer.all("vary") for name in field.split(",")}


def is_plain(answer: Answer, content: bytes) -> bool:
    return (answer.get("content-encoding"), answer.body) == (None, content)


@pytest.fixture
def answers(serve: Serve) -> Answers:
    """`answers(result, kind)` serves what a handler returns at `/`, for GET and POST."""

    def begin(result: Any, kind: str = "text", setup: Callable[[QuickServer], object] = id) -> Running:
        server = create_server(("127.0.0.1", 0))
        setup(server)

        def handler(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
            return result(req) if callable(result) else result

        for method in ("get", "post"):
            getattr(server, f"{kind}_{method}")("/")(handler)
        return serve(server)

    return begin


# ---- what handlers return ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "result", "content"),
    [
        ("text", LONG, LONG.encode()),
        ("text", LONG.encode(), LONG.encode()),
        ("text", "ü" * 600, ("ü" * 600).encode()),
        ("json", DATA, None),
        ("json", "x" * 2000, None),
    ],
)
def test_long_answers_are_compressed(
    answers: Answers, kind: str, result: Any, content: bytes | None
) -> None:
    run = answers(result, kind)
    plain, packed = run.get("/"), run.get("/", Accept_Encoding="gzip, deflate, br")
    assert plain.get("content-encoding") is None
    assert packed.all("content-encoding") == ["gzip"]
    assert packed.get("content-length") == str(len(packed.body))
    assert len(packed.body) < len(plain.body)
    assert gzip.decompress(packed.body) == plain.body
    if content is None:
        assert json.loads(plain.body) == result
    else:
        assert plain.body == content
    for answer in (plain, packed):
        assert "accept-encoding" in vary(answer)
        assert answer.get("content-type") == plain.get("content-type")
        assert answer.get("cache-control") == plain.get("cache-control")


@pytest.mark.parametrize(
    ("accept", "packed"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("gzip;q=0.1", True),
        ("br, *", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("", False),
        ("identity", False),
        ("br, deflate, zstd", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000, br", False),
        ("*, gzip;q=0", False),
        ("*;q=0", False),
        ("gzipped", False),
    ],
)
def test_only_if_accepted(answers: Answers, accept: str, packed: bool) -> None:
    answer = answers(LONG).get("/", Accept_Encoding=accept)
    assert (answer.get("content-encoding") == "gzip") is packed
    assert packed or is_plain(answer, LONG.encode())
    assert "accept-encoding" in vary(answer)


def test_only_if_more_wanted_than_the_plain_content(answers: Answers) -> None:
    """RFC 9110 section 12.4.2: what has the higher quality is preferred."""
    answer = answers(LONG).get("/", Accept_Encoding="identity;q=1, gzip;q=0.5")
    assert is_plain(answer, LONG.encode())


def test_from_one_kibibyte_on(answers: Answers) -> None:
    short = answers("x" * 1024).get("/", Accept_Encoding="gzip")
    assert is_plain(short, b"x" * 1024)
    assert vary(short) == set()  # there is only one form of it
    longer = answers("x" * 1025).get("/", Accept_Encoding="gzip")
    assert longer.get("content-encoding") == "gzip"


def test_off(answers: Answers) -> None:
    def off(server: QuickServer) -> None:
        server.compress = False

    answer = answers(LONG, setup=off).get("/", Accept_Encoding="gzip")
    assert is_plain(answer, LONG.encode())
    assert answer.get("etag") == tag(LONG.encode())
    assert vary(answer) == set()


@pytest.mark.parametrize(
    "ctype",
    ["image/png", "application/zip", "application/pdf", "video/mp4", "application/octet-stream"],
)
def test_never_what_is_compressed_already(answers: Answers, ctype: str) -> None:
    answer = answers(Response(LONG, ctype=ctype)).get("/", Accept_Encoding="gzip")
    assert is_plain(answer, LONG.encode())
    assert vary(answer) == set()


@pytest.mark.parametrize("ctype", ["text/html", "image/svg+xml", "application/xml", "text/csv"])
def test_other_types_that_are_text(answers: Answers, ctype: str) -> None:
    answer = answers(Response(LONG, ctype=ctype)).get("/", Accept_Encoding="gzip")
    assert answer.get("content-encoding") == "gzip"
    assert answer.get("content-type") == ctype


def test_never_what_a_handler_has_encoded(answers: Answers) -> None:
    packed = gzip.compress(random.Random(1).randbytes(4000).hex().encode())

    def encoded(req: QuickServerRequestHandler) -> bytes:
        req.send_header("Content-Encoding", "gzip")
        return packed

    answer = answers(encoded).get("/", Accept_Encoding="gzip")
    assert (answer.all("content-encoding"), answer.body) == (["gzip"], packed)


def test_never_a_stream(answers: Answers) -> None:
    def stream(req: QuickServerRequestHandler) -> Iterator[str]:
        return (LONG for _ in range(3))

    answer = answers(stream).get("/", Accept_Encoding="gzip")
    assert answer.get("transfer-encoding") == "chunked"
    assert is_plain(answer, LONG.encode() * 3)


def test_never_an_open_file(answers: Answers, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text(LONG)

    def opened(req: QuickServerRequestHandler) -> Any:
        return open(tmp_path / "long.txt", "rb")

    run = answers(opened)
    assert is_plain(run.get("/", Accept_Encoding="gzip"), LONG.encode())
    part = run.get("/", Accept_Encoding="gzip", Range="bytes=0-9")
    assert (part.status, part.body) == (206, LONG.encode()[:10])


def test_never_events(serve: Serve) -> None:
    server = create_server(("127.0.0.1", 0))

    @server.event_stream("/events")
    def events(req: QuickServerRequestHandler, args: ReqArgs, channel: Any) -> None:
        channel.send(LONG)
        channel.close()

    answer = serve(server).get("/events", Accept_Encoding="gzip")
    assert answer.get("content-encoding") is None
    assert answer.body.count(b"data: a line") == 100


def test_never_a_form(answers: Answers) -> None:
    form = MultipartResponse({"text": LONG})
    answer = answers(form).get("/", Accept_Encoding="gzip")
    assert answer.get("content-encoding") is None
    assert LONG.encode() in answer.body


def test_error_pages_stay_plain(answers: Answers) -> None:
    def stop(req: QuickServerRequestHandler) -> None:
        raise PreventDefaultResponse(404, LONG)

    answer = answers(stop).get("/", Accept_Encoding="gzip")
    assert (answer.status, answer.get("content-encoding")) == (404, None)


@pytest.mark.parametrize("code", [200, 201, 404, 500])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_any_code_and_method(answers: Answers, code: int, method: str) -> None:
    run = answers(Response(LONG, code=code))
    answer = run.request(method, "/", Accept_Encoding="gzip")
    assert (answer.status, answer.get("content-encoding")) == (code, "gzip")
    assert gzip.decompress(answer.body) == LONG.encode()


def test_head_tells_what_get_would(answers: Answers) -> None:
    run = answers(LONG)
    client = run.connect()
    for accept in ("gzip", "identity"):
        got = client.request("GET", "/", Accept_Encoding=accept)
        told = client.request("HEAD", "/", Accept_Encoding=accept)
        for field in ("content-encoding", "content-length", "content-type", "etag", "vary"):
            assert told.all(field) == got.all(field)


def test_both_forms_have_a_tag_of_their_own(answers: Answers) -> None:
    """RFC 9110 section 8.8.3.3: else a cache would take one for the other."""
    run = answers(DATA, "json")
    client = run.connect()
    plain = client.request("GET", "/")
    packed = client.request("GET", "/", Accept_Encoding="gzip")
    ours, theirs = plain.get("etag"), packed.get("etag")
    assert ours == tag(plain.body)
    assert theirs is not None
    assert theirs != ours
    for accept, match, status in (
        ("gzip", theirs, 304),
        ("gzip", f"W/{theirs}", 304),
        ("gzip", f'"x", {theirs}', 304),
        ("gzip", ours, 200),
        ("identity", ours, 304),
        ("identity", theirs, 200),
    ):
        answer = client.request("GET", "/", Accept_Encoding=accept, If_None_Match=match)
        assert answer.status == status, (accept, match)
        assert answer.get("etag") == (theirs if accept == "gzip" else ours)
        assert "accept-encoding" in vary(answer)


def test_the_same_answer_has_the_same_bytes(answers: Answers) -> None:
    run = answers(DATA, "json")
    first = run.get("/", Accept_Encoding="gzip")
    second = run.get("/", Accept_Encoding="gzip")
    assert (first.body, first.get("etag")) == (second.body, second.get("etag"))


def test_a_handler_may_vary_by_more(answers: Answers) -> None:
    def handler(req: QuickServerRequestHandler) -> str:
        req.send_header("Vary", "Cookie")
        return LONG

    answer = answers(handler).get("/", Accept_Encoding="gzip")
    assert vary(answer) == {"cookie", "accept-encoding"}


# ---- compressed files beside their originals --------------------------------------------------

PAGE = b"<p>the original</p>\n" * 200
PACKED = {coding: f"the {coding} form".encode() * 20 for coding in SUFFIXES}


def put(path: Path, *codings: str, content: bytes = PAGE) -> None:
    """Writes a file and, a second later by their times, its compressed forms."""
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (10**9, 10**9))
    for coding in codings:
        sibling = path.with_name(path.name + SUFFIXES[coding])
        sibling.write_bytes(PACKED[coding])
        os.utime(sibling, (10**9 + 1, 10**9 + 1))


@pytest.fixture
def files(serve: Serve, www: Path) -> Files:
    """`files(setup)` serves `www` at `/`; `setup` gets the server first."""

    def begin(setup: Callable[[QuickServer], object] = id) -> Running:
        server = create_server(("127.0.0.1", 0))
        server.bind_path("/", str(www))
        setup(server)
        return serve(server)

    return begin


def used(answer: Answer) -> str:
    """Which form came; it is the right one in every respect."""
    assert answer.status == 200
    coding = answer.get("content-encoding") or "identity"
    assert len(answer.all("content-encoding")) <= 1
    assert answer.body == PACKED.get(coding, PAGE)
    assert answer.get("content-length") == str(len(answer.body))
    assert answer.get("etag") == tag(answer.body)
    return coding


@pytest.mark.parametrize("coding", SUFFIXES)
def test_a_compressed_form_if_accepted(files: Files, www: Path, coding: str) -> None:
    put(www / "page.html", coding)
    run = files()
    answer = run.get("/page.html", Accept_Encoding=coding)
    assert used(answer) == coding
    assert answer.get("content-type") == "text/html; charset=utf-8"
    plain = run.get("/page.html")
    assert used(plain) == "identity"
    assert plain.get("content-type") == "text/html; charset=utf-8"
    for each in (answer, plain):
        assert vary(each) == {"accept-encoding"}
        assert each.get("cache-control") == "max-age=0"
    others = ", ".join(set(SUFFIXES) - {coding})
    assert used(run.get("/page.html", Accept_Encoding=others)) == "identity"


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("gzip, br, zstd", "br"),
        ("gzip, deflate, br, zstd", "br"),
        ("gzip, zstd", "zstd"),
        ("gzip, deflate", "gzip"),
        ("gzip;q=1, br;q=0.5, zstd;q=0.7", "gzip"),
        ("gzip;q=0.2, br;q=0.1, zstd;q=0.3", "zstd"),
        ("br;q=0, *", "zstd"),
        ("br;q=0, zstd;q=0, *;q=0.5", "gzip"),
        ("*", "br"),
        ("BR", "br"),
        ("gzip;q=0.5, identity;q=0.4", "gzip"),
        ("identity;q=1, gzip;q=0.5", "identity"),
        ("identity", "identity"),
        ("", "identity"),
        ("gzip;q=0", "identity"),
        ("gzip;q=0, br;q=0.000, zstd;q=0.0", "identity"),
        ("deflate, compress", "identity"),
        ("*;q=0", "identity"),
        ("gzip;q=nonsense", "identity"),
    ],
)
def test_the_form_that_is_wanted_most(files: Files, www: Path, accept: str, coding: str) -> None:
    put(www / "page.html", *SUFFIXES)
    assert used(files().get("/page.html", Accept_Encoding=accept)) == coding


def test_the_forms_that_there_are(files: Files, www: Path) -> None:
    put(www / "page.html", "gzip")
    run = files()
    assert used(run.get("/page.html", Accept_Encoding="br, zstd, gzip;q=0.1")) == "gzip"
    put(www / "page.html", "gzip", "br")
    assert used(run.get("/page.html", Accept_Encoding="br, zstd, gzip;q=0.1")) == "br"
    (www / "page.html.br").unlink()
    (www / "page.html.gz").unlink()
    answer = run.get("/page.html", Accept_Encoding="br, zstd, gzip;q=0.1")
    assert used(answer) == "identity"
    assert vary(answer) == set()


def test_each_form_has_its_own_conditions(files: Files, www: Path) -> None:
    put(www / "page.html", *SUFFIXES)
    client = files().connect()
    tags = {coding: tag(content) for coding, content in (PACKED | {"identity": PAGE}).items()}
    for accept, ours in tags.items():
        for sent, theirs in tags.items():
            answer = client.request("GET", "/page.html", Accept_Encoding=accept, If_None_Match=theirs)
            assert answer.status == (304 if accept == sent else 200), (accept, sent)
            assert answer.get("etag") == ours
            assert vary(answer) == {"accept-encoding"}
            match = client.request("GET", "/page.html", Accept_Encoding=accept, If_Match=theirs)
            assert match.status == (200 if accept == sent else 412), (accept, sent)


def test_head_of_a_form(files: Files, www: Path) -> None:
    put(www / "page.html", "br")
    client = files().connect()
    got = client.request("GET", "/page.html", Accept_Encoding="br")
    told = client.request("HEAD", "/page.html", Accept_Encoding="br")
    assert told.get("content-encoding") == "br"
    for field in ("content-length", "content-type", "etag", "last-modified", "vary"):
        assert told.all(field) == got.all(field)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_of_a_form(files: Files, www: Path, method: str) -> None:
    put(www / "page.html", "gzip")
    assert files().request(method, "/page.html", Accept_Encoding="gzip").status == 405


def test_ranges_are_of_the_original(files: Files, www: Path) -> None:
    put(www / "page.html", *SUFFIXES)
    run = files()
    answer = run.get("/page.html", Accept_Encoding="br", Range="bytes=3-9")
    assert (answer.status, answer.body) == (206, PAGE[3:10])
    assert answer.get("content-encoding") is None
    assert answer.get("etag") == tag(PAGE)
    assert vary(answer) == {"accept-encoding"}
    packed = tag(PACKED["br"])
    other = run.get("/page.html", Accept_Encoding="br", Range="bytes=3-9", If_Range=packed)
    assert other.status == 200  # whatever form it is, it is not a part of another one


def test_a_big_form_is_sent_whole(files: Files, www: Path) -> None:
    original, packed = b"x" * 3_000_000, random.Random(2).randbytes(1_500_000)
    (www / "big.json").write_bytes(original)
    (www / "big.json.gz").write_bytes(packed)
    client = files().connect()
    for _ in range(2):
        answer = client.request("GET", "/big.json", Accept_Encoding="gzip")
        assert (answer.get("content-encoding"), answer.body) == ("gzip", packed)
        assert client.request("GET", "/big.json").body == original
    match = answer.get("etag")
    assert match is not None
    assert client.request("GET", "/big.json", Accept_Encoding="gzip", If_None_Match=match).status == 304


def test_a_folder_and_its_index(files: Files, www: Path) -> None:
    put(www / "sub" / "index.html", "br")
    answer = files().get("/sub/", Accept_Encoding="br")
    assert used(answer) == "br"
    assert answer.get("content-type") == "text/html; charset=utf-8"


def test_a_form_asked_for_by_its_own_name(files: Files, www: Path) -> None:
    put(www / "page.html", "gzip")
    answer = files().get("/page.html.gz", Accept_Encoding="gzip")
    assert (answer.get("content-encoding"), answer.body) == (None, PACKED["gzip"])
    assert answer.get("content-type") == "application/gzip"


def test_a_form_without_its_original(files: Files, www: Path) -> None:
    (www / "page.html.gz").write_bytes(PACKED["gzip"])
    assert files().get("/page.html", Accept_Encoding="gzip").status == 404


def test_a_form_that_changes(files: Files, www: Path) -> None:
    put(www / "page.html", "gzip")
    run = files()
    assert used(run.get("/page.html", Accept_Encoding="gzip")) == "gzip"
    (www / "page.html.gz").write_bytes(b"another form")
    answer = run.get("/page.html", Accept_Encoding="gzip")
    assert (answer.body, answer.get("etag")) == (b"another form", tag(b"another form"))


@pytest.mark.parametrize(
    ("older", "coding"),
    [(-100, "gzip"), (0, "gzip"), (1.5, "gzip"), (2.5, "identity"), (10**6, "identity")],
)
def test_a_form_of_an_older_state(files: Files, www: Path, older: float, coding: str) -> None:
    """It may be older by what archives round times to, and by no more."""
    put(www / "page.html", "gzip")
    os.utime(www / "page.html.gz", (10**9 - older, 10**9 - older))
    assert used(files().get("/page.html", Accept_Encoding="gzip")) == coding


def test_an_original_that_changes(files: Files, www: Path) -> None:
    put(www / "page.html", "gzip")
    run = files()
    assert used(run.get("/page.html", Accept_Encoding="gzip")) == "gzip"
    (www / "page.html").write_bytes(b"new")
    assert is_plain(run.get("/page.html", Accept_Encoding="gzip"), b"new")


# the same rules as for any file


def test_the_white_list_is_about_the_original(files: Files, www: Path) -> None:
    put(www / "page.html", "gzip")
    put(www / "page.secret", "gzip")
    run = files(lambda server: server.add_default_white_list())
    assert used(run.get("/page.html", Accept_Encoding="gzip")) == "gzip"
    assert run.get("/page.html.gz", Accept_Encoding="gzip").status == 404
    assert run.get("/page.secret", Accept_Encoding="gzip").status == 404


@pytest.mark.parametrize("pattern", ["*.gz", "*/page.html.gz", "*html.*"])
def test_a_form_on_the_black_list(files: Files, www: Path, pattern: str) -> None:
    put(www / "page.html", "gzip")
    run = files(lambda server: server.add_file_patterns([pattern], True))
    assert used(run.get("/page.html", Accept_Encoding="gzip")) == "identity"


def test_a_form_on_the_black_list_that_is_a_link(files: Files, www: Path) -> None:
    put(www / "page.html")
    (www / "packed").write_bytes(PACKED["gzip"])
    (www / "page.html.gz").symlink_to("packed")
    run = files(lambda server: server.add_file_patterns(["*.gz"], True))
    assert used(run.get("/page.html", Accept_Encoding="gzip")) == "identity"


def test_an_original_on_the_black_list(files: Files, www: Path) -> None:
    put(www / "page.html", "gzip")
    run = files(lambda server: server.add_file_patterns(["*.html"], True))
    assert run.get("/page.html", Accept_Encoding="gzip").status == 404


def test_a_form_of_what_is_hidden(files: Files, www: Path) -> None:
    put(www / ".page.html", "gzip")
    put(www / ".git" / "config", "gzip")
    run = files()
    assert run.get("/.page.html", Accept_Encoding="gzip").status == 404
    assert run.get("/.git/config", Accept_Encoding="gzip").status == 404


@pytest.mark.parametrize("target", ["outside.gz", "www/.hidden.gz", "www/sub/black.gz"])
def test_a_form_that_is_a_link_to_what_is_not_served(files: Files, www: Path, target: str) -> None:
    put(www / "page.html")
    outside = www.parent / target
    outside.parent.mkdir(exist_ok=True)
    outside.write_bytes(b"a secret")
    (www / "page.html.gz").symlink_to(outside)
    run = files(lambda server: server.add_file_patterns(["*/black*"], True))
    assert used(run.get("/page.html", Accept_Encoding="gzip")) == "identity"


def test_a_form_that_is_a_link_inside(files: Files, www: Path) -> None:
    put(www / "page.html")
    (www / "packed").write_bytes(PACKED["gzip"])
    (www / "page.html.gz").symlink_to("packed")
    assert used(files().get("/page.html", Accept_Encoding="gzip")) == "gzip"


@pytest.mark.parametrize("content", ["page.html", "big.html"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "dangling", "loop", "socket"])
def test_a_form_that_is_no_file(
    files: Files, www: Path, kind: str, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = content == "big.html"
    page = PAGE * 1000 if big else PAGE
    put(www / content, content=page)
    sibling = www / (content + ".gz")
    if kind == "folder":
        sibling.mkdir()
    elif kind == "pipe":
        os.mkfifo(sibling)
    elif kind == "dangling":
        sibling.symlink_to("nowhere")
    elif kind == "loop":
        sibling.symlink_to(sibling.name)
    else:
        with socket.socket(socket.AF_UNIX) as unix:
            monkeypatch.chdir(www)  # its name must be short
            unix.bind(sibling.name)
    run = files()
    answer = run.get("/" + content, Accept_Encoding="gzip")
    assert (answer.status, answer.body == page) == (200, True)
    end = time.monotonic() + PATIENCE
    while is_open(www / content):
        assert time.monotonic() < end, "the original stays open"
        os.sched_yield()


def is_open(path: Path) -> bool:
    for fd in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{fd}") == str(path):
                return True
        except OSError:
            continue
    return False
