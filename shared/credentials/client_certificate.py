"""A certificate that the caller shows in TLS. The secret is its private key, in PEM.

Invariants:

- Key and certificate fit each other, and the key has no passphrase.
- No private key stands in meta.
- Every origin is https: elsewhere nobody asks for a certificate.
"""

from __future__ import annotations

from typing import Annotated, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509 import Certificate, load_pem_x509_certificates
from pydantic import AfterValidator, Field, field_validator

from shared.credentials.fields import HTTP_ACTIONS, BoundMeta
from shared.credentials.kind import CredentialKind

MAX_CHAIN_CHARS = 32 * 1024
MAX_CA_CHARS = 64 * 1024
MAX_KEY_CHARS = 16 * 1024


def _without_key(pem: str) -> str:
    if not pem.isascii() or "\x00" in pem:
        raise ValueError("PEM is ASCII text")
    if "PRIVATE KEY" in pem:
        raise ValueError("it holds a private key; that is the secret, and stands in no meta")
    return pem


class ClientCertificateMeta(BoundMeta):
    """`{"kind": "clientCertificate", "certificate", "ca?", "origins": […]}`.

    certificate: in PEM, the client's own first, then those that lead to its authority. ca: who may
    have signed the server's certificate, instead of the usual authorities.
    """

    kind: Literal["clientCertificate"]
    certificate: Annotated[str, Field(min_length=1, max_length=MAX_CHAIN_CHARS), AfterValidator(_without_key)]
    ca: Annotated[str, Field(min_length=1, max_length=MAX_CA_CHARS), AfterValidator(_without_key)] | None = (
        None
    )

    @field_validator("origins")
    @classmethod
    def _https(cls, origins: list[str]) -> list[str]:
        if not all(origin.lower().startswith("https://") for origin in origins):
            raise ValueError("a certificate is shown to https origins only")
        return origins


def _check_secret(secret: str, meta: ClientCertificateMeta) -> None:
    if not secret or len(secret) > MAX_KEY_CHARS:
        raise ValueError(f"a private key in PEM has 1 to {MAX_KEY_CHARS} characters")
    chain = _certificates(meta.certificate, "certificate")
    if meta.ca is not None:
        _certificates(meta.ca, "ca")
    try:
        public_key = load_pem_private_key(secret.encode(), password=None).public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("this is no private key in PEM without a passphrase") from None
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if public_key.public_bytes(*form) != chain[0].public_key().public_bytes(*form):
        raise ValueError("the private key does not belong to the first certificate")


def _certificates(pem: str, field: str) -> list[Certificate]:
    try:
        return load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise ValueError(f"meta.{field} holds no certificate in PEM") from None


KIND = CredentialKind("GENERIC", ClientCertificateMeta, HTTP_ACTIONS, _check_secret)
