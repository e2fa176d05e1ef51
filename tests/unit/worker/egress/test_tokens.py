"""How long an access token is used, and who fetches the next one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.egress import tokens as module
from worker.egress.tokens import FAILED_SECONDS, NoToken, Token, Tokens

KEY = ("credential", "version")
NEVER = NoToken("no", retryable=False)


class Server:
    """A token server with a clock of its own. ends: what its next answers are, else a new token.

    fetches: how many were begun. most_at_once: how many of them were under way at one moment.
    """

    def __init__(self, life_seconds: float = 100.0) -> None:
        self.now = 1_000.0
        self.life_seconds = life_seconds
        self.ends: list[NoToken | Token] = []
        self.fetches = self.most_at_once = self._under_way = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.tokens = Tokens(lambda: self.now)

    async def fetch(self) -> Token:
        self.fetches += 1
        number, self._under_way = self.fetches, self._under_way + 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            await self.answers.wait()
            await asyncio.sleep(0)
        finally:
            self._under_way -= 1
        end = self.ends.pop(0) if self.ends else Token(f"token-{number}", self.life_seconds)
        if isinstance(end, NoToken):
            raise end
        return end

    async def get(self, key: Any = KEY) -> str:
        return (await self.tokens.get(key, self.fetch)).value


Story = Callable[[Server], Coroutine[Any, Any, None]]


def told(story: Story, **server: Any) -> None:
    async def tell() -> None:
        await asyncio.wait_for(story(Server(**server)), 5)

    asyncio.run(tell())


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_hundred_who_ask_at_once_are_one_fetch_and_so_are_all_that_follow() -> None:
    async def story(server: Server) -> None:
        assert set(await asyncio.gather(*(server.get() for _ in range(100)))) == {"token-1"}
        for _ in range(100):
            assert await server.get() == "token-1"
        assert (server.fetches, server.most_at_once) == (1, 1)

    told(story)


def test_another_credential_or_another_version_has_a_token_of_its_own() -> None:
    """Fails when a token that was bought with the old secret, or by somebody else, is used."""

    async def story(server: Server) -> None:
        keys = [("one", "1"), ("one", "2"), ("other", "1")]
        got = [await server.get(key) for key in keys]
        assert len(set(got)) == 3
        assert [await server.get(key) for key in keys] == got

    told(story)


@pytest.mark.parametrize(("life", "renewed_after"), [(100, 80), (3_600, 3_570), (10, 8), (1, 0.8)])
def test_a_token_is_fetched_anew_before_it_expires_and_nobody_waits_for_it(
    life: float, renewed_after: float
) -> None:
    async def story(server: Server) -> None:
        await server.get()
        server.now += renewed_after - 0.01
        assert await server.get() == "token-1"
        assert server.fetches == 1
        server.now += 0.02
        server.answers.clear()
        assert [await server.get() for _ in range(3)] == ["token-1"] * 3, "nobody waits"
        await settle()
        assert (server.fetches, server.most_at_once) == (2, 1)
        server.answers.set()
        await settle()
        assert await server.get() == "token-2"

    told(story, life_seconds=life)


def test_an_expired_token_is_not_used() -> None:
    async def story(server: Server) -> None:
        await server.get()
        server.now += 100
        assert await server.get() == "token-2"

    told(story)


def test_while_no_new_one_can_be_had_the_old_one_is_used_until_it_expires() -> None:
    async def story(server: Server) -> None:
        await server.get()
        server.now += 90
        server.ends = [NEVER, NEVER]
        assert await server.get() == "token-1"
        await settle()
        assert [await server.get() for _ in range(5)] == ["token-1"] * 5
        assert server.fetches == 2, "it is not asked again at once"
        server.now += FAILED_SECONDS
        assert await server.get() == "token-1"
        await settle()
        server.now += 10
        with pytest.raises(NoToken):
            server.ends = [NEVER]
            await server.get()

    told(story)


def test_a_token_that_was_refused_is_dropped() -> None:
    async def story(server: Server) -> None:
        token = await server.tokens.get(KEY, server.fetch)
        server.tokens.drop(KEY, token)
        assert await server.get() == "token-2"

    told(story)


def test_a_newer_token_is_not_dropped_for_an_older_one() -> None:
    """Fails when each of a hundred refused deliveries has the token fetched anew."""

    async def story(server: Server) -> None:
        token = await server.tokens.get(KEY, server.fetch)
        server.tokens.drop(KEY, token)
        assert await server.get() == "token-2"
        for _ in range(100):
            server.tokens.drop(KEY, token)
            assert await server.get() == "token-2"
        server.tokens.drop(("another", "1"), token)
        assert server.fetches == 2

    told(story)


def test_all_who_wait_hear_why_there_is_no_token_and_the_next_second_too() -> None:
    async def story(server: Server) -> None:
        server.ends = [NEVER]
        ended = await asyncio.gather(*(server.get() for _ in range(10)), return_exceptions=True)
        assert ended == [NEVER] * 10
        with pytest.raises(NoToken):
            await server.get()
        assert server.fetches == 1
        assert await server.get(("other", "1")) == "token-2", "nobody else hears of it"
        server.now += FAILED_SECONDS
        assert await server.get() == "token-3"

    told(story)


def test_who_gives_up_waiting_takes_the_token_from_nobody() -> None:
    async def story(server: Server) -> None:
        server.answers.clear()
        hurried, patient = asyncio.create_task(server.get()), asyncio.create_task(server.get())
        await settle()
        hurried.cancel()
        await settle()
        server.answers.set()
        assert await patient == "token-1"
        assert server.fetches == 1

    told(story)


def test_a_door_that_closes_lets_nobody_wait() -> None:
    async def story(server: Server) -> None:
        server.answers.clear()
        waiting = asyncio.create_task(server.get())
        await settle()
        server.tokens.close()
        with pytest.raises(NoToken) as error:
            await waiting
        assert error.value.retryable

    told(story)


def test_the_oldest_is_forgotten_beyond_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_TOKENS", 3)

    async def story(server: Server) -> None:
        for number in range(4):
            await server.get(number)
        assert await server.get(3) == "token-4"
        assert await server.get(1) == "token-2"
        assert await server.get(0) == "token-5"
        server.ends = [NEVER] * 4
        for number in range(10, 14):
            with pytest.raises(NoToken):
                await server.get(number)
        assert await server.get(10) == "token-10"

    told(story)


def test_neither_a_token_nor_what_holds_it_shows_it() -> None:
    assert "canary" not in repr(Token("canary", 1.0)) + str(Token("canary", 1.0))


@given(st.lists(st.tuples(st.floats(0, 200), st.sampled_from(["get", "drop", "fail"])), max_size=30))
def test_whatever_happens_one_fetch_at_a_time_and_no_expired_token(steps: list[tuple[float, str]]) -> None:
    async def story(server: Server) -> None:
        born: dict[str, float] = {}
        for wait, what in steps:
            server.now += wait
            if what == "fail":
                server.ends.append(NEVER)
            try:
                token = await server.tokens.get(KEY, server.fetch)
            except NoToken:
                continue
            born.setdefault(token.value, server.now)
            assert server.now - born[token.value] < 100
            if what == "drop":
                server.tokens.drop(KEY, token)
            await settle()
        assert server.most_at_once <= 1

    told(story)
