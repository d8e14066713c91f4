"""A prompt on the loop: a line that is edited while everything else goes on above it.

Loop thread, which must be the main thread. Owns the terminal while the prompt is shown: its modes, the
line (`gnureadline`), what is printed (`capture`) and the order in which both reach the screen. It never
waits for the terminal: what that does not take is kept, and meanwhile nothing is added to it, be it
typed or printed. It does not know what commands are.

Facts: the terminal belongs to the shell's jobs, of which we are one. Reading from it, or changing its
modes, stops a job in the background. So the terminal is taken only in the foreground, given back for
CTRL-Z, and taken again when we are in front, which nobody tells a job that was running all the time.
"""

from __future__ import annotations

import math
import os
import select
import signal
import sys
import termios
from collections.abc import Callable
from typing import Any, Protocol

from .capture import Capture
from .gnureadline import NoReadlineError, Readline
from .lines import LOOK_EVERY, in_foreground
from .log import divert, log_exception, log_server
from .reactor import READ, WRITE, Reactor
from .timers import Timer

_FRAME = 0.02  # seconds between two times that the line makes room for what is printed
_SILENCE = 0.5  # seconds after which an unfinished row is shown as it is
_KEYS_PER_TURN = 0.005  # seconds; a long line is drawn anew with each
_LONGEST_ROW = 16 * 1024  # bytes that may wait for the end of their line
_KEY_PATIENCE = 0.02  # seconds that the rest of a key may take
_ECHO = 0.2  # seconds after which SIGCONT is news
_KNOWN_FOR = 2.0  # seconds that a completion is taken for true
_PATIENCE = 1.0  # seconds that the terminal has in the end


_IFLAG, _LFLAG, _CC = 0, 3, 6  # of what `termios` tells


class TerminalOwner(Protocol):
    """What a terminal calls, on the loop thread."""

    def line_typed(self, line: str) -> None:
        """A line was completed."""

    def input_ended(self) -> None:
        """There will be no more lines: CTRL-D, or the terminal is gone. It has been given back."""

    def complete(self, before: str, text: str) -> list[str] | None:
        """What `text` may become, `before` being the line up to it; None: `completed` comes later."""


