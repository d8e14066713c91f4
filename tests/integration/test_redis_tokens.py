"""Tokens in a real Redis: what is written when, locks, and a Redis that goes away."""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from quick_server import PreventDefaultResponse, RedisTokenHandler
from quick_server.tokens import Tokens
from quick_server.workers import WorkerDeath
from tests.harness import PATIENCE
from tests.integration.logs import Log
from tests.integration.redisserver import RedisServer
from tests.integration.scripts import Script
from tests.unit.test_key_locks import in_a_fork, is_free, job_dies
from tests.unit.test_tokens import CHANGED, change_each_way, in_threads


@pytest.fixture
def server(tmp_path: Path, log: Log) -> Iterator[RedisServer]:
    found = RedisServer(tmp_path)
    yield found
    found.dispose()


@pytest.fixture
def tokens(server: RedisServer) -> Tokens:
    return Tokens(server.handler())


@pytest.fixture
def others(server: RedisServer) -> Tokens:
    """The same tokens, for another server."""
    return Tokens(server.handler())


def hash_of(server: RedisServer, token: str) -> dict[bytes, bytes]:
    found: Any = server.client.hgetall(f"quick_server:token:{token}")
    return {field: text for field, text in found.items() if field != b"\xff"}


def wait_until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def refused(within: float = PATIENCE) -> Iterator[pytest.ExceptionInfo[PreventDefaultResponse]]:
    """What is done in it ends with a 503, soon."""
    start = time.monotonic()
    with pytest.raises(PreventDefaultResponse) as raised:
        yield raised
    assert raised.value.code == 503
    assert time.monotonic() - start < within


# ---- what is written --------------------------------------------------------------------------------


def test_tokens_are_shared(tokens: Tokens, others: Tokens) -> None:
    token = tokens.create_token()
    assert others.get_tokens() == [token]
    assert 3590 < (others.get_token_ttl(token) or 0) <= 3600
    tokens.get_token_obj(token)["user"] = "ada"
    assert others.get_token_obj(token) == {"user": "ada"}
    assert others.get_token_obj(token, expire=0) == {}
    assert tokens.get_tokens() == []
    assert tokens.get_token_ttl(token) == 0


def test_each_change_is_written(tokens: Tokens, others: Tokens) -> None:
    obj = tokens.get_token_obj("a")
    change_each_way(obj)
    assert obj == others.get_token_obj("a") == CHANGED
    obj.clear()
    assert others.get_token_obj("a") == {}
    with tokens.get_token_obj("a") as obj:
        change_each_way(obj)
        obj["deep"] = {"list": [1]}
        obj["deep"]["list"].append(2)
        assert others.get_token_obj("a", readonly=True) == {}  # all at once, at the end
    expected = {**CHANGED, "deep": {"list": [1, 2]}}
    assert others.get_token_obj("a") == expected
    with others.get_token_obj("a") as obj:
        del obj["deep"]["list"][0]
    with tokens.get_token_obj("a") as obj:
        obj.clear()
        obj["x"] = 1
    assert others.get_token_obj("a") == {"x": 1}


def test_a_field_is_json_in_a_hash(server: RedisServer, tokens: Tokens) -> None:
    tokens.get_token_obj("a").update({"n": 1, "ä": ["é", None], "": {"x": 1.5}})
    stored = {field.decode(): json.loads(text) for field, text in hash_of(server, "a").items()}
    assert stored == {"n": 1, "ä": ["é", None], "": {"x": 1.5}}


def test_a_block_writes_what_it_has_changed_and_nothing_else(tokens: Tokens, others: Tokens) -> None:
    tokens.get_token_obj("a").update(mine=1, list=[1], both=1, gone=1)
    beside = others.get_token_obj("a")
    with tokens.get_token_obj("a") as obj:
        obj["mine"] += 1
        beside["list"] = [2]
        beside["new"] = 1
        del beside["gone"]
        obj["both"] = 2
    assert others.get_token_obj("a") == {"mine": 2, "list": [2], "both": 2, "new": 1}


