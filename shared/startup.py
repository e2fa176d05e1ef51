"""What a start asks of PostgreSQL and Redis, and how long it waits for them.

Invariants:

- A wait is bounded, and says at its beginning, and whenever the reason changes, what it waits for.
- Without PostgreSQL nothing starts from scratch. Without Redis everything does, after a short wait:
  it may be gone at any moment.
- examine() never waits and never ends a process for what may pass: in a restart amid an outage the
  API must answer 503 rather than not at all.
- Whoever starts without PostgreSQL learns later whether its encryption keys fit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import structlog
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from shared.config import Settings
from shared.errors import PointsmanError, ServerRefuses, StartupError, Unavailable
from shared.keyring import checks
from shared.postgres import fitness as postgres
from shared.redis import fitness as redis

PAUSE_SECONDS = 0.5

# Redis is only a matter of speed.
REDIS_WAIT_SECONDS = 5.0

Say = Callable[[str], None]
Pause = Callable[[float], None]

log = structlog.get_logger("startup")


def wait_for_postgres(url: str, seconds: float, say: Say, pause: Pause = time.sleep) -> None:
    """Return once PostgreSQL can carry Pointsman.

    ConfigError, at once, if it never will; StartupError if it is still away after these seconds.
    """
    try:
        wait_for("PostgreSQL", partial(postgres.examine, url), seconds, say, pause)
    except Unavailable as error:
        raise StartupError(f"{error.message} Waited {seconds:g} s.", hint=error.hint) from error


def wait_for_redis(url: str, seconds: float, say: Say, pause: Pause = time.sleep) -> None:
    """Return once Redis takes our commands, or when it has been away for a short while.

    ConfigError, at once, if it is one that Pointsman cannot use.
    """
    try:
        wait_for("Redis", partial(redis.examine, url), min(seconds, REDIS_WAIT_SECONDS), say, pause)
    except Unavailable as error:
        say(f"{error.message} Going on without it, slower, until it is there. {error.hint}")


def examine(settings: Settings) -> bool:
    """Refuse servers that can never do, and keys that do not fit; log what is wrong with others.

    For a process that somebody starts again when it ends. False: PostgreSQL said nothing of the
    keys yet.
    """
    has_said = examine_one("PostgreSQL", partial(_examine_postgres, settings))
    examine_one("Redis", partial(redis.examine, settings.redis))
    return has_said


def examine_keys_later(settings: Settings, pause: Pause = time.sleep) -> None:
    """Wait until PostgreSQL can say whether the keys fit; ConfigError if they do not."""
    while True:
        pause(PAUSE_SECONDS)
        try:
            checks.examine(settings.postgres, settings.keys)
        except (ServerRefuses, Unavailable):
            continue
        return


def examine_one(name: str, examine_it: Callable[[], None]) -> bool:
    """Examine one server, and say whether it is fit; what is raised is of no use to anybody."""
    try:
        examine_it()
    except (ServerRefuses, Unavailable) as error:
        log.warning("server_not_ready", server=name, reason=error.message, hint=error.hint)
        return False
    return True


def _examine_postgres(settings: Settings) -> None:
    postgres.examine(settings.postgres)
    checks.examine(settings.postgres, settings.keys)


def wait_for(name: str, examine: Callable[[], None], seconds: float, say: Say, pause: Pause) -> None:
    """Examine one server until it is fit; Unavailable if it is still away after these seconds."""
    said: set[str] = set()

    def tell(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        reason = error.message if isinstance(error, PointsmanError) else str(error)
        if reason not in said:
            said.add(reason)
            say(f"waiting for {name}, at most {seconds:g} s: {reason}")

    retrying = Retrying(
        retry=retry_if_exception_type(Unavailable),
        stop=stop_after_delay(seconds),
        wait=wait_fixed(PAUSE_SECONDS),
        sleep=pause,
        before_sleep=tell,
        reraise=True,
    )
    retrying(examine)
