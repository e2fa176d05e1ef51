"""Credentials: the secrets with which actions show who they are.

Invariants:

- No answer and no message holds a secret.
- A credential that an action uses is not deleted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, JsonValue
from sqlalchemy import delete as sql_delete
from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from api.resources import bindings, credential_meta
from api.resources.bindings import MAX_COUNTED_USES, MAX_NAMED_USES
from api.resources.paging import newest
from api.resources.shapes import (
    EXAMPLE_ID,
    EXAMPLE_OTHER_ID,
    EXAMPLE_TIME,
    Change,
    Given,
    Name,
    Page,
    PageQuery,
    Shown,
    example,
)
from api.work import Work
from shared.crypto import sealed_by
from shared.errors import Conflict, NotFound
from shared.models import Action, Callback, ServiceCredential, ServiceProvider

# A private key in PEM.
MAX_SECRET_CHARS = 16 * 1024

Secret = Annotated[
    str,
    Field(min_length=1, max_length=MAX_SECRET_CHARS, json_schema_extra={"writeOnly": True}),
]
Meta = dict[str, JsonValue]
EXAMPLE_META = {"kind": "bearer", "origins": ["https://api.example.com"]}


class NewCredential(Given):
    """meta has the shape of its provider; of a GENERIC one, of its `kind`."""

    model_config = example(name="api", provider="GENERIC", secret="…", meta=EXAMPLE_META)  # noqa: S106

    name: Name
    provider: ServiceProvider
    secret: Secret
    meta: Meta | None = None


class CredentialChange(Change):
    """Only what is given changes. meta replaces all of it; a mask (`***`) in it means «unchanged».

    Origins, kind, header, prefix, parameter, tokenUrl, scope, audience and Twilio's ids change only
    together with the secret.
    """

    model_config = example(name="the api's")
    NULLABLE = frozenset({"meta"})

    name: Name | None = None
    secret: Secret | None = None
    meta: Meta | None = None


class CredentialUse(Shown):
    """An action that uses a credential."""

    action_id: UUID
    callback_id: UUID
    name: str | None


class ShownCredential(Shown):
    """A credential without its secret."""

    model_config = example(
        id=EXAMPLE_ID,
        name="api",
        provider="GENERIC",
        meta=EXAMPLE_META,
        keyId="0a1b2c3d",
        usedByCount=1,
        usedBy=[{"actionId": EXAMPLE_ID, "callbackId": EXAMPLE_OTHER_ID, "name": "primary"}],
        lastUsedAt=EXAMPLE_TIME,
        createdAt=EXAMPLE_TIME,
        updatedAt=EXAMPLE_TIME,
    )

    id: UUID
    name: str
    provider: ServiceProvider
    meta: dict[str, Any] | None = Field(description="Values in the query of a URL are masked.")
    key_id: str | None = Field(description="Which encryption key opens its secret.")
    used_by_count: int = Field(description=f"Actions that use it; beyond {MAX_COUNTED_USES} none is counted.")
    used_by: list[CredentialUse] = Field(description=f"The first {MAX_NAMED_USES} of them.")
    last_used_at: datetime | None = Field(description="When an attempt last used it, to about a minute.")
    created_at: datetime
    updated_at: datetime


class CredentialPage(Page[ShownCredential]):
    """Credentials, newest first."""


def create(work: Work, owner: UUID, new: NewCredential) -> ShownCredential:
    """Seal a new secret."""
    row = work.fresh(
        ServiceCredential(
            user_id=owner,
            name=new.name,
            provider=new.provider,
            secret=work.secrets.encrypt(new.secret),
            meta=credential_meta.new_meta(work, new.provider, new.meta or {}, new.secret),
        )
    )
    work.audit("credential_created", credential=row.id, provider=row.provider.value)
    return _show(work, [row])[0]


def find(work: Work, owner: UUID, credential_id: UUID) -> ShownCredential:
    """One credential; raises NotFound."""
    return _show(work, [own(work.session, owner, credential_id)])[0]


def page(work: Work, owner: UUID, query: PageQuery) -> CredentialPage:
    """The owner's credentials, newest first."""
    statement = select(ServiceCredential).where(ServiceCredential.user_id == owner)
    if query.cursor is not None:
        statement = statement.where(ServiceCredential.id < query.cursor)
    found = work.session.scalars(statement.order_by(ServiceCredential.id.desc()).limit(query.limit + 1)).all()
    rows, next_cursor = newest(found, query.limit)
    return CredentialPage(items=_show(work, rows), next_cursor=next_cursor)


