"""Against llhttp: what both accept they read alike, and where one refuses the reason is known."""

from __future__ import annotations

import pytest
from hypothesis import given

from fuzz.differences import DIFFERENCES, Difference
from fuzz.llhttp import difference
from fuzz.profile import examples
from fuzz.wire import damaged, neat_requests, odd_requests, streams

pytestmark = pytest.mark.timeout(0)


@examples(2)
@given(odd_requests | damaged(neat_requests) | streams)
def test_agreement(data: bytes) -> None:
    found = difference(data)
    assert found is None or any(known.covers(found) for known in DIFFERENCES), found


NEAT = {"a coding in HTTP/1.0", "a tab behind a coding", "close beside keep-alive"}


@examples(0.5)
@given(neat_requests)
def test_neat_requests(data: bytes) -> None:
    """Few of the differences concern requests that are in order."""
    found = difference(data)
    assert found is None or any(known.covers(found) for known in DIFFERENCES if known.name in NEAT), (
        found
    )


@pytest.mark.parametrize("known", DIFFERENCES, ids=[known.name for known in DIFFERENCES])
def test_each_difference_is_still_there(known: Difference) -> None:
    found = difference(known.example)
    assert found is not None
    assert known.covers(found), found
    assert [other.name for other in DIFFERENCES if other.covers(found)] == [known.name]
