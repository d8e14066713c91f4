"""Results in a real QuickCache: what fails in the package, and that none of it reaches an answer.

Wherever a test says `raw`, it shows that the package by itself does fail, which is why the adapter is
there. A second QuickCache on the same folder stands for another process or for the next start.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from quick_cache import QuickCache, methods  # type: ignore[import-untyped] # it has none

from quick_server.cache import CacheKey, CachePlan, ResultCache, _seal, _unsealed
from tests.harness import PATIENCE
from tests.unit.fakes import Clock

MB = 1024 * 1024
TEXT = '{"result":[1,2,3],"name":"caf\u00e9"}'
COLLIDING = {"city": "599430bd25"}, {"city": "f7633dd321"}  # equal by CRC32
METHODS = ["string", "json", "pickle"]


class Settings:
    """What a server has its cache in."""

    def __init__(self, cache: Any = None) -> None:
        self.cache = cache


MakeCache = Callable[..., Any]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeCache]:
    """Makes QuickCaches on one folder; none of them has anything to do when the tests end."""
    made = []

    def make_cache(**options: Any) -> Any:
        cache = QuickCache(**{"temp": str(tmp_path / "cache"), **options})
        made.append(cache)
        return cache

    yield make_cache
    for cache in made:
        cache._locks.clear()


@pytest.fixture
def cache(make: MakeCache) -> Any:
    """The user's QuickCache, as the README makes it."""
    return make(quota=500, ram_quota=100)


@pytest.fixture
def results(cache: Any, clock: Clock, log: io.StringIO) -> ResultCache:
    return ResultCache(Settings(cache), clock)


def key_of(identity: dict[str, Any], method: str | None = "string", section: str = "www") -> CacheKey:
    """The key of a job whose arguments are its id."""
    plan = CachePlan(lambda args: args, method, section)
    key = ResultCache(Settings()).key(plan, identity)
    assert key is not None
    return key


def file_of(cache: Any, key: CacheKey) -> Path:
    return Path(cache.get_file(json.loads(key.id), key.section))


def write_as_package(
    cache: Any,
    identity: dict[str, Any],
    data: Any,
    elapsed: float | None = None,
    method: str = "string",
) -> Path:
    """A file as quick_cache writes it."""
    path = Path(cache.get_file(identity, "www"))
    path.parent.mkdir(parents=True, exist_ok=True)
    content = methods[method][0](identity, elapsed, data)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def said(log: io.StringIO) -> list[str]:
    """The lines of the log, less tracebacks."""
    return [line for line in log.getvalue().splitlines() if not line.startswith("  ")]


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---- what it is for ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*METHODS, None])
def test_what_was_stored_is_loaded(
    results: ResultCache, log: io.StringIO, make: MakeCache, method: str | None
) -> None:
    key = key_of({"a": 1, "b": [1.5, None, True], "c": {"d": "\u2603"}}, method)
    assert results.load(key) is None
    results.store(key, TEXT, 0.5)
    assert results.load(key) == TEXT
    assert ResultCache(Settings(make())).load(key) == TEXT
    assert log.getvalue() == ""


@pytest.mark.parametrize(
    "text", ["", "0", "-1.5e300", "null", '"\\n"', "[]", " {} \n ", "\ud83d", "x" * MB]
)
def test_any_text_comes_back_as_it_was(results: ResultCache, text: str) -> None:
    key = key_of({"n": 1}, "pickle")
    results.store(key, text)
    assert results.load(key) == text


def test_equal_ids_have_equal_keys(results: ResultCache) -> None:
    plan = CachePlan(lambda args: args)
    one = results.key(plan, {"a": 1, "b": {"x": [1, 2], "y": "\u00e9"}})
    other = results.key(plan, {"b": {"y": "\u00e9", "x": (1, 2)}, "a": 1})
    assert one is not None
    assert one == other
    assert hash(one) == hash(other)
    results.store(one, TEXT)
    assert other is not None
    assert results.load(other) == TEXT


@pytest.mark.parametrize(
    "identity",
    [{"n": "1"}, {"n": 1.0}, {"n": True}, {"n": [1]}, {"n": None}, {"n": 1, "m": 1}, {"m": 1}, {}],
)
def test_ids_that_differ_have_other_keys(results: ResultCache, identity: dict[str, Any]) -> None:
    key = key_of({"n": 1})
    results.store(key, TEXT)
    assert key_of(identity) != key
    assert results.load(key_of(identity)) is None


def test_section_and_method_are_part_of_the_key(
    results: ResultCache, cache: Any, log: io.StringIO
) -> None:
    keys = [key_of({"n": 1}), key_of({"n": 1}, section="other"), key_of({"n": 1}, "pickle")]
    assert len(set(keys)) == 3
    results.store(keys[0], TEXT)
    assert results.load(keys[1]) is None
    assert log.getvalue() == ""
    results.store(keys[1], "1")
    assert sorted(cache.list_sections()) == ["other", "www"]
    assert results.load(keys[2]) is None  # the same file, in other clothes
    assert len(said(log)) == 1


def test_without_an_id_nothing_is_cached(results: ResultCache, log: io.StringIO) -> None:
    assert results.key(CachePlan(), {"n": 1}) is None
    assert results.key(CachePlan(lambda args: None), {"n": 1}) is None
    assert log.getvalue() == ""


