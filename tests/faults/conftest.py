"""A running Pointsman for each module, so that one fault does not colour the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.peers.receiver import Receiver
from tests.running import Running


@pytest.fixture(scope="module")
def pointsman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("pointsman")) as running:
        yield running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver
