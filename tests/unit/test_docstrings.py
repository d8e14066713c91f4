"""The examples in docstrings are true."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import quick_server

MODULES = [
    module.name
    for module in pkgutil.walk_packages(quick_server.__path__, "quick_server.")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert not result.failed


@pytest.mark.parametrize(
    ("file", "ctype"),
    [
        ("a.CSV", "text/csv; charset=utf-8"),
        ("a.tar.gz", "application/gzip"),
        ("a.json", "application/json"),
        ("a", "application/octet-stream"),
        (".hidden", "application/octet-stream"),
        ("a.svgz", "application/octet-stream"),
        ("a." + "x" * 40, "application/octet-stream"),
        ("a.mjs", "text/javascript; charset=utf-8"),
        ("a.tar", "application/x-tar"),
    ],
)
def test_media_types(file: str, ctype: str) -> None:
    from quick_server.mediatypes import content_type

    assert content_type(file) == ctype