def test_without_a_cache_there_are_keys_all_the_same(log: io.StringIO) -> None:
    """Jobs of one key share one computation, cached or not."""
    results = ResultCache(Settings())
    key = results.key(CachePlan(lambda args: args), {"n": 1})
    assert key == key_of({"n": 1})
    results.store(key, TEXT)
    assert results.load(key) is None
    assert log.getvalue() == ""


def test_the_cache_may_be_set_and_changed_at_any_time(
    make: MakeCache, tmp_path: Path, log: io.StringIO
) -> None:
    settings = Settings()
    results = ResultCache(settings)
    key = key_of({"n": 1})
    results.store(key, "0")
    for name in ("one", "two"):
        settings.cache = make(base_string=name)
        assert results.load(key) is None
        results.store(key, json.dumps(name))
        assert results.load(key) == json.dumps(name)
    settings.cache = None
    assert results.load(key) is None
    settings.cache = make(base_string="one")
    assert results.load(key) == '"one"'
    assert log.getvalue() == ""


@pytest.mark.parametrize("method", ["string", "pickle"])
def test_results_of_the_package_itself_are_known(
    results: ResultCache, make: MakeCache, method: str
) -> None:
    """They may be of an earlier version, and dear."""
    with make().get_hnd({"a": 1, "b": "x"}, section="www", method=method) as handle:
        handle.write(TEXT)
    assert results.load(key_of({"b": "x", "a": 1}, method)) == TEXT


@pytest.mark.parametrize("method", METHODS)
def test_the_package_itself_reads_what_was_stored(
    results: ResultCache, make: MakeCache, method: str
) -> None:
    results.store(key_of({"a": 1}, method), TEXT, 1e9)
    with make().get_hnd({"a": 1}, section="www", method=method) as handle:
        assert handle.has()
        assert json.loads(handle.read()) == json.loads(TEXT)


def test_raw_the_method_json_cannot_write(make: MakeCache) -> None:
    with (
        pytest.raises(TypeError, match="bytes-like"),
        make().get_hnd({"a": "x"}, method="json") as handle,
    ):
        handle.write(TEXT)


def test_nothing_is_kept_in_memory_and_nothing_left_locked(
    results: ResultCache, make: MakeCache
) -> None:
    raw = make(ram_quota=100)
    for number in range(20):
        with raw.get_hnd({"n": number}, section="raw", method="string") as handle:
            handle.write(TEXT)
    assert len(raw._locks) == 20  # and never less
    cache = make(ram_quota=100)
    results = ResultCache(Settings(cache))
    for number in range(20):
        results.store(key_of({"n": number}), TEXT)
        assert results.load(key_of({"n": number})) == TEXT
    assert not cache._locks


# ---- ids -----------------------------------------------------------------------------------------


class Picky:
    """What neither JSON nor pickle knows."""

    def __reduce__(self) -> str:
        raise TypeError("not to be pickled")


def itself() -> dict[str, Any]:
    identity: dict[str, Any] = {}
    identity["x"] = identity
    return identity


def fail(_args: Any) -> dict[str, Any]:
    raise KeyError("city")


@pytest.mark.parametrize(
    "cache_id",
    [
        fail,
        lambda args: [args],
        lambda args: "x",
        lambda args: {"x": Picky()},
        lambda args: {"x": {1, 2}},
        lambda args: {"x": b"bytes"},
        lambda args: {"x": float("nan")},
        lambda args: {"x": float("inf")},
        lambda args: {1: "x", "1": "y"},
        lambda args: {(1, 2): "x"},
        lambda args: itself(),
    ],
)
def test_what_is_no_id_is_logged_and_not_cached(
    results: ResultCache, log: io.StringIO, cache_id: Callable[[Any], dict[str, Any] | None]
) -> None:
    assert results.key(CachePlan(cache_id), {}) is None
    assert said(log) == ["[SERVER] a result is not cached because it has no id"]
    assert "Traceback" in log.getvalue()


def test_raw_ids_that_fail(make: MakeCache) -> None:
    raw = make()
    with pytest.raises(TypeError, match="serializable"):
        raw.get_hnd({"x": Picky()}, method="string")
    with pytest.raises(TypeError, match="not to be pickled"):
        raw.get_hnd({"x": Picky()}, method="pickle")
    with pytest.raises(AttributeError):
        raw.get_hnd(["x"])
    raw.get_hnd({"x": float("nan")}, method="pickle")
    with pytest.raises(ValueError, match="cache mismatch"):
        raw.get_hnd({"x": float("nan")}, method="pickle")  # it does not equal itself


def test_an_id_that_no_file_name_can_be_made_of(
    results: ResultCache, make: MakeCache, log: io.StringIO
) -> None:
    with pytest.raises(UnicodeEncodeError):
        make().get_hnd({"x": "\ud800"})  # raw
    key = key_of({"x": "\ud800"})
    assert results.load(key) is None
    results.store(key, TEXT)
    assert len(said(log)) == 2


@pytest.mark.parametrize("section", ["a/b", "", ".", "..", "../x", "a\0b"])
def test_a_section_that_leads_elsewhere(
    results: ResultCache, cache: Any, log: io.StringIO, section: str
) -> None:
    assert results.key(CachePlan(lambda args: args, section=section), {"n": 1}) is None
    assert len(said(log)) == 1
    assert "invalid section" in log.getvalue()
    results.load(key_of({"n": 1}))
    with pytest.raises(ValueError, match="invalid section"):
        cache.clean_cache(section)


