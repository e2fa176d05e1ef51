"""`pointsman admin password` on a running Pointsman: one line, a password that works, and no
session left.
"""

from __future__ import annotations

import subprocess
import sys

import httpx
import pytest

from tests.running import ADMIN, Running


def log_in(url: str, password: str) -> httpx.Response:
    body = {"email": ADMIN[0], "password": password}
    return httpx.post(f"{url}/api/v1/auth/login", json=body, trust_env=False)


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Running:
    return Running(tmp_path_factory.mktemp("own"))


def test_a_new_password_is_printed_and_ends_every_session(own: Running) -> None:
    """Fails when a log line stands between the command and whoever reads what it prints."""
    with own:
        before = log_in(own.url, ADMIN[1]).json()["token"]
        ended = subprocess.run(
            [sys.executable, "-m", "deploy.cli", "admin", "password"],
            env=own.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        email, password = ended.stdout.split()
        assert email == ADMIN[0]
        assert log_in(own.url, ADMIN[1]).status_code == 401
        assert log_in(own.url, password).status_code == 200
        me = httpx.get(
            f"{own.url}/api/v1/users/me", headers={"authorization": f"Bearer {before}"}, trust_env=False
        )
        assert me.status_code == 401
