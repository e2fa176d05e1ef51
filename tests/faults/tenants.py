"""Two tenants of one Pointsman, so that what one gets of the other shows."""

from __future__ import annotations

import secrets
from contextlib import closing
from typing import Any

import httpx

from shared.crypto import token_hash
from shared.postgres import connections
from tests.peers.receiver import Receiver
from tests.rows import Rows
from tests.running import Running

EMAIL = "other@example.com"


def other_tenant(running: Running) -> httpx.Client:
    """The management API as a tenant beside the admin sees it; close it."""
    token = secrets.token_urlsafe()
    with (
        closing(connections.connect(running.database_url, "test", call_seconds=10)) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT id::text FROM users WHERE email = %s", (EMAIL,))
        found = cursor.fetchone()
        user_id = found[0] if found else Rows(cursor).insert("users", email=EMAIL)["id"]
        Rows(cursor).insert(
            "sessions", user_id=user_id, token_hash=token_hash(token), expires_at="2999-01-01"
        )
    bearer = {"authorization": f"Bearer {token}"}
    return httpx.Client(base_url=running.url, headers=bearer, timeout=10, trust_env=False)


def two_tenants(running: Running, receiver: Receiver, path: str, *behind: str, **fields: Any) -> list[str]:
    """The trigger URLs of a callback of each of two tenants. No two of their actions call one URL.

    path: where the primary action calls; behind: where those behind it do, one after the other.
    """
    urls = []
    with other_tenant(running) as other:
        for name, api in (("first", running.api), ("second", other)):
            actions = [
                {"type": "HTTP_POST", "config": {"url": receiver.url(f"{one}?of={name}&step={number}")}}
                for number, one in enumerate(behind, 1)
            ]
            made = running.callback(receiver.url(f"{path}?of={name}&step=0"), actions, api=api, **fields)
            urls.append(str(made["triggerUrl"]))
    return urls
