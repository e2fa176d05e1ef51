"""Whether a process is ready, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from api.health import make_health
from shared.postgres.connections import open_database
from tests.rows import Rows


@pytest.mark.parametrize(("dead", "status"), [(None, 200), ("record", 503)])
def test_a_loop_that_has_died_makes_a_process_not_ready(
    own_database_url: str, connect: Callable[..., Any], dead: str | None, status: int
) -> None:
    """Fails when an API process whose recorder has died still gets calls from a load balancer."""
    Rows(connect().cursor()).insert("workers", heartbeat_at="now")
    database = open_database(own_database_url, "test", pool_size=1)
    app = Flask("test")
    app.register_blueprint(make_health(database, "redis://127.0.0.1:1/0", lambda: dead))
    answer = app.test_client().get("/readyz")
    database.dispose()
    assert (answer.status_code, answer.get_json()["checks"]["deadThread"]) == (status, dead)
