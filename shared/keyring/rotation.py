"""The rotation: everything that is sealed comes under the newest key, beside the traffic.

Invariants:

- A rotation that was cut off is simply repeated (walk.py).
- It goes round until a round finds nothing to renew, but not for ever. What it then says was
  counted in that round; of what is written only once, when it was gone through.
- No key is taken from anybody: the rows of key_checks that nothing needs any more go last, and none
  goes while something still seals under another key.
- One rotation at a time, and none that a living worker could not follow.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import Any

from shared.crypto import SecretBox
from shared.errors import ConfigError, Unavailable
from shared.ids import first_id_of
from shared.keyring import checks
from shared.keyring.columns import Key, sealed_columns
from shared.keyring.survey import RoundProgress, Survey, Told
from shared.keyring.walk import Walk
from shared.postgres.connections import connect
from shared.postgres.fitness import explained

CALL_SECONDS = 30.0

# A row that somebody holds is looked at again, as long as anything else moves, and then so long.
PATIENCE_SECONDS = 30.0
PAUSE_SECONDS = 0.5

# So many rounds may find something new to renew. Then some process seals under another key still.
MOST_ROUNDS = 10

# A call is committed within seconds of the moment in its id.
LONGEST_CALL = timedelta(minutes=10)

_TRY_LOCK = "SELECT pg_try_advisory_lock(hashtextextended('pointsman.keys.rotate', 0))"
_NOW = "SELECT now()"


def _silent(_progress: RoundProgress) -> None:
    """What nobody wants to be told."""


def survey(url: str, box: SecretBox, told: Told = _silent) -> Survey:
    """Read everything that is sealed; nothing changes."""
    with _session(url) as cursor:
        walks = [Walk(cursor, column, box, told) for column in sealed_columns(cursor)]
        return _round(walks, 1)


def rotate(
    url: str,
    box: SecretBox,
    stale_seconds: float,
    told: Told = _silent,
    pause: Callable[[float], None] = time.sleep,
) -> Survey:
    """Bring everything under the newest key; what is there then.

    stale_seconds: after which a worker without a heartbeat is dead. ConfigError if a living worker
    does not know the newest key; Unavailable if another rotation is under way.
    """
    with _session(url) as cursor:
        cursor.execute(_TRY_LOCK)
        if not cursor.fetchone()[0]:
            raise Unavailable("Another rotation is under way.", hint="Wait for its end, then look again.")
        _refuse_unknown(cursor, box, stale_seconds)
        checks.enter(cursor, [box.newest], box)
        found = _renew_all(cursor, box, told, pause)
        if found.is_settled:
            checks.leave(cursor, {key for key, _ in checks.entered(cursor)} - found.needed(box))
        return found


def _renew_all(cursor: Any, box: SecretBox, told: Told, pause: Callable[[float], None]) -> Survey:
    """Go round until nothing is left to renew, what is left stays held, or it has no end."""
    cursor.execute(_NOW)
    since: Key = (str(first_id_of(cursor.fetchone()[0] - LONGEST_CALL)),)
    walks = [
        Walk(cursor, column, box, told, writes=True, since=since if column.is_written_once else None)
        for column in sealed_columns(cursor)
    ]
    number, busy_rounds, renewed, moved_at = 0, 0, 0, time.monotonic()
    while True:
        number += 1
        found = _round(walks, number)
        renewed += found.renewed
        if found.renewed:
            busy_rounds, moved_at = busy_rounds + 1, time.monotonic()
        is_tired = busy_rounds >= MOST_ROUNDS or time.monotonic() - moved_at > PATIENCE_SECONDS
        if is_tired or not (found.renewed or found.left):
            found.is_settled = not found.renewed
            found.renewed = renewed
            return found
        if not found.renewed:
            pause(PAUSE_SECONDS)


def _round(walks: list[Walk], number: int) -> Survey:
    """Once through every column."""
    found = Survey()
    for walk in walks:
        found.add(walk.go(number))
    return found


def _refuse_unknown(cursor: Any, box: SecretBox, stale_seconds: float) -> None:
    """Raise ConfigError if a living worker could not open what the newest key seals."""
    hosts = checks.workers_without(cursor, box.newest, stale_seconds)
    if hosts:
        raise ConfigError(
            f"Key {box.newest} is unknown to a worker on {', '.join(hosts)}:"
            " it could not open what is sealed with it.",
            hint="Give POINTSMAN_SECRET_KEYS, with all its keys, to every API and worker process and start"
            " them again. Then rotate. A worker that was killed counts as dead after a few seconds.",
        )


@contextmanager
def _session(url: str) -> Iterator[Any]:
    """A cursor each of whose statements commits by itself."""
    with (
        explained(url),
        closing(connect(url, "keys", call_seconds=CALL_SECONDS, autocommit=True)) as connection,
        connection.cursor() as cursor,
    ):
        checks.must_be_migrated(cursor)
        yield cursor
