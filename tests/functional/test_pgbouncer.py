"""A whole Pointsman whose PostgreSQL is behind PgBouncer in session mode, with its defaults."""

from __future__ import annotations

from pathlib import Path

from deploy.local.postgres import EmbeddedPostgres
from tests.conftest import database_on
from tests.peers.pgbouncer import pgbouncer
from tests.peers.receiver import Receiver
from tests.running import Running, eventually
from tests.tenants import Tenant


def test_everything_works_through_a_pool_in_session_mode(
    tmp_path: Path, server: EmbeddedPostgres, receiver: Receiver
) -> None:
    """Fails when a session begins with a startup parameter that the pooler does not know."""
    with (
        database_on(server, "template0") as direct,
        pgbouncer(direct) as url,
        Running(tmp_path, {"POINTSMAN_DATABASE_URL": url}) as running,
        Tenant(running, "second@example.com") as second,
    ):
        ours = running.callback(receiver.url("/ours"), [{"type": "STORE", "config": {"key": "kept"}}])
        theirs = second.callback(receiver.url("/theirs"))
        mine = running.fire(ours, content=b"ours")
        running.fire(theirs, content=b"theirs")
        assert running.ended(mine)["status"] == "SUCCESS"
        assert second.api.get(f"/api/v1/triggers/{mine}").status_code == 404
        eventually(lambda: receiver.got("/theirs"), 15, "the other tenant's delivery")
        running.api.patch(f"/api/v1/callbacks/{ours['id']}", json={"name": "changed"}).raise_for_status()
    assert [receipt.body for receipt in receiver.got("/ours")] == [b"ours"]
    assert [receipt.body for receipt in receiver.got("/theirs")] == [b"theirs"]
