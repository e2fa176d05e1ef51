"""Names looked up quickly: a path through objects is a look into a dict for each of its steps.

Invariant: whatever is not as plain as that is for the library, so that it means the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from liquid.builtin.expressions import Path
from liquid.context import RenderContext
from liquid.expression import Expression
from liquid.undefined import UNDEFINED


class LookUps(RenderContext):
    """What look-ups and conditions are evaluated in, of which none assigns anything."""

    __slots__ = ()

    def get(self, path: list[Any], *, token: Any, default: Any = UNDEFINED) -> Any:
        """What a path leads to."""
        try:
            found: Any = self.globals[path[0]]
            for key in path[1:]:
                if type(found) is not dict:
                    return super().get(path, token=token, default=default)
                found = found[key]
        except (KeyError, TypeError):
            return super().get(path, token=token, default=default)
        return found


class _FixedPath(Path):
    """A path that has no other path in it."""

    __slots__ = ()

    def evaluate(self, context: RenderContext) -> object:
        return context.get(self.path, token=self.token)  # type: ignore[arg-type]


def quicken(expressions: Iterable[Expression]) -> None:
    """Spare the paths among these a look at each of their steps, at each evaluation."""
    for one in expressions:
        if type(one) is Path and not one.children():
            one.__class__ = _FixedPath
