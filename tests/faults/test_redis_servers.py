"""Redis behind Sentinel, and behind TLS: a whole Pointsman on it. Nobody restarts anything."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from deploy.local.valkey import EmbeddedValkey
from tests.benchmarks.certificates import make_identity
from tests.faults.oracle import nothing_was_lost
from tests.peers.proxy import Proxy
from tests.peers.receiver import Receiver
from tests.peers.sentinel import watched
from tests.running import Running, eventually
from tests.tenants import Tenant

# Less than the sweep takes to find a lost hint: so a hint was taken.
PROMPT_SECONDS = 2.0


def is_prompt(running: Running, callback: dict[str, Any], body: bytes) -> bool:
    started = time.monotonic()
    running.ended(running.fire(callback, content=body), 30)
    return time.monotonic() - started < PROMPT_SECONDS


def test_hints_go_on_with_the_master_that_sentinel_names(tmp_path: Path, receiver: Receiver) -> None:
    """Fails when either client of Redis keeps to the old master, or cannot read the URL."""
    with (
        watched(tmp_path) as servers,
        Running(tmp_path, {"POINTSMAN_REDIS_URL": servers.url}) as running,
        Tenant(running, "second@example.com") as second,
    ):
        ours, theirs = running.callback(receiver.url("/ours")), second.callback(receiver.url("/theirs"))
        before = {name: pid for name, pid in running.pids().items() if name in ("api", "worker")}
        eventually(lambda: is_prompt(running, ours, b"ours, before"), 30, "deliveries by hint")
        servers.kill_first()
        accepted = [running.fire(theirs, content=b"theirs, %d" % n) for n in range(5)]
        eventually(lambda: is_prompt(running, ours, b"ours, after"), 60, "deliveries by hint again")
        nothing_was_lost(running, receiver, accepted)
        assert {receipt.body for receipt in receiver.got("/theirs")} == {b"theirs, %d" % n for n in range(5)}
        after = running.pids()
        assert {name: after[name] for name in before} == before, "nothing was restarted"


def test_everything_runs_over_tls_that_is_verified(
    tmp_path: Path, receiver: Receiver, valkey: EmbeddedValkey
) -> None:
    identity = make_identity(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    with Proxy("127.0.0.1", urlsplit(valkey.url).port or 0, context) as proxy:
        url = f"rediss://:{valkey.password}@127.0.0.1:{proxy.port}/7?ssl_ca_certs={identity.authority}"
        with Running(tmp_path, {"POINTSMAN_REDIS_URL": url}) as running:
            callback = running.callback(receiver.url("/ok"))
            eventually(lambda: is_prompt(running, callback, b"over TLS"), 30, "deliveries by hint")
            ready = running.api.get("/readyz").json()
            assert ready["checks"]["redis"] is True
