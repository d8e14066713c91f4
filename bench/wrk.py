"""The load generator: one run of ``wrk`` and what it reported."""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.model import UnfitError

LUA = Path(__file__).parent / "lua"
GRACE = 60

SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
BYTES = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}

TOTAL = re.compile(r"(\d+) requests in ([\d.]+)(us|ms|s|m|h), ([\d.]+)(B|KB|MB|GB|TB) read")
P99 = re.compile(r"^\s+99%\s+([\d.]+)(us|ms|s|m|h)\s*$", re.MULTILINE)
FAILED = re.compile(r"Non-2xx or 3xx responses: (\d+)")


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of wrk saw."""

    requests: int
    seconds: float
    received: float
    p99_seconds: float


def run(
    url: str,
    seconds: int,
    *,
    connections: int,
    headers: Sequence[str],
    script: str | None = None,
    arguments: Sequence[str] = (),
) -> Load:
    """Loads ``url`` from one thread for some seconds.

    Raises:
        UnfitError: if nothing was answered, or anything was answered with an error.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "30s"]
    for header in headers:
        command += ["-H", header]
    if script:
        command += ["-s", str(LUA / script)]
    command += [url, "--", *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + GRACE, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnfitError("the load generator did not come to an end") from None
    if done.returncode:
        raise UnfitError(f"wrk failed: {done.stderr.strip()}")
    return parse(done.stdout)


def parse(output: str) -> Load:
    """Reads wrk's report."""
    failed = FAILED.search(output)
    if failed:
        raise UnfitError(f"{failed[1]} answers were errors")
    total, p99 = TOTAL.search(output), P99.search(output)
    if not total or not p99 or total[1] == "0":
        raise UnfitError("it answered nothing under load")
    return Load(
        requests=int(total[1]),
        seconds=float(total[2]) * SECONDS[total[3]],
        received=float(total[4]) * BYTES[total[5]],
        p99_seconds=float(p99[1]) * SECONDS[p99[2]],
    )
