"""Snapshots of callbacks: at most a second old, and never a door to the database for guessers."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine

from api.ingress import resolve
from api.ingress.resolve import Resolver, Snapshot, must_be_active
from api.urls import CUSTOM_PREFIX, TOKEN_PREFIX
from shared.errors import Forbidden, NotFound, Unavailable
from tests.running import eventually

KNOWN = Snapshot(UUID(int=1), UUID(int=2), True, 30_000, 0)


class CountingResolver(Resolver):
    """Knows one callback and counts how often it is asked."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.reads: list[str] = []
        self.known: Snapshot | None = KNOWN
        self.failure: Exception | None = None
        super().__init__(cast(Engine, None), lambda: self.seconds)

    def by_token(self, token: str) -> Snapshot:
        return asyncio.run(self.find(TOKEN_PREFIX + token))

    def by_path(self, path: str) -> Snapshot:
        return asyncio.run(self.find(CUSTOM_PREFIX + path))

    def _read(self, address: str) -> Snapshot | None:
        self.reads.append(address[3:])
        if self.failure is not None:
            raise self.failure
        return self.known if address == "/t/known" else None


def test_a_snapshot_is_read_again_after_a_second() -> None:
    resolver = CountingResolver()
    for seconds in (0.0, 0.4, 0.49, 1.0, 1.4):
        resolver.seconds = seconds
        assert resolver.by_token("known") == KNOWN
    assert resolver.reads == ["known", "known"]


def test_what_is_known_serves_while_it_is_refreshed() -> None:
    """Fails when each callback's calls wait for PostgreSQL once a second."""

    class Slow(CountingResolver):
        go_on = threading.Event()

        def _read(self, address: str) -> Snapshot | None:
            found = super()._read(address)
            assert len(self.reads) == 1 or self.go_on.wait(5)
            return found

    resolver = Slow()
    resolver.by_token("known")
    resolver.seconds = 0.6
    resolver.known = replace(KNOWN, active=False)
    for _ in range(3):
        assert resolver.by_token("known") == KNOWN
    assert resolver.reads == ["known", "known"], "one refresh is under way"
    resolver.go_on.set()
    eventually(lambda: not resolver.by_token("known").active, 5, "the refreshed snapshot")


def test_a_stranger_who_guesses_holds_up_nobody_who_is_known() -> None:
    """Fails when names that nobody has take the threads of callbacks that somebody has."""

    class Guessed(CountingResolver):
        go_on = threading.Event()

        def _read(self, address: str) -> Snapshot | None:
            found = super()._read(address)
            assert address == "/t/known" or self.go_on.wait(5)
            return found

    async def story() -> Snapshot:
        resolver = Guessed()
        await resolver.find("/t/known")
        guesses = [asyncio.create_task(resolver.find(f"/t/guess{n}")) for n in range(50)]
        await asyncio.sleep(0)
        resolver.seconds = 60.0
        found = await asyncio.wait_for(resolver.find("/t/known"), 5)
        resolver.go_on.set()
        ends = await asyncio.gather(*guesses, return_exceptions=True)
        assert all(isinstance(end, NotFound) for end in ends)
        return found

    assert asyncio.run(story()) == KNOWN


def test_unknown_names_are_remembered_too_and_paths_are_not_tokens() -> None:
    resolver = CountingResolver()
    for _ in range(3):
        with pytest.raises(NotFound):
            resolver.by_token("guess")
        with pytest.raises(NotFound):
            resolver.by_path("known")
    assert resolver.reads == ["guess", "known"]


@pytest.mark.parametrize("seconds", [1.0, 60.0])
def test_a_change_holds_a_second_later_whichever_way_it_goes(seconds: float) -> None:
    """A token rotated away is unknown, a callback just made is found, one switched off is
    refused.
    """
    resolver = CountingResolver()
    resolver.by_token("known")
    resolver.known = None
    assert resolver.by_token("known") == KNOWN, "not read again within the second"
    resolver.seconds = seconds
    with pytest.raises(NotFound):
        resolver.by_token("known")
    resolver.known = replace(KNOWN, active=False)
    resolver.seconds = 2 * seconds
    with pytest.raises(Forbidden):
        must_be_active(resolver.by_token("known"))


