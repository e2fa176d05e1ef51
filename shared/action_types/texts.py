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


class Filler:
    """Puts texts into the places of a config's templates."""

    def __init__(self, config: dict[str, Any], slots: Sequence[Slot]) -> None:
        self._config = config
        self._count = len(slots)
        self._root = _node([(one.path, number, one) for number, one in enumerate(slots)])

    def fields(self, texts: Sequence[str]) -> dict[str, Any]:
        """The fields that have templates, filled. texts: one for each slot.

        A template that is one JSON value, in a place where values stand, becomes that value.
        """
        if len(texts) != self._count:
            raise ValueError(f"{len(texts)} texts for {self._count} templates")
        made: dict[str, Any] = _filled({}, self._root, self._config, texts)
        return made


class _Node(NamedTuple):
    """What is filled in an object or a list, and in what stands in it.

    leaves: each with its key, the number of its text, and whether it is JSON.
    """

    leaves: tuple[tuple[str | int, int, bool], ...]
    branches: tuple[tuple[str | int, _Node], ...]


def _node(slots: Sequence[tuple[Path, int, Slot]]) -> _Node:
    """The node of slots, of which each is given with the path that is left to it."""
    leaves = []
    below: dict[str | int, list[tuple[Path, int, Slot]]] = {}
    for path, number, one in slots:
        if len(path) == 1:
            leaves.append((path[0], number, one.is_value and one.template.is_json_value))
        else:
            below.setdefault(path[0], []).append((path[1:], number, one))
    return _Node(tuple(leaves), tuple([(key, _node(found)) for key, found in below.items()]))


def _filled(made: Any, node: _Node, kept: Any, texts: Sequence[str]) -> Any:
    """What is made of a copy."""
    for key, number, is_json in node.leaves:
        made[key] = orjson.Fragment(texts[number]) if is_json else texts[number]
    for key, below in node.branches:
        made[key] = _filled(kept[key].copy(), below, kept[key], texts)
    return made
