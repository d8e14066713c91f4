"""Tokens in memory, and in a store that somebody wrote from the docstrings of the interface."""

from __future__ import annotations

import copy
import io
import json
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import quick_server
from quick_server import (
    DefaultTokenHandler,
    PreventDefaultResponse,
    TokenHandler,
    TokenObj,
    create_server,
    json_dumps,
)
from quick_server.tokens import Tokens
from tests.harness import PATIENCE
from tests.unit.fakes import Clock


class JsonTexts(TokenHandler):
    """Each token as JSON text: what is read is always a copy. The locks are as plain as can be."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.texts: dict[str, str] = {}
        self.deadlines: dict[str, float | None] = {}
        self.locks: dict[str, threading.Lock] = {}
        self.flushed = 0

    def lock(self, key: str) -> AbstractContextManager[Any]:
        return self.locks.setdefault(key, threading.Lock())

    def ttl(self, key: str) -> float | None:
        if key not in self.texts:
            return 0
        deadline = self.deadlines[key]
        return None if deadline is None else deadline - self.clock()

    def flush_old_tokens(self) -> None:
        self.flushed += 1
        now = self.clock()
        for key in [key for key, end in list(self.deadlines.items()) if end is not None and end <= now]:
            self.delete_token(key)

    def add_token(self, key: str, expire: float | None) -> dict[str, Any]:
        assert expire is None or expire > 0
        self.deadlines[key] = None if expire is None else self.clock() + expire
        found: dict[str, Any] = json.loads(self.texts.setdefault(key, "{}"))
        return found

    def put_token(self, key: str, obj: dict[str, Any]) -> None:
        assert self.locks[key].locked()
        if key in self.texts:
            self.texts[key] = json.dumps(obj)

    def delete_token(self, key: str) -> None:
        self.texts.pop(key, None)
        self.deadlines.pop(key, None)

    def get_tokens(self) -> list[str]:
        return list(self.texts)


class Bare:
    """The same for somebody who does not derive from anything, and closes nothing."""

    def __init__(self, clock: Callable[[], float]) -> None:
        inner = JsonTexts(clock)
        for name in "lock ttl flush_old_tokens add_token put_token delete_token get_tokens".split():
            setattr(self, name, getattr(inner, name))


@pytest.fixture(params=["memory", "texts", "bare"])
def tokens(request: pytest.FixtureRequest, clock: Clock) -> Tokens:
    """The server's methods for tokens, over each kind of store."""
    make: Any = {"memory": DefaultTokenHandler, "texts": JsonTexts, "bare": Bare}[request.param]
    return Tokens(make(clock=clock))


@pytest.fixture
def memory(clock: Clock) -> Tokens:
    return Tokens(DefaultTokenHandler(clock=clock))


