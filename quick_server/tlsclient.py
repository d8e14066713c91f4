"""The client's side of TLS: a socket and a stream that begin the handshake by themselves.

Loop thread. What the two sides have in common is in `tlssocket.py` and `tlsstream.py`; here is how a
handshake begins, who is told that it is done, and why it failed.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable

from .limits import Limits
from .reactor import Reactor
from .stream import StreamOwner
from .tlssocket import TlsSocket
from .tlsstream import SecureStream

_ALPN = ["http/1.1"]  # all that we speak


def new_client_context(*, verify: bool = True) -> ssl.SSLContext:
    """A context for connections to upstreams; `verify`: whether they must prove who they are.

    Reads the certificates that the system trusts, which takes a while. TLS 1.2 and newer.
    """
    context = ssl.create_default_context() if verify else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(_ALPN)
    return context


class TlsClientSocket(TlsSocket):
    """The client's side of TLS over `sock`, to a server that has to be `hostname`.

    The first message of the handshake waits to be sent: `waiting`, `flush`. Raises ValueError if
    `hostname` is none.
    """

    __slots__ = ("failure",)

    def __init__(self, context: ssl.SSLContext, sock: socket.socket, hostname: str) -> None:
        super().__init__(context, sock)
        self.failure: ssl.SSLError | None = None
        """What was wrong with what the server sent."""
        tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=hostname)
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        self._tls = tls
        self._waiting = self._outgoing.read()

    def _decrypt(self, tls: ssl.SSLObject) -> bytes:
        try:
            return super()._decrypt(tls)
        except ssl.SSLWantReadError:
            raise
        except ssl.SSLError as error:
            self.failure = error
            raise


class TlsClientStream(SecureStream):
    """One connection's bytes, encrypted. Nothing is written before `shaken` was called."""

    __slots__ = ("_client", "_is_told", "_shaken")

    def __init__(
        self,
        context: ssl.SSLContext,
        hostname: str,
        shaken: Callable[[], object],
        reactor: Reactor,
        sock: socket.socket,
        owner: StreamOwner,
        limits: Limits,
    ) -> None:
        """`shaken` is called once the handshake is done. Raises ValueError, OSError as `ssl` does."""
        self._client = TlsClientSocket(context, sock, hostname)
        self._shaken = shaken
        self._is_told = False
        super().__init__(self._client, reactor, sock, owner, limits)
        self._watch()  # the handshake begins

    @property
    def failure(self) -> str:
        """Why the handshake failed, if TLS was the reason; else empty."""
        error = self._client.failure
        if error is None:
            return ""
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate is refused: {error.verify_message}"
        return f"TLS failed: {(error.reason or 'unknown').replace('_', ' ').lower()}"

    def _on_readable(self) -> None:
        super()._on_readable()
        if not self._is_told and self._client.ready and not self.closed:
            self._is_told = True
            self._shaken()
