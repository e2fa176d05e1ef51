from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from typing import Any

import pytest

from worker.egress.addresses import AddressGuard, BlockedAddress
from worker.egress.resolver import MAX_ADDRESSES_PER_FAMILY, MAX_CACHED_NAMES, GuardedResolver, acting_tenant

SECONDS = 5.0
PUBLIC = "93.184.216.34"


class Names:
    """A getaddrinfo that answers from a table, counts, and can be made to hang."""

    def __init__(self, **table: list[str]) -> None:
        self.table = table
        self.asked: list[str] = []
        self.hanging: set[str] = set()
        self.release = threading.Event()

    def __call__(self, host: str, port: object, **_: object) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        if host.startswith("slow"):
            self.hanging.add(host)
            self.release.wait(SECONDS)
            self.hanging.discard(host)
        if host not in self.table and not host.startswith("slow"):
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [_entry(address) for address in self.table.get(host, [PUBLIC])]


def _entry(address: str) -> tuple[Any, ...]:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, 0, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))


def play(
    names: Names, story: Callable[[GuardedResolver], Coroutine[Any, Any, None]], **settings: Any
) -> None:
    """Run a story with a resolver over these names, and let nothing hang when it ends."""

    async def main() -> None:
        resolver = GuardedResolver(AddressGuard(), threads=32, getaddrinfo=names, **settings)
        try:
            async with asyncio.timeout(SECONDS):
                await story(resolver)
        finally:
            names.release.set()
            await resolver.close()

    asyncio.run(main())


@contextmanager
def acting_for(tenant: str) -> Iterator[None]:
    """Charge the look-ups made inside to this tenant."""
    token = acting_tenant.set(tenant)
    try:
        yield
    finally:
        acting_tenant.reset(token)


async def look_up(resolver: GuardedResolver, host: str, tenant: str = "a") -> list[str]:
    with acting_for(tenant):
        return [result["host"] for result in await resolver.resolve(host, 80)]


async def hang(resolver: GuardedResolver, names: Names, *hosts: str) -> list[asyncio.Task[list[str]]]:
    """Start look-ups that hang, and wait until their threads do."""
    tasks = [asyncio.create_task(look_up(resolver, host)) for host in hosts]
    while not names.hanging.issuperset(hosts):
        await asyncio.sleep(0.001)
    return tasks


async def settle() -> None:
    """Let everything that is ready run."""
    for _ in range(20):
        await asyncio.sleep(0)


def test_a_name_gives_its_checked_addresses() -> None:
    names = Names(both=[PUBLIC, "2606:4700:4700::1111"])

    async def story(resolver: GuardedResolver) -> None:
        with acting_for("a"):
            found = await resolver.resolve("both", 443)
            only_v6 = await resolver.resolve("both", 443, socket.AF_INET6)
        assert [(r["host"], r["port"], r["family"], r["hostname"]) for r in found] == [
            (PUBLIC, 443, socket.AF_INET, "both"),
            ("2606:4700:4700::1111", 443, socket.AF_INET6, "both"),
        ]
        assert [r["host"] for r in only_v6] == ["2606:4700:4700::1111"]

    play(names, story)


@pytest.mark.parametrize(
    "answers",
    [["127.0.0.1"], [PUBLIC, "10.0.0.1"], ["10.0.0.1", PUBLIC], [PUBLIC, "::1"], ["fe80::1%eth0"]],
)
def test_one_blocked_answer_fails_the_whole_look_up_and_is_not_cached(answers: list[str]) -> None:
    names = Names(mixed=answers)

    async def story(resolver: GuardedResolver) -> None:
        for _ in range(2):
            with pytest.raises(BlockedAddress):
                await look_up(resolver, "mixed")
        assert names.asked == ["mixed", "mixed"]

    play(names, story)


def test_answers_are_bounded_in_number_and_all_are_checked() -> None:
    many = [f"93.184.{i // 250}.{i % 250 + 1}" for i in range(1000)] + [
        f"2606:4700::{i:x}" for i in range(1000)
    ]
    names = Names(many=many, trap=[*many, "127.0.0.1"])

    async def story(resolver: GuardedResolver) -> None:
        assert len(await look_up(resolver, "many")) == 2 * MAX_ADDRESSES_PER_FAMILY
        with pytest.raises(BlockedAddress):
            await look_up(resolver, "trap")

    play(names, story)


def test_no_answer_is_an_unknown_name() -> None:
    async def story(resolver: GuardedResolver) -> None:
        for host in ("empty", "unknown"):
            with pytest.raises(socket.gaierror):
                await look_up(resolver, host)

    play(Names(empty=[]), story)


def test_a_look_up_names_its_tenant() -> None:
    async def story(resolver: GuardedResolver) -> None:
        with pytest.raises(RuntimeError):
            await resolver.resolve("name", 80)

    play(Names(name=[PUBLIC]), story)


