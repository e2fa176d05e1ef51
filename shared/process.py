"""How one of our processes begins: settings, logging, as many sockets as the system allows.

A configuration that cannot be used ends the process with exit code 78 (EX_CONFIG), which tells the
supervisor that starting it again is of no use. A server that is away, or lets nobody in, does not:
the process says so and goes on, since it heals by itself once the server is back. If PostgreSQL
then says that the encryption keys do not fit, the process ends after all.
"""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

from shared import config, logs, startup
from shared.config import Settings
from shared.errors import ConfigError
from shared.memory import give_back_now_and_then

Made = TypeVar("Made")

EX_CONFIG = 78
ENOUGH_FILES = 65_536
SWITCH_SECONDS = 0.001
"""How long a thread keeps the interpreter from another that wants it.

With Python's 5 ms each answer of PostgreSQL waits that long behind a busy event loop, several times
in each batch.
"""
NEW_OBJECTS = 10_000
"""How many more objects than before start a collection of young ones.

Python's 700 are those of a few requests.
"""


def begin(make: Callable[[Settings], Made]) -> tuple[Settings, Made]:
    """Read the settings, set up the process and make what it runs on; exits when the settings
    cannot be used.
    """
    try:
        settings = config.read()
        logs.configure(settings.log_level, settings.log_format)
        _raise_limit_of_files()
        leave_no_core()
        sys.setswitchinterval(SWITCH_SECONDS)
        knows_its_keys = startup.examine(settings)
        made = make(settings)
        if not knows_its_keys:
            threading.Thread(target=_examine_keys, args=(settings,), name="keys", daemon=True).start()
        _collect_less_garbage()
        give_back_now_and_then()
        return settings, made
    except ConfigError as error:
        sys.stderr.write(f"{error.message} {error.hint}\n")
        sys.exit(EX_CONFIG)


def _examine_keys(settings: Settings) -> None:
    """End the process as soon as PostgreSQL says that its keys do not fit."""
    try:
        startup.examine_keys_later(settings)
    except ConfigError as error:
        end_misconfigured(error)


def end_misconfigured(error: ConfigError) -> None:
    """End the process from any of its threads, for a configuration that cannot be used."""
    sys.stderr.write(f"{error.message} {error.hint}\n")
    sys.stderr.flush()
    os._exit(EX_CONFIG)


def _collect_less_garbage() -> None:
    """Leave what was loaded at the start out of every later collection, and make these fewer."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])


def leave_no_core() -> None:
    """Have the kernel write no file of this process's memory, nor of its children's, when it
    crashes: secrets stand in it. `prlimit --core` allows it again.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def _raise_limit_of_files() -> None:
    """Raise the soft limit to the hard one: 1,024 is too few for 1,000 deliveries in flight."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ENOUGH_FILES if hard == resource.RLIM_INFINITY else min(hard, ENOUGH_FILES)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
