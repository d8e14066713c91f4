"""Makes docs/console.svg: the demo in a real terminal (tmux), and what its screen shows.

    python tools/console_picture.py

Needs tmux. The script waits for what it expects on the screen, so a picture is always a true one.
"""

from __future__ import annotations

import html
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLUMNS, ROWS = 96, 24
WIDTH, HEIGHT = 8.4, 19.0  # pixels of a character
PATIENCE = 15.0
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


class Screen:
    """A terminal of its own."""

    def __init__(self, folder: str) -> None:
        self._socket = f"{folder}/tmux"
        size = ["-x", str(COLUMNS), "-y", str(ROWS)]
        shell = f"env PS1='$ ' HOME=. PATH={Path(sys.executable).parent}:$PATH sh"
        self._tmux("-f", "/dev/null", "new-session", "-d", "-c", f"{folder}/demo", *size, shell)
        self._tmux("set", "-g", "status", "off")

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", self._socket, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def type(self, *keys: str) -> None:
        self._tmux("send-keys", *keys)

    def wait_for(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self._tmux("capture-pane", "-p"), re.MULTILINE)):
            if time.monotonic() > deadline:
                sys.exit(f"{pattern!r} did not appear:\n{self._tmux('capture-pane', '-p')}")
            time.sleep(0.05)
        return found

    def shown(self) -> tuple[str, int, int]:
        """The rows with their escape sequences, and where the cursor is."""
        column, row = self._tmux("display", "-p", "#{cursor_x} #{cursor_y}").split()
        return self._tmux("capture-pane", "-p", "-e"), int(column), int(row)

    def close(self) -> None:
        self._tmux("kill-server")


def act(screen: Screen) -> None:
    """What the picture tells."""
    screen.type("clear; python serve.py", "Enter")
    url = screen.wait_for(r"http://localhost:\d+/")[0]
    screen.wait_for("^>$")
    screen.type("status", "Enter")
    screen.wait_for("descriptors")
    screen.type("flow", "Tab")
    screen.wait_for("^> flowers")
    screen.type("v", "Tab")
    screen.wait_for("^> flowers v")
    time.sleep(0.5)
    screen.type("Tab")
    time.sleep(0.5)
    screen.type("e", "Tab")
    screen.wait_for("versicolor")
    screen.type("Enter")
    screen.wait_for("versicolor: 50 flowers")
    screen.type("half a line that is")
    screen.wait_for("> half a line that is")
    for path in ("api/iris?x=nothing", "nowhere"):
        try:
            urllib.request.urlopen(url + path).close()
        except OSError:
            pass
    screen.wait_for("nowhere.* 404")
    screen.type(" left alone")
    screen.wait_for("left alone")


def drawn(shown: tuple[str, int, int]) -> str:
    """The screen as an SVG."""
    text, column, row = shown
    lines = text.rstrip("\n").split("\n")
    first = next(i for i, line in enumerate(lines) if "Iris" in line)
    lines = lines[first : row + 1]
    width, height = COLUMNS * WIDTH + 32, len(lines) * HEIGHT + 28
    size = f'width="{width:.0f}" height="{height:.0f}"'
    cursor = f'x="{16 + column * WIDTH:.1f}" y="{14 + (row - first) * HEIGHT:.1f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" {size}>',
        "<title>The console of the demo: its status, a completed word, a half-typed line</title>",
        f'<rect {size} rx="8" fill="#1b1f27"/>',
        f'<rect {cursor} width="{WIDTH}" height="{HEIGHT}" fill="#8ab4f8"/>',
        f'<g fill="#d7dce5" font-size="14" font-family="{FONT}" xml:space="preserve">',
    ]
    for number, line in enumerate(lines):
        if line:
            parts.append(f'<text x="16" y="{28 + number * HEIGHT:.1f}">{styled(line)}</text>')
    return "\n".join([*parts, "</g>", "</svg>", ""])


def styled(line: str) -> str:
    """A row with its bold parts; other sequences do not occur."""
    pieces, bold, column = [], False, 0
    for piece in re.split(r"(\x1b\[[\d;]*m)", line):
        if piece.startswith("\x1b"):
            bold = piece == "\x1b[1m" or (bold and piece != "\x1b[0m")
        elif piece:
            x = 16 + column * WIDTH
            weight = ' font-weight="bold" fill="#ffffff"' if bold else ""
            length = f'textLength="{len(piece) * WIDTH:.1f}"'
            shown = html.escape(piece).replace(" ", "&#160;")
            pieces.append(f'<tspan x="{x:.1f}" {length}{weight}>{shown}</tspan>')
            column += len(piece)
    return "".join(pieces)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "examples" / "demo", f"{folder}/demo")
        screen = Screen(folder)
        try:
            act(screen)
            picture = drawn(screen.shown())
            screen.type("C-u", "quit", "Enter")
        finally:
            screen.close()
    (ROOT / "docs" / "console.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main()
