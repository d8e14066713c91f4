"""The server under test: everything that a script may have, and an eye on itself.

    python -m soak.server FOLDER UPSTREAM_PORT REFUSING_PORT [tls]

prints its port, and serves until SIGTERM. Timeouts are those of the product, but shorter, so that they
happen within the time of a run. `/soak/state` tells what is still there of what came.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quick_cache import QuickCache  # type: ignore[import-untyped] # it has none

import quick_server.jobs
import quick_server.server
from quick_server import (
    PreventDefaultResponse,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    Response,
    create_server,
    msg,
    progress,
)
from quick_server.events import EventChannel
from quick_server.limits import Limits

from .content import NOTHING, blocks, checksum, checksum_of, content, text
from .watchdog import Watchdog

PIECE = 200_000
"""Characters of a job's result that one answer carries."""
_BLOCK = 64 * 1024
BEAT = 0.1
"""Seconds between events."""
_SHORT = Limits(
    result_timeout=4.0,
    cargo_timeout=6.0,
    idle_timeout=15.0,
    body_timeout=5.0,
    write_timeout=5.0,
    first_byte_timeout=5.0,
    upstream_silence=5.0,
    tunnel_idle=5.0,
    upstream_idle=2.0,
)


class Census:
    """What of the load is still there."""

    def __init__(self) -> None:
        self.streams = 0
        """Generators that were begun and not ended."""
        self.channels: set[EventChannel] = set()
        self._lock = threading.Lock()

    def count(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """The same pieces; counted while they are made."""
        with self._lock:
            self.streams += 1
        try:
            yield from pieces
        finally:
            with self._lock:
                self.streams -= 1


def make(folder: Path, upstream: int, refusing: int, watchdog: Watchdog) -> QuickServer:
    """A server with everything."""
    quick_server.jobs._DOUBT = 2.0
    server = create_server(("127.0.0.1", 0))
    server.limits = _SHORT
    server.no_command_loop = True
    server.max_chunk_size = PIECE
    server.max_workers = 8
    server.heartbeat = 1.0
    server.bind_path("/files/", str(folder / "www"))
    server.bind_proxy("/up/", f"http://127.0.0.1:{upstream}")
    server.bind_proxy("/down/", f"http://127.0.0.1:{refusing}")
    server.cache = QuickCache(
        base_string="soak", quota=50, ram_quota=10, temp=str(folder / "cache"), warnings=msg
    )
    census = Census()
    _add_answers(server)
    _add_uploads(server)
    _add_streams(server, census)
    _add_jobs(server)
    _add_tokens(server)
    _add_state(server, census, watchdog)
    return server


def _add_answers(server: QuickServer) -> None:
    @server.json_get("/echo/:word", 0)
    def echo(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        word = args["segments"]["word"]
        return {"word": word, "query": args["query"], "checksum": checksum(word.encode())}

    @server.text_get("/content/:number/:size", 0)
    def plain(req: QuickServerRequestHandler, args: ReqArgs) -> Response:
        body = content(*_numbers(args))
        req.send_header("X-Checksum", checksum(body))
        return Response(body, ctype="application/octet-stream")

    @server.json_post("/json", 0)
    def posted(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        texts = args["post"].get("texts")
        if not isinstance(texts, list):
            raise PreventDefaultResponse(400, "that is no list of texts")
        return {"found": [checksum(item.encode()) for item in texts], "texts": texts}

    @server.json_get("/refuse/:code", 0)
    def refuse(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        raise PreventDefaultResponse(int(args["segments"]["code"]), "as you wish")


def _add_uploads(server: QuickServer) -> None:
    @server.json_post("/upload", 0)
    def upload(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        files = {}
        for name, file in args["files"].items():
            found = NOTHING
            while block := file.read(_BLOCK):
                found = checksum(block, found)
            files[name] = [file.size, found]
        return {"files": files, "fields": args["post"]}

    @server.json_put("/raw", 0)
    def raw(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        body = req.body()
        return {"size": len(body), "checksum": checksum(body)}


def _add_streams(server: QuickServer, census: Census) -> None:
    @server.text_get("/stream/:number/:size", 0)
    def stream(req: QuickServerRequestHandler, args: ReqArgs) -> Iterator[bytes]:
        number, size = _numbers(args)

        def pieces() -> Iterator[bytes]:
            yield from blocks(number, size)
            yield checksum_of(number, size).encode()

        return census.count(pieces())

    @server.text_get("/endless", 0)
    def endless(req: QuickServerRequestHandler, args: ReqArgs) -> Iterator[bytes]:
        def pieces() -> Iterator[bytes]:
            number = 0
            while True:
                yield content(number, _BLOCK)
                number += 1

        return census.count(pieces())

    @server.event_stream("/events", 0)
    def events(req: QuickServerRequestHandler, args: ReqArgs, channel: EventChannel) -> None:
        census.channels.add(channel)
        channel.on_close(lambda: census.channels.discard(channel))

    @server.event_stream("/history/:count", 0)
    def history(req: QuickServerRequestHandler, args: ReqArgs, channel: EventChannel) -> None:
        for number in range(int(channel.last_event_id or 0), int(args["segments"]["count"])):
            channel.send(_event(number), id=str(number + 1))
        channel.close()

    def publish() -> None:
        number = 0
        while not server.done:
            time.sleep(BEAT)
            number += 1
            for channel in list(census.channels):
                channel.send(_event(number), event="news")

    threading.Thread(target=publish, name="publisher", daemon=True).start()


def _event(number: int) -> dict[str, Any]:
    body = text(number, number * 37 % 2000)
    return {"number": number, "text": body, "checksum": checksum(body.encode())}


def _add_jobs(server: QuickServer) -> None:
    def compute(post: dict[str, Any]) -> Any:
        number, size, steps = post["number"], post["size"], post["steps"]
        for step in range(steps):
            progress(step, steps, "working")
            time.sleep(0.02)
        body = text(number, size)
        return {"text": body, "checksum": checksum(body.encode())}

    def unending(post: dict[str, Any]) -> None:
        while True:
            time.sleep(0.01)

    server.json_worker("/job/thread")(compute)
    server.json_worker("/job/process", executor="process")(compute)
    server.json_worker("/job/cached", cache_id=lambda post: post)(compute)
    server.json_worker("/job/unending")(unending)


def _add_tokens(server: QuickServer) -> None:
    @server.json_post("/token", 0)
    def new(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        token = server.create_token()
        with server.get_token_obj(token, expire=3) as kept:
            kept["count"] = 0
        return {"token": token}

    @server.json_post("/token/:token", 0)
    def count(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        with server.get_token_obj(args["segments"]["token"], expire=3) as kept:
            kept["count"] = kept.get("count", 0) + 1
            return {"count": kept["count"]}


def _add_state(server: QuickServer, census: Census, watchdog: Watchdog) -> None:
    @server.json_get("/soak/state", 0)
    def state(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        """How things are; with `settle`, once garbage is collected and what is free given back."""
        if "settle" in args["query"]:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
        status = _on_loop(server, server._vitals.status)
        return {
            "requests": status.requests,
            "connections": status.connections - 1,  # the one that asks
            "jobs": status.jobs,
            "kept": len(server._table._kept),
            "kept_bytes": server._table._kept_bytes,
            "waiting": status.waiting,
            "streams": census.streams,
            "channels": len(census.channels),
            "tokens": len(server.get_tokens()),
            "objects": _objects() if "settle" in args["query"] else {},
            "allocated": _allocated(),
            "turns": watchdog.turns,
            "worst": watchdog.worst,
            "worst_without_noise": watchdog.worst_without_noise,
            "stalls": [stall._asdict() for stall in list(watchdog.stalls)],
        }

    @server.json_get("/soak/nap", 0)
    def nap(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        """Holds a thread for a moment."""
        time.sleep(0.3)
        return {}


def _on_loop(server: QuickServer, ask: Any) -> Any:
    answers: list[Any] = []
    there = threading.Event()

    def call() -> None:
        answers.append(ask())
        there.set()

    server._reactor.call_from_thread(call)
    there.wait()
    return answers[0]


class _Mallinfo(ctypes.Structure):
    """`struct mallinfo2` of glibc: sums over all its arenas."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
        )
    ]


def _allocated() -> int:
    """Bytes that are in use; all of them, as Python is told to ask `malloc` for each."""
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Mallinfo
    found = mallinfo()
    return int(found.uordblks + found.hblkhd)


def _objects() -> dict[str, int]:
    """How many objects there are of each class of the server's own."""
    kinds = Counter(type(thing) for thing in gc.get_objects())
    return {
        f"{kind.__module__}.{kind.__qualname__}": count
        for kind, count in kinds.items()
        if kind.__module__.startswith("quick_server") or kind.__module__ in ("h11", "socket", "ssl")
    }


def _numbers(args: ReqArgs) -> tuple[int, int]:
    segments = args["segments"]
    return int(segments["number"]), int(segments["size"])


def main(folder: str, upstream: str, refusing: str, *options: str) -> None:
    """Serves until a signal arrives."""
    watchdog = Watchdog()
    server = make(Path(folder), int(upstream), int(refusing), watchdog)
    if "tls" in options:
        server.use_tls_self_signed()
    watchdog.watch(server._reactor)
    print(json.dumps({"port": server.server_address[1], "pid": os.getpid()}), flush=True)
    try:
        server.serve_forever()
    finally:
        server.server_close()


if __name__ == "__main__":
    main(*sys.argv[1:])
