"""Whether a caller still waits is decided once, whoever asks first."""

from __future__ import annotations

import pytest

from api.patience import Patience
from shared.errors import Unavailable


def test_nothing_is_committed_for_a_caller_that_was_told_so() -> None:
    patience = Patience()
    assert patience.run_out()
    with pytest.raises(Unavailable):
        patience.hold()


def test_a_commit_that_has_begun_is_waited_for() -> None:
    patience = Patience()
    patience.hold()
    assert not patience.run_out()
    patience.hold()  # a second commit of the same request is for the same caller
