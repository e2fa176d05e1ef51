"""A weekend without workers: what it leaves in Redis, and how fast it is worked off.

One installation. The usual rate is that of a queue that workers get through in seconds. Then the
worker is frozen, triggers come over HTTP for a while, as they would all weekend, and the rest of
the weekend is made in PostgreSQL, for two tenants; then the worker goes on.
"""

from __future__ import annotations

import statistics
import time
from contextlib import closing
from dataclasses import replace
from urllib.parse import urlsplit

import psycopg2
import redis

from shared.redis import urls
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import ratio
from tests.benchmarks.pointsman import Pointsman
from tests.benchmarks.report import Table
from tests.faults.tenants import other_tenant

# At 300 a second, from Friday evening on.
RUNS, QUICK_RUNS = 2_000_000, 20_000

# Runs made in one statement.
STEP = 100_000
QUEUE = 20_000
WINDOW_SECONDS, QUICK_WINDOW_SECONDS = 60.0, 5.0
HEADINGS = ("what waits", "executed/s", "of the usual", "Redis, MiB", "messages in its lanes")

_MAKE = """
WITH made AS MATERIALIZED (SELECT uuidv7() AS id FROM generate_series(1, %(count)s)),
t AS (
  INSERT INTO triggers (id, callback_id, user_id, method, path, query, headers, content_type, body, source_ip)
  SELECT id, %(callback)s, %(user)s, 'POST', %(path)s, '', '[["content-type", "application/json"]]',
    'application/json', '{"order": 42, "customer": "c-1001", "amount": 1999, "currency": "EUR"}', '127.0.0.1' FROM made)
INSERT INTO runs (trigger_id, callback_id, user_id, hint_at) SELECT id, %(callback)s, %(user)s, now() FROM made
"""


def backlog(bench: Bench) -> None:
    """The usual rate, and that behind a weekend."""
    count = QUICK_RUNS if bench.quick else RUNS
    window = QUICK_WINDOW_SECONDS if bench.quick else WINDOW_SECONDS
    with Pointsman(bench.folder / "backlog", bench.targets) as side:
        with other_tenant(side.running) as other:
            second = side.running.callback(bench.targets["nginx"], api=other)["triggerUrl"]
        trigger_urls = [side.urls["nginx"], second]
        bench.warm_up(side)
        usual = []
        for number in range(bench.rounds):
            with side.frozen("worker"):
                _make(side, trigger_urls, QUEUE)
            usual.append(_rate(bench, side, window, QUEUE))
            bench.say(f"a queue of {QUEUE:,}, {number + 1}/{bench.rounds}: {usual[-1]:,.0f} executed/s")
            bench.settle(side)
        with side.frozen("worker"):
            replace(bench.load, seconds=10).post(trigger_urls)
            for made in range(0, count, STEP):
                _make(side, trigger_urls, min(STEP, count - made))
                bench.say(f"  backlog: {min(made + STEP, count):,} of {count:,}")
            mib, messages = _redis(side)
        found = _rate(bench, side, window, count)
        later = max(_redis(side)[0], mib)
    usual_rate = statistics.median(usual)
    rows = [
        [f"{QUEUE:,} runs, seconds old", f"{usual_rate:,.0f}", "1.00", "", ""],
        [f"{count:,} runs", f"{found:,.0f}", ratio(found, usual_rate), f"{later:.1f}", f"{messages:,}"],
    ]
    bench.report.raw["backlog"] = {"usual": usual, "rate": found, "redis_mib": later, "messages": messages}
    bench.report.tables.append(Table("A weekend without workers (one action, two tenants)", HEADINGS, rows))


def _make(side: Pointsman, trigger_urls: list[str], count: int) -> None:
    with closing(psycopg2.connect(side.running.database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        for url in trigger_urls:
            path = urlsplit(url).path
            token = path.removeprefix("/t/")
            cursor.execute("SELECT id, user_id FROM callbacks WHERE trigger_token = %s", (token,))
            callback, user = cursor.fetchone()
            given = {"count": count // len(trigger_urls), "callback": callback, "user": user, "path": path}
            cursor.execute(_MAKE, given)
            connection.commit()


def _rate(bench: Bench, side: Pointsman, seconds: float, at_most: int) -> float:
    """Deliveries a second, from the first on: for so long, or until so many have come."""
    before = bench.nginx.count()
    while bench.nginx.count() == before:
        time.sleep(0.01)
    first, began = bench.nginx.count(), time.monotonic()
    while (now := bench.nginx.count()) - before < at_most and time.monotonic() - began < seconds:
        time.sleep(0.05)
    rate = (now - first) / (time.monotonic() - began)
    if at_most <= QUEUE:
        while side.ask("SELECT EXISTS (SELECT FROM runs)"):
            time.sleep(0.1)
    return rate


def _redis(side: Pointsman) -> tuple[float, int]:
    """MiB that it holds, and messages that wait in its lanes."""
    client: redis.Redis = urls.read(side.running.redis_url).client()
    with closing(client):
        messages = sum(int(client.llen(f"pointsman:{lane}")) for lane in ("fresh", "retry"))
        return int(client.info("memory")["used_memory"]) / 2**20, messages
