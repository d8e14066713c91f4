"""What people see: the console in a window of tmux, started from an interactive shell."""

from __future__ import annotations

import os
import re
import signal
import sys

import pytest

from tests.integration.terminals import (
    TMUX,
    Scripts,
    Tmux,
    get,
    has_gnu_readline,
    script,
    width,
)

pytestmark = pytest.mark.skipif(TMUX is None, reason="tmux is not installed")


@pytest.fixture(autouse=True, scope="module")
def _gnu_readline() -> None:
    if not has_gnu_readline():
        pytest.skip("this Python has no GNU readline")


FLOOD = """
@server.cmd()
def flooding(args):
    def flood():
        begin = time.monotonic()
        for number in range(1500):
            left = begin + number / 1000 - time.monotonic()
            if left > 0:
                threading.Event().wait(left)
            msg("line {0} of the flood", number)
    threading.Thread(target=flood).start()
"""


class Window(Tmux):
    """A window, and the script in it."""

    def start(self, more: str = "") -> None:
        """Types the command line, with `more` behind it."""
        self.type(f"{sys.executable} script.py{more}")
        self.keys("Enter")
        if not more:
            self.shows("> ")

    @property
    def port(self) -> int:
        return int(self.says(r"port (\d+)\n")[1])

    @property
    def pid(self) -> int:
        return int(self.says(r"pid (\d+)\n")[1])

    def say(self, text: str) -> None:
        """Has a handler log a text, and waits until it is there, and the access line, too."""
        assert get(self.port, f"/say/msg/{text}").status == 200
        self.says(rf'"GET /say/msg/{text} HTTP/1\.1" 200')

    def quit(self) -> None:
        """Ends the server; the shell is there again, in a row of its own."""
        self.type("quit")
        self.keys("Enter")
        self.has_shell()

    def has_shell(self) -> None:
        self.shows("$ ")
        self.type("stty -a >modes-$?; echo written")
        self.keys("Enter")
        self.says(r"\nwritten\n")
        words = (self.folder / "modes-0").read_text().split()
        for mode in ("isig", "icanon", "echo", "icrnl", "opost", "ixon", "iexten"):
            assert mode in words, f"{mode} is off: {words}"


@pytest.fixture
def window(scripts: Scripts, request: pytest.FixtureRequest) -> Window:
    """A window with the script on its way; `indirect` gives the number of its columns."""
    script(scripts.folder, FLOOD)
    return scripts.window(Window, columns=getattr(request, "param", 80))


def test_a_session(window: Window) -> None:
    window.start()
    window.type("name you")
    window.shows("> name you")
    window.keys("Enter")
    window.says(r"script\.py \(\d+\): hi you\n")
    window.shows("> ")
    window.type("nam")
    window.keys("Tab")
    window.shows("> name", cursor=7)
    window.keys("C-u")
    window.keys("Up")
    window.shows("> name you")
    window.keys("C-c")
    window.shows("> name you^C", "> ")
    window.keys("C-r")
    window.type("name y")
    window.wait_for(lambda: window.lines[-1].endswith("`name y': name you"), "not found")
    window.keys("Enter")
    window.shows("> ")
    assert window.everything.count("hi you") == 2
    window.quit()


def test_what_is_said_is_above_the_line(window: Window) -> None:
    window.start()
    window.type("name half typed 漢字 😀!")
    window.keys("Left", "Left", "Left", "Left")
    line, cursor = "> name half typed 漢字 😀!", width("> name half typed 漢")
    window.shows(line, cursor=cursor)
    for number in range(5):
        window.say(f"above-{number}")
        window.shows(line, cursor=cursor)
    window.say("%E6%BC%A2%E5%AD%97%F0%9F%98%80")
    window.says(": 漢字😀\n")
    window.shows(line, cursor=cursor)
    assert window.everything.count("> name half") == 1
    window.type("x")
    window.keys("Enter")
    window.says("hi half typed 漢x字 😀!\n")
    window.shows("> ")


@pytest.mark.parametrize("window", [40], indirect=True)
@pytest.mark.parametrize("where", ["end", "begin", "middle", "edge"])
def test_a_line_of_several_rows(window: Window, where: str) -> None:
    window.start()
    text = "name " + "0123456789" * 9 + " 漢字"
    if where == "edge":
        text = ("name " + "0123456789" * 12)[: 3 * 40 - len("> ")]  # the last row is full
    window.type(text)
    rows = [("> " + text)[start : start + 40] for start in range(0, len(text) + 2, 40)]
    cursor = (0, len(rows)) if where == "edge" else (width(rows[-1]), len(rows) - 1)
    if where == "begin":
        window.keys("C-a")
        cursor = (2, 0)
    if where == "middle":
        window.keys("C-a", *["Right"] * 50)
        cursor = (12, 1)

    def seen() -> bool:
        lines = window.lines
        begin = next((n for n, line in enumerate(lines) if line.startswith("> name")), -1)
        column, row = window.cursor
        return lines[begin : begin + len(rows)] == rows and (column, row - begin) == cursor

    window.wait_for(seen, f"not {rows} with the cursor at {cursor}")
    for number in range(3):
        window.say(f"above-{number}")
        window.wait_for(seen, f"not {rows} with the cursor at {cursor}")
    assert window.everything.count("> name") == 1
    window.type("X")
    window.keys("Enter")
    window.shows("> ")
    offset = {"begin": 0, "middle": 50}.get(where, len(text))
    typed = text[:offset] + "X" + text[offset:]
    answer = "hi " + typed.removeprefix("name ")
    if where == "begin":
        answer = "there is no command 'Xname "
    window.says(re.escape(answer))


