#!/usr/bin/env python3
"""A small guest book: a form, a path with a name in it, two folders at one place, slow requests.

Start it with `./example2.py`, then open http://localhost:8000/example/
"""

import sys
import time
from collections import deque
from pathlib import Path

from quick_server import PreventDefaultResponse, Response, create_server, msg, setup_restart

setup_restart()

HERE = Path(__file__).resolve().parent

addr = ""  # localhost
port = 8000
server = create_server((addr, port), parallel=True)
server.bind_path("/example/", str(HERE / "guestbook"))
server.bind_path_fallback("/example/", str(HERE / "www"))  # has what guestbook/ lacks: style.css
server.add_default_white_list()
server.link_empty_favicon_fallback()
server.suppress_noise = True
server.report_slow_requests = (  # seconds, and what to do then
    1.0,
    lambda method, path: msg("{0} {1} takes more than a second", method, path),
)

entries = deque([{"name": "Ada", "text": "What a fine engine."}], maxlen=100)


@server.json_get("/example/guests", 0)
def guests(_req, _args):
    return list(entries)


@server.json_get("/example/guests/:name", 0)
def guest(_req, args):
    name = args["segments"]["name"]
    written = [entry for entry in list(entries) if entry["name"] == name]
    return written or None  # None is a 404


@server.text_post("/example/guests", 0)
def sign(req, args):
    form = args["post"] if isinstance(args["post"], dict) else {}
    name, text = (str(form.get(field, "")).strip() for field in ("name", "text"))
    if not name or not text:
        raise PreventDefaultResponse(400, "a guest needs a name and something to say")
    entries.append({"name": name[:40], "text": text[:400]})
    req.send_header("Location", "/example/")
    return Response("", 303)  # back to the page, by GET


@server.text_get("/example/slow", 0)
def slow(_req, _args):
    time.sleep(2)
    return "That took two seconds; the terminal says so too."


msg("{0}", " ".join(sys.argv))
msg("open http://localhost:{0}/example/", port)
try:
    server.serve_forever()
finally:
    msg("shutting down..")
    server.server_close()
