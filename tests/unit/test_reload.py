"""Files that change, and modules that say where they come from, or do not."""

from __future__ import annotations

import importlib
import io
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from quick_server import reload
from quick_server.reload import Watch, Watcher, beside, shown
from tests.harness import PATIENCE

LONG_AGO = 1_000_000_000


def looked(watch: Watch) -> list[str]:
    """What has changed, seen twice alike: an editor is not in the midst of it."""
    return watch.look() or watch.look()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.py"
    path.write_text("one\n")
    os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def test_what_has_another_content_has_changed(source: Path) -> None:
    watch = Watch(lambda: [str(source)])
    assert looked(watch) == []
    source.write_text("another\n")
    assert watch.look() == []
    assert watch.in_doubt
    assert watch.look() == [str(source)]
    assert looked(watch) == []
    assert not watch.in_doubt


def test_what_goes_away_has_changed_and_so_has_what_comes_back(source: Path) -> None:
    watch = Watch(lambda: [str(source)])
    assert looked(watch) == []
    source.unlink()
    assert looked(watch) == [str(source)]
    source.write_text("one\n")
    assert looked(watch) == [str(source)]


def test_what_was_written_since_has_changed_when_it_is_first_seen(source: Path) -> None:
    files = [str(source)]
    watch = Watch(lambda: files, since=LONG_AGO * 10**9)
    assert looked(watch) == []
    late = source.with_name("late.py")
    late.write_text("new\n")
    files.append(str(late))
    assert looked(watch) == [str(late)]


@pytest.mark.parametrize("path", ["no\0file.py", "/nowhere/file.py", "/"])
def test_what_is_no_file_never_changes(path: str) -> None:
    watch = Watch(lambda: [path])
    assert looked(watch) == []
    assert looked(watch) == []


def test_a_file_that_is_not_what_was_compiled_has_changed(source: Path) -> None:
    watch = Watch(lambda: [str(source)])
    source.write_text("newer than the watch\n")
    os.utime(source, (time.time() + 10, time.time() + 10))
    watch.expect(str(source), LONG_AGO, 4)
    assert looked(watch) == [str(source)]


def test_a_file_that_is_what_was_compiled_has_not(source: Path) -> None:
    watch = Watch(lambda: [str(source)])
    watch.expect(str(source), LONG_AGO, 4)
    assert watch.knows(str(source))
    assert looked(watch) == []


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a module that says `text`, with what Python compiles of it in a file."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    name = "a_module_to_reload"

    def load(text: str) -> ModuleType:
        (tmp_path / f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        module = importlib.import_module(name)
        monkeypatch.setitem(sys.modules, name, module)  # and takes it away in the end
        return module

    monkeypatch.delitem(sys.modules, name, raising=False)
    return load


def test_what_python_has_compiled_says_from_what(imported: Callable[[str], ModuleType]) -> None:
    module = imported("VALUE = 1\n")
    assert module.__file__ is not None
    found = os.stat(module.__file__)
    assert reload._compiled_from(module) == (int(found.st_mtime), found.st_size)
    cached = Path(str(module.__cached__))
    head = cached.read_bytes()
    for data in (head[:7], head[:4] + b"\1" + head[5:]):  # cut off; checked by its hash
        cached.write_bytes(data)
        assert reload._compiled_from(module) is None
    cached.unlink()
    assert reload._compiled_from(module) is None


def test_a_module_that_is_first_seen_after_it_has_changed(
    imported: Callable[[str], ModuleType], log: io.StringIO
) -> None:
    changed = threading.Event()
    watcher = Watcher(changed.set)
    module = imported("VALUE = 1\n")
    path = str(module.__file__)
    Path(path).write_text("VALUE = 22\n")
    os.utime(path, (time.time() + 10, time.time() + 10))
    watcher.start()
    thread = watcher._thread
    watcher.start()
    assert watcher._thread is thread
    assert changed.wait(PATIENCE)
    assert thread is not None
    thread.join(PATIENCE)
    assert "a_module_to_reload.py changed: restarting" in log.getvalue()


class Lazy(ModuleType):
    """A module whose attributes have a price."""

    def __getattribute__(self, name: str) -> object:
        raise AssertionError(f"{name} was asked for")


class Slotted:
    """What some put into `sys.modules` in a module's place."""

    __slots__ = ()


def test_odd_modules_are_let_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lazy", Lazy("lazy"))
    monkeypatch.setitem(sys.modules, "slotted", Slotted())
    found = list(reload.source_files())
    assert __file__ in found
    assert threading.__file__ not in found
    assert pytest.__file__ not in found


def test_files_that_are_not_watched_any_more(log: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher = Watcher(lambda: None)
    broken = threading.Event()

    def files() -> list[str]:
        if threading.current_thread() is threading.main_thread():
            return []
        broken.set()
        raise OSError("as told")

    watcher._watch = Watch(files)
    watcher.start()
    assert broken.wait(PATIENCE)
    assert watcher._thread is not None
    watcher._thread.join(PATIENCE)
    assert "source files are not watched any more" in log.getvalue()


def test_what_failed_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "broken.py"
    script.write_text("raise ValueError")
    try:
        exec(compile("raise ValueError", str(script), "exec"), {})
    except ValueError as error:
        monkeypatch.setattr(sys, "last_value", error, raising=False)
        monkeypatch.setattr(sys, "last_traceback", error.__traceback__, raising=False)
    assert list(reload._failed()) == [__file__, str(script)]
    unread = SyntaxError("as told", (str(script), 1, 1, "x x", 1, 2))
    monkeypatch.setattr(sys, "last_value", unread)
    monkeypatch.setattr(sys, "last_traceback", None)
    assert list(reload._failed()) == [str(script)]


def test_what_is_beside_a_script(tmp_path: Path) -> None:
    for name in ("one.py", "two.py", "notes.txt"):
        (tmp_path / name).touch()
    script = str(tmp_path / "one.py")
    assert sorted(beside(script)) == [script, script, str(tmp_path / "two.py")]
    assert beside("/nowhere/script.py") == ["/nowhere/script.py"]


def test_paths_for_people() -> None:
    assert shown(["a.py", "b\n.py"]) == "a.py, b\\x0a.py"
    assert shown(list("abcde")) == "a, b, c and 2 more"
