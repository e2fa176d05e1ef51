"""A secret in the query of the URL: `?<parameter>=<secret>`, percent-encoded, as the last one."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote

from shared.credentials.fields import HTTP_ACTIONS, BoundMeta, Id, any_secret
from shared.credentials.kind import CredentialKind, CredentialMeta
from shared.http_urls import with_query

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


def with_parameter(url: str, name: str, value: str) -> str:
    """The URL with one more parameter, before its fragment. value: percent-encoded."""
    return with_query(url, f"{quote(name, safe='')}={value}")
