"""Files and fields that clients send as `multipart/form-data` (RFC 7578)."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs, create_server
from quick_server.limits import Limits
from quick_server.uploads import UploadedFile, make_form
from tests.harness import PATIENCE, Answer, Client, Running
from tests.integration.forms import BOUNDARY, CTYPE, chunks, form, nameless_files, part, until
from tests.integration.logs import Log
from tests.integration.scripts import Script

Req = QuickServerRequestHandler
Serve = Callable[[QuickServer], Running]

KIB, MIB = 1024, 1024 * 1024


@pytest.fixture
def server() -> Iterator[QuickServer]:
    made = create_server(("127.0.0.1", 0))
    yield made
    made.server_close()


def show(req: Req, args: ReqArgs) -> dict[str, object]:
    """What a handler gets of a form, as JSON."""
    files = {}
    for name, file in args["files"].items():
        assert file.tell() == 0
        content = file.read()
        files[name] = [
            file.filename,
            file.content_type,
            content.decode("latin-1") if len(content) < KIB else hashlib.sha256(content).hexdigest(),
        ]
    return {"post": args["post"], "files": files, "body": len(req.body())}


@pytest.fixture
def run(server: QuickServer, serve: Serve) -> Running:
    """`/form` shows what it gets."""
    for method in ("post", "put", "delete", "patch"):
        getattr(server, f"json_{method}")("/form")(show)
    return serve(server)


def post(run: Running, body: bytes, ctype: str = CTYPE, **headers: str) -> Answer:
    return run.request("POST", "/form", body, Content_Type=ctype, **headers)


def data(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return json.loads(answer.body)


def head(length: int | None, ctype: str = CTYPE, target: str = "/form", more: str = "") -> str:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {ctype}\r\n{framing}\r\n{more}\r\n"
    )


# ---- fields and files -------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_fields_and_files(run: Running, method: str) -> None:
    body = form(
        part("note", "hello"),
        part("doc", b"\x00\xff\r\n--x", "a.bin", "application/x-thing"),
        part("more", "1\r\n2\n3"),
    )
    answer = data(run.request(method, "/form", body, Content_Type=CTYPE))
    assert answer["post"] == {"note": "hello", "more": "1\r\n2\n3"}
    assert answer["files"] == {"doc": ["a.bin", "application/x-thing", "\x00\xff\r\n--x"]}


def test_a_form_of_fields_only(run: Running) -> None:
    answer = data(post(run, form(part("a", "1"), part("b", ""))))
    assert (answer["post"], answer["files"]) == ({"a": "1", "b": ""}, {})


def test_a_form_of_files_only(run: Running) -> None:
    answer = data(post(run, form(part("a", "1", "a.txt"), part("b", "2", "b.txt"))))
    assert answer["post"] == {}
    assert {name: file[2] for name, file in answer["files"].items()} == {"a": "1", "b": "2"}


def test_a_form_without_parts(run: Running) -> None:
    answer = data(post(run, form()))
    assert (answer["post"], answer["files"]) == ({}, {})


def test_no_content_at_all(run: Running) -> None:
    answer = data(run.request("POST", "/form", b"", Content_Type=CTYPE))
    assert (answer["post"], answer["files"]) == ({}, {})


def test_the_raw_bytes_of_a_form_are_not_kept(run: Running) -> None:
    assert data(post(run, form(part("a", "1"))))["body"] == 0


def test_other_bodies_have_no_files(run: Running) -> None:
    assert data(post(run, b'{"a": 1}', "application/json"))["files"] == {}


@pytest.mark.parametrize("kind", ["Multipart/Form-Data", "multipart/form-data ", "MULTIPART/FORM-DATA"])
def test_spellings_of_the_type(run: Running, kind: str) -> None:
    assert data(post(run, form(part("a", "1")), f"{kind}; boundary={BOUNDARY}"))["post"] == {"a": "1"}


@pytest.mark.parametrize(
    ("sent", "seen"),
    [
        ("photo.jpg", "photo.jpg"),
        ("ü 日本.txt", "ü 日本.txt"),
        ("a;b=c.txt", "a;b=c.txt"),
        ("two words", "two words"),
        ("%22x%22.txt", '"x".txt'),
        ("../../etc/passwd", "../../etc/passwd"),
    ],
    ids=["plain", "unicode", "semicolon", "space", "quotes", "path"],
)
def test_names_of_files(run: Running, sent: str, seen: str) -> None:
    """The name is the client's: it arrives as it was sent, and is no path to trust."""
    files = data(post(run, form(part("f", "x", sent))))["files"]
    assert files["f"][0] == seen


