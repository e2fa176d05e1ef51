"""The data model's promises, on real rows: what is demanded, filled in, unique, allowed, and taken
along.
"""

from __future__ import annotations

from typing import Any

import pytest
from psycopg2 import errors

from shared.ids import new_id

ANY = object()
"""Some value that is not NULL."""

# What a row has that was inserted with only what is demanded: the defaults, NULL where NULL may
# stand and nothing is given. Columns of the given data model first, then what was added.
FILLED_IN: dict[str, dict[str, Any]] = {
    "users": {
        "display_name": None,
        "secret": None,
        "role": "FREE",
        "is_active": True,
        "slack_webhook_url": None,
        "created_at": ANY,
        "updated_at": ANY,
        "deleted_at": None,
    },
    "subscriptions": {
        "stripe_customer_id": None,
        "stripe_subscription_id": None,
        "status": "ACTIVE",
        "current_period_start": None,
        "current_period_end": None,
        "created_at": ANY,
        "updated_at": ANY,
    },
    "subscription_plans": {
        "description": None,
        "currency": "USD",
        "interval": "month",
        "features": [],
        "is_active": True,
        "stripe_price_id": None,
        "created_at": ANY,
        "updated_at": ANY,
        "role": "FREE",
        "retention_days": 30,
    },
    "callbacks": {
        "active_status": True,
        "trigger_token": ANY,
        "custom_path": None,
        "timeout_duration": 30000,
        "cache_period": 0,
        "created_at": ANY,
        "updated_at": ANY,
        "tags": [],
        "signing_secrets": [],
        "verification": None,
        "delivery": {},
        "deleted_at": None,
    },
    "logs": {
        "details": None,
        "created_at": ANY,
        "response_time": None,
        "status_code": None,
        "success": True,
    },
    "actions": {
        "enabled": True,
        "order": 0,
        "parallel": False,
        "created_at": ANY,
        "updated_at": ANY,
        "name": None,
        "on_failure": "STOP",
        "retry": None,
        "condition": None,
        "reads": [],
        "credential_id": None,
        "deleted_at": None,
    },
    "action_executions": {
        "status": "PENDING",
        "attempt": 0,
        "response": None,
        "error": None,
        "duration_ms": None,
        "created_at": ANY,
        "updated_at": ANY,
        "step": 0,
        "claim": 0,
        "next_attempt_at": None,
        "history": [],
        "started_at": None,
        "finished_at": None,
    },
    "rate_limits": {
        "requests_per_second": 1,
        "requests_per_minute": 60,
        "requests_per_hour": 1000,
        "requests_per_month": 10000,
        "is_active": True,
        "created_at": ANY,
        "updated_at": ANY,
    },
    "rate_limit_logs": {"request_count": 1, "created_at": ANY, "updated_at": ANY},
    "api_keys": {
        "permissions": [],
        "expires_at": None,
        "last_used_at": None,
        "created_at": ANY,
        "updated_at": ANY,
    },
    "service_credentials": {
        "meta": None,
        "last_used_at": None,
        "created_at": ANY,
        "updated_at": ANY,
    },
    "triggers": {
        "query": "",
        "content_type": None,
        "source_ip": None,
        "received_at": ANY,
        "replay_of": None,
        "idempotency_key": None,
    },
    "runs": {
        "status": "PENDING",
        "due_at": ANY,
        "hint_count": 0,
        "worker_id": None,
        "claim": 0,
        "losses": 0,
        "losses_alone": 0,
        "awaited": False,
        "received_at": ANY,
    },
    "idempotency_keys": {"created_at": ANY},
    "workers": {
        "in_flight": 0,
        "started_at": ANY,
        "heartbeat_at": ANY,
        "desired_state": "RUNNING",
        "key_ids": [],
    },
    "stored_items": {
        "key": None,
        "content_type": None,
        "created_at": ANY,
        "content_encoding": None,
        "content_language": None,
    },
    "key_checks": {"created_at": ANY},
    "sessions": {"created_at": ANY, "last_used_at": None},
    "retired_tokens": {"created_at": ANY},
    "replay_jobs": {
        "received_from": None,
        "state": "RUNNING",
        "last_trigger_id": None,
        "total": None,
        "replayed": 0,
        "skipped": 0,
        "error": None,
        "finished_at": None,
        "created_at": ANY,
        "updated_at": ANY,
    },
}

