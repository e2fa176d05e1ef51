"""The HTTP_POST action: one signed request to a receiver.

Invariants:

- An attempt makes exactly one request, follows no redirect and ends within the callback's timeout.
- `webhook-id` is the execution's id, the same on every attempt, so that a receiver can drop
  doubles.
- It is signed by each secret that is in force at its `webhook-timestamp`, and by no other.
- Success is 2xx, or what of it the action names.
- Retrying is the engine's decision; classify() only says whether it could help.

Source: Standard Webhooks 1.0.0.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from shared import via
from shared.action_types.http_post import Config, Filled
from shared.action_types.http_request import message_of
from shared.seals import opened_url
from shared.signatures import SigningKey, sign, signing_key
from worker.actions.contract import AttemptStamp, ExecutionContext, Outcome
from worker.actions.credentials import (
    Access,
    Sending,
    outcome_without_token,
    send,
    shown_credentials,
    with_credential,
)
from worker.actions.http_answers import (
    UNSAID,
    kept_response,
    outcome_of_error,
    retry_after_seconds,
    shown_location,
)
from worker.egress.errors import EgressError
from worker.egress.http import Egress
from worker.egress.messages import ClientIdentity, HttpRequest, HttpResponse
from worker.egress.tokens import NoToken
from worker.records import ActionRecord, SigningSecret

DOOR = Egress

USER_AGENT = "Pointsman/0.1"
GONE = 410
LOOP = 508
CODES = {LOOP: "loop"}
DROPPED = " The token that it was sent is used no more."


class Post(NamedTuple):
    """A request without what depends on the attempt. It shows nothing of itself: it holds secrets.

    headers: all that are the same on each attempt; opaque: further ones, each with its lines.
    signers: each secret with its key, newest first. successes: the statuses that are success, None
    for all of 2xx. identity, access: what its credential shows beside them. secrets: what a
    receiver could repeat of it; None: too much to be searched for.
    """

    method: str
    url: str
    headers: dict[str, str]
    opaque: dict[str, tuple[bytes, ...]]
    body: bytes
    timeout_ms: int
    max_response_bytes: int
    tenant: str
    webhook_id: str
    signers: tuple[tuple[SigningSecret, SigningKey], ...]
    successes: tuple[int, ...] | None
    identity: ClientIdentity | None = None
    access: Access | None = None
    secrets: tuple[str, ...] | None = ()

    def __repr__(self) -> str:
        return f"Post(webhook_id={self.webhook_id})"


class Delivered(NamedTuple):
    """What came back, and which statuses were to be success. is_token_dropped: it was refused for
    its token, and the next attempt has another one.
    """

    response: HttpResponse
    successes: tuple[int, ...] | None
    is_token_dropped: bool = False


def starts_at_claim(action: ActionRecord) -> bool:  # noqa: ARG001
    """Yes: nothing of it is decided only when it is prepared."""
    return True


def prepare(action: ActionRecord, config: Config | Filled, context: ExecutionContext) -> Post | Outcome:
    """Build what is sent. Raises Invalid for a secret that cannot be used."""
    decrypt = context.secrets.decrypt
    trigger = context.trigger
    url = config.url or opened_url(action.callback_url, decrypt)
    # each call has ciphertexts of its own: remembered, they would push out what is asked for again
    message = message_of(config, url, trigger, partial(context.secrets.decrypt, remember=False))
    webhook_id = str(context.execution_id)
    headers = {"user-agent": USER_AGENT, **message.headers}
    headers["webhook-id"] = webhook_id
    headers["pointsman-trigger-id"] = str(trigger.id)
    headers["pointsman-action-id"] = str(action.id)
    headers[via.HEADER] = via.of_delivery(trigger.headers, action.callback_id)
    tenant = str(context.callback.user_id)
    sending = with_credential(action, Sending(message.url, headers, message.opaque), tenant, decrypt)
    if isinstance(sending, Outcome):
        return sending
    shown = shown_credentials(sending)
    return Post(
        method=message.method,
        url=sending.url,
        headers=sending.headers,
        opaque=sending.opaque,
        body=message.body,
        timeout_ms=context.callback.timeout_ms,
        max_response_bytes=context.limits.max_response_bytes,
        tenant=tenant,
        webhook_id=webhook_id,
        signers=tuple([(one, signing_key(decrypt(one.sealed))) for one in action.signing_secrets]),
        successes=config.successStatuses,
        identity=sending.identity,
        access=sending.access,
        secrets=None if shown is None else (*sending.secrets, *shown),
    )


def stamped(post: Post, stamp: AttemptStamp) -> HttpRequest:
    """The request of one attempt, with its time and number, signed."""
    headers = post.headers.copy()
    headers["webhook-timestamp"] = str(stamp.sent_at)
    headers["pointsman-attempt"] = str(stamp.number)
    keys = [key for secret, key in post.signers if secret.signs_at(stamp.sent_at)]
    if keys:
        headers["webhook-signature"] = sign(keys, post.webhook_id, stamp.sent_at, post.body)
    return HttpRequest(
        method=post.method,
        url=post.url,
        headers=headers,
        body=post.body,
        timeout_ms=post.timeout_ms,
        max_response_bytes=post.max_response_bytes,
        tenant=post.tenant,
        opaque=post.opaque,
        identity=post.identity,
    )


Delivery = Delivered | NoToken | EgressError


async def perform(request: Post, stamp: AttemptStamp, door: Egress) -> Delivery:
    """Send the request once."""
    try:
        answer = await send(stamped(request, stamp), request.access, door, request.secrets)
    except EgressError as error:
        if error.code == "timeout":
            error.message += f" The callback's timeoutDuration is {request.timeout_ms} ms."
        return error
    if isinstance(answer, NoToken):
        return answer
    return Delivered(answer.response, request.successes, answer.is_token_dropped)


def classify(delivery: Delivery) -> Outcome:
    """Say how the attempt ended.

    2xx succeeds, or what of it the action names. 410 asks never to be called again. Everything else
    can be tried again, 3xx included, since no redirect is followed; which statuses cannot is for
    the action's `retry` to say. A request that cannot be sent, or not to there, is permanent.
    """
    if isinstance(delivery, EgressError):
        return outcome_of_error(delivery)
    if isinstance(delivery, NoToken):
        return outcome_without_token(delivery)
    response, successes, is_token_dropped = delivery
    status = response.status
    is_success = 200 <= status < 300 and (successes is None or status in successes)
    is_gone = status == GONE
    return Outcome(
        success=is_success,
        code="ok" if is_success else CODES.get(status, f"http_{status}"),
        error=None if is_success else _explain(response) + DROPPED * is_token_dropped,
        retryable=not is_success and not is_gone,
        status_code=status,
        retry_after_seconds=retry_after_seconds(response),
        gone=is_gone,
        mended=is_token_dropped,
        response=kept_response(response),
    )


def _explain(response: HttpResponse) -> str:
    status = response.status
    if 300 <= status < 400:
        location = shown_location(response)
        target = "the same host" if location == UNSAID else location
        answer = f"{status} and points to {target}" if target else str(status)
        return f"The receiver answered {answer}; redirects are not followed. Use the final URL."
    if status == LOOP:
        return "The receiver answered 508: the call has come round. An action calls its own callback, maybe by a detour."
    if status == GONE:
        return "The receiver answered 410 Gone: it asks not to be called again. The action was switched off."
    if 200 <= status < 300:
        return f"The receiver answered {status}, which is none of the action's successStatuses."
    return f"The receiver answered {status}."
