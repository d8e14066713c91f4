"""Ours: files and handlers as a user would write them, every handler in the pool."""

import sys
import time
from typing import Any

from bench.servers.data import rows
from quick_server import QuickServerRequestHandler, ReqArgs, create_server


def serve(port: int, folder: str) -> None:
    """Serves ``folder`` and the benchmark's handlers on ``127.0.0.1:port``."""
    server = create_server(("127.0.0.1", port), parallel=True)
    server.suppress_noise = True
    server.max_file_size = 4 << 30
    server.bind_path("/", folder)

    @server.json_get("/api/hello", 0)
    def hello(_req: QuickServerRequestHandler, _args: ReqArgs) -> dict[str, str]:
        return {"hello": "world"}

    @server.json_get("/api/slow", 0)
    def slow(_req: QuickServerRequestHandler, _args: ReqArgs) -> dict[str, str]:
        time.sleep(1)
        return {"hello": "at last"}

    @server.json_get("/api/rows", 0)
    def all_rows(_req: QuickServerRequestHandler, _args: ReqArgs) -> list[dict[str, object]]:
        return rows()

    @server.json_post("/api/echo", 0)
    def echo(_req: QuickServerRequestHandler, args: ReqArgs) -> Any:
        return args["post"]

    @server.json_worker("/api/job")
    def job(payload: dict[str, Any]) -> dict[str, float]:
        if payload["seconds"]:
            time.sleep(payload["seconds"])
        return {"ended": time.time()}

    @server.json_post("/api/upload", 0)
    def upload(_req: QuickServerRequestHandler, args: ReqArgs) -> dict[str, int]:
        return {"size": args["files"]["file"].seek(0, 2)}

    try:
        server.serve_forever()
    finally:
        server.server_close()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
