"""HTTPS: how it is turned on, what clients get, and what those get who cannot do it."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest

from quick_server import (
    EventChannel,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    create_server,
    progress,
    worker_request,
)
from tests.certificates import Authority, Issued
from tests.harness import PATIENCE, Answer, Client, Running
from tests.integration.logs import Log
from tests.integration.scripts import ROOT, Script, environment
from tests.integration.test_life import command
from tests.ports import vacant_port

Serve = Callable[[QuickServer], Running]
Req = QuickServerRequestHandler

GET = b"GET /ok HTTP/1.1\r\nHost: localhost\r\n\r\n"
V1_2, V1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
RESET = struct.pack("ii", 1, 0)
MIB = 1 << 20


@dataclass
class Https:
    """A running server, and clients that trust its certificate."""

    run: Running
    authority: Authority
    issued: Issued

    @property
    def url(self) -> str:
        return f"https://localhost:{self.run.address[1]}"

    def wrap(
        self, sock: socket.socket, context: ssl.SSLContext | None = None, name: str = "localhost"
    ) -> ssl.SSLSocket:
        context = context or self.authority.trusted()
        return context.wrap_socket(sock, server_hostname=name, suppress_ragged_eofs=False)

    def connect(self, context: ssl.SSLContext | None = None, name: str = "localhost") -> Client:
        client = self.run.connect()
        client.sock = self.wrap(client.sock, context, name)
        return client

    def request(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        client = self.connect()
        try:
            return client.request(method, target, body, **headers)
        finally:
            client.close()


def with_handlers(server: QuickServer) -> QuickServer:
    @server.text_get("/ok", 0)
    def ok(req: Req, args: ReqArgs) -> str:
        return "ok"

    @server.text_get("/number/:n", 0)
    def number(req: Req, args: ReqArgs) -> str:
        return args["segments"]["n"]

    @server.text_post("/size", 0)
    def size(req: Req, args: ReqArgs) -> str:
        return f"{len(req.content)} {hashlib.sha256(req.content).hexdigest()}"

    @server.json_get("/host", 0)
    def host(req: Req, args: ReqArgs) -> object:
        return req.get_original_host()

    return server


@pytest.fixture
def server() -> QuickServer:
    return with_handlers(create_server(("127.0.0.1", 0)))


@pytest.fixture
def https(server: QuickServer, serve: Serve, authority: Authority, issued: Issued) -> Https:
    server.use_tls(issued.certificate, issued.key)
    return Https(serve(server), authority, issued)


def peer_serial(client: Client) -> str:
    assert isinstance(client.sock, ssl.SSLSocket)
    certificate = client.sock.getpeercert()
    assert certificate
    return str(certificate["serialNumber"])


def serial(issued: Issued) -> str:
    shown = subprocess.run(
        ["openssl", "x509", "-noout", "-serial", "-in", issued.certificate],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return shown.strip().removeprefix("serial=").lstrip("0")


def shown_to(https: Https, name: str) -> str:
    """The serial number of the certificate that a client gets who asks for that name."""
    context = https.authority.trusted()
    context.check_hostname = False
    client = https.connect(context, name)
    try:
        assert client.request("GET", "/ok").status == 200
        return peer_serial(client).lstrip("0")
    finally:
        client.close()


# ---- clients ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_requests_on_one_connection(https: Https, version: ssl.TLSVersion) -> None:
    context = https.authority.trusted(minimum_version=version, maximum_version=version)
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = https.connect(context)
    assert isinstance(client.sock, ssl.SSLSocket)
    assert client.sock.version() == {V1_2: "TLSv1.2", V1_3: "TLSv1.3"}[version]
    assert client.sock.selected_alpn_protocol() == "http/1.1"
    for number in range(20):
        assert client.request("GET", f"/number/{number}").body == b"%d" % number


def test_http_client(https: Https) -> None:
    host, port = https.run.address
    connection = http.client.HTTPSConnection(host, port, context=https.authority.trusted())
    try:
        for _ in range(3):
            connection.request("GET", "/ok")
            with connection.getresponse() as response:
                assert (response.status, response.read()) == (200, b"ok")
    finally:
        connection.close()


def curl(*arguments: str) -> str:
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "10", *arguments],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl(https: Https) -> None:
    said = curl(
        "--cacert", str(https.authority.file), "--http2",
        "--write-out", " %{http_version} %{num_connects} %{ssl_verify_result};",
        f"{https.url}/ok", f"{https.url}/number/7",
    )  # fmt: skip
    assert said == "ok 1.1 1 0;7 1.1 0 0;"


@pytest.mark.parametrize("step", [1, 1000])
def test_a_conversation_in_small_pieces(https: Https, step: int) -> None:
    client = https.run.connect()
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = https.authority.trusted().wrap_bio(incoming, outgoing, server_hostname="localhost")
    asked, answer = False, b""
    while not answer.endswith(b"ok"):
        try:
            if not asked:
                tls.do_handshake()
                tls.write(GET)
                asked = True
            answer += tls.read()
            continue
        except ssl.SSLWantReadError:
            pass
        said = outgoing.read()
        for start in range(0, len(said), step):
            client.send(said[start : start + step])
        data = client.sock.recv(65536)
        assert data
        incoming.write(data)
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_pipelined_requests_in_one_record(https: Https) -> None:
    client = https.connect()
    requests = [b"GET /number/%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % n for n in range(200)]
    client.send(b"".join(requests))
    assert [client.answer().body for _ in requests] == [b"%d" % n for n in range(200)]


def test_a_long_body(https: Https) -> None:
    body = os.urandom(MIB)
    expected = f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode()
    ctype = "application/octet-stream"
    client = https.connect()
    assert client.request("POST", "/size", body, Content_Type=ctype).body == expected
    assert client.request("POST", "/size", b"x", Content_Type=ctype).body.startswith(b"1 ")


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_slow_reader(https: Https, server: QuickServer, www: Path, kind: str) -> None:
    content = os.urandom(8 * MIB)
    (www / "big.bin").write_bytes(content)
    server.bind_path("/files/", str(www))

    @server.text_get("/memory", 0)
    def memory(req: Req, args: ReqArgs) -> bytes:
        return content

    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(PATIENCE)
    sock.connect(https.run.address)
    slow = Client(https.wrap(sock))
    https.run.clients.append(slow)
    target = {"memory": "/memory", "file": "/files/big.bin"}[kind]
    slow.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for number in range(50):
        assert https.request("GET", f"/number/{number}").status == 200
        slow.rest += slow.sock.recv(1000)
    assert slow.answer().body == content


def test_ranges(https: Https, server: QuickServer, www: Path) -> None:
    content = os.urandom(MIB)
    (www / "big.bin").write_bytes(content)
    server.bind_path("/", str(www))
    client = https.connect()
    answer = client.request("GET", "/big.bin", Range="bytes=100-199999")
    assert (answer.status, answer.body) == (206, content[100:200_000])
    answer = client.request("GET", "/big.bin", Range="bytes=5-300000,400000-800000")
    assert answer.status == 206
    assert content[5:300_001] in answer.body
    assert content[400_000:800_001] in answer.body
    assert client.request("GET", "/ok").body == b"ok"


@pytest.mark.parametrize("farewell", [True, False])
def test_a_client_that_ends_its_side_gets_its_answer(https: Https, farewell: bool) -> None:
    client = https.run.connect()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = https.authority.trusted().wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    client.send(outgoing.read())
    while True:
        incoming.write(client.sock.recv(65536))
        try:
            tls.do_handshake()
            break
        except ssl.SSLWantReadError:
            pass
    tls.write(GET)
    if farewell:
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
    client.send(outgoing.read()).half_close()
    while data := client.sock.recv(65536):
        incoming.write(data)
    answer = b""
    with pytest.raises(ssl.SSLZeroReturnError) if farewell else ExitStack():  # it said farewell, too
        while data := tls.read():
            answer += data
    assert answer.endswith(b"\r\n\r\nok")


def test_the_end_of_an_answer_is_told(https: Https) -> None:
    client = https.connect()
    assert client.request("GET", "/ok", Connection="close").body == b"ok"
    assert client.at_end()  # an end without a farewell would be an SSLEOFError


def test_idle_clients_are_told_when_the_server_ends(https: Https) -> None:
    client = https.connect()
    assert client.request("GET", "/ok").status == 200
    https.run.server.done = True
    assert client.at_end()


def test_workers(https: Https, server: QuickServer, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    @server.json_worker("/sum")
    def add(post: dict[str, list[int]]) -> int:
        progress(1, 2)
        return sum(post["numbers"])

    monkeypatch.setenv("SSL_CERT_FILE", str(https.authority.file))
    assert worker_request(f"{https.url}/sum", {"numbers": [1, 2, 3]}) == 6


def test_events(https: Https, server: QuickServer) -> None:
    @server.event_stream("/events")
    def events(req: Req, args: ReqArgs, channel: EventChannel) -> None:
        for number in range(3):
            channel.send({"number": number})
        channel.close()

    answer = https.request("GET", "/events", Accept="text/event-stream")
    found = [json.loads(data) for data in re.findall(rb"data: (.*)", answer.body)]
    assert found == [{"number": number} for number in range(3)]


def test_both_addresses_of_localhost(serve: Serve, authority: Authority, issued: Issued) -> None:
    server = with_handlers(create_server(("", 0)))
    server.use_tls(issued.both)
    port = serve(server).address[1]
    for address in ("127.0.0.1", "::1"):
        context = authority.trusted()
        with (
            socket.create_connection((address, port), PATIENCE) as sock,
            context.wrap_socket(sock, server_hostname=address) as tls,
        ):
            assert Client(tls).request("GET", "/ok").body == b"ok"


# ---- openssl ----------------------------------------------------------------------------------


def s_client(https: Https, *arguments: str, said: str = "") -> str:
    host, port = https.run.address
    done = subprocess.run(
        [
            "openssl",
            "s_client",
            "-connect",
            f"{host}:{port}",
            "-CAfile",
            https.authority.file,
            *arguments,
        ],
        input=said,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    return done.stdout + done.stderr


def test_alpn(https: Https) -> None:
    assert "ALPN protocol: http/1.1" in s_client(https, "-alpn", "h2,http/1.1")
    assert "No ALPN negotiated" in s_client(https, "-alpn", "h2")
    assert "Verify return code: 0 (ok)" in s_client(https)


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(https: Https, version: str, log: Log) -> None:
    said = s_client(https, version, "-cipher", "DEFAULT:@SECLEVEL=0")
    assert "alert protocol version" in said
    assert log.text == ""


def test_sessions_are_resumed(https: Https, tmp_path: Path) -> None:
    said = s_client(https, "-tls1_2", "-reconnect")
    assert len(re.findall(r"(?m)^New, TLSv1.2", said)) == 1
    assert len(re.findall(r"(?m)^Reused, TLSv1.2", said)) == 5
    assert resumes(https, V1_3)


def resumes(https: Https, version: ssl.TLSVersion, session: list[ssl.SSLSession] | None = None) -> bool:
    """Whether a second connection goes on with the session of the first, or with `session`."""
    context = https.authority.trusted(maximum_version=version)
    sessions: list[ssl.SSLSession] = []
    reused = False
    for _ in range(2):
        sock = socket.create_connection(https.run.address, PATIENCE)
        with context.wrap_socket(
            sock, server_hostname="localhost", session=sessions[0] if sessions else None
        ) as tls:
            assert Client(tls).request("GET", "/ok").status == 200
            assert tls.session is not None
            sessions.append(tls.session)
            reused = bool(tls.session_reused)
    return reused


def test_nothing_is_renegotiated(https: Https) -> None:
    """`R` on a line of its own asks for it."""
    with subprocess.Popen(
        ["openssl", "s_client", "-tls1_2", "-connect", "{}:{}".format(*https.run.address)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdin is not None
        process.stdin.write("R\n")
        process.stdin.flush()
        assert process.stdout is not None
        said = process.stdout.read()
    assert "no renegotiation" in said
    assert https.request("GET", "/ok").status == 200


# ---- certificates -----------------------------------------------------------------------------


def test_certificates_by_name(https: Https, server: QuickServer, authority: Authority) -> None:
    default, b, any_c, new = (
        https.issued,
        authority.issue("b.example"),
        authority.issue("*.c.example"),
        authority.issue(),
    )
    server.use_tls(b.both, hostname="B.example.")
    server.use_tls(any_c.certificate, any_c.key, hostname="*.c.example")
    assert shown_to(https, "b.example") == serial(b)
    assert shown_to(https, "x.c.example") == serial(any_c)
    for name in ("localhost", "c.example", "x.y.c.example", "127.0.0.1"):
        assert shown_to(https, name) == serial(default)
    server.use_tls(new.both)
    assert shown_to(https, "localhost") == serial(new)
    assert shown_to(https, "b.example") == serial(b)


def test_the_first_certificate_is_shown_to_all(
    server: QuickServer, serve: Serve, authority: Authority, issued: Issued
) -> None:
    server.use_tls(issued.both, hostname="b.example")
    https = Https(serve(server), authority, issued)
    assert shown_to(https, "a.example") == serial(issued)
    other = authority.issue()
    server.use_tls(other.both)
    assert shown_to(https, "a.example") == serial(other)
    assert shown_to(https, "b.example") == serial(issued)


@pytest.mark.parametrize("password", ["secret", b"secret", lambda: "secret"])
def test_a_key_with_a_password(
    server: QuickServer, serve: Serve, authority: Authority, password: str
) -> None:
    issued = authority.issue("localhost", password="secret")
    server.use_tls(issued.certificate, issued.key, password)
    assert Https(serve(server), authority, issued).request("GET", "/ok").body == b"ok"


def test_what_is_wrong_with_files_is_said(
    server: QuickServer, authority: Authority, tmp_path: Path
) -> None:
    good, other = authority.issue(), authority.issue()
    locked = authority.issue("localhost", password="secret")
    cut = tmp_path / "cut.pem"
    cut.write_bytes(good.certificate.read_bytes()[:300] + b"\n-----END CERTIFICATE-----\n")

    def complaint(certfile: Path, keyfile: Path | None = None, password: str | None = None) -> str:
        with pytest.raises((OSError, ValueError)) as caught:
            server.use_tls(certfile, keyfile, password)
        return str(caught.value)

    missing = tmp_path / "missing.pem"
    assert str(missing) in complaint(missing)
    assert "No such file" in complaint(missing)
    assert str(missing) in complaint(good.certificate, missing)
    assert complaint(good.certificate, other.key) == (
        f"the key in {str(other.key)!r} does not fit the certificate in {str(good.certificate)!r}"
    )
    assert complaint(good.certificate).startswith(
        f"there is no private key in {str(good.certificate)!r}"
    )
    assert complaint(good.key).startswith(f"there is no certificate in {str(good.key)!r}")
    assert "it needs its password" in complaint(locked.both)
    assert "the password may be wrong" in complaint(locked.both, None, "sesame")
    assert str(locked.both) in complaint(locked.both, None, "sesame")
    assert str(cut) in complaint(cut, good.key)
    assert server.scheme == "http"
    server.server_close()


NO_NAMES = """\
a..b|b.example:443|https://b.example| b.example|b.example |*|*.|*.*.x|f*.x|x.*|a b|a/b|\
-a.x|a-.x|.a|a..|.|127.0.0.1|*.127.0.0.1|::1|[::1]|a\0b|a@b|"""


@pytest.mark.parametrize("name", [*NO_NAMES.split("|"), "x" * 64, "x." * 127 + "x", "x\n"])
def test_what_is_no_host_name_is_refused(server: QuickServer, issued: Issued, name: str) -> None:
    with pytest.raises(ValueError, match="not a host name"):
        server.use_tls(issued.both, hostname=name)
    assert server.scheme == "http"
    server.server_close()


@pytest.mark.parametrize(
    "name", ["localhost", "B.example.", "*.b.example", "a_b.x-y.z", "straße.example"]
)
def test_what_is_one_is_not(server: QuickServer, issued: Issued, name: str) -> None:
    server.use_tls(issued.both, hostname=name)
    server.server_close()


def test_reload(https: Https, server: QuickServer, authority: Authority, tmp_path: Path) -> None:
    files = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(issued: Issued) -> None:
        files[0].write_bytes(issued.certificate.read_bytes())
        files[1].write_bytes(issued.key.read_bytes())

    first, second, other = authority.issue(), authority.issue(), authority.issue("b.example")
    put(first)
    server.use_tls(*files)
    server.use_tls(other.both, hostname="b.example")
    assert shown_to(https, "localhost") == serial(first)
    client = https.connect()
    assert client.request("GET", "/ok").status == 200
    put(second)
    assert shown_to(https, "localhost") == serial(first)
    server.reload_tls()
    assert shown_to(https, "localhost") == serial(second)
    assert shown_to(https, "b.example") == serial(other)
    assert client.request("GET", "/ok").status == 200
    files[1].write_bytes(first.key.read_bytes())
    with pytest.raises(ValueError, match="does not fit"):
        server.reload_tls()
    files[0].unlink()
    with pytest.raises(FileNotFoundError):
        server.reload_tls()
    assert shown_to(https, "localhost") == serial(second)


def test_all_certificates_are_replaced_or_none(
    https: Https, server: QuickServer, authority: Authority, tmp_path: Path
) -> None:
    first, second = authority.issue(), authority.issue()
    default, named = tmp_path / "default.pem", tmp_path / "named.pem"
    default.write_bytes(first.both.read_bytes())
    named.write_bytes(first.both.read_bytes())
    server.use_tls(default)
    server.use_tls(named, hostname="b.example")
    default.write_bytes(second.both.read_bytes())
    named.write_text("broken")
    with pytest.raises(ValueError, match=r"there is no certificate in .*named\.pem"):
        server.reload_tls()
    assert shown_to(https, "localhost") == shown_to(https, "b.example") == serial(first)


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_sessions_outlive_a_reload(https: Https, server: QuickServer, version: ssl.TLSVersion) -> None:
    context = https.authority.trusted(maximum_version=version)
    session = None
    for reused in (False, True, True):
        sock = socket.create_connection(https.run.address, PATIENCE)
        with context.wrap_socket(sock, server_hostname="localhost", session=session) as tls:
            assert Client(tls).request("GET", "/ok").status == 200
            assert tls.session_reused is reused
            session = tls.session
        server.reload_tls()


def test_reloads_while_clients_come(https: Https, server: QuickServer) -> None:
    """From another thread, as a command does."""
    failures: list[Exception] = []
    stop = threading.Event()

    def reload() -> None:
        try:
            while not stop.is_set():
                server.reload_tls()
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=reload)
    thread.start()
    try:
        for _ in range(40):
            assert https.request("GET", "/ok").status == 200
    finally:
        stop.set()
        thread.join()
    assert failures == []


def test_what_has_no_files_is_not_reloaded(server: QuickServer, issued: Issued) -> None:
    with pytest.raises(RuntimeError, match="plain HTTP"):
        server.reload_tls()
    server.use_tls_self_signed()
    with pytest.raises(RuntimeError, match="made for this run"):
        server.reload_tls()
    server.socket = server_context(issued).wrap_socket(server.socket, server_side=True)
    with pytest.raises(RuntimeError, match="assigned with its socket"):
        server.reload_tls()
    server.use_tls(issued.both)
    server.reload_tls()
    server.server_close()


def test_files_for_names_are_reloaded_beside_a_default_that_has_none(
    server: QuickServer, serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    default, named = authority.issue(), authority.issue("b.example")
    server.socket = server_context(default).wrap_socket(server.socket, server_side=True)
    file = tmp_path / "named.pem"
    file.write_bytes(default.both.read_bytes())
    server.use_tls(file, hostname="b.example")
    https = Https(serve(server), authority, default)
    file.write_bytes(named.both.read_bytes())
    server.reload_tls()
    assert shown_to(https, "b.example") == serial(named)
    assert shown_to(https, "localhost") == serial(default)


def test_files_for_names_are_reloaded_beside_a_certificate_that_was_made(
    server: QuickServer, issued: Issued
) -> None:
    server.use_tls_self_signed()
    server.use_tls(issued.both, hostname="b.example")
    assert server._certificates is not None
    made = server._certificates._loaded[""]
    server.reload_tls()
    assert server._certificates._loaded[""] is made
    server.server_close()


def test_a_self_signed_certificate(
    server: QuickServer, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fingerprint = server.use_tls_self_signed("dev.example")
    assert list(tmp_path.iterdir()) == []
    run = serve(server)
    shown = ssl.get_server_certificate(run.address, timeout=PATIENCE)
    file = tmp_path / "self-signed.pem"
    file.write_text(shown)
    said = subprocess.run(
        ["openssl", "x509", "-in", file, "-noout", "-fingerprint", "-sha256", "-ext", "subjectAltName"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"={fingerprint}\n" in said
    for name in (
        "DNS:localhost",
        "IP Address:127.0.0.1",
        "IP Address:0:0:0:0:0:0:0:1",
        "DNS:dev.example",
    ):
        assert name in said
    context = ssl.create_default_context(cafile=str(file))
    with urlopen(f"https://127.0.0.1:{run.address[1]}/ok", context=context, timeout=PATIENCE) as answer:
        assert answer.read() == b"ok"


# ---- sockets that ssl has wrapped -------------------------------------------------------------


def server_context(issued: Issued) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.both)
    return context


def test_a_wrapped_socket(serve: Serve, authority: Authority, issued: Issued) -> None:
    server = with_handlers(create_server(("", 0)))
    port = server.server_address[1]
    server.socket = server_context(issued).wrap_socket(server.socket, server_side=True)
    assert server.scheme == "https"
    run = serve(server)
    assert run.address[1] == port
    for address in ("127.0.0.1", "::1"):
        context = authority.trusted()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection((address, port), PATIENCE) as sock,
            context.wrap_socket(sock, server_hostname=address) as tls,
        ):
            assert Client(tls).request("GET", "/ok").body == b"ok"
            assert tls.selected_alpn_protocol() == "http/1.1"


def test_a_context_that_allows_old_versions(
    server: QuickServer, serve: Serve, authority: Authority, issued: Issued
) -> None:
    context = server_context(issued)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
    server.socket = context.wrap_socket(server.socket, server_side=True)
    assert context.options & ssl.OP_NO_RENEGOTIATION
    https = Https(serve(server), authority, issued)
    assert "alert protocol version" in s_client(https, "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0")
    assert https.request("GET", "/ok").status == 200


def test_a_context_that_allows_nothing_else(server: QuickServer, serve: Serve, issued: Issued) -> None:
    address = server.server_address
    context = server_context(issued)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ValueError, match=r"from 1\.2 on"):
        server.socket = context.wrap_socket(server.socket, server_side=True)
    assert server.socket.getsockname() == address
    assert serve(server).get("/ok").body == b"ok"  # as before, in plain HTTP


def test_a_context_that_chooses_by_itself(
    server: QuickServer, serve: Serve, authority: Authority, issued: Issued
) -> None:
    other = authority.issue("b.example")
    asked: list[str] = []

    def choose(tls: ssl.SSLObject, name: str, context: ssl.SSLContext) -> None:
        asked.append(name)
        tls.context = server_context(other)

    context = server_context(issued)
    context.sni_callback = choose
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with pytest.raises(ValueError, match="sni_callback"):
        server.use_tls(issued.both, hostname="c.example")
    https = Https(serve(server), authority, issued)
    assert shown_to(https, "a.example") == serial(other)
    assert asked == ["a.example"]


def test_names_beside_an_assigned_certificate(
    server: QuickServer, serve: Serve, authority: Authority, issued: Issued
) -> None:
    other = authority.issue("b.example")
    server.socket = server_context(issued).wrap_socket(server.socket, server_side=True)
    server.use_tls(other.both, hostname="b.example")
    https = Https(serve(server), authority, issued)
    assert shown_to(https, "b.example") == serial(other)
    assert shown_to(https, "a.example") == serial(issued)


def test_clients_that_need_a_certificate(
    server: QuickServer, serve: Serve, authority: Authority, issued: Issued
) -> None:
    context = server_context(issued)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    https = Https(serve(server), authority, issued)
    trusted = authority.trusted(maximum_version=V1_2)
    with pytest.raises(ssl.SSLError):
        https.connect(trusted)
    trusted.load_cert_chain(issued.both)
    assert https.connect(trusted).request("GET", "/ok").body == b"ok"
    for hostname in (None, "b.example"):  # whom to trust is known to the context that was assigned only
        with pytest.raises(ValueError, match="asks clients for certificates"):
            server.use_tls(issued.both, hostname=hostname)
    with pytest.raises(ValueError, match="asks clients for certificates"):
        server.use_tls_self_signed()
    assert https.connect(trusted).request("GET", "/ok").body == b"ok"


def test_a_context_for_two_servers(
    server: QuickServer, serve: Serve, authority: Authority, issued: Issued
) -> None:
    context, other = server_context(issued), authority.issue("b.example")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    second = with_handlers(create_server(("127.0.0.1", 0)))
    with pytest.raises(ValueError, match="in use for another server"):
        second.socket = context.wrap_socket(second.socket, server_side=True)
    server.socket = context.wrap_socket(server.socket, server_side=True)  # again, for the same
    server.use_tls(other.both, hostname="b.example")
    server.server_close()
    second.socket = context.wrap_socket(second.socket, server_side=True)
    https = Https(serve(second), authority, issued)
    assert shown_to(https, "b.example") == serial(issued)
    second.use_tls(other.both, hostname="b.example")
    assert shown_to(https, "b.example") == serial(other)


def test_another_listening_socket(server: QuickServer, serve: Serve) -> None:
    old = server.server_address
    new = socket.create_server(("127.0.0.1", 0))
    server.socket = new
    assert server.socket is new
    assert server.server_address == new.getsockname() != old
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(old, PATIENCE)
    assert serve(server).get("/ok").body == b"ok"


def test_who_may_ask_follows_the_listening_socket(serve: Serve) -> None:
    """On loopback the Host of a request must be this machine's."""
    server = with_handlers(create_server(("0.0.0.0", 0)))
    server.socket = socket.create_server(("127.0.0.1", 0))
    client = serve(server).connect()
    assert client.send("GET /ok HTTP/1.1\r\nHost: other.example\r\n\r\n").answer().status == 421


def test_sockets_that_cannot_serve(server: QuickServer, authority: Authority) -> None:
    with pytest.raises(TypeError, match="a listening socket is needed, not str"):
        server.socket = "socket"  # type: ignore[assignment] # what is tested
    with socket.socket() as idle, pytest.raises(ValueError, match="listen"):
        server.socket = idle
    with socket.socket(type=socket.SOCK_DGRAM) as udp, pytest.raises(ValueError, match="TCP"):
        server.socket = udp
    with socket.socket(socket.AF_UNIX) as unix, pytest.raises(ValueError, match="TCP"):
        server.socket = unix
    clients = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    clients.check_hostname = False
    with (
        clients.wrap_socket(socket.create_server(("127.0.0.1", 0))) as client,
        pytest.raises(ValueError, match="server_side=True"),
    ):
        server.socket = client
    assert server.scheme == "http"
    server.server_close()
    with pytest.raises(RuntimeError, match="before serve_forever"):
        server.socket = server.socket


def test_a_socket_is_not_replaced_while_serving(https: Https, server: QuickServer) -> None:
    with pytest.raises(RuntimeError, match="before serve_forever"):
        server.socket = server.socket
    assert https.request("GET", "/ok").status == 200


# ---- the seed's snippet -----------------------------------------------------------------------

