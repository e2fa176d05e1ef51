"""A change of a run, written through the journal.

Invariants:

- What cannot be stored fails its own execution: it is replaced, and the run decides anew.
- A response is kept in memory until it is written, and counted in the room until then.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from shared.errors import ClaimLost, RowRejected
from worker.actions.contract import Outcome
from worker.engine.entry import Entry, Parked, Released, Settled
from worker.engine.journal import Fates
from worker.engine.services import RunServices
from worker.engine.state import Execution, HeldRun

_ANSWER_UNSTORABLE = Outcome.permanent("unstorable_response", "The receiver's answer cannot be stored.")
_END_UNSTORABLE = Outcome.permanent("unstorable_response", "What it ended with cannot be stored.")
_UNSTORABLE = (_ANSWER_UNSTORABLE, _END_UNSTORABLE)

log = structlog.get_logger("journal")


async def write_change(
    run: HeldRun,
    services: RunServices,
    *,
    changed: tuple[Execution, ...] = (),
    starting: tuple[Execution, ...] = (),
    end: Settled | Parked | Released | None = None,
) -> Fates | None:
    """Write a change of a run and wait until it is committed.

    None: nothing was written, since something in it cannot be stored. Outcomes that may be to blame
    are replaced in memory, and the caller decides anew. Raises ClaimLost.
    """
    try:
        entry = Entry(run, changed, starting, end)
    except AssertionError:
        raise  # a fault of ours
    except Exception as error:  # noqa: BLE001 - an action's kind made what cannot be written
        _make_storable(run, services, changed, starting, error)
        return None
    try:
        answer = await services.journal.write(entry)
    except RowRejected as error:
        _make_storable(run, services, changed, starting, error)
        return None
    if isinstance(answer, ClaimLost):
        raise answer
    if end is None:  # else the run leaves this worker, with all that it has
        _let_go_of_responses(run, services, changed)
    return answer


def _let_go_of_responses(run: HeldRun, services: RunServices, executions: Iterable[Execution]) -> None:
    freed_bytes = 0
    for execution in executions:
        response, kept_bytes = None if execution.outcome is None else execution.outcome.response, 0
        if response is not None and execution.ended and run.is_read(execution):
            size_bytes = execution.outcome.response_bytes if execution.outcome else 0
            kept_bytes = size_bytes if run.keep_answer(execution, response, size_bytes) else 0
        counted_bytes = execution.let_go_of_response()
        freed_bytes += counted_bytes - (kept_bytes if counted_bytes else 0)
    if freed_bytes:
        services.room.grow(run.id, -freed_bytes)


def _make_storable(
    run: HeldRun,
    services: RunServices,
    changed: tuple[Execution, ...],
    starting: tuple[Execution, ...],
    error: Exception,
) -> None:
    """Replace what may be why PostgreSQL refuses an entry; raises the error where nothing is left.

    What receivers have answered goes first. All else stays, unless it is refused without that, too.
    """
    log.warning("outcome_unstorable", error=type(error).__name__)
    answered = [e for e in changed if e.outcome is not None and e.outcome.response is not None]
    _let_go_of_responses(run, services, answered)
    for execution in answered:
        execution.replace_outcome(_ANSWER_UNSTORABLE)
    if answered:
        return
    failed = [e for e in changed if e.outcome not in _UNSTORABLE]
    for execution in failed:
        execution.replace_outcome(_END_UNSTORABLE)
    ended = [e for e in starting if isinstance(e.prepared, Outcome) and e.prepared not in _UNSTORABLE]
    for execution in ended:
        execution.prepared = _END_UNSTORABLE
    if not failed and not ended:
        raise error
