"""aiohttp's own file route, which uses sendfile."""

import sys

# It lives in the environment of the peers, which the type checker does not see.
from aiohttp import web  # type: ignore[import-not-found]


def serve(port: int, folder: str) -> None:
    """Serves ``folder`` on ``127.0.0.1:port``."""
    app = web.Application()
    app.router.add_static("/", folder)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
