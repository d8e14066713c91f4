"""Values of the data world as JSON: what stands for them, and what is said where nothing does."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import importlib.util
import json
import math
import subprocess
import sys
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pytest

from quick_server import QuickServer, create_server, json_dumps, jsontext
from tests.harness import Running
from tests.integration.logs import Log
from tests.integration.scripts import PLAIN, environment

Serve = Callable[[QuickServer], Running]

NAN, INF = math.nan, math.inf


class Color(enum.Enum):
    RED = "red"
    NESTED = dt.date(2026, 1, 31)


class Level(enum.IntEnum):
    HIGH = 3


class Name(str):
    __slots__ = ()


class Count(int):
    pass


class Ratio(float):
    pass


class Point(NamedTuple):
    x: float
    y: float


Pair = namedtuple("Pair", "a b")  # noqa: PYI024 (the old way is common in scripts)


@dataclasses.dataclass
class Inner:
    when: dt.date
    value: float


@dataclasses.dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    tags: tuple[str, ...] = ()


WHEN = dt.datetime(2026, 1, 31, 12, 30, 15, 250000, tzinfo=dt.UTC)
ID = uuid.UUID("12345678-1234-5678-1234-567812345678")

CASES: dict[str, tuple[object, object]] = {
    "datetime": (dt.datetime(2026, 1, 31, 12, 30), "2026-01-31T12:30:00"),  # noqa: DTZ001
    "aware": (WHEN, "2026-01-31T12:30:15.250000+00:00"),
    "date": (dt.date(2026, 1, 31), "2026-01-31"),
    "time": (dt.time(12, 30, 1), "12:30:01"),
    "uuid": (ID, str(ID)),
    "path": (Path("/a/b"), "/a/b"),
    "pure-path": (PurePosixPath("a") / "ü", "a/ü"),
    "decimal": (decimal.Decimal("1.5"), 1.5),
    "decimal-whole": (decimal.Decimal(2), 2),
    "decimal-nan": (decimal.Decimal("NaN"), "NaN"),
    "decimal-infinity": (decimal.Decimal("-Infinity"), "-Infinity"),
    "enum": (Color.RED, "red"),
    "enum-of-a-date": (Color.NESTED, "2026-01-31"),
    "int-enum": (Level.HIGH, 3),
    "dataclass": (Inner(dt.date(2026, 1, 31), NAN), {"when": "2026-01-31", "value": "NaN"}),
    "dataclasses": (
        Outer("x", Inner(dt.date(2026, 1, 31), 1.0), ("a", "b")),
        {"name": "x", "inner": {"when": "2026-01-31", "value": 1.0}, "tags": ["a", "b"]},
    ),
    "set": ({3, 1, 2}, [1, 2, 3]),
    "frozenset": (frozenset(("b", "a")), ["a", "b"]),
    "empty-set": (set(), []),
    "set-of-dates": ({dt.date(2026, 1, 31)}, ["2026-01-31"]),
    "tuple": ((1, (2, 3)), [1, [2, 3]]),
    "named-tuple": (Point(1.0, NAN), [1.0, "NaN"]),
    "old-named-tuple": (Pair(1, "b"), [1, "b"]),
    "ordered": (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    "default": (defaultdict(list, a=[1]), {"a": [1]}),
    "str-subclass": ({"a": Name("x"), Name("b"): 1}, {"a": "x", "b": 1}),
    "int-subclass": ([Count(7)], [7]),
    "float-subclass": ([Ratio(0.5), Ratio(NAN)], [0.5, "NaN"]),
    "bools": ([True, False, None], [True, False, None]),
    "large": (2**80, 2**80),
    "small": (-(2**63) - 1, -(2**63) - 1),
    "floats": ([0.1, 1e300, -0.0, 5e-324], [0.1, 1e300, -0.0, 5e-324]),
    "unicode": ("größe \U0001f600 \u2028 \x00 \x7f", "größe \U0001f600 \u2028 \x00 \x7f"),
    "surrogate": (["\ud800", "a\udfffb"], ["\ud800", "a\udfffb"]),
    "nan": (NAN, "NaN"),
    "infinity": (INF, "Infinity"),
    "minus-infinity": (-INF, "-Infinity"),
    "nan-in-a-list": ([1.0, NAN, None], [1.0, "NaN", None]),
    "nan-in-a-dict": ({"a": {"b": [INF]}, "c": None}, {"a": {"b": ["Infinity"]}, "c": None}),
    "nan-in-a-tuple": ({"a": (NAN, (-INF,))}, {"a": ["NaN", ["-Infinity"]]}),
    "nan-in-a-set": ({NAN}, ["NaN"]),
    "nan-and-the-word": ([NAN, "NaN", "null", None], ["NaN", "NaN", "null", None]),
    "keys": (
        {2.5: "b", True: "c", None: "d", "e": "e"},
        {"2.5": "b", "true": "c", "null": "d", "e": "e"},
    ),
    "int-keys": ({1: {2: 3}, -(2**70): 0}, {"1": {"2": 3}, str(-(2**70)): 0}),
    "bool-keys": ({False: 1}, {"false": 1}),
    "nan-keys": ({NAN: 1, INF: 2, -INF: 3}, {"NaN": 1, "Infinity": 2, "-Infinity": 3}),
    "date-keys": ({dt.date(2026, 1, 31): 1}, {"2026-01-31": 1}),
    "datetime-keys": ({WHEN: 1}, {"2026-01-31T12:30:15.250000+00:00": 1}),
    "uuid-keys": ({ID: 1}, {str(ID): 1}),
    "path-keys": ({PurePosixPath("a"): 1}, {"a": 1}),
    "enum-keys": ({Color.RED: 1, Level.HIGH: 2}, {"red": 1, "3": 2}),
    "mixed": (
        {"rows": [{"when": WHEN, "id": ID, "value": NAN}], "where": Path("/x")},
        {
            "rows": [{"when": "2026-01-31T12:30:15.250000+00:00", "id": str(ID), "value": "NaN"}],
            "where": "/x",
        },
    ),
    "deep": ([[[[[[{1, 2}]]]]]], [[[[[[[1, 2]]]]]]]),
    "shared": ([[ID]] * 3, [[str(ID)]] * 3),
}


class Unknown:
    """Nothing stands for it."""


def refused_cases() -> dict[str, tuple[object, str, str]]:
    """Values that cannot be sent, with the type and the place that the error has to name."""
    return {
        "object": (Unknown(), "Unknown", ""),
        "in-a-list": ([1, Unknown()], "Unknown", "[1]"),
        "in-a-dict": ({"a": {"b": [0, 0, Unknown()]}}, "Unknown", "['a']['b'][2]"),
        "in-a-tuple": ({"a": (Unknown(),)}, "Unknown", "['a'][0]"),
        "in-a-dataclass": ({"a": Inner(Unknown(), 1.0)}, "Unknown", "['a']['when']"),  # type: ignore[arg-type] # on purpose
        "function": ({"f": len}, "builtin_function_or_method", "['f']"),
        "module": ([sys], "module", "[0]"),
        "bytes": ({"a": b"x"}, "bytes", "['a']"),
        "complex": ([1j], "complex", "[0]"),
        "generator": ([iter([])], "list_iterator", "[0]"),
        "range-beside-nan": ([NAN, {"a": Unknown()}], "Unknown", "[1]['a']"),
        "tuple-key": ({"a": {(1, 2): 3}}, "tuple", "['a']"),
        "object-key": ({"a": {Unknown(): 3}}, "Unknown", "['a']"),
    }


@pytest.fixture
def server() -> Iterator[QuickServer]:
    made = create_server(("127.0.0.1", 0))
    yield made
    made.server_close()


def strictly(text: str | bytes) -> Any:
    """JSON as the RFC has it: Python's own extensions are errors."""

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


