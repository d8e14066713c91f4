"""Connections to upstreams: the one place where they are asked for, made and ended.

    BEGINNING ──▶ PREPARING ──▶ LOOKING_UP ──▶ CONNECTING ──▶ SHAKING ──▶ DONE

Loop thread, and it never waits: names are looked up in the pool, sockets connect while the loop goes
on. Any step may be passed over, fail, be cancelled or take too long, which leads to DONE, and leaves
nothing behind. Each request for a link tries on its own: nothing is remembered of an upstream that
failed but for people to see. It knows no HTTP.
"""

from __future__ import annotations

import errno
import functools
import math
import socket
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from .dial import Dial
from .limits import Limits
from .links import Link as Link  # noqa: PLC0414 (who uses this file needs them)
from .links import Links, LinkState
from .links import Origin as Origin  # noqa: PLC0414
from .links import OriginState as OriginState  # noqa: PLC0414
from .memo import Memo
from .names import Address, in_order, known_addresses, look_up
from .pool import Lane
from .reactor import Reactor
from .stream import Stream, StreamOwner
from .timers import Timer

if TYPE_CHECKING:
    import ssl

    from .tlsclient import TlsClientStream

_NAMES_KEPT = 5.0  # seconds: spares a burst its look-ups, and is over before anybody wonders
_VERIFYING = "verifying"


class ConnectError(Exception):
    """There is no connection to an upstream."""

    def __init__(self, why: str, *, timed_out: bool = False) -> None:
        """`why`: for the log; names the origin. `timed_out`: it took too long."""
        super().__init__(why)
        self.why = why
        self.timed_out = timed_out


class Stage(Enum):
    """What an attempt is at; its value says so in an error."""

    BEGINNING = "beginning"
    PREPARING = "loading the certificates that are trusted"
    LOOKING_UP = "looking up its name"
    CONNECTING = "connecting"
    SHAKING = "the TLS handshake"
    DONE = "done"


class Upstreams:
    """Links to upstreams, kept and reused."""

    def __init__(
        self,
        reactor: Reactor,
        lane: Lane,
        limits: Limits,
        look_up: Callable[[str], list[Address]] = look_up,
    ) -> None:
        """`lane`: names are looked up there, which may hang for as long as the system lets it.

        `look_up` gives the addresses of a name or raises OSError; it is called in the pool.
        """
        self._reactor = reactor
        self.links = Links(reactor, limits)
        self.names: Memo[list[Address]] = Memo(reactor, lane, look_up, _NAMES_KEPT)
        self.contexts: Memo[ssl.SSLContext] = Memo(reactor, lane, _make_context, math.inf)
        self._attempts: set[Attempt] = set()
        self._closed = False

    @property
    def limits(self) -> Limits:
        """What links are held to; the same for all that are made from now on."""
        return self.links.limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        self.links.limits = limits

    def connect(
        self,
        origin: Origin,
        done: Callable[[Link | ConnectError], object],
        *,
        fresh: bool = False,
    ) -> Attempt:
        """Calls `done`, later, with a link of that origin or why there is none.

        That is an idle one, unless there is none or it has to be a `fresh` one. Whoever gets a link
        attaches itself before `done` returns. Name, connection and TLS together take at most
        `connect_timeout`.
        """
        attempt = Attempt(self, self._reactor, origin, done, fresh=fresh)
        if not self._closed:
            self._attempts.add(attempt)
        self._reactor.call_soon(attempt.begin)
        return attempt

    def states(self) -> list[OriginState]:
        """How things are with each origin that was asked for."""
        return self.links.states()

    def close(self) -> None:
        """Ends all attempts, whose `done` is not called, and all links, whose users hear `lost`.

        What is asked for from now on fails. Look-ups that hang are the pool's.
        """
        self._closed = True
        for attempt in list(self._attempts):
            attempt.cancel()
        self.links.close()
        self.names.close()
        self.contexts.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def ended(self, attempt: Attempt) -> None:
        """An attempt is over."""
        self._attempts.discard(attempt)


class Step(Protocol):
    """What an attempt waits for."""

    def cancel(self) -> None:
        """It waits no longer; nobody is told."""


