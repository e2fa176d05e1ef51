"""What the caller of a trigger URL is told.

202 with the trigger's id once it is committed. 200 with its outcome when the caller waited for it (`Prefer: wait`, RFC
7240) or the call was answered from the cache, and the trigger has settled. Made outside the request, on the loop, so a
Reply holds all that it needs and never waits itself: it returns what must be waited for next.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
import structlog
from psycopg2.errors import CheckViolation

from api.deferred import Answer, Deferred
from api.idempotency import REPLAYED
from api.ingress.outcomes import Outcome, Outcomes
from api.problems import of_error, translate
from api.urls import Urls
from shared import metrics
from shared.errors import PointsmanError, Unavailable

LOOK_SECONDS = 2.0

log = structlog.get_logger("ingress")


def preferred_wait_seconds(prefer: str | None, timeout_ms: int) -> int:
    """The N of `Prefer: wait=N`, at most the callback's timeout; 0 when the caller would not wait.

    A preference that cannot be understood is ignored, and of several the first counts (RFC 7240, section 2).
    """
    if not prefer:
        return 0
    for preference in prefer.split(","):
        name, _, value = preference.split(";", 1)[0].partition("=")
        if name.strip().lower() == "wait":
            digits = value.strip().strip('"')
            if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
                return 0
            return min(int(digits), timeout_ms // 1000)
    return 0


@dataclass(slots=True)
class Reply:
    """The answer to one accepted call, made step by step.

    trigger_url: the URL that was called. wait_seconds: how long the caller waits, 0 for not at all;
    waiting: the end of the trigger that it is about to become. user_id: whose callback it is. from_cache: an equal call
    may answer it, whatever its caller sent.
    """

    outcomes: Outcomes
    trigger_url: str
    request_id: str
    user_id: UUID
    wait_seconds: int = 0
    waiting: Future[Outcome] | None = None
    from_cache: bool = False

    def after_commit(self, outcome: Any) -> Answer | Deferred:
        """The commit is decided: a Recorded, or the error that it ended with."""
        if isinstance(outcome, Exception):
            self._stop_waiting()
            error = _translated(outcome)
            metrics.triggers_refused.labels(error.code).inc()
            return of_error(error, self.request_id)
        if outcome.repeated:
            return self._after_earlier(outcome.trigger_id)
        if self.waiting is None:
            return self._answer(outcome.trigger_id, Outcome("PENDING"), self._cache_header("MISS"))
        return self._wait_for(outcome.trigger_id, self.waiting, self._cache_header("MISS"))

    def _after_earlier(self, trigger_id: UUID) -> Deferred:
        """The call is that of an earlier one: tell how far that is, or wait for it."""
        self._stop_waiting()
        headers = self._cache_header("HIT") if self.from_cache else [REPLAYED]
        if self.wait_seconds:
            self.waiting = self.outcomes.wait(trigger_id, self.user_id, self.wait_seconds)

        def looked(outcome: Any) -> Answer | Deferred:
            known = Outcome() if isinstance(outcome, Exception) else outcome
            if self.waiting is not None and not known.settled:
                return self._wait_for(trigger_id, self.waiting, headers)
            self._stop_waiting()
            return self._answer(trigger_id, known, headers, tell=self.from_cache or bool(self.wait_seconds))

        return Deferred(self.outcomes.look(trigger_id), looked, LOOK_SECONDS)

    def _wait_for(
        self, trigger_id: UUID, waiting: Future[Outcome], headers: list[tuple[str, str]]
    ) -> Deferred:
        applied = [*headers, ("preference-applied", f"wait={self.wait_seconds}")]

        def looked(outcome: Any) -> Answer:
            known = Outcome("PENDING") if isinstance(outcome, Exception) else outcome
            return self._answer(trigger_id, known, applied, tell=True)

        def ended(outcome: Any) -> Answer | Deferred:
            if isinstance(outcome, Exception):  # the time is over
                return Deferred(self.outcomes.look(trigger_id), looked, LOOK_SECONDS)
            return looked(outcome)

        return Deferred(waiting, ended, float(self.wait_seconds))

    def _answer(
        self, trigger_id: UUID, outcome: Outcome, headers: list[tuple[str, str]], *, tell: bool = False
    ) -> Answer:
        body: dict[str, Any] = {
            "triggerId": trigger_id,
            "status": outcome.status or "PENDING",  # not known just now
            "statusUrl": Urls.status(self.trigger_url, trigger_id),
        }
        told = tell and outcome.settled
        if told:
            body |= {"finishedAt": outcome.finished_at, "executions": outcome.executions}
        named = [("content-type", "application/json"), ("x-request-id", self.request_id), *headers]
        return 200 if told else 202, named, orjson.dumps(body, option=orjson.OPT_UTC_Z)

    def _cache_header(self, value: str) -> list[tuple[str, str]]:
        return [("x-cache", value)] if self.from_cache else []

    def _stop_waiting(self) -> None:
        if self.waiting is not None:
            self.waiting.cancel()
            self.waiting = None


def _translated(outcome: Exception) -> PointsmanError:
    if isinstance(outcome, TimeoutError):
        return Unavailable("The trigger could not be committed in time.")
    if isinstance(outcome.__cause__, CheckViolation):
        log.error("no_partition", hint="the partitions of today are missing, or a clock is far off")
        return Unavailable("There is no place to record the trigger now.")
    return translate(outcome)
