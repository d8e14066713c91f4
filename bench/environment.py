"""The peers' own virtual environment: made on first use, and never a reason to fail."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".bench-venv"
PYTHON = FOLDER / "bin" / "python"
READY = FOLDER / ".ready"
REQUIREMENTS = ROOT / "bench" / "requirements.txt"

LIST_VERSIONS = """
import json, sys
from importlib.metadata import distributions
print(json.dumps({found.name.lower(): found.version for found in distributions()}))
"""


def prepare() -> dict[str, str]:
    """Makes the environment if it is not there; returns the version of each installed package.

    A package that cannot be installed is left out: the peers that need it are skipped. Remove the
    folder to try again.
    """
    if not READY.exists():
        make()
    try:
        listing = subprocess.run(
            [PYTHON, "-c", LIST_VERSIONS], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return {}
    versions: dict[str, str] = json.loads(listing.stdout)
    return versions


def make() -> None:
    """Installs all peers at once, or, where that fails, whichever can be installed."""
    print("making .bench-venv for the peers (once)", flush=True)
    if subprocess.run([sys.executable, "-m", "venv", FOLDER], check=False).returncode:
        return
    if not install("--requirement", str(REQUIREMENTS)):
        names = [line for line in REQUIREMENTS.read_text().split("\n") if line and line[0] != "#"]
        for name in names:
            if not install(name):
                print(f"  {name} could not be installed; its peers are skipped", flush=True)
    READY.touch()


def install(*arguments: str) -> bool:
    """Runs pip in the environment; tells whether it worked."""
    pip = [str(PYTHON), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    return subprocess.run([*pip, *arguments], check=False).returncode == 0
