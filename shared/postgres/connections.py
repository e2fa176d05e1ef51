"""Connections to PostgreSQL, each bounded in time.

A PostgreSQL that is stopped (SIGSTOP, a frozen machine) answers nothing, not even its own
statement_timeout, and psycopg2 would wait for ever. So every connection made here is a
WatchedConnection: the watchdog thread cuts its socket when a call takes longer than the
connection's `call_seconds`, and the call raises OperationalError like any lost connection.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import psycopg2
import psycopg2.extensions
import psycopg2.extras
from sqlalchemy import Engine, NullPool, create_engine
from sqlalchemy.orm import Session

from shared.postgres import sessions, urls
from shared.postgres.sqlstates import is_lost

WATCH_INTERVAL_SECONDS = 0.2
DRIVER = "postgresql+psycopg2://"
USELESS = (psycopg2.OperationalError, psycopg2.InterfaceError, psycopg2.NotSupportedError)
"""After one of these a connection is dropped: it is lost, or a plan that it has made no longer fits
its tables.
"""


class Watchdog:
    """A thread that cuts the socket of each connection whose call is overdue.

    Started by the first watched call of a process; a forked child starts its own.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: dict[int, tuple[float, int]] = {}  # id(connection) → (due, file descriptor)
        self._pid = 0

    @contextlib.contextmanager
    def watch(self, connection: WatchedConnection) -> Iterator[None]:
        """Cut the connection's socket if the block lasts longer than its `call_seconds`."""
        if connection.closed:
            yield
            return
        key = id(connection)
        with self._lock:
            nested = key in self._watched
            if not nested:
                self._watched[key] = (time.monotonic() + connection.call_seconds, connection.fileno())
            if self._pid != os.getpid():
                threading.Thread(target=self._run, name="db-watchdog", daemon=True).start()
                self._pid = os.getpid()  # after the start, which fails when a machine is out of threads
        try:
            yield
        finally:
            if not nested:
                with self._lock:
                    self._watched.pop(key, None)

    def _run(self) -> None:
        while True:
            time.sleep(WATCH_INTERVAL_SECONDS)
            now = time.monotonic()
            with self._lock:  # under the lock, so that no descriptor is cut after its call has ended
                for key, (due, descriptor) in list(self._watched.items()):
                    if now > due:
                        del self._watched[key]
                        _cut(descriptor)


def _cut(descriptor: int) -> None:
    # the call may have ended by itself meanwhile, which is all that was wanted
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as copy:
        copy.shutdown(socket.SHUT_RDWR)


watchdog = Watchdog()
"""The one watchdog of this process."""