class Attempt:
    """One request for a link. Made by `Upstreams.connect`."""

    __slots__ = (
        "_context",
        "_done",
        "_fresh",
        "_origin",
        "_reactor",
        "_step",
        "_timer",
        "_upstreams",
        "stage",
    )

    def __init__(
        self,
        upstreams: Upstreams,
        reactor: Reactor,
        origin: Origin,
        done: Callable[[Link | ConnectError], object],
        *,
        fresh: bool,
    ) -> None:
        self._upstreams = upstreams
        self._reactor = reactor
        self._origin = origin
        self._done = done
        self._fresh = fresh
        self._context = origin.context
        self._timer: Timer | None = None
        self._step: Step | None = None
        self.stage = Stage.BEGINNING

    def cancel(self) -> None:
        """Nobody wants it any more: `done` is not called, and a connection on its way is ended."""
        step = self._step
        if self._end() and step is not None:
            step.cancel()

    def begin(self) -> None:
        """Takes a link that is idle, or begins to make one."""
        if self.stage is Stage.DONE:
            return
        if self._upstreams.closed:
            self._fail("nothing is connected any more")
            return
        link = None if self._fresh else self._upstreams.links.take(self._origin)
        if link is not None:
            self._succeed(link)
            return
        self._upstreams.links.history(self._origin).connecting += 1
        self._timer = self._reactor.call_later(self._upstreams.limits.connect_timeout, self._time_out)
        self._prepare()

    # the steps ------------------------------------------------------------------------------------

    def _prepare(self) -> None:
        """With TLS there has to be a context."""
        if self._origin.scheme == "https" and self._context is None:
            self._context = self._upstreams.contexts.get(_VERIFYING)
            if self._context is None:
                self.stage = Stage.PREPARING
                self._step = self._upstreams.contexts.ask(_VERIFYING, self._prepared)
                return
        self._look_up()

    def _prepared(self, context: ssl.SSLContext | OSError) -> None:
        if isinstance(context, OSError):
            self._fail(f"no certificates to trust: {_text(context)}")
            return
        self._context = context
        self._look_up()

    def _look_up(self) -> None:
        host, names = self._origin.host.lower(), self._upstreams.names
        if self._origin.socket_path is not None:
            self._dial([(socket.AF_UNIX, self._origin.socket_path)])
            return
        addresses = known_addresses(host) or names.get(host)
        if addresses is not None:
            self._found(addresses)
            return
        self.stage = Stage.LOOKING_UP
        self._step = names.ask(host, self._found)

    def _found(self, addresses: list[Address] | OSError) -> None:
        if isinstance(addresses, OSError):
            self._fail(f"its name is not known: {_text(addresses)}")
            return
        self._dial(in_order(addresses, self._origin.port))

    def _dial(self, addresses: Sequence[Address]) -> None:
        self.stage = Stage.CONNECTING
        make_room = self._upstreams.links.give_up_idle
        self._step = dial = Dial(self._reactor, addresses, self._dialled, make_room)
        dial.begin()

    def _dialled(self, sock: socket.socket | OSError) -> None:
        if isinstance(sock, OSError):
            self._fail(_text(sock), timed_out=sock.errno == errno.ETIMEDOUT)
            return
        if self._origin.scheme == "https":
            self._shake(sock)
            return
        self._succeed(self._new_link(functools.partial(self._plain_stream, sock)))

    def _shake(self, sock: socket.socket) -> None:
        self.stage = Stage.SHAKING
        self._step = None
        handshake = Handshake(self._shaken)
        make_stream = functools.partial(self._secure_stream, sock, handshake)
        try:
            handshake.link = self._new_link(make_stream)
        except (ValueError, OSError) as error:  # what cannot be a server's name, or a useless context
            sock.close()
            self._fail(f"TLS cannot begin: {error}")
            return
        handshake.link.attach(handshake)
        self._step = handshake

    def _shaken(self, link: Link | str) -> None:
        if isinstance(link, str):
            self._fail(link)
        else:
            self._succeed(link)

    def _time_out(self) -> None:
        text = f"{self.stage.value} took longer than {self._upstreams.limits.connect_timeout:g} s"
        step, self._step = self._step, None
        if step is not None:
            step.cancel()
        self._fail(text, timed_out=True)

    # its end --------------------------------------------------------------------------------------

    def _succeed(self, link: Link) -> None:
        if not self._end():
            link.abort()
            return
        if link.state is LinkState.OPENING:
            link.take()
            self._upstreams.links.history(self._origin).error = None
        try:
            self._done(link)
        except Exception:  # nobody knows whether it is in use
            link.abort()
            raise

    def _fail(self, why: str, *, timed_out: bool = False) -> None:
        if not self._end():
            return
        history = self._upstreams.links.history(self._origin)
        history.error, history.failed_at = why, self._reactor.now()
        self._done(ConnectError(f"cannot connect to {self._origin}: {why}", timed_out=timed_out))

    def _end(self) -> bool:
        """It is over; returns whether it was not before."""
        if self.stage is Stage.DONE:
            return False
        self.stage = Stage.DONE
        self._step = None
        if self._timer is not None:
            self._timer.cancel()
            self._upstreams.links.history(self._origin).connecting -= 1
        self._upstreams.ended(self)
        return True

    def _new_link(self, make_stream: Callable[[StreamOwner], Stream]) -> Link:
        return Link(self._upstreams.links, self._origin, make_stream)

    def _plain_stream(self, sock: socket.socket, owner: StreamOwner) -> Stream:
        return Stream(self._reactor, sock, owner, self._upstreams.limits)

    def _secure_stream(self, sock: socket.socket, handshake: Handshake, owner: StreamOwner) -> Stream:
        from .tlsclient import TlsClientStream

        assert self._context is not None
        handshake.stream = TlsClientStream(
            self._context,
            self._origin.host.partition("%")[0].rstrip("."),
            handshake.shaken,
            self._reactor,
            sock,
            owner,
            self._upstreams.limits,
        )
        return handshake.stream


class Handshake:
    """Who uses a link while TLS begins."""

    link: Link
    stream: TlsClientStream

    def __init__(self, done: Callable[[Link | str], object]) -> None:
        """`done` gets the link once it can be used, or why it never will be."""
        self._done = done
        self._why = ""

    def cancel(self) -> None:
        """Ends the connection; nobody is told."""
        self._done = _ignore
        self.link.abort()

    def shaken(self) -> None:
        """Stream: the handshake is done."""
        self._done(self.link)

    def data_received(self, data: bytes) -> None:
        """Stream: there is nothing to come yet, least of all the end."""
        self._why = "it spoke before it was asked" if data else "it ended the connection"
        self.link.abort()

    def drained(self) -> None:
        """Stream: of no interest."""

    def progressed(self) -> None:
        """Stream: of no interest."""

    def lost(self) -> None:
        """Stream: it failed."""
        self._done(self.stream.failure or f"{self._why or 'it was lost'} in the TLS handshake")


def _make_context(_key: str) -> ssl.SSLContext:
    """Pool thread."""
    from .tlsclient import new_client_context

    return new_client_context()


def _text(error: OSError) -> str:
    return error.strerror or str(error)


def _ignore(_outcome: object) -> None:
    """For what nobody waits for any more."""
