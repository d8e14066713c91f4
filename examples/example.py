#!/usr/bin/env python3
"""A small server: a folder of files, a function that answers text, one that answers JSON.

Start it with `./example.py`, then open http://localhost:8000/example/
"""

import sys
from collections import Counter
from pathlib import Path

from quick_server import PreventDefaultResponse, create_server, msg, setup_restart

setup_restart()  # lets the command `restart` start this script anew; belongs in front

addr = ""  # localhost
port = 8000
server = create_server((addr, port), parallel=True)
server.bind_path("/example/", str(Path(__file__).resolve().parent / "www"))
server.add_default_white_list()
server.link_empty_favicon_fallback()
server.suppress_noise = True


@server.text_get("/example/hello")  # also /example/hello/Ada and /example/hello/Ada/Grace
def hello(_req, args):
    return f"Hello {' and '.join(args['paths']) or 'world'}!"


@server.json_post("/example/words", 0)
def words(_req, args):
    post = args["post"]
    text = post.get("text") if isinstance(post, dict) else None
    if not isinstance(text, str):
        raise PreventDefaultResponse(400, 'send an object like {"text": "some words"}')
    found = text.lower().split()
    return {
        "letters": sum(map(len, found)),
        "words": len(found),
        "frequent": Counter(found).most_common(5),
    }


msg("{0}", " ".join(sys.argv))
msg("open http://localhost:{0}/example/", port)
try:
    server.serve_forever()
finally:
    msg("shutting down..")
    server.server_close()
