"""A Valkey with a replica, watched by a sentinel that puts the one in the other's place."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from deploy.local.ports import free_port
from deploy.local.valkey import PROGRAM, EmbeddedValkey
from tests.running import eventually

MASTER = "the-master"
PASSWORD = "of-the-servers"
SENTINEL_PASSWORD = "of-the-sentinel"


@dataclass
class Watched:
    """url: by which the master is found, whoever it is. first: who is it now."""

    url: str
    first: subprocess.Popen[bytes]
    port: int

    def kill_first(self) -> None:
        """Kill the master and wait until the sentinel says that another one is it."""
        before = self._master()
        self.first.kill()
        self.first.wait()
        eventually(lambda: self._master() != before, 30, "another master")

    def _master(self) -> tuple[str, int]:
        with closing(redis.Redis(port=self.port, password=SENTINEL_PASSWORD)) as client:
            masters: Any = client.sentinel_masters()
            return masters[MASTER]["ip"], masters[MASTER]["port"]


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    """Start all three; the first sentinel of the URL is not there."""
    with ExitStack() as stack:
        master = _server(folder / "master")
        first = _start(stack, master)
        replica = _server(folder / "replica", replicaof=f"127.0.0.1 {master.port}")
        _start(stack, replica)
        port = _start_sentinel(stack, folder, master.port)
        with closing(redis.Redis.from_url(replica.url)) as client:
            eventually(lambda: client.info("replication")["master_link_status"] == "up", 15, "a replica")
        with closing(redis.Redis(port=port, password=SENTINEL_PASSWORD)) as client:
            masters: Any = client.sentinel_masters
            eventually(lambda: masters()[MASTER]["num-slaves"] == 1, 30, "a known replica")
        url = (
            f"sentinel://:{PASSWORD}@127.0.0.1:1;sentinel://127.0.0.1:{port}/0"
            f"?master_name={MASTER}&sentinel_password={SENTINEL_PASSWORD}"
        )
        yield Watched(url, first, port)


def _server(folder: Path, **options: str) -> EmbeddedValkey:
    folder.mkdir()
    (folder / "password").write_text(PASSWORD)
    server = EmbeddedValkey(folder, options={"masterauth": PASSWORD, **options})
    server.prepare()
    return server


def _start(stack: ExitStack, server: EmbeddedValkey) -> subprocess.Popen[bytes]:
    process = server.spawn(subprocess.DEVNULL)
    stack.callback(lambda: process.poll() is None and server.stop(process))
    server.wait_ready(process)
    return process


def _start_sentinel(stack: ExitStack, folder: Path, master_port: int) -> int:
    port, file = free_port(), folder / "sentinel.conf"
    lines = (
        f"port {port}",
        "bind 127.0.0.1",
        f"requirepass {SENTINEL_PASSWORD}",
        f"sentinel monitor {MASTER} 127.0.0.1 {master_port} 1",
        f"sentinel auth-pass {MASTER} {PASSWORD}",
        f"sentinel down-after-milliseconds {MASTER} 1000",
        f"sentinel failover-timeout {MASTER} 5000",
    )
    file.write_text("\n".join(lines) + "\n")
    binaries = EmbeddedValkey(folder / "unused")._packaged_binaries()
    assert binaries is not None
    process = subprocess.Popen(
        [str(binaries / PROGRAM), str(file), "--sentinel"], cwd=folder, stdout=subprocess.DEVNULL
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    return port