def test_raw_cleaning_leaves_the_cache(make: MakeCache, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "thesis.txt").write_text("ten years of work")
    with pytest.raises(FileNotFoundError):  # it came to itself in the end
        make().clean_cache("..")
    assert list(tmp_path.iterdir()) == []


def test_a_method_that_there_is_not(results: ResultCache, log: io.StringIO) -> None:
    key = key_of({"n": 1}, "carrier pigeon")
    assert results.load(key) is None
    results.store(key, TEXT)
    assert len(said(log)) == 2
    assert "unknown cache method 'carrier pigeon'" in log.getvalue()


# ---- the RAM quota -------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"ram_quota": 0.0001}])
def test_the_ram_quota_is_exceeded(make: MakeCache, log: io.StringIO, options: dict[str, Any]) -> None:
    raw = make(**options)
    with raw.get_hnd({"n": "x"}, section="raw", method="string") as handle:
        handle.write("x" * 1000)
    with raw.get_hnd({"n": "x"}, section="raw", method="string") as handle:
        handle.read()
    with pytest.raises(AttributeError, match="sort"):
        raw.get_hnd({"n": "x"}, section="raw", method="string")

    results = ResultCache(Settings(make(**options)))
    for number in (1, 2, 1, 2):
        results.store(key_of({"n": number}), TEXT)
        assert results.load(key_of({"n": number})) == TEXT
    assert log.getvalue() == ""


def test_there_is_no_ram_quota(make: MakeCache, log: io.StringIO) -> None:
    raw = make(ram_quota=None)
    with pytest.raises(TypeError):
        raw.get_hnd({"n": 1})

    cache = make(ram_quota=None)
    results = ResultCache(Settings(cache))
    results.store(key_of({"n": 1}), TEXT)
    assert results.load(key_of({"n": 1})) == TEXT
    with cache.get_hnd({"n": 2}) as handle:
        assert handle.write(TEXT) == TEXT
    assert log.getvalue() == ""


def test_handles_of_the_users_own_obey_the_ram_quota(make: MakeCache, log: io.StringIO) -> None:
    cache = make(ram_quota=0.9, method="string")
    ResultCache(Settings(cache)).adopt(cache)
    for number in range(6):
        with cache.get_hnd({"n": number % 3}) as handle:
            text = handle.read() if handle.has() else handle.write(f"{number}" * (400 * 1024))
        assert text == f"{number % 3}" * (400 * 1024)
        cache.enforce_ram_quota()
        assert sum(handle.get_size() for handle in cache._locks.values()) <= 0.9
    assert log.getvalue() == ""


def test_one_handle_that_cannot_be_written_does_not_stop_the_others(
    make: MakeCache, tmp_path: Path, log: io.StringIO
) -> None:
    cache = make(ram_quota=100, method="string")
    ResultCache(Settings(cache)).adopt(cache)
    write_in_memory_only(cache, tmp_path, "broken", "fine")
    cache._ram_quota = 0.0
    cache.enforce_ram_quota()
    assert [handle.get_size() > 0 for handle in cache._locks.values()] == [True, False]
    assert len(said(log)) == 1


# ---- warnings ------------------------------------------------------------------------------------


class Warnings(list[str]):
    """A function for warnings, that notes them."""

    def __call__(self, text: str, *args: object, **kwargs: object) -> None:
        self.append(text.format(*args, **kwargs))


def broken_warnings(_text: str, *_args: object) -> None:
    raise RuntimeError("the log is full")


@pytest.mark.parametrize("identity", [{"n": 1}, {"n": [1, 2]}, {"n": None}])
def test_reading_takes_longer_than_computing(
    make: MakeCache, clock: Clock, log: io.StringIO, identity: dict[str, Any]
) -> None:
    raw = make()
    write_as_package(raw, identity, TEXT, elapsed=-1.0)
    with (
        pytest.raises(AttributeError, match="Iterable"),
        raw.get_hnd(identity, section="www", method="string") as handle,
    ):
        handle.read()

    warnings = Warnings()
    results = ResultCache(Settings(make(warnings=warnings)), clock)
    for _ in range(3):
        assert results.load(key_of(identity)) == TEXT
    what = key_of(identity).id
    assert warnings == [f"reading from the cache takes longer than computing {what}: 0.0s > -1.0s"]
    clock.advance(10)
    results.load(key_of(identity))
    assert len(warnings) == 2
    assert log.getvalue() == ""


def test_the_time_that_computing_took_is_what_reading_is_compared_with(
    make: MakeCache, log: io.StringIO
) -> None:
    class Slow(Clock):
        def __call__(self) -> float:
            self.advance(1)
            return self.now

    warnings = Warnings()
    results = ResultCache(Settings(make(warnings=warnings)), Slow())
    results.store(key_of({"n": 1}), TEXT)
    results.store(key_of({"n": 2}), TEXT, elapsed=100)
    assert (results.load(key_of({"n": 1})), results.load(key_of({"n": 2}))) == (TEXT, TEXT)
    assert not warnings
    results.store(key_of({"n": 3}), TEXT, elapsed=0.5)
    assert results.load(key_of({"n": 3})) == TEXT
    assert len(warnings) == 1


