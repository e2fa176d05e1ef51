"""`pointsman keys` on a real PostgreSQL: what it says, does and ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli.main import main
from deploy.local.state import DataFolder
from shared import logs
from shared.crypto import SecretBox, key_id, new_key
from shared.keyring import rotation
from shared.keyring.checks import entered, examine
from shared.process import EX_CONFIG
from tests.world import World

OLD, NEW, LOST = new_key(), new_key(), new_key()
OLD_ID, NEW_ID, LOST_ID = map(key_id, (OLD, NEW, LOST))


@pytest.fixture(autouse=True)
def _logs_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command sets up the log of its process, which here is everybody's."""
    monkeypatch.setattr(logs, "configure", lambda *_: None)


class Operator:
    """Who runs commands beside an installation whose keys are in its data folder."""

    def __init__(self, world: World, folder: Path, keys: str) -> None:
        self.world, self.data = world, DataFolder(folder)
        self.data.keep_secret_keys(keys)

    def keys(self, *words: str, keys: str = "", said: str = "") -> Result:
        """Run a command. keys: in the settings."""
        environment = {"POINTSMAN_DATABASE_URL": self.world.database_url, "COLUMNS": "80"}
        environment |= {"POINTSMAN_DATA_DIR": str(self.data.folder)}
        environment |= {"POINTSMAN_SECRET_KEYS": keys} if keys else {}
        return CliRunner().invoke(main, ["keys", *words], env=environment, input=said)


@pytest.fixture
def operator(world: World, tmp_path: Path) -> Operator:
    """Two values under an old key, of two tenants' actions; the new one is in front."""
    examine(world.database_url, OLD)
    for _ in range(2):
        seal(world, OLD)
    examine(world.database_url, f"{NEW},{OLD}")
    return Operator(world, tmp_path, f"{NEW},{OLD}")


def seal(world: World, key: str) -> str:
    config = {"headers": {"X": SecretBox(key).encrypt("canary")}}
    return str(world.action(config=json.dumps(config)))


def line(ended: Result, first: str) -> list[str]:
    """The words of the line that begins so."""
    (found,) = (one.split() for one in ended.stdout.splitlines() if one.startswith(first))
    return found


def test_status_says_which_keys_are_needed_and_by_what(operator: Operator) -> None:
    ended = operator.keys("status")
    assert ended.exit_code == 0, ended.stderr
    assert line(ended, NEW_ID) == [NEW_ID, "seals", "–", "0", "in", "use"]
    assert line(ended, OLD_ID) == [OLD_ID, "opens", "actions.config", "2", "needed:", "rotate"]
    for shown in (ended.stdout, ended.stderr):
        assert not any(secret in shown for secret in ("canary", NEW, OLD))


def test_rotate_shows_how_far_it_is_and_says_when_the_old_key_may_go(operator: Operator) -> None:
    ended = operator.keys("rotate")
    assert ended.exit_code == 0, ended.stderr
    assert "round 1: actions.config: 2 rows read, 2 written" in ended.stderr
    assert f"2 rows came under key {NEW_ID}." in ended.stdout
    assert line(ended, OLD_ID) == [OLD_ID, "opens", "–", "0", "no", "longer", "needed"]
    examine(operator.world.database_url, NEW)
    again = operator.keys("rotate")
    assert (again.exit_code, "0 rows came" in again.stdout) == (0, True)


def test_a_key_that_sealed_nothing_goes_with_the_next_rotation(world: World, tmp_path: Path) -> None:
    """Fails when a key is said to be free, and the next start without it is refused."""
    for keys in (OLD, f"{NEW},{OLD}"):
        examine(world.database_url, keys)
    operator = Operator(world, tmp_path, f"{NEW},{OLD}")
    assert "free after a rotation" in " ".join(line(operator.keys("status"), OLD_ID))
    assert "no longer needed" in " ".join(line(operator.keys("rotate"), OLD_ID))
    examine(world.database_url, NEW)


