"""One running Pointsman for all functional tests."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import httpx
import pytest

from shared.crypto import token_hash
from shared.postgres import connections
from tests.rows import Rows
from tests.running import Running

OTHER_KEY = "pm_live_another_tenant"


@pytest.fixture(scope="session")
def pointsman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("pointsman")) as running:
        yield running


@pytest.fixture(scope="session")
def other_tenant(pointsman: Running) -> Iterator[Running]:
    """The same Pointsman, called by another tenant."""
    connection = connections.connect(pointsman.database_url, "test", call_seconds=60, autocommit=True)
    with connection.cursor() as cursor:
        rows = Rows(cursor)
        user = rows.insert("users", email="another@example.com")["id"]
        rows.insert("api_keys", user_id=user, key=token_hash(OTHER_KEY), permissions=["read", "write"])
    connection.close()
    with httpx.Client(
        base_url=pointsman.url,
        timeout=10,
        trust_env=False,
        headers={"authorization": f"Bearer {OTHER_KEY}"},
    ) as client:
        other = copy.copy(pointsman)
        other._api = client
        yield other
