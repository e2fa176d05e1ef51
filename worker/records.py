"""The rows of a trigger, its callback and its actions, as a worker holds them in memory.

Invariant: a record says what its row said when it was read, and never changes. A change of the row
shows in the next record alone. This module imports no driver and no part of the worker.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from shared.action_types import is_primary


@dataclass(frozen=True, slots=True)
class TriggerRecord:
    """One recorded call of a trigger URL. headers: JSON text, a list of [name, value]."""

    id: UUID
    callback_id: UUID
    user_id: UUID
    method: str
    path: str
    query: str
    headers: str
    content_type: str | None
    body: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True)
class CallbackRecord:
    """What an attempt needs of its callback.

    active: neither it nor its user is switched off. Its URL and its signing secrets are with its
    actions: these are read anew before each attempt, and both may hold from one moment on.
    """

    id: UUID
    user_id: UUID
    name: str
    timeout_ms: int
    active: bool = True


class SigningSecret(NamedTuple):
    """A secret that signs until it ends.

    sealed: ciphertext. ends_at: unix seconds, PostgreSQL's time; None: it has no end.
    """

    sealed: str
    ends_at: float | None = None

    def signs_at(self, moment: float) -> bool:
        """Whether it is in force then."""
        return self.ends_at is None or moment < self.ends_at


@dataclass(frozen=True, slots=True)
class CredentialRecord:
    """A credential of an action's owner. Two are equal when neither secret nor meta has changed.

    secret: sealed. meta: JSON text, URLs in it sealed; "null" for none.
    """

    id: UUID
    provider: str
    secret: str
    meta: str

    @property
    def version(self) -> str:
        """Another one with each change of the secret or of the meta."""
        return hashlib.sha256(f"{self.secret}\0{self.meta}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ActionRecord:
    """An action. Two are equal when nothing of the action has changed between their readings, nor
    the URL and the signing secrets of its callback, nor the credential that it uses.

    callback_url, config: sealed, as the rows have them. config_text: what the config was read from.
    condition: without which it runs always. reads: the names of the actions whose answers it needs.
    signing_secrets: of its callback, newest first, those left out that had ended when it was read.
    flaw: why its row cannot be used, if so.
    rank: its place among the actions of its callback by their ids, deleted ones included, where the
    action was read for a first claim; else 0. It says nothing of the action itself.
    """

    id: UUID
    callback_id: UUID
    callback_url: str
    type: str
    name: str | None
    order: int
    parallel: bool
    enabled: bool
    stops_on_failure: bool
    config: dict[str, Any]
    retry: dict[str, Any] | None
    config_text: str = field(default="", compare=False)
    condition: str | None = None
    reads: tuple[str, ...] = ()
    signing_secrets: tuple[SigningSecret, ...] = ()
    flaw: str | None = None
    credential: CredentialRecord | None = None
    rank: int = field(default=0, compare=False)

    @property
    def is_primary(self) -> bool:
        """Whether its target is the callback's own URL."""
        return is_primary(self.type, self.config)