def test_a_name_of_a_field_that_is_no_ascii(run: Running) -> None:
    assert data(post(run, form(part("größe", "1"))))["post"] == {"größe": "1"}


def test_a_file_without_a_type_is_bytes(run: Running) -> None:
    answer = data(post(run, form(part("f", "x", "f.txt"))))
    assert answer["files"]["f"][1] == "application/octet-stream"


def test_an_empty_file_is_a_file(run: Running) -> None:
    answer = data(post(run, form(part("f", "", "empty.txt", "text/plain"))))
    assert answer["files"] == {"f": ["empty.txt", "text/plain", ""]}


def test_a_file_input_in_which_nothing_was_chosen(run: Running) -> None:
    body = form(part("f", "", "", "application/octet-stream"), part("a", "1"))
    answer = data(post(run, body))
    assert (answer["post"], answer["files"]) == ({"a": "1"}, {})


def test_the_last_of_equal_names_wins(run: Running) -> None:
    body = form(
        part("a", "1"),
        part("f", "first", "1.txt"),
        part("a", "2"),
        part("f", "second", "2.txt"),
    )
    answer = data(post(run, body))
    assert answer["post"] == {"a": "2"}
    assert answer["files"] == {"f": ["2.txt", "application/octet-stream", "second"]}


def test_a_part_with_more_headers(run: Running) -> None:
    extra = "X-One: 1\r\nContent-Transfer-Encoding: binary\r\n"
    assert data(post(run, form(part("a", "1", extra=extra))))["post"] == {"a": "1"}


# ---- the file objects -------------------------------------------------------------------------


def test_a_file_is_open_for_reading(server: QuickServer, serve: Serve) -> None:
    @server.json_post("/form")
    def fun(req: Req, args: ReqArgs) -> object:
        file = args["files"]["f"]
        lines = list(file)
        file.seek(-2, os.SEEK_END)
        return [len(lines), lines[0].decode(), file.read().decode(), file.closed, file.size]

    body = form(part("f", "one\ntwo\nthree\n", "f.txt"))
    assert data(post(serve(server), body)) == [3, "one\n", "e\n", False, 14]


@pytest.mark.parametrize(
    ("size", "on_disk"), [(1 * MIB, 0), (1 * MIB + 1, 1), (5 * MIB, 1)], ids=["1MiB", "1MiB+1", "5MiB"]
)
def test_a_file_is_in_memory_up_to_a_mebibyte(
    server: QuickServer, serve: Serve, size: int, on_disk: int
) -> None:
    content = os.urandom(size)

    @server.json_post("/form")
    def fun(req: Req, args: ReqArgs) -> object:
        return [nameless_files(), hashlib.sha256(args["files"]["f"].read()).hexdigest()]

    run = serve(server)
    before = nameless_files()
    answer = data(post(run, form(part("f", content, "f.bin"))))
    assert answer == [before + on_disk, hashlib.sha256(content).hexdigest()]
    assert nameless_files() == before


@pytest.mark.parametrize("ending", ["returns", "raises", "exits"])
@pytest.mark.parametrize("size", [10, 2 * MIB], ids=["memory", "disk"])
def test_files_are_gone_after_the_handler(
    server: QuickServer, serve: Serve, log: Log, ending: str, size: int
) -> None:
    seen: list[UploadedFile] = []

    @server.json_post("/form")
    def fun(req: Req, args: ReqArgs) -> object:
        seen.extend(args["files"].values())
        if ending == "raises":
            raise ValueError
        if ending == "exits":
            raise SystemExit
        return "fine"

    run = serve(server)
    before = nameless_files()
    body = form(part("a", b"a" * size, "a.bin"), part("b", b"b" * size, "b.bin"))
    assert post(run, body).status == (200 if ending == "returns" else 500)
    assert [file.closed for file in seen] == [True, True]
    assert nameless_files() == before


