"""The texts of a config that may be templates: where each stands and what it becomes.

Invariant: a config is filled without being changed, since whoever reads it next has the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import orjson

from shared.templates.language import MAX_MARKUPS, TemplateError
from shared.templates.targets import Target
from shared.templates.template import Template, is_template, template

Path = tuple[str | int, ...]

RENDERED = {"rendered": True}
"""The context in which a filled config is checked: nothing in it is a template any more."""


class Slot(NamedTuple):
    """One template of a config.

    path: where it stands, by keys and positions. is_value: any JSON value may stand there.
    """

    path: Path
    template: Template
    is_value: bool = False

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


def slots_of_texts(texts: Any, target: Target, *path: str | int) -> Iterator[Slot]:
    """The templates among texts that have names, not those of the names."""
    if isinstance(texts, dict):
        for name, text in texts.items():
            yield from slot(text, target, *path, name)


def slots_of_values(values: Any, *path: str | int) -> Iterator[Slot]:
    """The templates anywhere among JSON values: those of an object and of a list, not its keys."""
    match values:
        case dict():
            for key, value in values.items():
                yield from slots_of_values(value, *path, key)
        case list():
            for position, value in enumerate(values):
                yield from slots_of_values(value, *path, position)
        case _:
            for one in slot(values, Target.TEXT, *path):
                yield one._replace(is_value=True)


def bounded(slots: Iterable[Slot]) -> list[Slot]:
    """The templates of a config; raises TemplateError if they are too many together.

    They are parsed one by one, and no longer than that.
    """
    found, count = [], 0
    for one in slots:
        count += sum(map(one.template.text.count, ("{{", "{%")))
        if count > MAX_MARKUPS:
            raise TemplateError(
                f"The texts of an action have at most {MAX_MARKUPS} tags and outputs together."
            )
        found.append(one)
    return found


def filled(config: dict[str, Any], slots: Sequence[Slot], texts: Sequence[str]) -> dict[str, Any]:
    """The config with these texts in the places of its templates.

    A template that is one JSON value, in a place where values stand, becomes that value.
    """
    copies: dict[Path, Any] = {(): config.copy()}
    for one, text in zip(slots, texts, strict=True):
        is_json = one.is_value and one.template.is_json_value
        _copied(copies, one.path[:-1])[one.path[-1]] = orjson.Fragment(text) if is_json else text
    made: dict[str, Any] = copies[()]
    return made


def _copied(copies: dict[Path, Any], path: Path) -> Any:
    """The copy of what stands at this path, made once."""
    if path not in copies:
        above = _copied(copies, path[:-1])
        copies[path] = above[path[-1]] = above[path[-1]].copy()
    return copies[path]