DEMANDED: dict[str, tuple[str, ...]] = {
    "users": ("id", "email", "password"),
    "subscriptions": ("id", "plan_id", "user_id"),
    "subscription_plans": ("id", "name", "price", "max_triggers", "max_timeout_duration"),
    "callbacks": ("id", "name", "callback_url", "user_id"),
    "logs": ("id", "event", "callback_id", "user_id"),
    "actions": ("id", "callback_id", "user_id", "type", "config"),
    "action_executions": ("trigger_id", "id", "action_id", "callback_id", "user_id", "type"),
    "rate_limits": ("id", "plan_id"),
    "rate_limit_logs": ("id", "callback_id", "user_id", "period", "period_start"),
    "api_keys": ("id", "name", "key", "prefix", "user_id"),
    "service_credentials": ("id", "user_id", "name", "provider", "secret"),
    "triggers": ("id", "callback_id", "user_id", "method", "path", "headers", "body"),
    "runs": ("trigger_id", "callback_id", "user_id", "hint_at"),
    "idempotency_keys": ("callback_id", "key", "request_hash", "trigger_id", "expires_at"),
    "workers": ("id", "host", "lanes", "capacity"),
    "stored_items": ("id", "user_id", "callback_id", "action_id", "trigger_id", "content"),
    "key_checks": ("key_id", "sealed"),
    "sessions": ("id", "user_id", "token_hash", "expires_at"),
    "retired_tokens": ("token", "callback_id", "expires_at"),
    "replay_jobs": ("id", "user_id", "callback_id", "status", "start", "received_to"),
}

UNIQUE = [
    ("users", {"email": "a@example.com"}),
    ("callbacks", {"trigger_token": "token"}),
    ("callbacks", {"custom_path": "orders"}),
    ("api_keys", {"key": "0" * 64}),
    ("subscription_plans", {"name": "Pro"}),
    ("subscription_plans", {"stripe_price_id": "price_1"}),
    ("subscriptions", {"stripe_customer_id": "cus_1"}),
    ("subscriptions", {"stripe_subscription_id": "sub_1"}),
    ("sessions", {"token_hash": "0" * 64}),
    ("retired_tokens", {"token": "token"}),
]
NULL_MANY_TIMES = [
    ("callbacks", "trigger_token"),
    ("callbacks", "custom_path"),
    ("subscription_plans", "stripe_price_id"),
    ("subscriptions", "stripe_customer_id"),
    ("subscriptions", "stripe_subscription_id"),
]

ENUMS = {
    "user_role": ("ADMIN", "PREMIUM", "PRO", "FREE"),
    "subscription_status": ("ACTIVE", "INACTIVE", "CANCELLED", "PAST_DUE"),
    "action_type": ("HTTP_POST", "SLACK", "EMAIL", "SMS", "STORE", "QUEUE", "DISCORD"),
    "execution_status": ("PENDING", "RUNNING", "SUCCESS", "FAILED"),
    "service_provider": ("SENDGRID", "TWILIO", "SLACK", "DISCORD", "GENERIC"),
    "run_status": ("PENDING", "RUNNING"),
    "on_failure": ("STOP", "CONTINUE"),
    "replay_state": ("RUNNING", "DONE", "CANCELLED", "FAILED"),
    "replay_start": ("failed", "start"),
}
ENUM_COLUMNS = {
    ("users", "role"): "user_role",
    ("subscription_plans", "role"): "user_role",
    ("subscriptions", "status"): "subscription_status",
    ("actions", "type"): "action_type",
    ("actions", "on_failure"): "on_failure",
    ("action_executions", "type"): "action_type",
    ("action_executions", "status"): "execution_status",
    ("replay_jobs", "status"): "execution_status",
    ("replay_jobs", "state"): "replay_state",
    ("replay_jobs", "start"): "replay_start",
    ("runs", "status"): "run_status",
    ("service_credentials", "provider"): "service_provider",
}

CASCADES = {
    ("subscriptions", "plan_id", "subscription_plans"),
    ("subscriptions", "user_id", "users"),
    ("rate_limits", "plan_id", "subscription_plans"),
    ("callbacks", "user_id", "users"),
    ("actions", "callback_id", "callbacks"),
    ("actions", "user_id", "users"),
    ("rate_limit_logs", "callback_id", "callbacks"),
    ("rate_limit_logs", "user_id", "users"),
    ("api_keys", "user_id", "users"),
    ("service_credentials", "user_id", "users"),
    ("stored_items", "user_id", "users"),
    ("stored_items", "callback_id", "callbacks"),
    ("sessions", "user_id", "users"),
    ("replay_jobs", "user_id", "users"),
    ("replay_jobs", "callback_id", "callbacks"),
    ("kept_answers", "user_id", "users"),
    ("retired_tokens", "callback_id", "callbacks"),
}


