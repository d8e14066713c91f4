"""The console: commands are typed at the server while it serves.

Loop thread, but for what the banner says. Owns the source of the lines (a terminal that is edited on,
or plain lines from whatever standard input is) and the order in which commands are done: one at a time,
in threads of the console's own, so that neither a slow command nor a busy pool keeps anybody waiting.
It knows the terminal only as something that brings lines, and commands only by their table.

Lines that are not typed are read one by one, each when the one before is done: what follows `restart`
in a pipe is for the next run.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Protocol, TextIO, cast

from .answers import Answer, Answers
from .commands import CmdState, Commands
from .history import History
from .lines import LineReader
from .log import has_colours, log_server
from .pool import Errand, Job, Lane, Pool, PoolFullError, SerialLane
from .reactor import Reactor

if TYPE_CHECKING:
    from .terminal import Terminal

_END = "no command loop - use CTRL-C to terminate"
_MOST_WAITING = 100  # lines that were typed ahead
_THREADS = 3  # one for commands, one for completions, one for the history
_QUEUED = 1000
_MOST_SHOWN = 300  # words that a line may be completed to
_UNFINISHED = "/="  # what a word may end with that will go on


class ConsoleSettings(Protocol):
    """The settings that this file reads."""

    base_path: str
    console: Literal["auto", "plain"]
    history_file: str
    no_command_loop: bool
    prompt: str


class Console:
    """Reads commands from standard input, from `open` until `close` or the end of input."""

    def __init__(
        self, settings: ConsoleSettings, commands: Commands, reactor: Reactor, lane: Lane | None = None
    ) -> None:
        """`lane` is where commands of users have to run, if not in a thread of the console's own."""
        self._settings = settings
        self._commands = commands
        self._reactor = reactor
        self._pool = Pool(reactor, _THREADS, _QUEUED, name="console")
        self._lane = lane or self._pool
        self._completing = SerialLane(self._pool)
        self._remembering = SerialLane(self._pool)
        self._asked: _Completion | None = None
        self._history = History("")
        self._source: Terminal | LineReader | None = None
        self._terminal: Terminal | None = None  # the source, if it is one
        self._waiting: deque[str] = deque()
        self._running: str | None = None  # the command that is being done
        self._askers: deque[Answer] = deque()  # who waits for a line that is no command
        self._stdin: TextIO | None = None  # as it was

    # life -----------------------------------------------------------------------------------------

    def open(self, earlier: bytes = b"") -> None:
        """Begins to read; `earlier` is input that a run before this one has left. Main thread."""
        settings = self._settings
        descriptor = None if settings.no_command_loop else _standard_input()
        if descriptor is None:
            log_server(_END)
            return
        is_terminal = os.isatty(descriptor)
        answers = Answers(self._ask, lambda: self._source is not None, is_terminal=is_terminal)
        self._stdin, sys.stdin = sys.stdin, cast("TextIO", answers)
        if settings.history_file:
            self._history = History(os.path.join(settings.base_path, settings.history_file))
        self._source = self._terminal = self._find_terminal(descriptor)
        if self._terminal is not None:
            try:
                self._terminal.open(self._history.load())
            except OSError as error:
                log_server(f"lines cannot be edited here: {error}")
                self._terminal = None
        if self._terminal is None:
            self._source = LineReader(self._reactor, descriptor, self, earlier)
            self._do_next()
            return
        for line in earlier.decode("utf-8", "backslashreplace").splitlines():
            self.line_typed(line)

    def close(self) -> bytes:
        """Ends it, and gives the terminal back; returns the input that was read and not used."""
        source = self._source
        if source is None:
            return b""
        source.close()
        self._forget()
        unused = source.unused if isinstance(source, LineReader) else b""
        waiting = "".join(f"{line}\n" for line in self._waiting)
        self._waiting.clear()
        return waiting.encode("utf-8", "replace") + unused

    def join(self, patience: float) -> None:
        """Closing thread: waits up to `patience` seconds for the command that is being done."""
        self._pool.close(patience)

    def is_own_thread(self) -> bool:
        """Whether the caller is a command."""
        return self._pool.is_pool_thread()

    @property
    def signals(self) -> dict[int, Callable[[int], object]]:
        """The signals that the console needs, and what is to be called for them on the loop."""
        return {} if self._source is None else self._source.signals

    def interrupt(self) -> bool:
        """CTRL-C: whether it was meant for a line that is being typed."""
        if self._terminal is None:
            return False
        if not self._askers:
            return self._terminal.interrupt()
        self._askers.popleft()(None)  # no answer: who has asked gets an EOFError
        self._show_who_asks()
        self._terminal.interrupt()
        return True

    def _find_terminal(self, descriptor: int) -> Terminal | None:
        if self._settings.console == "plain" or descriptor != 0 or not (os.isatty(0) and os.isatty(1)):
            return None
        from .gnureadline import NoReadlineError
        from .terminal import Terminal  # not every server has one, and ctypes takes its time

        try:
            return Terminal(self._reactor, self, self._prompt)
        except NoReadlineError as error:
            log_server(f"lines cannot be edited here: {error}")
            return None

    def _prompt(self) -> str:
        """The prompt in bold; readline has to know what takes no room."""
        prompt = self._settings.prompt
        return f"\x01\x1b[1m\x02{prompt}\x01\x1b[0m\x02" if has_colours(sys.stdout) else prompt

    # from the source ------------------------------------------------------------------------------

    def line_typed(self, line: str) -> None:
        """A line arrived: somebody asked for it, or its turn comes when those before it are done."""
        if self._askers:
            self._askers.popleft()(line)
            self._show_who_asks()
            self._do_next()
            return
        if self._terminal is not None and line.strip():
            self._submit(Errand(lambda: self._history.add(line)), self._remembering)
        self._waiting.append(line)
        self._do_next()

    def input_ended(self) -> None:
        """The console ends, and not the server."""
        self._forget()
        log_server(_END)

    def complete(self, before: str, text: str) -> list[str] | None:
        """What `text` may become; None if a function of the user's has to be asked first."""
        state = CmdState(before.split(), text)
        if not self._commands.asks(state.words):
            return _presented(self._commands.completions(*state))
        if self._asked is None or self._asked.state != state:
            self._asked = _Completion(self, state)
            self._submit(self._asked, self._completing)
        return None

    # commands -------------------------------------------------------------------------------------

    def _do_next(self) -> None:
        while self._waiting and self._running is None:
            self._do(self._waiting.popleft())
        source = self._source
        if source is None:
            return
        most = 0 if self._terminal is None else _MOST_WAITING
        if self._running is not None and len(self._waiting) >= most and not self._askers:
            source.pause()
            return
        source.resume()
        if isinstance(source, LineReader) and source.is_terminal and os.isatty(1):
            self._submit(Errand(self._show_prompt), self._remembering)

    def _do(self, line: str) -> None:
        own = self._commands.is_users(line)
        self._running = line
        self._submit(_CommandCall(self, line), self._lane if own else self._pool)

    # answers --------------------------------------------------------------------------------------

    def _ask(self, answer: Answer) -> None:
        """Any thread but the loop's: the next line is for `answer`."""
        if self._reactor.is_loop_thread():
            raise RuntimeError("the thread that serves cannot wait for a line")
        if self._source is None:
            answer(None)
            return
        self._reactor.call_from_thread(lambda: self._take_asker(answer))

    def _take_asker(self, answer: Answer) -> None:
        if self._source is None:
            answer(None)
            return
        self._askers.append(answer)
        self._show_who_asks()
        self._do_next()

    def _show_who_asks(self) -> None:
        if self._terminal is not None:
            self._terminal.ask(bool(self._askers))

    def _forget(self) -> None:
        """There is nothing to read from any more."""
        self._source = self._terminal = None
        if self._stdin is not None and isinstance(sys.stdin, Answers):
            sys.stdin = self._stdin
        while self._askers:
            self._askers.popleft()(None)

    def _submit(self, job: Job, lane: Lane) -> None:
        try:
            lane.submit(job)
        except PoolFullError:
            log_server("the console has too much to do")
            job.deliver(None)

    def _done(self) -> None:
        self._running = None
        self._do_next()

    def _completed(self, completion: _Completion, found: list[str]) -> None:
        if completion is not self._asked:
            return  # something else was asked for meanwhile
        self._asked = None
        if self._terminal is not None:
            self._terminal.completed(_presented(found))

    # console threads ------------------------------------------------------------------------------

    def _show_prompt(self) -> None:
        print(self._settings.prompt, end="", flush=True)


