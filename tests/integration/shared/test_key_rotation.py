"""Everything that is sealed comes under the newest key, on a real PostgreSQL."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from shared.crypto import SecretBox, key_id, new_key
from shared.errors import ConfigError, Unavailable
from shared.ids import first_id_of, new_id
from shared.keyring import rotation
from shared.keyring.checks import FIXED_TEXT, entered
from shared.keyring.columns import CHUNK_BYTES, PORTION_ROWS, Renewal, SealedColumn, sealed_columns
from shared.keyring.rotation import MOST_ROUNDS, rotate, survey
from shared.keyring.survey import NAMED_ROWS, RoundProgress, Survey
from shared.keyring.texts import NAMED, UNNAMED
from shared.models.sealed import SEALED
from shared.postgres import connections
from tests.running import eventually
from tests.world import World

ROOT = Path(__file__).parents[3]
STALE_SECONDS = 20.0
OLD, NEW, STRANGE = new_key(), new_key(), new_key()
OLD_ID, NEW_ID, STRANGE_ID = map(key_id, (OLD, NEW, STRANGE))
BOX = SecretBox(f"{NEW},{OLD}")
HEADERS = ("triggers", "headers")


def turn(world: World, box: SecretBox = BOX, **more: Any) -> Survey:
    return rotate(world.database_url, box, STALE_SECONDS, **more)


def sealed(plain: str, key: str = OLD) -> str:
    return SecretBox(key).encrypt(plain)


def in_shape(world: World, table: str, column: str, *texts: str) -> str:
    """A value for this column that holds these texts."""
    ((kind,),) = world.ask(
        "SELECT data_type FROM information_schema.columns WHERE table_name = %s AND column_name = %s",
        table,
        column,
    )
    return (
        f"https://x.example {texts[0]}"
        if kind == "text"
        else json.dumps({"deep": [{"in": one} for one in texts]})
    )


def stored(world: World, table: str, column: str) -> list[str]:
    return [
        text for (text,) in world.ask(f'SELECT "{column}"::text FROM "{table}" WHERE "{column}" IS NOT NULL')
    ]


def opened(text: str, key: str = NEW) -> list[str]:
    """What the sealed texts in a value say, with this key alone."""
    box = SecretBox(key)
    return [box.decrypt(found.group()) for found in NAMED.finditer(text)]


def all_but(world: World, table: str, column: str) -> list[Any]:
    return world.ask(f'SELECT to_jsonb(t) - %s AS rest FROM "{table}" t ORDER BY rest', column)


@pytest.mark.parametrize(("table", "column"), SEALED, ids=map(".".join, SEALED))
def test_every_sealed_column_is_rotated_and_nothing_else_changes(
    world: World, stranger: World, table: str, column: str
) -> None:
    """Fails when a column of the registry needs code of its own and has none."""
    for one in (world, stranger):
        texts = [sealed(f"{one.user_id} {n}") for n in range(2)]
        world.rows.insert(table, **{column: in_shape(world, table, column, *texts)})
    before, rest = stored(world, table, column), all_but(world, table, column)
    wanted = [secret for text in before for secret in opened(text, OLD)]
    assert len(wanted) >= 2

    found = turn(world)

    after = stored(world, table, column)
    assert sorted(secret for text in after for secret in opened(text)) == sorted(wanted)
    assert [NAMED.sub("", text) for text in after] == [NAMED.sub("", text) for text in before]
    assert all_but(world, table, column) == rest, "not even its updated_at"
    assert found.renewed == 2
    assert found.opened == {(NEW_ID, f"{table}.{column}"): len(wanted)}
    assert (found.closed, found.left, found.unreadable) == ({}, 0, 0)


def test_ciphertexts_of_earlier_versions_are_rotated(world: World) -> None:
    def bare(plain: str) -> str:
        return Fernet(OLD.encode()).encrypt(plain.encode()).decode()

    secrets = json.dumps([{"secret": bare("whsec_a"), "expiresAt": None}, {"secret": sealed("whsec_b")}])
    world.do(
        "UPDATE callbacks SET signing_secrets = %s, callback_url = %s", secrets, f"http://x {bare('/a')}"
    )
    world.do("UPDATE users SET secret = %s", bare("totp"))
    somebody_elses = json.dumps({"url": "http://x/", "body": {"secret": bare("not ours")}})
    world.action(config=somebody_elses)

    found = turn(world)

    assert opened(stored(world, "callbacks", "signing_secrets")[0]) == ["whsec_a", "whsec_b"]
    assert opened(stored(world, "callbacks", "callback_url")[0]) == ["/a"]
    assert opened(stored(world, "users", "secret")[0]) == ["totp"]
    assert json.loads(stored(world, "actions", "config")[0]) == json.loads(somebody_elses)
    assert found.opened.total() == 4


def test_what_no_key_opens_stays_and_is_named(world: World, stranger: World) -> None:
    """Fails when one lost secret stops a rotation, is hidden, or is made worse."""
    lost = sealed("lost", STRANGE)
    action = world.action(config=json.dumps({"headers": {"X-Lost": lost, "X-Kept": sealed("kept")}}))
    strange = Fernet(STRANGE.encode()).encrypt(b"bare").decode()
    world.do("UPDATE users SET secret = %s WHERE id = %s", strange, world.user_id)

    for _ in range(2):
        found = turn(world)
        ((config,),) = world.ask("SELECT config FROM actions WHERE id = %s", action)
        assert config["headers"]["X-Lost"] == lost
        assert opened(config["headers"]["X-Kept"]) == ["kept"]
        assert world.ask("SELECT secret FROM users WHERE id = %s", world.user_id) == [(strange,)]
        assert found.closed == {
            (STRANGE_ID, "actions.config"): 1,
            (UNNAMED, "users.secret"): 1,
        }
        assert found.unreadable == 2
        assert found.rows == {
            (STRANGE_ID, "actions.config"): [str(action)],
            (UNNAMED, "users.secret"): [str(world.user_id)],
        }
        assert found.missing(BOX) == {STRANGE_ID}


def test_what_a_tenant_only_writes_as_if_it_were_sealed_is_nobodys_loss(
    world: World, stranger: World
) -> None:
    """Fails when a tenant can make every rotation end with an error, ask for a key that has leaked,
    or hide what really is lost behind what it writes.
    """
    lookalike = f"sealed:{STRANGE_ID}:a-tenant_wrote=this"
    configs = {
        "HTTP_POST": [{"url": "http://x/", "body": lookalike}, {"form": {lookalike: lookalike}}],
        "STORE": [{"value": {"headers": {"X": lookalike}}}, {"key": lookalike}] * NAMED_ROWS,
    }
    for kind, listed in configs.items():
        for config in listed:
            world.action(type=kind, config=json.dumps(config))
    meta = {"kind": "oauth2", "tokenUrl": "https://x.example/", "clientId": lookalike, "scope": lookalike}
    world.rows.insert(
        "service_credentials",
        user_id=world.user_id,
        provider="GENERIC",
        meta=json.dumps(meta),
        secret=sealed("s"),
    )
    kept = stranger.action(config=json.dumps({"headers": {"X": sealed("kept")}, "body": lookalike}))
    lost = stranger.action(config=json.dumps({"headers": {"X": sealed("lost", STRANGE)}}))
    before = stored(world, "service_credentials", "meta")

    found = turn(world)

    assert found.closed == {(STRANGE_ID, "actions.config"): 1}
    assert found.rows == {(STRANGE_ID, "actions.config"): [str(lost)]}
    assert found.lookalikes == {
        "actions.config": 2 * NAMED_ROWS + 4,
        "service_credentials.meta": 2,
    }
    assert stored(world, "service_credentials", "meta") == before
    ((config,),) = world.ask("SELECT config FROM actions WHERE id = %s", kept)
    assert (opened(config["headers"]["X"]), config["body"]) == (["kept"], lookalike)
    stranger.do("DELETE FROM actions WHERE id = %s", lost)
    again = turn(world)
    assert (again.unreadable, again.missing(BOX), again.needed(BOX)) == (0, set(), {NEW_ID})


def test_what_is_sealed_within_a_probe_comes_under_the_newest_key_too(world: World, stranger: World) -> None:
    """Fails when an old key is said to be free, and a probe that waits needs it."""
    for one in (world, stranger):
        request = json.dumps({"headers": [["authorization", sealed(f"Bearer {one.user_id}")]]})
        one.rows.insert("probes", user_id=one.user_id, request=sealed(request, NEW))

    found = turn(world)

    (within,) = {
        NAMED.sub("", text) for outer in stored(world, "probes", "request") for text in opened(outer)
    }
    assert within == '{"headers": [["authorization", ""]]}'
    said = [
        secret
        for outer in stored(world, "probes", "request")
        for text in opened(outer)
        for secret in opened(text)
    ]
    assert sorted(said) == sorted(f"Bearer {one.user_id}" for one in (world, stranger))
    assert found.opened == {(NEW_ID, "probes.request"): 4}


def test_long_values_are_not_held_all_at_once(world: World) -> None:
    """Fails when a tenant can make a statement so long that PostgreSQL refuses it, for ever."""
    rows, length = 60, 256 * 1024
    world.do(
        "INSERT INTO actions (id, callback_id, user_id, type, config) SELECT gen_random_uuid(), %s, %s, 'HTTP_POST',"
        " jsonb_build_object('headers', jsonb_build_object('X', %s), 'body', repeat('x', %s) || n)"
        " FROM generate_series(1, %s) n",
        world.callback_id,
        world.user_id,
        sealed("hidden"),
        length,
        rows,
    )
    tracemalloc.start()
    try:
        found = turn(world)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.opened == {(NEW_ID, "actions.config"): rows}
    assert rows * length > 3 * CHUNK_BYTES
    assert most < 6 * CHUNK_BYTES, "as it was, as it becomes, and both in a statement"


def test_a_value_longer_than_a_portion_may_be_is_rotated_by_itself(world: World) -> None:
    for body in ("x" * 2 * CHUNK_BYTES, "short", "y" * 2 * CHUNK_BYTES):
        world.action(config=json.dumps({"headers": {"X": sealed("hidden")}, "body": body}))
    found = turn(world)
    assert found.opened == {(NEW_ID, "actions.config"): 3}
    lengths = world.ask("SELECT length(config->>'body') FROM actions ORDER BY id")
    assert lengths == [(2 * CHUNK_BYTES,), (5,), (2 * CHUNK_BYTES,)]


def test_rows_of_every_portion_are_rotated(world: World) -> None:
    """Keys of several parts, and more rows than two portions have."""
    rows = 2 * PORTION_ROWS + 1
    world.do(
        "INSERT INTO kept_answers (user_id, method, path, key, request_hash, status, answer, expires_at)"
        " SELECT %s, CASE WHEN n %% 2 = 0 THEN 'POST' ELSE 'PUT' END, '/' || n %% 7, n::text, '', 200, %s, now()"
        " FROM generate_series(1, %s) n",
        world.user_id,
        sealed("answer"),
        rows,
    )
    world.do(
        "INSERT INTO actions (id, callback_id, user_id, type, config) SELECT gen_random_uuid(), %s, %s, 'HTTP_POST',"
        " CASE WHEN n %% 3 = 0 THEN jsonb_build_object('url', %s) ELSE '{}' END FROM generate_series(1, %s) n",
        world.callback_id,
        world.user_id,
        f"http://x {sealed('/path')}",
        rows,
    )
    steps: list[RoundProgress] = []

    found = turn(world, told=steps.append)

    assert found.renewed == rows + rows // 3
    assert found.opened == {(NEW_ID, "kept_answers.answer"): rows, (NEW_ID, "actions.config"): rows // 3}
    assert {secret for text in stored(world, "kept_answers", "answer") for secret in opened(text)} == {
        "answer"
    }
    told = [step for step in steps if (step.number, step.column) == (1, "kept_answers.answer")]
    assert [step.read for step in told] == [PORTION_ROWS, 2 * PORTION_ROWS, rows]
    assert [step.is_over for step in told] == [False, False, True]
    assert told[-1].renewed == rows


def at_day(world: World, days_back: int, **fields: Any) -> str:
    ((moment,),) = world.ask("SELECT now() - make_interval(days => %s)", days_back)
    trigger_id = str(first_id_of(moment))[:-12] + str(new_id())[-12:]
    return str(world.rows.insert("triggers", id=trigger_id, **fields)["id"])


def test_partitions_are_walked_and_what_callers_sent_is_left_to_them(world: World) -> None:
    """Fails when whoever knows a trigger URL can make every rotation end with an error."""
    made_up = [[f"x-{named}", f"sealed:{named}:nonsense"] for named in (STRANGE_ID, OLD_ID, NEW_ID)]
    ids = [
        at_day(world, back, headers=json.dumps([["authorization", sealed(f"secret {back}")], *made_up]))
        for back in (1, 0, 0)
    ]
    rest = all_but(world, *HEADERS)

    found = turn(world)

    headers = dict(world.ask("SELECT id::text, headers FROM triggers"))
    assert [opened(headers[one][0][1]) for one in ids] == [["secret 1"], ["secret 0"], ["secret 0"]]
    assert all(headers[one][1:] == made_up for one in ids)
    assert all_but(world, *HEADERS) == rest
    assert found.lookalikes == {"triggers.headers": 9}
    assert (found.unreadable, found.missing(BOX)) == (0, set())
    assert found.needed(BOX) == {NEW_ID}


def test_a_credential_of_a_caller_that_no_key_opens_is_told(world: World) -> None:
    """Fails when what really is lost passes for what anybody may have sent."""
    lost = [
        at_day(world, back, headers=json.dumps([["cookie", sealed("lost", STRANGE)], ["x", "y"]]))
        for back in (1, 0)
    ]
    found = turn(world)
    assert found.closed == {(STRANGE_ID, "triggers.headers"): 2}
    assert found.rows == {(STRANGE_ID, "triggers.headers"): lost}
    assert found.lookalikes == {}


def test_calls_of_before_are_read_once_and_new_ones_in_every_round(world: World) -> None:
    """Fails when millions of calls, which nobody changes, are read twice."""
    for back in (1, 1, 1, 0):
        at_day(world, back, headers=json.dumps([["cookie", sealed("secret")], ["x", "sealed:deadbeef:x"]]))
    steps: list[RoundProgress] = []

    def told(step: RoundProgress) -> None:
        steps.append(step)
        if (step.number, step.column, step.is_over) == (1, "triggers.headers", True):
            at_day(world, 0, headers=json.dumps([["cookie", sealed("late")]]))

    found = turn(world, told=told)

    read = [
        (one.number, one.read, one.renewed)
        for one in steps
        if one.column == "triggers.headers" and one.is_over
    ]
    assert read == [(1, 4, 4), (2, 2, 1), (3, 2, 0)]
    assert found.opened == {(NEW_ID, "triggers.headers"): 5}, "each is counted once"
    assert found.lookalikes == {"triggers.headers": 4}
    assert (found.renewed, found.left, found.is_settled) == (5, 0, True)
    assert not re.search(f"sealed:{OLD_ID}:", "".join(stored(world, *HEADERS)))


def test_a_call_of_before_that_somebody_holds_comes_later(world: World, connect: Callable[..., Any]) -> None:
    """Fails when the old days are done with although something of them was left."""
    held, free = (at_day(world, 1, headers=json.dumps([["cookie", sealed(one)]])) for one in ("held", "free"))
    holder = connect(autocommit=False)
    holder.cursor().execute("SELECT 1 FROM triggers WHERE id = %s FOR UPDATE", (held,))
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        holder.rollback()

    found = turn(world, pause=pause)

    assert len(pauses) == 1
    headers = dict(world.ask("SELECT id::text, headers::text FROM triggers"))
    assert [opened(headers[one]) for one in (held, free)] == [["held"], ["free"]]
    assert (found.renewed, found.left) == (2, 0)
    assert found.opened == {(NEW_ID, "triggers.headers"): 2}


def remove_before_writing(world: World, monkeypatch: pytest.MonkeyPatch, gone: Any) -> None:
    """Have a trigger disappear between the look at a portion and its change."""
    write = SealedColumn.write

    def late(column: SealedColumn, cursor: Any, renewals: Any) -> int:
        world.do("DELETE FROM triggers WHERE id = %s", gone)
        return write(column, cursor, renewals)

    monkeypatch.setattr(SealedColumn, "write", late)


def test_what_goes_meanwhile_is_no_row_that_somebody_holds(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when the retention makes a rotation go through the old days again."""
    gone, kept = (at_day(world, 1, headers=json.dumps([["cookie", sealed(one)]])) for one in ("gone", "kept"))
    remove_before_writing(world, monkeypatch, gone)
    steps: list[RoundProgress] = []

    found = turn(world, told=steps.append)

    assert [one for (one,) in world.ask("SELECT id::text FROM triggers")] == [kept]
    assert (found.renewed, found.left, found.opened.total()) == (1, 0, 1)
    assert {one.read for one in steps if one.number == 2} == {0, 1}, (
        "the callback and the user, and no trigger"
    )
    assert [one.read for one in steps if one.number == 2 and one.column == "triggers.headers"] == [0]


