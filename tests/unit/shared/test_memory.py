"""Freed memory, given back."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

import pytest

SCRIPT = """
import os, random
from shared import memory
from tests.unit.shared.test_memory import resident_mib

before = resident_mib()
kept = [os.urandom(size) for size in random.choices([600, 3_000, 64 * 1024], k=4_000)]
random.shuffle(kept)
del kept[200:]
full = resident_mib() - before
memory.EVERY_SECONDS = 0.05
memory.give_back_now_and_then()
import time
deadline = time.monotonic() + 10
while resident_mib() - before > full / 3 and time.monotonic() < deadline:
    time.sleep(0.05)
print(full, resident_mib() - before)
"""


def resident_mib() -> float:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="NOT TESTED: the C library is not glibc"
)
def test_what_a_burst_has_left_goes_back_to_the_system() -> None:
    """Fails without it: most of the burst stays."""
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60
    )
    full, left = map(float, said.stdout.split())
    assert full > 40
    assert left < full / 3
