"""What a start says of servers, folders and URLs that do not fit: a sentence, never a traceback."""

from __future__ import annotations

import os
import pwd
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
import redis

from deploy.local.postgres import EmbeddedPostgres
from deploy.local.process import as_nobody
from deploy.local.valkey import EmbeddedValkey
from migrations.migrate import upgrade
from shared.crypto import key_id, new_key
from tests.peers.pgbouncer import pgbouncer
from tests.running import Running, eventually

CONFIG, FAILED = 78, 1
AWAY = "redis://127.0.0.1:1/0"
ROOT = Path(__file__).parents[2]
COMMANDS = {
    "run": ["-m", "deploy.cli", "run"],
    "migrate": ["-m", "deploy.cli", "migrate"],
    "api": ["-m", "api.server"],
    "worker": ["-m", "worker"],
}


def start(
    folder: Path,
    environment: Mapping[str, str],
    command: str = "run",
    become: Callable[[], None] = lambda: None,
    *,
    secret_keys: str | None = "",
) -> tuple[int, str]:
    """Start a process that is expected to end by itself; its exit code and all that it said.

    secret_keys: by default a new one; None: none are set.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
    ended = subprocess.run(
        [sys.executable, *COMMANDS[command]],
        cwd=ROOT,
        env={
            **inherited,
            "POINTSMAN_DATA_DIR": str(folder / "data"),
            "POINTSMAN_PORT": "0",
            "POINTSMAN_START_WAIT_SECONDS": "1.5",
            **({} if secret_keys is None else {"POINTSMAN_SECRET_KEYS": secret_keys or new_key()}),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=become,
    )
    assert "Traceback" not in ended.stdout, ended.stdout
    return ended.returncode, ended.stdout


def do(url: str, *statements: str) -> None:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for statement in statements:
            cursor.execute(statement)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("POINTSMAN_DATABASE_URL", "mysql://u:canary@h/x"),
        ("POINTSMAN_DATABASE_URL", "postgresql://u:canary@h:port/x"),
        ("POINTSMAN_DATABASE_URL", "postgresql://u:canary@h/x?options=-c%20statement_timeout%3D1"),
        ("POINTSMAN_DATABASE_URL", "postgresql://u:canary%E4@h/x"),
        ("POINTSMAN_DATABASE_URL", "postgresql://u:canary\udce4@h/x"),
        ("POINTSMAN_REDIS_URL", "http://:canary@h"),
        ("POINTSMAN_REDIS_URL", "redis://:canary@a..b"),
        ("POINTSMAN_REDIS_URL", "redis://:canary\udce4@h"),
        ("POINTSMAN_REDIS_URL", "sentinel://:canary@h"),
    ],
)
def test_a_url_that_cannot_be_used_names_its_variable(
    tmp_path: Path, server: EmbeddedPostgres, command: str, variable: str, url: str
) -> None:
    """Fails with a traceback, and a loop of starts, when a URL is first read by who connects."""
    if command == "migrate" and variable == "POINTSMAN_REDIS_URL":
        pytest.skip("it needs no Redis")
    servers = {"POINTSMAN_DATABASE_URL": server.url_of("postgres"), "POINTSMAN_REDIS_URL": AWAY}
    code, said = start(tmp_path, {**servers, variable: url}, command)
    assert code == CONFIG
    assert variable in said
    assert "canary" not in said


@pytest.mark.parametrize("command", COMMANDS)
def test_options_that_postgresql_refuses_are_not_waited_for(
    tmp_path: Path, server: EmbeddedPostgres, command: str
) -> None:
    url = f"{server.url_of('postgres')}?options=-c%20nonsense%3D1"
    code, said = start(tmp_path, {"POINTSMAN_DATABASE_URL": url, "POINTSMAN_REDIS_URL": AWAY}, command)
    assert code == CONFIG
    assert "POINTSMAN_DATABASE_URL" in said
    assert "nonsense" in said


@pytest.mark.parametrize("command", ["run", "migrate"])
@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgresql://u@127.0.0.1:1/x", "Connection refused"),
        ("postgresql://u@no-such-host.invalid/x", "no-such-host.invalid"),
        ("postgresql://u@/x?host=/no/such/folder", "/no/such/folder"),
    ],
)
def test_a_postgres_that_stays_away_is_waited_for_and_named(
    tmp_path: Path, command: str, url: str, named: str
) -> None:
    code, said = start(tmp_path, {"POINTSMAN_DATABASE_URL": url, "POINTSMAN_REDIS_URL": AWAY}, command)
    assert code == FAILED
    assert "waiting for PostgreSQL, at most 1.5 s" in said
    assert named in said
    assert "POINTSMAN_DATABASE_URL" in said


def test_a_postgres_that_comes_late_is_waited_for(tmp_path: Path) -> None:
    late = EmbeddedPostgres(tmp_path / "late")
    late.prepare()
    running = Running(tmp_path, {"POINTSMAN_DATABASE_URL": late.url_of("postgres")})
    started: list[subprocess.Popen[bytes]] = []
    starting = threading.Thread(target=running.start)
    starting.start()
    try:
        eventually(lambda: "waiting for PostgreSQL" in running.log(), 20, "a word of what it waits for")
        started.append(late.spawn(subprocess.DEVNULL))
        starting.join(60)
        assert running.api.get("/readyz").is_success
    finally:
        running.stop()
        for process in started:
            late.stop(process)


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_that_is_not_utf8_is_refused(
    tmp_path: Path, server: EmbeddedPostgres, encoding: str
) -> None:
    """Fails as 422 for honest calls (SQL_ASCII) or 500 (LATIN1), when nobody looks."""
    name = f"encoded_{encoding.lower()}"
    do(
        server.url_of("postgres"),
        f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0",
    )
    urls = {"POINTSMAN_DATABASE_URL": server.url_of(name), "POINTSMAN_REDIS_URL": AWAY}
    for command in COMMANDS:
        code, said = start(tmp_path, urls, command)
        assert code == CONFIG
        assert encoding in said
        assert f"CREATE DATABASE {name}_utf8 OWNER pointsman ENCODING 'UTF8'" in said


@pytest.mark.parametrize("command", ["run", "migrate"])
def test_a_role_without_rights_is_told_which(tmp_path: Path, server: EmbeddedPostgres, command: str) -> None:
    name, user = f"rights_{command}", f"nobody_{command}"
    do(server.url_of("postgres"), f"CREATE DATABASE {name}", f"CREATE ROLE {user} LOGIN PASSWORD 'x'")
    url = server.url_of(name).replace(f"pointsman:{server.password}", f"{user}:x")
    code, said = start(tmp_path, {"POINTSMAN_DATABASE_URL": url, "POINTSMAN_REDIS_URL": AWAY}, command)
    assert code == CONFIG
    assert f"GRANT USAGE, CREATE ON SCHEMA public TO {user};" in said


@pytest.mark.parametrize("command", ["run", "migrate"])
def test_who_is_not_let_in_is_told_at_once(tmp_path: Path, server: EmbeddedPostgres, command: str) -> None:
    url = server.url_of("postgres").replace(server.password, "canary")
    code, said = start(tmp_path, {"POINTSMAN_DATABASE_URL": url, "POINTSMAN_REDIS_URL": AWAY}, command)
    assert code == CONFIG
    assert "password authentication failed" in said
    assert "waiting" not in said
    assert "canary" not in said


def test_a_pooler_that_mixes_sessions_is_refused(tmp_path: Path, own_database_url: str) -> None:
    with pgbouncer(own_database_url, {"pool_mode": "transaction"}) as url:
        for command in COMMANDS:
            urls = {"POINTSMAN_DATABASE_URL": url, "POINTSMAN_REDIS_URL": AWAY}
            code, said = start(tmp_path, urls, command)
            assert code == CONFIG
            assert "pool_mode=session" in said


def test_a_user_of_redis_without_rights_is_named(
    tmp_path: Path, server: EmbeddedPostgres, valkey: EmbeddedValkey
) -> None:
    with closing(redis.Redis.from_url(valkey.url)) as client:
        client.acl_setuser("bob", enabled=True, passwords=["+pw"], keys=["other:*"], commands=["+@all"])
    url = valkey.url.replace(f":{valkey.password}", "bob:pw")
    urls = {"POINTSMAN_DATABASE_URL": server.url_of("postgres"), "POINTSMAN_REDIS_URL": url}
    code, said = start(tmp_path, urls)
    assert code == CONFIG
    assert "The user bob of Redis lacks a right" in said
    assert "ACL SETUSER bob" in said


def test_cluster_mode_of_redis_is_refused(tmp_path: Path, server: EmbeddedPostgres) -> None:
    cluster = EmbeddedValkey(tmp_path / "cluster", options={"cluster-enabled": "yes"})
    cluster.prepare()
    process = cluster.spawn(subprocess.DEVNULL)
    try:
        cluster.wait_ready(process)
        urls = {"POINTSMAN_DATABASE_URL": server.url_of("postgres"), "POINTSMAN_REDIS_URL": cluster.url}
        for command in ("run", "api", "worker"):
            code, said = start(tmp_path, urls, command)
            assert code == CONFIG
            assert "cluster mode" in said
    finally:
        cluster.stop(process)


def test_an_api_process_on_a_free_port_says_which_and_looks_after_it(tmp_path: Path) -> None:
    """Fails when slow heads are looked for on port 0: this one is cut after ten seconds.

    It fails too when the URL is logged before it can be called.
    """
    log = tmp_path / "log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
    environment |= {
        "POINTSMAN_PORT": "0",
        "POINTSMAN_DATABASE_URL": "postgresql://u@127.0.0.1:1/x",
        "POINTSMAN_REDIS_URL": AWAY,
        "POINTSMAN_SECRET_KEYS": new_key(),
        "POINTSMAN_LOG_FORMAT": "json",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *COMMANDS["api"]], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    try:
        found = eventually(lambda: re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text()), 20, "its URL")
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=20) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\n")
            assert client.recv(1) == b""
    finally:
        process.terminate()
        assert process.wait(15) == 0


def test_without_redis_everything_starts_and_says_so(tmp_path: Path) -> None:
    environment = {"POINTSMAN_REDIS_URL": AWAY, "POINTSMAN_START_WAIT_SECONDS": "1"}
    began = time.monotonic()
    with Running(tmp_path, environment) as running:
        assert "Going on without it" in running.log()
        assert running.api.get("/readyz").is_success
    assert time.monotonic() - began < 60


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: only root can become somebody else")
def test_a_data_folder_of_another_user_is_told() -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "data")
        data.mkdir(mode=0o700)
        os.chmod(folder, 0o755)  # noqa: PTH101
        (data / "secret_keys").write_text("x")
        nobody = pwd.getpwnam("nobody")
        code, said = start(Path(folder), {}, become=as_nobody(nobody).become)
    assert code == FAILED
    assert f"sudo chown -R {nobody.pw_uid} {data}" in said
    assert "POINTSMAN_DATA_DIR" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_keys_that_do_not_fit_are_refused(tmp_path: Path, own_database_url: str, command: str) -> None:
    """Fails when such a start runs: each delivery whose secrets it cannot open fails for good."""
    urls, keys = {"POINTSMAN_DATABASE_URL": own_database_url, "POINTSMAN_REDIS_URL": AWAY}, new_key()
    assert start(tmp_path, urls, "migrate", secret_keys=keys)[0] == 0
    code, said = start(tmp_path, urls, command)
    assert code == CONFIG
    assert f"The keys do not fit the database: it needs {key_id(keys)}" in said
    assert "POINTSMAN_SECRET_KEYS" in said
    assert start(tmp_path, urls, "migrate", secret_keys=f"{new_key()},{keys}")[0] == 0


def test_a_fresh_data_folder_beside_a_database_in_use_is_refused(
    tmp_path: Path, own_database_url: str
) -> None:
    """Fails when it makes keys of its own, silently."""
    urls, keys = {"POINTSMAN_DATABASE_URL": own_database_url, "POINTSMAN_REDIS_URL": AWAY}, new_key()
    assert start(tmp_path, urls, "migrate", secret_keys=keys)[0] == 0
    for _ in range(2):
        code, said = start(tmp_path, urls, secret_keys=None)
        assert code == CONFIG
        assert f"it needs {key_id(keys)}" in said
        assert "secret_keys" in said
    assert not (tmp_path / "data" / "secret_keys").exists(), "keys that were never used are not kept"


@pytest.mark.parametrize("command", ["api", "worker"])
def test_who_began_without_postgresql_ends_when_its_keys_do_not_fit(tmp_path: Path, command: str) -> None:
    """Fails when an outage lets a process pass that would be refused without it."""
    late, log = EmbeddedPostgres(tmp_path / "late"), tmp_path / "log"
    late.prepare()
    servers = [late.spawn(subprocess.DEVNULL)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
    environment |= {"POINTSMAN_PORT": "0", "POINTSMAN_REDIS_URL": AWAY, "POINTSMAN_SECRET_KEYS": new_key()}
    environment["POINTSMAN_DATABASE_URL"] = late.url
    try:
        late.wait_ready(servers[0])
        late.ensure_database()
        upgrade(late.url, new_key())
        late.stop(servers.pop())
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *COMMANDS[command]], cwd=ROOT, env=environment, stdout=output, stderr=output
            )
        eventually(lambda: "server_not_ready" in log.read_text(), 20, "a word of the outage")
        assert process.poll() is None
        servers.append(late.spawn(subprocess.DEVNULL))
        assert process.wait(30) == CONFIG
        with closing(psycopg2.connect(late.url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM workers")
            assert cursor.fetchone() == (0,), "it never had a lease"
    finally:
        for server in servers:
            late.stop(server)
    assert "do not fit the database" in log.read_text()
