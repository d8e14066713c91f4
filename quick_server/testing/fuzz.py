"""`fuzz_server`: a server, for real, and everything odd that clients may send to it."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..log import logging_to
from .campaign import Campaign, Plan
from .client import Client
from .curl import curl
from .findings import FuzzFailure, Report
from .journal import Journal
from .judge import Judge
from .surface import routes_of

if TYPE_CHECKING:
    from ..server import QuickServer

_END_PATIENCE = 1.0  # seconds that stuck handlers get when the server ends
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def fuzz_server(
    server: QuickServer,
    *,
    examples: int = 100,
    seconds: float = 60.0,
    slow: float = 1.0,
    hang: float = 10.0,
    seed: int | None = 0,
    only: Iterable[str] = (),
    skip: Iterable[str] = (),
    wire: bool = True,
    leaks: bool = True,
    url: str | None = None,
    announce: Callable[[str], object] | None = None,
) -> Report:
    """Runs a server, sends odd requests to everything that it serves, and closes it.

    Raises FuzzFailure, an AssertionError, if anything is wrong: an exception in a handler; an
    answer that is slow, malformed, cut off or never comes; threads, descriptors, temporary files or
    memory that each request leaves behind. Each is told once, with the shortest request that shows
    it, as a command for a shell. Returns the report if nothing was found.

     Every function gets `examples` requests at random, beside some that are always tried, as long
    as all of it takes less than `seconds`; shrinking what was found may take longer. They are the
    same each time, unless `seed` is another number, or None for a new one. An answer is slow after
    `slow` seconds, and missing after `hang`.

     Functions are really called. `only` and `skip` are shell-style patterns for masks (`/api/*`) or
    for a method and a mask (`DELETE *`); with either, nothing else is asked. `wire` has bytes sent
    that are almost requests, `leaks` has it looked for what is left behind. `url` is where the
    server of the commands is, if that is another one. `announce` is called with each command before
    it is sent.

     A server that runs already is left running. ValueError if there is nothing to ask for.

    >>> from quick_server import create_server
    >>> server = create_server(("", 0))
    >>> @server.json_get("/double", 0)
    ... def double(req, args):
    ...     return 2 * int(args["query"]["n"])
    >>> try:
    ...     fuzz_server(server, url="http://localhost:8080")
    ... except FuzzFailure as failure:
    ...     for finding in failure.findings:
    ...         print(finding.kind.value, finding.detail, finding.command("http://localhost:8080"))
    500 KeyError: 'n' curl -i http://localhost:8080/double
    500 ValueError: invalid literal for int() with base 10: '' curl -i 'http://localhost:8080/double?n='
    """
    if examples < 1 or min(seconds, slow, hang) <= 0:
        raise ValueError("examples and seconds are positive numbers")
    only, skip = tuple(only), tuple(skip)
    routes = routes_of(server, only, skip)
    if not routes:
        raise ValueError("there is nothing to ask for: no function, worker or file")
    number = random.getrandbits(32) if seed is None else seed
    plan = Plan(examples, seconds, slow, hang, number, wire and not only and not skip, leaks)
    journal = Journal()
    with logging_to(journal), _own_temporary_folder() as temporary, _served(server) as address:
        place = url or f"{server.scheme}://{_shown(address)}"
        client = Client(address, tls=server.scheme == "https")
        tell = (lambda sent: announce(curl(sent, place))) if announce is not None else None
        campaign = Campaign(server, Judge(client, journal, slow, hang, tell), plan, temporary)
        campaign.run(routes)
    report = campaign.report(place)
    if report.findings:
        raise FuzzFailure(report)
    return report


@contextmanager
def _served(server: QuickServer) -> Iterator[tuple[str, int]]:
    """Where the server can be reached; it runs inside of `with`."""
    host, port = server.server_address[:2]
    address = _ANY.get(host, host), port
    if server._reactor.running:
        yield address
        return
    with server.running():
        try:
            yield address
        finally:  # nobody waits for what is stuck
            server.shutdown_timeout = min(server.shutdown_timeout, _END_PATIENCE)


@contextmanager
def _own_temporary_folder() -> Iterator[str]:
    """Inside of `with` the temporary files of this process are in a folder of their own."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="quick_server-fuzz-", ignore_cleanup_errors=True) as folder:
        tempfile.tempdir = folder
        try:
            yield folder
        finally:
            tempfile.tempdir = before


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
