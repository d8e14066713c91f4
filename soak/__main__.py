"""The command: `python -m soak --minutes 10`. Exits with 1 if an invariant did not hold."""

from __future__ import annotations

import argparse
import asyncio
import sys

from .run import Plan, soak


def main() -> int:
    """Reads the command line and runs it."""
    parser = argparse.ArgumentParser(prog="python -m soak", description="A long mixed load.")
    parser.add_argument("--minutes", type=float, default=10.0, help="all in all (default: 10)")
    parser.add_argument("--clients", type=int, default=60, help="at a time (default: 60)")
    parser.add_argument("--seed", type=int, default=1, help="decides what the clients do (default: 1)")
    parser.add_argument("--every", type=int, default=5, help="seconds between lines (default: 5)")
    given = parser.parse_args()
    plan = Plan(given.minutes * 60, given.clients, given.seed, given.every)
    return 1 if asyncio.run(soak(plan)) else 0


if __name__ == "__main__":
    sys.exit(main())
