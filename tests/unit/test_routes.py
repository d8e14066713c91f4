"""Which route answers a path: every sentence of the module's docstring, and a naive model of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quick_server.routes import Match, Routes


def table(*masks: str) -> Routes[str]:
    """A table in which each mask is its own route."""
    routes: Routes[str] = Routes()
    for mask in masks:
        routes.add("GET", mask, mask)
    return routes


def segments(path: str) -> tuple[str, ...]:
    return tuple(segment for segment in path.split("/") if segment)


def find(routes: Routes[str], path: str, method: str = "GET") -> str | None:
    match = routes.find(method, segments(path))
    return match.route if match is not None else None


# ---- what matches -----------------------------------------------------------------------------


def test_a_segment_with_a_colon_matches_any_one_segment() -> None:
    routes = table("/user/:name/file/:number")
    match = routes.find("GET", segments("/user/joe/file/7"))
    assert match == Match("/user/:name/file/:number", {"name": "joe", "number": "7"}, ())
    assert find(routes, "/user/joe/files/7") is None
    assert find(routes, "/user/file/7") is None
    assert find(routes, "/user//joe/file/7") == "/user/:name/file/:number"


@pytest.mark.parametrize("segment", [":name", "a b", "ü", "%41", "..", ":", "-"])
def test_what_stands_for_any_segment_matches_whatever_is_there(segment: str) -> None:
    match = table("/:x").find("GET", (segment,))
    assert match is not None
    assert match.segments == {"x": segment}


def test_a_named_segment_matches_itself_only() -> None:
    routes = table("/abc")
    assert find(routes, "/abc") == "/abc"
    for other in ("/Abc", "/ab", "/abcd", "/abc%20", "/"):
        assert find(routes, other) is None


def test_a_colon_within_a_segment_is_a_colon() -> None:
    routes = table("/a:b")
    assert find(routes, "/a:b") == "/a:b"
    assert find(routes, "/axb") is None


def test_the_mask_matches_the_first_segments_and_the_rest_is_told() -> None:
    match = table("/a/:x").find("GET", segments("/a/b/c/d"))
    assert match == Match("/a/:x", {"x": "b"}, ("c", "d"))


def test_the_root_matches_every_path() -> None:
    routes = table("/")
    assert routes.find("GET", ()) == Match("/", {}, ())
    assert routes.find("GET", ("a", "b")) == Match("/", {}, ("a", "b"))


def test_a_mask_does_not_match_a_path_that_is_shorter() -> None:
    routes = table("/a/b/c")
    assert [find(routes, path) for path in ("/", "/a", "/a/b")] == [None] * 3


@pytest.mark.parametrize(("argc", "matching"), [(0, "/a"), (1, "/a/b"), (2, "/a/b/c")])
def test_the_number_of_segments_left_over_must_suit(argc: int, matching: str) -> None:
    routes: Routes[str] = Routes()
    routes.add("GET", "/a", "route", argc)
    paths = ("/a", "/a/b", "/a/b/c", "/a/b/c/d")
    assert [path for path in paths if find(routes, path) is not None] == [matching]


def test_methods_are_apart() -> None:
    routes: Routes[str] = Routes()
    routes.add("GET", "/a", "get")
    routes.add("POST", "/a/b", "post")
    assert find(routes, "/a/b", "GET") == "get"
    assert find(routes, "/a/b", "POST") == "post"
    assert find(routes, "/a", "POST") is None
    assert find(routes, "/a", "PUT") is None
    assert routes.methods(segments("/a/b/c")) == {"GET", "POST"}
    assert routes.methods(segments("/a")) == {"GET"}
    assert routes.methods(segments("/b")) == set()


def test_an_empty_table_matches_nothing() -> None:
    routes: Routes[str] = Routes()
    assert routes.find("GET", ("a",)) is None
    assert routes.methods(("a",)) == set()
    assert list(routes) == []


@pytest.mark.parametrize("mask", ["", "a", "a/b", ":x", " /a", "*"])
def test_a_mask_starts_with_a_slash(mask: str) -> None:
    routes: Routes[str] = Routes()
    with pytest.raises(ValueError, match="starts with a slash"):
        routes.add("GET", mask, "route")
    with pytest.raises(ValueError, match="starts with a slash"):
        routes.set_argc(mask, 0)
    assert list(routes) == []


@pytest.mark.parametrize("mask", ["/a/b", "/a/b/", "//a//b//"])
def test_empty_segments_of_a_mask_mean_nothing(mask: str) -> None:
    assert find(table(mask), "/a/b") == mask


# ---- who wins ---------------------------------------------------------------------------------


def test_the_longest_mask_wins() -> None:
    routes = table("/", "/a", "/a/:x", "/:x/:y/:z")
    assert find(routes, "/b") == "/"
    assert find(routes, "/a") == "/a"
    assert find(routes, "/a/b") == "/a/:x"
    assert find(routes, "/a/b/c") == "/:x/:y/:z"
    assert find(routes, "/a/b/c/d") == "/:x/:y/:z"


def test_of_two_equally_long_ones_the_one_that_names_the_segment_wins() -> None:
    routes = table("/a/:x", "/a/b")
    assert find(routes, "/a/b") == "/a/b"
    assert find(routes, "/a/c") == "/a/:x"


def test_the_first_place_where_they_differ_decides() -> None:
    routes = table("/:x/b/c", "/a/:y/:z")
    assert find(routes, "/a/b/c") == "/a/:y/:z"
    assert find(routes, "/d/b/c") == "/:x/b/c"


def test_a_mask_that_names_more_but_does_not_match_stands_in_nobodys_way() -> None:
    routes = table("/a/b/c", "/a/:y/d", "/:x/b/e")
    assert find(routes, "/a/b/c") == "/a/b/c"
    assert find(routes, "/a/b/d") == "/a/:y/d"
    assert find(routes, "/a/b/e") == "/:x/b/e"


def test_a_longer_mask_whose_rest_does_not_suit_leaves_it_to_a_shorter_one() -> None:
    routes: Routes[str] = Routes()
    routes.add("GET", "/a/b", "long", argc=0)
    routes.add("GET", "/a", "short")
    assert find(routes, "/a/b") == "long"
    assert routes.find("GET", segments("/a/b/c")) == Match("short", {}, ("b", "c"))


def test_a_named_mask_whose_rest_does_not_suit_leaves_it_to_one_for_any() -> None:
    routes: Routes[str] = Routes()
    routes.add("GET", "/a", "named", argc=0)
    routes.add("GET", "/:x", "any")
    assert find(routes, "/a") == "named"
    assert routes.find("GET", segments("/a/b")) == Match("any", {"x": "a"}, ("b",))


def test_the_same_mask_again_replaces_it() -> None:
    routes: Routes[str] = Routes()
    routes.add("GET", "/a/:x", "first", argc=1)
    routes.add("POST", "/a/:x", "other method")
    routes.add("GET", "/a/:y", "second")
    assert routes.find("GET", segments("/a/b/c/d")) == Match("second", {"y": "b"}, ("c", "d"))
    assert sorted(routes) == [("GET", "second"), ("POST", "other method")]


# ---- argc on its own --------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["before", "after"])
def test_argc_can_be_set_for_all_methods_before_or_after(order: str) -> None:
    routes: Routes[str] = Routes()
    if order == "before":
        routes.set_argc("/a/:name", 1)
    routes.add("GET", "/a/:x", "get")
    routes.add("POST", "/a/:y", "post")
    routes.add("POST", "/a", "shorter")
    if order == "after":
        routes.set_argc("/a/:name", 1)
    assert find(routes, "/a/b/c") == "get"
    assert find(routes, "/a/b") is None
    assert find(routes, "/a/b/c", "POST") == "post"
    assert find(routes, "/a/b", "POST") == "shorter"


def test_argc_holds_for_that_very_mask() -> None:
    routes = table("/a", "/a/b", "/a/:x", "/:y")
    routes.set_argc("/a/:x", 5)
    routes.set_argc("/unknown/mask", 5)
    routes.set_argc("/a/b/c", 5)
    assert find(routes, "/a/b") == "/a/b"
    assert find(routes, "/a/c") == "/a"
    assert find(routes, "/c") == "/:y"


def test_argc_can_be_lifted() -> None:
    routes: Routes[str] = Routes()
    routes.add("GET", "/a", "route", argc=0)
    routes.set_argc("/a", None)
    assert find(routes, "/a/b/c") == "route"
    routes.add("GET", "/a", "again")
    assert find(routes, "/a/b/c") == "again"


# ---- the cost ---------------------------------------------------------------------------------


class Counted(str):
    """A segment that counts how often it is looked up."""

    looked_up = 0

    __slots__ = ()

    def __hash__(self) -> int:
        Counted.looked_up += 1
        return super().__hash__()


def test_a_look_up_meets_each_node_once() -> None:
    """Two edges match at every node, and the masks end in what no path has."""
    depth = 10
    routes: Routes[int] = Routes()
    for number in range(2**depth):
        edges = ["a" if number >> place & 1 else ":x" for place in range(depth)]
        routes.add("GET", "/" + "/".join([*edges, "end"]), number)
    nodes = 2 ** (depth + 1) - 1
    Counted.looked_up = 0
    assert routes.find("GET", tuple(Counted("a") for _ in range(500))) is None
    assert Counted.looked_up == nodes


def test_a_long_path_costs_no_more_than_its_mask() -> None:
    routes = table("/a/:x")
    Counted.looked_up = 0
    match = routes.find("GET", tuple(Counted("a") for _ in range(10_000)))
    assert match is not None
    assert len(match.rest) == 9_998
    assert Counted.looked_up == 3


# ---- the model --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """One registration."""

    method: str
    mask: tuple[str, ...]
    argc: int | None
    route: int

    @property
    def key(self) -> tuple[str, tuple[str | None, ...]]:
        """Equal for masks that are the same."""
        return self.method, tuple(None if part.startswith(":") else part for part in self.mask)

    def matches(self, path: Sequence[str]) -> bool:
        left = len(path) - len(self.mask)
        named = zip(self.mask, path, strict=False)
        return (
            left >= 0
            and (self.argc is None or self.argc == left)
            and all(part.startswith(":") or part == segment for part, segment in named)
        )

    @property
    def rank(self) -> tuple[int, list[bool]]:
        """The smallest wins."""
        return -len(self.mask), [part.startswith(":") for part in self.mask]


def winner(rules: Sequence[Rule], method: str, path: tuple[str, ...]) -> Match[int] | None:
    latest = {rule.key: rule for rule in rules}
    found = [rule for rule in latest.values() if rule.method == method and rule.matches(path)]
    if not found:
        return None
    rule = min(found, key=lambda rule: rule.rank)
    named = {
        part[1:]: segment
        for part, segment in zip(rule.mask, path, strict=False)
        if part.startswith(":")
    }
    return Match(rule.route, named, path[len(rule.mask) :])


methods = st.sampled_from(["GET", "POST"])
masks = st.lists(st.sampled_from(["a", "b", ":x", ":y", ":"]), max_size=4).map(tuple)
paths = st.lists(st.sampled_from(["a", "b", "c", ":x"]), max_size=6).map(tuple)
rule_lists = st.lists(
    st.builds(Rule, methods, masks, st.none() | st.integers(0, 3), st.integers(0, 10**9)),
    max_size=14,
)


def registered(rules: Sequence[Rule]) -> Routes[int]:
    routes: Routes[int] = Routes()
    for rule in rules:
        routes.add(rule.method, "/" + "/".join(rule.mask), rule.route, rule.argc)
    return routes


@given(rule_lists, st.lists(paths, min_size=1, max_size=8))
def test_the_winner_is_that_of_a_naive_model(
    rules: list[Rule], requests: list[tuple[str, ...]]
) -> None:
    routes = registered(rules)
    for path in requests:
        for method in ("GET", "POST", "PUT"):
            assert routes.find(method, path) == winner(rules, method, path)
        expected = {m for m in ("GET", "POST") if winner(rules, m, path) is not None}
        assert routes.methods(path) == expected
    kept = {rule.key: rule for rule in rules}.values()
    assert sorted(routes) == sorted((rule.method, rule.route) for rule in kept)


@given(st.data(), rule_lists, st.lists(paths, min_size=1, max_size=8))
def test_the_order_of_registration_does_not_matter(
    data: st.DataObject, rules: list[Rule], requests: list[tuple[str, ...]]
) -> None:
    different = list({rule.key: rule for rule in rules}.values())
    routes = registered(different)
    shuffled = registered(data.draw(st.permutations(different)))
    for path in requests:
        for method in ("GET", "POST"):
            assert shuffled.find(method, path) == routes.find(method, path)


@given(rule_lists, st.lists(paths, min_size=1, max_size=8))
def test_argc_means_the_same_wherever_it_is_set(
    rules: list[Rule], requests: list[tuple[str, ...]]
) -> None:
    """With the mask, before it, or after it; one mask has one argc, whatever the method."""
    argc = {rule.key[1]: rule.argc for rule in rules}
    rules = [Rule(rule.method, rule.mask, argc[rule.key[1]], rule.route) for rule in rules]
    with_mask, before, after = registered(rules), Routes[int](), Routes[int]()
    for rule in rules:
        before.set_argc("/" + "/".join(rule.mask), rule.argc)
    for rule in rules:
        before.add(rule.method, "/" + "/".join(rule.mask), rule.route)
        after.add(rule.method, "/" + "/".join(rule.mask), rule.route)
    for rule in rules:
        after.set_argc("/" + "/".join(rule.mask), rule.argc)
    for path in requests:
        for method in ("GET", "POST"):
            expected = with_mask.find(method, path)
            assert before.find(method, path) == expected
            assert after.find(method, path) == expected
