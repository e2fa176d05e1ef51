"""What is made of texts, kept for whoever needs it again.

Invariant: what is kept has at most so much weight together, whoever thinks up the texts. What was
not used for longest goes first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar


class Weighed(Protocol):
    """What says how heavy it is, in a unit of its own."""

    @property
    def weight(self) -> int: ...


T = TypeVar("T", bound=Weighed)


class Kept(Generic[T]):
    """Makes things of keys, and keeps them. Used by any thread.

    What weighs more than an eighth of everything is made anew each time.
    """

    def __init__(self, make: Callable[..., T], at_most: int) -> None:
        self._make = make
        self._at_most = at_most
        self._known: OrderedDict[Any, T] = OrderedDict()
        self._lock = threading.Lock()
        self.weight = 0

    def __call__(self, *key: Any) -> T:
        """What is made of this key; raises what making it raises."""
        known = self._known.get(key)
        if known is not None:
            try:  # noqa: SIM105 - suppress() takes longer than all the rest
                self._known.move_to_end(key)
            except KeyError:  # another thread has just dropped it
                pass
            return known
        made = self._make(*key)
        if made.weight <= self._at_most // 8:
            self._keep(key, made)
        return made

    def _keep(self, key: Any, made: T) -> None:
        with self._lock:
            if key in self._known:
                return
            self._known[key] = made
            self.weight += made.weight
            while self.weight > self._at_most:
                _, dropped = self._known.popitem(last=False)
                self.weight -= dropped.weight
