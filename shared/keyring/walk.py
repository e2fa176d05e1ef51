"""The way through one column: once to count, or round after round, until nothing is left to renew.

Invariants:

- Each chunk is one statement that commits by itself. What is under the newest key is passed over.
- What was written before a rotation began, and is written only once, is gone through once, unless
  somebody held a row of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from shared.crypto import SecretBox
from shared.keyring.columns import PORTION_ROWS, Key, Renewal, SealedColumn, Value, chunks
from shared.keyring.survey import RoundProgress, Survey, Told
from shared.keyring.texts import ValueReading, read


@dataclass
class Walk:
    """One column. since: before this key nobody but the rotation writes, None if anybody may
    anywhere. past: what was found before it, once nothing is left to do there.
    """

    cursor: Any
    column: SealedColumn
    box: SecretBox
    told: Told
    writes: bool = False
    since: Key | None = None
    past: Survey | None = None

    def go(self, number: int) -> Survey:
        """Go once through it. number: of the round."""
        found = Survey()
        done = 0
        if self.since is not None and self.past is None:
            done = self._stretch(found, number, 0, None, self.since)
            if not found.left:
                self.past = found.under(self.box.newest)
        elif self.past is not None:
            found.add(self.past)
        done = self._stretch(found, number, done, self.since, None)
        self._tell(number, done, found, is_over=True)
        return found

    def _stretch(self, found: Survey, number: int, done: int, after: Key | None, until: Key | None) -> int:
        """Go from one key to another; how many rows were read until then."""
        while lengths := self.column.portion(self.cursor, after, until):
            for keys in chunks(lengths):
                self._chunk(found, keys)
            done += len(lengths)
            after = lengths[-1].key
            if len(lengths) < PORTION_ROWS:
                break
            self._tell(number, done, found)
        return done

    def _chunk(self, found: Survey, keys: Sequence[Key]) -> None:
        """Count what these rows hold, and renew it."""
        readings = self._readings(keys)
        renewals = _renewals(readings)
        if self.writes and renewals:
            written = self.column.write(self.cursor, renewals)
            found.renewed += written
            if written < len(renewals):  # some are held, changed or gone: the first are left for later
                readings = self._readings(keys)
                found.left += len(_renewals(readings))
        for value, reading in readings:
            found.count(value, reading, self.column)

    def _readings(self, keys: Sequence[Key]) -> list[tuple[Value, ValueReading]]:
        pattern = self.column.pattern
        return [(value, read(value.text, self.box, pattern)) for value in self.column.read(self.cursor, keys)]

    def _tell(self, number: int, done: int, found: Survey, *, is_over: bool = False) -> None:
        rows = max(done, self.column.rows)
        self.told(RoundProgress(number, self.column.name, done, rows, found.renewed, is_over))


def _renewals(readings: Sequence[tuple[Value, ValueReading]]) -> list[Renewal]:
    return [
        Renewal(value.key, value.text, reading.text)
        for value, reading in readings
        if reading.text != value.text
    ]