@pytest.mark.parametrize("size", [10, 2 * MIB], ids=["memory", "disk"])
def test_files_that_a_later_one_replaces_are_gone(server: QuickServer, serve: Serve, size: int) -> None:
    counts = []

    @server.json_post("/form")
    def fun(req: Req, args: ReqArgs) -> object:
        counts.append(nameless_files())
        return len(args["files"])

    run = serve(server)
    before = nameless_files()
    assert data(post(run, form(*[part("f", b"x" * size, "f")] * 5))) == 1
    assert counts == [before + (size > MIB)]


@pytest.mark.parametrize("size", [10, 2 * MIB], ids=["memory", "disk"])
def test_an_upload_as_the_answer(server: QuickServer, serve: Serve, log: Log, size: int) -> None:
    """It is gone after the handler, so this is a failure or the content: never half an answer."""

    @server.text_post("/form")
    def fun(req: Req, args: ReqArgs) -> object:
        return args["files"]["f"]

    run = serve(server)
    before = nameless_files()
    answer = post(run, form(part("f", b"x" * size, "f.bin")))
    assert (answer.status, len(answer.body)) == (200, size) or answer.status == 500
    until(lambda: nameless_files() == before, "the file is closed")


def test_many_files_hold_few_descriptors(server: QuickServer, serve: Serve) -> None:
    @server.json_post("/form")
    def fun(req: Req, args: ReqArgs) -> object:
        return [len(args["files"]), nameless_files()]

    run = serve(server)
    before = nameless_files()
    parts = [part(f"f{i}", b"x" * 900, f"{i}.bin") for i in range(1000)]
    assert data(post(run, form(*parts))) == [1000, before]


# ---- sizes ------------------------------------------------------------------------------------


def test_a_file_may_be_as_large_as_the_limit(server: QuickServer, run: Running) -> None:
    server.max_file_size = 100_000
    assert data(post(run, form(part("f", b"x" * 100_000, "f.bin"))))["files"]["f"]
    answer = post(run, form(part("f", b"x" * 100_001, "f.bin")))
    assert answer.status == 413
    assert b"Uploaded file is too large!" in answer.body


def test_the_limit_is_for_each_file(server: QuickServer, run: Running) -> None:
    server.max_file_size = 100_000
    parts = [part(f"f{i}", b"x" * 90_000, "f.bin") for i in range(5)]
    assert len(data(post(run, form(*parts)))["files"]) == 5


@pytest.mark.parametrize("framing", ["sized", "chunked"])
def test_too_large_a_file_is_refused_while_it_is_sent(
    server: QuickServer, run: Running, framing: str
) -> None:
    """The answer is there although most of the body is still to come."""
    server.max_file_size = 1 * MIB
    before = nameless_files()
    beginning = form(part("note", "x"), part("f", b"x" * (2 * MIB), "big.bin"))[: -len(BOUNDARY) - 8]
    client = run.connect()
    if framing == "sized":
        client.send(head(1 << 40).encode() + beginning)
    else:
        client.send(head(None).encode() + chunks(beginning, 50_000)[: -len("0\r\n\r\n")])
    answer = client.answer()
    assert answer.status == 413
    assert b"Uploaded file is too large!" in answer.body
    assert answer.get("connection") == "close"
    until(lambda: nameless_files() == before, "the file is gone")


def test_a_client_that_keeps_sending_reads_the_413(server: QuickServer, run: Running) -> None:
    """No reset takes the answer away from it."""
    server.max_file_size = 1 * MIB
    client = run.connect()
    client.send(head(1 << 40) + form(part("f", "", "f"))[: -len(BOUNDARY) - 8].decode())
    for _ in range(128):  # 8 MiB, whatever the server does meanwhile
        client.send(b"x" * (64 * KIB))
    assert client.answer().status == 413


def test_plain_fields_are_limited_together(server: QuickServer, run: Running) -> None:
    server.max_file_size = 100_000
    assert post(run, form(*[part(f"a{i}", "x" * 20_000) for i in range(6)])).status == 413
    assert post(run, form(*[part(f"a{i}", "x" * 20_000) for i in range(5)])).status == 200