def change(work: Work, owner: UUID, credential_id: UUID, given: CredentialChange) -> ShownCredential:
    """Change what is given; it holds for every attempt that starts later."""
    changes = given.changes()
    row = own(work.session, owner, credential_id, for_update=True)
    secret = changes.get("secret")
    if "meta" in changes:
        row.meta = credential_meta.changed_meta(work, row, changes["meta"] or {}, secret)
        bindings.must_serve(work, row)
    elif secret is not None:
        credential_meta.must_fit(work, row, secret)
    if secret is not None:
        row.secret = work.secrets.encrypt(secret)
    row.name = changes.get("name", row.name)
    work.audit("credential_changed", credential=row.id, fields=sorted(changes))
    return _show(work, [work.fresh(row)])[0]


def delete(work: Work, owner: UUID, credential_id: UUID) -> None:
    """Delete a credential. Conflict: an action uses it."""
    row = own(work.session, owner, credential_id, for_update=True)
    uses = bindings.uses(work.session, [row.id])[row.id]
    if uses.count:
        raise _in_use(f"It is used by {bindings.named(uses.first, uses.count)}.")
    gone = select(Callback.id).where(Callback.id == Action.callback_id, Callback.deleted_at.is_not(None))
    with _unless_used():
        # what waits for its purge is found by no run any more, which would send it without this
        work.session.execute(
            update(Action)
            .where(Action.credential_id == row.id, Action.deleted_at.is_not(None) | gone.exists())
            .values(credential_id=None, deleted_at=func.coalesce(Action.deleted_at, func.now()))
            .execution_options(synchronize_session=False)
        )
        work.session.execute(sql_delete(ServiceCredential).where(ServiceCredential.id == row.id))
    work.audit("credential_deleted", credential=credential_id)


@contextmanager
def _unless_used() -> Iterator[None]:
    """Turn what keeps a credential that an action names into Conflict."""
    try:
        yield
    except IntegrityError as error:
        if "credential_id" not in str(error.orig):
            raise
        raise _in_use("An action has just begun to use it.") from None


def _in_use(message: str) -> Conflict:
    return Conflict(
        message,
        code="credential_in_use",
        hint="Give these actions another credential, or none, then delete it.",
    )


def own(session: Session, owner: UUID, credential_id: UUID, *, for_update: bool = False) -> ServiceCredential:
    """The row of the owner's credential with this id; raises NotFound.

    for_update: whoever gives it to an action waits until the commit.
    """
    statement = select(ServiceCredential).where(
        ServiceCredential.id == credential_id, ServiceCredential.user_id == owner
    )
    if for_update:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    found = session.scalar(statement)
    if found is None:
        raise NotFound("You have no such credential.")
    return found


def _show(work: Work, rows: Sequence[ServiceCredential]) -> list[ShownCredential]:
    uses = bindings.uses(work.session, [row.id for row in rows])
    return [
        ShownCredential(
            id=row.id,
            name=row.name,
            provider=row.provider,
            meta=credential_meta.shown_meta(work, row),
            key_id=sealed_by(row.secret),
            used_by_count=uses[row.id].count,
            used_by=[
                CredentialUse(action_id=use.action_id, callback_id=use.callback_id, name=use.name)
                for use in uses[row.id].first
            ],
            last_used_at=row.last_used_at,
            created_at=row.created_at,
            updated_at=row.updated_at,
        )
        for row in rows
    ]