SEED = """\
import ssl

addr = '' # empty address is equivalent to 'localhost'
port = 443 # the HTTPS default port 443 might require root privileges
server = create_server((addr, port), parallel=True)
server.socket = ssl.wrap_socket(server.socket, certfile='path/to/localhost.pem', server_side=True)

# setup your server

try:
    server.serve_forever()
finally:
    server.server_close()
"""


@pytest.mark.skipif(not hasattr(ssl, "wrap_socket"), reason="this Python has no ssl.wrap_socket")
def test_the_seeds_snippet(tmp_path: Path, authority: Authority, issued: Issued) -> None:
    (tmp_path / "path" / "to").mkdir(parents=True)
    (tmp_path / "path" / "to" / "localhost.pem").write_bytes(issued.both.read_bytes())
    (tmp_path / "index.html").write_text("hello")
    port = vacant_port()
    text = SEED.replace("port = 443 ", f"port = {port} ").replace(
        "# setup your server", "server.bind_path('/', '.'); print('ready', flush=True)"
    )
    (tmp_path / "seed.py").write_text("from quick_server import create_server\n" + text)
    tolerated = "ignore:ssl.wrap_socket:DeprecationWarning", "ignore:ssl.PROTOCOL:DeprecationWarning"
    script = Script.python("-W", tolerated[0], "-W", tolerated[1], "seed.py", cwd=tmp_path)
    try:
        script.wait_for("ready")
        for host in ("127.0.0.1", "[::1]"):
            url = f"https://{host}:{port}/index.html"
            with urlopen(url, context=authority.trusted(), timeout=PATIENCE) as answer:
                assert answer.read() == b"hello"
        script.interrupt()
        assert script.ended() == 0
        assert "Traceback" not in script.output
    finally:
        script.dispose()