def test_a_thousand_lines_a_second(window: Window) -> None:
    window.start()
    window.type("flooding")
    window.keys("Enter")
    window.says("line 0 of")
    for word in ("name", " typed", " 漢字"):
        window.type(word)
    window.keys("Left", "Left")
    window.says("line 1499 of")
    window.shows("> name typed 漢字", cursor=width("> name typed "))
    said = re.findall(r"line (\d+) of the flood\n", window.everything)
    assert said == [str(number) for number in range(1500)]
    assert window.everything.count("> name typed") == 1
    window.type("!")
    window.keys("Enter")
    window.says("hi typed !漢字")


def test_other_sizes(window: Window) -> None:
    """Whatever is typed next shows whether readline knows where its rows end."""
    window.start()
    text = "name " + "0123456789" * 6
    window.type(text)
    window.shows("> " + text)
    window.resize(100, 30)
    window.type(" abcdefghij" * 2)
    text += " abcdefghij" * 2
    window.shows("> " + text)
    window.keys("C-a")
    window.type("!")
    window.shows("> !" + text, cursor=3)
    window.say("wide")
    window.shows("> !" + text, cursor=3)
    window.keys("BSpace", "C-e")
    window.shows("> " + text)
    window.resize(50, 20)
    window.type("xyz")
    rows = [f"> {text}xyz"[:50], f"> {text}xyz"[50:]]
    window.shows(*rows)
    window.say("narrow")
    window.shows(*rows)
    window.resize(120, 24)
    window.type("!")
    text += "xyz!"
    window.shows("> " + text)
    window.keys("Enter")
    window.says("hi " + text.removeprefix("name "))
    window.shows("> ")


def test_a_narrower_window_shows_the_line_once(window: Window) -> None:
    """As the shell does: tmux has wrapped the line already when the size is told."""
    window.start()
    text = "name " + "0123456789" * 6
    window.type(text)
    window.shows("> " + text)
    window.resize(50, 24)
    window.type("!")
    window.shows(f"> {text}!"[:50], f"> {text}!"[50:])
    assert window.everything.count("> name") == 1


def test_pasting(window: Window) -> None:
    window.start()
    lines = [f"name {number} of paste" for number in range(30)]
    window.paste("\n".join([*lines, "name half"]))
    window.says("hi 29 of paste")
    window.shows("> name half")
    assert re.findall(r"hi (\d+) of paste\n", window.everything) == [str(n) for n in range(30)]
    window.type(" pasted")
    window.keys("Enter")
    window.says("hi half pasted\n")


def test_stopping_and_going_on(window: Window) -> None:
    window.start()
    for _ in range(2):
        window.type("name half typed")
        window.shows("> name half typed")
        window.keys("C-z")
        window.wait_for(lambda: window.lines[-1] == "$", "the shell is not back")
        assert "Stopped" in window.lines[-2]
        window.type("fg")
        window.keys("Enter")
        window.shows("> name half typed")
        window.say("again")
        window.shows("> name half typed")
        window.type("!")
        window.keys("Enter")
        window.says("hi half typed!\n")
        window.shows("> ")
    window.quit()


def test_going_on_with_the_cursor_where_it_was(window: Window) -> None:
    window.start()
    window.type("name half typed")
    window.keys("Left", "Left", "Left")
    window.shows("> name half typed", cursor=14)
    window.keys("C-z")
    window.wait_for(lambda: window.lines[-1] == "$", "the shell is not back")
    window.type("fg")
    window.keys("Enter")
    window.shows("> name half typed", cursor=14)


def test_going_on_in_the_background(window: Window) -> None:
    window.start()
    window.type("name half typed")
    window.shows("> name half typed")
    window.keys("C-z")
    window.wait_for(lambda: window.lines[-1] == "$", "the shell is not back")
    window.type("bg")
    window.keys("Enter")
    window.say("from-the-background")
    window.type("jobs")
    window.keys("Enter")
    window.says(r"\[1\]\+\s+Running")
    window.type("fg")
    window.keys("Enter")
    window.shows("> name half typed")
    window.keys("Enter")
    window.says("hi half typed\n")
    window.quit()


def test_stopped_by_others(window: Window) -> None:
    """SIGSTOP cannot be caught, and the shell changes the terminal's modes meanwhile."""
    window.start()
    window.type("name half typed")
    window.shows("> name half typed")
    os.kill(window.pid, signal.SIGSTOP)
    window.wait_for(lambda: window.lines[-1] == "$", "the shell is not back")
    window.type("fg")
    window.keys("Enter")
    window.shows("> name half typed")
    window.keys("Enter")
    window.says("hi half typed\n")
    window.type("nam")
    window.keys("Tab")
    window.shows("> name", cursor=7)
    window.keys("C-u")
    window.quit()


def test_started_in_the_background(window: Window) -> None:
    window.start(" &")
    window.keys("Enter")
    window.say("from-the-background")
    window.type("jobs")
    window.keys("Enter")
    window.says(r"\[1\]\+\s+Running")
    window.type("fg")
    window.keys("Enter")
    window.shows("> ")
    window.type("name you")
    window.keys("Enter")
    window.says("hi you\n")
    window.shows("> ")
    window.quit()


def test_ctrl_c(window: Window) -> None:
    window.start()
    window.type("name half typed")
    window.shows("> name half typed")
    window.keys("C-c")
    window.shows("> name half typed^C", "> ")
    window.keys("C-c")
    window.has_shell()


def test_the_end_of_the_input(window: Window) -> None:
    window.start()
    window.keys("C-d")
    window.says("no command loop - use CTRL-C to terminate\n")
    window.say("still")
    window.keys("C-c")
    window.has_shell()
