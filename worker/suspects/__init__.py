"""Suspects: runs that were lost with their worker, and so may be why it died.

They run apart, in a child process that a worker starts when it finds some and that ends with them.
Its death is seen at once and takes along no run that is not a suspect too. What was lost once runs
beside at most MAX_TOGETHER - 1 others; what was lost twice or more has a process to itself, so that
what kills it is known for certain.

    intake (engine/intake.py) ──ids──▶ SuspectsApart ──ids, stdin──▶ child (__main__.py): an engine
                                            ▲                             │
                                            └──── «idle», or its end ─────┘

Invariants:

- Nothing is kept here that PostgreSQL does not know. What is forgotten, the sweep hints again.
- A child claims under a worker id that its parent has chosen, so that its parent can take its runs
  from it as soon as it is dead.
- A child ends when it has nothing left, and drains when its parent ends.
"""

from __future__ import annotations

MAX_TOGETHER = 11

# As max_losses: what was lost once; however often it was lost.
ONCE = 1
NO_BOUND = 1_000_000
