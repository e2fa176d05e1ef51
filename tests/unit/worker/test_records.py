"""What a worker holds of a trigger, its callback and its actions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from tests.unit.worker.engine.test_steps import new_action
from worker.records import CredentialRecord


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


def test_an_action_whose_credential_was_changed_is_another() -> None:
    """Fails when what was prepared with the old secret is sent."""
    used = CredentialRecord(UUID(int=1), "GENERIC", "sealed:1", "{}")
    action = replace(new_action(), credential=used)
    assert replace(action, credential=replace(used)) == action
    for changed in (replace(used, secret="sealed:2"), replace(used, meta='{"a": 1}'), None):
        assert replace(action, credential=changed) != action


def test_a_credentials_version_changes_with_its_secret_and_its_meta_alone() -> None:
    used = CredentialRecord(UUID(int=1), "GENERIC", "sealed:1", "{}")
    assert replace(used, id=UUID(int=2)).version == used.version
    changed = {replace(used, secret="sealed:2").version, replace(used, meta='{"a": 1}').version, used.version}
    assert len(changed) == 3