@pytest.mark.parametrize("verbose", [False, True])
def test_a_function_for_warnings_that_fails(
    make: MakeCache, clock: Clock, log: io.StringIO, verbose: bool
) -> None:
    raw = make(warnings=broken_warnings, quota=0.001)
    with pytest.raises(RuntimeError), raw.get_hnd({"n": "x"}, method="string") as handle:
        handle.write("x" * 2000)

    cache = make(warnings=broken_warnings)
    cache.verbose = verbose
    write_as_package(cache, {"n": 1}, TEXT, elapsed=-1.0)
    results = ResultCache(Settings(cache), clock)
    assert [results.load(key_of({"n": 1})) for _ in range(20)] == [TEXT] * 20
    assert said(log) == ["[SERVER] the cache's function for warnings failed"]


def test_a_verbose_cache_tells_hits_and_misses(make: MakeCache, log: io.StringIO) -> None:
    raw = make(ram_quota=100)
    raw.verbose = True
    with (
        pytest.raises(AttributeError, match="Iterable"),
        raw.get_hnd({"n": 1}, section="raw", method="string") as handle,
    ):
        handle.write(TEXT)

    warnings = Warnings()
    cache = make(warnings=warnings)
    cache.verbose = True
    results = ResultCache(Settings(cache))
    results.load(key_of({"n": 1}))
    results.store(key_of({"n": 1}), TEXT)
    results.load(key_of({"n": 1}))
    assert warnings == ['cache miss for {"n":1}', 'cache hit for {"n":1}']
    with cache.get_hnd({"n": 2, "m": [1, 2], "o": "x"}, method="string") as handle:
        handle.write(TEXT)
    assert "cache miss for [m=[..2], n=2, o=x]" in warnings
    assert log.getvalue() == ""


# ---- two ids, one file ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ids", [COLLIDING, ({"n": 1}, {"n": "1"}), ({"a": "x&b=y"}, {"a": "x", "b": "y"})], ids=str
)
def test_two_ids_share_a_file(
    results: ResultCache, make: MakeCache, log: io.StringIO, ids: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    one, other = ids
    raw = make(ram_quota=100)
    assert raw.get_file(one) == raw.get_file(other)
    raw.get_hnd(one, method="string")
    with pytest.raises(ValueError, match="cache mismatch"):
        raw.get_hnd(other, method="string")

    results.store(key_of(one), '"one"')
    assert results.load(key_of(other)) is None
    results.store(key_of(other), '"other"')
    assert results.load(key_of(one)) is None
    assert results.load(key_of(other)) == '"other"'
    assert len(said(log)) == 1
    assert "two ids" in log.getvalue()
    assert "Traceback" not in log.getvalue()


# ---- damaged files -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_file_that_was_cut_off_anywhere(
    results: ResultCache, cache: Any, log: io.StringIO, method: str
) -> None:
    key = key_of({"n": 1}, method)
    results.store(key, TEXT, 0.5)
    path = file_of(cache, key)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert results.load(key) is None
    assert len(said(log)) == 1
    results.store(key, TEXT)
    assert results.load(key) == TEXT


def test_raw_half_a_file_passes_for_a_whole_one_and_stays(make: MakeCache) -> None:
    identity = {"n": "x"}
    path = write_as_package(make(), identity, TEXT)
    path.write_bytes(path.read_bytes()[:-10])
    with make().get_hnd(identity, section="www", method="string") as handle:
        assert handle.read() == TEXT.encode()[:-10].decode()
    raw = make(ram_quota=100)
    with raw.get_hnd(identity, section="www", method="string") as handle:
        handle.write(TEXT)
    assert TEXT.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 100, b"5;", b"3;[]", b"\x80\x05garbage.", b"[1,2,3]", b"9"]
)
@pytest.mark.parametrize("method", METHODS)
def test_a_file_of_garbage(
    results: ResultCache, cache: Any, log: io.StringIO, content: bytes, method: str
) -> None:
    key = key_of({"n": 1}, method)
    path = file_of(cache, key)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(Exception), cache.get_hnd({"n": 1}, section="www", method=method) as handle:  # noqa: B017, PT011 (garbage gives any)
        handle.read()  # raw
    assert results.load(key) is None
    assert len(said(log)) == 1
    results.store(key, TEXT)
    assert results.load(key) == TEXT


def test_the_log_does_not_quote_a_file(results: ResultCache, cache: Any, log: io.StringIO) -> None:
    key = key_of({"n": 1})
    path = file_of(cache, key)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"secret\xff" * 1000)
    assert results.load(key) is None
    assert len(log.getvalue()) < 600


def test_a_changed_byte_is_noticed(results: ResultCache, cache: Any) -> None:
    key = key_of({"n": 1})
    results.store(key, "[1000000]")
    path = file_of(cache, key)
    path.write_bytes(path.read_bytes().replace(b"[1000000]", b"[7000000]"))
    assert results.load(key) is None


@pytest.mark.parametrize("data", ["12", '"abc', "{", "", "[1]]", 12, None, ["a"], {"a": 1}])
def test_what_another_writer_left_must_be_whole_json(
    results: ResultCache, cache: Any, log: io.StringIO, data: Any
) -> None:
    """12 may have been 123 once."""
    write_as_package(cache, {"n": 1}, data, method="pickle")
    assert results.load(key_of({"n": 1}, "pickle")) is None
    assert len(said(log)) == 1


