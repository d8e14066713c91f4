"""The messages about jobs: what clients may ask, how results are cut, and what answers look like."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quick_server.jsontext import json_dumps
from quick_server.protocol.messages import ProtocolError
from quick_server.protocol.worker import (
    LONGEST_WAIT,
    START_WAIT,
    Action,
    cut,
    finished,
    in_pieces,
    parse_action,
    running,
    stopped,
    unknown,
)

ASKING = ("get", "stop", "cargo")
LARGEST_TOKEN = 2**53 - 1

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def refused(message: Any) -> str:
    """Why a message is refused."""
    with pytest.raises(ProtocolError) as caught:
        parse_action(message)
    assert caught.value.status == 400
    return caught.value.message


def parsed(message: Any) -> Action | int:
    """The action, or the status with which the message is refused."""
    try:
        return parse_action(message)
    except ProtocolError as error:
        return error.status


# ---- actions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message", [None, True, 0, 1.5, "", "start", '{"action": "start"}', [], [{"action": "start"}]]
)
def test_a_message_is_an_object(message: Any) -> None:
    assert "object" in refused(message)


@pytest.mark.parametrize(
    "action",
    [None, True, 0, 1, "", "Start", "start ", "START", "delete", ["start"], {"start": 1}, "start\0"],
    ids=repr,
)
def test_an_action_is_one_of_four(action: Any) -> None:
    assert "start, get, stop or cargo" in refused({"action": action, "token": "1"})


def test_an_action_has_to_be_there() -> None:
    assert "start, get, stop or cargo" in refused({})
    assert "start, get, stop or cargo" in refused({"token": "1", "payload": {}})


@pytest.mark.parametrize("name", ASKING)
def test_what_asks_about_a_job_names_it(name: str) -> None:
    assert parse_action({"action": name, "token": "12"}) == Action(name, "12", {}, 0)  # type: ignore[arg-type]
    assert "token" in refused({"action": name})


def test_what_else_is_in_a_message_is_let_be() -> None:
    message = {"action": "get", "token": "12", "payload": "anything", "future": [None]}
    assert parse_action(message) == Action("get", "12", {}, 0)
    start = {"action": "start", "payload": {"a": 1}, "token": ["not looked at"]}
    assert parse_action(start) == Action("start", "", {"a": 1}, START_WAIT)


# ---- tokens -----------------------------------------------------------------------------------


@given(st.integers(0, LARGEST_TOKEN))
def test_tokens_are_strings_or_numbers(token: int) -> None:
    """Clients of old send numbers: they call `+token`."""
    for sent in (token, str(token)):
        assert parse_action({"action": "get", "token": sent}).token == str(token)


@pytest.mark.parametrize(
    "token",
    [
        None,
        True,
        False,
        "",
        " ",
        "abc",
        "-1",
        "+1",
        "1.0",
        "1e3",
        "0x10",
        "1_000",
        " 12",
        "12 ",
        "12\n",
        "1,2",
        '1"',
        "\u00b2",  # a digit, but no decimal one
        "\u2167",
        "1" * 17,
        "1" * 100_000,
        -1,
        10**16,
        -(10**16),
        10**5000,
        12.0,
        12.5,
        1e300,
        ["12"],
        {"token": "12"},
    ],
    ids=lambda token: repr(token)[:20] if not isinstance(token, int) else f"int {token.bit_length()}",
)
def test_what_is_no_token(token: Any) -> None:
    for name in ASKING:
        assert "token" in refused({"action": name, "token": token})


@pytest.mark.parametrize("token", ["\u0661\u0662", "\uff11\uff12", "1\u0967"])
def test_tokens_are_ascii(token: str) -> None:
    """Decimal digits of other scripts: no token of ours has any."""
    assert "token" in refused({"action": "get", "token": token})


# ---- payloads ---------------------------------------------------------------------------------


@given(st.dictionaries(st.text(), json_values))
def test_a_payload_stays_as_it_is(payload: dict[str, Any]) -> None:
    assert parse_action({"action": "start", "payload": payload}).payload == payload


def test_no_payload_is_an_empty_one() -> None:
    first = parse_action({"action": "start"})
    second = parse_action({"action": "start", "payload": None})
    assert first.payload == second.payload == {}
    assert first.payload is not second.payload  # the mask's segments are put into it


@pytest.mark.parametrize("payload", [False, True, 0, 1, 1.5, "", "{}", [], [1], [["a", 1]]], ids=repr)
def test_a_payload_is_an_object(payload: Any) -> None:
    assert "payload" in refused({"action": "start", "payload": payload})


# ---- waits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        (0, 0),
        (0.0, 0),
        (-0.0, 0),
        (1, 0.001),
        (0.5, 0.0005),
        (1500, 1.5),
        (29_999, 29.999),
        (30_000, LONGEST_WAIT),
        (30_001, LONGEST_WAIT),
        (1e300, LONGEST_WAIT),
        (math.inf, LONGEST_WAIT),
        (10**300, LONGEST_WAIT),
    ],
)
def test_waits(wait: float, seconds: float) -> None:
    """Milliseconds, 30,000 at most; who asks for longer is answered earlier."""
    for name in ASKING:
        message = {"action": name, "token": "1", "wait": wait}
        assert parse_action(message).wait == pytest.approx(seconds)
    start = parse_action({"action": "start", "wait": wait})
    assert start.wait == pytest.approx(max(seconds, START_WAIT))


@pytest.mark.parametrize("digits", [310, 400, 4000])
def test_a_wait_longer_than_a_float_can_tell(digits: int) -> None:
    """JSON has whole numbers of any size: such a one is the longest wait, or malformed."""
    for name in ("start", "get"):
        action = parsed({"action": name, "token": "1", "wait": 10**digits})
        assert action == 400 or (isinstance(action, Action) and action.wait == LONGEST_WAIT)


@pytest.mark.parametrize("wait", [None, True, False, "", "100", "1e3", [], [100], {}, -1, -0.001, -1e9])
def test_what_is_no_wait(wait: Any) -> None:
    for name in ("start", *ASKING):
        assert "wait" in refused({"action": name, "token": "1", "wait": wait})


@given(
    json_values | st.dictionaries(st.sampled_from(["action", "token", "payload", "wait"]), json_values)
)
def test_any_message_is_an_action_or_refused(message: Any) -> None:
    action = parsed(message)
    if isinstance(action, Action):
        assert action.name in ("start", *ASKING)
        assert bool(action.token) == (action.name != "start")
        assert 0 <= action.wait <= LONGEST_WAIT
    else:
        assert action == 400


# ---- results ----------------------------------------------------------------------------------


@given(st.text(), st.integers(-1, 30) | st.integers(0, 10**9))
def test_the_pieces_of_a_result(text: str, longest: int) -> None:
    pieces = cut(text, longest)
    loaded = [json.loads(piece) for piece in pieces]
    assert all(isinstance(piece, str) for piece in loaded)
    assert "".join(loaded) == text
    assert all(len(piece) == max(1, longest) for piece in loaded[:-1])
    assert len(loaded[-1]) <= max(1, longest)
    assert len(pieces) == 1 or loaded[-1]


@given(json_values, st.integers(1, 20))
def test_pieces_of_json_joined_are_the_json(value: Any, longest: int) -> None:
    """Also in the midst of what is escaped, and beside characters that UTF-16 knows as two."""
    pieces = cut(json_dumps(value), longest)
    assert json.loads("".join(json.loads(piece) for piece in pieces)) == value


@pytest.mark.parametrize(
    ("text", "longest", "pieces"),
    [
        ("", 10, [b'""']),
        ("12", 2, [b'"12"']),
        ("12", 1, [b'"1"', b'"2"']),
        ('"a\nb"', 3, [rb'"\"a\n"', rb'"b\""']),
        ("\U0001f600ü", 1, ['"\U0001f600"'.encode(), '"ü"'.encode()]),
        ("\0\x1f\u2028", 9, [b'"\\u0000\\u001f\xe2\x80\xa8"']),
    ],
)
def test_cuts(text: str, longest: int, pieces: list[bytes]) -> None:
    assert list(cut(text, longest)) == pieces


def test_a_lone_surrogate_survives() -> None:
    """It is escaped in the JSON text, for UTF-8 has no place for it."""
    pieces = cut(json_dumps("a\ud800b"), 4)
    assert json.loads("".join(json.loads(piece) for piece in pieces)) == "a\ud800b"


@given(st.text(st.characters()))
def test_a_piece_is_utf8_whatever_the_text(text: str) -> None:
    for piece in cut(text, 3):
        json.loads(piece.decode())


# ---- answers ----------------------------------------------------------------------------------


def test_answers() -> None:
    progress = b'{"done":1,"total":null,"text":"a"}'
    expected = {
        running("7", progress, None): {
            "token": "7",
            "done": False,
            "result": None,
            "continue": True,
            "progress": {"done": 1, "total": None, "text": "a"},
        },
        running("7", progress, 3): {
            "token": "7",
            "done": False,
            "result": None,
            "continue": True,
            "progress": {"done": 1, "total": None, "text": "a"},
            "queue": 3,
        },
        running("7", progress, 0): {
            "token": "7",
            "done": False,
            "result": None,
            "continue": True,
            "progress": {"done": 1, "total": None, "text": "a"},
            "queue": 0,
        },
        finished("7", b'"[1]"'): {"token": "7", "done": True, "result": "[1]", "continue": False},
        in_pieces("7", ["8", "9"]): {
            "token": "7",
            "done": True,
            "result": ["8", "9"],
            "continue": True,
        },
        stopped("7"): {"token": "7", "done": True, "result": None, "continue": False},
        unknown("7"): {"token": "7", "done": False, "result": None, "continue": False},
    }
    for answer, message in expected.items():
        assert json.loads(answer) == message
