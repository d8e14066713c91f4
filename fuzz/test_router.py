"""Which function answers a request, and with which arguments: against a model of what is promised.

The model is naive on purpose: it looks at every mask, and takes targets apart in its own way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import quick_server
from fuzz.profile import examples
from quick_server import create_server
from quick_server.protocol.target import parse_target
from quick_server.routes import Match, Routes
from tests.harness import Answer, Running, running

pytestmark = pytest.mark.timeout(0)


class Rule(NamedTuple):
    """One registration."""

    method: str
    mask: str
    argc: int | None

    @property
    def parts(self) -> list[str]:
        return [part for part in self.mask.split("/") if part]

    @property
    def same(self) -> tuple[str, tuple[str, ...]]:
        """Equal for those of which the later one replaces the other."""
        return self.method, tuple(re.sub("^:.*", ":", part) for part in self.parts)

    @property
    def rank(self) -> tuple[int, str]:
        """The largest wins: more segments; then, from the left, a name where the other takes any."""
        return len(self.parts), "".join("01"[not part.startswith(":")] for part in self.parts)

    def matches(self, path: list[str]) -> bool:
        beyond = len(path) - len(self.parts)
        if beyond < 0 or (self.argc is not None and self.argc != beyond):
            return False
        return all(part[0] == ":" or part == path[i] for i, part in enumerate(self.parts))


def decoded_path(target: str) -> list[str]:
    """The segments of a target's path, empty ones and those of dots included."""
    path = re.sub("^https?://[^/?#]*", "", target, flags=re.IGNORECASE)
    path = re.split("[?#]", path)[0]
    return [
        re.sub(
            b"%([0-9A-Fa-f]{2})", lambda code: bytes.fromhex(code[1].decode()), segment.encode()
        ).decode("utf-8", "surrogateescape")
        for segment in path.split("/")
    ]


def is_text(target: str) -> bool:
    """Whether all that is escaped in the path is UTF-8, also in what `..` takes back."""
    return not any("\udc80" <= letter <= "\udcff" for letter in "".join(decoded_path(target)))


def path_of(target: str) -> list[str] | None:
    """The decoded segments that the path comes to; None if it leaves the root."""
    found: list[str] = []
    for decoded in decoded_path(target):
        if decoded == "..":
            if not found:
                return None
            del found[-1]
        elif decoded and decoded != ".":
            found.append(decoded)
    return found


def winner(rules: list[Rule], method: str, path: list[str]) -> Rule | None:
    kept = {rule.same: rule for rule in rules}.values()
    return max(
        (rule for rule in kept if rule.method == method and rule.matches(path)),
        key=lambda rule: rule.rank,
        default=None,
    )


def segments(rule: Rule, path: list[str]) -> dict[str, str]:
    return {part[1:]: path[i] for i, part in enumerate(rule.parts) if part.startswith(":")}


def allowed(rules: list[Rule], path: list[str]) -> set[str]:
    found = {rule.method for rule in rules if winner(rules, rule.method, path)}
    return found | {"HEAD"} if "GET" in found else found


METHODS = ["GET", "PUT", "DELETE", "POST"]
_MASK_PARTS = ["a", "b", ":x", ":y"] * 3 + ["A", "é", "a;b=c", "+", "%61", ":", "", "a:b", ".."]
_PATH_PARTS = ["a", "b", "c", "%61", "", ".", ".."] * 3 + [
    "%C3%A9", "%c3", "%ff", "a%2Fb", "%2f", "%2e", ".%2E", "%2e%2e", "...", "%", "%6", "%zz", "%00",
    "%25", "a%3Bb=c", "a;b=c", "+", "%20", ":x", "%3Ax", ":", "a:b", "..%2f..", "%5c..", "~", "A",
]  # fmt: skip
_BEFORE = ["", "", "", "http://localhost", "HTTP://LOCALHOST:80", "https://localhost"]
_BEHIND = ["", "", "", "?", "?a=/b/../c", "?/a", "#/a", "/", "/?x", "?a#b"]

rule_lists = st.lists(
    st.builds(
        lambda method, parts, argc: Rule(method, "/" + "/".join(parts), argc),
        st.sampled_from(["GET", "GET", "GET", *METHODS]),
        st.lists(st.sampled_from(_MASK_PARTS), max_size=4),
        st.sampled_from([None, None, None, 0, 1, 2]),
    ),
    max_size=12,
)


