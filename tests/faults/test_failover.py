"""PostgreSQL goes read-only under living connections, or its place is taken by a standby.

Nobody restarts anything of Pointsman.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg2
import pytest

from deploy.local.postgres import EmbeddedPostgres
from deploy.local.valkey import EmbeddedValkey
from tests.faults.conftest import OnOutsideServers, on_outside_servers
from tests.faults.oracle import nothing_was_lost, wait_for
from tests.load import BackgroundLoad
from tests.peers.receiver import Receiver
from tests.running import Running, eventually
from tests.tenants import Tenant

READ_ONLY_SECONDS = 8.0

# By itself, after writes are taken again.
AGAIN_SECONDS = 10.0

# A worker keeps what it has for longer than the outage, so that its results are still its own.
PATIENT = {
    "POINTSMAN_LEASE_SECONDS": "20",
    "POINTSMAN_STALE_SECONDS": "30",
    "POINTSMAN_DRAIN_SECONDS": "5",
}
KEEP = {"type": "STORE", "config": {"key": "kept"}}


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnOutsideServers]:
    with on_outside_servers(tmp_path_factory.mktemp("outside"), PATIENT) as made:
        yield made


def command(url: str, *statements: str) -> None:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def read_only(outside: OnOutsideServers) -> Iterator[None]:
    """New sessions may not write, and all old ones have ended; at the end new ones may again.

    Those that were opened meanwhile are left alone.
    """
    server = outside.postgres.url_of("postgres")
    command(
        server,
        "ALTER DATABASE pointsman SET default_transaction_read_only = on",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'pointsman'",
    )
    try:
        yield
    finally:
        command(server, "ALTER DATABASE pointsman RESET default_transaction_read_only")


def fire(callback: dict[str, Any], body: bytes) -> httpx.Response:
    return httpx.post(callback["triggerUrl"], content=body, timeout=30, trust_env=False)


def rename(api: httpx.Client, callback: dict[str, Any], name: str) -> int:
    return api.patch(f"/api/v1/callbacks/{callback['id']}", json={"name": name}).status_code


def test_a_database_that_was_read_only_for_a_while_is_written_again(
    outside: OnOutsideServers, receiver: Receiver
) -> None:
    """Guards: a session that answers 25006 is replaced, whoever has it.

    The accept, the claim, the journal, the heartbeat, the storage, the sweep and the management API
    each have sessions of their own.
    """
    running = outside.running
    before = {name: pid for name, pid in running.pids().items() if name in ("api", "worker")}
    with Tenant(running, "second@example.com") as second:
        ours = running.callback(receiver.url("/ok"), [KEEP])
        theirs = second.callback(receiver.url("/delay/2000"))
        # their results come when nothing can be written
        held = [running.fire(theirs, content=b"theirs-%d" % n) for n in range(5)]
        eventually(lambda: len(receiver.got("/delay/2000")) == len(held), 5, "deliveries under way")
        answers = []
        with read_only(outside):
            until = time.monotonic() + READ_ONLY_SECONDS
            while time.monotonic() < until:
                answers.append(fire(ours, b"ours, refused"))
                assert rename(running.api, ours, "refused") == 503
                assert rename(second.api, theirs, "refused") == 503
        assert {answer.status_code for answer in answers} == {503}
        assert all("retry-after" in answer.headers for answer in answers)

        ended = time.monotonic()
        eventually(lambda: fire(ours, b"ours, again").status_code == 202, AGAIN_SECONDS, "202 again")
        accepted = [running.fire(ours, content=b"ours-%d" % n) for n in range(5)]
        eventually(lambda: rename(running.api, ours, "again") == 200, AGAIN_SECONDS, "changes again")
        eventually(lambda: rename(second.api, theirs, "again") == 200, AGAIN_SECONDS, "changes again")
        for trigger_id in accepted:
            assert running.ended(trigger_id)["status"] == "SUCCESS"
        nothing_was_lost(running, receiver, [*held, *accepted], 30)
        assert time.monotonic() - ended < 30
    receipts = [receipt.trigger_id for receipt in receiver.got("/delay/2000")]
    assert sorted(receipts) == sorted(held), "what the journal held was written, not tried again"
    assert {r.body for r in receiver.got("/delay/2000")} == {b"theirs-%d" % n for n in range(5)}
    after = running.pids()
    assert {name: after[name] for name in before} == before, "nothing was restarted"


def make_standby(primary: EmbeddedPostgres, folder: Path) -> EmbeddedPostgres:
    """A copy of a running server that follows it."""
    standby = EmbeddedPostgres(folder)
    folder.mkdir()
    shutil.copy(primary.folder / "password", folder / "password")
    subprocess.run(
        [
            *(str(primary.binaries / "pg_basebackup"), "--dbname", primary.url_of("postgres")),
            *("--pgdata", str(folder / primary.data.name), "--write-recovery-conf", "--checkpoint=fast"),
        ],
        check=True,
        timeout=60,
    )
    standby.prepare()
    return standby


@contextmanager
def started(server: EmbeddedPostgres | EmbeddedValkey) -> Iterator[subprocess.Popen[bytes]]:
    process = server.spawn(subprocess.DEVNULL)
    try:
        server.wait_ready(process)
        yield process
    finally:
        server.stop(process)


def test_a_standby_takes_the_primarys_place_under_load(tmp_path: Path, receiver: Receiver) -> None:
    """Both hosts stand in the URL, as Patroni prints it. Nothing that was accepted is lost.

    Guards: one reading of the URL for all connections, sessions on a standby are refused.
    """
    primary, valkey = EmbeddedPostgres(tmp_path / "primary"), EmbeddedValkey(tmp_path / "valkey")
    with ExitStack() as stack:
        for server in (primary, valkey):
            server.prepare()
        first = stack.enter_context(started(primary))
        stack.enter_context(started(valkey))
        primary.ensure_database()
        standby = make_standby(primary, tmp_path / "standby")
        stack.enter_context(started(standby))
        follow = "SELECT 1 / count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        command(
            primary.url_of("postgres"),
            "ALTER SYSTEM SET synchronous_standby_names = '*'",
            "SELECT pg_reload_conf()",
        )
        eventually(lambda: follows(primary, follow), 15, "a standby in step")
        url = (
            f"postgresql://pointsman:{primary.password}@127.0.0.1:{standby.port},127.0.0.1:{primary.port}"
            "/pointsman?target_session_attrs=read-write"
        )
        servers = {"POINTSMAN_DATABASE_URL": url, "POINTSMAN_REDIS_URL": valkey.url}
        running = stack.enter_context(Running(tmp_path, servers))
        callback = running.callback(receiver.url("/ok"), [KEEP])
        with BackgroundLoad(callback["triggerUrl"], connections=4, per_second=40) as load:
            wait_for(load.accepted, 40)
            first.kill()
            first.wait()
            command(standby.url_of("postgres"), "SELECT pg_promote()")
            wait_for(load.accepted, 80)
        assert set(load.refused) <= {503}, load.refused
        nothing_was_lost(running, receiver, load.accepted)


def follows(primary: EmbeddedPostgres, question: str) -> bool:
    try:
        command(primary.url_of("postgres"), question)
    except psycopg2.errors.DivisionByZero:
        return False
    return True
