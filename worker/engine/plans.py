"""What an action's config says, read once: opened, checked, its templates parsed.

Invariants:

- A plan is made from a config's text alone, so that equal texts share one.
- What holds no template is checked once, when its plan is made. What does is checked again whenever
  it is filled: no value that a caller sends gets past the rules of its type.

Plans hold opened secrets, as `SecretBox` does, and are bounded like it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from shared.action_types import KINDS, parse_config
from shared.action_types.texts import Slot, filled
from shared.crypto import SecretBox
from shared.templates.jobs import Part, look_ups_in
from worker.records import ActionRecord

MAX_PLANS = 1_024

# A longer config is read anew each time.
MAX_KEPT_CHARS = 4_096


class Plan(NamedTuple):
    """config: opened. ready: its model, where nothing of it is to be rendered. look_ups: of its
    templates together, None if one does more.
    """

    kind: str
    config: dict[str, Any]
    slots: tuple[Slot, ...]
    parts: tuple[Part, ...]
    look_ups: int | None
    ready: BaseModel | None

    def filled(self, texts: Sequence[str]) -> BaseModel:
        """Its model with these texts in the places of its templates; raises Invalid."""
        return parse_config(self.kind, filled(self.config, self.slots, texts), rendered=True)


class Plans:
    """The plans of a worker. Used by its loop alone."""

    def __init__(self, secrets: SecretBox) -> None:
        self._secrets = secrets
        self._known: OrderedDict[tuple[str, str], Plan] = OrderedDict()

    def of(self, action: ActionRecord) -> Plan:
        """The plan of an action; raises Invalid for a config or a secret that cannot be used."""
        key = (action.type, action.config_text)
        plan = self._known.get(key)
        if plan is None:
            plan = self._make(action)
            if 0 < len(action.config_text) <= MAX_KEPT_CHARS:
                self._known[key] = plan
                if len(self._known) > MAX_PLANS:
                    self._known.popitem(last=False)
        return plan

    def _make(self, action: ActionRecord) -> Plan:
        module = KINDS[action.type]
        config = module.unseal(action.config, self._secrets.decrypt)
        model = parse_config(action.type, config)
        slots = tuple(module.slots(config))
        return Plan(
            kind=action.type,
            config=config,
            slots=slots,
            parts=tuple(Part(one.where, one.template) for one in slots),
            look_ups=look_ups_in(one.template for one in slots),
            ready=None if slots else model,
        )
