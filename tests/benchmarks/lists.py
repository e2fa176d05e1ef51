"""The lists of the management API, asked by a small tenant beside a big one's millions of
executions.

What a list costs must go by what is the caller's own. Half of these look for something of which
there is nothing: that is where a search that walks through the others' rows shows.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass

import psycopg2
import psycopg2.extras

from shared.postgres.partitions import ensure_partitions
from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import in_ms
from tests.benchmarks.growth import STEP
from tests.benchmarks.pointsman import Pointsman
from tests.benchmarks.report import Table
from tests.benchmarks.tenant import DAYS, Tenant, settle_in
from tests.history import fill

LISTS = (
    "/callbacks",
    "/callbacks/{callback}/actions",
    "/callbacks/{callback}/logs",
    "/callbacks/{callback}/logs?success=true",
    "/callbacks/{callback}/logs?success=false",
    "/triggers",
    "/triggers?callbackId={callback}",
    "/triggers?status=PENDING",
    "/triggers?status=RUNNING",
    "/triggers?status=SUCCESS",
    "/triggers?status=FAILED",
    "/triggers?from={moment}",
    "/triggers?to={moment}",
    "/executions",
    "/executions?actionId={action}",
    "/executions?status=PENDING",
    "/executions?status=RUNNING",
    "/executions?status=SUCCESS",
    "/executions?status=FAILED",
    "/stored-items",
    "/stored-items?callbackId={callback}",
    "/stored-items?key={key}",
    "/replays",
)
"""Below /api/v1: each list, and each with every single filter that it takes."""
TIMES, QUICK_TIMES = 200, 20

# For one list, so that a slow one does not take the hours that it would.
MOST_SECONDS = 60.0
LEAST_TIMES = 5
PATIENCE_SECONDS = 60.0
WARM_TIMES = 3


@dataclass(frozen=True, slots=True)
class Asked:
    """One list.

    seconds: how long each answer took. items: how many were in it. status: of the last answer.
    """

    path: str
    status: int
    items: int
    seconds: list[float]


def lists(bench: Bench) -> None:
    """Fill in a big tenant, settle in a small one, ask each list as the small one."""
    with Pointsman(bench.folder / "lists", bench.targets) as side:
        _make_days(side)
        _fill_big_tenant(bench, side)
        with (
            closing(psycopg2.connect(side.running.database_url)) as connection,
            connection,
            connection.cursor() as cursor,
        ):
            psycopg2.extras.register_uuid(conn_or_curs=cursor)
            tenant = settle_in(cursor)
        bench.settle(side)
        found = [_ask(bench, side, path, tenant) for path in LISTS]
    bench.report.raw["lists"] = [asdict(one) for one in found]
    bench.report.notes += [f"{one.path} answered {one.status}" for one in found if one.status != 200]
    title = f"Lists of a small tenant beside {bench.history:,} executions of another"
    rows = [
        [one.path, str(one.items), str(len(one.seconds)), in_ms(one.seconds, 0.5), in_ms(one.seconds, 0.95)]
        for one in found
    ]
    headings = ["GET /api/v1…", "items", "times asked", "p50 (ms)", "p95 (ms)"]
    bench.report.tables.append(Table(title, headings, rows))


def _make_days(side: Pointsman) -> None:
    """Partitions for the days that are filled."""
    connection = psycopg2.connect(side.running.database_url)
    with closing(connection), connection, connection.cursor() as cursor:
        ensure_partitions(cursor, days_back=DAYS)


def _fill_big_tenant(bench: Bench, side: Pointsman) -> None:
    """History of the first callback that was made, spread evenly over the days."""
    callback_id, user_id, action_id = side.ask(
        "SELECT array[c.id, c.user_id, a.id]::text[] FROM callbacks c JOIN actions a ON a.callback_id = c.id"
        " ORDER BY c.id LIMIT 1"
    )
    with closing(psycopg2.connect(side.running.database_url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
            for day in range(DAYS):
                left = bench.history // DAYS
                while left > 0:
                    fill(cursor, callback_id, user_id, action_id, min(STEP, left), days_ago=day)
                    left -= STEP
                bench.say(f"  history: {day + 1} of {DAYS} days")


def _ask(bench: Bench, side: Pointsman, path: str, tenant: Tenant) -> Asked:
    """Ask for one list again and again, over one connection."""
    target = "/api/v1" + path.format_map(tenant.names)
    headers = {"authorization": f"Bearer {tenant.token}"}
    times = QUICK_TIMES if bench.quick else TIMES
    connection = http.client.HTTPConnection("127.0.0.1", side.running.port, timeout=PATIENCE_SECONDS)
    seconds: list[float] = []
    with closing(connection):
        for _ in range(WARM_TIMES):
            _, status, items = _get(connection, target, headers)
        until = time.monotonic() + MOST_SECONDS
        while len(seconds) < times and (len(seconds) < LEAST_TIMES or time.monotonic() < until):
            taken, status, items = _get(connection, target, headers)
            seconds.append(taken)
    bench.say(f"{path}: p50 {in_ms(seconds, 0.5)} ms, p95 {in_ms(seconds, 0.95)} ms")
    return Asked(path, status, items, seconds)


def _get(
    connection: http.client.HTTPConnection, target: str, headers: Mapping[str, str]
) -> tuple[float, int, int]:
    """Seconds until the whole answer was there, its status, and how many items it lists."""
    began = time.perf_counter()
    connection.request("GET", target, headers=dict(headers))
    answer = connection.getresponse()
    body = answer.read()
    taken = time.perf_counter() - began
    items = len(json.loads(body)["items"]) if answer.status == 200 else 0
    return taken, answer.status, items
