"""`bind_proxy` in front of servers of other makers: nginx, Node, uvicorn, and ourselves.

What they answer through us is what they answer directly, and it comes when they send it.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from quick_server import QuickServer, QuickServerRequestHandler, ReqArgs, create_server
from tests.certificates import Authority, Issued
from tests.harness import PATIENCE, Answer, Client, Running, running
from tests.integration.logs import Log
from tests.integration.proxy import realupstreams
from tests.integration.proxy.realupstreams import Nginx
from tests.integration.scripts import Script

if TYPE_CHECKING:
    from websockets.sync.client import ClientConnection

MIB = 1 << 20
PACKED = "the quick brown fox jumps over the lazy dog\n" * 500
BIG = 64 * MIB
Serve = Callable[[QuickServer], Running]


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory, issued: Issued) -> Iterator[Nginx]:
    with realupstreams.nginx(tmp_path_factory.mktemp("nginx"), issued) as found:
        (found.root / "page.txt").write_text(PACKED)
        (found.root / "small.bin").write_bytes(bytes(range(256)) * 8)
        (found.root / "folder").mkdir()
        (found.root / "folder" / "index.html").write_text("index")
        block = os.urandom(MIB)
        with (found.root / "big.bin").open("wb") as file:
            for number in range(BIG // MIB):
                file.write(number.to_bytes(4) + block[4:])
        with (found.root / "zeros.bin").open("wb") as file:
            file.truncate(300 * MIB)
        yield found


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Script]:
    with realupstreams.node(tmp_path) as script:
        yield script


@pytest.fixture
def uvicorn(tmp_path: Path) -> Iterator[str]:
    with realupstreams.uvicorn(tmp_path) as url:
        yield url


def in_front_of(url: str, name: str = "/", **options: Any) -> QuickServer:
    server = create_server(("127.0.0.1", 0))
    server.bind_proxy(name, url, **options)
    return server


def address_of(url: str) -> tuple[str, int]:
    host, _, port = url.rpartition("/")[2].rpartition(":")
    return host, int(port)


def ask(url: str, method: str, target: str, **fields: str) -> Answer:
    """One request, asked of a server directly."""
    with socket.create_connection(address_of(url), PATIENCE) as sock:
        return Client(sock).request(method, target, b"", **fields)


def wait_until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


# ---- nginx: files -----------------------------------------------------------------------------

FIELDS = ("content-type", "content-length", "content-range", "content-encoding", "accept-ranges")
KEPT = (*FIELDS, "etag", "last-modified", "location", "allow")


def gist(answer: Answer) -> tuple[int, list[str | None], bytes]:
    """What an answer says: all that has to arrive as it was sent."""
    body = answer.body
    if (answer.get("content-type") or "").startswith("multipart/byteranges"):
        return answer.status, [], re.sub(rb"--\d+", b"--", body)  # another boundary each time
    return answer.status, [answer.get(name) for name in KEPT], body


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [
        ("GET", "/page.txt", {}),
        ("GET", "/page.txt", {"Accept_Encoding": "gzip"}),
        ("HEAD", "/page.txt", {}),
        ("HEAD", "/big.bin", {}),
        ("GET", "/small.bin", {}),
        ("GET", "/small.bin", {"Range": "bytes=100-299"}),
        ("GET", "/small.bin", {"Range": "bytes=-1"}),
        ("GET", "/small.bin", {"Range": "bytes=0-1,500-501"}),
        ("GET", "/small.bin", {"Range": "bytes=5000-"}),
        ("GET", "/small.bin", {"If_None_Match": "TAG"}),
        ("GET", "/small.bin", {"If_Match": '"other"'}),
        ("GET", "/folder/", {}),
        ("GET", "/nothing", {}),
        ("POST", "/page.txt", {}),
        ("OPTIONS", "/page.txt", {}),
    ],
    ids=str,
)
def test_answers_are_those_of_nginx(
    nginx: Nginx, serve: Serve, method: str, target: str, fields: dict[str, str]
) -> None:
    tag = ask(nginx.url, "HEAD", target).get("etag") or ""
    fields = {name: value.replace("TAG", tag) for name, value in fields.items()}
    client = serve(in_front_of(nginx.url)).connect()
    direct = ask(nginx.url, method, target, **fields)
    for _ in range(2):  # the second time on connections that are there
        assert gist(client.request(method, target, b"", **fields)) == gist(direct)


def test_what_nginx_has_compressed_stays_so(nginx: Nginx, serve: Serve) -> None:
    """And nothing is compressed that it has not: it knows best what its answers are."""
    site = serve(in_front_of(nginx.url))
    packed = site.get("/page.txt", Accept_Encoding="gzip")
    assert packed.all("content-encoding") == ["gzip"]
    assert gzip.decompress(packed.body).decode() == PACKED
    plain = site.get("/page.txt", Accept_Encoding="identity")
    assert plain.get("content-encoding") is None
    assert plain.body.decode() == PACKED


def test_connections_to_nginx_are_kept(nginx: Nginx, serve: Serve) -> None:
    """Whoever asks: requests that follow each other go over one connection."""
    site = serve(in_front_of(nginx.url))
    said = [site.get("/connection").body.decode().split() for _ in range(5)]
    assert len({connection for connection, _ in said}) == 1
    assert [int(number) for _, number in said] == [1, 2, 3, 4, 5]


def test_big_files_both_ways(nginx: Nginx, serve: Serve, tmp_path: Path) -> None:
    """With curl, which checks lengths, and in chunks, too."""
    url = serve(in_front_of(nginx.url, "/files/")).url + "/files"
    source, copy = nginx.root / "big.bin", tmp_path / "copy.bin"
    curl("-o", str(copy), url + "/big.bin")
    assert digest(copy) == digest(source)
    for name, fields in (("sized", []), ("chunked", ["-H", "Transfer-Encoding: chunked"])):
        curl("-T", str(source), *fields, f"{url}/put/{name}.bin")
        stored = nginx.root / "put" / f"{name}.bin"
        assert digest(stored) == digest(source)
        stored.unlink()


def curl(*arguments: str) -> None:
    command = ["curl", "-sS", "-f", "--max-time", "30", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, done.stderr


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_redirects_of_nginx(nginx: Nginx, serve: Serve) -> None:
    """It tells folders by their slash, with an address of its own."""
    site = serve(in_front_of(nginx.url, "/plain/"))
    assert site.get("/plain/folder").get("location") == nginx.url + "/folder/"
    site.server.bind_proxy("/plain/", nginx.url, rewrite=True)
    assert site.get("/plain/folder").get("location") == "http://localhost/plain/folder/"


def test_a_unix_socket(nginx: Nginx, serve: Serve) -> None:
    site = serve(in_front_of(f"unix:{nginx.socket_path}:/folder", "/x/"))
    assert site.get("/x/index.html").body == b"index"
    assert site.get("/x/").body == b"index"
    site.server.bind_proxy("/", f"unix:{nginx.socket_path}")
    assert site.get("/seen").body == b"localhost http http"


def test_a_unix_socket_that_is_not_there(tmp_path: Path, serve: Serve, log: Log) -> None:
    site = serve(in_front_of(f"unix:{tmp_path}/none.sock"))
    assert site.get("/x").status == 502
    log.wait_for(r"none\.sock.*No such file")


# ---- nginx: TLS -------------------------------------------------------------------------------


def test_a_certificate_that_nobody_vouches_for(nginx: Nginx, serve: Serve, log: Log) -> None:
    site = serve(in_front_of(nginx.secure_url))
    answer = site.get("/seen")
    assert answer.status == 502
    assert b"127.0.0.1" not in answer.body  # the page does not tell
    log.wait_for(r"upstream https://127\.0\.0\.1:\d+ .*certificate")


def test_a_certificate_of_an_authority_that_is_trusted(
    nginx: Nginx, serve: Serve, authority: Authority
) -> None:
    site = serve(in_front_of(nginx.secure_url, verify=authority.trusted()))
    assert site.get("/seen").body == b"127.0.0.1 https http"
    said = [site.get("/connection").body.split()[0] for _ in range(3)]
    assert len(set(said)) == 1  # TLS connections are kept, too
    assert site.get("/small.bin").body == bytes(range(256)) * 8


def test_a_certificate_for_another_name(
    tmp_path_factory: pytest.TempPathFactory, serve: Serve, authority: Authority, log: Log
) -> None:
    other = authority.issue("elsewhere.example")
    with realupstreams.nginx(tmp_path_factory.mktemp("other"), other) as nginx:
        site = serve(in_front_of(nginx.secure_url, verify=authority.trusted()))
        assert site.get("/seen").status == 502
        log.wait_for("certificate")


def test_verification_can_be_off(nginx: Nginx, serve: Serve) -> None:
    site = serve(in_front_of(nginx.secure_url, verify=False))
    assert site.get("/seen").body == b"127.0.0.1 https http"


def test_tls_on_both_sides(
    nginx: Nginx, serve: Serve, issued: Issued, authority: Authority, tmp_path: Path
) -> None:
    server = in_front_of(nginx.secure_url, verify=authority.trusted())
    server.use_tls(issued.certificate, issued.key)
    port = serve(server).address[1]
    curl(
        *("--cacert", str(authority.file), "-o", str(tmp_path / "copy.bin")),
        f"https://localhost:{port}/big.bin",
    )
    assert digest(tmp_path / "copy.bin") == digest(nginx.root / "big.bin")


# ---- Node -------------------------------------------------------------------------------------


def node_url(script: Script) -> str:
    return f"http://127.0.0.1:{script.port}"


def test_what_node_is_told(node: Script, serve: Serve) -> None:
    site = serve(in_front_of(node_url(node), "/app/"))
    answer = site.get(
        "/app/request?q=a%20b&q=", X_Twice="1", Connection="close, X-Secret", X_Secret="2"
    )
    method, url, raw = json.loads(answer.body)
    assert (method, url) == ("GET", "/request?q=a%20b&q=")
    fields = list(zip(raw[::2], raw[1::2], strict=True))
    told = {name.lower(): value for name, value in fields}
    assert told["host"] == f"127.0.0.1:{node.port}"
    assert told["x-twice"] == "1"
    assert told["x-forwarded-for"] == "127.0.0.1"
    assert told["x-forwarded-proto"] == "http"
    assert told["x-forwarded-host"] == "localhost"
    assert "x-secret" not in told
    assert told.get("connection", "keep-alive").lower() == "keep-alive"


def test_chunks_arrive(node: Script, serve: Serve) -> None:
    answer = serve(in_front_of(node_url(node))).get("/pieces")
    assert answer.body == b"one two three"
    assert answer.get("x-sum") is None


def test_chunks_arrive_at_a_client_that_knows_none(node: Script, serve: Serve) -> None:
    said = serve(in_front_of(node_url(node))).raw("GET /pieces HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert said.endswith(b"\r\n\r\none two three")
    assert b"chunked" not in said.lower()


def test_events_come_when_they_are_sent(node: Script, serve: Serve) -> None:
    """Each is there before the next is sent, and the end is passed on."""
    site = serve(in_front_of(node_url(node)))
    client = site.connect().send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_for(client, b"data: 0\n\n")
    assert b"text/event-stream" in client.rest
    for event in ("1", "2", "end"):
        site.get("/go", X_Event=event)
        wait_for(client, f"data: {event}\n\n".encode())
    wait_for(client, b"\r\n0\r\n\r\n")


def wait_for(client: Client, data: bytes) -> None:
    """Reads until that has come."""
    while data not in client.rest:
        more = client.sock.recv(65536)
        assert more, f"the end came before {data!r}: {client.rest!r}"
        client.rest += more


def test_a_client_of_events_that_leaves(node: Script, serve: Serve) -> None:
    """Node sees it within a second."""
    site = serve(in_front_of(node_url(node)))
    client = site.connect().send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_for(client, b"data: 0\n\n")
    client.close()
    left = time.monotonic()
    wait_until(lambda: site.get("/closed").body == b"1", "Node still holds the stream")
    assert time.monotonic() - left < 2


def test_another_protocol_than_websocket(node: Script, serve: Serve) -> None:
    """After 101 it is bytes, both ways, and each side ends for itself."""
    client = serve(in_front_of(node_url(node))).connect()
    client.send("GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    answer = client.answer()
    assert (answer.status, answer.get("upgrade")) == (101, "echo")
    data = os.urandom(MIB)
    client.send(b"ping")
    wait_for(client, b"ping")
    client.rest = b""
    for start in range(0, MIB, 65536):
        client.send(data[start : start + 65536])
        while len(client.rest) < start + 65536:
            client.rest += client.sock.recv(65536)
    assert client.rest == data
    client.rest = b""
    client.half_close()
    client.at_end()
    assert client.rest == b"bye"


def test_uploads_are_streamed(node: Script, serve: Serve) -> None:
    """What has come is with the upstream before the rest is sent."""
    site = serve(in_front_of(node_url(node)))
    body = os.urandom(2 * MIB)
    client = site.connect()
    client.send(f"PUT /hash HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n")
    client.send(body[:MIB])
    wait_until(lambda: json.loads(site.get("/begun").body) == MIB, "the first half is held back")
    client.send(body[MIB:])
    assert json.loads(client.answer().body) == {
        "size": len(body),
        "hash": hashlib.sha256(body).hexdigest(),
    }


def test_an_answer_before_the_end_of_an_upload(node: Script, serve: Serve) -> None:
    client = serve(in_front_of(node_url(node))).connect()
    client.send("PUT /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n")
    client.send(b"x" * 1000)
    answer = client.answer()
    assert (answer.status, answer.body) == (413, b"enough")


def test_early_hints(node: Script, serve: Serve) -> None:
    client = serve(in_front_of(node_url(node))).connect()
    client.send("GET /hints HTTP/1.1\r\nHost: localhost\r\n\r\n")
    hints, answer = client.answer(), client.answer()
    assert (hints.status, hints.get("link")) == (103, "</style.css>; rel=preload; as=style")
    assert (answer.status, answer.body) == (200, b"page")


def test_cookies_and_redirects_of_node(node: Script, serve: Serve) -> None:
    site = serve(in_front_of(node_url(node), "/app/", rewrite=True))
    answer = site.get("/app/cookies")
    assert answer.status == 302
    assert answer.get("location") == "/app/request"
    assert answer.all("set-cookie") == ["a=1; Path=/app", "b=2; Path=/app"]


def test_an_upstream_that_dies_in_its_answer(node: Script, serve: Serve, log: Log) -> None:
    """The client can tell: there is no last chunk. After that there is nobody: 502."""
    site = serve(in_front_of(node_url(node)))
    client = site.connect().send("GET /half HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_for(client, b"half of ")
    node.process.kill()
    try:
        while data := client.sock.recv(65536):
            client.rest += data
    except ConnectionResetError:
        pass
    assert not client.rest.endswith(b"0\r\n\r\n")
    assert site.get("/request").status == 502
    log.wait_for(r"in the middle of its answer")


# ---- uvicorn ----------------------------------------------------------------------------------


def web_socket(site: Running, target: str, **options: Any) -> ClientConnection:
    from websockets.sync.client import connect

    url = f"ws://127.0.0.1:{site.address[1]}{target}"
    connection: ClientConnection = connect(url, open_timeout=PATIENCE, **options)
    return connection


@pytest.mark.parametrize("compression", ["deflate", None])
def test_web_sockets(uvicorn: str, serve: Serve, compression: Literal["deflate"] | None) -> None:
    """Texts, bytes and pings behind a prefix; compression and subprotocols are the upstream's."""
    site = serve(in_front_of(uvicorn, "/nb/"))
    with web_socket(
        site, "/nb/ws?kernel=1", compression=compression, subprotocols=["v2.kernel"], max_size=8 * MIB
    ) as web:
        assert web.subprotocol == "v2.kernel"
        accepted = web.response.headers.get("Sec-WebSocket-Extensions") if web.response else None
        assert (accepted is not None) == (compression is not None)
        web.send("who")
        assert web.recv(PATIENCE) == "/ws?kernel=1 127.0.0.1"
        for message in ("", "grüße", b"\0\xff", os.urandom(4 * MIB), "x" * 300_000):
            web.send(message)
            assert web.recv(PATIENCE) == message
        assert web.ping().wait(PATIENCE)
        web.send("close")
        from websockets.exceptions import ConnectionClosedError

        with pytest.raises(ConnectionClosedError) as closed:
            web.recv(PATIENCE)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4321, "as you wish")