class _CommandCall(Job):
    """A line that is being done."""

    def __init__(self, console: Console, line: str) -> None:
        self._console = console
        self._line = line

    def run(self) -> None:
        """Pool thread."""
        self._console._commands.handle(self._line)

    def deliver(self, _outcome: None) -> None:
        """Loop thread."""
        self._console._done()


class _Completion(Job):
    """A word that a function of the user's completes."""

    def __init__(self, console: Console, state: CmdState) -> None:
        self._console = console
        self.state = state

    def run(self) -> list[str]:
        """Pool thread."""
        return self._console._commands.completions(*self.state)

    def deliver(self, outcome: list[str] | None) -> None:
        """Loop thread."""
        self._console._completed(self, outcome or [])


def _presented(found: list[str]) -> list[str]:
    """Matches, in order, as they are shown.

    An only one is complete: the next word may begin. Of a great many some are left out, but not the
    last, so that what they all begin with stays what it is.
    """
    if len(found) == 1 and found[0][-1:] not in _UNFINISHED:
        return [found[0] + " "]
    return found if len(found) <= _MOST_SHOWN else [*found[: _MOST_SHOWN - 1], found[-1]]


def _standard_input() -> int | None:
    """Its descriptor, unless it is closed, or something else took its place."""
    try:
        return sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):
        return None