def test_use_does_not_lengthen_the_second() -> None:
    """Fails when a hit renews its entry: a busy callback could never be switched off."""
    resolver = CountingResolver()
    for tenths in range(30):
        resolver.seconds = tenths / 10
        resolver.by_token("known")
        eventually(lambda: not resolver._looking, 5, "the refresh to end")
    assert 3 <= len(resolver.reads) <= 6


def test_a_read_that_failed_is_not_remembered() -> None:
    """Fails when an outage of PostgreSQL turns into «no such callback» for a second."""
    resolver = CountingResolver()
    resolver.failure = Unavailable("PostgreSQL is not available.")
    with pytest.raises(Unavailable):
        resolver.by_token("known")
    resolver.failure = None
    assert resolver.by_token("known") == KNOWN


@pytest.mark.parametrize("name", ["", "a\x00b", "a/b", "a b", "caf\u00e9", "x" * 201, "a\n", "\ud800"])
@pytest.mark.parametrize("find", [CountingResolver.by_token, CountingResolver.by_path])
def test_names_that_cannot_be_never_reach_the_database_nor_the_memory(
    find: Callable[[CountingResolver, str], Snapshot], name: str
) -> None:
    resolver = CountingResolver()
    with pytest.raises(NotFound):
        find(resolver, name)
    assert resolver.reads == []
    assert resolver._strangers == {}


@given(st.text(max_size=210))
def test_what_reaches_the_database_is_printable_ascii_of_bounded_length(name: str) -> None:
    resolver = CountingResolver()
    with pytest.raises(NotFound):
        resolver.by_path(name)
    for asked in resolver.reads:
        assert asked == name
        assert asked.isascii()
        assert asked.isprintable()
        assert not set(asked) & set("/ '\"%\\")
        assert 1 <= len(asked) <= 200


@pytest.mark.parametrize("name", ["a", "A-z_0.9~", "x" * 200])
def test_names_that_can_be_are_looked_up(name: str) -> None:
    resolver = CountingResolver()
    with pytest.raises(NotFound):
        resolver.by_path(name)
    assert resolver.reads == [name]


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "MAX_ENTRIES", 10)
    resolver = CountingResolver()
    for number in range(100):
        with pytest.raises(NotFound):
            resolver.by_token(f"n{number}" if number % 2 else f"not/a/name/{number}")
        assert len(resolver._strangers) <= 10
    assert resolver.by_token("known") == KNOWN
    assert list(resolver._callbacks) == ["/t/known"], "those who guess push out nobody"


def test_an_inactive_callback_is_refused() -> None:
    must_be_active(KNOWN)
    with pytest.raises(Forbidden):
        must_be_active(replace(KNOWN, active=False))


@given(st.text())
def test_only_names_that_a_url_of_ours_can_have_reach_the_database(name: str) -> None:
    for ask in (CountingResolver.by_token, CountingResolver.by_path):
        resolver = CountingResolver()
        with contextlib.suppress(NotFound):
            ask(resolver, name)
        assert resolver.reads in ([], [name])
        if resolver.reads:
            assert re.fullmatch(r"[A-Za-z0-9._~-]{1,200}", name)


@pytest.mark.parametrize("name", ["A", "x" * 200, "A-z_0.9~", "canary"])
def test_names_at_the_edge_of_what_is_allowed_are_looked_up(name: str) -> None:
    resolver = CountingResolver()
    with pytest.raises(NotFound) as error:
        resolver.by_path(name)
    assert resolver.reads == [name]
    assert error.value.code == "unknown_trigger_url"
    assert "canary" not in error.value.message + error.value.hint, "a token is a credential"