def test_a_block_sees_what_others_have_written(tokens: Tokens, others: Tokens) -> None:
    obj = tokens.get_token_obj("a")
    obj["old"] = 1
    others.get_token_obj("a")["n"] = 1
    others.get_token_obj("a").pop("old")
    assert obj == {"old": 1}
    with obj:
        assert obj == {"n": 1}


def test_values_come_back_as_they_were(tokens: Tokens, others: Tokens) -> None:
    values = {
        "f": 1.0,
        "i": 2**70,
        "b": True,
        "s": "\ud800",
        "inf": math.inf,
        "none": None,
        "\udfff": 1,
    }
    tokens.get_token_obj("a").update(values)
    assert others.get_token_obj("a") == values
    assert type(others.get_token_obj("a")["f"]) is float
    tokens.get_token_obj("a")["nan"] = math.nan
    assert math.isnan(others.get_token_obj("a")["nan"])


@pytest.mark.parametrize("token", ["\ud800", "a*", "[a]?", "\\", "\0\r\n", "ä" * 200])
def test_any_text_can_be_a_token(tokens: Tokens, token: str) -> None:
    tokens.get_token_obj(token)["x"] = 1
    with tokens.get_token_obj(token) as obj:
        obj["x"] += 1
    assert tokens.get_token_obj(token) == {"x": 2}
    assert tokens.get_tokens() == [token]


class Thing:
    """Nothing that JSON knows."""


def itself() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize("value", [Thing(), {1, 2}, b"a", itself(), [[{"x": object()}]]])
def test_what_json_cannot_hold_is_a_type_error(tokens: Tokens, others: Tokens, value: Any) -> None:
    obj = tokens.get_token_obj("a")
    obj["fine"] = 1
    with pytest.raises(TypeError, match="the field 'bad' of a token cannot be JSON"):
        obj["bad"] = value
    assert obj == {"fine": 1}

    def change_more() -> None:
        with tokens.get_token_obj("a") as inside:
            inside["fine"] = 2
            inside["bad"] = value

    with pytest.raises(TypeError, match="'bad'"):
        change_more()
    with others.get_token_obj("a") as obj:  # all or nothing; and the lock was given back
        assert obj == {"fine": 1}
    not_str: Any = {7: 1}
    with pytest.raises(TypeError, match="have to be str, not 7"):
        obj.update(not_str)


def test_tokens_expire(server: RedisServer, tokens: Tokens, others: Tokens) -> None:
    obj = tokens.get_token_obj("a", expire=0.05)
    obj["x"] = 1
    wait_until(lambda: others.get_token_ttl("a") == 0)
    obj["y"] = 1
    with obj:
        obj["z"] = 1
    assert server.client.keys("*") == []
    tokens.get_token_obj("a", expire=0.05)
    tokens.get_token_obj("a", expire=None)["x"] = 1
    assert others.get_token_ttl("a") is None
    assert others.get_token_obj("a", expire=1e30) == {"x": 1}
    assert (others.get_token_ttl("a") or 0) > 1e9
    others.get_token_obj("a", expire=1e-9)
    wait_until(lambda: tokens.get_tokens() == [])


def test_put_token_replaces_what_is_there(server: RedisServer, tokens: Tokens) -> None:
    handler = server.handler()
    tokens.get_token_obj("a", expire=100)["x"] = 1
    handler.put_token("a", {"y": [2]})
    assert tokens.get_token_obj("a", readonly=True, expire=50) == {"y": [2]}
    handler.put_token("a", {})
    assert tokens.get_tokens() == ["a"]
    assert 0 < (tokens.get_token_ttl("a") or 0) <= 50
    handler.put_token("b", {"x": 1})
    assert tokens.get_tokens() == ["a"]


