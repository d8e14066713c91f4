"""Values of the data world to what JSON can hold.

No module is imported for it: a value of a module's class can only be there if the program has imported
the module itself.
"""

from __future__ import annotations

import math
import os
import sys
from typing import Any


def plain(value: Any) -> Any:
    """What stands in JSON for a value that JSON does not know, one level deep.

    Raises TypeError for what nothing stands for.
    """
    converted = _data_frame_value(value)
    if converted is not None:
        return converted[0]
    if _is(value, "datetime", "date", "time"):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, os.PathLike) or _is(value, "uuid", "UUID"):
        return str(value)
    if _is(value, "decimal", "Decimal"):
        return float(value)
    if _is(value, "enum", "Enum"):
        return value.value
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        fields = sys.modules["dataclasses"].fields(value)
        return {field.name: getattr(value, field.name) for field in fields}
    if isinstance(value, set | frozenset):
        try:
            return sorted(value)
        except TypeError:
            return list(value)
    raise TypeError(f"a value of type {_name(value)} cannot be sent as JSON")


def _is(value: Any, module: str, *names: str) -> bool:
    """Whether a value is of one of these classes, without importing the module."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(value, tuple(getattr(loaded, name) for name in names))


def _data_frame_value(value: Any) -> tuple[Any] | None:
    """What stands for a value of numpy or pandas, wrapped, or None for any other value."""
    pandas = sys.modules.get("pandas")
    if pandas is not None:
        if value is pandas.NaT or value is pandas.NA:
            return (None,)
        if isinstance(value, pandas.DataFrame):
            return (value.to_dict(orient="records"),)
        if isinstance(value, pandas.Series | pandas.Index | pandas.Categorical):
            return (value.tolist(),)
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.ndarray):
            return (value.astype(str).tolist() if value.dtype.kind in "mM" else value.tolist(),)
        if isinstance(value, numpy.datetime64 | numpy.timedelta64):
            return (str(value),)
        if isinstance(value, numpy.generic):
            return (value.item(),)
    return None


def plain_deep(value: Any, path: str = "result") -> Any:
    """A value in which only dicts with str keys, lists, str, numbers, bools and None are left.

    Numbers that JSON lacks are strings there. Raises TypeError that names the type and the place of
    what cannot be sent, and ValueError for a value that contains itself.
    """
    try:
        return _deep(value, path)
    except RecursionError:
        raise ValueError("Circular reference detected") from None


def _deep(value: Any, path: str) -> Any:
    kind = type(value)
    if value is None or kind in (str, int, bool):
        return value
    if isinstance(value, float):
        return number(float(value))
    if isinstance(value, dict):
        return {_key(k, path): _deep(v, f"{path}[{k!r}]") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_deep(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)
    try:
        inner = plain(value)
    except TypeError:
        raise TypeError(f"{path} is of type {_name(value)}, which cannot be sent as JSON") from None
    return _deep(inner, path)


def number(value: float) -> float | str:
    """A float, or the string that stands for one that JSON lacks."""
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def _key(key: Any, path: str) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    if key is None:
        return "null"
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, float):
        inner = number(float(key))
        return inner if isinstance(inner, str) else repr(inner)
    if isinstance(key, int):
        return str(int(key))
    if isinstance(key, tuple | list | dict):
        raise TypeError(f"a key of {path} is of type {_name(key)}, which cannot be sent as JSON")
    try:
        return _key(plain(key), path)
    except TypeError:
        raise TypeError(
            f"a key of {path} is of type {_name(key)}, which cannot be sent as JSON"
        ) from None


def _name(value: Any) -> str:
    kind = type(value)
    module = "" if kind.__module__ == "builtins" else kind.__module__ + "."
    return module + kind.__qualname__
