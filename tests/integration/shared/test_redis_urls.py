"""Both clients of Redis, at the same place for the same URL: sockets, TLS, Sentinel."""

from __future__ import annotations

import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kombu.exceptions import OperationalError

from deploy.local.valkey import EmbeddedValkey
from shared.errors import Unavailable
from shared.ids import new_id
from shared.redis import fitness
from shared.redis.hints import HintSender
from shared.redis.queues import FRESH, KEY_PREFIX, make_celery, open_broker
from shared.redis.settlements import redis_takes_writes
from shared.redis.urls import read
from tests.benchmarks.certificates import Identity, make_identity
from tests.peers.proxy import Proxy
from tests.peers.sentinel import watched

QUEUE = KEY_PREFIX + FRESH


def pings_of_kombu(url: str) -> bool:
    """Whether the consumer of the workers and the publisher of hints get through."""
    with make_celery(url).connection_for_read() as consumer, open_broker(url, socket_seconds=2) as publisher:
        return all(bool(c.default_channel.client.ping()) for c in (consumer, publisher))


def hint_goes_to(url: str) -> int:
    """Send a hint through kombu; which database has it, as redis-py sees it at the same URL."""
    sender = HintSender(make_celery(url), url)
    assert sender.send(FRESH, [new_id()])
    sender.close()
    with closing(read(url).client()) as client:
        assert client.llen(QUEUE) == 1
        client.delete(QUEUE)
        return int(client.client_info()["db"])


@dataclass
class Places:
    """The same Valkey, on a port and on a socket."""

    valkey: EmbeddedValkey
    socket: Path


@pytest.fixture(scope="module")
def places() -> Iterator[Places]:
    with tempfile.TemporaryDirectory() as folder:  # those of pytest are too long for a socket
        path = Path(folder, "v.sock")
        valkey = EmbeddedValkey(Path(folder, "valkey"), options={"unixsocket": str(path)})
        valkey.prepare()
        process = valkey.spawn(subprocess.DEVNULL)
        try:
            valkey.wait_ready(process)
            yield Places(valkey, path)
        finally:
            valkey.stop(process)


@pytest.mark.parametrize(
    ("form", "db"),
    [
        ("redis://:{password}@127.0.0.1:{port}", 0),
        ("redis://default:{password}@127.0.0.1:{port}/3", 3),
        ("valkey://:{password}@127.0.0.1:{port}/3", 3),
        ("redis://:{password}@localhost:{port}?db=4", 4),
        ("unix://:{password}@{socket}?db=5", 5),
        ("unix://default:{password}@{socket}", 0),
        ("redis+socket://:{password}@{socket}?virtual_host=6", 6),
    ],
)
def test_both_clients_come_to_the_same_database(places: Places, form: str, db: int) -> None:
    url = form.format(password=places.valkey.password, port=places.valkey.port, socket=places.socket)
    fitness.examine(url)
    assert redis_takes_writes(url)
    assert pings_of_kombu(url)
    assert hint_goes_to(url) == db


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return make_identity(tmp_path_factory.mktemp("identity"))


@pytest.fixture
def tls_url(places: Places, identity: Identity) -> Iterator[str]:
    """The Valkey behind TLS; its certificate is for 127.0.0.1 and of an authority nobody knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity.certificate, identity.key)
    with Proxy("127.0.0.1", places.valkey.port, context) as proxy:
        yield f"rediss://:{places.valkey.password}@127.0.0.1:{proxy.port}/0"


def outcomes(url: str) -> tuple[bool, bool]:
    """Whether redis-py gets through, and whether kombu does."""
    try:
        fitness.examine(url)
        by_redis = True
    except Unavailable:
        by_redis = False
    try:
        by_kombu = pings_of_kombu(url)
    except OperationalError:
        by_kombu = False
    assert redis_takes_writes(url) == by_redis
    return by_redis, by_kombu


def test_tls_is_verified_by_both(tls_url: str, identity: Identity) -> None:
    """Fails when one of them takes whatever certificate comes."""
    trusted = f"{tls_url}?ssl_ca_certs={identity.authority}"
    assert outcomes(trusted) == (True, True)
    assert outcomes(tls_url) == (False, False), "of an authority that nobody knows"
    assert outcomes(trusted.replace("127.0.0.1", "localhost")) == (False, False), "for another name"
    assert outcomes(trusted.replace("rediss", "valkeys")) == (True, True)


@pytest.mark.parametrize("value", ["none", "CERT_NONE"])
def test_tls_is_not_verified_if_the_url_says_so(tls_url: str, value: str) -> None:
    assert outcomes(f"{tls_url}?ssl_cert_reqs={value}") == (True, True)


def test_another_name_is_taken_if_the_url_says_so(tls_url: str, identity: Identity) -> None:
    url = f"{tls_url}?ssl_ca_certs={identity.authority}&ssl_check_hostname=false"
    assert outcomes(url.replace("127.0.0.1", "localhost")) == (True, True)


def test_sentinel_is_asked_by_both_who_the_master_is(tmp_path: Path) -> None:
    """The first sentinel of the URL is not there. Servers and sentinels have passwords of their
    own.
    """
    with watched(tmp_path) as servers:
        fitness.examine(servers.url)
        assert pings_of_kombu(servers.url)
        sender = HintSender(make_celery(servers.url), servers.url)
        assert sender.send(FRESH, [new_id()])
        with closing(read(servers.url).client()) as client:
            assert client.llen(QUEUE) == 1
            before: Any = client.info("server")["tcp_port"]
            servers.kill_first()
            assert client.info("server")["tcp_port"] != before
        fitness.examine(servers.url)
        assert pings_of_kombu(servers.url)
        sender.close()
        with pytest.raises(Unavailable, match="No master"):
            fitness.examine(servers.url.replace("the-master", "another"))
