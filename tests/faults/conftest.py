"""What fault tests run against: a Pointsman for each module, so that one fault does not colour the
next, or one whose servers belong to the test and are reached through proxies."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from deploy.local.postgres import EmbeddedPostgres
from deploy.local.server import EmbeddedServer
from deploy.local.valkey import EmbeddedValkey
from tests.peers.proxy import Proxy
from tests.running import Running


@pytest.fixture(scope="module")
def pointsman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("pointsman")) as running:
        yield running


@dataclass
class OnOutsideServers:
    """A Pointsman whose servers belong to the test, so that nobody starts them again, each behind a
    proxy.
    """

    running: Running
    postgres: EmbeddedPostgres
    postgres_process: subprocess.Popen[bytes]
    postgres_proxy: Proxy
    valkey: EmbeddedValkey
    valkey_process: subprocess.Popen[bytes]
    valkey_proxy: Proxy

    def kill_valkey(self) -> None:
        self.valkey_process.kill()
        self.valkey_process.wait()

    def start_valkey(self) -> None:
        self.valkey_process = self.valkey.spawn(subprocess.DEVNULL)
        self.valkey.wait_ready(self.valkey_process)

    def start_postgres(self) -> None:
        self.postgres_process = self.postgres.spawn(subprocess.DEVNULL)
        self.postgres.wait_ready(self.postgres_process)


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[OnOutsideServers]:
    with on_outside_servers(tmp_path) as made:
        yield made


@contextmanager
def on_outside_servers(
    folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[OnOutsideServers]:
    """Start the servers, the proxies and a Pointsman that knows only the proxies."""
    postgres, valkey = EmbeddedPostgres(folder / "postgres"), EmbeddedValkey(folder / "valkey")
    with ExitStack() as stack:
        processes = [_start(stack, server) for server in (postgres, valkey)]
        postgres.ensure_database()
        proxies = [stack.enter_context(_proxy_of(server.url)) for server in (postgres, valkey)]
        urls = {
            "POINTSMAN_DATABASE_URL": _behind(postgres.url, proxies[0]),
            "POINTSMAN_REDIS_URL": _behind(valkey.url, proxies[1]),
        }
        running = stack.enter_context(Running(folder, {**urls, **(environment or {})}))
        made = OnOutsideServers(running, postgres, processes[0], proxies[0], valkey, processes[1], proxies[1])
        stack.callback(_end_restarted, made)
        yield made


def _start(stack: ExitStack, server: EmbeddedServer) -> subprocess.Popen[bytes]:
    server.prepare()
    process = server.spawn(subprocess.DEVNULL)
    stack.callback(_end, server, process)
    server.wait_ready(process)
    return process


def _end(server: EmbeddedServer, process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        os.kill(process.pid, signal.SIGCONT)
        server.stop(process)


def _end_restarted(outside: OnOutsideServers) -> None:
    """Servers that a test has started anew."""
    outside.postgres_proxy.resume()
    outside.valkey_proxy.resume()
    outside.running.stop()
    _end(outside.valkey, outside.valkey_process)
    _end(outside.postgres, outside.postgres_process)


def _proxy_of(url: str) -> Proxy:
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return Proxy(parts.hostname, parts.port)


def _behind(url: str, proxy: Proxy) -> str:
    parts = urlsplit(url)
    login, at, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{login}{at}127.0.0.1:{proxy.port}").geturl()
