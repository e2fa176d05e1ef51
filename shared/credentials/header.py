"""A secret in a header of its own: `<header>: <prefix><secret>`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from shared.action_types.http_message import check_headers
from shared.credentials.fields import HTTP_ACTIONS, AsciiText, BoundMeta, header_secret
from shared.credentials.kind import CredentialKind


def _name(header: str) -> str:
    check_headers({header: ""})
    return header


class HeaderMeta(BoundMeta):
    """`{"kind": "header", "header", "prefix?", "origins": […]}`.

    prefix: what stands before the secret, a space at its end included.
    """

    kind: Literal["header"]
    header: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_name)]
    prefix: AsciiText | None = None


KIND = CredentialKind("GENERIC", HeaderMeta, HTTP_ACTIONS, header_secret, bound=("header", "prefix"))