@given(st.text(), st.data())
@example("12345", None)
@example("true story", None)
def test_no_piece_passes_for_the_whole(text: str, data: st.DataObject | None) -> None:
    sealed = _seal(text) + text
    assert _unsealed(sealed) == text
    length = data.draw(st.integers(0, len(sealed) - 1)) if data else len(sealed) - 1
    with pytest.raises(ValueError):  # noqa: PT011 (whichever way it is noticed)
        _unsealed(sealed[:length])


# ---- the folder ----------------------------------------------------------------------------------


def test_the_folder_goes_meanwhile(results: ResultCache, tmp_path: Path, log: io.StringIO) -> None:
    key = key_of({"n": 1})
    results.store(key, TEXT)
    shutil.rmtree(tmp_path / "cache")
    assert results.load(key) is None
    results.store(key, TEXT)
    assert results.load(key) == TEXT
    assert log.getvalue() == ""


@pytest.mark.parametrize(("losses", "stored"), [(1, True), (4, True), (5, False)])
def test_the_folder_goes_while_a_file_is_written(
    results: ResultCache,
    tmp_path: Path,
    log: io.StringIO,
    monkeypatch: pytest.MonkeyPatch,
    losses: int,
    stored: bool,
) -> None:
    left = [None] * losses
    makedirs = os.makedirs

    def makes_and_loses(name: str, mode: int = 0o777, exist_ok: bool = False) -> None:
        makedirs(name, mode, exist_ok)
        if left and name.startswith(str(tmp_path / "cache")) and os.path.basename(name) != "www":
            left.pop()
            shutil.rmtree(tmp_path / "cache")

    monkeypatch.setattr(os, "makedirs", makes_and_loses)
    results.store(key_of({"n": 1}), TEXT)
    assert (results.load(key_of({"n": 1})) == TEXT) is stored
    assert len(said(log)) == (0 if stored else 1)


def test_a_file_in_the_place_of_the_folder(
    results: ResultCache, cache: Any, make: MakeCache, tmp_path: Path, log: io.StringIO
) -> None:
    """As with a folder that may not be written to, which cannot be had where root runs the tests."""
    (tmp_path / "cache").write_text("a file")
    raw = make(ram_quota=100)
    with pytest.raises(OSError), raw.get_hnd({"n": 1}, method="string") as handle:  # noqa: PT011 (any)
        handle.write(TEXT)
    with pytest.raises(NotADirectoryError):
        raw.list_sections()

    key = key_of({"n": 1})
    for _ in range(100):
        assert results.load(key) is None
        results.store(key, TEXT)
    assert len(said(log)) == 1
    assert "the cache could not be written: [Errno 20]" in log.getvalue()
    assert "Traceback" not in log.getvalue()
    assert cache.list_sections() == []


def test_a_folder_in_the_place_of_a_file(results: ResultCache, cache: Any, log: io.StringIO) -> None:
    key = key_of({"n": 1})
    file_of(cache, key).mkdir(parents=True)
    assert results.load(key) is None
    results.store(key, TEXT)
    assert len(said(log)) == 2
    assert files_below(file_of(cache, key).parent) == []


FULL_DISK = """
import resource, sys
from quick_cache import QuickCache
from quick_server.cache import CachePlan, ResultCache

class Settings:
    cache = QuickCache(temp=sys.argv[1])

results = ResultCache(Settings())
key = results.key(CachePlan(lambda args: args), {"n": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
results.store(key, "x" * 100_000)
assert results.load(key) is None
results.store(key, "[]")
assert results.load(key) == "[]"
"""


