"""The closed sets of words that columns hold, each a native enum of PostgreSQL.

The words are the same in Python, SQL and JSON. A new word is a migration (ALTER TYPE … ADD VALUE).
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import Enum


class UserRole(StrEnum):
    """What a user's plan or an admin grants."""

    ADMIN = "ADMIN"
    PREMIUM = "PREMIUM"
    PRO = "PRO"
    FREE = "FREE"


class SubscriptionStatus(StrEnum):
    """How a subscription stands with the payment provider."""

    ACTIVE = "ACTIVE"
    INACTIVE = "INACTIVE"
    CANCELLED = "CANCELLED"
    PAST_DUE = "PAST_DUE"


class ActionType(StrEnum):
    """The kinds of action."""

    HTTP_POST = "HTTP_POST"
    SLACK = "SLACK"
    EMAIL = "EMAIL"
    SMS = "SMS"
    STORE = "STORE"
    QUEUE = "QUEUE"
    DISCORD = "DISCORD"


class ExecutionStatus(StrEnum):
    """Where an execution stands; SUCCESS and FAILED are never left again."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCESS = "SUCCESS"
    FAILED = "FAILED"


class RunStatus(StrEnum):
    """Where a run stands; a settled run has no row."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"


class OnFailure(StrEnum):
    """What a failed action does to the steps behind it."""

    STOP = "STOP"
    CONTINUE = "CONTINUE"


class ServiceProvider(StrEnum):
    """Whose credential it is."""

    SENDGRID = "SENDGRID"
    TWILIO = "TWILIO"
    SLACK = "SLACK"
    DISCORD = "DISCORD"
    GENERIC = "GENERIC"


class ProbeState(StrEnum):
    """Where a probe stands; DONE is never left again."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    DONE = "DONE"


class ReplayState(StrEnum):
    """Where a replay job stands; only RUNNING is ever left."""

    RUNNING = "RUNNING"
    DONE = "DONE"
    CANCELLED = "CANCELLED"
    FAILED = "FAILED"


class ReplayStart(StrEnum):
    """From where a replay runs a trigger again."""

    failed = "failed"
    start = "start"


ENUMS: dict[type[StrEnum], Enum] = {
    UserRole: Enum(UserRole, name="user_role"),
    SubscriptionStatus: Enum(SubscriptionStatus, name="subscription_status"),
    ActionType: Enum(ActionType, name="action_type"),
    ExecutionStatus: Enum(ExecutionStatus, name="execution_status"),
    RunStatus: Enum(RunStatus, name="run_status"),
    OnFailure: Enum(OnFailure, name="on_failure"),
    ServiceProvider: Enum(ServiceProvider, name="service_provider"),
    ProbeState: Enum(ProbeState, name="probe_state"),
    ReplayState: Enum(ReplayState, name="replay_state"),
    ReplayStart: Enum(ReplayStart, name="replay_start"),
}
"""The SQL type of each set; a column finds it by the class in its annotation."""