def test_good_answers_are_kept_for_a_while() -> None:
    names = Names(name=[PUBLIC])
    now = [100.0]

    async def story(resolver: GuardedResolver) -> None:
        await look_up(resolver, "name")
        now[0] += 9.9
        await look_up(resolver, "name", "b")
        assert len(names.asked) == 1
        now[0] += 0.2
        await look_up(resolver, "name")
        assert len(names.asked) == 2

    play(names, story, clock=lambda: now[0])


def test_an_answer_that_turns_bad_is_seen_when_the_old_one_is_over() -> None:
    names = Names(name=[PUBLIC])

    async def story(resolver: GuardedResolver) -> None:
        assert await look_up(resolver, "name") == [PUBLIC]
        names.table["name"] = ["127.0.0.1"]
        with pytest.raises(BlockedAddress):
            await look_up(resolver, "name")

    play(names, story, cache_seconds=0)


def test_the_cache_is_bounded() -> None:
    names = Names(**{f"name{i}": [PUBLIC] for i in range(MAX_CACHED_NAMES + 1)})

    async def story(resolver: GuardedResolver) -> None:
        for host in names.table:
            await look_up(resolver, host)
        await look_up(resolver, f"name{MAX_CACHED_NAMES}")
        assert len(names.asked) == MAX_CACHED_NAMES + 1
        await look_up(resolver, "name0")
        assert len(names.asked) == MAX_CACHED_NAMES + 2

    play(names, story)


def test_many_who_ask_for_one_name_share_one_look_up() -> None:
    names = Names()

    async def story(resolver: GuardedResolver) -> None:
        (first,) = await hang(resolver, names, "slow1")
        others = [asyncio.create_task(look_up(resolver, "slow1", f"tenant{i}")) for i in range(50)]
        await settle()
        names.release.set()
        assert await asyncio.gather(first, *others) == [[PUBLIC]] * 51
        assert names.asked == ["slow1"]

    play(names, story)


def test_one_tenant_with_slow_names_does_not_slow_another() -> None:
    names = Names(quick=[PUBLIC])

    async def story(resolver: GuardedResolver) -> None:
        slow = await hang(resolver, names, "slow1", "slow2")  # a sixteenth of the threads
        waiting = [asyncio.create_task(look_up(resolver, f"slow{i}")) for i in range(3, 40)]
        await settle()
        assert sorted(names.asked) == ["slow1", "slow2"]
        assert await look_up(resolver, "quick", "b") == [PUBLIC]
        names.release.set()
        await asyncio.gather(*slow, *waiting)

    play(names, story)


def test_a_cancelled_look_up_keeps_its_place_until_getaddrinfo_returns() -> None:
    names = Names(quick=[PUBLIC])

    async def story(resolver: GuardedResolver) -> None:
        for task in await hang(resolver, names, "slow1", "slow2"):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        third = asyncio.create_task(look_up(resolver, "quick"))
        await settle()
        assert "quick" not in names.asked  # both threads of this tenant are still busy
        names.release.set()
        assert await third == [PUBLIC]

    play(names, story)


def test_who_gives_up_waiting_takes_no_place() -> None:
    names = Names(quick=[PUBLIC])

    async def story(resolver: GuardedResolver) -> None:
        slow = await hang(resolver, names, "slow1", "slow2")
        impatient = [asyncio.create_task(look_up(resolver, f"slow{i}")) for i in range(3, 30)]
        await settle()
        for task in impatient:
            task.cancel()
        await asyncio.gather(*impatient, return_exceptions=True)
        names.release.set()
        await asyncio.gather(*slow)
        assert await look_up(resolver, "quick") == [PUBLIC]
        assert sorted(names.asked) == ["quick", "slow1", "slow2"]

    play(names, story)


def test_nothing_is_kept_of_a_tenant_that_is_idle() -> None:
    names = Names(name=[PUBLIC], private=["10.0.0.1"])

    async def story(resolver: GuardedResolver) -> None:
        for i in range(20):
            await look_up(resolver, "name", f"tenant{i}")
            with pytest.raises(BlockedAddress):
                await look_up(resolver, "private", f"tenant{i}")
        await settle()
        assert not resolver._places
        assert not resolver._running

    play(names, story)


def test_closing_does_not_wait_for_a_name_server() -> None:
    names = Names()

    async def story(resolver: GuardedResolver) -> None:
        (task,) = await hang(resolver, names, "slow1")
        await resolver.close()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(RuntimeError):
            await look_up(resolver, "late")
        assert "slow1" in names.hanging

    play(names, story)


def test_allowed_networks_reach_the_resolver() -> None:
    async def main() -> None:
        guard = AddressGuard((ip_network("127.0.0.0/8"),))
        resolver = GuardedResolver(guard, threads=2, getaddrinfo=Names(local=["127.0.0.1"]))
        try:
            assert await look_up(resolver, "local") == ["127.0.0.1"]
        finally:
            await resolver.close()

    asyncio.run(main())