def test_a_process_that_seals_under_an_old_key_makes_no_rotation_endless(world: World) -> None:
    """Fails when a rotation goes round for ever, or lets go of a key that something seals with."""
    turn(world, SecretBox(OLD))
    at_day(world, 0, headers=json.dumps([["cookie", sealed("one")]]))
    steps: list[RoundProgress] = []

    def told(step: RoundProgress) -> None:
        steps.append(step)
        if step.column == "triggers.headers" and step.is_over:
            at_day(world, 0, headers=json.dumps([["cookie", sealed("another")]]))

    found = turn(world, told=told)

    assert not found.is_settled
    assert steps[-1].number <= MOST_ROUNDS + 1
    assert [key for key, _ in entered(world.cursor)] == [OLD_ID, NEW_ID]
    assert turn(world).is_settled
    assert [key for key, _ in entered(world.cursor)] == [NEW_ID]


def test_what_a_user_changes_meanwhile_is_not_overwritten(world: World) -> None:
    """Fails when a value is written without a look at what stands there now."""
    action = world.action(config=json.dumps({"headers": {"X": sealed("old")}}))
    with closing(connections.connect(world.database_url, "test", call_seconds=10, autocommit=True)) as one:
        cursor = one.cursor()
        (column,) = (found for found in sealed_columns(cursor) if found.name == "actions.config")
        ((key, octets),) = column.portion(cursor, None)
        ((_, kind, text),) = column.read(cursor, [key])
        assert (octets, kind) == (len(text), "HTTP_POST")
        world.do('UPDATE actions SET config = \'{"headers": {"X": "the user\'\'s"}}\'')
        assert column.write(cursor, [Renewal(key, text, text.replace(OLD_ID, NEW_ID))]) == 0
    assert world.ask("SELECT config->'headers'->>'X' FROM actions WHERE id = %s", action) == [("the user's",)]


