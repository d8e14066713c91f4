"""Who may import whom: a file imports only from rows above its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import quick_server

PACKAGE = Path(quick_server.__file__).parent

ROWS = (
    "version limits clienthello",
    "jsonvalues",
    "jsontext",
    "protocol/__init__ protocol/grammar protocol/target protocol/cookies",
    "protocol/messages",
    "protocol/errors protocol/writer protocol/forms protocol/heads protocol/chunks protocol/worker",
    "protocol/conditional protocol/encoding",
    "protocol/server protocol/client",
    "protocol/forwarding",
    "log mediatypes origin client handover tls tlssocket",
    "timers",
    "answers capture gnureadline history reactor commands selfsigned",
    "containment keylocks lines reload signalqueue",
    "pool signals stream listener supervisor cache terminal",
    "console memo names",
    "dial lifecycle",
    "shutdown",
    "producer tlsstream",
    "links responses tlsclient",
    "events exchange filememory filerules listing mirror routes tokenobjects upstreams workers",
    "answering accesslog jobs redislink uploads siblings tokens",
    "connection redistokens request",
    "capacity middleware proxy",
    "proxies",
    "handlers static",
    "jobrequests executors processes",
    "lookups registration binding https",
    "vitals",
    "builtin dispatch settings testclient",
    "server",
    "__init__",
    "testing/request testing/journal testing/values testing/watchdog",
    "testing/curl testing/words testing/bodies testing/wire",
    "testing/findings testing/surface",
    "testing/client testing/corpus testing/leaks testing/search testing/strategies",
    "testing/judge",
    "testing/campaign",
    "testing/fuzz",
    "testing/__init__ testing/command",
    "__main__",
)
"""Every file of the package, the lowest layer first. Files of one row do not know each other."""

NARROWER = {
    "log": "",
    "timers": "log",
    "reactor": "log timers",
    "pool": "log reactor",
    "signals": "handover reactor",
    "handover": "",
    "signalqueue": "",
    "reload": "log",
    "supervisor": "handover log reload signalqueue",
    "lifecycle": "handover log reload supervisor",
    "shutdown": "lifecycle log signals",
    "names": "",
    "dial": "names reactor timers",
    "memo": "log pool reactor",
    "links": "limits reactor stream timers",
    "stream": "limits protocol/messages reactor",
    "listener": "handover limits log reactor",
    "routes": "",
    "listing": "log",
    "cache": "log",
    "tokenobjects": "",
    "keylocks": "",
    "clienthello": "",
    "containment": "",
}
"""What these files may import of ours, although more is above them."""

ROW_OF = {file: number for number, row in enumerate(ROWS) for file in row.split()}
FILES = sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))
PROTOCOL = [file for file in FILES if file.startswith("protocol/")]

NOT_IN_PROTOCOL = frozenset(
    "asyncio concurrent fcntl http.client http.server multiprocessing os pathlib queue select "
    "selectors shutil signal socket socketserver ssl subprocess tempfile threading".split()
)
"""Modules with which the protocol could reach a socket, a thread, a file or the process."""
CONVERSIONS = frozenset({"gmtime", "strftime", "strptime", "struct_time"})
"""What the protocol may use of `time`: given a moment, these ask no clock."""
ASKS_A_CLOCK = frozenset("now utcnow today".split())
NEEDS_A_MOMENT = frozenset({"gmtime"})


def tree_of(file: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{file}.py").read_text(encoding="utf-8"), file)


def is_for_types(node: ast.AST) -> bool:
    """Whether that is an `if TYPE_CHECKING:`; what is in it is imported by no running program."""
    return (
        isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )


def running_parts(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, functions included, that a running program may come to."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and is_for_types(child):
            for other in child.orelse:
                yield other
                yield from running_parts(other)
        else:
            yield child
            yield from running_parts(child)


def imported(tree: ast.Module, file: str) -> set[str]:
    """Full names of what a file imports, in the form `package.module.name` or `package.module`."""
    package = ["quick_server", *file.split("/")[:-1]]
    found: set[str] = set()
    for node in running_parts(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = base + (node.module.split(".") if node.module else [])
            found |= {".".join([*base, alias.name]) for alias in node.names}
    return found


def own_imports(tree: ast.Module, file: str) -> set[str]:
    """The files of the package that a file imports."""
    found = set()
    for name in imported(tree, file):
        root, _, rest = name.partition(".")
        if root != "quick_server":
            continue
        path = rest.replace(".", "/")
        while path and path not in ROW_OF and f"{path}/__init__" not in ROW_OF:
            path = path.rpartition("/")[0]  # the name of something in that file
        found.add(path if path in ROW_OF else f"{path}/__init__".lstrip("/"))
    return found


def modules(tree: ast.Module, file: str) -> set[str]:
    """Every foreign module that an import may mean: `a.b.c` stands for a, a.b and a.b.c."""
    found = set()
    for name in imported(tree, file):
        parts = name.split(".")
        found |= {".".join(parts[: count + 1]) for count in range(len(parts))}
    return found


# ---- the rules --------------------------------------------------------------------------------


@pytest.mark.parametrize("file", FILES)
def test_a_file_imports_only_from_rows_above_its_own(file: str) -> None:
    assert file in ROW_OF, f"{file}.py has no row yet"
    wrong = {other for other in own_imports(tree_of(file), file) if ROW_OF[other] >= ROW_OF[file]}
    assert not wrong, f"{file}.py may not import {sorted(wrong)}"


@pytest.mark.parametrize("file", NARROWER)
def test_the_foundation_knows_little(file: str) -> None:
    assert own_imports(tree_of(file), file) <= set(NARROWER[file].split())


@pytest.mark.parametrize("file", PROTOCOL)
def test_the_protocol_knows_only_itself_and_the_limits(file: str) -> None:
    others = own_imports(tree_of(file), file)
    assert all(other == "limits" or other.startswith("protocol/") for other in others), others


@pytest.mark.parametrize("file", PROTOCOL)
def test_the_protocol_touches_no_socket_thread_file_or_clock(file: str) -> None:
    tree = tree_of(file)
    names = modules(tree, file)
    assert not names & NOT_IN_PROTOCOL
    assert "time" not in {
        alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    assert {name for name in names if name.startswith("time.")} <= {
        f"time.{name}" for name in CONVERSIONS
    }
    assert not clock_questions(tree)


def clock_questions(tree: ast.Module) -> list[str]:
    """Calls that ask what time it is."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr in ASKS_A_CLOCK:
            found.append(ast.unparse(node))
        if isinstance(node.func, ast.Name) and node.func.id in NEEDS_A_MOMENT and not node.args:
            found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("file", [file for file in FILES if file not in PROTOCOL])