# ---- what stands for a value ------------------------------------------------------------------


@pytest.mark.parametrize(("value", "expected"), CASES.values(), ids=CASES)
def test_values(value: object, expected: object) -> None:
    assert strictly(json_dumps(value)) == expected


def test_values_as_answers(server: QuickServer, serve: Serve) -> None:
    server.json_get("/x")(lambda req, args: CASES[str(args["query"]["case"])][0])
    run = serve(server)
    for name, (_, expected) in CASES.items():
        answer = run.get(f"/x?case={name}")
        assert answer.status == 200, name
        assert answer.get("content-type") == "application/json"
        assert strictly(answer.body.decode()) == expected, name


@pytest.mark.parametrize("beside", [1.5, NAN], ids=repr)
def test_values_of_a_rare_kind(beside: float) -> None:
    """They mean the same whether or not the whole value has to be walked over."""
    told = beside if math.isfinite(beside) else "NaN"
    value = {None: Count(3), True: {1, "a"}, False: frozenset([2, 1]), 2: (), 0.5: beside, NAN: {}}
    decoded = strictly(json_dumps(value))
    assert sorted(decoded.pop("true"), key=str) == [1, "a"]
    assert decoded == {"null": 3, "false": [1, 2], "2": [], "0.5": told, "NaN": {}}


