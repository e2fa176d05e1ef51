"""Other work than one small action: chains, large bodies, many tenants, failing receivers.

Pointsman alone, in turns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

import psycopg2
import psycopg2.extras

from tests.benchmarks.bench import Bench
from tests.benchmarks.bodies import SMALL_BYTES, make_bodies
from tests.benchmarks.figures import ratio, with_spread
from tests.benchmarks.nginx import Nginx
from tests.benchmarks.pointsman import Pointsman
from tests.benchmarks.report import Table
from tests.benchmarks.rounds import Throughput
from tests.rows import Rows
from tests.running import Running

# Of the triggers, whose end is waited for where a last few retry for long.
MOST = 0.9

# A second longer than the worker keeps an idle connection.
KEPT_SECONDS = 16
RETRY = {"maxAttempts": 12, "schedule": [1]}


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of work. failing: three of ten attempts get a 503 and are repeated after a second or
    a little more.

    encrypted: the receiver speaks TLS 1.3, with a certificate that the worker verifies.
    """

    name: str
    actions: int = 1
    parallel: bool = False
    callbacks: int = 1
    users: int = 1
    body_bytes: int = SMALL_BYTES
    failing: bool = False
    encrypted: bool = False

    def target(self, nginx: Nginx) -> str:
        """Where its actions deliver to."""
        if self.failing:
            return nginx.failing_url
        return nginx.https_url if self.encrypted else nginx.url


ONE = Scenario("one action")
SCENARIOS = (
    ONE,
    Scenario("two ordered actions", actions=2),
    Scenario("three ordered actions", actions=3),
    Scenario("five ordered actions", actions=5),
    Scenario("five parallel actions", actions=5, parallel=True),
    Scenario("100 callbacks of 20 users", callbacks=100, users=20),
    Scenario("1 KiB bodies", body_bytes=1024),
    Scenario("4 KiB bodies", body_bytes=4 * 1024),
    Scenario("16 KiB bodies", body_bytes=16 * 1024),
    Scenario("64 KiB bodies", body_bytes=64 * 1024),
    Scenario("HTTPS receiver", encrypted=True),
    Scenario("30 % of attempts fail, retried (until nine tenths have ended)", failing=True),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One burst of a scenario."""

    throughput: Throughput
    executed_per_second: float


def scenarios(bench: Bench) -> None:
    """All scenarios in turns, and what each costs beside one action."""
    outcomes: dict[str, list[Outcome]] = {scenario.name: [] for scenario in SCENARIOS}
    trust = {"SSL_CERT_FILE": str(bench.nginx.authority)}
    with Pointsman(bench.folder / "scenarios", bench.targets, environment=trust) as pointsman:
        urls = {one.name: make_callbacks(pointsman.running, bench, one) for one in SCENARIOS}
        bench.warm_up(pointsman)
        for number in range(1, bench.rounds + 1):
            for scenario in SCENARIOS:
                label = f"round {number}/{bench.rounds}  {scenario.name}"
                outcomes[scenario.name].append(
                    _measure(bench, pointsman, scenario, urls[scenario.name], label)
                )
    bench.report.raw["scenarios"] = {name: [asdict(one) for one in found] for name, found in outcomes.items()}
    headings = [
        "scenario",
        "accepted/s",
        "triggers executed/s",
        "actions executed/s",
        "actions, beside one action",
        "CPU µs per trigger",
        "CPU µs per action",
    ]
    rows = [_row(scenario, outcomes[scenario.name], outcomes[ONE.name]) for scenario in SCENARIOS]
    bench.report.tables.append(Table("Other work (one worker, one API process)", headings, rows))


def make_callbacks(running: Running, bench: Bench, scenario: Scenario) -> list[str]:
    """The trigger URLs of a scenario's callbacks, each of which belongs to one of its users."""
    target = scenario.target(bench.nginx)
    further = {"type": "HTTP_POST", "config": {"url": target}, "parallel": scenario.parallel}
    made = [running.callback(target, [further] * (scenario.actions - 1)) for _ in range(scenario.callbacks)]
    for callback in made:
        if scenario.parallel or scenario.failing:
            running.primary(
                callback, parallel=scenario.parallel, **({"retry": RETRY} if scenario.failing else {})
            )
    if scenario.users > 1:
        _give_away(running, [callback["id"] for callback in made], scenario.users)
    return [str(callback["triggerUrl"]) for callback in made]


def _give_away(running: Running, callback_ids: Sequence[str], users: int) -> None:
    """Let these callbacks belong to so many new users, in turn."""
    connection = psycopg2.connect(running.database_url)
    psycopg2.extras.register_uuid(conn_or_curs=connection)
    with connection, connection.cursor() as cursor:
        owners = [Rows(cursor).insert("users")["id"] for _ in range(users)]
        for number, callback_id in enumerate(callback_ids):
            owner = owners[number % users]
            cursor.execute("UPDATE callbacks SET user_id = %s WHERE id = %s", (owner, callback_id))
            cursor.execute("UPDATE actions SET user_id = %s WHERE callback_id = %s", (owner, callback_id))
    connection.close()


def _measure(
    bench: Bench, pointsman: Pointsman, scenario: Scenario, urls: Sequence[str], label: str
) -> Outcome:
    _let_connections_end(scenario)
    began: datetime = pointsman.ask("SELECT clock_timestamp()")
    found = bench.burst(pointsman, label, urls, scenario.actions, make_bodies(scenario.body_bytes))
    _let_connections_end(scenario)
    if not scenario.failing:
        return Outcome(found, found.executed_per_second)
    count, seconds = pointsman.ask(
        "SELECT array[count(*), extract(epoch FROM percentile_disc(%s) WITHIN GROUP (ORDER BY created_at) - %s)]"
        " FROM logs WHERE created_at > %s",
        MOST,
        began,
        began,
    )
    return Outcome(found, MOST * float(count) / float(seconds))


def _let_connections_end(scenario: Scenario) -> None:
    """Before and after one that has a receiver of its own: connections kept to one crowd out those
    to the other.
    """
    if scenario.encrypted:
        time.sleep(KEPT_SECONDS)


def _row(scenario: Scenario, found: Sequence[Outcome], one_action: Sequence[Outcome]) -> list[str]:
    triggers = [one.executed_per_second for one in found]
    cpu = [one.throughput.total_cpu_us for one in found]
    actions = statistics.median(triggers) * scenario.actions
    return [
        scenario.name,
        with_spread([one.throughput.accepted_per_second for one in found]),
        with_spread(triggers),
        f"{actions:,.0f}",
        ratio(actions, statistics.median(one.executed_per_second for one in one_action)),
        with_spread(cpu),
        f"{statistics.median(cpu) / scenario.actions:,.0f}",
    ]
