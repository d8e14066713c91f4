"""Flask on waitress (8 threads): the 10 MB JSON result."""

import sys
from typing import Any

# These live in the environment of the peers, which the type checker does not see.
import flask  # type: ignore[import-not-found]
import waitress  # type: ignore[import-untyped]

from bench.servers.data import rows


def serve(port: int) -> None:
    """Serves the rows on ``127.0.0.1:port``."""
    app = flask.Flask("bench")

    def all_rows() -> Any:
        return flask.jsonify(rows())

    app.add_url_rule("/api/rows", view_func=all_rows)
    waitress.serve(app, host="127.0.0.1", port=port, threads=8)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