class Terminal:
    """The terminal that standard input and output are."""

    def __init__(self, reactor: Reactor, owner: TerminalOwner, prompt: Callable[[], str]) -> None:
        """Looks whether it can be used; raises NoReadlineError if not."""
        if os.environ.get("TERM", "dumb") == "dumb":
            raise NoReadlineError("the terminal is a dumb one")
        self._reactor = reactor
        self._owner = owner
        self._prompt = prompt
        self._readline = Readline(self._on_line, self._on_tab)
        self._modes: list[Any] = []  # of the terminal, as it was
        self._wanted = False  # whether it shall be ours
        self._active = False  # whether it is
        self._prompting = False  # whether there is a line to be typed
        self._was_resized = False  # while there was no telling what is on the screen
        self._reading = self._writing = False  # what is registered
        self._paused = False  # no more lines for now
        self._asks = False
        self._question = ""
        self._typed: list[str | None] = []  # lines that `take_key` has brought
        self._unsent = bytearray()
        self._row = b""  # printed, without the end of its line yet
        self._row_since = 0.0
        self._looking: Timer | None = None  # for the foreground
        self._frame: Timer | None = None
        self._frame_at = 0.0
        self._continued_at = -math.inf
        self._completing: _Completion | None = None

    # life -----------------------------------------------------------------------------------------

    @property
    def signals(self) -> dict[int, Callable[[int], object]]:
        """The signals that a terminal sends, and what is to be called for them on the loop."""
        return {
            signal.SIGWINCH: lambda _number: self._on_resize(),
            signal.SIGTSTP: lambda _number: self._on_stop(),
            signal.SIGCONT: lambda _number: self._on_continue(),
        }

    def open(self, history: list[str]) -> None:
        """Takes the terminal, or waits until we are in the foreground. Raises OSError if it cannot."""
        self._readline.remember(history)
        self._wanted = True
        self._take_when_in_front()

    def close(self) -> None:
        """Gives the terminal back, with everything that was printed on it."""
        self._wanted = False
        if self._looking is not None:
            self._looking.cancel()
        if self._active:
            self._give_back()

    def _take(self) -> None:
        same = tuple(fd for fd in (1, 2) if _is_same_terminal(fd, 1))
        self._in = _open_again(0, os.O_RDONLY)
        try:
            self._out = _open_again(1, os.O_WRONLY)
        except OSError:
            os.close(self._in)
            raise
        try:
            capture = Capture(
                same,
                arrived=lambda: self._reactor.call_from_thread(self._on_output),
                may_wait=lambda: not self._reactor.is_loop_thread(),
            )
        except OSError:
            os.close(self._in)
            os.close(self._out)
            raise
        self._capture = capture
        self._active = True
        streams = {1: (sys.stdout, sys.__stdout__), 2: (sys.stderr, sys.__stderr__)}
        divert(capture.say, tuple(stream for fd in same for stream in streams[fd]))
        self._readline.attach(self._draw, self._more_keys)
        self._set_size()
        self._set_modes()
        self._begin_line()

    def _set_modes(self) -> None:
        """Keys come one by one and unseen; those that send signals still do."""
        self._modes = termios.tcgetattr(0)
        modes = termios.tcgetattr(0)
        modes[_IFLAG] &= ~(termios.ICRNL | termios.INLCR | termios.ISTRIP)
        modes[_IFLAG] &= ~termios.IXON  # CTRL-S searches; it must not be able to stop the server
        modes[_LFLAG] &= ~(termios.ICANON | termios.ECHO)
        modes[_CC] = list(modes[_CC])
        modes[_CC][termios.VMIN], modes[_CC][termios.VTIME] = 1, 0
        modes[_CC][termios.VLNEXT] = b"\0"  # CTRL-V is for the line
        termios.tcsetattr(0, termios.TCSANOW, modes)

    def _restore_modes(self) -> None:
        try:
            termios.tcsetattr(0, termios.TCSANOW, self._modes)  # and waits for no output
        except termios.error:
            pass  # it is gone

    def _begin_line(self) -> None:
        self._prompting = True
        self._readline.begin(self._question if self._asks else self._prompt())
        self._flush()

    def _give_back(self) -> None:
        """The modes first: once others print on it by themselves, changing them may have to wait."""
        if self._frame is not None:
            self._frame.cancel()
        if self._prompting:
            self._readline.hide()
            self._readline.end()
            self._prompting = False
            self._restore_modes()
        divert(None)
        self._capture.end()
        rows = self._fetch()
        self._draw(rows + self._row + b"\n" if self._row else rows)
        self._row = b""
        self._send_rest()
        self._active = False
        self._watch()
        self._readline.detach()
        os.close(self._in)
        os.close(self._out)

    # what is typed --------------------------------------------------------------------------------

    def ask(self, asks: bool) -> None:
        """Whether the next line is an answer: its prompt is the row that was printed last."""
        if asks == self._asks:
            return
        self._asks = asks
        self._readline.remembers = not asks  # answers are no history
        if not self._active:
            return
        self._show_output()
        if not asks:
            self._question = ""
            self._change_prompt(self._prompt())
            self._flush()

    def pause(self) -> None:
        """Leaves what is typed where it is: enough lines are waiting to be done."""
        self._paused = True
        self._watch()

    def resume(self) -> None:
        """Reads on."""
        self._paused = False
        self._watch()

    def interrupt(self) -> bool:
        """CTRL-C: throws a half-typed line away; False if there was none."""
        if not self._prompting:
            return False
        had_text = self._readline.give_up()
        self._draw(b"^C\n")
        self._readline.end()
        self._begin_line()
        return had_text

    def completed(self, found: list[str]) -> None:
        """What the owner could not say at once. Counts if the line has not changed meanwhile."""
        completing = self._completing
        if completing is None or not self._prompting or completing.place != self._place():
            return
        completing.found = found
        completing.until = self._reactor.now() + _KNOWN_FOR
        self._readline.press_tab(again=completing.again)
        self._deal_with_lines()
        self._flush()

    def _on_readable(self, _mask: int) -> None:
        """One byte after the other: what follows the end of the console is the shell's."""
        until = self._reactor.now() + _KEYS_PER_TURN
        while self._reading and not self._unsent:
            try:
                data = os.read(self._in, 1)
            except BlockingIOError:  # somebody else has read it, perhaps
                break
            except OSError:  # it is gone
                data = b""
            if not data:
                self._end_input()
                return
            self._readline.take_key(data[0])
            self._deal_with_lines()
            if self._reactor.now() >= until:
                break
        if self._active:
            self._flush()

    def _more_keys(self) -> int | None:
        """Within `take_key`."""
        try:
            if _is_ready(self._in, select.POLLIN, _KEY_PATIENCE):
                return os.read(self._in, 1)[0]
        except (OSError, IndexError):
            pass
        return None

    def _on_line(self, line: str | None) -> None:
        self._typed.append(line)

    def _deal_with_lines(self) -> None:
        """Not within `take_key`, where the library is in the midst of something."""
        typed, self._typed = self._typed, []
        for line in typed:
            self._completing = None
            if line is not None:
                self._owner.line_typed(line)
                continue
            self._prompting = False  # the library has taken it off
            self._draw(b"\n")
            self._restore_modes()
            self._end_input()

    def _end_input(self) -> None:
        self.close()
        self._owner.input_ended()

    def _on_tab(self, before: str, text: str) -> list[str]:
        """Within `take_key`."""
        try:
            place, known = self._place(), self._completing
            if known is not None and known.holds_for(place, self._reactor.now()):
                return known.found
            found = self._owner.complete(before, text)
            if found is None:
                self._completing = _Completion(place, again=self._readline.is_tab_again)
                self._readline.keep_quiet()
        except Exception:
            log_exception("a line could not be completed")  # nothing may be raised through the library
            return []
        return found or []

    def _place(self) -> tuple[str, int]:
        return self._readline.line, self._readline.point

    # what is printed ------------------------------------------------------------------------------

    def _on_output(self) -> None:
        """Something was printed: it is shown now, or together with what follows within a moment."""
        if self._frame_at <= self._reactor.now():
            self._show_output()
        else:
            self._show_output_at(self._frame_at)

    def _show_output_at(self, when: float) -> None:
        if self._frame is None or not self._frame.active:
            self._frame = self._reactor.call_at(when, self._show_output)
        elif when < self._frame.when:
            self._frame.move(when)

    def _show_output(self) -> None:
        if not self._active or self._unsent:  # it takes its time: so do those who print
            return
        rows = self._fetch()
        now = self._reactor.now()
        self._frame_at = now + _FRAME
        if self._asks and self._row:
            self._question += self._row.decode("utf-8", "replace")
            self._row = b""
            self._change_prompt(self._question)
        if not rows and self._row and now - self._row_since >= _SILENCE:
            rows, self._row = self._row + b"\n", b""
        if rows and self._prompting:
            self._readline.hide()
            self._draw(rows)
            self._readline.show()
        else:
            self._draw(rows)
        self._flush()
        if self._row:  # perhaps its end comes
            self._show_output_at(self._row_since + _SILENCE)

    def _change_prompt(self, prompt: str) -> None:
        if not self._prompting:
            return
        self._readline.hide()
        self._readline.ask_with(prompt)
        self._readline.show()

    def _fetch(self) -> bytes:
        """The rows that are complete by now."""
        rows = bytearray()
        pieces, dropped = self._capture.take()
        for data, is_line in pieces:
            if is_line:
                rows += data
            elif data.strip(b"\a"):
                rows += self._complete(data)
            else:  # the library rings on standard error
                self._draw(data)
        if dropped:
            rows += b"[%d bytes of output left out]\n" % dropped
        return bytes(rows)

    def _complete(self, data: bytes) -> bytes:
        """The rows that are complete with `data`; the last one is kept until it is."""
        self._row_since = self._reactor.now()
        rows, newline, row = (self._row + data).rpartition(b"\n")
        # A progress bar starts its row again and again; what it showed before is of no use.
        start = row.rstrip(b"\r").rfind(b"\r") + 1
        self._row = row[start:]
        if len(self._row) > _LONGEST_ROW:
            rows, newline, self._row = rows + newline + self._row, b"\n", b""
        return rows + newline

    def _draw(self, data: bytes) -> None:
        """Puts something behind what is on its way to the terminal."""
        self._unsent += data

    def _flush(self) -> None:
        """Sends what the terminal takes now."""
        while self._unsent:
            try:
                del self._unsent[: os.write(self._out, self._unsent)]
            except BlockingIOError:
                break
            except OSError:  # it is gone
                self._unsent.clear()
        self._watch()

    def _on_writable(self, _mask: int) -> None:
        self._flush()
        if self._unsent:
            return
        if self._was_resized:
            self._on_resize()
        self._on_output()

    def _send_rest(self) -> None:
        """The end: the terminal gets a moment to take what is left."""
        deadline = self._reactor.now() + _PATIENCE
        while self._unsent and (left := deadline - self._reactor.now()) > 0:
            _is_ready(self._out, select.POLLOUT, left)
            self._flush()
        self._unsent.clear()

    def _watch(self) -> None:
        """Tells the reactor what we wait for now."""
        writing = self._active and bool(self._unsent)
        if writing != self._writing:
            self._writing = writing
            if writing:
                self._reactor.register(self._out, WRITE, self._on_writable)
            else:
                self._reactor.unregister(self._out)
        reading = self._prompting and not (self._paused or writing)
        if reading != self._reading:
            self._reading = reading
            if reading:
                self._reactor.register(self._in, READ, self._on_readable)
            else:
                self._reactor.unregister(self._in)

    # signals --------------------------------------------------------------------------------------

    def _on_resize(self) -> None:
        """Terminals fold rows anew: the line begins where it would if it had been typed now."""
        self._was_resized = bool(self._unsent)  # then what is on the screen is not what we drew
        if not self._active or self._was_resized:
            return
        self._capture.resize(0)
        columns = self._set_size()
        if self._prompting:
            above = self._readline.rows_above(columns)
            self._draw(b"\r" + (b"\x1b[%dA" % above if above else b"") + b"\x1b[J")
            self._readline.show()
            self._flush()

    def _set_size(self) -> int:
        columns, rows = _size_of(0)
        self._readline.set_size(rows, columns)
        return columns

    def _on_stop(self) -> None:
        """CTRL-Z: gives the terminal back and stops; the line waits until we are continued."""
        if self._prompting:
            point = self._readline.point
            self._readline.leave()
            self._readline.point = point
            self._draw(b"\n")
            self._prompting = False
            self._restore_modes()
            self._flush()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        self._continued_at = self._reactor.now()
        self._take_or_end()

    def _on_continue(self) -> None:
        """Somebody had stopped us, without a word, and the shell has set the terminal up for itself."""
        if self._reactor.now() - self._continued_at < _ECHO:
            return  # we know, and have dealt with it
        self._prompting = False
        self._watch()
        self._take_or_end()

    def _take_when_in_front(self) -> None:
        """Takes the terminal as soon as we may."""
        if not self._wanted or self._prompting:
            return
        if not in_foreground():
            if self._looking is None or not self._looking.active:
                self._looking = self._reactor.call_later(LOOK_EVERY, self._take_or_end)
            return
        if not self._active:
            self._take()
            return
        self._set_modes()
        self._prompting = True
        self._readline.go_on()
        self._flush()

    def _take_or_end(self) -> None:
        try:
            self._take_when_in_front()
        except OSError as error:  # e.g. out of descriptors; nobody but us would tell
            log_server(f"lines cannot be edited here: {error}")
            self._end_input()


