"""The table of the bare pipeline that is durable: one row for each trigger, committed before its
task is sent.
"""

import os
import threading

import psycopg2

CREATE = "CREATE TABLE triggers (id uuid PRIMARY KEY, url text NOT NULL, body text NOT NULL, received_at timestamptz DEFAULT now())"
INSERT = "INSERT INTO triggers (id, url, body) VALUES (uuidv7(), %s, %s)"

_own = threading.local()


def insert(url: str, body: str) -> None:
    """Commit one row, over a connection that the thread keeps; autocommit saves a round trip."""
    if not hasattr(_own, "cursor"):
        connection = psycopg2.connect(os.environ["BARE_DATABASE_URL"])
        connection.autocommit = True
        _own.cursor = connection.cursor()
    _own.cursor.execute(INSERT, (url, body))
