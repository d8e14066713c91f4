"""The console on a terminal: a line that is edited while everything else goes on above it."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.integration.terminals import (
    CTRL_A,
    CTRL_C,
    CTRL_D,
    CTRL_E,
    CTRL_K,
    CTRL_L,
    CTRL_R,
    CTRL_S,
    CTRL_U,
    CTRL_Y,
    CTRL_Z,
    DOWN,
    LEFT,
    RIGHT,
    SERVE,
    UP,
    Scripts,
    Terminal,
    cpu_seconds,
    get,
    has_gnu_readline,
    width,
)

END = "no command loop - use CTRL-C to terminate"


@pytest.fixture(autouse=True, scope="module")
def _gnu_readline() -> None:
    if not has_gnu_readline():
        pytest.skip("this Python has no GNU readline")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """One script for the tests that do not end it."""
    with ExitStack() as stack:
        terminal = Scripts(tmp_path_factory.mktemp("shared"), stack).terminal()
        terminal.shows("> ")
        yield terminal


@pytest.fixture
def terminal(shared: Terminal) -> Terminal:
    """A terminal that many tests use, with a prompt and nothing else to be seen."""
    shared.send("\x07" + CTRL_E + CTRL_U + CTRL_L)
    shared.until(lambda: shared.screen.lines[:2] == [">", ""], "no empty screen")
    shared.shows("> ")
    shared.forget()
    return shared


# ---- typing -------------------------------------------------------------------------------------


def test_commands(terminal: Terminal) -> None:
    terminal.run("name you", "hi you\r\n")
    terminal.shows("> ")
    terminal.run("  name   me # not you", "hi me\r\n")
    terminal.run("nonsense", "'nonsense'.*help.*quit")
    terminal.send("\r\r")
    terminal.run("help", r"name[^\r]*Says hello\.")
    terminal.shows("> ")
    assert terminal.get("/hello").body == b"hello"


def test_editing(terminal: Terminal) -> None:
    terminal.type("name ab cd")
    terminal.send(LEFT * 2)
    terminal.shows("> name ab cd", 10)
    terminal.send("X" + RIGHT + "Y")
    terminal.shows("> name ab XcYd", 13)
    terminal.send("\x7f\x1b[3~")  # backspace, delete
    terminal.shows("> name ab Xc", 12)
    terminal.send("\x1bb\x1bu")  # a word back; upper case
    terminal.shows("> name ab XC")
    terminal.send(CTRL_A + RIGHT * 4 + CTRL_K)
    terminal.shows("> name")
    terminal.send(" one" + CTRL_Y)
    terminal.shows("> name one ab XC")
    terminal.send(CTRL_A + CTRL_D)
    terminal.shows("> ame one ab XC", 2)
    terminal.send("n\r")
    terminal.expect("hi one ab XC\r\n")


def test_characters_of_more_than_one_byte_or_column(terminal: Terminal) -> None:
    terminal.type("name zürich 漢字 😀 end")
    terminal.send(LEFT * 5)
    terminal.shows("> name zürich 漢字 😀 end", width("> name zürich 漢字 "))
    terminal.send("\x7f\x7f")
    terminal.shows("> name zürich 漢😀 end", width("> name zürich 漢"))
    terminal.send("é" + "\r")
    terminal.expect("hi zürich 漢é😀 end\r\n")


def test_bytes_that_are_no_text(terminal: Terminal) -> None:
    os.write(terminal.master, b"name \xff\xfe\r")
    terminal.expect("hi .*\r\n")
    terminal.run("name you", "hi you\r\n")
    terminal.shows("> ")


def test_a_long_line(terminal: Terminal) -> None:
    text = "x" * 3000
    terminal.send(f"name {text}end\r")
    terminal.expect("xxxend\r\n")
    terminal.run("name you", "hi you\r\n")


def test_a_line_that_is_too_long_is_cut(terminal: Terminal) -> None:
    """All of it would be drawn again with each key, and with each line of the log."""
    terminal.send("name " + "x" * 5000 + "end\r")
    terminal.expect("hi x{3000,}x\r\n")
    assert "xend" not in terminal.fresh
    terminal.run("name you", "hi you\r\n")


@pytest.mark.parametrize(
    "keys",
    [
        "\x12\x18e",  # a search that is ended by the first of two keys
        "\x13\x18\x05",
        "\x1b[200~",  # the start of a paste that never ends
        "\x1b9999999a",
        "\x1b[",
        "\xc3",
    ],
    ids=["search and CTRL-X", "search forward and CTRL-X", "paste", "repetition", "escape", "half"],
)
def test_odd_keys_do_no_harm(terminal: Terminal, keys: str) -> None:
    terminal.send(keys)
    assert get(terminal.port, "/hello").body == b"hello"
    terminal.send("\x07\x07\x15")
    terminal.run("name you", "hi you\r\n")


def test_a_tiny_window(terminal: Terminal) -> None:
    terminal.resize(1, 1)
    terminal.send("abc def\t\x15na\t")
    assert get(terminal.port, "/hello").body == b"hello"
    terminal.resize(24, 80)
    terminal.send("\x15")
    terminal.run("name you", "hi you\r\n")


@pytest.mark.parametrize("end", ["\n", ""])
def test_pasted_lines_run_once_and_in_order(terminal: Terminal, end: str) -> None:
    lines = [f"name {number} of paste" for number in range(40)]
    terminal.paste("\n".join(lines) + end)
    terminal.until(lambda: "hi 38 of" in terminal.screen.raw, "not all")
    if not end:
        terminal.shows("> name 39 of paste")
        terminal.send("\r")
    terminal.until(lambda: "hi 39 of paste" in terminal.fresh, "not all")
    assert re.findall(r"hi (\d+) of paste\r", terminal.fresh) == [str(number) for number in range(40)]
    terminal.shows("> ")


def test_what_is_typed_while_a_command_runs(scripts: Scripts) -> None:
    """It is there, can be edited, and runs afterwards."""
    terminal = scripts.terminal()
    terminal.run("nap", "napping\r\n")
    terminal.send("name one\rname two\r")
    terminal.shows("> ")
    terminal.type("name thre")
    assert terminal.get("/hello").body == b"hello"
    terminal.shows("> name thre")
    assert "hi one" not in terminal.screen.raw
    os.kill(terminal.pid, signal.SIGUSR1)
    terminal.expect("awake(?s:.*)hi one(?s:.*)hi two")
    terminal.shows("> name thre")
    terminal.run("e", "hi three\r\n")


def test_a_command_that_asks(terminal: Terminal) -> None:
    terminal.send("ask\r")
    terminal.shows("well? ")
    assert terminal.get("/say/msg/meanwhile").status == 200
    terminal.expect("meanwhile\r\n")
    terminal.send("quit")
    terminal.shows("well? quit")
    terminal.send("\r")
    terminal.expect("you said 'quit'\r\n")
    terminal.shows("> ")
    terminal.send(UP)
    terminal.shows("> ask")  # an answer is no command


def test_more_lines_than_can_wait(terminal: Terminal) -> None:
    """What is typed far ahead stays in the terminal until there is room."""
    terminal.send("nap\r")
    terminal.expect("napping\r\n")
    terminal.send("".join(f"name a{number}\r" for number in range(150)))
    terminal.until(lambda: "name a99" in terminal.screen.raw, "not typed")
    os.kill(terminal.pid, signal.SIGUSR1)
    for number in range(150):
        terminal.expect(f"hi a{number}\r\n")
    terminal.shows("> ")


ENDLESS = """
@server.cmd()
def endless(args):
    print("x" * 40_000, end="", flush=True)
"""


def test_a_row_that_does_not_end(scripts: Scripts) -> None:
    """It is shown in pieces, so that nothing is kept for ever."""
    terminal = scripts.terminal(ENDLESS)
    terminal.send("endless\r")
    terminal.until(lambda: terminal.screen.raw.count("x") >= 40_000, "not shown")
    terminal.shows("> ")
    terminal.run("name you", "hi you\r\n")


def test_standard_error_that_is_closed(scripts: Scripts) -> None:
    terminal = scripts.terminal(prefix=["sh", "-c", 'exec "$@" 2>&-', "sh"])
    terminal.run("name you", "")
    terminal.run("say print printed", "printed\r\n")
    terminal.run("quit", "closed\r\n")
    assert terminal.ended() == 0
    terminal.is_sane()


@pytest.mark.parametrize(
    "setup",
    ["sys.stdout = open(1, 'w', buffering=1, closefd=False)", "sys.stderr = None"],
    ids=["a stream of its own", "no stream"],
)
def test_streams_that_are_the_scripts_own(scripts: Scripts, setup: str) -> None:
    terminal = scripts.terminal(setup)
    terminal.run("say print printed", "printed\r\n")
    terminal.shows("> ")
    terminal.send("quit\r")
    terminal.expect("closed\r\n")
    assert terminal.ended() == 0
    terminal.is_sane()


REPLACES = """
@server.cmd()
def replace(args):
    sys.stdout = open(1, "w", buffering=1, closefd=False)
    print("replaced", sys.__stdout__.fileno())
"""


def test_a_stream_that_is_replaced_meanwhile(scripts: Scripts) -> None:
    """It stays where it is."""
    terminal = scripts.terminal(
        REPLACES, serve=SERVE + "print('own', sys.stdout is not sys.__stdout__, flush=True)\n"
    )
    terminal.run("replace", "replaced 1\r\n")
    terminal.run("quit", "own True\r\n")
    assert terminal.ended() == 0
    terminal.is_sane()


def test_one_server_after_the_other(scripts: Scripts) -> None:
    again = SERVE + 'server = create_server(("127.0.0.1", 0))\nserver.add_cmd_method("name", name)\n'
    terminal = scripts.terminal(serve=again + SERVE)
    terminal.run("name one", "hi one\r\n")
    terminal.type("quit")
    terminal.send("\r")
    terminal.expect("closed\r\n")
    terminal.shows("> ")
    terminal.run("name two", "hi two\r\n")
    terminal.type("quit")
    terminal.send("\r")
    assert terminal.ended() == 0
    terminal.is_sane()


def test_an_inputrc(scripts: Scripts) -> None:
    (scripts.folder / "inputrc").write_text('"\\C-t": "name macro\\C-m"\n')
    terminal = scripts.terminal(env={"INPUTRC": str(scripts.folder / "inputrc")})
    terminal.shows("> ")
    terminal.send("\x14")
    terminal.expect("hi macro\r\n")


def test_the_prompt(scripts: Scripts) -> None:
    terminal = scripts.terminal('server.prompt = "zürich: "')
    terminal.shows("zürich: ")
    terminal.send("name you")
    terminal.shows("zürich: name you")
    assert terminal.get("/say/msg/above").status == 200
    terminal.until(lambda: "above" in terminal.screen.raw, "no log line")
    terminal.shows("zürich: name you")


# ---- history ------------------------------------------------------------------------------------


def test_history(terminal: Terminal) -> None:
    for word in ("one", "two", "three"):
        terminal.run(f"name {word}", f"hi {word}\r\n")
    terminal.send("half" + UP)
    terminal.shows("> name three")
    terminal.send(UP)
    terminal.shows("> name two")
    terminal.send(DOWN * 2)
    terminal.shows("> half")
    terminal.send(CTRL_U + CTRL_R + "one")
    terminal.until(lambda: terminal.screen.line.endswith("name one"), "not found")
    terminal.send("\r")
    terminal.expect("hi one\r\n")
    terminal.send(UP)
    terminal.shows("> name one")
    terminal.send(UP)
    terminal.shows("> name three")


def test_a_search_that_is_given_up(terminal: Terminal) -> None:
    terminal.run("name found", "hi found\r\n")
    terminal.send(CTRL_R + "fou")
    terminal.until(lambda: terminal.screen.line.endswith("name found"), "not found")
    assert terminal.get("/say/msg/meanwhile").status == 200
    terminal.expect("meanwhile")
    terminal.send(CTRL_C)
    terminal.shows("> ")
    terminal.run("name still", "hi still\r\n")


def test_the_history_outlives_a_crash(scripts: Scripts) -> None:
    terminal = scripts.terminal()
    terminal.run("name one", "hi one\r\n")
    terminal.run("  ", "\n")
    terminal.run("name two", "hi two\r\n")
    os.kill(terminal.pid, signal.SIGKILL)
    assert terminal.ended() == -signal.SIGKILL
    path = scripts.folder / ".cmd_history"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = scripts.terminal()
    again.shows("> ")
    again.send(UP)
    again.shows("> name two")
    again.send(UP)
    again.shows("> name one")
    again.send("\r")
    again.expect("hi one\r\n")
    again.run("quit", "closed\r\n")
    assert path.read_text().splitlines() == ["name one", "name two", "name one", "quit"]


def test_another_file_for_the_history(scripts: Scripts) -> None:
    (scripts.folder / "kept").mkdir()
    path = scripts.folder / "kept" / "lines"
    path.write_bytes(b"name \xff\xfe\n\n\x00\x1b[31m\nname earlier\n")
    terminal = scripts.terminal(f"server.history_file = {str(path)!r}")
    terminal.shows("> ")
    terminal.send(UP)
    terminal.shows("> name earlier")
    terminal.send("\r")
    terminal.expect("hi earlier\r\n")
    terminal.send(UP * 3)
    terminal.send(CTRL_U + "quit\r")
    assert terminal.ended() == 0
    assert not (scripts.folder / ".cmd_history").exists()


@pytest.mark.parametrize("path", ["no/such/folder/lines", "/dev/full", ".", ""])
def test_a_history_that_cannot_be_kept(scripts: Scripts, path: str) -> None:
    terminal = scripts.terminal(f"server.history_file = {path!r}")
    terminal.shows("> ")
    for word in ("one", "two"):
        terminal.run(f"name {word}", f"hi {word}\r\n")
    terminal.send(UP * 2)
    terminal.shows("> name one")
    terminal.send(CTRL_U + "quit\r")
    assert terminal.ended() == 0
    assert "Traceback" not in terminal.screen.raw
    assert terminal.screen.raw.count("the history") <= 1


# ---- completion ---------------------------------------------------------------------------------


def test_completion_of_commands(terminal: Terminal) -> None:
    terminal.send("nam\t")
    terminal.shows("> name ", 7)
    terminal.send("you\r")
    terminal.expect("hi you\r\n")
    terminal.send("ca\tcl\t")
    terminal.shows("> cache clear ", 14)
    terminal.send("w\t")
    terminal.until(lambda: terminal.screen.line.startswith("> cache clear www"), "not completed")
    terminal.send("\r")
    terminal.expect("cleared www\r\n")


def test_completion_where_several_words_fit(terminal: Terminal) -> None:
    terminal.send("cache clear s\t")
    terminal.shows("> cache clear sec")
    terminal.send("\t\t")
    terminal.until(
        lambda: "second   section" in terminal.screen.lines[terminal.screen.row - 1], "no list"
    )
    terminal.shows("> cache clear sec")
    terminal.send("o\t")
    terminal.until(lambda: terminal.screen.line.startswith("> cache clear second"), "not completed")
    terminal.send("\r")
    terminal.expect("cleared second\r\n")
    terminal.send("cache clear z\t")
    terminal.until(lambda: terminal.screen.line.startswith("> cache clear zürich"), "not completed")
    terminal.send("\r")
    terminal.expect("cleared zürich\r\n")


def test_completion_of_everything(terminal: Terminal) -> None:
    terminal.send("\t\t")
    known = {"broken", "cache", "fails", "help", "lazy", "name", "quit", "restart"}
    terminal.until(lambda: known <= set(" ".join(terminal.screen.lines).split()), "no list")
    terminal.shows("> ")


def test_completion_of_nothing(terminal: Terminal) -> None:
    for text in ("nonsense", "cache clear www ", "name x"):
        terminal.send(text + "\t\t")
        terminal.shows("> " + text)
        terminal.send(CTRL_U)
        terminal.shows("> ")


NAMELESS = """
def fail(descriptor):
    raise OSError("no name")

os.ttyname = fail
"""


def test_a_terminal_without_a_name(scripts: Scripts) -> None:
    """As in a container that does not have the devices of its terminals."""
    terminal = scripts.terminal(NAMELESS)
    terminal.send("\x00")  # a key that draws nothing
    assert terminal.get("/hello").body == b"hello"
    terminal.run("name you", "hi you\r\n")


def test_a_slow_completion_keeps_nobody_waiting(terminal: Terminal) -> None:
    terminal.send("lazy al\t")
    terminal.expect("completing\r\n")
    begin = time.monotonic()
    assert terminal.get("/hello").body == b"hello"
    assert time.monotonic() - begin < 2  # the completer takes three seconds
    terminal.until(lambda: terminal.screen.line.startswith("> lazy al"), "not shown")
    terminal.until(lambda: terminal.screen.line.startswith("> lazy alpha"), "not completed")
    terminal.send("\r")
    terminal.expect("lazy \\['alpha'\\]\r\n")


def test_typing_goes_on_during_a_completion(terminal: Terminal) -> None:
    terminal.send("lazy a\t")
    terminal.expect("completing\r\n")
    terminal.send("lso")
    terminal.shows("> lazy also")
    assert terminal.get("/hello").body == b"hello"
    terminal.send(" this\r")
    terminal.expect("lazy \\['also', 'this'\\]\r\n")
    terminal.run("name next", "hi next\r\n")


def test_a_completion_that_fails(terminal: Terminal) -> None:
    terminal.send("broken a\t")
    terminal.expect("the completer broke")
    terminal.shows("> broken a")
    terminal.send("\r")
    terminal.expect("broken \\['a'\\]\r\n")
    assert terminal.get("/hello").body == b"hello"


# ---- what is said meanwhile ---------------------------------------------------------------------

WAYS = [
    "msg",
    "thread",
    "print",
    "flush",
    "stderr",
    "write",
    "child",
    "system",
    "native",
]


@pytest.mark.parametrize("way", WAYS)
def test_what_is_said_appears_above_the_line(terminal: Terminal, way: str) -> None:
    terminal.type("name half typed")
    terminal.send(LEFT * 5)
    terminal.shows("> name half typed", 12)
    text = f"said-by-{way}"
    assert terminal.get(f"/say/{way}/{text}").body == b"said"
    terminal.until(lambda: any(line.endswith(text) for line in terminal.screen.lines), "not said")
    terminal.until(lambda: f'/say/{way}/{text} HTTP/1.1" 200' in terminal.fresh, "no access line")
    terminal.shows("> name half typed", 12)
    assert [line for line in terminal.screen.lines if line.startswith("> name half")] == [
        "> name half typed"
    ]
    terminal.send("X\r")
    terminal.expect("hi half Xtyped\r\n")


def test_a_row_that_is_not_complete(terminal: Terminal) -> None:
    """It is not lost, and leaves the line as it is."""
    terminal.send("say unfinished this-row\r")
    terminal.send("name half")
    terminal.until(lambda: "this-row" in terminal.screen.lines, "not shown")
    terminal.shows("> name half")
    terminal.send(" typed\r")
    terminal.expect("hi half typed\r\n")


def test_a_row_that_comes_in_pieces(terminal: Terminal) -> None:
    terminal.send("say pieces in-two-pieces\r")
    terminal.send("name half")
    terminal.until(lambda: "in-two-pieces" in terminal.screen.lines, "not shown")
    terminal.shows("> name half")


def test_what_a_handler_prints_is_above_its_line_in_the_log(terminal: Terminal) -> None:
    for number in range(100):
        assert terminal.get(f"/say/flush/printed-{number}").body == b"said"
        terminal.read(0)
    terminal.until(lambda: "/say/flush/printed-99 " in terminal.fresh, "no access line")
    found = [re.search(r"^printed-(\d+)$|/printed-(\d+) ", row) for row in terminal.screen.everything]
    order = [int(row[1] or row[2]) for row in found if row is not None]
    assert order == [number // 2 for number in range(200)]
    assert [bool(row[1]) for row in found if row is not None] == [True, False] * 100


def test_wide_characters_above_and_in_the_line(terminal: Terminal) -> None:
    terminal.type("name 漢字 😀!")
    terminal.send(LEFT * 2)
    terminal.shows("> name 漢字 😀!", width("> name 漢字 "))
    assert terminal.get("/say/msg/%E6%BC%A2%E5%AD%97%F0%9F%98%80").status == 200
    terminal.until(lambda: any(line.endswith(": 漢字😀") for line in terminal.screen.lines), "not said")
    terminal.shows("> name 漢字 😀!", width("> name 漢字 "))
    terminal.send("x\r")
    terminal.expect("hi 漢字 x😀!\r\n")


FLOOD = """
def flood(seconds):
    begin = time.monotonic()
    for number in range(int(seconds * 1000)):
        left = begin + number / 1000 - time.monotonic()
        if left > 0:
            threading.Event().wait(left)
        msg("line {0} of the flood", number)

@server.cmd()
def flooding(args):
    threading.Thread(target=flood, args=(float(args[0]),)).start()

@server.cmd()
def pouring(args):
    def pour(number):
        for count in range(3000):
            print(f"{number} pours {count}", "x" * 80)
    for number in range(4):
        threading.Thread(target=pour, args=(number,)).start()
"""


def test_a_thousand_lines_a_second(scripts: Scripts) -> None:
    terminal = scripts.terminal(FLOOD)
    terminal.shows("> ")
    terminal.run("flooding 1.5", "line 0 of")
    for char in "name typed 漢字":
        terminal.send(char)
        terminal.until(lambda: True, "", 0.01)
        terminal.read(0.01)
    terminal.send(LEFT * 3)
    terminal.send("X")
    terminal.until(lambda: "line 1499 of" in terminal.screen.raw, "not all")
    terminal.shows("> name typedX 漢字", width("> name typedX"))
    said = [int(found) for found in re.findall(r"line (\d+) of the flood\r", terminal.screen.raw)]
    assert said == list(range(1500))
    terminal.send("\r")
    terminal.expect("hi typedX 漢字\r\n")


def test_a_flood_keeps_nobody_waiting(scripts: Scripts) -> None:
    """Faster than any terminal, from four threads, and the loop writes to the same log."""
    terminal = scripts.terminal(FLOOD)
    port = terminal.port
    terminal.shows("> ")
    terminal.send("pouring\r")
    asked = threading.Thread(target=lambda: [get(port, "/hello") for _ in range(50)])
    asked.start()
    terminal.send("name half")
    terminal.until(lambda: not asked.is_alive(), "requests are not answered")
    asked.join()
    terminal.shows("> name half")
    terminal.run(" typed", "hi half typed\r\n")


def test_a_terminal_that_takes_nothing_stops_nobody(scripts: Scripts) -> None:
    """Nobody reads at the other end, as when a window is dragged, or the network to it is slow."""
    terminal = scripts.terminal(FLOOD)
    terminal.shows("> ")
    port = terminal.port
    terminal.send("pouring\r")
    for _ in range(300):
        begin = time.monotonic()
        assert get(port, "/hello").body == b"hello"
        assert time.monotonic() - begin < 0.8  # what is printed waits for a second
    terminal.send("name after\r")
    terminal.until(lambda: re.search("hi after\r\n", terminal.screen.raw), "no answer")
    terminal.shows("> ")
    terminal.send("quit\r")
    assert terminal.ended() == 0


def test_ctrl_s_stops_nobody(terminal: Terminal) -> None:
    terminal.send(CTRL_S)
    for number in range(100):
        assert terminal.get(f"/hello?{number}").body == b"hello"
    terminal.until(lambda: "/hello?99 " in terminal.fresh, "no log")
    terminal.send("\x07")
    terminal.shows("> ")


def test_another_size(terminal: Terminal) -> None:
    text = "name " + "0123456789" * 7
    terminal.type(text)
    terminal.resize(24, 100)
    terminal.send(" more and more")
    terminal.shows(f"> {text} more and more")
    terminal.resize(24, 80)
    assert terminal.get("/say/msg/resized").status == 200
    terminal.expect("resized\r\n")
    terminal.send(LEFT + "X\r")
    terminal.expect("0123456789 more and morXe\r\n")


READS_TOO = """
@server.cmd()
def share(args):
    children = [subprocess.Popen(["cat"], stdout=subprocess.DEVNULL) for _ in range(3)]
    print("shared", flush=True)
    gate.wait(20)
    for child in children:
        child.kill()
        child.wait()
    print("alone", flush=True)
"""


def test_children_that_read_the_terminal_too(scripts: Scripts) -> None:
    """Nobody knows who gets a key; that it is gone when we look must not keep the loop waiting."""
    terminal = scripts.terminal(READS_TOO)
    terminal.run("share", "shared\r\n")
    for _ in range(100):
        terminal.send("x")
        assert get(terminal.port, "/hello").body == b"hello"
    os.kill(terminal.pid, signal.SIGUSR1)
    terminal.expect("alone\r\n")
    terminal.send(CTRL_U)
    terminal.shows("> ")
    terminal.send("quit\r")
    assert terminal.ended() == 0


def test_ctrl_c_right_after_other_keys(scripts: Scripts) -> None:
    """The kernel throws away what was typed before it, which may just have been announced to us."""
    terminal = scripts.terminal()
    for number in range(1, 301):
        terminal.type("half")
        terminal.send((LEFT + RIGHT) * 50 + CTRL_C)
        terminal.until(lambda: terminal.screen.raw.count("^C") >= number, "no ^C")  # noqa: B023 (called at once)
    assert terminal.get("/hello").body == b"hello"


# ---- ends ---------------------------------------------------------------------------------------


def test_ctrl_c_throws_a_line_away(terminal: Terminal) -> None:
    terminal.type("name thrown away")
    terminal.send(LEFT * 3 + CTRL_C)
    terminal.shows("> ")
    assert terminal.get("/hello").body == b"hello"
    terminal.run("name you", "hi you\r\n")
    assert "hi thrown" not in terminal.screen.raw


def test_ctrl_c_in_a_line_of_several_rows(terminal: Terminal) -> None:
    terminal.send("name " + "long " * 30 + "at its end")
    terminal.until(lambda: terminal.screen.line.endswith("its end"), "not shown")
    row, column = terminal.screen.row, terminal.screen.column
    terminal.send(LEFT * 90)
    place = (row - 2, column + 2 * 80 - 90)
    terminal.until(lambda: (terminal.screen.row, terminal.screen.column) == place, "not there")
    terminal.send(CTRL_C)
    terminal.shows("> ")
    assert terminal.screen.lines[row].endswith("its end^C")
    terminal.run("name me", "hi me\r\n")


def test_ctrl_c_ends_the_server(scripts: Scripts) -> None:
    terminal = scripts.terminal()
    terminal.type("name you")
    terminal.send(CTRL_C)
    terminal.shows("> ")
    terminal.send(CTRL_C)
    assert terminal.ended() == 0
    terminal.is_sane()
    assert terminal.screen.lines[terminal.screen.row - 1] == "closed"
    assert terminal.screen.column == 0
    assert "Traceback" not in terminal.screen.raw


def test_ctrl_d_ends_the_console_only(scripts: Scripts) -> None:
    terminal = scripts.terminal()
    terminal.type("name you")
    terminal.send(CTRL_D)  # in a line it deletes, at its end it does nothing
    terminal.send("!\r")
    terminal.expect("hi you!\r\n")
    terminal.shows("> ")
    terminal.send(CTRL_D)
    terminal.expect(re.escape(END))
    assert terminal.get("/hello").body == b"hello"
    terminal.is_sane()
    before = cpu_seconds(terminal.pid)
    terminal.send("name nobody\r")  # nobody reads that any more
    assert terminal.get("/moment").body == b"a moment later"
    assert cpu_seconds(terminal.pid) - before < 0.1
    terminal.until(lambda: '"GET /moment HTTP/1.1" 200' in terminal.screen.raw, "no access line")
    assert "hi nobody" not in terminal.screen.raw
    assert terminal.screen.raw.count(END) == 1
    terminal.process.send_signal(signal.SIGTERM)
    assert terminal.ended() == 0
    terminal.is_sane()


RAISES = """
class Trouble(Exception):
    pass