def test_a_change_holds_a_second_later_in_both_directions() -> None:
    """Fails when an unknown name is remembered for longer, or a deleted callback is."""

    class Changing(CountingResolver):
        def __init__(self) -> None:
            super().__init__()
            self.exists = False

        def _read(self, address: str) -> Snapshot | None:
            return KNOWN if self.exists else None

    resolver = Changing()
    for exists in (True, False, True):
        with contextlib.suppress(NotFound):
            resolver.by_token("x")
        resolver.exists = exists
        resolver.seconds += resolve.TTL_SECONDS
        if exists:
            assert resolver.by_token("x") == KNOWN
        else:
            with pytest.raises(NotFound):
                resolver.by_token("x")


def test_a_database_that_fails_is_asked_again_and_not_taken_for_unknown() -> None:
    class Failing(CountingResolver):
        def _read(self, address: str) -> Snapshot | None:
            if not self.reads:
                self.reads.append(address)
                raise OSError("away")
            return super()._read(address)

    resolver = Failing()
    with pytest.raises(OSError, match="away"):
        resolver.by_token("known")
    assert resolver.by_token("known") == KNOWN


def test_a_cache_that_was_full_still_knows_what_it_read_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "MAX_ENTRIES", 3)
    resolver = CountingResolver()
    for number in range(7):
        with pytest.raises(NotFound):
            resolver.by_token(f"n{number}")
        assert resolver.by_token("known") == KNOWN
    assert resolver.reads.count("known") <= 4, "forgetting everything is rare"
    assert resolver.reads.count("n6") == 1


def test_a_refusal_says_who_can_fix_it() -> None:
    with pytest.raises(Forbidden) as error:
        must_be_active(replace(KNOWN, active=False))
    assert (error.value.status, error.value.code) == (403, "callback_inactive")
    assert "activeStatus" in error.value.hint


def test_a_token_that_was_just_used_is_no_path_of_the_same_name() -> None:
    """Fails when both are remembered under one name: a path could be had by guessing nothing."""
    resolver = CountingResolver()
    assert resolver.by_token("known") == KNOWN
    with pytest.raises(NotFound):
        resolver.by_path("known")
    assert resolver.by_token("known") == KNOWN


@pytest.mark.parametrize("busy", [0, 2], ids=["being read", "in the queue"])
def test_calls_of_one_moment_share_one_look_up(busy: int) -> None:
    """Fails when each of a hundred calls at the end of a second takes a connection of its own."""

    class Slow(CountingResolver):
        def __init__(self) -> None:
            super().__init__()
            self.go_on = threading.Event()

        def _read(self, address: str) -> Snapshot | None:
            found = super()._read(address)
            assert self.go_on.wait(5)
            return found

    async def story() -> list[Any]:
        resolver = Slow()
        names = ["guess"] * busy + ["known"] * 100  # with two guesses both threads are busy
        finding = [
            asyncio.create_task(resolver.find(f"/t/{name}{n if name == 'guess' else ''}"))
            for n, name in enumerate(names)
        ]
        await asyncio.sleep(0)
        finding[busy].cancel()  # its time is over; the others' is not
        await asyncio.sleep(0)
        resolver.go_on.set()
        ends = await asyncio.gather(*finding, return_exceptions=True)
        assert resolver.reads.count("known") == 1
        assert resolver._looking == {}
        return ends[busy:]

    cancelled, *found = asyncio.run(story())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert found == [KNOWN] * 99


def test_what_was_read_late_is_no_older_than_a_second() -> None:
    """Fails when the second is counted from the answer: a change during a slow look-up would be
    seen too late.
    """

    class Slow(CountingResolver):
        def _read(self, address: str) -> Snapshot | None:
            self.seconds += 0.9
            return super()._read(address)

    resolver = Slow()
    resolver.by_token("known")
    resolver.seconds = 1.0
    resolver.by_token("known")
    assert resolver.reads == ["known", "known"]
