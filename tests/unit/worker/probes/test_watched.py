"""Doors that are watched do what they did before."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from tests.made_kind import Megaphone
from tests.unit.worker.probes.test_shown import request
from worker.doors import Doors
from worker.egress.addresses import AddressGuard
from worker.egress.errors import EgressError
from worker.egress.http import Egress
from worker.probes.watched import Watched, WatchedDoors


def test_what_goes_through_the_door_of_http_is_noted_and_goes_on() -> None:
    async def story() -> None:
        door = Egress(guard=AddressGuard(), dns_threads=1, connection_limit=1)
        await door.open()
        seen = Watched()
        sent = request(url="http://127.0.0.1:1/")
        way = cast(Egress, WatchedDoors(Doors({Egress: door}), seen).of(Egress))
        with pytest.raises(EgressError) as refused:
            await way.request(sent)
        await door.close()
        assert refused.value.code == "blocked_address"
        assert (seen.request, seen.response) == (sent, None)
        assert (seen.dialled.named, seen.dialled.address) == ("127.0.0.1:1", "127.0.0.1")

    asyncio.run(story())


def test_another_door_is_as_it_was() -> None:
    door = Megaphone()
    assert WatchedDoors(Doors({Megaphone: door}), Watched()).of(Megaphone) is door
