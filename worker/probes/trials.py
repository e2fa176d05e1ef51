"""What a probe tries, as records: an action with a call, or a request that shows a credential.

Invariant: each row is read as it is now, and is of the user who has asked. A credential is tried as
an action would use it, by an HTTP_POST that is in no row: so all that holds for actions holds for
it, its origins first of all.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import NamedTuple

from shared.clock import database_clock
from shared.postgres.statements import Transaction
from shared.probes.moves import ClaimedProbe
from shared.probes.request import ActionProbe, CredentialProbe, ProbeCall
from worker.actions.contract import ExecutionContext
from worker.engine.rows import ACTIONS_BY_ID, read_actions, read_callbacks, read_credential
from worker.engine.services import RunServices
from worker.records import ActionRecord, CallbackRecord, TriggerRecord

# That of a callback that says nothing else.
CREDENTIAL_TIMEOUT_MS = 30_000

_NO_CALL = ProbeCall("POST", "/", "", [], None, b"")


class Trial(NamedTuple):
    """What is prepared and performed."""

    action: ActionRecord
    context: ExecutionContext


def read_trial(
    statements: Transaction,
    claimed: ClaimedProbe,
    request: ActionProbe | CredentialProbe,
    services: RunServices,
) -> Trial | None:
    """What a probe tries, None if a row of it is gone or of somebody else."""
    if isinstance(request, CredentialProbe):
        return _of_credential(statements, claimed, request, services)
    actions = read_actions(statements, ACTIONS_BY_ID, [request.action_id])
    callback = read_callbacks(statements, [request.callback_id]).get(request.callback_id)
    if not actions or callback is None or callback.user_id != claimed.user_id:
        return None
    if actions[0].callback_id != callback.id:
        return None
    return Trial(actions[0], _context(claimed, request.call, callback, services))


def _of_credential(
    statements: Transaction, claimed: ClaimedProbe, request: CredentialProbe, services: RunServices
) -> Trial | None:
    credential = read_credential(statements, request.credential_id, claimed.user_id)
    if credential is None:
        return None
    action = ActionRecord(
        id=claimed.id,
        callback_id=claimed.id,
        callback_url="",
        type="HTTP_POST",
        name=None,
        order=0,
        parallel=False,
        enabled=True,
        stops_on_failure=True,
        config={"url": request.url, "method": request.method},
        retry=None,
        credential=credential,
    )
    callback = CallbackRecord(claimed.id, claimed.user_id, "", CREDENTIAL_TIMEOUT_MS)
    return Trial(action, _context(claimed, _NO_CALL, callback, services))


def _context(
    claimed: ClaimedProbe, call: ProbeCall, callback: CallbackRecord, services: RunServices
) -> ExecutionContext:
    received_at = call.received_at
    trigger = TriggerRecord(
        id=call.trigger_id or claimed.id,
        callback_id=callback.id,
        user_id=callback.user_id,
        method=call.method,
        path=call.path,
        query=call.query,
        headers=json.dumps(call.headers),
        content_type=call.content_type,
        body=call.body,
        received_at=datetime.fromisoformat(received_at) if received_at else _now(),
    )
    return ExecutionContext(trigger, callback, claimed.id, services.secrets, services.limits, call.answers)


def _now() -> datetime:
    return database_clock.now().astimezone(UTC)