def test_keys_of_others_among_ours_are_left_out(server: RedisServer, tokens: Tokens) -> None:
    tokens.get_token_obj("a")
    server.client.hset(b"quick_server:token:\xe4", "x", "1")
    assert tokens.get_tokens() == ["a"]


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        (b"x", b"{", "the field 'x' is not JSON"),
        (b"x", b"\xe4", "the field 'x' is not JSON"),
        (b"\xe4", b"1", r"the name of a field is not UTF-8: b'\xe4'"),
        (b"x", b"[" * 100_000, "recursion"),
    ],
)
def test_what_somebody_else_has_written_is_said(
    server: RedisServer, tokens: Tokens, log: Log, field: bytes, text: bytes, said: str
) -> None:
    obj = tokens.get_token_obj("a")
    server.client.hset(b"quick_server:token:a", field, text)
    for _ in range(3):
        with refused():
            tokens.get_token_obj("a")
        with refused(), obj:
            pass
    assert log.text.count("\n") == 1
    assert "what Redis has for a token is none: " in log.text
    assert said in log.text
    server.client.hdel("quick_server:token:a", field)
    with tokens.get_token_obj("a") as obj:
        obj["x"] = 1


def test_prefixes_keep_servers_apart(server: RedisServer) -> None:
    handlers = [RedisTokenHandler(server.url, prefix) for prefix in ("a*", "ab", "a[b]", "")]
    try:
        for number, handler in enumerate(handlers):
            Tokens(handler).get_token_obj(f"{number}")["x"] = number
        with Tokens(handlers[0]).get_token_obj("0"):  # locks are no tokens
            found = [handler.get_tokens() for handler in handlers]
        assert found == [["0"], ["1"], ["2"], ["3"]]
    finally:
        for handler in handlers:
            handler.close()


def test_many_tokens_are_listed_once_each(tokens: Tokens) -> None:
    made = [tokens.create_token() for _ in range(2500)]
    assert sorted(tokens.get_tokens()) == sorted(made)


@pytest.mark.parametrize("decode", [False, True])
def test_a_client_tells_the_way(server: RedisServer, tokens: Tokens, decode: bool) -> None:
    with redis.Redis(unix_socket_path=str(server.socket), decode_responses=decode, db=1) as client:
        handler = RedisTokenHandler(client, timeout=0.2)
        own = Tokens(handler)
        own.get_token_obj("a")["x"] = ["ä"]
        with own.get_token_obj("a") as obj:
            assert obj == {"x": ["ä"]}
        assert own.get_tokens() == ["a"]
        assert tokens.get_tokens() == []  # that is another database
        server.stand_still()
        with refused(within=1):
            own.create_token()
        handler.close()
        server.go_on()
        assert client.ping()


def test_another_kind_of_client_is_used_as_it_is(server: RedisServer) -> None:
    class Pool(redis.ConnectionPool):
        """As that of a sentinel: it needs more to be made than its options."""

    pool = Pool(
        connection_class=redis.UnixDomainSocketConnection,
        path=str(server.socket),
        decode_responses=True,
    )
    with redis.Redis(connection_pool=pool) as client:
        handler = RedisTokenHandler(client)
        Tokens(handler).get_token_obj("a")["x"] = "ä"
        handler.close()
        assert Tokens(handler).get_token_obj("a") == {"x": "ä"}
    pool.disconnect()


# ---- locks ------------------------------------------------------------------------------------------


def test_no_count_is_lost_between_servers(tokens: Tokens, others: Tokens) -> None:
    def count(where: Tokens) -> None:
        for _ in range(250):
            with where.get_token_obj("a") as obj:
                obj["n"] = obj.get("n", 0) + 1

    with in_threads(*[lambda where=where: count(where) for where in (tokens, tokens, others, others)]):
        pass
    assert tokens.get_token_obj("a") == {"n": 1000}


def test_a_block_keeps_out_others_of_its_token_only(tokens: Tokens, others: Tokens) -> None:
    entered = threading.Event()

    def enter() -> None:
        with others.get_token_obj("a") as obj:
            entered.set()
            assert obj == {"n": 2}

    with tokens.get_token_obj("a") as first:
        first["n"] = 1
        with first, tokens.get_token_obj("a") as again:
            again["n"] += 1
        with others.get_token_obj("b"):
            pass
        thread = threading.Thread(target=enter)
        thread.start()
        assert not entered.wait(0.1)
    thread.join(PATIENCE)
    assert entered.is_set()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_block_is_waited_for_only_so_long(server: RedisServer, elsewhere: bool) -> None:
    handler = server.handler(lock_timeout=0.2)
    holder = Tokens(server.handler() if elsewhere else handler)

    def wait() -> None:
        with refused() as raised, Tokens(handler).get_token_obj("a"):
            pass
        assert raised.value.message == "the token is in use for too long"

    with holder.get_token_obj("a"), in_threads(wait):
        pass
    with Tokens(handler).get_token_obj("a") as obj:
        obj["x"] = 1


