"""Keys of requests."""

from __future__ import annotations

import asyncio
import itertools
import threading
from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.idempotency import MAX_KEY_CHARS
from api.ingress import deduplicate
from api.ingress.call import Call
from api.ingress.deduplicate import RequestKey, key_of_call
from api.ingress.resolve import Snapshot
from api.threads import Threads
from shared.errors import Refused


def key(
    sent: str | None = None, method: str = "POST", query: str = "", body: bytes = b"", cache: int = 0
) -> RequestKey | None:
    call = Call("/t/x", "http://localhost/t/x", "r", method, "/t/x", query, "[]", None, body, None)
    callback = Snapshot(UUID(int=1), UUID(int=2), True, 30_000, cache)
    threads = Threads("test", 1, 1)
    try:
        return asyncio.run(key_of_call(replace(call, idempotency_key=sent), callback, 99, threads))
    finally:
        threads.stop()


def test_without_a_key_and_a_cache_every_call_counts() -> None:
    assert key() is None


def test_a_callers_key_decides_alone() -> None:
    mine, with_cache = key("abc"), key("abc", cache=5)
    assert mine is not None
    assert mine.is_callers
    assert mine == with_cache
    assert mine.lifetime_seconds == 99


def test_the_cache_looks_at_method_query_and_body() -> None:
    requests = [("POST", "", b""), ("GET", "", b""), ("POST", "a", b""), ("POST", "", b"a")]
    keys = [key(None, *request, cache=5) for request in requests]
    assert all(k is not None and not k.is_callers and k.lifetime_seconds == 5 for k in keys)
    assert len({k.key for k in keys if k}) == len(requests)
    assert keys[3] == key(None, *requests[3], cache=5)


@pytest.mark.parametrize("sent", ["", "x" * (MAX_KEY_CHARS + 1), "a\x7fb", "a\tb"])
def test_a_key_that_cannot_be_one_is_refused(sent: str) -> None:
    with pytest.raises(Refused) as error:
        key(sent)
    assert (error.value.status, error.value.code) == (400, "bad_idempotency_key")


def test_no_callers_key_is_taken_for_one_of_the_cache() -> None:
    cached = key(cache=5)
    assert cached is not None
    sent = key(cached.key)
    assert sent is not None
    assert sent.key != cached.key


parts = st.tuples(st.sampled_from(["GET", "POST"]), st.text(max_size=3), st.binary(max_size=3))


@given(parts, parts)
def test_only_equal_requests_have_equal_hashes(
    one: tuple[str, str, bytes], other: tuple[str, str, bytes]
) -> None:
    first, second = key("k", *one), key("k", *other)
    assert first is not None
    assert second is not None
    assert (first.request_hash == second.request_hash) == (one == other)


def test_parts_are_not_mistaken_for_one_another() -> None:
    cuts = [("POST", "ab"[:n], b"ab"[n:]) for n in range(3)] + [("POST", "\n", b""), ("POST", "", b"\n")]
    hashes = [key("k", *cut).request_hash for cut in cuts]  # type: ignore[union-attr]
    assert all(a != b for a, b in itertools.combinations(hashes, 2))


def test_a_large_body_is_hashed_in_a_thread_and_to_the_same_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails when one large body holds up everybody else's turns, or is hashed in another way."""
    on_loop = key("k", body=b"x" * 100)
    monkeypatch.setattr(deduplicate, "MAX_HASHED_ON_LOOP_BYTES", 99)
    hashed: list[bool] = []
    original = deduplicate._hash

    def noting(call: Call) -> bytes:
        hashed.append(threading.current_thread() is threading.main_thread())
        return original(call)

    monkeypatch.setattr(deduplicate, "_hash", noting)
    assert key("k", body=b"x" * 100) == on_loop
    key("k", body=b"x" * 99)
    assert hashed == [False, True]
