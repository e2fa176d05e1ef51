"""What one value of a column holds that is sealed, and the same value under the newest key.

Invariant: nothing changes but sealed texts that open. What only looks like one, as anybody may have
written it, stays byte for byte what it is, and is told.

Earlier versions wrote bare ciphertexts, without the id of a key. These were whole values, or stood
behind the origin of a URL; in JSON they were the `secret` of a signing secret.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from shared.crypto import SEALED, SecretBox, sealed_by

_SEALED = r"sealed:([0-9a-f]{8}):[A-Za-z0-9_=-]+"

# Fernet's version, a time before the year 4000, and at least one block.
_BARE = r"gAAAAA[A-Za-z0-9_-]{92,}={0,2}"

NAMED = re.compile(_SEALED)
NAMED_OR_WHOLE = re.compile(rf"{_SEALED}|(?:\A|(?<= )){_BARE}\Z")
NAMED_OR_SECRET = re.compile(rf'{_SEALED}|(?<="secret": "){_BARE}(?=")')
"""Sealed texts as they stand in JSON, in a text, and in the JSON of signing secrets."""

UNNAMED = "unnamed"
"""Instead of a key's id, of a bare ciphertext."""


@dataclass(frozen=True, slots=True)
class ValueReading:
    """One value. text: what it is under the newest key.

    opened: how many sealed texts each key opens, by its id. closed: those that none opens.
    """

    text: str
    opened: Counter[str]
    closed: list[str]


def read(text: str, box: SecretBox, pattern: re.Pattern[str] = NAMED) -> ValueReading:
    """Read a value, and what is sealed within a sealed text. pattern: what one looks like there."""
    opened: Counter[str] = Counter()
    closed: list[str] = []

    def renewed(found: re.Match[str]) -> str:
        sealed, named = found.group(), found[1]
        known = box.open(sealed)
        if known is None:
            closed.append(sealed)
            return sealed
        key, plain = known
        opened[key] += 1
        within = plain
        if SEALED in plain:  # what does not open there is what somebody wrote
            reading = read(plain, box)
            opened.update(reading.opened)
            within = reading.text
        return sealed if named == box.newest and within == plain else box.encrypt(within)

    return ValueReading(pattern.sub(renewed, text), opened, closed)


def name_of(sealed: str) -> str:
    """The id of the key that a sealed text names."""
    return sealed_by(sealed) or UNNAMED
