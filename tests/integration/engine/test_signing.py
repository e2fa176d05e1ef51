"""Which secrets sign an attempt, on a real PostgreSQL: those of the moment when it begins."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from shared.crypto import SecretBox, new_key
from shared.ids import new_id
from shared.signatures import new_signing_secret, sign, signing_key
from tests.prepared import preparing
from tests.world import World
from worker.actions.contract import Limits
from worker.doors import Doors
from worker.egress.errors import EgressError
from worker.egress.http import Egress
from worker.egress.messages import HttpRequest, HttpResponse
from worker.engine.claim import Claimer
from worker.engine.journal import Journal
from worker.engine.room import Room
from worker.engine.run import carry
from worker.engine.services import RunServices

BOX = SecretBox(new_key())


@dataclass
class Meanwhile:
    """A receiver that lets something happen before it answers for the first time.

    failure: how the first request ends, if not with a 200.
    """

    happens: Callable[[], None]
    failure: EgressError | None = None
    requests: list[HttpRequest] = field(default_factory=list)

    async def request(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        if len(self.requests) == 1:
            self.happens()
            if self.failure is not None:
                raise self.failure
        return HttpResponse(200, (), b"", False)


def set_secrets(world: World, *secrets: tuple[str, datetime | None]) -> None:
    rows = [
        {
            "secret": BOX.encrypt(plain),
            "createdAt": datetime.now(UTC).isoformat(),
            "expiresAt": None if end is None else end.isoformat(),
        }
        for plain, end in secrets
    ]
    world.do("UPDATE callbacks SET signing_secrets = %s WHERE id = %s", json.dumps(rows), world.callback_id)


def carried(world: World, claimer: Claimer, journal: Journal, receiver: Meanwhile) -> list[HttpRequest]:
    """What was sent for a trigger until it settled."""
    services = RunServices(
        journal=journal,
        room=Room(1_000, 10**9, 1),
        doors=Doors({Egress: cast(Egress, receiver)}),
        preparing=preparing(BOX),
        secrets=BOX,
        limits=Limits(max_response_bytes=99, max_stored_item_bytes=1, max_stored_items=1),
        may_start=lambda: True,
    )
    (run,) = claimer.claim(new_id(), [world.trigger()])
    asyncio.run(carry(run, services))
    return receiver.requests


def signed_by(request: HttpRequest, *secrets: str) -> bool:
    headers = request.headers
    made = sign(
        list(map(signing_key, secrets)),
        headers["webhook-id"],
        int(headers["webhook-timestamp"]),
        request.body,
    )
    return headers["webhook-signature"] == made


def test_a_step_that_begins_after_a_rotation_is_signed_by_the_new_secret_alone(
    world: World, stranger: World, claimer: Claimer, journal: Journal
) -> None:
    """Fails when a run signs with what it read at its claim, however long its first step took."""
    old, new = new_signing_secret(), new_signing_secret("v1a")
    set_secrets(world, (old, None))
    set_secrets(stranger, (new_signing_secret(), None))
    world.action(0)
    world.action(1)
    receiver = Meanwhile(lambda: set_secrets(world, (new, None)))
    first, second = carried(world, claimer, journal, receiver)
    assert signed_by(first, old)
    assert signed_by(second, new)


def test_so_is_a_retry_that_comes_at_once(world: World, claimer: Claimer, journal: Journal) -> None:
    old, new = new_signing_secret(), new_signing_secret()
    set_secrets(world, (old, None))
    world.action(0)
    refused = EgressError("connect_failed", "refused", phase="connect")
    receiver = Meanwhile(lambda: set_secrets(world, (new, None)), refused)
    first, again = carried(world, claimer, journal, receiver)
    assert first.headers["webhook-id"] == again.headers["webhook-id"]
    assert signed_by(first, old)
    assert signed_by(again, new)


def test_during_the_grace_time_both_sign_the_newest_first(
    world: World, claimer: Claimer, journal: Journal
) -> None:
    old, new, ended = (new_signing_secret() for _ in range(3))
    now = datetime.now(UTC)
    set_secrets(world, (new, None), (old, now + timedelta(hours=1)), (ended, now - timedelta(seconds=1)))
    world.action(0)
    (sent,) = carried(world, claimer, journal, Meanwhile(lambda: None))
    assert signed_by(sent, new, old)


def test_an_ended_secret_that_no_key_opens_hinders_nothing(
    world: World, claimer: Claimer, journal: Journal
) -> None:
    """Fails when a delivery needs every key that ever sealed one of its callback's secrets."""
    new = new_signing_secret()
    set_secrets(world, (new, None))
    ((rows,),) = world.ask("SELECT signing_secrets FROM callbacks WHERE id = %s", world.callback_id)
    lost: dict[str, Any] = {
        "secret": SecretBox(new_key()).encrypt("whsec_AAAA"),
        "createdAt": "2020-01-01T00:00:00+00:00",
        "expiresAt": "2020-01-02T00:00:00+00:00",
    }
    rows = json.dumps([*rows, lost])
    world.do("UPDATE callbacks SET signing_secrets = %s WHERE id = %s", rows, world.callback_id)
    world.action(0)
    (sent,) = carried(world, claimer, journal, Meanwhile(lambda: None))
    assert signed_by(sent, new)
