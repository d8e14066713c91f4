"""The table of commands: which one a line means, and what may follow."""

from __future__ import annotations

import io

import pytest

import quick_server
from quick_server.commands import Commands


@pytest.fixture
def calls() -> list[tuple[str, list[str]]]:
    return []


@pytest.fixture
def commands(calls: list[tuple[str, list[str]]]) -> Commands:
    commands = Commands()
    for name in ("cache", "cache_clear", "cache_clear_all", "help"):
        commands.add(name, lambda args, name=name: calls.append((name, args)))  # type: ignore[misc] # a default for a lambda has no type
    commands.add("pair", lambda args: calls.append(("pair", args)), 2)
    return commands


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cache", ("cache", [])),
        ("cache x", ("cache", ["x"])),
        ("cache clear", ("cache_clear", [])),
        ("  cache   clear\tx  y ", ("cache_clear", ["x", "y"])),
        ("cache clear all", ("cache_clear_all", [])),
        ("cache clearall", ("cache", ["clearall"])),
        ("help # cache", ("help", [])),
        ("help#cache", ("help", [])),
        ("pair a b", ("pair", ["a", "b"])),
    ],
)
def test_the_most_specific_command_is_meant(
    commands: Commands, calls: list[tuple[str, list[str]]], line: str, expected: tuple[str, list[str]]
) -> None:
    commands.handle(line)
    assert calls == [expected]


@pytest.mark.parametrize("line", ["", "   ", "# help", "\t#"])
def test_nothing_is_no_command(
    commands: Commands, calls: list[tuple[str, list[str]]], log: io.StringIO, line: str
) -> None:
    commands.handle(line)
    assert calls == []
    assert log.getvalue() == ""


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nothing", "there is no command 'nothing'; possible here: cache, help, pair"),
        ("cache_clear", "there is no command 'cache_clear'; possible here: cache, help, pair"),
        ("\x1b[31m\n", r"there is no command '\x1b[31m'"),
        ("pair a", "'pair' takes 2 argument(s), not 1"),
        ("x" * 20_000, "that is too long for a command"),
    ],
)
def test_what_is_wrong_is_said(
    commands: Commands, calls: list[tuple[str, list[str]]], log: io.StringIO, line: str, said: str
) -> None:
    commands.handle(line)
    assert calls == []
    assert said in log.getvalue()
    assert log.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("words", "text", "expected"),
    [
        ([], "", ["cache", "help", "pair"]),
        ([], "c", ["cache"]),
        (["cache"], "", ["clear"]),
        (["cache", "clear"], "a", ["all"]),
        (["nothing"], "", []),
    ],
)
def test_completions(commands: Commands, words: list[str], text: str, expected: list[str]) -> None:
    assert commands.completions(words, text) == expected
    assert not commands.asks(words)


def test_a_completer_is_asked_with_the_arguments_so_far(commands: Commands) -> None:
    asked = []

    def complete(args: list[str], text: str) -> list[str] | None:
        asked.append((args, text))
        return ["red", "reed"] if not args else None

    commands.add("paint", print, complete=complete)
    assert commands.asks(["paint"])
    assert commands.completions(["paint"], "re") == ["red", "reed"]
    assert commands.completions(["paint", "red"], "") == []
    assert asked == [([], "re"), (["red"], "")]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt()])
def test_whatever_a_command_raises_is_logged_and_told(
    commands: Commands, log: io.StringIO, error: BaseException
) -> None:
    def fail(*_: object) -> list[str]:
        raise error

    told: list[BaseException] = []
    quick_server.set_global_error_handler(told.append)
    try:
        commands.add("fail", fail, complete=fail)
        commands.handle("fail")
        assert commands.completions(["fail"], "") == []
    finally:
        quick_server.set_global_error_handler(None)
    assert told == [error, error]
    assert "the command 'fail' failed" in log.getvalue()
    assert "the completion of 'fail' failed" in log.getvalue()


def test_an_error_handler_that_fails_itself(commands: Commands, log: io.StringIO) -> None:
    def fail(_: object) -> None:
        raise ValueError("first")

    def handler(_: BaseException) -> None:
        raise RuntimeError("second")

    quick_server.set_global_error_handler(handler)
    try:
        commands.add("fail", fail)
        commands.handle("fail")
    finally:
        quick_server.set_global_error_handler(None)
    assert "ValueError: first" in log.getvalue()
    assert "the global error handler failed" in log.getvalue()
    assert "RuntimeError: second" in log.getvalue()


def test_the_servers_own_are_told_from_those_of_users(commands: Commands) -> None:
    commands.add("status", print, builtin=True)
    assert commands.is_users("cache clear # now")
    assert not commands.is_users("status")
    assert not commands.is_users("nothing")
    commands.add("status", print)
    assert commands.is_users("status")
