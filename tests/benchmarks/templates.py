"""What templates and conditions cost: the same deliveries without, with look-ups, and with filters
that are rendered in a child process.

Each round has a burst of every kind, in turns, so that a ratio is one of bursts that ran one after
another.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import Any

from tests.benchmarks.bench import Bench
from tests.benchmarks.figures import with_spread
from tests.benchmarks.pointsman import Pointsman
from tests.benchmarks.report import Table
from tests.benchmarks.rounds import Throughput
from tests.running import Running

NONE = "fixed texts"
KINDS: dict[str, dict[str, Any]] = {
    NONE: {
        "config": {"headers": {"x-order": "7"}, "body": {"order": 7, "text": "c-7 pays EUR"}},
    },
    "look-ups, and a condition": {
        "config": {
            "headers": {"x-order": "{{ body.order }}"},
            "body": {
                "order": "{{ body.order | json }}",
                "text": "{{ body.customer }} pays {{ body.currency | default: 'EUR' }}",
            },
        },
        "condition": "body.amount >= 0 and body.currency != 'JPY'",
    },
    "any template, and a condition": {
        "config": {
            "headers": {"x-order": "{{ body.order | plus: 1 }}"},
            "body": {
                "order": "{{ body.order | json }}",
                "text": "{% if body.amount > 100 %}{{ body.customer | upcase }}{% else %}{{ body.customer }}{% endif %}"
                " pays {{ body.amount | times: 2 | round: 1 }} {{ body.currency | downcase }}",
            },
        },
        "condition": "body.amount >= 0 and body.currency != 'JPY'",
    },
}


def templates(bench: Bench) -> None:
    """Executed triggers with each kind of text, beside fixed ones."""
    found: dict[str, list[Throughput]] = {name: [] for name in KINDS}
    with Pointsman(bench.folder / "templates", bench.targets) as pointsman:
        urls = {name: _callback(pointsman.running, bench.nginx.url, given) for name, given in KINDS.items()}
        bench.warm_up(pointsman)
        names = list(KINDS)
        for number in range(bench.rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                label = f"round {number + 1}/{bench.rounds}  {name}"
                found[name].append(bench.burst(pointsman, label, [urls[name]]))
    bench.report.raw["templates"] = {name: [asdict(one) for one in bursts] for name, bursts in found.items()}
    headings = ["an action with", "executed/s", "beside fixed texts", "CPU µs per trigger", "the worker's"]
    rows = [_row(name, found) for name in KINDS]
    bench.report.tables.append(Table("Templates and conditions (one action)", headings, rows))


def _callback(running: Running, target: str, given: dict[str, Any]) -> str:
    callback = running.callback(target)
    running.primary(callback, **{**given, "config": {"target": "callback_url", **given["config"]}})
    return str(callback["triggerUrl"])


def _row(name: str, found: dict[str, list[Throughput]]) -> list[str]:
    bursts, fixed = found[name], found[NONE]
    beside = [
        one.executed_per_second / other.executed_per_second for one, other in zip(bursts, fixed, strict=True)
    ]
    return [
        name,
        with_spread([one.executed_per_second for one in bursts]),
        f"{statistics.median(beside):.2f}",
        with_spread([one.total_cpu_us for one in bursts]),
        with_spread([one.cpu_us["worker"] for one in bursts]),
    ]