# ---- those who cannot do it -------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "get", "HEAD"])
def test_plain_http_is_told_so(https: Https, method: str, log: Log) -> None:
    client = https.run.connect()
    client.send(f"{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
    client.send(b"x" * 100_000)
    answer = client.answer()
    assert answer.status == 400
    assert b"this port speaks HTTPS" in answer.body
    assert answer.get("connection") == "close"
    assert client.at_end()
    log.wait_for(r'"" 400 \(this port speaks HTTPS')
    assert log.text.count("\n") == 1


@pytest.mark.parametrize("first", [b"\0\1", b"\x80\x2e\x01", b"1", b"\r\nGET / HTTP/1.1\r\n\r\n"])
def test_anything_else_is_closed(https: Https, first: bytes, log: Log) -> None:
    assert https.run.raw(first) == b""
    assert log.text == ""


def client_hello(name: str = "localhost") -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("version", [V1_2, V1_3])
def test_a_name_that_is_not_ascii(
    https: Https, log: Log, capfd: pytest.CaptureFixture[str], version: ssl.TLSVersion
) -> None:
    hello = client_hello().replace(b"localhost", b"loc\xe4lhost")
    assert b"loc\xe4lhost" in hello
    alert = https.run.raw(hello)
    assert alert[:1] == b"\x15"
    assert https.request("GET", "/ok").status == 200
    assert (log.text.count("Traceback"), capfd.readouterr().err) == (0, "")


def test_two_hundred_stalled_handshakes(https: Https, server: QuickServer, log: Log) -> None:
    hello = client_hello()
    begins = [
        b"",
        hello[:1],
        hello[: len(hello) // 2],
        hello,
        hello[:-1] + b"\0",
        b"\x16" + b"\xff" * 99,
    ]
    clients = [https.run.connect() for _ in range(200)]
    for number, client in enumerate(clients):
        client.send(begins[number % len(begins)])
        if number % 3 == 0:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            client.close()
    started = time.monotonic()
    for number in range(20):
        assert https.request("GET", f"/number/{number}").body == b"%d" % number
    assert time.monotonic() - started < PATIENCE / 2
    connections = server._service.connections
    assert connections
    for client in clients:
        client.close()
    deadline = time.monotonic() + PATIENCE
    while connections:
        assert time.monotonic() < deadline, f"{len(connections)} left"
        time.sleep(0.01)
    answered = re.findall(r'(?m)^.*"GET /number/\d+ HTTP/1.1" 200.*\n', log.text)
    assert (len(answered), len(log.text.splitlines())) == (20, 20)  # not a word of the others


def test_a_stalled_handshake_is_dropped(
    server: QuickServer, serve: Serve, authority: Authority, issued: Issued, log: Log
) -> None:
    server.limits = server.limits._replace(head_timeout=0.3)
    server.use_tls(issued.both)
    run = serve(server)
    hello = client_hello()
    silent, half, mute = run.connect(), run.connect(), run.connect()
    half.send(hello[:100])
    mute.sock = Https(run, authority, issued).wrap(mute.sock)  # a handshake, and nothing else
    assert silent.at_end()
    assert half.at_end()
    assert mute.at_end()
    assert log.text == ""


# ---- what knows that it is HTTPS --------------------------------------------------------------


def test_the_scheme(server: QuickServer, authority: Authority, issued: Issued, log: Log) -> None:
    client = server.test_client()
    assert client.get("/host").json() == ["http", "localhost"]
    server.use_tls(issued.both)
    assert client.get("/host").json() == ["https", "localhost"]
    assert client.get("/host", headers={"Forwarded": "proto=http;host=a"}).json() == ["http", "a"]
    with server.running() as url:
        assert url == f"https://127.0.0.1:{server.server_address[1]}"
        with urlopen(f"{url}/host", context=authority.trusted(), timeout=PATIENCE) as answer:
            assert json.load(answer)[0] == "https"
        assert client.get("/ok").text == "ok"


def test_redirects_and_origins(https: Https, server: QuickServer, www: Path) -> None:
    (www / "sub").mkdir()
    server.bind_path("/", str(www))
    place = https.request("GET", "/sub").get("location")
    assert place == "/sub/"
    own, other = https.url, "https://other.example"
    assert https.request("POST", "/size", b"x", Origin=own).status == 200
    assert https.request("POST", "/size", b"x", Origin=other).status == 403


def test_ssl_is_not_loaded_without_need(tmp_path: Path) -> None:
    code = "import sys, quick_server; quick_server.create_server(('', 0)).server_close()"
    check = "assert not {'ssl', 'cryptography', 'quick_server.tls'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{code}; {check}"], env=environment(), check=True)