class TestColumns:
    @pytest.mark.parametrize("table", FILLED_IN)
    def test_a_row_of_what_is_demanded_gets_the_rest(self, rows: Any, table: str) -> None:
        row = rows.insert(table)
        rest = {name: value for name, value in row.items() if name not in DEMANDED[table]}
        assert set(rest) == set(FILLED_IN[table]), "these are all columns"
        for name, expected in FILLED_IN[table].items():
            assert rest[name] is not None if expected is ANY else rest[name] == expected, name

    @pytest.mark.parametrize(
        ("table", "column"), [(table, column) for table, columns in DEMANDED.items() for column in columns]
    )
    def test_what_is_demanded_cannot_be_null(self, rows: Any, table: str, column: str) -> None:
        with pytest.raises((errors.NotNullViolation, errors.CheckViolation)) as refused:
            rows.insert(table, **{column: None})
        # NULL in the column that a table is cut by finds no partition before anything else is
        # looked at
        assert f'"{column}"' in str(refused.value) or "no partition" in str(refused.value)

    @pytest.mark.parametrize(
        ("table", "column"),
        [
            (table, column)
            for table, columns in FILLED_IN.items()
            for column, value in columns.items()
            if value is not None and (table, column) != ("callbacks", "trigger_token")
        ],
    )
    def test_what_has_a_default_cannot_be_null(self, rows: Any, table: str, column: str) -> None:
        with pytest.raises(errors.NotNullViolation, match=f'"{column}"'):
            rows.insert(table, **{column: None})

    def test_no_key_is_made_by_postgresql(self, cursor: Any) -> None:
        cursor.execute(
            "SELECT table_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND column_name = 'id' AND column_default IS NOT NULL"
        )
        assert cursor.fetchall() == []

    def test_every_moment_has_its_time_zone(self, cursor: Any) -> None:
        cursor.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND data_type = 'timestamp without time zone'"
        )
        assert cursor.fetchall() == []

    def test_a_trigger_token_is_made_anew_for_each_callback(self, rows: Any) -> None:
        assert rows.insert("callbacks")["trigger_token"] != rows.insert("callbacks")["trigger_token"]

    def test_a_price_is_exact(self, rows: Any, cursor: Any) -> None:
        plan = rows.insert("subscription_plans", price="9999999999.99")
        cursor.execute("SELECT price::text FROM subscription_plans WHERE id = %s", (plan["id"],))
        assert cursor.fetchone() == ("9999999999.99",)

    def test_a_body_is_any_bytes(self, rows: Any, cursor: Any) -> None:
        every_byte = bytes(range(256))
        rows.insert("triggers", body=every_byte)
        cursor.execute("SELECT body FROM triggers")
        assert bytes(cursor.fetchone()[0]) == every_byte


