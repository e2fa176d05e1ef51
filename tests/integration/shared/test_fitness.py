"""What is said of a PostgreSQL or a Redis that does not fit, on real servers and a real pooler."""

from __future__ import annotations

import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg2
import pytest
import redis
from psycopg2 import sql
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from deploy.local.postgres import EmbeddedPostgres
from deploy.local.valkey import EmbeddedValkey
from migrations.migrate import upgrade
from shared.errors import ConfigError, ServerRefuses, Unavailable
from shared.postgres import fitness
from shared.postgres.connections import NotConnected, OwnedConnection, connect, open_database
from shared.postgres.group_commit import is_content_error
from shared.postgres.sessions import SharedSession
from shared.postgres.statements import PLANNED_ONCE
from shared.redis import fitness as redis_fitness
from tests.benchmarks.certificates import Identity, make_identity
from tests.peers.pgbouncer import pgbouncer
from tests.peers.refusing_postgres import refusing_postgres

POOLS = [
    {"pool_mode": "transaction"},
    {"pool_mode": "transaction", "server_round_robin": "1", "min_pool_size": "5"},
    {"pool_mode": "transaction", "default_pool_size": "1"},
    {"pool_mode": "statement"},
]


class TestPooler:
    def test_session_mode_does_with_the_poolers_defaults(self, own_database_url: str) -> None:
        """Fails when a startup parameter is sent that PgBouncer does not know, such as options."""
        with pgbouncer(own_database_url) as url:
            fitness.examine(url)
            upgrade(url)
            owned = OwnedConnection(url, "record", call_seconds=3, autocommit=True, settings=PLANNED_ONCE)
            with owned.get().cursor() as cursor:
                names = ("plan_cache_mode", "enable_seqscan", "statement_timeout", "timezone")
                found = []
                for name in names:
                    cursor.execute(f"SHOW {name}")
                    found.append(cursor.fetchone()[0])
            owned.close()
        assert found == ["force_generic_plan", "off", "3s", "UTC"]

    @pytest.mark.parametrize("options", POOLS, ids=lambda options: "-".join(options.values()))
    def test_other_modes_are_noticed(self, own_database_url: str, options: dict[str, str]) -> None:
        with pgbouncer(own_database_url, options) as url:
            for _ in range(5):
                with pytest.raises(ConfigError, match="several clients") as error:
                    fitness.examine(url)
                assert "pool_mode=session" in error.value.hint

    def test_transaction_mode_is_noticed_beside_other_clients(self, own_database_url: str) -> None:
        """Fails when the check relies on nobody else taking what it leaves free."""
        stop = threading.Event()

        def work() -> None:
            with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
                connection.autocommit = True
                while not stop.is_set():
                    cursor.execute("SELECT pg_sleep(0.002)")

        with pgbouncer(own_database_url, {"pool_mode": "transaction"}) as url:
            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            try:
                for _ in range(5):
                    with pytest.raises(ConfigError, match="several clients"):
                        fitness.examine(url)
            finally:
                stop.set()
                for thread in threads:
                    thread.join(10)

    def test_a_session_that_is_not_its_own_is_not_used(self, own_database_url: str) -> None:
        """A pool that goes round its servers forgets at once what was set."""
        options = {"pool_mode": "transaction", "server_round_robin": "1", "min_pool_size": "5"}
        with pgbouncer(own_database_url, options) as url:
            crowd = [psycopg2.connect(url) for _ in range(3)]
            for one in crowd:
                one.cursor().execute("SELECT 1")  # each in a transaction: so many servers
            for one in crowd:
                one.rollback()
                one.close()
            with pytest.raises(SharedSession):
                connect(url, "test", call_seconds=3)


def maintain(server: EmbeddedPostgres, *statements: str) -> None:
    with closing(psycopg2.connect(server.url_of("postgres"))) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        for statement in statements:
            cursor.execute(statement)


