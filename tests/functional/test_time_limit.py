"""A management call that takes too long is answered 503, and then nothing of it happens."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import pytest

from tests.running import Running, eventually

LIMIT_SECONDS = 1.0

_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pointsman api' AND wait_event_type = 'Lock'
"""
_BUSY = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pointsman api' AND state <> 'idle'"


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    environment = {"POINTSMAN_MANAGEMENT_TIMEOUT_SECONDS": str(LIMIT_SECONDS)}
    with Running(tmp_path_factory.mktemp("impatient"), environment) as running:
        yield running


@contextmanager
def locked(pointsman: Running, callback_id: str) -> Iterator[None]:
    """Somebody holds the callback's row; let go at the end, when the call that waits for it goes
    on.
    """
    with closing(psycopg2.connect(pointsman.database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM callbacks WHERE id = %s FOR UPDATE", (callback_id,))
        yield
        assert pointsman.query(_WAITING) == [(1,)], "the view is still held up, and about to go on"
    eventually(lambda: pointsman.query(_BUSY) == [(0,)], 5, "the end of what was held up")


def late(pointsman: Running, method: str, path: str, **request: Any) -> None:
    """A call that is held up past its limit."""
    began = time.monotonic()
    answer = pointsman.api.request(method, f"/api/v1{path}", **request)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert "retry-after" in answer.headers
    assert LIMIT_SECONDS * 0.9 < time.monotonic() - began < LIMIT_SECONDS + 1.5


def test_a_change_that_was_answered_503_is_not_made(impatient: Running) -> None:
    """Fails when a view that outlives its limit commits, although its caller was told that nothing
    was accepted.
    """
    callback = impatient.callback("http://127.0.0.1:9/")
    with locked(impatient, callback["id"]):
        late(impatient, "PATCH", f"/callbacks/{callback['id']}", json={"name": "changed"})
    assert impatient.api.get(f"/api/v1/callbacks/{callback['id']}").json()["name"] == "test"


def test_a_commit_that_outlasts_the_limit_is_waited_for(impatient: Running) -> None:
    """Fails when the caller is told 503 while its change is being committed."""
    impatient.query(
        "CREATE FUNCTION pause() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$; "
        "CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON callbacks INITIALLY DEFERRED"
        " FOR EACH ROW WHEN (NEW.name = 'slow to commit') EXECUTE FUNCTION pause(); SELECT 1"
    )
    callback = impatient.callback("http://127.0.0.1:9/")
    path = f"/api/v1/callbacks/{callback['id']}"
    answer = impatient.api.patch(path, json={"name": "slow to commit"})
    assert (answer.status_code, answer.json()["name"]) == (200, "slow to commit")
    assert answer.elapsed.total_seconds() > 2 * LIMIT_SECONDS * 0.9
    assert impatient.api.get(path).json()["name"] == "slow to commit"


def test_repeated_with_its_key_it_happens_once(impatient: Running) -> None:
    callback = impatient.callback("http://127.0.0.1:9/")
    path, headers = f"/callbacks/{callback['id']}/actions", {"idempotency-key": "once"}
    action = {"type": "STORE", "config": {"key": "k"}}
    with locked(impatient, callback["id"]):
        late(impatient, "POST", path, json=action, headers=headers)

    answers = [impatient.api.post(f"/api/v1{path}", json=action, headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert ["idempotent-replayed" in answer.headers for answer in answers] == [False, True]
    listed = impatient.api.get(f"/api/v1{path}").json()["items"]
    assert [one["type"] for one in listed] == ["HTTP_POST", "STORE"]