@contextmanager
def in_threads(*functions: Callable[[], object]) -> Iterator[None]:
    """Runs functions at the same time; what one raises is raised at the end."""
    errors: list[BaseException] = []

    def run(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


# ---- what holds for any store -----------------------------------------------------------------------


def test_created_tokens_are_unguessable_and_there(tokens: Tokens) -> None:
    made = [tokens.create_token() for _ in range(20)]
    assert len(set(made)) == 20
    assert all(len(bytes.fromhex(token)) >= 16 for token in made)
    assert tokens.get_tokens() == made
    assert tokens.get_token_ttl(made[0]) == 3600
    assert tokens.get_token_obj(made[0]) == {}


def test_an_unknown_token_begins_to_be(tokens: Tokens) -> None:
    assert tokens.get_token_ttl("settings") == 0
    assert tokens.get_token_obj("settings", expire=None) == {}
    assert tokens.get_token_ttl("settings") is None
    assert tokens.get_tokens() == ["settings"]


def change_each_way(obj: TokenObj) -> None:
    """Every method of a dict that changes it, once."""
    obj["set"] = 1
    obj["deleted"] = 1
    del obj["deleted"]
    obj.update({"updated": 1}, more=2)
    obj.update([("pairs", 3)])
    obj |= {"merged": 4}
    obj |= [("more pairs", 5)]
    assert obj.setdefault("default", 6) == 6
    assert obj.setdefault("default", 7) == 6
    assert obj.setdefault("none") is None
    obj["popped"] = 8
    assert obj.pop("popped") == 8
    assert obj.pop("popped", None) is None
    obj["last"] = 9
    assert obj.popitem() == ("last", 9)
    for wrong in (lambda: obj.pop("nothing"), lambda: obj.__delitem__("nothing")):
        with pytest.raises(KeyError, match="nothing"):
            wrong()


CHANGED = {
    "set": 1,
    "updated": 1,
    "more": 2,
    "pairs": 3,
    "merged": 4,
    "more pairs": 5,
    "default": 6,
    "none": None,
}


def test_changes_stay_without_a_block(tokens: Tokens) -> None:
    obj = tokens.get_token_obj("a")
    change_each_way(obj)
    assert obj == CHANGED
    assert tokens.get_token_obj("a") == CHANGED
    obj.clear()
    assert tokens.get_token_obj("a") == {}
    with pytest.raises(KeyError):
        obj.popitem()


def test_changes_stay_in_a_block(tokens: Tokens) -> None:
    with tokens.get_token_obj("a") as obj:
        change_each_way(obj)
        assert obj == CHANGED
    assert tokens.get_token_obj("a") == CHANGED
    with obj:
        obj.clear()
        obj["list"] = []
    with tokens.get_token_obj("a") as obj:
        obj["list"].append({"x": 1})
        obj["list"][0]["x"] += 1
    assert tokens.get_token_obj("a") == {"list": [{"x": 2}]}


def test_changes_stay_when_a_block_fails(tokens: Tokens) -> None:
    def fail() -> None:
        with tokens.get_token_obj("a") as obj:
            obj["tried"] = True
            raise PreventDefaultResponse(403, "no")

    with pytest.raises(PreventDefaultResponse, match="403"):
        fail()
    assert tokens.get_token_obj("a") == {"tried": True}
    with tokens.get_token_obj("a") as obj:  # the lock was given back
        obj["again"] = True
    assert tokens.get_token_obj("a") == {"tried": True, "again": True}


def test_objects_of_one_token_see_each_other_in_blocks(tokens: Tokens) -> None:
    first, second = tokens.get_token_obj("a"), tokens.get_token_obj("a")
    first["n"] = 1
    with second:
        second["n"] += 1
        with first, second, tokens.get_token_obj("a") as third:
            third["n"] += 1
            assert tokens.get_token_obj("a")["n"] == 3
            first["m"] = 1
        assert second == {"n": 3, "m": 1}
        second["n"] += 1
        del second["m"]
    assert tokens.get_token_obj("a") == {"n": 4}


def test_a_change_beside_a_block_of_the_same_thread_stays(tokens: Tokens) -> None:
    beside = tokens.get_token_obj("a")
    with tokens.get_token_obj("a") as obj:
        beside["x"] = 1
        obj["y"] = 2
    assert tokens.get_token_obj("a") == {"x": 1, "y": 2}


def test_no_count_is_lost_between_threads(tokens: Tokens) -> None:
    shared = tokens.get_token_obj("a")
    shared["n"] = 0

    def count_shared() -> None:
        for _ in range(1000):
            with shared:
                shared["n"] += 1

    def count_own() -> None:
        for _ in range(1000):
            with tokens.get_token_obj("a") as obj:
                obj["n"] += 1

    with in_threads(count_shared, count_own, count_shared, count_own):
        pass
    assert tokens.get_token_obj("a") == {"n": 4000}


def test_threads_do_not_undo_each_others_fields(tokens: Tokens) -> None:
    def write(field: str) -> None:
        obj = tokens.get_token_obj("a")
        for number in range(300):
            obj[field] = number

    with in_threads(*[lambda field=field: write(field) for field in "wxyz"]):
        pass
    assert tokens.get_token_obj("a") == dict.fromkeys("wxyz", 299)


def test_a_block_keeps_out_others_of_its_token_only(tokens: Tokens) -> None:
    inside, entered = threading.Event(), threading.Event()

    def enter(token: str) -> None:
        with tokens.get_token_obj(token):
            pass

    def wait_for_it() -> None:
        inside.wait(PATIENCE)
        with tokens.get_token_obj("a") as obj:
            entered.set()
            assert obj["done"]

    with in_threads(wait_for_it), tokens.get_token_obj("a") as obj:
        inside.set()
        with in_threads(lambda: enter("b")):
            pass  # another thread had no need to wait
        assert not entered.wait(0.05)
        assert tokens.get_token_obj("a", readonly=True) == {}
        obj["done"] = True
    assert entered.is_set()


def test_a_readonly_copy_waits_for_nobody_and_changes_nothing(tokens: Tokens) -> None:
    tokens.get_token_obj("a")["list"] = [[1]]
    with tokens.get_token_obj("a"):
        seen: list[dict[str, Any]] = []
        with in_threads(lambda: seen.append(tokens.get_token_obj("a", readonly=True))):
            pass
        assert seen == [{"list": [[1]]}]
    with tokens.get_token_obj("a", readonly=True) as obj:
        obj["list"][0].append(2)
        obj["new"] = 1
    assert tokens.get_token_obj("a") == {"list": [[1]]}


def test_each_call_renews(tokens: Tokens, clock: Clock) -> None:
    tokens.get_token_obj("a", expire=10)["x"] = 1
    for _ in range(5):
        clock.advance(6)
        assert tokens.get_token_obj("a", expire=10, readonly=True) == {"x": 1}
    assert tokens.get_token_ttl("a") == 10
    tokens.get_token_obj("a", expire=2)
    assert tokens.get_token_ttl("a") == 2
    tokens.get_token_obj("a", expire=None)
    assert tokens.get_token_ttl("a") is None
    clock.advance(1e9)
    assert tokens.get_token_obj("a") == {"x": 1}
    assert tokens.get_token_ttl("a") == 3600
    clock.advance(3600)
    assert tokens.get_token_ttl("a") == 0
    assert tokens.get_tokens() == []
    assert tokens.get_token_obj("a") == {}


def test_changes_do_not_renew(tokens: Tokens, clock: Clock) -> None:
    obj = tokens.get_token_obj("a", expire=10)
    clock.advance(4)
    obj["x"] = 1
    with obj:
        obj["y"] = 1
    assert tokens.get_token_ttl("a") == 6
    assert tokens.get_token_obj("a", readonly=True) == {"x": 1, "y": 1}


@pytest.mark.parametrize("expire", [0, -1, float("-inf")])
def test_nothing_left_to_live_frees(tokens: Tokens, expire: float) -> None:
    tokens.get_token_obj("a")["x"] = 1
    with tokens.get_token_obj("a", expire=expire) as obj:
        assert obj == {}
        obj["y"] = 1
    assert tokens.get_tokens() == []
    assert tokens.get_token_obj("b", expire=expire, readonly=True) == {}
    assert tokens.get_token_obj("a") == {}


def test_what_is_done_to_a_token_that_is_gone_goes_nowhere(tokens: Tokens, clock: Clock) -> None:
    obj = tokens.get_token_obj("a", expire=5)
    obj["x"] = 1
    clock.advance(5)
    tokens.get_tokens()
    obj["y"] = 1
    with obj:
        obj["z"] = 1
    assert tokens.get_tokens() == []
    with tokens.get_token_obj("b", expire=5) as obj:
        clock.advance(5)
        assert tokens.get_token_ttl("b") == 0
        obj["x"] = 1
    assert tokens.get_tokens() == []


def test_the_default_expiration(tokens: Tokens) -> None:
    assert tokens.get_default_token_expiration() == 3600
    tokens.set_default_token_expiration(5)
    assert tokens.get_default_token_expiration() == 5
    assert tokens.get_token_ttl(tokens.create_token()) == 5
    tokens.get_token_obj("a")
    assert tokens.get_token_ttl("a") == 5
    tokens.set_default_token_expiration(None)
    tokens.get_token_obj("a")
    assert tokens.get_token_ttl("a") is None
    tokens.get_token_obj("b", expire=float("inf"))
    assert tokens.get_token_ttl("b") is None
    with pytest.raises(ValueError, match="nan"):
        tokens.get_token_obj("a", expire=float("nan"))


@pytest.mark.parametrize("token", [None, 7, True, 1.5, [], {}, ["a"], b"a", "", "a" * 201])
def test_what_cannot_be_a_token_is_bad_input(tokens: Tokens, token: Any) -> None:
    for ask in (tokens.get_token_obj, tokens.get_token_ttl):
        with pytest.raises(PreventDefaultResponse) as raised:
            ask(token)
        assert (raised.value.code, raised.value.message) == (400, "that is not a token")
    assert tokens.get_tokens() == []


@pytest.mark.parametrize("token", ["a" * 200, "\0", "\ud800", "ä \n", "😀" * 200])
def test_anything_else_can_be_one(tokens: Tokens, token: str) -> None:
    tokens.get_token_obj(token)["x"] = 1
    assert tokens.get_token_obj(token) == {"x": 1}
    assert tokens.get_tokens() == [token]


def test_copies_are_plain(tokens: Tokens) -> None:
    obj = tokens.get_token_obj("a")
    obj["x"] = [1]
    for other in (copy.copy(obj), copy.deepcopy(obj), pickle.loads(pickle.dumps(obj)), obj | {}):
        assert type(other) is dict
        assert other == {"x": [1]}
    assert copy.deepcopy(obj)["x"] is not obj["x"]
    assert json_dumps(obj) == '{"x":[1]}'


# ---- in memory --------------------------------------------------------------------------------------


def test_the_object_is_the_same_for_all(memory: Tokens) -> None:
    obj = memory.get_token_obj("a")
    assert memory.get_token_obj("a") is obj
    obj["list"] = []
    obj["list"].append(1)  # so that changes of nested values stay too
    assert memory.get_token_obj("a", readonly=True) == {"list": [1]}


def test_a_copy_of_what_is_changing_all_the_time(memory: Tokens) -> None:
    inner: dict[int, int] = {}
    memory.get_token_obj("a")["inner"] = inner
    is_over = threading.Event()

    def change() -> None:
        while not is_over.is_set():
            inner.clear()
            for number in range(500):
                inner.setdefault(number, number)

    with in_threads(change):
        try:
            for _ in range(200):
                assert len(memory.get_token_obj("a", readonly=True)["inner"]) <= 500
        finally:
            is_over.set()


def test_when_it_is_full_the_longest_unused_one_goes(clock: Clock, log: io.StringIO) -> None:
    tokens = Tokens(DefaultTokenHandler(max_tokens=3, clock=clock))
    for name in "abc":
        tokens.get_token_obj(name, expire=None)
    tokens.get_token_obj("a", readonly=True)
    tokens.get_token_ttl("b")  # asking for that is no use of it
    assert log.getvalue() == ""
    tokens.get_token_obj("d")
    assert tokens.get_tokens() == ["c", "a", "d"]
    for number in range(100):
        tokens.get_token_obj(str(number))
    assert tokens.get_tokens() == ["97", "98", "99"]
    assert log.getvalue().count("\n") == 1
    assert "there are 3 tokens" in log.getvalue()


def test_expired_ones_make_room_first(clock: Clock, log: io.StringIO) -> None:
    tokens = Tokens(DefaultTokenHandler(2, clock))
    tokens.get_token_obj("old")
    tokens.get_token_obj("short", expire=1)
    clock.advance(1)
    tokens.get_token_obj("new")
    assert tokens.get_tokens() == ["old", "new"]
    assert log.getvalue() == ""
    with pytest.raises(ValueError, match="at least one"):
        DefaultTokenHandler(0)


def test_there_is_a_bound_unless_told_otherwise() -> None:
    tokens = Tokens(DefaultTokenHandler())
    handler: Any = tokens._token_handler
    assert handler._most == 100_000


@pytest.mark.parametrize(
    "expire",
    [
        lambda n: 3600,
        lambda n: 1e6 - n,  # each is due before the one before
        lambda n: 3600 if n % 2 else 5,
        lambda n: None if n % 2 else 3600 - n / 1000,
    ],
)
def test_renewing_leaves_nothing_behind(memory: Tokens, expire: Any) -> None:
    handler: Any = memory._token_handler
    memory.get_token_obj("other", expire=7200)
    for number in range(50_000):
        handler.add_token("a", expire(number))
    assert len(handler._queue) < 100


def test_tokens_that_come_and_go_leave_nothing_behind(memory: Tokens) -> None:
    handler: Any = memory._token_handler
    for number in range(20_000):
        memory.get_token_obj(str(number))
        memory.get_token_obj(str(number), expire=0)
    assert len(handler._queue) < 100
    assert len(handler._locks._locks) == 0


def test_expiring_takes_no_look_at_the_others(memory: Tokens, clock: Clock) -> None:
    handler: Any = memory._token_handler
    for number in range(5000):
        handler.add_token(str(number), 3600 + number)
    popped = len(handler._queue)
    clock.advance(3605)
    memory.get_token_ttl("9")
    assert popped - len(handler._queue) == 6


def test_put_token_takes_the_content_over(memory: Tokens) -> None:
    handler = memory._token_handler
    obj = memory.get_token_obj("a")
    obj["x"] = 1
    handler.put_token("a", obj)
    assert obj == {"x": 1}
    handler.put_token("a", {"y": 2})
    assert obj == {"y": 2}
    handler.put_token("b", {"y": 2})
    assert memory.get_tokens() == ["a"]


def test_a_lock_is_the_same_before_and_after(memory: Tokens) -> None:
    """Whoever is in a block of a token that went and came again keeps the others out still."""
    with memory.get_token_obj("a"):
        memory.get_token_obj("a", expire=0)
        entered = threading.Event()

        def enter() -> None:
            with memory.get_token_obj("a"):
                entered.set()

        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.05)
    thread.join(PATIENCE)
    assert entered.is_set()


