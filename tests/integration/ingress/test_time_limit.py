"""A call whose trigger cannot be recorded in time, on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from api.ingress.accept import accept
from api.ingress.call import Call
from api.services import Services, make_services
from shared.config import Settings
from shared.crypto import new_key
from shared.errors import Unavailable
from tests.world import World

LIMIT_SECONDS = 2.0
TOKEN = "a-token-of-the-test"


@pytest.fixture
def services(world: World, redis_url: str) -> Iterator[Services]:
    """What an API process owns, as it makes it."""
    services = make_services(
        Settings(
            database_url=SecretStr(world.database_url),
            redis_url=SecretStr(redis_url),
            secret_keys=SecretStr(new_key()),
            accept_timeout_seconds=LIMIT_SECONDS,
        )
    )
    services.start()
    yield services
    services.stop()


def test_a_call_waits_no_longer_for_its_commit_than_the_settings_say(
    world: World, services: Services, connect: Callable[..., Any]
) -> None:
    """Fails when the limit is longer: callers would give up before they are told to call again."""
    world.do("UPDATE callbacks SET trigger_token = %s WHERE id = %s", TOKEN, world.callback_id)
    call = Call(
        f"/t/{TOKEN}", f"http://localhost/t/{TOKEN}", "r", "POST", f"/t/{TOKEN}", "", "[]", None, b"", None
    )

    async def wait() -> float:
        began = time.monotonic()
        with pytest.raises(Unavailable):
            await accept(call, services.ingress)
        return time.monotonic() - began

    other = connect(autocommit=False)
    with other.cursor() as cursor:
        cursor.execute("LOCK TABLE triggers IN SHARE MODE")
        took = asyncio.run(wait())
    other.rollback()
    assert LIMIT_SECONDS <= took < LIMIT_SECONDS * 1.5
    assert asyncio.run(accept(call, services.ingress))[0] == 202
