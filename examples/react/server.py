#!/usr/bin/env python3
"""A page made with React, and the long computation behind it.

In development Vite serves the page and passes requests for `/api` on to this script. In production
this script serves the page too, as `npm run build` has put it into `build/`.
"""

import argparse
import random
import sys
from pathlib import Path

import kmeans

from quick_server import PreventDefaultResponse, create_server, msg, progress

HERE = Path(__file__).resolve().parent
POINTS = kmeans.sample_points()


def number(args, name, low, high):
    value = args.get(name)
    if type(value) is not int or not low <= value <= high:
        raise PreventDefaultResponse(400, f"{name}: a whole number from {low} to {high} is expected")
    return value


def set_up(server):
    server.base_path = str(HERE)
    server.mirror_worker_js("src/worker.js")  # the page imports it from there
    server.bind_path("/", "build/")
    server.add_default_white_list()
    server.suppress_noise = True
    server.max_workers = 2  # more wait in line

    @server.json_get("/api/points", 0)
    def points(_req, _args):
        return {"width": kmeans.WIDTH, "height": kmeans.HEIGHT, "points": POINTS}

    @server.json_worker("/api/clusters")
    def clusters(args):
        count = number(args, "clusters", 2, 8)
        runs = number(args, "runs", 1, 5000)
        rng = random.Random(1)
        best, spreads = None, []
        progress(0, runs)
        while len(spreads) < runs:
            found = kmeans.divide(POINTS, count, rng)
            spreads.append(found.spread)
            if best is None or found.spread < best.spread:
                best = found
            progress(len(spreads), runs, f"least spread so far: {best.spread:.2f}")
        as_good = sum(spread < best.spread * 1.0001 for spread in spreads)
        return {**best._asdict(), "runs": runs, "as_good": as_good}


def main():
    parser = argparse.ArgumentParser(description="The computation, and the page once it is built.")
    parser.add_argument("--port", type=int, default=8080, help="default: 8080")
    parser.add_argument("--prepare", action="store_true", help="only make src/worker.js, for a build")
    options = parser.parse_args()
    try:
        server = create_server(("", 0 if options.prepare else options.port), parallel=True)
    except (OSError, OverflowError) as error:  # in use, or no port number
        sys.exit(str(error))
    try:
        set_up(server)
        if options.prepare:
            return
        if (HERE / "build" / "index.html").exists():
            msg("the page as it was built: http://localhost:{0}/", server.server_address[1])
        else:
            msg(
                "http://localhost:{0}/ has no page yet: npm run dev has one, npm run build makes one",
                server.server_address[1],
            )
        server.serve_forever()
    finally:
        server.server_close()


if __name__ == "__main__":
    main()