def test_a_thousand_parts(run: Running) -> None:
    parts = [part(f"a{i}", str(i)) for i in range(1000)]
    assert len(data(post(run, form(*parts)))["post"]) == 1000


@pytest.mark.parametrize("filename", [None, "f.bin"], ids=["fields", "files"])
def test_more_than_a_thousand_parts(run: Running, filename: str | None) -> None:
    parts = [part(f"a{i}", "x", filename) for i in range(1001)]
    assert post(run, form(*parts)).status in (400, 413)
    assert post(run, form(part("a", "1"))).status == 200


@pytest.mark.parametrize(
    "extra",
    [
        "X: " + "x" * 8192 + "\r\n",
        "".join(f"X{i}: {'x' * 4000}\r\n" for i in range(3)),
        "X: 1\r\n" * 2000,
    ],
    ids=["one-line", "three-lines", "many-lines"],
)
def test_more_than_eight_kibibytes_of_part_headers(run: Running, extra: str) -> None:
    assert post(run, form(part("a", "1", extra=extra))).status in (400, 413)


def test_part_headers_without_an_end(run: Running) -> None:
    """They are refused before all of them has arrived."""
    body = form(part("a", "1"))[: -len(BOUNDARY) - 8] + f"\r\n--{BOUNDARY}\r\nX: ".encode()
    client = run.connect().send(head(1 << 30).encode() + body + b"x" * 20_000)
    assert client.answer().status in (400, 413)


def test_nearly_eight_kibibytes_of_part_headers(run: Running) -> None:
    body = form(part("a", "1", extra="X: " + "x" * 7900 + "\r\n"))
    assert data(post(run, body))["post"] == {"a": "1"}


# ---- the form as clients write it -------------------------------------------------------------

BOUNDARIES = ["x", "'()+_,-./:=?", "two words", "a" * 70, "=_Part_1", "--", "0123456789"]


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_quoted_boundaries(run: Running, boundary: str) -> None:
    body = form(part("a", "1"), part("f", "2", "f"), boundary=boundary)
    answer = data(post(run, body, f'multipart/form-data; boundary="{boundary}"'))
    assert (answer["post"], answer["files"]["f"][2]) == ({"a": "1"}, "2")


@pytest.mark.parametrize(
    "ctype",
    [
        f"multipart/form-data;boundary={BOUNDARY}",
        f"multipart/form-data; BOUNDARY={BOUNDARY}",
        f"multipart/form-data; charset=utf-8; boundary={BOUNDARY}",
        f"multipart/form-data; boundary={BOUNDARY}; charset=UTF-8",
        f'multipart/form-data; boundary="{BOUNDARY}"; charset="utf-8"',
        f'multipart/form-data; x="boundary=wrong; y"; boundary={BOUNDARY}',
        f"multipart/form-data; boundary={BOUNDARY};",
    ],
)
def test_spellings_of_the_boundary(run: Running, ctype: str) -> None:
    assert data(post(run, form(part("a", "ü")), ctype))["post"] == {"a": "ü"}


@pytest.mark.parametrize(
    ("form_charset", "part_charset"),
    [("iso-8859-1", None), (None, "iso-8859-1"), ("utf-8", "iso-8859-1"), ("ISO-8859-1", "latin1")],
)
def test_charsets(run: Running, form_charset: str | None, part_charset: str | None) -> None:
    ctype = CTYPE + (f"; charset={form_charset}" if form_charset else "")
    kind = f"text/plain; charset={part_charset}" if part_charset else None
    body = form(part("a", b"gr\xf6\xdfe", ctype=kind))
    assert data(post(run, body, ctype))["post"] == {"a": "größe"}


@pytest.mark.parametrize("preamble", [b"\r\n", b"This is a form.\r\n", b"a\r\n\r\nb\r\n", b"--\r\n"])
def test_a_preamble(run: Running, preamble: bytes) -> None:
    assert data(post(run, preamble + form(part("a", "1"))))["post"] == {"a": "1"}