# ---- the server -------------------------------------------------------------------------------------


class Closing(DefaultTokenHandler):
    closed = 0

    def close(self) -> None:
        self.closed += 1
        raise OSError("cannot")


def test_the_server_has_the_methods_and_closes_the_store(log: io.StringIO) -> None:
    handler = Closing()
    server = create_server(("127.0.0.1", 0), True, None, handler, None, False)
    token = server.create_token()
    assert handler.get_tokens() == server.get_tokens() == [token]
    server.server_close()
    server.server_close()
    assert handler.closed == 1
    assert "the store of tokens could not be closed" in log.getvalue()
    bare: Any = Bare(Clock())
    server = create_server(("127.0.0.1", 0), token_handler=bare)
    server.create_token()
    server.server_close()


def test_servers_have_tokens_of_their_own() -> None:
    servers = [create_server(("127.0.0.1", 0)) for _ in range(2)]
    try:
        token = servers[0].create_token()
        assert [server.get_tokens() for server in servers] == [[token], []]
    finally:
        for server in servers:
            server.server_close()


# ---- any order of calls -----------------------------------------------------------------------------

MOST = 4
NAMES = list("abcdef")


class Known:
    """A token, as the model knows it."""

    def __init__(self, deadline: float | None) -> None:
        self.deadline = deadline
        self.content: dict[str, Any] = {}


