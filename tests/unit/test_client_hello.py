"""Server names that are not ASCII, wherever a client puts them."""

from __future__ import annotations

import ssl
from contextlib import suppress

import pytest

from quick_server.clienthello import HelloError, HelloWatch, server_name

HEAD = 5
BAD = b"loc\xe4lhost"


def hello_for(name: str | None) -> bytes:
    """The record with which OpenSSL asks for that name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def record(content: bytes, kind: int = 0x16) -> bytes:
    return bytes((kind, 3, 1)) + len(content).to_bytes(2) + content


GOOD_HELLO = hello_for("localhost")
BAD_HELLO = GOOD_HELLO.replace(b"localhost", BAD)
ALERT, CHANGE, EMPTY, EARLY = (
    record(b"\1\0", 0x15),
    record(b"\1", 0x14),
    record(b""),
    record(b"x", 0x17),
)


def in_records(hello: bytes, size: int, between: bytes = b"") -> bytes:
    message = hello[HEAD:]
    return between.join(record(message[at : at + size]) for at in range(0, len(message), size))


@pytest.mark.parametrize("name", ["localhost", "b.example", "x" * 63 + ".example", None])
def test_the_name_in_a_hello(name: str | None) -> None:
    assert server_name(hello_for(name)[HEAD + 4 :]) == (name or "").encode()


@pytest.mark.parametrize("step", [1, 7, 100, 10_000])
@pytest.mark.parametrize(
    "before",
    [
        b"",
        ALERT,
        EMPTY + CHANGE,
        GOOD_HELLO,
        GOOD_HELLO + CHANGE,
        GOOD_HELLO + EARLY * 3,
        in_records(GOOD_HELLO, 3),
    ],
)
@pytest.mark.parametrize(
    "hello", [BAD_HELLO, in_records(BAD_HELLO, 1), in_records(BAD_HELLO, 50, between=ALERT + EMPTY)]
)
def test_bad_names_are_found_with_their_last_byte(before: bytes, hello: bytes, step: int) -> None:
    assert BAD in BAD_HELLO
    watch = HelloWatch()
    data = before + hello
    for at in range(0, len(data) - 1, step):
        watch.look(data[at : min(at + step, len(data) - 1)])
    with pytest.raises(HelloError, match="not ASCII"):
        watch.look(data[-1:])


def test_what_comes_after_the_hellos_is_not_looked_at() -> None:
    """With TLS 1.2 that is encrypted, and may look like anything."""
    watch = HelloWatch()
    watch.look(GOOD_HELLO + record(b"\x10\0\0\1x"))
    watch.look(BAD_HELLO)


def test_what_is_kept_has_a_bound() -> None:
    watch = HelloWatch()
    with pytest.raises(HelloError, match="too long"):
        watch.look(record(b"\1\0\x80\1"))
    watch = HelloWatch()
    watch.look(record(b"\1\0\x7f\0"))
    body = BAD_HELLO[HEAD + 4 :]
    with pytest.raises(HelloError, match="not ASCII"):
        watch.look(record(body + bytes(0x7F00 - len(body))))


@pytest.mark.parametrize("size", range(0, len(GOOD_HELLO), 3))
def test_what_is_broken_is_left_to_openssl(size: int) -> None:
    HelloWatch().look(record(GOOD_HELLO[HEAD:][:size]))
    broken = bytearray(GOOD_HELLO[HEAD:])
    broken[4 + size // 2] ^= 0x7F
    server_name(bytes(broken[4 : 4 + size]))
