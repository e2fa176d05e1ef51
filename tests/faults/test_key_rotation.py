"""The encryption key of a running Pointsman is changed under load, as docs/keys.md says."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.state import DataFolder
from shared.crypto import SecretBox, key_id
from shared.models.sealed import SEALED
from shared.signatures import sign, signing_key
from tests.faults.oracle import nothing_was_lost
from tests.faults.tenants import other_tenant
from tests.load import BackgroundLoad
from tests.peers.receiver import Receiver
from tests.running import Running, eventually

CALLBACKS = 24
PER_SECOND = 100
MORE = 50

# Rows of a callback that nobody calls, so that the rotation takes a while.
BALLAST_ROWS = 3_000

_BALLAST = """
INSERT INTO actions (id, callback_id, user_id, type, config)
SELECT gen_random_uuid(), callback_id, user_id, type, config FROM actions, generate_series(1, %s)
WHERE id = %s RETURNING 1
"""
_RETRIED = "SELECT count(*) FROM action_executions WHERE attempt <> 1 OR status <> 'SUCCESS'"


def keys(running: Running, *words: str) -> subprocess.CompletedProcess[str]:
    """`pointsman keys` beside it."""
    return subprocess.run(
        [sys.executable, "-m", "deploy.cli", "keys", *words],
        env=running.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def secret_callback(running: Running, receiver: Receiver, api: httpx.Client, name: str) -> dict[str, Any]:
    """A callback with secrets in its URL, in a header, and a signature; no two have one alike."""
    own = {"headers": {"X-Secret": f"secret {name}"}, "forwardHeaders": ["authorization"]}
    second = {"url": receiver.url(f"/second/{name}?key={name}"), **own}
    made = running.callback(
        receiver.url(f"/first/{name}?key={name}"), [{"type": "HTTP_POST", "config": second}], api=api
    )
    running.primary_as(api, made, {"config": {"target": "callback_url", **own}})
    return made


@contextmanager
def changing(api: httpx.Client, callbacks: list[dict[str, Any]]) -> Iterator[list[int]]:
    """A user who changes configs, masks and all, again and again; the answers."""
    answers: list[int] = []
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for made in callbacks:
                action = f"/api/v1/actions/{made['actions'][0]['id']}"
                config = api.get(action).json()["config"]
                config["headers"]["X-Note"] = f"note {len(answers)}"
                answers.append(api.patch(action, json={"config": config}).status_code)

    thread = threading.Thread(target=change, daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join(20)


def sealed_with(running: Running, key: str) -> int:
    """How many values of all sealed columns are under a key."""
    return sum(
        running.query(f"SELECT count(*) FROM {table} WHERE {column}::text ~ %s", f"sealed:{key}:")[0][0]
        for table, column in SEALED
    )


def all_secrets_arrived(receiver: Receiver, signing: dict[str, str]) -> None:
    """signing: the signing secret by the name of the callback."""
    for receipt in receiver.receipts:
        path, _, query = receipt.path.partition("?")
        name = path.rsplit("/", 1)[1]
        assert query == f"key={name}"
        assert receipt.headers["x-secret"] == f"secret {name}"
        sent_at = int(receipt.headers["webhook-timestamp"])
        signature = sign([signing_key(signing[name])], receipt.webhook_id, sent_at, receipt.body)
        assert receipt.headers["webhook-signature"] == signature


@pytest.mark.timeout(180)
def test_a_key_is_changed_under_load_without_one_failed_decryption(
    tmp_path: Path, receiver: Receiver
) -> None:
    """Guards: a value is renewed in one step, while both keys open, and a key leaves last."""
    running, data = Running(tmp_path), DataFolder(tmp_path / "data")
    with running, other_tenant(running) as other:
        made = {
            name: secret_callback(running, receiver, api, name)
            for n in range(CALLBACKS // 2)
            for name, api in ((f"a{n}", running.api), (f"b{n}", other))
        }
        signing = {name: callback["signingSecret"] for name, callback in made.items()}
        ballast = secret_callback(running, receiver, running.api, "ballast")
        running.query(_BALLAST, BALLAST_ROWS, ballast["actions"][0]["id"])
        first = running.fire(made["a0"], json={}, headers={"authorization": "Bearer canary"})
        running.ended(first)
        (old,) = map(key_id, data.secret_keys().split(","))
        refused = keys(running, "new", "--add")
        assert (refused.returncode, "already" in refused.stderr) == (1, True), "it would not know the key"
    assert keys(running, "new", "--add").returncode == 0
    (new, _), ring = map(key_id, data.secret_keys().split(",")), data.secret_keys()

    with running, other_tenant(running) as other:
        urls = [callback["triggerUrl"] for callback in made.values()]
        user = changing(other, [made[f"b{n}"] for n in range(CALLBACKS // 4)])
        with BackgroundLoad(urls, per_second=PER_SECOND) as load, user as answers:
            eventually(lambda: len(load.accepted) > MORE, 20, "triggers before the rotation")
            assert sealed_with(running, old) > CALLBACKS
            before = len(load.accepted)
            rotated = keys(running, "rotate")
            assert len(load.accepted) > before + MORE, "it went beside the traffic"
            before = len(load.accepted)
            eventually(lambda: len(load.accepted) > before + MORE, 20, "triggers after it")
        assert rotated.returncode == 0, rotated.stdout + rotated.stderr
        assert "no longer needed" in rotated.stdout
        assert load.nobody_was_refused
        assert set(answers) == {200}
        assert len(answers) > CALLBACKS, "each was changed, again and again"
        nothing_was_lost(running, receiver, load.accepted)
        assert running.query(_RETRIED) == [(0,)], "no attempt failed, not even once"
        all_secrets_arrived(receiver, signing)
        assert (sealed_with(running, old), sealed_with(running, new) > CALLBACKS) == (0, True)
        assert "cannot be decrypted" not in running.log()
        dropped = keys(running, "drop", old)
        assert dropped.returncode == 0, dropped.stderr
    assert data.secret_keys() == ring.split(",")[0]
    assert SecretBox(data.secret_keys()).key_ids == (new,)

    with running:
        ids = [running.fire(callback, json={"after": name}) for name, callback in made.items()]
        again = running.api.post(f"/api/v1/triggers/{first}/replay", json={"from": "start"}).json()["id"]
        nothing_was_lost(running, receiver, ids)
        assert running.query(_RETRIED) == [(0,)]
        all_secrets_arrived(receiver, signing)
        forwarded = [one.headers["authorization"] for one in receiver.receipts if one.trigger_id == again]
        assert forwarded == ["Bearer canary"] * 2, "what a caller sent under the old key"
