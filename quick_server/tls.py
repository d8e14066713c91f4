"""Certificates: from files to TLS contexts, chosen by the name that a client asks for, and replaced.

Any thread; knows no connections. One context, the `front`, begins every connection and owns what
clients resume their sessions with. Certificates are contexts of their own, which take the front's
place in a handshake (RFC 6066 section 3), so that they are replaced all at once, by assigning: a
handshake sees the old ones or the new ones, sessions stay valid, and files that turn out to be broken
have changed nothing.
"""

from __future__ import annotations

import ipaddress
import re
import ssl
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

Opener: TypeAlias = "str | bytes | Callable[[], str | bytes] | None"

_LABEL = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*")
_ALPN = ["http/1.1"]  # all that we speak
_OLDEST, _NEWEST = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.MAXIMUM_SUPPORTED
_OF_ANY_VERSION = (ssl.PROTOCOL_TLS, ssl.PROTOCOL_TLS_SERVER)
_FIXED = {ssl.PROTOCOL_TLSv1_2: ssl.TLSVersion.TLSv1_2}  # contexts that speak one version only


class CertificateFiles(NamedTuple):
    """Where a certificate and its key are, and what opens the key."""

    certfile: str
    keyfile: str
    password: Opener

    def load(self) -> ssl.SSLContext:
        """A context with that certificate.

        Raises OSError if a file cannot be read, ValueError if it does not hold what it should.
        """
        certificate, key = _read(self.certfile), _read(self.keyfile)
        if b"CERTIFICATE-----" not in certificate:
            raise ValueError(f"there is no certificate in {self.certfile!r} (PEM is expected)")
        if b"PRIVATE KEY-----" not in key:
            raise ValueError(f"there is no private key in {self.keyfile!r} (PEM is expected)")
        context = new_context()
        asked = False

        def password() -> str | bytes:
            nonlocal asked
            asked = True
            given = self.password() if callable(self.password) else self.password
            if given is None:  # without this OpenSSL would ask at the terminal, and wait
                raise ValueError(f"the key in {self.keyfile!r} is encrypted: it needs its password")
            return given

        try:
            context.load_cert_chain(self.certfile, self.keyfile, password)
        except ssl.SSLError as error:
            raise ValueError(self._describe(error, asked=asked)) from None
        return context

    def _describe(self, error: ssl.SSLError, *, asked: bool) -> str:
        if error.reason == "KEY_VALUES_MISMATCH":
            return f"the key in {self.keyfile!r} does not fit the certificate in {self.certfile!r}"
        if asked:
            return f"the key in {self.keyfile!r} cannot be opened: the password may be wrong"
        reason = (error.reason or "broken PEM").replace("_", " ").lower()
        return f"cannot use {self.certfile!r} with the key in {self.keyfile!r}: {reason}"


