"""The texts of a config that may be templates: where each stands and what it becomes.

Invariant: a config is filled without being changed, since whoever reads it next has the same one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from shared.templates.language import TemplateError
from shared.templates.targets import Target
from shared.templates.template import Template, is_template, template

Path = tuple[str | int, ...]

RENDERED = {"rendered": True}
"""The context in which a filled config is checked: nothing in it is a template any more."""


class Slot(NamedTuple):
    """One template of a config. path: where it stands, by keys and positions."""

    path: Path
    template: Template

    @property
    def where(self) -> str:
        """Its place, as errors name it."""
        return _place(self.path)


def _place(path: Path) -> str:
    return ".".join(map(str, ("config", *path)))


def slot(text: Any, target: Target, *path: str | int) -> Iterator[Slot]:
    """The template of one text, if it is one; raises TemplateError naming the place."""
    if isinstance(text, str) and is_template(text):
        try:
            yield Slot(path, template(text, target))
        except TemplateError as error:
            raise error.at(_place(path)) from None


def slots_of_values(values: Any, target: Target, *path: str | int) -> Iterator[Slot]:
    """The templates anywhere among values: those of an object and of a list, not its keys."""
    match values:
        case dict():
            for key, value in values.items():
                yield from slots_of_values(value, target, *path, key)
        case list():
            for position, value in enumerate(values):
                yield from slots_of_values(value, target, *path, position)
        case _:
            yield from slot(values, target, *path)


def filled(config: dict[str, Any], slots: Sequence[Slot], texts: Sequence[str]) -> dict[str, Any]:
    """The config with these texts in the places of its templates.

    A template that is one JSON value, in a place where values stand, becomes that value.
    """
    made = config
    for one, text in zip(slots, texts, strict=True):
        value = orjson.Fragment(text) if one.template.is_json_value and len(one.path) > 1 else text
        made = _with(made, one.path, value)
    return made


def _with(values: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    copied = values.copy()
    copied[path[0]] = _with(values[path[0]], path[1:], value)
    return copied
