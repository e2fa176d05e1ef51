"""The STORE action: one row in `stored_items`, readable through the API.

Invariant: an execution stores at most one item, however often it is attempted: (trigger_id,
action_id) is unique. The content is opaque bytes, so nothing that a caller sends can be unstorable.
A body keeps the coding and the language that it came under, without which nobody could read it.
"""

from __future__ import annotations

from shared.action_types.passed_on import coding_and_language
from shared.action_types.store import Config
from shared.errors import Invalid, PointsmanError
from shared.templates.values import to_json_text
from worker.actions.contract import AttemptStamp, ExecutionContext, Outcome
from worker.doors.storage import NewItem, Storage
from worker.records import ActionRecord

DOOR = Storage

DEFAULT_CONTENT_TYPE = "application/octet-stream"


def starts_at_claim(action: ActionRecord) -> bool:  # noqa: ARG001
    """Yes: nothing of it is decided only when it is prepared."""
    return True


def prepare(action: ActionRecord, config: Config, context: ExecutionContext) -> NewItem:
    """Build the item. Raises Invalid when it is larger than an item may be."""
    if "value" in config.model_fields_set:
        content, content_type = to_json_text(config.value).encode(), "application/json"
        coding, language = None, None
    else:
        content, content_type = context.trigger.body, context.trigger.content_type or DEFAULT_CONTENT_TYPE
        coding, language = coding_and_language(context.trigger)
    if len(content) > context.limits.max_stored_item_bytes:
        raise Invalid(
            f"The value has {len(content)} bytes; an item may have {context.limits.max_stored_item_bytes}.",
            code="item_too_large",
            hint="Send a smaller body, or ask the operator to raise POINTSMAN_MAX_STORED_ITEM_BYTES.",
        )
    return NewItem(
        user_id=context.callback.user_id,
        callback_id=context.callback.id,
        action_id=action.id,
        trigger_id=context.trigger.id,
        key=config.key,
        content=content,
        content_type=content_type,
        max_items=context.limits.max_stored_items,
        timeout_ms=context.callback.timeout_ms,
        content_encoding=coding,
        content_language=language,
    )


async def perform(
    request: NewItem,
    stamp: AttemptStamp,  # noqa: ARG001 - an item is the same on every attempt
    door: Storage,
) -> NewItem | PointsmanError:
    """Store the item and wait until it is committed."""
    try:
        await door.store(request)
    except PointsmanError as error:
        return error
    return request


def classify(delivery: NewItem | PointsmanError) -> Outcome:
    """Say how the attempt ended: over the quota is permanent, an absent PostgreSQL is not."""
    if isinstance(delivery, PointsmanError):
        return Outcome(
            success=False,
            code=delivery.code,
            error=f"{delivery.message} {delivery.hint}",
            retryable=delivery.retryable,
        )
    return Outcome(success=True, response={"storedBytes": len(delivery.content), "key": delivery.key})