class TestUnique:
    @pytest.mark.parametrize(("table", "values"), UNIQUE)
    def test_a_value_is_taken_once(self, rows: Any, table: str, values: dict[str, Any]) -> None:
        rows.insert(table, **values)
        rows.insert(table, **{name: f"{value}-other" for name, value in values.items()})
        with pytest.raises(errors.UniqueViolation):
            rows.insert(table, **values)

    @pytest.mark.parametrize(("table", "column"), NULL_MANY_TIMES)
    def test_no_value_is_had_by_many(self, rows: Any, table: str, column: str) -> None:
        rows.insert(table, **{column: None})
        rows.insert(table, **{column: None})
        assert rows.count(table) == 2

    def test_an_email_is_taken_in_every_case(self, rows: Any) -> None:
        rows.insert("users", email="Ada@Example.com")
        with pytest.raises(errors.UniqueViolation, match="uq_users_email"):
            rows.insert("users", email="aDA@example.COM")

    def test_a_user_has_one_subscription(self, rows: Any) -> None:
        user = rows.insert("users")["id"]
        rows.insert("subscriptions", user_id=user)
        with pytest.raises(errors.UniqueViolation, match="uq_subscriptions_user_id"):
            rows.insert("subscriptions", user_id=user)

    def test_a_callback_has_one_count_for_each_period_and_start(self, rows: Any) -> None:
        first = rows.insert("rate_limit_logs")
        same = {name: first[name] for name in ("callback_id", "user_id", "period", "period_start")}
        rows.insert("rate_limit_logs", **same | {"period": "hour"})
        rows.insert("rate_limit_logs", **same | {"callback_id": rows.insert("callbacks")["id"]})
        with pytest.raises(errors.UniqueViolation):
            rows.insert("rate_limit_logs", **same)

    def test_a_trigger_has_one_execution_of_each_action(self, rows: Any) -> None:
        trigger, action = new_id(), new_id()
        rows.insert("action_executions", trigger_id=trigger, action_id=action)
        rows.insert("action_executions", trigger_id=trigger)
        rows.insert("action_executions", action_id=action)
        with pytest.raises(errors.UniqueViolation):
            rows.insert("action_executions", trigger_id=trigger, action_id=action)

    def test_an_action_stores_one_item_for_a_trigger(self, rows: Any) -> None:
        trigger, action = new_id(), new_id()
        rows.insert("stored_items", trigger_id=trigger, action_id=action)
        with pytest.raises(errors.UniqueViolation):
            rows.insert("stored_items", trigger_id=trigger, action_id=action)

    def test_a_trigger_settles_once(self, rows: Any) -> None:
        trigger = new_id()
        rows.insert("logs", id=trigger)
        with pytest.raises(errors.UniqueViolation):
            rows.insert("logs", id=trigger)

    def test_a_trigger_has_one_run(self, rows: Any) -> None:
        trigger = new_id()
        rows.insert("runs", trigger_id=trigger)
        with pytest.raises(errors.UniqueViolation):
            rows.insert("runs", trigger_id=trigger)

    def test_a_callbacks_idempotency_key_names_one_trigger(self, rows: Any) -> None:
        first = rows.insert("idempotency_keys", key="k")
        rows.insert("idempotency_keys", key="k")
        with pytest.raises(errors.UniqueViolation):
            rows.insert("idempotency_keys", callback_id=first["callback_id"], key="k")


class TestEnums:
    @pytest.mark.parametrize(("enum", "words"), ENUMS.items())
    def test_each_has_these_words(self, cursor: Any, enum: str, words: tuple[str, ...]) -> None:
        cursor.execute(f"SELECT enum_range(NULL::{enum})::text[]")
        assert tuple(cursor.fetchone()[0]) == words

    def test_there_are_no_others(self, cursor: Any) -> None:
        cursor.execute("SELECT typname FROM pg_type WHERE typtype = 'e'")
        assert {name for (name,) in cursor.fetchall()} == set(ENUMS)

    def test_these_columns_hold_them(self, cursor: Any) -> None:
        cursor.execute(
            "SELECT c.relname, a.attname, t.typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid"
            " JOIN pg_class c ON c.oid = a.attrelid"
            " WHERE t.typtype = 'e' AND c.relkind IN ('r', 'p') AND NOT c.relispartition"
        )
        assert {(table, column): enum for table, column, enum in cursor.fetchall()} == ENUM_COLUMNS

    @pytest.mark.parametrize(
        ("table", "column", "word"),
        [(*where, word) for where, enum in ENUM_COLUMNS.items() for word in ENUMS[enum]],
    )
    def test_every_word_can_be_stored(self, rows: Any, table: str, column: str, word: str) -> None:
        assert rows.insert(table, **{column: word})[column] == word

    @pytest.mark.parametrize(("table", "column"), ENUM_COLUMNS)
    @pytest.mark.parametrize("word", ["pending", "NONSENSE", ""])
    def test_no_other_word_can(self, rows: Any, table: str, column: str, word: str) -> None:
        with pytest.raises(errors.InvalidTextRepresentation):
            rows.insert(table, **{column: word})


