"""What groups of processes cost: CPU time and peak memory, read from /proc; and how busy the
machine was in all.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

# Of /proc/stat: user, nice, system, irq, softirq, steal; guest time is in user.
BUSY = (0, 1, 2, 5, 6, 7)

# Of the machine: what idle servers and the benchmark itself use.
QUIET_SHARE = 0.05

# One after the other, so that a pause between two pieces of work does not pass for the end.
QUIET_PERIODS = 2
PERIOD_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Group:
    """Processes that are counted as one. below: with everything that they started."""

    pids: tuple[int, ...] = ()
    below: bool = True


@dataclass(frozen=True, slots=True)
class Usage:
    """cpu_seconds: user and system time, of children that have ended too. peak_bytes: sum of the
    peaks.

    resident_bytes: sum of what they hold now.
    """

    cpu_seconds: float
    peak_bytes: int
    resident_bytes: int


def usage_of(group: Group) -> Usage:
    """What the processes of a group have used until now."""
    pids = [pid for root in group.pids for pid in (tree(root) if group.below else [root])]
    return Usage(
        sum(map(_cpu_seconds, pids)),
        sum(_memory_bytes(pid, "VmHWM") for pid in pids),
        sum(_memory_bytes(pid, "VmRSS") for pid in pids),
    )


def tree(root: int) -> list[int]:
    """A process and everything below it, parents before their children."""
    found = [root]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def machine_busy_seconds() -> float:
    """CPU time that anybody has used on this machine since it started, stolen time included."""
    with Path("/proc/stat").open() as file:
        fields = file.readline().split()[1:]
    return sum(int(fields[index]) for index in BUSY) / TICKS_PER_SECOND


def wait_until_quiet(seconds: float) -> bool:
    """Wait until next to nothing works on this machine, at most so long; whether that came."""
    deadline = time.monotonic() + seconds
    quiet = 0
    while quiet < QUIET_PERIODS and time.monotonic() < deadline:
        before, began = machine_busy_seconds(), time.monotonic()
        time.sleep(PERIOD_SECONDS)
        share = (machine_busy_seconds() - before) / (time.monotonic() - began) / (os.cpu_count() or 1)
        quiet = quiet + 1 if share < QUIET_SHARE else 0
    return quiet == QUIET_PERIODS


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return sum(int(ticks) for ticks in fields[11:15]) / TICKS_PER_SECOND


def _memory_bytes(pid: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))