def test_a_long_block_keeps_its_lock(server: RedisServer, others: Tokens) -> None:
    handler = server.handler(lease=0.5)
    lock = "quick_server:lock:a"
    with Tokens(handler).get_token_obj("a") as obj:
        owner = server.client.get(lock)
        end = time.monotonic() + 1.3  # more than two leases
        while time.monotonic() < end:
            assert server.client.get(lock) == owner
            time.sleep(0.005)
        obj["x"] = 1
    assert server.client.get(lock) is None
    assert others.get_token_obj("a") == {"x": 1}
    wait_until(
        lambda: not any(thread.name == "quick_server leases" for thread in threading.enumerate())
    )
    with Tokens(handler).get_token_obj("a"):
        assert any(thread.name == "quick_server leases" for thread in threading.enumerate())


def test_a_server_that_closes_leaves_the_locks_of_others(server: RedisServer, others: Tokens) -> None:
    handler = server.handler(lease=0.3)
    with Tokens(handler).get_token_obj("a") as obj:
        owner = server.client.get("quick_server:lock:a")
        handler.close()  # as the server does
        end = time.monotonic() + 0.7
        while time.monotonic() < end:
            assert server.client.get("quick_server:lock:a") == owner
            time.sleep(0.005)
        obj["x"] = 1
    assert others.get_token_obj("a") == {"x": 1}
    handler.close()
    assert not any(thread.name == "quick_server leases" for thread in threading.enumerate())


def test_a_block_that_lost_its_lock_writes_nothing(
    server: RedisServer, tokens: Tokens, others: Tokens, log: Log
) -> None:
    lock = "quick_server:lock:a"
    tokens.get_token_obj("a").update(n=1, other=1)
    block = ExitStack()
    obj = block.enter_context(tokens.get_token_obj("a"))
    obj["n"] += 10
    del obj["other"]
    server.client.set(lock, "another's")  # as if this had stood still for too long
    with refused() as raised:
        block.close()
    assert raised.value.message == "another request has changed the token meanwhile"
    assert log.text.count("a lock was lost: 2 changes of a token are not kept") == 1
    assert others.get_token_obj("a") == {"n": 1, "other": 1}
    assert server.client.get(lock) == b"another's"  # and is not released


def test_a_busy_server_keeps_no_other_waiting(server: RedisServer) -> None:
    """Its threads come one after the other; so the others' turn is between two of them."""
    busy, other, third = [Tokens(server.handler()) for _ in range(3)]
    done = threading.Event()
    counts = [0, 0, 0]

    def use(where: Tokens, number: int, least: int) -> None:
        while counts[number] < least or (number == 0 and not done.is_set()):
            with where.get_token_obj("a"):
                time.sleep(0.01)
            counts[number] += 1

    def be_busy() -> None:
        use(busy, 0, 1)

    def wait() -> None:
        with in_threads(lambda: use(other, 1, 5), lambda: use(third, 2, 5)):
            pass
        done.set()

    with in_threads(be_busy, be_busy, be_busy, wait):
        pass
    assert counts[1:] == [5, 5]
    assert counts[0] < 40  # as many as fit beside ten of others
    assert server.client.keys("*") == [b"quick_server:token:a"]


def test_who_gives_up_or_dies_in_line_holds_nobody_up(server: RedisServer) -> None:
    holder, hasty, patient = [
        Tokens(server.handler(lock_timeout=patience)) for patience in (PATIENCE, 0.05, PATIENCE)
    ]
    with holder.get_token_obj("a"):
        with refused(), hasty.get_token_obj("a"):
            pass
        assert server.client.keys("*line*") == server.client.keys("*waiter*") == []
        server.client.rpush("quick_server:line:a", "somebody who has died")
    with patient.get_token_obj("a"):
        assert server.client.keys("*line*") == []


