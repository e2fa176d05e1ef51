"""The signing secrets in a callback's row: made, opened, ended.

Invariants:

- They stand newest first. What has ended, and what no key opens, signs nothing: it is passed over
  here, and so it is gone once the list is written again.
- A symmetric secret is shown when it is made and never again. Of a private key only its public key
  is ever shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, Field

from api.resources.shapes import EXAMPLE_TIME, Shown, example
from api.work import Work
from shared.clock import database_clock
from shared.errors import Invalid
from shared.models import Callback
from shared.signatures import Scheme, new_signing_secret, public_key, scheme_of, signing_key

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)


def _each_once(schemes: list[Scheme]) -> list[Scheme]:
    if len(set(schemes)) < len(schemes):
        raise ValueError("each scheme can be named once")
    return schemes


Schemes = Annotated[
    list[Scheme],
    Field(min_length=1, max_length=len(SCHEMES), json_schema_extra={"uniqueItems": True}),
    AfterValidator(_each_once),
]
"""What a caller asks for: `v1` (HMAC-SHA256), `v1a` (ed25519) or both."""

EXAMPLE_KEY = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


class PublicKey(Shown):
    """What receivers verify `v1a` signatures with, as long as it is in force."""

    model_config = example(key=EXAMPLE_KEY, expiresAt=EXAMPLE_TIME)

    key: str
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class OpenSecret:
    """A signing secret as it stands in its row, and what opening it has shown."""

    plain: str = field(repr=False)
    sealed: str
    created_at: str
    expires_at: datetime | None = None

    @property
    def scheme(self) -> Scheme:
        return scheme_of(self.plain)

    @property
    def row(self) -> dict[str, Any]:
        expires_at = None if self.expires_at is None else self.expires_at.isoformat()
        return {"secret": self.sealed, "createdAt": self.created_at, "expiresAt": expires_at}

    def ended(self, ends_at: datetime) -> OpenSecret:
        """The same with an end: this one, unless it has an earlier one."""
        return replace(self, expires_at=ends_at if self.expires_at is None else min(self.expires_at, ends_at))

    def is_in_force(self, now: datetime) -> bool:
        return self.expires_at is None or now < self.expires_at


def new_secrets(work: Work, schemes: Collection[Scheme]) -> list[OpenSecret]:
    """A new secret of each of these schemes, the one that more receivers know first."""
    created_at = database_clock.now().isoformat()
    plain = [new_signing_secret(scheme) for scheme in SCHEMES if scheme in schemes]
    return [OpenSecret(one, work.secrets.encrypt(one), created_at) for one in plain]


def in_force(work: Work, callback: Callback, now: datetime | None = None) -> list[OpenSecret]:
    """The callback's secrets that sign now, newest first."""
    now = now or database_clock.now()
    opened = [_opened(work, row) for row in callback.signing_secrets]
    return [secret for secret in opened if secret is not None and secret.is_in_force(now)]


def _opened(work: Work, row: dict[str, Any]) -> OpenSecret | None:
    """A secret of a row, or None for what is none: no key opens it, or it was written by hand."""
    try:
        plain = work.secrets.decrypt(row["secret"])
        signing_key(plain)
        end = row.get("expiresAt")
        expires_at = datetime.fromisoformat(end) if end else None
        return OpenSecret(plain, row["secret"], row["createdAt"], expires_at)
    except (Invalid, ValueError, TypeError, KeyError, AttributeError):
        return None


def schemes_of(secrets: Iterable[OpenSecret]) -> list[Scheme]:
    """The schemes by which these sign."""
    found = {secret.scheme for secret in secrets}
    return [scheme for scheme in SCHEMES if scheme in found]


def symmetric_of(secrets: Sequence[OpenSecret]) -> str | None:
    """The newest of these secrets that is shared with receivers."""
    return next((secret.plain for secret in secrets if secret.scheme == "v1"), None)


def shown(secrets: Sequence[OpenSecret]) -> dict[str, Any]:
    """What anybody may know of these secrets: `signatures` and `public_keys`."""
    keys = [
        PublicKey(key=public_key(secret.plain), expires_at=secret.expires_at)
        for secret in secrets
        if secret.scheme == "v1a"
    ]
    return {"signatures": schemes_of(secrets), "public_keys": keys}