def test_web_sockets_ask_and_answer_at_the_same_time(uvicorn: str, serve: Serve) -> None:
    """Many, beside ordinary requests, and a client's close arrives with its code."""
    site = serve(in_front_of(uvicorn, "/nb/"))
    with ExitStack() as stack:
        sockets = [stack.enter_context(web_socket(site, f"/nb/{number}")) for number in range(20)]
        for turn in range(5):
            for number, web in enumerate(sockets):
                web.send(f"{number} {turn}")
            for number, web in enumerate(sockets):
                assert web.recv(PATIENCE) == f"{number} {turn}"
            assert site.get("/nb/seen").status == 200
        for web in sockets:
            web.close(4000)
    wait_until(lambda: seen(site).get("code") == 4000, "the close has not come")


def seen(site: Running) -> Any:
    return ast.literal_eval(site.get("/nb/seen").body.decode())


def test_a_web_socket_that_is_refused(uvicorn: str, serve: Serve) -> None:
    """The upstream's 403 is the answer, no tunnel."""
    from websockets.exceptions import InvalidStatus

    site = serve(in_front_of(uvicorn, "/nb/"))
    with pytest.raises(InvalidStatus) as refused:
        web_socket(site, "/nb/closed")
    assert refused.value.response.status_code == 403
    assert site.get("/nb/seen").status == 200


