"""A weekend without workers: what it leaves in Redis, and how fast it is worked off.

Two installations in turns. The usual rate is that of a queue that workers get through in seconds.
In the other one the worker is frozen, triggers come over HTTP for a while, as they would all
weekend, and the rest of the weekend is made in PostgreSQL, for two tenants; then its worker goes on
for a while in each round.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from urllib.parse import urlsplit

import psycopg2
import redis

from shared.redis import urls
from tests.benchmarks.bench import Bench, in_turn
from tests.benchmarks.pointsman import Pointsman
from tests.benchmarks.report import Table
from tests.faults.tenants import other_tenant

# At 300 a second, from Friday evening on.
RUNS, QUICK_RUNS = 2_000_000, 20_000

# Runs made in one statement.
STEP = 100_000
QUEUE = 20_000
WINDOW_SECONDS, QUICK_WINDOW_SECONDS = 15.0, 5.0
HEADINGS = ("what waits", "executed/s", "of the usual", "Redis, MiB", "messages in its lanes")

# Of the callbacks in turns, as calls come.
_MAKE = """
WITH made AS MATERIALIZED (
  SELECT uuidv7() AS id, c.callback_id, c.user_id, c.path FROM generate_series(1, %(count)s) AS n
  CROSS JOIN LATERAL (SELECT * FROM unnest(%(callbacks)s::uuid[], %(users)s::uuid[], %(paths)s)
    WITH ORDINALITY AS c (callback_id, user_id, path, number) WHERE number = 1 + n %% cardinality(%(paths)s)) c),
t AS (
  INSERT INTO triggers (id, callback_id, user_id, method, path, query, headers, content_type, body, source_ip)
  SELECT id, callback_id, user_id, 'POST', path, '', '[["content-type", "application/json"]]', 'application/json',
    '{"order": 42, "customer": "c-1001", "amount": 1999, "currency": "EUR"}', '127.0.0.1' FROM made)
INSERT INTO runs (trigger_id, callback_id, user_id, hint_at) SELECT id, callback_id, user_id, now() FROM made
"""


def backlog(bench: Bench) -> None:
    """The usual rate, and that behind a weekend."""
    count = QUICK_RUNS if bench.quick else RUNS
    window = QUICK_WINDOW_SECONDS if bench.quick else WINDOW_SECONDS
    usual: list[float] = []
    behind: list[float] = []
    with ExitStack() as stack:
        queue = stack.enter_context(Pointsman(bench.folder / "usual", bench.targets))
        weekend = stack.enter_context(Pointsman(bench.folder / "weekend", bench.targets))
        urls = {side: _two_tenants(bench, side) for side in (queue, weekend)}
        for side in (queue, weekend):
            bench.warm_up(side)
        ice = stack.enter_context(ExitStack())
        ice.enter_context(weekend.frozen("worker"))
        replace(bench.load, seconds=10).post(urls[weekend])
        for made in range(0, count, STEP):
            _make(weekend, urls[weekend], min(STEP, count))
            bench.say(f"  backlog: {min(made + STEP, count):,} of {count:,}")
        mib, messages = _redis(weekend)
        for number in range(bench.rounds):
            for side in in_turn(number, queue, weekend):
                bench.settle(side)
                if side is queue:
                    usual.append(_of_queue(bench, queue, urls[queue], window))
                else:
                    ice.close()
                    _wait_for_lease(weekend)
                    behind.append(_rate(bench, window, count))
                    ice.enter_context(weekend.frozen("worker"))
            bench.say(
                f"{number + 1}/{bench.rounds}: {usual[-1]:,.0f} executed/s, behind a weekend {behind[-1]:,.0f}"
            )
        mib = max(mib, _redis(weekend)[0])
    usual_rate, found = statistics.median(usual), statistics.median(behind)
    share = statistics.median(one / other for one, other in zip(behind, usual, strict=True))
    rows = [
        [f"{QUEUE:,} runs, seconds old", f"{usual_rate:,.0f}", "1.00", "", ""],
        [f"{count:,} runs", f"{found:,.0f}", f"{share:.2f}", f"{mib:.1f}", f"{messages:,}"],
    ]
    bench.report.raw["backlog"] = {"usual": usual, "behind": behind, "redis_mib": mib, "messages": messages}
    bench.report.tables.append(Table("A weekend without workers (one action, two tenants)", HEADINGS, rows))


def _two_tenants(bench: Bench, side: Pointsman) -> list[str]:
    with other_tenant(side.running) as other:
        return [side.urls["nginx"], side.running.callback(bench.targets["nginx"], api=other)["triggerUrl"]]


def _make(side: Pointsman, trigger_urls: list[str], count: int) -> None:
    paths = [urlsplit(url).path for url in trigger_urls]
    tokens = [path.removeprefix("/t/") for path in paths]
    with closing(psycopg2.connect(side.running.database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(
            "SELECT id::text, user_id::text FROM callbacks WHERE trigger_token = ANY(%s)"
            " ORDER BY array_position(%s, trigger_token)",
            (tokens, tokens),
        )
        callbacks, users = zip(*cursor.fetchall(), strict=True)
        given = {"count": count, "callbacks": list(callbacks), "users": list(users), "paths": paths}
        cursor.execute(_MAKE, given)
        connection.commit()


def _of_queue(bench: Bench, side: Pointsman, trigger_urls: list[str], seconds: float) -> float:
    with side.frozen("worker"):
        _make(side, trigger_urls, QUEUE)
    rate = _rate(bench, seconds, QUEUE)
    while side.ask("SELECT EXISTS (SELECT FROM runs)"):
        time.sleep(0.1)
    return rate


def _wait_for_lease(side: Pointsman) -> None:
    """A worker that was frozen for long has lost it, and has another one in a moment."""
    while not side.ask("SELECT EXISTS (SELECT FROM workers WHERE heartbeat_at > now() - interval '2 s')"):
        time.sleep(0.1)


def _rate(bench: Bench, seconds: float, at_most: int) -> float:
    """Deliveries a second, from the first on: for so long, or until so many have come."""
    before = bench.nginx.count()
    while bench.nginx.count() == before:
        time.sleep(0.01)
    first, began = bench.nginx.count(), time.monotonic()
    while (now := bench.nginx.count()) - before < at_most and time.monotonic() - began < seconds:
        time.sleep(0.05)
    return (now - first) / (time.monotonic() - began)


def _redis(side: Pointsman) -> tuple[float, int]:
    """MiB that it holds, and messages that wait in its lanes."""
    client: redis.Redis = urls.read(side.running.redis_url).client()
    with closing(client):
        messages = sum(int(client.llen(f"pointsman:{lane}")) for lane in ("fresh", "retry"))
        return int(client.info("memory")["used_memory"]) / 2**20, messages
