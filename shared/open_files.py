"""Lets a process hold as many sockets as the system allows.

The usual soft limit of 1,024 open files is below what a worker with 1,000 deliveries in flight, or an API
with as many slow callers, needs. The hard limit is the operator's and is left alone.
"""

from __future__ import annotations

import resource

ENOUGH = 65_536


def raise_limit() -> None:
    """Raise the soft limit of open files to the hard one, up to ENOUGH."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH if hard == resource.RLIM_INFINITY else min(hard, ENOUGH)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
