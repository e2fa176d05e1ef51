"""Bodies of the load: JSON of random values, seeded, no two in a row alike.

A body that repeats one letter is compressed to nothing by whatever stores it, so that it would
measure less work than a caller's does. What fills a body up is base64 of random bytes, of which
PostgreSQL's compression makes nothing smaller.
"""

from __future__ import annotations

import base64
import random

SEED = 280

# In turn; 256 of the largest are 16 MiB of the load generator.
COUNT = 256
SMALL_BYTES = 75


def make_bodies(length: int = SMALL_BYTES) -> tuple[str, ...]:
    """So many different bodies of about this length in bytes, the same in every run.

    None contains a line break.
    """
    values = random.Random(SEED)
    return tuple(_body(values, length) for _ in range(COUNT))


def _body(values: random.Random, length: int) -> str:
    fields = (
        f'"order": {values.randrange(10**5)}, "customer": "c-{values.randrange(10**4)}", '
        f'"amount": {values.randrange(10**4)}, "currency": "{values.choice(("EUR", "USD", "CHF"))}"'
    )
    missing = length - len(fields) - len('{, "data": ""}')
    if missing <= 0:
        return f"{{{fields}}}"
    data = base64.b64encode(values.randbytes(missing)).decode()[:missing]
    return f'{{{fields}, "data": "{data}"}}'
