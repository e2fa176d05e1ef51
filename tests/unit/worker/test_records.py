"""What a worker holds of a trigger, its callback and its actions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.worker.engine.test_steps import new_action


@pytest.mark.parametrize(
    ("kind", "config", "primary"),
    [
        ("HTTP_POST", {"target": "callback_url"}, True),
        ("HTTP_POST", {"url": "http://x/"}, False),
        ("HTTP_POST", {}, False),
        ("STORE", {"target": "callback_url"}, False),
        ("FROM_A_NEWER_VERSION", {"target": "callback_url"}, False),
    ],
)
def test_the_primary_action_delivers_to_the_callbacks_own_url(
    kind: str, config: dict[str, Any], primary: bool
) -> None:
    assert replace(new_action(), type=kind, config=config).is_primary is primary


def test_an_action_that_nobody_changed_is_equal_however_it_was_read() -> None:
    """Fails when the rank counts: only a first claim knows it, so each later step would look
    changed.
    """
    action = new_action()
    assert replace(action, rank=3) == action
    assert replace(action, config={"url": "http://other/"}) != action
    assert replace(action, enabled=False) != action
