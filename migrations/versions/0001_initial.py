"""The first schema.

Partitions are not made here but by `shared.postgres.partitions`, day by day.

Revises:
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

USER_ROLE = postgresql.ENUM("ADMIN", "PREMIUM", "PRO", "FREE", name="user_role", create_type=False)
SUBSCRIPTION_STATUS = postgresql.ENUM(
    "ACTIVE", "INACTIVE", "CANCELLED", "PAST_DUE", name="subscription_status", create_type=False
)
ACTION_TYPE = postgresql.ENUM(
    "HTTP_POST", "SLACK", "EMAIL", "SMS", "STORE", "QUEUE", "DISCORD", name="action_type", create_type=False
)
EXECUTION_STATUS = postgresql.ENUM(
    "PENDING", "RUNNING", "SUCCESS", "FAILED", name="execution_status", create_type=False
)
RUN_STATUS = postgresql.ENUM("PENDING", "RUNNING", name="run_status", create_type=False)
ON_FAILURE = postgresql.ENUM("STOP", "CONTINUE", name="on_failure", create_type=False)
SERVICE_PROVIDER = postgresql.ENUM(
    "SENDGRID", "TWILIO", "SLACK", "DISCORD", "GENERIC", name="service_provider", create_type=False
)
ENUMS = (
    USER_ROLE,
    SUBSCRIPTION_STATUS,
    ACTION_TYPE,
    EXECUTION_STATUS,
    RUN_STATUS,
    ON_FAILURE,
    SERVICE_PROVIDER,
)

TIME = sa.DateTime(timezone=True)
NOW = sa.text("now()")

RUNS_STORAGE = {
    "fillfactor": 50,
    "autovacuum_vacuum_scale_factor": 0,
    "autovacuum_vacuum_threshold": 2000,
    "autovacuum_vacuum_cost_delay": 0,
}


def upgrade() -> None:
    # queries queue behind a lock that waits: rather fail and be repeated than stall the ingress
    op.execute("SET LOCAL lock_timeout = '3s'")
    op.execute("SET LOCAL statement_timeout = '60s'")
    for enum in ENUMS:
        enum.create(op.get_bind())
    _accounts()
    _callbacks()
    _engine()


def _times() -> tuple[sa.Column[Any], sa.Column[Any]]:
    return (
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("updated_at", TIME, server_default=NOW, nullable=False),
    )


def _accounts() -> None:
    """Who may log in, and what they pay for."""
    op.create_table(
        "users",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("role", USER_ROLE, server_default="FREE", nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("slack_webhook_url", sa.Text(), nullable=True),
        sa.Column("deleted_at", TIME, nullable=True),
        *_times(),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
    )
    op.create_index("uq_users_email", "users", [sa.text("lower(email)")], unique=True)
    op.create_table(
        "subscription_plans",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("price", sa.Numeric(precision=12, scale=2), nullable=False),
        sa.Column("currency", sa.Text(), server_default="USD", nullable=False),
        sa.Column("interval", sa.Text(), server_default="month", nullable=False),
        sa.Column("max_triggers", sa.Integer(), nullable=False),
        sa.Column("max_timeout_duration", sa.Integer(), nullable=False),
        sa.Column(
            "features", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False
        ),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("stripe_price_id", sa.Text(), nullable=True),
        sa.Column("role", USER_ROLE, server_default="FREE", nullable=False),
        sa.Column("retention_days", sa.Integer(), server_default=sa.text("30"), nullable=False),
        *_times(),
        sa.PrimaryKeyConstraint("id", name="pk_subscription_plans"),
        sa.UniqueConstraint("name", name="uq_subscription_plans_name"),
        sa.UniqueConstraint("stripe_price_id", name="uq_subscription_plans_stripe_price_id"),
    )
    op.create_table(
        "subscriptions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("stripe_customer_id", sa.Text(), nullable=True),
        sa.Column("stripe_subscription_id", sa.Text(), nullable=True),
        sa.Column("status", SUBSCRIPTION_STATUS, server_default="ACTIVE", nullable=False),
        sa.Column("current_period_start", TIME, nullable=True),
        sa.Column("current_period_end", TIME, nullable=True),
        *_times(),
        sa.ForeignKeyConstraint(
            ["plan_id"], ["subscription_plans.id"], name="fk_subscriptions_plan_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_subscriptions_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_subscriptions"),
        sa.UniqueConstraint("stripe_customer_id", name="uq_subscriptions_stripe_customer_id"),
        sa.UniqueConstraint("stripe_subscription_id", name="uq_subscriptions_stripe_subscription_id"),
        sa.UniqueConstraint("user_id", name="uq_subscriptions_user_id"),
    )
    op.create_index("ix_subscriptions_plan_id", "subscriptions", ["plan_id"])
    op.create_table(
        "rate_limits",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("plan_id", sa.Uuid(), nullable=False),
        sa.Column("requests_per_second", sa.Integer(), server_default=sa.text("1"), nullable=False),
        sa.Column("requests_per_minute", sa.Integer(), server_default=sa.text("60"), nullable=False),
        sa.Column("requests_per_hour", sa.Integer(), server_default=sa.text("1000"), nullable=False),
        sa.Column("requests_per_month", sa.Integer(), server_default=sa.text("10000"), nullable=False),
        sa.Column("is_active", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        *_times(),
        sa.ForeignKeyConstraint(
            ["plan_id"], ["subscription_plans.id"], name="fk_rate_limits_plan_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_rate_limits"),
    )
    op.create_index("ix_rate_limits_plan_id", "rate_limits", ["plan_id"])
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column(
            "permissions", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False
        ),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("last_used_at", TIME, nullable=True),
        *_times(),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_api_keys_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("key", name="uq_api_keys_key"),
    )
    op.create_index("ix_api_keys_user_id", "api_keys", ["user_id"])
    op.create_table(
        "service_credentials",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("provider", SERVICE_PROVIDER, nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("meta", postgresql.JSONB(), nullable=True),
        *_times(),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_service_credentials_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_service_credentials"),
    )
    op.create_index("ix_service_credentials_user_id", "service_credentials", ["user_id"])
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.Column("last_used_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_sessions_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.UniqueConstraint("token_hash", name="uq_sessions_token_hash"),
    )
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])


def _callbacks() -> None:
    """What users define, and what hangs on it."""
    op.create_table(
        "callbacks",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("callback_url", sa.Text(), nullable=False),
        sa.Column("active_status", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "trigger_token", sa.Text(), server_default=sa.text("(gen_random_uuid())::text"), nullable=True
        ),
        sa.Column("custom_path", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("timeout_duration", sa.Integer(), server_default=sa.text("30000"), nullable=False),
        sa.Column("cache_period", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "tags", postgresql.ARRAY(sa.Text()), server_default=sa.text("'{}'::text[]"), nullable=False
        ),
        sa.Column(
            "signing_secrets", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False
        ),
        sa.Column("verification", postgresql.JSONB(), nullable=True),
        sa.Column("delivery", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("deleted_at", TIME, nullable=True),
        *_times(),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_callbacks_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_callbacks"),
        sa.UniqueConstraint("custom_path", name="uq_callbacks_custom_path"),
        sa.UniqueConstraint("trigger_token", name="uq_callbacks_trigger_token"),
    )
    op.create_index("ix_callbacks_user_id_id", "callbacks", ["user_id", "id"])
    op.create_table(
        "actions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("callback_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("type", ACTION_TYPE, nullable=False),
        sa.Column("config", postgresql.JSONB(), nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("order", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("parallel", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("on_failure", ON_FAILURE, server_default="STOP", nullable=False),
        sa.Column("retry", postgresql.JSONB(), nullable=True),
        sa.Column("condition", sa.Text(), nullable=True),
        sa.Column("credential_id", sa.Uuid(), nullable=True),
        sa.Column("deleted_at", TIME, nullable=True),
        *_times(),
        sa.ForeignKeyConstraint(
            ["callback_id"], ["callbacks.id"], name="fk_actions_callback_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["credential_id"],
            ["service_credentials.id"],
            name="fk_actions_credential_id",
            ondelete="NO ACTION",
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_actions_user_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_actions"),
    )
    op.create_index("ix_actions_callback_id_order", "actions", ["callback_id", "order"])
    op.create_index("ix_actions_credential_id", "actions", ["credential_id"])
    op.create_index("ix_actions_user_id", "actions", ["user_id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("callback_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("trigger_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(
            ["callback_id"], ["callbacks.id"], name="fk_idempotency_keys_callback_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("callback_id", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"])
    op.create_table(
        "rate_limit_logs",
        sa.Column("period_start", TIME, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("callback_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("period", sa.Text(), nullable=False),
        sa.Column("request_count", sa.Integer(), server_default=sa.text("1"), nullable=False),
        *_times(),
        sa.ForeignKeyConstraint(
            ["callback_id"], ["callbacks.id"], name="fk_rate_limit_logs_callback_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_rate_limit_logs_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("period_start", "id", name="pk_rate_limit_logs"),
        sa.UniqueConstraint(
            "callback_id", "period", "period_start", name="uq_rate_limit_logs_callback_id_period_period_start"
        ),
        postgresql_partition_by="RANGE (period_start)",
    )
    op.create_index("ix_rate_limit_logs_user_id", "rate_limit_logs", ["user_id"])
    op.create_table(
        "stored_items",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("callback_id", sa.Uuid(), nullable=False),
        sa.Column("action_id", sa.Uuid(), nullable=False),
        sa.Column("trigger_id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.ForeignKeyConstraint(
            ["callback_id"], ["callbacks.id"], name="fk_stored_items_callback_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name="fk_stored_items_user_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_stored_items"),
        sa.UniqueConstraint("trigger_id", "action_id", name="uq_stored_items_trigger_id_action_id"),
    )
    op.create_index("ix_stored_items_callback_id_id", "stored_items", ["callback_id", "id"])
    op.create_index("ix_stored_items_user_id", "stored_items", ["user_id"])


def _engine() -> None:
    """What every trigger writes: without foreign keys, and partitioned.

    The small table of what is in motion is not partitioned.
    """
    op.create_table(
        "triggers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("callback_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("query", sa.Text(), server_default="", nullable=False),
        sa.Column("headers", postgresql.JSONB(), nullable=False),
        sa.Column("content_type", sa.Text(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("source_ip", postgresql.INET(), nullable=True),
        sa.Column("received_at", TIME, server_default=NOW, nullable=False),
        sa.Column("replay_of", sa.Uuid(), nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_triggers"),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("ix_triggers_callback_id_id", "triggers", ["callback_id", "id"])
    op.create_table(
        "runs",
        sa.Column("trigger_id", sa.Uuid(), nullable=False),
        sa.Column("callback_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("status", RUN_STATUS, server_default="PENDING", nullable=False),
        sa.Column("due_at", TIME, server_default=NOW, nullable=False),
        sa.Column("hint_at", TIME, nullable=False),
        sa.Column("hint_count", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("worker_id", sa.Uuid(), nullable=True),
        sa.Column("claim", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("losses", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("received_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("trigger_id", name="pk_runs"),
        postgresql_with=RUNS_STORAGE,
    )
    op.create_index("ix_runs_hint_at", "runs", ["hint_at"])
    op.create_table(
        "action_executions",
        sa.Column("trigger_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("action_id", sa.Uuid(), nullable=False),
        sa.Column("callback_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("type", ACTION_TYPE, nullable=False),
        sa.Column("step", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("status", EXECUTION_STATUS, server_default="PENDING", nullable=False),
        sa.Column("attempt", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("claim", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("response", postgresql.JSONB(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("duration_ms", sa.Integer(), nullable=True),
        sa.Column("next_attempt_at", TIME, nullable=True),
        sa.Column("history", postgresql.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        *_times(),
        sa.PrimaryKeyConstraint("trigger_id", "id", name="pk_action_executions"),
        sa.UniqueConstraint("trigger_id", "action_id", name="uq_action_executions_trigger_id_action_id"),
        postgresql_partition_by="RANGE (trigger_id)",
    )
    op.create_index("ix_action_executions_action_id_id", "action_executions", ["action_id", "id"])
    op.create_table(
        "logs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(), nullable=True),
        sa.Column("callback_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("response_time", sa.Integer(), nullable=True),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("success", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", TIME, server_default=NOW, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_logs"),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("ix_logs_callback_id_id", "logs", ["callback_id", "id"])
    op.create_index(
        "ix_logs_failures", "logs", ["callback_id", "id"], postgresql_where=sa.text("NOT success")
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("lanes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("capacity", sa.Integer(), nullable=False),
        sa.Column("in_flight", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("started_at", TIME, server_default=NOW, nullable=False),
        sa.Column("heartbeat_at", TIME, server_default=NOW, nullable=False),
        sa.Column("desired_state", sa.Text(), server_default="RUNNING", nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )
