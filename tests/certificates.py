"""Certificates for tests: an authority of their own, and what it vouches for."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
LOCAL = ("localhost", "127.0.0.1", "::1")
_SIGNS = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


@dataclass
class Issued:
    """A certificate and its key, each in a file, and both together in a third."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Signs certificates; `file` is what a client has to trust."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("authority of the tests")
        self._count = 0
        self.file = folder / "authority.pem"
        self.file.write_bytes(self._sign(self._name, self._key, (), ca=True).public_bytes(PEM))

    def issue(self, *names: str, password: str = "", days: int = 1) -> Issued:
        """A certificate for these host names and addresses; for localhost if there are none.

        It is valid until `days` from now, which may be a moment in the past: at most -1.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names = names or LOCAL
        certificate = self._sign(_name(names[0]), key, names, ca=False, days=days).public_bytes(PEM)
        encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            encryption = serialization.BestAvailableEncryption(password.encode())
        secret = key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, encryption)
        self._count += 1
        stem = f"{self._count}-{names[0].replace('*', 'any')}"
        issued = Issued(*[self._folder / f"{stem}-{part}.pem" for part in ("cert", "key", "both")])
        issued.certificate.write_bytes(certificate)
        issued.key.write_bytes(secret)
        issued.both.write_bytes(certificate + secret)
        return issued

    def trusted(self, **options: ssl.TLSVersion) -> ssl.SSLContext:
        """A client's context that trusts this authority; `minimum_version` and the like as options."""
        context = ssl.create_default_context(cafile=str(self.file))
        for name, value in options.items():
            setattr(context, name, value)
        return context

    def _sign(
        self,
        name: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        names: tuple[str, ...],
        *,
        ca: bool,
        days: int = 1,
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=2))
            .not_valid_after(now + dt.timedelta(days=days))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            # Python 3.13 verifies as strictly as RFC 5280 wants it: who signed, and with which key.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if ca:
            builder = builder.add_extension(_SIGNS, critical=True)
        if names:
            alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
