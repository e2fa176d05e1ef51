"""Which errors of PostgreSQL say that the connection, and not the statement, is at fault.

LOST is the one table of them. Whoever reads another meaning out of a SQLSTATE (a row that is
refused, a batch that may be repeated) stands in `group_commit.py`.

A server that has become read-only keeps its sessions and refuses each write for ever (25006), also
after it takes writes again elsewhere or for new sessions. So the connection must go, not only the
statement.
"""

from __future__ import annotations

import psycopg2

LOST = {
    "08": "connection exception: the server's own word, or a pooler's, that the line is gone",
    "25006": "read-only: a standby, or a session from the time when writes were switched off",
    "25P03": "ended by idle_in_transaction_session_timeout",
    "25P04": "ended by transaction_timeout",
    "26000": "a statement that this connection has prepared is unknown: another server answers",
    "53300": "too many connections",
    "57P01": "ended by an administrator, or by a standby's promotion",
    "57P02": "ended by the crash of another process of the server",
    "57P03": "the server starts, stops or recovers",
    "57P04": "the database was dropped under the session",
    "57P05": "ended by idle_session_timeout",
}
"""SQLSTATEs, or whole classes of two characters, after which a connection is replaced."""


def is_lost(error: BaseException) -> bool:
    """Whether this error says that its connection is lost, or leads to a server of no use."""
    if not isinstance(error, psycopg2.Error):
        return False
    state = error.pgcode or ""
    return state in LOST or state[:2] in LOST
