"""A certificate for development, made and signed by itself.

Any thread. Needs the `cryptography` package, and only when it is called. The key is nowhere but in
this process: on its way into OpenSSL, which takes files alone, it lies encrypted in a folder that
nobody else can open, and that is gone when `make` returns.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import secrets
import socket
import ssl
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from .tls import new_context

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, GeneralName

_DAYS = 28
_ALWAYS = ("localhost", "127.0.0.1", "::1")


class SelfSigned(NamedTuple):
    """A context with the certificate, and the SHA-256 fingerprint that browsers show for it."""

    context: ssl.SSLContext
    fingerprint: str


def make(*hosts: str) -> SelfSigned:
    """A certificate for localhost and `hosts`, which are names or addresses; valid for four weeks.

    An address that stands for all interfaces counts as this machine's name. Raises RuntimeError if the
    `cryptography` package is missing.
    """
    try:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError:
        raise RuntimeError(
            'making a certificate needs the cryptography package: pip install "quick_server[tls]"'
        ) from None
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _sign(key, hosts)
    password = secrets.token_hex(16)
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )
    context = new_context()
    with tempfile.TemporaryDirectory(prefix="quick_server-") as folder:
        path = os.path.join(folder, "certificate.pem")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
        context.load_cert_chain(path, password=password)
    return SelfSigned(context, certificate.fingerprint(hashes.SHA256()).hex(":").upper())


def _sign(key: EllipticCurvePrivateKey, hosts: tuple[str, ...]) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "quick_server (self-signed)")])
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))  # clocks differ
        .not_valid_after(now + dt.timedelta(days=_DAYS))
        .add_extension(x509.SubjectAlternativeName(_names(hosts)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return builder.sign(key, hashes.SHA256())


def _names(hosts: tuple[str, ...]) -> list[GeneralName]:
    from cryptography import x509

    names: dict[str, GeneralName] = {}
    for host in (*_ALWAYS, *hosts):
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            names[host] = x509.DNSName(host)
            continue
        if address.is_unspecified:
            name = socket.gethostname()
            names[name] = x509.DNSName(name)
        else:
            names[str(address)] = x509.IPAddress(address)
    return list(names.values())
