"""Which upstream stands behind which path.

Any thread binds them; the loop asks them. A request that one of them answers becomes a `Forwarding`
(`proxy.py`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from .exchange import Exchange
from .log import elapsed_string, escape, log_server, quote
from .protocol.forwarding import parse_route, request_head, wants_upgrade
from .protocol.messages import ProtocolError
from .proxy import Forwarding, Upstream, UpstreamRequest, address_of
from .reactor import Reactor
from .upstreams import Origin, OriginState, Upstreams

if TYPE_CHECKING:
    import ssl

_OURSELVES = "quick_server"
_MOST_HOPS = 4  # through servers like this one, before it must be a circle


class ProxySettings(Protocol):
    """What this file asks of the server."""

    cross_origin: bool | Sequence[str]

    @property
    def scheme(self) -> str: ...


class Proxies:
    """Which upstream stands behind which path; the longest prefix wins."""

    def __init__(self, settings: ProxySettings, reactor: Reactor, upstreams: Upstreams) -> None:
        self._settings = settings
        self._reactor = reactor
        self._upstreams = upstreams
        self._bound: tuple[Upstream, ...] = ()
        self.debug = False
        """Whether each exchange is logged, and error pages tell addresses."""

    def bind(
        self,
        prefix: str,
        url: str,
        *,
        verify: bool | ssl.SSLContext = True,
        preserve_host: bool = False,
        rewrite: bool = False,
    ) -> None:
        """Any thread: puts an upstream behind a path, in the place of one that was there.

        Raises ValueError if either is not as it should be.
        """
        route = parse_route(prefix, url, preserve_host=preserve_host, rewrite=rewrite)
        context = _unverified() if verify is False else None if verify is True else verify
        origin = Origin(route.scheme, route.host, route.port, route.socket_path, context)
        upstream = Upstream(route, origin, tuple(filter(None, prefix.split("/"))))
        others = [known for known in self._bound if known.segments != upstream.segments]
        self._bound = tuple(sorted([*others, upstream], key=lambda known: -len(known.segments)))

    def states(self) -> list[tuple[str, str, OriginState | None]]:
        """Prefix, address, and how things are with what is there, in the order of the look-up."""
        known = {state.origin: state for state in self._upstreams.states()}
        return [(u.route.prefix, address_of(u.route), known.get(u.origin)) for u in self._bound]

    def forward(self, exchange: Exchange) -> bool:
        """Has an upstream answer, if one stands behind that path; returns whether one does."""
        segments = exchange.head.target.segments
        for upstream in self._bound:
            size = len(upstream.segments)
            if segments is not None and tuple(filter(None, segments))[:size] == upstream.segments:
                self._begin(exchange, upstream)
                return True
        return False

    def _begin(self, exchange: Exchange, upstream: Upstream) -> None:
        head = exchange.head
        upgrade = wants_upgrade(head)
        if head.headers.get("via", "").count(_OURSELVES) >= _MOST_HOPS:
            exchange.refuse(508, "this request has been here before: an upstream asks us")
            return
        try:
            asked = request_head(
                upstream.route,
                head,
                exchange.client[0],
                self._settings.scheme,
                chunked=head.chunked,
                upgrade=upgrade,
            )
        except ProtocolError as error:
            exchange.refuse(error.status, error.message)
            return
        request = UpstreamRequest(
            asked, upgrade, self._settings.scheme, decides_origins=bool(self._settings.cross_origin)
        )
        report = self._report if self.debug else None
        limits = self._upstreams.limits
        Forwarding(exchange, upstream, request, self._reactor, self._upstreams, limits, report).begin()

    def _report(self, exchange: Exchange, upstream: Upstream, what: str) -> None:
        route = upstream.route
        took = elapsed_string((self._reactor.now() - exchange.started) * 1000)
        line = quote(exchange.head.request_line)
        log_server(f"proxy {line} to {address_of(route)}: {escape(what)} ({took})")


@functools.cache
def _unverified() -> ssl.SSLContext:
    """For upstreams whose certificates nobody vouches for; one, so that their links are shared."""
    from .tlsclient import new_client_context

    return new_client_context(verify=False)
