"""What templates are tried on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from shared.templates.scope import Scope, Subject
from shared.templates.targets import Target
from shared.templates.template import condition, template

BODY = {
    "type": "order.paid",
    "id": 7,
    "items": [{"sku": "a"}, {"sku": "b"}],
    "note": 'says "hi"\n',
    "none": None,
}


def subject(
    body: Any = BODY,
    *,
    headers: Mapping[str, str] | None = None,
    query: str = "",
    content_type: str | None = "application/json",
    answers: Mapping[str, Any] | None = None,
) -> Subject:
    """A recorded call. body: bytes as they are, anything else as JSON."""
    return Subject(
        trigger_id=UUID("0192aaaa-0000-7000-8000-000000000001"),
        received_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        method="POST",
        path="/t/token",
        query=query,
        headers=json.dumps(list((headers or {}).items())),
        content_type=content_type,
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
        callback_id=UUID("0192aaaa-0000-7000-8000-000000000002"),
        callback_name="orders",
        answers=answers or {},
    )


def rendered(text: str, of: Subject | None = None, target: Target = Target.TEXT) -> str:
    """What a template comes to."""
    return template(text, target).render(Scope(of or subject()))


def holds(text: str, of: Subject | None = None) -> bool:
    """Whether a condition is true."""
    return condition(text).holds(Scope(of or subject()))
