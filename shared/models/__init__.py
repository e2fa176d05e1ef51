"""The tables, one file each. Importing this package makes `Base.metadata` complete."""

from shared.models.action_executions import ActionExecution
from shared.models.actions import Action
from shared.models.api_keys import ApiKey
from shared.models.base import Base
from shared.models.callbacks import Callback
from shared.models.enums import (
    ActionType,
    ExecutionStatus,
    OnFailure,
    ReplayStart,
    ReplayState,
    RunStatus,
    ServiceProvider,
    SubscriptionStatus,
    UserRole,
)
from shared.models.idempotency_keys import IdempotencyKey
from shared.models.kept_answers import KeptAnswer
from shared.models.key_checks import KeyCheck
from shared.models.logs import Log
from shared.models.rate_limit_logs import RateLimitLog
from shared.models.rate_limits import RateLimit
from shared.models.replay_jobs import ReplayJob
from shared.models.retired_tokens import RetiredToken
from shared.models.runs import Run
from shared.models.service_credentials import ServiceCredential
from shared.models.sessions import UserSession
from shared.models.stored_items import StoredItem
from shared.models.subscription_plans import SubscriptionPlan
from shared.models.subscriptions import Subscription
from shared.models.triggers import Trigger
from shared.models.users import User
from shared.models.workers import Worker

__all__ = [
    "Action",
    "ActionExecution",
    "ActionType",
    "ApiKey",
    "Base",
    "Callback",
    "ExecutionStatus",
    "IdempotencyKey",
    "KeptAnswer",
    "KeyCheck",
    "Log",
    "OnFailure",
    "RateLimit",
    "RateLimitLog",
    "ReplayJob",
    "ReplayStart",
    "ReplayState",
    "RetiredToken",
    "Run",
    "RunStatus",
    "ServiceCredential",
    "ServiceProvider",
    "StoredItem",
    "Subscription",
    "SubscriptionPlan",
    "SubscriptionStatus",
    "Trigger",
    "User",
    "UserRole",
    "UserSession",
    "Worker",
]
