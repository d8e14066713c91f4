#!/usr/bin/env python3
"""The iris explorer: files from `www`, a function that answers the page's questions, and a worker."""

import argparse
import contextlib
import sys
import tempfile
from pathlib import Path

import bootstrap
import iris
from quick_cache import QuickCache

from quick_server import (
    PreventDefaultResponse,
    QuickServer,
    QuickServerRequestHandler,
    ReqArgs,
    WorkerArgs,
    create_server,
    msg,
)

WWW = Path(__file__).resolve().parent / "www"
TABLE = WWW / "iris.csv"
FLOWERS = iris.load(TABLE)


def open_server() -> QuickServer:
    """A server on the first free port from 8000 on, or on any port if all of those are taken."""
    for port in range(8000, 8020):
        with contextlib.suppress(OSError):
            return create_server(("", port), parallel=True)
    return create_server(("", 0), parallel=True)


def set_up(server: QuickServer, cache_folder: str) -> None:
    server.bind_path("/", str(WWW))
    server.add_default_white_list()
    server.link_empty_favicon_fallback()
    server.link_worker_js("/js/worker.js")
    server.suppress_noise = True
    server.cache = QuickCache(str(TABLE), quota=50, temp=cache_folder, warnings=msg)

    @server.json_get("/api/iris", 0)
    def explore(_req: QuickServerRequestHandler, args: ReqArgs) -> dict[str, object]:
        try:
            selection = iris.Selection.from_query(args["query"])
        except iris.QueryError as error:
            raise PreventDefaultResponse(400, str(error)) from error
        return iris.explore(FLOWERS, selection)

    def complete_species(args: list[str], text: str) -> list[str]:
        return [] if args else [name for name in iris.SPECIES if name.startswith(text)]

    @server.cmd(complete=complete_species)
    def flowers(args: list[str]) -> None:
        """Counts the flowers of a species, or of all of them."""
        for species in args or iris.SPECIES:
            msg("{0}: {1} flowers", species, sum(flower.species == species for flower in FLOWERS))

    def same(post: WorkerArgs) -> dict[str, object] | None:
        try:
            return bootstrap.Question.from_post(post, FLOWERS).as_id()
        except iris.QueryError:
            return None  # the worker says what is wrong

    @server.json_worker("/api/bootstrap", cache_id=same)
    def estimate(post: WorkerArgs) -> dict[str, object]:
        try:
            question = bootstrap.Question.from_post(post, FLOWERS)
        except iris.QueryError as error:
            raise PreventDefaultResponse(400, str(error)) from error
        return bootstrap.estimate(question)


def main() -> None:
    parser = argparse.ArgumentParser(description="Explore Fisher's iris data in the browser.")
    parser.add_argument("--port", type=int, help="default: the first free one from 8000 on")
    port = parser.parse_args().port
    try:
        server = open_server() if port is None else create_server(("", port), parallel=True)
    except (OSError, OverflowError) as error:  # in use, or no port number
        sys.exit(str(error))
    with tempfile.TemporaryDirectory(prefix="iris-explorer-") as cache_folder:
        try:
            set_up(server, cache_folder)
            print(f"Iris explorer: http://localhost:{server.server_address[1]}/", flush=True)
            server.serve_forever()
        finally:
            server.server_close()


if __name__ == "__main__":
    main()
