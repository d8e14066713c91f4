"""HTTPS as callers turn it on: with files, with a certificate made for it, or with a wrapped socket.

Any thread; a part of `QuickServer`. What it changes is what the next connection begins with. The
modules behind it, and `ssl`, are imported when it is first used: most servers do not need them.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from .connection import MakeStream
from .stream import Stream

if TYPE_CHECKING:
    import ssl

    from .tls import Certificates
    from .tlsstream import Handshakes


class Https:
    """Which certificates a server shows, if any."""

    server_address: Any  # the server's, like the next two
    _closed: bool
    _sockets: list[socket.socket]

    def __init__(self) -> None:
        self._certificates: Certificates | None = None
        self._handshakes: Handshakes | None = None
        self._make_stream: MakeStream = Stream

    @property
    def scheme(self) -> Literal["http", "https"]:
        """What the server speaks."""
        return "http" if self._certificates is None else "https"

    def use_tls(
        self,
        certfile: str | os.PathLike[str],
        keyfile: str | os.PathLike[str] | None = None,
        password: str | bytes | Callable[[], str | bytes] | None = None,
        hostname: str | None = None,
    ) -> None:
        """Turns HTTPS on, with a certificate and its key from PEM files, on every listening socket.

        `certfile` holds the certificate and those that vouch for it; `keyfile` the private key, if that
        is not in the same file; `password` opens the key, and may be a function that returns it. TLS
        1.2 and 1.3 are spoken.

        Called again it replaces the certificate, or with `hostname` (`b.example`, `*.b.example`) adds
        one for clients that ask for that name (RFC 6066 section 3). That may be done while serving;
        connections that are there go on as they are.

        Raises OSError if a file cannot be read, ValueError if it does not hold what it should, for what
        is no host name, and if a context was assigned beside which there can be no other certificate
        (it chooses by itself, or asks clients for theirs); then nothing has changed.
        """
        from .tls import CertificateFiles, Certificates

        cert = os.fspath(certfile)
        files = CertificateFiles(cert, cert if keyfile is None else os.fspath(keyfile), password)
        certificates = self._certificates or Certificates(owner=self)
        certificates.use(files, hostname)
        self._speak(certificates)

    def use_tls_self_signed(self, *hosts: str) -> str:
        """Turns HTTPS on for development; returns the certificate's SHA-256 fingerprint.

        The certificate is made anew, for localhost, the server's address and `hosts`, and is valid for
        four weeks. Browsers warn of it: compare the fingerprint, then go on. Raises RuntimeError if the
        `cryptography` package (`quick_server[tls]`) is missing, ValueError for what is no host name,
        and as `use_tls` does.
        """
        from .selfsigned import make
        from .tls import Certificates

        made = make(self.server_address[0], *hosts)
        certificates = self._certificates or Certificates(owner=self)
        certificates.use_made(made.context)
        self._speak(certificates)
        return made.fingerprint

    def reload_tls(self) -> None:
        """Loads the certificate files again, from any thread; for certificates that were renewed.

        New connections get the new certificates. Connections that are there, and sessions that clients
        resume, go on; so do certificates that come from no file. Raises OSError or ValueError, as
        `use_tls` does, if a file is not as it should be, and then leaves all certificates as they are;
        RuntimeError if there are no files at all: HTTPS is off, or its only certificate was assigned
        with `server.socket` or made for this run.
        """
        if self._certificates is None:
            raise RuntimeError("this server speaks plain HTTP: there is no certificate to load again")
        self._certificates.reload()

    def _speak(self, certificates: Certificates) -> None:
        from .tlsstream import Handshakes, TlsStream

        self._handshakes = self._handshakes or Handshakes()
        self._make_stream = functools.partial(
            TlsStream, certificates.front, handshakes=self._handshakes
        )
        self._certificates = certificates

    def _adopt(self, sock: socket.socket) -> socket.socket:
        """The listening socket in `sock`; if that is one of `ssl`, HTTPS is on with its context.

        Raises TypeError or ValueError for a socket that cannot serve.
        """
        if not isinstance(sock, socket.socket):
            raise TypeError(f"a listening socket is needed, not {type(sock).__name__}")
        if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
            raise ValueError("a TCP socket is needed")
        if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ValueError("a listening socket is needed: call its listen() first")
        import ssl

        if not isinstance(sock, ssl.SSLSocket):
            return sock
        try:
            certificates = self._certificates_for(sock)
        except ValueError:
            self._take_back(sock)
            raise
        self._speak(certificates)
        return socket.socket(fileno=sock.detach())

    def _certificates_for(self, sock: ssl.SSLSocket) -> Certificates:
        from .tls import Certificates, certificates_of

        if not sock.server_side:
            raise ValueError("the socket is a client's: wrap it with server_side=True")
        known = certificates_of(sock.context)
        owner = None if known is None else known.owner
        if owner not in (None, self) and owner._certificates is known and not owner._closed:
            raise ValueError("the context is in use for another server: make one for each")
        return Certificates(sock.context, owner=self)

    def _take_back(self, sock: ssl.SSLSocket) -> None:
        """Listens on the socket below, if that is ours: else the end of `sock` would be ours."""
        ours = self._sockets[0]
        if ours.fileno() == -1 and sock.getsockname() == self.server_address:
            self._sockets[0] = socket.socket(fileno=sock.detach())
            self._sockets[0].setblocking(False)
