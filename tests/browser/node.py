"""The React example with its packages, and what runs them: Node, npm, Vite."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.scripts import ROOT, environment

EXAMPLE = ROOT / "examples/react"
VITE = "node_modules/vite/bin/vite.js"
BUILD_PATIENCE = 40.0  # seconds for the packages, and for the build
NODE = (18, 0)


def copy_of_the_example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with its sources and its packages; skips the tests where those cannot be had."""
    needs_node()
    folder = tmp_path_factory.mktemp("react") / "app"
    shutil.copytree(
        EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules", "build", "worker.js")
    )
    install_packages(folder)
    return folder


def needs_node() -> None:
    for command in ("node", "npm"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    found = re.match(r"v(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < NODE:
        pytest.skip(f"node is {version.strip()}, and has to be {NODE[0]} or newer")


def install_packages(folder: Path) -> None:
    """What the lock file names. Without a registry there is nothing to test, and that is no fault."""
    retries = ("--fetch-retries=2", "--fetch-retry-mintimeout=1000")
    options = ("--ignore-scripts", "--no-audit", "--no-fund", *retries)
    try:
        done = run("npm", "ci", *options, cwd=folder)
    except subprocess.TimeoutExpired:
        pytest.skip(f"the npm packages have not come in {BUILD_PATIENCE} s")
    assert "EUSAGE" not in done.stderr, f"package.json and the lock file disagree:\n{done.stderr}"
    if done.returncode != 0:
        code = re.search(r"npm (?:error|ERR!) code (\w+)", done.stderr)
        pytest.skip(f"the npm packages cannot be had: {code[1] if code else done.stderr}")


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=BUILD_PATIENCE
    )


def run_or_fail(*command: str, cwd: Path) -> None:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
