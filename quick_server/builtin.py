"""The commands that every server has.

A command may be typed on any thread; what it wants to know of the loop's things it asks there.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from .jobs import JobState, JobTable
from .log import escape, write_line
from .reactor import Reactor

if TYPE_CHECKING:
    from .server import QuickServer

T = TypeVar("T")

_PATIENCE = 5.0  # seconds for the loop to answer


def add_commands(server: QuickServer, table: JobTable, reactor: Reactor) -> None:
    """Adds them to a server's own."""
    commands = server.commands

    def on_loop(ask: Callable[[], T]) -> T:
        if not reactor.running or reactor.is_loop_thread():
            return ask()
        answers: list[T] = []
        answered = threading.Event()

        def call() -> None:
            try:
                answers.append(ask())
            finally:
                answered.set()

        reactor.call_from_thread(call)
        if not answered.wait(_PATIENCE) or not answers:
            raise TimeoutError("the server does not answer")
        return answers[0]

    def show_help(_args: list[str]) -> None:
        """Lists all commands."""
        known = [(" ".join(command.words), command.summary) for command in commands]
        width = max(len(name) for name, _ in known)
        for name, summary in known:
            write_line(f"  {name:{width}}  {escape(summary)}".rstrip())

    def end(_args: list[str]) -> None:
        """Ends the server."""
        server.done = True

    def jobs(_args: list[str]) -> None:
        """Lists the jobs of workers: running, in line, or waiting to be read."""
        states = on_loop(table.states)
        if not states:
            write_line("  no jobs")
        for state in states:
            write_line("  " + _describe(state))

    def stop_job(args: list[str]) -> None:
        """Stops the job with that token."""
        stopped = on_loop(lambda: table.stop(args[0]))
        write_line("  stopped" if stopped else f"  there is no job {escape(args[0])!r}")

    def tokens(args: list[str], text: str) -> list[str]:
        states = [] if args else on_loop(table.states)
        return [state.token for state in states if state.token.startswith(text)]

    add = functools.partial(commands.add, builtin=True)
    add("help", show_help, 0)
    add("quit", end, 0)
    add("jobs", jobs, 0)
    add("jobs_stop", stop_job, 1, tokens)


def _describe(state: JobState) -> str:
    done, total, text = state.progress
    shown = ""
    if state.state == "running":
        shown = f"  {done}/{total}" if total is not None else f"  {done}" if done else ""
    line = f"{state.token:>16}  {state.state:8}  {state.age:7.1f}s  {escape(state.name)}{shown}"
    return f"{line}  {escape(str(text))}".rstrip()