def test_a_row_that_a_user_holds_is_not_waited_for_and_comes_later(
    world: World, connect: Callable[..., Any]
) -> None:
    """Fails when a rotation stands in the way of a user, or a user in its way."""
    free = world.action(config=json.dumps({"headers": {"X": sealed("free")}}))
    held = world.action(config=json.dumps({"headers": {"X": sealed("before")}}))
    users = connect(autocommit=False)
    users.cursor().execute(
        "UPDATE actions SET config = %s WHERE id = %s",
        (json.dumps({"headers": {"X": sealed("after")}}), str(held)),
    )
    meanwhile: list[list[str]] = []

    def pause(_seconds: float) -> None:
        config = world.ask("SELECT config::text FROM actions WHERE id = %s", free)[0][0]
        meanwhile.append(opened(config))
        users.commit()

    found = turn(world, pause=pause)

    assert meanwhile == [["free"]]
    assert opened(world.ask("SELECT config::text FROM actions WHERE id = %s", held)[0][0]) == ["after"]
    assert (found.renewed, found.left) == (2, 0)


def test_a_row_that_is_held_for_ever_ends_the_rotation_and_keeps_its_key(
    world: World, connect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotation, "PATIENCE_SECONDS", 0.2)
    turn(world, SecretBox(OLD))
    world.action(config=json.dumps({"headers": {"X": sealed("held")}}))
    holder = connect(autocommit=False)
    holder.cursor().execute("SELECT 1 FROM actions FOR UPDATE")

    found = turn(world)

    assert found.left == 1
    assert [key for key, _ in entered(world.cursor)] == [OLD_ID, NEW_ID]
    holder.rollback()
    turn(world)
    assert [key for key, _ in entered(world.cursor)] == [NEW_ID]


