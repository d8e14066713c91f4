"""On what and with what a run was made: the facts that head the results."""

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from bench.environment import REQUIREMENTS
from bench.model import Plan
from bench.peers import nginx_version
from bench.process import CORES


def facts(plan: Plan, installed: Mapping[str, str], load_before: float) -> dict[str, str]:
    """Names and values for the table on top of the results."""
    cores = "server on one, load on the other" if len(CORES) > 1 else "server and load share it"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{processor()}, {os.cpu_count()} cores ({cores}), {memory()}",
        "system": f"{platform.system()} {platform.release()}",
        "load average before": f"{load_before:.1f}",
        "Python": platform.python_version(),
        "ours": f"quick_server {own_version('quick_server')}, h11 {own_version('h11')}",
        "peers": ", ".join(versions(installed)),
        "rounds": f"{plan.rounds} of {plan.seconds} s each, interleaved, medians",
        "load": "wrk, one thread, 32 connections unless the work says otherwise",
        "upload": f"{plan.upload_bytes / 1e6:,.0f} MB, {plan.upload_rounds} rounds",
        "starts": f"{plan.starts}, interleaved",
    }


def versions(installed: Mapping[str, str]) -> list[str]:
    """The peers that are there, with their versions."""
    wanted = REQUIREMENTS.read_text().split("\n")
    found = [f"{name} {installed[name]}" for name in wanted if name in installed]
    nginx = nginx_version()
    return [*found, f"nginx {nginx}"] if nginx else found


def own_version(package: str) -> str:
    """The version of a package where our server runs."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def processor() -> str:
    """The processor's own name for itself."""
    for line in Path("/proc/cpuinfo").read_text().split("\n"):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def memory() -> str:
    """How much memory the machine has."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{size / (1 << 30):.0f} GiB"
