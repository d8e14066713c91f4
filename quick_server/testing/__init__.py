"""Fuzzing for servers of your own: strategies for Hypothesis, and `fuzz_server`.

>>> from quick_server import create_server
>>> from quick_server.testing import fuzz_server
>>> def test_fuzz():
...     fuzz_server(create_server(("", 0)))

It needs Hypothesis, which comes with the extra: `pip install 'quick_server[testing]'`.
"""

try:
    import hypothesis as _hypothesis  # noqa: F401 (whether it is there)
except ImportError as _error:
    raise ImportError(
        "quick_server.testing needs Hypothesis: pip install 'quick_server[testing]'", name="hypothesis"
    ) from _error

from .curl import curl
from .findings import Finding, FuzzFailure, Kind, Report
from .fuzz import fuzz_server
from .request import Request
from .strategies import requests
from .wire import wire_bytes

__all__ = [
    "Finding",
    "FuzzFailure",
    "Kind",
    "Report",
    "Request",
    "curl",
    "fuzz_server",
    "requests",
    "wire_bytes",
]
