"""What is read of a row: the signing secrets of a callback, and the credential of an action."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from worker.engine.rows import _action, _signing_secrets
from worker.records import ActionRecord, CredentialRecord, SigningSecret

END = "2026-01-01T12:00:00.500000+00:00"
END_SECONDS = datetime.fromisoformat(END).timestamp()


def secret(name: str, expires_at: str | None = None) -> dict[str, Any]:
    return {"secret": name, "createdAt": "2025-01-01T00:00:00+00:00", "expiresAt": expires_at}


WITHOUT = (None,) * 4 + ("null",)


def read(secrets: list[dict[str, Any]], now: float, credential: tuple[Any, ...] = WITHOUT) -> ActionRecord:
    url = "http://callback.example/"
    head = (UUID(int=1), UUID(int=2), url, "STORE", None, 0, False, True, "STOP")
    return _action((*head, "{}", None, None, [], json.dumps(secrets), *credential, 0), now)


def test_each_secret_is_read_with_its_end() -> None:
    found = _signing_secrets(json.dumps([secret("new"), secret("old", END)]))
    assert found == (SigningSecret("new"), SigningSecret("old", END_SECONDS))


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "[1]",
        "{",
        '[{"createdAt": "x"}]',
        '[{"secret": "x", "expiresAt": "soon"}]',
        '[{"secret": "x", "expiresAt": 1}]',
        '[{"secret": "x", "expiresAt": "2026-01-01T12:00:00"}]',
    ],
)
def test_what_cannot_be_read_is_a_secret_that_does_not_open(text: str) -> None:
    """Fails when such a callback's deliveries leave unsigned, or sign by another moment."""
    assert _signing_secrets(text) == (SigningSecret("unreadable"),)


def test_a_secret_that_had_ended_is_left_out() -> None:
    """Fails when a delivery needs a key that only a long forgotten secret needs."""
    both = [secret("new"), secret("old", END)]
    assert read(both, END_SECONDS - 1).signing_secrets == _signing_secrets(json.dumps(both))
    assert read(both, END_SECONDS).signing_secrets == (SigningSecret("new"),)


def test_an_action_whose_callback_has_other_secrets_is_another() -> None:
    """Fails when a step that was prepared before a rotation is begun after it."""
    assert read([secret("new")], 0) == read([secret("new")], 0)
    assert read([secret("new")], 0) != read([secret("new"), secret("old")], 0)
    assert read([secret("old")], 0) != read([secret("old", END)], 0)


def test_an_action_has_the_credential_that_it_names() -> None:
    """Fails when one whose credential is not found goes on without it."""
    named = UUID(int=3)
    found = read([], 0, (named, named, "GENERIC", "sealed:1", "{}"))
    assert (found.credential, found.flaw) == (CredentialRecord(named, "GENERIC", "sealed:1", "{}"), None)
    missing = read([], 0, (named, *WITHOUT[1:]))
    assert missing.credential is None
    assert "credential is not there" in str(missing.flaw)
    without = read([], 0)
    assert (without.credential, without.flaw) == (None, None)


def test_a_secret_signs_before_its_end_and_not_at_it() -> None:
    old = SigningSecret("old", END_SECONDS)
    assert old.signs_at(END_SECONDS - 0.5)
    assert not old.signs_at(END_SECONDS)
    assert SigningSecret("new").signs_at(1e12)