HOLDER = """\
import sys
from quick_server import RedisTokenHandler, create_server

server = create_server(("127.0.0.1", 0), token_handler=RedisTokenHandler(sys.argv[1], lease=1))
with server.get_token_obj("a") as obj:
    obj["x"] = 1
    print("inside", flush=True)
    sys.stdin.read() or __import__("time").sleep(60)
"""


def test_the_lock_of_a_server_that_dies_is_free_soon(
    server: RedisServer, tokens: Tokens, tmp_path: Path
) -> None:
    (tmp_path / "holder.py").write_text(HOLDER)
    script = Script([sys.executable, "holder.py", server.url], tmp_path)
    try:
        script.wait_for("inside")
        script.process.kill()
        script.process.wait(PATIENCE)
        assert server.client.get("quick_server:lock:a") is not None
        with tokens.get_token_obj("a") as obj:
            assert obj == {}
            obj["y"] = 1
    finally:
        script.dispose()
    assert tokens.get_token_obj("a") == {"y": 1}


def test_a_job_that_ends_at_any_point_keeps_nobody_out(server: RedisServer, others: Tokens) -> None:
    handler = server.handler(lease=0.3)
    tokens = Tokens(handler)

    def use() -> None:
        with tokens.get_token_obj("a") as obj:
            obj["n"] = obj.get("n", 0) + 1

    moment = 1
    while job_dies(use, moment):
        assert is_free(handler._locks.of("a")), moment
        server.client.delete("quick_server:lock:a")  # it would expire
        moment += 1
    assert moment > 50
    with others.get_token_obj("a") as obj:
        assert 1 <= obj["n"] <= moment


def test_what_a_stopped_job_has_asked_is_answered_to_nobody_else(server: RedisServer) -> None:
    """It may end between its question and the answer."""
    tokens = Tokens(server.handler())
    tokens.get_token_obj("secret")["user"] = "ada"
    pool = tokens._token_handler._link._client.connection_pool  # type: ignore[attr-defined] # a Redis one
    connection = pool.get_connection()
    send = connection.send_command

    def send_and_die(*command: Any, **options: Any) -> None:
        send(*command, **options)
        raise WorkerDeath

    connection.send_command = send_and_die
    pool.release(connection)
    server.stand_still()
    with pytest.raises(WorkerDeath):
        tokens.get_token_obj("secret")
    del connection.send_command
    threading.Timer(0.1, server.go_on).start()
    assert tokens.get_token_obj("other") == {}


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_waits_for_others_in_redis_only(server: RedisServer) -> None:
    handler = server.handler()
    tokens = Tokens(handler)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with tokens.get_token_obj("a"), handler._mutex, handler._link._mutex:
            held.set()
            assert done.wait(PATIENCE)

    def use() -> bool:
        with tokens.get_token_obj("b") as obj:
            obj["n"] = 1
        threading.Timer(0.1, server.client.delete, ("quick_server:lock:a",)).start()
        with tokens.get_token_obj("a") as obj:
            return not handler._leases.keys() - {"a"}

    with in_threads(hold):
        assert held.wait(PATIENCE)
        try:
            assert in_a_fork(use)
        finally:
            done.set()
    assert tokens.get_token_obj("b") == {"n": 1}


# ---- a Redis that is away ---------------------------------------------------------------------------


def test_without_redis_it_is_a_clean_refusal(tmp_path: Path, log: Log) -> None:
    handler = RedisTokenHandler(f"unix://{tmp_path}/nobody.sock")
    tokens = Tokens(handler)
    for ask in (
        tokens.create_token,
        tokens.get_tokens,
        lambda: tokens.get_token_obj("a"),
        lambda: tokens.get_token_obj("a", expire=0),
        lambda: tokens.get_token_ttl("a"),
        lambda: handler.lock("a").__enter__(),
    ):
        with refused(within=1) as raised:
            ask()
        assert raised.value.message == "tokens cannot be had at the moment"
    assert log.text.count("\n") == 1
    assert "no Redis, hence no tokens: " in log.text
    handler.close()