@contextmanager
def database(server: EmbeddedPostgres, how: str) -> Iterator[str]:
    name = f"unfit_{uuid.uuid4().hex[:8]}"
    maintain(server, f"CREATE DATABASE {name} {how}")
    try:
        yield name
    finally:
        maintain(server, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def role(server: EmbeddedPostgres, how: str = "LOGIN PASSWORD 'x'") -> Iterator[str]:
    name = f"role_{uuid.uuid4().hex[:8]}"
    maintain(server, f"CREATE ROLE {name} {how}")
    try:
        yield name
    finally:
        maintain(server, f"DROP OWNED BY {name}; DROP ROLE {name}")


def url_as(server: EmbeddedPostgres, user: str, name: str) -> str:
    return server.url_of(name).replace(f"//pointsman:{server.password}@", f"//{user}:x@")


class TestDatabase:
    @pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
    def test_an_encoding_other_than_utf8_is_refused(self, server: EmbeddedPostgres, encoding: str) -> None:
        how = f"ENCODING '{encoding}' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
        with database(server, how) as name, pytest.raises(ConfigError, match=encoding) as error:
            fitness.examine(server.url_of(name))
        assert not isinstance(error.value, ServerRefuses), "no waiting and no right helps"
        another = f"{name}_utf8"
        try:
            maintain(server, error.value.hint.removeprefix("Make another: "))
            fitness.examine(server.url_of(another))
        finally:
            maintain(server, f"DROP DATABASE IF EXISTS {another}")

    def test_a_database_that_is_missing_can_be_made_as_told(self, server: EmbeddedPostgres) -> None:
        name = f"missing_{uuid.uuid4().hex[:8]}"
        with pytest.raises(ServerRefuses, match="lets nobody in") as error:
            fitness.examine(server.url_of(name))
        try:
            maintain(server, error.value.hint)
            fitness.examine(server.url_of(name))
        finally:
            maintain(server, f"DROP DATABASE IF EXISTS {name}")

    @pytest.mark.parametrize(
        "options",
        [
            "-c nonsense=1",
            "-c work_mem=lots",
            "-c work_mem",
            "-c work_mem=1kB",
            "-c DateStyle=sometimes",
            "-c shared_buffers=1GB",
            "-c log_disconnections=on",
            "-Q",
            "garbage",
        ],
    )
    def test_options_that_postgresql_refuses_are_not_waited_for(
        self, server: EmbeddedPostgres, options: str
    ) -> None:
        with role(server) as user, pytest.raises(ConfigError, match="POINTSMAN_DATABASE_URL") as error:
            fitness.examine(f"{url_as(server, user, 'postgres')}?options={quote(options)}")
        assert not isinstance(error.value, ServerRefuses)
        assert "options" in error.value.hint

    def test_what_is_said_of_a_role_without_rights_is_what_helps(self, server: EmbeddedPostgres) -> None:
        with database(server, "") as name, role(server) as user:
            with pytest.raises(ServerRefuses, match=f"{user} may make no tables") as error:
                fitness.examine(url_as(server, user, name))
            with closing(psycopg2.connect(server.url_of(name))) as connection:
                connection.autocommit = True
                connection.cursor().execute(error.value.hint)
            fitness.examine(url_as(server, user, name))
            upgrade(url_as(server, user, name))
            with closing(psycopg2.connect(server.url_of(name))) as connection:
                connection.autocommit = True
                connection.cursor().execute(f"DROP OWNED BY {user}")

    def test_tables_of_another_role_are_named(self, server: EmbeddedPostgres, own_database_url: str) -> None:
        name = own_database_url.rpartition("/")[2]
        with role(server) as user:
            with closing(psycopg2.connect(own_database_url)) as connection:
                connection.autocommit = True
                connection.cursor().execute(f"GRANT CREATE ON SCHEMA public TO {user}")
            with pytest.raises(ServerRefuses, match="belong to the role pointsman") as error:
                fitness.examine(url_as(server, user, name))
            assert error.value.hint == f"GRANT pointsman TO {user};"
            with closing(psycopg2.connect(own_database_url)) as connection:
                connection.autocommit = True
                connection.cursor().execute(f"DROP OWNED BY {user}")

    def test_a_right_that_is_missing_in_the_middle_is_no_traceback(self, server: EmbeddedPostgres) -> None:
        with database(server, "") as name, role(server) as user, pytest.raises(ServerRefuses) as error:
            upgrade(url_as(server, user, name))
        assert "GRANT" in error.value.hint

    def test_a_role_without_a_schema_is_told(self, server: EmbeddedPostgres) -> None:
        with database(server, "") as name, role(server) as user:
            with closing(psycopg2.connect(server.url_of(name))) as connection:
                connection.autocommit = True
                connection.cursor().execute("REVOKE ALL ON SCHEMA public FROM public")
            with pytest.raises(ServerRefuses, match="no schema to work in") as error:
                fitness.examine(url_as(server, user, name))
            assert user in error.value.hint

    @pytest.mark.parametrize(
        ("change", "helps"),
        [
            (lambda url: url + "_not", "CREATE DATABASE"),
            (lambda url: url.replace("//pointsman:", "//nobody:"), "POINTSMAN_DATABASE_URL"),
            (lambda url: url.replace("@", "wrong@"), "POINTSMAN_DATABASE_URL"),
        ],
        ids=["no such database", "no such role", "wrong password"],
    )
    def test_who_is_not_let_in_is_told_at_once(
        self, server: EmbeddedPostgres, change: Callable[[str], str], helps: str
    ) -> None:
        with pytest.raises(ServerRefuses, match="lets nobody in") as error:
            fitness.examine(change(server.url_of("postgres")))
        assert helps in error.value.hint
        assert server.password not in error.value.message + error.value.hint

    def test_a_database_that_may_not_be_entered_names_the_grant(self, server: EmbeddedPostgres) -> None:
        with database(server, "") as name, role(server) as user:
            maintain(server, f"REVOKE CONNECT ON DATABASE {name} FROM public")
            with pytest.raises(ServerRefuses) as error:
                fitness.examine(url_as(server, user, name))
            assert error.value.hint == f"GRANT CONNECT ON DATABASE {name} TO {user};"
            maintain(server, error.value.hint)

    @pytest.mark.parametrize(
        ("url", "named"),
        [
            ("postgresql://u@127.0.0.1:1/x", "Connection refused"),
            ("postgresql://u@no-such-host.invalid/x", "no-such-host.invalid"),
            ("postgresql://u@127.0.0.1:1,127.0.0.1:2/x", "port 2"),
            ("postgresql://u@/x?host=/no/such/folder", "/no/such/folder"),
        ],
    )
    def test_a_server_that_is_away_may_be_waited_for(self, url: str, named: str) -> None:
        with pytest.raises(Unavailable, match="PostgreSQL is not there") as error:
            fitness.examine(url)
        assert named in error.value.message
        assert "\n" not in error.value.message

    @pytest.mark.parametrize("query", ["sslmode=bogus", "target_session_attrs=bogus"])
    def test_a_value_that_libpq_refuses_is_not_waited_for(self, server: EmbeddedPostgres, query: str) -> None:
        with pytest.raises(ConfigError, match="POINTSMAN_DATABASE_URL"):
            fitness.examine(f"{server.url}?{query}")


LAST_WORDS = [
    (b"FATAL", "das Datenbanksystem fährt herunter".encode("latin-1")),
    (b"FATALE", "le système de base de données est en cours de démarrage".encode("latin-1")),
    ("ВАЖНО".encode("cp1251"), "система баз данных останавливается".encode("cp1251")),
]


class TestBeforeTheLogin:
    """A server says what it has to say in its own encoding, until it knows who comes."""

    @pytest.mark.parametrize(("severity", "message"), LAST_WORDS)
    def test_any_encoding_is_a_server_that_is_away(self, severity: bytes, message: bytes) -> None:
        """Fails as a row that PostgreSQL refuses, since UnicodeDecodeError is a ValueError."""
        with refusing_postgres(severity, message) as url:
            owned = OwnedConnection(url, "test", call_seconds=3)
            with pytest.raises(NotConnected) as lost:
                owned.get()
            assert not is_content_error(lost.value)
            with pytest.raises(Unavailable, match="PostgreSQL is not there"):
                fitness.examine(url)
            pool = open_database(url, "test", pool_size=1)
            with pytest.raises(OperationalError):
                pool.connect()
            pool.dispose()


@pytest.fixture(scope="module")
def by_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedPostgres]:
    folder = tmp_path_factory.mktemp("s")
    options = {"unix_socket_directories": "/tmp", "fsync": "off"}
    made = EmbeddedPostgres(folder / "server", options=options)
    made.prepare()
    process = made.spawn(subprocess.DEVNULL)
    try:
        made.wait_ready(process)
        made.ensure_database()
        yield made
    finally:
        made.stop(process)


