"""The Python blocks of a Markdown page, and how to run them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FENCE = re.compile(r" *```(\S*)")
_NOT_RUN = re.compile(r"<!-- not run: \S.* -->")


@dataclass(frozen=True)
class Block:
    """One block that is fenced as `python`."""

    page: Path
    before: int
    """How many lines of the page come before it."""
    text: str

    def run(self, names: dict[str, Any]) -> None:
        """Executes the block; a traceback shows the page and its line."""
        source = "\n" * self.before + self.text
        exec(compile(source, str(self.page), "exec", dont_inherit=True), names)


def python_blocks(page: Path) -> list[Block]:
    """The blocks of a page that are to be run.

    Those fenced as `py` are not, nor those behind a comment `<!-- not run: reason -->`.
    """
    blocks: list[Block] = []
    start, language, run, last = 0, "", True, ""
    inside = False
    lines = page.read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        fence = _FENCE.fullmatch(line)
        if fence is None:
            last = line.strip() or last
        elif not inside:
            inside, start, language = True, number + 1, fence[1]
            run = _NOT_RUN.fullmatch(last) is None
        else:
            assert not fence[1], f"{page.name}, line {number + 1}: a block begins within a block"
            inside, last = False, ""
            if language == "python" and run:
                blocks.append(Block(page, start, "\n".join(lines[start:number]) + "\n"))
    assert not inside, f"{page.name}: the block of line {start} does not end"
    return blocks
