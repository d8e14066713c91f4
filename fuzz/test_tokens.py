"""Two servers on one store of tokens, beside a model that is a plain dict.

The store in memory, time and its bound are tried in tests/unit/test_tokens.py; here are stores that
hand out copies: whoever changes a field changes that field, for all, and nothing else.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from fuzz.profile import examples
from quick_server import DefaultTokenHandler, TokenHandler, TokenObj
from quick_server.tokens import Tokens
from tests.integration.redisserver import RedisServer
from tests.unit.fakes import Clock
from tests.unit.test_tokens import JsonTexts

pytestmark = pytest.mark.timeout(0)

NAMES = ["a", "b", "\u00e4:*{}\n\x00", "x" * 200]
FIELDS = ["n", "list", "\u00fc."]
LONG = 3600.0
values = (
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.lists(st.integers(0, 3))
)


class BlockError(Exception):
    """What handlers raise."""


class Held:
    """An object that a handler has got, and of which token."""

    def __init__(self, name: str, obj: TokenObj) -> None:
        self.name = name
        self.obj = obj


class SharedTokens(RuleBasedStateMachine):
    """Two servers with one store, in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.contents: dict[str, dict[str, Any]] = {}
        self.lives: dict[str, float | None] = {}
        self.held: list[Held] = []

    def make_stores(self) -> list[TokenHandler]:
        return [DefaultTokenHandler()] * 2

    @initialize()
    def begin(self) -> None:
        self.servers = [Tokens(store) for store in self.make_stores()]

    @rule(
        server=st.integers(0, 1), name=st.sampled_from(NAMES), life=st.sampled_from([None, LONG, 0.0])
    )
    def get(self, server: int, name: str, life: float | None) -> None:
        obj = self.servers[server].get_token_obj(name, life)
        if life == 0:
            self.contents.pop(name, None)
            assert obj == {}
            return
        if name not in self.contents:  # what is held of an earlier token of that name is another one's
            self.held = [held for held in self.held if held.name != name]
        assert obj == self.contents.setdefault(name, {})
        self.lives[name] = life
        self.held.append(Held(name, obj))

    @rule(server=st.integers(0, 1), name=st.sampled_from(NAMES))
    def look(self, server: int, name: str) -> None:
        if name not in self.contents:
            assert self.servers[server].get_token_ttl(name) == 0
            return
        obj = self.servers[server].get_token_obj(name, self.lives[name], readonly=True)
        assert obj == self.contents[name]
        obj["changed"] = "in vain"

    @precondition(lambda self: self.held)
    @rule(
        data=st.data(),
        field=st.sampled_from(FIELDS),
        value=values,
        how=st.sampled_from(["set", "delete", "update", "clear", "append", "nested"]),
    )
    def change_in_block(self, data: st.DataObject, field: str, value: Any, how: str) -> None:
        held = data.draw(st.sampled_from(self.held))
        content = self.contents.get(held.name)
        with held.obj as obj:
            if content is not None:
                assert obj == content
            self.change(obj, field, value, how)
            if how == "nested":
                with held.obj as same:
                    same["deep"] = value
        if content is not None:
            self.change(content, field, deepcopy(value), how)
            if how == "nested":
                content["deep"] = deepcopy(value)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), field=st.sampled_from(FIELDS), value=values)
    def change_a_field(self, data: st.DataObject, field: str, value: Any) -> None:
        held = data.draw(st.sampled_from(self.held))
        held.obj[field] = value
        if held.name in self.contents:
            self.contents[held.name][field] = deepcopy(value)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), field=st.sampled_from(FIELDS))
    def fail_in_block(self, data: st.DataObject, field: str) -> None:
        """What was changed before stays."""
        held = data.draw(st.sampled_from(self.held))
        try:
            with held.obj as obj:
                obj[field] = "before"
                raise BlockError
        except BlockError:
            pass
        if held.name in self.contents:
            self.contents[held.name][field] = "before"

    @staticmethod
    def change(content: dict[str, Any], field: str, value: Any, how: str) -> None:
        if how == "set":
            content[field] = value
        elif how == "delete":
            content.pop(field, None)
        elif how == "update":
            content.update({field: value, "other": 1})
        elif how == "clear":
            content.clear()
        elif how == "append" and isinstance(content.setdefault("list", []), list):
            content["list"].append(value)

    @invariant()
    def both_know_the_same(self) -> None:
        for server in getattr(self, "servers", ()):
            assert set(server.get_tokens()) == set(self.contents)
            for name in self.contents:
                left = server.get_token_ttl(name)
                assert left is None if self.lives[name] is None else 0 < (left or 0) <= LONG


class SharedTexts(SharedTokens):
    """The same, in a store that somebody wrote from the docstrings."""

    def make_stores(self) -> list[TokenHandler]:
        return [JsonTexts(Clock())] * 2


class SharedRedis(SharedTokens):
    """The same, in Redis, with a connection for each server."""

    redis: RedisServer

    def make_stores(self) -> list[TokenHandler]:
        self.redis.client.flushall()
        return [self.redis.handler(), self.redis.handler()]

    def teardown(self) -> None:
        for server in getattr(self, "servers", ()):
            server._close_tokens()


@pytest.fixture(scope="module", autouse=True)
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if shutil.which("redis-server") is None:
        yield
        return
    SharedRedis.redis = RedisServer(Path(tmp_path_factory.mktemp("redis")))
    yield
    SharedRedis.redis.dispose()


TestSharedTokens: Any = SharedTokens.TestCase
TestSharedTokens.settings = settings(examples(0.2), stateful_step_count=30)
TestSharedTexts: Any = SharedTexts.TestCase
TestSharedTexts.settings = settings(examples(0.2), stateful_step_count=30)
TestSharedRedis: Any = pytest.mark.skipif(shutil.which("redis-server") is None, reason="no Redis")(
    SharedRedis.TestCase
)
TestSharedRedis.settings = settings(examples(0.1), stateful_step_count=20)
