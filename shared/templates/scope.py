"""What a template reads: one trigger, its callback, and what earlier actions were answered.

Invariants:

- Nothing is parsed before it is asked for, and each thing once.
- What is no JSON and no form is text: a caller cannot make a template fail by what it sends.
- A credential that a recorded call came with shows as a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl
from uuid import UUID

import orjson

from shared.masks import masked_recorded
from shared.templates.values import read_json, read_plain_json

FORM = "application/x-www-form-urlencoded"

# Of a query or a form. What has more is text.
MAX_FIELDS = 1_000

ROOTS = ("body", "headers", "query", "callback", "trigger", "actions")
FIELDS: dict[str, tuple[str, ...]] = {
    "callback": ("id", "name"),
    "trigger": ("id", "receivedAt", "method", "path", "contentType"),
}
ANSWER_FIELDS = ("json", "body", "statusCode", "headers")


class Subject(NamedTuple):
    """What is rendered about, as it was recorded.

    headers: JSON text, a list of [name, value]. answers: what actions were answered, by their
    names, as executions keep it.
    """

    trigger_id: UUID
    received_at: datetime
    method: str
    path: str
    query: str
    headers: str
    content_type: str | None
    body: bytes
    callback_id: UUID
    callback_name: str
    answers: Mapping[str, Any] = {}


def subject_told(fields: Sequence[Any], body: bytes) -> Subject:
    """The subject of which another process has told these fields, as JSON, and the body beside."""
    told = Subject(*fields)
    return told._replace(
        trigger_id=UUID(fields[0]),
        received_at=datetime.fromisoformat(fields[1]),
        callback_id=UUID(str(told.callback_id)),
        body=body,
    )


class Scope(dict[str, Any]):
    """The names of a template and what they stand for, as far as they were asked for."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.subject = subject

    def __missing__(self, name: str) -> Any:
        found = self[name] = _MAKERS[name](self.subject)
        return found

    def __bool__(self) -> bool:
        """The library takes what is empty for nothing at all."""
        return True


def _body(subject: Subject) -> Any:
    if (subject.content_type or "").partition(";")[0].strip().lower() == FORM:
        text = subject.body.decode("utf-8", "replace")
        fields = _fields(text)
        return text if fields is None else fields
    try:
        return read_plain_json(subject.body)
    except ValueError:
        return _json_or(subject.body.decode("utf-8", "replace"))


def _json_or(text: str) -> Any:
    try:
        return read_json(text)
    except ValueError:
        return text


def _query(subject: Subject) -> dict[str, Any]:
    return _fields(subject.query) or {}


def _fields(text: str) -> dict[str, Any] | None:
    """Its fields: a text each, or a list where a name comes more than once. None: it has none."""
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError:
        return None
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found


def _headers(subject: Subject) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, recorded in orjson.loads(subject.headers):
        value = masked_recorded(name, recorded)
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _callback(subject: Subject) -> dict[str, Any]:
    return {"id": str(subject.callback_id), "name": subject.callback_name}


def _trigger(subject: Subject) -> dict[str, Any]:
    return {
        "id": str(subject.trigger_id),
        "receivedAt": subject.received_at.isoformat(),
        "method": subject.method,
        "path": subject.path,
        "contentType": subject.content_type,
    }


def _actions(subject: Subject) -> dict[str, Any]:
    return {name: {"response": _answer(kept)} for name, kept in subject.answers.items()}


def _answer(kept: Mapping[str, Any]) -> dict[str, Any]:
    body = kept.get("body")
    return {
        "statusCode": kept.get("statusCode"),
        "headers": kept.get("headers") or {},
        "body": body,
        "json": _json_or(body) if isinstance(body, str) and "bodyEncoding" not in kept else None,
    }


_MAKERS: dict[str, Callable[[Subject], Any]] = {
    "body": _body,
    "headers": _headers,
    "query": _query,
    "callback": _callback,
    "trigger": _trigger,
    "actions": _actions,
}
