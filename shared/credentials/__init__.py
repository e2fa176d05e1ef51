"""The pure half of each kind of credential: what its meta may hold, and what its secret is bound
to.

One file per kind, each with its KIND. A GENERIC credential names its kind in meta; for the other
providers the provider is the kind. What is put into a request of a credential is the worker's
(worker/actions/credentials.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from shared.credentials import (
    basic,
    bearer,
    client_certificate,
    discord,
    header,
    oauth2,
    query,
    sendgrid,
    slack,
    twilio,
)
from shared.credentials.kind import CredentialKind, CredentialMeta
from shared.errors import Invalid
from shared.masks import is_same_destination

GENERIC = "GENERIC"

KINDS: dict[str, CredentialKind] = {
    "bearer": bearer.KIND,
    "basic": basic.KIND,
    "header": header.KIND,
    "query": query.KIND,
    "oauth2": oauth2.KIND,
    "clientCertificate": client_certificate.KIND,
    "SENDGRID": sendgrid.KIND,
    "TWILIO": twilio.KIND,
    "SLACK": slack.KIND,
    "DISCORD": discord.KIND,
}
"""By what a GENERIC credential calls its kind, else by the provider."""


def kind_name(provider: str, meta: Mapping[str, Any] | None) -> str | None:
    """What such a credential is called in KINDS, None if it is of no known kind."""
    name = (meta or {}).get("kind") if provider == GENERIC else provider
    known = KINDS.get(name) if isinstance(name, str) else None
    return name if known is not None and known.provider == provider else None


def kind_of(provider: str, meta: Mapping[str, Any] | None) -> CredentialKind:
    """The kind of such a credential; raises Invalid."""
    name = kind_name(provider, meta)
    if name is None:
        listed = ", ".join(one for one, kind in KINDS.items() if kind.provider == GENERIC)
        raise _invalid("meta.kind: it is no kind of credential.", f"Use one of {listed}.")
    return KINDS[name]


def parse_meta(provider: str, meta: Mapping[str, Any] | None) -> CredentialMeta:
    """Check a meta, open or with masks, and return its model; raises Invalid naming the field."""
    kind = kind_of(provider, meta)
    try:
        return kind.meta.model_validate(meta or {})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in ("meta", *first["loc"]))
        raise _invalid(f"{where}: {first['msg']}.", f"Fix {where} of the credential.") from None


def check(provider: str, secret: str, meta: Mapping[str, Any] | None) -> None:
    """Raise Invalid if this is no meta of such a credential, or cannot be its secret, of which
    nothing is said.
    """
    model = parse_meta(provider, meta)
    try:
        kind_of(provider, meta).check_secret(secret, model)
    except ValueError as error:
        raise _invalid(f"secret: {error}.", "Fix the secret of the credential.") from None


def may_go(origins: Iterable[str], url: str) -> bool:
    """Whether a URL, sealed or not, leads to one of these origins."""
    return any(is_same_destination(url, origin) for origin in origins)


def _invalid(message: str, hint: str) -> Invalid:
    return Invalid(message, code="bad_credential", hint=hint)
