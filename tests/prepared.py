"""An execution made ready, as a run does it."""

from __future__ import annotations

import asyncio
from typing import Any

from shared import action_types
from shared.crypto import SecretBox
from worker import actions
from worker.actions.contract import ExecutionContext, Outcome, Prepared
from worker.engine.preparing import Preparing
from worker.records import ActionRecord
from worker.rendering.renderer import Renderer


def preparing(secrets: SecretBox) -> Preparing:
    """What a worker with these secrets makes executions ready with."""
    return Preparing(secrets, Renderer())


def prepare(action: ActionRecord, context: ExecutionContext) -> Prepared | Outcome:
    """What becomes of an action before its attempt."""

    async def now() -> Prepared | Outcome:
        renderer = Renderer()
        try:
            return await Preparing(context.secrets, renderer).prepare(action, context)
        finally:
            await renderer.close()

    return asyncio.run(now())


def request_of_kind(action: ActionRecord, context: ExecutionContext) -> Any:
    """What its kind makes of an action without templates, with whatever that raises."""
    opened = action_types.KINDS[action.type].unseal(action.config, context.secrets.decrypt)
    config = action_types.parse_config(action.type, opened)
    return actions.KINDS[action.type].prepare(action, config, context)