class WatchedCursor(psycopg2.extensions.cursor):
    """A cursor whose statements are watched."""

    connection: WatchedConnection

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with watchdog.watch(self.connection):
                return super().execute(*args, **kwargs)
        except psycopg2.Error as error:
            self.connection.close_if_lost(error)
            raise

    def executemany(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with watchdog.watch(self.connection):
                return super().executemany(*args, **kwargs)
        except psycopg2.Error as error:
            self.connection.close_if_lost(error)
            raise


class WatchedConnection(psycopg2.extensions.connection):
    """A connection whose every round trip ends within `call_seconds`, or fails.

    It closes itself after an error that says that it is lost (`sqlstates.LOST`), whoever uses it:
    its owner opens another, a pool replaces it. prepared: the names of what it has planned, by
    statement, the one used last at the end.
    """

    call_seconds = 15.0
    prepared: dict[str, list[str]]

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        kwargs.setdefault("cursor_factory", WatchedCursor)
        return super().cursor(*args, **kwargs)

    def commit(self) -> None:
        try:
            with watchdog.watch(self):
                super().commit()
        except psycopg2.Error as error:
            self.close_if_lost(error)
            raise

    def rollback(self) -> None:
        """Undo what is open. A closed connection has nothing open."""
        if not self.closed:
            with watchdog.watch(self):
                super().rollback()

    def close_if_lost(self, error: psycopg2.Error) -> None:
        """Close, if this error says that the connection is of no more use."""
        if is_lost(error):
            with contextlib.suppress(psycopg2.Error):
                self.close()


def connect(
    url: str,
    application: str,
    *,
    call_seconds: float,
    autocommit: bool = False,
    settings: Mapping[str, str] | None = None,
) -> WatchedConnection:
    """Open one connection for a thread that owns it. `call_seconds` bounds each round trip; keys
    come as UUIDs.

    settings: further ones of the session, of `sessions.NAMES`. Raises OperationalError while
    PostgreSQL is away.
    """
    parameters = urls.parameters(url, application)
    try:
        connection: WatchedConnection = psycopg2.connect(connection_factory=WatchedConnection, **parameters)
    except UnicodeDecodeError as error:
        # before a login a server speaks in its own encoding, of which the driver knows nothing
        raise psycopg2.OperationalError(error.object.decode(errors="replace")) from None
    connection.call_seconds = call_seconds
    connection.prepared = {}
    try:
        sessions.begin(connection, sessions.bounds(call_seconds) | dict(settings or {}))
        psycopg2.extras.register_uuid(conn_or_curs=connection)
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


def open_database(url: str, application: str, *, pool_size: int, call_seconds: float = 15.0) -> Engine:
    """The database as SQLAlchemy sees it: a small pool of watched connections."""
    urls.read(url)  # what cannot be read is said now
    return create_engine(
        DRIVER,
        creator=partial(connect, url, application, call_seconds=call_seconds),
        pool_size=pool_size,
        max_overflow=2,
        pool_timeout=2,
        pool_recycle=1800,
        pool_pre_ping=True,
        hide_parameters=True,  # an error that nobody foresaw is logged whole
    )


def open_unbounded(url: str, application: str) -> Engine:
    """The same for migrations: no pool, and statements may take any time."""
    return create_engine(
        DRIVER,
        creator=partial(connect, url, application, call_seconds=math.inf),
        poolclass=NullPool,
        hide_parameters=True,
    )


def cursor_of(session: Session) -> Any:
    """A psycopg2 cursor in the transaction of an ORM session, for statements that are shared with
    the worker.
    """
    session.flush()
    return session.connection().connection.cursor()


class NotConnected(psycopg2.OperationalError):  # type: ignore[misc,unused-ignore]
    """No connection came about, so that nothing was sent."""


class OwnedConnection:
    """The connection of one thread, opened when first needed and again after it was lost.

    Not shared between threads. lost() is called by whoever sees one of USELESS on it; one that has
    closed itself needs no such call.
    """

    def __init__(
        self,
        url: str,
        application: str,
        *,
        call_seconds: float,
        autocommit: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        urls.read(url)  # what cannot be read is said now
        self._open = partial(
            connect, url, application, call_seconds=call_seconds, autocommit=autocommit, settings=settings
        )
        self._connection: WatchedConnection | None = None

    def get(self) -> WatchedConnection:
        """The open connection. Raises NotConnected while PostgreSQL is away."""
        if self._connection is None or self._connection.closed:
            try:
                self._connection = self._open()
            except psycopg2.OperationalError as error:
                raise NotConnected(str(error)) from error
        return self._connection

    def lost(self) -> None:
        """Drop the connection after an error that may have broken it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg2.Error):
                connection.close()

    close = lost

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Any]:
        """A cursor in a transaction that commits at the end.

        Any error rolls back; a connection that was lost, or whose rollback fails, is dropped.
        """
        connection = self.get()
        try:
            with connection.cursor() as cursor:
                yield cursor
            connection.commit()
        except USELESS:
            self.lost()
            raise
        except BaseException:
            try:
                connection.rollback()
            except psycopg2.Error:
                self.lost()
            raise