class TestAddresses:
    """Each works for a session of ours, for the pool and for the migrations."""

    @pytest.mark.parametrize(
        "form",
        [
            "postgresql://pointsman:{password}@%2Ftmp:{port}/pointsman",
            "postgresql://pointsman:{password}@:{port}/pointsman?host=/tmp",
            "postgresql://pointsman:{password}@127.0.0.1:1,127.0.0.1:{port}/pointsman",
            "postgresql://pointsman:{password}@127.0.0.1:{port}/pointsman?sslmode=prefer",
            "postgresql://pointsman:{password}@127.0.0.1:{port}/pointsman?options=-c%20work_mem%3D9MB",
        ],
        ids=["encoded folder", "folder", "two hosts", "sslmode", "options"],
    )
    def test_everybody_reads_it_alike(self, by_socket: EmbeddedPostgres, form: str) -> None:
        url = form.format(password=by_socket.password, port=by_socket.port)
        fitness.examine(url)
        upgrade(url)
        with closing(connect(url, "test", call_seconds=5)) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW work_mem")
            assert cursor.fetchone()[0] == ("9MB" if "work_mem" in url else "4MB")
        pool = open_database(url, "test", pool_size=1)
        with pool.connect() as pooled:
            assert pooled.scalar(text("SHOW work_mem")) == ("9MB" if "work_mem" in url else "4MB")
        pool.dispose()


