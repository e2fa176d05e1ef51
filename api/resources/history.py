"""Where the lists of what has happened are read from: triggers, runs and logs, by owner or by callback.

A settled trigger has a log row, one in motion a run. So a list by status reads the one or the other in the order of its
index, and never all triggers. What belongs to a deleted callback is passed over, until the purge has removed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, select

from api.resources.paging import Entries, Source
from shared.models import Callback, Log, Run, RunStatus, Trigger
from shared.settle import SETTLED_EVENT

Status = Literal["PENDING", "RUNNING", "SUCCESS", "FAILED"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose history: all of an owner's, or one of their callbacks', which must be theirs and not deleted.

    before: only ids below it; through: only ids up to it. first, end: from when until before when, as the lowest ids of
    these moments.
    """

    owner: UUID
    callback_id: UUID | None = None
    before: UUID | None = None
    through: UUID | None = None
    first: UUID | None = None
    end: UUID | None = None

    def _within(self, key: Any) -> list[ColumnElement[bool]]:
        bounds: list[ColumnElement[bool]] = []
        if self.before is not None:
            bounds.append(key < self.before)
        if self.through is not None:
            bounds.append(key <= self.through)
        if self.first is not None:
            bounds.append(key >= self.first)
        if self.end is not None:
            bounds.append(key < self.end)
        return bounds

    def _of(self, table: Any) -> ColumnElement[bool]:
        """The first columns of the index that is read."""
        found: ColumnElement[bool] = (
            table.user_id == self.owner if self.callback_id is None else table.callback_id == self.callback_id
        )
        return found

    def _lives(self, columns: Any) -> list[ColumnElement[bool]]:
        return [] if self.callback_id is not None else [not_deleted(columns.callback_id, self.owner)]

    def triggers(self) -> Source:
        """All triggers."""
        entries = select(Trigger.id.label("id"), Trigger.callback_id).where(
            self._of(Trigger), *self._within(Trigger.id)
        )
        return Source(entries, self._lives)

    def in_motion(self, *statuses: RunStatus) -> Source:
        """Triggers that have a run; in one of these statuses, if any are given. The few runs of everybody are read."""
        entries = select(Run.trigger_id.label("id"), Run.callback_id, Run.user_id, Run.status).where(
            *self._within(Run.trigger_id)
        )

        def conditions(columns: Any) -> list[ColumnElement[bool]]:
            wanted = [columns.user_id == self.owner, *self._lives(columns)]
            if self.callback_id is not None:
                wanted.append(columns.callback_id == self.callback_id)
            return [*wanted, columns.status.in_(statuses)] if statuses else wanted

        return Source(entries, conditions)

    def logs(self, *, success: bool | None, settled_only: bool) -> Source:
        """Log rows; success: only those with this outcome; settled_only: of triggers, no other events."""
        entries: Entries = select(Log.id.label("id"), Log.callback_id, Log.success, Log.event).where(
            self._of(Log), *self._within(Log.id)
        )
        if success is False:
            entries = entries.where(~Log.success)  # what the index of failures is made of

        def conditions(columns: Any) -> list[ColumnElement[bool]]:
            wanted = self._lives(columns)
            if success:
                wanted.append(columns.success)
            return [*wanted, columns.event == SETTLED_EVENT] if settled_only else wanted

        return Source(entries, conditions)

    def by_status(self, status: Status | None) -> Source:
        """Triggers with this status."""
        if status is None:
            return self.triggers()
        if status in ("PENDING", "RUNNING"):
            return self.in_motion(RunStatus(status))
        return self.logs(success=status == "SUCCESS", settled_only=True)


def not_deleted(callback_id: Any, owner: UUID) -> ColumnElement[bool]:
    """Whether a callback of the owner is not marked as deleted: few are, so that these are looked up once."""
    deleted = select(Callback.id).where(Callback.user_id == owner, Callback.deleted_at.is_not(None))
    found: ColumnElement[bool] = callback_id.not_in(deleted)
    return found
