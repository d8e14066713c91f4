"""Servers of other makers, as upstreams: nginx, Node and uvicorn, each in a process of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from urllib.request import urlopen

import pytest

from tests.certificates import Issued
from tests.harness import PATIENCE
from tests.integration.scripts import Script, environment
from tests.nginx import NGINX, nginx_command

CONFIGURATION = Template("""\
    types { text/plain txt; text/html html; application/octet-stream bin; }
    sendfile on;
    gzip on;
    gzip_types text/plain;
    gzip_proxied any;
    client_max_body_size 0;
    server {
        listen 127.0.0.1:$port;
        listen 127.0.0.1:$secure_port ssl;
        listen unix:$folder/nginx.sock;
        ssl_certificate $certificate;
        ssl_certificate_key $key;
        root $root;
        location /connection { return 200 "$$connection $$connection_requests"; }
        location /seen { return 200 "$$host $$scheme $$http_x_forwarded_proto"; }
        location /put/ { dav_methods PUT DELETE; }
    }
""")


@dataclass(frozen=True)
class Nginx:
    """A running nginx: the addresses at which it listens, and the folder that it serves."""

    url: str
    secure_url: str
    socket_path: Path
    root: Path


@contextmanager
def nginx(folder: Path, issued: Issued) -> Iterator[Nginx]:
    """nginx on sockets that listen before it starts."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    root = folder / "root"
    (root / "put").mkdir(parents=True)
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        port, secure_port = (sock.getsockname()[1] for sock in sockets)
        sockets.append(stack.enter_context(socket.socket(socket.AF_UNIX)))
        sockets[-1].bind(f"{folder}/nginx.sock")
        sockets[-1].listen()
        servers = CONFIGURATION.substitute(
            folder=folder,
            port=port,
            secure_port=secure_port,
            certificate=issued.certificate,
            key=issued.key,
            root=root,
        )
        descriptors = [sock.fileno() for sock in sockets]
        process = subprocess.Popen(
            nginx_command(folder, servers),
            env=os.environ | {"NGINX": "".join(f"{fd};" for fd in descriptors)},
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        with urlopen(url + "/connection", timeout=PATIENCE):  # it has begun
            pass
        yield Nginx(url, f"https://127.0.0.1:{secure_port}", folder / "nginx.sock", root)
    finally:
        process.terminate()
        process.wait(PATIENCE)


NODE = """\
const http = require("http");
const { createHash } = require("crypto");

const streams = [], held = [];
let closed = 0, flooded = 0, begun = 0;

function json(res, value) {
  res.setHeader("Content-Type", "application/json");
  res.end(JSON.stringify(value));
}

const answers = {
  "/request": (req, res) => json(res, [req.method, req.url, req.rawHeaders]),
  "/pieces": (req, res) => {
    res.writeHead(200, { "Content-Type": "text/plain", "Trailer": "X-Sum" });
    for (const piece of ["one ", "two ", "three"]) res.write(piece);
    res.addTrailers({ "X-Sum": "3" });
    res.end();
  },
  "/events": (req, res) => {
    res.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-cache" });
    res.write("data: 0\\n\\n");
    res.on("close", () => { closed += 1; });
    streams.push(res);
  },
  "/go": (req, res) => {  // each stream has its next event; "end" ends them
    for (const stream of streams) stream.write("data: " + req.headers["x-event"] + "\\n\\n");
    if (req.headers["x-event"] === "end") for (const stream of streams.splice(0)) stream.end();
    json(res, streams.length);
  },
  "/closed": (req, res) => json(res, closed),
  "/held": (req, res) => { held.push([req, res]); },  // reads nothing until "/take"
  "/take": (req, res) => {
    json(res, held.length);
    for (const [upload, answer] of held.splice(0)) answers["/hash"](upload, answer);
  },
  "/hash": (req, res) => {
    const hash = createHash("sha256");
    let size = 0;
    begun = 0;
    req.on("data", (data) => { hash.update(data); size += data.length; begun = size; });
    req.on("end", () => json(res, { size, hash: hash.digest("hex") }));
  },
  "/begun": (req, res) => json(res, begun),
  "/early": (req, res) => { res.writeHead(413, { Connection: "close" }); res.end("enough"); },
  "/hints": (req, res) => {
    res.writeEarlyHints({ link: "</style.css>; rel=preload; as=style" });
    res.end("page");
  },
  "/flood": (req, res) => {  // 200 MB, as fast as they are taken
    const piece = Buffer.alloc(1 << 20, "x");
    flooded = 0;
    res.setHeader("Content-Length", 200 << 20);
    const more = () => {
      while (flooded < 200 << 20) {
        flooded += piece.length;
        if (!res.write(piece)) return;
      }
      res.end();
    };
    res.on("drain", more);
    more();
  },
  "/flooded": (req, res) => json(res, flooded),
  "/half": (req, res) => { res.write("half of "); streams.push(res); },
  "/cookies": (req, res) => {
    res.writeHead(302, { "Set-Cookie": ["a=1; Path=/", "b=2; Path=/"], Location: "/request" });
    res.end();
  },
};

const server = http.createServer((req, res) => {
  const answer = answers[req.url.split("?")[0]];
  if (answer) return answer(req, res);
  res.statusCode = 404;
  res.end("nothing here");
});
server.on("upgrade", (req, socket) => {
  const fields = ["Connection: Upgrade", "Upgrade: echo", "", ""];
  socket.write(["HTTP/1.1 101 Switching Protocols", ...fields].join("\\r\\n"));
  socket.on("data", (data) => socket.write(data));
  socket.on("end", () => socket.end("bye"));
  socket.on("error", () => {});
});
server.listen(0, "127.0.0.1", () => console.log("port " + server.address().port));
"""


@contextmanager
def node(folder: Path) -> Iterator[Script]:
    """Node's own HTTP server."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    (folder / "upstream.js").write_text(NODE)
    script = Script(["node", "upstream.js"], cwd=folder)
    try:
        script.wait_for(r"(?m)^port \d+$")
        yield script
    finally:
        script.dispose()


ASGI = """\
import hashlib

seen = {}


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await echo(scope, receive, send)
    elif scope["type"] == "http":
        await {"/upload": upload, "/seen": told, "/events": events}[scope["path"]](receive, send)


async def echo(scope, receive, send):
    assert (await receive())["type"] == "websocket.connect"
    if scope["path"] == "/closed":
        await send({"type": "websocket.close", "code": 1008})
        return
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        if text == "who":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            text = f"{scope['path']}?{scope['query_string'].decode()} {headers['x-forwarded-for']}"
        if text == "close":
            await send({"type": "websocket.close", "code": 4321, "reason": "as you wish"})
            return
        await send({"type": "websocket.send", "text": text, "bytes": message.get("bytes")})
    seen["code"] = message["code"]


async def upload(receive, send):
    hash, more = hashlib.sha256(), True
    seen["size"] = 0
    while more:
        message = await receive()
        more = message["more_body"]
        hash.update(message["body"])
        seen["size"] += len(message["body"])
    await answer(send, f"{seen['size']} {hash.hexdigest()}")


async def told(receive, send):
    await answer(send, repr(seen))


async def answer(send, text):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})


async def events(receive, send):
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: hello\\n\\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    seen["events"] = "over"
"""


@contextmanager
def uvicorn(folder: Path) -> Iterator[str]:
    """The URL of uvicorn, with WebSockets by `websockets`."""
    pytest.importorskip("uvicorn", reason="uvicorn is not installed")
    pytest.importorskip("websockets", reason="websockets is not installed")
    (folder / "upstream.py").write_text(ASGI)
    command = [sys.executable, "-m", "uvicorn", "upstream:app", "--port", "0", "--lifespan", "off"]
    script = Script([*command, "--ws", "websockets-sansio"], folder, env=environment())
    try:
        yield script.wait_for(r"http://127\.0\.0\.1:\d+")[0]
    finally:
        script.dispose()
