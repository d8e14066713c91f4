"""A multipart form is the same however its bytes happen to be cut, and an error tells what is wrong."""

from __future__ import annotations

import pytest

from quick_server.limits import Limits
from quick_server.protocol.messages import ProtocolError
from quick_server.uploads import make_form

PART = b'--limit\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--limit--'
LINE_FEED = b'--limit\r\nContent-Disposition: form-data; name="a"%b\r\n\r\nx\r\n--limit--'


def received(body: bytes, size: int) -> dict[str, str] | int:
    """The fields of a form that arrives in pieces of that size; 400 if it is refused."""
    form = make_form({"boundary": "limit"}, 1000, Limits())
    try:
        for at in range(0, len(body), size):
            form.feed(body[at : at + size])
        form.complete()
        return form.fields
    except ProtocolError as error:
        return error.status
    finally:
        form.close()


@pytest.mark.parametrize("size", [1, 3, 12, 1000])
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (PART, {"a": "x"}),
        (b"\r\n" + PART, {"a": "x"}),
        (b"the preamble\r\n" + PART, {"a": "x"}),
        (b"\r\n--limi\r\n" + PART, {"a": "x"}),
        (b"--limi--limit--\r\n" + PART, {"a": "x"}),
        (b"\n" + PART.removesuffix(b"\r\n--limit--"), 400),
        (b"x--limit--", 400),
        (b"\r\n--limi--limit--limit", 400),
        (b"\r\n--limit?\r\n" + PART, 400),
        (LINE_FEED % b"\nb: c", 400),
        (LINE_FEED % b'; filename="\n"', 400),
        (LINE_FEED % b'; filename="\x00"', 400),
        (LINE_FEED % b'; b="\t"', {"a": "x"}),
    ],
)
def test_however_it_is_cut(body: bytes, expected: object, size: int) -> None:
    assert received(body, size) == expected


def test_an_error_does_not_quote_the_form() -> None:
    form = make_form({"boundary": "limit"}, 1000, Limits())
    with pytest.raises(ProtocolError) as caught:
        form.feed(b"--limit\r\nContent-Type: " + b"\xff" * 1000 + b"\r\n")
    form.close()
    assert caught.value.message == "the form is broken: Segment header failed to decode"