class TestForeignKeys:
    def test_these_are_all(self, cursor: Any) -> None:
        cursor.execute(
            "SELECT k.conrelid::regclass::text, a.attname, k.confrelid::regclass::text, k.confdeltype"
            " FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]"
            " WHERE k.contype = 'f' AND k.conparentid = 0"
        )
        found = cursor.fetchall()
        assert {tuple(row[:3]) for row in found if row[3] == "c"} == CASCADES
        assert [tuple(row[:3]) for row in found if row[3] != "c"] == [
            ("actions", "credential_id", "service_credentials")
        ]

    @pytest.mark.parametrize(("child", "column", "parent"), sorted(CASCADES))
    def test_a_parent_must_exist(self, rows: Any, child: str, column: str, parent: str) -> None:
        with pytest.raises(errors.ForeignKeyViolation):
            rows.insert(child, **{column: new_id()})

    @pytest.mark.parametrize(("child", "column", "parent"), sorted(CASCADES))
    def test_a_parent_takes_its_children_along_and_no_others(
        self, rows: Any, child: str, column: str, parent: str
    ) -> None:
        gone, kept = rows.insert(child), rows.insert(child)
        rows.delete(parent, gone[column])
        assert rows.count(child) == 1
        rows.cursor.execute(f"SELECT {column}::text FROM {child}")
        assert rows.cursor.fetchall() == [(kept[column],)]

    @pytest.mark.parametrize(("child", "column", "parent"), sorted(CASCADES))
    def test_a_child_leaves_its_parent(self, rows: Any, child: str, column: str, parent: str) -> None:
        rows.insert(child)
        before = rows.count(parent)
        rows.cursor.execute(f"DELETE FROM {child}")
        assert rows.count(parent) == before

    @pytest.mark.parametrize(("child", "column", "parent"), sorted(CASCADES))
    def test_an_index_finds_the_children(self, cursor: Any, child: str, column: str, parent: str) -> None:
        cursor.execute(
            "SELECT count(*) FROM pg_index i JOIN pg_attribute a"
            " ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]"
            " WHERE i.indrelid = %s::regclass AND a.attname = %s",
            (child, column),
        )
        assert cursor.fetchone()[0] >= 1

    def test_a_user_takes_everything_along(self, rows: Any) -> None:
        user = rows.insert("users")["id"]
        callback = rows.insert("callbacks", user_id=user)["id"]
        own = {"user_id": user, "callback_id": callback}
        rows.insert("subscriptions", user_id=user)
        rows.insert("api_keys", user_id=user)
        rows.insert("sessions", user_id=user)
        credential = rows.insert("service_credentials", user_id=user)["id"]
        rows.insert("actions", **own, credential_id=credential)
        rows.insert("rate_limit_logs", **own)
        rows.insert("stored_items", **own)
        rows.delete("users", user)
        left = {table: rows.count(table) for table in DEMANDED if rows.count(table)}
        assert left == {"subscription_plans": 1}


class TestCredentialsInUse:
    """Actions name credentials without a cascade: neither takes the other along."""

    def test_deleting_one_is_refused_at_once(self, rows: Any) -> None:
        user = rows.insert("users")["id"]
        credential = rows.insert("service_credentials", user_id=user)["id"]
        rows.insert("actions", user_id=user, credential_id=credential)
        with pytest.raises(errors.ForeignKeyViolation, match="fk_actions_credential_id"):
            rows.delete("service_credentials", credential)

    def test_deleting_one_that_is_not_used_is_not(self, rows: Any) -> None:
        action = rows.insert("actions", credential_id=rows.insert("service_credentials")["id"])
        rows.delete("actions", action["id"])
        rows.delete("service_credentials", action["credential_id"])
        assert rows.count("service_credentials") == 0

    @pytest.mark.parametrize("credential_first", [True, False])
    def test_deleting_the_user_takes_both_along(self, rows: Any, credential_first: bool) -> None:
        user = rows.insert("users")["id"]
        callback = rows.insert("callbacks", user_id=user)["id"]
        if credential_first:
            credential = rows.insert("service_credentials", user_id=user)["id"]
            rows.insert("actions", user_id=user, callback_id=callback, credential_id=credential)
        else:
            action = rows.insert("actions", user_id=user, callback_id=callback)["id"]
            credential = rows.insert("service_credentials", user_id=user)["id"]
            rows.cursor.execute("UPDATE actions SET credential_id = %s WHERE id = %s", (credential, action))
        rows.delete("users", user)
        assert rows.count("actions") == rows.count("service_credentials") == 0

    def test_deleting_the_callback_leaves_the_credential(self, rows: Any) -> None:
        action = rows.insert("actions", credential_id=rows.insert("service_credentials")["id"])
        rows.delete("callbacks", action["callback_id"])
        assert (rows.count("actions"), rows.count("service_credentials")) == (0, 1)

    def test_an_action_cannot_name_one_that_does_not_exist(self, rows: Any) -> None:
        with pytest.raises(errors.ForeignKeyViolation):
            rows.insert("actions", credential_id=new_id())
