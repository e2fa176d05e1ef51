"""Where the lists of what has happened are read from: triggers, runs and logs, of an owner or of a
callback.

A settled trigger has a log row, one in motion a run. So a list by status walks the one or the other
in the order of its index, and never all triggers. What belongs to a deleted callback is passed
over, until the purge has removed it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, exists, select

from api.resources.paging import Source, Statement, only
from shared.models import Callback, Log, Run, RunStatus, Trigger
from shared.runs.settle import SETTLED_EVENT

Status = Literal["PENDING", "RUNNING", "SUCCESS", "FAILED"]


@dataclass(frozen=True, slots=True)
class Past:
    """A part of what has happened: all of an owner's, or of one of their callbacks, which must be
    theirs and not deleted.

    before: only ids below it; through: only ids up to it. first, end: from when until before when,
    as the lowest ids of these moments.
    """

    owner: UUID
    callback_id: UUID | None = None
    before: UUID | None = None
    through: UUID | None = None
    first: UUID | None = None
    end: UUID | None = None

    def triggers(self) -> Source:
        """All triggers."""
        entries = select(Trigger.id.label("id"), Trigger.callback_id)
        return Source(self._walked(entries, Trigger, Trigger.id), self._lives)

    def in_motion(self, *statuses: RunStatus) -> Source:
        """Triggers that have a run; in one of these statuses, if any are given.

        The runs of everybody are walked: there are few.
        """
        entries: Statement = select(Run.trigger_id.label("id"), Run.callback_id, Run.user_id, Run.status)
        entries = entries.where(*self._within(Run.trigger_id)).order_by(Run.trigger_id.desc())

        def conditions(columns: Any) -> list[ColumnElement[bool]]:
            wanted = [columns.user_id == self.owner, *self._lives(columns)]
            if self.callback_id is not None:
                wanted.append(columns.callback_id == self.callback_id)
            return [*wanted, columns.status.in_(statuses)] if statuses else wanted

        return Source(entries, conditions)

    def logs(self, *, success: bool | None, settled_only: bool) -> Source:
        """Log rows; success: only those with this outcome; settled_only: of triggers, no other
        events.
        """
        entries: Statement = select(Log.id.label("id"), Log.callback_id, Log.success, Log.event)
        if success is False:
            entries = entries.where(~Log.success)  # what the indexes of failures are made of

        def conditions(columns: Any) -> list[ColumnElement[bool]]:
            wanted = self._lives(columns)
            if success:
                wanted.append(columns.success)
            return [*wanted, columns.event == SETTLED_EVENT] if settled_only else wanted

        return Source(self._walked(entries, Log, Log.id), conditions)

    def by_status(self, status: Status | None) -> Source:
        """Triggers with this status."""
        if status is None:
            return self.triggers()
        if status in ("PENDING", "RUNNING"):
            return self.in_motion(RunStatus(status))
        return self.logs(success=status == "SUCCESS", settled_only=True)

    def _walked(self, entries: Statement, table: Any, key: Any) -> Statement:
        """These entries in the order of the index that begins with the owner or the callback."""
        column, value = table.user_id, self.owner
        if self.callback_id is not None:
            column, value = table.callback_id, self.callback_id
        bounds = [*only(column, value), *self._within(key)]
        return entries.where(*bounds).order_by(column.desc(), key.desc())

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

    def _lives(self, columns: Any) -> list[ColumnElement[bool]]:
        return [] if self.callback_id is not None else [not_deleted(columns.callback_id, self.owner)]


def not_deleted(callback_id: Any, owner: UUID) -> ColumnElement[bool]:
    """Whether a callback of the owner is not marked as deleted, for many rows: few are, so that
    these are looked up once.
    """
    deleted = select(Callback.id).where(Callback.user_id == owner, Callback.deleted_at.is_not(None))
    found: ColumnElement[bool] = callback_id.not_in(deleted)
    return found


def callback_lives(callback_id: Any) -> ColumnElement[bool]:
    """Whether a row's callback is not marked as deleted, for a single row."""
    return exists().where(Callback.id == callback_id, Callback.deleted_at.is_(None))
