"""A worker's side of its suspects, with small programs for children. None of them dies: whoever
buries one needs PostgreSQL (tests/faults/test_poison.py).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from shared.config import Settings
from shared.ids import new_id
from tests.running import eventually, is_alive
from worker.suspects import apart
from worker.suspects.apart import Apart, SuspectsApart

SETTINGS = Settings(database_url="postgresql://nobody@127.0.0.1:1/x", drain_seconds=2)

# Notes what it hears, and says how many lines that was, {late} lines late.
CHILD = """
import os, select, sys
notes, descriptor, heard = open({notes!r}, "a"), int(sys.argv[-1]), 0
while True:
    if select.select([0], [], [], 0.1)[0]:
        line = os.read(0, 65536)
        if not line:
            break
        heard += line.count(b"\\n")
        notes.write(line.decode()); notes.flush()
    else:
        os.write(descriptor, b"%d\\n" % max(heard - {late}, 0))
        notes.write("idle\\n"); notes.flush()
"""
DEAF = "import time; time.sleep(3600)"

Begin = Callable[[str], Apart]


@pytest.fixture
def begin(monkeypatch: pytest.MonkeyPatch) -> Iterator[Begin]:
    made: list[Apart] = []

    def begun(program: str) -> Apart:
        monkeypatch.setattr(apart, "COMMAND", (sys.executable, "-c", program))
        made.append(Apart("suspects", SETTINGS, 11, 1, lambda _ids: None))
        made[-1].start()
        return made[-1]

    yield begun
    for one in made:
        one.stop(5)


def heard(notes: Path) -> int:
    return notes.read_text().count("-") // 4 if notes.exists() else 0


def has_heard(notes: Path, count: int) -> bool:
    return heard(notes) == count


def ids(count: int) -> list[UUID]:
    return [new_id() for _ in range(count)]


def has_no_child(one: Apart) -> bool:
    return one._child is None


def test_a_child_is_started_for_the_first_and_ends_with_the_last(begin: Begin, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    one = begin(CHILD.format(notes=str(notes), late=0))
    assert has_no_child(one), "none is kept for nothing"
    for round_ in (1, 2):
        one.offer(ids(250))
        eventually(partial(has_heard, notes, 250 * round_), 10, "all ids, in several lines")
        eventually(lambda: has_no_child(one), 10, "the child's end")
    assert one.thread._thread.is_alive()


def test_a_child_that_has_not_heard_everything_is_not_ended(begin: Begin, tmp_path: Path) -> None:
    """Fails when «idle» is believed although something is on its way: it would be forgotten."""
    notes = tmp_path / "notes"
    one = begin(CHILD.format(notes=str(notes), late=1))
    one.offer(ids(1))
    eventually(lambda: heard(notes) == 1, 10, "the first")
    eventually(lambda: notes.read_text().count("idle") > 2, 10, "more than one «idle»")
    assert not has_no_child(one)


def test_a_child_that_hears_nothing_holds_nobody_up(begin: Begin) -> None:
    one = begin(DEAF)
    started = time.monotonic()
    for _ in range(100):
        one.offer(ids(100))
    assert time.monotonic() - started < 2
    assert len(one._waiting) <= apart.MAX_WAITING


def test_one_that_cannot_be_started_costs_only_its_suspects(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = begin("")
    monkeypatch.setattr(apart, "COMMAND", ("/nonexistent/program",))
    with capture_logs() as logged:
        one.offer(ids(1))
        eventually(lambda: [line for line in logged if line["event"] == "suspects_not_started"], 5, "a line")
    assert not one.thread.has_died


@pytest.mark.parametrize("program", [CHILD.format(notes="/dev/null", late=1), DEAF, None])
def test_a_stop_ends_the_child_and_counts_nothing_as_lost(
    begin: Begin, program: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when a thread that was told to stop is taken for dead: the worker would end itself and
    lose what it drains.
    """
    cleared: list[int] = []
    monkeypatch.setattr(Apart, "_release", lambda _self, child: cleared.append(child.pid))
    one = begin(program or "")
    if program is not None:
        one.offer(ids(1))
        eventually(lambda: not has_no_child(one), 5, "a child")
    pid = None if one._child is None else one._child.pid
    with capture_logs() as logged:
        one.begin_to_stop()
        eventually(
            lambda: program == DEAF or not one.thread._thread.is_alive(), 5, "its end, if nothing hangs"
        )
        assert not one.thread.has_died
        one.stop(0.5)
        eventually(lambda: not one.thread._thread.is_alive(), 5, "the thread's end")
    assert not one.thread.has_died
    assert pid is None or not is_alive(pid)
    assert "suspects_died" not in [line["event"] for line in logged]
    one.offer(ids(1))
    assert has_no_child(one)
    assert program != DEAF or cleared == [pid]


def test_what_was_lost_once_and_what_was_lost_more_often_go_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[tuple[str, list[UUID]]] = []
    monkeypatch.setattr(Apart, "offer", lambda self, given: got.append((self.thread.name, list(given))))
    once, twice, often = ids(3)
    SuspectsApart(SETTINGS, lambda _ids: None).found({once: 1, twice: 2, often: 5})
    assert got == [("suspects", [once]), ("suspects-alone", [twice, often])]
