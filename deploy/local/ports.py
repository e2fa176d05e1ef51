"""Free TCP ports for servers that only this machine talks to.

Invariants:

- A port is never drawn from the range that the kernel gives to outgoing connections (32768 and up
  on Linux, 49152 and up on macOS). A server that was killed can therefore start again on the same
  port: no client's connection sits on it meanwhile, and no client that redials connects to itself.
- A port that was drawn or kept is drawn by nobody else as long as this process lives: on Linux by
  no other process either, although its server may take some time to bind it.
"""

import secrets
import socket
import sys

FIRST_PORT = 20_000
LAST_PORT = 32_000

# With half the range taken, all draws fail once in 10^60.
MAX_DRAWS = 200

# Bound, and never listened on: a server may bind the same, if it says SO_REUSEADDR as servers do.
# Where the kernel does not allow that, the number alone is kept.
_kept: dict[int, socket.socket | None] = {}


def free_port() -> int:
    """Draw a TCP port on which nothing listens at 127.0.0.1; OSError when there is none."""
    for _ in range(MAX_DRAWS):
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT + 1)
        if port not in _kept and _keep(port):
            return port
    raise OSError(f"No free TCP port between {FIRST_PORT} and {LAST_PORT} on 127.0.0.1")


def keep_port(port: int) -> None:
    """Have nobody draw this port, which somebody will bind. One that is taken needs no keeping."""
    if port not in _kept and not _keep(port):
        _kept[port] = None


def _keep(port: int) -> bool:
    """Bind it for ourselves; False if somebody has it, or its last connections linger."""
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        probe.close()
        return False
    if sys.platform == "linux":
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _kept[port] = probe
    else:
        probe.close()
        _kept[port] = None
    return True
