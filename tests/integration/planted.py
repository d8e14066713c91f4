"""A server with faults in it, one of each kind, and one that has none."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

from quick_server import (
    EventChannel,
    PreventDefaultResponse,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    Response,
    WorkerArgs,
    create_server,
)


class Planted:
    """The server with the faults, and what its handlers have leaked."""

    def __init__(self) -> None:
        self.server = create_server(("", 0))
        self.server.access_log = False
        self.kept: list[Any] = []
        self.over = threading.Event()
        self.threads: list[threading.Thread] = []
        _add_errors(self.server)
        _add_cuts(self.server)
        self._add_leaks()

    def _add_leaks(self) -> None:
        server = self.server

        @server.json_get("/leak/thread", 0)
        def leak_thread(req: QuickServerRequestHandler, args: ReqArgs) -> int:
            thread = threading.Thread(target=self.over.wait)
            thread.start()
            self.threads.append(thread)
            return len(self.threads)

        @server.json_post("/leak/descriptor", 0)
        def leak_descriptor(req: QuickServerRequestHandler, args: ReqArgs) -> int:
            if isinstance(args["post"], dict):
                self.kept.append(open("/dev/null", "rb"))  # noqa: SIM115 (that is the leak)
            return len(self.kept)

        @server.json_get("/leak/file", 0)
        def leak_file(req: QuickServerRequestHandler, args: ReqArgs) -> str:
            with tempfile.NamedTemporaryFile(delete=False) as file:
                return file.name

        @server.json_get("/leak/memory", 0)
        def leak_memory(req: QuickServerRequestHandler, args: ReqArgs) -> int:
            self.kept.append(bytearray(100_000))
            return len(self.kept)

    def release(self) -> None:
        """Gives back what was leaked."""
        self.over.set()
        for thread in self.threads:
            thread.join()
        for thing in self.kept:
            if hasattr(thing, "close"):
                thing.close()
        self.kept.clear()
        self.threads.clear()
        self.over.clear()


def _add_errors(server: QuickServer) -> None:
    @server.json_get("/value", 0)
    def value(req: QuickServerRequestHandler, args: ReqArgs) -> int:
        if args["query"].get("mode") == "legacy":
            raise RuntimeError("nobody has written that")
        return 1

    @server.json_get("/hello/:name", 0)
    def hello(req: QuickServerRequestHandler, args: ReqArgs) -> int:
        return len(args["segments"]["name"].encode("ascii"))

    @server.json_post("/score", 0)
    def score(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        if not isinstance(args["post"], dict):
            raise PreventDefaultResponse(400, "an object is expected")
        return args["post"]["points"]

    @server.text_get("/header", 0)
    def header(req: QuickServerRequestHandler, args: ReqArgs) -> str:
        req.send_header("X-Name", str(args["query"].get("name", "")))
        return "ok"

    @server.json_get("/both", 0)
    def both(req: QuickServerRequestHandler, args: ReqArgs) -> int:
        low, high = (len(str(args["query"].get(name, ""))) for name in ("low", "high"))
        return 1 // (1 - (low > 0) * (high > 0))

    @server.json_worker("/work")
    def work(post: WorkerArgs) -> float:
        return 1 / float(post.get("by", 1)) if not isinstance(post.get("by"), list) else 0.0


def _add_cuts(server: QuickServer) -> None:
    @server.text_get("/stream", 0)
    def stream(req: QuickServerRequestHandler, args: ReqArgs) -> Iterator[str]:
        def rows() -> Iterator[str]:
            yield "first\n"
            yield "second\n" if args["query"].get("rows") != "2" else f"{1 // 0}"

        return rows()

    @server.json_get("/nothing", 0)
    def nothing(req: QuickServerRequestHandler, args: ReqArgs) -> int:
        if "quiet" in args["query"]:
            raise PreventDefaultResponse
        return 1


def waiting_server(over: threading.Event) -> QuickServer:
    """One that is slow, and one that never answers unless it is `over`."""
    server = create_server(("", 0))

    @server.json_get("/slow", 0)
    def slow(req: QuickServerRequestHandler, args: ReqArgs) -> int:
        if "all" in args["query"]:
            time.sleep(0.6)
        return 1

    @server.json_get("/hang", 0)
    def hang(req: QuickServerRequestHandler, args: ReqArgs) -> int:
        if args["query"].get("wait") == "yes":
            over.wait()
        return 1

    return server


def clean_server(www: str) -> QuickServer:
    """One that takes whatever comes."""
    server = create_server(("", 0))
    server.bind_path("/files/", www)

    @server.json_get("/echo/:name")
    def echo(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        return [args["segments"], args["paths"], args["query"], str(args["cookie"])]

    @server.json_put("/echo", 0)
    def put(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        return [args["post"], {name: len(file.read()) for name, file in args["files"].items()}]

    @server.text_get("/rows", 0)
    def rows(req: QuickServerRequestHandler, args: ReqArgs) -> Iterator[str]:
        return (f"{number}\n" for number in range(5))

    @server.event_stream("/events", 0)
    def events(req: QuickServerRequestHandler, args: ReqArgs, channel: EventChannel) -> None:
        channel.send("hello")

    @server.json_get("/deliberate", 0)
    def deliberate(req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        return Response("later", 503) if "now" in args["query"] else 1

    @server.json_worker("/work")
    def work(post: WorkerArgs) -> Any:
        return post

    return server
