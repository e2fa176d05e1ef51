"""The callbacks that a call has come through, in the header `pointsman-via`.

A delivery names the callbacks behind it, oldest first: those that the call of its own trigger has
named, and its own. So a callback that calls itself, by whatever detour that passes the header on,
finds itself named.

Invariants:

- Only ids travel; what else stands in the header of a call is dropped.
- No chain is longer than MOST callbacks.
"""

from __future__ import annotations

import json
import re
from uuid import UUID

HEADER = "pointsman-via"

# A call that has come through so many callbacks goes no further.
MOST = 16

_QUOTED = f'"{HEADER}"'
_ID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


def is_loop(value: str, callback_id: UUID) -> bool:
    """Whether a call with this header has been here before, or has come too far."""
    named = value.split(",")
    return len(named) > MOST or str(callback_id) in (one.strip().lower() for one in named)


def of_delivery(headers: str, callback_id: UUID) -> str:
    """What a delivery of this callback says. headers: its trigger's, a JSON list of pairs."""
    own = str(callback_id)
    if _QUOTED not in headers:  # few calls come from another callback
        return own
    named = [one for name, value in json.loads(headers) if name == HEADER for one in _ID.findall(value)]
    return ",".join([*named[-MOST:], own])
