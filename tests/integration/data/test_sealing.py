"""The migration that seals the secrets of rows that were there before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from alembic import command
from cryptography.fernet import Fernet

from migrations.migrate import _config, current_and_head, upgrade
from shared.action_types import http_post
from shared.crypto import SecretBox, new_key
from shared.errors import ConfigError
from shared.process import EX_CONFIG
from shared.seals import opened_url
from tests.rows import Rows

ROOT = Path(__file__).parents[3]
KEY = new_key()
BOX = SecretBox(KEY)

URLS = [
    "https://x.example/hooks/canary?key=canary#canary",
    "http://x.example:8080?canary",
    "http://x.example",
    "http://x.example/",
    "no-url-at-all",
]
CONFIGS: list[dict[str, Any]] = [
    {"url": "http://x.example/canary?a=canary", "headers": {"Authorization": "canary", "X-Empty": ""}},
    {"target": "callback_url", "headers": {"X-Own": "canary\u00e9 \"\\ 'x' %s"}, "body": {"n": 1}},
    {"target": "callback_url"},
    {"url": "http://x.example/"},
    {"url": "http://x.example/", "headers": {"X-Own": "canary"}},
]
# Nobody can have set these through the API.
ODD = ["[]", '"text"', '{"url": 7, "headers": []}', '{"headers": {"a": 1.50, "b": "canary", "c": null}}']
LONG_NUMBER = "9" * 5_000


@pytest.fixture
def cursor(empty_database_url: str) -> Iterator[Any]:
    """A database as the version before had it."""
    command.upgrade(_config(empty_database_url), "0009")
    with closing(psycopg2.connect(empty_database_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        yield cursor


def fill(cursor: Any) -> dict[str, Any]:
    """Rows of all kinds; what is to come back, by id."""
    rows = Rows(cursor)
    secret = json.dumps([{"secret": Fernet(KEY.encode()).encrypt(b"whsec_a").decode(), "expiresAt": None}])
    user = rows.insert("users")["id"]
    wanted: dict[str, Any] = {}
    for url in URLS:
        made = rows.insert("callbacks", user_id=user, callback_url=url, signing_secrets=secret)
        wanted[made["id"]] = url
    for config in CONFIGS:
        more = {"callback_id": made["id"], "user_id": user, "type": "HTTP_POST"}
        action = rows.insert("actions", config=json.dumps(config), deleted_at="now", **more)
        wanted[action["id"]] = config
    return wanted


def opened(cursor: Any) -> dict[str, Any]:
    """Every URL and config as the code opens it, by id."""
    cursor.execute("SELECT id::text, callback_url FROM callbacks")
    urls = {row[0]: opened_url(row[1], BOX.decrypt) for row in cursor.fetchall()}
    cursor.execute("SELECT id::text, config FROM actions WHERE type = 'HTTP_POST'")
    return urls | {row[0]: http_post.unseal(row[1], BOX.decrypt) for row in cursor.fetchall()}


def everything(cursor: Any) -> str:
    cursor.execute(
        "SELECT (SELECT string_agg(c::text, '') FROM callbacks c) || (SELECT string_agg(a::text, '') FROM actions a)"
    )
    return str(cursor.fetchone()[0])


def test_what_was_there_is_sealed_and_opens_to_what_it_was(empty_database_url: str, cursor: Any) -> None:
    wanted = fill(cursor)
    rows = Rows(cursor)
    (callback, *_) = wanted
    kept = rows.insert("actions", type="STORE", callback_id=callback, config='{"value": "not a secret"}')
    cursor.execute("SELECT id, updated_at FROM actions")
    times = dict(cursor.fetchall())
    assert "canary" in everything(cursor)

    upgrade(empty_database_url, KEY)

    assert "canary" not in everything(cursor)
    assert opened(cursor) == wanted
    cursor.execute("SELECT config FROM actions WHERE id = %s", (kept["id"],))
    assert cursor.fetchone() == ({"value": "not a secret"},)
    cursor.execute("SELECT id, updated_at FROM actions")
    assert dict(cursor.fetchall()) == times, "nobody changed them"
    cursor.execute("SELECT callback_url FROM callbacks WHERE id = %s", (callback,))
    assert cursor.fetchone()[0].startswith("https://x.example sealed:"), "the origin stays readable"


def test_a_row_that_nobody_can_use_stops_nothing(empty_database_url: str, cursor: Any) -> None:
    """Fails when one odd row keeps an installation from its next version."""
    rows = Rows(cursor)
    for config in ODD:
        rows.insert("actions", type="HTTP_POST", config=config)
    body = f'{{"url": "http://x/canary", "body": {LONG_NUMBER}}}'
    long = rows.insert("actions", type="HTTP_POST")
    cursor.execute("UPDATE actions SET config = %s WHERE id = %s", (body, long["id"]))

    upgrade(empty_database_url, KEY)

    cursor.execute("SELECT config::text FROM actions ORDER BY id")
    texts = [row[0] for row in cursor.fetchall()]
    assert not any("canary" in text for text in texts)
    assert any('"a": 1.50' in text and '"c": null' in text for text in texts)
    cursor.execute("SELECT config->>'body' FROM actions WHERE id = %s", (long["id"],))
    assert cursor.fetchone() == (LONG_NUMBER,), "numbers do not go through Python"


def test_a_try_that_was_cut_off_is_repeated(empty_database_url: str, cursor: Any) -> None:
    """Many batches, of which a first try committed some."""
    rows = Rows(cursor)
    callback = rows.insert("callbacks", callback_url="http://x/canary")
    cursor.execute(
        "INSERT INTO actions (id, callback_id, user_id, type, config)"
        " SELECT gen_random_uuid(), %s, %s, 'HTTP_POST',"
        " jsonb_build_object('url', 'http://x/canary-' || n, 'headers', jsonb_build_object('a', 'canary', 'b', 'canary'))"
        " FROM generate_series(1, 1201) n",
        (callback["id"], callback["user_id"]),
    )
    half = http_post.seal({"headers": {"a": "canary"}, "url": "http://x/canary-half"}, BOX.encrypt)
    half["headers"]["b"] = "canary"
    cursor.execute(
        "UPDATE actions SET config = %s WHERE id IN (SELECT id FROM actions LIMIT 300) RETURNING 1",
        (json.dumps(half),),
    )

    upgrade(empty_database_url, KEY)

    assert "canary" not in everything(cursor)
    (_, *configs) = opened(cursor).values()
    assert len(configs) == 1201
    assert {json.dumps(one["headers"]) for one in configs} == {'{"a": "canary", "b": "canary"}'}
    assert sum(one["url"] == "http://x/canary-half" for one in configs) == 300
    before = everything(cursor)
    cursor.execute("UPDATE alembic_version SET version_num = '0009'")
    cursor.execute("DROP TABLE retired_tokens")
    upgrade(empty_database_url)
    assert everything(cursor) == before, "what is sealed needs no keys, and is not sealed again"


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [(None, "needs POINTSMAN_SECRET_KEYS"), (new_key(), "do not fit the database")],
    ids=["none", "others"],
)
def test_without_the_installations_keys_nothing_is_sealed(
    empty_database_url: str, cursor: Any, keys: str | None, sentence: str
) -> None:
    fill(cursor)
    before = everything(cursor)
    with pytest.raises(ConfigError, match=sentence):
        upgrade(empty_database_url, keys)
    assert everything(cursor) == before
    assert current_and_head(empty_database_url)[0] == "0009"


def test_a_callback_whose_key_is_lost_stops_nothing(empty_database_url: str, cursor: Any) -> None:
    """Fails when one secret, old or new, decides about the whole installation."""
    rows, lost = Rows(cursor), json.dumps([{"secret": SecretBox(new_key()).encrypt("x"), "expiresAt": None}])
    rows.insert("callbacks", signing_secrets=lost)
    wanted = fill(cursor)
    for _ in range(20):
        rows.insert("callbacks", signing_secrets=lost)
    upgrade(empty_database_url, KEY)
    assert "canary" not in everything(cursor)
    assert opened(cursor).items() >= wanted.items()


def test_secrets_of_deleted_callbacks_say_nothing_of_the_keys(empty_database_url: str, cursor: Any) -> None:
    """Fails when an operator whose keys are lost can do nothing to go on."""
    fill(cursor)
    cursor.execute("UPDATE callbacks SET deleted_at = now()")
    upgrade(empty_database_url, new_key())
    assert "canary" not in everything(cursor)


@pytest.mark.parametrize(
    ("keys", "status", "words"),
    [("", EX_CONFIG, "needs POINTSMAN_SECRET_KEYS"), (KEY, 0, "up to date")],
    ids=["without", "with"],
)
def test_the_command_says_what_it_needs(
    empty_database_url: str, cursor: Any, keys: str, status: int, words: str
) -> None:
    fill(cursor)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("POINTSMAN_")}
    environment["POINTSMAN_DATABASE_URL"] = empty_database_url
    if keys:
        environment["POINTSMAN_SECRET_KEYS"] = keys
    ended = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "migrate"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == status, ended.stderr
    assert words in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