class _Completion:
    """A line that is completed elsewhere, or was."""

    def __init__(self, place: tuple[str, int], *, again: bool) -> None:
        self.place = place
        self.again = again
        self.found: list[str] = []
        self.until = -math.inf  # when `found` is too old to be true

    def holds_for(self, place: tuple[str, int], now: float) -> bool:
        """Whether `found` is what can stand there."""
        return self.place == place and now < self.until


def _open_again(descriptor: int, mode: int) -> int:
    """The same terminal, in a way that never waits; the one that we were given is others', too.

    Raises OSError if it cannot be opened.
    """
    try:
        name = os.ttyname(descriptor)
    except OSError:  # it has no name here, as may be in containers
        os.tcgetpgrp(descriptor)  # raises unless it is the terminal that controls us, whose name is:
        name = "/dev/tty"
    return os.open(name, mode | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)


def _is_same_terminal(descriptor: int, other: int) -> bool:
    is_terminal = os.isatty(descriptor) and os.isatty(other)
    return is_terminal and os.fstat(descriptor).st_rdev == os.fstat(other).st_rdev


def _size_of(descriptor: int) -> os.terminal_size:
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        columns, rows = 0, 0
    return os.terminal_size((columns or 80, rows or 24))  # some do not know


def _is_ready(descriptor: int, event: int, patience: float = 0.0) -> bool:
    poll = select.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(patience * 1000))
