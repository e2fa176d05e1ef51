"""What each session with PostgreSQL is told right after it was opened, and what it must be like.

Invariants:

- Settings are made by statements, never by the startup parameter `options`: PgBouncer refuses that
  one, and what an operator's URL says there stands beside ours.
- They are looked at in a second statement, so that a pooler that gives each statement to another
  session is noticed where it shows.
- A session that may not write is refused. A standby, or a database that was made read-only for a
  while, would answer reads with what is old, and refuse writes for as long as the session lives.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import psycopg2

NAMES = (
    "statement_timeout",
    "lock_timeout",
    "timezone",
    "idle_in_transaction_session_timeout",
    "client_connection_check_interval",
    "plan_cache_mode",
    "enable_seqscan",
)
"""Every setting that some session of ours makes. An operator's URL may not make them."""

LOCK_TIMEOUT_MS = 3_000
CHECK_INTERVAL_MS = 10_000


class ReadOnlySession(psycopg2.OperationalError):
    """This session may not write: the server is a standby, or writes are switched off."""


class SharedSession(psycopg2.OperationalError):
    """What was set is not set any more: a pooler has given the statement to another session."""


def bounds(call_seconds: float) -> dict[str, str]:
    """The settings of a session each of whose statements takes at most so long; infinity: any
    time.
    """
    milliseconds = str(int(call_seconds * 1000)) if math.isfinite(call_seconds) else "0"
    return {
        "statement_timeout": milliseconds,
        "lock_timeout": str(LOCK_TIMEOUT_MS) if math.isfinite(call_seconds) else "0",
        # a process that is stopped in a transaction must not hold rows for longer than a call
        "idle_in_transaction_session_timeout": milliseconds,
        "client_connection_check_interval": str(CHECK_INTERVAL_MS),
        "timezone": "UTC",
    }


def begin(connection: Any, settings: Mapping[str, str]) -> None:
    """Make these settings on a new connection, which is left in autocommit.

    Raises ReadOnlySession and SharedSession, which count as a PostgreSQL that is away.
    """
    connection.autocommit = True
    names = list(settings)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(['set_config(%s, %s, false)'] * len(names))}", _pairs(settings))
        made = cursor.fetchone()
        asked = ", ".join(["current_setting(%s)"] * len(names))
        cursor.execute(f"SELECT current_setting('transaction_read_only'), {asked}", names)
        read_only, *found = cursor.fetchone()
    if found != list(made):
        raise SharedSession("What was set is not set any more: a pooler gives statements to other sessions.")
    if read_only == "on":
        raise ReadOnlySession("This PostgreSQL takes no writes: a standby, or made read-only.")


def _pairs(settings: Mapping[str, str]) -> list[str]:
    return [word for pair in settings.items() for word in pair]
