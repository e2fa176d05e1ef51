"""Doors that are watched do what they did before."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from tests.made_kind import Megaphone
from tests.unit.worker.probes.test_shown import request
from worker.actions.contract import Outcome
from worker.doors import Doors
from worker.egress.addresses import AddressGuard
from worker.egress.errors import EgressError
from worker.egress.http import Egress
from worker.egress.messages import Dialled, HttpRequest, HttpResponse
from worker.egress.tokens import Token, Tokens
from worker.probes.shown import REFUSED, result_of
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


class Answering(Egress):
    """A door behind which each URL is answered with itself."""

    def __init__(self) -> None:
        self.tokens = Tokens()

    async def request(self, request: HttpRequest, dialled: Dialled | None = None) -> HttpResponse:
        assert dialled is not None
        dialled.named = request.url
        if "blocked" in request.url:
            raise EgressError("blocked_address", "it leads to 10.1.2.3")
        return HttpResponse(200, (), request.url.encode(), truncated=False)


def test_what_is_fetched_for_others_as_well_is_not_the_probes() -> None:
    """Fails when the answer of a token server is noted: the token in it would be shown."""

    async def story() -> None:
        seen = Watched()
        door = cast(Egress, WatchedDoors(Doors({Egress: Answering()}), seen).of(Egress))

        async def fetch() -> Token:
            answer = await door.request(request(url="http://tokens.example/"))
            return Token(answer.body.decode(), 60.0)

        await door.tokens.get("key", fetch)
        assert (seen.request, seen.response, seen.dialled.named) == (None, None, None)
        sent = request(url="http://own.example/")
        await door.request(sent)
        assert (seen.request, seen.dialled.named) == (sent, "http://own.example/")
        assert seen.response is not None
        assert seen.response.body == b"http://own.example/"

    asyncio.run(story())


def test_a_token_server_whose_address_is_refused_is_noted() -> None:
    """Fails when the text that names the address is told in the place of the refusal."""

    async def story() -> None:
        seen = Watched()
        door = cast(Egress, WatchedDoors(Doors({Egress: Answering()}), seen).of(Egress))

        async def fetch() -> Token:
            await door.request(request(url="http://blocked.example/"))
            raise AssertionError

        with pytest.raises(EgressError):
            await door.tokens.get("key", fetch)
        assert (seen.is_refused, seen.dialled.named) == (True, "http://blocked.example/")
        outcome = Outcome.permanent("oauth_failed", "could not be asked: it leads to 10.1.2.3")
        shown = result_of(outcome, seen, kind="HTTP_POST", duration_ms=1)
        assert (shown["error"], shown["code"]) == (REFUSED, "oauth_failed")

    asyncio.run(story())


@pytest.mark.parametrize("renewed_first", [True, False])
def test_a_renewal_that_is_refused_is_not_the_probes(renewed_first: bool) -> None:
    """The old token serves. Fails when what was sent is called refused."""

    async def story() -> None:
        seen = Watched()
        door = cast(Egress, WatchedDoors(Doors({Egress: Answering()}), seen).of(Egress))
        sent = request(url="http://own.example/")

        async def renew() -> None:
            with pytest.raises(EgressError):
                await door.request(request(url="http://blocked.example/"))

        if renewed_first:
            await asyncio.create_task(renew())
        await door.request(sent)
        if not renewed_first:
            await asyncio.create_task(renew())
        assert (seen.is_refused, seen.dialled.named, seen.request) == (False, "http://own.example/", sent)

    asyncio.run(story())


def test_another_door_is_as_it_was() -> None:
    door = Megaphone()
    assert WatchedDoors(Doors({Megaphone: door}), Watched()).of(Megaphone) is door
