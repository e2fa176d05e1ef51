"""One running Pointsman and one receiver for all functional tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.receiver import Receiver
from tests.running import Running


@pytest.fixture(scope="session")
def pointsman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("pointsman")) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver
