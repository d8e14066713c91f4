"""Scripts on a terminal: a pty whose screen is known cell by cell, and tmux for what people see."""

from __future__ import annotations

import fcntl
import functools
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import pexpect
from pexpect import fdpexpect

from tests.harness import PATIENCE, Answer, Client
from tests.integration.scripts import LAST_WORDS, PLAIN, ROOT, Script, measured

CTRL_A, CTRL_C, CTRL_D, CTRL_E, CTRL_K, CTRL_L = "\x01", "\x03", "\x04", "\x05", "\x0b", "\x0c"
CTRL_Q, CTRL_R, CTRL_S, CTRL_U, CTRL_Y, CTRL_Z = "\x11", "\x12", "\x13", "\x15", "\x19", "\x1a"
LEFT, RIGHT, UP, DOWN = "\x1b[D", "\x1b[C", "\x1b[A", "\x1b[B"

SCRIPT = '''\
import ctypes, os, signal, subprocess, sys, threading, time
import quick_server
from quick_server import create_server, msg
{first}
server = create_server(("127.0.0.1", 0), parallel={parallel})
gate = threading.Event()
signal.signal(signal.SIGUSR1, lambda *_: gate.set())


def in_pieces(text):
    print(text[:3], end="", flush=True)
    threading.Event().wait(0.05)
    print(text[3:], flush=True)


def in_native_code(text):
    ctypes.CDLL(None).puts(text.encode())
    ctypes.CDLL(None).fflush(None)


WAYS = {{
    "msg": msg,
    "thread": lambda text: threading.Thread(target=msg, args=(text,)).start(),
    "print": print,
    "flush": lambda text: print(text, flush=True),
    "pieces": in_pieces,
    "stderr": lambda text: print(text, file=sys.stderr),
    "write": lambda text: os.write(1, text.encode() + b"\\n"),
    "child": lambda text: subprocess.run(["echo", text]),
    "system": lambda text: os.system("echo " + text),
    "native": in_native_code,
    "unfinished": lambda text: print(text, end="", flush=True),
}}


@server.text_get("/hello", 0)
def hello(req, args):
    return "hello"


@server.text_get("/say/:how/:text", 0)
def say(req, args):
    WAYS[args["segments"]["how"]](args["segments"]["text"])
    return "said"


@server.text_get("/hang", 0)
def hang(req, args):
    msg("hanging")
    gate.wait(20)
    return "hung"


@server.text_get("/moment", 0)
def moment(req, args):
    threading.Event().wait(0.4)
    return "a moment later"


@server.text_get("/exit", 0)
def leave(req, args):
    sys.exit(3)


@server.cmd()
def name(args):
    """Says hello."""
    msg("hi {{0}}", " ".join(args) or "nobody")


@server.cmd(argc=2)
def say(args):
    """Says something in one of several ways."""
    WAYS[args[0]](args[1])


@server.cmd()
def ask(args):
    """Asks something."""
    msg("you said {{0!r}}", input("well? "))


def sections(args, text):
    known = ["second", "section", "www", "z\\u00fcrich"]
    return [] if args else [section for section in known if section.startswith(text)]


@server.cmd()
def cache(args):
    """Is about the cache."""
    msg("cache with {{0}} argument(s)", len(args))


@server.cmd(argc=1, complete=sections)
def cache_clear(args):
    """Clears a section of the cache."""
    msg("cleared {{0}}", args[0])


@server.cmd()
def nap(args):
    """Waits for a signal."""
    msg("napping")
    gate.wait(20)
    msg("awake")


@server.cmd()
def fails(args):
    """Fails."""
    raise ValueError("the command broke")


def complete_lazy(args, text):
    msg("completing")
    gate.wait(3)
    return [word for word in ("alpha",) if word.startswith(text)]


@server.cmd(complete=complete_lazy)
def lazy(args):
    """Is slow to complete."""
    msg("lazy {{0}}", args)


def complete_broken(args, text):
    raise ValueError("the completer broke")


@server.cmd(complete=complete_broken)
def broken(args):
    """Cannot be completed."""
    msg("broken {{0}}", args)


{setup}
print("pid", os.getpid(), flush=True)
print("port", server.server_address[1], flush=True)
{serve}
'''

SERVE = """\
try:
    server.serve_forever()
finally:
    server.server_close()
print("closed", flush=True)
"""


