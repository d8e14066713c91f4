"""GNU readline's callback interface: line editing that never waits.

Loop thread only; readline keeps its state in globals. This file owns the calls into the library that
Python's own `readline` module uses, found through that module, so that there is never a second copy of
it. It knows neither the loop nor commands.

Facts: the callback interface is not part of Python's module, and a Python that is linked with libedit
lacks parts of it. Hence `ctypes`, and `NoReadlineError` when anything is missing. `PyDLL` keeps the
interpreter's lock during a call, so that no other thread gets into the module meanwhile.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

_STATE_ISEARCH = 0x80
_STATE_NUMERICARG = 0x400
_STATE_MULTIKEY = 0x200000
_IN_A_SEQUENCE = _STATE_ISEARCH | _STATE_MULTIKEY
_NO_TEXT_YET = _STATE_ISEARCH | _STATE_NUMERICARG | _STATE_MULTIKEY
_SETTINGS = (
    # In this mode it would ask "Display all 200 possibilities? (y or n)", and not wait for an answer.
    "set completion-query-items -1",
    "set page-completions off",
    # Pasted lines are lines; and a process that is killed could not switch it off in the terminal.
    "set enable-bracketed-paste off",
    # The library crashes (8.2) when a search is ended by the first of two keys.
    'set isearch-terminators "\\e\\C-j\\C-x"',
)
_KEYMAPS = ("emacs", "vi-insert", "vi-command")
_PASTE = '"\\e[200~": skip-csi-sequence'  # its own way with it waits for the end of the paste
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "rl_callback_handler_remove": (None, []),
    "rl_callback_read_char": (None, []),
    "rl_callback_sigcleanup": (None, []),
    "rl_clear_visible_line": (ctypes.c_int, []),
    "rl_forced_update_display": (ctypes.c_int, []),
    "rl_free": (None, [ctypes.c_void_p]),
    "rl_free_line_state": (None, []),
    "rl_function_of_keyseq": (ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p]),
    "rl_named_function": (ctypes.c_void_p, [ctypes.c_char_p]),
    "rl_on_new_line": (ctypes.c_int, []),
    "rl_redisplay": (None, []),
    "rl_set_screen_size": (None, [ctypes.c_int, ctypes.c_int]),
    "rl_set_prompt": (ctypes.c_int, [ctypes.c_char_p]),
    "rl_stuff_char": (ctypes.c_int, [ctypes.c_int]),
    "rl_tty_set_echoing": (ctypes.c_int, [ctypes.c_int]),
    "rl_variable_value": (ctypes.c_char_p, [ctypes.c_char_p]),
}
_LINE_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_READ_KEY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
_IS_THERE = ctypes.CFUNCTYPE(ctypes.c_int)
_PREPARE = ctypes.CFUNCTYPE(None, ctypes.c_int)
_UNPREPARE = ctypes.CFUNCTYPE(None)
_ABORT = 7  # CTRL-G: leaves whatever the library is in the midst of
_END = -1
_MOST_ABORTS = 8  # in a row, before the library is told that there is no input any more
_LONGEST_LINE = 4000  # bytes; all of it is drawn again and again
_LARGEST_ARGUMENT = 1000  # how often a key may be repeated at once
_SMALLEST_SCREEN = 2, 8  # rows and columns; it divides by what is left of them
_INSERTING = frozenset((0x16, 0x19))  # CTRL-V and CTRL-Y, beside all that are characters
_INVISIBLE = re.compile("\x01.*?\x02")


class NoReadlineError(Exception):
    """There is no readline here that can be driven by callbacks; says why."""


class Readline:
    """The library, set up to edit one line after the other.

    `on_line(text)` is called within `take_key` when a line is complete, with None at the end of input;
    `complete(before, text)` returns what `text` may become, the rest of the line up to it being
    `before`. Neither may raise. Raises NoReadlineError.
    """

    def __init__(
        self, on_line: Callable[[str | None], None], complete: Callable[[str, str], list[str]]
    ) -> None:
        self._on_line = on_line
        self._complete = complete
        self.remembers = True
        """Whether lines become part of the history."""
        self._matches: list[str] = []
        self._bell: str | None = None  # the user's, while it is off
        self._module = module = _import()
        self._library = library = ctypes.PyDLL(module.__file__)
        for name, (result, arguments) in _FUNCTIONS.items():
            function = _find(library, name)
            function.restype, function.argtypes = result, arguments
        self._install = _find(library, "rl_callback_handler_install")
        self._install.restype, self._install.argtypes = None, [ctypes.c_char_p, _LINE_HANDLER]
        self._handler = _LINE_HANDLER(self._take_line)  # the library keeps bare pointers to these
        self._key_reader = _READ_KEY(self._next_key)
        self._key_finder = _IS_THERE(lambda: 0)  # it looks no further than the key that it has
        self._nothing_to_prepare = _PREPARE(lambda _meta: None), _UNPREPARE(lambda: None)
        self._key: int | None = None
        self._aborts = 0
        self._more_keys: Callable[[], int | None] = lambda: None
        self._shown_prompt = ""
        self._catch_no_signals()
        self._c = ctypes.CDLL(None)
        self._c.open_memstream.restype = ctypes.c_void_p
        for function in (self._c.fflush, self._c.rewind, self._c.fclose):
            function.argtypes = [ctypes.c_void_p]
        self._out: int | None = None  # FILE*, in memory
        self._text, self._size = ctypes.c_void_p(), ctypes.c_size_t()  # of what was written to it
        self._draw: Callable[[bytes], object] = len
        self._previous: dict[str, int | None] = {}
        for setting in _SETTINGS:
            module.parse_and_bind(setting)
        self._bind_tab()
        self._bind_paste()
        module.set_completer_delims(" \t")
        module.set_completer(self._match)

    # the terminal ---------------------------------------------------------------------------------

    def attach(self, draw: Callable[[bytes], object], more_keys: Callable[[], int | None]) -> None:
        """Has the line drawn by `draw(data)`; the modes of the terminal are the caller's business.

        `more_keys` returns the next byte of input, if there is one soon: some keys are several.
        """
        self._draw, self._more_keys = draw, more_keys
        self._out = self._c.open_memstream(ctypes.byref(self._text), ctypes.byref(self._size))
        functions = {
            "rl_getc_function": self._key_reader,
            "rl_input_available_hook": self._key_finder,
            "rl_prep_term_function": self._nothing_to_prepare[0],
            "rl_deprep_term_function": self._nothing_to_prepare[1],
        }
        pointers = {name: ctypes.cast(call, ctypes.c_void_p).value for name, call in functions.items()}
        for name, value in (pointers | {"rl_outstream": self._out}).items():
            pointer = self._pointer(name)
            self._previous[name], pointer.value = pointer.value, value
        self._library.rl_tty_set_echoing(1)

    def detach(self) -> None:
        """Gives back what `attach` took."""
        for name, value in self._previous.items():
            self._pointer(name).value = value
        self._c.fclose(self._out)
        self._c.free(self._text)
        self._out = None

    def begin(self, prompt: str) -> None:
        """Shows the prompt of a new line."""
        self._shown_prompt = prompt
        self._install(os.fsencode(prompt), self._handler)
        self._flush()

    def end(self) -> None:
        """There is no line any more."""
        self._library.rl_callback_handler_remove()
        self._flush()

    def ask_with(self, prompt: str) -> None:
        """Changes the prompt, while it is hidden."""
        self._shown_prompt = prompt
        self._library.rl_set_prompt(os.fsencode(prompt))

    def go_on(self) -> None:
        """Shows the line, after somebody else had the terminal."""
        self._library.rl_forced_update_display()
        self._flush()

    def set_size(self, rows: int, columns: int) -> None:
        """The terminal has that size."""
        least_rows, least_columns = _SMALLEST_SCREEN
        self._library.rl_set_screen_size(max(rows, least_rows), max(columns, least_columns))

    def rows_above(self, columns: int) -> int:
        """How many rows of prompt and line are above the cursor, on a terminal that wide."""
        before = self.line.encode("utf-8", "surrogateescape")[: self.point].decode("utf-8", "replace")
        text = _INVISIBLE.sub("", self._shown_prompt) + before
        width: int = sum(max(0, self._c.wcwidth(ord(char))) for char in text)
        return width // columns

    def hide(self) -> None:
        """Takes prompt and line off the screen."""
        self._library.rl_clear_visible_line()
        self._flush()

    def show(self) -> None:
        """Shows prompt and line at the cursor, which is at the start of an empty row."""
        self._library.rl_on_new_line()
        self._library.rl_redisplay()
        self._flush()

    def leave(self) -> None:
        """Puts the cursor behind the line, which may fill several rows."""
        self.point = self._number("rl_end").value
        self._library.rl_redisplay()
        self._flush()

    def _flush(self) -> None:
        """What the library has written goes on, so that it never waits for a terminal."""
        if self._out is None:
            return
        self._c.fflush(self._out)
        if self._size.value:
            self._draw(ctypes.string_at(self._text.value or 0, self._size.value))
            self._c.rewind(self._out)

    # the line -------------------------------------------------------------------------------------

    def take_key(self, key: int) -> None:
        """Takes one byte of input; characters are refused once the line is very long."""
        if self._is_full() and self._inserts(key):
            return
        self._key = key
        self._aborts = 0
        self._go_on_with_keys()
        argument = self._number("rl_numeric_arg")
        argument.value = max(-_LARGEST_ARGUMENT, min(_LARGEST_ARGUMENT, argument.value))

    def _is_full(self) -> bool:
        return self._number("rl_end").value >= _LONGEST_LINE

    def _inserts(self, key: int) -> bool:
        if self._number("rl_readline_state").value & _IN_A_SEQUENCE:
            return False
        return key in _INSERTING or (key >= 0x20 and key != 0x7F)

    def _go_on_with_keys(self) -> None:
        self._library.rl_callback_read_char()
        if self._bell is not None:
            self._module.parse_and_bind(f"set bell-style {self._bell}")
            self._bell = None
        self._flush()

    @property
    def is_tab_again(self) -> bool:
        """Within `complete`: whether the key before was the same one, so that a list is asked for."""
        last = self._pointer("rl_last_func").value
        return bool(last == self._library.rl_named_function(b"complete"))

    def keep_quiet(self) -> None:
        """Within `complete`: nothing is known yet, which is no reason to ring."""
        self._bell = (self._library.rl_variable_value(b"bell-style") or b"audible").decode()
        self._module.parse_and_bind("set bell-style none")

    def press_tab(self, *, again: bool) -> None:
        """Does what the tabulator key does when it is pressed first, or `again`."""
        if not again:
            self._pointer("rl_last_func").value = None
        self._library.rl_stuff_char(9)
        self._go_on_with_keys()

    def give_up(self) -> bool:
        """Leaves the line as it is on the screen, whatever mode it is in; `begin` starts a new one.

        Returns whether there was anything.
        """
        had_text = bool(self.line) or bool(self._number("rl_readline_state").value & _NO_TEXT_YET)
        self._library.rl_callback_sigcleanup()
        self.leave()
        self._library.rl_free_line_state()
        return had_text

    @property
    def line(self) -> str:
        """What has been typed so far."""
        return str(self._module.get_line_buffer())

    @property
    def point(self) -> int:
        """Where the cursor is in it, in bytes."""
        return self._number("rl_point").value

    @point.setter
    def point(self, point: int) -> None:
        self._number("rl_point").value = point

    def remember(self, lines: list[str]) -> None:
        """Makes these lines the history."""
        self._module.clear_history()
        for line in lines:
            self._module.add_history(line)

    # callbacks of the library ---------------------------------------------------------------------

    def _next_key(self, _stream: int | None) -> int:
        key, self._key = self._key, None
        if key is None:
            key = self._more_keys()
        if key is not None:
            return key
        self._aborts += 1
        return _ABORT if self._aborts < _MOST_ABORTS else _END

    def _take_line(self, pointer: int | None) -> None:
        if pointer is None:
            self._library.rl_callback_handler_remove()  # else it would prompt again
            self._on_line(None)
            return
        line = ctypes.string_at(pointer).decode("utf-8", "backslashreplace")
        self._library.rl_free(pointer)
        # Here and not later: behind this call the library begins the next line, and with it pins its
        # place in the history.
        if self.remembers and line.strip() and line != self._latest():
            self._module.add_history(line)
        self._on_line(line)

    def _latest(self) -> str | None:
        count = self._module.get_current_history_length()
        return self._module.get_history_item(count) if count else None

    def _match(self, text: str, number: int) -> str | None:
        if number == 0:
            self._matches = self._complete(self.line[: self._module.get_begidx()], text)
        return self._matches[number] if number < len(self._matches) else None

    # setting up -----------------------------------------------------------------------------------

    def _catch_no_signals(self) -> None:
        """Signals are the loop's."""
        self._number("rl_catch_signals").value = 0
        self._number("rl_catch_sigwinch").value = 0

    def _bind_tab(self) -> None:
        """Python binds it to the insertion of a tabulator, unless the user's inputrc says otherwise."""
        bound = self._library.rl_function_of_keyseq(b"\t", None, None)
        if bound == self._library.rl_named_function(b"self-insert"):
            self._module.parse_and_bind("tab: complete")

    def _bind_paste(self) -> None:
        keymap = (self._library.rl_variable_value(b"keymap") or b"emacs").decode()
        for name in _KEYMAPS:
            self._module.parse_and_bind(f"set keymap {name}")
            self._module.parse_and_bind(_PASTE)
        self._module.parse_and_bind(f"set keymap {keymap}")

    def _number(self, name: str) -> ctypes.c_int:
        return ctypes.c_int.in_dll(self._library, name)

    def _pointer(self, name: str) -> ctypes.c_void_p:
        return ctypes.c_void_p.in_dll(self._library, name)


def _import() -> ModuleType:
    try:
        import readline
    except ImportError as error:
        raise NoReadlineError(f"Python has no readline module ({error})") from error
    backend = getattr(readline, "backend", "")  # since Python 3.13
    if backend == "editline" or "libedit" in (readline.__doc__ or ""):
        raise NoReadlineError("Python's readline module is made of libedit")
    return readline


def _find(library: ctypes.PyDLL, name: str) -> Any:
    try:
        return getattr(library, name)
    except AttributeError:
        raise NoReadlineError(f"the readline library has no {name}") from None
