"""The parser against any bytes: the same events however they are cut, with the memo and without."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quick_server.protocol.heads import HeadMemo
from tests.protocol.reading import bytewise, events, whole
from tests.protocol.test_server import WIRE

pytestmark = pytest.mark.timeout(0)


@given(WIRE | st.binary(max_size=200), st.lists(st.integers(0, 2000), max_size=8))
def test_pieces(data: bytes, cuts: list[int]) -> None:
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[a:b] for a, b in pairwise(ends)]
    assert events(pieces) == whole(data) == bytewise(data)


@given(st.lists(WIRE, min_size=1, max_size=6))
def test_memo(connections: list[bytes]) -> None:
    shared = HeadMemo(most_entries=3)
    for data in connections * 2:
        assert whole(data, shared) == whole(data, HeadMemo(most_bytes=0))
