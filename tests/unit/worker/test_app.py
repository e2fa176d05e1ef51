"""What one worker process is made of."""

from __future__ import annotations

import threading
from typing import Any, cast

from shared.config import Settings
from shared.postgres.connections import OwnedConnection
from shared.threads import OwnedThread
from tests.running import eventually
from worker.app import make_sweeps
from worker.maintenance.due import Due
from worker.maintenance.sweep import Sweep, stop_together


class FakeDuty:
    """Passes are counted; each waits until it may go on."""

    interval_seconds = 0.01

    def __init__(self, name: str, go_on: threading.Event) -> None:
        self.name, self.passes, self._go_on = name, 0, go_on

    def do(self, _connection: OwnedConnection) -> int:
        self.passes += 1
        self._go_on.wait(10)
        return 0


def duties(sweep: Sweep) -> set[str]:
    return {duty.name for duty in sweep.duties}


def test_what_waits_for_the_network_has_a_thread_of_its_own() -> None:
    """Fails when dead workers are looked for only after a Redis that answers nothing has been
    waited for.
    """
    due = Due(cast(Any, None), cast(Any, None), 1.0)
    sweeps = make_sweeps(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"), due)
    assert [duties(sweep) for sweep in sweeps if "due" in duties(sweep)] == [{"due"}]
    assert any("dead_workers" in duties(sweep) for sweep in sweeps)


def test_a_duty_that_hangs_keeps_no_other_sweep_from_its_own() -> None:
    never, always = threading.Event(), threading.Event()
    always.set()
    hanging, quick = FakeDuty("hanging", never), FakeDuty("quick", always)
    sweeps = [Sweep(duty.name, "postgresql://nobody@127.0.0.1:1/none", [duty]) for duty in (hanging, quick)]
    for sweep in sweeps:
        sweep.start()
    eventually(lambda: quick.passes > 3, 5, "passes beside a duty that hangs")
    assert hanging.passes == 1
    never.set()
    assert stop_together(sweeps)


class LastDuty:
    """It ends after another thread has ended."""

    name, interval_seconds = "last", 0.01

    def __init__(self, other: OwnedThread) -> None:
        self.began, self._other = threading.Event(), other

    def do(self, _connection: OwnedConnection) -> int:
        self.began.set()
        self._other.stop(lambda: None, 60)
        return 0


def test_all_sweeps_are_told_to_end_before_one_is_waited_for() -> None:
    """Fails when each has a time of its own: meanwhile the worker claims on."""
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    always = threading.Event()
    always.set()
    other = Sweep("other", nowhere, [FakeDuty("quick", always)])
    last = LastDuty(other.thread)
    sweeps = [Sweep("last", nowhere, [last]), other]
    for sweep in reversed(sweeps):
        sweep.start()
    assert last.began.wait(5)
    assert stop_together(sweeps)
