"""What `pointsman run` lets through on a developer's machine and not in production."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from deploy.local.console import Console
from deploy.local.stack import Stack
from deploy.local.state import DataFolder
from deploy.local.supervisor import Supervisor
from shared import config
from shared.config import PREFIX, Settings
from shared.crypto import SecretBox, new_key
from tests.peers.receiver import Receiver
from tests.running import eventually
from tests.world import World
from worker.engine.engine import Engine


def settings_of_a_worker(folder: Path) -> Settings:
    """What a worker of `pointsman run` reads, from the environment that it is given."""
    console = Console("console", io.StringIO())
    stack = Stack(config.read(), console, DataFolder(folder), Supervisor(console))
    return config.read(stack._child_environment())


@pytest.mark.parametrize(
    ("environment", "ends"),
    [("local", ("SUCCESS", None)), ("production", ("FAILED", "blocked_address"))],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_in_production_no_delivery_reaches_loopback(
    world: World,
    receiver: Receiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: str,
    host: str,
    ends: tuple[str, str | None],
) -> None:
    """Fails when what makes a first look easy holds in production too: anybody's callback could
    call what listens beside the worker.
    """
    key = new_key()
    given = {"ENVIRONMENT": environment, "SECRET_KEYS": key, "DATABASE_URL": world.database_url}
    for name, value in (given | {"REDIS_URL": "redis://127.0.0.1:1/0"}).items():
        monkeypatch.setenv(PREFIX + name, value)
    world.action(config=json.dumps({"url": f"http://{host}:{receiver.port}/ok"}))
    trigger_id = world.trigger()
    engine = Engine(settings_of_a_worker(tmp_path), SecretBox(key))
    engine.start()
    try:
        assert engine.offer([trigger_id], 5)
        eventually(lambda: world.log(trigger_id), 10, "the end of the run")
    finally:
        engine.stop()
    (row,) = world.executions(trigger_id)
    assert (row["status"], row["error"] and row["error"].partition(":")[0]) == ends
    assert len(receiver.receipts) == (environment == "local")
