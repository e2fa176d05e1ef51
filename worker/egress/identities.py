"""What clients show of themselves in TLS: a context for each identity.

Invariants:

- A connection that was made with one identity is used by no other, nor without one: the connector
  keeps connections by their context, and no two identities share one.
- Whom a server must be signed by is the identity's own to say, and holds for its requests alone.
- A private key stands in no file: where Linux cannot hand it over in memory, the file is gone as
  soon as it was read, and nobody else could open it.

Reading the usual authorities takes tens of ms. So contexts are made in a thread, each once.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from worker.egress.errors import bad_request
from worker.egress.messages import ClientIdentity

DESCRIPTORS = Path("/proc/self/fd")

# With the usual authorities each takes almost 1 MiB.
MAX_IDENTITIES = 100


class Identities:
    """Contexts by the names of their identities, at most MAX_IDENTITIES of them.

    Lives in one event loop. forgotten: called with each context that is not kept any more.
    """

    def __init__(self, forgotten: Callable[[ssl.SSLContext], None] = lambda _context: None) -> None:
        self._forgotten = forgotten
        self._contexts: dict[str, asyncio.Task[ssl.SSLContext]] = {}

    def close(self) -> None:
        """Let nobody wait any longer. A thread that makes one ends when it has."""
        for task in self._contexts.values():
            task.cancel()
        self._contexts.clear()

    async def context(self, identity: ClientIdentity) -> ssl.SSLContext:
        """The context of an identity; raises EgressError if it cannot be used."""
        task = self._contexts.pop(identity.name, None)
        if task is None or task.cancelled() or (task.done() and task.exception() is not None):
            task = asyncio.create_task(asyncio.to_thread(make_context, identity))
            task.add_done_callback(_heard)
        self._contexts[identity.name] = task  # at the end: what was not used for longest goes first
        if len(self._contexts) > MAX_IDENTITIES:
            self._forget(next(iter(self._contexts)))
        try:
            return await asyncio.shield(task)  # others may wait for it
        except (ssl.SSLError, OSError, ValueError) as error:
            reason = getattr(error, "reason", None)  # OpenSSL's own words
            why = f" ({reason.replace('_', ' ').lower()})" if isinstance(reason, str) else ""
            raise bad_request(f"The client certificate of the credential cannot be used{why}.") from None

    def _forget(self, name: str) -> None:
        task = self._contexts.pop(name)
        if task.done() and not task.cancelled() and task.exception() is None:
            self._forgotten(task.result())


def make_context(identity: ClientIdentity) -> ssl.SSLContext:
    """A context that shows this identity; raises SSLError, OSError or ValueError."""
    context = ssl.create_default_context(cadata=identity.ca)
    context.set_alpn_protocols(("http/1.1",))
    with _as_file(f"{identity.certificate}\n{identity.private_key}") as path:
        context.load_cert_chain(path, password=_no_passphrase)
    return context


def _heard(task: asyncio.Task[ssl.SSLContext]) -> None:
    """Whoever waited for it may have gone: what it raised is no fault then."""
    if not task.cancelled():
        task.exception()


def _no_passphrase() -> str:
    """Asked for by a key that has one. OpenSSL would ask on the terminal."""
    raise ValueError("the private key has a passphrase")


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """The path of a file that holds this text as long as the block lasts."""
    if hasattr(os, "memfd_create") and DESCRIPTORS.is_dir():
        descriptor, file_path = os.memfd_create("identity"), None
        path = str(DESCRIPTORS / str(descriptor))
    else:
        descriptor, path = tempfile.mkstemp()  # which nobody else may read
        file_path = Path(path)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(text.encode())
        yield path
    finally:
        os.close(descriptor)
        if file_path is not None:
            file_path.unlink()