def test_web_sockets_over_tls(uvicorn: str, serve: Serve, issued: Issued, authority: Authority) -> None:
    from websockets.sync.client import connect

    server = in_front_of(uvicorn, "/nb/")
    server.use_tls(issued.certificate, issued.key)
    port = serve(server).address[1]
    with connect(f"wss://localhost:{port}/nb/ws", ssl=authority.trusted()) as web:
        for message in ("hello", os.urandom(MIB // 2)):
            web.send(message)
            assert web.recv(PATIENCE) == message


def test_a_stream_of_uvicorn(uvicorn: str, serve: Serve) -> None:
    site = serve(in_front_of(uvicorn, "/nb/"))
    client = site.connect().send("GET /nb/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_for(client, b"data: hello\n\n")
    assert "events" not in seen(site)
    client.close()
    wait_until(lambda: seen(site).get("events") == "over", "the stream goes on for nobody")


def test_an_upload_to_uvicorn(uvicorn: str, serve: Serve) -> None:
    """In chunks of a client that waits for a 100."""
    site = serve(in_front_of(uvicorn, "/nb/"))
    client = site.connect()
    client.send("POST /nb/upload HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n")
    client.send("Transfer-Encoding: chunked\r\n\r\n")
    assert client.answer().status == 100
    half = os.urandom(MIB)
    client.send(b"%x\r\n" % MIB + half + b"\r\n")
    wait_until(lambda: seen(site).get("size") == MIB, "the first half is held back")
    client.send(b"%x\r\n" % MIB + half + b"\r\n0\r\n\r\n")
    assert client.answer().body.decode() == f"{2 * MIB} {hashlib.sha256(half + half).hexdigest()}"


# ---- ourselves --------------------------------------------------------------------------------


def test_a_server_of_ours_as_upstream(serve: Serve, www: Path) -> None:
    (www / "page.html").write_text("<p>inner</p>")
    inner = create_server(("127.0.0.1", 0))
    inner.bind_path("/", str(www))

    @inner.json_post("/sum", 0)
    def total(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        return sum(args["post"]["numbers"])

    @inner.json_worker("/work")
    def work(args: dict[str, Any]) -> Any:
        return args["a"] * 2

    @inner.text_get("/count", 0)
    def count(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        return (f"{number}\n" for number in range(1000))

    with running(inner) as behind:
        server = in_front_of(behind.url, "/inner/")

        @server.text_get("/inner/own")
        def own(req: QuickServerRequestHandler, args: ReqArgs) -> str:
            return "of the outer one"

        site = serve(server)
        page = site.get("/inner/page.html")
        assert page.body == b"<p>inner</p>"
        tag = page.get("etag") or ""
        assert site.get("/inner/page.html", If_None_Match=tag).status == 304
        assert site.get("/inner/page.html", Range="bytes=3-7").body == b"inner"
        answer = site.request(
            "POST", "/inner/sum", b'{"numbers": [1, 2, 3]}', Content_Type="application/json"
        )
        assert json.loads(answer.body) == 6
        assert site.get("/inner/count").body.decode().split() == [str(n) for n in range(1000)]
        assert site.get("/inner/own").body == b"of the outer one"
        assert site.get("/inner/none").status == 404

        from quick_server import worker_request

        assert worker_request(site.url + "/inner/work", {"a": 21}) == 42


def test_a_chain(serve: Serve, www: Path) -> None:
    """Each of three says who asked it."""
    inner = create_server(("127.0.0.1", 0))

    @inner.json_get("/who", 0)
    def who(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        return [req.headers[name] for name in ("X-Forwarded-For", "Via", "Host")]

    with running(inner) as behind, running(in_front_of(behind.url)) as between:
        answer = serve(in_front_of(between.url, preserve_host=True)).get("/who")
        forwarded, via, host = json.loads(answer.body)
    assert forwarded == "127.0.0.1, 127.0.0.1"
    assert len(via.split(",")) == 2
    assert host == behind.url.removeprefix("http://")
    assert len((answer.get("via") or "").split(",")) == 2


# ---- memory -----------------------------------------------------------------------------------


FLAT = 24 * MIB


def peak(pid: int) -> int:
    """The most memory that a process has occupied since `reset_peak`."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found
    return int(found[1]) * 1024


def reset_peak(pid: int) -> int:
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak(pid)


def test_memory_stays_flat(nginx: Nginx, node: Script, start: Callable[..., Script]) -> None:
    """Three hundred megabytes down, and up, through a server in a process of its own."""
    script = start(
        f'server.bind_proxy("/down/", {nginx.url!r})\nserver.bind_proxy("/up/", {node_url(node)!r})'
    )
    url, pid = f"http://127.0.0.1:{script.port}", script.process.pid
    curl("-o", "/dev/null", url + "/down/page.txt")
    before = reset_peak(pid)
    curl("-o", "/dev/null", url + "/down/zeros.bin")
    curl("-T", str(nginx.root / "zeros.bin"), "-o", "/dev/null", url + "/up/hash")
    growth = peak(pid) - before
    assert growth < FLAT, f"{growth / MIB:.1f} MiB"
    assert json.loads(script.connect().request("GET", "/up/begun").body) == 300 * MIB


def test_a_client_that_takes_nothing(node: Script, start: Callable[..., Script]) -> None:
    """Pauses the upstream: what has left it is in buffers of the system, not in our memory."""
    script = start(f'server.bind_proxy("/", {node_url(node)!r})')
    before = reset_peak(script.process.pid)
    client = script.connect().send("GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_for(client, b"\r\n\r\n")
    asking = script.connect()

    def sent() -> int:
        return int(asking.request("GET", "/flooded").body)

    def stands_still() -> bool:
        size = sent()
        time.sleep(0.1)
        return size == sent()

    wait_until(stands_still, "the upstream is never paused")
    assert sent() < 50 * MIB
    assert peak(script.process.pid) - before < FLAT
    begun = client.rest.partition(b"\r\n\r\n")[2]
    taken, buffer = len(begun), bytearray(MIB)
    while taken < 200 * MIB:
        size = client.sock.recv_into(buffer)
        assert size, "the end came early"
        taken += size
    assert peak(script.process.pid) - before < FLAT


def test_an_upstream_that_takes_nothing(node: Script, start: Callable[..., Script]) -> None:
    """Pauses the client of an upload, and all arrives in the end."""
    script = start(f'server.bind_proxy("/", {node_url(node)!r})')
    before = reset_peak(script.process.pid)
    client = script.connect()
    client.send(f"PUT /held HTTP/1.1\r\nHost: localhost\r\nContent-Length: {200 * MIB}\r\n\r\n")
    block, sent = bytes(MIB), 0
    client.sock.settimeout(0.5)  # long enough for whatever still moves
    try:
        while sent < 200 * MIB:
            sent += client.sock.send(block)
    except TimeoutError:
        pass
    assert 0 < sent < 50 * MIB
    assert peak(script.process.pid) - before < FLAT
    client.sock.settimeout(PATIENCE)
    assert json.loads(script.connect().request("GET", "/take").body) == 1
    while sent < 200 * MIB:
        sent += client.sock.send(block[: 200 * MIB - sent])
    assert json.loads(client.answer().body)["size"] == 200 * MIB
    assert peak(script.process.pid) - before < FLAT
