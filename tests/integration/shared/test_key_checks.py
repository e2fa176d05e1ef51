"""Whether a start has the keys that its database needs, on a real PostgreSQL."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from migrations.migrate import current_and_head, upgrade
from shared.crypto import SecretBox, key_id, new_key
from shared.errors import ConfigError, Unavailable
from shared.keyring import checks
from shared.keyring.checks import SAMPLE_ROWS, entered, examine, refuse_misfit
from tests.world import World

ONE, TWO, OTHER = new_key(), new_key(), new_key()
ONE_ID, TWO_ID, OTHER_ID = map(key_id, (ONE, TWO, OTHER))


def sealed(plain: str, key: str = ONE) -> str:
    return SecretBox(key).encrypt(plain)


def signed(world: World, key: str, **fields: Any) -> None:
    secret = json.dumps([{"secret": sealed("whsec", key), "expiresAt": None}])
    world.rows.insert("callbacks", user_id=world.user_id, signing_secrets=secret, **fields)


def ids(world: World) -> set[str]:
    return set(dict(entered(world.cursor)))


def test_the_first_start_says_which_key_every_other_must_have(world: World) -> None:
    """Fails when a fresh data folder beside a database that is in use makes keys of its own."""
    examine(world.database_url, ONE)
    assert ids(world) == {ONE_ID}
    for _ in range(2):
        with pytest.raises(ConfigError, match=f"it needs {ONE_ID}, and here is {OTHER_ID}") as error:
            examine(world.database_url, OTHER)
    assert "POINTSMAN_SECRET_KEYS" in error.value.hint
    assert "pointsman keys forget" in error.value.hint
    assert ONE not in error.value.message + error.value.hint
    examine(world.database_url, ONE)
    assert ids(world) == {ONE_ID}


def test_a_key_that_seals_is_needed_from_then_on(world: World) -> None:
    examine(world.database_url, ONE)
    examine(world.database_url, f"{ONE},{TWO}")
    assert ids(world) == {ONE_ID}, "a key at the end seals nothing"
    examine(world.database_url, f"{TWO},{ONE}")
    assert ids(world) == {ONE_ID, TWO_ID}
    examine(world.database_url, f"{OTHER},{ONE},{TWO}")
    for keys in (ONE, TWO, f"{TWO},{ONE}"):
        with pytest.raises(ConfigError, match=OTHER_ID):
            examine(world.database_url, keys)


def test_what_is_only_looked_at_does_not_change(world: World) -> None:
    refuse_misfit(world.database_url, ONE)
    assert ids(world) == set()


@pytest.mark.parametrize("what", ["sealed", "bare"])
def test_a_database_of_an_earlier_version_is_judged_by_what_it_holds(world: World, what: str) -> None:
    """Fails when an upgrade with other keys passes, or one with the right keys does not."""
    text = sealed("whsec")
    secret = text if what == "sealed" else text.removeprefix(f"sealed:{ONE_ID}:")
    world.do("UPDATE callbacks SET signing_secrets = %s", json.dumps([{"secret": secret}]))
    world.action(config=json.dumps({"headers": {"X": sealed("y", TWO)}}))
    for check in (refuse_misfit, examine):
        with pytest.raises(ConfigError, match="do not fit"):
            check(world.database_url, OTHER)
    assert ids(world) == set()
    examine(world.database_url, f"{OTHER},{TWO},{ONE}")
    assert ids(world) == {ONE_ID, TWO_ID, OTHER_ID}, "what is needed, and what will seal"


def test_a_key_that_was_lost_before_is_asked_of_nobody(world: World) -> None:
    """Fails when one old secret decides about the whole installation."""
    signed(world, ONE)
    for _ in range(SAMPLE_ROWS // 2):
        signed(world, OTHER)
    examine(world.database_url, ONE)
    assert ids(world) == {ONE_ID}


def test_what_was_deleted_says_nothing(world: World) -> None:
    signed(world, OTHER, deleted_at="now")
    examine(world.database_url, ONE)
    assert ids(world) == {ONE_ID}


def test_callers_say_nothing_of_the_keys(world: World) -> None:
    """Fails when whoever knows a trigger URL can keep an installation from starting."""
    world.rows.insert("triggers", headers=json.dumps([["x", "sealed:deadbeef:x"], ["y", sealed("z", OTHER)]]))
    examine(world.database_url, ONE)
    assert ids(world) == {ONE_ID}


def test_of_two_first_starts_with_different_keys_one_is_refused(world: World) -> None:
    refused: list[str] = []

    def begin(key: str) -> None:
        try:
            examine(world.database_url, key)
        except ConfigError as error:
            refused.append(error.message)

    for _ in range(5):
        refused.clear()
        world.do("DELETE FROM key_checks")
        starts = [threading.Thread(target=begin, args=(new_key(),)) for _ in range(4)]
        for start in starts:
            start.start()
        for start in starts:
            start.join(20)
        assert len(refused) == 3
        assert world.rows.count("key_checks") == 1


def test_equal_starts_at_once_all_pass(world: World) -> None:
    starts = [threading.Thread(target=examine, args=(world.database_url, ONE)) for _ in range(4)]
    for start in starts:
        start.start()
    for start in starts:
        start.join(20)
    assert ids(world) == {ONE_ID}


def test_a_database_restored_from_an_older_copy_starts_with_a_ring_that_has_its_key(world: World) -> None:
    world.rows.insert("key_checks", key_id=ONE_ID, sealed=sealed(checks.FIXED_TEXT))
    examine(world.database_url, f"{TWO},{ONE}")
    assert ids(world) == {ONE_ID, TWO_ID}


def test_a_text_under_another_key_than_it_says_is_a_misfit(world: World) -> None:
    """The id alone, a fingerprint, proves nothing."""
    world.rows.insert("key_checks", key_id=ONE_ID, sealed=sealed("x", OTHER).replace(OTHER_ID, ONE_ID))
    with pytest.raises(ConfigError, match="do not fit"):
        examine(world.database_url, ONE)


def test_an_empty_database_takes_any_keys_and_remembers_nothing(empty_database_url: str) -> None:
    refuse_misfit(empty_database_url, ONE)
    examine(empty_database_url, TWO)


def test_a_migration_refuses_other_keys_before_it_begins(empty_database_url: str) -> None:
    """Fails when a later migration seals rows with keys that do not fit."""
    upgrade(empty_database_url, ONE)
    with closing(psycopg2.connect(empty_database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        assert [key for key, _ in entered(cursor)] == [ONE_ID]
        cursor.execute("UPDATE alembic_version SET version_num = '0014'")
    with pytest.raises(ConfigError, match="do not fit"):
        upgrade(empty_database_url, OTHER)
    assert current_and_head(empty_database_url)[0] == "0014"
    upgrade(empty_database_url)
    upgrade(empty_database_url, f"{TWO},{ONE}")


def test_without_postgresql_nobody_is_refused() -> None:
    """ConfigError would end a process for good amid an outage."""
    for check in (refuse_misfit, examine):
        with pytest.raises(Unavailable):
            check("postgresql://nobody@127.0.0.1:1/x", ONE)
