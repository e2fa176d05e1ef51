"""Rows of every table, with whatever a table demands and a test does not care about filled in."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from psycopg2 import sql

from shared.ids import new_id

ABSENT = object()
"""Given as a value to Rows.insert(): leave this column out."""


class Rows:
    """Inserts rows, filling in what a table demands and a test does not care about."""

    def __init__(self, cursor: Any) -> None:
        self.cursor = cursor

    def insert(self, table: str, /, **given: Any) -> dict[str, Any]:
        """Insert one row and return it as PostgreSQL has it, defaults included."""
        demanded = {name: make for name, make in REQUIRED[table].items() if name not in given}
        values = {name: make(self) for name, make in demanded.items()} | given
        values = {name: value for name, value in values.items() if value is not ABSENT}
        self.cursor.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING to_jsonb({})").format(
                sql.Identifier(table),
                sql.SQL(", ").join(map(sql.Identifier, values)),
                sql.SQL(", ").join(sql.Placeholder() * len(values)),
                sql.Identifier(table),
            ),
            list(values.values()),
        )
        row: dict[str, Any] = self.cursor.fetchone()[0]
        return row

    def count(self, table: str) -> int:
        self.cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)))
        count: int = self.cursor.fetchone()[0]
        return count

    def delete(self, table: str, row_id: str) -> None:
        self.cursor.execute(sql.SQL("DELETE FROM {} WHERE id = %s").format(sql.Identifier(table)), (row_id,))


def _word(_rows: Rows) -> str:
    return uuid.uuid4().hex


def _number(_rows: Rows) -> int:
    return 7


def _id(_rows: Rows) -> uuid.UUID:
    return new_id()


def _json(_rows: Rows) -> str:
    return "{}"


def _bytes(_rows: Rows) -> bytes:
    return b"\x00\xff"


def _soon(_rows: Rows) -> str:
    return "now"


def _first(value: str) -> Callable[[Rows], str]:
    return lambda _rows: value


def _parent(table: str) -> Callable[[Rows], str]:
    return lambda rows: rows.insert(table)["id"]


REQUIRED: dict[str, dict[str, Callable[[Rows], Any]]] = {
    "users": {"id": _id, "email": _word, "password": _word},
    "subscriptions": {"id": _id, "plan_id": _parent("subscription_plans"), "user_id": _parent("users")},
    "subscription_plans": {
        "id": _id,
        "name": _word,
        "price": _number,
        "max_triggers": _number,
        "max_timeout_duration": _number,
    },
    "callbacks": {"id": _id, "name": _word, "callback_url": _word, "user_id": _parent("users")},
    "logs": {"id": _id, "event": _word, "callback_id": _id, "user_id": _id},
    "actions": {
        "id": _id,
        "callback_id": _parent("callbacks"),
        "user_id": _parent("users"),
        "type": _first("SLACK"),
        "config": _json,
    },
    "action_executions": {
        "trigger_id": _id,
        "id": _id,
        "action_id": _id,
        "callback_id": _id,
        "user_id": _id,
        "type": _first("SLACK"),
    },
    "rate_limits": {"id": _id, "plan_id": _parent("subscription_plans")},
    "rate_limit_logs": {
        "id": _id,
        "callback_id": _parent("callbacks"),
        "user_id": _parent("users"),
        "period": _first("minute"),
        "period_start": _soon,
    },
    "api_keys": {"id": _id, "name": _word, "key": _word, "prefix": _word, "user_id": _parent("users")},
    "service_credentials": {
        "id": _id,
        "user_id": _parent("users"),
        "name": _word,
        "provider": _first("TWILIO"),
        "secret": _word,
    },
    "triggers": {
        "id": _id,
        "callback_id": _id,
        "user_id": _id,
        "method": _word,
        "path": _word,
        "headers": _json,
        "body": _bytes,
    },
    "runs": {"trigger_id": _id, "callback_id": _id, "user_id": _id, "hint_at": _soon},
    "idempotency_keys": {
        "callback_id": _parent("callbacks"),
        "key": _word,
        "request_hash": _bytes,
        "trigger_id": _id,
        "expires_at": _soon,
    },
    "workers": {"id": _id, "host": _word, "lanes": lambda _rows: ["fresh"], "capacity": _number},
    "stored_items": {
        "id": _id,
        "user_id": _parent("users"),
        "callback_id": _parent("callbacks"),
        "action_id": _id,
        "trigger_id": _id,
        "content": _bytes,
    },
    "replay_jobs": {
        "id": _id,
        "user_id": _parent("users"),
        "callback_id": _parent("callbacks"),
        "status": _first("FAILED"),
        "start": _first("failed"),
        "received_to": _soon,
    },
    "kept_answers": {
        "user_id": _parent("users"),
        "method": _word,
        "path": _word,
        "key": _word,
        "request_hash": _bytes,
        "status": _number,
        "answer": _word,
        "expires_at": _soon,
    },
    "key_checks": {"key_id": _word, "sealed": _word},
    "sessions": {"id": _id, "user_id": _parent("users"), "token_hash": _word, "expires_at": _soon},
    "retired_tokens": {"token": _word, "callback_id": _parent("callbacks"), "expires_at": _soon},
}
"""What each table demands: the columns without a default that cannot be NULL."""
