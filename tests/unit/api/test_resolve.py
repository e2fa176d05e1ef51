"""Snapshots of callbacks: at most a second old, and never a door to the database for guessers."""

from __future__ import annotations

from typing import cast
from uuid import UUID

import pytest
from sqlalchemy import Engine

from api.ingress import resolve
from api.ingress.resolve import Resolver, Snapshot, must_be_active
from shared.errors import Forbidden, NotFound

KNOWN = Snapshot(UUID(int=1), UUID(int=2), True)


class CountingResolver(Resolver):
    """Knows one callback and counts how often it is asked."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.reads: list[str] = []
        super().__init__(cast(Engine, None), lambda: self.seconds)

    def _read(self, is_token: bool, name: str) -> Snapshot | None:
        self.reads.append(name)
        return KNOWN if is_token and name == "known" else None


def test_a_snapshot_is_read_again_after_a_second() -> None:
    resolver = CountingResolver()
    for seconds in (0.0, 0.5, 0.99, 1.0, 1.5):
        resolver.seconds = seconds
        assert resolver.by_token("known") == KNOWN
    assert resolver.reads == ["known", "known"]


def test_unknown_names_are_remembered_too_and_paths_are_not_tokens() -> None:
    resolver = CountingResolver()
    for _ in range(3):
        with pytest.raises(NotFound):
            resolver.by_token("guess")
        with pytest.raises(NotFound):
            resolver.by_path("known")
    assert resolver.reads == ["guess", "known"]


@pytest.mark.parametrize("name", ["", "a\x00b", "a/b", "a b", "caf\u00e9", "x" * 201, "a\n"])
def test_names_that_cannot_be_never_reach_the_database(name: str) -> None:
    resolver = CountingResolver()
    with pytest.raises(NotFound):
        resolver.by_token(name)
    assert resolver.reads == []


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve, "MAX_ENTRIES", 10)
    resolver = CountingResolver()
    for number in range(100):
        with pytest.raises(NotFound):
            resolver.by_token(f"n{number}")
    assert len(resolver._cache) <= 10


def test_an_inactive_callback_is_refused() -> None:
    must_be_active(KNOWN)
    with pytest.raises(Forbidden):
        must_be_active(Snapshot(UUID(int=1), UUID(int=2), False))
