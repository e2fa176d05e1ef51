"""How long a start waits for its servers, and what it says meanwhile."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from shared.config import Settings
from shared.crypto import new_key
from shared.errors import ConfigError, ServerRefuses, StartupError, Unavailable
from shared.startup import (
    PAUSE_SECONDS,
    examine,
    examine_keys_later,
    examine_one,
    wait_for,
    wait_for_postgres,
    wait_for_redis,
)

AWAY = "postgresql://nobody@127.0.0.1:1/x"
REDIS_AWAY = "redis://127.0.0.1:1/0"


def answering(*errors: Exception | None) -> Callable[[], None]:
    """A server that answers with these, one after the other, and with the last one for ever."""
    left = list(errors)

    def examine() -> None:
        error = left.pop(0) if len(left) > 1 else left[0]
        if error is not None:
            raise error

    return examine


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def pauses() -> list[float]:
    return []


def test_a_server_that_is_there_is_not_waited_for(said: list[str], pauses: list[float]) -> None:
    wait_for("it", answering(None), 60, said.append, pauses.append)
    assert (said, pauses) == ([], [])


def test_each_reason_is_said_once(said: list[str], pauses: list[float]) -> None:
    refused, starting = Unavailable("It is refused."), Unavailable("It starts.")
    examine = answering(refused, refused, refused, starting, starting, None)
    wait_for("it", examine, 60, said.append, pauses.append)
    assert said == [
        "waiting for it, at most 60 s: It is refused.",
        "waiting for it, at most 60 s: It starts.",
    ]
    assert pauses == [PAUSE_SECONDS] * 5


def test_a_wait_ends_and_says_what_it_waited_for(said: list[str]) -> None:
    with pytest.raises(StartupError, match=r"Connection refused.* Waited 0\.2 s") as error:
        wait_for_postgres(AWAY, 0.2, said.append)
    assert "POINTSMAN_DATABASE_URL" in error.value.hint
    assert len(said) == 1


@pytest.mark.parametrize("kind", [ConfigError, ServerRefuses])
def test_what_waiting_does_not_fix_is_said_at_once(
    said: list[str], pauses: list[float], kind: type[ConfigError]
) -> None:
    examine = answering(Unavailable("It starts."), kind("It is of no use."))
    with pytest.raises(kind, match="of no use"):
        wait_for("it", examine, 60, said.append, pauses.append)
    assert len(pauses) == 1


def test_whoever_is_told_to_stop_waits_no_longer(said: list[str]) -> None:
    class Told(Exception):
        pass

    def pause(_seconds: float) -> None:
        raise Told

    with pytest.raises(Told):
        wait_for_postgres(AWAY, 60, said.append, pause)


def test_without_redis_a_start_goes_on(said: list[str]) -> None:
    wait_for_redis(REDIS_AWAY, 0.2, said.append)
    assert said[-1].startswith("Redis is not ready")
    assert "Going on without it" in said[-1]


def test_a_process_goes_on_whatever_may_pass() -> None:
    """Fails when a worker that is restarted amid an outage ends, and ends everything with it."""
    settings = Settings(database_url=AWAY, redis_url=REDIS_AWAY)
    with capture_logs() as logged:
        assert not examine(settings), "nobody has said yet whether its keys fit"
    assert [(line["event"], line["server"]) for line in logged] == [
        ("server_not_ready", "PostgreSQL"),
        ("server_not_ready", "Redis"),
    ]


def test_whether_keys_fit_is_asked_again_as_long_as_postgresql_is_away(pauses: list[float]) -> None:
    class Asked(Exception):
        pass

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise Asked

    with pytest.raises(Asked):
        examine_keys_later(Settings(database_url=AWAY, secret_keys=new_key()), pause)
    assert pauses == [PAUSE_SECONDS] * 3


def test_a_process_goes_on_without_a_login_and_ends_for_what_never_passes() -> None:
    with capture_logs() as logged:
        examine_one("it", answering(ServerRefuses("No login.")))
        with pytest.raises(ConfigError, match="LATIN1"):
            examine_one("it", answering(ConfigError("It is LATIN1.")))
    assert [line["reason"] for line in logged] == ["No login."]
