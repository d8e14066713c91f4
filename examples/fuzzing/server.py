#!/usr/bin/env python3
"""A price list with faults in it, for `quick-server fuzz server.py` to find; see docs/fuzzing.md."""

from quick_server import create_server

PRICES = {"tea": 3.5, "coffee": 4.2}

server = create_server(("", 8000))


@server.json_get("/price/:article", 0)
def price(_req, args):
    count = int(args["query"].get("count", 1))
    return PRICES[args["segments"]["article"]] * count


try:
    server.serve_forever()
finally:
    server.server_close()
