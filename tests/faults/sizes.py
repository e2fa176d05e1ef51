"""How big the fault tests are: small enough for every change, or full under `make soak`
(POINTSMAN_SOAK=1).
"""

from __future__ import annotations

import os
from typing import TypeVar

SOAK = os.environ.get("POINTSMAN_SOAK") == "1"

Size = TypeVar("Size", int, float)


def size(everyday: Size, soak: Size) -> Size:
    """The size of this run."""
    return soak if SOAK else everyday


def progress(what: str) -> None:
    """Say how far a long test is."""
    if SOAK:
        print(f"    {what}", flush=True)