def test_a_full_disk_leaves_no_piece_behind(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL_DISK, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("[SERVER] the cache could not be written: [Errno 27]")
    assert len(done.stderr.splitlines()) == 1
    assert [name[-4:] for name in files_below(tmp_path)] == [".tmp"]


# ---- the quota on disk ---------------------------------------------------------------------------


def age(cache: Any, key: CacheKey, moment: float) -> None:
    os.utime(file_of(cache, key), (moment, moment))


def test_what_was_not_used_for_long_makes_room(
    make: MakeCache, tmp_path: Path, log: io.StringIO
) -> None:
    warnings = Warnings()
    cache = make(quota=1, warnings=warnings)
    results = ResultCache(Settings(cache))
    keys = [key_of({"n": number}) for number in range(3)]
    text = json.dumps("x" * (400 * 1024))
    results.store(keys[0], text)
    results.store(keys[1], text)
    assert not warnings
    age(cache, keys[0], 2000)
    age(cache, keys[1], 1000)
    (tmp_path / "cache" / "www" / "notes.txt").write_text("not of the cache")
    results.store(keys[2], text)
    assert [results.load(key) == text for key in keys] == [True, False, True]
    assert warnings == [f"removing old cache file: {file_of(cache, keys[1])}"]
    assert (tmp_path / "cache" / "www" / "notes.txt").exists()
    assert log.getvalue() == ""


def test_raw_making_room_removes_what_is_not_of_the_cache(make: MakeCache, tmp_path: Path) -> None:
    notes = tmp_path / "cache" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("ten years of work")
    os.utime(notes, (1000, 1000))
    raw = make(quota=1)
    for number in range(2):
        with raw.get_hnd({"n": number}, method="string") as handle:
            handle.write("x" * (700 * 1024))
    assert not notes.exists()


def test_what_is_larger_than_the_quota_is_not_cached(
    make: MakeCache, tmp_path: Path, log: io.StringIO
) -> None:
    warnings = Warnings()
    results = ResultCache(Settings(make(quota=1, warnings=warnings)))
    key = key_of({"n": 1})
    results.store(key, json.dumps("x" * MB))
    assert results.load(key) is None
    assert [warning.startswith("single file exceeds quota") for warning in warnings] == [True]
    assert files_below(tmp_path) == []
    assert log.getvalue() == ""


def test_what_others_write_is_counted_in_a_while(make: MakeCache, clock: Clock, tmp_path: Path) -> None:
    results = ResultCache(Settings(make(quota=1)), clock)
    results.store(key_of({"n": 1}), "[]")
    for number in range(2, 5):  # by another process
        write_as_package(make(), {"n": number}, "x" * (400 * 1024))
    results.store(key_of({"n": 5}), "[]")
    assert len(files_below(tmp_path)) == 5  # it trusts what it knows
    clock.advance(60)
    results.store(key_of({"n": 6}), "[]")
    sizes = [path.stat().st_size for path in tmp_path.rglob("*.tmp")]
    assert sum(sizes) <= 0.9 * MB
    assert results.load(key_of({"n": 6})) == "[]"


@pytest.mark.parametrize(("gone", "stored"), [(True, True), (False, False)])
def test_what_is_to_make_room_cannot_be_removed(
    make: MakeCache, log: io.StringIO, monkeypatch: pytest.MonkeyPatch, gone: bool, stored: bool
) -> None:
    warnings = Warnings()
    results = ResultCache(Settings(make(quota=1, warnings=warnings)))
    text = json.dumps("x" * (700 * 1024))
    results.store(key_of({"n": 1}), text)
    remove = os.remove

    def fails(path: str) -> None:
        if not gone:
            raise PermissionError(1, "not yours", path)
        remove(path)  # somebody else was faster
        remove(path)

    monkeypatch.setattr(os, "remove", fails)
    results.store(key_of({"n": 2}), text)
    assert (results.load(key_of({"n": 2})) == text) is stored
    last = "removing old cache file" if stored else "cannot free enough space for quota"
    assert warnings[-1].startswith(last)
    assert log.getvalue() == ""


def test_pieces_of_dead_processes_go_first(make: MakeCache, tmp_path: Path) -> None:
    cache = make(quota=1)
    results = ResultCache(Settings(cache))
    text = json.dumps("x" * (400 * 1024))
    results.store(key_of({"n": 1}), text)
    path = file_of(cache, key_of({"n": 1}))
    dead, living = path.with_name("0a1b2c.tmp.00.part"), path.with_name("0a1b2c.tmp.01.part")
    dead.write_bytes(b"x" * (400 * 1024))
    os.utime(dead, (1000, 1000))
    living.write_bytes(b"x" * (400 * 1024))
    ResultCache(Settings(cache)).store(key_of({"n": 2}), text)  # which has not counted yet
    assert not dead.exists()
    assert living.exists()
    assert results.load(key_of({"n": 1})) == text


# ---- threads and processes -----------------------------------------------------------------------


def test_others_are_served_while_a_result_is_computed(results: ResultCache, make: MakeCache) -> None:
    computing, go_on = threading.Event(), threading.Event()

    def work() -> None:
        key = key_of({"n": 1})
        assert results.load(key) is None
        computing.set()
        assert go_on.wait(PATIENCE)
        results.store(key, '"late"')

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert computing.wait(PATIENCE)
        for key in (key_of({"n": 2}), key_of({"n": 1})):
            assert results.load(key) is None
            results.store(key, TEXT)
            assert results.load(key) == TEXT
    finally:
        go_on.set()
        worker.join(PATIENCE)
    assert results.load(key_of({"n": 1})) == '"late"'


def test_a_handle_that_another_thread_is_in_keeps_nobody_waiting(
    results: ResultCache, cache: Any
) -> None:
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with cache.get_hnd({"n": 1}, section="www", method="string"):
            inside.set()
            assert leave.wait(PATIENCE)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        assert inside.wait(PATIENCE)
        raw = cache.get_hnd({"n": 1}, section="www", method="string")
        assert not raw._lock.acquire(blocking=False)  # `with` would wait, without an end
        results.store(key_of({"n": 1}), TEXT)
        assert results.load(key_of({"n": 1})) == TEXT
    finally:
        leave.set()
        worker.join(PATIENCE)


HOLDER = """
import sys
from quick_cache import QuickCache

with QuickCache(temp=sys.argv[1]).get_hnd({"n": 1}, section="www", method="string") as handle:
    print("inside", flush=True)
    sys.stdin.readline()
    handle.write("[1]")
"""


def test_a_handle_that_another_process_is_in_keeps_nobody_waiting(
    results: ResultCache, tmp_path: Path, log: io.StringIO
) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "cache")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "inside\n"
        assert files_below(tmp_path) == []  # no lock is seen from outside
        assert results.load(key_of({"n": 1})) is None
        results.store(key_of({"n": 2}), TEXT)
        assert results.load(key_of({"n": 2})) == TEXT
        holder.communicate("go on\n", timeout=PATIENCE)
    assert holder.returncode == 0
    assert results.load(key_of({"n": 1})) == "[1]"
    assert log.getvalue() == ""