@pytest.mark.parametrize(
    "end", [b"--", b"--\r\n\r\n", b"--\r\nThat was it.\r\n", b"--\r\n--" + BOUNDARY.encode() + b"--"]
)
def test_an_epilogue_or_no_final_line_break(run: Running, end: bytes) -> None:
    client = run.connect()
    for _ in range(2):
        body = form(part("a", "1"), end=end)
        answer = client.request("POST", "/form", body, Content_Type=CTYPE)
        assert data(answer)["post"] == {"a": "1"}


def test_content_that_looks_like_a_delimiter(run: Running) -> None:
    content = f"\r\n--{BOUNDARY[:-1]}\r\n-{BOUNDARY}\r\n--\r\n{BOUNDARY}--\r\n--{BOUNDARY}"[
        :-1
    ].encode()
    answer = data(post(run, form(part("f", content, "f"), part("a", "1"))))
    assert answer["files"]["f"][2] == content.decode()
    assert answer["post"] == {"a": "1"}


@pytest.mark.parametrize("size", [64 * KIB - 7, 64 * KIB, 300_001])
def test_content_of_line_breaks(run: Running, size: int) -> None:
    content = (b"\r\n--" * size)[:size]
    answer = data(post(run, form(part("f", content, "f"))))
    assert answer["files"]["f"][2] == hashlib.sha256(content).hexdigest()


# ---- broken forms -----------------------------------------------------------------------------

