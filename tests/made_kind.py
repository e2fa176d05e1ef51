"""An action type that only tests know, with a door of its own. It does not start at its claim.

It says a word. Its config is {"say": a word}; without one it cannot be prepared.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import BaseModel

from shared import action_types
from shared.action_types.texts import Slot, slot
from shared.config import Settings
from shared.errors import Invalid
from shared.templates.targets import Target
from worker import actions
from worker.actions.contract import AttemptStamp, ExecutionContext, Outcome
from worker.doors import Door
from worker.records import ActionRecord

MADE_TYPE = "DISCORD"
"""A name that PostgreSQL knows as an action type."""


class Megaphone:
    """A door that notes what goes through it. dead: the name of its thread, once that has died."""

    def __init__(self) -> None:
        self.said: list[tuple[str, int]] = []
        self.dead: str | None = None

    @classmethod
    def make(cls, settings: Settings) -> Door:
        return cls()

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def dead_thread(self) -> str | None:
        return self.dead

    async def say(self, word: str, number: int) -> None:
        self.said.append((word, number))


class Words(BaseModel):
    """The config of the kind."""

    say: str | None = None


def _slots(config: dict[str, Any]) -> Iterator[Slot]:
    yield from slot(config.get("say"), Target.TEXT, "say")


PURE = SimpleNamespace(
    Config=Words,
    slots=_slots,
    redact=lambda config: config,
    unmask=lambda config, _kept: config,
    seal=lambda config, _encrypt: config,
    unseal=lambda config, _decrypt: config,
    destination=lambda _config: None,
    secret_names=lambda _config: [],
    preview=lambda config, _recorded, _url: {"body": str(config.say).encode()},
    summarize=lambda _config: "say a word",
    is_primary=lambda _config: False,
)
"""Its pure half."""


class Saying:
    """The I/O half. prepared: the configs that were prepared, in their order.

    ends_with: what preparing ends each execution with, if anything.
    """

    DOOR = Megaphone

    def __init__(self) -> None:
        self.prepared: list[dict[str, Any]] = []
        self.ends_with: Outcome | None = None

    def starts_at_claim(self, action: ActionRecord) -> bool:
        return False

    def prepare(self, action: ActionRecord, config: Words, context: ExecutionContext) -> str | Outcome:
        self.prepared.append(action.config)
        if self.ends_with is not None:
            return self.ends_with
        if config.say is None:
            raise Invalid("Nothing to say.", code="bad_config", hint="Give it a word.")
        return config.say

    async def perform(self, request: str, stamp: AttemptStamp, door: Megaphone) -> str:
        await door.say(request, stamp.number)
        return request

    def classify(self, delivery: str) -> Outcome:
        return Outcome(success=True, response={"said": delivery})


def register(monkeypatch: pytest.MonkeyPatch) -> Saying:
    """The kind, registered under MADE_TYPE until the test ends."""
    kind = Saying()
    monkeypatch.setitem(actions.KINDS, MADE_TYPE, kind)
    monkeypatch.setitem(cast(Any, action_types.KINDS), MADE_TYPE, PURE)
    return kind