def script(
    folder: Path, setup: str = "", *, first: str = "", serve: str = SERVE, parallel: bool = True
) -> list[str]:
    """Writes the script into the folder; returns the command line that runs it."""
    path = folder / "script.py"
    path.write_text(SCRIPT.format(first=first, setup=setup, serve=serve, parallel=parallel))
    return [sys.executable, "-W", "error", path.name]


def environment(home: Path, **more: str) -> dict[str, str]:
    """What a user's shell gives a script: nothing of these tests', and output is buffered.

    Tracebacks are without colours, which Python has from 3.13 on.
    """
    path = os.environ.get("PATH", os.defpath)
    known = {"HOME": str(home), "LANG": "C.UTF-8", "PATH": path, "PYTHONPATH": f"{ROOT}:{PLAIN}"}
    return known | {"TERM": "xterm-256color", "PYTHON_COLORS": "0"} | measured() | more


@functools.cache
def has_gnu_readline() -> bool:
    """Whether this Python's line editing is GNU readline (some have libedit, or none)."""
    ask = "import readline; print(readline.__doc__, getattr(readline, 'backend', ''))"
    told = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    return told.returncode == 0 and "libedit" not in told.stdout and "editline" not in told.stdout


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def get(port: int, target: str) -> Answer:
    """One request on a connection of its own."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        return Client(sock).request("GET", target)


class Piped(Script):
    """A script that reads its commands from a pipe."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        super().__init__(command, cwd, env=env, stdin=subprocess.PIPE)

    def type(self, text: str | bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() if isinstance(text, str) else text)
        self.process.stdin.flush()

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()


# ---- a screen -----------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"\x1b\[(?P<numbers>[0-9;?]*)(?P<final>[@-~])"
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b(?P<escape>[^\[\]])"
    r"|(?P<control>[\x00-\x1a\x1c-\x1f\x7f])"
    r"|(?P<printed>[^\x00-\x1f\x7f]+)"
)