WHOLE = form(part("a", "1"), part("f", "content", "f.bin"))
DELIMITER = f"--{BOUNDARY}"
BROKEN = {
    "nothing": b"hello",
    "unterminated": WHOLE[: -len(f"{DELIMITER}--\r\n")],
    "cut-in-content": WHOLE[: WHOLE.index(b"content") + 3],
    "cut-in-headers": WHOLE[: WHOLE.index(b"form-data") + 3],
    "cut-in-last-delimiter": WHOLE[:-6],
    "last-delimiter-without-dashes": WHOLE[:-4] + b"\r\n",
    "no-name": form(part(None, "1")),
    "empty-name": form(part("", "1")),
    "no-name-but-a-filename": form(part(None, "1", "f.bin")),
    "no-disposition": f"{DELIMITER}\r\nContent-Type: text/plain\r\n\r\nx\r\n{DELIMITER}--\r\n".encode(),
    "no-headers": f"{DELIMITER}\r\n\r\nx\r\n{DELIMITER}--\r\n".encode(),
    "other-disposition": form(part("a", "1")).replace(b"form-data", b"attachment"),
    "no-colon": form(part("a", "1", extra="nonsense\r\n")),
    "another-boundary": form(part("a", "1"), boundary="other"),
    "bare-line-feeds": form(part("a", "1")).replace(b"\r\n", b"\n"),
    "not-utf8": form(part("a", b"\xff\xfe")),
    "header-not-utf8": form(part("a", "1")).replace(b'"a"', b'"\xff"'),
    "unknown-charset": form(part("a", "1", ctype="text/plain; charset=klingon")),
    "no-text-charset": form(part("a", "1", ctype="text/plain; charset=base64")),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_a_broken_form_is_a_400(run: Running, log: Log, body: bytes) -> None:
    answer = post(run, body)
    assert answer.status == 400
    assert len(answer.body) > 20
    assert "Traceback" not in log.text


@pytest.mark.parametrize("framing", ["sized", "chunked"])
@pytest.mark.parametrize("step", [1, 3])
def test_a_form_that_is_cut_off_anywhere_is_a_400(run: Running, framing: str, step: int) -> None:
    whole = form(part("a", "1"))
    last = whole.rindex(b"--")
    for size in range(step, last + 1, 7):
        body = whole[:size]
        client = run.connect()
        if framing == "sized":
            client.send(head(size).encode() + body)
        else:
            client.send(head(None).encode() + chunks(body, 20))
        assert client.answer().status == 400, body
        client.close()


@pytest.mark.parametrize(
    "ctype",
    [
        "multipart/form-data",
        "multipart/form-data;",
        "multipart/form-data; boundary",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        f"multipart/form-data; boundary={'x' * 300}",
        f"multipart/form-data; notboundary={BOUNDARY}",
        f"multipart/form-data; boundary={BOUNDARY}; charset=klingon",
        f"multipart/form-data; boundary={BOUNDARY}; charset=hex",
        f"multipart/form-data; boundary={BOUNDARY}; charset=a\tb",
        "multipart/form-data; boundary=\xff\xfe",
    ],
    ids=[
        "none", "semicolon", "no-value", "empty", "quoted-empty", "long", "other-name", "charset",
        "no-text", "tab", "no-ascii",
    ],
)  # fmt: skip
def test_no_usable_boundary_or_charset_is_a_400(run: Running, log: Log, ctype: str) -> None:
    body = form(part("a", "1"))
    raw = (head(len(body), ctype, more="Connection: close\r\n")).encode("latin-1") + body
    assert run.raw(raw).startswith(b"HTTP/1.1 400 ")
    assert "Traceback" not in log.text


@pytest.mark.parametrize("charset", ["utf-16", "utf-32", "idna", "punycode", "utf-7", "undefined"])
def test_unusual_charsets_end_in_an_answer(run: Running, log: Log, charset: str) -> None:
    answer = post(run, form(part("a", "1")), f"{CTYPE}; charset={charset}")
    assert answer.status in (200, 400)
    assert "Traceback" not in log.text


def test_the_handler_is_not_called_for_a_broken_form(server: QuickServer, serve: Serve) -> None:
    called = []

    @server.json_post("/form")
    def fun(req: Req, args: ReqArgs) -> str:
        called.append(req)
        return "fine"

    run = serve(server)
    before = nameless_files()
    body = form(part("f", b"x" * (2 * MIB), "f"))[: -len(BOUNDARY) - 8]
    assert post(run, body).status == 400
    assert not called
    until(lambda: nameless_files() == before, "the file is gone")


# ---- how it arrives ---------------------------------------------------------------------------


def test_byte_by_byte(run: Running) -> None:
    body = b"pre\r\n" + form(part("a", "ü"), part("f", "\r\n--\r\n", "f.bin")) + b"epilogue"
    client = run.connect()
    for byte in head(len(body)).encode() + body:
        client.send(bytes((byte,)))
    answer = data(client.answer())
    assert answer["post"] == {"a": "ü"}
    assert answer["files"]["f"] == ["f.bin", "application/octet-stream", "\r\n--\r\n"]


@pytest.mark.parametrize("step", [1, 2, 7, 100, 4096])
def test_a_form_in_any_pieces(step: int) -> None:
    """A thousand parts with ordinary headers, however the network cuts them."""
    parts = [
        part(f"field-number-{i}", str(i), extra="Content-Type: text/plain\r\n") for i in range(999)
    ]
    body = b"preamble\r\n" + form(*parts, part("f", "content", "f.bin")) + b"epilogue\r\n"
    made = make_form({"boundary": BOUNDARY}, 1 * MIB, Limits())
    try:
        for at in range(0, len(body), step):
            made.feed(body[at : at + step])
        made.complete()
        assert len(made.fields) == 999
        assert made.files["f"].read() == b"content"
    finally:
        made.close()


@pytest.mark.parametrize("size", [1, 2, 17, 1000, 70_000])
def test_chunked(run: Running, size: int) -> None:
    content = os.urandom(200 if size < 17 else 300_000)
    body = form(part("a", "1"), part("f", content, "f.bin"))
    answer = data(run.connect().send(head(None).encode() + chunks(body, size)).answer())
    assert answer["post"] == {"a": "1"}
    assert answer["files"]["f"][2] in (content.decode("latin-1"), hashlib.sha256(content).hexdigest())


def test_the_connection_goes_on_after_an_upload(run: Running) -> None:
    client = run.connect()
    body = form(part("f", b"x" * 500_000, "f"))
    for _ in range(3):
        assert client.request("POST", "/form", body, Content_Type=CTYPE).status == 200


def test_requests_behind_an_upload(run: Running) -> None:
    body = form(part("f", b"x" * 300_000, "f"))
    client = run.connect().send((head(len(body)).encode() + body) * 3)
    assert [client.answer().status for _ in range(3)] == [200] * 3


def test_http_1_0(run: Running) -> None:
    body = form(part("a", "1"))
    raw = head(len(body)).replace("HTTP/1.1", "HTTP/1.0").encode() + body
    answer = run.raw(raw)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"a":"1"' in answer


def test_a_half_closed_upload_is_answered(run: Running) -> None:
    body = form(part("a", "1"))
    client = run.connect().send(head(len(body)).encode() + body).half_close()
    assert data(client.answer())["post"] == {"a": "1"}


# ---- Expect: 100-continue ---------------------------------------------------------------------

EXPECT = "Expect: 100-continue\r\n"


def test_a_100_before_the_form(run: Running) -> None:
    body = form(part("a", "1"))
    client = run.connect().send(head(len(body), more=EXPECT))
    assert client.answer().status == 100
    assert data(client.send(body).answer())["post"] == {"a": "1"}


@pytest.mark.parametrize(
    ("target", "ctype", "status"),
    [
        ("/form", "multipart/form-data", 400),
        ("/form", f"{CTYPE}; charset=klingon", 400),
        ("/nothing", CTYPE, 404),
    ],
    ids=["no-boundary", "charset", "unknown-path"],
)
def test_no_100_for_a_form_that_is_not_wanted(
    run: Running, target: str, ctype: str, status: int
) -> None:
    client = run.connect().send(head(1000, ctype, target, EXPECT))
    assert client.answer().status == status


# ---- clients that leave -----------------------------------------------------------------------


@pytest.mark.parametrize("way", ["close", "half-close", "reset"])
def test_a_client_that_leaves_in_the_middle(
    server: QuickServer, serve: Serve, log: Log, way: str
) -> None:
    called = []

    @server.json_post("/form")
    def fun(req: Req, args: ReqArgs) -> str:
        called.append(req)
        return "fine"

    run = serve(server)
    before = nameless_files()
    client = run.connect()
    client.send(head(1 << 24).encode() + form(part("f", b"x" * (3 * MIB), "f"))[: -len(BOUNDARY) - 8])
    until(lambda: nameless_files() == before + 1, "the file is there")
    if way == "half-close":
        client.half_close()
    elif way == "reset":
        client.send(b"x" * 100)
        leave_with_a_reset(client)
    else:
        client.close()
    until(lambda: nameless_files() == before, "the file is gone")
    assert run.get("/nothing").status == 404
    assert not called
    assert "Traceback" not in log.text


def leave_with_a_reset(client: Client) -> None:
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_the_server_ends_in_the_middle(server: QuickServer, serve: Serve) -> None:
    server.shutdown_timeout = 0.1
    server.json_post("/form")(show)
    run = serve(server)
    before = nameless_files()
    client = run.connect()
    client.send(head(1 << 24).encode() + form(part("f", b"x" * (3 * MIB), "f"))[: -len(BOUNDARY) - 8])
    until(lambda: nameless_files() == before + 1, "the file is there")
    server.server_close()
    until(lambda: nameless_files() == before, "the file is gone")


# ---- cost -------------------------------------------------------------------------------------

ADVERSARIAL = {
    "carriage-returns": lambda size: part("f", b"\r" * size, "f"),
    "line-breaks": lambda size: part("f", b"\r\n" * (size // 2), "f"),
    "half-delimiters": lambda size: part("f", f"\r\n--{BOUNDARY[:-1]}".encode() * (size // 19), "f"),
    "delimiters-without-break": lambda size: part("f", DELIMITER.encode() * (size // 18), "f"),
    "dashes": lambda size: part("f", b"-" * size, "f"),
    "field-of-breaks": lambda size: part("f", b"\r\n--" * (size // 4)),
}


def cost(run: Running, body: bytes, ctype: str = CTYPE) -> float:
    """Processor time that the request takes, here and there."""

    def once() -> float:
        began = time.process_time()
        post(run, body, ctype)
        return time.process_time() - began

    return min(once() for _ in range(3))


@pytest.mark.parametrize("content", ADVERSARIAL.values(), ids=ADVERSARIAL)
def test_any_content_takes_linear_time(run: Running, content: Callable[[int], bytes]) -> None:
    small, large = (cost(run, form(content(size))) for size in (1 * MIB, 6 * MIB))
    assert large < 15 * small + 0.02


@pytest.mark.parametrize(
    "text", ["a", " ", ";", '"', "\\", "a=", "boundary=x", '="', "a ", "; boundary*0=x"]
)
def test_a_long_type_takes_linear_time(run: Running, text: str) -> None:
    """It is taken apart on the loop's thread: nobody else is served meanwhile."""
    kinds = ["multipart/form-data; " + text * (size // len(text)) for size in (3000, 15_000)]
    small, large = (cost(run, b"x", kind) for kind in kinds)
    assert large < 15 * small + 0.02


@pytest.mark.parametrize("text", ["a", " ", ";", "\\", 'x="', "a=", '\\"', "; filename*0=x", "%22"])
def test_long_part_headers_take_linear_time(run: Running, text: str) -> None:
    lines = [f"Content-Type: x; {text * (size // len(text))}\r\n" for size in (1500, 7500)]
    small, large = (cost(run, form(part("a", "1", extra=line))) for line in lines)
    assert large < 15 * small + 0.02


RECEIVER = """
import shutil

server.max_file_size = 1 << 30

@server.json_post("/form")
def receive(req, args):
    with open("received.bin", "wb") as out:
        shutil.copyfileobj(args["files"]["f"], out)
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
"""


@pytest.mark.timeout(120)
def test_a_large_upload_stays_out_of_memory(start: Callable[..., Script], tmp_path: Path) -> None:
    script = start(RECEIVER)
    client = script.connect()
    client.sock.settimeout(60)
    size = 200 * MIB
    before, after = form(part("f", b"\0", "f.bin")).split(b"\0")
    client.send(head(len(before) + size + len(after)).encode() + before)
    piece = bytes(1 * MIB)
    for _ in range(size // len(piece)):
        client.send(piece)
    peak = json.loads(client.send(after).answer().body)
    assert (tmp_path / "received.bin").stat().st_size == size
    assert peak < 100 * 1024  # KiB


def test_a_handler_that_runs_alone_holds_up_no_upload(serve: Serve) -> None:
    """With `parallel=False` too, forms are taken in while a handler runs."""
    serial = create_server(("127.0.0.1", 0), parallel=False)
    serial.json_post("/form")(show)
    release = threading.Event()
    serial.text_get("/slow")(lambda req, args: str(release.wait(PATIENCE)))
    run = serve(serial)
    slow = run.connect().send("GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
    before = nameless_files()
    body = form(part("f", b"x" * (2 * MIB), "f"))
    clients = [run.connect().send(head(len(body)).encode() + body) for _ in range(4)]
    until(lambda: nameless_files() == before + 4, "all files are there")
    release.set()
    assert [client.answer().status for client in (slow, *clients)] == [200] * 5


# ---- real clients -----------------------------------------------------------------------------

curl = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


@curl
@pytest.mark.parametrize("size", [0, 10, 3 * MIB])
def test_curl(run: Running, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / 'a "b" ü.bin').write_bytes(content)
    file = str(tmp_path / 'a "b" ü.bin').replace("\\", "\\\\").replace('"', '\\"')
    command = ["curl", "-sS", "--fail", "-F", "note=hello you", "-F", f'f=@"{file}";type=text/x-thing']
    done = subprocess.run([*command, f"{run.url}/form"], capture_output=True, timeout=30, check=True)
    answer = json.loads(done.stdout)
    assert answer["post"] == {"note": "hello you"}
    seen = content.decode("latin-1") if size < KIB else hashlib.sha256(content).hexdigest()
    assert answer["files"] == {"f": ['a "b" ü.bin', "text/x-thing", seen]}


@curl
def test_curl_chunked_and_continued(run: Running, tmp_path: Path) -> None:
    content = os.urandom(2 * MIB)
    (tmp_path / "f.bin").write_bytes(content)
    command = [
        "curl",
        "-sS",
        "--fail",
        "-H",
        "Transfer-Encoding: chunked",
        "-H",
        "Expect: 100-continue",
    ]
    command += ["-F", f"f=@{tmp_path / 'f.bin'}", f"{run.url}/form"]
    done = subprocess.run(command, capture_output=True, timeout=30, check=True)
    assert json.loads(done.stdout)["files"]["f"][2] == hashlib.sha256(content).hexdigest()
