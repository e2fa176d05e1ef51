"""`pointsman keys` where it needs no database."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli.main import main
from deploy.local.state import DataFolder
from shared import logs
from shared.crypto import SecretBox, key_id, new_key
from shared.process import EX_CONFIG

OLD = new_key()


@pytest.fixture(autouse=True)
def _logs_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command sets up the log of its process, which here is everybody's."""
    monkeypatch.setattr(logs, "configure", lambda *_: None)


def run(folder: Path, *words: str, **environment: str) -> Result:
    settings = {"POINTSMAN_DATA_DIR": str(folder), **environment}
    return CliRunner().invoke(main, ["keys", *words], env=settings)


def test_a_new_key_is_printed_and_can_be_used(tmp_path: Path) -> None:
    ended = run(tmp_path, "new")
    assert ended.exit_code == 0
    assert len(SecretBox(ended.stdout.strip()).key_ids) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_new_key_comes_in_front_of_those_that_a_run_keeps(tmp_path: Path) -> None:
    data = DataFolder(tmp_path)
    data.keep_secret_keys(OLD)
    ended = run(tmp_path, "new", "--add")
    assert ended.exit_code == 0, ended.stderr
    new, old = data.secret_keys().split(",")
    assert old == OLD
    assert key_id(new) in ended.stdout
    assert new not in ended.stdout, "a key that is kept need not be shown"
    assert "keys rotate" in ended.stdout


def test_no_key_is_added_beside_a_running_pointsman(tmp_path: Path) -> None:
    """Fails when a rotation could follow with a key that its processes do not know."""
    data = DataFolder(tmp_path)
    data.keep_secret_keys(OLD)
    data.take("http://running")
    ended = run(tmp_path, "new", "--add")
    assert ended.exit_code == 1
    assert "http://running" in ended.stderr
    assert data.secret_keys() == OLD


@pytest.mark.parametrize("words", [("new", "--add"), ("drop", key_id(OLD))])
def test_keys_of_the_settings_are_the_operators_to_change(tmp_path: Path, words: tuple[str, ...]) -> None:
    settings = {"POINTSMAN_SECRET_KEYS": OLD, "POINTSMAN_DATABASE_URL": "postgresql://u@127.0.0.1:1/x"}
    ended = run(tmp_path, *words, **settings)
    assert ended.exit_code == EX_CONFIG
    assert "POINTSMAN_SECRET_KEYS, which no command can change" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("status",), ("rotate",), ("forget", "--yes"), ("new", "--add")])
def test_without_keys_nothing_is_made(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Fails when a look at an outside database leaves new keys behind."""
    ended = run(tmp_path, *words, POINTSMAN_DATABASE_URL="postgresql://u@127.0.0.1:1/x")
    assert ended.exit_code == EX_CONFIG
    assert "No encryption keys are known here" in ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [("status",), ("rotate",), ("drop", key_id(OLD)), ("forget", "--yes")])
def test_without_a_running_pointsman_it_says_how_to_start_one(tmp_path: Path, words: tuple[str, ...]) -> None:
    DataFolder(tmp_path).keep_secret_keys(OLD)
    ended = run(tmp_path, *words)
    assert ended.exit_code == 1
    assert "make run" in ended.stderr


def test_every_command_says_what_it_does() -> None:
    shown = CliRunner().invoke(main, ["keys", "--help"]).stdout
    for command in ("drop", "forget", "new", "rotate", "status"):
        assert any(line.split()[:1] == [command] and len(line.split()) > 3 for line in shown.splitlines()), (
            command
        )
