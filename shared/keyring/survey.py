"""What was found on a way through the columns: which key opens how much, and what none opens.

Invariant: what only looks sealed, as users and callers may write it, needs no key and hides nothing
that does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from shared.crypto import SecretBox
from shared.keyring.columns import SealedColumn, Value
from shared.keyring.texts import UNNAMED, ValueReading, name_of

# So many rows with what a key that is missing has sealed are named, of each column.
NAMED_ROWS = 10


@dataclass(frozen=True, slots=True)
class RoundProgress:
    """How far a round is. rows: that its table has, about; renewed: values, in this round."""

    number: int
    column: str
    read: int
    rows: int
    renewed: int
    is_over: bool = False


Told = Callable[[RoundProgress], None]


@dataclass(slots=True)
class Survey:
    """What one round has found.

    opened: how many sealed texts each key opens, by its id and the column; closed: how many none
    opens, by the id that they name and the column; rows: where these are, likewise: the first part
    of the row's key. lookalikes: how many texts only look sealed, by the column. renewed: values
    that were written; left: values that somebody held. is_settled: not, if values came under other
    keys as long as there was patience.
    """

    opened: Counter[tuple[str, str]] = field(default_factory=Counter)
    closed: Counter[tuple[str, str]] = field(default_factory=Counter)
    rows: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    lookalikes: Counter[str] = field(default_factory=Counter)
    renewed: int = 0
    left: int = 0
    is_settled: bool = True

    def count(self, value: Value, reading: ValueReading, column: SealedColumn) -> None:
        """Count what a value holds."""
        for key, count in reading.opened.items():
            self.opened[key, column.name] += count
        if not reading.closed:
            return
        is_ours = column.is_ours(value)
        for sealed in reading.closed:
            if is_ours(sealed):
                self._count_closed((name_of(sealed), column.name), value.key[0])
            else:
                self.lookalikes[column.name] += 1

    def add(self, other: Survey) -> None:
        """Add what was found elsewhere in the same round."""
        self.opened += other.opened
        self.closed += other.closed
        self.lookalikes += other.lookalikes
        for name, rows in other.rows.items():
            known = self.rows.setdefault(name, [])
            known += rows[: NAMED_ROWS - len(known)]
        self.renewed += other.renewed
        self.left += other.left

    def under(self, key: str) -> Survey:
        """The same after what opens has come under this key."""
        opened: Counter[tuple[str, str]] = Counter()
        for (_, column), count in self.opened.items():
            opened[key, column] += count
        closed = Counter(self.closed), {name: [*rows] for name, rows in self.rows.items()}
        return Survey(opened, *closed, Counter(self.lookalikes))

    def values_of(self, key: str, box: SecretBox) -> dict[str, int]:
        """How many sealed texts need a key, by column."""
        found = self.opened if key in box.key_ids else self.closed
        return {column: count for (one, column), count in found.items() if one == key}

    def missing(self, box: SecretBox) -> set[str]:
        """The keys, by their ids, that something needs and the box does not have."""
        return {key for key, _ in self.closed} - {*box.key_ids, UNNAMED}

    def needed(self, box: SecretBox) -> set[str]:
        """The keys, by their ids, that are needed: to seal, to open, or to open what is closed."""
        return {box.newest, *self.missing(box), *(key for key, _ in self.opened)}

    @property
    def unreadable(self) -> int:
        """How many sealed texts no key opens."""
        return self.closed.total()

    def _count_closed(self, name: tuple[str, str], row: str) -> None:
        self.closed[name] += 1
        rows = self.rows.setdefault(name, [])
        if len(rows) < NAMED_ROWS and row not in rows:
            rows.append(row)
