"""Which credential an action uses, and that it sends it nowhere else than its owner said.

Invariants:

- An action uses a credential of its own owner, of a kind that fits its type. Another tenant's is
  answered as one that does not exist.
- What an action's URL leads to is an origin of its credential, whichever of the two, or of the
  callback's URL, is changed. Each run judges it again.

Whoever saves an action holds its credential FOR SHARE, and whoever changes or deletes a credential
holds it before looking at the actions: the two do not pass one another. A callback is locked before
a credential.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import func, select, true
from sqlalchemy.orm import Session

from api.work import Work
from shared.action_types import KINDS as ACTION_KINDS
from shared.action_types import is_primary
from shared.credentials import KINDS, kind_name, may_go
from shared.errors import Invalid
from shared.models import Action, ActionType, Callback, ServiceCredential
from shared.seals import origin_of

# Of the actions that use a credential so many are named, and so many counted.
MAX_NAMED_USES = 20
MAX_COUNTED_USES = 1_000


class Use(NamedTuple):
    """An action that uses a credential."""

    action_id: UUID
    callback_id: UUID
    name: str | None
    type: str

    def __str__(self) -> str:
        return f"the action {self.name or self.type} ({self.action_id})"


@dataclass(slots=True)
class Uses:
    """The actions that use a credential: at most MAX_NAMED_USES of them, and how many there are."""

    count: int = 0
    first: list[Use] = field(default_factory=list)


def bind(
    work: Work,
    owner: UUID,
    credential_id: UUID | None,
    kind: ActionType,
    config: dict[str, Any],
    callback: Callback,
) -> None:
    """Raise Invalid if an action with this config, sealed or not, cannot use this credential."""
    if credential_id is not None:
        goes_to = _goes_to(kind, config, callback.callback_url)
        usable(work, owner, credential_id, kind, goes_to, for_share=True)


def usable(
    work: Work, owner: UUID, credential_id: UUID, kind: ActionType, url: str, *, for_share: bool = False
) -> ServiceCredential:
    """The credential that an action of this type may send to this URL, sealed or not; raises
    Invalid.

    for_share: it stays what it is until the commit.
    """
    statement = select(ServiceCredential).where(
        ServiceCredential.id == credential_id, ServiceCredential.user_id == owner
    )
    if for_share:
        statement = statement.with_for_update(read=True).execution_options(populate_existing=True)
    found = work.session.scalar(statement)
    if found is None:
        raise Invalid(
            "You have no such credential.",
            code="unknown_credential",
            hint="Check credentialId; GET /api/v1/credentials lists yours.",
        )
    if not _fits(found, kind):
        raise Invalid(
            f"Actions of type {kind} cannot use this credential.",
            code="credential_unsuitable",
            hint="Another kind of credential fits this type of action.",
        )
    if not _may_go(found, url):
        raise _elsewhere("The action would send its credential to an origin that it is not for.")
    return found


def must_still_fit(work: Work, callback: Callback, url: str) -> None:
    """Raise Invalid if an action would send its credential elsewhere, were this the callback's
    URL, sealed or not. The callback is locked.
    """
    rows = work.session.execute(
        select(Action, ServiceCredential)
        .join(ServiceCredential, ServiceCredential.id == Action.credential_id)
        .where(Action.callback_id == callback.id, Action.deleted_at.is_(None))
        .order_by(ServiceCredential.id)
        .with_for_update(read=True, of=ServiceCredential)
        .execution_options(populate_existing=True)
    )
    broken = [
        Use(action.id, action.callback_id, action.name, action.type)
        for action, credential in rows
        if is_primary(action.type, action.config) and not _may_go(credential, url)
    ]
    if broken:
        raise _elsewhere(f"With this callbackUrl {named(broken)} would send a credential elsewhere.")


def must_serve(work: Work, changed: ServiceCredential) -> None:
    """Raise Invalid if an action that uses this credential could not any more, now that it is so.
    Its row is locked.
    """
    rows = work.session.execute(
        select(Action, Callback.callback_url)
        .join(Callback, Callback.id == Action.callback_id)
        .where(*_using(changed.id))
    )
    broken = [
        Use(action.id, action.callback_id, action.name, action.type)
        for action, url in rows
        if not _fits(changed, action.type) or not _may_go(changed, _goes_to(action.type, action.config, url))
    ]
    if broken:
        raise _elsewhere(f"So changed {named(broken)} could not use this credential.")


def uses(session: Session, credential_ids: Iterable[UUID]) -> dict[UUID, Uses]:
    """Who uses these credentials, by their ids."""
    one = (
        select(Action.id, Action.callback_id, Action.name, Action.type)
        .join(Callback, Callback.id == Action.callback_id)
        .where(*_using(ServiceCredential.id))
        .limit(MAX_COUNTED_USES)
        .lateral()
    )
    each = (
        select(
            ServiceCredential.id.label("credential_id"),
            *one.c,
            func.count().over(partition_by=ServiceCredential.id).label("number"),
            func.row_number().over(partition_by=ServiceCredential.id, order_by=one.c.id).label("rank"),
        )
        .join(one, true())
        .where(ServiceCredential.id.in_(credential_ids))
        .subquery()
    )
    found: dict[UUID, Uses] = {one_id: Uses() for one_id in credential_ids}
    for row in session.execute(select(each).where(each.c.rank <= MAX_NAMED_USES).order_by(each.c.id)):
        of_this = found[row.credential_id]
        of_this.count = row.number
        of_this.first.append(Use(row.id, row.callback_id, row.name, row.type))
    return found


def named(listed: list[Use], count: int = 0) -> str:
    """Actions by their names and ids, for a message. count: how many there are, if that is more."""
    more = max(count, len(listed)) - MAX_NAMED_USES
    return ", ".join(map(str, listed[:MAX_NAMED_USES])) + (f" and {more} more" if more > 0 else "")


def _using(credential_id: Any) -> tuple[Any, ...]:
    """Which actions use a credential: none that is deleted, nor one whose callback is."""
    return Action.credential_id == credential_id, Action.deleted_at.is_(None), Callback.deleted_at.is_(None)


def _fits(credential: ServiceCredential, kind: str) -> bool:
    name = kind_name(credential.provider, credential.meta)
    return name is not None and kind in KINDS[name].action_types


def _may_go(credential: ServiceCredential, url: str) -> bool:
    name = kind_name(credential.provider, credential.meta)
    return name is not None and may_go(KINDS[name].origins(credential.meta or {}), url)


def _goes_to(kind: str, config: dict[str, Any], callback_url: str) -> str:
    module = ACTION_KINDS.get(kind)
    destination = None if module is None else module.destination(config)
    return str(destination or origin_of(callback_url))


def _elsewhere(message: str) -> Invalid:
    return Invalid(
        message,
        code="credential_origin",
        hint="A credential goes to its origins alone. Add the origin to the credential, or choose another.",
    )
