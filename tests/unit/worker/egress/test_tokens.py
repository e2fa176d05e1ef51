"""How long an access token is used, and who fetches the next one."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.egress import tokens as module
from worker.egress.tokens import (
    FAILED_SECONDS,
    MAX_FAILED_SECONDS,
    REFUSED_SECONDS,
    STOPPED,
    NoToken,
    Token,
    Tokens,
)

KEY = ("credential", "version")
NEVER = NoToken("no", retryable=False)


class Server:
    """A token server with a clock of its own. ends: what its next answers are, else a new token.

    fetches: how many were begun. under_way: how many are; most_at_once: the most of one moment.
    """

    def __init__(self, life_seconds: float = 100.0) -> None:
        self.now = 1_000.0
        self.life_seconds = life_seconds
        self.ends: list[NoToken | Token] = []
        self.fetches = self.most_at_once = self.under_way = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.tokens = Tokens(lambda: self.now)

    async def fetch(self) -> Token | NoToken:
        self.fetches += 1
        number, self.under_way = self.fetches, self.under_way + 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            await self.answers.wait()
            await asyncio.sleep(0)
        finally:
            self.under_way -= 1
        return self.ends.pop(0) if self.ends else Token(f"token-{number}", self.life_seconds)

    async def get(self, key: Any = KEY) -> str | NoToken:
        """A token's value, or why there is none."""
        found = await self.tokens.get(key, self.fetch)
        return found.value if isinstance(found, Token) else found

    async def token(self, key: Any = KEY) -> Token:
        found = await self.tokens.get(key, self.fetch)
        assert isinstance(found, Token)
        return found


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
        server.ends = [NEVER]
        assert await server.get() == NEVER

    told(story)


def test_a_token_that_was_refused_is_dropped() -> None:
    async def story(server: Server) -> None:
        token = await server.token()
        assert server.tokens.drop(KEY, token)
        assert await server.get() == "token-2"

    told(story)


def test_a_receiver_that_takes_no_token_costs_one_in_a_while() -> None:
    """Fails when each delivery that is refused buys a token: a token server counts them, and shuts
    out who asks too often.
    """

    async def story(server: Server) -> None:
        assert server.tokens.drop(KEY, await server.token())
        for _ in range(50):
            assert not server.tokens.drop(KEY, await server.token())
            server.now += REFUSED_SECONDS / 51
        assert server.tokens.drop(("other", "1"), await server.token(("other", "1"))), "of that key alone"
        server.now += REFUSED_SECONDS / 50
        assert server.tokens.drop(KEY, await server.token())
        assert await server.get() == "token-4"

    told(story)


def test_a_newer_token_is_not_dropped_for_an_older_one() -> None:
    """Fails when each of a hundred refused deliveries has the token fetched anew."""

    async def story(server: Server) -> None:
        token = await server.token()
        server.tokens.drop(KEY, token)
        assert server.tokens.drop(KEY, token), "the next attempt gets another one"
        assert await server.get() == "token-2"
        for _ in range(100):
            assert server.tokens.drop(KEY, token)
            assert await server.get() == "token-2"
        server.tokens.drop(("another", "1"), token)
        assert server.fetches == 2

    told(story)


def test_all_who_wait_hear_why_there_is_no_token_and_the_next_second_too() -> None:
    async def story(server: Server) -> None:
        server.ends = [NEVER]
        assert await asyncio.gather(*(server.get() for _ in range(10))) == [NEVER] * 10
        assert await server.get() == NEVER
        assert server.fetches == 1
        assert await server.get(("other", "1")) == "token-2", "nobody else hears of it"
        server.now += FAILED_SECONDS
        assert await server.get() == "token-3"

    told(story)


@pytest.mark.parametrize(("asked", "held"), [(0.5, FAILED_SECONDS), (30, 30), (3_600, MAX_FAILED_SECONDS)])
def test_a_token_server_is_not_asked_before_it_wants_to_be(asked: float, held: float) -> None:
    """Fails when a server that says «too many» is asked again by each delivery."""

    async def story(server: Server) -> None:
        busy = NoToken("busy", retryable=True, retry_after_seconds=asked)
        server.ends = [busy]
        assert await server.get() == busy
        server.now += held - 0.25
        left = asked - (held - 0.25)
        assert await server.get() == busy._replace(retry_after_seconds=max(left, 0))
        assert server.fetches == 1
        server.now += 0.25
        assert await server.get() == "token-2"

    told(story)


def test_nothing_is_kept_of_who_heard_that_there_is_no_token() -> None:
    """Fails when what is kept of a failure holds the frames of those who heard of it: each has a
    request with its body.
    """

    class Body:
        """What a delivery holds."""

    async def story(server: Server) -> None:
        bodies: list[weakref.ref[Body]] = []

        async def deliver() -> None:
            body = Body()
            bodies.append(weakref.ref(body))
            assert await server.get() == NEVER

        server.ends = [NEVER]
        await asyncio.gather(*(deliver() for _ in range(5)))
        for _ in range(5):
            await deliver()
        gc.collect()
        assert [one() for one in bodies] == [None] * 10
        assert server.fetches == 1

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
        assert await waiting == STOPPED
        assert STOPPED.retryable

    told(story)


def test_few_fetches_go_on_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when attempts that are over leave any number of fetches behind: these have no place,
    and take the connections of those who have one.
    """
    monkeypatch.setattr(module, "MAX_UNAWAITED", 3)

    async def story(server: Server) -> None:
        server.answers.clear()
        patient = asyncio.create_task(server.get("patient"))
        for number in range(20):
            hurried = asyncio.create_task(server.get(number))
            await settle()
            hurried.cancel()
            await settle()
        assert server.under_way == 1 + 3
        server.answers.set()
        assert await patient == "token-1"
        await settle()
        assert (server.under_way, server.fetches) == (0, 21)
        assert await server.get(0) == "token-2", "it went on for those who come later"
        assert await server.get(19) == "token-22"

    told(story)


def test_one_that_others_wait_for_is_never_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNAWAITED", 0)

    async def story(server: Server) -> None:
        server.answers.clear()
        hurried, patient = asyncio.create_task(server.get()), asyncio.create_task(server.get())
        await settle()
        hurried.cancel()
        await settle()
        assert server.under_way == 1
        patient.cancel()
        await settle()
        assert server.under_way == 0
        server.answers.set()
        assert await server.get() == "token-2", "a fetch that was given up is in nobody's way"

    told(story)


def test_few_are_renewed_at_once_and_the_old_ones_serve_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNAWAITED", 3)

    async def story(server: Server) -> None:
        old = [await server.get(number) for number in range(10)]
        server.now += 90
        server.answers.clear()
        assert [await server.get(number) for number in range(10)] == old
        await settle()
        assert server.under_way == 3
        server.answers.set()
        await settle()
        assert [await server.get(number) for number in range(10)][:4] == [
            "token-11",
            "token-12",
            "token-13",
            "token-4",
        ]
        server.now += 10
        assert await server.get(9) != old[9], "one that has expired is waited for"

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
            assert await server.get(number) == NEVER
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
            token = await server.tokens.get(KEY, server.fetch)
            if isinstance(token, NoToken):
                continue
            born.setdefault(token.value, server.now)
            assert server.now - born[token.value] < 100
            if what == "drop":
                server.tokens.drop(KEY, token)
            await settle()
        assert server.most_at_once <= 1

    told(story)