class Certificates:
    """What a server shows to its clients. `front` is what a connection begins with."""

    def __init__(self, front: ssl.SSLContext | None = None, owner: Any = None) -> None:
        """With a `front` of the caller's own, that context's certificate is the default one.

        What was there for that front is replaced; `certificates_of` tells of it. Raises ValueError if
        the front allows no TLS version from 1.2 on.
        """
        self.owner = owner
        """Whoever shows these certificates."""
        self._lock = threading.Lock()  # held while certificates are changed
        self._files: dict[str, CertificateFiles] = {}
        self._loaded: dict[str, ssl.SSLContext] = {}  # by name, "" the default; replaced as a whole
        self._origin = ""
        """Why there are no files for the default certificate; empty if there are."""
        if front is None:
            front = new_context()
        else:
            harden(front)
            self._origin = "the certificate was assigned with its socket"
        self.front = front
        self._chooses = front.sni_callback is None or certificates_of(front) is not None
        if self._chooses:
            front.sni_callback = self._choose

    def use(self, files: CertificateFiles, hostname: str | None) -> None:
        """Shows that certificate to clients that ask for `hostname`; None: for no name, or an unknown.

        The first one is shown to all. Raises as `CertificateFiles.load` does; ValueError also for what
        is no host name, and if the front chooses by a `sni_callback` of its own or asks clients for
        certificates.
        """
        name = "" if hostname is None else _normal(hostname)
        self._check_front()
        context = files.load()
        with self._lock:
            self._files[name] = files
            loaded = {**self._loaded, name: context}
            if "" not in loaded and not self._origin:
                self._files[""], loaded[""] = files, context
            self._loaded = loaded
            if not name:
                self._origin = ""

    def use_made(self, context: ssl.SSLContext) -> None:
        """Makes a certificate that comes from no file the default. Raises ValueError as `use` does."""
        self._check_front()
        with self._lock:
            self._files.pop("", None)
            self._loaded = {**self._loaded, "": context}
            self._origin = "the certificate was made for this run"

    def reload(self) -> None:
        """Loads all files again; if that fails, all stays as it is. What comes from no file stays, too.

        Raises as `CertificateFiles.load` does; RuntimeError if there are no files.
        """
        with self._lock:
            if not self._files:
                raise RuntimeError(f"there is no certificate file to load again: {self._origin}")
            loaded = {name: files.load() for name, files in self._files.items()}
            self._loaded = {**self._loaded, **loaded}

    def _check_front(self) -> None:
        """Raises ValueError if no other context may take the front's place."""
        if not self._chooses:
            raise ValueError(
                "certificates are chosen by the sni_callback of the context that was assigned; add "
                "this one there"
            )
        if self.front.verify_mode != ssl.CERT_NONE:  # which clients to trust, it alone knows
            raise ValueError(
                "the context that was assigned asks clients for certificates: it can have no others "
                "beside it"
            )

    def _choose(self, tls: ssl.SSLObject, name: str | None, _front: ssl.SSLContext) -> None:
        """Loop thread, within a handshake."""
        loaded = self._loaded
        asked = (name or "").lower().rstrip(".")
        wildcard = "*." + asked.partition(".")[2]
        context = loaded.get(asked) or loaded.get(wildcard) or loaded.get("")
        if context is not None:
            tls.context = context


def certificates_of(context: ssl.SSLContext) -> Certificates | None:
    """What that context is the front of, if it is one."""
    chooser = getattr(context.sni_callback, "__self__", None)
    return chooser if isinstance(chooser, Certificates) else None


def new_context() -> ssl.SSLContext:
    """A context for a server that takes TLS 1.2 and newer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    harden(context)
    return context


def harden(context: ssl.SSLContext) -> None:
    """Sets what holds for each of a server's contexts; ValueError if they rule out TLS 1.2 and 1.3.

    Versions before 1.2 are obsolete (RFC 8996). Renegotiation is of no use here, and costs the server
    far more than the client that asks for it.
    """
    flexible = context.protocol in _OF_ANY_VERSION
    newest = context.maximum_version if flexible else _FIXED.get(context.protocol)
    if newest is None or (newest is not _NEWEST and newest < _OLDEST):
        raise ValueError("the context allows no TLS version from 1.2 on; older ones are not served")
    if flexible:
        context.minimum_version = max(context.minimum_version, _OLDEST)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(_ALPN)


def _normal(hostname: str) -> str:
    """A host name as it stands in a handshake: lower-case, and IDNA where it is not ASCII."""
    name = hostname.removesuffix(".").lower()
    star, name = ("*.", name[2:]) if name.startswith("*.") else ("", name)
    try:
        normal = name.encode("idna").decode("ascii")
    except UnicodeError:
        normal = ""
    if not _NAME.fullmatch(normal) or _is_address(normal):
        raise ValueError(f"{hostname!r} is not a host name")
    return star + normal


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _read(file: str) -> bytes:
    with open(file, "rb") as opened:
        return opened.read()
