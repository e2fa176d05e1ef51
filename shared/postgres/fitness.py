"""Whether the PostgreSQL of a URL can carry Pointsman, asked at a start.

Invariants:

- What is wrong is said in a sentence, with the statement that helps, and never as a traceback. No
  password shows.
- PostgreSQL away is Unavailable, which waiting may fix. What only its operator can give is
  ServerRefuses. What no waiting fixes is ConfigError: a URL that cannot be right, options in it
  that are refused, an encoding other than UTF8, a pooler that mixes sessions.

The last is found with two connections that ask, several times, which session each of them has. A
pooler in session mode, or none, never changes the answer of one nor gives both the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
from sqlalchemy.exc import DBAPIError

from shared.errors import ConfigError, PointsmanError, ServerRefuses, Unavailable
from shared.postgres import urls
from shared.postgres.connections import connect
from shared.postgres.sessions import SharedSession

CALL_SECONDS = 5.0
PROBES = 4
MAX_REASON_CHARS = 300

_SERVER = """
SELECT current_database(), current_user, current_setting('server_encoding'), current_schema(),
  coalesce(has_schema_privilege(current_schema(), 'CREATE'), false),
  (SELECT pg_get_userbyid(relowner) FROM pg_class
   WHERE oid = to_regclass('triggers') AND NOT pg_has_role(relowner, 'USAGE'))
"""
_SESSION = "SELECT pid, backend_start::text FROM pg_stat_activity WHERE pid = pg_backend_pid()"

_LOGIN = f"Look at user and password in {urls.VARIABLE}, and at pg_hba.conf of the server."

_REFUSALS = (
    (r"database \".*\" does not exist|no such database|3D000", "{make}"),
    (r"permission denied for database", "GRANT CONNECT ON DATABASE {database} TO {user};"),
    (r"authentication failed|no password supplied|role \".*\" does not exist|no such user|pg_hba\.conf", _LOGIN),
    (r"not permitted to log in", "ALTER ROLE {user} LOGIN;"),
)  # fmt: skip
"""What a server says when it lets nobody in (the driver gives no SQLSTATE then), and what helps."""

_WRONG_URL = re.compile(
    r"(^|failed: )(invalid |could not match |sslmode value|root certificate file|certificate present|private key)"
    r"|unsupported startup parameter"
)
_WRONG_OPTIONS = re.compile(
    r"unrecognized configuration parameter|(invalid value|valid range) for parameter|requires a value"
    r"|parameter \".*\" cannot be |permission denied to set parameter|invalid command-line argument"
)


def examine(url: str) -> None:
    """Return if Pointsman can work there now; the reason why not is raised."""
    with (
        explained(url),
        closing(connect(url, "start", call_seconds=CALL_SECONDS, autocommit=True)) as one,
        closing(connect(url, "start", call_seconds=CALL_SECONDS, autocommit=True)) as other,
        one.cursor() as cursor,
        other.cursor() as second,
    ):
        _check_sessions(cursor, second)
        cursor.execute(_SERVER)
        _check_server(*cursor.fetchone())


@contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn what the driver raises in the block into an error that says what helps."""
    try:
        yield
    except DBAPIError as error:
        if not isinstance(error.orig, psycopg2.Error):
            raise
        raise _explain(url, error.orig) from error
    except psycopg2.Error as error:
        raise _explain(url, error) from error


def _check_sessions(one: Any, other: Any) -> None:
    sessions_of_one: set[tuple[int, str]] = set()
    sessions_of_other: set[tuple[int, str]] = set()
    for _ in range(PROBES):
        # one twice in a row: a pooler that goes round its servers shows there, one that takes the
        # last that was free shows between the two
        for cursor, seen in ((one, sessions_of_one), (one, sessions_of_one), (other, sessions_of_other)):
            cursor.execute(_SESSION)
            seen.add(cursor.fetchone())
    if len(sessions_of_one) > 1 or len(sessions_of_other) > 1 or sessions_of_one & sessions_of_other:
        raise _pooled()


def _check_server(
    database: str, user: str, encoding: str, schema: str | None, may_create: bool, foreign_owner: str | None
) -> None:
    if encoding != "UTF8":
        raise ConfigError(
            f"The database {database} is encoded in {encoding}; Pointsman needs UTF8.",
            hint=f"Make another: {_make(f'{database}_utf8', user)}",
        )
    if schema is None:
        raise ServerRefuses(
            f"The role {user} has no schema to work in, in the database {database}.",
            hint=f"GRANT USAGE, CREATE ON SCHEMA public TO {_quoted(user)};",
        )
    if not may_create:
        raise ServerRefuses(
            f"The role {user} may make no tables in the schema {schema} of the database {database}.",
            hint=f"GRANT USAGE, CREATE ON SCHEMA {_quoted(schema)} TO {_quoted(user)};",
        )
    if foreign_owner is not None:
        raise ServerRefuses(
            f"The tables in the database {database} belong to the role {foreign_owner}, not to {user}.",
            hint=f"GRANT {_quoted(foreign_owner)} TO {_quoted(user)};",
        )


def _pooled() -> ConfigError:
    return ConfigError(
        "The connection pooler gives a session to several clients (transaction or statement mode).",
        hint=f"Let {urls.VARIABLE} name PostgreSQL itself, or a pool in session mode (PgBouncer:"
        " pool_mode=session). Pointsman plans its statements once for each session, and holds locks there.",
    )


def _explain(url: str, error: psycopg2.Error) -> PointsmanError:
    reason = _reason(error)
    parameters = urls.read(url)
    user = parameters.get("user", "…")
    database = parameters.get("dbname", user)
    if isinstance(error, SharedSession):
        return _pooled()
    if error.pgcode == "42501":
        return ServerRefuses(
            f"The role {user} lacks a right in the database {database}: {reason}.",
            hint=f"GRANT USAGE, CREATE ON SCHEMA public TO {_quoted(user)}; or let it own the database.",
        )
    if error.pgcode is None and "options" in parameters and _WRONG_OPTIONS.search(reason):
        return ConfigError(
            f"{urls.VARIABLE} has options that PostgreSQL refuses: {reason}.",
            hint="Mend or leave out the options in it, which look like options=-c%20work_mem%3D8MB.",
        )
    for pattern, hint in _REFUSALS:
        if re.search(pattern, f"{reason} {error.pgcode}"):
            named = {"database": _quoted(database), "user": _quoted(user), "make": _make(database, user)}
            return ServerRefuses(f"PostgreSQL lets nobody in: {reason}.", hint=hint.format(**named))
    if _WRONG_URL.search(reason):
        return ConfigError(f"{urls.VARIABLE} cannot be used: {reason}.")
    return Unavailable(f"PostgreSQL is not there: {reason}.", hint=f"Start it, or look at {urls.VARIABLE}.")


def _reason(error: psycopg2.Error) -> str:
    """What was said, without advice that libpq puts on lines of their own."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("\t")]
    return "; ".join(lines)[:MAX_REASON_CHARS].rstrip(".") or type(error).__name__


def _make(database: str, user: str) -> str:
    """With the one locale that fits every encoding: that of the server may not fit UTF8."""
    how = "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    return f"CREATE DATABASE {_quoted(database)} OWNER {_quoted(user)} {how};"


def _quoted(name: str) -> str:
    """A name as SQL writes it: plain where that is enough."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'
