"""A credential's meta, between a caller and the rows: sealed as it is stored, masked as it is
shown.

Invariants:

- What the secret is bound to changes only together with the secret: who does not have it cannot
  send it anywhere else, nor buy anything else with it.
- What is stored fits its secret: a certificate its key.
- What no key opens any more is shown all masked, and can be set again.
"""

from __future__ import annotations

from typing import Any

from api.work import Work
from shared.credentials import check, kind_of, parse_meta
from shared.credentials.kind import CredentialKind
from shared.errors import Invalid
from shared.masks import MASK, is_same_destination, secret_needed_again
from shared.models import ServiceCredential, ServiceProvider

SEND_IT = "Send the secret in the same request."


def new_meta(
    work: Work, provider: ServiceProvider, given: dict[str, Any], secret: str
) -> dict[str, Any] | None:
    """The meta of a new credential with this secret, to be stored; raises Invalid."""
    parse_meta(provider, given)
    kind = kind_of(provider, given)
    meta = kind.unmask(given, {})
    check(provider, secret, meta)
    return kind.seal(meta, work.secrets.encrypt) or None


def changed_meta(
    work: Work, row: ServiceCredential, given: dict[str, Any], secret: str | None
) -> dict[str, Any] | None:
    """A new meta of this credential, to be stored; raises Invalid.

    secret: the new one, if it is changed too.
    """
    parse_meta(row.provider, given)
    kind, kept = kind_of(row.provider, given), _opened(work, row)
    meta = kind.unmask(given, kept or {})
    if secret is None and (changed := _bound_changes(kind, meta, kept)):
        raise secret_needed_again(
            f"The secret is bound to what would change: {', '.join(changed)}.", hint=SEND_IT
        )
    for field in kind.urls:
        url, was = str(meta.get(field)), str((kept or {}).get(field))
        if url != given.get(field) and not is_same_destination(url, was):
            raise secret_needed_again(
                f"meta.{field} has another scheme, host or port, and what is masked was not set for that.",
                hint="Write the values that are masked, or leave them out.",
            )
    check(row.provider, _open_secret(work, row) if secret is None else secret, meta)
    return kind.seal(meta, work.secrets.encrypt) or None


def _bound_changes(kind: CredentialKind, meta: dict[str, Any], kept: dict[str, Any] | None) -> list[str]:
    """The fields that the secret is bound to and that change; all, where nobody knows what was."""
    bound = kind.bound_to(meta)
    was = {} if kept is None else kind.bound_to(kept)
    return [name for name, value in bound.items() if name not in was or was[name] != value]


def must_fit(work: Work, row: ServiceCredential, secret: str) -> None:
    """Raise Invalid if this cannot be the secret of a credential with the meta that it has."""
    meta = _opened(work, row)
    if meta is None:
        raise Invalid(
            "No key opens the meta of this credential any more.",
            code="secret_unreadable",
            hint="Send meta with the secret.",
        )
    check(row.provider, secret, meta)


def shown_meta(work: Work, row: ServiceCredential) -> dict[str, Any] | None:
    """A meta as it is shown; None where there is none, or of an unknown kind."""
    if row.meta is None:
        return None
    try:
        kind = kind_of(row.provider, row.meta)
    except Invalid:
        return None
    meta = _opened(work, row)
    return kind.masked(kind.unseal(row.meta, lambda _sealed: MASK) if meta is None else meta)


def _opened(work: Work, row: ServiceCredential) -> dict[str, Any] | None:
    """A meta with its secrets, None when no key opens one of them or it is of an unknown kind."""
    meta = row.meta or {}
    try:
        return kind_of(row.provider, meta).unseal(meta, lambda sealed: work.secrets.decrypt(sealed))
    except Invalid:
        return None


def _open_secret(work: Work, row: ServiceCredential) -> str:
    try:
        return work.secrets.decrypt(row.secret, remember=False)
    except Invalid as error:
        raise secret_needed_again(error.message, hint=SEND_IT) from None