def test_a_rotation_that_was_killed_is_gone_on_with(world: World) -> None:
    """Fails when a rotation is one transaction, or begins anew."""
    rows = 40 * PORTION_ROWS
    world.do(
        "INSERT INTO actions (id, callback_id, user_id, type, config)"
        " SELECT gen_random_uuid(), %s, %s, 'HTTP_POST', %s FROM generate_series(1, %s) n",
        world.callback_id,
        world.user_id,
        json.dumps({"headers": {"X": sealed("hidden")}}),
        rows,
    )
    renewed = f"SELECT count(*) FROM actions WHERE config::text ~ 'sealed:{NEW_ID}:'"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
    urls = {"POINTSMAN_DATABASE_URL": world.database_url, "POINTSMAN_SECRET_KEYS": f"{NEW},{OLD}"}
    killed = subprocess.Popen(
        [sys.executable, "-m", "deploy.cli", "keys", "rotate"],
        cwd=ROOT,
        env=environment | urls,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    eventually(lambda: world.ask(renewed)[0][0], 30, "a first portion")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    others = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    eventually(lambda: not world.ask(others), 10, "the end of its session")
    ((before,),) = world.ask(renewed)
    assert 0 < before < rows

    found = turn(world)

    assert found.renewed == rows - before
    assert found.opened == {(NEW_ID, "actions.config"): rows}


def test_no_key_leaves_while_something_may_seal_with_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails when an old key goes because the last value that was seen under it was deleted."""
    turn(world, SecretBox(OLD))
    gone, _ = (at_day(world, 0, headers=json.dumps([["cookie", sealed(one)]])) for one in ("gone", "kept"))
    remove_before_writing(world, monkeypatch, gone)
    monkeypatch.setattr(rotation, "MOST_ROUNDS", 1)
    found = turn(world)
    assert (found.is_settled, found.needed(BOX)) == (False, {NEW_ID})
    assert [key for key, _ in entered(world.cursor)] == [OLD_ID, NEW_ID]


def test_two_rotations_at_once_are_one(world: World) -> None:
    with rotation._session(world.database_url) as cursor:
        cursor.execute(rotation._TRY_LOCK)
        with pytest.raises(Unavailable, match="under way"):
            turn(world)


@pytest.mark.parametrize(
    ("key_ids", "seconds_ago", "is_refused"),
    [([OLD_ID], 1, True), ([], 1, True), ([NEW_ID, OLD_ID], 1, False), ([OLD_ID], 60, False)],
    ids=["does not know it", "says nothing", "knows it", "is dead"],
)
def test_no_key_that_a_living_worker_does_not_know(
    world: World, key_ids: list[str], seconds_ago: int, is_refused: bool
) -> None:
    """Fails when a rotation under a new key makes each delivery of such a worker fail for good."""
    world.action(config=json.dumps({"headers": {"X": sealed("hidden")}}))
    worker = world.rows.insert("workers", key_ids=key_ids, host="elsewhere")["id"]
    world.do(
        "UPDATE workers SET heartbeat_at = now() - make_interval(secs => %s) WHERE id = %s",
        seconds_ago,
        worker,
    )
    if is_refused:
        with pytest.raises(ConfigError, match=f"Key {NEW_ID} is unknown to a worker on elsewhere"):
            turn(world)
    else:
        turn(world)
    ((config,),) = world.ask("SELECT config::text FROM actions")
    assert (f"sealed:{OLD_ID}:" in config) == is_refused
    assert (NEW_ID in dict(entered(world.cursor))) != is_refused


def test_a_start_needs_a_key_until_nothing_does(world: World) -> None:
    """A key leaves when all it sealed is under another one; a key that is missed stays."""
    for key in (STRANGE, OLD):
        turn(world, SecretBox(key))
        world.action(config=json.dumps({"headers": {"X": sealed("hidden", key)}}))
    assert set(dict(entered(world.cursor))) == {STRANGE_ID, OLD_ID}

    turn(world)
    assert set(dict(entered(world.cursor))) == {STRANGE_ID, NEW_ID}

    turn(world, SecretBox(f"{NEW},{STRANGE}"))
    assert [(key, SecretBox(NEW).decrypt(text)) for key, text in entered(world.cursor)] == [
        (NEW_ID, FIXED_TEXT)
    ]


def test_a_survey_counts_and_changes_nothing(world: World, stranger: World) -> None:
    headers = {"a": sealed("one"), "b": sealed("two", NEW), "c": sealed("x", STRANGE)}
    world.action(config=json.dumps({"headers": headers}))
    stranger.do("UPDATE users SET secret = %s WHERE id = %s", sealed("three"), stranger.user_id)
    before = all_but(world, "actions", "") + all_but(world, "users", "")

    found = survey(world.database_url, BOX)

    assert found.values_of(OLD_ID, BOX) == {"actions.config": 1, "users.secret": 1}
    assert found.values_of(NEW_ID, BOX) == {"actions.config": 1}
    assert found.values_of(STRANGE_ID, BOX) == {"actions.config": 1}
    assert found.needed(BOX) == {NEW_ID, OLD_ID, STRANGE_ID}
    assert all_but(world, "actions", "") + all_but(world, "users", "") == before
    assert entered(world.cursor) == []


def test_a_database_that_was_never_migrated_is_told(empty_database_url: str) -> None:
    with pytest.raises(ConfigError, match="not up to date") as error:
        survey(empty_database_url, BOX)
    assert re.search("pointsman migrate", error.value.hint)
