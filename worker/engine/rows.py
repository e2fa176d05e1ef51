"""Reads the rows that a run is made of.

JSON columns come as text and are parsed here, one row at a time: a number of 5,000 digits in one
config must flaw that action alone, not the batch in which it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from shared.clock import database_clock
from shared.postgres.arrays import array
from shared.postgres.statements import Statement, Transaction
from worker.engine.state import Execution, Status
from worker.records import ActionRecord, CallbackRecord, CredentialRecord, SigningSecret

# So many configs are kept as they were read. Most have less than 1 KiB.
MAX_KEPT_TEXTS = 1_024

# So many credentials are kept as they were read, so that runs that use one have one copy of it.
MAX_KEPT_CREDENTIALS = 256

# A longer config, of up to 256 KiB, is read anew each time.
MAX_KEPT_TEXT_CHARS = 4_096

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_ACTION = """
SELECT a.id, a.callback_id, c.callback_url, a.type, a.name, a."order", a.parallel, a.enabled, a.on_failure,
  a.config::text, a.retry::text, a.condition, a.reads, c.signing_secrets::text,
  a.credential_id, s.id, s.provider, s.secret, coalesce(s.meta::text, 'null')"""
# OFFSET 0 keeps it one look-up by its key for each action, and none where there is no credential.
_CREDENTIAL = """
LEFT JOIN LATERAL (SELECT * FROM service_credentials s WHERE s.id = a.credential_id AND s.user_id = a.user_id OFFSET 0) s
  ON true"""
# The rank counts marked actions too: deleting one changes no id of the others' executions.
ACTIONS_OF_CALLBACKS = Statement(
    "actions_of_callbacks",
    "uuid[]",
    f"""{_ACTION}, a.rank FROM (
  SELECT *, row_number() OVER (PARTITION BY callback_id ORDER BY id) - 1 AS rank FROM actions
  WHERE callback_id = ANY($1)) a JOIN callbacks c ON c.id = a.callback_id{_CREDENTIAL}
WHERE a.deleted_at IS NULL""",  # noqa: S608 - fixed texts
)
ACTIONS_BY_ID = Statement(
    "actions_by_id",
    "uuid[]",
    f"""{_ACTION}, 0 FROM actions a JOIN callbacks c ON c.id = a.callback_id{_CREDENTIAL}
WHERE a.deleted_at IS NULL AND a.id = ANY($1)""",
)
_CREDENTIALS = Statement(
    "credentials_by_id",
    "uuid[], uuid",
    """
SELECT s.id, s.provider, s.secret, coalesce(s.meta::text, 'null') FROM service_credentials s
WHERE s.id = ANY($1) AND s.user_id = $2
""",
)
_CALLBACKS = Statement(
    "callbacks_by_id",
    "uuid[]",
    """
SELECT c.id, c.user_id, c.name, c.timeout_duration, c.active_status AND u.is_active
FROM callbacks c JOIN users u ON u.id = c.user_id
WHERE c.deleted_at IS NULL AND u.deleted_at IS NULL AND c.id = ANY($1)
""",
)
_EXECUTIONS = Statement(
    "executions_of_triggers",
    "uuid[]",
    """
SELECT x.trigger_id, x.id, x.action_id, x.type, x.step, x.status, x.attempt, x.next_attempt_at,
  (x.next_attempt_at IS NULL OR x.next_attempt_at <= now()), (x.response->>'statusCode')::int,
  (SELECT count(*) FROM jsonb_array_elements(x.history) h WHERE h->>'outcome' IN ('worker_lost', 'released')),
  x.history @> '[{"immediate": true}]'
FROM action_executions x WHERE x.trigger_id = ANY($1) AND x.trigger_id BETWEEN $first AND $last
""",
    keys=1,
)


_ANSWERS = Statement(
    "answers_of_executions",
    "uuid[], uuid[]",  # triggers, executions
    """
SELECT x.trigger_id, x.id, x.response::text FROM action_executions x
WHERE x.trigger_id = ANY($1) AND x.trigger_id BETWEEN $first AND $last AND x.id = ANY($2)
  AND x.response IS NOT NULL
