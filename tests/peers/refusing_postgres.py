"""A PostgreSQL that says one thing before the login, in bytes of its own choice, and hangs up."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

STARTUP_BYTES = 4096


@contextlib.contextmanager
def refusing_postgres(severity: bytes, message: bytes) -> Iterator[str]:
    """The URL of a server that answers everybody with this error."""
    fields = b"S" + severity + b"\0C57P03\0M" + message + b"\0\0"
    said = b"E" + struct.pack("!i", len(fields) + 4) + fields

    def serve() -> None:
        with contextlib.suppress(OSError):  # the listener is closed: the test is over
            while True:
                client, _ = listener.accept()
                with client:
                    client.recv(STARTUP_BYTES)
                    client.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"postgresql://u:x@127.0.0.1:{listener.getsockname()[1]}/db?sslmode=disable&gssencmode=disable"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