def test_rotate_names_what_it_cannot_open_and_fails(operator: Operator) -> None:
    action = seal(operator.world, LOST)
    ended = operator.keys("rotate")
    assert ended.exit_code == 1
    assert line(ended, LOST_ID) == [LOST_ID, "missing", "actions.config", "1", "give", "it", "back"]
    assert "no longer needed" in " ".join(line(ended, OLD_ID))
    (said,) = (
        one for one in ended.stdout.splitlines() if one.startswith("actions.config: no key here opens 1")
    )
    assert LOST_ID in said
    assert action in said
    assert "Give its key back" in said
    given = operator.keys("rotate", keys=f"{NEW},{LOST}")
    assert given.exit_code == 0, given.stdout
    assert "1 rows came" in given.stdout


def test_what_a_tenant_only_writes_as_if_it_were_sealed_makes_no_rotation_fail(operator: Operator) -> None:
    """The key whose id the tenant names may go, also if it is one that is here."""
    for key in (OLD_ID, LOST_ID):
        config = json.dumps({"url": "http://x/", "body": f"sealed:{key}:x"})
        operator.world.action(config=config)
    ended = operator.keys("rotate")
    assert ended.exit_code == 0, ended.stdout
    assert "no longer needed" in " ".join(line(ended, OLD_ID))
    assert LOST_ID not in ended.stdout
    assert "actions.config: 2 texts only look sealed." in ended.stdout
    assert operator.keys("drop", OLD_ID).exit_code == 0


def test_a_damaged_value_is_told_from_one_whose_key_is_missing(operator: Operator) -> None:
    broken = SecretBox(OLD).encrypt("canary")[:-8]
    operator.world.action(config=json.dumps({"headers": {"X": broken}}))
    ended = operator.keys("rotate")
    assert ended.exit_code == 1
    assert "They are damaged: set these secrets again." in ended.stdout
    assert "no longer needed" in " ".join(line(ended, OLD_ID))


def test_of_lost_credentials_of_callers_nobody_is_told_to_set_them_again(operator: Operator) -> None:
    headers = json.dumps([["authorization", SecretBox(LOST).encrypt("canary")]])
    operator.world.rows.insert("triggers", headers=headers)
    ended = operator.keys("rotate")
    assert ended.exit_code == 1
    assert "they go with the calls that they came with" in ended.stdout
    assert line(ended, LOST_ID)[:4] == [LOST_ID, "missing", "triggers.headers", "1"]


def test_a_process_with_an_older_list_is_told_of(operator: Operator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotation, "MOST_ROUNDS", 1)
    ended = operator.keys("rotate")
    assert ended.exit_code == 1
    assert f"under another key than {NEW_ID}" in ended.stdout
    assert set(dict(entered(operator.world.cursor))) == {OLD_ID, NEW_ID}


def test_drop_takes_a_key_only_when_nothing_needs_it(operator: Operator) -> None:
    for key in (OLD_ID, NEW_ID):
        refused = operator.keys("drop", key)
        assert refused.exit_code == EX_CONFIG
        assert "still needed" in refused.stderr
    assert operator.keys("rotate").exit_code == 0
    assert operator.keys("drop", NEW_ID).exit_code == EX_CONFIG
    assert operator.keys("drop", "00000000").exit_code == EX_CONFIG
    assert operator.data.secret_keys() == f"{NEW},{OLD}"
    dropped = operator.keys("drop", OLD_ID)
    assert dropped.exit_code == 0, dropped.stderr
    assert operator.data.secret_keys() == NEW
    assert operator.keys("status").exit_code == 0


def test_forget_asks_first_and_then_lets_a_start_pass(operator: Operator) -> None:
    url = operator.world.database_url
    operator.data.keep_secret_keys(LOST)
    refused = operator.keys("forget", said="n\n")
    assert refused.exit_code == 1
    assert line(refused, OLD_ID) == [OLD_ID, "missing", "actions.config", "2", "give", "it", "back"]
    assert set(dict(entered(operator.world.cursor))) == {OLD_ID, NEW_ID}
    done = operator.keys("forget", said="y\n")
    assert done.exit_code == 0, done.stderr
    examine(url, LOST)
    assert set(dict(entered(operator.world.cursor))) == {LOST_ID}
    again = operator.keys("forget", "--yes")
    assert "Every key that a start needs is here" in again.stdout


def test_forget_helps_where_no_start_has_entered_its_keys(world: World, tmp_path: Path) -> None:
    """A database of an earlier version, whose only key is lost."""
    seal(world, LOST)
    assert Operator(world, tmp_path, NEW).keys("forget", "--yes").exit_code == 0
    examine(world.database_url, NEW)