def test_the_text_is_compact_and_keeps_its_order() -> None:
    assert json_dumps({"b": [1, {"a": "ü"}], "a": NAN}) == '{"b":[1,{"a":"ü"}],"a":"NaN"}'


def test_a_value_is_not_changed() -> None:
    value = {"a": [NAN, {1, 2}], 1: (ID,)}
    json_dumps(value)
    assert set(value) == {"a", 1}
    assert value[1] == (ID,)
    assert math.isnan(value["a"][0])  # type: ignore[arg-type] # it is a float


def test_long_values() -> None:
    value = {"rows": [{"i": i, "x": NAN if i % 2 else 0.5} for i in range(20_000)]}
    decoded = strictly(json_dumps(value))
    assert [row["x"] for row in decoded["rows"][:3]] == [0.5, "NaN", 0.5]
    assert len(decoded["rows"]) == 20_000


# ---- what nothing stands for ------------------------------------------------------------------


REFUSED = refused_cases()


@pytest.mark.parametrize(("value", "kind", "place"), REFUSED.values(), ids=REFUSED)
def test_an_error_names_type_and_place(value: object, kind: str, place: str) -> None:
    with pytest.raises(TypeError) as caught:
        json_dumps(value)
    assert kind in str(caught.value)
    assert place in str(caught.value)


@pytest.mark.parametrize(("value", "kind", "place"), REFUSED.values(), ids=REFUSED)
def test_the_log_says_it_and_the_page_does_not(
    server: QuickServer, serve: Serve, log: Log, value: object, kind: str, place: str
) -> None:
    server.json_get("/x")(lambda req, args: value)
    client = serve(server).connect()
    answer = client.request("GET", "/x")
    assert answer.status == 500
    text = answer.body.decode()
    assert kind not in text
    assert not place or place not in text
    lines = [line for line in log.text.splitlines() if kind in line]
    assert any(place in line for line in lines), log.text
    assert client.request("GET", "/nothing").status == 404


@pytest.mark.parametrize("beside", [None, NAN, dt.date(2026, 1, 31)], ids=repr)
def test_a_value_that_contains_itself(
    server: QuickServer, serve: Serve, log: Log, beside: object
) -> None:
    ring: list[object] = [beside]
    ring.append({"ring": ring})
    with pytest.raises(ValueError, match=r"(?i)circular"):
        json_dumps(ring)
    server.json_get("/x")(lambda req, args: ring)
    assert serve(server).get("/x").status == 500
    log.wait_for("(?i)circular")


def test_a_very_deep_value(server: QuickServer, serve: Serve, log: Log) -> None:
    """An answer, or an error: the process lives on."""
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    server.json_get("/x")(lambda req, args: value)
    run = serve(server)
    assert run.get("/x").status in (200, 500)
    assert run.get("/nothing").status == 404
    while value:  # not all at once: that would recurse
        value = value.pop()  # type: ignore[assignment] # a list or nothing


# ---- numpy ------------------------------------------------------------------------------------


def test_numpy_scalars() -> None:
    np = pytest.importorskip("numpy")
    value = {
        "int": [np.int8(-1), np.uint64(2**64 - 1), np.int64(7)],
        "float": [np.float16(0.5), np.float32(0.25), np.float64(0.1)],
        "missing": [np.float32("nan"), np.float64("inf"), np.float64("-inf"), np.nan],
        "bool": [np.bool_(True), np.False_],
        "str": np.str_("ü"),
        "when": np.datetime64("2026-01-31T12:30"),
        "day": np.datetime64("2026-01-31"),
    }
    assert strictly(json_dumps(value)) == {
        "int": [-1, 2**64 - 1, 7],
        "float": [0.5, 0.25, 0.1],
        "missing": ["NaN", "Infinity", "-Infinity", "NaN"],
        "bool": [True, False],
        "str": "ü",
        "when": "2026-01-31T12:30",
        "day": "2026-01-31",
    }


