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

from shared.crypto import SecretBox

_SEALED = r"sealed:([0-9a-f]{8}):[A-Za-z0-9_=-]+"

# Fernet's version, a time before the year 4000, and at least one block.
_BARE = r"gAAAAA[A-Za-z0-9_-]{92,}={0,2}"

NAMED = re.compile(_SEALED)
NAMED_OR_WHOLE = re.compile(rf"{_SEALED}|(?:\A|(?<= )){_BARE}\Z")
NAMED_OR_SECRET = re.compile(rf'{_SEALED}|(?<="secret": "){_BARE}(?=")')
"""Sealed texts as they stand in JSON, in a text, and in the JSON of signing secrets."""

UNNAMED = "unnamed"
"""Instead of a key's id, of a bare ciphertext that no key opens."""


@dataclass(frozen=True, slots=True)
class ValueReading:
    """One value. text: what it is under the newest key.

    opened: how many sealed texts each key opens, by its id. closed: how many none opens, by the id
    that they name.
    """

    text: str
    opened: Counter[str]
    closed: Counter[str]


def read(text: str, box: SecretBox, pattern: re.Pattern[str] = NAMED) -> ValueReading:
    """Read a value. pattern: what a sealed text looks like there."""
    opened: Counter[str] = Counter()
    closed: Counter[str] = Counter()

    def renewed(found: re.Match[str]) -> str:
        sealed, named = found.group(), found[1]
        known = box.open(sealed)
        if known is None:
            closed[named or UNNAMED] += 1
            return sealed
        key, plain = known
        opened[key] += 1
        return sealed if named == box.newest else box.encrypt(plain)

    return ValueReading(pattern.sub(renewed, text), opened, closed)
