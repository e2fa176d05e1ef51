"""Probes written straight into PostgreSQL, and a worker's prober that tries them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from pydantic import SecretStr

from shared.config import Settings
from shared.crypto import SecretBox, new_key
from shared.ids import new_id
from shared.probes.request import ActionProbe, CredentialProbe, ProbeCall, sealed_request
from shared.seals import origin_of
from tests.running import eventually
from tests.world import World
from worker.engine.engine import Engine
from worker.probes.prober import Prober

KEY = new_key()
BOX = SecretBox(KEY)


def call(body: bytes = b"{}", **fields: Any) -> ProbeCall:
    given: dict[str, Any] = {
        "method": "POST",
        "path": "/t/x",
        "query": "",
        "headers": [("content-type", "application/json")],
        "content_type": "application/json",
    }
    return ProbeCall(body=body, **given | fields)


def write_probe(world: World, action_id: UUID, with_call: ProbeCall | None = None, **fields: Any) -> UUID:
    """A probe of one of the world's actions, PENDING unless told otherwise."""
    request = sealed_request(ActionProbe(action_id, world.callback_id, with_call or call()), BOX)
    given = {"id": new_id(), "user_id": world.user_id, "request": request}
    return UUID(world.rows.insert("probes", **given | fields)["id"])


def write_credential_probe(world: World, url: str, secret: str = "s3cret-canary", **meta: Any) -> UUID:
    """A probe of a new bearer credential, or of another kind, that goes to this URL."""
    given = {"kind": "bearer", "origins": [origin_of(url)], **meta}
    credential = world.rows.insert(
        "service_credentials",
        user_id=world.user_id,
        provider="GENERIC",
        secret=BOX.encrypt(secret),
        meta=json.dumps(given),
    )
    request = sealed_request(CredentialProbe(UUID(credential["id"]), url, "GET"), BOX)
    return UUID(world.rows.insert("probes", id=new_id(), user_id=world.user_id, request=request)["id"])


def row_of(world: World, probe_id: UUID) -> dict[str, Any]:
    row: dict[str, Any] = world.ask("SELECT to_jsonb(p) FROM probes p WHERE id = %s", probe_id)[0][0]
    return row


def result_of(world: World, probe_id: UUID, seconds: float = 15.0) -> dict[str, Any]:
    """Wait for its result and open it."""
    row = eventually(
        lambda: (found := row_of(world, probe_id))["state"] == "DONE" and found, seconds, "its end"
    )
    result: dict[str, Any] = json.loads(BOX.decrypt(row["result"]))
    return result


@contextmanager
def probing(world: World, **settings: Any) -> Iterator[tuple[Engine, Prober]]:
    """A worker's engine and prober. Nobody hears of anything through Redis."""
    given = Settings(
        database_url=SecretStr(world.database_url),
        redis_url=SecretStr("redis://127.0.0.1:1/0"),
        secret_keys=SecretStr(KEY),
        **{"environment": "local", "egress_allow": "127.0.0.0/8", "drain_seconds": 1.0} | settings,
    )
    engine = Engine(given, BOX)
    prober = Prober(given.postgres, BOX, engine)
    engine.also_end(prober.stop)
    engine.start()
    prober.start()
    try:
        yield engine, prober
    finally:
        prober.begin_to_stop()
        engine.stop()
