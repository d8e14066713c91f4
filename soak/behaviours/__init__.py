"""The kinds of clients, each with its share of the load and the address that it comes from."""

from __future__ import annotations

from typing import NamedTuple

from ..visit import Behaviour
from .aborts import aborts
from .events import events, history
from .files import conditional, files, ranges
from .garbage import garbage
from .jobs import jobs, unwanted_jobs
from .keepalive import json_bodies, keepalive, tokens
from .pipelining import pipelining
from .proxied import failing_upstream, proxied, tunnels
from .slow import slow_readers, slow_writers, stalled
from .streams import streams
from .uploads import forms, raw_uploads


class Kind(NamedTuple):
    """A kind of clients."""

    behaviour: Behaviour
    weight: int
    """How often it is chosen, compared to others."""
    patience: float = 30.0
    """Seconds that a visit may take."""


KINDS: dict[str, Kind] = {
    "keep-alive": Kind(keepalive, 10),
    "JSON bodies": Kind(json_bodies, 8),
    "tokens": Kind(tokens, 4),
    "pipelining": Kind(pipelining, 6),
    "files": Kind(files, 8),
    "ranges": Kind(ranges, 8),
    "conditional": Kind(conditional, 5),
    "forms": Kind(forms, 6),
    "raw uploads": Kind(raw_uploads, 6),
    "streams": Kind(streams, 6),
    "events": Kind(events, 4),
    "history": Kind(history, 4),
    "jobs": Kind(jobs, 10),
    "unwanted jobs": Kind(unwanted_jobs, 5),
    "proxied": Kind(proxied, 10),
    "tunnels": Kind(tunnels, 5),
    "failing upstream": Kind(failing_upstream, 4),
    "aborts": Kind(aborts, 10),
    "slow readers": Kind(slow_readers, 3, 60.0),
    "slow writers": Kind(slow_writers, 3),
    "stalled": Kind(stalled, 1),
    "garbage": Kind(garbage, 10),
}


def source(name: str) -> str:
    """The address of a kind, by which its lines in the log are known."""
    return f"127.0.1.{1 + list(KINDS).index(name)}"
