"""A secret in the query of the URL: `?<parameter>=<secret>`, percent-encoded, as the last one."""

from __future__ import annotations

from typing import Literal

from shared.credentials.fields import HTTP_ACTIONS, BoundMeta, Id, any_secret
from shared.credentials.kind import CredentialKind, CredentialMeta

# Of a URL, which may have 2,000.
MAX_QUERY_SECRET_CHARS = 1_000


class QueryMeta(BoundMeta):
    """`{"kind": "query", "parameter", "origins": […]}`."""

    kind: Literal["query"]
    parameter: Id


def _check_secret(secret: str, meta: CredentialMeta) -> None:
    any_secret(secret, meta)
    if len(secret) > MAX_QUERY_SECRET_CHARS:
        raise ValueError(f"in a query it has at most {MAX_QUERY_SECRET_CHARS} characters")


KIND = CredentialKind("GENERIC", QueryMeta, HTTP_ACTIONS, _check_secret, bound=("parameter",))
