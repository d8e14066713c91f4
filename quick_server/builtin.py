"""The commands that every server has.

A command may be typed on any thread; what it wants to know of the loop's things it asks there.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from .jobs import JobState, JobTable
from .log import emphasise, escape, size_string, write_line
from .proxies import Proxies
from .reactor import Reactor
from .static import FileServer
from .upstreams import OriginState
from .vitals import Status, Vitals

if TYPE_CHECKING:
    from .connection import ConnectionState
    from .handlers import Handler
    from .server import QuickServer

T = TypeVar("T")

_PATIENCE = 5.0  # seconds for the loop to answer
_MOST_ROWS = 100  # of a list that depends on clients
_LONGEST_TEXT = 200  # characters of what a job says of itself


def add_commands(
    server: QuickServer,
    reactor: Reactor,
    vitals: Vitals,
    table: JobTable,
    files: FileServer,
    proxies: Proxies,
) -> None:
    """Adds them to a server's own."""
    commands = server.commands

    def on_loop(ask: Callable[[], T]) -> T:
        return _ask(reactor, ask)

    def show_help(_args: list[str]) -> None:
        """Lists all commands."""
        known = [(" ".join(command.words), command.summary) for command in commands]
        _show_pairs(known)

    def restart(_args: list[str]) -> None:
        """Ends the server and runs the script again."""
        server.restart()

    def end(_args: list[str]) -> None:
        """Ends the server."""
        server.done = True

    def show_status(_args: list[str]) -> None:
        """Tells how the server is doing."""
        _show_pairs(_describe_status(on_loop(vitals.status)))

    def show_connections(_args: list[str]) -> None:
        """Lists the connections of clients, the oldest first."""
        _show_rows(map(_describe_connection, on_loop(vitals.connections)), "no connections")

    def show_routes(_args: list[str]) -> None:
        """Lists what is served: functions, files and upstreams, in the order of trial."""
        routes = [_describe_route(*row) for row in server.routes.listing()]
        places = [f"GET     {path}  {place}" for path, place in files.bindings()]
        upstreams = [_describe_upstream(*row) for row in on_loop(proxies.states)]
        _show_rows(routes + places + upstreams, "nothing is served")

    def set_log(args: list[str]) -> None:
        """Switches the log of requests on or off."""
        if args[0] not in _SWITCHES:
            write_line(f"  log {escape(args[0])}? It is {' or '.join(_SWITCHES)}.")
            return
        server.access_log = _SWITCHES[args[0]]

    def reload_tls(_args: list[str]) -> None:
        """Loads the certificates of HTTPS again, for those that were renewed."""
        try:
            server.reload_tls()
        except (OSError, RuntimeError, ValueError) as error:
            write_line(f"  {escape(str(error))}")
        else:
            write_line("  new connections get the certificates as they are now")

    def show_jobs(_args: list[str]) -> None:
        """Lists the jobs of workers: running, in line, or waiting to be read."""
        _show_rows(map(_describe_job, on_loop(table.states)), "no jobs")

    def stop_job(args: list[str]) -> None:
        """Stops the job with that token."""
        stopped = on_loop(lambda: table.stop(args[0]))
        write_line("  stopped" if stopped else f"  there is no job {escape(args[0])!r}")

    def complete_token(args: list[str], text: str) -> list[str]:
        states = [] if args else on_loop(table.states)
        return [state.token for state in states if state.token.startswith(text)]

    def complete_switch(args: list[str], text: str) -> list[str]:
        return [] if args else [switch for switch in _SWITCHES if switch.startswith(text)]

    add = functools.partial(commands.add, builtin=True)
    add("help", show_help, 0)
    add("restart", restart, 0)
    add("quit", end, 0)
    add("status", show_status, 0)
    add("conns", show_connections, 0)
    add("routes", show_routes, 0)
    add("log", set_log, 1, complete_switch)
    add("tls_reload", reload_tls, 0)
    add("jobs", show_jobs, 0)
    add("jobs_stop", stop_job, 1, complete_token)


_SWITCHES = {"on": True, "off": False}


def _ask(reactor: Reactor, ask: Callable[[], T]) -> T:
    """What `ask` returns on the loop thread. TimeoutError if the loop does not come to it."""
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


def _show_pairs(pairs: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in pairs)
    write_line(
        "\n".join(f"  {emphasise(f'{name:{width}}')}  {escape(text)}".rstrip() for name, text in pairs)
    )


def _show_rows(rows: Iterable[str], nothing: str) -> None:
    shown = list(rows) or [nothing]
    left_out = len(shown) - _MOST_ROWS
    if left_out > 0:
        shown[_MOST_ROWS:] = [f"… and {left_out} more"]
    write_line("\n".join(f"  {row}" for row in shown))


def _describe_status(status: Status) -> list[tuple[str, str]]:
    jobs = ", ".join(f"{count} {state}" for state, count in sorted(status.jobs.items()))
    waiting = f", {status.waiting} waiting" if status.waiting else ""
    unknown = "the system does not tell"
    return [
        ("uptime", _duration(status.uptime)),
        ("requests", f"{status.requests} in all, {status.rate:.1f} a second"),
        ("connections", str(status.connections)),
        ("pool", f"{status.threads_busy} of {status.threads} threads busy{waiting}"),
        ("jobs", jobs or "none"),
        ("memory", unknown if status.memory is None else size_string(status.memory)),
        ("descriptors", unknown if status.descriptors is None else str(status.descriptors)),
    ]


def _describe_connection(state: ConnectionState) -> str:
    host, port = state.client
    what = f"  {escape(state.request)} ({state.since:.1f}s)" if state.request else ""
    line = f"{f'{host}:{port}':21}  {state.age:8.1f}s  {state.requests:6} requests  {state.waits_for:6}"
    return f"{line}{what}".rstrip()


def _describe_route(method: str, mask: str, argc: int | None, handler: Handler) -> str:
    more = "" if argc == 0 else "/…" if argc is None else "/…" * argc
    path = mask.rstrip("/") + more or "/"
    return f"{method:6}  {escape(path)}  {handler.kind}  {_place(handler.function)}"


def _describe_upstream(prefix: str, address: str, state: OriginState | None) -> str:
    line = f"*       {escape(prefix)}…  proxy  {escape(address)}"
    if state is None:
        return line
    line += f"  {state.in_use} in use, {state.idle} idle"
    if state.error is None or state.failed_ago is None:
        return line
    return f"{line}; {state.failed_ago:.0f} s ago: {escape(state.error)}"


def _place(function: Callable[..., Any]) -> str:
    """Name, file and line of a function, as far as it has them."""
    name = escape(getattr(function, "__qualname__", type(function).__name__))
    code = getattr(function, "__code__", None)
    if code is None:
        return name
    return f"{name} ({escape(os.path.basename(code.co_filename))}:{code.co_firstlineno})"


def _describe_job(state: JobState) -> str:
    done, total, text = state.progress
    shown = ""
    if state.state == "running":
        shown = f"  {done}/{total}" if total is not None else f"  {done}" if done else ""
    line = f"{state.token:>16}  {state.state:8}  {state.age:7.1f}s  {escape(state.name)}{shown}"
    return f"{line}  {escape(str(text)[:_LONGEST_TEXT])}".rstrip()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    shown = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(shown[:2]) or "0 s"