@st.composite
def _targets(draw: st.DrawFn, rules: list[Rule]) -> str:
    """Half of them are what one of the masks stands for, with something behind it."""
    path = draw(st.lists(st.sampled_from(_PATH_PARTS), max_size=4))
    if draw(st.booleans()) and rules:
        parts = draw(st.sampled_from(rules)).parts
        named = [draw(st.sampled_from("abc")) if part[0] == ":" else quote(part) for part in parts]
        path = named + path[: draw(st.integers(0, 2))]
    return draw(st.sampled_from(_BEFORE)) + "/" + "/".join(path) + draw(st.sampled_from(_BEHIND))


scenes = rule_lists.flatmap(
    lambda rules: st.tuples(st.just(rules), st.lists(_targets(rules), min_size=1, max_size=8))
)


def table(rules: list[Rule]) -> Routes[Rule]:
    routes: Routes[Rule] = Routes()
    for rule in rules:
        routes.add(rule.method, rule.mask, rule, rule.argc)
    return routes


@examples(1)
@given(scenes)
def test_winner(scene: tuple[list[Rule], list[str]]) -> None:
    rules, requests = scene
    routes = table(rules)
    for raw in requests * 2:  # what was found before is remembered
        target, path = parse_target(raw), path_of(raw)
        assert target is not None
        assert target.segments == (None if path is None else tuple(path))
        if path is None:
            continue
        for method in METHODS:
            rule = winner(rules, method, path)
            rest = tuple(path[len(rule.parts) :]) if rule else ()
            expected = Match(rule, segments(rule, path), rest) if rule else None
            assert routes.find(method, tuple(path)) == expected
        assert routes.methods(tuple(path)) == allowed(rules, path) - {"HEAD"}


@given(st.data(), scenes)
def test_order(data: st.DataObject, scene: tuple[list[Rule], list[str]]) -> None:
    """It matters for equal masks only, of which the last one counts."""
    rules, requests = scene
    kept = list({rule.same: rule for rule in rules}.values())
    orders = table(rules), table(kept), table(data.draw(st.permutations(kept)))
    for path in filter(None, map(path_of, requests)):
        for method in METHODS:
            first, *others = (routes.find(method, tuple(path)) for routes in orders)
            assert others == [first, first]


# ---- over the wire ------------------------------------------------------------------------------


class _Nowhere:
    def write(self, text: str, /) -> None: ...
    def flush(self) -> None: ...


@pytest.fixture
def run() -> Iterator[Running]:
    quick_server.set_log_file(_Nowhere())
    with running(create_server(("127.0.0.1", 0))) as run:
        yield run
    quick_server.set_log_file(None)


def telling(rule: Rule) -> Callable[[object, Any], object]:
    """A handler that says what it was called with."""
    return lambda req, args: [*rule, args["segments"], args["paths"]]


def expected(rules: list[Rule], method: str, target: str) -> tuple[int, object]:
    """The status, and what the handler says or the methods that are allowed."""
    path = path_of(target)
    if path is None:
        return 404, None
    rule = winner(rules, "GET" if method == "HEAD" else method, path)
    if rule is None:
        others = allowed(rules, path)
        return (405, others) if others else (404, None)
    if not is_text(target):
        return 400, None
    return 200, [*rule, segments(rule, path), path[len(rule.parts) :]]


def seen(answer: Answer, method: str) -> tuple[int, object]:
    if answer.status == 405:
        return 405, set((answer.get("Allow") or "").split(", "))
    is_known = answer.status == 200 and method != "HEAD"
    return answer.status, json.loads(answer.body) if is_known else None


@examples(0.5)
@given(st.data(), scenes)
def test_answers(run: Running, data: st.DataObject, scene: tuple[list[Rule], list[str]]) -> None:
    rules, requests = scene
    run.server.routes = Routes()
    for rule in rules:
        getattr(run.server, f"json_{rule.method.lower()}")(rule.mask, rule.argc)(telling(rule))
    client = run.connect()
    for target in requests:
        method = data.draw(st.sampled_from([*METHODS, "GET", "HEAD", "PATCH", "OPTIONS", "X"]))
        status, content = expected(rules, method, target)
        answer = client.request(method, target)
        assert seen(answer, method) == (status, None if (status, method) == (200, "HEAD") else content)
        assert answer.get("Connection") is None  # it goes on, whatever the answer
    client.close()
    run.clients.remove(client)