# ---- a big file -------------------------------------------------------------------------------


def resident(pid: int) -> int:
    """Bytes of memory of a process, at their most."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def test_memory_stays_flat_for_a_big_file(
    start: Callable[..., Script], authority: Authority, issued: Issued, tmp_path: Path
) -> None:
    size = 256 * MIB
    with (tmp_path / "big.bin").open("wb") as file:
        for start_of in range(0, size, 16 * MIB):
            file.seek(start_of)
            file.write(b"%d;" % start_of)
        file.truncate(size)
    script = start(f"server.use_tls({str(issued.both)!r}); server.bind_path('/', {str(tmp_path)!r})")
    client = Client(authority.trusted().wrap_socket(script.connect().sock, server_hostname="localhost"))
    try:
        assert client.request("HEAD", "/big.bin").get("content-length") == str(size)
        before = resident(script.process.pid)
        client.send("GET /big.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert client._line() == "HTTP/1.1 200 OK"
        while client._line():
            pass
        received, digest = len(client.rest), hashlib.sha256(client.rest)
        buffer = memoryview(bytearray(MIB))
        while count := client.sock.recv_into(buffer):
            received += count
            digest.update(buffer[:count])
    finally:
        client.close()
    assert received == size
    with (tmp_path / "big.bin").open("rb") as file:
        assert digest.digest() == hashlib.file_digest(file, "sha256").digest()
    assert resident(script.process.pid) - before < 8 * MIB


# ---- the command line -------------------------------------------------------------------------


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Script]]:
    """`quick("-p", "0")` runs the command line until the test ends."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    with ExitStack() as stack:

        def begin(*arguments: str) -> Script:
            script = Script.python("-m", "quick_server", *arguments, cwd=tmp_path)
            stack.callback(script.dispose)
            return script

        yield begin