@pytest.fixture(scope="module")
def by_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmbeddedPostgres, Identity]]:
    """Another PostgreSQL: the embedded one is built without TLS."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs:
        pytest.skip("NOT TESTED: TLS needs a PostgreSQL of the system's (Debian's postgresql)")
    folder = tmp_path_factory.mktemp("tls")
    identity = make_identity(folder)
    identity.key.chmod(0o600)
    options = {"ssl": "on", "ssl_cert_file": str(identity.certificate), "ssl_key_file": str(identity.key)}
    made = EmbeddedPostgres(folder / "server", options=options, binaries=programs[-1].parent)
    made.prepare()
    process = made.spawn(subprocess.DEVNULL)
    try:
        made.wait_ready(process)
        made.ensure_database()
        yield made, identity
    finally:
        made.stop(process)


def test_tls_is_spoken_as_the_url_says(by_tls: tuple[EmbeddedPostgres, Identity], tmp_path: Path) -> None:
    server, identity = by_tls
    verified = f"{server.url}?sslmode=verify-full&sslrootcert={identity.authority}"
    for url in (verified, f"{server.url}?sslmode=require"):
        fitness.examine(url)
        upgrade(url)
        pool = open_database(url, "test", pool_size=1)
        with pool.connect() as pooled:
            asked = text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            assert pooled.scalar(asked) is True
        pool.dispose()
    (tmp_path / "another").mkdir()
    another = make_identity(tmp_path / "another")
    for wrong in (
        verified.replace("127.0.0.1", "localhost"),
        verified.replace(str(identity.authority), str(another.authority)),
    ):
        with pytest.raises(Unavailable):
            fitness.examine(wrong)
    with pytest.raises(ConfigError, match="root certificate file"):
        fitness.examine(verified.replace("authority.pem", "none.pem"))


def command(url: str, text: str) -> None:
    with closing(redis.Redis.from_url(url)) as client:
        client.execute_command(*text.split())  # type: ignore[no-untyped-call]


def rights(valkey: EmbeddedValkey, rules: str) -> str:
    """A user with these rights; the URL by which it comes."""
    command(valkey.url, "ACL SETUSER bob reset on >pw " + rules)
    return valkey.url.replace(f"//:{valkey.password}@", "//bob:pw@")


class TestRedis:
    def test_a_redis_that_fits_is_left_as_it_was(self, redis_url: str) -> None:
        redis_fitness.examine(redis_url)
        with closing(redis.Redis.from_url(redis_url)) as client:
            assert client.keys("*") == [b"pointsman:check"]

    @pytest.mark.parametrize(
        "rules",
        [
            "~other:* &* +@all",
            "~pointsman:* +@all",
            "~* &* +@read",
            "~* &* +@all -brpop",
            "~* &* +@all -evalsha",
        ],
    )
    def test_a_user_without_a_right_is_named_with_what_helps(
        self, valkey: EmbeddedValkey, redis_url: str, rules: str
    ) -> None:
        url = rights(valkey, rules)
        with pytest.raises(ServerRefuses, match="The user bob of Redis") as error:
            redis_fitness.examine(url)
        command(redis_url, error.value.hint.partition(" gives")[0])
        redis_fitness.examine(url)

    @pytest.mark.parametrize("login", [":wrong", "nobody:x", ""])
    def test_who_is_not_let_in_is_told(self, valkey: EmbeddedValkey, login: str) -> None:
        with pytest.raises(ServerRefuses, match="lets nobody in") as error:
            redis_fitness.examine(valkey.url.replace(f":{valkey.password}", login))
        assert "POINTSMAN_REDIS_URL" in error.value.hint

    def test_cluster_mode_is_refused_by_name(self, tmp_path: Path) -> None:
        valkey = EmbeddedValkey(tmp_path / "valkey", options={"cluster-enabled": "yes"})
        valkey.prepare()
        process = valkey.spawn(subprocess.DEVNULL)
        try:
            valkey.wait_ready(process)
            with pytest.raises(ConfigError, match="cluster mode"):
                redis_fitness.examine(valkey.url)
        finally:
            valkey.stop(process)

    @pytest.mark.parametrize(
        "url", ["redis://127.0.0.1:1/0", "redis://no-such-host.invalid/0", "unix:///no/such.sock"]
    )
    def test_a_redis_that_is_away_may_be_waited_for(self, url: str) -> None:
        with pytest.raises(Unavailable, match="Redis is not ready"):
            redis_fitness.examine(url)


def test_names_are_quoted_only_where_they_must_be(server: EmbeddedPostgres) -> None:
    """So that the statement that is said to help can be pasted."""
    for name in ("plain", "Odd", "odd-name", 'a"b'):
        with closing(psycopg2.connect(server.url_of("postgres"))) as connection:
            expected: Any = sql.Identifier(name).as_string(connection)
        assert fitness._quoted(name) in (name, expected)
    assert fitness._quoted("plain") == "plain"
    assert fitness._quoted("Odd") == '"Odd"'