""",
    keys=1,
)


def read_answers(
    statements: Transaction, trigger_ids: Iterable[UUID], execution_ids: Iterable[UUID]
) -> dict[UUID, str]:
    """What these executions were answered, by their ids, as JSON text."""
    rows = statements.ask(_ANSWERS, array(trigger_ids), array(execution_ids))
    return {row[1]: row[2] for row in rows}


def read_actions(statements: Transaction, statement: Statement, ids: Iterable[UUID]) -> list[ActionRecord]:
    """The actions that are not deleted, of these callbacks or with these ids.

    statement: ACTIONS_OF_CALLBACKS or ACTIONS_BY_ID.
    """
    rows = statements.ask(statement, array(ids))
    now = database_clock.now_ms() / 1000
    return [_action(row, now) for row in rows]


@lru_cache(MAX_KEPT_TEXTS)
def _settings(
    config_text: str, retry_text: str | None
) -> tuple[dict[str, Any], dict[str, Any] | None, str | None]:
    """An action's config and retry, and their flaw, if they have one.

    Read once for each text, and so not to be changed.
    """
    try:
        config = json.loads(config_text)
        retry = None if retry_text is None else json.loads(retry_text)
    except (ValueError, RecursionError):
        return {}, None, "The action's config cannot be read. Set it again."
    retry = retry if isinstance(retry, dict) else None
    if not isinstance(config, dict):
        return {}, retry, "The action's config is not a JSON object. Set it again."
    return config, retry, None


_credential = lru_cache(MAX_KEPT_CREDENTIALS)(CredentialRecord)


def _action(row: Sequence[Any], now: float) -> ActionRecord:
    is_short = len(row[9]) <= MAX_KEPT_TEXT_CHARS
    config, retry, flaw = (_settings if is_short else _settings.__wrapped__)(row[9], row[10])
    secrets = _signing_secrets(row[13])
    if not all(secret.signs_at(now) for secret in secrets):  # one that has ended is not even opened
        secrets = tuple(secret for secret in secrets if secret.signs_at(now))
    if row[14] is not None and row[15] is None:
        flaw = "The action's credential is not there any more. Give it another, or none."
    return ActionRecord(
        id=row[0],
        callback_id=row[1],
        callback_url=row[2],
        type=row[3],
        name=row[4],
        order=row[5],
        parallel=row[6],
        enabled=row[7],
        stops_on_failure=row[8] == "STOP",
        config=config,
        retry=retry,
        config_text=row[9],
        condition=row[11],
        reads=tuple(row[12]),
        signing_secrets=secrets,
        flaw=flaw,
        credential=None if row[15] is None else _credential(*row[15:19]),
        rank=row[19],
    )


def read_credential(statements: Transaction, credential_id: UUID, user_id: UUID) -> CredentialRecord | None:
    """A user's credential, None if there is none with this id."""
    rows = statements.ask(_CREDENTIALS, array([credential_id]), str(user_id))
    return _credential(*rows[0]) if rows else None


@lru_cache(MAX_KEPT_TEXTS)
def _signing_secrets(text: str) -> tuple[SigningSecret, ...]:
    """A callback's signing secrets. Read once for each text.

    What cannot be read stays in as a secret that will not decrypt: bad_config.
    """
    try:
        return tuple(
            SigningSecret(str(item["secret"]), _unix_seconds(item.get("expiresAt")))
            for item in json.loads(text)
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return (SigningSecret("unreadable"),)


def _unix_seconds(text: str | None) -> float | None:
    return (datetime.fromisoformat(text) - _EPOCH).total_seconds() if text else None


def read_callbacks(statements: Transaction, ids: Iterable[UUID]) -> dict[UUID, CallbackRecord]:
    """The callbacks that are not deleted, by id."""
    return {
        row[0]: CallbackRecord(id=row[0], user_id=row[1], name=row[2], timeout_ms=row[3], active=row[4])
        for row in statements.ask(_CALLBACKS, array(ids))
    }


def read_executions(statements: Transaction, trigger_ids: Iterable[UUID]) -> dict[UUID, list[Execution]]:
    """The executions of these triggers, by trigger id.

    A retry that is due has no next_attempt_at any more.
    """
    found: dict[UUID, list[Execution]] = {}
    for row in statements.ask(_EXECUTIONS, array(trigger_ids)):
        found.setdefault(row[0], []).append(
            Execution(
                id=row[1],
                action_id=row[2],
                type=row[3],
                step=row[4],
                status=Status(row[5]),
                attempt=row[6],
                action=None,
                next_attempt_at=None if row[8] else row[7],
                stored_status_code=row[9],
                lost_attempts=row[10],
                immediate=row[11],
            )
        )
    return found
