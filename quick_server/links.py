"""Connections to upstreams: one in use or kept for later, and those that are kept.

    OPENING ──taken──▶ USED ──released──▶ IDLE ──taken──▶ USED        any ──lost──▶ LOST

Loop thread. A link owns its stream and hands what that tells on to whoever uses it; in between it
listens itself: an upstream that ends or says something then is not used again.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum, auto
from typing import TYPE_CHECKING, Literal, NamedTuple

from .limits import Limits
from .reactor import Reactor
from .stream import Stream, StreamOwner
from .timers import Timer

if TYPE_CHECKING:
    import ssl

_MOST_HISTORIES = 256  # origins of which something is known although nothing is connected to them


class Origin(NamedTuple):
    """Where an upstream is, and how it is spoken to: links with the same origin are interchangeable.

    >>> str(Origin("http", "::1", 8080))
    'http://[::1]:8080'
    """

    scheme: Literal["http", "https"]
    host: str
    """A name or an address; with `https` also what the certificate has to be for."""
    port: int
    socket_path: str | None = None
    """A Unix socket, which is connected to instead."""
    context: ssl.SSLContext | None = None
    """For `https`; None: one that verifies with the certificates that the system trusts."""

    def __str__(self) -> str:
        """How people know it."""
        if self.socket_path is not None:
            return f"{self.scheme}://{self.host} at {self.socket_path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class LinkState(IntEnum):
    """What a link is for at the moment."""

    OPENING = auto()
    """For the TLS handshake."""
    USED = auto()
    IDLE = auto()
    LOST = auto()


class LinkEvent(IntEnum):
    """What changes that."""

    TAKEN = auto()
    RELEASED = auto()
    LOST = auto()


TRANSITIONS: dict[tuple[LinkState, LinkEvent], LinkState] = {
    (LinkState.OPENING, LinkEvent.TAKEN): LinkState.USED,
    (LinkState.USED, LinkEvent.RELEASED): LinkState.IDLE,
    (LinkState.IDLE, LinkEvent.TAKEN): LinkState.USED,
    (LinkState.OPENING, LinkEvent.LOST): LinkState.LOST,
    (LinkState.USED, LinkEvent.LOST): LinkState.LOST,
    (LinkState.IDLE, LinkEvent.LOST): LinkState.LOST,
}


class Link:
    """One connection to an upstream.

    Its user attaches itself at once, writes to `stream` and hears from it; `release` or `drop` end
    that. A user hears of `lost` once, also when it has dropped the link itself, and of nothing after
    `release`.
    """

    __slots__ = ("_has_ended", "_links", "_user", "origin", "reused", "state", "stream")

    def __init__(
        self, links: Links, origin: Origin, make_stream: Callable[[StreamOwner], Stream]
    ) -> None:
        self._links = links
        self._user: StreamOwner | None = None
        self._has_ended = False  # the upstream's side
        self.origin = origin
        self.reused = False
        """Whether it has carried a request before."""
        self.state = LinkState.OPENING
        self.stream = make_stream(self)
        links.add(self)

    def attach(self, user: StreamOwner) -> None:
        """Hands what the stream tells to `user` from now on."""
        self._user = user

    def take(self) -> None:
        """It is about to get a user."""
        self.reused = self.state is LinkState.IDLE
        self.move(LinkEvent.TAKEN)

    def release(self) -> None:
        """Its user is done, has read the response as a whole and nothing beyond, and forgets the link.

        It is kept for a while for another request, unless something speaks against that.
        """
        if self.state is not LinkState.USED:
            return
        self._user = None
        stream = self.stream
        if self._has_ended or stream.pending or stream.closing or stream.closed:
            stream.drop()
            return
        stream.read_size = self._links.limits.read_chunk
        self.move(LinkEvent.RELEASED)
        self._links.keep(self)
        stream.resume_reading()

    def drop(self) -> None:
        """Ends the connection; what was written still reaches an upstream that behaves."""
        self.stream.drop()

    def abort(self) -> None:
        """Ends the connection with a reset."""
        self.stream.abort()

    def move(self, event: LinkEvent) -> None:
        """Changes its state."""
        self.state = TRANSITIONS[self.state, event]

    # what the stream tells ------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Stream: bytes, or the upstream's end."""
        if not data:
            self._has_ended = True
        if self._user is not None:
            self._user.data_received(data)
        else:  # it ends, or speaks without being asked: no answer after that could be trusted
            self.stream.drop()

    def drained(self) -> None:
        """Stream: all was written."""
        if self._user is not None:
            self._user.drained()

    def progressed(self) -> None:
        """Stream: some was written."""
        if self._user is not None:
            self._user.progressed()

    def lost(self) -> None:
        """Stream: it is over."""
        self._links.remove(self)
        self.move(LinkEvent.LOST)
        user, self._user = self._user, None
        if user is not None:
            user.lost()