def test_the_command_line_with_a_certificate(
    quick: Callable[..., Script], www: Path, authority: Authority, issued: Issued
) -> None:
    (www / "data.txt").write_text("here")
    script = quick(
        "-p", "0", "--www", "www", "--tls-cert", str(issued.certificate), "--tls-key", str(issued.key)
    )
    url = script.wait_for(r"at (https://localhost:\d+/)\n")[1]
    with urlopen(f"{url}data.txt", context=authority.trusted(), timeout=PATIENCE) as answer:
        assert answer.read() == b"here"
    assert "fingerprint" not in script.output


def test_the_command_line_with_a_certificate_of_its_own(
    quick: Callable[..., Script], www: Path, tmp_path: Path
) -> None:
    script = quick("-p", "0", "--www", "www", "--tls-self-signed")
    port = int(script.wait_for(r"at https://localhost:(\d+)/\n")[1])
    fingerprint = script.wait_for(r"SHA-256 fingerprint of the certificate: ([0-9A-F:]{95})\n")[1]
    shown = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port), timeout=PATIENCE))
    assert hashlib.sha256(shown).hexdigest() == fingerprint.replace(":", "").lower()
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--tls-cert", "missing.pem"], "missing.pem"),
        (["--tls-key", "key.pem"], "--tls-key needs --tls-cert"),
        (["--tls-cert", "a.pem", "--tls-self-signed"], "not allowed with"),
    ],
)
def test_what_the_command_line_refuses(tmp_path: Path, arguments: list[str], complaint: str) -> None:
    done = command("-p", "0", *arguments, cwd=tmp_path)
    assert done.returncode != 0
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_package_that_makes_certificates(tmp_path: Path) -> None:
    (tmp_path / "cryptography.py").write_text("raise ImportError('not here')")
    done = subprocess.run(
        [sys.executable, "-m", "quick_server", "-p", "0", "--tls-self-signed"],
        cwd=tmp_path,
        env=environment(PYTHONPATH=f"{tmp_path}:{ROOT}"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert 'pip install "quick_server[tls]"' in done.stderr
    assert "Traceback" not in done.stderr