def test_redis_ends_and_comes_back(server: RedisServer, tokens: Tokens, log: Log) -> None:
    obj = tokens.get_token_obj("a")
    server.end()
    for _ in range(20):
        with refused(within=1):
            tokens.get_token_obj("a")
    with refused(within=1):
        obj["x"] = 1
    assert obj == {}  # what is not there is not shown
    assert log.text.count("\n") == 1
    server.start()
    assert tokens.get_token_obj("a") == {}
    tokens.get_token_obj("a")["x"] = 1
    assert log.text.count("\n") == 2
    assert "Redis is back" in log.text
    assert tokens.get_token_obj("a") == {"x": 1}


def test_a_redis_that_stands_still_holds_up_one_at_a_time(server: RedisServer, log: Log) -> None:
    tokens = Tokens(server.handler(timeout=0.5))
    tokens.create_token()
    server.stand_still()
    with refused(within=1.5):
        tokens.create_token()
    slow: list[float] = []

    def ask() -> None:
        start = time.monotonic()
        with refused(within=1.5):
            tokens.create_token()
        if time.monotonic() - start > 0.4:
            slow.append(start)

    begun = time.monotonic()
    with in_threads(*[ask] * 6):
        pass
    assert time.monotonic() - begun < 1.5
    assert len(slow) <= 2  # the second one came when the first had given up
    assert log.text.count("\n") == 1
    server.go_on()
    tokens.create_token()
    assert "Redis is back" in log.text


def test_redis_stands_still_during_a_block(server: RedisServer, others: Tokens) -> None:
    tokens = Tokens(server.handler(timeout=0.3, lease=1))
    others.get_token_obj("a")["n"] = 1
    block = ExitStack()
    obj = block.enter_context(tokens.get_token_obj("a"))
    obj["n"] = 2
    server.stand_still()
    with refused(within=1):
        block.close()
    server.go_on()
    with others.get_token_obj("a") as obj:  # once the lease is over, at the latest
        assert obj["n"] in (1, 2)
        obj["n"] = 3
    with tokens.get_token_obj("a") as obj:
        assert obj == {"n": 3}


def test_what_redis_refuses_is_told_once(server: RedisServer, tokens: Tokens, log: Log) -> None:
    server.client.set("quick_server:token:a", "no hash")
    for _ in range(10):
        with refused(within=1):
            tokens.get_token_obj("a")
        assert tokens.get_token_obj("b") == {}
    assert log.text.count("\n") == 1
    assert "Redis refuses what tokens need: WRONGTYPE" in log.text


def test_a_redis_that_comes_and_goes_does_not_flood_the_log(
    server: RedisServer, tokens: Tokens, log: Log
) -> None:
    link: Any = tokens._token_handler
    for _ in range(50):
        link._link._on_lost(OSError("away"))
        tokens.get_tokens()
    assert log.text.count("\n") <= 2


# ---- the package ------------------------------------------------------------------------------------


def test_without_the_package_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "import quick_server\n"
        "try:\n    quick_server.RedisTokenHandler('redis://localhost')\n"
        "except ImportError as error:\n    print(error)\n"
    )
    script = Script.python("-c", code, cwd=tmp_path)
    try:
        script.wait_for(r'pip install "quick_server\[redis\]"')
        assert script.ended() == 0
    finally:
        script.dispose()


def test_it_is_imported_when_it_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys, quick_server\n"
        "assert 'redis' not in sys.modules\n"
        "quick_server.RedisTokenHandler('redis://localhost')\n"
        "assert 'redis' in sys.modules\n"
        "print('fine')"
    )
    script = Script.python("-c", code, cwd=tmp_path)
    try:
        script.wait_for("fine")
        assert script.ended() == 0
    finally:
        script.dispose()


def test_a_url_that_is_none() -> None:
    with pytest.raises(ValueError, match="redis://"):
        RedisTokenHandler("localhost")
