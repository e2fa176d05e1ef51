"""A user name and a password: `Authorization: Basic …` (RFC 7617), both as UTF-8."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from shared.credentials.fields import HTTP_ACTIONS, BoundMeta, Id, any_secret
from shared.credentials.kind import CredentialKind


class BasicMeta(BoundMeta):
    """`{"kind": "basic", "username", "origins": […]}`. The secret is the password."""

    kind: Literal["basic"]
    username: Id

    @field_validator("username")
    @classmethod
    def _without_colon(cls, username: str) -> str:
        if ":" in username:
            raise ValueError("a user name cannot hold a colon")
        return username


KIND = CredentialKind("GENERIC", BasicMeta, HTTP_ACTIONS, any_secret)
