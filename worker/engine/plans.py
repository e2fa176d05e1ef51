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

from shared.action_types import KINDS, fill, parse_config, slots
from shared.action_types.texts import Filler, Slot
from shared.crypto import SecretBox
from shared.templates.jobs import Part, look_ups_in
from worker.records import ActionRecord

MAX_PLANS = 1_024

# So many parts of templates are kept with them, of about 500 bytes each.
MAX_WEIGHT = 32_768

# A longer config is read anew each time.
MAX_KEPT_CHARS = 4_096


class Plan(NamedTuple):
    """What an action's config says.

    model: of the config, opened, its templates as they are. look_ups: of its templates together,
    None if one does more.
    """

    kind: str
    filler: Filler
    model: BaseModel
    slots: tuple[Slot, ...]
    parts: tuple[Part, ...]
    look_ups: int | None

    @property
    def weight(self) -> int:
        """Of its templates."""
        return sum(one.template.weight for one in self.slots)

    @property
    def ready(self) -> BaseModel | None:
        """What its type prepares, where nothing of it is to be rendered."""
        return None if self.slots else self.model

    def filled(self, texts: Sequence[str]) -> Any:
        """The same with these texts in the places of its templates; raises Invalid."""
        return fill(self.kind, self.model, self.filler.fields(texts))


class Plans:
    """The plans of a worker. Used by its loop alone."""

    def __init__(self, secrets: SecretBox) -> None:
        self._secrets = secrets
        self._known: OrderedDict[tuple[str, str], Plan] = OrderedDict()
        self._weight = 0

    def of(self, action: ActionRecord) -> Plan:
        """The plan of an action; raises Invalid for a config or a secret that cannot be used."""
        key = (action.type, action.config_text)
        plan = self._known.get(key)
        if plan is None:
            plan = self._make(action)
            if 0 < len(action.config_text) <= MAX_KEPT_CHARS:
                self._keep(key, plan)
        return plan

    def _keep(self, key: tuple[str, str], plan: Plan) -> None:
        self._known[key] = plan
        self._weight += plan.weight
        while len(self._known) > MAX_PLANS or self._weight > MAX_WEIGHT:
            _, dropped = self._known.popitem(last=False)
            self._weight -= dropped.weight

    def _make(self, action: ActionRecord) -> Plan:
        config = KINDS[action.type].unseal(action.config, self._secrets.decrypt)
        model = parse_config(action.type, config)
        found = tuple(slots(action.type, config))
        return Plan(
            kind=action.type,
            filler=Filler(config, found),
            model=model,
            slots=found,
            parts=tuple(Part(one.where, one.template) for one in found),
            look_ups=look_ups_in(one.template for one in found),
        )