def trouble(_number, frame):
    if frame.f_code.co_name == "select":  # the loop sleeps: else it would log this and go on
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        raise Trouble("of the script")

signal.signal(signal.SIGUSR2, trouble)
"""
NO_CARE = "server.serve_forever()\nraise RuntimeError('of the script')\n"
NO_CLOSE = "server.serve_forever()\n"
LEAVES = "server.serve_forever()\nsys.exit(7)\n"


@pytest.mark.parametrize("end", ["quit", "SIGTERM", "SIGHUP", "an exception"])
@pytest.mark.parametrize("supervised", [False, True])
def test_the_terminal_is_sane_after(scripts: Scripts, end: str, supervised: bool) -> None:
    first = "quick_server.setup_restart()" if supervised else ""
    terminal = scripts.terminal(RAISES, first=first)
    terminal.run("name you", "hi you\r\n")
    if end == "quit":
        terminal.send("quit\r")
    else:
        terminal.type("name half")
        if end == "an exception":
            raise_while_it_sleeps(terminal)
        else:
            os.kill(terminal.pid, signal.Signals[end])
    code = terminal.ended()
    terminal.is_sane()
    assert "> name half\x1b" not in terminal.screen.raw[-30:]
    assert terminal.screen.column == 0, "the shell's prompt would not be in a row of its own"
    if end in ("quit", "SIGTERM"):
        assert code == 0
    if end == "an exception":
        assert code == 1
        assert "Trouble: of the script\r\n" in terminal.screen.raw


def raise_while_it_sleeps(terminal: Terminal) -> None:
    pid = terminal.pid

    def has_ended() -> bool:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR2)
        return terminal.process.poll() is not None

    terminal.until(has_ended, "still running")


@pytest.mark.parametrize(("serve", "code"), [(NO_CARE, 1), (NO_CLOSE, 0), (LEAVES, 7)])
def test_the_terminal_is_sane_after_a_careless_script(scripts: Scripts, serve: str, code: int) -> None:
    terminal = scripts.terminal(serve=serve)
    terminal.type("name half")
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.ended() == code
    terminal.is_sane()


def test_leaving_in_a_handler(scripts: Scripts) -> None:
    terminal = scripts.terminal()
    terminal.type("name half")
    assert terminal.get("/exit").status == 500
    terminal.expect("SystemExit: 3")
    terminal.shows("> name half")
    terminal.run(" typed", "hi half typed\r\n")
    terminal.send("quit\r")
    assert terminal.ended() == 0
    terminal.is_sane()


def test_a_second_ctrl_c_while_a_handler_hangs(scripts: Scripts) -> None:
    terminal = scripts.terminal()
    asked = threading.Thread(target=hang_on, args=(terminal.port,))
    asked.start()
    terminal.expect("hanging\r\n")
    terminal.shows("> ")
    terminal.send(CTRL_C)
    terminal.until(lambda: not is_listening(terminal.port), "still listening")
    terminal.send(CTRL_C)
    terminal.ended(within=5)
    asked.join()
    terminal.is_sane()


def hang_on(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(b"GET /hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
        try:
            sock.recv(1)
        except OSError:
            pass


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 10).close()
    except ConnectionError:
        return False
    return True


def test_a_window_that_is_closed(scripts: Scripts) -> None:
    terminal = scripts.terminal()
    terminal.type("name half")
    terminal.hang_up()
    terminal.process.wait(10)


def test_a_child_that_is_killed(scripts: Scripts) -> None:
    """The supervisor gives the terminal back in its place."""
    terminal = scripts.terminal(first="quick_server.setup_restart()")
    terminal.type("name half")
    assert terminal.modes != terminal.before
    assert terminal.pid != terminal.process.pid
    os.kill(terminal.pid, signal.SIGKILL)
    assert terminal.ended() == 128 + signal.SIGKILL
    terminal.is_sane()


@pytest.mark.parametrize("supervised", [True, False])
def test_a_restart(scripts: Scripts, supervised: bool) -> None:
    terminal = scripts.terminal(first="quick_server.setup_restart()" if supervised else "")
    terminal.run("name you", "hi you\r\n")
    terminal.send("restart\r")
    terminal.until(lambda: len(re.findall(r"port \d+\r", terminal.screen.raw)) == 2, "not restarted")
    terminal.shows("> ")
    terminal.send(UP)
    terminal.shows("> restart")
    terminal.send(UP)
    terminal.shows("> name you")
    terminal.send("!\r")
    terminal.expect("hi you!\r\n")
    terminal.send("quit\r")
    assert terminal.ended() == 0
    terminal.is_sane()


# ---- jobs of a shell ----------------------------------------------------------------------------

JOB_CONTROL = """set -m
"$@"
echo "stopped with $?"
read -r
fg
echo "ended with $?"
"""


def test_the_terminal_is_sane_while_the_script_is_stopped(scripts: Scripts) -> None:
    """A shell that does not itself put the terminal in order."""
    terminal = scripts.terminal(prefix=["bash", "-c", JOB_CONTROL, "bash"])
    terminal.type("name half typed")
    terminal.send(CTRL_Z)
    terminal.expect("stopped with")
    terminal.is_sane()
    terminal.send("\r")
    terminal.shows("> name half typed")
    terminal.send("!\r")
    terminal.expect("hi half typed!\r\n")
    assert terminal.get("/hello").body == b"hello"
    terminal.send("quit\r")
    terminal.expect("ended with 0")
    assert terminal.ended() == 0
    terminal.is_sane()


BACKGROUND = """set -m
"$@" &
wait_for_it() { read -r; }
wait_for_it
fg
echo "ended with $?"
"""


def test_started_in_the_background(scripts: Scripts) -> None:
    terminal = scripts.terminal(prefix=["bash", "-c", BACKGROUND, "bash"])
    assert terminal.get("/hello").body == b"hello"
    terminal.until(lambda: '"GET /hello HTTP/1.1" 200' in terminal.screen.raw, "no access line")
    assert terminal.modes == terminal.before
    assert Path(f"/proc/{terminal.pid}/stat").read_text().rpartition(")")[2].split()[0] in "SR"
    before = cpu_seconds(terminal.pid)
    assert terminal.get("/moment").body == b"a moment later"
    assert cpu_seconds(terminal.pid) - before < 0.1
    terminal.send("\r")
    terminal.shows("> ")
    terminal.run("name you", "hi you\r\n")
    terminal.send("quit\r")
    terminal.expect("ended with 0")
    assert terminal.ended() == 0
    terminal.is_sane()


# ---- the input is somebody else's ---------------------------------------------------------------

ASKS = """\
thread = threading.Thread(target=server.serve_forever)
thread.start()
print("got", repr(input("well? ")))
server.done = True
thread.join()
server.server_close()
"""


@pytest.mark.parametrize(("serve", "setup"), [(ASKS, ""), (SERVE, "server.no_command_loop = True")])
def test_a_server_without_a_console(scripts: Scripts, serve: str, setup: str) -> None:
    terminal = scripts.terminal(setup, serve=serve)
    assert terminal.get("/hello").body == b"hello"
    assert terminal.modes == terminal.before
    terminal.send("quit\r")
    if serve == ASKS:
        terminal.expect("got 'quit'")
    else:
        assert terminal.get("/hello").body == b"hello"
        terminal.send(CTRL_C)
    assert terminal.ended() == 0
    terminal.is_sane()


# ---- the snippets of the seed -------------------------------------------------------------------

TEXT = (Path(__file__).parent / "seed_workers.rst.txt").read_text()
COMMANDS = [
    textwrap.dedent(block)
    for block in re.findall(r"\.\. code:: python\n\n((?: {4}.*\n|\n)+)", TEXT)
    if "@server.cmd(" in block
]
CACHE = """
from quick_cache import QuickCache
open("base", "w").close()
cache = QuickCache("base", quota=500, ram_quota=100, warnings=msg, temp="cached")
for section in ("section", "second", "www"):
    with cache.get_hnd({"section": section}, section=section) as handle:
        handle.write(b"content") if not handle.has() else None
"""


def test_the_snippets_for_commands(scripts: Scripts) -> None:
    assert len(COMMANDS) == 2
    terminal = scripts.terminal(CACHE + "".join(COMMANDS))
    terminal.run("name", r"script\.py \(\d+\): hello\r\n")
    terminal.run("name you and me", r"script\.py \(\d+\): hi you and me\r\n")
    folders = [path for path in (scripts.folder / "cached").rglob("*") if path.name == "www"]
    assert folders
    terminal.send("cache \t")
    terminal.shows("> cache clear ", 14)
    terminal.send("w\t")
    terminal.until(lambda: terminal.screen.line.startswith("> cache clear www"), "not completed")
    terminal.send("\r")
    terminal.expect(r"clear cache www\r\n")
    terminal.run("cache clear two words", r"too many extra arguments! expected one got two words\r\n")
    terminal.run("cache clear", r"clear all caches\r\n")
    terminal.send("quit\r")
    assert terminal.ended() == 0
    assert "Traceback" not in terminal.screen.raw
