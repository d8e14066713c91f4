"""Starlette on uvicorn (httptools and uvloop): files, a JSON echo, an upload."""

import sys
from typing import Any

import uvicorn

# These live in the environment of the peers, which the type checker does not see.
from starlette.applications import Starlette  # type: ignore[import-not-found]
from starlette.responses import JSONResponse  # type: ignore[import-not-found]
from starlette.routing import Mount, Route  # type: ignore[import-not-found]
from starlette.staticfiles import StaticFiles  # type: ignore[import-not-found]


async def echo(request: Any) -> Any:
    """Sends a JSON body back."""
    return JSONResponse(await request.json())


async def upload(request: Any) -> Any:
    """Spools a multipart form's file to disk and tells its size."""
    async with request.form() as form:
        return JSONResponse({"size": form["file"].size})


def serve(port: int, folder: str) -> None:
    """Serves ``folder`` and the benchmark's routes on ``127.0.0.1:port``."""
    app = Starlette(
        routes=[
            Route("/api/echo", echo, methods=["POST"]),
            Route("/api/upload", upload, methods=["POST"]),
            Mount("/", StaticFiles(directory=folder)),
        ]
    )
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        http="httptools",
        loop="uvloop",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
