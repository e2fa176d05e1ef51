"""Many triggers at once."""

from __future__ import annotations

import asyncio
import re

import pytest

from tests.faults.oracle import nothing_was_lost
from tests.faults.tenants import two_tenants
from tests.load import Load, send
from tests.peers.receiver import Receiver
from tests.running import Running

COUNT = 10_000
CONNECTIONS = 64


@pytest.mark.load
@pytest.mark.timeout(240)
def test_ten_thousand_triggers_at_64_connections(pointsman: Running, receiver: Receiver) -> None:
    urls = two_tenants(pointsman, receiver, "/ok")

    load = asyncio.run(send(urls, COUNT, CONNECTIONS, Load()))

    assert (len(load.accepted), dict(load.refused)) == (COUNT, {})
    nothing_was_lost(pointsman, receiver, load.accepted)
    assert len(receiver.receipts) == COUNT, "nothing went wrong, so nothing was delivered twice"
    complaints = re.findall(r".*(?:\berror\b|Traceback|ERROR|FATAL).*", pointsman.log())
    assert complaints == []
