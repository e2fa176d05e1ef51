"""Free TCP ports for servers that only this machine talks to.

Invariant: a port is never drawn from the range that the kernel gives to outgoing connections
(32768 and up on Linux, 49152 and up on macOS). A server that was killed can therefore start again
on the same port: no client's connection sits on it meanwhile, and no client that redials connects
to itself. Nothing reserves a port: bind it soon.
"""

import secrets
import socket

FIRST_PORT = 20_000
LAST_PORT = 32_000

# With half the range taken, all draws fail once in 10^60.
MAX_DRAWS = 200


def free_port() -> int:
    """Draw a TCP port on which nothing listens at 127.0.0.1; OSError when there is none."""
    for _ in range(MAX_DRAWS):
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - FIRST_PORT + 1)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            # As the servers do: without it a port whose last connections linger counts as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"No free TCP port between {FIRST_PORT} and {LAST_PORT} on 127.0.0.1")