def _width(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(map(_width, text))


class Screen:
    """What a terminal shows: as much of an xterm as readline makes use of, and no more."""

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.columns = rows, columns
        self.row = 0
        self.column = 0  # `columns` itself: the next character goes to the next row
        self.raw = ""
        """Everything that was ever written."""
        self.scrolled: list[str] = []
        """The rows that have left the screen at its top."""
        self.bracketed_paste = False
        self._cells = [self._blank() for _ in range(rows)]
        self._rest = ""

    def _blank(self) -> list[str]:
        return [" "] * self.columns

    @property
    def lines(self) -> list[str]:
        """The rows, without the blanks at their ends."""
        return ["".join(cells).rstrip() for cells in self._cells]

    @property
    def line(self) -> str:
        """The row with the cursor."""
        return self.lines[self.row]

    @property
    def below(self) -> list[str]:
        return self.lines[self.row + 1 :]

    @property
    def everything(self) -> list[str]:
        """All rows, those that have scrolled away too."""
        return [*self.scrolled, *self.lines]

    def resize(self, columns: int) -> None:
        """Cuts rows off or makes them longer; real terminals may wrap them anew."""
        self.columns = columns
        self._cells = [(cells + [" "] * columns)[:columns] for cells in self._cells]

    def __str__(self) -> str:
        shown = "\n".join(f"|{line}" for line in self.lines)
        return f"cursor in row {self.row}, column {self.column}\n{shown}"

    # what pexpect calls for everything that it reads
    def write(self, text: str) -> None:
        self.raw += text
        text, self._rest = self._rest + text, ""
        place = 0
        while place < len(text):
            token = _TOKEN.match(text, place)
            if token is None:
                assert len(text) - place < 100, f"not understood: {text[place:]!r}"
                self._rest = text[place:]
                return
            self._do(token)
            place = token.end()

    def flush(self) -> None:
        pass

    def _do(self, token: re.Match[str]) -> None:
        if token["printed"]:
            self._print_all(token["printed"])
        elif token["control"]:
            self._control(token["control"])
        elif token["final"]:
            self._sequence(token["final"], token["numbers"])
        elif token["escape"]:
            assert token["escape"] in "=>", f"not understood: {token[0]!r}"

    def _print_all(self, text: str) -> None:
        end = self.column + len(text)
        if text.isascii() and end <= self.columns:  # the same as below, quicker
            self._cells[self.row][self.column : end] = text
            self.column = end
            return
        for char in text:
            self._print(char)

    def _print(self, char: str) -> None:
        width = _width(char)
        if not width:
            self._cells[self.row][max(self.column - 1, 0)] += char
            return
        if self.column + width > self.columns:
            self.column = 0
            self._down()
        self._cells[self.row][self.column] = char
        if width == 2:
            self._cells[self.row][self.column + 1] = ""
        self.column += width

    def _down(self) -> None:
        if self.row + 1 < self.rows:
            self.row += 1
            return
        self.scrolled.append("".join(self._cells.pop(0)).rstrip())
        self._cells.append(self._blank())

    def _control(self, char: str) -> None:
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self._down()
        elif char == "\b":
            self.column = max(min(self.column, self.columns - 1) - 1, 0)
        elif char == "\t":
            self.column = min(self.column // 8 * 8 + 8, self.columns - 1)
        else:
            assert char in "\x07\x00", f"not understood: {char!r}"

    def _sequence(self, final: str, numbers: str) -> None:
        cells = self._cells[self.row]
        count = int(numbers) if numbers.isdigit() else 1
        at = min(self.column, self.columns - 1)
        if final == "A":
            self.row = max(self.row - count, 0)
        elif final == "B":
            self.row = min(self.row + count, self.rows - 1)
        elif final == "C":
            self.column = min(at + count, self.columns - 1)
        elif final == "D":
            self.column = max(at - count, 0)
        elif final == "G":
            self.column = count - 1
        elif final == "H":
            row, _, column = numbers.partition(";")
            self.row, self.column = int(row or 1) - 1, int(column or 1) - 1
        elif final == "K":
            assert numbers in ("", "0"), numbers
            cells[at:] = [" "] * (self.columns - at)
        elif final == "J":
            self._erase(numbers)
        elif final == "P":
            cells[at:] = cells[at + count :] + [" "] * min(count, self.columns - at)
        elif final == "@":
            cells[at:] = ([" "] * count + cells[at:])[: self.columns - at]
        elif final in "hl":
            if numbers == "?2004":
                self.bracketed_paste = final == "h"
        else:
            assert final == "m", f"not understood: {numbers!r} {final!r}"

    def _erase(self, numbers: str) -> None:
        if numbers in ("2", "3"):
            self._cells = [self._blank() for _ in range(self.rows)]
            return
        assert numbers in ("", "0"), numbers
        at = min(self.column, self.columns - 1)
        self._cells[self.row][at:] = [" "] * (self.columns - at)
        for row in range(self.row + 1, self.rows):
            self._cells[row] = self._blank()


# ---- a terminal ---------------------------------------------------------------------------------


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A command as the leader of the session of a pty, and the screen of that pty."""

    def __init__(
        self,
        command: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        *,
        rows: int = 24,
        columns: int = 80,
        stdout: IO[Any] | None = None,
        stderr: IO[Any] | None = None,
    ) -> None:
        self.screen = Screen(rows, columns)
        self.master, self._slave = os.openpty()
        self._set_size(rows, columns)
        self.before = self.modes
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=self._slave,
            stdout=stdout or self._slave,
            stderr=stderr or self._slave,
            start_new_session=True,
            preexec_fn=_take_terminal,  # noqa: PLW1509 (there are no threads at that time)
        )
        self._spawned = fdpexpect.fdspawn(
            self.master, encoding="utf-8", codec_errors="replace", timeout=PATIENCE
        )
        self._spawned.delaybeforesend = None
        self._spawned.logfile_read = self.screen
        self._fresh = 0

    @property
    def port(self) -> int:
        self.until(lambda: re.search(r"port \d+\r", self.screen.raw), "no port")
        return int(re.findall(r"port (\d+)\r", self.screen.raw)[-1])

    @property
    def pid(self) -> int:
        """The id of the process that runs the script, which may be a child's."""
        assert self.port
        return int(re.findall(r"pid (\d+)\r", self.screen.raw)[-1])

    def get(self, target: str) -> Answer:
        return get(self.port, target)

    def send(self, text: str) -> None:
        """Types, and goes on at once."""
        self._spawned.send(text)

    def forget(self) -> None:
        """What was written until now is done with."""
        self._spawned.buffer = ""
        self._fresh = len(self.screen.raw)

    @property
    def fresh(self) -> str:
        """What was written since `forget`."""
        return self.screen.raw[self._fresh :]

    def type(self, text: str) -> None:
        """Types behind an empty prompt, and waits until that is to be seen."""
        self.shows("> ")
        self.send(text)
        self.shows("> " + text)

    def run(self, line: str, answer: str) -> None:
        """Types a line behind the prompt and waits for what it brings."""
        self.send(line + "\r")
        self.expect(answer)

    def paste(self, text: str) -> None:
        """What a terminal sends when something is pasted."""
        text = text.replace("\n", "\r")
        self.send(f"\x1b[200~{text}\x1b[201~" if self.screen.bracketed_paste else text)

    def expect(self, pattern: str) -> re.Match[str]:
        """The next match in what is written to the terminal; what came before it is done with."""
        try:
            self._spawned.expect(pattern)
        except pexpect.TIMEOUT:
            raise AssertionError(f"no {pattern!r}: {self.screen}") from None
        found: re.Match[str] = self._spawned.match
        return found

    def until(self, condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
        """Reads until the condition holds."""
        deadline = time.monotonic() + patience
        while not condition():
            left = deadline - time.monotonic()
            assert left > 0, f"{what}: {self.screen}"
            self.read(min(left, 0.05))

    def read(self, patience: float) -> bool:
        """Reads once, keeping it for `expect`; False if nothing came."""
        try:
            self._spawned.buffer += self._spawned.read_nonblocking(65536, patience)
        except pexpect.TIMEOUT:
            return False
        return True

    def shows(self, line: str, column: int | None = None) -> None:
        """Waits until the cursor is in that line, the last one; by default at its end."""
        wanted = (line.rstrip(), width(line) if column is None else column)

        def seen() -> bool:
            screen = self.screen
            return (screen.line, screen.column) == wanted and not any(screen.below)

        self.until(seen, f"no {wanted}")

    @property
    def modes(self) -> list[Any]:
        """The terminal's modes, as `stty` tells them."""
        return termios.tcgetattr(self._slave)

    def is_sane(self) -> None:
        """Everything about the terminal is as it was before the command was started."""
        names = ["iflag", "oflag", "cflag", "lflag", "ispeed", "ospeed", "cc"]
        modes = self.modes
        changed = [
            (name, was, now)
            for name, was, now in zip(names, self.before, modes, strict=True)
            if was != now
        ]
        assert not changed, f"modes that are not as they were: {changed}"
        assert not self.screen.bracketed_paste, "pasted text is still put in brackets"

    def resize(self, rows: int, columns: int) -> None:
        self.screen.resize(columns)
        self._set_size(rows, columns)

    def _set_size(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def ended(self, within: float = PATIENCE) -> int:
        """Waits for the end of the command and of all its output; the exit code."""
        deadline = time.monotonic() + within
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"still running: {self.screen}"
            self.read(0.02)
        while self.read(0):
            pass
        return int(self.process.returncode)

    def hang_up(self) -> None:
        """The window is closed."""
        os.close(self._slave)
        os.close(self.master)
        self.master = self._slave = -1

    def dispose(self) -> None:
        end_session(self.process.pid, lambda: self.master >= 0 and self.read(0))
        self.process.wait(PATIENCE)
        if self.master >= 0:
            self.hang_up()


def end_session(leader: int, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Kills all processes of a session, whatever they are at.

    Those that coverage measures are asked first, as if the window was closed: what is killed tells it
    nothing. A second signal ends what still gives answers.
    """
    for _ in range(2 if measured() else 0):
        _signal_session(leader, signal.SIGHUP)
        _signal_session(leader, signal.SIGCONT)
        deadline = time.monotonic() + LAST_WORDS
        while any(_of_session(leader)) and time.monotonic() < deadline:
            meanwhile()
            time.sleep(0.01)
    _signal_session(leader, signal.SIGKILL)


def _signal_session(leader: int, number: signal.Signals) -> None:
    for pid in _of_session(leader):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _of_session(leader: int) -> Iterator[int]:
    """The processes that have not ended."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == leader and fields[0] != "Z":
                    yield int(entry.name)


# ---- tmux ---------------------------------------------------------------------------------------

TMUX = shutil.which("tmux")
_SETTINGS = """\
set -g status off
set -g escape-time 0
set -g history-limit 20000
"""


class Tmux:
    """A window of a tmux of its own, with an interactive shell in it (`$ ` is its prompt)."""

    def __init__(
        self, folder: Path, env: Mapping[str, str], *, columns: int = 80, rows: int = 24
    ) -> None:
        assert TMUX is not None
        self.folder = folder
        self._socket = folder / "tmux"
        (folder / "tmux.conf").write_text(_SETTINGS)
        self._env = {**env, "PS1": "$ ", "HISTFILE": "/dev/null"}
        size = ["-x", str(columns), "-y", str(rows)]
        shell = ["bash", "--norc", "--noprofile", "-i"]
        self._tmux(
            "-f", str(folder / "tmux.conf"), "new-session", "-d", *size, "-c", str(folder), *shell
        )
        self._server, self._shell = map(int, self._tell("#{pid} #{pane_pid}").split())
        self.wait_for(lambda: self.lines[:1] == ["$"], "no shell")

    def _tmux(self, *arguments: str) -> str:
        command = [str(TMUX), "-u", "-S", str(self._socket), *arguments]
        done = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _tell(self, what: str) -> str:
        return self._tmux("display-message", "-p", what).strip()

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)

    def keys(self, *names: str) -> None:
        """Presses keys by tmux's names: `Enter`, `C-c`, `Left`."""
        self._tmux("send-keys", *names)

    def paste(self, text: str) -> None:
        """Pastes as terminals do: in brackets if that was asked for."""
        self._tmux("set-buffer", text)
        self._tmux("paste-buffer", "-p", "-d")

    def resize(self, columns: int, rows: int) -> None:
        """Waits until what runs in the window has been told, which tmux does a moment later."""
        self._tmux("resize-window", "-x", str(columns), "-y", str(rows))
        tty = os.open(self._tell("#{pane_tty}"), os.O_RDWR | os.O_NOCTTY)
        try:
            size = os.terminal_size((columns, rows))
            self.wait_for(lambda: os.get_terminal_size(tty) == size, "not resized")
        finally:
            os.close(tty)

    @property
    def lines(self) -> list[str]:
        """The rows of the window down to the last one that is not empty."""
        return self._tmux("capture-pane", "-p").rstrip("\n").split("\n")

    @property
    def everything(self) -> str:
        """The rows of the window and those that have scrolled away; wrapped ones joined."""
        return self._tmux("capture-pane", "-p", "-J", "-S", "-").rstrip("\n") + "\n"

    @property
    def cursor(self) -> tuple[int, int]:
        """Column and row, from 0."""
        column, row = self._tell("#{cursor_x} #{cursor_y}").split()
        return int(column), int(row)

    def wait_for(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"{what}: {self.cursor}\n" + "\n".join(self.lines)

    def shows(self, *last: str, cursor: int | None = None) -> None:
        """Waits until these are the last rows; the cursor is in the last one, by default at its end."""
        column = width(last[-1]) if cursor is None else cursor
        wanted = [line.rstrip() for line in last]

        def seen() -> bool:
            lines = self.lines
            return lines[-len(last) :] == wanted and self.cursor == (column, len(lines) - 1)

        self.wait_for(seen, f"not {last} with the cursor in column {column}")

    def says(self, pattern: str) -> re.Match[str]:
        """Waits for a match in everything that was ever to be seen."""
        found: list[re.Match[str]] = []

        def seen() -> bool:
            found[:] = re.finditer(pattern, self.everything)
            return bool(found)

        self.wait_for(seen, f"no {pattern!r}")
        return found[-1]

    def dispose(self) -> None:
        end_session(self._shell)
        os.kill(self._server, signal.SIGKILL)  # it would take its time


# ---- for fixtures -------------------------------------------------------------------------------


_Window = TypeVar("_Window", bound=Tmux)


class Scripts:
    """Starts scripts in a folder of their own, and ends them with the test."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._stack = stack
        self._home = folder / "home"
        self._home.mkdir()

    def piped(self, setup: str = "", *, env: dict[str, str] | None = None, **options: Any) -> Piped:
        """With a pipe as its standard input."""
        command = script(self.folder, setup, **options)
        found = Piped(command, self.folder, environment(self._home, **(env or {})))
        self._stack.callback(found.dispose)
        return found

    def reading(
        self, stdin: Any, prefix: Sequence[str] = (), setup: str = "", **options: Any
    ) -> Script:
        """With anything else; `prefix` is in front of the command line."""
        command = [*prefix, *script(self.folder, setup, **options)]
        found = Script(command, self.folder, env=environment(self._home), stdin=stdin)
        self._stack.callback(found.dispose)
        return found

    def terminal(
        self,
        setup: str = "",
        *,
        env: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
        stdout: Any = None,
        stderr: Any = None,
        **options: Any,
    ) -> Terminal:
        """On a terminal."""
        command = [*prefix, *script(self.folder, setup, **options)]
        known = environment(self._home, **(env or {}))
        found = Terminal(command, self.folder, known, stdout=stdout, stderr=stderr)
        self._stack.callback(found.dispose)
        return found

    def window(self, kind: type[_Window], **size: int) -> _Window:
        """A window of tmux with a shell in it."""
        found = kind(self.folder, environment(self._home), **size)
        self._stack.callback(found.dispose)
        return found
