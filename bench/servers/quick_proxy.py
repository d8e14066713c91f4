"""Ours, in front of an upstream."""

import sys

from quick_server import create_server


def serve(port: int, upstream: str) -> None:
    """Has ``upstream`` answer everything on ``127.0.0.1:port``."""
    server = create_server(("127.0.0.1", port))
    server.suppress_noise = True
    server.bind_proxy("/", upstream)
    try:
        server.serve_forever()
    finally:
        server.server_close()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
