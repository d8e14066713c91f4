"""The words that a function knows: the strings and numbers in its code, and in what it calls.

A handler that asks for `args["query"]["limit"]`, or compares something with `"csv"`, has these words
among its constants. Requests made of them reach further than random ones: this is the dictionary of
other fuzzers. Nothing is called or imported to find them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

from .journal import is_own

_DEEPEST = 3  # calls away from the handler
_MOST = 200  # words
_LONGEST = 60  # characters


def words_of(*functions: Callable[..., Any]) -> tuple[str, ...]:
    """The words of functions, and of the user's functions and classes that they name.

    >>> def handler(req, args):
    ...     return 10 / int(args["query"].get("limit", 3))
    >>> words_of(handler)
    ('10', '11', '9', 'query', 'limit', '3', '4', '2')
    """
    found: dict[str, None] = {}
    seen: set[int] = set()
    for function in functions:
        for word in _from_object(function, _DEEPEST, seen):
            found.setdefault(word)
            if len(found) >= _MOST:
                return tuple(found)
    return tuple(found)


def _from_object(thing: Any, depth: int, seen: set[int]) -> Iterator[str]:
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if inspect.isroutine(thing) or hasattr(thing, "func"):  # a partial has its function there
        yield from _from_function(getattr(thing, "func", thing), depth, seen)
    elif isinstance(thing, type):
        for value in list(vars(thing).values()):
            value = getattr(value, "__func__", value)
            if isinstance(value, FunctionType):
                yield from _from_function(value, depth, seen)
    else:
        yield from _from_value(thing)


def _from_function(function: Any, depth: int, seen: set[int]) -> Iterator[str]:
    function = inspect.unwrap(getattr(function, "__func__", function))
    code = getattr(function, "__code__", None)
    if not isinstance(code, CodeType) or not is_own(code.co_filename):
        return
    yield from _from_code(code, function.__doc__)
    if depth == 0:
        return
    for cell in function.__closure__ or ():
        try:
            yield from _from_object(cell.cell_contents, depth - 1, seen)
        except ValueError:  # nothing is in it yet
            continue
    for value in list(_named(code, function.__globals__)):
        yield from _from_object(value, depth - 1, seen)


def _from_code(code: CodeType, doc: str | None = None) -> Iterator[str]:
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield from _from_code(value)
        elif value != doc:
            yield from _from_value(value)


def _named(code: CodeType, names: dict[str, Any]) -> Iterator[Any]:
    """What a function's global names stand for; of a module, what the function may use of it."""
    for nested in (code, *(c for c in code.co_consts if isinstance(c, CodeType))):
        for name in nested.co_names:
            value = names.get(name)
            if isinstance(value, ModuleType):
                if is_own(getattr(value, "__file__", None) or "<frozen"):
                    yield from (vars(value)[part] for part in nested.co_names if part in vars(value))
            elif value is not None:
                yield value


def _from_value(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if 0 < len(value) <= _LONGEST and value.isprintable():
            yield value
    elif isinstance(value, bool):
        return
    elif isinstance(value, int):
        yield from map(str, (value, value + 1, value - 1))
    elif isinstance(value, float):
        yield str(value)
    elif isinstance(value, tuple | list | set | frozenset | dict):
        for item in list(value)[:_MOST]:
            if isinstance(item, str | int | float):
                yield from _from_value(item)
