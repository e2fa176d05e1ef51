"""What a template does, or a caller to a template, harms no other tenant's deliveries."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from tests.faults.test_company import of_another_tenant
from tests.peers.receiver import Receiver
from tests.running import Running, eventually

# Each takes all the CPU, or all the memory, that it can get.
HOSTILE = (
    '{{ "x" | replace: "x", body.big | replace: "b", body.big }}',
    "{% for i in body.list %}{% for j in body.list %}{% assign x = body.big | upcase | downcase | sha256 %}{% endfor %}{% endfor %}",
    "{% assign a = body.big | split: '' %}{% assign b = a | concat: a | sort %}{{ b | reverse | map: 'x' | json }}",
    "{% for i in body.list %}{{ body.big }}{{ body.big }}{{ body.big }}{% endfor %}",
    "{{ body.big | split: '' | uniq | join: body.big }}",
    "{% assign l = body.big | split: '---' %}"
    + "{% assign l = l | concat: l %}" * 16
    + "{{ l | json | size }}",
    "{{ body.rows | compact: 'none' | uniq: 5 }}{% break %}",
)
CALL = {"big": "ab" * 40_000, "list": list(range(90)), "rows": ["a", {"b": 1}]}
WORST_SECONDS = 1.5

# Deliveries of large bodies among them.
MORE_BYTES = 40 * 1024 * 1024

# What a template may have, beyond what a process that has rendered nothing yet takes.
MORE_TO_RENDER_BYTES = 20 * 1024 * 1024


@pytest.mark.timeout(120)
def test_a_hostile_template_fails_alone_and_soon(pointsman: Running, receiver: Receiver) -> None:
    quick = of_another_tenant(pointsman, receiver.url("/ok?of=other"))
    hostile = pointsman.callback(receiver.url("/never"))
    pointsman.primary(hostile, enabled=False)
    for text in HOSTILE:
        given = {
            "type": "HTTP_POST",
            "onFailure": "CONTINUE",
            "config": {"url": receiver.url("/ok"), "body": text},
        }
        answer = pointsman.api.post(f"/api/v1/callbacks/{hostile['id']}/actions", json=given)
        assert answer.status_code == 201, answer.text
    worker = psutil.Process(pointsman.pid_of("worker"))
    before_bytes = worker.memory_info().rss

    sent: list[str] = []
    taken: list[float] = []
    with _watched(worker) as seen_bytes:
        for n in range(8):
            sent.append(pointsman.fire(hostile, json={**CALL, "n": n}))
            taken.append(_seconds_to_delivery(pointsman, receiver, quick, n))

    assert max(taken) < WORST_SECONDS
    for one in sent:
        executions = pointsman.ended(one, 60)["executions"]
        failed = [e for e in executions if e["status"] == "FAILED"]
        assert {e["error"].partition(":")[0] for e in failed} == {"template_failed"}
        assert len(failed) >= 5, "the others are large, and legal"
    assert worker.memory_info().rss - before_bytes < MORE_BYTES
    assert max(seen_bytes) - min(seen_bytes) < MORE_TO_RENDER_BYTES


@contextlib.contextmanager
def _watched(worker: psutil.Process) -> Iterator[list[int]]:
    """How much memory each process that renders had at its most, seen again and again."""
    seen_bytes: list[int] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.005):
            for child in worker.children():
                with contextlib.suppress(psutil.Error):
                    if "shared.templates" in child.cmdline() and child.rlimit(psutil.RLIMIT_AS)[0] > 0:
                        seen_bytes.append(child.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen_bytes
    finally:
        is_over.set()
        thread.join()


def _seconds_to_delivery(running: Running, receiver: Receiver, callback: dict[str, Any], n: int) -> float:
    began = time.monotonic()
    trigger_id = running.fire(callback, content=f"quick {n}".encode())
    eventually(
        lambda: any(r.trigger_id == trigger_id for r in receiver.receipts),
        15,
        "a delivery of the other tenant",
    )
    return time.monotonic() - began