class OriginState(NamedTuple):
    """How things are with one origin."""

    origin: Origin
    connecting: int
    in_use: int
    idle: int
    error: str | None
    """Why the last try to connect failed; None if it did not."""
    failed_ago: float | None
    """Seconds since that."""


class History:
    """What is known of one origin."""

    __slots__ = ("connecting", "error", "failed_at", "idle", "in_use")

    def __init__(self) -> None:
        self.connecting = 0
        self.in_use: set[Link] = set()
        """Also those in a handshake."""
        self.idle: list[Link] = []
        """The newest is the last."""
        self.error: str | None = None
        self.failed_at = 0.0

    @property
    def is_in_use(self) -> bool:
        """Whether something is connected, or about to be."""
        return bool(self.connecting or self.in_use or self.idle)


class Links:
    """All links by origin, and how long those that are idle are kept."""

    def __init__(self, reactor: Reactor, limits: Limits) -> None:
        self.limits = limits
        self._reactor = reactor
        self._histories: dict[Origin, History] = {}
        self._idle: dict[Link, float] = {}  # and until when; the one that has been idle longest first
        self._timer: Timer | None = None
        self._closed = False

    def history(self, origin: Origin) -> History:
        """What is known of that origin."""
        history = self._histories.get(origin)
        if history is None:
            if len(self._histories) >= _MOST_HISTORIES:
                self._forget()
            history = self._histories[origin] = History()
        return history

    def take(self, origin: Origin) -> Link | None:
        """The idle link of that origin that was used last, if there is one."""
        history = self._histories.get(origin)
        while history is not None and history.idle:
            link = history.idle[-1]
            link.stream.read_now()  # its end may have come, and not have been looked at
            if link.state is LinkState.IDLE:
                self._unkeep(link, history)
                history.in_use.add(link)
                link.take()
                return link
        return None

    def give_up_idle(self) -> bool:
        """Ends all idle links, for their descriptors; returns whether there were any."""
        idle = list(self._idle)
        for link in idle:
            link.drop()
        return bool(idle)

    def states(self) -> list[OriginState]:
        """How things are, by origin."""
        now = self._reactor.now()
        return [
            OriginState(
                origin,
                history.connecting,
                sum(link.state is LinkState.USED for link in history.in_use),
                len(history.idle),
                history.error,
                None if history.error is None else now - history.failed_at,
            )
            for origin, history in self._histories.items()
        ]

    def close(self) -> None:
        """Ends all links; those who use them hear `lost`."""
        self._closed = True
        self.give_up_idle()
        for history in list(self._histories.values()):
            for link in list(history.in_use):
                link.abort()
        if self._timer is not None:
            self._timer.cancel()

    # what links tell ------------------------------------------------------------------------------

    def add(self, link: Link) -> None:
        """It is connected."""
        self.history(link.origin).in_use.add(link)

    def keep(self, link: Link) -> None:
        """It is idle from now on; perhaps another one, or it, is one too many."""
        if self._closed:
            link.drop()
            return
        history = self.history(link.origin)
        history.in_use.discard(link)
        history.idle.append(link)
        self._idle[link] = self._reactor.now() + self.limits.upstream_idle
        if len(history.idle) > self.limits.upstream_idle_connections:
            history.idle[0].drop()
        if len(self._idle) > self.limits.upstream_idle_total:
            next(iter(self._idle)).drop()
        if self._timer is None and self._idle:
            self._watch()

    def remove(self, link: Link) -> None:
        """It is lost."""
        history = self.history(link.origin)
        if link in self._idle:
            self._unkeep(link, history)
        history.in_use.discard(link)

    # ----------------------------------------------------------------------------------------------

    def _unkeep(self, link: Link, history: History) -> None:
        history.idle.remove(link)
        del self._idle[link]

    def _watch(self) -> None:
        self._timer = self._reactor.call_at(next(iter(self._idle.values())), self._expire)

    def _expire(self) -> None:
        """Ends those whose time is up: they became idle in that order."""
        self._timer = None
        now = self._reactor.now()
        for link in [link for link, until in self._idle.items() if until <= now]:
            link.drop()
        if self._idle:
            self._watch()

    def _forget(self) -> None:
        """Makes room: what is known of origins that nothing is connected to."""
        self._histories = {
            origin: history for origin, history in self._histories.items() if history.is_in_use
        }