def test_h11_is_imported_by_the_protocol_alone(file: str) -> None:
    assert "h11" not in modules(tree_of(file), file)


def test_the_protocol_does_import_h11() -> None:
    assert any("h11" in modules(tree_of(file), file) for file in PROTOCOL)


def test_the_reactor_is_small_and_knows_no_protocol() -> None:
    text = (PACKAGE / "reactor.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) < 300
    code = without_docstrings(ast.parse(text)).lower()
    assert "http" not in code
    assert "h11" not in code


def without_docstrings(tree: ast.Module) -> str:
    """The code of a file; what is said about it is left out, comments too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            documented = ast.get_docstring(node, clean=False) is not None
            node.body = node.body[1:] if documented else node.body
            node.body = node.body or [ast.Pass()]
    return ast.unparse(tree)


# ---- the rules' own rules ---------------------------------------------------------------------


def test_a_file_has_one_row() -> None:
    assert len(ROW_OF) == sum(len(row.split()) for row in ROWS)


@pytest.mark.parametrize(
    ("code", "file", "expected"),
    [
        ("from .log import msg", "pool", {"log"}),
        ("from . import log, pool", "mirror", {"log", "pool"}),
        ("from . import msg", "server", {"__init__"}),
        ("from ..limits import KIB", "protocol/heads", {"limits"}),
        ("from .. import limits", "protocol/heads", {"limits"}),
        ("from .messages import Outcome", "protocol/heads", {"protocol/messages"}),
        ("from .protocol import messages", "stream", {"protocol/messages"}),
        ("from . import protocol", "stream", {"protocol/__init__"}),
        ("import quick_server.protocol.messages", "stream", {"protocol/messages"}),
        ("from quick_server.log import msg", "stream", {"log"}),
        ("import quick_server", "stream", {"__init__"}),
        ("def f():\n    from .log import msg", "stream", {"log"}),
        ("import os, log", "stream", set()),
        ("if TYPE_CHECKING:\n    from .server import QuickServer", "handlers", set()),
        ("if TYPE_CHECKING:\n    x = 1\nelse:\n    from .log import msg", "pool", {"log"}),
    ],
)
def test_imports_are_recognised(code: str, file: str, expected: set[str]) -> None:
    assert own_imports(ast.parse(code), file) == expected


@pytest.mark.parametrize(
    ("code", "module"),
    [
        ("import h11", "h11"),
        ("import h11._events as events", "h11"),
        ("from h11 import Connection", "h11"),
        ("try:\n    import os.path\nexcept ImportError:\n    pass", "os"),
        ("from time import monotonic", "time.monotonic"),
    ],
)
def test_foreign_imports_are_recognised(code: str, module: str) -> None:
    assert module in modules(ast.parse(code), "protocol/heads")


def test_questions_to_a_clock_are_recognised() -> None:
    asking = ast.parse("gmtime(); datetime.now(UTC); date.today()")
    assert len(clock_questions(asking)) == 3
    assert clock_questions(ast.parse("gmtime(moment); datetime.fromtimestamp(moment)")) == []


def test_code_is_told_from_what_is_said_about_it() -> None:
    code = 'def f():\n    """http"""\n    # h11\n    return "HTTP"'
    assert without_docstrings(ast.parse(code)) == "def f():\n    return 'HTTP'"
