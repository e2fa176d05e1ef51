"""The signing secrets in a callback's row: what of them holds, and what of them is shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import TypeAdapter, ValidationError

from api.resources import signing
from api.resources.signing import OpenSecret, Schemes
from api.work import Work
from shared.crypto import SecretBox, new_key
from shared.models import Callback
from shared.signatures import new_signing_secret, public_key

BOX = SecretBox(new_key())
WORK = cast(Work, SimpleNamespace(secrets=BOX))
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(seconds=1)


def row(plain: str, expires_at: datetime | None = None) -> dict[str, Any]:
    return OpenSecret(plain, BOX.encrypt(plain), NOW.isoformat(), expires_at).row


def of(*rows: Any) -> list[str]:
    found = signing.in_force(WORK, Callback(signing_secrets=list(rows)), NOW)
    return [secret.plain for secret in found]


def test_what_holds_now_is_found_in_its_order() -> None:
    new, old, ended = (new_signing_secret() for _ in range(3))
    assert of(row(new), row(old, LATER), row(ended, NOW)) == [new, old]


@pytest.mark.parametrize(
    "bad",
    [
        {"secret": SecretBox(new_key()).encrypt("whsec_AAAA"), "createdAt": "", "expiresAt": None},
        {"secret": BOX.encrypt("whsk_AAAA"), "createdAt": "", "expiresAt": None},
        {"secret": BOX.encrypt("whsec_AAAA"), "createdAt": "", "expiresAt": "soon"},
        {"secret": BOX.encrypt("whsec_AAAA")},
        {},
        "text",
        None,
    ],
)
def test_what_is_no_secret_is_passed_over(bad: Any) -> None:
    """So that a rotation repairs a callback whose secret no key opens any more."""
    good = new_signing_secret()
    assert of(bad, row(good)) == [good]


@pytest.mark.parametrize(
    ("before", "after"), [(None, LATER), (LATER + timedelta(days=1), LATER), (NOW, NOW), (LATER, LATER)]
)
def test_an_end_only_comes_nearer(before: datetime | None, after: datetime) -> None:
    secret = OpenSecret("whsec_AAAA", "", "", before)
    assert secret.ended(LATER).expires_at == after


def test_a_secret_holds_until_its_end_and_not_at_it() -> None:
    secret = OpenSecret("whsec_AAAA", "", "", LATER)
    assert secret.is_in_force(NOW)
    assert not secret.is_in_force(LATER)


def test_a_row_is_read_back_as_it_was_written() -> None:
    (made,) = signing.new_secrets(WORK, ["v1a"])
    ended = made.ended(LATER)
    assert signing.in_force(WORK, Callback(signing_secrets=[ended.row]), NOW) == [ended]
    assert ended.plain not in str(ended.row)
    assert ended.plain not in repr(ended), "an error may show it"


def test_of_a_private_key_the_public_one_is_shown_and_of_a_symmetric_secret_nothing() -> None:
    made = [*signing.new_secrets(WORK, ["v1a", "v1"]), *signing.new_secrets(WORK, ["v1a"])]
    assert [secret.scheme for secret in made] == ["v1", "v1a", "v1a"], "whatever they were named in"
    shown = signing.shown(made)
    assert shown["signatures"] == ["v1", "v1a"]
    assert [key.key for key in shown["public_keys"]] == [public_key(one.plain) for one in made[1:]]
    assert not any(secret.plain in str(shown) for secret in made)
    assert signing.symmetric_of(made) == made[0].plain
    assert signing.symmetric_of(made[1:]) is None


@pytest.mark.parametrize("given", [[], ["v1", "v1"], ["v2"], "v1", ["v1", "v1a", "v1"]])
def test_schemes_are_named_once_each_and_at_least_one(given: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Schemes).validate_python(given)