NEIGHBOUR = """
import json, random, sys
from quick_cache import QuickCache
from quick_server.cache import CachePlan, ResultCache

class Settings:
    cache = QuickCache(temp=sys.argv[1], quota=1)

results = ResultCache(Settings())
plan = CachePlan(lambda args: args)
chance = random.Random(int(sys.argv[2]))
for turn in range(150):
    number = chance.randrange(8)
    key = results.key(plan, {"n": number})
    text = json.dumps([number] * 60_000)
    found = results.load(key)
    assert found in (None, text), found[:100]
    if found is None:
        results.store(key, text)
    if chance.random() < 0.05:
        Settings.cache.clean_cache(chance.choice(["www", None]))
    Settings.cache.list_sections()
"""


def test_processes_share_a_folder(tmp_path: Path) -> None:
    neighbours = [
        subprocess.Popen(
            [sys.executable, "-c", NEIGHBOUR, tmp_path, str(seed)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(3)
    ]
    errors = [neighbour.communicate(timeout=60)[1] for neighbour in neighbours]
    assert errors == ["", "", ""]
    assert not list(tmp_path.rglob("*.part"))


def test_threads_share_a_cache(results: ResultCache, cache: Any, log: io.StringIO) -> None:
    failures: list[str] = []

    def work(first: int) -> None:
        for turn in range(60):
            number = (first + turn) % 5
            text = json.dumps([number] * 5000)
            found = results.load(key_of({"n": number}))
            if found not in (None, text):
                failures.append(str(found))
            results.store(key_of({"n": number}), text)
            if turn % 15 == first:
                cache.clean_cache("www")

    threads = [threading.Thread(target=work, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert failures == []
    assert log.getvalue() == ""


# ---- cleaning, and the end of the program --------------------------------------------------------


def write_in_memory_only(cache: Any, tmp_path: Path, *names: str) -> None:
    """Results of the user's own whose writing to disk failed; for the first one it still would."""
    folder = tmp_path / "cache"
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("in the way")
    for name in names:
        handle = cache.get_hnd({"n": name}, section=name, method="string")
        with pytest.raises(OSError), handle:  # noqa: PT011 (any)
            handle.write(TEXT)
    folder.unlink()
    folder.mkdir()
    (folder / names[0]).write_text("in the way")


def test_removing_all_locks(make: MakeCache, tmp_path: Path, log: io.StringIO) -> None:
    raw = make(ram_quota=100)
    write_in_memory_only(raw, tmp_path, "broken", "fine")
    with pytest.raises(OSError):  # noqa: PT011 (any)
        raw.remove_all_locks()
    assert not (tmp_path / "cache" / "fine").exists()

    cache = make(ram_quota=100)
    ResultCache(Settings(cache)).adopt(cache)
    write_in_memory_only(cache, tmp_path, "broken", "fine")
    cache.remove_all_locks()
    assert not cache._locks
    assert (tmp_path / "cache" / "fine").is_dir()
    assert len(said(log)) == 1


def test_cleaning_goes_on_after_what_cannot_be_written(
    make: MakeCache, tmp_path: Path, log: io.StringIO
) -> None:
    raw = make(ram_quota=100)
    write_in_memory_only(raw, tmp_path, "broken")
    with pytest.raises(OSError):  # noqa: PT011 (any)
        raw.clean_cache()
    assert (tmp_path / "cache").exists()

    cache = make(ram_quota=100)
    results = ResultCache(Settings(cache))
    results.store(key_of({"n": 1}), TEXT)
    write_in_memory_only(cache, tmp_path, "broken")
    cache.clean_cache()
    assert not (tmp_path / "cache").exists()
    assert len(said(log)) == 1


def test_the_console_cleans_and_lists(results: ResultCache, cache: Any, log: io.StringIO) -> None:
    """In the order in which a user may come to it: before anything is there, too."""
    cache.clean_cache()
    cache.clean_cache("www")
    assert cache.list_sections() == []
    one, other = key_of({"n": 1}), key_of({"n": 1}, section="other")
    assert results.load(one) is None
    cache.clean_cache("www")
    cache.clean_cache()
    assert cache.list_sections() == []
    results.store(one, "1")
    results.store(other, "2")
    assert sorted(cache.list_sections()) == ["other", "www"]
    cache.clean_cache("www")
    assert (results.load(one), results.load(other)) == (None, "2")
    cache.clean_cache()
    assert (results.load(one), results.load(other)) == (None, None)
    assert log.getvalue() == ""


def test_a_result_is_stored_while_the_cache_is_cleaned(
    results: ResultCache, cache: Any, make: MakeCache, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    rmdir, numbers = os.rmdir, iter(range(100, 200))

    def meets_a_writer(path: Any, *, dir_fd: int | None = None) -> None:
        rmdir(path, dir_fd=dir_fd)
        results.store(key_of({"n": next(numbers)}), TEXT)

    first = key_of({"n": 1})
    results.store(first, TEXT)
    monkeypatch.setattr(os, "rmdir", meets_a_writer)
    with pytest.raises(OSError, match="not empty"):
        make().clean_cache("www")  # raw
    results.store(first, TEXT)
    cache.clean_cache("www")
    assert results.load(first) is None
    assert log.getvalue() == ""


def test_a_cleaning_that_cannot_be_done_is_told(
    cache: Any, results: ResultCache, tmp_path: Path
) -> None:
    results.load(key_of({"n": 1}))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "www").write_text("no folder")
    with pytest.raises(NotADirectoryError):
        cache.clean_cache("www")


ENDING = """
import os, sys
from quick_cache import QuickCache
from quick_server.cache import ResultCache

class Settings:
    cache = QuickCache(temp=sys.argv[1], ram_quota=100)

cache = Settings.cache
if sys.argv[2] == "mended":
    ResultCache(Settings()).adopt(cache)
for number in (1, 2):
    with cache.get_hnd({"n": number}, section=f"s{number}", method="string") as handle:
        try:
            handle.write("[]")
        except OSError:
            pass
os.remove(sys.argv[1])
os.mkdir(sys.argv[1])
open(sys.argv[1] + "/s1", "w").close()
"""


@pytest.mark.parametrize("kind", ["raw", "mended"])
def test_the_program_ends(tmp_path: Path, kind: str) -> None:
    """The exit hook of the package writes what is in memory."""
    folder = tmp_path / "cache"
    folder.write_text("in the way")
    command = [sys.executable, "-c", ENDING, str(folder), kind]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    if kind == "raw":
        assert "Traceback" in done.stderr
        assert not (folder / "s2").exists()
    else:
        assert done.stderr.startswith("[SERVER] a result could not be moved from memory")
        assert len(done.stderr.splitlines()) == 1
        assert (folder / "s2").is_dir()


# ---- the log -------------------------------------------------------------------------------------


def test_a_failure_that_goes_on_costs_a_line_in_ten_seconds(
    results: ResultCache, clock: Clock, log: io.StringIO
) -> None:
    for _ in range(10_000):
        assert results.key(CachePlan(fail), {}) is None
    assert said(log) == ["[SERVER] a result is not cached because it has no id"]
    assert log.getvalue().count("Traceback") == 1
    clock.advance(9.9)
    results.key(CachePlan(fail), {})
    results.key(CachePlan(lambda args: {"x": Picky()}), {})  # of another kind
    assert len(said(log)) == 2
    clock.advance(0.1)
    results.key(CachePlan(fail), {})
    assert said(log)[2:] == [
        "[SERVER] a result is not cached because it has no id (and 10000 more times before)"
    ]


def test_what_fails_in_many_threads_at_once_is_said_once(
    results: ResultCache, log: io.StringIO
) -> None:
    start = threading.Barrier(4)

    def work() -> None:
        start.wait(PATIENCE)
        for _ in range(50):
            results.key(CachePlan(fail), {})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(said(log)) == 1


def test_an_id_forges_no_line(make: MakeCache, log: io.StringIO) -> None:
    warnings = Warnings()
    cache = make(warnings=warnings)
    cache.verbose = True
    results = ResultCache(Settings(cache))
    results.load(key_of({"n": "a\nb\x7f\x1b"}))
    assert warnings == ['cache miss for {"n":"a\\nb\\u007f\\u001b"}']
    results.load(CacheKey("a\nb", "x\ny", "{}"))
    assert all(line.startswith(("[SERVER] ", "  ")) for line in log.getvalue().splitlines())


# ---- other caches --------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", [True, "cache", object(), {}])
def test_what_is_no_cache_at_all(cache: Any, log: io.StringIO) -> None:
    results = ResultCache(Settings(cache))
    key = results.key(CachePlan(lambda args: args), {"n": 1})
    assert key is not None
    assert results.load(key) is None
    results.store(key, TEXT)
    assert results.load(key) is None
    assert 2 <= len(said(log)) <= 3


def test_methods_of_the_users_own_stay(tmp_path: Path, log: io.StringIO) -> None:
    cleaned: list[Any] = []

    class Own(QuickCache):  # type: ignore[misc] # it has no types
        def clean_cache(self, section: str | None = None) -> None:
            cleaned.append(section)

    cache = Own(temp=str(tmp_path))
    results = ResultCache(Settings(cache))
    results.store(key_of({"n": 1}), TEXT)
    cache.clean_cache("www")
    assert cleaned == ["www"]
    assert results.load(key_of({"n": 1})) == TEXT
    assert QuickCache.list_sections(cache) == cache.list_sections() == ["www"]


def test_the_class_of_the_package_stays_as_it_is(results: ResultCache) -> None:
    before = dict(vars(QuickCache))
    results.store(key_of({"n": 1}), TEXT)
    assert dict(vars(QuickCache)) == before


def test_the_package_is_not_imported_before_it_is_used() -> None:
    code = "import sys, quick_server.cache; sys.exit('quick_cache' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_pickle_keeps_its_own_format(results: ResultCache, cache: Any) -> None:
    key = key_of({"n": 1}, "pickle")
    results.store(key, TEXT, 2.5)
    identity, elapsed, text = pickle.loads(file_of(cache, key).read_bytes())
    assert (identity, elapsed, json.loads(text)) == ({"n": 1}, 2.5, json.loads(TEXT))
