"""The HTTP_POST action: one signed POST to a receiver.

Invariant: perform() makes exactly one request, follows no redirect and returns within the callback's
timeout. `webhook-id` is the execution's id, the same on every attempt, so that a receiver can drop
doubles. Success is 2xx. Retrying is the engine's decision; classify() only says whether it could help.
Source: Standard Webhooks 1.0.0.
"""

from __future__ import annotations

import json

from shared.action_types import parse_config
from shared.action_types.http_post import Config
from shared.crypto import sign
from worker.actions.contract import AttemptContext, Outcome
from worker.actions.http_answers import kept_response, outcome_of_error, retry_after_seconds
from worker.egress.errors import EgressError
from worker.egress.http import Egress
from worker.egress.messages import HttpRequest, HttpResponse
from worker.records import ActionRecord

DOOR = Egress

USER_AGENT = "Pointsman/0.1"
# besides every 5xx
RETRYABLE_STATUS = frozenset({408, 425, 429})


def prepare(action: ActionRecord, context: AttemptContext) -> HttpRequest:
    """Build the signed request. Raises Invalid for a config or a secret that cannot be used."""
    config = parse_config("HTTP_POST", action.config)
    assert isinstance(config, Config)
    body, content_type = _body(config, context)
    headers = {"user-agent": USER_AGENT, "content-type": content_type}
    headers.update((name.lower(), value) for name, value in config.headers.items())
    headers.update(_identity(action, context))
    signatures = _signatures(context, body)
    if signatures:
        headers["webhook-signature"] = signatures
    return HttpRequest(
        method="POST",
        url=config.url or context.callback.url,
        headers=headers,
        body=body,
        timeout_ms=context.callback.timeout_ms,
        max_response_bytes=context.limits.max_response_bytes,
        tenant=str(context.callback.user_id),
    )


def _body(config: Config, context: AttemptContext) -> tuple[bytes, str]:
    if config.body is None:
        return context.trigger.body, context.trigger.content_type or "application/octet-stream"
    if isinstance(config.body, str):
        return config.body.encode(), "text/plain; charset=utf-8"
    return json.dumps(config.body, allow_nan=False).encode(), "application/json"


def _identity(action: ActionRecord, context: AttemptContext) -> dict[str, str]:
    return {
        "webhook-id": str(context.execution_id),
        "webhook-timestamp": str(context.sent_at),
        "pointsman-trigger-id": str(context.trigger.id),
        "pointsman-action-id": str(action.id),
        "pointsman-attempt": str(context.attempt),
    }


def _signatures(context: AttemptContext, body: bytes) -> str:
    return " ".join(
        sign(context.secrets.decrypt(secret), str(context.execution_id), context.sent_at, body)
        for secret in context.callback.signing_secrets
    )


async def perform(request: HttpRequest, door: Egress) -> HttpResponse | EgressError:
    """Send the request once."""
    try:
        return await door.request(request)
    except EgressError as error:
        if error.code == "timeout":
            error.message += f" The callback's timeoutDuration is {request.timeout_ms} ms."
        return error


def classify(delivery: HttpResponse | EgressError) -> Outcome:
    """Say how the attempt ended.

    2xx succeeds. Connection errors, timeouts, 408, 425, 429 and 5xx can be tried again; 410 asks never
    to be called again; everything else is permanent, 3xx included, since no redirect is followed.
    """
    if isinstance(delivery, EgressError):
        return outcome_of_error(delivery)
    status = delivery.status
    return Outcome(
        success=200 <= status < 300,
        code="ok" if 200 <= status < 300 else f"http_{status}",
        error=None if 200 <= status < 300 else _explain(status),
        retryable=status in RETRYABLE_STATUS or status >= 500,
        status_code=status,
        retry_after_seconds=retry_after_seconds(delivery),
        gone=status == 410,
        response=kept_response(delivery),
    )


def _explain(status: int) -> str:
    if 300 <= status < 400:
        return f"The receiver answered {status}; redirects are not followed. Use the final URL."
    if status == 410:
        return "The receiver answered 410 Gone: it asks not to be called again. The action was switched off."
    return f"The receiver answered {status}."
