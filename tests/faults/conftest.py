"""A running Pointsman for each module, so that one fault does not colour the next."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.running import Running


@pytest.fixture(scope="module")
def pointsman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with Running(tmp_path_factory.mktemp("pointsman")) as running:
        yield running