def test_numpy_arrays() -> None:
    np = pytest.importorskip("numpy")
    value = {
        "vector": np.arange(3),
        "matrix": np.array([[1.5, np.nan], [np.inf, 2.0]]),
        "empty": np.zeros((0, 3)),
        "scalar": np.array(7),
        "bools": np.array([True, False]),
        "text": np.array(["a", "ü"]),
        "objects": np.array([None, "a", 1.5, dt.date(2026, 1, 31)], dtype=object),
        "days": np.array(["2026-01-31", "2026-02-01"], dtype="datetime64[D]"),
        "slice": np.arange(10)[::-3],
        "nested": [{"a": (np.ones(2),)}],
    }
    assert strictly(json_dumps(value)) == {
        "vector": [0, 1, 2],
        "matrix": [[1.5, "NaN"], ["Infinity", 2.0]],
        "empty": [],
        "scalar": 7,
        "bools": [True, False],
        "text": ["a", "ü"],
        "objects": [None, "a", 1.5, "2026-01-31"],
        "days": ["2026-01-31", "2026-02-01"],
        "slice": [9, 6, 3, 0],
        "nested": [{"a": [[1.0, 1.0]]}],
    }


def test_numpy_keys() -> None:
    np = pytest.importorskip("numpy")
    value = {np.int64(1): "a", np.float64(0.5): "b", np.str_("c"): "c", np.float32("nan"): "d"}
    assert strictly(json_dumps(value)) == {"1": "a", "0.5": "b", "c": "c", "NaN": "d"}


def test_what_numpy_cannot_send_either() -> None:
    np = pytest.importorskip("numpy")
    with pytest.raises(TypeError, match=r"(?s)'a'.*complex|complex.*'a'"):
        json_dumps({"a": np.array([1j])})
    with pytest.raises(TypeError, match=r"Unknown"):
        json_dumps({"a": np.array([Unknown()], dtype=object)})


# ---- pandas -----------------------------------------------------------------------------------


def test_pandas_frames() -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "n": [1, 2],
            "x": [0.5, float("nan")],
            "s": ["a", None],
            "t": pd.to_datetime(["2026-01-31 12:30", None]),
            "b": [True, False],
        }
    )
    first, second = strictly(json_dumps(frame))
    assert first == {"n": 1, "x": 0.5, "s": "a", "t": "2026-01-31T12:30:00", "b": True}
    assert (second["n"], second["x"], second["t"], second["b"]) == (2, "NaN", None, False)
    assert second["s"] in (None, "NaN")
    assert strictly(json_dumps({"frames": [frame[:0]]})) == {"frames": [[]]}


def test_pandas_series_and_indexes() -> None:
    pd = pytest.importorskip("pandas")
    value = {
        "series": pd.Series([1.0, float("nan")]),
        "ints": pd.Series([1, 2], index=["a", "b"]),
        "nullable": pd.Series([1, None], dtype="Int64"),
        "index": pd.Index(["a", "b"]),
        "days": pd.date_range("2026-01-31", periods=2),
        "kinds": pd.Categorical(["a", "b", "a"]),
    }
    assert strictly(json_dumps(value)) == {
        "series": [1.0, "NaN"],
        "ints": [1, 2],
        "nullable": [1, None],
        "index": ["a", "b"],
        "days": ["2026-01-31T00:00:00", "2026-02-01T00:00:00"],
        "kinds": ["a", "b", "a"],
    }


def test_pandas_scalars() -> None:
    pd = pytest.importorskip("pandas")
    value = [pd.Timestamp("2026-01-31 12:30"), pd.NaT, pd.NA, {"a": pd.NA}]
    assert strictly(json_dumps(value)) == ["2026-01-31T12:30:00", None, None, {"a": None}]


@pytest.mark.parametrize(
    "made", ["pd.Timedelta('1h')", "pd.Period('2026-01')", "pd.Interval(0, 1)"], ids=str
)
def test_other_pandas_values_are_refused(made: str) -> None:
    pd = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match=r"\['a'\]"):
        json_dumps({"a": eval(made, {"pd": pd})})


