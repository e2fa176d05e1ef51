"""A PgBouncer in front of a PostgreSQL, where the machine has the program."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.local.ports import free_port
from tests.running import eventually

# Debian puts it where the paths of ordinary users do not lead.
PATHS = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"


@contextmanager
def pgbouncer(url: str, options: Mapping[str, str] | None = None) -> Iterator[str]:
    """The URL of the same database through PgBouncer; its defaults, but for these options.

    It does not run as root, so that it gets a folder outside those of pytest, which only root
    enters.
    """
    program = shutil.which("pgbouncer", path=PATHS)
    if program is None:
        pytest.skip("NOT TESTED: PgBouncer is not installed")
    parts, port = urlsplit(url), free_port()
    settings = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "any",
        **(options or {}),
    }
    lines = [
        "[databases]",
        f"* = host={parts.hostname} port={parts.port} user={parts.username} password={parts.password}",
        "[pgbouncer]",
        *(f"{name} = {value}" for name, value in settings.items()),
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pgbouncer.ini")
        file.write_text("\n".join(lines))
        user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        if user is not None:
            os.chown(folder, user, -1)
            os.chown(file, user, -1)
        process = subprocess.Popen(
            [program, "--quiet", str(file)], stderr=subprocess.DEVNULL, user=user, cwd=folder
        )
        try:
            eventually(lambda: _answers(port), 10, "PgBouncer")
            yield parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}").geturl()
        finally:
            process.terminate()
            process.wait(10)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
