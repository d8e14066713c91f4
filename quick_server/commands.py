"""The commands that people type at a running server, and what becomes of a line.

Any thread. Owns the table of commands; where lines come from and where a command runs is the business
of others. A command is one or several words: a function `cache_clear` is typed `cache clear`. Of all
commands that a line starts with the longest one is meant, and the words after it are its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

from .log import escape, log_failure, log_server

CmdF: TypeAlias = Callable[[list[str]], Any]
"""A command: `fun(args)` gets the words that follow its name."""
CmdCompleteF: TypeAlias = Callable[[list[str], str], "list[str] | None"]
"""`complete(args, text)`: what the word that begins with `text` may become, after those `args`."""


class CmdState(NamedTuple):
    """A line that is being typed: its words so far, and the beginning of the next one."""

    words: list[str]
    text: str


_LONGEST_LINE = 10_000
_SHOWN = 100  # characters of what somebody typed


class Command(NamedTuple):
    """A command and its name."""

    words: tuple[str, ...]
    function: CmdF
    argc: int | None = None
    """How many arguments it takes; None for any number."""
    complete: CmdCompleteF | None = None
    builtin: bool = False
    """Whether it is one of the server's own, which may run beside anything."""

    @property
    def summary(self) -> str:
        """The first line of its docstring."""
        return (self.function.__doc__ or "").strip().partition("\n")[0]


class Commands:
    """The table of commands."""

    def __init__(self) -> None:
        self._commands: dict[tuple[str, ...], Command] = {}

    def add(
        self,
        name: str,
        function: CmdF,
        argc: int | None = None,
        complete: CmdCompleteF | None = None,
        *,
        no_replace: bool = False,
        builtin: bool = False,
    ) -> None:
        """Adds a command, in the place of one of that name. ValueError for a name without a word.

        With `no_replace` an underscore in the name is typed as it is.
        """
        words = tuple((name if no_replace else name.replace("_", " ")).split())
        if not words:
            raise ValueError(f"{name!r} is not a name for a command")
        self._commands[words] = Command(words, function, argc, complete, builtin)

    def __iter__(self) -> Any:
        """All commands, by name."""
        return iter(sorted(self._commands.values()))

    def handle(self, line: str) -> None:
        """Does what a line says; whatever it is, nothing is raised. What is wrong with it is logged."""
        if len(line) > _LONGEST_LINE:
            log_server("that is too long for a command")
            return
        words = _words(line)
        if not words:
            return
        command = self.find(words)
        if command is None:
            log_server(f"there is no command '{_shown(words)}'; {self._what_follows(words)}")
            return
        args = words[len(command.words) :]
        name = " ".join(command.words)
        if command.argc is not None and len(args) != command.argc:
            count = "no arguments" if not command.argc else f"{command.argc} argument(s)"
            log_server(f"{name!r} takes {count}, not {len(args)}; {self._what_follows(command.words)}")
            return
        try:
            command.function(args)
        except BaseException:  # a command that calls sys.exit must not end a thread of the console
            log_failure(f"the command {name!r} failed")

    def is_users(self, line: str) -> bool:
        """Whether a line means a command that is not the server's own."""
        command = self.find(_words(line))
        return command is not None and not command.builtin

    def asks(self, words: list[str]) -> bool:
        """Whether `completions` calls a function of somebody's, which may take its time."""
        command = self.find(words)
        return command is not None and command.complete is not None

    def find(self, words: list[str]) -> Command | None:
        """The command that a line means."""
        for length in range(len(words), 0, -1):
            command = self._commands.get(tuple(words[:length]))
            if command is not None:
                return command
        return None

    def completions(self, words: list[str], text: str) -> list[str]:
        """What the word that begins with `text` may become, after those `words`."""
        depth = len(words)
        found = {
            names[depth]
            for names in self._commands
            if len(names) > depth and names[:depth] == tuple(words) and names[depth].startswith(text)
        }
        command = self.find(words)
        if command is not None and command.complete is not None:
            try:
                completed = list(command.complete(words[len(command.words) :], text) or ())
                if not all(isinstance(word, str) for word in completed):
                    raise TypeError(f"words are str, unlike some of {completed!r:.200}")
                found.update(completed)
            except BaseException:
                log_failure(f"the completion of {' '.join(command.words)!r} failed")
        return sorted(found)

    def _what_follows(self, words: list[str] | tuple[str, ...]) -> str:
        """What may be typed where the words stop making sense."""
        known = list(words)
        while known and not self.completions(known, ""):
            known.pop()
        possible = ", ".join(self.completions(known, ""))
        after = f"after '{_shown(known)}'" if known else "here"
        return f"possible {after}: {possible}" if possible else "nothing can follow"


def _words(line: str) -> list[str]:
    return line.partition("#")[0].split()


def _shown(words: list[str]) -> str:
    return escape(" ".join(words)[:_SHOWN])
