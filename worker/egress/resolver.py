"""Name look-ups for everything that leaves through egress.

Invariants:
- getaddrinfo runs only on this resolver's own threads; nothing else of the process waits for it;
- a tenant occupies at most a sixteenth of them, one at least. A place is given back when
  getaddrinfo has really returned, not when the caller's deadline cut its waiting: until then the
  thread is busy;
- a look-up with one blocked address among its answers fails as a whole, and is not cached; only
  what a name server has synthesized is left out beside others.

The cache is short and holds only checked answers. It saves work and is trusted for nothing: the
address that is really dialled is checked again where the socket is made.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from aiohttp.abc import AbstractResolver, ResolveResult

from worker.egress.addresses import AddressGuard

GetAddrInfo = Callable[..., list[tuple[Any, ...]]]

CACHE_SECONDS = 10.0
MAX_CACHED_NAMES = 2_048

# One request may open this many sockets of each family at once.
MAX_ADDRESSES_PER_FAMILY = 3

# A tenant may hold one part in this many of the threads.
TENANT_SHARE = 16

acting_tenant: ContextVar[str] = ContextVar("egress_tenant")


class Address(NamedTuple):
    """One checked answer."""

    family: socket.AddressFamily
    host: str


Answers = tuple[Address, ...]


@dataclass(slots=True)
class _Places:
    """A tenant's places among the threads; users counts those who hold one or wait for one."""

    free: asyncio.Semaphore
    users: int = 0


@dataclass(slots=True)
class _Cache:
    """Checked answers by name, each for a few seconds, the oldest dropped first."""

    seconds: float
    clock: Callable[[], float]
    entries: dict[str, tuple[float, Answers]] = field(default_factory=dict)

    def get(self, name: str) -> Answers | None:
        entry = self.entries.get(name)
        return entry[1] if entry is not None and self.clock() < entry[0] else None

    def put(self, name: str, answers: Answers) -> None:
        self.entries.pop(name, None)  # so that the order of the dict is the order of age
        self.entries[name] = (self.clock() + self.seconds, answers)
        if len(self.entries) > MAX_CACHED_NAMES:
            del self.entries[next(iter(self.entries))]


class GuardedResolver(AbstractResolver):
    """aiohttp's resolver interface over bounded, shared-out threads.

    threads: how many look-ups run at once. getaddrinfo: called in a thread, as socket.getaddrinfo.
    Lives in one event loop: make it and close it there.
    """

    def __init__(
        self,
        guard: AddressGuard,
        *,
        threads: int,
        getaddrinfo: GetAddrInfo = socket.getaddrinfo,
        cache_seconds: float = CACHE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._guard = guard
        self._getaddrinfo = getaddrinfo
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="egress-dns")
        self._places_each = max(1, threads // TENANT_SHARE)
        self._places: dict[str, _Places] = {}
        self._running: dict[str, asyncio.Future[Answers]] = {}
        self._cache = _Cache(cache_seconds, clock)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the checked addresses of a name.

        Raises BlockedAddress if any answer is blocked, socket.gaierror if there is none, and
        UnicodeError for a name that no DNS query can hold.
        """
        answers = self._cache.get(host) or await self._look_up(host)
        return [_result(host, port, address) for address in answers if family in (0, address.family)]

    async def close(self) -> None:
        """Let nobody wait any longer. A thread still inside getaddrinfo ends when that returns."""
        for future in list(self._running.values()):
            future.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _look_up(self, host: str) -> Answers:
        while (running := self._running.get(host)) is None:
            tenant = _named_tenant()
            await self._take_place(tenant)
            answers = self._cache.get(host)
            if answers is not None or host in self._running:  # somebody was faster while we waited
                self._give_back(tenant)
                if answers is not None:
                    return answers
            else:
                self._start(host, tenant)
        return await asyncio.shield(running)  # others may wait for it, and its thread runs on anyway

    def _start(self, host: str, tenant: str) -> None:
        loop = asyncio.get_running_loop()
        try:
            future = loop.run_in_executor(self._threads, self._ask, host)
        except BaseException:
            self._give_back(tenant)
            raise
        self._running[host] = future
        future.add_done_callback(partial(self._finished, host, tenant))

    def _finished(self, host: str, tenant: str, future: asyncio.Future[Answers]) -> None:
        del self._running[host]
        self._give_back(tenant)
        if not future.cancelled() and future.exception() is None:
            self._cache.put(host, future.result())

    def _ask(self, host: str) -> Answers:
        """Look a name up and check every answer. Runs in a thread."""
        flags = socket.AI_ADDRCONFIG  # no IPv6 answers on a machine without IPv6
        found = self._getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
        unique = dict.fromkeys(Address(entry[0], entry[4][0]) for entry in found)
        may_be_dialled = set(self._guard.checked(address.host for address in unique))
        kept = tuple(_bounded({one: None for one in unique if one.host in may_be_dialled}))
        if not kept:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        return kept

    async def _take_place(self, tenant: str) -> None:
        places = self._places.get(tenant)
        if places is None:
            places = self._places[tenant] = _Places(asyncio.Semaphore(self._places_each))
        places.users += 1
        try:
            await places.free.acquire()
        except BaseException:
            self._leave(tenant, places)
            raise

    def _give_back(self, tenant: str) -> None:
        places = self._places[tenant]
        places.free.release()
        self._leave(tenant, places)

    def _leave(self, tenant: str, places: _Places) -> None:
        places.users -= 1
        if not places.users:
            del self._places[tenant]


def _named_tenant() -> str:
    """The tenant that the look-up is for; there is no default, since it would be everybody's."""
    try:
        return acting_tenant.get()
    except LookupError:
        raise RuntimeError("a look-up needs to know for whom it is: set acting_tenant") from None


def _bounded(addresses: dict[Address, None]) -> Iterator[Address]:
    taken = {socket.AF_INET: 0, socket.AF_INET6: 0}
    for address in addresses:
        if taken.get(address.family, MAX_ADDRESSES_PER_FAMILY) < MAX_ADDRESSES_PER_FAMILY:
            taken[address.family] += 1
            yield address


def _result(host: str, port: int, address: Address) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=address.host,
        port=port,
        family=address.family,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
