"""Fields and secrets that several kinds of credential have.

Invariant: nobody's gateway is second-guessed: a secret and an id are bounded and printable, and
nothing else is asked of them. No message repeats a part of a secret.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from shared.credentials.kind import CredentialMeta
from shared.http_urls import MAX_URL_CHARS, read_url
from shared.masks import shortest_url
from shared.seals import origin_of

MAX_ORIGINS = 20
MAX_ID_CHARS = 500

# Most servers refuse a larger header.
MAX_SECRET_CHARS = 8_000

HTTP_ACTIONS = frozenset({"HTTP_POST"})


def _origin(text: str) -> str:
    if read_url(text).target != "/" or "#" in text:
        raise ValueError("an origin is scheme, host and port, and nothing behind them")
    return origin_of(text)


def _url(text: str) -> str:
    # what a mask stands for is counted when it is known
    read_url(text if len(text) <= MAX_URL_CHARS else shortest_url(text))
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it holds a character that cannot be printed")
    return text


def _ascii(text: str) -> str:
    if not text.isascii():
        raise ValueError("it holds a character other than ASCII")
    return _printable(text)


Origin = Annotated[str, AfterValidator(_origin)]
Url = Annotated[str, AfterValidator(_url)]
Id = Annotated[str, Field(min_length=1, max_length=MAX_ID_CHARS), AfterValidator(_printable)]
AsciiText = Annotated[str, Field(min_length=1, max_length=1_000), AfterValidator(_ascii)]


class BoundMeta(CredentialMeta):
    """Of what may go to these origins alone.

    An origin is `https://host` or `https://host:port`, without wildcards. http is taken where it is
    written so.
    """

    origins: list[Origin] = Field(min_length=1, max_length=MAX_ORIGINS)


class NoMeta(CredentialMeta):
    """Nothing beside the secret."""


def header_secret(secret: str, _meta: CredentialMeta) -> None:
    """Check a secret that goes into a header as it is."""
    _bounded(secret)
    if not secret.isascii():
        raise ValueError("it holds a character other than ASCII")


def any_secret(secret: str, _meta: CredentialMeta) -> None:
    """Check a secret that is encoded before it is sent."""
    _bounded(secret)


def url_secret(secret: str, _meta: CredentialMeta) -> None:
    """Check a secret that is an https URL."""
    if not secret.startswith("https://"):
        raise ValueError("it is a URL that begins with https://")
    read_url(secret)


def _bounded(secret: str) -> None:
    if not secret:
        raise ValueError("it is empty")
    if len(secret) > MAX_SECRET_CHARS:
        raise ValueError(f"it is longer than {MAX_SECRET_CHARS} characters")
    _printable(secret)
