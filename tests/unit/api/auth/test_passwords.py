"""Passwords are hashed one at a time, and few wait for it."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import bcrypt
import pytest

from api.auth import passwords
from api.auth.passwords import MAX_WAITING, hash_password, matches
from shared.errors import Unavailable
from tests.running import eventually


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "ROUNDS", 4)
    passwords._nobody.cache_clear()


def test_only_the_password_itself_matches() -> None:
    stored = hash_password("correct horse \ud800")
    assert matches("correct horse \ud800", stored)
    assert not matches("correct horse", stored)
    assert not matches("correct horse", None)
    assert not matches("nobody has this password", None)


def test_what_is_longer_than_72_bytes_counts_to_its_end() -> None:
    assert not matches("x" * 99 + "b", hash_password("x" * 99 + "a"))


def test_one_is_hashed_at_a_time_and_too_many_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when whoever guesses takes all cores, and all threads."""
    under_way, most, go_on = list[int](), list[int](), threading.Event()
    real = bcrypt.checkpw

    def slow(password: bytes, stored: bytes) -> bool:
        under_way.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        most.append(len(under_way))
        assert go_on.wait(10)
        under_way.pop()
        return real(password, stored)

    stored = hash_password("a")
    monkeypatch.setattr(bcrypt, "checkpw", slow)
    with ThreadPoolExecutor(MAX_WAITING) as pool:
        waiting = [pool.submit(matches, "a", stored) for _ in range(MAX_WAITING)]
        eventually(
            lambda: passwords._threads()._calls and len(passwords._threads()._calls) == MAX_WAITING, 5, "all"
        )
        eventually(lambda: under_way, 5, "the first one")
        assert under_way[0] > os.getpriority(os.PRIO_PROCESS, 0), "what else wants the core goes first"
        with pytest.raises(Unavailable) as raised:
            matches("a", stored)
        assert raised.value.code == "too_many_logins"
        go_on.set()
        assert [one.result(10) for one in waiting] == [True] * MAX_WAITING
    assert set(most) == {1}
    assert matches("a", stored), "there is room again"


def test_at_a_stop_nobody_waits_for_another_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when a process that stops hashes for all that wait first."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(_password: bytes, _stored: bytes) -> bool:
        begun.set()
        assert go_on.wait(10)
        return True

    stored = hash_password("a")
    monkeypatch.setattr(bcrypt, "checkpw", slow)
    with ThreadPoolExecutor(3) as pool:
        under_way = pool.submit(matches, "a", stored)
        assert begun.wait(5)
        waits = pool.submit(matches, "a", stored)
        eventually(lambda: len(passwords._threads()._calls) == 2, 5, "one that waits")
        stopping = pool.submit(passwords.stop)
        with pytest.raises(Unavailable):
            waits.result(5)
        go_on.set()
        assert under_way.result(5)
        stopping.result(5)
    assert matches("a", stored), "another start begins anew"
