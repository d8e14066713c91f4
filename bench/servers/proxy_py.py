"""proxy.py as a reverse proxy with a thread for each connection and no access log.

Without threads, its default, it does not survive the second request of a kept connection.
"""

import os
import sys

# It lives in the environment of the peers, which the type checker does not see.
import proxy  # type: ignore[import-not-found]
from proxy.http import Url  # type: ignore[import-not-found]
from proxy.http.server import ReverseProxyBasePlugin  # type: ignore[import-not-found]

UPSTREAM = "BENCH_UPSTREAM"  # its workers are processes of their own


class Upstream(ReverseProxyBasePlugin):  # type: ignore[misc]
    """Everything goes there."""

    def routes(self) -> list[str]:
        """Every path, answered by `handle_route`."""
        return [r"/.*$"]

    def handle_route(self, request: proxy.http.parser.HttpParser, _pattern: object) -> Url:
        """The same path there."""
        return Url.from_bytes(os.environ[UPSTREAM].encode() + (request.path or b"/"))


def serve(port: int, upstream: str) -> None:
    """Has ``upstream`` answer everything on ``127.0.0.1:port``."""
    os.environ[UPSTREAM] = upstream
    sys.argv[1:] = [
        *("--hostname", "127.0.0.1", "--port", str(port), "--backlog", "1024"),
        *("--num-acceptors", "1", "--num-workers", "1", "--threaded", "--log-level", "ERROR"),
        *("--enable-reverse-proxy", "--plugins", "bench.servers.proxy_py.Upstream"),
    ]
    proxy.entry_point()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
