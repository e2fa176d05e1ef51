"""Authorities of the tests' own, and certificates that they sign. All last a day."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFE = timedelta(days=1)


class Signed(NamedTuple):
    """A certificate and its private key, in PEM."""

    certificate: str
    key: str


class Authority:
    """Whoever is told to trust `certificate` trusts what it signs."""

    def __init__(self, name: str) -> None:
        self._name = _named(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        made = _builder(self._name, self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        usage = x509.KeyUsage(**dict.fromkeys(_USAGES, False) | {"key_cert_sign": True, "crl_sign": True})
        signed = made.add_extension(usage, critical=True).sign(self._key, hashes.SHA256())
        self.certificate = signed.public_bytes(serialization.Encoding.PEM).decode()

    def sign(self, name: str, *addresses: str) -> Signed:
        """A certificate for this name and, of a server, these addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        made = _builder(_named(name), self._name, key).add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
        )
        if addresses:
            listed = [x509.IPAddress(ipaddress.ip_address(one)) for one in addresses]
            made = made.add_extension(x509.SubjectAlternativeName(listed), critical=False)
        signed = made.sign(self._key, hashes.SHA256())
        return Signed(signed.public_bytes(serialization.Encoding.PEM).decode(), private_pem(key))


def server_context(server: Signed, trusted: Authority | None = None) -> ssl.SSLContext:
    """What a server is made with. trusted: whose certificates its clients must show, if any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write((server.certificate + server.key).encode())
        file.flush()
        context.load_cert_chain(file.name)
    if trusted is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=trusted.certificate)
    return context


def private_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> str:
    """A private key in PEM."""
    encryption = (
        serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    ).decode()


_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LIFE)
        .not_valid_after(now + LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