def test_frames_and_arrays_as_answers(server: QuickServer, serve: Serve) -> None:
    pd = pytest.importorskip("pandas")
    np = pytest.importorskip("numpy")
    server.json_get("/frame")(lambda req, args: pd.DataFrame({"x": [1, 2]}))
    server.json_get("/array")(lambda req, args: np.eye(2))
    server.json_get("/number")(lambda req, args: np.int64(7))
    run = serve(server)
    assert strictly(run.get("/frame").body) == [{"x": 1}, {"x": 2}]
    assert strictly(run.get("/array").body) == [[1.0, 0.0], [0.0, 1.0]]
    assert strictly(run.get("/number").body) == 7


def test_numpy_and_pandas_are_never_imported() -> None:
    """Who does not use them does not pay for them."""
    text = (
        "import sys, datetime, quick_server\n"
        "quick_server.json_dumps({'a': [float('nan'), {1}, datetime.date(2026, 1, 31)]})\n"
        "print('numpy' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", text], env=environment(), capture_output=True, timeout=30, check=True
    )
    assert done.stdout.split() == [b"False", b"False"]


# ---- with orjson and without ------------------------------------------------------------------

PRINT_ALL = """
import json, sys
if {blocked}:
    sys.modules["orjson"] = None
from quick_server import jsontext
assert (jsontext._fast is None) is {blocked}
from tests.integration.test_json_values import CASES, REFUSED, more_cases
result = {{}}
for name, value in [*((n, v[0]) for n, v in CASES.items()), *more_cases().items(),
                    *((n, v[0]) for n, v in REFUSED.items())]:
    try:
        result[name] = ["text", json.loads(jsontext.json_dumps(value))]
    except (TypeError, ValueError) as error:
        result[name] = [type(error).__name__, str(error)]
print(json.dumps(result))
"""


def more_cases() -> dict[str, object]:
    """Values whose text is not fixed, but is the same whatever the encoder."""
    ring: dict[str, object] = {}
    ring["ring"] = [ring]
    cases: dict[str, object] = {
        "ring": ring,
        "micro": dt.datetime(2026, 1, 31, 12, 30, 0, 1, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        "delta": {"a": dt.timedelta(hours=1)},
        "floats": [1e16, 1e22, 123456789.123456789, 1e-7, 0.1 + 0.2, 2.0, 1e21],
        "ints": [2**53, 2**63, 2**64, -(2**63)],
        "control": "".join(map(chr, range(32))) + "\x7f\x80\u2028\u2029\ufeff\uffff",
        "equal-keys": {1: "int", "1": "str"},
        "null-word": {"null": [None, "null"]},
    }
    if importlib.util.find_spec("numpy"):
        import numpy as np

        cases["arrays"] = {
            "a": np.array([[1.5, np.nan]]),
            "b": np.float32(0.1),
            "c": np.datetime64("2026-01-31T12:30:15.25"),
            "d": {np.int64(3): np.bool_(True)},
            "e": np.arange(6, dtype=np.uint8).reshape(2, 3).T,
        }
    if importlib.util.find_spec("pandas"):
        import pandas as pd

        cases["frames"] = [
            pd.DataFrame({"a": [1.0, None], "t": pd.to_datetime(["2026-01-31", None])}),
            pd.Timestamp("2026-01-31 12:30:15.123456789"),
            pd.Series(["a"], dtype="category"),
        ]
    return cases


def test_the_tests_run_without_orjson() -> None:
    asked = [sys.executable, "-c", "from quick_server import jsontext; print(jsontext._fast)"]
    assert subprocess.run(asked, env=environment(), capture_output=True).stdout == b"None\n"
    assert jsontext._fast is None


def test_orjson_means_the_same() -> None:
    path = [folder for folder in sys.path if folder != str(PLAIN)]
    if PathFinder.find_spec("orjson", path) is None:
        pytest.skip("orjson is not installed")

    def results(*, blocked: bool) -> Any:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PRINT_ALL.format(blocked=blocked)],
            env=environment(PYTHONPATH=":".join(path)),
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()
        return strictly(done.stdout)

    plain, fast = results(blocked=True), results(blocked=False)
    assert plain.keys() == fast.keys()
    for name, result in plain.items():
        assert fast[name] == result, name
