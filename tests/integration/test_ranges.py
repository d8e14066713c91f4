"""Parts of files: of small ones from memory, of big ones by sendfile, and of what handlers return."""

from __future__ import annotations

import email
import email.message
import os
import random
import socket
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs, Response, create_server
from tests.harness import PATIENCE, Answer, Client, Running

Serve = Callable[[QuickServer], Running]

SIZES = {
    "one.bin": 1,
    "small.bin": 1000,
    "kept.bin": 64 * 1024,  # the biggest that is kept in memory
    "sent.bin": 64 * 1024 + 1,  # the smallest that the kernel sends
    "big.bin": 3 * 1024 * 1024,
}
CONTENT = {name: random.Random(name).randbytes(size) for name, size in SIZES.items()}
HUGE = 20 * 1024 * 1024  # more than the kernel buffers between two ends of a loopback connection


@pytest.fixture
def run(serve: Serve, www: Path) -> Running:
    """Files at `/`, and the same ones from handlers at `/open/` and `/text/`."""
    for name, content in CONTENT.items():
        (www / name).write_bytes(content)
    server = create_server(("127.0.0.1", 0))
    server.bind_path("/", str(www))

    @server.text_get("/open/:name")
    def opened(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        return open(www / args["segments"]["name"], "rb")

    @server.json_get("/json/:name")
    def wrapped(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        return Response(open(www / args["segments"]["name"], "rb"), ctype="application/x-data")

    @server.text_get("/created/:name")
    def created(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        return Response(open(www / args["segments"]["name"], "rb"), code=203)

    @server.text_get("/tail/:name")
    def tail(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        file = FileIO(www / args["segments"]["name"])
        file.seek(100)
        return file

    return serve(server)


every_file = pytest.mark.parametrize("name", SIZES)
every_way = pytest.mark.parametrize("way", ["/", "/open/", "/json/"])


def test_a_handlers_file_from_the_future_has_changed_just_now(run: Running, www: Path) -> None:
    tomorrow = time.time() + 86_400
    name = next(iter(SIZES))
    os.utime(www / name, (tomorrow, tomorrow))
    answer = run.get(f"/open/{name}")
    changed, sent = (http_time(answer.get(field)) for field in ("last-modified", "date"))
    assert sent - 60 < changed <= sent


def http_time(text: str | None) -> float:
    assert text is not None
    return parsedate_to_datetime(text).timestamp()


def parts_of(answer: Answer) -> list[tuple[str | None, str | None, bytes]]:
    """Type, place and bytes of the parts, as a mail program sees them."""
    head = f"Content-Type: {answer.get('content-type')}\r\n\r\n".encode()
    message = email.message_from_bytes(head + answer.body)
    assert message.get_content_type() == "multipart/byteranges"
    assert message.is_multipart()
    assert not message.defects
    parts = []
    for part in message.get_payload():
        assert isinstance(part, email.message.Message)
        assert not part.defects
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        parts.append((part["Content-Type"], part["Content-Range"], content))
    return parts


def is_whole(answer: Answer, content: bytes) -> bool:
    return (answer.status, answer.get("content-range"), answer.body) == (200, None, content)


# ---- one range --------------------------------------------------------------------------------


@every_way
@every_file
def test_the_whole_says_that_parts_can_be_had(run: Running, way: str, name: str) -> None:
    answer = run.get(way + name)
    assert is_whole(answer, CONTENT[name])
    assert answer.get("accept-ranges") == "bytes"
    assert answer.get("content-length") == str(SIZES[name])


@every_way
@every_file
@pytest.mark.parametrize(
    ("spec", "first", "last"),
    [
        ("0-0", 0, 0),
        ("0-", 0, -1),
        ("-1", -1, -1),
        ("-{size}", 0, -1),
        ("-{more}", 0, -1),
        ("{end}-", -1, -1),
        ("0-{end}", 0, -1),
        ("0-{more}", 0, -1),
        ("{half}-{half}", "half", "half"),
        ("{half}-", "half", -1),
    ],
)
def test_one_range(
    run: Running, way: str, name: str, spec: str, first: int | str, last: int | str
) -> None:
    content = CONTENT[name]
    size = len(content)
    numbers = {"size": size, "end": size - 1, "more": size + 1000, "half": size // 2}

    def at(place: int | str) -> int:
        return place % size if isinstance(place, int) else numbers[place]

    answer = run.get(way + name, Range="bytes=" + spec.format(**numbers))
    assert answer.status == 206
    assert answer.get("content-range") == f"bytes {at(first)}-{at(last)}/{size}"
    assert answer.body == content[at(first) : at(last) + 1]


@every_way
def test_a_part_carries_what_the_whole_does(run: Running, way: str) -> None:
    """RFC 9110 section 15.3.7."""
    for name in ("small.bin", "big.bin"):
        whole, part = run.get(way + name), run.get(way + name, Range="bytes=5-9")
        for field in ("content-type", "etag", "last-modified", "cache-control", "accept-ranges"):
            assert whole.get(field) is not None
            assert part.all(field) == whole.all(field)
        assert part.get("content-length") == "5"
        assert part.get("date")


@every_way
@every_file
@pytest.mark.parametrize("spec", ["{size}-", "{more}-{most}", "-0", "{size}-,{more}-"])
def test_a_range_that_is_not_there(run: Running, way: str, name: str, spec: str) -> None:
    size = SIZES[name]
    spec = spec.format(size=size, more=size + 1000, most=size + 2000)
    client = run.connect()
    answer = client.request("GET", way + name, Range=f"bytes={spec}")
    assert (answer.status, answer.all("content-range")) == (416, [f"bytes */{size}"])
    assert client.request("GET", way + name).body == CONTENT[name]  # the connection goes on


@every_way
@pytest.mark.parametrize("field", ["bytes=b-a", "bytes=5-2", "lines=1-2", "bytes", "bytes=0-1,x"])
@pytest.mark.parametrize("name", ["small.bin", "big.bin"])
def test_a_range_that_makes_no_sense(run: Running, way: str, field: str, name: str) -> None:
    assert is_whole(run.get(way + name, Range=field), CONTENT[name])


def test_an_empty_file(run: Running, www: Path) -> None:
    (www / "empty.bin").touch()
    assert is_whole(run.get("/empty.bin"), b"")
    answer = run.get("/empty.bin", Range="bytes=0-0")
    assert (answer.status, answer.get("content-range")) == (416, "bytes */0")


def test_the_end_of_an_empty_file(run: Running, www: Path) -> None:
    """RFC 9110 section 14.1.2: the last 500 bytes of nothing can be had: they are the whole of it."""
    (www / "empty.bin").touch()
    assert is_whole(run.get("/empty.bin", Range="bytes=-500"), b"")


@every_way
@pytest.mark.parametrize("name", ["small.bin", "big.bin"])
def test_head_has_no_parts(run: Running, way: str, name: str) -> None:
    """RFC 9110 section 14.2: Range is defined for GET alone."""
    client = run.connect()
    for field in ("bytes=0-9", "bytes=0-1,4-5", "bytes=99999999-"):
        answer = client.request("HEAD", way + name, Range=field)
        assert answer.status == 200
        assert answer.get("content-length") == str(SIZES[name])
        assert answer.get("content-range") is None
        assert answer.get("accept-ranges") == "bytes"


def test_two_range_fields_make_one_list(run: Running) -> None:
    answer = Client(socket.create_connection(run.address, PATIENCE))
    try:
        answer.send("GET /small.bin HTTP/1.1\r\nHost: x.localhost\r\n")
        answer.send("Range: bytes=0-1\r\nRange: bytes=4-5\r\n\r\n")
        assert is_whole(answer.answer(), CONTENT["small.bin"])  # `bytes=0-1, bytes=4-5` is no list
    finally:
        answer.close()


def test_a_file_that_changed_is_cut_from_the_new_content(run: Running, www: Path) -> None:
    assert run.get("/small.bin", Range="bytes=0-3").body == CONTENT["small.bin"][:4]
    (www / "small.bin").write_bytes(b"something else")
    answer = run.get("/small.bin", Range="bytes=0-3")
    assert (answer.body, answer.get("content-range")) == (b"some", "bytes 0-3/14")


# ---- several ranges ---------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("name", ["small.bin", "kept.bin", "sent.bin", "big.bin"])
def test_several_ranges(run: Running, way: str, name: str) -> None:
    content, size = CONTENT[name], SIZES[name]
    client = run.connect()
    answer = client.request("GET", way + name, Range="bytes=0-9, -5, 100-199")
    assert answer.status == 206
    assert answer.get("content-range") is None
    ctype = run.get(way + name).get("content-type")
    assert parts_of(answer) == [
        (ctype, f"bytes 0-9/{size}", content[:10]),
        (ctype, f"bytes {size - 5}-{size - 1}/{size}", content[-5:]),
        (ctype, f"bytes 100-199/{size}", content[100:200]),
    ]
    assert answer.get("etag") == run.get(way + name).get("etag")
    assert client.request("GET", way + name).body == content


def test_several_big_ranges(run: Running) -> None:
    content, size = CONTENT["big.bin"], SIZES["big.bin"]
    middle = size // 2
    answer = run.get("/big.bin", Range=f"bytes={middle}-, 0-{middle - 1}")
    assert [part for _, _, part in parts_of(answer)] == [content[middle:], content[:middle]]


def test_sixteen_ranges_and_no_more(run: Running) -> None:
    for name in ("small.bin", "big.bin"):
        content = CONTENT[name]
        specs = [f"{2 * n}-{2 * n}" for n in range(17)]
        answer = run.get("/" + name, Range="bytes=" + ",".join(specs[:16]))
        assert [part for _, _, part in parts_of(answer)] == [
            content[2 * n : 2 * n + 1] for n in range(16)
        ]
        assert is_whole(run.get("/" + name, Range="bytes=" + ",".join(specs)), content)


@every_way
@pytest.mark.parametrize("field", ["0-9,5-20", "0-,-1", "0-0,0-0", "500-,0-500"])
@pytest.mark.parametrize("name", ["small.bin", "big.bin"])
def test_overlapping_ranges_are_the_whole(run: Running, way: str, field: str, name: str) -> None:
    assert is_whole(run.get(way + name, Range="bytes=" + field), CONTENT[name])


def test_one_of_several_that_is_there_comes_alone(run: Running) -> None:
    """RFC 9110 section 15.3.7.2: one part is not sent as multipart unless several were asked for."""
    answer = run.get("/small.bin", Range="bytes=5000-,2-4,9000-9001")
    assert (answer.status, answer.get("content-range")) == (206, "bytes 2-4/1000")
    assert answer.body == CONTENT["small.bin"][2:5]


def test_boundaries_are_not_to_be_guessed(run: Running) -> None:
    types = {run.get("/small.bin", Range="bytes=0-0,2-2").get("content-type") for _ in range(5)}
    assert len(types) == 5


# ---- conditions -------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("name", ["small.bin", "big.bin"])
def test_if_range(run: Running, way: str, name: str) -> None:
    content = CONTENT[name]
    whole = run.get(way + name)
    tag, date = whole.get("etag"), whole.get("last-modified")
    assert tag is not None
    assert date is not None
    client = run.connect()

    def ask(field: str, spec: str = "0-4") -> Answer:
        return client.request("GET", way + name, Range=f"bytes={spec}", If_Range=field)

    for same in (tag, date):
        assert (ask(same).status, ask(same).body) == (206, content[:5])
        assert ask(same, f"{SIZES[name]}-").status == 416
    for other in ('"other"', "W/" + tag, "Sun, 06 Nov 1994 08:49:37 GMT", "yesterday"):
        assert is_whole(ask(other), content)
        assert is_whole(ask(other, f"{SIZES[name]}-"), content)


def test_if_range_after_a_change(run: Running, www: Path) -> None:
    first = run.get("/small.bin", Range="bytes=0-4")
    tag = first.get("etag")
    assert tag is not None
    (www / "small.bin").write_bytes(b"a new state of it")
    assert is_whole(run.get("/small.bin", Range="bytes=5-", If_Range=tag), b"a new state of it")


@every_way
@pytest.mark.parametrize("name", ["small.bin", "big.bin"])
def test_preconditions_come_before_ranges(run: Running, way: str, name: str) -> None:
    tag = run.get(way + name).get("etag")
    assert tag is not None
    client = run.connect()
    for spec in ("0-4", "0-1,3-4", "99999999-"):
        field = f"bytes={spec}"
        assert client.request("GET", way + name, Range=field, If_None_Match=tag).status == 304
        assert client.request("GET", way + name, Range=field, If_Match='"other"').status == 412
    answer = client.request("GET", way + name, If_Match=tag, Range="bytes=0-4")
    assert (answer.status, answer.body) == (206, CONTENT[name][:5])


@pytest.mark.parametrize("way", ["/", "/open/"])
@pytest.mark.parametrize("name", ["small.bin", "big.bin"])
def test_dates_as_preconditions(run: Running, way: str, name: str, www: Path) -> None:
    os.utime(www / name, (10**9, 10**9))
    before, same = "Sun, 09 Sep 2001 01:46:39 GMT", "Sun, 09 Sep 2001 01:46:40 GMT"
    client = run.connect()
    assert client.request("GET", way + name).get("last-modified") == same
    for method in ("GET", "HEAD"):
        assert client.request(method, way + name, If_Modified_Since=same).status == 304
        assert client.request(method, way + name, If_Modified_Since=before).status == 200
        assert client.request(method, way + name, If_Unmodified_Since=before).status == 412
        assert client.request(method, way + name, If_Unmodified_Since=same).status == 200


@pytest.mark.parametrize(
    "fields",
    [{"Range": "bytes=0-3"}, {"If-None-Match": "*"}, {"If-Match": '"x"'}, {"Range": "bytes=9999999-"}],
)
@pytest.mark.parametrize("name", ["black.bin", ".hidden.bin", "outside.bin", "nothing.bin", "pipe.bin"])
def test_what_is_not_served_is_not_there_in_parts_either(
    serve: Serve, www: Path, name: str, fields: Any
) -> None:
    (www.parent / "outside.bin").write_bytes(b"a secret")
    (www / "outside.bin").symlink_to(www.parent / "outside.bin")
    (www / "black.bin").write_bytes(b"a secret")
    (www / ".hidden.bin").write_bytes(b"a secret")
    os.mkfifo(www / "pipe.bin")
    server = create_server(("127.0.0.1", 0))
    server.bind_path("/", str(www))
    server.add_file_patterns(["*/black*"], True)
    answer = serve(server).request("GET", "/" + name, **fields)
    assert (answer.status, answer.get("content-range"), answer.get("etag")) == (404, None, None)
    assert b"secret" not in answer.body


# ---- codings ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [5000, 500_000])
def test_ranges_are_of_the_plain_content(run: Running, www: Path, size: int) -> None:
    content = (b"the same line again\n" * size)[:size]
    (www / "text.txt").write_bytes(content)
    for way in ("/", "/open/"):
        answer = run.get(way + "text.txt", Range="bytes=100-199", Accept_Encoding="gzip, br, zstd")
        assert (answer.status, answer.body) == (206, content[100:200])
        assert answer.get("content-range") == f"bytes 100-199/{size}"
        assert answer.get("content-encoding") is None
        several = run.get(way + "text.txt", Range="bytes=0-9,20-29", Accept_Encoding="gzip")
        assert several.get("content-encoding") is None
        assert [part for _, _, part in parts_of(several)] == [content[:10], content[20:30]]


# ---- handlers ---------------------------------------------------------------------------------


def test_a_file_at_a_place_is_served_from_there(run: Running) -> None:
    rest = CONTENT["big.bin"][100:]
    assert is_whole(run.get("/tail/big.bin"), rest)
    answer = run.get("/tail/big.bin", Range="bytes=0-9")
    assert (answer.body, answer.get("content-range")) == (rest[:10], f"bytes 0-9/{len(rest)}")
    assert run.get("/tail/big.bin", Range="bytes=-10").body == rest[-10:]
    assert run.get("/tail/big.bin", Range=f"bytes={len(rest)}-").status == 416


def test_another_code_is_never_a_part(run: Running) -> None:
    answer = run.get("/created/big.bin", Range="bytes=0-9")
    assert (answer.status, answer.body) == (203, CONTENT["big.bin"])


def test_an_answer_without_a_file_has_no_parts(serve: Serve) -> None:
    server = create_server(("127.0.0.1", 0))

    @server.text_get("/text")
    def text(req: QuickServerRequestHandler, args: ReqArgs) -> str:
        return "0123456789"

    @server.text_get("/stream")
    def stream(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        return (str(n) for n in range(10))

    run = serve(server)
    for target in ("/text", "/stream"):
        assert is_whole(run.get(target, Range="bytes=0-1"), b"0123456789")


# ---- connections ------------------------------------------------------------------------------


def test_pipelined_behind_ranges(run: Running) -> None:
    """Answers come in order, whatever each of them is made of."""
    big, small = CONTENT["big.bin"], CONTENT["small.bin"]
    wanted: list[tuple[str, str | None, int, bytes]] = [
        ("/big.bin", "bytes=10-1000009", 206, big[10:1000010]),
        ("/small.bin", "bytes=-7", 206, small[-7:]),
        ("/big.bin", "bytes=99999999-", 416, b""),
        ("/open/big.bin", "bytes=5-", 206, big[5:]),
        ("/small.bin", None, 200, small),
        ("/big.bin", "bytes=0-9,1000-900000", 206, b""),
        ("/json/small.bin", "bytes=1-1", 206, small[1:2]),
        ("/big.bin", None, 200, big),
    ]
    client = run.connect()
    for target, field, _, _ in wanted:
        more = f"Range: {field}\r\n" if field else ""
        client.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n")
    for target, field, status, body in wanted:
        answer = client.answer()
        assert answer.status == status, (target, field)
        if field is not None and "," in field:
            assert [part for _, _, part in parts_of(answer)] == [big[:10], big[1000:900001]]
        elif status != 416:
            assert answer.body == body, (target, field)


def test_http_1_0(run: Running) -> None:
    head, _, body = run.raw("GET /big.bin HTTP/1.0\r\nRange: bytes=-1000000\r\n\r\n").partition(
        b"\r\n\r\n"
    )
    assert head.split()[1] == b"206"
    assert body == CONTENT["big.bin"][-1000000:]


def open_copies(path: Path) -> int:
    """How many descriptors of this process lead to that file."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{fd}") == str(path)
        except OSError:
            continue
    return found


def is_closed(path: Path) -> bool:
    return open_copies(path) == 0


def wait_until(true: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, what
        os.sched_yield()


@pytest.mark.parametrize("way", ["/", "/open/"])
@pytest.mark.parametrize("field", [None, "bytes=1000-", "bytes=0-9,1000-", "bytes=0-9000000,9000001-"])
def test_a_client_that_leaves_takes_the_file_with_it(
    run: Running, www: Path, way: str, field: str | None
) -> None:
    huge = www / "huge.bin"
    with open(huge, "wb") as file:
        file.truncate(HUGE)
    more = f"Range: {field}\r\n" if field else ""
    clients = []
    for _ in range(5):
        client = run.connect()
        client.send(f"GET {way}huge.bin HTTP/1.1\r\nHost: localhost\r\n{more}\r\n")
        assert client.sock.recv(100)  # it has begun
        clients.append(client)
    assert open_copies(huge) == 5
    for client in clients:
        client.close()
    wait_until(partial(is_closed, huge), "the file stays open though nobody reads it")


@every_way
@pytest.mark.parametrize(
    "fields",
    [
        {"Range": "bytes=0-9"},
        {"Range": "bytes=0-9,20-29"},
        {"Range": "bytes=99999999-"},
        {"Range": "bytes=0-9,5-"},
        {"If-Match": '"other"'},
        {"If-None-Match": "*"},
        {"If-Unmodified-Since": "Sun, 06 Nov 1994 08:49:37 GMT"},
    ],
)
def test_every_answer_gives_its_descriptor_back(run: Running, www: Path, way: str, fields: Any) -> None:
    client = run.connect()
    for name in ("big.bin", "small.bin"):
        for method in ("GET", "HEAD"):
            client.request(method, way + name, **fields)
        wait_until(partial(is_closed, www / name), f"{name} stays open")
