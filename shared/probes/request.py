"""What a probe asks for, as its row has it, sealed: an action and the call that it is tried with,
or a credential and where it is shown.

Invariants:

- Of the action or the credential only the id is here: a worker reads the row as it is then.
- A credential among the call's headers is a mask, or sealed by itself, as in a recorded call.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import orjson

from shared.crypto import SecretBox

ACTION, CREDENTIAL = "action", "credential"


@dataclass(frozen=True, slots=True)
class ProbeCall:
    """The call that an action is tried with: made up, or recorded.

    headers: pairs of name and value, names in lower case. trigger_id, received_at (ISO 8601): of
    the recorded one. answers: what earlier actions were answered, by their names.
    """

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    content_type: str | None
    body: bytes
    trigger_id: UUID | None = None
    received_at: str | None = None
    answers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ActionProbe:
    """An action is tried with a call. callback_id: whose it was when the probe was made."""

    action_id: UUID
    callback_id: UUID
    call: ProbeCall


@dataclass(frozen=True, slots=True)
class CredentialProbe:
    """A credential is shown to whoever is there."""

    credential_id: UUID
    url: str
    method: str


def sealed_request(probe: ActionProbe | CredentialProbe, secrets: SecretBox) -> str:
    """What is stored of it."""
    told = _of_action(probe) if isinstance(probe, ActionProbe) else _of_credential(probe)
    return secrets.encrypt(orjson.dumps(told).decode())


def _of_credential(probe: CredentialProbe) -> dict[str, Any]:
    return {
        "kind": CREDENTIAL,
        "credentialId": probe.credential_id,
        "url": probe.url,
        "method": probe.method,
    }


def _of_action(probe: ActionProbe) -> dict[str, Any]:
    call = probe.call
    return {
        "kind": ACTION,
        "actionId": probe.action_id,
        "callbackId": probe.callback_id,
        "subject": {
            "method": call.method,
            "path": call.path,
            "query": call.query,
            "headers": call.headers,
            "contentType": call.content_type,
            "body": base64.b64encode(call.body).decode(),
            "triggerId": call.trigger_id,
            "receivedAt": call.received_at,
            "answers": call.answers,
        },
    }


def opened_request(sealed: str, secrets: SecretBox) -> ActionProbe | CredentialProbe:
    """The request of a row; raises Invalid when no key opens it, and KeyError or ValueError for one
    of another version.
    """
    told = orjson.loads(secrets.decrypt(sealed, remember=False))
    if told["kind"] == CREDENTIAL:
        return CredentialProbe(UUID(told["credentialId"]), told["url"], told["method"])
    if told["kind"] != ACTION:
        raise ValueError(f"a probe of kind {told['kind']}")
    subject = told["subject"]
    trigger_id = subject["triggerId"]
    return ActionProbe(
        action_id=UUID(told["actionId"]),
        callback_id=UUID(told["callbackId"]),
        call=ProbeCall(
            method=subject["method"],
            path=subject["path"],
            query=subject["query"],
            headers=[(name, value) for name, value in subject["headers"]],
            content_type=subject["contentType"],
            body=base64.b64decode(subject["body"]),
            trigger_id=None if trigger_id is None else UUID(trigger_id),
            received_at=subject["receivedAt"],
            answers=subject["answers"],
        ),
    )
