"""What a caller sent to a trigger URL, so that what arrives can be held against it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Sent:
    """One call. path: of the trigger URL. content_type: None where the caller named none."""

    path: str
    body: bytes
    content_type: str | None


def unlike_any_other(name: object = None) -> dict[str, Any]:
    """A body and a content type that no other call has, as arguments of a request."""
    name = uuid.uuid4() if name is None else name
    return {"content": f'{{"n": "{name}"}}', "headers": {"content-type": f"application/json; n={name}"}}