class Machine(RuleBasedStateMachine):
    """The store in memory beside a model that looks at all tokens each time."""

    def __init__(self) -> None:
        super().__init__()
        self.log = io.StringIO()
        quick_server.set_log_file(self.log)
        self.clock = Clock()
        self.handler = DefaultTokenHandler(MOST, self.clock)
        self.tokens = Tokens(self.handler)
        self.known: OrderedDict[str, Known] = OrderedDict()
        self.objects: list[tuple[TokenObj, Known]] = []
        self.was_full = False

    def teardown(self) -> None:
        quick_server.set_log_file(None)

    def model(self) -> OrderedDict[str, Known]:
        now = self.clock.now
        for name, known in list(self.known.items()):
            if known.deadline is not None and known.deadline <= now:
                del self.known[name]
        return self.known

    @rule(
        name=st.sampled_from(NAMES),
        expire=st.sampled_from([None, 0, -1, 1, 2, 3, 5, 8, 8, 13]),
        readonly=st.booleans(),
    )
    def get(self, name: str, expire: float | None, readonly: bool) -> None:
        obj = self.tokens.get_token_obj(name, expire, readonly)
        model = self.model()
        if expire is not None and expire <= 0:
            model.pop(name, None)
            assert obj == {}
            return
        if name not in model and len(model) == MOST:
            model.popitem(last=False)
            self.was_full = True
        known = model.setdefault(name, Known(None))
        model.move_to_end(name)
        known.deadline = None if expire is None else self.clock.now + expire
        assert obj == known.content
        if readonly:
            obj["changed"] = True
        else:
            self.objects.append((obj, known))

    @precondition(lambda self: self.objects)
    @rule(data=st.data(), value=st.integers(0, 3), in_block=st.booleans())
    def change(self, data: st.DataObject, value: int, in_block: bool) -> None:
        obj, known = data.draw(st.sampled_from(self.objects))
        with obj if in_block else TokenObj():
            obj["value"] = value
        known.content["value"] = value

    @rule(seconds=st.sampled_from([0.5, 1, 2, 3, 5, 20]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        model = self.model()
        assert self.tokens.get_tokens() == list(model)
        for name in NAMES:
            expected: float | None = 0
            if name in model:
                deadline = model[name].deadline
                expected = None if deadline is None else deadline - self.clock.now
            assert self.tokens.get_token_ttl(name) == expected
        assert len(self.handler._queue) <= 2 * MOST + 65
        assert self.log.getvalue().count("\n") == self.was_full


TestAnyOrder: Any = Machine.TestCase
TestAnyOrder.settings = settings(max_examples=100, stateful_step_count=40)
