"""Which names a template may use, and which answers it needs.

Invariant: a name that can never mean anything is refused when it is written, with its place and
with the nearest name that there is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from liquid.builtin.expressions import BooleanExpression, Path
from liquid.template import BoundTemplate

from shared.templates.language import at, expressions_in
from shared.templates.scope import ANSWER_FIELDS, FIELDS, ROOTS

RESPONSE = "response"


class Named(NamedTuple):
    """A name in a text: its parts, each a text, a number or another name, and where it stands."""

    parts: Sequence[Any]
    position: int


def of_template(parsed: BoundTemplate) -> list[Named]:
    """What a template names, but for what it has itself assigned."""
    found = parsed.analyze(include_partials=False).globals.values()
    return [Named(one.segments, one.span.index) for names in found for one in names]


def of_condition(parsed: BooleanExpression) -> list[Named]:
    """What a condition names."""
    return [
        Named([part if isinstance(part, str | int) else ... for part in one.path], one.token.start_index)
        for one in expressions_in(parsed)
        if isinstance(one, Path)
    ]


def check(names: Iterable[Named], text: str, actions: Collection[str]) -> None:
    """Refuse a name that means nothing; raises TemplateError.

    actions: the names of those that come before.
    """
    for parts, index in names:
        _known(text, index, "", parts[0], ROOTS)
        rest = parts[1:]
        if parts[0] in FIELDS and rest:
            _known(text, index, f"{parts[0]}.", rest[0], FIELDS[parts[0]])
        if parts[0] == "actions":
            if len(rest) < 2:
                raise at(text, index, "write actions.<name>.response, and what of it")
            _known(text, index, "actions.", rest[0], actions)
            _known(text, index, f"actions.{rest[0]}.", rest[1], (RESPONSE,))
            if len(rest) > 2:
                _known(text, index, f"actions.{rest[0]}.{RESPONSE}.", rest[2], ANSWER_FIELDS)


def answers_in(names: Iterable[Named]) -> frozenset[str]:
    """The names of the actions whose answers are needed."""
    return frozenset(
        parts[1]
        for parts, _ in names
        if parts[0] == "actions" and len(parts) > 1 and isinstance(parts[1], str)
    )


def _known(text: str, index: int, before: str, name: Any, known: Collection[str]) -> None:
    if isinstance(name, str) and name in known:
        return
    if not isinstance(name, str):
        raise at(text, index, f"what follows {before.rstrip('.')} must be written out")
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    if near:
        raise at(text, index, f"there is no {before}{name}; did you mean {before}{near[0]}")
    listed = ", ".join(sorted(known)) or "none"
    raise at(text, index, f"there is no {before}{name}; there is: {listed}")
