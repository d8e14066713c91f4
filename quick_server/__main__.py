"""The command line: serves a folder, or fuzzes the server of a script."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from .lifecycle import setup_restart
from .server import QuickServer, create_server
from .version import __version__

_DESCRIPTION = """\
Serves a folder over HTTP, with listings, from one process and one event loop.

Only this machine can connect unless an address is given. Hidden files (.git, .env) and links
that lead out of the folder are never served.
"""
_EXAMPLES = """\
examples:
  quick-server                        the current folder, at http://localhost:8000/
  quick-server --www build -p 3000    another folder and port
  quick-server -a 0.0.0.0             for the whole network
  quick-server -p 0 -v                on any free port, logging every request
  quick-server --tls-self-signed      over HTTPS, with a certificate made for this run
  quick-server fuzz script.py         odd requests to the server of a script; see fuzz --help

CTRL-C ends it; requests that are being answered are finished first.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if list(arguments[:1]) == ["fuzz"]:
        return _fuzz(arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.tls_key and not options.tls_cert:
        parser.error("--tls-key needs --tls-cert")
    if not os.path.isdir(options.www):
        return _fail(f"there is no folder {options.www!r}; name one with --www FOLDER")
    if options.reload:
        setup_restart(reload=True)
    try:
        server = create_server((options.address, options.port))
    except OSError as error:
        return _fail(f"{error.strerror or error}; choose another port with -p PORT")
    try:
        fingerprint = _turn_tls_on(server, options)
    except OSError as error:
        server.server_close()
        return _fail(f"cannot read {error.filename}: {error.strerror}")
    except (RuntimeError, ValueError) as error:
        server.server_close()
        return _fail(str(error))
    server.bind_path("/", options.www)
    server.directory_listing = True
    server.suppress_noise = not options.verbose
    host, port = server.server_address[:2]
    shown = "localhost" if not options.address else f"[{host}]" if ":" in host else host
    if fingerprint:
        print(f"SHA-256 fingerprint of the certificate: {fingerprint}")
    url = f"{server.scheme}://{shown}:{port}/"
    print(f"serving {os.path.abspath(options.www)} at {url}", flush=True)
    try:
        server.serve_forever()
    finally:
        server.server_close()
    return 0


def _fuzz(arguments: Sequence[str]) -> int:
    try:
        from .testing.command import main as fuzz
    except ImportError as error:
        if error.name != "hypothesis":
            raise
        _fail(str(error))
        return 2
    return fuzz(arguments)


def _turn_tls_on(server: QuickServer, options: argparse.Namespace) -> str:
    """HTTPS as the options say; returns the fingerprint of a certificate that was made for it."""
    if options.tls_self_signed:
        return server.use_tls_self_signed(*filter(None, [options.address]))
    if options.tls_cert:
        server.use_tls(options.tls_cert, options.tls_key)
    return ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quick-server",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-a", "--address", default="", help="where to listen (default: localhost, IPv4 and IPv6)"
    )
    parser.add_argument(
        "-p", "--port", type=int, default=8000, help="the port; 0 picks a free one (default: 8000)"
    )
    parser.add_argument(
        "--www",
        metavar="FOLDER",
        default=".",
        help="the folder to serve (default: the current one)",
    )
    tls = parser.add_mutually_exclusive_group()
    tls.add_argument("--tls-cert", metavar="FILE", help="serve over HTTPS with this certificate (PEM)")
    tls.add_argument(
        "--tls-self-signed",
        action="store_true",
        help="serve over HTTPS with a certificate made for this run, for development",
    )
    parser.add_argument(
        "--tls-key", metavar="FILE", help="its private key (default: in the certificate's file)"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log requests that went well, too")
    parser.add_argument(
        "--reload",
        action="store_true",
        help="start anew when quick_server's own files change; served files never need that",
    )
    parser.add_argument("--version", action="version", version=f"quick_server {__version__}")
    return parser


def _fail(message: str) -> int:
    print(f"quick-server: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
