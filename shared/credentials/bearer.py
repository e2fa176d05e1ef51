"""A bearer token: `Authorization: Bearer <secret>` (RFC 6750 §2.1)."""

from __future__ import annotations

from typing import Literal

from shared.credentials.fields import HTTP_ACTIONS, BoundMeta, header_secret
from shared.credentials.kind import CredentialKind


class BearerMeta(BoundMeta):
    """`{"kind": "bearer", "origins": […]}`."""

    kind: Literal["bearer"]


KIND = CredentialKind("GENERIC", BearerMeta, HTTP_ACTIONS, header_secret)
