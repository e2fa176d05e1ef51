"""A second tenant of a running Pointsman, beside its admin: a user with a login of its own."""

from __future__ import annotations

from typing import Any

import httpx

from tests.running import ADMIN, Running

_COPY = """
INSERT INTO users (id, email, password, role)
SELECT gen_random_uuid(), %s, password, 'PRO' FROM users WHERE email = %s RETURNING id
"""


class Tenant:
    """Who may call as one user. Use as a context manager."""

    def __init__(self, running: Running, email: str) -> None:
        self._running = running
        running.query(_COPY, email, ADMIN[0])
        self.api = httpx.Client(base_url=running.url, timeout=10, trust_env=False)
        answer = self.api.post("/api/v1/auth/login", json={"email": email, "password": ADMIN[1]})
        self.api.headers["authorization"] = f"Bearer {answer.raise_for_status().json()['token']}"

    def __enter__(self) -> Tenant:
        return self

    def __exit__(self, *_error: object) -> None:
        self.api.close()

    def callback(self, url: str, actions: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """Create a callback of this tenant's, with further actions behind the primary one."""
        return self._running.callback(url, actions, api=self.api)
